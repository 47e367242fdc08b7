// How fast does the engine write many candidates of one prompt? A prompt is read once, forked into
// N sequences, and each of them grows by T tokens, one at a time, as the worker does it: forward
// pass, logits, draw. Prints one CSV line for every prompt length and number of sequences.
// docs/measuring.md defines the columns.
//
//   bench_decode --model MODEL [--prompt 16,512,2048] [--new 128] [--sequences 1,8,32,64]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/arguments.h"
#include "benchmarks/critic_work.h"
#include "benchmarks/machine.h"
#include "benchmarks/median.h"
#include "benchmarks/model_products.h"
#include "benchmarks/model_work.h"
#include "benchmarks/operation_times.h"
#include "common/deadline.h"
#include "common/rng.h"
#include "worker/backend/cpu/cpu.h"
#include "worker/decode/sampling.h"
#include "worker/model/context.h"

// Passes over the products alone between the steps of one repeat, so that both meet the same
// machine.
enum { SEQUENCES_MAX = 4096, REPEATS_MAX = 101, PASSES = 16 };
enum { CRITIC_BLOCK = 4 }; // a job's default: the critic is asked once in so many steps

struct settings {
    const char *model;
    enum precision precision;
    enum kv_dtype kv_dtype;
    struct number_list prompts;   // tokens
    struct number_list sequences; // forks
    uint32_t n_new;
    uint32_t n_threads;
    uint32_t batch_rows;
    uint32_t n_repeats;
    double temperature;
};

// One prompt length and one number of sequences.
struct run {
    const struct settings *settings;
    struct backend *backend;
    struct model_context *context;
    int32_t n_prompt;
    int32_t n_sequences;
    int32_t *prompt_ids; // [n_prompt]
    struct sequence *prompt;
    struct sequence **sequences; // [n_sequences]
    struct forward_item *items;  // [n_sequences]
    struct sampling_params params;
    struct sampling_row *rows; // [n_sequences]
    struct tensor states;      // [n_sequences, hidden], o_t of the prompt for every fork
    double prompt_seconds[REPEATS_MAX];
    double decode_seconds[REPEATS_MAX];
    double model_seconds[REPEATS_MAX];  // of decode_seconds, what is not drawing
    double operations[OPERATION_KINDS]; // seconds of all steps of all repeats
    struct model_products *products;
    double *step_seconds; // [n_steps], of all repeats
    size_t n_steps;
    double *pass_seconds; // [n_passes], of a step's products alone
    size_t n_passes;
    struct critic_work *critic;
    double *critic_seconds; // [n_passes], of a critic on the state of every sequence
};

static int32_t blocks_of(int32_t n_tokens) {
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

static enum status context_open(struct run *run, const struct model *model, struct error *err) {
    const int32_t n_new = (int32_t)run->settings->n_new;
    const int32_t batch_rows = (int32_t)run->settings->batch_rows;
    const struct model_context_options options = {
        .kv_dtype = run->settings->kv_dtype,
        // A fork writes to a block of its own even where the prompt ends within one.
        .n_kv_blocks = blocks_of(run->n_prompt) + run->n_sequences * (blocks_of(n_new) + 1),
        .n_sequences = run->n_sequences + 1,
        .batch_rows = batch_rows > run->n_sequences ? batch_rows : run->n_sequences,
        .output_rows = run->n_sequences,
        .context_tokens = run->n_prompt + n_new,
    };
    return model_context_create(model, &options, &run->context, err);
}

static void run_close(struct run *run) {
    if (run->states.data != NULL) {
        run->backend->ops->release(run->backend, run->states.data);
    }
    model_context_destroy(run->context);
    free(run->prompt_ids);
    free(run->sequences);
    free(run->items);
    free(run->rows);
    model_products_destroy(run->products);
    free(run->step_seconds);
    free(run->pass_seconds);
    critic_work_destroy(run->critic);
    free(run->critic_seconds);
}

static enum status run_open(struct run *run, const struct settings *settings,
                            const struct model *model, struct error *err) {
    const struct model_config *config = model_get_config(model);
    const size_t n = (size_t)run->n_sequences;
    run->settings = settings;
    run->backend = model_get_backend(model);
    run->params = (struct sampling_params){
        .temperature = (float)settings->temperature, .top_p = 1, .repetition_penalty = 1};
    run->prompt_ids = calloc((size_t)run->n_prompt, sizeof *run->prompt_ids);
    run->sequences = calloc(n, sizeof(struct sequence *));
    run->items = calloc(n, sizeof *run->items);
    run->rows = calloc(n, sizeof *run->rows);
    const size_t n_steps = (size_t)settings->n_new * settings->n_repeats;
    run->step_seconds = calloc(n_steps, sizeof(double));
    run->pass_seconds = calloc(n_steps, sizeof(double));
    run->critic_seconds = calloc(n_steps, sizeof(double));
    run->states =
        (struct tensor){.dtype = DTYPE_F32, .rows = run->n_sequences, .cols = config->hidden_dim};
    run->states.data = run->backend->ops->alloc(run->backend, n * (size_t)config->hidden_dim * 4);
    if (run->prompt_ids == NULL || run->sequences == NULL || run->items == NULL ||
        run->rows == NULL || run->step_seconds == NULL || run->pass_seconds == NULL ||
        run->critic_seconds == NULL || run->states.data == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %d sequences",
                         run->n_sequences);
    }
    for (int32_t i = 0; i < run->n_prompt; i++) {
        run->prompt_ids[i] = (int32_t)(rng_uniform(1, 0, (uint32_t)i, 0) * config->vocab_size);
    }
    enum status status = context_open(run, model, err);
    if (status == STATUS_OK) {
        status = model_products_create(model, run->n_sequences, &run->products, err);
    }
    if (status == STATUS_OK) {
        status = critic_work_create(run->backend, config->hidden_dim, run->n_sequences,
                                    &run->critic, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct tensor logits = {.dtype = DTYPE_F32, .rows = 0, .cols = config->vocab_size};
    status = run->backend->ops->sample(run->backend, &logits, NULL, 0);
    run->prompt = sequence_create(run->context);
    return status;
}

// Reads the prompt and gives every sequence its state.
static enum status read_prompt(struct run *run, struct error *err) {
    const struct forward_item item = {.sequence = run->prompt,
                                      .token_ids = run->prompt_ids,
                                      .n_tokens = run->n_prompt,
                                      .output = FORWARD_OUTPUT_LAST};
    sequence_truncate(run->context, run->prompt, 0);
    return model_forward(run->context, &item, 1, err);
}

static void fork_all(struct run *run) {
    const struct tensor *last = model_outputs(run->context);
    for (int32_t i = 0; i < run->n_sequences; i++) {
        const int32_t first_row = 0;
        struct tensor state = run->states;
        state.data = (float *)state.data + (size_t)i * (size_t)state.cols;
        state.rows = 1;
        run->backend->ops->gather_rows(run->backend, &state, last, &first_row, 1);
        run->sequences[i] = sequence_fork(run->context, run->prompt, run->n_prompt);
        run->rows[i] =
            (struct sampling_row){.params = &run->params, .seed = 1, .lineage = (uint64_t)i};
        run->items[i] = (struct forward_item){.sequence = run->sequences[i],
                                              .token_ids = &run->rows[i].token_id,
                                              .n_tokens = 1,
                                              .output = FORWARD_OUTPUT_LAST};
    }
}

// Draws a token for every sequence from its state and runs it.
static enum status step(struct run *run, const struct tensor *states, uint32_t position,
                        struct error *err) {
    struct tensor logits;
    enum status status = model_logits(run->context, states, &logits);
    for (int32_t i = 0; i < run->n_sequences; i++) {
        run->rows[i].position = position;
    }
    if (status == STATUS_OK) {
        status = run->backend->ops->sample(run->backend, &logits, run->rows, run->n_sequences);
    }
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "drawing failed: %s", status_text(status));
    }
    return model_forward(run->context, run->items, run->n_sequences, err);
}

// Adds the times of a step's operations; gives those of its draws.
static double add_operations(struct run *run) {
    double operations[OPERATION_KINDS];
    operation_times_take(operations);
    for (int i = 0; i < OPERATION_KINDS; i++) {
        run->operations[i] += operations[i];
    }
    return operations[OPERATION_SAMPLE];
}

// Between two steps: the products of one alone, and a critic on the states as the step left them.
static enum status pass(struct run *run, struct error *err) {
    double forgotten[OPERATION_KINDS];
    enum status status = critic_work_run(run->critic, model_outputs(run->context),
                                         &run->critic_seconds[run->n_passes]);
    run->pass_seconds[run->n_passes++] = model_products_pass(run->products);
    operation_times_take(forgotten);
    return status == STATUS_OK
               ? status
               : error_set(err, status, NULL, "the critic failed: %s", status_text(status));
}

// Reads the prompt and writes n_new tokens; keeps the times as those of repeat `index`.
static enum status repeat(struct run *run, uint32_t n_new, uint32_t index, struct error *err) {
    const uint32_t steps_per_pass = (n_new + PASSES - 1) / PASSES;
    int64_t begin = clock_monotonic_ns();
    enum status status = read_prompt(run, err);
    run->prompt_seconds[index] = (double)(clock_monotonic_ns() - begin) * 1e-9;
    if (status != STATUS_OK) {
        return status;
    }
    fork_all(run);
    double reading[OPERATION_KINDS];
    operation_times_take(reading);
    run->decode_seconds[index] = 0;
    run->model_seconds[index] = 0;
    for (uint32_t position = 0; position < n_new && status == STATUS_OK; position++) {
        const struct tensor *states = position == 0 ? &run->states : model_outputs(run->context);
        begin = clock_monotonic_ns();
        status = step(run, states, position, err);
        const double seconds = (double)(clock_monotonic_ns() - begin) * 1e-9;
        run->decode_seconds[index] += seconds;
        run->model_seconds[index] += seconds - add_operations(run);
        run->step_seconds[run->n_steps++] = seconds;
        if (status == STATUS_OK && position % steps_per_pass == steps_per_pass / 2) {
            status = pass(run, err);
        }
    }
    for (int32_t i = 0; i < run->n_sequences; i++) {
        sequence_destroy(run->context, run->sequences[i]);
    }
    return status;
}

static void print_header(void) {
    puts("precision,kv_dtype,threads,prompt,new,sequences,prompt_tps,prompt_gflops,prompt_peak_"
         "percent,"
         "decode_tps,model_tps,decode_spread_percent,step_ms,product_gflops,product_peak_percent,"
         "alone_gflops,alone_percent,attention_gflops,weight_gbs,read_percent,products_ms,"
         "attention_ms,store_ms,norm_ms,sample_ms,critic_ms,critic_bound_ms,critic_percent,"
         "peak_rss_mb");
}

static void print_run(struct run *run, const struct model *model, const struct machine *machine) {
    const struct settings *settings = run->settings;
    const struct model_work work = model_work_of(model_get_config(model));
    const double peak = machine_product_peak(machine, settings->precision);
    const double n = run->n_sequences, n_new = settings->n_new, n_prompt = run->n_prompt;
    const double prompt_seconds = median_sort(run->prompt_seconds, settings->n_repeats);
    const double seconds = median_sort(run->decode_seconds, settings->n_repeats);
    const double model_seconds = median_sort(run->model_seconds, settings->n_repeats);
    const double spread = run->decode_seconds[settings->n_repeats - 1] - run->decode_seconds[0];
    const double prompt_flops = model_work_product_flops(&work, n_prompt, 0) / prompt_seconds;
    const double flops = model_work_product_flops(&work, n * n_new, n * n_new) / seconds;
    // The token drawn at step t sees the prompt, the t before it, and itself.
    const double positions = n * n_new * (n_prompt + (n_new + 1) / 2);
    const double bytes = model_work_weight_bytes(model) * n_new / seconds;
    const double pass = median_sort(run->pass_seconds, run->n_passes);
    const double alone = model_work_product_flops(&work, n, n) / pass;
    const double alone_percent = 100 * pass / median_sort(run->step_seconds, run->n_steps);
    printf(
        "%s,%s,%u,%d,%u,%d,%.1f,%.1f,%.1f,%.1f,%.1f,%.1f,%.3f,%.1f,%.1f,%.1f,%.1f,%.1f,%.2f,%.1f,",
        precision_name(settings->precision), kv_dtype_name(settings->kv_dtype), settings->n_threads,
        run->n_prompt, settings->n_new, run->n_sequences, n_prompt / prompt_seconds,
        prompt_flops * 1e-9, machine_percent(prompt_flops, peak), n * n_new / seconds,
        n * n_new / model_seconds, 100 * spread / seconds, seconds / n_new * 1e3, flops * 1e-9,
        machine_percent(flops, peak), alone * 1e-9, alone_percent,
        work.attention_flops_per_position * positions / seconds * 1e-9, bytes * 1e-9,
        machine_percent(bytes, machine->memory_bytes));
    for (int i = 0; i < OPERATION_KINDS; i++) {
        printf("%.3f,", run->operations[i] / (n_new * settings->n_repeats) * 1e3);
    }
    const double critic = median_sort(run->critic_seconds, run->n_passes);
    const double products = critic_work_flops(run->critic) / machine->f32_flops;
    const double reading = critic_work_bytes(run->critic) / machine->memory_bytes;
    printf("%.3f,%.3f,%.2f,", critic * 1e3, (products > reading ? products : reading) * 1e3,
           100 * critic / (CRITIC_BLOCK * median_sort(run->step_seconds, run->n_steps)));
    printf("%.0f\n", (double)machine_peak_rss_bytes() / (1 << 20));
    fflush(stdout);
}

static enum status measure(struct run *run, const struct settings *settings,
                           const struct model *model, const struct machine *machine,
                           struct error *err) {
    enum status status = run_open(run, settings, model, err);
    if (status == STATUS_OK) { // pays for pages that all others use
        status = repeat(run, 1, 0, err);
        memset(run->operations, 0, sizeof(run->operations));
        run->n_steps = 0;
        run->n_passes = 0;
    }
    for (uint32_t i = 0; i < settings->n_repeats && status == STATUS_OK; i++) {
        status = repeat(run, settings->n_new, i, err);
    }
    if (status == STATUS_OK) {
        print_run(run, model, machine);
    }
    run_close(run);
    return status;
}

static enum status measure_all(const struct settings *settings, const struct model *model,
                               const struct machine *machine, struct error *err) {
    print_header();
    for (int p = 0; p < settings->prompts.count; p++) {
        for (int s = 0; s < settings->sequences.count; s++) {
            struct run run = {.n_prompt = (int32_t)settings->prompts.items[p],
                              .n_sequences = (int32_t)settings->sequences.items[s]};
            enum status status = measure(&run, settings, model, machine, err);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

static void print_model(const struct model *model, const struct settings *settings) {
    const struct model_config *config = model_get_config(model);
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    printf(
        "# model %s: %.1f M parameters in %s, dim %d, %d layers, %d/%d heads, hidden %d, vocab %d; "
        "kernels %s\n",
        settings->model, (double)model_parameter_count(model) * 1e-6,
        dtypes[model_get_weights(model)->embedding.dtype], config->hidden_dim, config->n_layers,
        config->n_heads, config->n_kv_heads, config->ffn_dim, config->vocab_size,
        cpu_backend_isa(model_get_backend(model)));
}

static int parse(int argc, char **argv, struct settings *settings) {
    const char *prompts = "512", *sequences = "1,8,32,64", *precision = "stored", *kv_dtype = "f32";
    const struct flag flags[] = {
        flag_text(
            "model", &settings->model, "MODEL",
            "a directory in Hugging Face layout, as make_random_model makes one, or a GGUF file"),
        flag_text("prompt", &prompts, "N,N,...", "lengths of the shared prompt; default 512"),
        flag_u32("new", &settings->n_new, 1, 1 << 20, "N",
                 "tokens that each sequence grows by; default 128"),
        flag_text("sequences", &sequences, "N,N,...",
                  "sequences that share the prompt; default 1,8,32,64"),
        flag_text("kv-dtype", &kv_dtype, "NAME",
                  "of stored keys and values: f32, f16, bf16 or int8; default f32"),
        flag_text("precision", &precision, "NAME",
                  "of products: stored, bf16, int8 or q4; default stored"),
        flag_u32("threads", &settings->n_threads, 1, 256, "N", "default 2"),
        flag_u32("batch-rows", &settings->batch_rows, 1, 65536, "N",
                 "prompt tokens computed at once; default 512"),
        flag_u32("repeats", &settings->n_repeats, 1, REPEATS_MAX, "N",
                 "of which the median is printed; default 3"),
        flag_real("temperature", &settings->temperature, 0, 100, "T",
                  "0 takes the likeliest token; default 1"),
        {.name = NULL},
    };
    const struct command_line line = {
        .program = "bench_decode",
        .usage = "--model MODEL [FLAGS]",
        .about = "Measures how fast sequences that share one prompt grow; prints CSV.",
        .tables = {flags},
        .n_tables = 1,
    };
    struct error err = {0};
    int code = arguments_parse(&line, argc, argv, NULL);
    if (code >= 0) {
        return code;
    }
    if (settings->model == NULL) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "--model", "must be named; see --help");
        return arguments_fail(line.program, &err);
    }
    if (!precision_find(precision, &settings->precision)) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "--precision",
                  "\"%.80s\" is not one of stored, bf16, int8, q4", precision);
        return arguments_fail(line.program, &err);
    }
    if (!kv_dtype_find(kv_dtype, &settings->kv_dtype)) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "--kv-dtype",
                  "\"%.80s\" is not one of f32, f16, bf16, int8", kv_dtype);
        return arguments_fail(line.program, &err);
    }
    enum status status =
        arguments_numbers("--prompt", prompts, 1, 1 << 24, &settings->prompts, &err);
    if (status == STATUS_OK) {
        status = arguments_numbers("--sequences", sequences, 1, SEQUENCES_MAX, &settings->sequences,
                                   &err);
    }
    return status == STATUS_OK ? -1 : arguments_fail(line.program, &err);
}

int main(int argc, char **argv) {
    struct settings settings = {
        .n_new = 128, .n_threads = 2, .batch_rows = 512, .n_repeats = 3, .temperature = 1};
    struct error err = {0};
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct machine machine;
    int code = parse(argc - 1, argv + 1, &settings);
    if (code >= 0) {
        return code;
    }
    enum status status = backend_create("cpu", (int)settings.n_threads, &backend, &err);
    if (status == STATUS_OK) {
        status = model_open(settings.model, backend, settings.precision, &model, &err);
    }
    if (status == STATUS_OK && model_get_config(model)->head != MODEL_HEAD_LM) {
        status = error_set(&err, STATUS_UNSUPPORTED, "--model", "a scorer writes no tokens");
    }
    if (status == STATUS_OK) {
        machine_measure((int)settings.n_threads, &machine);
        machine_print(&machine, stdout);
        print_model(model, &settings);
        operation_times_begin(backend);
        status = measure_all(&settings, model, &machine, &err);
        operation_times_end(backend);
    }
    model_close(model);
    backend_destroy(backend);
    return status == STATUS_OK ? 0 : arguments_fail("bench_decode", &err);
}
