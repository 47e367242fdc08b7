// Reads the stages of tokenizer.json around its model: normaliser, pre-tokenizer, decoder and
// post-processor.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_json.h"
#include "worker/tokenizer/tokenizer_source.h"

enum { STAGE_DEPTH_MAX = 4 };

static const char *const file = tokenizer_json_file;
static const char space_mark[] = "\xE2\x96\x81"; // U+2581

// A stage of the file is null, one step, or a sequence of steps, which may be sequences again.
struct stage {
    const char *list; // key of the steps in a sequence
    enum status (*read)(json_t *node, const char *path, void *out, struct error *err);
    void *out;
};

static enum status read_stage_node(const struct stage *stage, json_t *node, const char *path,
                                   int depth, struct error *err) {
    if (!json_is_object(node)) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "not an object");
    }
    if (!json_has_type(node, "Sequence")) {
        return stage->read(node, path, stage->out, err);
    }
    json_t *list = json_object_get(node, stage->list);
    if (!json_is_array(list)) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "a sequence without %s",
                                stage->list);
    }
    if (depth == STAGE_DEPTH_MAX) {
        return model_file_error(err, STATUS_LIMIT, file, path, "sequences nest deeper than %d",
                                STAGE_DEPTH_MAX);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < json_array_size(list) && status == STATUS_OK; i++) {
        char inner[JSON_PATH_BYTES];
        snprintf(inner, sizeof inner, "%.48s.%s[%zu]", path, stage->list, i);
        status = read_stage_node(stage, json_array_get(list, i), inner, depth + 1, err);
    }
    return status;
}

static enum status read_stage(json_t *root, const char *name, const struct stage *stage,
                              struct error *err) {
    json_t *node = json_object_get(root, name);
    return node == NULL || json_is_null(node) ? STATUS_OK
                                              : read_stage_node(stage, node, name, 1, err);
}

static enum status read_fixed_replace(json_t *node, const char *path,
                                      struct normalize_string *pattern,
                                      struct normalize_string *content, struct error *err) {
    json_t *form = json_object_get(node, "pattern");
    enum status status = json_read_string(json_object_get(form, "String"), path, 1, pattern, err);
    return status == STATUS_OK
               ? json_read_string(json_object_get(node, "content"), path, 0, content, err)
               : status;
}

static enum status read_normalize_replace(json_t *node, const char *path,
                                          struct normalize_step *step, struct error *err) {
    json_t *regex = json_object_get(json_object_get(node, "pattern"), "Regex");
    if (regex == NULL) {
        step->kind = NORMALIZE_REPLACE;
        return read_fixed_replace(node, path, &step->pattern, &step->content, err);
    }
    struct error own = {0};
    enum status status = json_is_string(regex)
                             ? normalize_step_set_regex(step, json_string_value(regex),
                                                        json_string_length(regex), &own)
                             : error_set(&own, STATUS_MALFORMED, NULL, "Regex is not a string");
    if (status != STATUS_OK) {
        return model_file_error(err, status, file, path, "%s", own.message);
    }
    return json_read_string(json_object_get(node, "content"), path, 0, &step->content, err);
}

static enum status read_charsmap(json_t *node, const char *path, struct charsmap *map,
                                 struct error *err) {
    json_t *text = json_object_get(node, "precompiled_charsmap");
    size_t bytes = json_string_length(text);
    char *raw = malloc(bytes / 4 * 3 + 3);
    if (raw == NULL) {
        return model_file_error(err, STATUS_NO_MEMORY, file, path, "no memory for the map");
    }
    size_t count;
    enum status status = json_is_string(text) && base64_decode(json_string_value(text), bytes, raw,
                                                               bytes / 4 * 3, &count)
                             ? charsmap_read(raw, count, map)
                             : STATUS_MALFORMED;
    free(raw);
    return status == STATUS_OK
               ? status
               : model_file_error(err, status, file, path, "precompiled_charsmap is not a map");
}

static struct normalize_step *add_normalize_step(struct normalizer *n, enum normalize_kind kind) {
    if (n->n_steps == NORMALIZER_STEPS_MAX) {
        return NULL;
    }
    struct normalize_step *step = &n->steps[n->n_steps++];
    *step = (struct normalize_step){.kind = kind};
    return step;
}

static enum status too_many_steps(const char *path, int limit, struct error *err) {
    return model_file_error(err, STATUS_LIMIT, file, path, "more than %d steps", limit);
}

static enum status read_strip_normalizer(json_t *node, const char *path, struct normalizer *n,
                                         struct error *err) {
    static const struct {
        const char *key;
        enum normalize_kind kind;
    } sides[] = {{"strip_left", NORMALIZE_STRIP_LEFT}, {"strip_right", NORMALIZE_STRIP_RIGHT}};
    for (size_t i = 0; i < 2; i++) {
        bool strips;
        enum status status = json_read_flag(node, path, sides[i].key, true, &strips, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (strips && add_normalize_step(n, sides[i].kind) == NULL) {
            return too_many_steps(path, NORMALIZER_STEPS_MAX, err);
        }
    }
    return STATUS_OK;
}

static enum status read_normalize_step(json_t *node, const char *path, void *out,
                                       struct error *err) {
    static const struct {
        const char *type;
        enum normalize_kind kind;
    } forms[] = {
        {"NFC", NORMALIZE_NFC},
        {"NFD", NORMALIZE_NFD},
        {"NFKC", NORMALIZE_NFKC},
        {"NFKD", NORMALIZE_NFKD},
        {"Lowercase", NORMALIZE_LOWERCASE},
        {"Prepend", NORMALIZE_PREPEND},
        {"Replace", NORMALIZE_REPLACE},
        {"Precompiled", NORMALIZE_CHARSMAP},
    };
    struct normalizer *n = out;
    if (json_has_type(node, "Strip")) {
        return read_strip_normalizer(node, path, n, err);
    }
    size_t form = 0;
    while (form < sizeof forms / sizeof *forms && !json_has_type(node, forms[form].type)) {
        form++;
    }
    if (form == sizeof forms / sizeof *forms) {
        return json_unsupported_type(node, path, err);
    }
    struct normalize_step *step = add_normalize_step(n, forms[form].kind);
    if (step == NULL) {
        return too_many_steps(path, NORMALIZER_STEPS_MAX, err);
    }
    switch (step->kind) {
    case NORMALIZE_PREPEND:
        return json_read_string(json_object_get(node, "prepend"), path, 0, &step->content, err);
    case NORMALIZE_REPLACE:
        return read_normalize_replace(node, path, step, err);
    case NORMALIZE_CHARSMAP:
        return read_charsmap(node, path, &step->map, err);
    default:
        return STATUS_OK;
    }
}

enum status json_read_normalizer(json_t *root, struct normalizer *out, struct error *err) {
    const struct stage stage = {"normalizers", read_normalize_step, out};
    return read_stage(root, "normalizer", &stage, err);
}

static enum status add_split(struct pretokenizer *p, const char *path, const char *pattern,
                             size_t bytes, enum split_behavior behavior, bool invert,
                             struct error *err) {
    struct error own = {0};
    enum status status = pretokenizer_add_split(p, pattern, bytes, behavior, invert, &own);
    return status == STATUS_OK ? status
                               : model_file_error(err, status, file, path, "%s", own.message);
}

// The options of ByteLevel, wherever it stands; offsets are nothing here.
static enum status read_byte_level_flags(json_t *node, const char *path, bool *use_regex,
                                         bool *add_prefix_space, struct error *err) {
    bool ignored;
    enum status status = json_read_flag(node, path, "use_regex", true, use_regex, err);
    if (status == STATUS_OK) {
        status = json_read_flag(node, path, "add_prefix_space", true, add_prefix_space, err);
    }
    return status == STATUS_OK ? json_read_flag(node, path, "trim_offsets", true, &ignored, err)
                               : status;
}

static enum status read_byte_level(json_t *node, const char *path, struct pretokenizer *p,
                                   struct error *err) {
    bool use_regex, add_prefix_space;
    enum status status = read_byte_level_flags(node, path, &use_regex, &add_prefix_space, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (p->byte_level) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a second ByteLevel is not supported");
    }
    p->byte_level = true;
    if (add_prefix_space) {
        struct pretokenize_step *step = pretokenizer_add(p, PRETOKENIZE_PREFIX);
        if (step == NULL) {
            return too_many_steps(path, PRETOKENIZER_STEPS_MAX, err);
        }
        step->prefix_rule = PREFIX_ALWAYS;
        step->prefix = (struct normalize_string){" ", 1};
    }
    return use_regex ? add_split(p, path, tokenizer_gpt2_pattern, strlen(tokenizer_gpt2_pattern),
                                 SPLIT_ISOLATED, false, err)
                     : STATUS_OK;
}

static enum status read_behavior(json_t *node, const char *path, enum split_behavior *out,
                                 struct error *err) {
    static const char *const names[] = {
        [SPLIT_ISOLATED] = "Isolated",
        [SPLIT_REMOVED] = "Removed",
        [SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const char *name = json_string_value(json_object_get(node, "behavior"));
    for (size_t i = 0; name != NULL && i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum split_behavior)i;
            return STATUS_OK;
        }
    }
    return model_file_error(err, STATUS_UNSUPPORTED, file, path, "unsupported behavior \"%s\"",
                            name != NULL ? name : "(none)");
}

// A fixed string as an expression that matches it.
static enum status add_string_split(struct pretokenizer *p, const char *path, const char *text,
                                    size_t bytes, enum split_behavior behavior, bool invert,
                                    struct error *err) {
    char *pattern = malloc(2 * bytes + 1);
    if (pattern == NULL) {
        return model_file_error(err, STATUS_NO_MEMORY, file, path, "no memory for a pattern");
    }
    size_t length = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (strchr("\\/|()[]{}^$*+?.-#&", text[i]) != NULL && text[i] != '\0') {
            pattern[length++] = '\\';
        }
        pattern[length++] = text[i];
    }
    enum status status = add_split(p, path, pattern, length, behavior, invert, err);
    free(pattern);
    return status;
}

static enum status read_split(json_t *node, const char *path, struct pretokenizer *p,
                              struct error *err) {
    json_t *form = json_object_get(node, "pattern");
    json_t *regex = json_object_get(form, "Regex");
    json_t *string = json_object_get(form, "String");
    enum split_behavior behavior = SPLIT_ISOLATED;
    bool invert = false;
    enum status status = json_read_flag(node, path, "invert", false, &invert, err);
    if (status == STATUS_OK) {
        status = read_behavior(node, path, &behavior, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (json_is_string(regex)) {
        return add_split(p, path, json_string_value(regex), json_string_length(regex), behavior,
                         invert, err);
    }
    if (json_is_string(string)) {
        return add_string_split(p, path, json_string_value(string), json_string_length(string),
                                behavior, invert, err);
    }
    return model_file_error(err, STATUS_MALFORMED, file, path,
                            "pattern is neither a Regex nor a String");
}

// The prefix rule of a Metaspace step: prepend_scheme, in files of before 2024 add_prefix_space.
static enum status read_prepend_scheme(json_t *node, const char *path, enum prefix_rule *rule,
                                       struct error *err) {
    json_t *named = json_object_get(node, "prepend_scheme");
    const char *scheme = json_string_value(named);
    bool add_prefix_space;
    if (named != NULL && scheme == NULL) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "prepend_scheme is not a string");
    }
    enum status status =
        json_read_flag(node, path, "add_prefix_space", true, &add_prefix_space, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool never = scheme != NULL && strcmp(scheme, "never") == 0;
    if (scheme != NULL && !never && strcmp(scheme, "first") != 0 && strcmp(scheme, "always") != 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "unsupported prepend_scheme \"%s\"", scheme);
    }
    if (scheme != NULL && !never && !add_prefix_space) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "add_prefix_space does not match prepend_scheme");
    }
    *rule = never || !add_prefix_space                       ? PREFIX_NEVER
            : scheme != NULL && strcmp(scheme, "first") == 0 ? PREFIX_FIRST
                                                             : PREFIX_ALWAYS;
    return STATUS_OK;
}

enum status pretokenizer_add_metaspace(struct pretokenizer *p, enum prefix_rule rule, bool split,
                                       struct error *err) {
    struct pretokenize_step *step = pretokenizer_add(p, PRETOKENIZE_PREFIX);
    if (step == NULL) {
        return error_set(err, STATUS_LIMIT, NULL, "more than %d steps", PRETOKENIZER_STEPS_MAX);
    }
    step->prefix_rule = rule;
    step->prefix = (struct normalize_string){"\xE2\x96\x81", 3};
    step->replace_spaces = true;
    // Each mark begins a word: what MergedWithNext makes of it.
    static const char words[] = "\xE2\x96\x81[^\xE2\x96\x81]*";
    return split ? pretokenizer_add_split(p, words, strlen(words), SPLIT_ISOLATED, false, err)
                 : STATUS_OK;
}

static enum status read_metaspace(json_t *node, const char *path, struct pretokenizer *p,
                                  struct error *err) {
    enum prefix_rule rule = PREFIX_ALWAYS;
    bool split;
    struct normalize_string mark;
    enum status status = json_read_flag(node, path, "split", true, &split, err);
    if (status == STATUS_OK) {
        status = json_read_string(json_object_get(node, "replacement"), path, 1, &mark, err);
    }
    if (status == STATUS_OK) {
        status = read_prepend_scheme(node, path, &rule, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (mark.count != 3 || memcmp(mark.bytes, space_mark, 3) != 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a replacement other than U+2581 is not supported");
    }
    if (p->byte_level) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "Metaspace after ByteLevel is not supported");
    }
    struct error own = {0};
    status = pretokenizer_add_metaspace(p, rule, split, &own);
    return status == STATUS_OK ? status
                               : model_file_error(err, status, file, path, "%s", own.message);
}

static enum status read_digits(json_t *node, const char *path, struct pretokenizer *p,
                               struct error *err) {
    bool individual;
    enum status status = json_read_flag(node, path, "individual_digits", false, &individual, err);
    const char *pattern = individual ? "\\p{N}" : "\\p{N}+";
    return status == STATUS_OK
               ? add_split(p, path, pattern, strlen(pattern), SPLIT_ISOLATED, false, err)
               : status;
}

static enum status read_punctuation(json_t *node, const char *path, struct pretokenizer *p,
                                    struct error *err) {
    // What Rust's unicode_categories 0.1 and ASCII call punctuation: of an older Unicode, so that
    // later marks are taken out and two of other categories now are put in.
    static const char pattern[] =
        "(?![\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b4e}-\\x{1b4f}\\x{1b7d}-\\x{1b7f}"
        "\\x{2e43}-\\x{2e5d}\\x{10d6e}\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}"
        "\\x{113d4}-\\x{113d8}\\x{1144b}-\\x{1144f}\\x{1145a}-\\x{1145d}\\x{11660}-\\x{1166c}"
        "\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}\\x{119e2}\\x{11a3f}-\\x{11a46}"
        "\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11b00}-\\x{11b09}\\x{11be1}"
        "\\x{11c41}-\\x{11c45}\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11f43}-\\x{11f4f}"
        "\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{16d6d}-\\x{16d6f}\\x{16e97}-\\x{16e9a}\\x{16fe2}"
        "\\x{1e5ff}\\x{1e95e}-\\x{1e95f}])[\\p{P}\\$+<=>\\^`|~\\x{166d}\\x{111c9}]";
    enum split_behavior behavior = SPLIT_ISOLATED;
    enum status status = json_object_get(node, "behavior") == NULL
                             ? STATUS_OK
                             : read_behavior(node, path, &behavior, err);
    return status == STATUS_OK ? add_split(p, path, pattern, strlen(pattern), behavior, false, err)
                               : status;
}

// Words and runs of other signs; the words' class is that of Rust's regex, with join controls.
static enum status read_whitespace(const char *path, struct pretokenizer *p, struct error *err) {
    static const char pattern[] = "[\\w\\x{200c}\\x{200d}]+|[^\\s\\w\\x{200c}\\x{200d}]+";
    return add_split(p, path, pattern, strlen(pattern), SPLIT_REMOVED, true, err);
}

static enum status read_delimiter(json_t *node, const char *path, struct pretokenizer *p,
                                  struct error *err) {
    struct normalize_string delimiter;
    enum status status =
        json_read_string(json_object_get(node, "delimiter"), path, 1, &delimiter, err);
    return status == STATUS_OK ? add_string_split(p, path, delimiter.bytes, delimiter.count,
                                                  SPLIT_REMOVED, false, err)
                               : status;
}

static enum status read_fixed_length(json_t *node, const char *path, struct pretokenizer *p,
                                     struct error *err) {
    json_t *length = json_object_get(node, "length");
    json_int_t value = length == NULL ? 5 : json_integer_value(length); // the library's default
    if (value < 1 || value > TOKENIZER_TEXT_BYTES_MAX) {
        return model_file_error(err, STATUS_MALFORMED, file, path, "length is not 1 to %d",
                                TOKENIZER_TEXT_BYTES_MAX);
    }
    struct pretokenize_step *step = pretokenizer_add(p, PRETOKENIZE_LENGTH);
    if (step == NULL) {
        return too_many_steps(path, PRETOKENIZER_STEPS_MAX, err);
    }
    step->length = (uint32_t)value;
    return STATUS_OK;
}

static enum status read_pretokenize_step(json_t *node, const char *path, void *out,
                                         struct error *err) {
    struct pretokenizer *p = out;
    if (p->byte_level && !p->spelled) {
        // What follows ByteLevel sees its characters.
        if (pretokenizer_add(p, PRETOKENIZE_SPELL) == NULL) {
            return too_many_steps(path, PRETOKENIZER_STEPS_MAX, err);
        }
        p->spelled = true;
    }
    if (json_has_type(node, "ByteLevel")) {
        return read_byte_level(node, path, p, err);
    }
    if (json_has_type(node, "Split")) {
        return read_split(node, path, p, err);
    }
    if (json_has_type(node, "Metaspace")) {
        return read_metaspace(node, path, p, err);
    }
    if (json_has_type(node, "Digits")) {
        return read_digits(node, path, p, err);
    }
    if (json_has_type(node, "Punctuation")) {
        return read_punctuation(node, path, p, err);
    }
    if (json_has_type(node, "Whitespace")) {
        return read_whitespace(path, p, err);
    }
    if (json_has_type(node, "WhitespaceSplit")) {
        return add_split(p, path, "\\s", 2, SPLIT_REMOVED, false, err);
    }
    if (json_has_type(node, "CharDelimiterSplit")) {
        return read_delimiter(node, path, p, err);
    }
    if (json_has_type(node, "FixedLength")) {
        return read_fixed_length(node, path, p, err);
    }
    return json_unsupported_type(node, path, err);
}

enum status json_read_pretokenizer(json_t *root, struct pretokenizer *out, struct error *err) {
    const struct stage stage = {"pretokenizers", read_pretokenize_step, out};
    return read_stage(root, "pre_tokenizer", &stage, err);
}

static enum status read_strip(json_t *node, const char *path, struct decoder *decoder,
                              struct error *err) {
    struct normalize_string content = {0};
    enum status status = json_read_string(json_object_get(node, "content"), path, 1, &content, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_t *ends[] = {json_object_get(node, "start"), json_object_get(node, "stop")};
    if (!json_is_integer(ends[0]) || !json_is_integer(ends[1])) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "start or stop is not a whole number");
    }
    json_int_t start = json_integer_value(ends[0]);
    json_int_t stop = json_integer_value(ends[1]);
    if (content.count != 1 || content.bytes[0] != ' ' || start < 0 || start > 1 || stop != 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "stripping anything but one space at the start is not supported");
    }
    if (start == 1 && !decoder->fused) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "stripping every token is not supported");
    }
    decoder->start_rule = start == 1 ? START_LOSES_SPACE : START_KEEPS;
    return STATUS_OK;
}

static enum status read_metaspace_decoder(json_t *node, const char *path, struct decoder *decoder,
                                          struct error *err) {
    enum prefix_rule rule = PREFIX_ALWAYS;
    enum status status = read_prepend_scheme(node, path, &rule, err);
    if (status != STATUS_OK) {
        return status;
    }
    decoder->start_rule = rule == PREFIX_NEVER ? START_KEEPS : START_LOSES_SPACES;
    decoder->replaces = true;
    decoder->content = (struct normalize_string){" ", 1};
    return json_read_string(json_object_get(node, "replacement"), path, 1, &decoder->pattern, err);
}

static enum status read_decode_step(json_t *node, const char *path, void *out, struct error *err) {
    struct decoder *decoder = out;
    decoder->n_steps++;
    if (json_has_type(node, "ByteLevel")) {
        bool ignored;
        decoder->byte_level = true;
        return read_byte_level_flags(node, path, &ignored, &ignored, err);
    }
    if (json_has_type(node, "ByteFallback")) {
        decoder->byte_fallback = true;
        return STATUS_OK;
    }
    if (json_has_type(node, "Fuse")) {
        decoder->fused = true;
        return STATUS_OK;
    }
    if (json_has_type(node, "Strip")) {
        return read_strip(node, path, decoder, err);
    }
    bool metaspace = json_has_type(node, "Metaspace");
    if (!metaspace && !json_has_type(node, "Replace")) {
        return json_unsupported_type(node, path, err);
    }
    if (decoder->replaces || decoder->fused || decoder->byte_fallback) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "only the first step may replace, and only once");
    }
    if (metaspace) {
        return read_metaspace_decoder(node, path, decoder, err);
    }
    if (json_object_get(json_object_get(node, "pattern"), "Regex") != NULL) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "replacing a regular expression is not supported");
    }
    decoder->replaces = true;
    return read_fixed_replace(node, path, &decoder->pattern, &decoder->content, err);
}

enum status json_read_decoder(json_t *root, bool byte_level, struct decoder *out,
                              struct error *err) {
    const struct stage stage = {"decoders", read_decode_step, out};
    enum status status = read_stage(root, "decoder", &stage, err);
    if (status == STATUS_OK &&
        (out->n_steps == 0 || out->byte_level != byte_level || (byte_level && out->n_steps > 1))) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, "decoder",
                                "does not undo what the pre-tokenizer does");
    }
    return status;
}

// Notes the ids of one special token of a template, by the list of the file.
static enum status read_template_token(json_t *node, json_t *tokens, const char *path, size_t *n,
                                       int32_t *ids, struct error *err) {
    const char *name = json_string_value(json_object_get(node, "id"));
    json_t *list = name != NULL ? json_object_get(json_object_get(tokens, name), "ids") : NULL;
    if (!json_is_array(list)) {
        return model_file_error(err, STATUS_MALFORMED, file, path,
                                "a special token that special_tokens does not list");
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *id = json_array_get(list, i);
        if (*n == FRAME_IDS_MAX) {
            return model_file_error(err, STATUS_LIMIT, file, path, "more than %d special tokens",
                                    FRAME_IDS_MAX);
        }
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= TOKENIZER_VOCAB_MAX) {
            return model_file_error(err, STATUS_MALFORMED, file, path, "an id is below %d",
                                    TOKENIZER_VOCAB_MAX);
        }
        ids[(*n)++] = (int32_t)json_integer_value(id);
    }
    return STATUS_OK;
}

// The template for one text: special tokens, the text once, special tokens.
static enum status read_template(json_t *node, const char *path, struct frame *frame,
                                 struct error *err) {
    json_t *single = json_object_get(node, "single");
    json_t *tokens = json_object_get(node, "special_tokens");
    bool seen = false;
    for (size_t i = 0; i < json_array_size(single); i++) {
        json_t *part = json_array_get(single, i);
        json_t *token = json_object_get(part, "SpecialToken");
        json_t *text = json_object_get(part, "Sequence");
        const char *id = json_string_value(json_object_get(text, "id"));
        enum status status = STATUS_OK;
        if (json_is_object(token)) {
            status =
                read_template_token(token, tokens, path, seen ? &frame->n_after : &frame->n_before,
                                    seen ? frame->after : frame->before, err);
        } else if (!json_is_object(text) || seen || id == NULL || strcmp(id, "A") != 0) {
            status = model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                      "a template that does not hold the text once");
        } else {
            seen = true;
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return seen ? STATUS_OK
                : model_file_error(err, STATUS_MALFORMED, file, path, "single is not a template");
}

// TemplateProcessing puts special tokens around a text; ByteLevel only moves offsets.
static enum status read_processor(json_t *node, const char *path, void *out, struct error *err) {
    struct frame *frame = out;
    if (json_has_type(node, "ByteLevel")) {
        return STATUS_OK;
    }
    if (!json_has_type(node, "TemplateProcessing")) {
        return json_unsupported_type(node, path, err);
    }
    if (frame->n_before + frame->n_after > 0) {
        return model_file_error(err, STATUS_UNSUPPORTED, file, path,
                                "a second template is not supported");
    }
    return read_template(node, path, frame, err);
}

enum status json_read_postprocessor(json_t *root, struct tokenizer *tokenizer, struct error *err) {
    const struct stage stage = {"processors", read_processor, &tokenizer->frame};
    return read_stage(root, "post_processor", &stage, err);
}
