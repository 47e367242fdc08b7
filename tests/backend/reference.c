#include "tests/backend/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/support/testkit.h"
#include "worker/backend/cpu/cpu.h"

const char *const reference_isas[REFERENCE_ISAS] = {"avx512amx", "avx512bf16", "avx512vnni",
                                                    "avx512",    "avx2",       "generic"};

struct backend *reference_backend(const char *isa, int n_threads) {
    struct backend *backend = NULL;
    struct error err = {0};
    setenv("SUREFOOT_CPU_ISA", isa, 1);
    enum status status = backend_create("cpu", n_threads, &backend, &err);
    unsetenv("SUREFOOT_CPU_ISA");
    if (status == STATUS_UNSUPPORTED) {
        print_message("skipping %s: %s\n", isa, err.message);
        return NULL;
    }
    assert_ok(status, &err);
    assert_string_equal(isa, cpu_backend_isa(backend));
    return backend;
}

void reference_fill(float *values, size_t n, uint64_t seed) {
    for (size_t i = 0; i < n; ++i) {
        values[i] = (float)(2 * rng_uniform(seed, i, 0, 0) - 1);
    }
}

uint16_t reference_to_bf16(float value) {
    if (isnan(value)) {
        return 0x7fff;
    }
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double reference_from_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

double reference_from_f16(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 0    ? ldexp(fraction, -24)
                   : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                    : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -value : value;
}

uint16_t reference_to_f16(float value) {
    if (isnan(value)) {
        return 0x7fff;
    }
    // Values here are far below 65504; scan for the nearest magnitude by bisection over patterns.
    double magnitude = fabs((double)value);
    uint16_t low = 0, high = 0x7bff;
    while (low < high) {
        uint16_t middle = (uint16_t)((low + high + 1) / 2);
        if (reference_from_f16(middle) <= magnitude) {
            low = middle;
        } else {
            high = (uint16_t)(middle - 1);
        }
    }
    double below = magnitude - reference_from_f16(low);
    double above = reference_from_f16((uint16_t)(low + 1)) - magnitude;
    if (above < below || (above == below && low % 2 == 1)) {
        low += 1;
    }
    return (uint16_t)(low | (signbit(value) ? 0x8000 : 0));
}

void *reference_encode(const float *values, size_t n, enum dtype dtype) {
    char *out = malloc(n * dtype_bytes(dtype) + 1);
    for (size_t i = 0; i < n; ++i) {
        if (dtype == DTYPE_F32) {
            memcpy(out + 4 * i, &values[i], 4);
            continue;
        }
        uint16_t bits =
            dtype == DTYPE_F16 ? reference_to_f16(values[i]) : reference_to_bf16(values[i]);
        memcpy(out + 2 * i, &bits, 2);
    }
    return out;
}

double reference_decode(const void *values, size_t index, enum dtype dtype) {
    if (dtype == DTYPE_F32) {
        float value;
        memcpy(&value, (const char *)values + 4 * index, 4);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, (const char *)values + 2 * index, 2);
    return dtype == DTYPE_F16 ? reference_from_f16(bits) : reference_from_bf16(bits);
}

double reference_dot(const float *x, const void *weight, enum dtype dtype, size_t begin, int32_t n,
                     double *magnitude) {
    double sum = 0;
    *magnitude = 0;
    for (int32_t k = 0; k < n; ++k) {
        double product = x[k] * reference_decode(weight, begin + (size_t)k, dtype);
        sum += product;
        *magnitude += fabs(product);
    }
    return sum;
}
