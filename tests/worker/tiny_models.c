#include "tests/worker/tiny_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/reference_model.h"
#include "tests/support/testkit.h"

enum { N_MERGES = TINY_VOCAB - 256 - 2 };

// Both lists have N_MERGES entries; each piece is built from bytes and earlier pieces.
static const char *const merges_own[N_MERGES] = {
    "t h",      "th e",       "i n",       "a n",        "an d",     "e r",        "o u",
    "r e",      "o n",        "\u0120 t",  "\u0120 the", "\u0120 a", "\u0120 and", "o r",
    "i s",      "\u0120 i",   "\u0120i s", "l l",        "e d",      "in g",       "y ou",
    "\u0120 b", "\u0120 you", "s t",       "c h",        "a t",      "e n",        "i t",
    "o f",      "\u0120 of",  "b e",       "k i",        "ki ll",    "b o",        "m b",
    "a l",      "l e",        "r o",       "u s",        "i c",      "a s",        "o w"};
static const char *const merges_foreign[N_MERGES] = {
    "h e",        "t he",       "n d", "a nd",      "n g",      "i ng",     "e a",   "o o", "s e",
    "\u0120 the", "\u0120 and", "t o", "\u0120 to", "i l",      "k il",     "kil l", "e s", "b om",
    "bom b",      "o m",        "m e", "d e",       "\u0120 s", "\u0120 w", "h a",   "t i", "t e",
    "e t",        "e e",        "v e", "w e",       "n e",      "l a",      "l y",   "u r", "r a",
    "r i",        "n t",        "c e", "c o",       "f o",      "g e"};

// Byte-level BPE's spelling of a byte (openai/gpt-2, encoder.py), as JSON.
static void put_byte(FILE *out, int byte) {
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    if (printable) {
        fprintf(out, byte == '"' || byte == '\\' ? "\\%c" : "\\u%04X", (unsigned)byte);
        return;
    }
    int shift = byte <= ' ' ? byte : byte <= 0xA0 ? byte - 0x7F + 33 : 67;
    fprintf(out, "\\u%04X", 0x100u + (unsigned)shift);
}

static void put_merged(FILE *out, const char *merge) {
    for (const char *c = merge; *c != '\0'; c++) {
        if (*c != ' ') {
            fputc(*c, out);
        }
    }
}

static void write_tokenizer(const char *directory, const char *const *merges,
                            const char *normalizer) {
    char path[4400];
    snprintf(path, sizeof path, "%s/tokenizer.json", directory);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs("{\"added_tokens\":[", out);
    for (int i = 0; i < 2; i++) {
        fprintf(out,
                "%s{\"id\":%d,\"content\":\"%s\",\"special\":true,\"normalized\":false,"
                "\"lstrip\":false,\"rstrip\":false,\"single_word\":false}",
                i > 0 ? "," : "", TINY_BOS + i, i > 0 ? "</s>" : "<s>");
    }
    fprintf(out, "],\"normalizer\":%s,", normalizer);
    fputs("\"pre_tokenizer\":{\"type\":\"ByteLevel\","
          "\"add_prefix_space\":false,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
          "\"post_processor\":null,\"model\":{\"type\":\"BPE\",\"vocab\":{",
          out);
    for (int byte = 0; byte < 256; byte++) {
        fputs(byte > 0 ? ",\"" : "\"", out);
        put_byte(out, byte);
        fprintf(out, "\":%d", byte);
    }
    for (int i = 0; i < N_MERGES; i++) {
        fputs(",\"", out);
        put_merged(out, merges[i]);
        fprintf(out, "\":%d", 256 + i);
    }
    fputs("},\"merges\":[", out);
    for (int i = 0; i < N_MERGES; i++) {
        fprintf(out, "%s\"%s\"", i > 0 ? "," : "", merges[i]);
    }
    fputs("]}}", out);
    fclose(out);
    static const char config[] = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    testkit_write_file(path, config, sizeof config - 1);
}

static void write_model(const char *directory, const char *name, const char *architecture,
                        uint64_t seed, const char *const *merges, const char *normalizer,
                        const char *profile) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(mkdir(path, 0700), 0);
    const struct reference_shape shape = {
        .architecture = architecture,
        .vocab_size = TINY_VOCAB,
        .hidden_dim = 32,
        .ffn_dim = 48,
        .n_layers = 2,
        .n_heads = 4,
        .n_kv_heads = 2,
        .context_length = TINY_CONTEXT,
        .norm_eps = 1e-5,
        .rope_theta = 10000,
        .score_bias = true,
        .do_normalize = true,
        .score_type = "cost",
        .dtype = REFERENCE_F32,
    };
    struct reference_model *model = reference_model_create(&shape, seed);
    assert_non_null(model);
    reference_model_write(model, path, 1, -1);
    reference_model_destroy(model);
    write_tokenizer(path, merges, normalizer);
    char file[4400];
    snprintf(file, sizeof file, "%s/surefoot.json", path);
    testkit_write_file(file, profile, strlen(profile));
}

char *tiny_models_make(void) {
    static const char classification[] = "LlamaForSequenceClassification";
    static const char score[] = "LlamaModelForScore";
    static const char reward[] = "{\"schema\":1,\"role\":\"reward\",\"chat_template\":\"vicuna\"}";
    static const char reward_eos[] =
        "{\"schema\":1,\"role\":\"reward\",\"chat_template\":\"beaver\",\"append_eos\":true}";
    static const char cost[] = "{\"schema\":1,\"role\":\"cost\",\"chat_template\":\"beaver\","
                               "\"cost_mode\":\"token_sum_pos\",\"cost_eos\":\"none\","
                               "\"budget\":1.0,\"discount\":0.999,\"cost_min\":0.0}";
    char *directory = testkit_make_directory();
    write_model(directory, "policy", "LlamaForCausalLM", 11, merges_own, "null",
                "{\"schema\":1,\"role\":\"policy\",\"chat_template\":\"beaver\"}");
    write_model(directory, "reward", classification, 12, merges_own, "null", reward);
    write_model(directory, "reward-eos", classification, 13, merges_own, "null", reward_eos);
    write_model(directory, "cost", score, 14, merges_own, "null", cost);
    write_model(directory, "foreign-cost", score, 15, merges_foreign, "null", cost);
    write_model(directory, "foreign-reward", classification, 16, merges_foreign, "null",
                reward_eos);
    write_model(directory, "nfd-cost", score, 17, merges_foreign, "{\"type\":\"NFD\"}", cost);
    return directory;
}

const char *tiny_model_path(const char *directory, const char *name) {
    static char paths[8][4200];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}
