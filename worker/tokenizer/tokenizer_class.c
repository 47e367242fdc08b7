#include "worker/tokenizer/tokenizer_class.h"

#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"

static const char config_file[] = "tokenizer_config.json";

// Classes that take the file as it is.
static const char *const generic_classes[] = {"PreTrainedTokenizer", "TokenizersBackend",
                                              "PythonBackend", "MistralCommonBackend"};

// The arguments that their constructors fill in.
static const struct class_token no_tokens[] = {{NULL, NULL}};
static const struct class_token llama_tokens[] = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}, {NULL, NULL}};
static const struct class_token gemma_tokens[] = {{"bos_token", "<bos>"},   {"eos_token", "<eos>"},
                                                  {"unk_token", "<unk>"},   {"pad_token", "<pad>"},
                                                  {"mask_token", "<mask>"}, {NULL, NULL}};
static const struct class_token qwen2_tokens[] = {{"eos_token", "<|endoftext|>"},
                                                  {"unk_token", "<|endoftext|>"},
                                                  {"pad_token", "<|endoftext|>"},
                                                  {NULL, NULL}};
static const struct class_token gpt2_tokens[] = {{"bos_token", "<|endoftext|>"},
                                                 {"eos_token", "<|endoftext|>"},
                                                 {"unk_token", "<|endoftext|>"},
                                                 {"pad_token", NULL},
                                                 {NULL, NULL}};
static const struct class_token neox_tokens[] = {{"bos_token", "<|endoftext|>"},
                                                 {"eos_token", "<|endoftext|>"},
                                                 {"unk_token", "<|endoftext|>"},
                                                 {"pad_token", "<|padding|>"},
                                                 {NULL, NULL}};

static const struct {
    const char *name;
    enum pipeline pipeline;
    const struct class_token *tokens;
} own_classes[] = {
    {"LlamaTokenizer", PIPELINE_LLAMA, llama_tokens},
    {"GemmaTokenizer", PIPELINE_GEMMA, gemma_tokens},
    {"Qwen2Tokenizer", PIPELINE_QWEN2, qwen2_tokens},
    {"GPT2Tokenizer", PIPELINE_GPT2, gpt2_tokens},
    {"GPTNeoXTokenizer", PIPELINE_NEOX, neox_tokens},
};

// Classes whose own pipeline is not written here: those of encoders, of other scripts of tokenizers
// and of families without a model here.
static const char *const refused_classes[] = {
    "AlbertTokenizer",    "BarthezTokenizer",    "BartTokenizer",       "BertTokenizer",
    "BigBirdTokenizer",   "BlenderbotTokenizer", "CLIPTokenizer",       "CamembertTokenizer",
    "CodeGenTokenizer",   "CodeLlamaTokenizer",  "CohereTokenizer",     "DebertaTokenizer",
    "DebertaV2Tokenizer", "DistilBertTokenizer", "EsmcTokenizer",       "FNetTokenizer",
    "FunnelTokenizer",    "HerbertTokenizer",    "LasrTokenizer",       "LayoutXLMTokenizer",
    "MBart50Tokenizer",   "MBartTokenizer",      "MPNetTokenizer",      "NllbTokenizer",
    "NougatTokenizer",    "OpenAIGPTTokenizer",  "PegasusTokenizer",    "Qwen3_5Tokenizer",
    "ReformerTokenizer",  "RemBertTokenizer",    "RobertaTokenizer",    "SeamlessM4TTokenizer",
    "Siglip2Tokenizer",   "SplinterTokenizer",   "T5Tokenizer",         "UdopTokenizer",
    "WhisperTokenizer",   "XGLMTokenizer",       "XLMRobertaTokenizer", "XLNetTokenizer",
};

// tokenization_auto.py: the class that a model type is registered with, for types of which a
// configuration may name another. `decides`: the registered one is taken then.
static const struct {
    const char *model_type;
    const char *name;
    bool decides;
} registered[] = {
    {"gemma", "GemmaTokenizer", false},        {"gemma2", "GemmaTokenizer", false},
    {"gemma3", "GemmaTokenizer", false},       {"gemma3_text", "GemmaTokenizer", false},
    {"gpt2", "GPT2Tokenizer", false},          {"gpt_neo", "GPT2Tokenizer", false},
    {"gptj", "GPT2Tokenizer", false},          {"gpt_neox", "GPTNeoXTokenizer", false},
    {"granite", "TokenizersBackend", false},   {"granitemoe", "TokenizersBackend", false},
    {"internlm2", "TokenizersBackend", true},  {"internlm3", "TokenizersBackend", true},
    {"ministral", "TokenizersBackend", false}, {"mistral", "TokenizersBackend", false},
    {"mixtral", "TokenizersBackend", false},   {"nemotron", "TokenizersBackend", true},
    {"olmo", "GPTNeoXTokenizer", false},       {"olmo2", "TokenizersBackend", false},
    {"olmo3", "TokenizersBackend", false},     {"olmoe", "GPTNeoXTokenizer", false},
    {"opt", "GPT2Tokenizer", false},           {"phi", "GPT2Tokenizer", false},
    {"phi3", "TokenizersBackend", true},       {"phimoe", "TokenizersBackend", true},
    {"qwen2", "Qwen2Tokenizer", true},         {"qwen2_moe", "Qwen2Tokenizer", false},
    {"qwen3", "Qwen2Tokenizer", false},        {"qwen3_moe", "Qwen2Tokenizer", false},
    {"stablelm", "TokenizersBackend", false},  {"starcoder2", "GPT2Tokenizer", false},
};

// Bytes of a class name without "Fast", which means the same class.
static size_t stem(const char *name) {
    size_t bytes = strlen(name);
    return bytes > 4 && strcmp(name + bytes - 4, "Fast") == 0 ? bytes - 4 : bytes;
}

static bool same_class(const char *a, const char *b) {
    return stem(a) == stem(b) && memcmp(a, b, stem(a)) == 0;
}

static bool is_generic(const char *name) {
    for (size_t i = 0; i < sizeof generic_classes / sizeof *generic_classes; i++) {
        if (same_class(name, generic_classes[i])) {
            return true;
        }
    }
    return false;
}

// The name of the class that AutoTokenizer takes.
static const char *find_name(const struct special_sources *sources, bool byte_level) {
    const char *named =
        json_string_value(json_object_get(sources->tokenizer_config, "tokenizer_class"));
    const char *type = json_string_value(json_object_get(sources->config, "model_type"));
    const char *own = named != NULL
                          ? named
                          : json_string_value(json_object_get(sources->config, "tokenizer_class"));
    size_t n = sizeof registered / sizeof *registered;
    size_t row = type == NULL ? n : 0;
    while (row < n && strcmp(registered[row].model_type, type) != 0) {
        row++;
    }
    if (own == NULL) {
        return row < n ? registered[row].name : "TokenizersBackend";
    }
    bool decides = row < n && registered[row].decides;
    if (byte_level && !decides && same_class(own, "LlamaTokenizer")) {
        return "TokenizersBackend"; // Llama 3 and others that kept the name
    }
    if (row == n || same_class(own, registered[row].name)) {
        return own;
    }
    return is_generic(registered[row].name) || decides ? registered[row].name : own;
}

static enum status read_option(const struct special_sources *sources, const char *key,
                               bool fallback, bool null_value, bool *out, struct error *err) {
    json_t *value = json_object_get(sources->tokenizer_config, key);
    *out = value == NULL ? fallback : json_is_null(value) ? null_value : json_is_true(value);
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value)) {
        return model_file_error(err, STATUS_MALFORMED, config_file, key, "not a boolean");
    }
    return STATUS_OK;
}

static enum status check_name(const json_t *config, const char *file, const char *key,
                              struct error *err) {
    const json_t *value = json_object_get(config, key);
    return value == NULL || json_is_null(value) || json_is_string(value)
               ? STATUS_OK
               : model_file_error(err, STATUS_MALFORMED, file, key, "not a text");
}

// transformers reads the newest tokenizer.VERSION.json that the list names and that it is not older
// than, in the place of tokenizer.json.
static enum status check_versions(const json_t *config, struct error *err) {
    static const char key[] = "fast_tokenizer_files";
    static const char stem[] = "tokenizer.";
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(config, key), i, value) {
        const char *name = json_string_value(value);
        const char *version = name != NULL ? strstr(name, stem) : NULL;
        if (version != NULL && strstr(version + sizeof stem - 1, ".json") != NULL) {
            return model_file_error(err, STATUS_UNSUPPORTED, config_file, key,
                                    "%.64s: only tokenizer.json itself is read", name);
        }
    }
    return STATUS_OK;
}

// Options that would change ids or text and that no class here follows.
enum status tokenizer_class_check_options(const struct special_sources *sources,
                                          struct error *err) {
    static const char *const options[] = {
        "split_special_tokens", // a template's own markers would not count
        "fix_mistral_regex",
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
    };
    static const char *const flags[] = {"add_bos_token", "add_eos_token"};
    enum status status = check_name(sources->tokenizer_config, config_file, "tokenizer_class", err);
    if (status == STATUS_OK) {
        status = check_name(sources->config, "config.json", "tokenizer_class", err);
    }
    if (status == STATUS_OK) {
        status = check_name(sources->config, "config.json", "model_type", err);
    }
    if (status == STATUS_OK) {
        status = check_versions(sources->tokenizer_config, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < sizeof flags / sizeof *flags; i++) {
        bool ignored;
        status = read_option(sources, flags[i], false, false, &ignored, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < sizeof options / sizeof *options; i++) {
        bool is_set;
        status = read_option(sources, options[i], false, false, &is_set, err);
        if (status == STATUS_OK && is_set) {
            return model_file_error(err, STATUS_UNSUPPORTED, config_file, options[i],
                                    "true is not supported");
        }
    }
    return status;
}

enum status tokenizer_class_find(const struct special_sources *sources, bool byte_level,
                                 struct tokenizer_class *out, struct error *err) {
    const char *name = find_name(sources, byte_level);
    *out = (struct tokenizer_class){.pipeline = PIPELINE_OF_FILE, .tokens = no_tokens};
    for (size_t i = 0; i < sizeof refused_classes / sizeof *refused_classes; i++) {
        if (same_class(name, refused_classes[i])) {
            return model_file_error(err, STATUS_UNSUPPORTED, config_file, "tokenizer_class",
                                    "%s is not supported", name);
        }
    }
    for (size_t i = 0; i < sizeof own_classes / sizeof *own_classes; i++) {
        if (same_class(name, own_classes[i].name)) {
            out->pipeline = own_classes[i].pipeline;
            out->tokens = own_classes[i].tokens;
        }
    }
    out->keeps_post_processor = out->pipeline != PIPELINE_NEOX;
    out->adds_anew = out->pipeline == PIPELINE_QWEN2;
    bool prefix = out->pipeline == PIPELINE_LLAMA;
    enum status status =
        read_option(sources, "add_prefix_space", prefix, prefix, &out->add_prefix_space, err);
    // An explicit null counts as set.
    return status == STATUS_OK ? read_option(sources, "legacy", false, false, &out->legacy, err)
                               : status;
}

static enum status set_llama(const struct tokenizer_class *class, struct tokenizer *t,
                             struct error *err) {
    t->bpe.unk_id = -1;
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unk = true;
    t->decoder.replaces = t->decoder.byte_fallback = true;
    t->decoder.pattern = (struct normalize_string){"\xE2\x96\x81", 3};
    t->decoder.content = (struct normalize_string){" ", 1};
    t->decoder.start_rule = class->add_prefix_space ? START_LOSES_SPACE : START_KEEPS;
    return pretokenizer_add_metaspace(&t->pretokenizer,
                                      !class->add_prefix_space ? PREFIX_NEVER
                                      : class->legacy          ? PREFIX_ALWAYS
                                                               : PREFIX_FIRST,
                                      false, err);
}

static void add_form(struct tokenizer *t, enum normalize_kind kind) {
    t->normalizer.steps[t->normalizer.n_steps++] = (struct normalize_step){.kind = kind};
}

static enum status set_gemma(struct tokenizer *t, struct error *err) {
    t->bpe.byte_fallback = true;
    t->bpe.fuse_unk = true;
    t->decoder.replaces = t->decoder.byte_fallback = true;
    t->decoder.pattern = (struct normalize_string){"\xE2\x96\x81", 3};
    t->decoder.content = (struct normalize_string){" ", 1};
    add_form(t, NORMALIZE_REPLACE);
    t->normalizer.steps[0].pattern = t->decoder.content;
    t->normalizer.steps[0].content = t->decoder.pattern;
    return pretokenizer_add_split(&t->pretokenizer, " ", 1, SPLIT_MERGED_WITH_PREVIOUS, false, err);
}

static enum status set_byte_level(const struct tokenizer_class *class, const char *pattern,
                                  bool prefix_last, struct tokenizer *t, struct error *err) {
    struct pretokenizer *p = &t->pretokenizer;
    const struct normalize_string space = {" ", 1};
    enum status status = STATUS_OK;
    t->decoder.byte_level = p->byte_level = true;
    if (prefix_last) {
        status = pretokenizer_add_split(p, pattern, strlen(pattern), SPLIT_ISOLATED, false, err);
    }
    if (class->add_prefix_space) {
        *pretokenizer_add(p, PRETOKENIZE_PREFIX) = (struct pretokenize_step){
            .kind = PRETOKENIZE_PREFIX, .prefix_rule = PREFIX_ALWAYS, .prefix = space};
    }
    if (!prefix_last) {
        status = pretokenizer_add_split(p, pattern, strlen(pattern), SPLIT_ISOLATED, false, err);
    }
    return status;
}

enum status tokenizer_class_apply(const struct tokenizer_class *class, struct tokenizer *tokenizer,
                                  struct error *err) {
    struct bpe *bpe = &tokenizer->bpe;
    if (tokenizer->kind != MODEL_BPE) {
        return model_file_error(err, STATUS_UNSUPPORTED, config_file, "tokenizer_class",
                                "a class for BPE over another model");
    }
    bpe->ignore_merges = bpe->byte_fallback = bpe->fuse_unk = false;
    switch (class->pipeline) {
    case PIPELINE_LLAMA:
        return set_llama(class, tokenizer, err);
    case PIPELINE_GEMMA:
        return set_gemma(tokenizer, err);
    case PIPELINE_QWEN2:
        bpe->unk_id = -1;
        add_form(tokenizer, NORMALIZE_NFC);
        // Each word takes the prefix, not the text: ByteLevel comes after the split.
        return set_byte_level(class, tokenizer_qwen2_pattern, true, tokenizer, err);
    case PIPELINE_NEOX:
        add_form(tokenizer, NORMALIZE_NFC);
        bpe->unk_id = -1;
        return set_byte_level(class, tokenizer_gpt2_pattern, false, tokenizer, err);
    default:
        bpe->unk_id = -1;
        return set_byte_level(class, tokenizer_gpt2_pattern, false, tokenizer, err);
    }
}
