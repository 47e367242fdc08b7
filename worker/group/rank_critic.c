// The rank's critic: opened for the policy, described to the coordinator, run on what has grown.
#include <stdlib.h>
#include <string.h>

#include "proto/job_fields.h"
#include "worker/group/rank_internal.h"

struct rank_critic {
    struct critic *critic;
    int32_t *states; // [slots], rows of o_t
    float *raw;      // [slots, outputs]
    int32_t n_outputs;
    struct rank_critic_info info; // what rank_critic_describe lends out
};

static void describe_channel(const struct critic_channel *channel, Surefoot__CriticChannel *out) {
    surefoot__critic_channel__init(out);
    out->scorer_hash = (char *)channel->scorer.hash;
    out->has_weight = out->has_discount = true;
    out->weight = channel->scorer.weight;
    out->discount = channel->discount;
    out->cost_mode = (char *)job_choice_name(JOB_FIELD_COST_MODE, (int)channel->cost_mode);
    out->cost_eos = (char *)job_choice_name(JOB_FIELD_COST_EOS, (int)channel->cost_eos);
    out->admit_rule = (char *)job_choice_name(JOB_FIELD_ADMIT_RULE, (int)channel->admit_rule);
    out->discount_unit =
        (char *)job_choice_name(JOB_FIELD_DISCOUNT_UNIT, (int)channel->discount_unit);
    out->has_block_tokens = channel->block_tokens > 0;
    out->block_tokens = (uint32_t)channel->block_tokens;
}

void rank_critic_info_fill(const struct critic *critic, struct rank_critic_info *out) {
    const struct critic_terms *terms = critic_get_terms(critic);
    Surefoot__CriticInfo *message = &out->message;
    surefoot__critic_info__init(message);
    message->hash = (char *)critic_get_hash(critic);
    message->chat_template = (char *)terms->chat_template;
    message->has_n_parts = !critic_terms_are_value(terms);
    message->n_parts = message->has_n_parts ? (uint32_t)terms->n_parts : 0;
    message->has_lambda = critic_terms_are_value(terms);
    message->lambda = terms->lambda;
    for (int32_t i = 0; i < terms->n_channels; i++) {
        describe_channel(&terms->channels[i], &out->channels[i]);
        out->channel_list[i] = &out->channels[i];
    }
    message->channels = out->channel_list;
    message->n_channels = (size_t)terms->n_channels;
    for (int32_t i = 0; i < terms->n_rewards; i++) {
        surefoot__critic_reward__init(&out->rewards[i]);
        out->rewards[i].scorer_hash = (char *)terms->rewards[i].hash;
        out->rewards[i].has_weight = true;
        out->rewards[i].weight = terms->rewards[i].weight;
        out->reward_list[i] = &out->rewards[i];
    }
    message->rewards = out->reward_list;
    message->n_rewards = (size_t)terms->n_rewards;
}

// By hash: that of a policy says its shape too.
static enum status check_terms(const struct rank *rank, const struct critic_terms *terms,
                               const char *field, bool is_value, struct error *err) {
    const char *hash = model_get_hash(rank->policy.model);
    if (critic_terms_are_value(terms) != is_value) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "its form is %s: it is no %s",
                         critic_form_name(terms->form),
                         is_value ? "value network" : "latent critic");
    }
    return strcmp(terms->policy_hash, hash) == 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, field,
                           "was trained for the policy with hash %.12s, this one has %.12s",
                           terms->policy_hash, hash);
}

enum status rank_critic_open_file(const struct rank *rank, const char *path, const char *field,
                                  bool is_value, struct critic **out, struct error *err) {
    struct critic *critic = NULL;
    enum status status = critic_open(path, rank->backend, rank->slots, &critic, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, field);
        return status;
    }
    status = check_terms(rank, critic_get_terms(critic), field, is_value, err);
    if (status != STATUS_OK) {
        critic_close(critic);
        return status;
    }
    *out = critic;
    return STATUS_OK;
}

enum status rank_critic_open(struct rank *rank, const char *path, struct error *err) {
    rank->critic = calloc(1, sizeof *rank->critic);
    if (rank->critic == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "critic", "no memory for it");
    }
    struct rank_critic *critic = rank->critic;
    enum status status = rank_critic_open_file(rank, path, "critic", false, &critic->critic, err);
    if (status != STATUS_OK) {
        return status;
    }
    critic->n_outputs = critic_output_count(critic_get_terms(critic->critic));
    size_t slots = (size_t)rank->slots;
    critic->states = malloc(slots * sizeof *critic->states);
    critic->raw = malloc(slots * (size_t)critic->n_outputs * sizeof *critic->raw);
    if (critic->states == NULL || critic->raw == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "critic", "no memory for it");
    }
    rank_critic_info_fill(critic->critic, &critic->info);
    return STATUS_OK;
}

void rank_critic_close(struct rank *rank) {
    if (rank->critic != NULL) {
        critic_close(rank->critic->critic);
        free(rank->critic->states);
        free(rank->critic->raw);
        free(rank->critic);
    }
}

void rank_critic_describe(const struct rank *rank, Surefoot__GroupHello *hello) {
    hello->critic = rank->critic != NULL ? &rank->critic->info.message : NULL;
}

static bool is_asked(const struct rank_item *item) {
    return item->job->critic && item->row->error == NULL &&
           item->candidate->response.finish == DECODE_FINISH_NONE;
}

static enum status fill_row(const struct rank_critic *critic, const float *raw,
                            Surefoot__Row *row) {
    const struct critic_terms *terms = critic_get_terms(critic->critic);
    struct critic_output output;
    struct error error = {.status = STATUS_OK};
    enum status status = critic_read(critic->critic, raw, &output, &error);
    if (status != STATUS_OK) {
        error_prefix_field(&error, "critic");
        return rank_row_fail(row, &error);
    }
    row->critic = malloc(((size_t)critic->n_outputs + 1) * sizeof *row->critic);
    if (row->critic == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t n = 0;
    for (int32_t i = 0; i < terms->n_channels; i++) {
        const struct cost_to_go *cost = &output.costs[i];
        for (int k = 0; k < cost->n_parts; k++) {
            row->critic[n++] = cost->weights[k];
            row->critic[n++] = cost->mus[k];
            row->critic[n++] = cost->sigmas[k];
        }
    }
    if (terms->n_rewards > 0) {
        row->critic[n++] = output.reward;
    }
    row->n_critic = n;
    return STATUS_OK;
}

enum status rank_critic_run(struct rank *rank, struct rank_item *items, int32_t n) {
    struct rank_critic *critic = rank->critic;
    int32_t n_asked = 0;
    for (int32_t i = 0; i < n; i++) {
        if (is_asked(&items[i])) {
            critic->states[n_asked++] = items[i].candidate->state;
        }
    }
    if (n_asked == 0) {
        return STATUS_OK;
    }
    enum status status = critic_evaluate(critic->critic, decoder_states(rank->decoder),
                                         critic->states, n_asked, critic->raw);
    const float *raw = critic->raw;
    for (int32_t i = 0; i < n && status == STATUS_OK; i++) {
        if (is_asked(&items[i])) {
            status = fill_row(critic, raw, items[i].row);
            raw += critic->n_outputs;
        }
    }
    return status;
}
