#include "worker/model/gguf_blocks.h"

#include <stddef.h>
#include <string.h>

#include "worker/model/f16.h"

static float read_f16(const unsigned char *bytes) {
    return f16_to_f32((uint16_t)(bytes[0] | bytes[1] << 8));
}

static uint32_t read_u32(const unsigned char *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static int low(unsigned char byte) {
    return byte & 15;
}

static int high(unsigned char byte) {
    return byte >> 4;
}

// Blocks of 32: low halves of 16 bytes are values 0 to 15, high halves 16 to 31.

static void widen_q4_0(const unsigned char *block, float *out) {
    float scale = read_f16(block);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(low(block[2 + i]) - 8) * scale;
        out[i + 16] = (float)(high(block[2 + i]) - 8) * scale;
    }
}

static void widen_q4_1(const unsigned char *block, float *out) {
    float scale = read_f16(block), min = read_f16(block + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)low(block[4 + i]) * scale + min;
        out[i + 16] = (float)high(block[4 + i]) * scale + min;
    }
}

// The minimum of Q4_0 is -8 times its scale.
static bool q4_0_to_q4_1(const unsigned char *block, unsigned char *out) {
    int bits = block[0] | block[1] << 8;
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    for (int doublings = 0; doublings < 3; doublings++) {
        if (exponent > 0) {
            exponent++;
        } else {
            fraction *= 2; // into the exponent's place where it is no longer subnormal
            exponent = fraction >> 10;
            fraction &= 1023;
        }
    }
    int min = ((bits ^ 0x8000) & 0x8000) | exponent << 10 | fraction;
    memcpy(out, block, 2);
    out[2] = (unsigned char)(min & 255);
    out[3] = (unsigned char)(min >> 8 & 255);
    memcpy(out + 4, block + 2, 16);
    return exponent < 31;
}

static bool q4_1_to_q4_1(const unsigned char *block, unsigned char *out) {
    memcpy(out, block, 20);
    return true;
}

// The fifth bits of all 32 values stand apart, in order.
static int fifth(uint32_t bits, int i) {
    return (int)(bits >> i & 1) << 4;
}

static void widen_q5_0(const unsigned char *block, float *out) {
    float scale = read_f16(block);
    uint32_t bits = read_u32(block + 2);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)((low(block[6 + i]) | fifth(bits, i)) - 16) * scale;
        out[i + 16] = (float)((high(block[6 + i]) | fifth(bits, i + 16)) - 16) * scale;
    }
}

static void widen_q5_1(const unsigned char *block, float *out) {
    float scale = read_f16(block), min = read_f16(block + 2);
    uint32_t bits = read_u32(block + 4);
    for (int i = 0; i < 16; i++) {
        out[i] = (float)(low(block[8 + i]) | fifth(bits, i)) * scale + min;
        out[i + 16] = (float)(high(block[8 + i]) | fifth(bits, i + 16)) * scale + min;
    }
}

static void widen_q8_0(const unsigned char *block, float *out) {
    float scale = read_f16(block);
    for (int i = 0; i < 32; i++) {
        out[i] = (float)(int8_t)block[2 + i] * scale;
    }
}

// Blocks of 256 in 8 groups of 32. Scale and minimum of a group have 6 bits each, packed in 12
// bytes: those of the first four groups lie in the low bits of 8 bytes, whose upper two bits are
// the upper ones of the last four groups.
static void group_scale(const unsigned char *packed, int group, int *scale, int *min) {
    if (group < 4) {
        *scale = packed[group] & 63;
        *min = packed[group + 4] & 63;
    } else {
        *scale = low(packed[group + 4]) | packed[group - 4] >> 6 << 4;
        *min = high(packed[group + 4]) | packed[group] >> 6 << 4;
    }
}

// Groups in pairs share 32 bytes: low halves are the first's. `fifths` is NULL or 32 bytes with a
// bit for each group.
static void widen_groups(const unsigned char *block, const unsigned char *fifths,
                         const unsigned char *halves, float *out) {
    float all_scale = read_f16(block), all_min = read_f16(block + 2);
    for (int group = 0; group < 8; group++) {
        int scale, min;
        group_scale(block + 4, group, &scale, &min);
        float d = all_scale * (float)scale, m = all_min * (float)min;
        for (int i = 0; i < 32; i++) {
            unsigned char byte = halves[group / 2 * 32 + i];
            int value = group % 2 == 0 ? low(byte) : high(byte);
            value |= fifths != NULL ? fifth(fifths[i], group) : 0;
            out[group * 32 + i] = d * (float)value - m;
        }
    }
}

static void widen_q4_k(const unsigned char *block, float *out) {
    widen_groups(block, NULL, block + 16, out);
}

static void widen_q5_k(const unsigned char *block, float *out) {
    widen_groups(block, block + 16, block + 48, out);
}

// Two halves of 128 values: 64 bytes of low four bits, 32 bytes of upper two, a scale for 16.
static void widen_q6_k(const unsigned char *block, float *out) {
    const unsigned char *halves = block, *uppers = block + 128, *scales = block + 192;
    float all_scale = read_f16(block + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i % 128 / 32, at = i % 32;
        unsigned char byte = halves[half * 64 + quarter % 2 * 32 + at];
        int value = quarter < 2 ? low(byte) : high(byte);
        value |= (uppers[half * 32 + at] >> 2 * quarter & 3) << 4;
        out[i] = all_scale * (float)(int8_t)scales[i / 16] * (float)(value - 32);
    }
}

static const struct gguf_block_type types[] = {
    {"F32", 0, 1, 4, NULL, NULL},
    {"F16", 1, 1, 2, NULL, NULL},
    {"BF16", 30, 1, 2, NULL, NULL},
    {"Q4_0", 2, 32, 18, widen_q4_0, q4_0_to_q4_1},
    {"Q4_1", 3, 32, 20, widen_q4_1, q4_1_to_q4_1},
    {"Q5_0", 6, 32, 22, widen_q5_0, NULL},
    {"Q5_1", 7, 32, 24, widen_q5_1, NULL},
    {"Q8_0", 8, 32, 34, widen_q8_0, NULL},
    {"Q4_K", 12, 256, 144, widen_q4_k, NULL},
    {"Q5_K", 13, 256, 176, widen_q5_k, NULL},
    {"Q6_K", 14, 256, 210, widen_q6_k, NULL},
};

const struct gguf_block_type *gguf_block_type_find(uint32_t number) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].number == number) {
            return &types[i];
        }
    }
    return NULL;
}

const char *gguf_type_name(uint32_t number) {
    static const char *const others[] = {
        [9] = "Q8_1",    [10] = "Q2_K",    [11] = "Q3_K",  [15] = "Q8_K",   [16] = "IQ2_XXS",
        [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
        [22] = "IQ2_S",  [23] = "IQ4_XS",  [24] = "I8",    [25] = "I16",    [26] = "I32",
        [27] = "I64",    [28] = "F64",     [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",
        [39] = "MXFP4",  [40] = "NVFP4",   [41] = "Q1_0",
    };
    const struct gguf_block_type *type = gguf_block_type_find(number);
    if (type != NULL) {
        return type->name;
    }
    bool listed = number < sizeof others / sizeof others[0] && others[number] != NULL;
    return listed ? others[number] : "unknown";
}
