// Values are drawn from 65,536 equally likely quantiles of the normal distribution: one 16-bit
// number of Philox indexes a table that already has the file's dtype, which is fast enough that the
// disk sets the pace.
#include "benchmarks/random_weights.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rng.h"

enum {
    PATH_BYTES = 4096,
    QUANTILES = 1 << 16,
    BUFFER_VALUES = 1 << 18,
    ALIGNMENT = 64, // of the data in a file
    LAYER_TENSORS = 12,
};

static const double weight_deviation = 0.02;

enum filling { FILLING_NORMAL, FILLING_ONES };

struct planned {
    char name[64];
    int64_t rows; // 0: a vector of `cols`
    int64_t cols;
    enum filling filling;
    size_t n_values;
    int32_t shard;
    uint64_t begin; // into the shard's data
};

struct plan {
    struct planned *tensors; // [n]
    int32_t n;
    int32_t n_shards;
    uint64_t bytes; // of all tensors
};

static void plan_add(struct plan *plan, const char *name, int64_t rows, int64_t cols,
                     enum filling filling) {
    struct planned *tensor = &plan->tensors[plan->n++];
    *tensor = (struct planned){.rows = rows, .cols = cols, .filling = filling};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->n_values = (size_t)((rows > 0 ? rows : 1) * cols);
}

static void plan_layer(struct plan *plan, const struct random_model_options *options, uint32_t l) {
    const int64_t dim = options->dim, hidden = options->hidden;
    const int64_t kv = dim / options->n_heads * options->n_kv_heads;
    const bool bias = options->architecture == MODEL_ARCHITECTURE_QWEN2;
    const struct {
        const char *name;
        int64_t rows, cols;
        enum filling filling;
        bool wanted;
    } parts[LAYER_TENSORS] = {
        {"input_layernorm.weight", 0, dim, FILLING_ONES, true},
        {"self_attn.q_proj.weight", dim, dim, FILLING_NORMAL, true},
        {"self_attn.k_proj.weight", kv, dim, FILLING_NORMAL, true},
        {"self_attn.v_proj.weight", kv, dim, FILLING_NORMAL, true},
        {"self_attn.q_proj.bias", 0, dim, FILLING_NORMAL, bias},
        {"self_attn.k_proj.bias", 0, kv, FILLING_NORMAL, bias},
        {"self_attn.v_proj.bias", 0, kv, FILLING_NORMAL, bias},
        {"self_attn.o_proj.weight", dim, dim, FILLING_NORMAL, true},
        {"post_attention_layernorm.weight", 0, dim, FILLING_ONES, true},
        {"mlp.gate_proj.weight", hidden, dim, FILLING_NORMAL, true},
        {"mlp.up_proj.weight", hidden, dim, FILLING_NORMAL, true},
        {"mlp.down_proj.weight", dim, hidden, FILLING_NORMAL, true},
    };
    for (int i = 0; i < LAYER_TENSORS; i++) {
        char name[64];
        snprintf(name, sizeof name, "model.layers.%u.%s", l, parts[i].name);
        if (parts[i].wanted) {
            plan_add(plan, name, parts[i].rows, parts[i].cols, parts[i].filling);
        }
    }
}

// Gives every tensor a shard and a place in it, in order.
static void plan_places(struct plan *plan, const struct random_model_options *options) {
    uint64_t used = 0;
    for (int32_t i = 0; i < plan->n; i++) {
        struct planned *tensor = &plan->tensors[i];
        uint64_t bytes = tensor->n_values * dtype_bytes(options->dtype);
        if (used > 0 && used + bytes > options->shard_bytes_max) {
            plan->n_shards++;
            used = 0;
        }
        tensor->shard = plan->n_shards;
        tensor->begin = used;
        used += bytes;
        plan->bytes += bytes;
    }
    plan->n_shards++;
}

static enum status plan_make(const struct random_model_options *options, struct plan *plan,
                             struct error *err) {
    size_t n_max = (size_t)options->n_layers * LAYER_TENSORS + 3;
    *plan = (struct plan){.tensors = calloc(n_max, sizeof *plan->tensors)};
    if (plan->tensors == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu tensors", n_max);
    }
    const int64_t dim = options->dim;
    plan_add(plan, "model.embed_tokens.weight", options->vocab_size, dim, FILLING_NORMAL);
    for (uint32_t l = 0; l < options->n_layers; l++) {
        plan_layer(plan, options, l);
    }
    plan_add(plan, "model.norm.weight", 0, dim, FILLING_ONES);
    if (options->head != MODEL_HEAD_LM) {
        plan_add(plan, options->head == MODEL_HEAD_CLASS ? "score.weight" : "score_head.weight", 1,
                 dim, FILLING_NORMAL);
    } else if (!options->tied) {
        plan_add(plan, "lm_head.weight", options->vocab_size, dim, FILLING_NORMAL);
    }
    plan_places(plan, options);
    return STATUS_OK;
}

// Round to nearest even; `value` is finite and below the largest number of the type.
static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// A number of 11 bits at exponent e has the code mantissa + (e + 13) * 1024, below 2^-14 as well.
static uint16_t to_f16(float value) {
    int exponent;
    frexpf(value, &exponent);
    exponent = exponent < -13 ? -13 : exponent;
    uint32_t mantissa = (uint32_t)lrintf(ldexpf(fabsf(value), 11 - exponent));
    uint32_t code = mantissa + ((uint32_t)(exponent + 13) << 10);
    return (uint16_t)(code | (value < 0 ? 0x8000u : 0));
}

static void put_value(void *table, enum dtype dtype, size_t index, float value) {
    if (dtype == DTYPE_F32) {
        ((float *)table)[index] = value;
    } else {
        ((uint16_t *)table)[index] = dtype == DTYPE_F16 ? to_f16(value) : to_bf16(value);
    }
}

// table[i] = quantile (i + 1/2) / QUANTILES, by Newton's method from the quantile before, outwards
// from the middle, where the distribution function is concave and the steps cannot overshoot.
static void make_quantiles(void *table, enum dtype dtype) {
    double x = 0;
    for (int i = 0; i < QUANTILES / 2; i++) {
        double tail = 0.5 - (i + 0.5) / QUANTILES;
        for (int step = 0; step < 8; step++) {
            double density = exp(-0.5 * x * x) / sqrt(2 * M_PI);
            x += (0.5 * erfc(x / M_SQRT2) - tail) / density;
        }
        float value = (float)(x * weight_deviation);
        put_value(table, dtype, (size_t)(QUANTILES / 2 + i), value);
        put_value(table, dtype, (size_t)(QUANTILES / 2 - 1 - i), -value);
    }
}

// Values [first, first + n) of a tensor; first is a multiple of 8.
struct stretch {
    uint64_t seed;
    uint32_t tensor_index;
    uint64_t first;
    size_t n;
};

#define FILL_NORMAL(type)                                                                          \
    for (size_t i = 0; i < n; i += 8) {                                                            \
        const uint64_t group = (stretch->first + i) / 8;                                           \
        const uint32_t counter[4] = {(uint32_t)group, (uint32_t)(group >> 32),                     \
                                     stretch->tensor_index, 0};                                    \
        uint32_t words[4];                                                                         \
        rng_philox4x32(counter, key, words);                                                       \
        for (size_t k = 0; k < 8 && i + k < n; k++) {                                              \
            ((type *)out)[i + k] =                                                                 \
                ((const type *)quantiles)[words[k / 2] >> (k % 2 * 16) & (QUANTILES - 1)];         \
        }                                                                                          \
    }

static void fill_normal(void *out, const void *quantiles, enum dtype dtype,
                        const struct stretch *stretch) {
    const uint32_t key[2] = {(uint32_t)stretch->seed, (uint32_t)(stretch->seed >> 32)};
    const size_t n = stretch->n;
    if (dtype == DTYPE_F32) {
        FILL_NORMAL(float)
    } else {
        FILL_NORMAL(uint16_t)
    }
}

struct writer {
    const char *directory;
    const struct random_model_options *options;
    const struct plan *plan;
    void *quantiles; // [QUANTILES] of the dtype
    void *buffer;    // [BUFFER_VALUES] of the dtype
};

static void shard_name(const struct plan *plan, int32_t shard, char name[64]) {
    if (plan->n_shards == 1) {
        snprintf(name, 64, "model.safetensors");
    } else {
        snprintf(name, 64, "model-%05d-of-%05d.safetensors", shard + 1, plan->n_shards);
    }
}

static void write_header(const struct writer *writer, int32_t shard, FILE *file) {
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    const size_t width = dtype_bytes(writer->options->dtype);
    const char *separator = "";
    fputs("{\"__metadata__\": {\"format\": \"pt\"}, ", file);
    for (int32_t i = 0; i < writer->plan->n; i++) {
        const struct planned *tensor = &writer->plan->tensors[i];
        if (tensor->shard != shard) {
            continue;
        }
        fprintf(file, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [", separator, tensor->name,
                dtypes[writer->options->dtype]);
        if (tensor->rows > 0) {
            fprintf(file, "%lld, ", (long long)tensor->rows);
        }
        fprintf(file, "%lld], \"data_offsets\": [%llu, %llu]}", (long long)tensor->cols,
                (unsigned long long)tensor->begin,
                (unsigned long long)(tensor->begin + tensor->n_values * width));
        separator = ", ";
    }
    fputc('}', file);
}

// The length, then the header padded with spaces so that the data is aligned.
static bool put_header(const struct writer *writer, int32_t shard, FILE *file) {
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) {
        return false;
    }
    write_header(writer, shard, memory);
    if (fclose(memory) != 0) {
        free(text);
        return false;
    }
    uint64_t length = (8 + size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT - 8;
    for (int i = 0; i < 8; i++) {
        fputc((int)(length >> (8 * i) & 0xff), file);
    }
    fprintf(file, "%-*s", (int)length, text);
    free(text);
    return true;
}

static void put_tensor(const struct writer *writer, int32_t index, FILE *file) {
    const struct planned *tensor = &writer->plan->tensors[index];
    const enum dtype dtype = writer->options->dtype;
    if (tensor->filling == FILLING_ONES) {
        for (size_t i = 0; i < BUFFER_VALUES && i < tensor->n_values; i++) {
            put_value(writer->buffer, dtype, i, 1);
        }
    }
    for (size_t first = 0; first < tensor->n_values; first += BUFFER_VALUES) {
        size_t left = tensor->n_values - first;
        size_t n = left < BUFFER_VALUES ? left : BUFFER_VALUES;
        if (tensor->filling == FILLING_NORMAL) {
            fill_normal(writer->buffer, writer->quantiles, dtype,
                        &(struct stretch){writer->options->seed, (uint32_t)index, first, n});
        }
        if (fwrite(writer->buffer, dtype_bytes(dtype), n, file) != n) {
            return;
        }
    }
}

static FILE *open_file(const char *directory, const char *name) {
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return fopen(path, "w");
}

static enum status file_error(const char *name, struct error *err) {
    return error_set(err, status_from_errno(errno), name, "cannot write: %s", strerror(errno));
}

static enum status write_shard(const struct writer *writer, int32_t shard, struct error *err) {
    char name[64];
    shard_name(writer->plan, shard, name);
    FILE *file = open_file(writer->directory, name);
    if (file == NULL) {
        return file_error(name, err);
    }
    bool good = put_header(writer, shard, file);
    for (int32_t i = 0; i < writer->plan->n && good; i++) {
        if (writer->plan->tensors[i].shard == shard) {
            put_tensor(writer, i, file);
            good = ferror(file) == 0;
        }
    }
    good = fclose(file) == 0 && good;
    return good ? STATUS_OK : file_error(name, err);
}

static enum status write_index(const struct writer *writer, struct error *err) {
    static const char name[] = "model.safetensors.index.json";
    FILE *file = open_file(writer->directory, name);
    if (file == NULL) {
        return file_error(name, err);
    }
    fprintf(file, "{\"metadata\": {\"total_size\": %llu},\n \"weight_map\": {",
            (unsigned long long)writer->plan->bytes);
    for (int32_t i = 0; i < writer->plan->n; i++) {
        char shard[64];
        shard_name(writer->plan, writer->plan->tensors[i].shard, shard);
        fprintf(file, "%s\"%s\": \"%s\"", i > 0 ? ",\n  " : "", writer->plan->tensors[i].name,
                shard);
    }
    fputs("}}\n", file);
    bool good = ferror(file) == 0;
    good = fclose(file) == 0 && good;
    return good ? STATUS_OK : file_error(name, err);
}

// A single file would be read before the index of shards.
static void remove_single_file(const char *directory) {
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/model.safetensors", directory) < (int)sizeof path) {
        unlink(path);
    }
}

enum status random_weights_write(const char *directory, const struct random_model_options *options,
                                 struct error *err) {
    const size_t width = dtype_bytes(options->dtype);
    struct plan plan = {0};
    struct writer writer = {
        .directory = directory,
        .options = options,
        .plan = &plan,
        .quantiles = malloc(QUANTILES * width),
        .buffer = malloc(BUFFER_VALUES * width),
    };
    enum status status = plan_make(options, &plan, err);
    if (status == STATUS_OK && (writer.quantiles == NULL || writer.buffer == NULL)) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the values' table");
    }
    if (status != STATUS_OK) {
        goto out;
    }
    make_quantiles(writer.quantiles, options->dtype);
    remove_single_file(directory);
    for (int32_t shard = 0; shard < plan.n_shards && status == STATUS_OK; shard++) {
        status = write_shard(&writer, shard, err);
    }
    if (status == STATUS_OK && plan.n_shards > 1) {
        status = write_index(&writer, err);
    }
out:
    free(writer.buffer);
    free(writer.quantiles);
    free(plan.tensors);
    return status;
}
