#include "worker/model/config_fields.h"

#include <stdbool.h>
#include <string.h>

#include "worker/model/generation.h"
#include "worker/model/json_fields.h"

// Read by config.c and profile.c, which refuse what is not supported.
static const char *const followed[] = {
    "architectures",
    "attention_bias",
    "bias",
    "bos_token_id",
    "do_normalize",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "id2label",
    "intermediate_size",
    "is_causal",
    "is_encoder_decoder",
    "label2id",
    "layer_types",
    "max_position_embeddings",
    "max_window_layers",
    "mean",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "num_labels",
    "original_max_position_embeddings",
    "pad_token_id",
    "partial_rotary_factor",
    "problem_type",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "score_bias",
    "score_dim",
    "score_type",
    "sliding_window",
    "tie_word_embeddings",
    "transformers_weights",
    "use_sliding_window",
    "var",
    "vocab_size",
};

// What changes nothing in the inference of one sequence by the supported classes: fields of theirs
// (LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, Phi3Config and PreTrainedConfig of
// transformers 4 and 5), and what widespread tools leave behind. A name that ends in '*' stands for
// all that begin so, one that begins with '*' for all that end so.
static const char *const harmless[] = {
    // Bookkeeping.
    "_*",
    "*_version",
    "auto_map", // a class that the library knows comes before code beside the weights
    "dtype",    // weights are taken in the type that they are stored in
    "finetuning_task",
    "full_attn_mod", // likewise interpolate_factor: in Phi-4-mini's file, read by nothing
    "interpolate_factor",
    "is_llama_config",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "pad_token",
    "padding_side",
    "prefix",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "unk_token_id",
    "unsloth_*",
    // Training.
    "*_pdrop",
    "*dropout",
    "*dropout_prob",
    "gradient_checkpointing",
    "initializer_*",
    "momentum",
    "neftune_noise_alpha",
    "normalizer_type",
    "pretraining_tp", // cuts products into pieces that are added up again
    // How the library is called.
    "add_cross_attention",
    "attn_implementation",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "is_decoder",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pruned_heads",
    "return_dict",
    "return_dict_in_generate",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_return_dict",
};

static bool matches(const char *name, const char *pattern) {
    size_t length = strlen(pattern), size = strlen(name);
    if (pattern[length - 1] == '*') {
        return strncmp(name, pattern, length - 1) == 0;
    }
    if (pattern[0] == '*') {
        return size >= length - 1 && strcmp(name + size - (length - 1), pattern + 1) == 0;
    }
    return strcmp(name, pattern) == 0;
}

static bool is_followed(const char *name) {
    for (size_t i = 0; i < sizeof followed / sizeof followed[0]; i++) {
        if (strcmp(followed[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_harmless(const char *name) {
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++) {
        if (matches(name, harmless[i])) {
            return true;
        }
    }
    return generation_field_known(name);
}

static bool is_listed(const json_t *names, const char *name) {
    for (size_t i = 0; i < json_array_size(names); i++) {
        const char *listed = json_string_value(json_array_get(names, i));
        if (listed != NULL && strcmp(listed, name) == 0) {
            return true;
        }
    }
    return false;
}

enum status config_fields_check(const json_t *config, const json_t *ignored, struct error *err) {
    for (size_t i = 0; i < json_array_size(ignored); i++) {
        const char *name = json_string_value(json_array_get(ignored, i));
        if (name != NULL && is_followed(name)) {
            return error_set(err, STATUS_UNSUPPORTED, name,
                             "ignore_fields lists %.64s, which is followed and cannot be ignored",
                             name);
        }
    }
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)config, name, value) {
        if (!is_followed(name) && !is_harmless(name) && !json_says_nothing(value) &&
            !is_listed(ignored, name)) {
            return error_set(err, STATUS_UNSUPPORTED, name,
                             "the field %.64s is not known here and may change what the model "
                             "computes; if it does not, list it in ignore_fields of the profile",
                             name);
        }
    }
    return STATUS_OK;
}
