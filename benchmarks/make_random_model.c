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
        flag_text("shape", &given.shape, "NAME",
                  "15m, 110m, 1.1b or 7b, where the numbers below are not given; default 15m"),
        flag_text("family", &given.family, "NAME", "llama, mistral or qwen2; default llama"),
        flag_text("head", &given.head, "NAME",
                  "lm, class (a reward model) or score (a cost model); default lm"),
        flag_text("dtype", &given.dtype, "NAME", "f32, f16 or bf16; default f32"),
        flag_u32("dim", &options->dim, 2, MODEL_HIDDEN_MAX, "N", "hidden size"),
        flag_u32("layers", &options->n_layers, 1, MODEL_LAYERS_MAX, "N", "layers"),
        {.name = "heads",
         .kind = FLAG_U32,
         .target = &options->n_heads,
         .given = &given.heads,
         .min = 1,
         .max = MODEL_HEADS_MAX,
         .value = "N",
         .help = "attention heads"},
        {.name = "kv-heads",
         .kind = FLAG_U32,
         .target = &options->n_kv_heads,
         .given = &given.kv_heads,
         .min = 1,
         .max = MODEL_HEADS_MAX,
         .value = "N",
         .help = "key/value heads; default as --heads when that is given"},
        flag_u32("hidden", &options->hidden, 1, MODEL_FFN_MAX, "N", "feed-forward size"),
        flag_u32("vocab", &options->vocab_size, RANDOM_MODEL_VOCAB_MIN, MODEL_VOCAB_MAX, "N",
                 "tokens"),
        flag_u32("context", &options->context_length, 1, MODEL_CONTEXT_MAX, "N",
                 "longest text in tokens"),
        {.name = "tied",
         .kind = FLAG_SWITCH,
         .target = &given.tied,
         .help = "the output matrix is the embedding"},
        {.name = "seed",
         .kind = FLAG_U64,
         .target = &options->seed,
         .value = "N",
         .help = "default 1"},
        flag_u32("shard-mb", &given.shard_mb, 1, 1 << 20, "N",
                 "largest weight file in MiB; default 4096"),
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
