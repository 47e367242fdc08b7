// How long does a whole InferenceGuard job take, and where does the time go? Starts a service of
// its own with a policy, a reward and a cost model (three of random weights unless directories are
// named), runs jobs one at a time and then many in flight, and prints one CSV line for each way.
// docs/measuring.md defines the columns.
//
//   bench_guard [--shape 15m] [--dtype bf16] [--jobs 20] [--in-flight 8]
//   bench_guard --policy DIR --reward NAME=DIR --cost NAME=DIR
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/arguments.h"
#include "benchmarks/median.h"
#include "benchmarks/private_service.h"
#include "common/deadline.h"

enum { JOBS_MAX = 10000, PROMPT_BYTES_MAX = 1 << 16, WAIT_MS = 600000 };

struct settings {
    struct service_flags service;
    struct random_model_options shape;
    uint32_t n, block_tokens, max_tokens, prompt_bytes;
    uint32_t jobs, in_flight;
    char prompt[PROMPT_BYTES_MAX + 1];
};

// What the service has done and spent so far; differences are what a phase took.
struct account {
    double decode_ms, score_ms, collective_ms, order_ms; // all groups
    double coordinator_ms;
    double n_groups;
    double orders, tokens, rebuilt;
};

struct phase {
    const char *name;
    uint32_t in_flight;
    double *job_ms; // [jobs], from handing in to the result
    double wall_ms;
    uint32_t prompt_tokens;
};

static enum status read_account(struct surefoot_client *client, struct account *out,
                                struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status = surefoot_status(client, WAIT_MS, &state, err);
    if (status != STATUS_OK) {
        return status;
    }
    *out = (struct account){.coordinator_ms = state->busy_ms, .n_groups = (double)state->n_groups};
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        out->decode_ms += group->decode_ms;
        out->score_ms += group->score_ms;
        out->collective_ms += group->collective_ms;
        out->order_ms += group->order_ms;
        out->orders += (double)group->orders_done;
        out->tokens += (double)group->tokens;
        out->rebuilt += (double)group->rebuilt_tokens;
    }
    surefoot_status_free(state);
    return STATUS_OK;
}

// Jobs differ in their seed alone. The budget is one that no candidate exceeds, and all steps and
// blocks are alike: all work is done.
static enum status submit(struct surefoot_client *client, const struct settings *settings,
                          uint64_t seed, char key[SUREFOOT_KEY_BYTES], struct error *err) {
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = (char *)settings->prompt;
    spec.method = "inference-guard";
    spec.has_n = spec.has_block_tokens = spec.has_max_tokens = spec.has_seed = true;
    spec.n = settings->n;
    spec.block_tokens = settings->block_tokens;
    spec.has_block_growth = spec.has_n_min = spec.has_patience = true;
    spec.has_abort_tokens = true;
    spec.block_growth = 1;
    spec.n_min = spec.patience = spec.abort_tokens = 0;
    spec.max_tokens = settings->max_tokens;
    spec.seed = seed;
    spec.has_budget = true;
    spec.budget = 1e9;
    const struct surefoot_submit args = {.spec = &spec, .follow = true, .timeout_ms = WAIT_MS};
    return surefoot_submit(client, &args, key, NULL, err);
}

struct flight {
    char key[SUREFOOT_KEY_BYTES];
    int64_t begin_ns;
};

static enum status finish_job(struct surefoot_client *client, const struct surefoot_event *event,
                              struct phase *phase, struct error *err) {
    const Surefoot__JobResult *result = event->result;
    if (event->kind == SUREFOOT_EVENT_LOST) {
        return error_set(err, STATUS_INTERNAL, NULL, "the service forgot a job");
    }
    if (result->outcome != SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
        return error_set(err, STATUS_INTERNAL, NULL, "a job ended as %s: %s",
                         surefoot_outcome_name(result->outcome),
                         result->error != NULL ? result->error->message : "");
    }
    phase->prompt_tokens = result->prompt_tokens;
    return surefoot_close_job(client, event->job_key, WAIT_MS, err);
}

// Waits for the next job to end; its place in `flights` is free then.
static enum status await_one(struct surefoot_client *client, struct flight *flights,
                             struct phase *phase, uint32_t index, struct error *err) {
    for (;;) {
        struct surefoot_event event;
        enum status status = surefoot_next_event(client, WAIT_MS, &event, err);
        if (status != STATUS_OK) {
            return status;
        }
        int64_t now_ns = clock_monotonic_ns();
        if (event.kind == SUREFOOT_EVENT_PROGRESS) {
            surefoot_event_free(&event);
            continue;
        }
        for (uint32_t i = 0; i < phase->in_flight; i++) {
            if (strcmp(flights[i].key, event.job_key) == 0) {
                phase->job_ms[index] = (double)(now_ns - flights[i].begin_ns) * 1e-6;
                flights[i].key[0] = '\0';
            }
        }
        status = finish_job(client, &event, phase, err);
        surefoot_event_free(&event);
        return status;
    }
}

static enum status fill_flights(struct surefoot_client *client, const struct settings *settings,
                                struct flight *flights, const struct phase *phase, uint32_t *begun,
                                struct error *err) {
    enum status status = STATUS_OK;
    for (uint32_t i = 0; i < phase->in_flight && status == STATUS_OK; i++) {
        if (flights[i].key[0] == '\0' && *begun < settings->jobs) {
            flights[i].begin_ns = clock_monotonic_ns();
            status = submit(client, settings, 1 + (*begun)++, flights[i].key, err);
        }
    }
    return status;
}

static enum status run_phase(struct surefoot_client *client, const struct settings *settings,
                             struct phase *phase, struct error *err) {
    struct flight *flights = calloc(phase->in_flight, sizeof *flights);
    if (flights == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %u jobs", phase->in_flight);
    }
    enum status status = STATUS_OK;
    uint32_t begun = 0;
    int64_t begin_ns = clock_monotonic_ns();
    for (uint32_t ended = 0; ended < settings->jobs && status == STATUS_OK; ended++) {
        status = fill_flights(client, settings, flights, phase, &begun, err);
        if (status == STATUS_OK) {
            status = await_one(client, flights, phase, ended, err);
        }
    }
    phase->wall_ms = (double)(clock_monotonic_ns() - begin_ns) * 1e-6;
    free(flights);
    return status;
}

static void print_header(void) {
    puts("way,in_flight,jobs,n,block,new,prompt,job_ms,job_ms_min,job_ms_max,jobs_per_s,tokens_per_"
         "job,tokens_per_s,orders_per_job,rebuilt_per_job,decode_percent,score_percent,collective_"
         "percent,leader_"
         "percent,waiting_percent,coordinator_percent,overhead_percent");
}

static void print_phase(const struct settings *settings, struct phase *phase,
                        const struct account *before, const struct account *after) {
    const double jobs = settings->jobs, wall_ms = phase->wall_ms;
    const double group_ms = wall_ms * after->n_groups; // all groups' time
    const double decode = 100 * (after->decode_ms - before->decode_ms) / group_ms;
    const double score = 100 * (after->score_ms - before->score_ms) / group_ms;
    const double collective = 100 * (after->collective_ms - before->collective_ms) / group_ms;
    const double orders = 100 * (after->order_ms - before->order_ms) / group_ms;
    const double coordinator = 100 * (after->coordinator_ms - before->coordinator_ms) / wall_ms;
    const double median_ms = median_sort(phase->job_ms, settings->jobs);
    printf("%s,%u,%u,%u,%u,%u,%u,%.2f,%.2f,%.2f,%.3f,%.1f,%.1f,%.2f,%.1f,%.2f,%.2f,%.2f,%.2f,%.2f,%"
           ".2f,"
           "%.2f\n",
           phase->name, phase->in_flight, settings->jobs, settings->n, settings->block_tokens,
           settings->max_tokens, phase->prompt_tokens, median_ms, phase->job_ms[0],
           phase->job_ms[settings->jobs - 1], jobs / wall_ms * 1e3,
           (after->tokens - before->tokens) / jobs,
           (after->tokens - before->tokens) / wall_ms * 1e3,
           (after->orders - before->orders) / jobs, (after->rebuilt - before->rebuilt) / jobs,
           decode, score, collective, orders - decode - score - collective, 100 - orders,
           coordinator, 100 - decode - score);
    fflush(stdout);
}

static enum status measure_phase(struct surefoot_client *client, const struct settings *settings,
                                 const char *name, uint32_t in_flight, struct error *err) {
    struct phase phase = {.name = name, .in_flight = in_flight};
    struct account before, after;
    phase.job_ms = calloc(settings->jobs, sizeof *phase.job_ms);
    if (phase.job_ms == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %u jobs", settings->jobs);
    }
    enum status status = read_account(client, &before, err);
    if (status == STATUS_OK) {
        status = run_phase(client, settings, &phase, err);
    }
    if (status == STATUS_OK) {
        status = read_account(client, &after, err);
    }
    if (status == STATUS_OK) {
        print_phase(settings, &phase, &before, &after);
    }
    free(phase.job_ms);
    return status;
}

static void print_models(const Surefoot__ServiceStatus *state) {
    const Surefoot__GroupStatus *group = state->groups[0];
    printf("# %zu groups of %u ranks", state->n_groups, group->n_ranks);
    for (size_t i = 0; i < group->n_models; i++) {
        const Surefoot__ModelInfo *model = group->models[i];
        printf("%s %s %.1f M parameters (%s)", i > 0 ? "," : ":", model->role,
               (double)model->parameter_count * 1e-6,
               model->precision != NULL ? model->precision : "stored");
    }
    putchar('\n');
}

static enum status measure(struct surefoot_client *client, const struct settings *settings,
                           struct error *err) {
    Surefoot__ServiceStatus *state = NULL;
    enum status status = surefoot_status(client, WAIT_MS, &state, err);
    if (status != STATUS_OK) {
        return status;
    }
    print_models(state);
    surefoot_status_free(state);
    // The first job pays for pages and tables that all later ones use.
    struct phase first = {.in_flight = 1};
    struct settings one = *settings;
    double milliseconds;
    one.jobs = 1;
    first.job_ms = &milliseconds;
    status = run_phase(client, &one, &first, err);
    if (status != STATUS_OK) {
        return status;
    }
    print_header();
    status = measure_phase(client, settings, "latency", 1, err);
    return status == STATUS_OK
               ? measure_phase(client, settings, "throughput", settings->in_flight, err)
               : status;
}

static int parse(int argc, char **argv, struct settings *settings) {
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    const char *shape = "15m", *dtype_name = "f32";
    const struct flag flags[] = {
        flag_text("shape", &shape, "NAME",
                  "of the models that are made: 15m, 110m, 1.1b or 7b; default 15m"),
        flag_text("dtype", &dtype_name, "NAME", "of their weights: f32, f16 or bf16; default f32"),
        flag_u32("n", &settings->n, 1, 4096, "N", "candidates; default 32"),
        flag_u32("block-tokens", &settings->block_tokens, 1, 4096, "D", "default 16"),
        flag_u32("max-tokens", &settings->max_tokens, 1, 1 << 20, "N", "default 64"),
        flag_u32("prompt-bytes", &settings->prompt_bytes, 1, PROMPT_BYTES_MAX, "N",
                 "each a token of a model that is made; default 200"),
        flag_u32("jobs", &settings->jobs, 1, JOBS_MAX, "N", "each way; default 16"),
        flag_u32("in-flight", &settings->in_flight, 1, 1024, "N",
                 "jobs at once the second time; default 8"),
        {.name = NULL},
    };
    const struct command_line line = {
        .program = "bench_guard",
        .usage = "[FLAGS]",
        .about = "Measures whole InferenceGuard jobs at a service of its own; prints CSV.",
        .tables = {flags, settings->service.table},
        .n_tables = 2,
    };
    struct error err = {0};
    int dtype = 0;
    int code = arguments_parse(&line, argc, argv, NULL);
    if (code >= 0) {
        return code;
    }
    if (!random_model_preset(shape, &settings->shape)) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "--shape",
                  "\"%.80s\" is not one of 15m, 110m, 1.1b, 7b", shape);
        return arguments_fail(line.program, &err);
    }
    if (arguments_choice("--dtype", dtype_name, dtypes, 3, &dtype, &err) != STATUS_OK) {
        return arguments_fail(line.program, &err);
    }
    settings->shape.dtype = (enum dtype)dtype;
    memset(settings->prompt, 'a', settings->prompt_bytes);
    settings->prompt[settings->prompt_bytes] = '\0';
    return -1;
}

int main(int argc, char **argv) {
    static struct settings settings = {.n = 32,
                                       .block_tokens = 16,
                                       .max_tokens = 64,
                                       .prompt_bytes = 200,
                                       .jobs = 16,
                                       .in_flight = 8};
    static struct private_service service;
    struct error err = {0};
    service_flags_init(&settings.service);
    int code = parse(argc - 1, argv + 1, &settings);
    if (code >= 0) {
        return code;
    }
    enum status status = private_service_open(&settings.service, &settings.shape, &service, &err);
    if (status == STATUS_OK) {
        status = measure(service.client, &settings, &err);
    }
    private_service_close(&service);
    return status == STATUS_OK ? 0 : arguments_fail("bench_guard", &err);
}
