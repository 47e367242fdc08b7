// One element of a tensor's data as f32.
#ifndef WORKER_MODEL_ELEMENT_H
#define WORKER_MODEL_ELEMENT_H

#include <stddef.h>
#include <string.h>

#include "worker/backend/backend.h"
#include "worker/model/f16.h"

static inline float element_to_f32(const void *data, enum dtype dtype, size_t index) {
    if (dtype == DTYPE_F32) {
        return ((const float *)data)[index];
    }
    uint16_t bits = ((const uint16_t *)data)[index];
    if (dtype == DTYPE_F16) {
        return f16_to_f32(bits);
    }
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

// Nearest even; what is no number stays that.
static inline uint16_t element_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) {
        return (uint16_t)(bits >> 16 | 0x40);
    }
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Names of the dtypes as files write them; false for any other.
static inline bool element_find_dtype(const char *name, enum dtype *out) {
    static const char *const names[] = {"F32", "F16", "BF16"}; // order of enum dtype
    for (enum dtype dtype = DTYPE_F32; dtype <= DTYPE_BF16; dtype++) {
        if (strcmp(name, names[dtype]) == 0) {
            *out = dtype;
            return true;
        }
    }
    return false;
}

#endif
