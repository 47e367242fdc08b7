// What does drawing one token from a row of logits cost, and what would reading the row cost?
// Prints one CSV line per vocabulary, shape of the logits, kind of draw and number of threads:
// median microseconds a row over the repeats, each a batch of `rows` rows; the time in which one
// thread (or the threads together) reads the same rows once, measured the same way; and the ratio.
// Each repeat begins with a fresh copy of the logits, so that they lie in the caches as a matrix
// product would have left them. Shapes: "flat" is normal with deviation 0.5, like a model without
// training, where top-p keeps most of the vocabulary; "zipf" falls by rank like a trained one, in
// random order.
//
//   bench_sampling [--rows N] [--repeats R] [--threads T] [vocab ...]
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "common/rng.h"
#include "worker/backend/backend.h"
#include "worker/backend/cpu/cpu.h"
#include "worker/decode/sampling.h"

enum { ROWS_MAX = 4096, REPEATS_MAX = 1001, PROMPT = 512, RESPONSE = 128, BIASED = 32 };

struct settings {
    int n_rows;
    int repeats;
    int threads_max;
};

struct batch {
    struct tensor logits; // [n_rows, vocab]
    float *pristine;      // [n_rows, vocab]
    struct sampling_row rows[ROWS_MAX];
};

struct kind {
    const char *name;
    struct sampling_params params;
};

static int32_t seen_ids[PROMPT + RESPONSE];
static float bias_values[BIASED];

static const struct kind kinds[] = {
    {"greedy", {.top_p = 1, .repetition_penalty = 1}},
    {"temperature 1", {.temperature = 1, .top_p = 1, .repetition_penalty = 1}},
    {"temperature 0.7", {.temperature = 0.7f, .top_p = 1, .repetition_penalty = 1}},
    {"top-p 0.9", {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1}},
    {"top-p 0.95 at 0.7", {.temperature = 0.7f, .top_p = 0.95f, .repetition_penalty = 1}},
    {"top-k 40", {.temperature = 0.7f, .top_k = 40, .top_p = 1, .repetition_penalty = 1}},
    {"top-k 40 top-p 0.9",
     {.temperature = 0.7f, .top_k = 40, .top_p = 0.9f, .repetition_penalty = 1}},
    {"bias of 32",
     {.temperature = 1,
      .top_p = 1,
      .repetition_penalty = 1,
      .bias = {seen_ids, bias_values, BIASED}}},
    {"penalties of 640",
     {.temperature = 1, .top_p = 1, .repetition_penalty = 1.1f, .frequency_penalty = 0.1f}},
    {"penalties top-p 0.9",
     {.temperature = 0.7f, .top_p = 0.9f, .repetition_penalty = 1.1f, .frequency_penalty = 0.1f}},
};

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int n) {
    qsort(values, (size_t)n, sizeof *values, compare_doubles);
    return values[n / 2];
}

static size_t batch_bytes(const struct batch *batch) {
    return (size_t)batch->logits.rows * (size_t)batch->logits.cols * sizeof(float);
}

static uint64_t read_all(const void *data, size_t bytes) {
    typedef uint64_t vector __attribute__((vector_size(64)));
    vector sums[4] = {{0}};
    const vector *from = data;
    for (size_t i = 0; i + 4 <= bytes / sizeof(vector); i += 4) {
        for (int k = 0; k < 4; k++) {
            sums[k] ^= from[i + (size_t)k];
        }
    }
    sums[0] ^= sums[1] ^ sums[2] ^ sums[3];
    return sums[0][0];
}

// Seconds in which one thread reads the batch.
static double read_seconds(const struct batch *batch, int repeats) {
    double seconds[REPEATS_MAX];
    volatile uint64_t sink;
    for (int i = 0; i < repeats; i++) {
        memcpy(batch->logits.data, batch->pristine, batch_bytes(batch));
        int64_t begin = clock_monotonic_ns();
        sink = read_all(batch->logits.data, batch_bytes(batch));
        seconds[i] = (double)(clock_monotonic_ns() - begin) * 1e-9;
    }
    (void)sink;
    return median(seconds, repeats);
}

static double draw_seconds(struct backend *backend, struct batch *batch, const struct kind *kind,
                           int repeats) {
    double seconds[REPEATS_MAX];
    for (int i = 0; i < repeats; i++) {
        memcpy(batch->logits.data, batch->pristine, batch_bytes(batch));
        for (int32_t row = 0; row < batch->logits.rows; row++) {
            batch->rows[row] = (struct sampling_row){.params = &kind->params,
                                                     .prompt_ids = seen_ids,
                                                     .n_prompt = PROMPT,
                                                     .response_ids = seen_ids + PROMPT,
                                                     .n_response = RESPONSE,
                                                     .seed = 1,
                                                     .lineage = (uint64_t)row,
                                                     .position = (uint32_t)i};
        }
        int64_t begin = clock_monotonic_ns();
        enum status status =
            backend->ops->sample(backend, &batch->logits, batch->rows, batch->logits.rows);
        seconds[i] = (double)(clock_monotonic_ns() - begin) * 1e-9;
        if (status != STATUS_OK) {
            fprintf(stderr, "bench_sampling: drawing failed\n");
            exit(1);
        }
    }
    return median(seconds, repeats);
}

static void fill(struct batch *batch, bool zipf) {
    int32_t vocab = batch->logits.cols;
    for (int32_t row = 0; row < batch->logits.rows; row++) {
        float *logits = batch->pristine + (size_t)row * (size_t)vocab;
        for (int32_t id = 0; id < vocab; id++) {
            double u = 1 - rng_uniform(2, (uint64_t)row, (uint32_t)id, 0);
            double v = rng_uniform(2, (uint64_t)row, (uint32_t)id, 1);
            double normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
            logits[id] = (float)(zipf ? -1.2 * log(1 + vocab * u) : 0.5 * normal);
        }
    }
    for (int i = 0; i < PROMPT + RESPONSE; i++) {
        seen_ids[i] = (int32_t)(rng_uniform(3, (uint64_t)i, 0, 0) * vocab);
    }
    for (int i = 0; i < BIASED; i++) {
        bias_values[i] = (float)(i % 5) - 2;
    }
}

static void measure_kinds(struct batch *batch, const char *shape, const struct settings *settings) {
    double read = read_seconds(batch, settings->repeats);
    for (int n_threads = 1; n_threads <= settings->threads_max; n_threads++) {
        struct backend *backend = NULL;
        struct error err = {0};
        if (backend_create("cpu", n_threads, &backend, &err) != STATUS_OK) {
            fprintf(stderr, "bench_sampling: %s: %s\n", err.field, err.message);
            exit(1);
        }
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            double us = 1e6 / batch->logits.rows;
            double draw = draw_seconds(backend, batch, &kinds[i], settings->repeats) * us;
            double bound = read * us / n_threads;
            printf("%s,%d,%d,%s,%s,%.2f,%.2f,%.1f\n", cpu_backend_isa(backend), n_threads,
                   batch->logits.cols, shape, kinds[i].name, draw, bound, draw / bound);
        }
        backend_destroy(backend);
    }
}

static void measure(int32_t vocab, const struct settings *settings) {
    struct batch *batch = calloc(1, sizeof *batch);
    size_t bytes = (size_t)settings->n_rows * (size_t)vocab * sizeof(float);
    bytes = (bytes + 63) / 64 * 64;
    float *logits = aligned_alloc(64, bytes), *pristine = aligned_alloc(64, bytes);
    if (batch == NULL || logits == NULL || pristine == NULL) {
        fprintf(stderr, "bench_sampling: no memory for [%d, %d]\n", settings->n_rows, vocab);
        exit(1);
    }
    batch->logits = (struct tensor){
        .data = logits, .dtype = DTYPE_F32, .rows = settings->n_rows, .cols = vocab};
    batch->pristine = pristine;
    for (int zipf = 0; zipf < 2; zipf++) {
        fill(batch, zipf == 1);
        measure_kinds(batch, zipf == 1 ? "zipf" : "flat", settings);
    }
    free(logits);
    free(pristine);
    free(batch);
}

static int parse_int(const char *text, int max) {
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 1 && value <= max ? (int)value : -1;
}

static bool parse_settings(int argc, char **argv, struct settings *settings) {
    static const struct option options[] = {{"rows", required_argument, NULL, 'n'},
                                            {"repeats", required_argument, NULL, 'r'},
                                            {"threads", required_argument, NULL, 't'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'n') {
            settings->n_rows = parse_int(optarg, ROWS_MAX);
        } else if (option == 'r') {
            settings->repeats = parse_int(optarg, REPEATS_MAX);
        } else if (option == 't') {
            settings->threads_max = parse_int(optarg, 256);
        } else {
            return false;
        }
    }
    return settings->n_rows > 0 && settings->repeats > 0 && settings->threads_max > 0;
}

int main(int argc, char **argv) {
    static const int32_t usual[] = {32000, 128256, 151936};
    struct settings settings = {.n_rows = 64, .repeats = 21, .threads_max = 2};
    bool valid = parse_settings(argc, argv, &settings);
    for (int i = optind; i < argc; i++) {
        valid = valid && parse_int(argv[i], 1 << 20) > 0;
    }
    if (!valid) {
        fputs("usage: bench_sampling [--rows 1..4096] [--repeats 1..1001] [--threads 1..256] "
              "[vocab ...]\n",
              stderr);
        return 2;
    }
    printf("# %d rows a batch, median of %d\n", settings.n_rows, settings.repeats);
    puts("isa,threads,vocab,logits,draw,row_us,read_us,ratio");
    for (int i = optind; i < argc; i++) {
        measure(parse_int(argv[i], 1 << 20), &settings);
    }
    for (int i = 0; i < 3 && optind == argc; i++) {
        measure(usual[i], &settings);
    }
    return 0;
}
