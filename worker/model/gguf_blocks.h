// The tensor types of GGUF files that can be read, and their values. A quantised type cuts a row
// into blocks of equal length; a block holds small integers and scales, from which its values are
// computed in f32 in the order in which the ggml project's reference does it (its ggml-quants.c,
// dequantize_row_*): the same bits. No state; any thread.
#ifndef WORKER_MODEL_GGUF_BLOCKS_H
#define WORKER_MODEL_GGUF_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GGUF_BLOCK_VALUES_MAX = 256 };

struct gguf_block_type {
    const char *name; // "Q4_K"
    uint32_t number;  // in files
    int32_t values;   // of a block; 1: not quantised
    int32_t bytes;    // of a block
    // Writes the block's `values`; NULL for types that are not quantised.
    void (*widen)(const unsigned char *block, float *out);
    // Writes the same values as a block of Q4_1, 20 bytes; false where its minimum has no f16. NULL
    // for types that are not four bits with a scale of their own for 32 values.
    bool (*to_q4_1)(const unsigned char *block, unsigned char *out);
};

// NULL for a type that cannot be read.
const struct gguf_block_type *gguf_block_type_find(uint32_t number);

// Name of a type that is known to the format, readable or not; "unknown" for any other number.
const char *gguf_type_name(uint32_t number);

#endif
