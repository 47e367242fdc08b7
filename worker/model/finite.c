#include "worker/model/finite.h"

#include <string.h>

enum { CHUNK = 4096 }; // elements that are judged together before one is looked for

// An exponent of ones marks infinities and NaN in all three types (IEEE 754, section 3.4; bfloat16
// is the upper half of binary32). Any such element carries into the top bit.
static bool any_f32(const uint32_t *bits, size_t n) {
    uint32_t found = 0;
    for (size_t i = 0; i < n; i++) {
        found |= (bits[i] & UINT32_C(0x7f800000)) + UINT32_C(0x00800000);
    }
    return (found & UINT32_C(0x80000000)) != 0;
}

static bool any_16(const uint16_t *bits, size_t n, uint16_t exponent, uint16_t one) {
    uint16_t found = 0;
    for (size_t i = 0; i < n; i++) {
        found |= (uint16_t)((bits[i] & exponent) + one);
    }
    return (found & 0x8000) != 0;
}

// A value is one only where its block's scale or minimum is.
static bool any_q4_1(const unsigned char *blocks, size_t begin, size_t end) {
    bool found = false;
    for (size_t i = begin; i < end; i++) {
        uint16_t pair[2];
        memcpy(pair, blocks + i * Q4_BLOCK_BYTES, sizeof pair);
        found = found || any_16(pair, 2, 0x7c00, 0x0400);
    }
    return found;
}

static bool any_other(const struct tensor *tensor, size_t begin, size_t n) {
    switch (tensor->dtype) {
    case DTYPE_F32:
        return any_f32((const uint32_t *)tensor->data + begin, n);
    case DTYPE_F16:
        return any_16((const uint16_t *)tensor->data + begin, n, 0x7c00, 0x0400);
    case DTYPE_BF16:
        return any_16((const uint16_t *)tensor->data + begin, n, 0x7f80, 0x0080);
    case DTYPE_Q4_1:
        return any_q4_1(tensor->data, begin / Q4_BLOCK_VALUES,
                        (begin + n - 1) / Q4_BLOCK_VALUES + 1);
    }
    return false;
}

int64_t finite_find_other(const struct tensor *tensor) {
    size_t count = (size_t)tensor->rows * (size_t)tensor->cols;
    for (size_t begin = 0; begin < count; begin += CHUNK) {
        size_t n = count - begin < CHUNK ? count - begin : CHUNK;
        if (!any_other(tensor, begin, n)) {
            continue;
        }
        size_t i = begin;
        while (!any_other(tensor, i, 1)) {
            i++;
        }
        return (int64_t)i;
    }
    return -1;
}

enum status finite_check(const struct tensor *tensor, const char *name, struct error *err) {
    int64_t place = finite_find_other(tensor);
    if (place < 0) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_MALFORMED, name,
                     "tensor %s holds NaN or infinity at [%lld, %lld], its first element of that "
                     "kind: the file is damaged, or training diverged",
                     name, (long long)(place / tensor->cols), (long long)(place % tensor->cols));
}
