#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/llama2c.h"

struct header { // as it stands in the file
    int32_t dim;
    int32_t hidden;
    int32_t n_layers;
    int32_t n_heads;
    int32_t n_kv_heads;
    int32_t vocab; // negative: the output layer is not the embedding
    int32_t context;
};

// One kind of tensor: all layers of it lie one after another in the source.
struct part {
    const char *name; // with %d for the layer
    int64_t rows;     // 0 is a vector
    int64_t cols;
    int32_t count;
    int32_t rotated_heads; // rows are to be reordered within so many heads
    const float *source;
};

enum { PARTS = 12 };

static enum status read_file(const char *path, char **bytes, size_t *size, struct error *err) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), path, "cannot open: %s", strerror(errno));
    }
    enum status status = STATUS_OK;
    long length = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    char *buffer = NULL;
    if (length < (long)sizeof(struct header) || fseek(file, 0, SEEK_SET) != 0) {
        status = error_set(err, STATUS_MALFORMED, path, "too short for a header");
    } else if ((buffer = malloc((size_t)length)) == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, path, "no memory for %ld bytes", length);
    } else if (fread(buffer, 1, (size_t)length, file) != (size_t)length) {
        status = error_set(err, STATUS_IO, path, "cannot read %ld bytes", length);
    }
    fclose(file);
    if (status != STATUS_OK) {
        free(buffer);
        return status;
    }
    *bytes = buffer;
    *size = (size_t)length;
    return STATUS_OK;
}

static enum status check_header(const struct header *header, struct error *err) {
    const struct {
        const char *name;
        int32_t value, max;
    } fields[] = {
        {"dim", header->dim, 1 << 14},           {"hidden_dim", header->hidden, 1 << 16},
        {"n_layers", header->n_layers, 256},     {"n_heads", header->n_heads, 256},
        {"n_kv_heads", header->n_kv_heads, 256}, {"seq_len", header->context, 1 << 20},
    };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (fields[i].value < 1 || fields[i].value > fields[i].max) {
            return error_set(err, STATUS_LIMIT, fields[i].name, "%s is %d, allowed is 1 to %d",
                             fields[i].name, fields[i].value, fields[i].max);
        }
    }
    if (header->vocab == 0 || header->vocab > 1 << 20 || header->vocab < -(1 << 20)) {
        return error_set(err, STATUS_LIMIT, "vocab_size", "vocab_size is %d", header->vocab);
    }
    if (header->dim % (2 * header->n_heads) != 0 || header->n_heads % header->n_kv_heads != 0) {
        return error_set(err, STATUS_MALFORMED, "n_heads",
                         "%d heads and %d key/value heads do not divide a dim of %d",
                         header->n_heads, header->n_kv_heads, header->dim);
    }
    return STATUS_OK;
}

static int64_t part_elements(const struct part *part) {
    return (part->rows == 0 ? 1 : part->rows) * part->cols;
}

// The tensors in file order, with their places in the file. The two unused rotation tables before
// the output layer are stepped over.
static enum status list_parts(const struct header *h, const char *bytes, size_t size,
                              struct part parts[PARTS], int *n_parts, struct error *err) {
    int64_t vocab = h->vocab < 0 ? -(int64_t)h->vocab : h->vocab;
    int64_t kv_dim = (int64_t)h->dim / h->n_heads * h->n_kv_heads;
    const struct part list[PARTS] = {
        {"model.embed_tokens.weight", vocab, h->dim, 1, 0, NULL},
        {"model.layers.%d.input_layernorm.weight", 0, h->dim, h->n_layers, 0, NULL},
        {"model.layers.%d.self_attn.q_proj.weight", h->dim, h->dim, h->n_layers, h->n_heads, NULL},
        {"model.layers.%d.self_attn.k_proj.weight", kv_dim, h->dim, h->n_layers, h->n_kv_heads,
         NULL},
        {"model.layers.%d.self_attn.v_proj.weight", kv_dim, h->dim, h->n_layers, 0, NULL},
        {"model.layers.%d.self_attn.o_proj.weight", h->dim, h->dim, h->n_layers, 0, NULL},
        {"model.layers.%d.post_attention_layernorm.weight", 0, h->dim, h->n_layers, 0, NULL},
        {"model.layers.%d.mlp.gate_proj.weight", h->hidden, h->dim, h->n_layers, 0, NULL},
        {"model.layers.%d.mlp.down_proj.weight", h->dim, h->hidden, h->n_layers, 0, NULL},
        {"model.layers.%d.mlp.up_proj.weight", h->hidden, h->dim, h->n_layers, 0, NULL},
        {"model.norm.weight", 0, h->dim, 1, 0, NULL},
        {"lm_head.weight", vocab, h->dim, 1, 0, NULL},
    };
    int n = h->vocab < 0 ? PARTS : PARTS - 1;
    int64_t tables = (int64_t)h->context * (h->dim / h->n_heads);
    int64_t offset = 0;
    const float *floats = (const float *)(bytes + sizeof *h);
    for (int i = 0; i < n; i++) {
        offset += i == PARTS - 1 ? tables : 0;
        parts[i] = list[i];
        parts[i].source = floats + offset;
        offset += part_elements(&list[i]) * list[i].count;
    }
    offset += n == PARTS ? 0 : tables;
    if ((int64_t)(size - sizeof *h) != offset * 4) {
        return error_set(err, STATUS_MALFORMED, "model", "%zu bytes, the header calls for %lld",
                         size, (long long)offset * 4 + (long long)sizeof *h);
    }
    *n_parts = n;
    return STATUS_OK;
}

static enum status write_config(const struct header *h, const char *directory, struct error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/config.json", directory);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), path, "cannot create: %s", strerror(errno));
    }
    fprintf(file,
            "{\n"
            "  \"architectures\": [\"LlamaForCausalLM\"],\n"
            "  \"model_type\": \"llama\",\n"
            "  \"torch_dtype\": \"float32\",\n"
            "  \"vocab_size\": %d,\n"
            "  \"hidden_size\": %d,\n"
            "  \"intermediate_size\": %d,\n"
            "  \"num_hidden_layers\": %d,\n"
            "  \"num_attention_heads\": %d,\n"
            "  \"num_key_value_heads\": %d,\n"
            "  \"max_position_embeddings\": %d,\n"
            "  \"hidden_act\": \"silu\",\n"
            "  \"rms_norm_eps\": 1e-05,\n"
            "  \"rope_theta\": 10000.0,\n"
            "  \"rope_scaling\": null,\n"
            "  \"attention_bias\": false,\n"
            "  \"tie_word_embeddings\": %s,\n"
            "  \"bos_token_id\": 1,\n"
            "  \"eos_token_id\": 2\n"
            "}\n",
            abs(h->vocab), h->dim, h->hidden, h->n_layers, h->n_heads, h->n_kv_heads, h->context,
            h->vocab > 0 ? "true" : "false");
    return fclose(file) == 0 ? STATUS_OK
                             : error_set(err, STATUS_IO, path, "cannot write: %s", strerror(errno));
}

// Header text of the safetensors file, padded to 8 bytes; owned by the caller.
static char *make_weight_header(const struct part *parts, int n_parts, size_t *size) {
    char *text = NULL;
    FILE *stream = open_memstream(&text, size);
    if (stream == NULL) {
        return NULL;
    }
    int64_t offset = 0;
    fprintf(stream, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < n_parts; i++) {
        for (int32_t layer = 0; layer < parts[i].count; layer++) {
            char name[96], rows[24] = "";
            int64_t end = offset + part_elements(&parts[i]) * 4;
            const char *mark = strstr(parts[i].name, "%d");
            snprintf(name, sizeof name, "%s", parts[i].name);
            if (mark != NULL) {
                snprintf(name, sizeof name, "%.*s%d%s", (int)(mark - parts[i].name), parts[i].name,
                         layer, mark + 2);
            }
            if (parts[i].rows > 0) {
                snprintf(rows, sizeof rows, "%lld,", (long long)parts[i].rows);
            }
            fprintf(stream,
                    ",\"%s\":{\"dtype\":\"F32\",\"shape\":[%s%lld],\"data_offsets\":[%lld,%lld]}",
                    name, rows, (long long)parts[i].cols, (long long)offset, (long long)end);
            offset = end;
        }
    }
    fprintf(stream, "}");
    fflush(stream);
    fprintf(stream, "%*s", (int)((8 - *size % 8) % 8), "");
    return fclose(stream) == 0 ? text : NULL;
}

// Row `row` of a half-split head comes from its pair's neighbouring rows.
static int64_t source_row(const struct part *part, int64_t row) {
    if (part->rotated_heads == 0) {
        return row;
    }
    int64_t head_dim = part->rows / part->rotated_heads;
    int64_t within = row % head_dim;
    int64_t half = head_dim / 2;
    return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

static bool write_part(const struct part *part, FILE *file) {
    int64_t rows = part->rows == 0 ? 1 : part->rows;
    for (int32_t layer = 0; layer < part->count; layer++) {
        const float *source = part->source + layer * rows * part->cols;
        for (int64_t row = 0; row < rows; row++) {
            const float *values = source + source_row(part, row) * part->cols;
            if (fwrite(values, sizeof *values, (size_t)part->cols, file) != (size_t)part->cols) {
                return false;
            }
        }
    }
    return true;
}

static enum status write_weights(const struct part *parts, int n_parts, const char *directory,
                                 struct error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    size_t size = 0;
    char *header = make_weight_header(parts, n_parts, &size);
    if (header == NULL) {
        return error_set(err, STATUS_NO_MEMORY, path, "no memory for the header");
    }
    FILE *file = fopen(path, "wb");
    uint64_t length = size;
    bool good = file != NULL && fwrite(&length, sizeof length, 1, file) == 1 &&
                fwrite(header, 1, size, file) == size;
    for (int i = 0; i < n_parts && good; i++) {
        good = write_part(&parts[i], file);
    }
    if (file != NULL && fclose(file) != 0) {
        good = false;
    }
    free(header);
    return good ? STATUS_OK : error_set(err, STATUS_IO, path, "cannot write: %s", strerror(errno));
}

enum status llama2c_convert_model(const char *model_path, const char *directory,
                                  struct error *err) {
    char *bytes = NULL;
    size_t size = 0;
    enum status status = read_file(model_path, &bytes, &size, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct header header;
    struct part parts[PARTS];
    int n_parts = 0;
    memcpy(&header, bytes, sizeof header);
    status = check_header(&header, err);
    if (status == STATUS_OK) {
        status = list_parts(&header, bytes, size, parts, &n_parts, err);
    }
    if (status == STATUS_OK) {
        status = write_config(&header, directory, err);
    }
    if (status == STATUS_OK) {
        status = write_weights(parts, n_parts, directory, err);
    }
    free(bytes);
    return status;
}

enum status llama2c_vocab_size(const char *model_path, int *out, struct error *err) {
    FILE *file = fopen(model_path, "rb");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), model_path, "cannot open: %s",
                         strerror(errno));
    }
    struct header header;
    size_t got = fread(&header, sizeof header, 1, file);
    fclose(file);
    if (got != 1) {
        return error_set(err, STATUS_MALFORMED, model_path, "too short for a header");
    }
    enum status status = check_header(&header, err);
    if (status == STATUS_OK) {
        *out = abs(header.vocab);
    }
    return status;
}
