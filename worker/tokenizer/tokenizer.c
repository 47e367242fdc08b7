// Opening: picks the source in the directory, then derives what encoding and decoding need from it.
// The readers are tokenizer_json.c, tokenizer_files.c and others; encode.c encodes.
#include "worker/tokenizer/tokenizer.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/gguf.h"
#include "worker/model/model_path.h"
#include "worker/tokenizer/detokenizer.h"
#include "worker/tokenizer/tokenizer_class.h"
#include "worker/tokenizer/tokenizer_data.h"
#include "worker/tokenizer/tokenizer_source.h"

// Finds the set and place of an added token by id; NULL when it is in none.
static struct added_token *find_added(struct added_tokens *sets[2], int32_t id,
                                      struct added_tokens **set) {
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < sets[s]->count; i++) {
            if (sets[s]->tokens[i].id == id) {
                *set = sets[s];
                return &sets[s]->tokens[i];
            }
        }
    }
    return NULL;
}

const struct added_token *tokenizer_added(const struct tokenizer *tokenizer, int32_t id) {
    struct added_tokens added = tokenizer->added;
    struct added_tokens normalized = tokenizer->added_normalized;
    struct added_tokens *sets[] = {&added, &normalized};
    struct added_tokens *set;
    return find_added(sets, id, &set);
}

// Takes an added token out of its set, because a later file says more about it.
static void forget_added(struct tokenizer *tokenizer, int32_t id) {
    struct added_tokens *sets[] = {&tokenizer->added, &tokenizer->added_normalized};
    struct added_tokens *set;
    struct added_token *token = find_added(sets, id, &set);
    if (token != NULL) {
        free((char *)token->content);
        *token = set->tokens[--set->count];
    }
}

int32_t tokenizer_next_id(const struct tokenizer *tokenizer, const char *content, size_t bytes) {
    int32_t known = vocabulary_find(&tokenizer->vocabulary, content, bytes);
    if (known >= 0) {
        return known;
    }
    // added_vocabulary.rs, add_tokens: after the largest added id, or the number of pieces.
    return tokenizer->added_end > tokenizer->model_size ? tokenizer->added_end
                                                        : tokenizer->model_size;
}

// A token that counts in the normalised text is looked for in its own normalised form.
static enum status add_normalized(struct tokenizer *tokenizer, struct added_token token) {
    struct normalize_scratch scratch = {0};
    const char *content;
    size_t bytes;
    enum status status = normalizer_apply(&tokenizer->normalizer, token.content, token.bytes, false,
                                          &scratch, &content, &bytes);
    if (status == STATUS_OK && (bytes == 0 || bytes > ADDED_TOKEN_BYTES_MAX)) {
        status = STATUS_LIMIT;
    }
    if (status == STATUS_OK) {
        token.content = content;
        token.bytes = (uint16_t)bytes;
        status = added_tokens_add(&tokenizer->added_normalized, &token);
    }
    normalize_scratch_finish(&scratch);
    return status;
}

enum status tokenizer_add_token(struct tokenizer *tokenizer, const struct added_token *token) {
    struct vocabulary *vocabulary = &tokenizer->vocabulary;
    int32_t known = vocabulary_find(vocabulary, token->content, token->bytes);
    if (known >= 0 && known != token->id) {
        return STATUS_ALREADY_EXISTS;
    }
    if (known < 0) {
        enum status status = vocabulary_add(vocabulary, token->id, token->content, token->bytes);
        if (status != STATUS_OK) {
            return status;
        }
    }
    struct token *entry = &vocabulary->tokens[token->id];
    struct added_token added = *token;
    added.special = token->special || entry->special;
    if (entry->added) {
        forget_added(tokenizer, token->id);
    }
    entry->added = true;
    entry->special = added.special;
    if (token->id >= tokenizer->added_end) {
        tokenizer->added_end = token->id + 1;
    }
    return added.normalized ? add_normalized(tokenizer, added)
                            : added_tokens_add(&tokenizer->added, &added);
}

// The byte that "<0xXX>" names, -1 for any other spelling.
static int fallback_byte(const char *content, size_t bytes) {
    static const char digits[] = "0123456789ABCDEF";
    if (bytes != 6 || memcmp(content, "<0x", 3) != 0 || content[5] != '>') {
        return -1;
    }
    const char *high = memchr(digits, content[3], 16);
    const char *low = memchr(digits, content[4], 16);
    return high == NULL || low == NULL ? -1 : (int)((high - digits) * 16 + (low - digits));
}

// Stores what a token contributes to a text when its spelling is content [bytes].
static enum status set_output(struct tokenizer *tokenizer, int32_t id, const char *content,
                              size_t bytes, struct text_buffer *buffer) {
    const struct decoder *decoder = &tokenizer->decoder;
    struct vocabulary *vocabulary = &tokenizer->vocabulary;
    int byte = fallback_byte(content, bytes);
    if (decoder->byte_fallback && byte >= 0) {
        char one = (char)byte;
        return vocabulary_set_output(vocabulary, id, &one, 1);
    }
    char raw[TOKENIZER_PIECE_BYTES_MAX];
    if (decoder->byte_level && byte_level_parse(content, bytes, raw, &bytes)) {
        return vocabulary_set_output(vocabulary, id, raw, bytes);
    }
    buffer->bytes = 0;
    enum status status = decoder->replaces ? normalize_replace(content, bytes, &decoder->pattern,
                                                               &decoder->content, buffer)
                                           : text_buffer_append(buffer, content, bytes);
    return status == STATUS_OK ? vocabulary_set_output(vocabulary, id, buffer->data, buffer->bytes)
                               : status;
}

static enum status set_outputs(struct tokenizer *tokenizer) {
    struct text_buffer buffer = {0};
    enum status status = STATUS_OK;
    for (int32_t id = 0; id < tokenizer->vocabulary.size && status == STATUS_OK; id++) {
        if (tokenizer->vocabulary.tokens[id].present) {
            // Storing an output may move the spellings, so that this one is copied first.
            char content[TOKENIZER_PIECE_BYTES_MAX];
            size_t bytes;
            const char *stored = vocabulary_content(&tokenizer->vocabulary, id, &bytes);
            memcpy(content, stored, bytes);
            status = set_output(tokenizer, id, content, bytes, &buffer);
        }
    }
    // What a token matched in the normalised text is what it gives back, a prefix space included.
    const struct added_tokens *normalized = &tokenizer->added_normalized;
    for (size_t i = 0; i < normalized->count && status == STATUS_OK; i++) {
        const struct added_token *token = &normalized->tokens[i];
        status = set_output(tokenizer, token->id, token->content, token->bytes, &buffer);
    }
    text_buffer_finish(&buffer);
    return status;
}

static void set_byte_ids(struct tokenizer *tokenizer) {
    struct bpe *bpe = &tokenizer->bpe;
    bpe->byte_level = tokenizer->pretokenizer.byte_level && tokenizer->kind == MODEL_BPE;
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelling[8];
        char raw = (char)byte;
        size_t bytes = bpe->byte_level
                           ? byte_level_spell(&raw, 1, spelling)
                           : (size_t)snprintf(spelling, sizeof spelling, "<0x%02X>", byte);
        bpe->byte_ids[byte] = vocabulary_find(&tokenizer->vocabulary, spelling, bytes);
        tokenizer->unigram.byte_ids[byte] = bpe->byte_ids[byte];
    }
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ p[i]) * 0x100000001b3u;
    }
    return hash ^ hash >> 29;
}

static uint64_t mix_number(uint64_t hash, uint64_t number) {
    return mix(hash, &number, sizeof number);
}

static uint64_t mix_string(uint64_t hash, const struct normalize_string *string) {
    return mix(mix_number(hash, string->count), string->bytes, string->count);
}

static uint64_t fingerprint_tokens(uint64_t hash, const struct vocabulary *vocabulary) {
    for (int32_t id = 0; id < vocabulary->size; id++) {
        const struct token *token = &vocabulary->tokens[id];
        if (token->present) {
            size_t bytes;
            const char *output = vocabulary_output(vocabulary, id, &bytes);
            hash = mix_number(hash, (uint64_t)id << 32 | bytes << 2 |
                                        (uint64_t)token->special << 1 | (uint64_t)token->added);
            hash = mix(hash, output, bytes);
        }
    }
    return hash;
}

// Where an added token is found, and what it takes.
static uint64_t fingerprint_added(uint64_t hash, const struct added_tokens *set) {
    for (size_t i = 0; i < set->count; i++) {
        const struct added_token *token = &set->tokens[i];
        hash =
            mix_number(hash, (uint64_t)token->id << 4 | (uint64_t)token->lstrip << 3 |
                                 (uint64_t)token->rstrip << 2 | (uint64_t)token->single_word << 1 |
                                 (uint64_t)token->normalized);
    }
    return mix_number(hash, set->count);
}

static uint64_t fingerprint_normalizer(uint64_t hash, const struct normalizer *normalizer) {
    for (size_t i = 0; i < normalizer->n_steps; i++) {
        const struct normalize_step *step = &normalizer->steps[i];
        hash = mix_number(hash, (uint64_t)step->kind);
        hash = mix_string(mix_string(hash, &step->pattern), &step->content);
        hash =
            step->expression == NULL ? hash : mix(hash, step->expression, strlen(step->expression));
        hash = mix(hash, step->map.units, step->map.n_units * sizeof *step->map.units);
        hash = mix(hash, step->map.texts, step->map.texts_bytes);
    }
    return mix_number(hash, normalizer->n_steps);
}

static uint64_t fingerprint_pretokenizer(uint64_t hash, const struct pretokenizer *p) {
    for (size_t i = 0; i < p->n_steps; i++) {
        const struct pretokenize_step *step = &p->steps[i];
        hash =
            mix_number(hash, (uint64_t)step->kind << 40 | (uint64_t)step->behavior << 36 |
                                 (uint64_t)step->invert << 35 | (uint64_t)step->prefix_rule << 33 |
                                 (uint64_t)step->replace_spaces << 32 | step->length);
        hash = mix_string(hash, &step->prefix);
        hash = step->pattern == NULL ? hash : mix(hash, step->pattern, strlen(step->pattern));
        for (size_t j = 0; j < step->tokens.count; j++) {
            hash = mix(hash, step->tokens.tokens[j].content, step->tokens.tokens[j].bytes);
        }
    }
    return hash;
}

static uint64_t fingerprint_unigram(uint64_t hash, const struct unigram *unigram) {
    hash = mix_number(hash, (uint64_t)unigram->byte_fallback << 32 | (uint32_t)unigram->unk_id);
    return mix(hash, unigram->scores, unigram->n_scores * sizeof *unigram->scores);
}

static enum status set_fingerprint(struct tokenizer *tokenizer) {
    const struct bpe *bpe = &tokenizer->bpe;
    uint64_t model = 0;
    if (tokenizer->kind == MODEL_BPE) {
        enum status status = bpe_fingerprint(bpe, &model);
        if (status != STATUS_OK) {
            return status;
        }
    } else {
        model = fingerprint_unigram(model, &tokenizer->unigram);
    }
    uint64_t flags = (uint64_t)bpe->byte_level | (uint64_t)bpe->byte_fallback << 1 |
                     (uint64_t)bpe->fuse_unk << 2 | (uint64_t)bpe->ignore_merges << 3 |
                     (uint64_t)tokenizer->decoder.start_rule << 4 | (uint64_t)tokenizer->kind << 6 |
                     (uint64_t)(uint32_t)bpe->unk_id << 32;
    uint64_t hash = mix_number(0xcbf29ce484222325u, model);
    hash = mix_number(hash, flags);
    hash = fingerprint_tokens(hash, &tokenizer->vocabulary);
    hash = fingerprint_added(hash, &tokenizer->added);
    hash = fingerprint_added(hash, &tokenizer->added_normalized);
    hash = fingerprint_normalizer(hash, &tokenizer->normalizer);
    tokenizer->fingerprint = fingerprint_pretokenizer(hash, &tokenizer->pretokenizer);
    return STATUS_OK;
}

static enum status prepare_model(struct tokenizer *tokenizer) {
    set_byte_ids(tokenizer);
    if (tokenizer->kind == MODEL_UNIGRAM) {
        return unigram_prepare(&tokenizer->unigram, &tokenizer->vocabulary);
    }
    bpe_prepare(&tokenizer->bpe, &tokenizer->vocabulary);
    return STATUS_OK;
}

// What is left to do once every file was read.
static enum status prepare(struct tokenizer *tokenizer, struct error *err) {
    enum status status = prepare_model(tokenizer);
    if (status == STATUS_OK) {
        status = set_outputs(tokenizer);
    }
    if (status == STATUS_OK) {
        status = added_tokens_prepare(&tokenizer->added);
    }
    if (status == STATUS_OK) {
        status = added_tokens_prepare(&tokenizer->added_normalized);
    }
    if (status == STATUS_OK) {
        status = set_fingerprint(tokenizer);
    }
    if (status == STATUS_ALREADY_EXISTS) {
        return error_set(err, STATUS_MALFORMED, "added_tokens", "two of them are the same text");
    }
    return status == STATUS_OK
               ? status
               : error_set(err, status, "tokenizer", "cannot be prepared: %s", status_text(status));
}

// The forms of a tokenizer in a directory; the first that is there is read.
static const struct {
    const char *file;
    enum status (*read)(const char *directory, const struct special_sources *sources,
                        struct tokenizer *tokenizer, struct error *err);
} forms[] = {
    {"tokenizer.json", tokenizer_source_json},   {"vocab.json", tokenizer_source_vocab_merges},
    {"tokenizer.model", tokenizer_source_model}, {"tekken.json", tokenizer_source_tekken},
    {"qwen.tiktoken", tokenizer_source_qwen},
};

enum { FORM_COUNT = sizeof forms / sizeof *forms };

// A file of ranks that is none of the above.
static bool find_other_ranks(const char *directory, char name[ERROR_FIELD_BYTES]) {
    DIR *listing = opendir(directory);
    bool found = false;
    for (const struct dirent *entry; listing != NULL && !found && (entry = readdir(listing));) {
        const char *dot = strrchr(entry->d_name, '.');
        found = (dot != NULL && strcmp(dot, ".tiktoken") == 0) ||
                strcmp(entry->d_name, "tiktoken.model") == 0;
        snprintf(name, ERROR_FIELD_BYTES, "%.63s", entry->d_name);
    }
    if (listing != NULL) {
        closedir(listing);
    }
    return found;
}

static enum status read_source(const char *directory, const struct special_sources *sources,
                               struct tokenizer *tokenizer, struct error *err) {
    if (gguf_is_path(directory)) {
        return tokenizer_source_gguf(directory, sources, tokenizer, err);
    }
    for (size_t i = 0; i < FORM_COUNT; i++) {
        if (model_path_has(directory, forms[i].file)) {
            return forms[i].read(directory, sources, tokenizer, err);
        }
    }
    char name[ERROR_FIELD_BYTES];
    if (find_other_ranks(directory, name)) {
        return error_set(err, STATUS_UNSUPPORTED, name,
                         "ranks alone hold neither the expression that splits texts nor the "
                         "special tokens: a tokenizer.json is needed");
    }
    return error_set(err, STATUS_NOT_FOUND, "tokenizer.json",
                     "%s has none of tokenizer.json, vocab.json, tokenizer.model, tekken.json and "
                     "qwen.tiktoken",
                     directory);
}

const char *tokenizer_find_directory(const struct model_path *path) {
    for (size_t i = 0; path->base[0] != '\0' && i < FORM_COUNT; i++) {
        if (model_path_has(path->own, forms[i].file)) {
            return path->own;
        }
    }
    return path->base[0] != '\0' ? path->base : path->own;
}

enum status tokenizer_open(const char *path, struct tokenizer **out, struct error *err) {
    struct model_path found;
    enum status status = model_path_find(path, &found, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *directory = tokenizer_find_directory(&found);
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (tokenizer == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "tokenizer", "no memory for a tokenizer");
    }
    tokenizer->bos_id = tokenizer->eos_id = tokenizer->pad_id = -1;
    tokenizer->bpe.unk_id = tokenizer->unigram.unk_id = -1;
    struct special_sources sources;
    status = special_sources_read(path, directory, &sources, err);
    if (status == STATUS_OK) {
        status = tokenizer_class_check_options(&sources, err);
    }
    if (status == STATUS_OK) {
        status = read_source(directory, &sources, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = special_ids_add_tokens(&sources, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = special_ids_set(&sources, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = prepare(tokenizer, err);
    }
    special_sources_finish(&sources);
    if (status != STATUS_OK) {
        tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return STATUS_OK;
}

void tokenizer_close(struct tokenizer *tokenizer) {
    if (tokenizer != NULL) {
        vocabulary_finish(&tokenizer->vocabulary);
        bpe_finish(&tokenizer->bpe);
        unigram_finish(&tokenizer->unigram);
        normalizer_finish(&tokenizer->normalizer);
        pretokenizer_finish(&tokenizer->pretokenizer);
        added_tokens_finish(&tokenizer->added);
        added_tokens_finish(&tokenizer->added_normalized);
        json_decref(tokenizer->names);
        json_decref(tokenizer->padding);
        free(tokenizer);
    }
}

int32_t tokenizer_vocab_size(const struct tokenizer *tokenizer) {
    return tokenizer->vocabulary.size;
}

int32_t tokenizer_bos_id(const struct tokenizer *tokenizer) {
    return tokenizer->bos_id;
}

int32_t tokenizer_eos_id(const struct tokenizer *tokenizer) {
    return tokenizer->eos_id;
}

int32_t tokenizer_pad_id(const struct tokenizer *tokenizer) {
    return tokenizer->pad_id;
}

int32_t tokenizer_unk_id(const struct tokenizer *tokenizer) {
    return tokenizer->kind == MODEL_BPE ? tokenizer->bpe.unk_id : tokenizer->unigram.unk_id;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer) {
    return tokenizer->frame.n_before > 0;
}

static bool is_inside(const struct tokenizer *tokenizer, int32_t id) {
    return id >= 0 && id < tokenizer->vocabulary.size;
}

bool tokenizer_is_special(const struct tokenizer *tokenizer, int32_t id) {
    return is_inside(tokenizer, id) && tokenizer->vocabulary.tokens[id].special;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id) {
    for (size_t i = 0; i < tokenizer->n_end_ids; i++) {
        if (tokenizer->end_ids[i] == id) {
            return true;
        }
    }
    return false;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *content) {
    return vocabulary_find(&tokenizer->vocabulary, content, strlen(content));
}

const json_t *tokenizer_names(const struct tokenizer *tokenizer) {
    return tokenizer->names;
}

bool tokenizer_names_all(const struct tokenizer *tokenizer) {
    return tokenizer->class_tokens != NULL;
}

size_t tokenizer_bytes(const struct tokenizer *tokenizer) {
    const struct vocabulary *vocabulary = &tokenizer->vocabulary;
    size_t n_added = tokenizer->added.count + tokenizer->added_normalized.count;
    return sizeof *tokenizer + (size_t)vocabulary->size * sizeof *vocabulary->tokens +
           vocabulary->arena_bytes + (vocabulary->index_mask + 1) * sizeof *vocabulary->index +
           (tokenizer->bpe.mask + 1) * sizeof *tokenizer->bpe.merges +
           tokenizer->unigram.n_scores * sizeof *tokenizer->unigram.scores +
           (tokenizer->unigram.mask + 1) * sizeof *tokenizer->unigram.children +
           n_added * sizeof *tokenizer->added.tokens;
}

uint64_t tokenizer_fingerprint(const struct tokenizer *tokenizer) {
    return tokenizer->fingerprint;
}

enum status tokenizer_token_bytes(const struct tokenizer *tokenizer, int32_t id, unsigned flags,
                                  const char **bytes, size_t *count) {
    if (!is_inside(tokenizer, id)) {
        return STATUS_INVALID_ARGUMENT;
    }
    const struct token *token = &tokenizer->vocabulary.tokens[id];
    bool shown = token->present && (!token->special || (flags & TOKENIZER_KEEP_SPECIAL) != 0);
    *bytes = "";
    *count = 0;
    if (shown) {
        *bytes = vocabulary_output(&tokenizer->vocabulary, id, count);
    }
    return STATUS_OK;
}

enum status tokenizer_decode(const struct tokenizer *tokenizer, const int32_t *ids, size_t n,
                             unsigned flags, char *text, size_t capacity, size_t *bytes,
                             struct error *err) {
    struct detokenizer stream;
    detokenizer_init(&stream, tokenizer, flags);
    size_t total = 0;
    for (size_t i = 0; i <= n; i++) {
        char part[DETOKENIZER_OUT_BYTES_MAX];
        size_t part_bytes;
        enum status status = i < n
                                 ? detokenizer_push(&stream, ids[i], part, sizeof part, &part_bytes)
                                 : detokenizer_finish(&stream, part, sizeof part, &part_bytes);
        if (status != STATUS_OK) {
            return error_set(err, status, "ids", "ids[%zu] = %d is outside the vocabulary", i,
                             i < n ? ids[i] : -1);
        }
        if (part_bytes > 0 && total + part_bytes <= capacity) {
            memcpy(text + total, part, part_bytes);
        }
        total += part_bytes;
    }
    *bytes = total;
    if (total > capacity) {
        return error_set(err, STATUS_LIMIT, "text", "%zu bytes are needed, there is room for %zu",
                         total, capacity);
    }
    return STATUS_OK;
}
