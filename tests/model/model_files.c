#include "tests/model/model_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

const struct reference_shape small_llama = {
    .architecture = "LlamaForCausalLM",
    .vocab_size = 40,
    .hidden_dim = 32,
    .ffn_dim = 48,
    .n_layers = 2,
    .n_heads = 4,
    .n_kv_heads = 2,
    .context_length = 128,
    .norm_eps = 1e-5,
    .rope_theta = 10000,
    .dtype = REFERENCE_F32,
};

char *model_files_make(const struct reference_shape *shape, int n_shards, int padding) {
    char *directory = testkit_make_directory();
    struct reference_model *model = reference_model_create(shape, 1);
    reference_model_write(model, directory, n_shards, padding);
    reference_model_destroy(model);
    return directory;
}

static void join(char path[4200], const char *directory, const char *name) {
    snprintf(path, 4200, "%s/%s", directory, name);
}

// Members of `change` into `object`; objects are merged, null removes.
static void merge(json_t *object, json_t *change) {
    const char *key;
    json_t *value;
    json_object_foreach(change, key, value) {
        json_t *old = json_object_get(object, key);
        if (json_is_null(value)) {
            json_object_del(object, key);
        } else if (json_is_object(value) && json_is_object(old)) {
            merge(old, value);
        } else {
            json_object_set(object, key, value);
        }
    }
}

// A member that `change` removes stays under a name that nobody asks for.
static void keep_removed(json_t *object, json_t *change) {
    const char *key;
    json_t *value;
    json_object_foreach(change, key, value) {
        if (json_is_null(value)) {
            char name[256];
            snprintf(name, sizeof name, "unused.%s", key);
            assert_int_equal(json_object_set(object, name, json_object_get(object, key)), 0);
        }
    }
}

static char *merged_text(const char *text, size_t size, const char *change, bool keeps) {
    json_t *object = json_loadb(text, size, 0, NULL);
    json_t *other = json_loads(change, 0, NULL);
    assert_non_null(object);
    assert_non_null(other);
    if (keeps) {
        keep_removed(object, other);
    }
    merge(object, other);
    char *result = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    json_decref(other);
    assert_non_null(result);
    return result;
}

void model_files_change_json(const char *directory, const char *name, const char *change) {
    char path[4200];
    join(path, directory, name);
    size_t size;
    char *text = testkit_read_file(path, &size);
    char *changed = merged_text(text, size, change, false);
    testkit_write_file(path, changed, strlen(changed));
    free(text);
    free(changed);
}

void model_files_change_header(const char *directory, const char *name, const char *change) {
    char path[4200];
    join(path, directory, name);
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    uint64_t length;
    memcpy(&length, bytes, sizeof length);
    char *changed = merged_text(bytes + 8, length, change, true);
    uint64_t new_length = (strlen(changed) + 7) / 8 * 8;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&new_length, sizeof new_length, 1, file);
    fprintf(file, "%-*s", (int)new_length, changed);
    fwrite(bytes + 8 + length, 1, size - 8 - length, file);
    assert_int_equal(fclose(file), 0);
    free(changed);
    free(bytes);
}

void model_files_write_raw(const char *directory, const char *name, uint64_t header_length,
                           const char *header, int data_bytes) {
    char path[4200];
    join(path, directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fwrite(&header_length, sizeof header_length, 1, file);
    fputs(header, file);
    for (int i = 0; i < data_bytes; i++) {
        fputc(0, file);
    }
    assert_int_equal(fclose(file), 0);
}

static long element_offset(const char *path, const char *tensor, size_t index, size_t width) {
    char *bytes = testkit_read_file(path, NULL);
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    json_t *json = json_loadb(bytes + 8, header, 0, NULL);
    const json_t *offsets = json_object_get(json_object_get(json, tensor), "data_offsets");
    assert_non_null(offsets);
    long begin = (long)json_integer_value(json_array_get(offsets, 0));
    json_decref(json);
    free(bytes);
    return 8 + (long)header + begin + (long)(index * width);
}

void model_files_exchange_element(const char *directory, const char *tensor, size_t index,
                                  size_t width, const void *value, void *old) {
    char path[4200];
    join(path, directory, "model.safetensors");
    long offset = element_offset(path, tensor, index, width);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fread(old, width, 1, file), 1);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(value, width, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void set_element(const char *directory, const char *tensor, size_t index, float value) {
    float old;
    model_files_exchange_element(directory, tensor, index, sizeof value, &value, &old);
}

// Dimension 0 of the residual belongs to the token alone until the first feed-forward, which
// multiplies it by the largest numbers.
void model_files_overflow_after(const char *directory, int32_t vocab_size, int32_t hidden_dim,
                                int32_t token) {
    size_t hidden = (size_t)hidden_dim;
    for (int32_t id = 0; id < vocab_size; id++) {
        set_element(directory, "model.embed_tokens.weight", (size_t)id * hidden,
                    id == token ? 100 : 0);
    }
    for (size_t i = 0; i < hidden; i++) {
        set_element(directory, "model.layers.0.self_attn.o_proj.weight", i, 0);
    }
    set_element(directory, "model.layers.0.mlp.up_proj.weight", 0, 3e38f);
}
