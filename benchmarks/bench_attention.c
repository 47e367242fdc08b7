// How fast is attention over the KV tree, and how far from what this machine can do? Each case is a
// number of sequences that share a prompt and have a suffix of their own, with `new` rows each: 1
// is decoding, more is reading. One CSV line per case: median time of one layer, all layers in turn
// so that caches hold what they would hold in a model; of it the arithmetic of both products, seen
// tokens only, with the fraction of the ceiling of such products; the bytes of the blocks that must
// be read at least, each once, with the fraction of the read bandwidth; and the times to plan a
// batch's visits and to turn and store its new keys and values in one layer.
//
//   bench_attention [--threads T] [--kv-dtype f32|f16|bf16|int8] [--shape heads:kv_heads:head_dim]
//                   [--layers L] [--repeats R] [--window W] sequences:prompt:suffix:new ...
//
// With a window, arithmetic and bytes are still those of full attention, so that the times compare.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/machine.h"
#include "benchmarks/median.h"
#include "common/deadline.h"
#include "worker/backend/cpu/cpu.h"
#include "worker/model/visits.h"

enum { REPEATS_MAX = 1001, TOKENS_MAX = 1 << 20, FILL_ROWS = 256 };

struct settings {
    int n_threads;
    int repeats;
    enum kv_dtype dtype;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t head_dim;
    int32_t window; // tokens that a row sees; 0: all
};

struct attention_case {
    int32_t n_sequences;
    int32_t prompt;
    int32_t suffix; // tokens before the new ones
    int32_t n_new;
};

struct world {
    struct backend *backend;
    struct kv_storage kv;
    struct sequence *sequences;
    struct batch_arrays arrays;
    struct batch_plan plan;
    struct tensor qkv;
    struct tensor out;
};

static void *take(size_t size) {
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fputs("bench_attention: no memory\n", stderr);
        exit(1);
    }
    return memory;
}

static int32_t blocks_of(int32_t n_tokens) {
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

// Whole blocks of the prompt are shared; the rest is each sequence's own.
static void deal_blocks(struct world *world, const struct attention_case *c) {
    int32_t length = c->prompt + c->suffix + c->n_new, shared = c->prompt / KV_BLOCK_TOKENS;
    int32_t next = shared;
    world->sequences = take((size_t)c->n_sequences * sizeof(struct sequence));
    for (int32_t s = 0; s < c->n_sequences; ++s) {
        int32_t *blocks = take((size_t)blocks_of(length) * sizeof(int32_t));
        for (int32_t b = 0; b < blocks_of(length); ++b) {
            blocks[b] = b < shared ? b : next++;
        }
        world->sequences[s] = (struct sequence){.length = length, .blocks = blocks};
    }
    world->kv.n_blocks = next;
    world->kv.n_positions = length;
}

static struct tensor make(struct backend *backend, int32_t rows, int32_t cols) {
    struct tensor tensor = {.dtype = DTYPE_F32, .rows = rows, .cols = cols};
    size_t n = (size_t)rows * (size_t)cols;
    tensor.data = backend->ops->alloc(backend, n * sizeof(float));
    if (tensor.data == NULL) {
        fputs("bench_attention: no memory\n", stderr);
        exit(1);
    }
    uint32_t state = 1;
    for (size_t i = 0; i < n; ++i) {
        state = state * 1664525 + 1013904223;
        ((float *)tensor.data)[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return tensor;
}

static void take_arrays(struct world *world, const struct attention_case *c) {
    size_t rows = (size_t)c->n_sequences * (size_t)c->n_new;
    int32_t blocks = blocks_of(world->kv.n_positions);
    rows = rows > FILL_ROWS ? rows : FILL_ROWS;
    struct batch_arrays *arrays = &world->arrays;
    arrays->positions = take(rows * sizeof(int32_t));
    arrays->kv_block = take(rows * sizeof(int32_t));
    arrays->pieces = take((size_t)c->n_sequences * sizeof(struct batch_piece));
    arrays->visits.visits = take((size_t)world->kv.n_blocks * sizeof(struct kv_visit));
    arrays->visits.rows = take((size_t)visits_rows_max((int32_t)rows, blocks) * sizeof(int32_t));
    arrays->visit_of_block = take((size_t)world->kv.n_blocks * sizeof(int32_t));
}

static void add_rows(struct world *world, const struct sequence *sequence, int32_t first, int32_t n,
                     int32_t piece) {
    struct batch_plan *plan = &world->plan;
    world->arrays.pieces[piece] = (struct batch_piece){
        .sequence = sequence, .first_position = first, .first_row = plan->n_rows, .n_rows = n};
    for (int32_t i = 0; i < n; ++i, ++plan->n_rows) {
        world->arrays.positions[plan->n_rows] = first + i;
        world->arrays.kv_block[plan->n_rows] = sequence->blocks[(first + i) / KV_BLOCK_TOKENS];
    }
}

static void begin_plan(struct world *world) {
    world->plan = (struct batch_plan){.positions = world->arrays.positions,
                                      .kv_block = world->arrays.kv_block};
}

static struct attention_layer layer_of(const struct settings *settings, int32_t layer) {
    return (struct attention_layer){
        .index = layer, .n_heads = settings->n_heads, .window = settings->window, .scale = 0.125f};
}

// Stores keys and values for tokens [first, end) of a sequence in all layers.
static void fill(struct world *world, const struct settings *settings,
                 const struct sequence *sequence, int32_t first, int32_t end) {
    for (int32_t at = first; at < end; at += FILL_ROWS) {
        begin_plan(world);
        add_rows(world, sequence, at, end - at < FILL_ROWS ? end - at : FILL_ROWS, 0);
        struct tensor qkv = make(world->backend, world->plan.n_rows, world->qkv.cols);
        (void)!world->backend->ops->batch_begin(world->backend, &world->plan);
        for (int32_t layer = 0; layer < settings->n_layers; ++layer) {
            const struct attention_layer attention = layer_of(settings, layer);
            world->backend->ops->rope_store(world->backend, &qkv, &world->kv, &attention);
        }
        world->backend->ops->release(world->backend, qkv.data);
    }
}

static void world_open(struct world *world, struct backend *backend,
                       const struct settings *settings, const struct attention_case *c) {
    float *still = take((size_t)settings->head_dim * sizeof(float)); // turns nothing
    *world = (struct world){.backend = backend,
                            .kv = {.inv_freq = still,
                                   .rotary_dim = settings->head_dim,
                                   .rotary_scale = 1,
                                   .dtype = settings->dtype,
                                   .n_layers = settings->n_layers,
                                   .n_kv_heads = settings->n_kv_heads,
                                   .head_dim = settings->head_dim}};
    deal_blocks(world, c);
    take_arrays(world, c);
    if (backend->ops->kv_create(backend, &world->kv) != STATUS_OK) {
        fputs("bench_attention: no memory for keys and values\n", stderr);
        exit(1);
    }
    free(still);
    int32_t rows = c->n_sequences * c->n_new;
    int32_t heads = settings->n_heads + 2 * settings->n_kv_heads;
    world->qkv = make(backend, rows, heads * settings->head_dim);
    world->out = make(backend, rows, settings->n_heads * settings->head_dim);
    int32_t shared = c->prompt / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    fill(world, settings, &world->sequences[0], 0, shared);
    for (int32_t s = 0; s < c->n_sequences; ++s) {
        fill(world, settings, &world->sequences[s], shared, world->sequences[s].length);
    }
}

static void world_close(struct world *world, const struct attention_case *c) {
    for (int32_t s = 0; s < c->n_sequences; ++s) {
        free(world->sequences[s].blocks);
    }
    free(world->sequences);
    free(world->arrays.positions);
    free(world->arrays.kv_block);
    free(world->arrays.pieces);
    free(world->arrays.visits.visits);
    free(world->arrays.visits.rows);
    free(world->arrays.visit_of_block);
    world->backend->ops->kv_destroy(world->backend, &world->kv);
    world->backend->ops->release(world->backend, world->qkv.data);
    world->backend->ops->release(world->backend, world->out.data);
}

// Medians of one batch.
struct timing {
    double plan;   // seconds to build the visits
    double store;  // to store the new keys and values, all layers
    double attend; // to attend, all layers
};

// As in a model, a layer's keys and values are stored just before it attends.
static struct timing median_timing(struct world *world, const struct settings *settings,
                                   const struct attention_case *c) {
    double attending[REPEATS_MAX], storing[REPEATS_MAX], planning[REPEATS_MAX];
    const struct backend_ops *ops = world->backend->ops;
    for (int i = -1; i < settings->repeats; ++i) {
        begin_plan(world);
        for (int32_t s = 0; s < c->n_sequences; ++s) {
            add_rows(world, &world->sequences[s], c->prompt + c->suffix, c->n_new, s);
        }
        int64_t begin = clock_monotonic_ns(), store_ns = 0, attend_ns = 0;
        world->plan.visits =
            visits_build(&world->arrays, c->n_sequences, settings->window, &world->arrays.visits);
        world->plan.windowed = world->plan.visits;
        int64_t planned = clock_monotonic_ns();
        (void)!ops->batch_begin(world->backend, &world->plan);
        for (int32_t layer = 0; layer < settings->n_layers; ++layer) {
            const struct attention_layer attention = layer_of(settings, layer);
            int64_t before = clock_monotonic_ns();
            ops->rope_store(world->backend, &world->qkv, &world->kv, &attention);
            int64_t stored = clock_monotonic_ns();
            ops->attention(world->backend, &world->out, &world->qkv, &world->kv, &attention);
            store_ns += stored - before;
            attend_ns += clock_monotonic_ns() - stored;
        }
        if (i >= 0) { // the first round only warms
            planning[i] = (double)(planned - begin) * 1e-9;
            storing[i] = (double)store_ns * 1e-9;
            attending[i] = (double)attend_ns * 1e-9;
        }
    }
    size_t n = (size_t)settings->repeats;
    return (struct timing){.plan = median_sort(planning, n),
                           .store = median_sort(storing, n),
                           .attend = median_sort(attending, n)};
}

// What the products of attention could reach with keys and values of this format.
static double format_peak(const struct machine *machine, enum kv_dtype dtype) {
    bool pairs = dtype == KV_BF16 && machine->bf16_flops > 0;
    return dtype == KV_INT8 ? machine->int8_ops : pairs ? machine->bf16_flops : machine->f32_flops;
}

static void measure(struct backend *backend, const struct settings *settings,
                    const struct machine *machine, const struct attention_case *c) {
    struct world world;
    world_open(&world, backend, settings, c);
    struct timing timing = median_timing(&world, settings, c);
    double seconds = timing.attend / settings->n_layers;
    double seen = 0;
    for (int32_t r = 0; r < world.plan.n_rows; ++r) {
        seen += world.arrays.positions[r] + 1;
    }
    double flops = 4 * seen * settings->n_heads * settings->head_dim / seconds;
    struct kv_storage layer = world.kv;
    layer.n_layers = 1;
    layer.n_positions = 0;
    double bytes = (double)backend->ops->kv_bytes(&layer) / seconds;
    printf("%s,%s,%d,%d:%d:%d,%d,%d,%d,%d,%.1f,%.1f,%.2f,%.2f,%.2f,%.1f,%.1f\n",
           cpu_backend_isa(backend), kv_dtype_name(settings->dtype), settings->n_threads,
           settings->n_heads, settings->n_kv_heads, settings->head_dim, c->n_sequences, c->prompt,
           c->suffix, c->n_new, seconds * 1e6, flops * 1e-9,
           flops / format_peak(machine, settings->dtype), bytes * 1e-9,
           bytes / machine->memory_bytes, timing.plan * 1e6,
           timing.store / settings->n_layers * 1e6);
    world_close(&world, c);
}

static int usage(void) {
    fputs("usage: bench_attention [--threads 1..256] [--kv-dtype f32|f16|bf16|int8]\n"
          "           [--shape heads:kv_heads:head_dim] [--layers 1..1024] [--repeats 1..1001]\n"
          "           [--window 1..1048576] sequences:prompt:suffix:new ...\n",
          stderr);
    return 2;
}

static int parse_int(const char *text, int max) {
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 1 && value <= max ? (int)value : -1;
}

static bool parse_shape(const char *text, struct settings *settings) {
    char rest;
    int32_t *heads = &settings->n_heads, *kv = &settings->n_kv_heads, *dim = &settings->head_dim;
    return sscanf(text, "%d:%d:%d%c", heads, kv, dim, &rest) == 3 && *kv >= 1 && *kv <= 1024 &&
           *heads >= *kv && *heads <= 1024 && *heads % *kv == 0 && *dim >= 2 && *dim <= 1024 &&
           *dim % 2 == 0;
}

static bool parse_settings(int argc, char **argv, struct settings *settings) {
    static const struct option options[] = {{"threads", required_argument, NULL, 't'},
                                            {"kv-dtype", required_argument, NULL, 'd'},
                                            {"shape", required_argument, NULL, 's'},
                                            {"layers", required_argument, NULL, 'l'},
                                            {"repeats", required_argument, NULL, 'r'},
                                            {"window", required_argument, NULL, 'w'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 't') {
            settings->n_threads = parse_int(optarg, 256);
        } else if (option == 'r') {
            settings->repeats = parse_int(optarg, REPEATS_MAX);
        } else if (option == 'l') {
            settings->n_layers = parse_int(optarg, 1024);
        } else if (option == 'w') {
            settings->window = parse_int(optarg, TOKENS_MAX);
        } else if (!(option == 'd' && kv_dtype_find(optarg, &settings->dtype)) &&
                   !(option == 's' && parse_shape(optarg, settings))) {
            return false;
        }
    }
    return settings->n_threads > 0 && settings->repeats > 0 && settings->n_layers > 0 &&
           settings->window >= 0 && optind < argc;
}

static bool parse_case(const char *text, struct attention_case *c) {
    char rest;
    if (sscanf(text, "%d:%d:%d:%d%c", &c->n_sequences, &c->prompt, &c->suffix, &c->n_new, &rest) !=
        4) {
        return false;
    }
    return c->n_sequences >= 1 && c->n_sequences <= 4096 && c->prompt >= 0 &&
           c->prompt < TOKENS_MAX && c->suffix >= 0 && c->suffix < TOKENS_MAX && c->n_new >= 1 &&
           c->n_new <= 4096;
}

int main(int argc, char **argv) {
    struct settings settings = {.n_threads = 1,
                                .repeats = 11,
                                .n_layers = 12,
                                .n_heads = 12,
                                .n_kv_heads = 12,
                                .head_dim = 64};
    struct backend *backend = NULL;
    struct error err = {0};
    if (!parse_settings(argc, argv, &settings)) {
        return usage();
    }
    if (backend_create("cpu", settings.n_threads, &backend, &err) != STATUS_OK) {
        fprintf(stderr, "bench_attention: %s: %s\n", err.field, err.message);
        return 1;
    }
    struct machine machine;
    machine_measure(settings.n_threads, &machine);
    machine_print(&machine, stdout);
    puts("isa,kv_dtype,threads,shape,sequences,prompt,suffix,new,layer_us,gflops,peak_fraction,"
         "kv_gbs,read_fraction,plan_us,store_us");
    for (int i = optind; i < argc; ++i) {
        struct attention_case c;
        if (!parse_case(argv[i], &c)) {
            backend_destroy(backend);
            return usage();
        }
        measure(backend, &settings, &machine, &c);
        fflush(stdout);
    }
    backend_destroy(backend);
    return 0;
}
