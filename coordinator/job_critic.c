#include "coordinator/job_critic.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/job_channels.h"
#include "proto/job_fields.h"

// Says of whom `err` tells, and which field asked for it.
static enum status blame(const char *field, const char *who, enum status status,
                         struct error *err) {
    if (status != STATUS_OK) {
        const struct error cause = *err;
        error_set(err, status, field, "%s %s", who, cause.message);
    }
    return status;
}

static enum status differ(const char *what, const char *trained, const char *asked,
                          struct error *err) {
    return error_set(err, STATUS_INVALID_ARGUMENT, NULL,
                     "was trained for %s %.40s, the job has %.40s", what,
                     trained[0] != '\0' ? trained : "none", asked[0] != '\0' ? asked : "none");
}

static enum status differ_by_number(const char *what, double trained, double asked,
                                    struct error *err) {
    char texts[2][32];
    snprintf(texts[0], sizeof texts[0], "%.10g", trained);
    snprintf(texts[1], sizeof texts[1], "%.10g", asked);
    return trained == asked ? STATUS_OK : differ(what, texts[0], texts[1], err);
}

static enum status differ_by_choice(enum job_field_index index, int trained, int asked,
                                    struct error *err) {
    return trained == asked ? STATUS_OK
                            : differ(job_field_get(index)->name, job_choice_name(index, trained),
                                     job_choice_name(index, asked), err);
}

static enum status check_scorer(const struct critic_scorer_description *trained,
                                const struct job_scorer *scorer, const struct model_set *models,
                                struct error *err) {
    const struct model_description *model =
        scorer->lexical == NULL ? model_set_find(models, scorer->name) : NULL;
    const char *hash = model != NULL ? model->hash : scorer->name;
    return strcmp(trained->hash, hash) != 0
               ? differ("a scorer with hash", trained->hash, hash, err)
               : differ_by_number("a scorer's weight", trained->weight, scorer->weight, err);
}

// The one cost scorer of a channel, NULL when there are several.
static const struct job_scorer *scorer_in(const struct job_spec *spec, uint32_t channel) {
    const struct job_scorer *found = NULL;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (spec->search.scorers[i].is_cost && spec->search.scorers[i].channel == channel) {
            if (found != NULL) {
                return NULL;
            }
            found = &spec->scorers[i];
        }
    }
    return found;
}

static enum status check_channel(const struct job_spec *spec, const struct model_set *models,
                                 const struct critic_channel_description *trained, uint32_t channel,
                                 struct error *err) {
    const struct search_channel *asked = &spec->search.channels[channel];
    const struct job_scorer *scorer = scorer_in(spec, channel);
    enum cost_eos eos = spec->cost_eos_append ? COST_EOS_APPEND : COST_EOS_NONE;
    if (scorer == NULL) {
        return differ("a channel of", "one scorer", "several in one", err);
    }
    enum status status = check_scorer(&trained->scorer, scorer, models, err);
    if (status == STATUS_OK) {
        status = differ_by_choice(JOB_FIELD_COST_MODE, (int)trained->cost_mode,
                                  (int)asked->cost_mode, err);
    }
    if (status == STATUS_OK) {
        status = differ_by_choice(JOB_FIELD_COST_EOS, (int)trained->cost_eos, (int)eos, err);
    }
    if (status == STATUS_OK) {
        status = differ_by_choice(JOB_FIELD_ADMIT_RULE, (int)trained->admit_rule,
                                  (int)asked->admit_rule, err);
    }
    if (status == STATUS_OK) {
        status = differ_by_number("discount", trained->discount, asked->discount, err);
    }
    if (status == STATUS_OK && asked->discount < 1) {
        status = differ_by_choice(JOB_FIELD_DISCOUNT_UNIT, (int)trained->discount_unit,
                                  (int)asked->discount_unit, err);
    }
    if (status == STATUS_OK && trained->block_tokens > 0 && spec->search.block_growth > 1) {
        status = differ_by_number("block_growth", 1, spec->search.block_growth, err);
    }
    if (status == STATUS_OK && trained->block_tokens > 0) {
        status =
            differ_by_number("block_tokens", trained->block_tokens, spec->search.block_tokens, err);
    }
    return status;
}

// Rules of words are known and need no foretelling.
static enum status check_channels(const struct critic_description *critic,
                                  const struct job_spec *spec, const struct model_set *models,
                                  uint32_t channels[LIMIT_CHANNELS], uint32_t *n_channels,
                                  struct error *err) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        if (strcmp(spec->channels[i], JOB_CHANNEL_RULES) != 0) {
            channels[n++] = i;
        }
    }
    *n_channels = n;
    enum status status = differ_by_number("channels of costs:", critic->n_channels, n, err);
    for (uint32_t i = 0; status == STATUS_OK && i < critic->n_channels; i++) {
        status = check_channel(spec, models, &critic->channels[i], channels[i], err);
    }
    return status;
}

static enum status check_rewards(const struct critic_description *critic,
                                 const struct job_spec *spec, const struct model_set *models,
                                 struct error *err) {
    uint32_t n = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (spec->scorers[i].role == SCORER_ROLE_REWARD) {
            if (status == STATUS_OK && n < critic->n_rewards) {
                status = check_scorer(&critic->rewards[n], &spec->scorers[i], models, err);
            }
            n++;
        }
    }
    return status == STATUS_OK ? differ_by_number("rewards:", critic->n_rewards, n, err) : status;
}

static enum status check_template(const struct critic_description *critic,
                                  const Surefoot__JobSpec *message, const struct model_set *models,
                                  struct error *err) {
    const char *template = message->rendered_prompt != NULL ? "a rendered prompt"
                           : message->chat_template != NULL ? message->chat_template
                                                            : models->policy.chat_template;
    return strcmp(critic->chat_template, template) == 0
               ? STATUS_OK
               : differ("chat template", critic->chat_template, template, err);
}

enum status job_critic_resolve(struct job_spec *spec, const struct model_set *models,
                               struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    const struct critic_description *critic = &models->critic;
    spec->search.critic_parts = 0;
    spec->search.critic_unread = 0;
    int use = (int)job_field_number(JOB_FIELD_CRITIC, message);
    if (use == CRITIC_USE_OFF) {
        return STATUS_OK;
    }
    if (critic->hash[0] == '\0') {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.critic",
                         "%s: the groups have no critic (surefoot up --latent-critic FILE)",
                         job_choice_name(JOB_FIELD_CRITIC, use));
    }
    enum status status = check_template(critic, message, models, err);
    if (status == STATUS_OK) {
        status = check_channels(critic, spec, models, spec->search.critic_channels,
                                &spec->search.n_critic_channels, err);
    }
    if (status == STATUS_OK && critic->n_rewards > 0) {
        status = check_rewards(critic, spec, models, err);
    }
    if (status != STATUS_OK) {
        return blame("spec.critic", "the critic", status, err);
    }
    spec->search.critic_parts = critic->n_parts;
    spec->search.critic_has_reward = critic->n_rewards > 0;
    spec->search.critic_keep = job_field_number(JOB_FIELD_CRITIC_KEEP, message);
    // Rules of words cost nothing to read, so they always are.
    for (size_t i = 0; use == CRITIC_USE_LATENT_COST && i < spec->n_scorers; i++) {
        spec->search.critic_unread |= spec->scorers[i].lexical == NULL ? 1U << i : 0;
    }
    return STATUS_OK;
}

enum status job_critic_resolve_value(struct job_spec *spec, const struct model_set *models,
                                     struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    const struct critic_description *value = &models->value;
    spec->value_steps = 0;
    spec->value_step = 0;
    if (!job_method_of(message)->follows_value) {
        return STATUS_OK;
    }
    if (value->hash[0] == '\0') {
        return error_set(err, STATUS_INVALID_ARGUMENT, "spec.method",
                         "re-control: the groups have no value network (surefoot up --value FILE)");
    }
    bool lagrangian = spec->search.selection == SEARCH_SELECTION_LAGRANGIAN;
    double lambda = lagrangian ? spec->search.lagrangian_lambda : 0;
    uint32_t channels[LIMIT_CHANNELS], n_channels = 0;
    enum status status = check_template(value, message, models, err);
    if (status == STATUS_OK) {
        status = check_rewards(value, spec, models, err);
    }
    if (status == STATUS_OK) {
        status = differ_by_number("R - lambda C with lambda", value->lambda, lambda, err);
    }
    if (status == STATUS_OK && lambda > 0) {
        status = check_channels(value, spec, models, channels, &n_channels, err);
    }
    if (status != STATUS_OK) {
        return blame("spec.method", "re-control: the value network", status, err);
    }
    spec->value_steps = (uint32_t)job_field_number(JOB_FIELD_STEPS, message);
    spec->value_step = job_field_number(JOB_FIELD_ALPHA, message);
    return STATUS_OK;
}

void job_critic_take_row(const struct job_spec *spec, const Surefoot__Row *row,
                         struct cost_to_go *costs, double *reward) {
    const struct search_spec *search = &spec->search;
    const float *next = row->critic;
    for (uint32_t i = 0; i < search->n_critic_channels; i++) {
        costs[i].n_parts = (int)search->critic_parts;
        for (uint32_t k = 0; k < search->critic_parts; k++, next += 3) {
            costs[i].weights[k] = next[0];
            costs[i].mus[k] = next[1];
            costs[i].sigmas[k] = next[2];
        }
    }
    *reward = search->critic_has_reward ? (double)*next : 0.0;
}

enum status job_critic_check_row(const struct job_spec *spec, const Surefoot__Row *row,
                                 struct error *err) {
    const struct search_spec *search = &spec->search;
    bool wanted = search->critic_parts > 0 && row->finish == SUREFOOT__FINISH__FINISH_NONE;
    size_t n = wanted ? 3 * (size_t)search->critic_parts * search->n_critic_channels +
                            search->critic_has_reward
                      : 0;
    if (row->n_critic != n) {
        return error_set(err, STATUS_MALFORMED, "row.critic", "%zu numbers instead of %zu",
                         row->n_critic, n);
    }
    if (!wanted) {
        return STATUS_OK;
    }
    struct cost_to_go costs[LIMIT_CHANNELS];
    double reward = 0;
    job_critic_take_row(spec, row, costs, &reward);
    bool valid = isfinite(reward);
    for (uint32_t i = 0; valid && i < search->n_critic_channels; i++) {
        valid = cost_to_go_is_valid(&costs[i]);
    }
    return valid ? STATUS_OK
                 : error_set(err, STATUS_MALFORMED, "row.critic",
                             "no distribution: a number is none, or out of its range");
}
