#include "worker/model/generation.h"

#include <string.h>

#include "worker/model/json_fields.h"

// What a field may say without changing what is drawn.
enum effect {
    HARMLESS, // anything: it concerns speed, the library's output, or other ways to search
    FOLLOWED, // read below
    OFF_AT_0, // nothing, or that number; else it is refused
    OFF_AT_1,
    OFF_EMPTY, // null, false, or an empty list or object
};

// Fields of transformers' GenerationConfig, releases 4 and 5, and of widespread files.
static const struct field {
    const char *name; // one that ends in '*' stands for all that begin so
    enum effect effect;
} fields[] = {
    {"_*", HARMLESS},
    {"assistant_*", HARMLESS},
    {"bad_words_ids", OFF_EMPTY},
    {"begin_suppress_tokens", OFF_EMPTY},
    {"bos_token_id", FOLLOWED},
    {"cache_*", HARMLESS},
    {"chat_format", HARMLESS},
    {"compile_config", HARMLESS},
    {"constraints", OFF_EMPTY},
    {"continuous_batching_config", HARMLESS},
    {"decoder_start_token_id", HARMLESS},
    {"disable_compile", HARMLESS},
    {"diversity_penalty", OFF_AT_0},
    {"do_sample", FOLLOWED},
    {"dola_layers", OFF_EMPTY},
    {"early_stopping", HARMLESS},
    {"encoder_no_repeat_ngram_size", OFF_AT_0},
    {"encoder_repetition_penalty", OFF_AT_1},
    {"eos_token_id", FOLLOWED},
    {"epsilon_cutoff", OFF_AT_0},
    {"eta_cutoff", OFF_AT_0},
    {"exponential_decay_length_penalty", OFF_EMPTY},
    {"force_words_ids", OFF_EMPTY},
    {"forced_bos_token_id", OFF_EMPTY},
    {"forced_eos_token_id", OFF_EMPTY},
    {"guidance_scale", OFF_AT_1},
    {"is_assistant", HARMLESS},
    {"length_penalty", HARMLESS}, // of the library's beams
    {"low_memory", HARMLESS},
    {"max_cache_len", HARMLESS},
    {"max_length", HARMLESS}, // of prompt and answer; the context limits it
    {"max_matching_ngram_size", HARMLESS},
    {"max_new_tokens", FOLLOWED},
    {"max_time", HARMLESS},
    {"max_window_size", HARMLESS},
    {"min_length", OFF_AT_0},
    {"min_new_tokens", OFF_AT_0},
    {"min_p", OFF_AT_0},
    {"no_repeat_ngram_size", OFF_AT_0},
    {"num_assistant_*", HARMLESS},
    {"num_beam_groups", HARMLESS},
    {"num_beams", OFF_AT_1},
    {"num_return_sequences", HARMLESS},
    {"output_*", HARMLESS},
    {"pad_token_id", HARMLESS},
    {"penalty_alpha", OFF_AT_0},
    {"prefill_chunk_size", HARMLESS},
    {"prompt_lookup_num_tokens", HARMLESS},
    {"remove_invalid_values", HARMLESS},
    {"renormalize_logits", HARMLESS},
    {"repetition_penalty", FOLLOWED},
    {"return_dict_in_generate", HARMLESS},
    {"sequence_bias", OFF_EMPTY},
    {"speculation_type", HARMLESS},
    {"stop_strings", OFF_EMPTY},
    {"suppress_tokens", OFF_EMPTY},
    {"target_lookbehind", HARMLESS},
    {"temperature", FOLLOWED},
    {"token_healing", OFF_EMPTY},
    {"top_h", OFF_EMPTY},
    {"top_k", FOLLOWED},
    {"top_p", FOLLOWED},
    {"transformers_version", HARMLESS},
    {"trust_remote_code", HARMLESS},
    {"typical_p", OFF_AT_1},
    {"use_cache", HARMLESS},
    {"use_mtp", HARMLESS},
    {"watermarking_config", OFF_EMPTY},
};

static const struct field *find_field(const char *name) {
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t length = strlen(fields[i].name);
        bool open = fields[i].name[length - 1] == '*';
        if (open ? strncmp(fields[i].name, name, length - 1) == 0
                 : strcmp(fields[i].name, name) == 0) {
            return &fields[i];
        }
    }
    return NULL;
}

bool generation_field_known(const char *name) {
    return find_field(name) != NULL;
}

// Whether the value leaves everything as it is.
static bool is_off(const json_t *value, enum effect effect) {
    if (json_says_nothing(value)) {
        return true;
    }
    double neutral = effect == OFF_AT_1 ? 1 : 0;
    return effect != OFF_EMPTY && json_is_number(value) && json_number_value(value) == neutral;
}

static enum status check_field(const char *name, const json_t *value, bool whole,
                               struct error *err) {
    const struct field *field = find_field(name);
    if (field == NULL) {
        return !whole || json_says_nothing(value)
                   ? STATUS_OK
                   : error_set(err, STATUS_UNSUPPORTED, name,
                               "the field %.64s is not known here and may change what is drawn; if "
                               "it does not, list it in ignore_fields of the profile",
                               name);
    }
    if (field->effect == HARMLESS || field->effect == FOLLOWED || is_off(value, field->effect)) {
        return STATUS_OK;
    }
    return error_set(err, STATUS_UNSUPPORTED, name,
                     "%.64s changes what is drawn and is not supported; ignore_fields of "
                     "the profile may list it, jobs then do without",
                     name);
}

static enum status read_number(const json_t *json, const char *key, double min, double max,
                               bool *has, double *out, struct error *err) {
    enum status status = json_number_get(json, key, false, min, max, out, err);
    *has = status == STATUS_OK && json_value_find(json, key) != NULL;
    return status;
}

static enum status read_fields(const json_t *json, struct model_generation *out,
                               struct error *err) {
    enum status status = json_bool_get(json, "do_sample", &out->do_sample, err);
    out->has_do_sample = json_value_find(json, "do_sample") != NULL;
    if (status == STATUS_OK) {
        status =
            read_number(json, "temperature", 0, 100, &out->has_temperature, &out->temperature, err);
    }
    if (status == STATUS_OK) {
        status = read_number(json, "top_p", 1e-6, 1, &out->has_top_p, &out->top_p, err);
    }
    if (status == STATUS_OK) {
        status = read_number(json, "repetition_penalty", 1e-6, 100, &out->has_repetition_penalty,
                             &out->repetition_penalty, err);
    }
    if (status == STATUS_OK) {
        status = json_limit_get(json, "top_k", false, 0, 1 << 20, &out->top_k, err);
        out->has_top_k = json_value_find(json, "top_k") != NULL;
    }
    if (status == STATUS_OK) {
        status =
            json_limit_get(json, "max_new_tokens", false, 1, INT32_MAX, &out->max_new_tokens, err);
        out->has_max_new_tokens = json_value_find(json, "max_new_tokens") != NULL;
    }
    return status;
}

enum status generation_read(const json_t *json, bool whole, const json_t *ignored,
                            struct model_generation *out, struct error *err) {
    struct model_generation generation = {0};
    json_t *kept = json_copy((json_t *)(uintptr_t)json);
    if (kept == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the fields");
    }
    for (size_t i = 0; i < json_array_size(ignored); i++) {
        json_object_del(kept, json_string_value(json_array_get(ignored, i)));
    }
    enum status status = STATUS_OK;
    const char *name;
    json_t *value;
    json_object_foreach(kept, name, value) {
        status = check_field(name, value, whole, err);
        if (status != STATUS_OK) {
            break;
        }
    }
    if (status == STATUS_OK) {
        status = read_fields(kept, &generation, err);
    }
    json_decref(kept);
    if (status == STATUS_OK) {
        *out = generation;
    }
    return status;
}
