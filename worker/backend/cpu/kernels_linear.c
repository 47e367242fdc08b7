// Matrix product of activations and weights, out = x weight^T + bias, for one thread's share. With
// many rows, a chunk of eight weight rows is widened once into a buffer in the order in which the
// tiles read it, and stays in the first-level cache while all rows pass; partial sums rest in
// scratch between chunks. With few rows the weights are read where they lie, because reading them
// once is then all the work. Both ways add the same products in the same order.
#include "worker/backend/cpu/kernels_private.h"

#include "worker/backend/cpu/simd.h"

// The compiler would otherwise fold the load into each use and read a weight once per row.
#if defined(__x86_64__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define KEEP_IN_REGISTER(v) (void)(v)
#endif

// From this many rows on, widening into the buffer pays.
enum { PACKED_ROWS_MIN = 4 };

// Partial sums of one row and eight outputs.
struct row_sums {
    float lane[LINEAR_OUTPUTS][LANES];
};

struct linear_scratch {
    _Alignas(64) float packed[LINEAR_CHUNK / LANES][LINEAR_OUTPUTS][LANES];
    struct row_sums sums[LINEAR_ROWS_BLOCK];
};
_Static_assert(sizeof(struct linear_scratch) <= KERNEL_SCRATCH_BYTES, "scratch too small");

static float widen_one(const void *values, enum dtype dtype, int32_t index) {
    return vector_load_part_as((const char *)values + (size_t)index * dtype_bytes(dtype), 1,
                               dtype)[0];
}

// Bias and store of up to eight outputs of one row.
INLINE void store_outputs(const struct linear_args *args, int32_t row, int32_t out, int32_t n,
                          vector_8f values) {
    float *to = args->out + (size_t)row * args->out_stride + out;
    if (args->bias != NULL) {
        for (int32_t i = 0; i < n; ++i) {
            values[i] += widen_one(args->bias, args->bias_dtype, out + i);
        }
    }
    if (n == LINEAR_OUTPUTS) {
        memcpy(to, &values, sizeof(values));
    } else {
        memcpy(to, &values, (size_t)n * 4);
    }
}

// Widens inputs [begin, begin + n) of eight weight rows. Rows past out_dim repeat the last one;
// their results are dropped. Inputs past the end become zeros, which change no sum.
INLINE void pack_rows(float packed[][LINEAR_OUTPUTS][LANES], const struct linear_args *args,
                      int32_t out, int32_t begin, int32_t n, enum dtype dtype) {
    size_t size = dtype_bytes(dtype);
    for (int32_t i = 0; i < LINEAR_OUTPUTS; ++i) {
        int32_t row = out + i < args->out_dim ? out + i : args->out_dim - 1;
        const char *from = (const char *)args->weight + ((size_t)row * args->in_dim + begin) * size;
        int32_t k = 0;
        for (; k + WIDTH <= n; k += WIDTH) {
            vector_store(&packed[k / LANES][i][k % LANES], vector_load_as(from + k * size, dtype));
        }
        if (k < n) {
            vector_store(&packed[k / LANES][i][k % LANES],
                         vector_load_part_as(from + k * size, n - k, dtype));
            k += WIDTH;
        }
        for (; k % LANES != 0; k += WIDTH) {
            vector_store(&packed[k / LANES][i][k % LANES], (vector_f){0});
        }
    }
}

static void pack(float packed[][LINEAR_OUTPUTS][LANES], const struct linear_args *args, int32_t out,
                 int32_t begin, int32_t n) {
    switch (args->dtype) {
    case DTYPE_F32:
        pack_rows(packed, args, out, begin, n, DTYPE_F32);
        break;
    case DTYPE_F16:
        pack_rows(packed, args, out, begin, n, DTYPE_F16);
        break;
    case DTYPE_BF16:
        pack_rows(packed, args, out, begin, n, DTYPE_BF16);
        break;
    }
}

// Where a tile takes its inputs from and what stays of it.
struct tile_step {
    const float *x; // first row, at the chunk's first input
    size_t x_stride;
    const float (*packed)[LINEAR_OUTPUTS][LANES];
    int32_t n;  // inputs in this chunk
    bool first; // sums start at zero instead of at `sums`
    struct row_sums *sums;
};

#if defined(__AVX512F__)

// With 32 registers a whole tile of rows x 8 sums stays in them.
INLINE void tile(const struct tile_step *step, int rows, vector_8f out[LINEAR_TILE_ROWS],
                 bool last) {
    vector_f sums[LINEAR_TILE_ROWS][LINEAR_OUTPUTS];
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 8
        for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
            sums[r][o] = step->first ? (vector_f){0} : vector_load(step->sums[r].lane[o]);
        }
    }
    const float *x = step->x;
    int32_t whole = step->n / LANES;
    for (int32_t s = 0; s < whole; ++s, x += LANES) {
        vector_f inputs[LINEAR_TILE_ROWS];
#pragma GCC unroll 3
        for (int r = 0; r < rows; ++r) {
            inputs[r] = vector_load(x + r * step->x_stride);
        }
#pragma GCC unroll 8
        for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
            vector_f w = vector_load(step->packed[s][o]);
            KEEP_IN_REGISTER(w);
#pragma GCC unroll 3
            for (int r = 0; r < rows; ++r) {
                sums[r][o] = vector_fma(inputs[r], w, sums[r][o]);
            }
        }
    }
    if (step->n % LANES != 0) {
#pragma GCC unroll 3
        for (int r = 0; r < rows; ++r) {
            vector_f input = vector_load_part(x + r * step->x_stride, step->n % LANES);
#pragma GCC unroll 8
            for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
                sums[r][o] = vector_fma(input, vector_load(step->packed[whole][o]), sums[r][o]);
            }
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; ++r) {
        if (!last) {
#pragma GCC unroll 8
            for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
                vector_store(step->sums[r].lane[o], sums[r][o]);
            }
            continue;
        }
        vector_8f folded[LINEAR_OUTPUTS];
#pragma GCC unroll 8
        for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
            folded[o] = fold_16(&sums[r][o]);
        }
        out[r] = fold_8x8(folded);
    }
}

#else

// Sixteen registers hold rows x 4 sums of one part of the lanes; the parts and output halves follow
// each other over the same chunk, and the sums meet in scratch.
enum { HALF = LINEAR_OUTPUTS / 2 };

INLINE void tile_quarter(const struct tile_step *step, int rows, int part, int half) {
    vector_f sums[LINEAR_TILE_ROWS][HALF];
    int lane = part * WIDTH, output = half * HALF;
#pragma GCC unroll 3
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int o = 0; o < HALF; ++o) {
            sums[r][o] =
                step->first ? (vector_f){0} : vector_load(&step->sums[r].lane[output + o][lane]);
        }
    }
    const float *x = step->x + lane;
    int32_t whole = step->n / LANES;
    for (int32_t s = 0; s < whole; ++s, x += LANES) {
        vector_f inputs[LINEAR_TILE_ROWS];
#pragma GCC unroll 3
        for (int r = 0; r < rows; ++r) {
            inputs[r] = vector_load(x + r * step->x_stride);
        }
#pragma GCC unroll 4
        for (int o = 0; o < HALF; ++o) {
            vector_f w = vector_load(&step->packed[s][output + o][lane]);
            KEEP_IN_REGISTER(w);
#pragma GCC unroll 3
            for (int r = 0; r < rows; ++r) {
                sums[r][o] = vector_fma(inputs[r], w, sums[r][o]);
            }
        }
    }
    int32_t rest = step->n % LANES - lane;
    if (rest > 0) {
        rest = rest < WIDTH ? rest : WIDTH;
        for (int r = 0; r < rows; ++r) {
            vector_f input = vector_load_part(x + r * step->x_stride, rest);
            for (int o = 0; o < HALF; ++o) {
                sums[r][o] = vector_fma(input, vector_load(&step->packed[whole][output + o][lane]),
                                        sums[r][o]);
            }
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (int o = 0; o < HALF; ++o) {
            vector_store(&step->sums[r].lane[output + o][lane], sums[r][o]);
        }
    }
}

INLINE void tile(const struct tile_step *step, int rows, vector_8f out[LINEAR_TILE_ROWS],
                 bool last) {
    for (int part = 0; part < PARTS; ++part) {
        for (int half = 0; half < 2; ++half) {
            tile_quarter(step, rows, part, half);
        }
    }
    for (int r = 0; last && r < rows; ++r) {
        vector_8f folded[LINEAR_OUTPUTS];
        for (int o = 0; o < LINEAR_OUTPUTS; ++o) {
            vector_f parts[PARTS];
            memcpy(parts, step->sums[r].lane[o], sizeof(parts));
            folded[o] = fold_16(parts);
        }
        out[r] = fold_8x8(folded);
    }
}

#endif

INLINE void run_tile(const struct linear_args *args, const struct tile_step *step, int rows,
                     int32_t row, int32_t out, bool last) {
    vector_8f results[LINEAR_TILE_ROWS];
    if (!last) {
        tile(step, rows, results, false);
        return;
    }
    tile(step, rows, results, true);
    int32_t n = args->out_dim - out < LINEAR_OUTPUTS ? args->out_dim - out : LINEAR_OUTPUTS;
    for (int r = 0; r < rows; ++r) {
        store_outputs(args, row + r, out, n, results[r]);
    }
}

// One chunk of inputs, eight outputs, rows [row_begin, row_end).
static void linear_chunk(const struct linear_args *args, int32_t row_begin, int32_t row_end,
                         int32_t out, int32_t begin, struct linear_scratch *scratch) {
    int32_t left = args->in_dim - begin;
    struct tile_step step = {
        .x_stride = (size_t)args->in_dim,
        .packed = (const float(*)[LINEAR_OUTPUTS][LANES])scratch->packed,
        .n = left < LINEAR_CHUNK ? left : LINEAR_CHUNK,
        .first = begin == 0,
    };
    bool last = left <= LINEAR_CHUNK;
    for (int32_t row = row_begin; row < row_end; row += LINEAR_TILE_ROWS) {
        step.x = args->x + (size_t)row * args->in_dim + begin;
        step.sums = scratch->sums + (row - row_begin);
        switch (row_end - row) {
        case 1:
            run_tile(args, &step, 1, row, out, last);
            break;
        case 2:
            run_tile(args, &step, 2, row, out, last);
            break;
        default:
            run_tile(args, &step, 3, row, out, last);
            break;
        }
    }
}

// A tile reads weight rows in place. OUTPUTS_DIRECT sums and as many streams of memory at once.
enum { OUTPUTS_DIRECT = WIDTH == 16 ? 8 : 4 };

INLINE void direct_sums(const struct linear_args *args, const float *x, int32_t out,
                        enum dtype dtype, vector_8f *folded) {
    size_t size = dtype_bytes(dtype);
    const char *weights[OUTPUTS_DIRECT];
    vector_f sums[OUTPUTS_DIRECT][PARTS] = {0};
    for (int o = 0; o < OUTPUTS_DIRECT; ++o) {
        int32_t row = out + o < args->out_dim ? out + o : args->out_dim - 1;
        weights[o] = (const char *)args->weight + (size_t)row * args->in_dim * size;
    }
    int32_t k = 0;
    for (; k + LANES <= args->in_dim; k += LANES) {
#pragma GCC unroll 4
        for (int p = 0; p < PARTS; ++p) {
            vector_f input = vector_load(x + k + p * WIDTH);
#pragma GCC unroll 8
            for (int o = 0; o < OUTPUTS_DIRECT; ++o) {
                vector_f w = vector_load_as(weights[o] + (size_t)(k + p * WIDTH) * size, dtype);
                sums[o][p] = vector_fma(input, w, sums[o][p]);
            }
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < PARTS; ++p) {
        int32_t at = k + p * WIDTH;
        int32_t rest = args->in_dim - at < WIDTH ? args->in_dim - at : WIDTH;
        if (rest <= 0) {
            break;
        }
        vector_f input = vector_load_part(x + at, rest);
#pragma GCC unroll 8
        for (int o = 0; o < OUTPUTS_DIRECT; ++o) {
            vector_f w = vector_load_part_as(weights[o] + (size_t)at * size, rest, dtype);
            sums[o][p] = vector_fma(input, w, sums[o][p]);
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < OUTPUTS_DIRECT; ++o) {
        folded[o] = fold_16(sums[o]);
    }
}

INLINE void linear_direct(const struct linear_args *args, int32_t row_begin, int32_t row_end,
                          int32_t out_begin, int32_t out_end, enum dtype dtype) {
    for (int32_t out = out_begin; out < out_end; out += LINEAR_OUTPUTS) {
        int32_t n = out_end - out < LINEAR_OUTPUTS ? out_end - out : LINEAR_OUTPUTS;
        for (int32_t row = row_begin; row < row_end; ++row) {
            vector_8f folded[LINEAR_OUTPUTS] = {0};
            const float *x = args->x + (size_t)row * args->in_dim;
            for (int32_t o = 0; o < n; o += OUTPUTS_DIRECT) {
                direct_sums(args, x, out + o, dtype, folded + o);
            }
            store_outputs(args, row, out, n, fold_8x8(folded));
        }
    }
}

void KERNEL(linear)(const struct linear_args *args, int32_t row_begin, int32_t row_end,
                    int32_t out_begin, int32_t out_end, void *memory) {
    struct linear_scratch *scratch = memory;
    if (row_end - row_begin < PACKED_ROWS_MIN) {
        switch (args->dtype) {
        case DTYPE_F32:
            linear_direct(args, row_begin, row_end, out_begin, out_end, DTYPE_F32);
            return;
        case DTYPE_F16:
            linear_direct(args, row_begin, row_end, out_begin, out_end, DTYPE_F16);
            return;
        case DTYPE_BF16:
            linear_direct(args, row_begin, row_end, out_begin, out_end, DTYPE_BF16);
            return;
        }
    }
    // Partial sums are kept only between chunks, so that a single chunk takes all rows at once. The
    // AVX2 and portable tiles pass their sums through scratch in any case.
    int32_t block = LINEAR_ROWS_BLOCK;
    if ((int)WIDTH == (int)LANES && args->in_dim <= LINEAR_CHUNK) {
        block = row_end - row_begin;
    }
    for (int32_t out = out_begin; out < out_end; out += LINEAR_OUTPUTS) {
        for (int32_t row = row_begin; row < row_end; row += block) {
            int32_t end = row_end - row < block ? row_end : row + block;
            for (int32_t k = 0; k < args->in_dim; k += LINEAR_CHUNK) {
                int32_t left = args->in_dim - k;
                pack(scratch->packed, args, out, k, left < LINEAR_CHUNK ? left : LINEAR_CHUNK);
                linear_chunk(args, row, end, out, k, scratch);
            }
        }
    }
}
