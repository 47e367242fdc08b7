#include "worker/tokenizer/charsmap.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "worker/tokenizer/utf8.h"

// A grapheme cluster of fewer bytes is looked for as a whole first.
enum { WHOLE_CLUSTER_BYTES = 6 };

// One unit of the trie packs a label, an offset to its children and whether a value is among them
// (Darts clone, DoubleArrayUnit).
static bool unit_has_leaf(uint32_t unit) {
    return (unit >> 8 & 1) != 0;
}

static uint32_t unit_value(uint32_t unit) {
    return unit & 0x7FFFFFFFu;
}

static uint32_t unit_label(uint32_t unit) {
    return unit & 0x800000FFu;
}

static uint32_t unit_offset(uint32_t unit) {
    return (unit >> 10) << ((unit & 0x200u) >> 6);
}

// The replacement of the shortest key that text [bytes] starts with, NULL when none does. A trie
// that points outside itself ends the search.
static const char *find_replacement(const struct charsmap *map, const char *text, size_t bytes) {
    size_t at = unit_offset(map->units[0]);
    for (size_t i = 0; i < bytes && text[i] != '\0'; i++) {
        at ^= (uint8_t)text[i];
        if (at >= map->n_units || unit_label(map->units[at]) != (uint8_t)text[i]) {
            return NULL;
        }
        uint32_t unit = map->units[at];
        at ^= unit_offset(unit);
        if (unit_has_leaf(unit)) {
            uint32_t value = at < map->n_units ? unit_value(map->units[at]) : UINT32_MAX;
            return value < map->texts_bytes ? map->texts + value : NULL;
        }
    }
    return NULL;
}

enum status charsmap_read(const void *bytes, size_t count, struct charsmap *out) {
    const uint8_t *p = bytes;
    if (count > CHARSMAP_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    if (count < 4) {
        return STATUS_MALFORMED;
    }
    size_t trie = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    // The texts must end with NUL, so that each of them does.
    if (trie % 4 != 0 || trie == 0 || trie >= count - 4 || p[count - 1] != 0) {
        return STATUS_MALFORMED;
    }
    struct charsmap map = {.n_units = trie / 4, .texts_bytes = count - 4 - trie};
    map.units = malloc(trie);
    map.texts = malloc(map.texts_bytes);
    if (map.units == NULL || map.texts == NULL) {
        charsmap_finish(&map);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < map.n_units; i++) {
        const uint8_t *unit = p + 4 + 4 * i;
        map.units[i] = (uint32_t)unit[0] | (uint32_t)unit[1] << 8 | (uint32_t)unit[2] << 16 |
                       (uint32_t)unit[3] << 24;
    }
    memcpy(map.texts, p + 4 + trie, map.texts_bytes);
    for (int c = 0; c < 128; c++) {
        char character = (char)c;
        map.keeps[c] = find_replacement(&map, &character, 1) == NULL;
    }
    *out = map;
    return STATUS_OK;
}

// Replaces part [bytes] when the map knows it; *known tells.
static enum status put_replacement(const struct charsmap *map, const char *part, size_t bytes,
                                   struct text_buffer *out, bool *known) {
    const char *replacement = find_replacement(map, part, bytes);
    *known = replacement != NULL;
    return *known ? text_buffer_append(out, replacement, strlen(replacement)) : STATUS_OK;
}

static enum status put_cluster(const struct charsmap *map, const char *cluster, size_t bytes,
                               struct text_buffer *out) {
    bool known = false;
    enum status status = STATUS_OK;
    if (bytes < WHOLE_CLUSTER_BYTES) {
        status = put_replacement(map, cluster, bytes, out, &known);
    }
    for (size_t at = 0; at < bytes && !known && status == STATUS_OK;) {
        size_t length = utf8_length(cluster[at]);
        bool known_character;
        status = put_replacement(map, cluster + at, length, out, &known_character);
        if (status == STATUS_OK && !known_character) {
            status = text_buffer_append(out, cluster + at, length);
        }
        at += length;
    }
    return status;
}

// End of the characters from `at` on that are clusters of their own and stay: between two of ASCII
// clusters break, but for a line end of two.
static size_t kept_end(const struct charsmap *map, const char *text, size_t bytes, size_t at) {
    while (at + 1 < bytes && ((uint8_t)text[at] | (uint8_t)text[at + 1]) < 0x80 &&
           text[at] != '\r' && map->keeps[(uint8_t)text[at]]) {
        at++;
    }
    return at;
}

// End of the grapheme cluster that starts at `at` (Unicode Standard Annex 29, section 3).
static size_t cluster_end(const char *text, size_t bytes, size_t at) {
    utf8proc_int32_t state = 0;
    struct utf8_step step = utf8_next(text + at, bytes - at);
    for (at += step.bytes; at < bytes; at += step.bytes) {
        utf8proc_int32_t previous = (utf8proc_int32_t)step.code;
        step = utf8_next(text + at, bytes - at);
        if (utf8proc_grapheme_break_stateful(previous, (utf8proc_int32_t)step.code, &state)) {
            break;
        }
    }
    return at;
}

enum status charsmap_apply(const struct charsmap *map, const char *text, size_t bytes,
                           struct text_buffer *out) {
    enum status status = STATUS_OK;
    for (size_t start = 0; start < bytes && status == STATUS_OK;) {
        size_t kept = kept_end(map, text, bytes, start);
        if (kept > start) {
            status = text_buffer_append(out, text + start, kept - start);
            start = kept;
            continue;
        }
        size_t end = cluster_end(text, bytes, start);
        status = put_cluster(map, text + start, end - start, out);
        start = end;
    }
    return status;
}

void charsmap_finish(struct charsmap *map) {
    free(map->units);
    free(map->texts);
    *map = (struct charsmap){0};
}
