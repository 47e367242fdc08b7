// How fast is the backend's matrix product, and how far from what this machine can do? Prints one
// CSV line per shape: median and best time of the repeats and, of the median, GFLOP/s, the fraction
// of the fused multiply-add peak, and weight bytes per second with the fraction of the read
// bandwidth. Peak and bandwidth are measured first, by as many threads as the backend has.
//
//   bench_linear [--threads T] [--dtype f32|f16|bf16] [--repeats R] rows:in:out ...
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/machine.h"
#include "common/deadline.h"
#include "worker/backend/backend.h"
#include "worker/backend/cpu/cpu.h"

enum { REPEATS_MAX = 1001, DIM_MAX = 1 << 20 };

struct settings {
    int n_threads;
    int repeats;
    enum dtype dtype;
};

struct machine_speed {
    double flops; // per second, all threads
    double bytes; // per second, all threads
};

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_seconds(struct backend *backend, struct tensor *y, const struct tensor *x,
                             const struct weight *w, int repeats, double *best) {
    double seconds[REPEATS_MAX];
    backend->ops->linear(backend, y, x, w); // first touch
    for (int i = 0; i < repeats; ++i) {
        int64_t begin = clock_monotonic_ns();
        backend->ops->linear(backend, y, x, w);
        seconds[i] = (double)(clock_monotonic_ns() - begin) * 1e-9;
    }
    qsort(seconds, (size_t)repeats, sizeof(double), compare_doubles);
    *best = seconds[0];
    return seconds[repeats / 2];
}

// Small values, so that nothing overflows in any dtype: 1 in each.
static void fill(struct tensor *tensor) {
    const uint16_t half_one = tensor->dtype == DTYPE_F16 ? 0x3c00 : 0x3f80;
    size_t n = (size_t)tensor->rows * (size_t)tensor->cols;
    for (size_t i = 0; i < n; ++i) {
        if (tensor->dtype == DTYPE_F32) {
            ((float *)tensor->data)[i] = 1;
        } else {
            ((uint16_t *)tensor->data)[i] = half_one;
        }
    }
}

static struct tensor make(struct backend *backend, int32_t rows, int32_t cols, enum dtype dtype) {
    struct tensor tensor = {.dtype = dtype, .rows = rows, .cols = cols};
    tensor.data = backend->ops->alloc(backend, (size_t)rows * (size_t)cols * dtype_bytes(dtype));
    if (tensor.data == NULL) {
        fprintf(stderr, "no memory for [%d, %d]\n", rows, cols);
        exit(1);
    }
    fill(&tensor);
    return tensor;
}

static void measure(struct backend *backend, const struct settings *settings,
                    const struct machine_speed *machine, const int32_t shape[3]) {
    static const char *const dtype_names[] = {"f32", "f16", "bf16"};
    struct tensor x = make(backend, shape[0], shape[1], DTYPE_F32);
    struct tensor w = make(backend, shape[2], shape[1], settings->dtype);
    struct tensor y = make(backend, shape[0], shape[2], DTYPE_F32);
    double best;
    const struct weight_source source = {.parts = {w}, .n_parts = 1};
    struct weight packed;
    if (backend->ops->weight_pack(backend, &source, PRECISION_STORED, &packed) != STATUS_OK) {
        fprintf(stderr, "no memory for packed weights\n");
        exit(1);
    }
    double seconds = median_seconds(backend, &y, &x, &packed, settings->repeats, &best);
    backend->ops->weight_release(backend, &packed);
    double flops = 2.0 * shape[0] * shape[1] * shape[2] / seconds;
    double bytes = (double)shape[1] * shape[2] * (double)dtype_bytes(settings->dtype) / seconds;
    printf("%s,%s,%d,%d,%d,%d,%.1f,%.1f,%.1f,%.2f,%.2f,%.2f\n", cpu_backend_isa(backend),
           dtype_names[settings->dtype], settings->n_threads, shape[0], shape[1], shape[2],
           seconds * 1e6, best * 1e6, flops * 1e-9, flops / machine->flops, bytes * 1e-9,
           bytes / machine->bytes);
    backend->ops->release(backend, x.data);
    backend->ops->release(backend, w.data);
    backend->ops->release(backend, y.data);
}

static int usage(void) {
    fputs("usage: bench_linear [--threads 1..256] [--dtype f32|f16|bf16] [--repeats 1..1001] "
          "rows:in:out ...\n",
          stderr);
    return 2;
}

static int parse_int(const char *text, int max) {
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value >= 1 && value <= max ? (int)value : -1;
}

static bool parse_settings(int argc, char **argv, struct settings *settings) {
    static const struct option options[] = {{"threads", required_argument, NULL, 't'},
                                            {"dtype", required_argument, NULL, 'd'},
                                            {"repeats", required_argument, NULL, 'r'},
                                            {0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 't') {
            settings->n_threads = parse_int(optarg, 256);
        } else if (option == 'r') {
            settings->repeats = parse_int(optarg, REPEATS_MAX);
        } else if (option == 'd' && strcmp(optarg, "f32") == 0) {
            settings->dtype = DTYPE_F32;
        } else if (option == 'd' && strcmp(optarg, "f16") == 0) {
            settings->dtype = DTYPE_F16;
        } else if (option == 'd' && strcmp(optarg, "bf16") == 0) {
            settings->dtype = DTYPE_BF16;
        } else {
            return false;
        }
    }
    return settings->n_threads > 0 && settings->repeats > 0 && optind < argc;
}

static bool parse_shape(const char *text, int32_t shape[3]) {
    char rest;
    if (sscanf(text, "%d:%d:%d%c", &shape[0], &shape[1], &shape[2], &rest) != 3) {
        return false;
    }
    return shape[0] >= 1 && shape[1] >= 1 && shape[2] >= 1 && shape[0] <= DIM_MAX &&
           shape[1] <= DIM_MAX && shape[2] <= DIM_MAX;
}

int main(int argc, char **argv) {
    struct settings settings = {.n_threads = 1, .repeats = 31, .dtype = DTYPE_F32};
    struct backend *backend = NULL;
    struct error err = {0};
    if (!parse_settings(argc, argv, &settings)) {
        return usage();
    }
    if (backend_create("cpu", settings.n_threads, &backend, &err) != STATUS_OK) {
        fprintf(stderr, "bench_linear: %s: %s\n", err.field, err.message);
        return 1;
    }
    struct machine_speed machine = {machine_fma_flops(settings.n_threads),
                                    machine_read_bytes(settings.n_threads)};
    printf("# peak %.1f GFLOP/s, read %.1f GB/s, %d threads\n", machine.flops * 1e-9,
           machine.bytes * 1e-9, settings.n_threads);
    puts("isa,dtype,threads,rows,in,out,median_us,best_us,gflops,peak_fraction,weight_gbs,read_"
         "fraction");
    for (int i = optind; i < argc; ++i) {
        int32_t shape[3];
        if (!parse_shape(argv[i], shape)) {
            backend_destroy(backend);
            return usage();
        }
        measure(backend, &settings, &machine, shape);
    }
    backend_destroy(backend);
    return 0;
}
