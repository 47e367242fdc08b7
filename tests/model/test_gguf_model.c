// Models in GGUF files: logits against transformers (tests/parity/make_gguf_models.py), the
// documents that a file stands for, and files whose metadata or tensors are not what is known.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/gguf_builder.h"
#include "tests/support/testkit.h"
#include "worker/model/context.h"
#include "worker/model/gguf_config.h"
#include "worker/model/model_path.h"
#include "worker/model/weight_files.h"

enum { VOCAB = 40, IDS_MAX = 96 };

static const char *vector_path(const char *name) {
    char relative[128];
    snprintf(relative, sizeof relative, "tests/vectors/gguf/%s", name);
    return testkit_source_path(relative);
}

static void read_logits(struct backend *backend, const char *path, enum precision precision,
                        const int32_t *ids, int32_t n, float *logits) {
    struct error err = {0};
    struct model *model = NULL;
    struct model_context *context = NULL;
    assert_ok(model_open(path, backend, precision, &model, &err), &err);
    // Where the context ends decides which factors longrope takes.
    const struct model_context_options options = {.n_kv_blocks = 8,
                                                  .n_sequences = 1,
                                                  .batch_rows = 32,
                                                  .output_rows = IDS_MAX,
                                                  .context_tokens =
                                                      n <= 64 ? 64 : 128}; // longrope's choice
    assert_ok(model_context_create(model, &options, &context, &err), &err);
    struct sequence *sequence = sequence_create(context);
    const struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_ALL};
    struct tensor result;
    assert_ok(model_forward(context, &item, 1, &err), &err);
    assert_status(STATUS_OK, model_logits(context, model_outputs(context), &result));
    assert_int_equal(result.cols, VOCAB);
    assert_status(STATUS_OK, backend->ops->download(backend, logits, result.data,
                                                    (size_t)n * VOCAB * sizeof *logits));
    sequence_destroy(context, sequence);
    model_context_destroy(context);
    model_close(model);
}

static void check_case(struct backend *backend, const json_t *one) {
    const char *name = json_string_value(json_object_get(one, "file"));
    const json_t *list = json_object_get(one, "ids");
    const json_t *rows = json_object_get(one, "rows");
    int32_t ids[IDS_MAX];
    size_t n = json_array_size(list);
    assert_in_range(n, 1, IDS_MAX);
    for (size_t i = 0; i < n; i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    float logits[IDS_MAX * VOCAB];
    read_logits(backend, vector_path(name), PRECISION_STORED, ids, (int32_t)n, logits);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        size_t row = (size_t)json_integer_value(json_array_get(rows, i));
        const json_t *want = json_array_get(json_object_get(one, "logits"), i);
        double largest = 0;
        for (size_t id = 0; id < VOCAB; id++) {
            largest = fmax(largest, fabs(json_number_value(json_array_get(want, id))));
        }
        for (size_t id = 0; id < VOCAB; id++) {
            double expected = json_number_value(json_array_get(want, id));
            if (!(fabs((double)logits[row * VOCAB + id] - expected) <= 1e-4 * largest)) {
                fail_msg("%s: logit %zu of row %zu is %.6f, the reference has %.6f", name, id, row,
                         (double)logits[row * VOCAB + id], expected);
            }
        }
    }
}

static void test_logits_equal_the_reference_for_every_architecture(void **state) {
    (void)state;
    struct error err = {0};
    struct backend *backend = NULL;
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    json_t *cases = json_load_file(vector_path("models.json"), 0, NULL);
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(backend, json_array_get(cases, i));
    }
    json_decref(cases);
    backend_destroy(backend);
}

// Values as blocks have them, one after the other.
static void widen_blocks(const struct tensor *blocks, float *out) {
    const struct gguf_block_type *type = gguf_block_type_find(3);
    size_t n = (size_t)blocks->rows * (size_t)blocks->cols / Q4_BLOCK_VALUES;
    for (size_t i = 0; i < n; i++) {
        type->widen((const unsigned char *)blocks->data + i * Q4_BLOCK_BYTES,
                    out + i * Q4_BLOCK_VALUES);
    }
}

// Holds the tensor in four bits against its f32 values, in the order of the rows; false where the
// file has none such.
static bool check_four_bits(struct weight_files *files, const char *name) {
    struct error err = {0};
    struct weight_shape shape;
    struct tensor wide, blocks;
    if (!weight_files_has_q4(files, name)) {
        return false;
    }
    assert_true(weight_files_find(files, name, &shape));
    int32_t rows = (int32_t)shape.extents[0], cols = (int32_t)shape.extents[1];
    assert_ok(weight_files_get(files, name, rows, cols, &wide, &err), &err);
    assert_ok(weight_files_get_q4(files, name, rows, cols, &blocks, &err), &err);
    assert_int_equal(blocks.dtype, DTYPE_Q4_1);
    size_t n = (size_t)rows * (size_t)cols;
    float *got = malloc(n * sizeof *got);
    widen_blocks(&blocks, got);
    for (size_t i = 0; i < n; i++) {
        assert_true(got[i] == ((const float *)wide.data)[i]);
    }
    free(got);
    return true;
}

static void test_four_bits_have_the_values_of_the_file(void **state) {
    (void)state;
    static const char *const tensors[] = {
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
        "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj",    "self_attn.qkv_proj"};
    int n_found = 0, n_turned = 0; // of queries and keys, whose rows change places
    json_t *cases = json_load_file(vector_path("models.json"), 0, NULL);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const char *name = json_string_value(json_object_get(json_array_get(cases, i), "file"));
        struct weight_files *files = NULL;
        struct error err = {0};
        assert_ok(weight_files_open(vector_path(name), &files, &err), &err);
        for (int layer = 0; layer < 4; layer++) {
            for (size_t t = 0; t < sizeof tensors / sizeof tensors[0]; t++) {
                char full[96];
                snprintf(full, sizeof full, "model.layers.%d.%s.weight", layer, tensors[t]);
                bool found = check_four_bits(files, full);
                n_found += found;
                n_turned += found && t < 2 && strncmp(name, "llama", 5) == 0;
            }
        }
        weight_files_close(files);
    }
    print_message("%d tensors in four bits, %d of them turned\n", n_found, n_turned);
    assert_true(n_found > 0 && n_turned > 0);
    json_decref(cases);
}

// Where a file has products in four bits, logits are near those of its values; where it has none,
// it is refused.
static void test_products_in_four_bits_are_near_or_refused(void **state) {
    (void)state;
    enum { N = 40 };
    struct error err = {0};
    struct backend *backend = NULL;
    int n_near = 0, n_refused = 0;
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    json_t *cases = json_load_file(vector_path("models.json"), 0, NULL);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const char *path =
            vector_path(json_string_value(json_object_get(json_array_get(cases, i), "file")));
        struct model *model = NULL;
        enum status status = model_open(path, backend, PRECISION_Q4, &model, &err);
        model_close(model);
        if (status != STATUS_OK) {
            assert_status(STATUS_UNSUPPORTED, status);
            assert_string_equal(err.field, "precision");
            n_refused++;
            continue;
        }
        int32_t ids[N];
        float exact[IDS_MAX * VOCAB], got[IDS_MAX * VOCAB];
        for (int32_t k = 0; k < N; k++) {
            ids[k] = (k * 7 + 3) % VOCAB;
        }
        read_logits(backend, path, PRECISION_STORED, ids, N, exact);
        read_logits(backend, path, PRECISION_Q4, ids, N, got);
        double squares = 0, difference = 0;
        for (int k = 0; k < N * VOCAB; k++) {
            squares += pow((double)exact[k], 2);
            difference += pow((double)got[k] - (double)exact[k], 2);
        }
        print_message("%s: off by %.4f\n", path, sqrt(difference / squares));
        assert_true(difference > 0 && sqrt(difference / squares) < 0.05);
        n_near++;
    }
    assert_true(n_near > 0 && n_refused > 0);
    json_decref(cases);
    backend_destroy(backend);
}

// A file without data that says what a llama model needs to say, but for `changed` keys, which the
// case puts in itself, and with a table of two tokens.
struct draft {
    struct gguf_builder values;
    struct gguf_builder infos;
    uint64_t n_values;
    uint64_t n_tensors;
    uint64_t offset;
};

static void draft_number(struct draft *draft, const char *key, uint32_t value) {
    gguf_put_number(&draft->values, key, value);
    draft->n_values++;
}

static void draft_real(struct draft *draft, const char *key, float value) {
    gguf_put_real(&draft->values, key, value);
    draft->n_values++;
}

static void draft_text(struct draft *draft, const char *key, const char *text) {
    gguf_put_text(&draft->values, key, text);
    draft->n_values++;
}

static void draft_tensor(struct draft *draft, const char *name, uint64_t cols, uint64_t rows) {
    gguf_put_tensor(&draft->infos, name, cols, rows, 0, draft->offset);
    draft->offset += (4 * cols * (rows > 0 ? rows : 1) + 31) / 32 * 32;
    draft->n_tensors++;
}

static struct gguf_builder draft_finish(struct draft *draft) {
    struct gguf_builder file = {0};
    gguf_put_header(&file, 3, draft->n_tensors, draft->n_values);
    gguf_put(&file, draft->values.bytes, draft->values.size);
    gguf_put(&file, draft->infos.bytes, draft->infos.size);
    gguf_put_padding(&file, 32);
    size_t size = file.size + draft->offset;
    while (file.size < size) {
        gguf_put(&file, "\0\0\0\0\0\0\0\0", 8);
    }
    gguf_builder_finish(&draft->values);
    gguf_builder_finish(&draft->infos);
    return file;
}

// Everything but what `except` names.
static struct draft llama_draft(const char *except) {
    static const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"llama.context_length", 64},      {"llama.embedding_length", 8},
                   {"llama.block_count", 1},          {"llama.feed_forward_length", 16},
                   {"llama.attention.head_count", 2}, {"llama.attention.head_count_kv", 1}};
    struct draft draft = {0};
    if (strcmp(except, "general.architecture") != 0) {
        draft_text(&draft, "general.architecture", "llama");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(except, numbers[i].key) != 0) {
            draft_number(&draft, numbers[i].key, numbers[i].value);
        }
    }
    if (strcmp(except, "llama.attention.layer_norm_rms_epsilon") != 0) {
        draft_real(&draft, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    }
    if (strcmp(except, "token_embd.weight") != 0) {
        draft_tensor(&draft, "token_embd.weight", 8, 2);
    }
    return draft;
}

static enum status translate(struct draft *draft, json_t **out, struct error *err) {
    struct gguf_builder file = draft_finish(draft);
    struct gguf *gguf = NULL;
    assert_ok(gguf_parse(file.bytes, file.size, &gguf, err), err);
    enum status status = gguf_config(gguf, out, err);
    gguf_close(gguf);
    gguf_builder_finish(&file);
    return status;
}

// As llama.cpp reads it: files of 2023 name no type.
static void test_a_factor_alone_scales_rotations_linearly(void **state) {
    (void)state;
    static const struct {
        const char *key;
        double factor;
        const char *type; // NULL: not named
        bool scaled;
    } cases[] = {{"llama.rope.scale_linear", 4, NULL, true},
                 {"llama.rope.scaling.factor", 4, NULL, true},
                 {"llama.rope.scaling.factor", 0, NULL, false},
                 {"llama.rope.scaling.factor", 4, "linear", true},
                 {"llama.rope.scaling.factor", 4, "none", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft draft = llama_draft("");
        struct error err = {0};
        json_t *config = NULL;
        draft_real(&draft, cases[i].key, cases[i].factor);
        if (cases[i].type != NULL) {
            draft_text(&draft, "llama.rope.scaling.type", cases[i].type);
        }
        assert_ok(translate(&draft, &config, &err), &err);
        json_t *wanted = json_pack("{s:s, s:f}", "rope_type", "linear", "factor", 4.0);
        json_t *scaling = json_object_get(config, "rope_scaling");
        assert_true(cases[i].scaled ? json_equal(scaling, wanted) : scaling == NULL);
        json_decref(wanted);
        json_decref(config);
    }
}

static void test_metadata_becomes_the_configuration(void **state) {
    (void)state;
    struct draft draft = llama_draft("");
    draft_real(&draft, "llama.rope.freq_base", 5e5f);
    draft_number(&draft, "tokenizer.ggml.bos_token_id", 1);
    draft_text(&draft, "general.name", "a name");
    json_t *config = NULL;
    struct error err = {0};
    assert_ok(translate(&draft, &config, &err), &err);
    json_t *want = json_loads(
        "{\"architectures\": [\"LlamaForCausalLM\"], \"max_position_embeddings\": 64,"
        " \"hidden_size\": 8, \"num_hidden_layers\": 1, \"intermediate_size\": 16,"
        " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"rope_theta\": 500000.0,"
        " \"vocab_size\": 2, \"tie_word_embeddings\": true, \"bos_token_id\": 1,"
        " \"attention_bias\": false, \"mlp_bias\": false}",
        0, NULL);
    assert_non_null(want);
    json_object_set(want, "rms_norm_eps", json_object_get(config, "rms_norm_eps"));
    assert_true(json_equal(config, want));
    assert_true((float)json_real_value(json_object_get(config, "rms_norm_eps")) == 1e-5f);
    json_decref(want);
    json_decref(config);
}

static void expect_refusal(struct draft draft, enum status expected, const char *field) {
    json_t *config = NULL;
    struct error err = {0};
    enum status status = translate(&draft, &config, &err);
    if (status != expected || strcmp(err.field, field) != 0) {
        fail_msg("%s in \"%s\" (%s), expected %s in \"%s\"", status_name(status), err.field,
                 err.message, status_name(expected), field);
    }
}

static void test_what_is_missing_is_named(void **state) {
    (void)state;
    static const char *const required[] = {"general.architecture",
                                           "llama.context_length",
                                           "llama.embedding_length",
                                           "llama.block_count",
                                           "llama.feed_forward_length",
                                           "llama.attention.head_count",
                                           "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof required / sizeof required[0]; i++) {
        expect_refusal(llama_draft(required[i]), STATUS_MALFORMED, required[i]);
    }
    expect_refusal(llama_draft("token_embd.weight"), STATUS_SHAPE, "token_embd.weight");
}

static struct draft with_number(const char *except, const char *key, uint32_t value) {
    struct draft draft = llama_draft(except);
    draft_number(&draft, key, value);
    return draft;
}

static struct draft with_tensor(const char *name) {
    struct draft draft = llama_draft("");
    draft_tensor(&draft, name, 8, 0);
    return draft;
}

static struct draft with_text(const char *except, const char *key, const char *text) {
    struct draft draft = llama_draft(except);
    draft_text(&draft, key, text);
    return draft;
}

static void test_what_is_not_known_is_refused_by_name(void **state) {
    (void)state;
    expect_refusal(with_text("general.architecture", "general.architecture", "gemma2"),
                   STATUS_UNSUPPORTED, "general.architecture");
    expect_refusal(with_number("", "llama.logit_scale", 1), STATUS_UNSUPPORTED,
                   "llama.logit_scale");
    expect_refusal(with_number("", "llama.expert_count", 8), STATUS_UNSUPPORTED,
                   "llama.expert_count");
    expect_refusal(with_number("", "llama.attention.value_length", 8), STATUS_UNSUPPORTED,
                   "llama.attention.value_length");
    expect_refusal(with_number("", "llama.rope.dimension_count", 2), STATUS_UNSUPPORTED,
                   "llama.rope.dimension_count");
    expect_refusal(with_number("", "llama.vocab_size", 3), STATUS_SHAPE, "llama.vocab_size");
    expect_refusal(with_text("", "llama.rope.scaling.type", "ntk"), STATUS_UNSUPPORTED,
                   "llama.rope.scaling.type");
    expect_refusal(with_text("llama.block_count", "llama.block_count", "1"), STATUS_MALFORMED,
                   "llama.block_count");
    static const char *const tensors[] = {"blk.1.attn_norm.weight",
                                          "blk.0.attn_q_norm.weight",
                                          "blk.0.ffn_gate_inp.weight",
                                          "blk.x.attn_norm.weight",
                                          "attn_norm.weight",
                                          "blk.0.attn_norm",
                                          "cls.weight"};
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        expect_refusal(with_tensor(tensors[i]), STATUS_UNSUPPORTED, tensors[i]);
    }
    expect_refusal(with_tensor("blk.0.attn_q.bias"), STATUS_UNSUPPORTED, "attn_k");
}

static void test_the_profile_lies_beside_the_file(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char path[4200], beside[4300];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    snprintf(beside, sizeof beside, "%s.surefoot.json", path);
    struct model_profile profile;
    struct error err = {0};
    assert_ok(model_profile_read(path, &profile, &err), &err);
    assert_false(profile.present);
    static const char text[] = "{\"schema\": 1, \"role\": \"policy\"}";
    testkit_write_file(beside, text, sizeof text - 1);
    assert_ok(model_profile_read(path, &profile, &err), &err);
    assert_string_equal(profile.role, "policy");
    static const char based[] = "{\"schema\": 1, \"base\": \"../other\"}";
    testkit_write_file(beside, based, sizeof based - 1);
    assert_status(STATUS_INVALID_ARGUMENT, model_profile_read(path, &profile, &err));
    assert_string_equal(err.field, "m.gguf.surefoot.json.base");
    testkit_remove_tree(directory);
}

// Of a long name the end is shown, so that the key stays whole.
static void test_the_profile_beside_the_file_is_named(void **state) {
    (void)state;
    static const struct {
        const char *file;
        const char *label;
    } names[] = {{"m.gguf", "m.gguf.surefoot.json"},
                 {"A-model-of-a-maker-with-a-long-name-Instruct.Q4_1.gguf",
                  "..long-name-Instruct.Q4_1.gguf.surefoot.json"}};
    struct draft draft = llama_draft("llama.attention.head_count");
    draft_number(&draft, "llama.attention.head_count", 2);
    struct gguf_builder file = draft_finish(&draft);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        static const char unknown[] = "{\"schema\": 1, \"role\": \"judge\"}";
        static const char other[] = "{\"schema\": 1, \"role\": \"reward\"}";
        char *directory = testkit_make_directory();
        char path[4200], beside[4300], field[ERROR_FIELD_BYTES + 8];
        snprintf(path, sizeof path, "%s/%s", directory, names[i].file);
        snprintf(beside, sizeof beside, "%s.surefoot.json", path);
        snprintf(field, sizeof field, "%s.role", names[i].label);
        testkit_write_file(path, file.bytes, file.size);
        testkit_write_file(beside, unknown, sizeof unknown - 1);
        struct model_profile profile;
        struct model_config config;
        struct error err = {0};
        assert_status(STATUS_INVALID_ARGUMENT, model_profile_read(path, &profile, &err));
        assert_string_equal(err.field, field);
        testkit_write_file(beside, other, sizeof other - 1);
        assert_status(STATUS_INVALID_ARGUMENT, model_config_read(path, &config, &err));
        assert_string_equal(err.field, field);
        testkit_remove_tree(directory);
    }
    gguf_builder_finish(&file);
}

// A file that is refused when it is opened, and one whose tensors do not fit, both name it.
static void test_the_file_and_the_key_are_named(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    struct model_config config;
    struct error err = {0};
    assert_status(STATUS_NOT_FOUND, model_config_read(path, &config, &err));
    assert_string_equal(err.field, "m.gguf");
    testkit_write_file(path, "GGUF\1\0\0\0\0\0\0\0", 12);
    assert_status(STATUS_VERSION, model_config_read(path, &config, &err));
    assert_string_equal(err.field, "m.gguf.version");
    struct draft draft = llama_draft("llama.attention.head_count");
    draft_number(&draft, "llama.attention.head_count", 3);
    struct gguf_builder file = draft_finish(&draft);
    testkit_write_file(path, file.bytes, file.size);
    assert_status(STATUS_INVALID_ARGUMENT, model_config_read(path, &config, &err));
    assert_string_equal(err.field, "m.gguf.num_attention_heads");
    gguf_builder_finish(&file);
    testkit_remove_tree(directory);
}

static void test_turn_ends_are_end_tokens(void **state) {
    (void)state;
    static const char *const tokens[] = {"a", "<|im_end|>", "<|eot_id|>", "<|end|>"};
    static const int32_t kinds[] = {1, 3, 1, 4};
    struct draft draft = llama_draft("");
    gguf_put_texts(&draft.values, "tokenizer.ggml.tokens", tokens, 4);
    gguf_put_numbers(&draft.values, "tokenizer.ggml.token_type", kinds, 4);
    draft.n_values += 2;
    draft_number(&draft, "tokenizer.ggml.eos_token_id", 0);
    draft_number(&draft, "tokenizer.ggml.eot_token_id", 1);
    struct gguf_builder file = draft_finish(&draft);
    struct gguf *gguf = NULL;
    struct error err = {0};
    json_t *json = NULL;
    assert_ok(gguf_parse(file.bytes, file.size, &gguf, &err), &err);
    assert_ok(gguf_generation_config(gguf, &json, &err), &err);
    // The second is named and spelled so, the third is ordinary text.
    json_t *want = json_pack("{s:[i, i, i]}", "eos_token_id", 0, 1, 3);
    assert_true(json_equal(json, want));
    json_decref(want);
    json_decref(json);
    gguf_close(gguf);
    gguf_builder_finish(&file);
}

static void test_recommended_sampling_is_the_generation_config(void **state) {
    (void)state;
    struct draft draft = llama_draft("");
    draft_real(&draft, "general.sampling.temp", 0.7f);
    draft_number(&draft, "general.sampling.top_k", 40);
    draft_number(&draft, "general.sampling.mirostat", 2);
    struct gguf_builder file = draft_finish(&draft);
    struct gguf *gguf = NULL;
    struct error err = {0};
    json_t *json = NULL;
    assert_ok(gguf_parse(file.bytes, file.size, &gguf, &err), &err);
    assert_ok(gguf_generation_config(gguf, &json, &err), &err);
    json_t *want = json_pack("{s:b, s:f, s:i, s:i}", "do_sample", 1, "temperature", 0.7, "top_k",
                             40, "general.sampling.mirostat", 2);
    assert_true(json_equal(json, want));
    json_decref(want);
    json_decref(json);
    gguf_close(gguf);
    char *directory = testkit_make_directory();
    char path[4200];
    snprintf(path, sizeof path, "%s/m.gguf", directory);
    testkit_write_file(path, file.bytes, file.size);
    struct model_config config;
    assert_status(STATUS_UNSUPPORTED, model_config_read(path, &config, &err));
    assert_string_equal(err.field, "m.gguf.general.sampling.mirostat");
    gguf_builder_finish(&file);
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_equal_the_reference_for_every_architecture),
        cmocka_unit_test(test_four_bits_have_the_values_of_the_file),
        cmocka_unit_test(test_products_in_four_bits_are_near_or_refused),
        cmocka_unit_test(test_a_factor_alone_scales_rotations_linearly),
        cmocka_unit_test(test_metadata_becomes_the_configuration),
        cmocka_unit_test(test_what_is_missing_is_named),
        cmocka_unit_test(test_what_is_not_known_is_refused_by_name),
        cmocka_unit_test(test_the_profile_lies_beside_the_file),
        cmocka_unit_test(test_the_profile_beside_the_file_is_named),
        cmocka_unit_test(test_the_file_and_the_key_are_named),
        cmocka_unit_test(test_turn_ends_are_end_tokens),
        cmocka_unit_test(test_recommended_sampling_is_the_generation_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
