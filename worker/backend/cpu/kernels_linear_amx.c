// Product tiles of LINEAR_INT8 and LINEAR_BF16_ROUNDED with Intel AMX. A tile of up to 32 rows and
// 32 outputs has its sums in four registers, by halves of both; a line of every row is multiplied
// by the weights that it meets, 16 units of either half of the panel, as they lie.
//
// int8: a group's products are summed exactly and joined as everywhere: the same bits as with every
// other instruction set. bf16: 32 inputs at a time, see linear.h, so that results differ from
// those of other instruction sets, and a row must come here however low its tile is.
#include "worker/backend/cpu/amx_tile.h"
#include "worker/backend/cpu/kernels_linear.h"

enum {
    HALF_ROWS = AMX_ROWS_MAX,
    ROW_STRIDE = LINE_BYTES, // of packed rows, of one line
    UNIT_STRIDE = PANEL * 4, // of weights; as large as a row of sums
    LINE_WEIGHTS = LINE_UNITS * UNIT_STRIDE,
    GROUP_LINES = INT8_GROUP / LINE_BYTES,
    GROUP_BYTES = UNIT_STRIDE + GROUP_LINES * LINE_WEIGHTS,
    // Tiles of int8 up to this height wait for memory in either form, and the vectors' form has no
    // way through memory from sums to results. Not measured.
    VECTOR_ROWS_MAX = 4,
};

// The registers: sums of the first 16 rows and both halves of the panel, of the other rows; rows;
// weights. The numbers stand for themselves below.
enum { SUMS = 0, ROWS = 4, WEIGHTS = 6 };

static void shape(struct amx_config *config, int tile, int32_t rows) {
    config->rows[tile] = (uint8_t)rows;
    config->row_bytes[tile] = rows > 0 ? AMX_ROW_BYTES_MAX : 0;
}

static void enter(int32_t height) {
    struct amx_config config = {.palette = AMX_PALETTE};
    for (int half = 0; half < 2; ++half) {
        int32_t left = height - half * HALF_ROWS;
        int32_t rows = left < 0 ? 0 : left < HALF_ROWS ? left : HALF_ROWS;
        shape(&config, SUMS + 2 * half, rows);
        shape(&config, SUMS + 2 * half + 1, rows);
        shape(&config, ROWS + half, rows);
        shape(&config, WEIGHTS + half, LINE_UNITS);
    }
    AMX_CONFIGURE(&config);
}

static void leave(void) {
    AMX_RELEASE();
}

INLINE void zero_sums(bool high) {
    AMX_ZERO(0);
    AMX_ZERO(1);
    if (high) {
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
}

INLINE void read_sums(const void *from, bool high) {
    const char *at = from;
    AMX_LOAD(0, at, UNIT_STRIDE);
    AMX_LOAD(1, at + LINE_BYTES, UNIT_STRIDE);
    if (high) {
        at += HALF_ROWS * UNIT_STRIDE;
        AMX_LOAD(2, at, UNIT_STRIDE);
        AMX_LOAD(3, at + LINE_BYTES, UNIT_STRIDE);
    }
}

INLINE void write_sums(void *to, bool high) {
    char *at = to;
    AMX_STORE(0, at, UNIT_STRIDE);
    AMX_STORE(1, at + LINE_BYTES, UNIT_STRIDE);
    if (high) {
        at += HALF_ROWS * UNIT_STRIDE;
        AMX_STORE(2, at, UNIT_STRIDE);
        AMX_STORE(3, at + LINE_BYTES, UNIT_STRIDE);
    }
}

// sums += rows . weights by the instruction of `format`, a constant of each call.
#define DOT(sums, rows, weights)                                                                   \
    do {                                                                                           \
        if (format == LINEAR_INT8) {                                                               \
            AMX_DOT_INT8(sums, rows, weights);                                                     \
        } else {                                                                                   \
            AMX_DOT_BF16(sums, rows, weights);                                                     \
        }                                                                                          \
    } while (0)

INLINE void multiply_line(const char *w, const char *x, bool high, enum linear_format format) {
    AMX_LOAD(4, x, ROW_STRIDE);
    AMX_LOAD(6, w, UNIT_STRIDE);
    AMX_LOAD(7, w + LINE_BYTES, UNIT_STRIDE);
    DOT(0, 4, 6);
    DOT(1, 4, 7);
    if (high) {
        AMX_LOAD(5, x + HALF_ROWS * ROW_STRIDE, ROW_STRIDE);
        DOT(2, 5, 6);
        DOT(3, 5, 7);
    }
}

// What n_units of the tile's units are to fetch; returns where the next ones begin.
INLINE const char *prefetch(const struct linear_tile *tile, const char *soon, int n_units) {
    size_t bytes = (size_t)n_units * tile->prefetch_step;
    prefetch_unit(soon, bytes);
    return soon + bytes;
}

INLINE void tile_bf16_rows(const struct linear_tile *tile, bool high) {
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    if (tile->first) {
        zero_sums(high);
    } else {
        read_sums(tile->sums, high);
    }
    for (int32_t line = 0; line < tile->n_lines; ++line) {
        multiply_line(w, x, high, LINEAR_BF16_ROUNDED);
        soon = prefetch(tile, soon, LINE_UNITS);
        w += LINE_WEIGHTS;
        x += tile->height * LINE_BYTES;
    }
    write_sums(tile->sums, high);
}

static UNCHECKED void tile_bf16(const struct linear_tile *tile) {
    if (tile->height > HALF_ROWS) {
        tile_bf16_rows(tile, true);
    } else {
        tile_bf16_rows(tile, false);
    }
}

// Takes a group's sums into those of the tile.
INLINE void join_group(const struct linear_tile *tile, const int32_t *group_sums, int32_t group) {
    const char *header = tile->weights + (size_t)group * GROUP_BYTES;
    const float *x_scales = tile->x_scales + group * tile->height;
    bool first = tile->first && group == 0;
    vector_f w_scales[2];
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
        w_scales[v] = (vector_f)((vector_i)vector_load(header + v * LINE_BYTES) & ~0xffff);
    }
    for (int32_t r = 0; r < tile->height; ++r) {
#pragma GCC unroll 2
        for (int v = 0; v < 2; ++v) {
            float *to = tile->sums + r * PANEL + v * WIDTH;
            vector_i whole = (vector_i)vector_load(group_sums + r * PANEL + v * WIDTH);
            vector_f scale = w_scales[v] * x_scales[r];
            vector_f product = __builtin_convertvector(whole, vector_f) * scale;
            vector_store(to, first ? product : vector_load(to) + product);
        }
    }
}

INLINE void tile_int8_rows(const struct linear_tile *tile, bool high) {
    _Alignas(LINE_BYTES) int32_t group_sums[2 * HALF_ROWS * PANEL];
    const char *w = tile->weights, *x = tile->x, *soon = tile->prefetch;
    int32_t n_groups = (tile->n_lines + GROUP_LINES - 1) / GROUP_LINES;
    for (int32_t group = 0; group < n_groups; ++group) {
        zero_sums(high);
        w += UNIT_STRIDE;
        soon = prefetch(tile, soon, 1);
        for (int32_t line = group * GROUP_LINES;
             line < (group + 1) * GROUP_LINES && line < tile->n_lines; ++line) {
            multiply_line(w, x, high, LINEAR_INT8);
            soon = prefetch(tile, soon, LINE_UNITS);
            w += LINE_WEIGHTS;
            x += tile->height * LINE_BYTES;
        }
        // The vector units join one group while the tiles multiply the next.
        if (group > 0) {
            join_group(tile, group_sums, group - 1);
        }
        write_sums(group_sums, high);
    }
    join_group(tile, group_sums, n_groups - 1);
}

static UNCHECKED void tile_int8(const struct linear_tile *tile) {
    if (tile->height <= VECTOR_ROWS_MAX) {
        kernel_int8_avx512vnni.tile(tile);
    } else if (tile->height > HALF_ROWS) {
        tile_int8_rows(tile, true);
    } else {
        tile_int8_rows(tile, false);
    }
}

static void pack_bf16(const struct linear_rows *rows) {
    kernel_bf16_rounded_avx512bf16.pack(rows);
}

// The bytes are offset by 128 as the vectors want them, one row after the other taken back while it
// is near.
static void pack_int8(const struct linear_rows *rows) {
    if (rows->height <= VECTOR_ROWS_MAX) {
        kernel_int8_avx512vnni.pack(rows);
        return;
    }
    for (int32_t r = rows->begin; r < rows->end; ++r) {
        struct linear_rows row = *rows;
        row.begin = r;
        row.end = r + 1;
        kernel_int8_avx512vnni.pack(&row);
        char *line = rows->lines + (size_t)r * LINE_BYTES;
        for (int32_t i = 0; i < rows->n_lines; ++i, line += rows->height * LINE_BYTES) {
            vector_i bytes = (vector_i)vector_load(line) ^ (int32_t)0x80808080;
            vector_store(line, (vector_f)bytes);
        }
    }
}

static void spread_int8(float *values, int32_t size) {
    kernel_int8_avx512vnni.spread(values, size);
}

const struct linear_kernel KERNEL(int8) = {
    .line_inputs = LINE_BYTES,
    .tile_rows = 2 * HALF_ROWS,
    .pack = pack_int8,
    .tile = tile_int8,
    .spread = spread_int8,
    .enter = enter,
    .leave = leave,
};

const struct linear_kernel KERNEL(bf16_rounded) = {
    .line_inputs = 2 * LINE_UNITS,
    .tile_rows = 2 * HALF_ROWS,
    .pack = pack_bf16,
    .tile = tile_bf16,
    .enter = enter,
    .leave = leave,
};
