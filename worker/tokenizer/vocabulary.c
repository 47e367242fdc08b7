#include "worker/tokenizer/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/utf8.h"
#include "worker/tokenizer/word_cache.h"

// The slot of a spelling, or the free one where it belongs.
static size_t find_slot(const struct vocabulary *v, const char *content, size_t bytes) {
    size_t slot = word_cache_hash(content, bytes) & v->index_mask;
    while (v->index[slot] >= 0) {
        const struct token *token = &v->tokens[v->index[slot]];
        if (token->content_bytes == bytes &&
            memcmp(v->arena + token->content_offset, content, bytes) == 0) {
            break;
        }
        slot = (slot + 1) & v->index_mask;
    }
    return slot;
}

// Keeps the index at most half full.
static enum status reserve_index(struct vocabulary *v) {
    size_t slots = v->index == NULL ? 0 : v->index_mask + 1;
    if (2 * (v->count + 1) <= slots) {
        return STATUS_OK;
    }
    size_t new_slots = slots == 0 ? 1024 : 2 * slots;
    int32_t *index = malloc(new_slots * sizeof *index);
    if (index == NULL) {
        return STATUS_NO_MEMORY;
    }
    memset(index, 0xFF, new_slots * sizeof *index);
    free(v->index);
    v->index = index;
    v->index_mask = new_slots - 1;
    for (int32_t id = 0; id < v->size; id++) {
        if (v->tokens[id].present) {
            size_t bytes;
            const char *content = vocabulary_content(v, id, &bytes);
            v->index[find_slot(v, content, bytes)] = id;
        }
    }
    return STATUS_OK;
}

static enum status reserve_tokens(struct vocabulary *v, int32_t id) {
    if (id >= v->capacity) {
        int32_t capacity = 2 * id + 1024;
        struct token *tokens = realloc(v->tokens, (size_t)capacity * sizeof *tokens);
        if (tokens == NULL) {
            return STATUS_NO_MEMORY;
        }
        v->tokens = tokens;
        v->capacity = capacity;
    }
    for (; v->size <= id; v->size++) {
        v->tokens[v->size] = (struct token){0};
    }
    return STATUS_OK;
}

static enum status store_bytes(struct vocabulary *v, const char *bytes, size_t count,
                               uint32_t *offset) {
    if (count > v->arena_capacity - v->arena_bytes) {
        size_t capacity = 2 * (v->arena_bytes + count) + 4096;
        char *arena = capacity > UINT32_MAX ? NULL : realloc(v->arena, capacity);
        if (arena == NULL) {
            return STATUS_NO_MEMORY;
        }
        v->arena = arena;
        v->arena_capacity = capacity;
    }
    memcpy(v->arena + v->arena_bytes, bytes, count);
    *offset = (uint32_t)v->arena_bytes;
    v->arena_bytes += count;
    return STATUS_OK;
}

enum status vocabulary_add(struct vocabulary *vocabulary, int64_t id, const char *content,
                           size_t bytes) {
    if (id < 0 || bytes == 0) {
        return STATUS_MALFORMED;
    }
    if (id >= TOKENIZER_VOCAB_MAX || bytes > TOKENIZER_PIECE_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    if (id < vocabulary->size && vocabulary->tokens[id].present) {
        return STATUS_ALREADY_EXISTS;
    }
    enum status status = reserve_index(vocabulary);
    if (status != STATUS_OK) {
        return status;
    }
    size_t slot = find_slot(vocabulary, content, bytes);
    if (vocabulary->index[slot] >= 0) {
        return STATUS_ALREADY_EXISTS;
    }
    uint32_t offset;
    status = reserve_tokens(vocabulary, (int32_t)id);
    if (status == STATUS_OK) {
        status = store_bytes(vocabulary, content, bytes, &offset);
    }
    if (status != STATUS_OK) {
        return status;
    }
    vocabulary->tokens[id] = (struct token){
        .content_offset = offset,
        .output_offset = offset,
        .content_bytes = (uint16_t)bytes,
        .output_bytes = (uint16_t)bytes,
        .present = true,
    };
    vocabulary->index[slot] = (int32_t)id;
    vocabulary->count++;
    return STATUS_OK;
}

enum status vocabulary_set_output(struct vocabulary *vocabulary, int32_t id, const char *bytes,
                                  size_t count) {
    struct token *token = &vocabulary->tokens[id];
    if (count > TOKENIZER_PIECE_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    size_t old_bytes;
    const char *old = vocabulary_output(vocabulary, id, &old_bytes);
    if (old_bytes == count && memcmp(old, bytes, count) == 0) {
        return STATUS_OK;
    }
    uint32_t offset;
    enum status status = store_bytes(vocabulary, bytes, count, &offset);
    if (status != STATUS_OK) {
        return status;
    }
    token->output_offset = offset;
    token->output_bytes = (uint16_t)count;
    return STATUS_OK;
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *content, size_t bytes) {
    if (vocabulary->index == NULL) {
        return -1;
    }
    return vocabulary->index[find_slot(vocabulary, content, bytes)];
}

const char *vocabulary_content(const struct vocabulary *vocabulary, int32_t id, size_t *bytes) {
    const struct token *token = &vocabulary->tokens[id];
    *bytes = token->content_bytes;
    return vocabulary->arena + token->content_offset;
}

const char *vocabulary_output(const struct vocabulary *vocabulary, int32_t id, size_t *bytes) {
    const struct token *token = &vocabulary->tokens[id];
    *bytes = token->output_bytes;
    return vocabulary->arena + token->output_offset;
}

bool vocabulary_has_inner_mark(const struct vocabulary *vocabulary, int32_t id) {
    size_t bytes;
    const char *content = vocabulary_content(vocabulary, id, &bytes);
    bool other = false;
    for (size_t at = 0; at < bytes; at += utf8_length(content[at])) {
        bool mark = bytes - at >= 3 && memcmp(content + at, "\xE2\x96\x81", 3) == 0;
        if (mark && other) {
            return true;
        }
        other = other || !mark;
    }
    return false;
}

void vocabulary_finish(struct vocabulary *vocabulary) {
    free(vocabulary->tokens);
    free(vocabulary->arena);
    free(vocabulary->index);
    *vocabulary = (struct vocabulary){0};
}

static bool stands_for_itself(uint32_t code) {
    return (code >= 0x21 && code <= 0x7E) || (code >= 0xA1 && code <= 0xFF && code != 0xAD);
}

uint32_t byte_level_character(uint8_t byte) {
    if (stands_for_itself(byte)) {
        return byte;
    }
    // The others in order: 00..20, 7F..A0, AD.
    return 0x100u + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7Fu + 0x21u : 0x43u);
}

int byte_level_byte(uint32_t character) {
    if (stands_for_itself(character)) {
        return (int)character;
    }
    if (character < 0x100 || character > 0x143) {
        return -1;
    }
    uint32_t rank = character - 0x100;
    return (int)(rank <= 0x20 ? rank : rank <= 0x42 ? rank - 0x21 + 0x7F : 0xAD);
}

size_t byte_level_spell(const char *bytes, size_t count, char *out) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += utf8_encode(byte_level_character((uint8_t)bytes[i]), out + length);
    }
    return length;
}

bool byte_level_parse(const char *content, size_t bytes, char *out, size_t *count) {
    size_t length = 0;
    for (size_t i = 0; i < bytes;) {
        struct utf8_step step = utf8_next(content + i, bytes - i);
        int byte = step.kind == UTF8_WELL_FORMED ? byte_level_byte(step.code) : -1;
        if (byte < 0) {
            return false;
        }
        out[length++] = (char)byte;
        i += step.bytes;
    }
    *count = length;
    return true;
}
