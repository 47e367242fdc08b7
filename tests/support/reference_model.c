#include "tests/support/reference_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

enum { TENSORS_MAX = 512 };

struct weight {
    char name[96];
    int rows; // 0 is a vector
    int cols;
    double *values; // [max(rows, 1) * cols]
};

struct reference_model {
    struct reference_shape shape;
    struct weight weights[TENSORS_MAX];
    int n_weights;
    uint64_t random;
    bool is_class, is_score;
};

static size_t weight_count(const struct weight *weight) {
    return (size_t)(weight->rows == 0 ? 1 : weight->rows) * (size_t)weight->cols;
}

static double next_uniform(uint64_t *state) { // splitmix64, [-1, 1)
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1.0p-52 - 1.0;
}

// The nearest value that the dtype holds, ties to even.
static double round_to(double value, enum reference_dtype dtype) {
    if (dtype == REFERENCE_F32) {
        return (double)(float)value;
    }
    if (value == 0) {
        return 0;
    }
    int exponent;
    frexp(value, &exponent); // |value| in [2^(exponent-1), 2^exponent)
    int digits = dtype == REFERENCE_F16 ? 11 : 8;
    int quantum = exponent - digits;
    if (dtype == REFERENCE_F16 && quantum < -24) {
        quantum = -24;
    }
    return ldexp(nearbyint(ldexp(value, -quantum)), quantum);
}

// Bits of a value that the dtype holds exactly.
static uint16_t encode_16(double value, enum reference_dtype dtype) {
    if (dtype == REFERENCE_BF16) {
        float narrow = (float)value;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        return (uint16_t)(bits >> 16);
    }
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double size = fabs(value);
    if (size < 0x1.0p-14) {
        return (uint16_t)(sign | (uint16_t)ldexp(size, 24));
    }
    int exponent;
    double fraction = frexp(size, &exponent); // [0.5, 1)
    return (uint16_t)(sign | (exponent + 14) << 10 | ((int)ldexp(fraction, 11) & 1023));
}

static void add_weight(struct reference_model *model, int rows, int cols, double center,
                       double spread, const char *format, ...) {
    struct weight *weight = &model->weights[model->n_weights++];
    assert_true(model->n_weights <= TENSORS_MAX);
    va_list args;
    va_start(args, format);
    vsnprintf(weight->name, sizeof weight->name, format, args);
    va_end(args);
    weight->rows = rows;
    weight->cols = cols;
    size_t n = weight_count(weight);
    weight->values = calloc(n, sizeof(double));
    assert_non_null(weight->values);
    for (size_t i = 0; i < n; i++) {
        double value = center + spread * next_uniform(&model->random);
        weight->values[i] = round_to(value, model->shape.dtype);
    }
}

static const double *find(const struct reference_model *model, const char *format, ...) {
    char name[96];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    for (int i = 0; i < model->n_weights; i++) {
        if (strcmp(model->weights[i].name, name) == 0) {
            return model->weights[i].values;
        }
    }
    return NULL;
}

static int head_dim_of(const struct reference_shape *shape) {
    return shape->head_dim > 0 ? shape->head_dim : shape->hidden_dim / shape->n_heads;
}

static void add_layer(struct reference_model *model, int layer) {
    const struct reference_shape *s = &model->shape;
    int q_dim = s->n_heads * head_dim_of(s);
    int kv_dim = s->n_kv_heads * head_dim_of(s);
    double in = sqrt(3.0 / s->hidden_dim); // unit variance out of unit variance in
    add_weight(model, 0, s->hidden_dim, 1, 0.3, "model.layers.%d.input_layernorm.weight", layer);
    add_weight(model, q_dim, s->hidden_dim, 0, 1.4 * in, "model.layers.%d.self_attn.q_proj.weight",
               layer);
    add_weight(model, kv_dim, s->hidden_dim, 0, 1.4 * in, "model.layers.%d.self_attn.k_proj.weight",
               layer);
    add_weight(model, kv_dim, s->hidden_dim, 0, in, "model.layers.%d.self_attn.v_proj.weight",
               layer);
    if (s->qkv_bias) {
        add_weight(model, 0, q_dim, 0, 0.5, "model.layers.%d.self_attn.q_proj.bias", layer);
        add_weight(model, 0, kv_dim, 0, 0.5, "model.layers.%d.self_attn.k_proj.bias", layer);
        add_weight(model, 0, kv_dim, 0, 0.5, "model.layers.%d.self_attn.v_proj.bias", layer);
    }
    add_weight(model, s->hidden_dim, q_dim, 0, sqrt(3.0 / q_dim),
               "model.layers.%d.self_attn.o_proj.weight", layer);
    add_weight(model, 0, s->hidden_dim, 1, 0.3, "model.layers.%d.post_attention_layernorm.weight",
               layer);
    add_weight(model, s->ffn_dim, s->hidden_dim, 0, in, "model.layers.%d.mlp.gate_proj.weight",
               layer);
    add_weight(model, s->ffn_dim, s->hidden_dim, 0, in, "model.layers.%d.mlp.up_proj.weight",
               layer);
    add_weight(model, s->hidden_dim, s->ffn_dim, 0, sqrt(3.0 / s->ffn_dim),
               "model.layers.%d.mlp.down_proj.weight", layer);
}

struct reference_model *reference_model_create(const struct reference_shape *shape, uint64_t seed) {
    struct reference_model *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model->shape = *shape;
    model->random = seed;
    model->is_class = strstr(shape->architecture, "ForSequenceClassification") != NULL;
    model->is_score = strstr(shape->architecture, "ForScore") != NULL;
    double in = sqrt(3.0 / shape->hidden_dim);
    add_weight(model, shape->vocab_size, shape->hidden_dim, 0, 1, "model.embed_tokens.weight");
    for (int layer = 0; layer < shape->n_layers; layer++) {
        add_layer(model, layer);
    }
    add_weight(model, 0, shape->hidden_dim, 1, 0.3, "model.norm.weight");
    if (model->is_class) {
        add_weight(model, 1, shape->hidden_dim, 0, in, "score.weight");
    } else if (model->is_score) {
        add_weight(model, 1, shape->hidden_dim, 0, in, "score_head.weight");
        if (shape->score_bias) {
            add_weight(model, 0, 1, 0.25, 0, "score_head.bias");
        }
        add_weight(model, 0, 1, 0.5, 0, "normalizer.mean");
        add_weight(model, 0, 1, 4, 0, "normalizer.var");
    } else if (!shape->tied) {
        add_weight(model, shape->vocab_size, shape->hidden_dim, 0, in, "lm_head.weight");
    }
    return model;
}

void reference_model_destroy(struct reference_model *model) {
    if (model != NULL) {
        for (int i = 0; i < model->n_weights; i++) {
            free(model->weights[i].values);
        }
        free(model);
    }
}

int64_t reference_model_parameters(const struct reference_model *model) {
    int64_t n = 0;
    for (int i = 0; i < model->n_weights; i++) {
        if (strncmp(model->weights[i].name, "normalizer", 10) != 0) {
            n += (int64_t)weight_count(&model->weights[i]);
        }
    }
    return n;
}

// out[rows] = matrix[rows, cols] x + bias
static void multiply(double *out, const double *matrix, const double *bias, const double *x,
                     int rows, int cols) {
    for (int i = 0; i < rows; i++) {
        double sum = bias != NULL ? bias[i] : 0;
        for (int j = 0; j < cols; j++) {
            sum += matrix[(size_t)i * (size_t)cols + (size_t)j] * x[j];
        }
        out[i] = sum;
    }
}

// Zhang and Sennrich 2019, equation 4.
static void rms_norm(double *out, const double *x, const double *weight, int n, double eps) {
    double square = 0;
    for (int i = 0; i < n; i++) {
        square += x[i] * x[i];
    }
    double scale = 1 / sqrt(square / n + eps);
    for (int i = 0; i < n; i++) {
        out[i] = x[i] * scale * weight[i];
    }
}

// Angle per position of pair i, with Llama 3.1's rule by wavelength where asked for.
static double angle_step(const struct reference_shape *shape, int pair) {
    double step = 1 / pow(shape->rope_theta, 2.0 * pair / head_dim_of(shape));
    if (!shape->llama3_scaling) {
        return step;
    }
    const double factor = 8, low = 1, high = 4, original = 32;
    double wavelength = 2 * acos(-1) / step;
    if (wavelength < original / high) {
        return step;
    }
    if (wavelength > original / low) {
        return step / factor;
    }
    double smooth = (original / wavelength - low) / (high - low);
    return (1 - smooth) * step / factor + smooth * step;
}

// Su et al. 2021, equation 34, pairs (i, i + head_dim / 2).
static void rotate(const struct reference_shape *shape, double *x, int n_heads, int position) {
    int dim = head_dim_of(shape);
    for (int head = 0; head < n_heads; head++) {
        for (int i = 0; i < dim / 2; i++) {
            double angle = position * angle_step(shape, i);
            double *a = &x[head * dim + i];
            double *b = &x[head * dim + i + dim / 2];
            double rotated = *a * cos(angle) - *b * sin(angle);
            *b = *a * sin(angle) + *b * cos(angle);
            *a = rotated;
        }
    }
}

// One query over keys and values 0..position (Vaswani et al. 2017, equation 1), grouped heads.
static void attend(const struct reference_shape *shape, double *out, const double *q,
                   const double *keys, const double *values, int position) {
    int dim = head_dim_of(shape);
    int kv_dim = shape->n_kv_heads * dim;
    double *p = calloc((size_t)position + 1, sizeof *p);
    assert_non_null(p);
    for (int head = 0; head < shape->n_heads; head++) {
        int offset = head / (shape->n_heads / shape->n_kv_heads) * dim;
        double largest = -INFINITY, sum = 0;
        for (int t = 0; t <= position; t++) {
            p[t] = 0;
            for (int i = 0; i < dim; i++) {
                p[t] += q[head * dim + i] * keys[t * kv_dim + offset + i];
            }
            p[t] /= sqrt(dim);
            largest = fmax(largest, p[t]);
        }
        for (int t = 0; t <= position; t++) {
            p[t] = exp(p[t] - largest);
            sum += p[t];
        }
        for (int i = 0; i < dim; i++) {
            double value = 0;
            for (int t = 0; t <= position; t++) {
                value += p[t] / sum * values[t * kv_dim + offset + i];
            }
            out[head * dim + i] = value;
        }
    }
    free(p);
}

static void attention_part(const struct reference_model *model, int layer, double *x, int n) {
    const struct reference_shape *s = &model->shape;
    int q_dim = s->n_heads * head_dim_of(s), kv_dim = s->n_kv_heads * head_dim_of(s);
    double *normed = calloc((size_t)(s->hidden_dim + 2 * q_dim), sizeof *normed);
    double *keys = calloc((size_t)(2 * n * kv_dim), sizeof *keys);
    assert_non_null(normed);
    assert_non_null(keys);
    double *q = normed + s->hidden_dim, *mixed = q + q_dim, *values = keys + n * kv_dim;
    double *out = calloc((size_t)s->hidden_dim, sizeof *out);
    assert_non_null(out);
    for (int t = 0; t < n; t++) {
        const char *prefix = "model.layers.%d.self_attn.%s";
        rms_norm(normed, x + t * s->hidden_dim,
                 find(model, "model.layers.%d.input_layernorm.weight", layer), s->hidden_dim,
                 s->norm_eps);
        multiply(q, find(model, prefix, layer, "q_proj.weight"),
                 find(model, prefix, layer, "q_proj.bias"), normed, q_dim, s->hidden_dim);
        multiply(keys + t * kv_dim, find(model, prefix, layer, "k_proj.weight"),
                 find(model, prefix, layer, "k_proj.bias"), normed, kv_dim, s->hidden_dim);
        multiply(values + t * kv_dim, find(model, prefix, layer, "v_proj.weight"),
                 find(model, prefix, layer, "v_proj.bias"), normed, kv_dim, s->hidden_dim);
        rotate(s, q, s->n_heads, t);
        rotate(s, keys + t * kv_dim, s->n_kv_heads, t);
        attend(s, mixed, q, keys, values, t);
        multiply(out, find(model, prefix, layer, "o_proj.weight"), NULL, mixed, s->hidden_dim,
                 q_dim);
        for (int i = 0; i < s->hidden_dim; i++) {
            x[t * s->hidden_dim + i] += out[i];
        }
    }
    free(normed);
    free(keys);
    free(out);
}

// Shazeer 2020, equation 6, with the Swish of beta 1.
static void ffn_part(const struct reference_model *model, int layer, double *x, int n) {
    const struct reference_shape *s = &model->shape;
    double *normed = calloc((size_t)(2 * s->hidden_dim + 2 * s->ffn_dim), sizeof *normed);
    assert_non_null(normed);
    double *out = normed + s->hidden_dim, *gate = out + s->hidden_dim, *up = gate + s->ffn_dim;
    for (int t = 0; t < n; t++) {
        const char *prefix = "model.layers.%d.mlp.%s.weight";
        rms_norm(normed, x + t * s->hidden_dim,
                 find(model, "model.layers.%d.post_attention_layernorm.weight", layer),
                 s->hidden_dim, s->norm_eps);
        multiply(gate, find(model, prefix, layer, "gate_proj"), NULL, normed, s->ffn_dim,
                 s->hidden_dim);
        multiply(up, find(model, prefix, layer, "up_proj"), NULL, normed, s->ffn_dim,
                 s->hidden_dim);
        for (int i = 0; i < s->ffn_dim; i++) {
            gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
        }
        multiply(out, find(model, prefix, layer, "down_proj"), NULL, gate, s->hidden_dim,
                 s->ffn_dim);
        for (int i = 0; i < s->hidden_dim; i++) {
            x[t * s->hidden_dim + i] += out[i];
        }
    }
    free(normed);
}

void reference_model_forward(const struct reference_model *model, const int32_t *ids, int n,
                             double *hidden) {
    int dim = model->shape.hidden_dim;
    for (int t = 0; t < n; t++) {
        memcpy(hidden + t * dim, find(model, "model.embed_tokens.weight") + ids[t] * dim,
               (size_t)dim * sizeof *hidden);
    }
    for (int layer = 0; layer < model->shape.n_layers; layer++) {
        attention_part(model, layer, hidden, n);
        ffn_part(model, layer, hidden, n);
    }
    for (int t = 0; t < n; t++) {
        rms_norm(hidden + t * dim, hidden + t * dim, find(model, "model.norm.weight"), dim,
                 model->shape.norm_eps);
    }
}

void reference_model_logits(const struct reference_model *model, const double *state,
                            double *logits) {
    multiply(logits,
             find(model, model->shape.tied ? "model.embed_tokens.weight" : "lm_head.weight"), NULL,
             state, model->shape.vocab_size, model->shape.hidden_dim);
}

double reference_model_score(const struct reference_model *model, const double *state) {
    double score;
    if (model->is_class) {
        multiply(&score, find(model, "score.weight"), NULL, state, 1, model->shape.hidden_dim);
        return score;
    }
    multiply(&score, find(model, "score_head.weight"), find(model, "score_head.bias"), state, 1,
             model->shape.hidden_dim);
    if (!model->shape.do_normalize || strcmp(model->shape.score_type, "critic") == 0) {
        return score;
    }
    double mean = strcmp(model->shape.score_type, "reward") == 0 ? 0.5 : 0;
    return (score - mean) / (sqrt(4.0) + 1e-8);
}

static void write_config(const struct reference_model *model, const char *directory) {
    const struct reference_shape *s = &model->shape;
    char path[4200];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file,
            "{\"architectures\": [\"%s\"], \"hidden_act\": \"silu\", \"vocab_size\": %d,\n"
            "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d,\n"
            "\"num_attention_heads\": %d, \"num_key_value_heads\": %d,\n"
            "\"max_position_embeddings\": %d, \"rms_norm_eps\": %.17g, \"rope_theta\": %.17g,\n"
            "\"tie_word_embeddings\": %s, \"bos_token_id\": 1, \"eos_token_id\": [2, 3]",
            s->architecture, s->vocab_size, s->hidden_dim, s->ffn_dim, s->n_layers, s->n_heads,
            s->n_kv_heads, s->context_length, s->norm_eps, s->rope_theta,
            s->tied ? "true" : "false");
    if (s->head_dim > 0) {
        fprintf(file, ", \"head_dim\": %d", s->head_dim);
    }
    if (s->llama3_scaling) {
        fprintf(file, ",\n\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
                      "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                      "\"original_max_position_embeddings\": 32}");
    }
    if (strncmp(s->architecture, "Mistral", 7) == 0) {
        fprintf(file, ",\n\"sliding_window\": null");
    }
    if (model->is_class) {
        fprintf(file, ",\n\"id2label\": {\"0\": \"LABEL_0\"}");
    }
    if (model->is_score) {
        fprintf(file,
                ",\n\"score_dim\": 1, \"score_type\": \"%s\", \"do_normalize\": %s, "
                "\"mean\": [7.0], \"var\": [9.0]",
                s->score_type, s->do_normalize ? "true" : "false");
    }
    fprintf(file, "}\n");
    assert_int_equal(fclose(file), 0);
}

static size_t width_of(const struct reference_model *model) {
    return model->shape.dtype == REFERENCE_F32 ? 4 : 2;
}

static void write_values(const struct reference_model *model, const struct weight *weight,
                         FILE *file) {
    for (size_t i = 0; i < weight_count(weight); i++) {
        float wide = (float)weight->values[i];
        uint16_t narrow = encode_16(weight->values[i], model->shape.dtype);
        const void *bytes = width_of(model) == 4 ? (const void *)&wide : (const void *)&narrow;
        assert_int_equal(fwrite(bytes, width_of(model), 1, file), 1);
    }
}

// The tensors whose number modulo n_shards is `shard`.
static void write_shard(const struct reference_model *model, const char *path, int shard,
                        int n_shards, int padding) {
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    char *header = malloc(1 << 20);
    assert_non_null(header);
    size_t used = (size_t)sprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    size_t offset = 0;
    for (int i = shard; i < model->n_weights; i += n_shards) {
        const struct weight *weight = &model->weights[i];
        size_t end = offset + weight_count(weight) * width_of(model);
        used += (size_t)sprintf(header + used, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                weight->name, dtypes[model->shape.dtype]);
        if (weight->rows > 0) {
            used += (size_t)sprintf(header + used, "%d,", weight->rows);
        }
        used += (size_t)sprintf(header + used, "%d],\"data_offsets\":[%zu,%zu]}", weight->cols,
                                offset, end);
        offset = end;
    }
    used += (size_t)sprintf(header + used, "}");
    size_t spaces = padding < 0 ? (8 - used % 8) % 8 : (size_t)padding;
    memset(header + used, ' ', spaces);
    uint64_t length = used + spaces;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(&length, sizeof length, 1, file), 1);
    assert_int_equal(fwrite(header, length, 1, file), 1);
    for (int i = shard; i < model->n_weights; i += n_shards) {
        write_values(model, &model->weights[i], file);
    }
    assert_int_equal(fclose(file), 0);
    free(header);
}

void reference_model_write(const struct reference_model *model, const char *directory, int n_shards,
                           int padding) {
    char path[4200];
    write_config(model, directory);
    if (n_shards <= 1) {
        snprintf(path, sizeof path, "%s/model.safetensors", directory);
        write_shard(model, path, 0, 1, padding);
        return;
    }
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", directory);
    FILE *index = fopen(path, "w");
    assert_non_null(index);
    fprintf(index, "{\"metadata\": {}, \"weight_map\": {");
    for (int i = 0; i < model->n_weights; i++) {
        fprintf(index, "%s\n\"%s\": \"model-%05d-of-%05d.safetensors\"", i > 0 ? "," : "",
                model->weights[i].name, i % n_shards + 1, n_shards);
    }
    fprintf(index, "}}\n");
    assert_int_equal(fclose(index), 0);
    for (int shard = 0; shard < n_shards; shard++) {
        snprintf(path, sizeof path, "%s/model-%05d-of-%05d.safetensors", directory, shard + 1,
                 n_shards);
        write_shard(model, path, shard, n_shards, padding);
    }
}
