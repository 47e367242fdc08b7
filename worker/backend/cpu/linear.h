// Products of rows with packed weights: what the per-format kernels and their caller agree on.
//
// A matrix is packed in panels of as many outputs as a tile is wide, each a single stream in the
// order in which a tile reads it. Rows are packed in tiles of nearly equal height and in lines of
// 64 bytes, in the form in which the format multiplies them; a tile broadcasts one unit, 4 bytes of
// one row, at a time. Every output is one sum that takes its inputs in ascending order, so that
// tile, chunk, batch and thread change no bit of it. With AMX, one of LINEAR_BF16_ROUNDED takes
// them 32 at a time, a line: the sum of those at even places and that of those at odd ones, each in
// ascending order by fused multiply-add, and then their sum (Intel SDM, TDPBF16PS).
//
// Before a group of LINEAR_INT8 is rounded it is spread: weights become H w and rows H x / size, H
// the symmetric matrix of 1 and -1 with H H = size (Sylvester's Hadamard matrix; the transform by
// its butterflies). The product stays what it was, and a value that outgrows its group, which would
// set the step of all others, adds a little to each instead (Ashkboos et al. 2024, section 4).
//
// LINEAR_Q4 keeps the four bits, scales and minima of the file: of each group of 32 inputs the sum
// of q times the rounded row is whole and exact; what the minima add is the minimum times the
// group's sum of rounded inputs. Both join an output's sum by fused multiply-additions, in this
// order.
#ifndef WORKER_BACKEND_CPU_LINEAR_H
#define WORKER_BACKEND_CPU_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINE_BYTES = 64,
    LINE_UNITS = LINE_BYTES / 4,
    LINEAR_PANEL_MAX = 32, // outputs of the widest panel
    LINEAR_ROWS_MAX = 256, // rows that pass over the weights together
    INT8_GROUP = 128,      // inputs that are spread together and share a scale
    INT8_STEP = 64,        // inputs are filled up with zeros to a multiple; a last, smaller group
    Q4_GROUP = 32,         // inputs that share a scale and a minimum
    Q4_STEP = 64,          // inputs are filled up with zeros to a multiple: two groups, one line
    Q4_STEP_SCALES = 4,    // of a row: scale, and scale times sum, of both groups
};

// How weights are laid out, and how rows are rounded.
enum linear_format {
    LINEAR_F32,          // [inputs][panel] f32
    LINEAR_F16,          // [inputs][panel] f16
    LINEAR_BF16,         // [inputs / 2][panel] of two bf16, the earlier input in the upper half
    LINEAR_BF16_ROUNDED, // the same, and rows are rounded to bf16
    // Groups of: [panel] of the scale (bf16, upper half) and the negated sum (int16) of an output's
    // weights, then [inputs / 4][panel][4] int8. Rows are rounded to int8 with a scale per group.
    LINEAR_INT8,
    // Groups of: [panel] scales (f16), [panel] minima (f16), then [inputs / 4][panel / 2][4] bytes
    // whose low halves are weights of the panel's first half, the upper ones of its second. Rows
    // are rounded to int8 with a scale per group.
    LINEAR_Q4,
    LINEAR_FORMAT_COUNT
};

// One tile of rows over one chunk of a panel.
struct linear_tile {
    float *sums;           // [height, panel], read unless `first`, written
    const char *weights;   // the chunk
    const char *x;         // [n_lines, height, LINE_BYTES]
    const float *x_scales; // [n_groups, height] of LINEAR_INT8, [n_steps, height, 4] of LINEAR_Q4
    const char *prefetch;  // weights that will be wanted, this much further on with each unit
    size_t prefetch_step;  // bytes
    int32_t n_lines;
    int32_t height; // rows
    bool first;     // of the panel's chunks
};

// Rows [begin, end) of a tile on their way into lines; what is past `cols` becomes zero.
struct linear_rows {
    const float *x; // [height, cols]
    char *lines;    // [n_lines, height, LINE_BYTES]
    float *scales;  // as x_scales above
    int32_t cols;
    int32_t n_lines;
    int32_t height;
    int32_t begin;
    int32_t end;
};

struct linear_kernel {
    int32_t line_inputs; // inputs of a row in one line
    int32_t tile_rows;   // rows of the highest tile
    void (*pack)(const struct linear_rows *rows);
    void (*tile)(const struct linear_tile *tile);
    // Of LINEAR_INT8: multiplies a group, INT8_GROUP or INT8_STEP values, by H / size, in place.
    void (*spread)(float *values, int32_t size);
    // For kernels that set up registers for a height (NULL: none to set up), which takes as long as
    // several products of them: a thread enters before a tile of another height than the last, and
    // leaves after the last one.
    void (*enter)(int32_t height);
    void (*leave)(void);
};

// What becomes of finished sums.
enum linear_store {
    LINEAR_STORE,  // out = sum
    LINEAR_STREAM, // the same past the caches; each row's outputs begin at a line
    LINEAR_ADD,    // out += sum
    LINEAR_GATE, // out = silu(gate) * up; a panel's first half are gates, its second half their ups
};

struct linear_finish {
    const float *sums; // [height, panel]
    const float *bias; // [panel], added first; NULL
    float *out;        // [height, n_outputs], rows out_stride apart
    int32_t out_stride;
    int32_t height;
    int32_t n_outputs; // of the panel's that exist; a gate and its up are one
    enum linear_store store;
};

struct linear_kernels {
    int32_t panel; // outputs of a panel
    const struct linear_kernel *formats[LINEAR_FORMAT_COUNT];
    void (*finish)(const struct linear_finish *finish);
};

#endif
