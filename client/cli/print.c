#include "client/cli/print.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/template_var.h"
#include "common/base64.h"
#include "common/json_numbers.h"

// jansson has no number for NaN and infinities.
static json_t *real_json(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static void set_real(json_t *object, const char *name, protobuf_c_boolean has, double value) {
    if (has) {
        json_object_set_new(object, name, real_json(value));
    }
}

static void set_integer(json_t *object, const char *name, protobuf_c_boolean has, uint64_t value) {
    if (has && value <= INT64_MAX) {
        json_object_set_new(object, name, json_integer((json_int_t)value));
    } else if (has) { // a seed may be any 64 bits, a number of jansson not
        json_object_set_new(object, name, json_sprintf("%llu", (unsigned long long)value));
    }
}

static void set_bool(json_t *object, const char *name, protobuf_c_boolean has, int value) {
    if (has) {
        json_object_set_new(object, name, json_boolean(value));
    }
}

static void set_text(json_t *object, const char *name, const char *value) {
    if (value != NULL) {
        json_object_set_new(object, name, json_string(value));
    }
}

json_t *print_error_json(const struct error *err) {
    return json_pack("{s:s, s:s, s:s}", "status", status_name(err->status), "field", err->field,
                     "message", err->message);
}

static json_t *error_info_json(const Surefoot__ErrorInfo *info) {
    int number = info->status <= INT32_MAX ? (int)info->status : -1;
    return json_pack("{s:s, s:s, s:s}", "status",
                     status_is_known(number) ? status_name((enum status)number) : "UNKNOWN",
                     "field", info->field == NULL ? "" : info->field, "message",
                     info->message == NULL ? "" : info->message);
}

json_t *print_models_json(Surefoot__ModelInfo *const *models, size_t count) {
    json_t *object = json_object();
    for (size_t i = 0; object != NULL && i < count; i++) {
        if (models[i]->name != NULL && models[i]->hash != NULL) {
            set_text(object, models[i]->name, models[i]->hash);
        }
    }
    return object;
}

static json_t *floats_json(const float *values, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, real_json((double)values[i]));
    }
    return array;
}

static json_t *scorer_json(const Surefoot__ScorerResult *scorer) {
    json_t *object = json_object();
    set_text(object, "name", scorer->name);
    set_text(object, "role", scorer->role);
    set_real(object, "end_score", scorer->has_end_score, scorer->end_score);
    json_object_set_new(object, "token_scores",
                        floats_json(scorer->token_scores, scorer->n_token_scores));
    return object;
}

static json_t *channels_json(Surefoot__ChannelResult *const *channels, size_t count) {
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        const Surefoot__ChannelResult *channel = channels[i];
        json_t *object = json_object();
        set_text(object, "name", channel->name);
        set_real(object, "budget", channel->has_budget, channel->budget);
        set_real(object, "cost", channel->has_cost, channel->cost);
        set_real(object, "safety_state", channel->has_safety_state, channel->safety_state);
        set_bool(object, "admissible", channel->has_admissible, channel->admissible);
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *candidate_json(const Surefoot__CandidateSummary *candidate) {
    json_t *object = json_object();
    set_integer(object, "candidate_id", candidate->has_candidate_id, candidate->candidate_id);
    set_integer(object, "parent_id", candidate->has_parent_id, candidate->parent_id);
    set_integer(object, "n_tokens", candidate->has_n_tokens, candidate->n_tokens);
    set_real(object, "reward", candidate->has_reward, candidate->reward);
    set_real(object, "cost", candidate->has_cost, candidate->cost);
    set_real(object, "safety_state", candidate->has_safety_state, candidate->safety_state);
    set_bool(object, "admissible", candidate->has_admissible, candidate->admissible);
    if (candidate->n_channels > 0) {
        json_object_set_new(object, "channels",
                            channels_json(candidate->channels, candidate->n_channels));
    }
    set_text(object, "fate", candidate->fate);
    set_text(object, "finish_reason", candidate->finish_reason);
    return object;
}

static void append_ids(json_t *array, const uint32_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_integer(ids[i]));
    }
}

static void add_scorers(json_t *object, const Surefoot__JobResult *result) {
    json_t *scorers = json_array();
    for (size_t i = 0; i < result->n_scorers; i++) {
        json_array_append_new(scorers, scorer_json(result->scorers[i]));
    }
    json_object_set_new(object, "scorers", scorers);
}

static void add_details(json_t *object, const Surefoot__JobResult *result) {
    json_t *ids = json_array();
    append_ids(ids, result->token_ids, result->n_token_ids);
    json_object_set_new(object, "token_ids", ids);
    // The tokens of the text as the scorers read it: token_scores are of these.
    bool otherwise = result->has_read_from && result->read_from <= result->n_token_ids;
    json_t *read = json_array();
    append_ids(read, result->token_ids, otherwise ? result->read_from : result->n_token_ids);
    append_ids(read, result->read_ids, otherwise ? result->n_read_ids : 0);
    json_object_set_new(object, "read_ids", read);
    json_object_set_new(object, "token_logprobs",
                        floats_json(result->token_logprobs, result->n_token_logprobs));
    add_scorers(object, result);
    json_t *candidates = json_array();
    for (size_t i = 0; i < result->n_candidates; i++) {
        json_array_append_new(candidates, candidate_json(result->candidates[i]));
    }
    json_object_set_new(object, "candidates", candidates);
}

// What a critic is trained on: states, where they stand, and the scores of what follows.
static void add_states(json_t *object, const Surefoot__JobResult *result) {
    char *text = malloc(base64_length(result->states.len) + 1);
    if (text != NULL) {
        base64_encode(result->states.data, result->states.len, text);
        json_object_set_new(object, "states", json_string(text));
    }
    free(text);
    json_t *tokens = json_array();
    append_ids(tokens, result->state_tokens, result->n_state_tokens);
    json_object_set_new(object, "state_tokens", tokens);
    json_t *rewards = json_array();
    for (size_t i = 0; i < result->n_state_rewards; i++) {
        json_array_append_new(rewards, json_real(result->state_rewards[i]));
    }
    json_object_set_new(object, "state_rewards", rewards);
    set_integer(object, "n_tokens", true, result->n_token_ids);
    set_integer(object, "read_from", result->has_read_from, result->read_from);
    add_scorers(object, result);
}

static json_t *sampling_json(const Surefoot__JobResult *result) {
    const Surefoot__Sampling *sampling = result->sampling;
    json_t *object = json_object();
    set_real(object, "temperature", sampling->has_temperature, sampling->temperature);
    set_integer(object, "top_k", sampling->has_top_k, sampling->top_k);
    set_real(object, "top_p", sampling->has_top_p, sampling->top_p);
    set_real(object, "repetition_penalty", sampling->has_repetition_penalty,
             sampling->repetition_penalty);
    set_real(object, "frequency_penalty", sampling->has_frequency_penalty,
             sampling->frequency_penalty);
    set_integer(object, "min_tokens", sampling->has_min_tokens, sampling->min_tokens);
    json_t *from_model = json_array();
    for (size_t i = 0; i < result->n_from_model; i++) {
        json_array_append_new(from_model, json_string(result->from_model[i]));
    }
    json_object_set_new(object, "from_model", from_model);
    return object;
}

static json_t *tilt_json(const Surefoot__TiltResult *tilt) {
    json_t *object = json_object();
    set_text(object, "tilt", tilt->tilt);
    set_text(object, "sampler", tilt->sampler);
    set_real(object, "t", tilt->has_t, tilt->t);
    set_integer(object, "n", tilt->has_n, tilt->n);
    set_real(object, "beta", tilt->has_beta, tilt->beta);
    set_integer(object, "draws", tilt->has_draws, tilt->draws);
    set_integer(object, "ranked", tilt->has_ranked, tilt->ranked);
    set_real(object, "rank", tilt->has_rank, tilt->rank);
    set_real(object, "calibrated_reward", tilt->has_calibrated_reward, tilt->calibrated_reward);
    set_real(object, "win_rate", tilt->has_win_rate, tilt->win_rate);
    set_real(object, "kl", tilt->has_kl, tilt->kl);
    set_real(object, "best_of_n", tilt->has_best_of_n, tilt->best_of_n);
    set_real(object, "worst_of_n", tilt->has_worst_of_n, tilt->worst_of_n);
    set_real(object, "log_inverse_share", tilt->has_log_inverse_share, tilt->log_inverse_share);
    set_real(object, "rejection_draws", tilt->has_rejection_draws, tilt->rejection_draws);
    return object;
}

// {name: score of the whole answer}.
static json_t *scores_json(const Surefoot__JobResult *result) {
    json_t *object = json_object();
    for (size_t i = 0; i < result->n_scorers; i++) {
        const Surefoot__ScorerResult *scorer = result->scorers[i];
        if (scorer->name != NULL) {
            set_real(object, scorer->name, scorer->has_end_score, scorer->end_score);
        }
    }
    return object;
}

json_t *print_result_json(const Surefoot__JobResult *result, bool details) {
    json_t *object = json_object();
    set_text(object, "key", result->job_key);
    set_text(object, "outcome", surefoot_outcome_name(result->outcome));
    if (result->error != NULL) {
        json_object_set_new(object, "error", error_info_json(result->error));
    }
    set_text(object, "text", result->text);
    set_real(object, "reward", result->has_reward, result->reward);
    set_real(object, "calibrated_reward", result->has_calibrated_reward, result->calibrated_reward);
    set_real(object, "cost", result->has_cost, result->cost);
    set_real(object, "safety_state", result->has_safety_state, result->safety_state);
    set_real(object, "budget", result->has_budget, result->budget);
    if (result->n_channels > 0) {
        json_object_set_new(object, "channels",
                            channels_json(result->channels, result->n_channels));
    }
    set_bool(object, "over_budget", result->has_over_budget, result->over_budget);
    if (result->n_scorers > 0) {
        json_object_set_new(object, "scores", scores_json(result));
    }
    set_text(object, "finish_reason", result->finish_reason);
    set_text(object, "rule", result->rule);
    if (result->tilt != NULL) {
        json_object_set_new(object, "tilt", tilt_json(result->tilt));
    }
    set_text(object, "certificate", result->certificate);
    set_integer(object, "seed", result->has_seed, result->seed);
    set_integer(object, "candidates_made", result->has_candidates_made, result->candidates_made);
    set_integer(object, "n_finished", result->has_n_finished, result->n_finished);
    set_integer(object, "n_admissible", result->has_n_admissible, result->n_admissible);
    set_integer(object, "n_aborted", result->has_n_aborted, result->n_aborted);
    set_integer(object, "n_repeats", result->has_n_repeats, result->n_repeats);
    set_integer(object, "n_unscored", result->has_n_unscored, result->n_unscored);
    set_integer(object, "tries_used", result->has_tries_used, result->tries_used);
    set_integer(object, "n_restarts", result->has_n_restarts, result->n_restarts);
    set_bool(object, "fallback_fired", result->has_fallback_fired, result->fallback_fired);
    set_text(object, "date", result->date);
    json_t *variables =
        template_vars_json(result->template_variables, result->n_template_variables);
    if (variables != NULL) {
        json_object_set_new(object, "template_variables", variables);
    }
    set_integer(object, "prompt_tokens", result->has_prompt_tokens, result->prompt_tokens);
    if (result->sampling != NULL) {
        json_object_set_new(object, "sampling", sampling_json(result));
    }
    set_integer(object, "tokens_sampled", result->has_tokens_sampled, result->tokens_sampled);
    set_integer(object, "tokens_after_choice", result->has_tokens_after_choice,
                result->tokens_after_choice);
    set_integer(object, "rebuilt_tokens", result->has_rebuilt_tokens, result->rebuilt_tokens);
    set_integer(object, "scored_tokens", result->has_scored_tokens, result->scored_tokens);
    set_real(object, "queue_ms", result->has_queue_ms, result->queue_ms);
    set_real(object, "run_ms", result->has_run_ms, result->run_ms);
    json_object_set_new(object, "models", print_models_json(result->models, result->n_models));
    set_text(object, "critic_hash", result->critic_hash);
    set_text(object, "value_hash", result->value_hash);
    if (details) {
        add_details(object, result);
    }
    if (result->has_states) {
        add_states(object, result);
    }
    return object;
}

static json_t *generation_json(const Surefoot__GenerationDefaults *generation) {
    json_t *object = json_object();
    set_bool(object, "do_sample", generation->has_do_sample, generation->do_sample);
    set_real(object, "temperature", generation->has_temperature, generation->temperature);
    set_integer(object, "top_k", generation->has_top_k, generation->top_k);
    set_real(object, "top_p", generation->has_top_p, generation->top_p);
    set_real(object, "repetition_penalty", generation->has_repetition_penalty,
             generation->repetition_penalty);
    set_integer(object, "max_new_tokens", generation->has_max_new_tokens,
                generation->max_new_tokens);
    return object;
}

static json_t *model_json(const Surefoot__ModelInfo *model) {
    json_t *object = json_object();
    set_text(object, "name", model->name);
    set_text(object, "role", model->role);
    set_text(object, "hash", model->hash);
    set_text(object, "precision", model->precision);
    set_text(object, "kv_dtype", model->kv_dtype);
    set_integer(object, "parameter_count", model->has_parameter_count, model->parameter_count);
    set_integer(object, "context_length", model->has_context_length, model->context_length);
    set_integer(object, "vocab_size", model->has_vocab_size, model->vocab_size);
    set_text(object, "chat_template", model->chat_template);
    set_text(object, "cost_mode", model->cost_mode);
    set_text(object, "cost_eos", model->cost_eos);
    set_real(object, "budget", model->has_budget, model->budget);
    set_real(object, "cost_min", model->has_cost_min, model->cost_min);
    set_real(object, "discount", model->has_discount, model->discount);
    if (model->generation != NULL) {
        json_object_set_new(object, "generation", generation_json(model->generation));
    }
    return object;
}

static json_t *group_json(const Surefoot__GroupStatus *group) {
    json_t *object = json_object();
    set_text(object, "name", group->name);
    set_bool(object, "alive", group->has_alive, group->alive);
    set_text(object, "condition", group->condition);
    set_text(object, "why", group->why);
    set_integer(object, "bad_rows", group->has_bad_rows, group->bad_rows);
    set_integer(object, "n_ranks", group->has_n_ranks, group->n_ranks);
    set_integer(object, "slots", group->has_slots, group->slots);
    set_integer(object, "slots_busy", group->has_slots_busy, group->slots_busy);
    set_integer(object, "orders_done", group->has_orders_done, group->orders_done);
    set_integer(object, "tokens", group->has_tokens, group->tokens);
    set_integer(object, "rebuilt_tokens", group->has_rebuilt_tokens, group->rebuilt_tokens);
    set_real(object, "heartbeat_age_ms", group->has_heartbeat_age_ms, group->heartbeat_age_ms);
    set_real(object, "joined_ms", group->has_joined_ms, group->joined_ms);
    set_real(object, "order_ms", group->has_order_ms, group->order_ms);
    set_real(object, "decode_ms", group->has_decode_ms, group->decode_ms);
    set_real(object, "score_ms", group->has_score_ms, group->score_ms);
    set_real(object, "collective_ms", group->has_collective_ms, group->collective_ms);
    json_t *models = json_array();
    for (size_t i = 0; i < group->n_models; i++) {
        json_array_append_new(models, model_json(group->models[i]));
    }
    json_object_set_new(object, "models", models);
    return object;
}

json_t *print_status_json(const Surefoot__ServiceStatus *status) {
    json_t *object = json_object();
    set_text(object, "version", status->version);
    set_real(object, "uptime_ms", status->has_uptime_ms, status->uptime_ms);
    set_real(object, "busy_ms", status->has_busy_ms, status->busy_ms);
    set_integer(object, "jobs_queued", status->has_jobs_queued, status->jobs_queued);
    set_integer(object, "jobs_running", status->has_jobs_running, status->jobs_running);
    set_integer(object, "jobs_done", status->has_jobs_done, status->jobs_done);
    set_integer(object, "stored_bytes", status->has_stored_bytes, status->stored_bytes);
    set_integer(object, "stored_bytes_max", status->has_stored_bytes_max, status->stored_bytes_max);
    json_t *groups = json_array();
    for (size_t i = 0; i < status->n_groups; i++) {
        json_array_append_new(groups, group_json(status->groups[i]));
    }
    json_object_set_new(object, "groups", groups);
    return object;
}

enum status print_json_line(json_t *value, FILE *out) {
    if (value == NULL) {
        return STATUS_NO_MEMORY;
    }
    char *text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (text == NULL) {
        return STATUS_NO_MEMORY;
    }
    json_numbers_shorten(text);
    bool written = fputs(text, out) != EOF && fputc('\n', out) != EOF && fflush(out) == 0;
    free(text);
    return written ? STATUS_OK : STATUS_IO;
}

static bool is_continuation(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

// C0 and C1 control characters and DEL; `at` points at the first byte of a character.
static bool is_control(const char *at) {
    unsigned char byte = (unsigned char)at[0];
    return byte < 0x20 || byte == 0x7F || (byte == 0xC2 && (unsigned char)at[1] < 0xA0);
}

void print_text(const char *text, bool line, int columns_max, FILE *out) {
    int total = 0;
    for (const char *at = text; *at != '\0'; at++) {
        total += !is_continuation(*at);
    }
    bool cut = columns_max > 0 && total > columns_max;
    int left = cut ? columns_max - 3 : total;
    for (const char *at = text; *at != '\0' && left > 0; left--) {
        const char *next = at + 1;
        while (is_continuation(*next)) {
            next++;
        }
        bool layout = *at == '\n' || *at == '\t';
        if (layout) {
            fputc(line ? ' ' : *at, out);
        } else if (is_control(at)) {
            fputc('?', out);
        } else {
            fwrite(at, 1, (size_t)(next - at), out);
        }
        at = next;
    }
    if (cut) {
        fputs("...", out);
    }
}

const char *print_plural(uint64_t count) {
    return count == 1 ? "" : "s";
}

const char *print_visible_text(const char *text, bool over_budget, bool show_unsafe) {
    if (text == NULL) {
        return "";
    }
    return over_budget && !show_unsafe ? PRINT_MASK : text;
}

static void print_score(const char *name, protobuf_c_boolean has, double value, FILE *out) {
    if (has) {
        fprintf(out, "  %s %.4f", name, value);
    } else {
        fprintf(out, "  %s -", name);
    }
}

static void print_sampling(const Surefoot__JobResult *result, FILE *out) {
    const Surefoot__Sampling *sampling = result->sampling;
    if (sampling == NULL) {
        return;
    }
    fprintf(out, "sampling    temperature %g, top-k %u, top-p %g, repetition penalty %g",
            sampling->temperature, sampling->top_k, sampling->top_p, sampling->repetition_penalty);
    for (size_t i = 0; i < result->n_from_model; i++) {
        fputs(i == 0 ? "; the model's own: " : ", ", out);
        print_text(result->from_model[i], true, 0, out);
    }
    fputc('\n', out);
}

static void print_tilt(const Surefoot__TiltResult *tilt, FILE *out) {
    fprintf(out, "tilt        ");
    if (tilt->has_rank) {
        fprintf(out, "rank %g of %u", tilt->rank, tilt->ranked);
    } else {
        fprintf(out, "by %u roll-outs", tilt->ranked);
    }
    fprintf(out, ", calibrated reward %.3f, beta %.5g", tilt->calibrated_reward, tilt->beta);
    if (tilt->has_kl) {
        fprintf(out, "; by its law W %.3f, KL %.3f", tilt->win_rate, tilt->kl);
        if (tilt->log_inverse_share > 0) {
            fprintf(out, " + %.3f of the budget", tilt->log_inverse_share);
        }
        fprintf(out, ", best of %u %.3f, worst %.3f", tilt->n, tilt->best_of_n, tilt->worst_of_n);
    }
    fputc('\n', out);
}

static const char *over_budget_word(protobuf_c_boolean is_known, bool over_budget) {
    return !is_known ? "-" : over_budget ? "YES" : "no";
}

// Whether the answer is over budget, or, where none is given, the candidate whose scores are shown.
static const char *result_over_budget(const Surefoot__JobResult *result) {
    bool known = result->has_over_budget || result->n_channels > 0;
    bool over = result->has_over_budget && result->over_budget;
    for (size_t i = 0; !result->has_over_budget && i < result->n_channels; i++) {
        known = known && result->channels[i]->has_admissible;
        over = over || !result->channels[i]->admissible;
    }
    return over_budget_word(known, over);
}

void print_result(const Surefoot__JobResult *result, bool show_unsafe, FILE *out) {
    const char *finish = result->finish_reason;
    fprintf(out, "outcome     %s%s%s%s\n", surefoot_outcome_name(result->outcome),
            finish != NULL && finish[0] != '\0' ? " (" : "", finish != NULL ? finish : "",
            finish != NULL && finish[0] != '\0' ? ")" : "");
    if (result->error != NULL) {
        fprintf(out, "error       %s: ", result->error->field == NULL ? "" : result->error->field);
        print_text(result->error->message == NULL ? "" : result->error->message, true, 0, out);
        fputc('\n', out);
    }
    fprintf(out, "scores    ");
    print_score("reward", result->has_reward, result->reward, out);
    print_score("cost", result->has_cost, result->cost, out);
    print_score("budget", result->has_budget, result->budget, out);
    print_score("safety state", result->has_safety_state, result->safety_state, out);
    fprintf(out, "  over budget %s\n", result_over_budget(result));
    for (size_t i = 0; result->n_channels > 1 && i < result->n_channels; i++) {
        const Surefoot__ChannelResult *channel = result->channels[i];
        fprintf(out, "channel   ");
        fputs("  ", out);
        print_text(channel->name == NULL ? "" : channel->name, true, 0, out);
        print_score("cost", channel->has_cost, channel->cost, out);
        print_score("budget", channel->has_budget, channel->budget, out);
        print_score("safety state", channel->has_safety_state, channel->safety_state, out);
        fprintf(out, "  over budget %s\n",
                over_budget_word(channel->has_admissible, !channel->admissible));
    }
    fprintf(out, "candidates  %u finished, %u admissible, %u repeat%s, %u further %s%s\n",
            result->n_finished, result->n_admissible, result->n_repeats,
            print_plural(result->n_repeats), result->tries_used,
            result->tries_used == 1 ? "try" : "tries",
            result->fallback_fired ? ", fallback fired" : "");
    fprintf(out, "work        %llu token%s in %.0f ms, queued %.0f ms, seed %llu\n",
            (unsigned long long)result->tokens_sampled, print_plural(result->tokens_sampled),
            result->run_ms, result->queue_ms, (unsigned long long)result->seed);
    print_sampling(result, out);
    if (result->rule != NULL) {
        fprintf(out, "rule        ");
        print_text(result->rule, true, 0, out);
        fputc('\n', out);
    }
    if (result->tilt != NULL) {
        print_tilt(result->tilt, out);
    }
    if (result->certificate != NULL) {
        fprintf(out, "certificate %s\n", result->certificate);
    }
    fprintf(out, "key         %s\n", result->job_key == NULL ? "" : result->job_key);
    if (result->text != NULL) {
        fputc('\n', out);
        // Many tokenizers begin a word, and so an answer, with a space. JSON keeps it.
        const char *text = print_visible_text(result->text, result->over_budget, show_unsafe);
        print_text(text + (text[0] == ' '), false, 0, out);
        fputc('\n', out);
    }
}

// Where a group's time went, in seconds since it joined.
static void print_group_times(const Surefoot__ServiceStatus *status, FILE *out) {
    fprintf(out, "\n%-16s %10s %10s %12s %10s %10s %14s\n", "group", "decode s", "score s",
            "collective s", "other s", "waiting s", "rebuilt tokens");
    for (size_t i = 0; i < status->n_groups; i++) {
        const Surefoot__GroupStatus *group = status->groups[i];
        double worked_ms = group->decode_ms + group->score_ms + group->collective_ms;
        fprintf(out, "%-16s %10.1f %10.1f %12.1f %10.1f %10.1f %14llu\n",
                group->name == NULL ? "" : group->name, group->decode_ms * 1e-3,
                group->score_ms * 1e-3, group->collective_ms * 1e-3,
                (group->order_ms - worked_ms) * 1e-3, (group->joined_ms - group->order_ms) * 1e-3,
                (unsigned long long)group->rebuilt_tokens);
    }
}

static const char *group_condition(const Surefoot__GroupStatus *group) {
    return group->condition != NULL ? group->condition : group->alive ? "serving" : "lost";
}

void print_service_status(const Surefoot__ServiceStatus *status, FILE *out) {
    fprintf(out, "surefoot %s, up %.0f s, busy %.1f s; jobs: %u queued, %u running, %llu done\n",
            status->version == NULL ? "?" : status->version, status->uptime_ms / 1000,
            status->busy_ms / 1000, status->jobs_queued, status->jobs_running,
            (unsigned long long)status->jobs_done);
    fprintf(out, "\n%-16s %-9s %6s %11s %10s %12s\n", "group", "state", "ranks", "slots busy",
            "orders", "tokens");
    for (size_t i = 0; i < status->n_groups; i++) {
        const Surefoot__GroupStatus *group = status->groups[i];
        char slots[32];
        snprintf(slots, sizeof slots, "%u/%u", group->slots_busy, group->slots);
        fprintf(out, "%-16s %-9s %6u %11s %10llu %12llu\n", group->name == NULL ? "" : group->name,
                group_condition(group), group->n_ranks, slots,
                (unsigned long long)group->orders_done, (unsigned long long)group->tokens);
        if (group->why != NULL) {
            fprintf(out, "%-16s %s\n", "", group->why);
        }
    }
    if (status->n_groups == 0) {
        return;
    }
    print_group_times(status, out);
    const Surefoot__GroupStatus *group = status->groups[0];
    fprintf(out, "\n%-32s %-7s %12s %8s %8s  %s\n", "model", "role", "parameters", "context",
            "budget", "hash");
    for (size_t i = 0; i < group->n_models; i++) {
        const Surefoot__ModelInfo *model = group->models[i];
        char budget[32] = "-";
        if (model->has_budget) {
            snprintf(budget, sizeof budget, "%.4g", model->budget);
        }
        fprintf(out, "%-32s %-7s %12llu %8u %8s  %.12s\n", model->name == NULL ? "" : model->name,
                model->role == NULL ? "" : model->role, (unsigned long long)model->parameter_count,
                model->context_length, budget, model->hash == NULL ? "" : model->hash);
    }
}
