#include "coordinator/order.h"

#include <stdlib.h>

#include "proto/wire.h"

// A job's description and what it points to; the rest is borrowed from the job.
struct job_part {
    Surefoot__GroupJob message;
    Surefoot__ScorerSpec scorers[LIMIT_SCORERS];
    Surefoot__ScorerSpec *scorer_list[LIMIT_SCORERS];
};

struct order_parts {
    Surefoot__OrderItem *items; // [n_items]
    Surefoot__OrderItem **item_list;
    struct job_part *jobs; // at most n_items
    Surefoot__GroupJob **job_list;
    size_t n_jobs;
    Surefoot__TokenPenalty *penalties; // at most n_items
    Surefoot__TokenPenalty **penalty_list;
    size_t n_penalties;
    Surefoot__ReleaseCandidates *releases; // at most n_released
    Surefoot__ReleaseCandidates **release_list;
    uint64_t *released_ids; // [n_released]
    size_t n_releases;
};

static bool parts_allocate(struct order_parts *parts, size_t n_items, size_t n_released) {
    // One more than needed: malloc(0) may be NULL.
    *parts = (struct order_parts){
        .items = malloc((n_items + 1) * sizeof(Surefoot__OrderItem)),
        .item_list = malloc((n_items + 1) * sizeof(Surefoot__OrderItem *)),
        .jobs = malloc((n_items + 1) * sizeof(struct job_part)),
        .job_list = malloc((n_items + 1) * sizeof(Surefoot__GroupJob *)),
        .penalties = malloc((n_items + 1) * sizeof(Surefoot__TokenPenalty)),
        .penalty_list = malloc((n_items + 1) * sizeof(Surefoot__TokenPenalty *)),
        .releases = malloc((n_released + 1) * sizeof(Surefoot__ReleaseCandidates)),
        .release_list = malloc((n_released + 1) * sizeof(Surefoot__ReleaseCandidates *)),
        .released_ids = malloc((n_released + 1) * sizeof(uint64_t)),
    };
    return parts->items != NULL && parts->item_list != NULL && parts->jobs != NULL &&
           parts->job_list != NULL && parts->penalties != NULL && parts->penalty_list != NULL &&
           parts->releases != NULL && parts->release_list != NULL && parts->released_ids != NULL;
}

static void parts_free(struct order_parts *parts) {
    free(parts->items);
    free(parts->item_list);
    free(parts->jobs);
    free(parts->job_list);
    free(parts->penalties);
    free(parts->penalty_list);
    free(parts->releases);
    free(parts->release_list);
    free(parts->released_ids);
}

static void fill_job(const struct job *job, struct job_part *part) {
    const struct job_spec *spec = job->spec;
    const Surefoot__JobSpec *asked = spec->submit->spec;
    Surefoot__GroupJob *message = &part->message;
    surefoot__group_job__init(message);
    message->has_job_id = true;
    message->job_id = job->id;
    message->prompt = asked->prompt;
    message->messages = asked->messages;
    message->n_messages = asked->n_messages;
    message->chat_template = asked->chat_template;
    message->has_control_tokens_as_written = true;
    message->control_tokens_as_written = spec->control_tokens_as_written;
    message->date = (char *)job->date;
    message->rendered_prompt = asked->rendered_prompt;
    message->has_continue_final_message = asked->has_continue_final_message;
    message->continue_final_message = asked->continue_final_message;
    message->template_variables = asked->template_variables;
    message->n_template_variables = asked->n_template_variables;
    message->has_seed = true;
    message->seed = spec->seed;
    message->sampling = (Surefoot__Sampling *)&spec->sampling.message;
    message->has_max_tokens = true;
    message->max_tokens = spec->search.max_tokens;
    message->has_cost_eos_append = true;
    message->cost_eos_append = spec->cost_eos_append;
    message->prefixes = asked->fallback_prefixes;
    message->n_prefixes = asked->n_fallback_prefixes;
    message->has_states = spec->state_bytes > 0;
    message->states = spec->state_bytes > 0;
    message->has_critic = spec->search.critic_parts > 0;
    message->critic = spec->search.critic_parts > 0;
    message->has_value_steps = message->has_value_step = spec->value_steps > 0;
    message->value_steps = spec->value_steps;
    message->value_step = spec->value_step;
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const struct job_scorer *scorer = &spec->scorers[i];
        Surefoot__ScorerSpec *out = &part->scorers[i];
        surefoot__scorer_spec__init(out);
        out->name = (char *)scorer->name;
        out->role = (char *)scorer_role_name(scorer->role);
        out->has_weight = true;
        out->weight = scorer->weight;
        out->chat_template = (char *)scorer->chat_template;
        out->lexical = (Surefoot__LexicalSpec *)scorer->lexical;
        part->scorer_list[i] = out;
    }
    message->scorers = part->scorer_list;
    message->n_scorers = spec->n_scorers;
}

// The 1-based number of an item's penalties in the order; they are shared by pointer.
static uint32_t penalty_number(struct order_parts *parts,
                               const struct scheduler_penalties *penalties) {
    for (size_t i = parts->n_penalties; i > 0; i--) {
        if (parts->penalties[i - 1].token_ids == penalties->token_ids) {
            return (uint32_t)i;
        }
    }
    Surefoot__TokenPenalty *message = &parts->penalties[parts->n_penalties];
    surefoot__token_penalty__init(message);
    message->token_ids = penalties->token_ids;
    message->n_token_ids = penalties->n;
    message->penalties = penalties->values;
    message->n_penalties = penalties->n;
    parts->penalty_list[parts->n_penalties++] = message;
    return (uint32_t)parts->n_penalties;
}

static void fill_item(struct order_parts *parts, size_t index, struct scheduler_item *item) {
    Surefoot__OrderItem *message = &parts->items[index];
    surefoot__order_item__init(message);
    message->has_job_id = true;
    message->job_id = item->job_id;
    message->has_candidate_id = true;
    message->candidate_id = item->candidate_id;
    message->has_parent_id = true;
    message->parent_id = item->parent_id;
    message->tokens = item->tokens;
    message->n_tokens = item->n_tokens;
    message->has_grow_tokens = true;
    message->grow_tokens = item->grow_tokens;
    if (item->unread_by > 0) {
        message->has_unread_by = true;
        message->unread_by = item->unread_by;
    }
    if (item->token_rank > 0) {
        message->has_token_rank = true;
        message->token_rank = item->token_rank;
    }
    if (item->entropy_stop > 0) {
        message->has_entropy_stop = true;
        message->entropy_stop = item->entropy_stop;
        message->has_entropy_after = true;
        message->entropy_after = item->entropy_after;
    }
    if (item->prefix_index > 0) {
        message->has_prefix_index = true;
        message->prefix_index = item->prefix_index;
    }
    if (item->temperature > 0) {
        message->has_temperature = true;
        message->temperature = item->temperature;
    }
    if (item->penalties != NULL) {
        message->has_penalty_index = true;
        message->penalty_index = penalty_number(parts, item->penalties);
    }
    parts->item_list[index] = message;
}

// One message per run of releases of the same job.
static void fill_releases(struct order_parts *parts, const struct scheduler_release *releases,
                          size_t n) {
    Surefoot__ReleaseCandidates *message = NULL;
    for (size_t i = 0; i < n; i++) {
        if (message == NULL || message->job_id != releases[i].job_id) {
            message = &parts->releases[parts->n_releases];
            surefoot__release_candidates__init(message);
            message->has_job_id = true;
            message->job_id = releases[i].job_id;
            message->candidate_ids = parts->released_ids + i;
            parts->release_list[parts->n_releases++] = message;
        }
        if (releases[i].candidate_id == 0) {
            message->has_whole_job = true;
            message->whole_job = true;
        } else {
            message->candidate_ids[message->n_candidate_ids++] = releases[i].candidate_id;
        }
    }
}

enum status order_pack(struct scheduler *scheduler, const struct scheduler_order *order,
                       const struct job_table *jobs, uint8_t **bytes, size_t *size) {
    size_t n_released = 0;
    const struct scheduler_release *releases =
        scheduler_take_releases(scheduler, order->group, &n_released);
    struct order_parts parts;
    enum status status = STATUS_NO_MEMORY;
    if (!parts_allocate(&parts, order->n_items, n_released)) {
        goto out;
    }
    fill_releases(&parts, releases, n_released);
    for (size_t i = 0; i < order->n_items; i++) {
        struct scheduler_item *item = order->items[i];
        fill_item(&parts, i, item);
        const struct job *job = job_table_find_id(jobs, item->job_id);
        if (job != NULL && scheduler_tell_job(scheduler, order->group, item->job_id)) {
            fill_job(job, &parts.jobs[parts.n_jobs]);
            parts.job_list[parts.n_jobs] = &parts.jobs[parts.n_jobs].message;
            parts.n_jobs++;
        }
    }
    Surefoot__Order message = SUREFOOT__ORDER__INIT;
    message.has_order_id = true;
    message.order_id = order->order_id;
    message.jobs = parts.job_list;
    message.n_jobs = parts.n_jobs;
    message.items = parts.item_list;
    message.n_items = order->n_items;
    message.penalties = parts.penalty_list;
    message.n_penalties = parts.n_penalties;
    message.releases = parts.release_list;
    message.n_releases = parts.n_releases;
    Surefoot__GroupCommand command = SUREFOOT__GROUP_COMMAND__INIT;
    command.has_schema_major = true;
    command.schema_major = WIRE_SCHEMA_MAJOR;
    command.has_schema_minor = true;
    command.schema_minor = WIRE_SCHEMA_MINOR;
    command.order = &message;
    status = wire_pack(WIRE_GROUP_COMMAND, &command, bytes, size);
out:
    parts_free(&parts);
    return status;
}
