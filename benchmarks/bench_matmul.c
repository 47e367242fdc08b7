// How fast are the backend's matrix products, and how far from what this machine can do? Prints one
// CSV line per matrix and number of rows: the median time, operations per second beside the peak of
// the precision, and weight bytes per second beside the read bandwidth of memory. Copies of the
// matrix are used in turn, more than caches hold, so that weights come from memory as they do in a
// model.
//
//   bench_matmul [--precision NAME] [--dtype NAME] [--threads N] [--rows 1,32] [MATRIX ...]
//
// A matrix is inputs:outputs, "+" after it for a product that is added to what is there (the
// residual stream), "g" for gate and up, which give half as many columns.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/arguments.h"
#include "benchmarks/machine.h"
#include "common/deadline.h"
#include "worker/backend/backend.h"
#include "worker/backend/cpu/cpu.h"

enum {
    REPEATS_MIN = 7,
    REPEATS_MAX = 1001,
    ROWS_MAX = 4096,
    DIM_MAX = 1 << 18,
    MATRICES_MAX = 32,
    COPIES_MAX = 512,
};

// Eight times the largest cache that this was written on.
static const size_t rotated_bytes = (size_t)256 << 20;

static const char *const dtype_names[] = {"f32", "f16", "bf16", "q4_1"};

struct settings {
    enum precision precision;
    enum dtype dtype;
    uint32_t n_threads;
    double seconds; // of repeats for each line
    struct number_list rows;
};

struct matrix {
    int32_t in;
    int32_t out;
    char kind; // 0, '+' or 'g'
};

// The products of Llama models with 110 M and 1.1 B parameters: queries, keys and values; attention
// output; gate and up; down; vocabulary.
static const struct matrix usual[] = {
    {768, 2304, 0},  {768, 768, '+'},   {768, 4096, 'g'},   {2048, 768, '+'},  {768, 32000, 0},
    {2048, 2560, 0}, {2048, 2048, '+'}, {2048, 11264, 'g'}, {5632, 2048, '+'}, {2048, 32000, 0},
};
enum { USUAL = sizeof(usual) / sizeof(usual[0]) };

struct subject {
    struct backend *backend;
    const struct matrix *matrix;
    struct weight copies[COPIES_MAX];
    int n_copies;
    struct tensor x;   // [ROWS_MAX, in]
    struct tensor out; // [ROWS_MAX, columns]
};

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double product_seconds(struct subject *subject, int copy, int32_t rows) {
    const struct backend_ops *ops = subject->backend->ops;
    struct tensor x = subject->x, out = subject->out;
    const struct weight *weight = &subject->copies[copy];
    x.rows = rows;
    out.rows = rows;
    int64_t begin = clock_monotonic_ns();
    if (subject->matrix->kind == 'g') {
        ops->linear_gated(subject->backend, &out, &x, weight);
    } else if (subject->matrix->kind == '+') {
        ops->linear_add(subject->backend, &out, &x, weight);
    } else {
        ops->linear(subject->backend, &out, &x, weight);
    }
    return (double)(clock_monotonic_ns() - begin) * 1e-9;
}

static void measure_rows(struct subject *subject, const struct settings *settings,
                         const struct machine *machine, int32_t rows) {
    static double seconds[REPEATS_MAX];
    const struct matrix *matrix = subject->matrix;
    int64_t begin = clock_monotonic_ns();
    int n = 0;
    for (; n < REPEATS_MAX; ++n) {
        if (n >= REPEATS_MIN &&
            (double)(clock_monotonic_ns() - begin) * 1e-9 >= settings->seconds) {
            break;
        }
        seconds[n] = product_seconds(subject, n % subject->n_copies, rows);
    }
    qsort(seconds, (size_t)n, sizeof(double), compare_doubles);
    double median = seconds[n / 2];
    double ops = 2.0 * rows * matrix->in * matrix->out / median;
    double bytes = (double)subject->copies[0].bytes / median;
    const char kind[2] = {matrix->kind, '\0'};
    printf("%s,%s,%s,%u,%d:%d%s,%d,%.1f,%.1f,%.1f,%.1f,%.2f,%.1f\n",
           cpu_backend_isa(subject->backend), precision_name(settings->precision),
           dtype_names[settings->dtype], settings->n_threads, matrix->in, matrix->out, kind, rows,
           median * 1e6, 100 * (seconds[n * 9 / 10] - seconds[n / 10]) / median, ops * 1e-9,
           machine_percent(ops, machine_product_peak(machine, settings->precision)), bytes * 1e-9,
           machine_percent(bytes, machine->memory_bytes));
    fflush(stdout);
}

// Values in (-1, 1), cheaply drawn.
static float draw(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(*state >> 32) * 0x1p-31f;
}

static void fill_blocks(unsigned char *blocks, size_t n_blocks, uint64_t *state) {
    for (size_t i = 0; i < n_blocks * Q4_BLOCK_BYTES; ++i) {
        // Scales and minima come from the first four bytes: none is an infinity.
        int byte = (int)(draw(state) * 128) & 255;
        blocks[i] = (unsigned char)(i % Q4_BLOCK_BYTES < 4 ? byte & 0x3f : byte);
    }
}

// [rows, cols] on the host, of `dtype`; f16 gets the bits of bf16, which are finite numbers too.
static void *random_matrix(int32_t rows, int32_t cols, enum dtype dtype) {
    size_t n = (size_t)rows * (size_t)cols;
    uint64_t state = 1;
    void *values = malloc((size_t)rows * dtype_row_bytes(dtype, cols));
    if (dtype == DTYPE_Q4_1 && values != NULL) {
        fill_blocks(values, n / Q4_BLOCK_VALUES, &state);
        return values;
    }
    for (size_t i = 0; values != NULL && i < n; ++i) {
        float value = draw(&state);
        if (dtype == DTYPE_F32) {
            ((float *)values)[i] = value;
        } else {
            uint32_t bits;
            memcpy(&bits, &value, sizeof(bits));
            ((uint16_t *)values)[i] = (uint16_t)(bits >> 16);
        }
    }
    return values;
}

static enum status pack_copies(struct subject *subject, const struct settings *settings) {
    const struct matrix *matrix = subject->matrix;
    bool gated = matrix->kind == 'g';
    int32_t part_rows = gated ? matrix->out / 2 : matrix->out;
    struct tensor part = {.dtype = settings->dtype, .rows = part_rows, .cols = matrix->in};
    part.data = random_matrix(part_rows, matrix->in, settings->dtype);
    const struct weight_source source = {
        .parts = {part, part}, .n_parts = gated ? 2 : 1, .gated = gated};
    enum status status = part.data != NULL ? STATUS_OK : STATUS_NO_MEMORY;
    for (size_t bytes = 0;
         bytes < rotated_bytes && subject->n_copies < COPIES_MAX && status == STATUS_OK;) {
        struct weight *copy = &subject->copies[subject->n_copies];
        status = subject->backend->ops->weight_pack(subject->backend, &source, settings->precision,
                                                    copy);
        if (status == STATUS_OK) {
            subject->n_copies += 1;
            bytes += copy->bytes;
        }
    }
    free(part.data);
    return status;
}

static enum status make_tensors(struct subject *subject, int32_t rows) {
    const struct matrix *matrix = subject->matrix;
    struct backend *backend = subject->backend;
    int32_t columns = matrix->kind == 'g' ? matrix->out / 2 : matrix->out;
    subject->x = (struct tensor){.dtype = DTYPE_F32, .cols = matrix->in};
    subject->out = (struct tensor){.dtype = DTYPE_F32, .cols = columns};
    subject->x.data = backend->ops->alloc(backend, (size_t)rows * (size_t)matrix->in * 4);
    subject->out.data = backend->ops->alloc(backend, (size_t)rows * (size_t)columns * 4);
    if (subject->x.data == NULL || subject->out.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint64_t state = 2;
    for (size_t i = 0; i < (size_t)rows * (size_t)matrix->in; ++i) {
        ((float *)subject->x.data)[i] = draw(&state);
    }
    return STATUS_OK;
}

static enum status measure(struct backend *backend, const struct settings *settings,
                           const struct machine *machine, const struct matrix *matrix) {
    static struct subject subject;
    uint32_t most_rows = 0;
    subject = (struct subject){.backend = backend, .matrix = matrix};
    for (int i = 0; i < settings->rows.count; ++i) {
        most_rows = settings->rows.items[i] > most_rows ? settings->rows.items[i] : most_rows;
    }
    enum status status = make_tensors(&subject, (int32_t)most_rows);
    if (status == STATUS_OK) {
        status = pack_copies(&subject, settings);
    }
    for (int i = 0; i < settings->rows.count && status == STATUS_OK; ++i) {
        measure_rows(&subject, settings, machine, (int32_t)settings->rows.items[i]);
    }
    for (int i = 0; i < subject.n_copies; ++i) {
        backend->ops->weight_release(backend, &subject.copies[i]);
    }
    backend->ops->release(backend, subject.x.data);
    backend->ops->release(backend, subject.out.data);
    return status;
}

static bool parse_matrix(const char *text, struct matrix *out) {
    char kind = 0, rest;
    int n = sscanf(text, "%d:%d%c%c", &out->in, &out->out, &kind, &rest);
    out->kind = n == 3 ? kind : 0;
    return (n == 2 || (n == 3 && (kind == '+' || (kind == 'g' && out->out % 2 == 0)))) &&
           out->in >= 1 && out->in <= DIM_MAX && out->out >= 1 && out->out <= DIM_MAX;
}

// Returns -1 to go on, or the exit code.
static int parse(int argc, char **argv, struct settings *settings, struct matrix *matrices,
                 int *n_matrices) {
    const char *precision = "stored", *dtype = "f32", *rows = "1,2,4,8,16,32,64,128,256,512";
    const char *positional[MATRICES_MAX] = {NULL};
    const struct flag flags[] = {
        flag_text("precision", &precision, "NAME",
                  "of products: stored, bf16, int8 or q4; default stored"),
        flag_text("dtype", &dtype, "NAME",
                  "of the weights that are packed: f32, f16 or bf16; default f32"),
        flag_u32("threads", &settings->n_threads, 1, 256, "N", "default 2"),
        flag_text("rows", &rows, "N,N,...", "default 1,2,4,...,512"),
        flag_real("seconds", &settings->seconds, 0, 60, "S",
                  "of repeats for each line; default 0.15"),
        {.name = NULL},
    };
    const struct command_line line = {
        .program = "bench_matmul",
        .usage = "[FLAGS] [INPUTS:OUTPUTS[+|g] ...]",
        .about = "Measures matrix products with packed weights; prints CSV.",
        .tables = {flags},
        .n_tables = 1,
        .positional_max = MATRICES_MAX,
    };
    struct error err = {0};
    int choice = 0, code = arguments_parse(&line, argc, argv, positional);
    if (code >= 0) {
        return code;
    }
    if (!precision_find(precision, &settings->precision)) {
        error_set(&err, STATUS_INVALID_ARGUMENT, "--precision",
                  "\"%.80s\" is not one of stored, bf16, int8, q4", precision);
        return arguments_fail(line.program, &err);
    }
    enum status status = arguments_choice("--dtype", dtype, dtype_names, 3, &choice, &err);
    if (status == STATUS_OK) {
        settings->dtype = settings->precision == PRECISION_Q4 ? DTYPE_Q4_1 : (enum dtype)choice;
        status = arguments_numbers("--rows", rows, 1, ROWS_MAX, &settings->rows, &err);
    }
    for (int i = 0; i < MATRICES_MAX && positional[i] != NULL && status == STATUS_OK; ++i) {
        if (!parse_matrix(positional[i], &matrices[i])) {
            status =
                error_set(&err, STATUS_INVALID_ARGUMENT, "MATRIX",
                          "\"%.80s\" is not inputs:outputs, with + or g at most", positional[i]);
        } else if (settings->precision == PRECISION_Q4 && matrices[i].in % Q4_BLOCK_VALUES != 0) {
            status = error_set(&err, STATUS_INVALID_ARGUMENT, "MATRIX",
                               "\"%.80s\": four bits come in blocks of %d inputs", positional[i],
                               Q4_BLOCK_VALUES);
        }
        *n_matrices = i + 1;
    }
    return status == STATUS_OK ? -1 : arguments_fail(line.program, &err);
}

int main(int argc, char **argv) {
    struct settings settings = {.n_threads = 2, .seconds = 0.15};
    struct matrix matrices[MATRICES_MAX];
    int n_matrices = 0;
    struct error err = {0};
    struct backend *backend = NULL;
    struct machine machine;
    int code = parse(argc - 1, argv + 1, &settings, matrices, &n_matrices);
    if (code >= 0) {
        return code;
    }
    if (n_matrices == 0) {
        memcpy(matrices, usual, sizeof(usual));
        n_matrices = USUAL;
    }
    if (backend_create("cpu", (int)settings.n_threads, &backend, &err) != STATUS_OK) {
        return arguments_fail("bench_matmul", &err);
    }
    machine_measure((int)settings.n_threads, &machine);
    machine_print(&machine, stdout);
    puts("isa,precision,dtype,threads,matrix,rows,median_us,spread_percent,gops,peak_percent,"
         "weight_gbs,read_percent");
    for (int i = 0; i < n_matrices; ++i) {
        if (measure(backend, &settings, &machine, &matrices[i]) != STATUS_OK) {
            error_set(&err, STATUS_NO_MEMORY, NULL, "no memory for %d x %d", matrices[i].in,
                      matrices[i].out);
            backend_destroy(backend);
            return arguments_fail("bench_matmul", &err);
        }
    }
    backend_destroy(backend);
    return 0;
}
