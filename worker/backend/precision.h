// How a model computes its products, and the names by which users choose.
#ifndef WORKER_BACKEND_PRECISION_H
#define WORKER_BACKEND_PRECISION_H

#include <stdbool.h>

enum precision {
    PRECISION_STORED, // weights as the file stores them, f32 activations and sums
    PRECISION_BF16,   // weights and activations rounded to bf16, f32 sums
    PRECISION_INT8,   // weights and activations in 8 bits with a scale per group of inputs
};
enum { PRECISION_COUNT = 3 };

const char *precision_name(enum precision precision); // "stored", "bf16", "int8"
// False when no precision has this name.
bool precision_find(const char *name, enum precision *out);

#endif
