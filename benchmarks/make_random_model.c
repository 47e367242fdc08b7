// Writes a model of random weights, any Llama, Mistral or Qwen2 shape, in Hugging Face layout.
//
//   make_random_model --shape 110m --dtype bf16 DIR
//   make_random_model --dim 512 --layers 8 --heads 8 --kv-heads 2 --hidden 1376 DIR
#include <stdio.h>
#include <string.h>

#include "benchmarks/arguments.h"
#include "benchmarks/random_model.h"

struct given {
    const char *shape;
    const char *family;
    const char *head;
    const char *dtype;
    uint32_t shard_mb;
    int tied;
    int heads, kv_heads; // whether named
};

// The flags point into these defaults, which are the preset's; so a preset is looked for first.
static enum status find_shape(int argc, char **argv, struct random_model_options *options,
                              struct error *err) {
    const char *name = "15m";
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--shape") == 0 && i + 1 < argc) {
            name = argv[i + 1];
        } else if (strncmp(argv[i], "--shape=", 8) == 0) {
            name = argv[i] + 8;
        }
    }
    return random_model_preset(name, options)
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "--shape",
                           "\"%.80s\" is not one of 15m, 110m, 1.1b, 7b", name);
}

static enum status set_choices(const struct given *given, struct random_model_options *options,
                               struct error *err) {
    static const char *const families[] = {"llama", "mistral", "qwen2"};
    static const char *const heads[] = {"lm", "class", "score"};
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    int family = 0, head = 0, dtype = 0;
    enum status status = arguments_choice("--family", given->family, families, 3, &family, err);
    if (status == STATUS_OK) {
        status = arguments_choice("--head", given->head, heads, 3, &head, err);
    }
    if (status == STATUS_OK) {
        status = arguments_choice("--dtype", given->dtype, dtypes, 3, &dtype, err);
    }
    options->architecture = (enum model_architecture)family;
    options->head = (enum model_head)head;
    options->dtype = (enum dtype)dtype;
    options->tied = given->tied != 0;
    options->shard_bytes_max = (uint64_t)given->shard_mb << 20;
    if (given->heads && !given->kv_heads) {
        options->n_kv_heads = options->n_heads;
    }
    return status;
}

static int parse(int argc, char **argv, struct random_model_options *options,
                 const char **directory) {
    struct given given = {.family = "llama", .head = "lm", .dtype = "f32", .shard_mb = 4096};
    const struct flag flags[] = {
        {"shape", FLAG_TEXT, &given.shape, NULL, 0, 0, "NAME",
         "15m, 110m, 1.1b or 7b, where the numbers below are not given; default 15m"},
        {"family", FLAG_TEXT, &given.family, NULL, 0, 0, "NAME",
         "llama, mistral or qwen2; default llama"},
        {"head", FLAG_TEXT, &given.head, NULL, 0, 0, "NAME",
         "lm, class (a reward model) or score (a cost model); default lm"},
        {"dtype", FLAG_TEXT, &given.dtype, NULL, 0, 0, "NAME", "f32, f16 or bf16; default f32"},
        {"dim", FLAG_U32, &options->dim, NULL, 2, MODEL_HIDDEN_MAX, "N", "hidden size"},
        {"layers", FLAG_U32, &options->n_layers, NULL, 1, MODEL_LAYERS_MAX, "N", "layers"},
        {"heads", FLAG_U32, &options->n_heads, &given.heads, 1, MODEL_HEADS_MAX, "N",
         "attention heads"},
        {"kv-heads", FLAG_U32, &options->n_kv_heads, &given.kv_heads, 1, MODEL_HEADS_MAX, "N",
         "key/value heads; default as --heads when that is given"},
        {"hidden", FLAG_U32, &options->hidden, NULL, 1, MODEL_FFN_MAX, "N", "feed-forward size"},
        {"vocab", FLAG_U32, &options->vocab_size, NULL, RANDOM_MODEL_VOCAB_MIN, MODEL_VOCAB_MAX,
         "N", "tokens"},
        {"context", FLAG_U32, &options->context_length, NULL, 1, MODEL_CONTEXT_MAX, "N",
         "longest text in tokens"},
        {"tied", FLAG_SWITCH, &given.tied, NULL, 0, 0, NULL, "the output matrix is the embedding"},
        {"seed", FLAG_U64, &options->seed, NULL, 0, 0, "N", "default 1"},
        {"shard-mb", FLAG_U32, &given.shard_mb, NULL, 1, 1 << 20, "N",
         "largest weight file in MiB; default 4096"},
        {.name = NULL},
    };
    const struct command_line line = {
        .program = "make_random_model",
        .usage = "[FLAGS] DIR",
        .about =
            "Writes config.json, surefoot.json, tokenizer.json and the weights, all random, to "
            "DIR.",
        .tables = {flags},
        .n_tables = 1,
        .positional_min = 1,
        .positional_max = 1,
    };
    struct error err = {0};
    if (find_shape(argc, argv, options, &err) != STATUS_OK) {
        return arguments_fail(line.program, &err);
    }
    int code = arguments_parse(&line, argc, argv, directory);
    if (code < 0 && set_choices(&given, options, &err) != STATUS_OK) {
        return arguments_fail(line.program, &err);
    }
    return code;
}

int main(int argc, char **argv) {
    struct random_model_options options;
    const char *directory = NULL;
    struct error err = {0};
    int code = parse(argc - 1, argv + 1, &options, &directory);
    if (code >= 0) {
        return code;
    }
    if (random_model_write(directory, &options, &err) != STATUS_OK) {
        return arguments_fail("make_random_model", &err);
    }
    return 0;
}
