// RoPE scaling of a GGUF file as the rope_scaling of config.json.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "worker/model/gguf_translation.h"

enum { ROPE_FACTORS_MAX = 512 };

static const char rope_freqs[] = "rope_freqs.weight";
static const char rope_long[] = "rope_factors_long.weight";
static const char rope_short[] = "rope_factors_short.weight";

// The factors of a tensor as an array.
static enum status read_factors(const struct gguf_translation *t, const char *name, json_t **out,
                                struct error *err) {
    const struct gguf_tensor *tensor = gguf_find_tensor(t->gguf, name);
    int64_t n = gguf_head_dim(t) / 2;
    json_t *part = json_object_get(t->config, "partial_rotary_factor");
    n = part != NULL ? (int64_t)((double)n * json_real_value(part) + 0.5) : n;
    if (tensor == NULL || tensor->n_dims != 1 || tensor->extents[0] != n || n > ROPE_FACTORS_MAX ||
        strcmp(tensor->type->name, "F32") != 0) {
        return error_set(err, STATUS_SHAPE, name, "there is no such tensor of %lld F32",
                         (long long)n);
    }
    json_t *factors = json_array();
    for (int64_t i = 0; i < n; i++) {
        float factor;
        memcpy(&factor, (const char *)tensor->data + (size_t)i * sizeof factor, sizeof factor);
        if (!isfinite(factor) || json_array_append_new(factors, json_real((double)factor)) != 0) {
            json_decref(factors);
            return error_set(err, STATUS_MALFORMED, name, "factor %lld is not a finite number",
                             (long long)i);
        }
    }
    *out = factors;
    return STATUS_OK;
}

// Factors by which rotations are slowed down are what longrope has in two sets, one for prompts
// within the original context and one beyond it: with two equal sets and no attention factor it is
// a table of factors, as Llama 3 files carry it.
static enum status add_factors(const struct gguf_translation *t, const char *name_short,
                               const char *name_long, double attention, int64_t original,
                               struct error *err) {
    json_t *shorter = NULL, *longer = NULL;
    enum status status = read_factors(t, name_short, &shorter, err);
    if (status == STATUS_OK) {
        status = read_factors(t, name_long, &longer, err);
    }
    if (status != STATUS_OK) {
        json_decref(shorter);
        return status;
    }
    json_object_set_new(t->config, "rope_scaling",
                        json_pack("{s:s, s:o, s:o, s:f, s:I}", "rope_type", "longrope",
                                  "short_factor", shorter, "long_factor", longer,
                                  "attention_factor", attention, "original_max_position_embeddings",
                                  (json_int_t)original));
    json_object_set_new(t->config, "original_max_position_embeddings", json_integer(original));
    return STATUS_OK;
}

struct scaling {
    char type[16];
    double factor;
    double attention;
    double beta_fast, beta_slow;
    int64_t original;
};

static enum status read_scaling(const struct gguf_translation *t, struct scaling *scaling,
                                struct error *err) {
    char key[GGUF_KEY_BYTES];
    struct gguf_string type = {"linear", 6}; // as in llama.cpp: older files have the factor alone
    gguf_full_key(t, "rope.scaling.type", key);
    if (gguf_find(t->gguf, key) != NULL &&
        (!gguf_get_string(t->gguf, key, &type) || type.count >= sizeof scaling->type)) {
        return gguf_wrong_type(key, "none, linear, yarn or longrope", err);
    }
    snprintf(scaling->type, sizeof scaling->type, "%.*s", (int)type.count, type.bytes);
    const struct {
        const char *suffix;
        double *out;
    } reals[] = {{"rope.scale_linear", &scaling->factor}, // the older name of the next
                 {"rope.scaling.factor", &scaling->factor},
                 {"rope.scaling.attn_factor", &scaling->attention},
                 {"rope.scaling.yarn_beta_fast", &scaling->beta_fast},
                 {"rope.scaling.yarn_beta_slow", &scaling->beta_slow}};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof reals / sizeof reals[0] && status == STATUS_OK; i++) {
        status = gguf_get_real(t->gguf, gguf_full_key(t, reals[i].suffix, key), false, reals[i].out,
                               err);
    }
    scaling->factor = scaling->factor != 0 ? scaling->factor : 1; // likewise
    scaling->original = json_integer_value(json_object_get(t->config, "max_position_embeddings"));
    return status == STATUS_OK
               ? gguf_get_integer(t->gguf,
                                  gguf_full_key(t, "rope.scaling.original_context_length", key),
                                  false, &scaling->original, err)
               : status;
}

enum status gguf_add_rope(const struct gguf_translation *t, struct error *err) {
    struct scaling s = {.factor = 1, .attention = 1, .beta_fast = 32, .beta_slow = 1};
    char key[GGUF_KEY_BYTES];
    enum status status = read_scaling(t, &s, err);
    if (status != STATUS_OK) {
        return status;
    }
    gguf_full_key(t, "rope.scaling.type", key);
    bool factors = gguf_find_tensor(t->gguf, rope_freqs) != NULL;
    bool sets = gguf_find_tensor(t->gguf, rope_long) != NULL ||
                gguf_find_tensor(t->gguf, rope_short) != NULL;
    bool none = strcmp(s.type, "none") == 0 || (strcmp(s.type, "linear") == 0 && s.factor == 1);
    if (strcmp(s.type, "longrope") == 0 || (none && sets)) {
        return factors ? error_set(err, STATUS_UNSUPPORTED, rope_freqs, "beside longrope")
                       : add_factors(t, rope_short, rope_long, s.attention, s.original, err);
    }
    if (s.attention != 1 || sets || (factors && !none)) {
        return error_set(err, STATUS_UNSUPPORTED, key,
                         "RoPE scaling \"%s\" with further factors is not supported", s.type);
    }
    if (factors) {
        return add_factors(t, rope_freqs, rope_freqs, 1, s.original, err);
    }
    if (none) {
        return STATUS_OK;
    }
    if (strcmp(s.type, "linear") == 0) {
        json_object_set_new(t->config, "rope_scaling",
                            json_pack("{s:s, s:f}", "rope_type", "linear", "factor", s.factor));
        return STATUS_OK;
    }
    if (strcmp(s.type, "yarn") == 0) {
        json_object_set_new(t->config, "rope_scaling",
                            json_pack("{s:s, s:f, s:I, s:f, s:f}", "rope_type", "yarn", "factor",
                                      s.factor, "original_max_position_embeddings",
                                      (json_int_t)s.original, "beta_fast", s.beta_fast, "beta_slow",
                                      s.beta_slow));
        return STATUS_OK;
    }
    return error_set(err, STATUS_UNSUPPORTED, key,
                     "RoPE scaling \"%s\" is not supported: none, linear, yarn and longrope are",
                     s.type);
}
