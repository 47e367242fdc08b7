#include "worker/tokenizer/tokenizer_gguf.h"

#include <string.h>

#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"
#include "worker/model/gguf_names.h"
#include "worker/model/model_path.h"
#include "worker/tokenizer/tokenizer_source.h"

// Numbers as in the file.
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE,
};

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char types_key[] = "tokenizer.ggml.token_type";
static const char merges_key[] = "tokenizer.ggml.merges";
static const char pre_key[] = "tokenizer.ggml.pre";

// mistralai, tekken.json.
static const char tekken_pattern[] =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"
    "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// What a name of tokenizer.ggml.pre stands for in the tokenizer.json of those models.
static const struct pre_rule {
    const char *name;
    const char *pattern; // NULL: the one of ByteLevel itself
    bool nfc;
    bool digits; // each digit is a word
    bool ignore_merges;
    bool adds_bos; // where the file does not say
} pre_rules[] = {
    {.name = "gpt-2"},
    {.name = "phi-2"},
    {.name = "smollm", .digits = true},
    {.name = "starcoder", .digits = true},
    {.name = "refact", .digits = true},
    {.name = "qwen2", .pattern = tokenizer_qwen2_pattern, .nfc = true},
    {.name = "llama-bpe",
     .pattern = tokenizer_llama3_pattern,
     .ignore_merges = true,
     .adds_bos = true},
    {.name = "llama3",
     .pattern = tokenizer_llama3_pattern,
     .ignore_merges = true,
     .adds_bos = true},
    {.name = "llama-v3",
     .pattern = tokenizer_llama3_pattern,
     .ignore_merges = true,
     .adds_bos = true},
    {.name = "tekken", .pattern = tekken_pattern, .ignore_merges = true, .adds_bos = true},
};
enum { PRE_RULES = sizeof pre_rules / sizeof pre_rules[0] };

static enum status find_rule(const struct gguf *gguf, const struct pre_rule **out,
                             struct error *err) {
    struct gguf_string name;
    if (!gguf_get_string(gguf, pre_key, &name)) {
        return error_set(err, STATUS_UNSUPPORTED, pre_key,
                         "%s is missing: a file of before 2024, whose words may be cut otherwise",
                         pre_key);
    }
    for (size_t i = 0; i < PRE_RULES; i++) {
        if (gguf_string_is(&name, pre_rules[i].name)) {
            *out = &pre_rules[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_UNSUPPORTED, pre_key,
                     "%.*s is not supported: gpt-2, phi-2, smollm, starcoder, refact, qwen2, "
                     "llama-bpe, llama3, llama-v3 and tekken are",
                     (int)(name.count < 64 ? name.count : 64), name.bytes);
}

static enum status check_model(const struct gguf *gguf, bool *pieces, struct error *err) {
    static const char key[] = "tokenizer.ggml.model";
    struct gguf_string model;
    if (!gguf_get_string(gguf, key, &model)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is missing or not a string", key);
    }
    *pieces = gguf_string_is(&model, "llama");
    return *pieces || gguf_string_is(&model, "gpt2")
               ? STATUS_OK
               : error_set(err, STATUS_UNSUPPORTED, key,
                           "%.*s is not supported: gpt2 and llama are",
                           (int)(model.count < 64 ? model.count : 64), model.bytes);
}

static enum status check_keys(const struct gguf *gguf, struct error *err) {
    static const char prefix[] = "tokenizer.ggml.";
    static const char *const known[] = {
        "model",
        "pre",
        "tokens",
        "token_type",
        "merges",
        "scores",
        "token_type_count",
        "add_bos_token",
        "add_eos_token",
        "add_sep_token",
        "add_space_prefix",
        "remove_extra_whitespaces",
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "separator_token_id",
        "seperator_token_id",
        "padding_token_id",
        "cls_token_id",
        "mask_token_id",
        "eot_token_id",
        "eom_token_id",
        "prefix_token_id",
        "suffix_token_id",
        "middle_token_id",
        "fim_pre_token_id",
        "fim_suf_token_id",
        "fim_mid_token_id",
        "fim_pad_token_id",
        "fim_rep_token_id",
        "fim_sep_token_id",
    };
    for (size_t i = 0; i < gguf_value_count(gguf); i++) {
        const char *key = gguf_value_at(gguf, i)->key;
        if (strncmp(key, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0] && !found; k++) {
            found = strcmp(key + sizeof prefix - 1, known[k]) == 0;
        }
        if (!found) {
            return error_set(err, STATUS_UNSUPPORTED, key, "%s is not known", key);
        }
    }
    return STATUS_OK;
}

enum status tokenizer_gguf_flag(const struct gguf *gguf, const char *key, bool *out,
                                struct error *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    int64_t flag = *out;
    if (value != NULL &&
        (value->type != GGUF_BOOL || value->is_array || !gguf_integer(value, 0, &flag))) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not a bool", key);
    }
    *out = flag != 0;
    return STATUS_OK;
}

static enum status refuse_flag(const struct gguf *gguf, const char *key, struct error *err) {
    bool flag = false;
    enum status status = tokenizer_gguf_flag(gguf, key, &flag, err);
    return status == STATUS_OK && flag
               ? error_set(err, STATUS_UNSUPPORTED, key, "%s true is not supported", key)
               : status;
}

enum status tokenizer_gguf_check(const struct gguf *gguf, struct error *err) {
    enum status status = check_keys(gguf, err);
    if (status == STATUS_OK) {
        status = refuse_flag(gguf, "tokenizer.ggml.add_eos_token", err);
    }
    return status == STATUS_OK ? refuse_flag(gguf, "tokenizer.ggml.add_sep_token", err) : status;
}

static enum status get_list(const struct gguf *gguf, const char *key, bool strings,
                            const struct gguf_value **out, struct error *err) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (value == NULL || !value->is_array || (value->type == GGUF_STRING) != strings ||
        value->type == GGUF_F32 || value->type == GGUF_F64) {
        return error_set(err, STATUS_MALFORMED, key, "%s is missing or not an array of %s", key,
                         strings ? "strings" : "integers");
    }
    *out = value;
    return STATUS_OK;
}

// Adds a token to vocabulary and, where its type says so, to the added tokens.
static enum status add_token(json_t *vocabulary, json_t *added, const struct gguf_string *text,
                             int64_t id, int64_t type, struct error *err) {
    if (type == TOKEN_UNUSED) {
        return STATUS_OK; // a row of the embedding that no text has
    }
    if (type < TOKEN_NORMAL || type >= TOKEN_BYTE) {
        return error_set(err, STATUS_UNSUPPORTED, types_key, "token %lld is of type %lld",
                         (long long)id, (long long)type);
    }
    json_t *content = json_stringn(text->bytes, text->count);
    if (content == NULL || text->count == 0 || memchr(text->bytes, '\0', text->count) != NULL) {
        json_decref(content);
        return error_set(err, STATUS_MALFORMED, tokens_key,
                         "token %lld is empty, not UTF-8 or holds a zero byte", (long long)id);
    }
    const char *key = json_string_value(content);
    json_t *known = json_object_get(vocabulary, key);
    if (known != NULL) {
        enum status status =
            error_set(err, STATUS_MALFORMED, tokens_key, "tokens %lld and %lld are the same text",
                      (long long)json_integer_value(known), (long long)id);
        json_decref(content);
        return status;
    }
    json_object_set_new(vocabulary, key, json_integer((json_int_t)id));
    if (type != TOKEN_NORMAL) {
        json_array_append_new(added, json_pack("{s:I, s:O, s:b, s:b}", "id", (json_int_t)id,
                                               "content", content, "special",
                                               type != TOKEN_USER_DEFINED, "normalized", 0));
    }
    json_decref(content);
    return STATUS_OK;
}

static enum status read_tokens(const struct gguf *gguf, json_t *vocabulary, json_t *added,
                               struct error *err) {
    const struct gguf_value *tokens = NULL, *types = NULL;
    enum status status = get_list(gguf, tokens_key, true, &tokens, err);
    if (status == STATUS_OK) {
        status = get_list(gguf, types_key, false, &types, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (types->count != tokens->count || tokens->count > TOKENIZER_VOCAB_MAX) {
        return error_set(err, STATUS_MALFORMED, types_key,
                         "%llu types of %llu tokens; the limit is %d",
                         (unsigned long long)types->count, (unsigned long long)tokens->count,
                         TOKENIZER_VOCAB_MAX);
    }
    const unsigned char *at = tokens->data;
    struct gguf_string text;
    for (int64_t id = 0; status == STATUS_OK && gguf_next_string(tokens, &at, &text); id++) {
        int64_t type = 0;
        (void)gguf_integer(types, (uint64_t)id, &type);
        status = add_token(vocabulary, added, &text, id, type, err);
    }
    return status;
}

static enum status read_merges(const struct gguf *gguf, json_t *merges, struct error *err) {
    const struct gguf_value *list = NULL;
    enum status status = get_list(gguf, merges_key, true, &list, err);
    if (status != STATUS_OK) {
        return status;
    }
    const unsigned char *at = list->data;
    struct gguf_string text;
    for (size_t i = 0; gguf_next_string(list, &at, &text); i++) {
        if (json_array_append_new(merges, json_stringn(text.bytes, text.count)) != 0) {
            return error_set(err, STATUS_MALFORMED, merges_key, "merge %zu is not UTF-8", i);
        }
    }
    return STATUS_OK;
}

static json_t *pre_tokenizer(const struct pre_rule *rule, bool prefix_space) {
    json_t *steps = json_array();
    if (rule->digits) {
        json_array_append_new(steps,
                              json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    }
    if (rule->pattern != NULL) {
        json_array_append_new(steps, json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split",
                                               "pattern", "Regex", rule->pattern, "behavior",
                                               "Isolated", "invert", 0));
    }
    json_array_append_new(steps,
                          json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                                    prefix_space, "use_regex", rule->pattern == NULL));
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
}

// The text of the token whose id stands at `key`, null where there is none.
static enum status add_token_name(const struct gguf *gguf, const char *key, json_t *object,
                                  const char *to, struct error *err) {
    int64_t id = -1;
    enum status status = gguf_get_integer(gguf, key, false, &id, err);
    const struct gguf_value *tokens = NULL;
    if (status == STATUS_OK) {
        status = get_list(gguf, tokens_key, true, &tokens, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    json_t *text = id < 0 ? json_null() : NULL;
    if (id >= 0 && (uint64_t)id < tokens->count) {
        const unsigned char *at = tokens->data;
        struct gguf_string token = {0};
        for (int64_t i = 0; i <= id; i++) {
            (void)gguf_next_string(tokens, &at, &token);
        }
        text = json_stringn(token.bytes, token.count);
    }
    if (text == NULL) {
        return error_set(err, STATUS_MALFORMED, key, "%s %lld is not a token of UTF-8", key,
                         (long long)id);
    }
    json_object_set_new(object, to, text);
    return STATUS_OK;
}

// What puts BOS before a text: TemplateProcessing of "$BOS $A", NULL where nothing does.
static enum status post_processor(const struct gguf *gguf, const struct pre_rule *rule,
                                  json_t **out, struct error *err) {
    static const char key[] = "tokenizer.ggml.bos_token_id";
    bool adds_bos = rule->adds_bos && gguf_find(gguf, key) != NULL;
    int64_t id = -1;
    json_t *names = json_object();
    enum status status = tokenizer_gguf_flag(gguf, "tokenizer.ggml.add_bos_token", &adds_bos, err);
    *out = NULL;
    if (status == STATUS_OK && adds_bos) {
        status = gguf_get_integer(gguf, key, true, &id, err);
    }
    if (status == STATUS_OK && adds_bos) {
        status = add_token_name(gguf, key, names, "bos", err);
    }
    if (status == STATUS_OK && adds_bos) {
        json_t *bos = json_object_get(names, "bos");
        *out = json_pack("{s:s, s:[{s:{s:O, s:i}}, {s:{s:s, s:i}}], s:[], s:{}}", "type",
                         "TemplateProcessing", "single", "SpecialToken", "id", bos, "type_id", 0,
                         "Sequence", "id", "A", "type_id", 0, "pair", "special_tokens");
        json_object_set_new(
            json_object_get(*out, "special_tokens"), json_string_value(bos),
            json_pack("{s:O, s:[I], s:[O]}", "id", bos, "ids", (json_int_t)id, "tokens", bos));
    }
    json_decref(names);
    return status;
}

// tokenizer.json.
static enum status read_tokenizer(const struct gguf *gguf, json_t **out, struct error *err) {
    const struct pre_rule *rule = NULL;
    bool prefix_space = false;
    json_t *vocabulary = json_object(), *merges = json_array(), *added = json_array();
    json_t *processor = NULL;
    bool pieces;
    enum status status = check_model(gguf, &pieces, err);
    if (status == STATUS_OK && pieces) {
        status = error_set(err, STATUS_NOT_FOUND, "tokenizer.ggml.model", "of another form");
    }
    if (status == STATUS_OK) {
        status = find_rule(gguf, &rule, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_gguf_check(gguf, err);
    }
    if (status == STATUS_OK) {
        status = refuse_flag(gguf, "tokenizer.ggml.remove_extra_whitespaces", err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_gguf_flag(gguf, "tokenizer.ggml.add_space_prefix", &prefix_space, err);
    }
    if (status == STATUS_OK) {
        status = read_tokens(gguf, vocabulary, added, err);
    }
    if (status == STATUS_OK) {
        status = read_merges(gguf, merges, err);
    }
    if (status == STATUS_OK) {
        status = post_processor(gguf, rule, &processor, err);
    }
    if (status == STATUS_OK) {
        *out = json_pack("{s:O, s:o, s:{s:s}, s:{s:s, s:O, s:O, s:b}}", "added_tokens", added,
                         "pre_tokenizer", pre_tokenizer(rule, prefix_space), "decoder", "type",
                         "ByteLevel", "model", "type", "BPE", "vocab", vocabulary, "merges", merges,
                         "ignore_merges", rule->ignore_merges);
        if (rule->nfc) {
            json_object_set_new(*out, "normalizer", json_pack("{s:s}", "type", "NFC"));
        }
        if (processor != NULL) {
            json_object_set(*out, "post_processor", processor);
        }
    }
    json_decref(vocabulary);
    json_decref(merges);
    json_decref(added);
    json_decref(processor);
    return status;
}

// tokenizer_config.json.
static enum status read_tokenizer_config(const struct gguf *gguf, json_t **out, struct error *err) {
    static const struct {
        const char *key;
        const char *to;
    } names[] = {{"tokenizer.ggml.bos_token_id", "bos_token"},
                 {"tokenizer.ggml.eos_token_id", "eos_token"},
                 {"tokenizer.ggml.padding_token_id", "pad_token"},
                 {"tokenizer.ggml.unknown_token_id", "unk_token"}};
    json_t *config = json_pack("{s:s}", "tokenizer_class", "TokenizersBackend"); // as it is written
    bool adds_bos = true;
    enum status status = check_model(gguf, &adds_bos, err); // pieces start with BOS by default
    for (size_t i = 0; i < sizeof names / sizeof names[0] && status == STATUS_OK; i++) {
        status = add_token_name(gguf, names[i].key, config, names[i].to, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_gguf_flag(gguf, "tokenizer.ggml.add_bos_token", &adds_bos, err);
    }
    if (status == STATUS_OK) {
        json_object_set_new(config, "add_bos_token", json_boolean(adds_bos));
        status = gguf_copy_string(gguf, "tokenizer.chat_template", config, "chat_template", err);
    }
    if (status != STATUS_OK) {
        json_decref(config);
        return status;
    }
    *out = config;
    return STATUS_OK;
}

enum status tokenizer_gguf_translate(const struct gguf *gguf, const char *name, json_t **out,
                                     struct error *err) {
    if (strcmp(name, "tokenizer.json") == 0) {
        return read_tokenizer(gguf, out, err);
    }
    return strcmp(name, "tokenizer_config.json") == 0
               ? read_tokenizer_config(gguf, out, err)
               : error_set(err, STATUS_NOT_FOUND, name, "a GGUF file has no %s", name);
}

enum status tokenizer_gguf_document(const char *path, const char *name, json_t **out,
                                    struct error *err) {
    struct gguf *gguf = NULL;
    enum status status = gguf_open(path, &gguf, err);
    if (status == STATUS_OK) {
        status = tokenizer_gguf_translate(gguf, name, out, err);
    }
    gguf_close(gguf);
    if (status != STATUS_OK) {
        error_prefix_field(err, model_document_label(path, name));
    }
    return status;
}
