// What config.json, generation_config.json and surefoot.json may say, and how each wrong value is
// refused. Every case starts from a good file and changes one field.
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/model/config.h"

static const char good_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_act\": \"silu\", \"vocab_size\": 100,"
    " \"hidden_size\": 64, \"intermediate_size\": 172, \"num_hidden_layers\": 2,"
    " \"num_attention_heads\": 8, \"num_key_value_heads\": 4, \"max_position_embeddings\": 256,"
    " \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0, \"bos_token_id\": 1, \"eos_token_id\": 2}";

static void write_text(const char *directory, const char *name, const char *text) {
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    testkit_write_file(path, text, strlen(text));
}

// Reads the good configuration with the object `change` merged into it; null removes nothing, it is
// what the file then says.
static void write_changed(const char *directory, const char *change) {
    json_t *json = json_loads(good_config, 0, NULL);
    json_t *other = json_loads(change, 0, NULL);
    assert_non_null(json);
    assert_non_null(other);
    json_object_update(json, other);
    char *text = json_dumps(json, 0);
    write_text(directory, "config.json", text);
    free(text);
    json_decref(json);
    json_decref(other);
}

static enum status read_changed(const char *change, struct model_config *config,
                                struct error *err) {
    char *directory = testkit_make_directory();
    write_changed(directory, change);
    *err = (struct error){0};
    enum status status = model_config_read(directory, config, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_reads_a_plain_llama(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    assert_ok(read_changed("{}", &config, &err), &err);
    assert_int_equal(config.architecture, MODEL_ARCHITECTURE_LLAMA);
    assert_int_equal(config.head, MODEL_HEAD_LM);
    assert_int_equal(config.vocab_size, 100);
    assert_int_equal(config.hidden_dim, 64);
    assert_int_equal(config.ffn_dim, 172);
    assert_int_equal(config.n_layers, 2);
    assert_int_equal(config.n_heads, 8);
    assert_int_equal(config.n_kv_heads, 4);
    assert_int_equal(config.head_dim, 8);
    assert_int_equal(config.context_length, 256);
    assert_true(config.norm_eps == 1e-5f);
    assert_true(config.rope.theta == 500000);
    assert_true(config.rope.kind == ROPE_DEFAULT);
    assert_false(config.tied_embeddings);
    assert_false(config.biased[LAYER_QKV]);
    assert_int_equal(config.bos_id, 1);
    assert_int_equal(config.n_eos, 1);
    assert_int_equal(config.eos_ids[0], 2);
    assert_int_equal(config.pad_id, -1);
}

static void test_fills_in_defaults(void **state) {
    (void)state;
    struct model_config config;
    struct error err = {0};
    char *directory = testkit_make_directory();
    write_text(directory, "config.json",
               "{\"architectures\": [\"LlamaForCausalLM\"], \"vocab_size\": 100,"
               " \"hidden_size\": 64, \"intermediate_size\": 172, \"num_hidden_layers\": 2,"
               " \"num_attention_heads\": 8, \"num_key_value_heads\": null, \"rope_scaling\": null,"
               " \"max_position_embeddings\": 256, \"head_dim\": null, \"bos_token_id\": null,"
               " \"eos_token_id\": null, \"pad_token_id\": -1}");
    assert_ok(model_config_read(directory, &config, &err), &err);
    testkit_remove_tree(directory);
    assert_int_equal(config.n_kv_heads, 8);
    assert_int_equal(config.head_dim, 8);
    assert_true(config.rope.theta == 10000);
    assert_true(config.norm_eps == 1e-6f);
    assert_int_equal(config.bos_id, -1);
    assert_int_equal(config.n_eos, 0);
    assert_int_equal(config.pad_id, -1);
}

static void test_reads_llama3_rope_scaling_in_both_forms(void **state) {
    (void)state;
    static const char *const forms[] = {
        "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0,"
        " \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
        "{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"llama3\", \"factor\": 32,"
        " \"rope_theta\": 500000.0, \"low_freq_factor\": 1, \"high_freq_factor\": 4,"
        " \"original_max_position_embeddings\": 8192}}",
        "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0,"
        " \"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}",
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct model_config config;
        struct error err;
        assert_ok(read_changed(forms[i], &config, &err), &err);
        assert_true(config.rope.factor == 32);
        assert_true(config.rope.low_freq_factor == 1);
        assert_true(config.rope.high_freq_factor == 4);
        assert_int_equal(config.rope.original_context, 8192);
        assert_true(config.rope.theta == 500000);
    }
}

static void test_reads_the_other_architectures(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    assert_ok(read_changed("{\"architectures\": [\"Qwen2ForCausalLM\"], "
                           "\"tie_word_embeddings\": true, \"sliding_window\": 64, "
                           "\"use_sliding_window\": false}",
                           &config, &err),
              &err);
    assert_int_equal(config.architecture, MODEL_ARCHITECTURE_QWEN2);
    assert_true(config.biased[LAYER_QKV]);
    assert_true(config.tied_embeddings);
    assert_int_equal(config.context_length, 256);
    assert_ok(read_changed("{\"architectures\": [\"MistralForCausalLM\"], \"head_dim\": 16, "
                           "\"sliding_window\": null}",
                           &config, &err),
              &err);
    assert_int_equal(config.architecture, MODEL_ARCHITECTURE_MISTRAL);
    assert_int_equal(config.head_dim, 16);
    assert_ok(read_changed("{\"architectures\": [\"MistralForSequenceClassification\"], "
                           "\"num_labels\": 1}",
                           &config, &err),
              &err);
    assert_int_equal(config.head, MODEL_HEAD_CLASS);
    assert_ok(read_changed("{\"architectures\": [\"LlamaForScore\"], \"score_type\": \"cost\", "
                           "\"mean\": 0.5, \"var\": [4]}",
                           &config, &err),
              &err);
    assert_int_equal(config.head, MODEL_HEAD_SCORE);
    assert_false(config.normalize);
    assert_false(config.normalize_center);
    assert_true(config.score_mean == 0.5f && config.score_var == 4);
}

// Which of five layers are windowed, as digits.
static void test_windows_belong_to_the_layers_that_the_model_means(void **state) {
    (void)state;
    static const struct {
        const char *change;
        int32_t window;
        const char *layers;
    } cases[] = {
        {"{\"sliding_window\": 100}", 0, "00000"},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": 100}", 100, "11111"},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": null}", 0, "00000"},
        {"{\"architectures\": [\"MistralForCausalLM\"]}", 4096, "11111"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"sliding_window\": 100}", 0, "00000"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
         " \"sliding_window\": 100}",
         0, "00000"}, // the first 28 layers are not
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
         " \"sliding_window\": 100, \"max_window_layers\": 3}",
         100, "00011"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
         " \"max_window_layers\": 0}",
         4096, "11111"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
         " \"sliding_window\": 7, \"layer_types\": [\"full_attention\", \"sliding_attention\","
         " \"full_attention\", \"sliding_attention\", \"full_attention\"]}",
         7, "01010"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        struct error err;
        json_t *change = json_loads(cases[i].change, 0, NULL);
        json_object_set_new(change, "num_hidden_layers", json_integer(5));
        char *text = json_dumps(change, 0);
        assert_ok(read_changed(text, &config, &err), &err);
        assert_int_equal(config.sliding_window, cases[i].window);
        assert_int_equal(config.context_length, 256);
        for (int32_t layer = 0; layer < 5; layer++) {
            assert_int_equal(config.windowed[layer], cases[i].layers[layer] == '1');
        }
        json_decref(change);
        free(text);
    }
}

// Where transformers would change factors with a text's length, a context of the shorter ones is
// what a model is served with unless more is asked for.
static void test_longrope_contexts_are_of_short_texts_by_default(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    assert_ok(read_changed("{\"rope_scaling\": {\"rope_type\": \"longrope\","
                           " \"short_factor\": [1, 1, 1, 1], \"long_factor\": [2, 2, 2, 2],"
                           " \"original_max_position_embeddings\": 64}}",
                           &config, &err),
              &err);
    assert_int_equal(config.context_length, 256);
    assert_int_equal(model_config_default_context(&config), 64);
    assert_false(rope_is_long(&config.rope, 64));
    assert_true(rope_is_long(&config.rope, 65));
    assert_ok(read_changed("{}", &config, &err), &err);
    assert_int_equal(model_config_default_context(&config), 256);
    assert_false(rope_is_long(&config.rope, 256));
}

// Fields as published models of these families have them.
static void test_reads_what_published_models_say(void **state) {
    (void)state;
    static const char phi[] =
        "{\"architectures\": [\"Phi3ForCausalLM\"], \"attention_bias\": false,"
        " \"attention_dropout\": 0.0, \"auto_map\": {\"AutoConfig\": "
        "\"configuration_phi3.Phi3Config\"},"
        " \"bos_token_id\": 199999, \"embd_pdrop\": 0.0, \"eos_token_id\": 199999, "
        "\"full_attn_mod\": 1,"
        " \"hidden_act\": \"silu\", \"hidden_size\": 3072, \"initializer_range\": 0.02,"
        " \"intermediate_size\": 8192, \"interpolate_factor\": 1, \"lm_head_bias\": false,"
        " \"max_position_embeddings\": 131072, \"mlp_bias\": false, \"model_type\": \"phi3\","
        " \"num_attention_heads\": 24, \"num_hidden_layers\": 32, \"num_key_value_heads\": 8,"
        " \"original_max_position_embeddings\": 4096, \"pad_token_id\": 199999,"
        " \"partial_rotary_factor\": 0.75, \"resid_pdrop\": 0.0, \"rms_norm_eps\": 1e-05,"
        " \"rope_scaling\": {\"long_factor\": [%s], \"short_factor\": [%s], \"type\": "
        "\"longrope\"},"
        " \"rope_theta\": 10000.0, \"sliding_window\": 262144, \"tie_word_embeddings\": true,"
        " \"torch_dtype\": \"bfloat16\", \"transformers_version\": \"4.45.0\", \"use_cache\": true,"
        " \"vocab_size\": 200064}";
    static const char qwen[] =
        "{\"architectures\": [\"Qwen3ForCausalLM\"], \"attention_bias\": false,"
        " \"attention_dropout\": 0.0, \"bos_token_id\": 151643, \"eos_token_id\": 151645,"
        " \"head_dim\": 128, \"hidden_act\": \"silu\", \"hidden_size\": 1024,"
        " \"initializer_range\": 0.02, \"intermediate_size\": 3072, \"max_position_embeddings\": "
        "40960,"
        " \"max_window_layers\": 28, \"model_type\": \"qwen3\", \"num_attention_heads\": 16,"
        " \"num_hidden_layers\": 28, \"num_key_value_heads\": 8, \"rms_norm_eps\": 1e-06,"
        " \"rope_scaling\": null, \"rope_theta\": 1000000, \"sliding_window\": null,"
        " \"tie_word_embeddings\": true, \"torch_dtype\": \"bfloat16\","
        " \"transformers_version\": \"4.51.0\", \"use_cache\": true, \"use_sliding_window\": false,"
        " \"vocab_size\": 151936}";
    char ones[256] = "1.0", text[4096];
    for (int i = 1; i < 48; i++) {
        strcat(ones, ", 1");
    }
    snprintf(text, sizeof text, phi, ones, ones);
    struct model_config config;
    struct error err = {0};
    char *directory = testkit_make_directory();
    write_text(directory, "config.json", text);
    assert_ok(model_config_read(directory, &config, &err), &err);
    assert_int_equal(config.rope.rotary_dim, 96);
    assert_int_equal(model_config_default_context(&config), 4096);
    assert_true(fabs((double)config.rope.scale - 1.190238) < 1e-6); // sqrt(1 + ln 32 / ln 4096)
    write_text(directory, "config.json", qwen);
    assert_ok(model_config_read(directory, &config, &err), &err);
    assert_int_equal(config.rope.rotary_dim, 128);
    assert_int_equal(config.sliding_window, 0);
    testkit_remove_tree(directory);
}

static void test_merges_end_tokens_of_the_generation_config(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    struct model_config config;
    struct error err = {0};
    write_text(directory, "config.json", good_config);
    write_text(directory, "generation_config.json", "{\"eos_token_id\": [2, 7, 9]}");
    assert_ok(model_config_read(directory, &config, &err), &err);
    assert_int_equal(config.n_eos, 3);
    assert_int_equal(config.eos_ids[0], 2);
    assert_int_equal(config.eos_ids[1], 7);
    assert_int_equal(config.eos_ids[2], 9);
    write_text(directory, "generation_config.json", "{\"eos_token_id\": 100}");
    assert_status(STATUS_LIMIT, model_config_read(directory, &config, &err));
    assert_string_equal(err.field, "generation_config.json.eos_token_id");
    testkit_remove_tree(directory);
}

// The object `change` is text: the values are larger than what a JSON writer would take.
static enum status read_text(const char *change, struct model_config *config, struct error *err) {
    char *directory = testkit_make_directory();
    char text[2048];
    snprintf(text, sizeof text, "{%s,%s", change, good_config + 1);
    write_text(directory, "config.json", text);
    *err = (struct error){0};
    enum status status = model_config_read(directory, config, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_numbers_above_64_bits_are_no_limit(void **state) {
    (void)state;
    static const char *const unread[] = {
        "\"model_max_length\": 1000000000000000019884624838656",
        "\"model_max_length\": 1e30",
        "\"max_length\": -99999999999999999999",
        "\"task_specific_params\": {\"a\": [1e999, 18446744073709551616]}",
    };
    struct model_config config;
    struct error err;
    for (size_t i = 0; i < sizeof unread / sizeof unread[0]; i++) {
        assert_ok(read_text(unread[i], &config, &err), &err);
        assert_int_equal(config.context_length, 256);
    }
    assert_status(STATUS_LIMIT, read_text("\"partial_rotary_factor\": 1e309", &config, &err));
    assert_string_equal(err.field, "config.json.partial_rotary_factor");
}

static void test_a_context_without_limit_is_the_largest_one(void **state) {
    (void)state;
    static const char *const limits[] = {"1000000000000000019884624838656", "1e30", "9e999"};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        char *directory = testkit_make_directory();
        char text[2048];
        snprintf(text, sizeof text,
                 "{\"architectures\": [\"MistralForCausalLM\"], \"vocab_size\": 100,"
                 " \"hidden_size\": 64, \"intermediate_size\": 172, \"num_hidden_layers\": 2,"
                 " \"num_attention_heads\": 8, \"max_position_embeddings\": %s,"
                 " \"sliding_window\": %s}",
                 limits[i], limits[i]);
        write_text(directory, "config.json", text);
        struct model_config config;
        struct error err = {0};
        assert_ok(model_config_read(directory, &config, &err), &err);
        assert_int_equal(config.context_length, MODEL_CONTEXT_MAX);
        testkit_remove_tree(directory);
    }
}

struct refusal {
    const char *change;
    enum status status;
    const char *field; // after "config.json."
};

static const struct refusal refusals[] = {
    {"{\"architectures\": [\"GPT2LMHeadModel\"]}", STATUS_UNSUPPORTED, "architectures"},
    {"{\"architectures\": []}", STATUS_MALFORMED, "architectures"},
    {"{\"architectures\": \"LlamaForCausalLM\"}", STATUS_MALFORMED, "architectures"},
    {"{\"architectures\": [7]}", STATUS_MALFORMED, "architectures"},
    {"{\"hidden_act\": \"gelu\"}", STATUS_UNSUPPORTED, "hidden_act"},
    {"{\"is_causal\": false}", STATUS_UNSUPPORTED, "is_causal"},
    {"{\"is_causal\": 0}", STATUS_MALFORMED, "is_causal"},
    {"{\"transformers_weights\": \"other.safetensors\"}", STATUS_UNSUPPORTED,
     "transformers_weights"},
    {"{\"architectures\": [\"MistralForCausalLM\"], \"attention_bias\": true}", STATUS_UNSUPPORTED,
     "attention_bias"},
    {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"attention_bias\": true}", STATUS_UNSUPPORTED,
     "attention_bias"},
    {"{\"architectures\": [\"Phi3ForCausalLM\"], \"attention_bias\": true}", STATUS_UNSUPPORTED,
     "attention_bias"},
    {"{\"architectures\": [\"MistralForCausalLM\"], \"mlp_bias\": true}", STATUS_UNSUPPORTED,
     "mlp_bias"},
    {"{\"architectures\": [\"Qwen3ForCausalLM\"], \"mlp_bias\": true}", STATUS_UNSUPPORTED,
     "mlp_bias"},
    {"{\"mlp_bias\": 1}", STATUS_MALFORMED, "mlp_bias"},
    {"{\"quantization_config\": {\"bits\": 4}}", STATUS_UNSUPPORTED, "quantization_config"},
    {"{\"vocab_size\": 0}", STATUS_LIMIT, "vocab_size"},
    {"{\"vocab_size\": 9223372036854775807}", STATUS_LIMIT, "vocab_size"},
    {"{\"vocab_size\": \"100\"}", STATUS_MALFORMED, "vocab_size"},
    {"{\"vocab_size\": 100.0}", STATUS_MALFORMED, "vocab_size"},
    {"{\"vocab_size\": null}", STATUS_MALFORMED, "vocab_size"},
    {"{\"hidden_size\": -64}", STATUS_LIMIT, "hidden_size"},
    {"{\"intermediate_size\": 0}", STATUS_LIMIT, "intermediate_size"},
    {"{\"num_hidden_layers\": 0}", STATUS_LIMIT, "num_hidden_layers"},
    {"{\"num_hidden_layers\": 4294967296}", STATUS_LIMIT, "num_hidden_layers"},
    {"{\"num_attention_heads\": 0}", STATUS_LIMIT, "num_attention_heads"},
    {"{\"num_attention_heads\": 7, \"num_key_value_heads\": 7}", STATUS_INVALID_ARGUMENT,
     "num_attention_heads"},
    {"{\"num_key_value_heads\": 3}", STATUS_INVALID_ARGUMENT, "num_key_value_heads"},
    {"{\"num_key_value_heads\": 16}", STATUS_INVALID_ARGUMENT, "num_key_value_heads"},
    {"{\"head_dim\": 7}", STATUS_INVALID_ARGUMENT, "head_dim"},
    {"{\"head_dim\": 4096}", STATUS_LIMIT, "head_dim"},
    {"{\"max_position_embeddings\": 0}", STATUS_LIMIT, "max_position_embeddings"},
    {"{\"rms_norm_eps\": 0}", STATUS_LIMIT, "rms_norm_eps"},
    {"{\"rms_norm_eps\": -1e-6}", STATUS_LIMIT, "rms_norm_eps"},
    {"{\"rope_theta\": 0.5}", STATUS_LIMIT, "rope_theta"},
    {"{\"rope_theta\": \"big\"}", STATUS_MALFORMED, "rope_theta"},
    {"{\"rope_scaling\": 4}", STATUS_MALFORMED, "rope_scaling"},
    {"{\"rope_scaling\": {\"type\": \"su\", \"factor\": 2}}", STATUS_UNSUPPORTED,
     "rope_scaling.rope_type"},
    {"{\"rope_scaling\": {\"rope_type\": \"proportional\", \"factor\": 2}}", STATUS_UNSUPPORTED,
     "rope_scaling.rope_type"},
    {"{\"rope_scaling\": {\"rope_type\": \"mrope\", \"factor\": 2}}", STATUS_UNSUPPORTED,
     "rope_scaling.rope_type"},
    {"{\"rope_scaling\": {\"rope_type\": \"default\", \"mrope_section\": [1, 2]}}",
     STATUS_UNSUPPORTED, "rope_scaling.mrope_section"},
    {"{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
     STATUS_UNSUPPORTED, "rope_parameters.full_attention"},
    {"{\"rope_scaling\": {\"rope_type\": \"linear\"}}", STATUS_MALFORMED, "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}}", STATUS_LIMIT,
     "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"dynamic\"}}", STATUS_MALFORMED, "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\"}}", STATUS_MALFORMED, "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"beta_fast\": -1}}",
     STATUS_LIMIT, "rope_scaling.beta_fast"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"truncate\": 1}}",
     STATUS_MALFORMED, "rope_scaling.truncate"},
    {"{\"rope_theta\": 1, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2}}",
     STATUS_LIMIT, "rope_scaling.rope_theta"},
    {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, "
     "\"original_max_position_embeddings\": 0}}",
     STATUS_LIMIT, "rope_scaling.original_max_position_embeddings"},
    {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"long_factor\": [1, 2, 3, 4]}}",
     STATUS_MALFORMED, "rope_scaling.short_factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 3, 4], "
     "\"long_factor\": [1, 2, 3]}}",
     STATUS_MALFORMED, "rope_scaling.long_factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 3, 0], "
     "\"long_factor\": [1, 2, 3, 4]}}",
     STATUS_LIMIT, "rope_scaling.short_factor"},
    {"{\"architectures\": [\"Phi3ForCausalLM\"], \"rope_scaling\": {\"rope_type\": \"linear\", "
     "\"factor\": 2}}",
     STATUS_UNSUPPORTED, "rope_scaling.rope_type"},
    {"{\"architectures\": [\"Phi3ForCausalLM\"], \"partial_rotary_factor\": 0.4}",
     STATUS_INVALID_ARGUMENT, "partial_rotary_factor"},
    {"{\"architectures\": [\"Phi3ForCausalLM\"], \"partial_rotary_factor\": 0.1}",
     STATUS_INVALID_ARGUMENT, "partial_rotary_factor"},
    {"{\"architectures\": [\"MistralForCausalLM\"], \"rope_scaling\": {\"partial_rotary_factor\": "
     "0.5}}",
     STATUS_UNSUPPORTED, "rope_scaling.partial_rotary_factor"},
    {"{\"architectures\": [\"Phi3ForScore\"], \"score_type\": \"cost\"}", STATUS_UNSUPPORTED,
     "architectures"},
    {"{\"architectures\": [\"Qwen3MoeForCausalLM\"]}", STATUS_UNSUPPORTED, "architectures"},
    {"{\"architectures\": [\"Gemma2ForCausalLM\"]}", STATUS_UNSUPPORTED, "architectures"},
    {"{\"rope_scaling\": {\"rope_type\": \"llama3\"}}", STATUS_MALFORMED, "rope_scaling.factor"},
    {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
     " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 32}}",
     STATUS_INVALID_ARGUMENT, "rope_scaling.high_freq_factor"},
    {"{\"partial_rotary_factor\": 0.5}", STATUS_UNSUPPORTED, "partial_rotary_factor"},
    {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": -1}", STATUS_LIMIT,
     "sliding_window"},
    {"{\"architectures\": [\"MistralForCausalLM\"], \"sliding_window\": 9,"
     " \"layer_types\": [\"sliding_attention\", \"full_attention\"]}",
     STATUS_UNSUPPORTED, "layer_types"},
    {"{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}", STATUS_INVALID_ARGUMENT,
     "layer_types"},
    {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
     " \"layer_types\": [\"full_attention\"]}",
     STATUS_MALFORMED, "layer_types"},
    {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": true,"
     " \"layer_types\": [\"full_attention\", \"chunked_attention\"]}",
     STATUS_UNSUPPORTED, "layer_types"},
    {"{\"architectures\": [\"Qwen2ForCausalLM\"],"
     " \"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
     STATUS_INVALID_ARGUMENT, "layer_types"},
    {"{\"bos_token_id\": 100}", STATUS_LIMIT, "bos_token_id"},
    {"{\"eos_token_id\": -2}", STATUS_LIMIT, "eos_token_id"},
    {"{\"eos_token_id\": [1, \"2\"]}", STATUS_LIMIT, "eos_token_id"},
    {"{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}", STATUS_LIMIT, "eos_token_id"},
    {"{\"architectures\": [\"LlamaForSequenceClassification\"]}", STATUS_UNSUPPORTED, "num_labels"},
    {"{\"architectures\": [\"LlamaForSequenceClassification\"],"
     " \"id2label\": {\"0\": \"a\", \"1\": \"b\"}}",
     STATUS_UNSUPPORTED, "num_labels"},
    {"{\"architectures\": [\"LlamaModelForScore\"], \"score_dim\": 2}", STATUS_UNSUPPORTED,
     "score_dim"},
    {"{\"architectures\": [\"LlamaModelForScore\"], \"score_type\": \"mood\"}", STATUS_UNSUPPORTED,
     "score_type"},
    {"{\"architectures\": [\"LlamaModelForScore\"], \"var\": -1}", STATUS_LIMIT, "var"},
    {"{\"architectures\": [\"LlamaModelForScore\"], \"bias\": 0}", STATUS_MALFORMED, "bias"},
    {"{\"architectures\": [\"LlamaForScore\"], \"score_bias\": \"no\"}", STATUS_MALFORMED,
     "score_bias"},
};

static void test_refuses_wrong_fields_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct model_config config = {.vocab_size = 12345};
        struct error err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "config.json.%s", refusals[i].field);
        enum status status = read_changed(refusals[i].change, &config, &err);
        if (status != refusals[i].status || strcmp(err.field, field) != 0) {
            fail_msg("%s: got %s at %s", refusals[i].change, status_name(status), err.field);
        }
        assert_int_equal(err.status, status);
        assert_true(err.message[0] != '\0');
        assert_int_equal(config.vocab_size, 12345);
    }
}

// What published configurations of the supported classes hold beside the shapes.
// transformers' Phi3Config pads with 32000 where nothing is said; pooling skips that.
static void test_an_absent_padding_token_is_the_classs_own(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    assert_ok(read_changed("{\"architectures\": [\"Phi3ForSequenceClassification\"],"
                           " \"num_labels\": 1, \"vocab_size\": 32064}",
                           &config, &err),
              &err);
    assert_int_equal(config.pad_id, 32000);
    assert_ok(read_changed("{\"architectures\": [\"Phi3ForCausalLM\"], \"vocab_size\": 32064,"
                           " \"pad_token_id\": null}",
                           &config, &err),
              &err);
    assert_int_equal(config.pad_id, -1);
    assert_ok(read_changed("{\"architectures\": [\"Phi3ForCausalLM\"]}", &config, &err), &err);
    assert_int_equal(config.pad_id, -1);
    assert_ok(read_changed("{\"vocab_size\": 32064}", &config, &err), &err);
    assert_int_equal(config.pad_id, -1);
}

static void test_fields_that_change_nothing_are_let_through(void **state) {
    (void)state;
    static const char *const published[] = {
        // Llama 2 and 3, as transformers 4 writes them
        "{\"_name_or_path\": \"meta-llama\", \"pretraining_tp\": 2, \"torch_dtype\": \"float16\","
        " \"initializer_range\": 0.02, \"use_cache\": true, \"transformers_version\": \"4.31.0\","
        " \"attention_dropout\": 0.1, \"model_type\": \"llama\", \"mlp_bias\": false,"
        " \"tie_word_embeddings\": false, \"max_length\": 4096, \"hidden_act\": \"silu\"}",
        // transformers 5
        "{\"dtype\": \"bfloat16\", \"chunk_size_feed_forward\": 0, \"problem_type\": null,"
        " \"return_dict\": true, \"output_attentions\": false, \"output_hidden_states\": true,"
        " \"is_encoder_decoder\": false, \"rope_parameters\": {\"rope_type\": \"default\","
        " \"rope_theta\": 10000.0}, \"id2label\": {\"0\": \"LABEL_0\", \"1\": \"LABEL_1\"},"
        " \"label2id\": {\"LABEL_0\": 0, \"LABEL_1\": 1}}",
        // SmolLM2
        "{\"is_llama_config\": true, \"rope_interleaved\": false, \"pad_token_id\": 2,"
        " \"transformers.js_config\": {\"kv_cache_dtype\": {\"q4f16\": \"float16\"}},"
        " \"initializer_range\": 0.041666666666666664}",
        // other tools
        "{\"unsloth_version\": \"2024.9\", \"unsloth_fixed\": true, \"auto_map\": {\"AutoConfig\":"
        " \"configuration_x.XConfig\"}, \"embd_pdrop\": 0.1, \"classifier_dropout\": 0.2,"
        " \"hidden_dropout_prob\": 0.1, \"neftune_noise_alpha\": 5, \"resid_pdrop\": 0.1}",
        "{\"architectures\": [\"LlamaModelForScore\"], \"normalizer_type\":"
        " \"ExponentialMovingAverage\", \"momentum\": 0.9, \"score_dim\": 1, \"bias\": true,"
        " \"score_type\": \"cost\", \"do_normalize\": false, \"model_type\": \"score_llama\"}",
        "{\"architectures\": [\"Qwen2ForCausalLM\"], \"model_type\": \"qwen2\","
        " \"max_window_layers\": 28, \"use_sliding_window\": false, \"sliding_window\": 131072}",
        "{\"is_causal\": true, \"transformers_weights\": \"model.safetensors\"}",
        // unknown, and saying nothing
        "{\"a\": null, \"b\": false, \"c\": 0, \"d\": 0.0, \"e\": \"\", \"f\": [], \"g\": {}}",
    };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        struct model_config config;
        struct error err;
        assert_ok(read_changed(published[i], &config, &err), &err);
    }
}

static void test_fields_that_are_unknown_are_refused_by_name(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"{\"logit_scale\": 0.0625}", STATUS_UNSUPPORTED, "logit_scale"},
        {"{\"residual_multiplier\": 0.22}", STATUS_UNSUPPORTED, "residual_multiplier"},
        {"{\"final_logit_softcapping\": 30.0}", STATUS_UNSUPPORTED, "final_logit_softcapping"},
        {"{\"rope_interleaved\": true}", STATUS_UNSUPPORTED, "rope_interleaved"},
        {"{\"no_rope_layers\": [1, 1, 0]}", STATUS_UNSUPPORTED, "no_rope_layers"},
        {"{\"num_local_experts\": 8}", STATUS_UNSUPPORTED, "num_local_experts"},
        {"{\"new_switch\": \"on\"}", STATUS_UNSUPPORTED, "new_switch"},
        {"{\"is_encoder_decoder\": true}", STATUS_UNSUPPORTED, "is_encoder_decoder"},
        {"{\"model_type\": \"mistral\"}", STATUS_UNSUPPORTED, "model_type"},
        {"{\"model_type\": \"LLAMA\"}", STATUS_UNSUPPORTED, "model_type"},
        {"{\"suppress_tokens\": [5]}", STATUS_UNSUPPORTED, "suppress_tokens"},
        {"{\"temperature\": -1}", STATUS_LIMIT, "temperature"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        struct error err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "config.json.%s", cases[i].field);
        assert_status(cases[i].status, read_changed(cases[i].change, &config, &err));
        assert_string_equal(err.field, field);
    }
}

// Where transformers 5.24 opens no model: a null is no default of theirs.
static void test_nulls_that_transformers_refuses_are_refused(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"{\"rope_theta\": null}", STATUS_MALFORMED, "rope_theta"},
        {"{\"tie_word_embeddings\": null}", STATUS_MALFORMED, "tie_word_embeddings"},
        {"{\"rms_norm_eps\": null}", STATUS_MALFORMED, "rms_norm_eps"},
        {"{\"hidden_act\": null}", STATUS_MALFORMED, "hidden_act"},
        {"{\"attention_bias\": null}", STATUS_MALFORMED, "attention_bias"},
        {"{\"mlp_bias\": null}", STATUS_MALFORMED, "mlp_bias"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"head_dim\": null}", STATUS_MALFORMED,
         "head_dim"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"use_sliding_window\": null}",
         STATUS_MALFORMED, "use_sliding_window"},
        {"{\"architectures\": [\"Qwen2ForCausalLM\"], \"attention_bias\": null}", STATUS_OK, ""},
        {"{\"architectures\": [\"MistralForCausalLM\"], \"attention_bias\": null,"
         " \"head_dim\": null, \"max_window_layers\": null}",
         STATUS_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        struct error err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "config.json.%s", cases[i].field);
        assert_status(cases[i].status, read_changed(cases[i].change, &config, &err));
        assert_string_equal(err.field, cases[i].status == STATUS_OK ? "" : field);
    }
}

// Reads the good configuration beside a generation_config.json and a profile; either may be NULL.
static enum status read_beside(const char *generation, const char *profile,
                               struct model_config *config, struct error *err) {
    char *directory = testkit_make_directory();
    write_text(directory, "config.json", good_config);
    if (generation != NULL) {
        write_text(directory, "generation_config.json", generation);
    }
    if (profile != NULL) {
        write_text(directory, "surefoot.json", profile);
    }
    *err = (struct error){0};
    enum status status = model_config_read(directory, config, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_reads_what_generation_config_states(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    assert_ok(
        read_beside("{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9, \"top_k\": 20,"
                    " \"repetition_penalty\": 1.05, \"max_new_tokens\": 512,"
                    " \"bos_token_id\": 1, \"pad_token_id\": 0, \"min_p\": 0.0,"
                    " \"typical_p\": 1.0, \"num_beams\": 1, \"max_length\": 4096,"
                    " \"guidance_scale\": 1, \"suppress_tokens\": null,"
                    " \"_from_model_config\": true, \"transformers_version\": \"4.45.0\"}",
                    NULL, &config, &err),
        &err);
    const struct model_generation *generation = &config.generation;
    assert_true(generation->has_do_sample && generation->do_sample);
    assert_true(generation->has_temperature && generation->temperature == 0.6);
    assert_true(generation->has_top_p && generation->top_p == 0.9);
    assert_true(generation->has_top_k && generation->top_k == 20);
    assert_true(generation->has_repetition_penalty && generation->repetition_penalty == 1.05);
    assert_true(generation->has_max_new_tokens && generation->max_new_tokens == 512);
    assert_ok(read_beside("{\"eos_token_id\": 2, \"max_new_tokens\": 1e30}", NULL, &config, &err),
              &err);
    assert_false(generation->has_temperature || generation->has_top_p || generation->has_top_k);
    assert_false(generation->has_repetition_penalty || generation->has_do_sample);
    assert_int_equal(generation->max_new_tokens, INT32_MAX);
    // As transformers and vLLM: config.json speaks of generation only where that file is absent.
    assert_ok(read_changed("{\"temperature\": 0.5, \"do_sample\": false}", &config, &err), &err);
    assert_true(generation->has_temperature && generation->temperature == 0.5);
    assert_true(generation->has_do_sample && !generation->do_sample);
}

static void test_generation_that_is_not_supported_is_refused_by_name(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"{\"min_p\": 0.05}", STATUS_UNSUPPORTED, "min_p"},
        {"{\"typical_p\": 0.9}", STATUS_UNSUPPORTED, "typical_p"},
        {"{\"num_beams\": 4}", STATUS_UNSUPPORTED, "num_beams"},
        {"{\"suppress_tokens\": [1, 2]}", STATUS_UNSUPPORTED, "suppress_tokens"},
        {"{\"begin_suppress_tokens\": [1]}", STATUS_UNSUPPORTED, "begin_suppress_tokens"},
        {"{\"forced_eos_token_id\": 2}", STATUS_UNSUPPORTED, "forced_eos_token_id"},
        {"{\"bad_words_ids\": [[3]]}", STATUS_UNSUPPORTED, "bad_words_ids"},
        {"{\"no_repeat_ngram_size\": 3}", STATUS_UNSUPPORTED, "no_repeat_ngram_size"},
        {"{\"stop_strings\": [\"x\"]}", STATUS_UNSUPPORTED, "stop_strings"},
        {"{\"guidance_scale\": 1.5}", STATUS_UNSUPPORTED, "guidance_scale"},
        {"{\"encoder_no_repeat_ngram_size\": 3}", STATUS_UNSUPPORTED,
         "encoder_no_repeat_ngram_size"},
        {"{\"encoder_repetition_penalty\": 1.2}", STATUS_UNSUPPORTED, "encoder_repetition_penalty"},
        {"{\"dry_multiplier\": 0.8}", STATUS_UNSUPPORTED, "dry_multiplier"},
        {"{\"temperature\": \"hot\"}", STATUS_MALFORMED, "temperature"},
        {"{\"temperature\": 1000}", STATUS_LIMIT, "temperature"},
        {"{\"top_p\": 0}", STATUS_LIMIT, "top_p"},
        {"{\"top_p\": 1.5}", STATUS_LIMIT, "top_p"},
        {"{\"top_k\": -1}", STATUS_LIMIT, "top_k"},
        {"{\"repetition_penalty\": 0}", STATUS_LIMIT, "repetition_penalty"},
        {"{\"max_new_tokens\": 0}", STATUS_LIMIT, "max_new_tokens"},
        {"{\"do_sample\": 1}", STATUS_MALFORMED, "do_sample"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_config config;
        struct error err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "generation_config.json.%s", cases[i].field);
        assert_status(cases[i].status, read_beside(cases[i].change, NULL, &config, &err));
        assert_string_equal(err.field, field);
        char profile[128];
        snprintf(profile, sizeof profile, "{\"schema\": 1, \"ignore_fields\": [\"%s\"]}",
                 cases[i].field);
        assert_ok(read_beside(cases[i].change, profile, &config, &err), &err);
    }
}

struct choice {
    const char *config; // changes of the good one
    const char *profile;
    enum status status;
    const char *field;
};

#define CLASS "\"architectures\": [\"LlamaForSequenceClassification\"]"
#define TWO CLASS ", \"id2label\": {\"0\": \"fine\", \"1\": \"harmful\"}"
static const struct choice choices[] = {
    {"{" TWO "}", "{\"schema\": 1, \"label\": \"rude\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.label"},
    {"{" TWO "}", "{\"schema\": 1, \"label\": 2}", STATUS_INVALID_ARGUMENT, "surefoot.json.label"},
    {"{" TWO "}", "{\"schema\": 1, \"label\": -1}", STATUS_INVALID_ARGUMENT, "surefoot.json.label"},
    {"{" TWO "}", "{\"schema\": 1, \"label\": true}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.label"},
    {"{" TWO "}", "{\"schema\": 1, \"label\": 1, \"label_score\": \"odds\"}",
     STATUS_INVALID_ARGUMENT, "surefoot.json.label_score"},
    {"{" CLASS ", \"num_labels\": 1}", "{\"schema\": 1, \"label_score\": \"probability\"}",
     STATUS_INVALID_ARGUMENT, "surefoot.json.label_score"},
    {"{" TWO "}", "{\"schema\": 1, \"role\": \"reward\"}", STATUS_UNSUPPORTED,
     "config.json.num_labels"},
    {"{" CLASS ", \"num_labels\": 1000}", "{\"schema\": 1}", STATUS_LIMIT,
     "config.json.num_labels"},
    {"{}", "{\"schema\": 1, \"label\": 0}", STATUS_INVALID_ARGUMENT, "surefoot.json.label"},
    {"{}", "{\"schema\": 1, \"pooling\": \"last\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.pooling"},
    {"{}", "{\"schema\": 1, \"head\": \"reward\"}", STATUS_INVALID_ARGUMENT, "surefoot.json.head"},
    {"{\"architectures\": [\"LlamaForScore\"]}", "{\"schema\": 1, \"head\": \"value\"}",
     STATUS_INVALID_ARGUMENT, "surefoot.json.head"},
    {"{}", "{\"schema\": 1, \"role\": \"reward\", \"append_eos\": true}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.role"},
    {"{}", "{\"schema\": 1, \"role\": \"cost\", \"cost_mode\": \"token_sum\"}",
     STATUS_INVALID_ARGUMENT, "surefoot.json.role"},
    {"{\"architectures\": [\"LlamaForScore\"]}", "{\"schema\": 1, \"role\": \"policy\"}",
     STATUS_INVALID_ARGUMENT, "surefoot.json.role"},
    {"{" TWO "}", "{\"schema\": 1, \"role\": \"policy\", \"label\": 1}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.role"},
    {"{}", "{\"schema\": 1, \"role\": \"policy\", \"head\": \"value\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.role"},
    {"{}", "{\"schema\": 1, \"score_after\": \"x\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.score_after"},
    {"{}", "{\"schema\": 1, \"append_eos\": true}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.append_eos"},
    {"{}", "{\"schema\": 1, \"budget\": 1}", STATUS_INVALID_ARGUMENT, "surefoot.json.budget"},
    {"{}", "{\"schema\": 1, \"cost_mode\": \"token_sum\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.cost_mode"},
    {"{}", "{\"schema\": 1, \"cost_eos\": \"none\"}", STATUS_INVALID_ARGUMENT,
     "surefoot.json.cost_eos"},
    {"{}", "{\"schema\": 1, \"cost_min\": 0}", STATUS_INVALID_ARGUMENT, "surefoot.json.cost_min"},
    {"{}", "{\"schema\": 1, \"discount\": 1}", STATUS_INVALID_ARGUMENT, "surefoot.json.discount"},
    {"{" TWO "}", "{\"schema\": 1, \"label\": \"harmful\"}", STATUS_OK, ""},
    {"{}", "{\"schema\": 1, \"role\": \"policy\"}", STATUS_OK, ""},
    {"{}", "{\"schema\": 1, \"role\": \"reward\", \"append_eos\": true, \"head\": \"value\"}",
     STATUS_OK, ""},
    {"{}", "{\"schema\": 1, \"head\": \"value\"}", STATUS_OK, ""},
};
#undef TWO
#undef CLASS

static void test_a_profile_chooses_among_what_the_head_gives(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        struct model_config config;
        struct error err = {0};
        char *directory = testkit_make_directory();
        write_changed(directory, choices[i].config);
        write_text(directory, "surefoot.json", choices[i].profile);
        enum status status = model_config_read(directory, &config, &err);
        bool named = status == STATUS_OK || strcmp(err.field, choices[i].field) == 0;
        if (status != choices[i].status || !named) {
            fail_msg("%s, %s: got %s at %s", choices[i].config, choices[i].profile,
                     status_name(status), err.field);
        }
        testkit_remove_tree(directory);
    }
}

static void test_a_profile_names_fields_to_ignore(void **state) {
    (void)state;
    struct model_config config;
    struct error err;
    char *directory = testkit_make_directory();
    char text[2048];
    snprintf(text, sizeof text, "{\"logit_scale\": 2, %s", good_config + 1);
    write_text(directory, "config.json", text);
    assert_status(STATUS_UNSUPPORTED, model_config_read(directory, &config, &err));
    assert_string_equal(err.field, "config.json.logit_scale");
    assert_non_null(strstr(err.message, "ignore_fields"));
    write_text(directory, "surefoot.json", "{\"schema\": 1, \"ignore_fields\": [\"logit_scale\"]}");
    assert_ok(model_config_read(directory, &config, &err), &err);
    write_text(directory, "surefoot.json", "{\"schema\": 1, \"ignore_fields\": [\"hidden_size\"]}");
    assert_status(STATUS_UNSUPPORTED, model_config_read(directory, &config, &err));
    assert_string_equal(err.field, "config.json.hidden_size");
    write_text(directory, "surefoot.json", "{\"schema\": 1, \"ignore_fields\": \"logit_scale\"}");
    assert_status(STATUS_MALFORMED, model_config_read(directory, &config, &err));
    assert_string_equal(err.field, "surefoot.json.ignore_fields");
    testkit_remove_tree(directory);
}

static void test_refuses_files_that_are_no_object(void **state) {
    (void)state;
    static const char *const texts[] = {"", "{", "[1]", "{\"vocab_size\": 1, \"vocab_size\": 2}",
                                        "nul"};
    char *directory = testkit_make_directory();
    struct model_config config;
    struct error err;
    assert_status(STATUS_NOT_FOUND, model_config_read(directory, &config, &err));
    assert_string_equal(err.field, "config.json");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_text(directory, "config.json", texts[i]);
        assert_status(STATUS_MALFORMED, model_config_read(directory, &config, &err));
        assert_string_equal(err.field, "config.json");
    }
    testkit_remove_tree(directory);
}

static enum status read_profile(const char *text, struct model_profile *profile,
                                struct error *err) {
    char *directory = testkit_make_directory();
    if (text != NULL) {
        write_text(directory, "surefoot.json", text);
    }
    *err = (struct error){0};
    enum status status = model_profile_read(directory, profile, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_reads_a_profile(void **state) {
    (void)state;
    struct model_profile profile;
    struct error err;
    assert_ok(read_profile(NULL, &profile, &err), &err);
    assert_false(profile.present);
    assert_ok(read_profile("{\"schema\": 1, \"role\": \"cost\", \"chat_template\": \"beaver\", "
                           "\"cost_mode\": \"token_sum_pos\", \"cost_eos\": \"append\", "
                           "\"budget\": 1.5, \"discount\": 0.999, \"later\": null}",
                           &profile, &err),
              &err);
    assert_true(profile.present);
    assert_string_equal(profile.role, "cost");
    assert_string_equal(profile.chat_template, "beaver");
    assert_string_equal(profile.cost_mode, "token_sum_pos");
    assert_true(profile.cost_eos_append);
    assert_false(profile.append_eos);
    assert_true(profile.has_budget && profile.budget == 1.5);
    assert_true(profile.has_discount && profile.discount == 0.999);
    assert_false(profile.has_cost_min);
}

static void test_refuses_wrong_profiles_by_name(void **state) {
    (void)state;
    static const struct refusal cases[] = {
        {"{}", STATUS_MALFORMED, "schema"},
        {"{\"schema\": 2}", STATUS_VERSION, "schema"},
        {"{\"schema\": 1, \"role\": \"cost\"}", STATUS_INVALID_ARGUMENT, "cost_mode"},
        {"{\"schema\": 1, \"role\": \"cost\", \"cost_mode\": \"sum\"}", STATUS_INVALID_ARGUMENT,
         "cost_mode"},
        {"{\"schema\": 1, \"role\": \"judge\"}", STATUS_INVALID_ARGUMENT, "role"},
        {"{\"schema\": 1, \"role\": 1}", STATUS_MALFORMED, "role"},
        {"{\"schema\": 1, \"cost_eos\": \"always\"}", STATUS_INVALID_ARGUMENT, "cost_eos"},
        {"{\"schema\": 1, \"pooling\": \"mean\"}", STATUS_INVALID_ARGUMENT, "pooling"},
        {"{\"schema\": 1, \"polling\": \"last\"}", STATUS_UNSUPPORTED, "polling"},
        {"{\"schema\": 1, \"score_after\": 7}", STATUS_MALFORMED, "score_after"},
        {"{\"schema\": 1, \"score_after\": \"x\", \"append_eos\": true}", STATUS_INVALID_ARGUMENT,
         "score_after"},
        {"{\"schema\": 1, \"score_after\": \"x\", \"cost_eos\": \"append\"}",
         STATUS_INVALID_ARGUMENT, "score_after"},
        {"{\"schema\": 1, \"discount\": 0}", STATUS_LIMIT, "discount"},
        {"{\"schema\": 1, \"discount\": 1.01}", STATUS_LIMIT, "discount"},
        {"{\"schema\": 1, \"budget\": 1e300}", STATUS_LIMIT, "budget"},
        {"{\"schema\": 1, \"cost_min\": \"0\"}", STATUS_MALFORMED, "cost_min"},
        {"{\"schema\": 1, \"append_eos\": \"yes\"}", STATUS_MALFORMED, "append_eos"},
        {"{\"schema\": 1, \"chat_template\": \"0123456789012345678901234567890123456789"
         "0123456789012345678901234\"}",
         STATUS_LIMIT, "chat_template"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_profile profile;
        struct error err;
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "surefoot.json.%s", cases[i].field);
        enum status status = read_profile(cases[i].change, &profile, &err);
        if (status != cases[i].status || strcmp(err.field, field) != 0) {
            fail_msg("%s: got %s at %s", cases[i].change, status_name(status), err.field);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_a_plain_llama),
        cmocka_unit_test(test_fills_in_defaults),
        cmocka_unit_test(test_reads_llama3_rope_scaling_in_both_forms),
        cmocka_unit_test(test_reads_the_other_architectures),
        cmocka_unit_test(test_longrope_contexts_are_of_short_texts_by_default),
        cmocka_unit_test(test_reads_what_published_models_say),
        cmocka_unit_test(test_windows_belong_to_the_layers_that_the_model_means),
        cmocka_unit_test(test_merges_end_tokens_of_the_generation_config),
        cmocka_unit_test(test_numbers_above_64_bits_are_no_limit),
        cmocka_unit_test(test_a_context_without_limit_is_the_largest_one),
        cmocka_unit_test(test_refuses_wrong_fields_by_name),
        cmocka_unit_test(test_an_absent_padding_token_is_the_classs_own),
        cmocka_unit_test(test_fields_that_change_nothing_are_let_through),
        cmocka_unit_test(test_fields_that_are_unknown_are_refused_by_name),
        cmocka_unit_test(test_nulls_that_transformers_refuses_are_refused),
        cmocka_unit_test(test_reads_what_generation_config_states),
        cmocka_unit_test(test_generation_that_is_not_supported_is_refused_by_name),
        cmocka_unit_test(test_a_profile_chooses_among_what_the_head_gives),
        cmocka_unit_test(test_a_profile_names_fields_to_ignore),
        cmocka_unit_test(test_refuses_files_that_are_no_object),
        cmocka_unit_test(test_reads_a_profile),
        cmocka_unit_test(test_refuses_wrong_profiles_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
