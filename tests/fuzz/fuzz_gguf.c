// One input of the fuzzer of GGUF files: bytes are read as a file, and what is accepted is
// translated and looked at to the last value. libFuzzer calls this (option SUREFOOT_FUZZ), and
// test_fuzz_gguf.c on mutations of the corpus.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"
#include "worker/model/gguf_names.h"
#include "worker/tokenizer/tokenizer_gguf.h"

static void look_at_values(const struct gguf *gguf) {
    for (size_t i = 0; i < gguf_value_count(gguf); i++) {
        const struct gguf_value *value = gguf_value_at(gguf, i);
        const unsigned char *at = value->data;
        struct gguf_string text;
        int64_t integer;
        double real;
        while (gguf_next_string(value, &at, &text)) {
            ASSERT(text.bytes + text.count <= (const char *)value->end);
        }
        for (uint64_t k = 0; k < value->count && value->type != GGUF_STRING; k++) {
            ASSERT(gguf_integer(value, k, &integer) || gguf_real(value, k, &real) ||
                   value->type == GGUF_U64);
        }
    }
}

static void look_at_tensors(const struct gguf *gguf) {
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        const struct gguf_block_type *type = tensor->type;
        float values[GGUF_BLOCK_VALUES_MAX];
        unsigned char last;
        memcpy(&last, (const unsigned char *)tensor->data + tensor->bytes - 1, 1);
        if (type->widen != NULL) {
            type->widen((const unsigned char *)tensor->data + tensor->bytes - (size_t)type->bytes,
                        values);
        }
    }
}

static void translate(const struct gguf *gguf) {
    struct error err = {0};
    json_t *json = NULL;
    int32_t heads;
    if (gguf_config(gguf, &json, &err) == STATUS_OK) {
        json_decref(json);
        (void)gguf_model_tensor(gguf, "model.layers.0.self_attn.q_proj.weight", &heads);
    } else {
        ASSERT(err.message[0] != '\0');
    }
    json = NULL;
    if (gguf_generation_config(gguf, &json, &err) == STATUS_OK) {
        json_decref(json);
    }
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        if (tokenizer_gguf_translate(gguf, names[i], &json, &err) == STATUS_OK) {
            json_decref(json);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    void *copy = malloc(size > 0 ? size : 1); // aligned, and not a byte longer
    if (copy == NULL) {
        return 0;
    }
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    struct gguf *gguf = NULL;
    struct error err = {0};
    if (gguf_parse(copy, size, &gguf, &err) == STATUS_OK) {
        look_at_values(gguf);
        look_at_tensors(gguf);
        translate(gguf);
        gguf_close(gguf);
    } else {
        ASSERT(err.message[0] != '\0');
    }
    free(copy);
    return 0;
}
