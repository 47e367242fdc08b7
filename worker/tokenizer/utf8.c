#include "worker/tokenizer/utf8.h"

#include <string.h>
#include <utf8proc.h>

#include "worker/tokenizer/unicode_newer.h"

// Allowed second bytes by first byte (The Unicode Standard, table 3-7); later ones are 80..BF.
static size_t expected_bytes(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xBF;
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        return 2;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        *low = first == 0xE0 ? 0xA0 : 0x80;
        *high = first == 0xED ? 0x9F : 0xBF;
        return 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        *low = first == 0xF0 ? 0x90 : 0x80;
        *high = first == 0xF4 ? 0x8F : 0xBF;
        return 4;
    }
    return 0;
}

struct utf8_step utf8_next(const char *text, size_t bytes) {
    const uint8_t *p = (const uint8_t *)text;
    uint8_t low, high;
    size_t expected = expected_bytes(p[0], &low, &high);
    if (expected == 0) {
        return (struct utf8_step){.kind = UTF8_ILL_FORMED, .bytes = 1};
    }
    uint32_t code = expected == 1 ? p[0] : p[0] & (0xFFu >> (expected + 1));
    for (size_t i = 1; i < expected; i++) {
        if (i == bytes) {
            return (struct utf8_step){.kind = UTF8_INCOMPLETE, .bytes = (uint8_t)i};
        }
        if (p[i] < low || p[i] > high) {
            return (struct utf8_step){.kind = UTF8_ILL_FORMED, .bytes = (uint8_t)i};
        }
        code = code << 6 | (p[i] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    return (struct utf8_step){.kind = UTF8_WELL_FORMED, .bytes = (uint8_t)expected, .code = code};
}

size_t utf8_length(char first) {
    uint8_t byte = (uint8_t)first;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

size_t utf8_encode(uint32_t code, char out[4]) {
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)out);
}

bool utf8_validate(const char *text, size_t bytes, size_t *offset) {
    for (size_t i = 0; i < bytes;) {
        uint64_t eight;
        if (bytes - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        struct utf8_step step = utf8_next(text + i, bytes - i);
        if (step.kind != UTF8_WELL_FORMED) {
            *offset = i;
            return false;
        }
        i += step.bytes;
    }
    return true;
}

bool utf8_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

enum utf8_class utf8_class(uint32_t code) {
    static const enum utf8_class classes[] = {
        [UTF8PROC_CATEGORY_LU] = UTF8_LETTER, [UTF8PROC_CATEGORY_LL] = UTF8_LETTER,
        [UTF8PROC_CATEGORY_LT] = UTF8_LETTER, [UTF8PROC_CATEGORY_LM] = UTF8_LETTER,
        [UTF8PROC_CATEGORY_LO] = UTF8_LETTER, [UTF8PROC_CATEGORY_ND] = UTF8_NUMBER,
        [UTF8PROC_CATEGORY_NL] = UTF8_NUMBER, [UTF8PROC_CATEGORY_NO] = UTF8_NUMBER,
        [UTF8PROC_CATEGORY_CO] = UTF8_OTHER,
    };
    if (utf8_is_space(code)) {
        return UTF8_SPACE;
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    if (category != UTF8PROC_CATEGORY_CN) {
        return classes[category];
    }
    const char *newer = unicode_newer_category(code);
    return newer == NULL     ? UTF8_OTHER
           : newer[0] == 'L' ? UTF8_LETTER
           : newer[0] == 'N' ? UTF8_NUMBER
                             : UTF8_OTHER;
}

bool utf8_is_word(uint32_t code) {
    // Join controls, and the letters in circles and squares, which are alphabetic symbols.
    if (code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
        (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
        (code >= 0x1F170 && code <= 0x1F189)) {
        return true;
    }
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    case UTF8PROC_CATEGORY_CN: {
        const char *newer = unicode_newer_category(code);
        return newer != NULL && (newer[0] == 'L' || newer[0] == 'M' || strcmp(newer, "Nd") == 0);
    }
    default:
        return false;
    }
}
