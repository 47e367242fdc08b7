#include "worker/tokenizer/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/utf8.h"

enum status added_tokens_add(struct added_tokens *set, const struct added_token *token) {
    if (set->count == ADDED_TOKENS_MAX || token->bytes > ADDED_TOKEN_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    if (set->count == set->capacity) {
        size_t capacity = 2 * set->capacity + 16;
        struct added_token *tokens = realloc(set->tokens, capacity * sizeof *tokens);
        if (tokens == NULL) {
            return STATUS_NO_MEMORY;
        }
        set->tokens = tokens;
        set->capacity = capacity;
    }
    char *content = malloc(token->bytes);
    if (content == NULL) {
        return STATUS_NO_MEMORY;
    }
    memcpy(content, token->content, token->bytes);
    set->tokens[set->count] = *token;
    set->tokens[set->count++].content = content;
    return STATUS_OK;
}

static int compare_contents(const void *a, const void *b) {
    const struct added_token *x = a;
    const struct added_token *y = b;
    int order = memcmp(x->content, y->content, x->bytes < y->bytes ? x->bytes : y->bytes);
    return order != 0 ? order : (int)x->bytes - (int)y->bytes;
}

enum status added_tokens_prepare(struct added_tokens *set) {
    if (set->count > 0) {
        qsort(set->tokens, set->count, sizeof *set->tokens, compare_contents);
    }
    for (size_t i = 1; i < set->count; i++) {
        if (compare_contents(&set->tokens[i - 1], &set->tokens[i]) == 0) {
            return STATUS_ALREADY_EXISTS;
        }
    }
    for (size_t i = 0, byte = 0; byte <= 256; byte++) {
        while (i < set->count && (uint8_t)set->tokens[i].content[0] < byte) {
            i++;
        }
        set->first[byte] = (uint32_t)i;
    }
    return STATUS_OK;
}

// First token of low..high whose byte at `depth` is not below `byte`; shorter ones come first.
static uint32_t lower_bound(const struct added_tokens *set, uint32_t low, uint32_t high,
                            size_t depth, unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct added_token *token = &set->tokens[middle];
        if (token->bytes <= depth || (uint8_t)token->content[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum verdict { VERDICT_TAKEN, VERDICT_SKIPPED, VERDICT_NO_TOKEN };

// Whether the token counts at start..end. What crosses into a stretch where it does not count is
// no token there, so that text of one stretch cannot hide a token of the next.
static enum verdict judge(const struct added_token *token, size_t start, size_t end,
                          const struct added_permission *permission, size_t span) {
    const struct added_span *spans = permission->spans;
    if (token->special) {
        if (spans[span].scope == ADDED_NONE || spans[span].end < end) {
            return VERDICT_NO_TOKEN;
        }
        return spans[span].scope == ADDED_ALL ? VERDICT_TAKEN : VERDICT_SKIPPED;
    }
    for (; span < permission->count && spans[span].start < end; span++) {
        if (spans[span].scope == ADDED_NONE && spans[span].end > start) {
            return VERDICT_NO_TOKEN;
        }
    }
    return VERDICT_TAKEN;
}

// Start of the character before `at`, at >= 1.
static size_t previous_character(const char *text, size_t at) {
    do {
        at--;
    } while (((uint8_t)text[at] & 0xC0) == 0x80);
    return at;
}

static uint32_t code_at(const char *text, size_t bytes, size_t at) {
    return utf8_next(text + at, bytes - at).code;
}

static bool stands_alone(const char *text, size_t bytes, size_t start, size_t end) {
    bool word_before =
        start > 0 && utf8_is_word(code_at(text, bytes, previous_character(text, start)));
    bool word_after = end < bytes && utf8_is_word(code_at(text, bytes, end));
    return !word_before && !word_after;
}

// The longest token that starts at `at`, NULL when there is none.
static const struct added_token *find_here(const struct added_tokens *set, const char *text,
                                           size_t bytes, size_t at,
                                           const struct added_permission *permission, size_t span,
                                           enum verdict *verdict) {
    const struct added_token *best = NULL;
    uint32_t low = set->first[(uint8_t)text[at]];
    uint32_t high = set->first[(uint8_t)text[at] + 1];
    for (size_t depth = 1; low < high; depth++) {
        const struct added_token *token = &set->tokens[low];
        if (token->bytes == depth) {
            enum verdict own = judge(token, at, at + depth, permission, span);
            if (own != VERDICT_NO_TOKEN) {
                best = token;
                *verdict = own;
            }
            low++;
        }
        if (at + depth == bytes) {
            break;
        }
        unsigned byte = (uint8_t)text[at + depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
    }
    return best;
}

// Widens start..end by the white space that the token takes. What an earlier one took, one with
// lstrip does not take again; nothing may be left of it then.
static struct added_match take(const struct added_token *token, const char *text, size_t bytes,
                               size_t start, size_t done) {
    size_t end = start + token->bytes;
    start = token->lstrip && start < done ? done : start;
    while (token->lstrip && start > done) {
        size_t previous = previous_character(text, start);
        if (!utf8_is_space(code_at(text, bytes, previous))) {
            break;
        }
        start = previous;
    }
    while (token->rstrip && end < bytes && utf8_is_space(code_at(text, bytes, end))) {
        end += utf8_length(text[end]);
    }
    return (struct added_match){.start = start, .end = end, .id = token->id};
}

bool added_tokens_next(const struct added_tokens *set, const char *text, size_t bytes,
                       const struct added_permission *permission, struct added_search *search,
                       struct added_match *match) {
    size_t at = search->at;
    while (set->count > 0 && at < bytes) {
        if (set->first[(uint8_t)text[at]] == set->first[(uint8_t)text[at] + 1]) {
            at++;
            continue;
        }
        while (permission->spans[search->span].end <= at) {
            search->span++;
        }
        enum verdict verdict = VERDICT_NO_TOKEN;
        const struct added_token *token =
            find_here(set, text, bytes, at, permission, search->span, &verdict);
        size_t start = at;
        at += token != NULL ? token->bytes : 1;
        if (verdict == VERDICT_TAKEN &&
            (!token->single_word || stands_alone(text, bytes, start, at))) {
            *match = take(token, text, bytes, start, search->done);
            if (match->start >= match->end) {
                continue;
            }
            search->at = at;
            search->done = match->end;
            return true;
        }
    }
    search->at = bytes;
    return false;
}

void added_tokens_finish(struct added_tokens *set) {
    for (size_t i = 0; i < set->count; i++) {
        free((char *)set->tokens[i].content);
    }
    free(set->tokens);
    *set = (struct added_tokens){0};
}
