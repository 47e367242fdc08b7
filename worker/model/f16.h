// IEEE 754 half precision to single, exactly.
#ifndef WORKER_MODEL_F16_H
#define WORKER_MODEL_F16_H

#include <math.h>
#include <stdint.h>

static inline float f16_to_f32(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    int fraction = bits & 1023;
    float value = exponent == 0    ? ldexpf((float)fraction, -24)
                  : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                   : ldexpf((float)(fraction | 1024), exponent - 25);
    return bits & 0x8000 ? -value : value;
}

#endif
