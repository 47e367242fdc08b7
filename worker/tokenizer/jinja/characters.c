#include "worker/tokenizer/jinja/characters.h"

#include <utf8proc.h>

#include "worker/tokenizer/jinja/casing_table.h"
#include "worker/tokenizer/utf8.h"

static utf8proc_category_t category_of(uint32_t code) {
    return utf8proc_category((utf8proc_int32_t)code);
}

// White_Space of Unicode and, as Python has it, the four information separators.
bool character_is_space(uint32_t code) {
    return utf8_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

bool character_ends_line(uint32_t code) {
    return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
           code == 0x2028 || code == 0x2029;
}

bool character_is_printable(uint32_t code) {
    switch (category_of(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

bool character_is_alpha(uint32_t code) {
    utf8proc_category_t category = category_of(code);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool character_is_digit(uint32_t code) {
    return category_of(code) == UTF8PROC_CATEGORY_ND;
}

bool character_is_upper(uint32_t code) {
    return utf8proc_isupper((utf8proc_int32_t)code);
}

bool character_is_lower(uint32_t code) {
    return utf8proc_islower((utf8proc_int32_t)code);
}

bool character_is_cased(uint32_t code) {
    return character_is_upper(code) || character_is_lower(code) ||
           category_of(code) == UTF8PROC_CATEGORY_LT;
}

// What stands between letters without ending a word (Case_Ignorable; of its punctuation those of
// Word_Break MidLetter, MidNumLet and Single_Quote).
static bool is_case_ignorable(uint32_t code) {
    static const uint32_t marks[] = {0x27,   0x2E,   0x3A,   0xB7,   0x387,  0x55F,
                                     0x5F4,  0x2018, 0x2019, 0x2024, 0x2027, 0xFE13,
                                     0xFE52, 0xFE55, 0xFF07, 0xFF0E, 0xFF1A};
    switch (category_of(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        break;
    }
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (marks[i] == code) {
            return true;
        }
    }
    return false;
}

static const struct special_casing *find_special(uint32_t code) {
    size_t low = 0;
    size_t high = sizeof special_casings / sizeof *special_casings;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (special_casings[middle].code == code) {
            return &special_casings[middle];
        }
        if (special_casings[middle].code < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

// Whether the sigma at `at` ends a word: a cased character before it and none after, those that do
// not count skipped.
static bool is_final_sigma(const struct text *text, size_t at) {
    bool before = false;
    for (size_t i = at; i > 0 && !before;) {
        do {
            i--;
        } while (((uint8_t)text->bytes[i] & 0xC0) == 0x80);
        uint32_t code = utf8_next(text->bytes + i, text->length - i).code;
        if (!is_case_ignorable(code)) {
            before = character_is_cased(code);
            if (!before) {
                return false;
            }
        }
    }
    if (!before) {
        return false;
    }
    for (size_t i = at + 2; i < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + i, text->length - i);
        if (!is_case_ignorable(step.code)) {
            return !character_is_cased(step.code);
        }
        i += step.bytes;
    }
    return true;
}

enum { SIGMA = 0x3A3, SIGMA_FINAL = 0x3C2, I_WITH_DOT = 0x130, DOT_ABOVE = 0x307 };

static void put_case(struct text_builder *b, const struct text *text, size_t at, uint32_t code,
                     enum letter_case to) {
    bool content = text_is_content(text, at);
    const struct special_casing *special = to == CASE_LOWER ? NULL : find_special(code);
    if (special != NULL) {
        const uint32_t *codes = to == CASE_UPPER ? special->upper : special->title;
        for (size_t i = 0; i < CASE_CODES_MAX && codes[i] != 0; i++) {
            builder_put_code(b, codes[i], content);
        }
    } else if (to == CASE_LOWER && code == SIGMA) {
        builder_put_code(b, is_final_sigma(text, at) ? SIGMA_FINAL : 0x3C3, content);
    } else if (to == CASE_LOWER && code == I_WITH_DOT) {
        builder_put_code(b, 'i', content);
        builder_put_code(b, DOT_ABOVE, content);
    } else {
        utf8proc_int32_t c = (utf8proc_int32_t)code;
        c = to == CASE_UPPER ? utf8proc_toupper(c)
                             : (to == CASE_LOWER ? utf8proc_tolower(c) : utf8proc_totitle(c));
        builder_put_code(b, (uint32_t)c, content);
    }
}

static struct text *finish_like(struct text_builder *b, const struct text *text) {
    struct text *result = builder_finish(b);
    if (result != NULL) {
        result->markup = text->markup;
    }
    return result;
}

struct text *text_to_case(struct arena *arena, const struct text *text, enum letter_case to) {
    struct text_builder b = {.arena = arena};
    for (size_t at = 0; at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        put_case(&b, text, at, step.code, to);
        at += step.bytes;
    }
    return finish_like(&b, text);
}

struct text *text_capitalize(struct arena *arena, const struct text *text) {
    struct text_builder b = {.arena = arena};
    for (size_t at = 0; at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        put_case(&b, text, at, step.code, at == 0 ? CASE_TITLE : CASE_LOWER);
        at += step.bytes;
    }
    return finish_like(&b, text);
}

struct text *text_title(struct arena *arena, const struct text *text) {
    struct text_builder b = {.arena = arena};
    bool inside = false;
    for (size_t at = 0; at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        put_case(&b, text, at, step.code, inside ? CASE_LOWER : CASE_TITLE);
        inside = character_is_cased(step.code);
        at += step.bytes;
    }
    return finish_like(&b, text);
}
