#include "coordinator/job_result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "coordinator/job_calibration.h"
#include "coordinator/search/combine.h"
#include "coordinator/search/safety.h"
#include "proto/job_fields.h"

enum status job_check_answer(const struct job *job, const struct search_answer *answer,
                             struct error *err) {
    struct search_candidate chosen;
    if (!search_find_candidate(job->search, answer->candidate_id, &chosen) || chosen.text == NULL) {
        return error_set(err, STATUS_INTERNAL, NULL, "the chosen candidate has no record");
    }
    struct safety_state state;
    safety_evaluate(&job->spec->search, &chosen.scores, &state);
    const struct search_spec *search = &job->spec->search;
    bool within = search->selection == SEARCH_SELECTION_AUGMENTED || answer->tilt != NULL;
    for (uint32_t i = 0; i < search->n_channels; i++) {
        const struct channel_state *again = &state.channels[i];
        if (again->cost != chosen.channels[i].cost ||
            again->admissible != chosen.channels[i].admissible) {
            return error_set(err, STATUS_INTERNAL, NULL,
                             "channel %s: cost %.17g on re-check, %.17g in the search",
                             job->spec->channels[i], again->cost, chosen.channels[i].cost);
        }
        if (within && !again->admissible) {
            return error_set(err, STATUS_INTERNAL, NULL,
                             "channel %s: cost %.17g is over the budget %.17g",
                             job->spec->channels[i], again->cost, search->channels[i].budget);
        }
    }
    return STATUS_OK;
}

// Everything that a JobResult points to while it is packed.
struct result_parts {
    Surefoot__JobResult message;
    Surefoot__ErrorInfo error;
    Surefoot__ScorerResult scorers[LIMIT_SCORERS];
    Surefoot__ScorerResult *scorer_list[LIMIT_SCORERS];
    Surefoot__ModelInfo models[LIMIT_SCORERS + 1];
    Surefoot__ModelInfo *model_list[LIMIT_SCORERS + 1];
    Surefoot__ChannelResult channels[LIMIT_CHANNELS];
    Surefoot__ChannelResult *channel_list[LIMIT_CHANNELS];
    Surefoot__TiltResult tilt;
    struct job_conditions conditions;
    float *rewards;                        // [n_rewards of conditions], owned
    double *state_rewards;                 // [n_states of the job], owned
    Surefoot__CandidateSummary *summaries; // [n_candidates of message], owned
    Surefoot__CandidateSummary **summary_list;
    Surefoot__ChannelResult *summary_channels; // [n_candidates][n_channels of the job], owned
    Surefoot__ChannelResult **summary_channel_list;
};

static const char *finish_name(enum search_finish finish) {
    switch (finish) {
    case SEARCH_FINISH_EOS:
        return "eos";
    case SEARCH_FINISH_STOP:
        return "stop";
    case SEARCH_FINISH_LENGTH:
        return "length";
    case SEARCH_FINISH_NONE:
        break;
    }
    return "";
}

static void fill_models(const struct job *job, const struct model_set *models,
                        struct result_parts *parts) {
    size_t n = 0;
    model_description_fill(&models->policy, &parts->models[n++]);
    for (size_t i = 0; i < job->spec->n_scorers; i++) {
        const struct model_description *model = model_set_find(models, job->spec->scorers[i].name);
        if (model != NULL) {
            model_description_fill(model, &parts->models[n++]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        parts->model_list[i] = &parts->models[i];
    }
    parts->message.models = parts->model_list;
    parts->message.n_models = n;
}

static void fill_scorers(const struct job *job, const struct search_scores *scores,
                         struct result_parts *parts) {
    ASSERT(scores->n_blocks > 0);
    size_t n_scorers = job->spec->n_scorers;
    const float *end_scores = scores->end_scores + (scores->n_blocks - 1) * n_scorers;
    for (size_t i = 0; i < job->spec->n_scorers; i++) {
        const struct job_scorer *scorer = &job->spec->scorers[i];
        Surefoot__ScorerResult *result = &parts->scorers[i];
        surefoot__scorer_result__init(result);
        result->name = (char *)scorer->name;
        result->role = (char *)scorer_role_name(scorer->role);
        result->has_end_score = true;
        result->end_score = end_scores[i];
        if (scorer->role == SCORER_ROLE_COST) {
            result->token_scores = (float *)scores->token_scores + i * scores->stride;
            result->n_token_scores = scores->n_places;
        }
        parts->scorer_list[i] = result;
    }
    parts->message.scorers = parts->scorer_list;
    parts->message.n_scorers = job->spec->n_scorers;
}

// What the channels, [n_channels of the job], say of a candidate; `list` points to them.
static void fill_channels(const struct job_spec *spec, const struct search_candidate *candidate,
                          Surefoot__ChannelResult *channels, Surefoot__ChannelResult **list) {
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        surefoot__channel_result__init(&channels[i]);
        channels[i].has_cost = true;
        channels[i].cost = candidate->channels[i].cost;
        channels[i].has_safety_state = true;
        channels[i].safety_state = candidate->channels[i].z;
        channels[i].has_admissible = true;
        channels[i].admissible = candidate->channels[i].admissible;
        list[i] = &channels[i];
    }
}

// Those of the shown candidate, with their names and budgets.
static void fill_verdict(const struct job_spec *spec, const struct search_candidate *shown,
                         struct result_parts *parts) {
    fill_channels(spec, shown, parts->channels, parts->channel_list);
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        parts->channels[i].name = (char *)spec->channels[i];
        parts->channels[i].has_budget = true;
        parts->channels[i].budget = spec->search.channels[i].budget;
    }
    parts->message.channels = parts->channel_list;
    parts->message.n_channels = spec->n_channels;
}

// Numbers that no scorer of the job gives are absent.
static void fill_summary(const struct job_spec *spec, const struct search_candidate *candidate,
                         Surefoot__CandidateSummary *summary) {
    surefoot__candidate_summary__init(summary);
    summary->has_candidate_id = true;
    summary->candidate_id = candidate->candidate_id;
    summary->has_parent_id = true;
    summary->parent_id = candidate->parent_id;
    summary->has_n_tokens = true;
    summary->n_tokens = candidate->n_tokens;
    summary->has_reward = spec->has_reward;
    summary->reward = candidate->reward;
    summary->has_cost = summary->has_safety_state = spec->n_channels > 0;
    summary->cost = candidate->channels[0].cost;
    summary->safety_state = candidate->safety_state;
    summary->has_admissible = true;
    summary->admissible = candidate->admissible;
    summary->fate = (char *)candidate_fate_name(candidate->fate);
    summary->finish_reason = (char *)finish_name(candidate->finish);
}

static enum status fill_candidates(const struct job *job, struct result_parts *parts) {
    size_t total = search_candidate_count(job->search);
    size_t finished = 0;
    struct search_candidate candidate;
    for (size_t i = 0; i < total; i++) {
        search_get_candidate(job->search, i, &candidate);
        finished += candidate.finish != SEARCH_FINISH_NONE ? 1 : 0;
    }
    size_t kept = total < RESULT_CANDIDATES_MAX ? total : RESULT_CANDIDATES_MAX;
    size_t others = kept - (finished < kept ? finished : kept);
    parts->summaries = malloc((kept + 1) * sizeof *parts->summaries);
    parts->summary_list = malloc((kept + 1) * sizeof *parts->summary_list);
    uint32_t n_channels = job->spec->n_channels > 1 ? job->spec->n_channels : 0;
    parts->summary_channels = malloc((kept * n_channels + 1) * sizeof *parts->summary_channels);
    parts->summary_channel_list =
        malloc((kept * n_channels + 1) * sizeof *parts->summary_channel_list);
    if (parts->summaries == NULL || parts->summary_list == NULL ||
        parts->summary_channels == NULL || parts->summary_channel_list == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t n = 0;
    for (size_t i = 0; i < total && n < kept; i++) {
        search_get_candidate(job->search, i, &candidate);
        bool is_finished = candidate.finish != SEARCH_FINISH_NONE;
        if (!is_finished && others == 0) {
            continue;
        }
        others -= is_finished ? 0 : 1;
        fill_summary(job->spec, &candidate, &parts->summaries[n]);
        if (n_channels > 0) {
            Surefoot__ChannelResult **list = parts->summary_channel_list + n * n_channels;
            fill_channels(job->spec, &candidate, parts->summary_channels + n * n_channels, list);
            parts->summaries[n].channels = list;
            parts->summaries[n].n_channels = n_channels;
        }
        parts->summary_list[n] = &parts->summaries[n];
        n++;
    }
    parts->message.has_candidates_made = true;
    parts->message.candidates_made = (uint32_t)total;
    parts->message.candidates = parts->summary_list;
    parts->message.n_candidates = n;
    return STATUS_OK;
}

static void fill_text(const struct search_candidate *chosen, Surefoot__JobResult *message) {
    message->text = (char *)chosen->text;
    message->token_ids = (uint32_t *)chosen->tokens;
    message->n_token_ids = chosen->n_tokens;
    message->token_logprobs = (float *)chosen->logprobs;
    message->n_token_logprobs = chosen->n_tokens;
    message->finish_reason = (char *)finish_name(chosen->finish);
    message->has_read_from = chosen->reading.is_other;
    message->read_from = chosen->reading.from;
    message->read_ids = (uint32_t *)chosen->reading.ids;
    message->n_read_ids = chosen->reading.n_ids;
}

static double calibrate(const struct search_spec *spec, double reward) {
    struct tilt_draw draw = {.reward = reward};
    tilt_place_by_rollouts(&draw, 1, spec->rollouts, spec->n_rollouts);
    return tilt_calibrated(TILT_SAMPLER_ROLLOUTS, spec->n_rollouts + 1, draw.place);
}

static int compare_floats(const void *left, const void *right) {
    const float *a = left;
    const float *b = right;
    return *a < *b ? -1 : *a > *b;
}

// The rewards of all candidates, of a job that asks for them.
static enum status fill_calibration(const struct job *job, const struct model_set *models,
                                    struct result_parts *parts) {
    size_t total = search_candidate_count(job->search);
    parts->rewards = malloc(total * sizeof *parts->rewards);
    if (parts->rewards == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < total; i++) {
        struct search_candidate candidate;
        search_get_candidate(job->search, i, &candidate);
        ASSERT(candidate.finish != SEARCH_FINISH_NONE);
        parts->rewards[i] = (float)candidate.reward;
    }
    qsort(parts->rewards, total, sizeof *parts->rewards, compare_floats);
    job_conditions_fill(job->spec, models, &parts->conditions);
    parts->conditions.message.rewards = parts->rewards;
    parts->conditions.message.n_rewards = total;
    parts->message.calibration = &parts->conditions.message;
    return STATUS_OK;
}

static bool has_t(enum tilt_transform transform) {
    return transform == TILT_TRANSFORM_EXP || transform == TILT_TRANSFORM_EXP_NEG;
}

static void fill_tilt(const struct tilt_spec *spec, const struct search_tilt *tilted,
                      struct result_parts *parts) {
    Surefoot__TiltResult *tilt = &parts->tilt;
    surefoot__tilt_result__init(tilt);
    tilt->tilt = (char *)job_choice_name(JOB_FIELD_TILT, spec->transform);
    tilt->has_t = has_t(spec->transform);
    tilt->t = spec->t;
    tilt->has_n = tilt->has_beta = tilt->has_draws = tilt->has_ranked = true;
    tilt->n = spec->n;
    tilt->beta = tilted->beta;
    tilt->draws = tilted->n_draws;
    tilt->ranked = tilted->n_ranked;
    tilt->sampler = (char *)job_choice_name(JOB_FIELD_TILT_SAMPLER, spec->sampler);
    tilt->has_rank = spec->sampler == TILT_SAMPLER_RANKS;
    tilt->has_calibrated_reward = tilt->has_log_inverse_share = true;
    tilt->rank = tilted->rank;
    tilt->calibrated_reward = tilted->calibrated;
    tilt->log_inverse_share = tilted->log_inverse_share;
    tilt->has_win_rate = tilt->has_kl = tilted->has_law;
    tilt->has_best_of_n = tilt->has_worst_of_n = tilted->has_law;
    tilt->win_rate = tilted->law.win_rate;
    tilt->kl = tilted->law.kl;
    tilt->best_of_n = tilted->law.best_of_n;
    tilt->worst_of_n = tilted->law.worst_of_n;
    tilt->has_rejection_draws = isfinite(tilted->rejection_draws);
    tilt->rejection_draws = tilted->rejection_draws;
    parts->message.tilt = tilt;
}

// What the search found, whatever the job's end: counts, the shown candidate's numbers, and, for a
// completed job only, its text.
// The states of the only candidate, and the rewards of its text where they stand.
static enum status fill_states(const struct job *job, const struct search_scores *scores,
                               struct result_parts *parts) {
    Surefoot__JobResult *message = &parts->message;
    message->has_states = job->spec->state_bytes > 0;
    message->states =
        (ProtobufCBinaryData){.len = job->n_states * job->spec->state_bytes, .data = job->states};
    message->state_tokens = job->state_tokens;
    message->n_state_tokens = job->n_states;
    if (job->n_states == 0 || !job->spec->has_reward) {
        return STATUS_OK;
    }
    parts->state_rewards = malloc(job->n_states * sizeof *parts->state_rewards);
    if (parts->state_rewards == NULL) {
        return STATUS_NO_MEMORY;
    }
    message->state_rewards = parts->state_rewards;
    uint32_t block = 0;
    for (size_t i = 0; i < job->n_states; i++) {
        while (scores->block_ends[block] < job->state_tokens[i]) {
            block++;
        }
        ASSERT(block < scores->n_blocks && scores->block_ends[block] == job->state_tokens[i]);
        parts->state_rewards[message->n_state_rewards++] = combine_reward(
            &job->spec->search, scores->end_scores + (size_t)block * job->spec->n_scorers);
    }
    return STATUS_OK;
}

static enum status fill_search(const struct job *job, Surefoot__Outcome outcome,
                               struct result_parts *parts) {
    Surefoot__JobResult *message = &parts->message;
    struct search_answer answer;
    struct search_progress progress;
    search_get_answer(job->search, &answer);
    search_get_progress(job->search, &progress);
    message->has_n_finished = true;
    message->n_finished = answer.n_finished;
    message->has_n_admissible = true;
    message->n_admissible = answer.n_admissible;
    message->has_n_aborted = true;
    message->n_aborted = answer.n_aborted;
    message->has_n_repeats = true;
    message->n_repeats = answer.n_repeats;
    message->has_tries_used = true;
    message->tries_used = answer.tries_used;
    message->has_n_restarts = true;
    message->n_restarts = answer.n_restarts;
    message->has_fallback_fired = true;
    message->fallback_fired = answer.fallback_fired;
    message->has_rebuilt_tokens = true;
    message->rebuilt_tokens = job->rebuilt_tokens;
    message->has_scored_tokens = true;
    message->scored_tokens = job->scored_tokens;
    message->has_n_unscored = job->spec->search.critic_unread != 0;
    message->n_unscored = answer.n_unscored;
    message->has_tokens_sampled = true;
    message->tokens_sampled = progress.tokens;
    if (outcome == SUREFOOT__OUTCOME__OUTCOME_REJECTED) {
        return STATUS_OK; // what was begun for it is no candidate of anything
    }
    struct search_candidate shown;
    if (!search_find_candidate(job->search, answer.candidate_id, &shown)) {
        return fill_candidates(job, parts);
    }
    message->has_reward = job->spec->has_reward;
    message->reward = shown.reward;
    message->has_cost = message->has_safety_state = job->spec->n_channels > 0;
    message->cost = shown.channels[0].cost;
    message->safety_state = shown.safety_state;
    fill_verdict(job->spec, &shown, parts);
    if (outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
        message->has_tokens_after_choice = true;
        message->tokens_after_choice = answer.tokens_after_choice;
        ASSERT(shown.text != NULL);
        message->has_over_budget = true;
        message->over_budget = answer.over_budget;
        message->rule = (char *)answer.rule;
        fill_text(&shown, message);
        if (fill_states(job, &shown.scores, parts) != STATUS_OK) {
            return STATUS_NO_MEMORY;
        }
        fill_scorers(job, &shown.scores, parts);
        if (answer.tilt != NULL) {
            fill_tilt(&job->spec->search.tilt, answer.tilt, parts);
        }
        message->has_calibrated_reward = job->spec->search.rollouts != NULL;
        message->calibrated_reward =
            message->has_calibrated_reward ? calibrate(&job->spec->search, shown.reward) : 0;
    } else if (outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE) {
        message->rule = (char *)answer.rule;
    }
    return fill_candidates(job, parts);
}

// The numbers; the lists are the client's own.
static void fill_sampling(const struct job_sampling *effective, Surefoot__Sampling *sampling,
                          Surefoot__JobResult *message) {
    *sampling = effective->message;
    sampling->n_logit_bias = sampling->n_stop = 0;
    message->sampling = sampling;
    message->from_model = (char **)effective->from_model;
    message->n_from_model = effective->n_from_model;
}

static void fill_times(const struct job *job, Surefoot__JobResult *message) {
    int64_t now = clock_monotonic_ms();
    bool started = job->started_ms > 0;
    message->has_queue_ms = true;
    message->queue_ms = (double)((started ? job->started_ms : now) - job->accepted_ms);
    message->has_run_ms = true;
    message->run_ms = started ? (double)(now - job->started_ms) : 0;
}

enum status job_result_pack(const struct job *job, const struct job_ending *ending, uint8_t **bytes,
                            size_t *size) {
    struct result_parts *parts = calloc(1, sizeof *parts);
    if (parts == NULL) {
        return STATUS_NO_MEMORY;
    }
    Surefoot__JobResult *message = &parts->message;
    surefoot__job_result__init(message);
    message->job_key = job->key;
    message->has_outcome = true;
    message->outcome = ending->outcome;
    message->has_seed = true;
    message->seed = job->seed;
    message->date = (char *)job->date;
    bool resolved = job->spec != NULL && job->spec->resolved;
    if (job->spec != NULL) {
        message->template_variables = job->spec->submit->spec->template_variables;
        message->n_template_variables = job->spec->submit->spec->n_template_variables;
    }
    if (resolved && job->spec->submit->spec->certificate != NULL) {
        message->certificate = job->spec->submit->spec->certificate->id;
    }
    message->has_prompt_tokens = job->prompt_tokens > 0;
    message->prompt_tokens = job->prompt_tokens;
    message->has_budget = resolved && job->spec->n_channels > 0;
    message->budget = message->has_budget ? job->spec->search.channels[0].budget : 0;
    if (ending->why != NULL) {
        surefoot__error_info__init(&parts->error);
        wire_error_fill(&parts->error, ending->why);
        message->error = &parts->error;
    }
    Surefoot__Sampling sampling;
    if (resolved) {
        fill_sampling(&job->spec->sampling, &sampling, message);
    }
    fill_times(job, message);
    if (ending->models != NULL && resolved) {
        fill_models(job, ending->models, parts);
        if (job->spec->search.critic_parts > 0) {
            message->critic_hash = (char *)ending->models->critic.hash;
        }
        if (job_method_of(job->spec->submit->spec)->follows_value) {
            message->value_hash = (char *)ending->models->value.hash;
        }
    }
    enum status status = job->search != NULL ? fill_search(job, ending->outcome, parts) : STATUS_OK;
    bool calibrates = resolved && ending->models != NULL &&
                      ending->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED &&
                      job_field_number(JOB_FIELD_CALIBRATE, job->spec->submit->spec) != 0;
    if (status == STATUS_OK && calibrates) {
        status = fill_calibration(job, ending->models, parts);
    }
    if (status == STATUS_OK) {
        status = wire_pack(WIRE_JOB_RESULT, message, bytes, size);
    }
    free(parts->rewards);
    free(parts->state_rewards);
    free(parts->summaries);
    free(parts->summary_list);
    free(parts->summary_channels);
    free(parts->summary_channel_list);
    free(parts);
    return status;
}
