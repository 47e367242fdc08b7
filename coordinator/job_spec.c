#include "coordinator/job_spec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/date.h"
#include "coordinator/certificate.h"
#include "coordinator/job_channels.h"
#include "coordinator/job_critic.h"
#include "coordinator/job_calibration.h"
#include "coordinator/job_scorers.h"
#include "proto/same_job.h"
#include "coordinator/spec_check.h"
#include "proto/job_fields.h"
#include "proto/template_variables.h"

static const struct number_range range_temperature = {.low = 0, .high = 100, .single = true};
static const struct number_range range_top_p = {
    .low = 0, .high = 1, .above_low = true, .single = true};
static const struct number_range range_repetition = {
    .low = 0, .high = 100, .above_low = true, .single = true};
static const struct number_range range_logit = {.low = -100, .high = 100, .single = true};

enum status job_key_check(const char *key, struct error *err) {
    enum status status = check_text(key, LIMIT_JOB_KEY_BYTES, "job_key", err);
    if (status != STATUS_OK) {
        return status;
    }
    for (const char *at = key; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "job_key", "has a control character");
        }
    }
    return STATUS_OK;
}

// Who may speak in which order is the template's to say; only what comes last is not.
static enum status check_last_message(const Surefoot__JobSpec *spec, struct error *err) {
    bool continues = spec->has_continue_final_message && spec->continue_final_message;
    bool answers = spec->n_messages > 0 &&
                   strcmp(spec->messages[spec->n_messages - 1]->role, "assistant") == 0;
    if (continues && !answers) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.continue_final_message",
                         "there is no last message of the assistant's to continue");
    }
    if (answers && !continues) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.messages",
                         "the last message is the assistant's, and continue_final_message is not "
                         "set");
    }
    return STATUS_OK;
}

static enum status check_messages(const Surefoot__JobSpec *spec, struct error *err) {
    enum status status = check_list(spec->n_messages, LIMIT_MESSAGES, "spec.messages", err);
    bool continues = spec->has_continue_final_message && spec->continue_final_message;
    size_t asked = spec->n_messages - (continues ? 2 : 1); // none where it wraps
    size_t bytes = 0;
    for (size_t i = 0; status == STATUS_OK && i < spec->n_messages; i++) {
        const Surefoot__ChatMessage *message = spec->messages[i];
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "spec.messages[%zu].role", i);
        status = check_text(message->role, LIMIT_NAME_BYTES, field, err);
        if (status != STATUS_OK) {
            return status;
        }
        snprintf(field, sizeof field, "spec.messages[%zu].content", i);
        status = i == asked ? check_question(message->content, LIMIT_PROMPT_BYTES, field, err)
                            : check_text(message->content, LIMIT_PROMPT_BYTES, field, err);
        bytes += status == STATUS_OK ? strlen(message->content) : 0;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (bytes > LIMIT_PROMPT_BYTES) {
        return error_set(err, STATUS_LIMIT, "spec.messages", "%zu bytes together, the limit is %d",
                         bytes, LIMIT_PROMPT_BYTES);
    }
    return STATUS_OK;
}

// A rendered prompt goes to the policy as it is: what says how to render one has no effect on it.
static enum status check_rendered_prompt(const Surefoot__JobSpec *spec, struct error *err) {
    if (spec->rendered_prompt == NULL) {
        return STATUS_OK;
    }
    enum status status =
        check_question(spec->rendered_prompt, LIMIT_PROMPT_BYTES, "spec.rendered_prompt", err);
    const char *field = spec->chat_template != NULL       ? "spec.chat_template"
                        : spec->n_template_variables != 0 ? "spec.template_variables"
                                                          : NULL;
    if (status == STATUS_OK && field != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "has no effect on a rendered_prompt");
    }
    return status;
}

static enum status check_variables(const Surefoot__JobSpec *spec, struct error *err) {
    static const char list[] = "spec.template_variables";
    enum status status =
        check_list(spec->n_template_variables, LIMIT_TEMPLATE_VARIABLES, list, err);
    for (size_t i = 0; status == STATUS_OK && i < spec->n_template_variables; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "%s[%zu]", list, i);
        status = template_variable_check(spec->template_variables[i], err);
        for (size_t j = 0; status == STATUS_OK && j < i; j++) {
            if (strcmp(spec->template_variables[j]->name, spec->template_variables[i]->name) == 0) {
                status = error_set(err, STATUS_INVALID_ARGUMENT, NULL, "%s is there twice",
                                   spec->template_variables[i]->name);
            }
        }
        if (status != STATUS_OK) {
            error_prefix_field(err, field);
        }
    }
    return status;
}

static enum status check_template_inputs(const Surefoot__JobSpec *spec, struct job_spec *out,
                                         struct error *err) {
    const char *tokens = spec->content_tokens != NULL ? spec->content_tokens : "as-text";
    struct date date;
    out->control_tokens_as_written = strcmp(tokens, "as-written") == 0;
    if (!out->control_tokens_as_written && strcmp(tokens, "as-text") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.content_tokens",
                         "unknown \"%.64s\"; one of as-text, as-written", tokens);
    }
    if (spec->date != NULL && !date_parse(spec->date, &date)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.date",
                         "\"%.16s\" is not a day from 0001-01-01 to 9999-12-31", spec->date);
    }
    enum status status = check_template(spec->chat_template, "spec.chat_template", err);
    return status == STATUS_OK ? check_variables(spec, err) : status;
}

static enum status check_prompt(const Surefoot__JobSpec *spec, struct job_spec *out,
                                struct error *err) {
    if (spec->prompt != NULL && spec->n_messages > 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.prompt",
                         "both prompt and messages are set; give one");
    }
    enum status status = check_rendered_prompt(spec, err);
    if (status == STATUS_OK && spec->n_messages > 0) {
        status = check_messages(spec, err);
    } else if (status == STATUS_OK && (spec->prompt != NULL || spec->rendered_prompt == NULL)) {
        status = check_question(spec->prompt, LIMIT_PROMPT_BYTES, "spec.prompt", err);
    }
    if (status == STATUS_OK) {
        status = check_last_message(spec, err);
    }
    return status == STATUS_OK ? check_template_inputs(spec, out, err) : status;
}

// The methods whose selection is the job's to choose.
static void choosers_text(char out[JOB_FIELD_TEXT_BYTES]) {
    int n = 0;
    const char *name = NULL;
    for (int i = 1; (name = job_choice_name(JOB_FIELD_METHOD, i)) != NULL; i++) {
        if (job_method_get(i)->chooses_selection) {
            n += snprintf(out + n, (size_t)(JOB_FIELD_TEXT_BYTES - n), "%s%s", n > 0 ? ", " : "",
                          name);
            ASSERT(n < JOB_FIELD_TEXT_BYTES);
        }
    }
}

// What a method fixes.
static enum status check_method(const Surefoot__JobSpec *spec, struct error *err) {
    const struct job_method *method = job_method_of(spec);
    const char *name =
        job_choice_name(JOB_FIELD_METHOD, (int)job_field_number(JOB_FIELD_METHOD, spec));
    int selection = (int)job_field_number(JOB_FIELD_SELECTION, spec);
    uint32_t n = (uint32_t)job_field_number(JOB_FIELD_N, spec);
    if (!method->chooses_selection && selection != (int)method->own_selection) {
        char choosers[JOB_FIELD_TEXT_BYTES];
        choosers_text(choosers);
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.selection",
                         "method %s is always %s; it can be chosen for %s", name,
                         job_choice_name(JOB_FIELD_SELECTION, method->own_selection), choosers);
    }
    if (method->n_fixed > 0 && n != method->n_fixed) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.n", "%u; method %s takes %u only", n,
                         name, method->n_fixed);
    }
    uint32_t block = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS, spec);
    if (method->block_fixed && block != method->block_tokens) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.block_tokens",
                         "%u; method %s takes %u only", block, name, method->block_tokens);
    }
    return STATUS_OK;
}

static enum status check_required(const Surefoot__JobSpec *spec, struct error *err) {
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        if (job_field_get(i)->required && job_field_is_read(i, spec) &&
            !job_field_is_set(i, spec)) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.%s", job_field_get(i)->name);
            return error_set(
                err, STATUS_INVALID_ARGUMENT, field, "is missing; method %s has no default for it",
                job_choice_name(JOB_FIELD_METHOD, (int)job_field_number(JOB_FIELD_METHOD, spec)));
        }
    }
    return STATUS_OK;
}

// An end of segments by entropy that the fields around it leave no room for.
static enum status check_segments(const Surefoot__JobSpec *spec, struct error *err) {
    uint32_t block = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS, spec);
    uint32_t least = (uint32_t)job_field_number(JOB_FIELD_SEGMENT_TOKENS_MIN, spec);
    if (!job_field_is_read(JOB_FIELD_ENTROPY_THRESHOLD, spec)) {
        return STATUS_OK;
    }
    if (job_field_number(JOB_FIELD_ENTROPY_THRESHOLD, spec) > 0) {
        return least < block ? STATUS_OK
                             : error_set(err, STATUS_INVALID_ARGUMENT, "spec.segment_tokens_min",
                                         "%u, and block_tokens %u ends every segment before its "
                                         "entropy can; entropy_threshold 0 asks for that",
                                         least, block);
    }
    return least == (uint32_t)job_field_fallback(JOB_FIELD_SEGMENT_TOKENS_MIN, spec)
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "spec.segment_tokens_min",
                           "%u has no effect: with entropy_threshold 0 block_tokens alone ends a "
                           "segment",
                           least);
}

// What only one of two fields can say.
static enum status check_tilt(const Surefoot__JobSpec *spec, struct error *err) {
    double kl = job_field_number(JOB_FIELD_TILT_KL, spec);
    double beta = job_field_number(JOB_FIELD_TILT_BETA, spec);
    if (beta > 0 && job_field_is_set(JOB_FIELD_TILT_KL, spec)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.tilt_kl",
                         "%g, and tilt_beta %g says it otherwise; give one", kl, beta);
    }
    bool by_rollouts = job_field_number(JOB_FIELD_TILT_SAMPLER, spec) == TILT_SAMPLER_ROLLOUTS;
    if (by_rollouts && spec->calibration == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.calibration",
                         "is missing, and tilt_sampler rollouts compares with its rewards");
    }
    bool ranks_all = job_field_number(JOB_FIELD_TILT_RANK_SET, spec) == TILT_RANK_SET_ALL;
    if (ranks_all && by_rollouts) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.tilt_rank_set",
                         "all, and tilt_sampler rollouts ranks nothing");
    }
    if (ranks_all && job_field_number(JOB_FIELD_EARLY_STOP, spec) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.early_stop",
                         "true, and tilt_rank_set all needs the rewards of answers that it stops");
    }
    return STATUS_OK;
}

static enum status check_blocks(const Surefoot__JobSpec *spec, struct error *err) {
    uint32_t first = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS, spec);
    uint32_t longest = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS_MAX, spec);
    return longest >= first || !job_field_is_read(JOB_FIELD_BLOCK_TOKENS_MAX, spec)
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "spec.block_tokens_max",
                           "%u is below block_tokens %u", longest, first);
}

static enum status check_fields(const Surefoot__JobSpec *spec, struct error *err) {
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        enum status status = check_job_field(i, spec, "spec", err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = check_method(spec, err);
    if (status == STATUS_OK) {
        status = check_required(spec, err);
    }
    if (status == STATUS_OK) {
        status = check_segments(spec, err);
    }
    if (status == STATUS_OK) {
        status = check_blocks(spec, err);
    }
    return status == STATUS_OK ? check_tilt(spec, err) : status;
}

// What the job says, or its defaults; what a model has a say in is resolved later.
static void take_tilt(const Surefoot__JobSpec *spec, struct tilt_spec *out) {
    double beta = job_field_number(JOB_FIELD_TILT_BETA, spec);
    *out = (struct tilt_spec){
        .transform = (enum tilt_transform)job_field_number(JOB_FIELD_TILT, spec),
        .t = job_field_number(JOB_FIELD_TILT_T, spec),
        .n = (uint32_t)job_field_number(JOB_FIELD_TILT_N, spec),
        .kl = beta > 0 ? 0 : job_field_number(JOB_FIELD_TILT_KL, spec),
        .beta = beta,
        .sampler = (enum tilt_sampler)job_field_number(JOB_FIELD_TILT_SAMPLER, spec),
        .rank_set = (enum tilt_rank_set)job_field_number(JOB_FIELD_TILT_RANK_SET, spec),
    };
}

// Blocks and steps of a method that does not adapt them are all alike.
static void take_widths(const Surefoot__JobSpec *spec, struct search_spec *out) {
    bool grows = job_field_is_read(JOB_FIELD_BLOCK_GROWTH, spec);
    uint32_t n_min = job_field_is_read(JOB_FIELD_N_MIN, spec)
                         ? (uint32_t)job_field_number(JOB_FIELD_N_MIN, spec)
                         : 0;
    out->block_growth = grows ? job_field_number(JOB_FIELD_BLOCK_GROWTH, spec) : 1;
    out->block_tokens_max = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS_MAX, spec);
    out->n_min = n_min > 0 ? n_min : out->n;
    out->abort_tokens = job_field_is_read(JOB_FIELD_ABORT_TOKENS, spec)
                            ? (uint32_t)job_field_number(JOB_FIELD_ABORT_TOKENS, spec)
                            : 0;
    out->patience = (uint32_t)job_field_number(JOB_FIELD_PATIENCE, spec);
}

static void take_fields(const Surefoot__JobSpec *spec, struct search_spec *out) {
    out->method = (enum search_method)job_field_number(JOB_FIELD_METHOD, spec);
    out->selection = (enum search_selection)job_field_number(JOB_FIELD_SELECTION, spec);
    out->n = (uint32_t)job_field_number(JOB_FIELD_N, spec);
    out->survivors = (uint32_t)job_field_number(JOB_FIELD_SURVIVORS, spec);
    out->block_tokens = (uint32_t)job_field_number(JOB_FIELD_BLOCK_TOKENS, spec);
    take_widths(spec, out);
    out->max_tokens = (uint32_t)job_field_number(JOB_FIELD_MAX_TOKENS, spec);
    out->tries = (uint32_t)job_field_number(JOB_FIELD_TRIES, spec);
    out->discount_unit = (enum discount_unit)job_field_number(JOB_FIELD_DISCOUNT_UNIT, spec);
    out->discount_reward = job_field_number(JOB_FIELD_DISCOUNT_REWARD, spec) != 0;
    out->lagrangian_lambda = job_field_number(JOB_FIELD_LAGRANGIAN_LAMBDA, spec);
    out->fallback_penalty =
        (enum fallback_penalty)job_field_number(JOB_FIELD_FALLBACK_PENALTY, spec);
    out->fallback_weight = job_field_number(JOB_FIELD_FALLBACK_WEIGHT, spec);
    out->fallback_cap = job_field_number(JOB_FIELD_FALLBACK_CAP, spec);
    out->fallback_temperature = job_field_is_read(JOB_FIELD_FALLBACK_TEMPERATURE, spec)
                                    ? job_field_number(JOB_FIELD_FALLBACK_TEMPERATURE, spec)
                                    : 0;
    out->n_prefixes = (uint32_t)spec->n_fallback_prefixes;
    out->early_stop = job_field_number(JOB_FIELD_EARLY_STOP, spec) != 0;
    out->rejection_alpha = job_field_number(JOB_FIELD_REJECTION_ALPHA, spec);
    out->seed = spec->has_seed ? spec->seed : 0;
    out->entropy_threshold = out->method == SEARCH_METHOD_CARDS
                                 ? job_field_number(JOB_FIELD_ENTROPY_THRESHOLD, spec)
                                 : 0;
    out->segment_tokens_min = (uint32_t)job_field_number(JOB_FIELD_SEGMENT_TOKENS_MIN, spec);
    out->reward_threshold = job_field_number(JOB_FIELD_REWARD_THRESHOLD, spec);
    out->threshold_start = job_field_number(JOB_FIELD_THRESHOLD_START, spec);
    out->accept_temperature = job_field_number(JOB_FIELD_ACCEPT_TEMPERATURE, spec);
    out->omega = job_field_number(JOB_FIELD_OMEGA, spec);
}

static enum status check_sampling_lists(const Surefoot__Sampling *sampling, struct error *err) {
    enum status status =
        check_list(sampling->n_logit_bias, LIMIT_LOGIT_BIAS, "spec.sampling.logit_bias", err);
    for (size_t i = 0; status == STATUS_OK && i < sampling->n_logit_bias; i++) {
        const Surefoot__LogitBias *bias = sampling->logit_bias[i];
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "spec.sampling.logit_bias[%zu].bias", i);
        double ignored = 0;
        status = check_number(true, bias->bias, range_logit, field, &ignored, err);
    }
    if (status == STATUS_OK) {
        status = check_list(sampling->n_stop, LIMIT_STOP_STRINGS, "spec.sampling.stop", err);
    }
    for (size_t i = 0; status == STATUS_OK && i < sampling->n_stop; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "spec.sampling.stop[%zu]", i);
        status = check_text(sampling->stop[i], LIMIT_STOP_BYTES, field, err);
    }
    return status;
}

// Each is a beginning of an answer; only one method falls back on them.
static enum status check_prefixes(const Surefoot__JobSpec *spec, struct error *err) {
    static const char list[] = "spec.fallback_prefixes";
    enum status status = check_list(spec->n_fallback_prefixes, LIMIT_FALLBACK_PREFIXES, list, err);
    if (status == STATUS_OK && spec->n_fallback_prefixes > 0 &&
        job_field_number(JOB_FIELD_METHOD, spec) != SEARCH_METHOD_INFERENCE_GUARD) {
        return error_set(
            err, STATUS_INVALID_ARGUMENT, list, "has no effect on method %s; leave it out",
            job_choice_name(JOB_FIELD_METHOD, (int)job_field_number(JOB_FIELD_METHOD, spec)));
    }
    for (size_t i = 0; status == STATUS_OK && i < spec->n_fallback_prefixes; i++) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "%s[%zu]", list, i);
        status = check_text(spec->fallback_prefixes[i], LIMIT_PREFIX_BYTES, field, err);
        for (size_t j = 0; status == STATUS_OK && j < i; j++) {
            if (strcmp(spec->fallback_prefixes[j], spec->fallback_prefixes[i]) == 0) {
                status = error_set(err, STATUS_INVALID_ARGUMENT, field,
                                   "is entry %zu again, and would be searched twice", j);
            }
        }
    }
    return status;
}

static enum status check_sampling(const Surefoot__Sampling *sampling, uint32_t max_tokens,
                                  struct error *err) {
    if (sampling == NULL) {
        return STATUS_OK;
    }
    double ignored = 0;
    uint32_t ignored_count = 0;
    const struct {
        bool present;
        double value;
        struct number_range range;
        const char *field;
    } numbers[] = {
        {sampling->has_temperature, sampling->temperature, range_temperature,
         "spec.sampling.temperature"},
        {sampling->has_top_p, sampling->top_p, range_top_p, "spec.sampling.top_p"},
        {sampling->has_repetition_penalty, sampling->repetition_penalty, range_repetition,
         "spec.sampling.repetition_penalty"},
        {sampling->has_frequency_penalty, sampling->frequency_penalty, range_logit,
         "spec.sampling.frequency_penalty"},
    };
    enum status status = check_count(sampling->has_top_k, sampling->top_k, 0, LIMIT_TOP_K,
                                     "spec.sampling.top_k", &ignored_count, err);
    if (status == STATUS_OK) {
        status = check_count(sampling->has_min_tokens, sampling->min_tokens, 0, max_tokens,
                             "spec.sampling.min_tokens", &ignored_count, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        status = check_number(numbers[i].present, numbers[i].value, numbers[i].range,
                              numbers[i].field, &ignored, err);
    }
    return status == STATUS_OK ? check_sampling_lists(sampling, err) : status;
}

static enum status check_bound(const struct search_spec *search, struct error *err) {
    unsigned long long bound = search_candidates_bound(search);
    return bound <= SEARCH_CANDIDATES_MAX
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, "spec.n",
                           "the search could make %llu candidates, the limit is %d", bound,
                           SEARCH_CANDIDATES_MAX);
}

static enum status check_message(const Surefoot__SubmitJob *submit, struct job_spec *out,
                                 struct error *err) {
    enum status status = job_key_check(submit->job_key, err);
    if (status != STATUS_OK) {
        return status;
    }
    const Surefoot__JobSpec *spec = submit->spec;
    if (spec == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec", "is missing");
    }
    status = check_prompt(spec, out, err);
    if (status == STATUS_OK) {
        status = check_fields(spec, err);
    }
    if (status == STATUS_OK) {
        take_fields(spec, &out->search);
        take_tilt(spec, &out->search.tilt);
        out->deadline_ms = (uint32_t)job_field_number(JOB_FIELD_DEADLINE_MS, spec);
        status = check_sampling(spec->sampling, out->search.max_tokens, err);
    }
    if (status == STATUS_OK) {
        status = job_sampling_check(spec, err);
    }
    if (status == STATUS_OK) {
        status = check_prefixes(spec, err);
    }
    if (status == STATUS_OK) {
        status = check_bound(&out->search, err);
    }
    out->seed = spec->has_seed ? spec->seed : 0;
    out->search.seed = out->seed;
    if (status == STATUS_OK) {
        status = job_scorers_check(spec, err);
    }
    if (status == STATUS_OK) {
        status = job_channels_check(spec, err);
    }
    if (status == STATUS_OK) {
        status = certificate_check(spec, err);
    }
    return status == STATUS_OK ? job_calibration_check(spec, err) : status;
}

enum status job_spec_create(Surefoot__SubmitJob *submit, struct job_spec **out, struct error *err) {
    struct job_spec *spec = calloc(1, sizeof *spec);
    if (spec == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the job");
    }
    enum status status = check_message(submit, spec, err);
    if (status != STATUS_OK) {
        free(spec);
        return status;
    }
    submit->has_stream = false;
    submit->stream = false;
    spec->submit = submit;
    *out = spec;
    return STATUS_OK;
}

void job_spec_destroy(struct job_spec *spec) {
    if (spec != NULL) {
        wire_free(WIRE_SUBMIT_JOB, spec->submit);
        free(spec->exempt_ids);
        free(spec);
    }
}

// Options of a draw have no effect where nothing is drawn.
static enum status check_undrawn(const struct job_spec *spec, struct error *err) {
    const Surefoot__Sampling *sampling = spec->submit->spec->sampling;
    if (sampling == NULL || !job_method_get(spec->search.method)->takes_by_rank) {
        return STATUS_OK;
    }
    const char *field = sampling->has_temperature && sampling->temperature != 1 ? "temperature"
                        : sampling->has_top_k && sampling->top_k != 0           ? "top_k"
                        : sampling->has_top_p && sampling->top_p != 1           ? "top_p"
                        : sampling->has_repetition_penalty && sampling->repetition_penalty != 1
                            ? "repetition_penalty"
                        : sampling->has_frequency_penalty && sampling->frequency_penalty != 0
                            ? "frequency_penalty"
                        : sampling->n_logit_bias > 0 ? "logit_bias"
                                                     : NULL;
    if (field == NULL) {
        return STATUS_OK;
    }
    char path[ERROR_FIELD_BYTES];
    snprintf(path, sizeof path, "spec.sampling.%s", field);
    return error_set(err, STATUS_INVALID_ARGUMENT, path,
                     "has no effect on method %s, which draws no token; leave it out",
                     job_choice_name(JOB_FIELD_METHOD, spec->search.method));
}

enum status job_spec_check_unread(const struct job_spec *spec, struct error *err) {
    Surefoot__JobSpec given = *spec->submit->spec;
    const Surefoot__JobSpec asked = given;
    same_job_drop_defaults(&given);
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        if (job_field_is_set(index, &given) && !job_field_is_read(index, &asked)) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.%s", job_field_get(index)->name);
            return error_set(
                err, STATUS_INVALID_ARGUMENT, field,
                "has no effect on method %s with selection %s, tries %u, tilt %s and "
                "critic %s; leave it out",
                job_choice_name(JOB_FIELD_METHOD, spec->search.method),
                job_choice_name(JOB_FIELD_SELECTION, spec->search.selection), spec->search.tries,
                job_choice_name(JOB_FIELD_TILT, spec->search.tilt.transform),
                job_choice_name(JOB_FIELD_CRITIC, (int)job_field_number(JOB_FIELD_CRITIC, &asked)));
        }
    }
    enum status status = job_channels_check_unread(spec->submit->spec, err);
    return status == STATUS_OK ? check_undrawn(spec, err) : status;
}

static size_t count_role(const struct job_spec *spec, enum scorer_role role) {
    size_t count = 0;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        count += spec->scorers[i].role == role ? 1 : 0;
    }
    return count;
}

// What the job lacks and how to go on: `without` is a way that needs no such scorer, `models` are
// the flags that serve one.
static enum status refuse_roles(const struct job_spec *spec, const char *needs, const char *without,
                                const char *models, struct error *err) {
    const struct search_spec *search = &spec->search;
    bool named = spec->submit->spec->n_scorers > 0;
    return error_set(err, STATUS_INVALID_ARGUMENT, "spec.scorers",
                     "method %s with selection %s needs a %s scorer, and %s; use %s, or %s "
                     "(surefoot up %s)",
                     job_choice_name(JOB_FIELD_METHOD, search->method),
                     job_choice_name(JOB_FIELD_SELECTION, search->selection), needs,
                     named ? "none is named" : "the service has none", without,
                     named ? "name one of the service's" : "serve one", models);
}

static enum status check_roles(const struct job_spec *spec, struct error *err) {
    const struct search_spec *search = &spec->search;
    bool has_reward = count_role(spec, SCORER_ROLE_REWARD) > 0;
    bool lacks_cost =
        search->selection != SEARCH_SELECTION_PLAIN && count_role(spec, SCORER_ROLE_COST) == 0;
    if (!job_method_get(search->method)->without_reward && !has_reward) {
        return refuse_roles(spec, "reward", "--method sample",
                            lacks_cost ? "--reward NAME=DIR --cost NAME=DIR" : "--reward NAME=DIR",
                            err);
    }
    return lacks_cost ? refuse_roles(spec, "cost", "--method best-of-n --selection plain",
                                     "--cost NAME=DIR", err)
                      : STATUS_OK;
}

static enum status check_against_policy(const struct job_spec *spec, const struct model_set *models,
                                        struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    const struct model_description *policy = &models->policy;
    if (message->has_block_tokens && message->block_tokens > models->block_tokens_max) {
        return error_set(err, STATUS_LIMIT, "spec.block_tokens", "%u is above the groups' limit %u",
                         message->block_tokens, models->block_tokens_max);
    }
    if (policy->context_length > 0 && spec->search.max_tokens >= policy->context_length) {
        return error_set(err, STATUS_LIMIT, "spec.max_tokens",
                         "%u leaves no room for a prompt in the context of %u tokens",
                         spec->search.max_tokens, policy->context_length);
    }
    if (job_method_get(spec->search.method)->takes_by_rank && policy->vocab_size > 0 &&
        spec->search.n > policy->vocab_size) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.n",
                         "%u; the policy has a vocabulary of %u tokens", spec->search.n,
                         policy->vocab_size);
    }
    if (message->has_block_tokens_max && message->block_tokens_max > models->block_tokens_max) {
        return error_set(err, STATUS_LIMIT, "spec.block_tokens_max",
                         "%u is above the groups' limit %u", message->block_tokens_max,
                         models->block_tokens_max);
    }
    const Surefoot__Sampling *sampling = message->sampling;
    for (size_t i = 0; sampling != NULL && i < sampling->n_logit_bias; i++) {
        if (policy->vocab_size > 0 && sampling->logit_bias[i]->token_id >= policy->vocab_size) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.sampling.logit_bias[%zu].token_id", i);
            return error_set(err, STATUS_INVALID_ARGUMENT, field,
                             "%u is outside the vocabulary of %u tokens",
                             sampling->logit_bias[i]->token_id, policy->vocab_size);
        }
    }
    return STATUS_OK;
}

// All states of a result fit, whatever the length of the answer.
static enum status resolve_states(struct job_spec *spec, const struct model_set *models,
                                  struct error *err) {
    spec->state_bytes = 0;
    if (job_field_number(JOB_FIELD_STATES, spec->submit->spec) == 0) {
        return STATUS_OK;
    }
    const struct search_spec *search = &spec->search;
    size_t each = 2 * (size_t)models->policy.hidden_dim;
    size_t most = (search->max_tokens + search->block_tokens - 1) / search->block_tokens;
    if (each == 0) {
        return error_set(err, STATUS_UNSUPPORTED, "spec.states",
                         "the groups do not say how large a hidden state is");
    }
    if (most * each > LIMIT_STATES_BYTES) {
        return error_set(err, STATUS_LIMIT, "spec.states",
                         "%u tokens in blocks of %u can make %zu states of %zu bytes, the limit is "
                         "%d bytes: raise block_tokens or lower max_tokens",
                         search->max_tokens, search->block_tokens, most, each, LIMIT_STATES_BYTES);
    }
    spec->state_bytes = each;
    return STATUS_OK;
}

static enum status resolve_sampling(struct job_spec *spec, const struct model_set *models,
                                    struct error *err) {
    bool alone = spec->search.method == SEARCH_METHOD_SAMPLE ||
                 (job_method_of(spec->submit->spec)->follows_value && spec->search.n == 1);
    enum status status =
        job_sampling_resolve(spec->submit->spec, alone, &models->policy, &spec->sampling, err);
    if (status != STATUS_OK) {
        return status;
    }
    spec->search.max_tokens = spec->sampling.max_tokens;
    if (spec->search.fallback_temperature <= spec->sampling.message.temperature) {
        spec->search.fallback_temperature = 0;
    }
    return check_bound(&spec->search, err);
}

static enum status copy_exempt(struct job_spec *spec, const struct model_set *models,
                               struct error *err) {
    free(spec->exempt_ids);
    spec->search.n_exempt = 0;
    spec->exempt_ids = malloc((models->n_exempt + 1) * sizeof *spec->exempt_ids);
    if (spec->exempt_ids == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the job");
    }
    memcpy(spec->exempt_ids, models->exempt_ids, models->n_exempt * sizeof *spec->exempt_ids);
    spec->search.exempt_ids = spec->exempt_ids;
    spec->search.n_exempt = models->n_exempt;
    return STATUS_OK;
}

enum status job_spec_resolve(struct job_spec *spec, const struct model_set *models,
                             struct error *err) {
    spec->resolved = false;
    enum status status = job_scorers_resolve(spec, models, err);
    if (status == STATUS_OK) {
        status = check_roles(spec, err);
    }
    if (status == STATUS_OK) {
        status = job_channels_resolve(spec, models, err);
    }
    if (status == STATUS_OK) {
        status = resolve_sampling(spec, models, err);
    }
    if (status == STATUS_OK) {
        status = check_against_policy(spec, models, err);
    }
    if (status == STATUS_OK) {
        status = certificate_check_models(spec->submit->spec, spec->scorers, spec->n_scorers,
                                          models, err);
    }
    if (status == STATUS_OK) {
        status = copy_exempt(spec, models, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (spec->search.block_tokens > models->block_tokens_max) {
        spec->search.block_tokens = models->block_tokens_max;
    }
    spec->search.prefix_tokens_max = LIMIT_PREFIX_BYTES < models->block_tokens_max
                                         ? LIMIT_PREFIX_BYTES
                                         : models->block_tokens_max;
    if (spec->search.block_tokens_max > models->block_tokens_max) {
        spec->search.block_tokens_max = models->block_tokens_max;
    }
    status = resolve_states(spec, models, err);
    if (status == STATUS_OK) {
        status = job_critic_resolve(spec, models, err);
    }
    if (status == STATUS_OK) {
        status = job_critic_resolve_value(spec, models, err);
    }
    if (status == STATUS_OK) {
        status = job_calibration_resolve(spec, models, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    spec->has_reward = count_role(spec, SCORER_ROLE_REWARD) > 0;
    spec->resolved = true;
    return STATUS_OK;
}

const char *job_spec_key(const struct job_spec *spec) {
    return spec->submit->job_key;
}

enum status job_spec_pack(const struct job_spec *spec, uint8_t **bytes, size_t *size) {
    return wire_pack(WIRE_SUBMIT_JOB, spec->submit, bytes, size);
}
