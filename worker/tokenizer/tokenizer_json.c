// Reads tokenizer.json, the format of the Hugging Face tokenizers library. A sequence of
// normalisers or of the like is read one level deep; whatever type or option is not known here is
// refused, because leaving it out would give other ids.
#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"

static const char file[] = "tokenizer.json";

enum { PATH_BYTES = 64, MERGE_BYTES_MAX = 2 * TOKENIZER_PIECE_BYTES_MAX + 1 };

static enum status unsupported_type(json_t *node, const char *path, struct error *err) {
    const char *type = json_string_value(json_object_get(node, "type"));
    return model_file_error(err, STATUS_UNSUPPORTED, file, path, "unsupported type \"%s\"",
                            type != NULL ? type : "(none)");
}

static bool has_type(json_t *node, const char *type) {
    const char *own = json_string_value(json_object_get(node, "type"));
    return own != NULL && strcmp(own, type) == 0;
}

// An option that is absent or null has its default; any other kind than a boolean is an error.
static enum status read_flag(json_t *node, const char *path, const char *key, bool fallback,
                             bool *out, struct error *err) {
    json_t *value = json_object_get(node, key);
    *out = json_is_boolean(value) ? json_is_true(value) : fallback;
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value)) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "%s is not a boolean", key);
    }
    return STATUS_OK;
}

static enum status read_string(json_t *value, const char *path, size_t bytes_min,
                               struct normalize_string *out, struct error *err) {
    size_t bytes = json_string_length(value);
    if (!json_is_string(value) || bytes < bytes_min) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "a string is missing");
    }
    if (bytes > sizeof out->bytes) {
        return model_file_error(err, STATUS_LIMIT, file, path, "%zu bytes are above the limit %zu",
                                bytes, sizeof out->bytes);
    }
    memcpy(out->bytes, json_string_value(value), bytes);
    out->count = bytes;
    return STATUS_OK;
}

// A stage of the file (normaliser, pre-tokenizer, ...) is null, one step, or a sequence of steps.
struct stage {
    const char *name; // key in the file
    const char *list; // key of the steps in a sequence
    json_t *node;     // borrowed, NULL when there is none
};

static enum status stage_read(json_t *root, const char *name, const char *list, struct stage *stage,
                              struct error *err) {
    json_t *node = json_object_get(root, name);
    *stage = (struct stage){.name = name, .list = list};
    if (node == NULL || json_is_null(node)) {
        return STATUS_OK;
    }
    if (!json_is_object(node)) {
        return model_file_error(err, STATUS_MALFORMED, file, name, "not an object");
    }
    if (has_type(node, "Sequence") && !json_is_array(json_object_get(node, list))) {
        return model_file_error(err, STATUS_MALFORMED, file, name, "a sequence without %s", list);
    }
    stage->node = node;
    return STATUS_OK;
}

static size_t stage_count(const struct stage *stage) {
    if (stage->node == NULL) {
        return 0;
    }
    return has_type(stage->node, "Sequence")
               ? json_array_size(json_object_get(stage->node, stage->list))
               : 1;
}

// Step `index` and its path, for errors.
static json_t *stage_step(const struct stage *stage, size_t index, char path[PATH_BYTES]) {
    if (!has_type(stage->node, "Sequence")) {
        snprintf(path, PATH_BYTES, "%s", stage->name);
        return stage->node;
    }
    snprintf(path, PATH_BYTES, "%s.%s[%zu]", stage->name, stage->list, index);
    return json_array_get(json_object_get(stage->node, stage->list), index);
}

// The pattern of Replace and Split: {"String": ..} or {"Regex": ..}.
static enum status read_replace(json_t *node, const char *path, struct normalize_string *pattern,
                                struct normalize_string *content, struct error *err) {
    json_t *form = json_object_get(node, "pattern");
    if (json_object_get(form, "Regex") != NULL) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "replacing a regular expression is not supported");
    }
    enum status status = read_string(json_object_get(form, "String"), path, 1, pattern, err);
    return status == STATUS_OK
               ? read_string(json_object_get(node, "content"), path, 0, content, err)
               : status;
}

static enum status read_normalize_step(json_t *node, const char *path, struct normalize_step *step,
                                       struct error *err) {
    static const struct {
        const char *type;
        enum normalize_kind kind;
    } forms[] = {{"NFC", NORMALIZE_NFC},
                 {"NFD", NORMALIZE_NFD},
                 {"NFKC", NORMALIZE_NFKC},
                 {"NFKD", NORMALIZE_NFKD}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (has_type(node, forms[i].type)) {
            step->kind = forms[i].kind;
            return STATUS_OK;
        }
    }
    if (has_type(node, "Prepend")) {
        step->kind = NORMALIZE_PREPEND;
        return read_string(json_object_get(node, "prepend"), path, 0, &step->content, err);
    }
    if (has_type(node, "Replace")) {
        step->kind = NORMALIZE_REPLACE;
        return read_replace(node, path, &step->pattern, &step->content, err);
    }
    return unsupported_type(node, path, err);
}

static enum status read_normalizer(json_t *root, struct normalizer *normalizer, struct error *err) {
    struct stage stage;
    enum status status = stage_read(root, "normalizer", "normalizers", &stage, err);
    size_t n = status == STATUS_OK ? stage_count(&stage) : 0;
    if (n > NORMALIZER_STEPS_MAX) {
        return model_file_error(err, STATUS_LIMIT, file, "normalizer", "more than %d steps",
                                NORMALIZER_STEPS_MAX);
    }
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        json_t *node = stage_step(&stage, i, path);
        status = read_normalize_step(node, path, &normalizer->steps[i], err);
        normalizer->n_steps = i + 1;
    }
    return status;
}

static enum status add_split(struct pretokenizer *p, const char *path, const char *pattern,
                             size_t bytes, bool keep_matches, bool keep_gaps, struct error *err) {
    struct error own = {0};
    enum status status = pretokenizer_add_split(p, pattern, bytes, keep_matches, keep_gaps, &own);
    if (status != STATUS_OK) {
        return model_file_error(err, status, file, path, "%s", own.message);
    }
    return STATUS_OK;
}

// A text is changed before it is cut, so only the first step may change it.
static enum status set_prefix(struct pretokenizer *p, const char *path, enum prefix_rule rule,
                              struct error *err) {
    if (p->n_splits > 0 || p->replace_spaces) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a prefix is supported in the first step only");
    }
    p->prefix_rule = rule;
    return STATUS_OK;
}

static enum status read_byte_level(json_t *node, const char *path, struct pretokenizer *p,
                                   struct error *err) {
    bool use_regex, add_prefix_space;
    enum status status = read_flag(node, path, "use_regex", true, &use_regex, err);
    if (status == STATUS_OK) {
        status = read_flag(node, path, "add_prefix_space", true, &add_prefix_space, err);
    }
    if (status == STATUS_OK && add_prefix_space) {
        p->prefix = (struct normalize_string){" ", 1};
        status = set_prefix(p, path, PREFIX_ALWAYS, err);
    }
    if (status == STATUS_OK && use_regex) {
        status = add_split(p, path, tokenizer_gpt2_pattern, strlen(tokenizer_gpt2_pattern), true,
                           true, err);
    }
    p->byte_level = true;
    return status;
}

// Split with a regular expression; no supported model splits at a fixed string.
static enum status read_split(json_t *node, const char *path, struct pretokenizer *p,
                              struct error *err) {
    json_t *pattern = json_object_get(json_object_get(node, "pattern"), "Regex");
    const char *behavior = json_string_value(json_object_get(node, "behavior"));
    bool invert;
    enum status status = read_flag(node, path, "invert", false, &invert, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (!json_is_string(pattern)) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a split without a regular expression is not supported");
    }
    bool isolated = behavior != NULL && strcmp(behavior, "Isolated") == 0;
    bool removed = behavior != NULL && strcmp(behavior, "Removed") == 0;
    if (!isolated && !removed) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path, "unsupported behavior \"%s\"",
                                behavior != NULL ? behavior : "(none)");
    }
    // Inverted, what matches is the word and what lies between is the border.
    return add_split(p, path, json_string_value(pattern), json_string_length(pattern),
                     isolated || invert, isolated || !invert, err);
}

static enum status read_metaspace(json_t *node, const char *path, struct pretokenizer *p,
                                  struct error *err) {
    const char *scheme = json_string_value(json_object_get(node, "prepend_scheme"));
    enum prefix_rule rule = PREFIX_ALWAYS;
    bool split, add_prefix_space;
    enum status status = read_flag(node, path, "split", true, &split, err);
    if (status == STATUS_OK) {
        status = read_flag(node, path, "add_prefix_space", true, &add_prefix_space, err);
    }
    if (status == STATUS_OK) {
        status = read_string(json_object_get(node, "replacement"), path, 1, &p->prefix, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (strncmp(p->prefix.bytes, "\xE2\x96\x81", p->prefix.count) != 0 || p->prefix.count != 3) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a replacement other than U+2581 is not supported");
    }
    if (scheme == NULL) {
        rule = add_prefix_space ? PREFIX_ALWAYS : PREFIX_NEVER; // files of before 2024
    } else if (strcmp(scheme, "first") == 0) {
        rule = PREFIX_FIRST;
    } else if (strcmp(scheme, "never") == 0) {
        rule = PREFIX_NEVER;
    } else if (strcmp(scheme, "always") != 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "unsupported prepend_scheme \"%s\"", scheme);
    }
    status = set_prefix(p, path, rule, err);
    p->replace_spaces = true;
    if (status == STATUS_OK && split) {
        static const char words[] = "\xE2\x96\x81[^\xE2\x96\x81]*";
        status = add_split(p, path, words, strlen(words), true, true, err);
    }
    return status;
}

static enum status read_pretokenize_step(json_t *node, const char *path, struct pretokenizer *p,
                                         struct error *err) {
    if (p->byte_level) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a step after ByteLevel is not supported");
    }
    if (has_type(node, "ByteLevel")) {
        return read_byte_level(node, path, p, err);
    }
    if (has_type(node, "Split")) {
        return read_split(node, path, p, err);
    }
    if (has_type(node, "Metaspace")) {
        return read_metaspace(node, path, p, err);
    }
    if (has_type(node, "Digits")) {
        bool individual;
        enum status status = read_flag(node, path, "individual_digits", false, &individual, err);
        const char *pattern = individual ? "\\p{N}" : "\\p{N}+";
        return status == STATUS_OK ? add_split(p, path, pattern, strlen(pattern), true, true, err)
                                   : status;
    }
    return unsupported_type(node, path, err);
}

static enum status read_pretokenizer(json_t *root, struct pretokenizer *p, struct error *err) {
    struct stage stage;
    enum status status = stage_read(root, "pre_tokenizer", "pretokenizers", &stage, err);
    size_t n = status == STATUS_OK ? stage_count(&stage) : 0;
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        json_t *node = stage_step(&stage, i, path);
        status = read_pretokenize_step(node, path, p, err);
    }
    return status;
}

static enum status read_strip(json_t *node, const char *path, struct decoder *decoder,
                              struct error *err) {
    struct normalize_string content = {0};
    enum status status = read_string(json_object_get(node, "content"), path, 1, &content, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_int_t start = json_integer_value(json_object_get(node, "start"));
    json_int_t stop = json_integer_value(json_object_get(node, "stop"));
    if (content.count != 1 || content.bytes[0] != ' ' || start < 0 || start > 1 || stop != 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "stripping anything but one space at the start is not supported");
    }
    decoder->start_rule = start == 1 ? START_LOSES_SPACE : START_KEEPS;
    return STATUS_OK;
}

static enum status read_metaspace_decoder(json_t *node, const char *path, struct decoder *decoder,
                                          struct error *err) {
    const char *scheme = json_string_value(json_object_get(node, "prepend_scheme"));
    bool add_prefix_space;
    enum status status = read_flag(node, path, "add_prefix_space", true, &add_prefix_space, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool keeps = scheme != NULL ? strcmp(scheme, "never") == 0 : !add_prefix_space;
    decoder->start_rule = keeps ? START_KEEPS : START_LOSES_SPACES;
    decoder->replaces = true;
    decoder->content = (struct normalize_string){" ", 1};
    return read_string(json_object_get(node, "replacement"), path, 1, &decoder->pattern, err);
}

static enum status read_decode_step(json_t *node, const char *path, struct decoder *decoder,
                                    struct error *err) {
    if (has_type(node, "ByteLevel")) {
        decoder->byte_level = true;
        return STATUS_OK;
    }
    if (has_type(node, "ByteFallback")) {
        decoder->byte_fallback = true;
        return STATUS_OK;
    }
    if (has_type(node, "Fuse")) {
        return STATUS_OK; // joins pieces, which decoding to one text does anyway
    }
    if (has_type(node, "Strip")) {
        return read_strip(node, path, decoder, err);
    }
    if (has_type(node, "Metaspace")) {
        return read_metaspace_decoder(node, path, decoder, err);
    }
    if (has_type(node, "Replace")) {
        if (decoder->replaces) {
            return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                    "a second Replace is not supported");
        }
        decoder->replaces = true;
        return read_replace(node, path, &decoder->pattern, &decoder->content, err);
    }
    return unsupported_type(node, path, err);
}

static enum status read_decoder(json_t *root, struct decoder *decoder, bool byte_level,
                                struct error *err) {
    struct stage stage;
    enum status status = stage_read(root, "decoder", "decoders", &stage, err);
    size_t n = status == STATUS_OK ? stage_count(&stage) : 0;
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        json_t *node = stage_step(&stage, i, path);
        status = read_decode_step(node, path, decoder, err);
    }
    if (status == STATUS_OK &&
        (n == 0 || decoder->byte_level != byte_level || (byte_level && n > 1))) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, "decoder",
                                "does not undo what the pre-tokenizer does");
    }
    return status;
}

// TemplateProcessing says whether a text starts with BOS; ByteLevel only moves offsets.
static enum status read_postprocessor(json_t *root, bool *adds_bos, struct error *err) {
    struct stage stage;
    enum status status = stage_read(root, "post_processor", "processors", &stage, err);
    size_t n = status == STATUS_OK ? stage_count(&stage) : 0;
    for (size_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        json_t *node = stage_step(&stage, i, path);
        if (has_type(node, "TemplateProcessing")) {
            json_t *first = json_array_get(json_object_get(node, "single"), 0);
            *adds_bos = json_object_get(first, "SpecialToken") != NULL;
        } else if (!has_type(node, "ByteLevel")) {
            return unsupported_type(node, path, err);
        }
    }
    return status;
}

static enum status read_added_token(json_t *node, size_t index, struct tokenizer *tokenizer,
                                    struct error *err) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "added_tokens[%zu]", index);
    json_t *content = json_object_get(node, "content");
    json_t *id = json_object_get(node, "id");
    size_t bytes = json_string_length(content);
    if (!json_is_string(content) || !json_is_integer(id) || bytes == 0 ||
        json_integer_value(id) < 0) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "needs a content and an id that is not negative");
    }
    if (bytes > ADDED_TOKEN_BYTES_MAX || json_integer_value(id) >= TOKENIZER_VOCAB_MAX) {
        return model_file_error(err, STATUS_LIMIT, file, path,
                                "an id is below %d and a content has at most %d bytes",
                                TOKENIZER_VOCAB_MAX, ADDED_TOKEN_BYTES_MAX);
    }
    struct added_token token = {.content = json_string_value(content),
                                .bytes = (uint16_t)bytes,
                                .id = (int32_t)json_integer_value(id)};
    const struct {
        const char *key;
        bool *out;
    } flags[] = {{"special", &token.special},
                 {"lstrip", &token.lstrip},
                 {"rstrip", &token.rstrip},
                 {"single_word", &token.single_word},
                 {"normalized", &token.normalized}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        enum status status = read_flag(node, path, flags[i].key, false, flags[i].out, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = tokenizer_add_token(tokenizer, &token);
    if (status == STATUS_ALREADY_EXISTS) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "id %d or its content already means something else", token.id);
    }
    return status == STATUS_OK
               ? status
               : model_file_error(err, status, file, path, "%s", status_text(status));
}

static enum status read_added_tokens(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *list = json_object_get(root, "added_tokens");
    if (list != NULL && !json_is_array(list)) {
        return model_file_error(err, STATUS_MALFORMED, file, "added_tokens", "not an array");
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++) {
        status = read_added_token(json_array_get(list, i), i, tokenizer, err);
    }
    return status;
}

// A merge is "left right" or ["left", "right"].
static enum status read_merge(json_t *node, uint32_t rank, struct tokenizer *tokenizer) {
    if (json_is_array(node) && json_array_size(node) == 2) {
        json_t *left = json_array_get(node, 0);
        json_t *right = json_array_get(node, 1);
        if (!json_is_string(left) || !json_is_string(right)) {
            return STATUS_MALFORMED;
        }
        return tokenizer_read_merge(json_string_value(left), json_string_length(left),
                                    json_string_value(right), json_string_length(right), rank,
                                    tokenizer);
    }
    const char *text = json_string_value(node);
    const char *space = text != NULL ? strchr(text, ' ') : NULL;
    if (space == NULL || strchr(space + 1, ' ') != NULL) {
        return STATUS_MALFORMED;
    }
    return tokenizer_read_merge(text, (size_t)(space - text), space + 1, strlen(space + 1), rank,
                                tokenizer);
}

static enum status read_merges(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    json_t *merges = json_object_get(model, "merges");
    if (!json_is_array(merges)) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.merges", "not an array");
    }
    enum status status = bpe_reserve(&tokenizer->bpe, json_array_size(merges));
    if (status != STATUS_OK) {
        return model_file_error(err, status, file, "model.merges", "%zu merges, the limit is %d",
                                json_array_size(merges), BPE_MERGES_MAX);
    }
    for (size_t i = 0; i < json_array_size(merges) && status == STATUS_OK; i++) {
        status = read_merge(json_array_get(merges, i), (uint32_t)i, tokenizer);
        if (status != STATUS_OK) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "model.merges[%zu]", i);
            return model_file_error(err, status, file, path,
                                    "not two pieces whose join is a piece of the vocabulary");
        }
    }
    return STATUS_OK;
}

// Options that would change every id and that no supported model sets.
static enum status refuse_options(json_t *model, struct error *err) {
    static const char *const strings[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        if (json_string_length(json_object_get(model, strings[i])) > 0) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "model.%s", strings[i]);
            return model_file_error(err, STATUS_UNSUPPORTED, file, path, "is not supported");
        }
    }
    if (json_number_value(json_object_get(model, "dropout")) != 0.0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, "model.dropout", "is not supported");
    }
    return STATUS_OK;
}

static enum status read_unk(json_t *model, struct tokenizer *tokenizer, struct error *err) {
    json_t *unk = json_object_get(model, "unk_token");
    if (unk == NULL || json_is_null(unk)) {
        return STATUS_OK;
    }
    tokenizer->bpe.unk_id = json_is_string(unk)
                                ? vocabulary_find(&tokenizer->vocabulary, json_string_value(unk),
                                                  json_string_length(unk))
                                : -1;
    if (tokenizer->bpe.unk_id < 0) {
        return model_file_error(err, STATUS_MALFORMED, file, "model.unk_token", "is not a token");
    }
    return STATUS_OK;
}

static enum status read_model(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    json_t *model = json_object_get(root, "model");
    if (!json_is_object(model)) {
        return model_file_error(err, STATUS_MALFORMED, file, "model", "not an object");
    }
    // The oldest files name no type; what has merges is BPE.
    bool typed = json_object_get(model, "type") != NULL;
    if (typed ? !has_type(model, "BPE") : json_object_get(model, "merges") == NULL) {
        return unsupported_type(model, "model.type", err);
    }
    struct bpe *bpe = &tokenizer->bpe;
    enum status status = refuse_options(model, err);
    if (status == STATUS_OK) {
        status = read_flag(model, "model.byte_fallback", "byte_fallback", false,
                           &bpe->byte_fallback, err);
    }
    if (status == STATUS_OK) {
        status = read_flag(model, "model.fuse_unk", "fuse_unk", false, &bpe->fuse_unk, err);
    }
    if (status == STATUS_OK) {
        status = read_flag(model, "model.ignore_merges", "ignore_merges", false,
                           &bpe->ignore_merges, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_read_vocabulary(json_object_get(model, "vocab"), file, "model.vocab",
                                           tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = read_merges(model, tokenizer, err);
    }
    return status == STATUS_OK ? read_unk(model, tokenizer, err) : status;
}

enum status tokenizer_source_json(const char *directory, struct tokenizer *tokenizer,
                                  struct error *err) {
    json_t *root = NULL;
    enum status status = model_file_read_json(directory, file, &root, err);
    if (status != STATUS_OK) {
        return status;
    }
    // The normaliser comes before the added tokens, which it may apply to.
    status = read_model(root, tokenizer, err);
    if (status == STATUS_OK) {
        status = read_normalizer(root, &tokenizer->normalizer, err);
    }
    if (status == STATUS_OK) {
        status = read_pretokenizer(root, &tokenizer->pretokenizer, err);
    }
    if (status == STATUS_OK) {
        status = read_decoder(root, &tokenizer->decoder, tokenizer->pretokenizer.byte_level, err);
    }
    if (status == STATUS_OK) {
        status = read_postprocessor(root, &tokenizer->adds_bos, err);
    }
    if (status == STATUS_OK) {
        status = read_added_tokens(root, tokenizer, err);
    }
    json_decref(root);
    return status;
}
