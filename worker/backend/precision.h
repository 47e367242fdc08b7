// How a model computes its products and keeps its keys and values, and the names by which users
// choose.
#ifndef WORKER_BACKEND_PRECISION_H
#define WORKER_BACKEND_PRECISION_H

#include <stdbool.h>

enum precision {
    PRECISION_STORED, // weights as the file stores them, f32 activations and sums
    PRECISION_BF16,   // weights and activations rounded to bf16, f32 sums
    PRECISION_INT8,   // weights and activations in 8 bits, spread over groups that share a scale
    PRECISION_Q4, // weights in the 4 bits of their file, activations in 8; int8 where it has more
};
enum { PRECISION_COUNT = 4 };

const char *precision_name(enum precision precision); // "stored", "bf16", "int8", "q4"
// False when no precision has this name.
bool precision_find(const char *name, enum precision *out);

// How keys and values are kept. f32 is exact, f16 and bf16 are rounded when they are stored; int8
// has a scale for each token and head. Where the CPU has dot products of bf16 pairs, bf16 rounds
// queries and attention weights too; int8 rounds them to 8 bits everywhere.
enum kv_dtype { KV_F32, KV_F16, KV_BF16, KV_INT8 };
enum { KV_DTYPES = 4 };

const char *kv_dtype_name(enum kv_dtype dtype); // "f32", "f16", "bf16", "int8"
// False when no format has this name.
bool kv_dtype_find(const char *name, enum kv_dtype *out);

#endif
