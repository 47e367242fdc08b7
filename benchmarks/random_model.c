#include "benchmarks/random_model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "benchmarks/random_weights.h"

enum { PATH_BYTES = 4096 };

static const struct {
    const char *name;
    uint32_t dim, n_layers, n_heads, n_kv_heads, hidden;
} presets[] = {
    {"15m", 288, 6, 6, 6, 768},
    {"110m", 768, 12, 12, 12, 2048},
    {"1.1b", 2048, 22, 32, 4, 5632},
    {"7b", 4096, 32, 32, 32, 11008},
};

bool random_model_preset(const char *name, struct random_model_options *out) {
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = (struct random_model_options){
                .architecture = MODEL_ARCHITECTURE_LLAMA,
                .head = MODEL_HEAD_LM,
                .dtype = DTYPE_F32,
                .dim = presets[i].dim,
                .n_layers = presets[i].n_layers,
                .n_heads = presets[i].n_heads,
                .n_kv_heads = presets[i].n_kv_heads,
                .hidden = presets[i].hidden,
                .vocab_size = 32000,
                .context_length = 4096,
                .seed = 1,
                .shard_bytes_max = (uint64_t)4 << 30,
            };
            return true;
        }
    }
    return false;
}

static enum status check_options(const struct random_model_options *options, struct error *err) {
    const struct {
        const char *flag;
        uint32_t value, min, max;
    } ranges[] = {
        {"--dim", options->dim, 2, MODEL_HIDDEN_MAX},
        {"--layers", options->n_layers, 1, MODEL_LAYERS_MAX},
        {"--heads", options->n_heads, 1, MODEL_HEADS_MAX},
        {"--kv-heads", options->n_kv_heads, 1, MODEL_HEADS_MAX},
        {"--hidden", options->hidden, 1, MODEL_FFN_MAX},
        {"--vocab", options->vocab_size, RANDOM_MODEL_VOCAB_MIN, MODEL_VOCAB_MAX},
        {"--context", options->context_length, 1, MODEL_CONTEXT_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max) {
            return error_set(err, STATUS_LIMIT, ranges[i].flag, "%u is not in [%u, %u]",
                             ranges[i].value, ranges[i].min, ranges[i].max);
        }
    }
    if (options->dim % (2 * options->n_heads) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--heads",
                         "%u heads do not cut --dim %u into equal, even parts", options->n_heads,
                         options->dim);
    }
    if (options->dim / options->n_heads > MODEL_HEAD_DIM_MAX) {
        return error_set(err, STATUS_LIMIT, "--heads", "a head of %u is above the limit %d",
                         options->dim / options->n_heads, MODEL_HEAD_DIM_MAX);
    }
    if (options->n_heads % options->n_kv_heads != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--kv-heads",
                         "%u heads cannot share %u key/value heads evenly", options->n_heads,
                         options->n_kv_heads);
    }
    if (options->head == MODEL_HEAD_SCORE && options->architecture != MODEL_ARCHITECTURE_LLAMA) {
        return error_set(err, STATUS_UNSUPPORTED, "--head",
                         "a score head exists for --family llama only");
    }
    return STATUS_OK;
}

static enum status open_file(const char *directory, const char *name, FILE **out,
                             struct error *err) {
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        return error_set(err, STATUS_LIMIT, name, "the path is longer than %zu bytes",
                         sizeof path - 1);
    }
    *out = fopen(path, "w");
    return *out != NULL ? STATUS_OK
                        : error_set(err, status_from_errno(errno), name, "cannot write %s: %s",
                                    path, strerror(errno));
}

static enum status close_file(FILE *file, const char *name, struct error *err) {
    bool bad = ferror(file) != 0;
    bad = fclose(file) != 0 || bad;
    return bad ? error_set(err, status_from_errno(errno), name, "cannot write: %s", strerror(errno))
               : STATUS_OK;
}

static enum status write_config(const char *directory, const struct random_model_options *options,
                                struct error *err) {
    static const char *const families[] = {"Llama", "Mistral", "Qwen2"};
    static const char *const types[] = {"llama", "mistral", "qwen2"};
    static const char *const heads[] = {"ForCausalLM", "ForSequenceClassification",
                                        "ModelForScore"};
    static const char *const dtypes[] = {"float32", "float16", "bfloat16"};
    static const char *const head_fields[] = {
        "", "\"num_labels\": 1, \"id2label\": {\"0\": \"LABEL_0\"}, ",
        "\"score_dim\": 1, \"score_type\": \"cost\", \"do_normalize\": false, "};
    FILE *file = NULL;
    enum status status = open_file(directory, "config.json", &file, err);
    if (status != STATUS_OK) {
        return status;
    }
    fprintf(file,
            "{\"architectures\": [\"%s%s\"], \"model_type\": \"%s\", \"torch_dtype\": \"%s\",\n"
            " \"hidden_size\": %u, \"num_hidden_layers\": %u, \"num_attention_heads\": %u,\n"
            " \"num_key_value_heads\": %u, \"intermediate_size\": %u, \"vocab_size\": %u,\n"
            " \"max_position_embeddings\": %u, \"hidden_act\": \"silu\", \"rms_norm_eps\": 1e-05,\n"
            " \"rope_theta\": 10000.0, \"tie_word_embeddings\": %s, %s\"sliding_window\": null,\n"
            " \"bos_token_id\": %d, \"eos_token_id\": %d, \"pad_token_id\": %d}\n",
            families[options->architecture], heads[options->head], types[options->architecture],
            dtypes[options->dtype], options->dim, options->n_layers, options->n_heads,
            options->n_kv_heads, options->hidden, options->vocab_size, options->context_length,
            options->tied ? "true" : "false", head_fields[options->head], RANDOM_MODEL_BOS,
            RANDOM_MODEL_EOS, RANDOM_MODEL_PAD);
    return close_file(file, "config.json", err);
}

// What surefoot-worker serves it as: a policy, a reward model or a cost model.
static enum status write_profile(const char *directory, enum model_head head, struct error *err) {
    static const char *const roles[] = {"policy", "reward", "cost"};
    FILE *file = NULL;
    enum status status = open_file(directory, "surefoot.json", &file, err);
    if (status != STATUS_OK) {
        return status;
    }
    fprintf(file, "{\"schema\": 1, \"role\": \"%s\", \"chat_template\": \"beaver\"%s}\n",
            roles[head],
            head == MODEL_HEAD_SCORE ? ", \"cost_mode\": \"token_sum_pos\", \"cost_eos\": \"none\""
                                     : "");
    return close_file(file, "surefoot.json", err);
}

// Byte-level BPE's spelling of a byte (openai/gpt-2, encoder.py) as a JSON escape.
static void put_byte(FILE *file, unsigned byte) {
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    unsigned rank = byte <= ' ' ? byte : byte <= 0xA0 ? byte - 0x7F + 33 : 67;
    fprintf(file, "\\u%04X", printable ? byte : 0x100 + rank);
}

// Three special tokens, one token for each byte and, as there are no merges, further ones that the
// model can write but no text is read as: words of a space and a number.
static enum status write_tokenizer(const char *directory, uint32_t vocab_size, struct error *err) {
    static const char *const special[] = {"<s>", "</s>", "<pad>"};
    FILE *file = NULL;
    enum status status = open_file(directory, "tokenizer.json", &file, err);
    if (status != STATUS_OK) {
        return status;
    }
    fputs("{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n \"added_tokens\": [",
          file);
    for (int i = 0; i < RANDOM_MODEL_BYTE; i++) {
        fprintf(file,
                "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                "\"rstrip\": false, \"normalized\": false, \"special\": true}",
                i > 0 ? ", " : "", i, special[i]);
    }
    fputs("],\n \"normalizer\": null,\n \"pre_tokenizer\": {\"type\": \"ByteLevel\", "
          "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true},\n "
          "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": "
          "[{\"SpecialToken\": {\"id\": \"<s>\", \"type_id\": 0}}, "
          "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}], \"pair\": [], "
          "\"special_tokens\": {\"<s>\": {\"id\": \"<s>\", \"ids\": [0], \"tokens\": "
          "[\"<s>\"]}}},\n \"decoder\": {\"type\": \"ByteLevel\"},\n"
          " \"model\": {\"type\": \"BPE\", \"vocab\": {\"<s>\": 0, \"</s>\": 1, \"<pad>\": 2",
          file);
    for (unsigned byte = 0; byte < 256; byte++) {
        fputs(", \"", file);
        put_byte(file, byte);
        fprintf(file, "\": %u", RANDOM_MODEL_BYTE + byte);
    }
    for (uint32_t id = RANDOM_MODEL_VOCAB_MIN; id < vocab_size; id++) {
        fprintf(file, ", \"\\u0120%u\": %u", id, id);
    }
    fputs("}, \"merges\": []}}\n", file);
    return close_file(file, "tokenizer.json", err);
}

enum status random_model_write(const char *directory, const struct random_model_options *options,
                               struct error *err) {
    enum status status = check_options(options, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        return error_set(err, status_from_errno(errno), "DIR", "cannot make %.200s: %s", directory,
                         strerror(errno));
    }
    status = write_config(directory, options, err);
    if (status == STATUS_OK) {
        status = write_profile(directory, options->head, err);
    }
    if (status == STATUS_OK) {
        status = write_tokenizer(directory, options->vocab_size, err);
    }
    return status == STATUS_OK ? random_weights_write(directory, options, err) : status;
}

enum status random_model_write_guard(const char *directory,
                                     const struct random_model_options *options,
                                     struct error *err) {
    static const char *const names[] = {"policy", "reward", "cost"};
    static const enum model_head heads[] = {MODEL_HEAD_LM, MODEL_HEAD_CLASS, MODEL_HEAD_SCORE};
    enum status status = STATUS_OK;
    for (int i = 0; i < 3 && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        struct random_model_options own = *options;
        own.head = heads[i];
        own.seed = options->seed + (uint64_t)i;
        snprintf(path, sizeof path, "%.4000s/%s", directory, names[i]);
        status = random_model_write(path, &own, err);
    }
    return status;
}
