#include "coordinator/job_channels.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/spec_check.h"
#include "proto/job_fields.h"

static bool is_named(const char *name, const char *expected) {
    return name != NULL && strcmp(name, expected) == 0;
}

// The channel of a cost scorer: the one that it names, else by its kind.
static const char *channel_name(const char *named, const Surefoot__LexicalSpec *lexical) {
    return named != NULL ? named : lexical != NULL ? JOB_CHANNEL_RULES : JOB_CHANNEL_COST;
}

static size_t find_declared(const Surefoot__JobSpec *spec, const char *name) {
    size_t i = 0;
    while (i < spec->n_channels && strcmp(spec->channels[i]->name, name) != 0) {
        i++;
    }
    return i;
}

static enum status check_channel(const Surefoot__JobSpec *spec, size_t index, struct error *err) {
    const Surefoot__ChannelSpec *channel = spec->channels[index];
    char message[ERROR_FIELD_BYTES - 8];
    char field[ERROR_FIELD_BYTES];
    snprintf(message, sizeof message, "spec.channels[%zu]", index);
    snprintf(field, sizeof field, "%s.name", message);
    enum status status = check_text(channel->name, LIMIT_NAME_BYTES, field, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (is_named(channel->name, JOB_CHANNEL_COST) || is_named(channel->name, JOB_CHANNEL_RULES)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "every job has a channel %s of its own; take another name", channel->name);
    }
    if (find_declared(spec, channel->name) < index) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "a second channel named %s",
                         channel->name);
    }
    Surefoot__JobSpec fields;
    job_channel_fields(channel, &fields);
    for (enum job_field_index i = 0; status == STATUS_OK && i < JOB_FIELDS_COUNT; i++) {
        status = job_field_get(i)->of_channel ? check_job_field(i, &fields, message, err) : status;
    }
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (is_named(spec->scorers[i]->channel, channel->name)) {
            return status;
        }
    }
    return status != STATUS_OK
               ? status
               : error_set(err, STATUS_INVALID_ARGUMENT, message,
                           "no scorer is in channel %s; name it as the channel of one",
                           channel->name);
}

static enum status check_named(const Surefoot__JobSpec *spec, size_t index, struct error *err) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "spec.scorers[%zu].channel", index);
    return spec->scorers[index]->channel != NULL
               ? check_text(spec->scorers[index]->channel, LIMIT_NAME_BYTES, field, err)
               : STATUS_OK;
}

static enum status check_scorer(const Surefoot__JobSpec *spec, size_t index, struct error *err) {
    const Surefoot__ScorerSpec *scorer = spec->scorers[index];
    const char *name = scorer->channel;
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "spec.scorers[%zu].channel", index);
    if (name == NULL) {
        return STATUS_OK;
    }
    if (is_named(scorer->role, "reward")) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "%s is a scorer of role reward; channels are of costs", scorer->name);
    }
    if (is_named(name, JOB_CHANNEL_RULES) && scorer->lexical == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "channel %s is of rules of words alone; declare a channel for %s", name,
                         scorer->name);
    }
    if (!is_named(name, JOB_CHANNEL_RULES) && !is_named(name, JOB_CHANNEL_COST) &&
        find_declared(spec, name) == spec->n_channels) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "unknown channel \"%.64s\"; %s, %s or one of spec.channels", name,
                         JOB_CHANNEL_COST, JOB_CHANNEL_RULES);
    }
    return STATUS_OK;
}

enum status job_channels_check(const Surefoot__JobSpec *spec, struct error *err) {
    enum status status = check_list(spec->n_channels, LIMIT_CHANNELS, "spec.channels", err);
    for (size_t i = 0; status == STATUS_OK && i < spec->n_scorers; i++) {
        status = check_named(spec, i, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < spec->n_channels; i++) {
        status = check_channel(spec, i, err);
    }
    for (size_t i = 0; status == STATUS_OK && i < spec->n_scorers; i++) {
        status = check_scorer(spec, i, err);
    }
    return status;
}

enum status job_channels_check_unread(const Surefoot__JobSpec *spec, struct error *err) {
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const Surefoot__ScorerSpec *scorer = spec->scorers[i];
        if (scorer->lexical != NULL && is_named(scorer->role, "cost") && scorer->has_weight &&
            scorer->weight == 0 &&
            is_named(channel_name(scorer->channel, scorer->lexical), JOB_CHANNEL_RULES)) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.scorers[%zu].weight", i);
            return error_set(err, STATUS_INVALID_ARGUMENT, field,
                             "0: its rules would rule nothing; leave the scorer out, or name a "
                             "channel with a budget");
        }
    }
    return STATUS_OK;
}

// One channel while it is resolved.
struct channel {
    struct job_spec *spec;
    const struct model_set *models;
    uint32_t index;
    const Surefoot__JobSpec *fields;         // its own, as a job's
    const char *message;                     // where they stand
    const struct model_description *profile; // of its first cost model, or NULL
    struct search_channel *out;
};

static bool is_model_of(const struct channel *channel, size_t scorer) {
    const struct search_scorer *given = &channel->spec->search.scorers[scorer];
    return given->is_cost && given->channel == channel->index &&
           channel->spec->scorers[scorer].lexical == NULL;
}

static size_t count_models(const struct channel *channel) {
    size_t count = 0;
    for (size_t i = 0; i < channel->spec->n_scorers; i++) {
        count += is_model_of(channel, i) ? 1 : 0;
    }
    return count;
}

MUST_CHECK static enum status refuse(const struct channel *channel, enum job_field_index index,
                                     struct error *err, const char *text) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "%s.%s", channel->message, job_field_get(index)->name);
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s", text);
}

// The one profile that speaks for the channel: of its first model. Others must not contradict it in
// what the job leaves to the profile.
static enum status find_profile(struct channel *channel, struct error *err) {
    const Surefoot__JobSpec *fields = channel->fields;
    char text[ERROR_MESSAGE_BYTES];
    for (size_t i = 0; i < channel->spec->n_scorers; i++) {
        if (!is_model_of(channel, i)) {
            continue;
        }
        const struct model_description *model =
            model_set_find(channel->models, channel->spec->scorers[i].name);
        const struct model_description *found = channel->profile;
        if (found == NULL) {
            channel->profile = model;
            continue;
        }
        snprintf(text, sizeof text, "is missing and %s and %s disagree on it", found->name,
                 model->name);
        if (fields->cost_mode == NULL && strcmp(found->cost_mode, model->cost_mode) != 0) {
            return refuse(channel, JOB_FIELD_COST_MODE, err, text);
        }
        if (!fields->has_budget && found->budget != model->budget) {
            return refuse(channel, JOB_FIELD_BUDGET, err, text);
        }
    }
    return STATUS_OK;
}

static enum status resolve_cost_mode(const struct channel *channel, struct error *err) {
    const char *name = channel->fields->cost_mode;
    const struct model_description *profile = channel->profile;
    char text[ERROR_MESSAGE_BYTES];
    if (name == NULL && profile != NULL && profile->cost_mode[0] != '\0') {
        name = profile->cost_mode;
    }
    if (name == NULL) {
        char choices[JOB_FIELD_TEXT_BYTES];
        job_choices_text(JOB_FIELD_COST_MODE, choices);
        snprintf(text, sizeof text, "is missing and the cost model's profile names none; one of %s",
                 choices);
        return refuse(channel, JOB_FIELD_COST_MODE, err, text);
    }
    int mode = job_choice_parse(JOB_FIELD_COST_MODE, name);
    if (mode == 0) {
        snprintf(text, sizeof text, "the profile of %s names the unknown mode \"%.32s\"",
                 profile != NULL ? profile->name : "", name);
        return refuse(channel, JOB_FIELD_COST_MODE, err, text);
    }
    channel->out->cost_mode = (enum cost_mode)mode;
    return STATUS_OK;
}

// The profile, if its numbers are meant for the channel's cost mode; NULL when they are for
// another.
static const struct model_description *of_same_mode(const struct channel *channel) {
    const struct model_description *profile = channel->profile;
    return profile != NULL && job_choice_parse(JOB_FIELD_COST_MODE, profile->cost_mode) ==
                                  (int)channel->out->cost_mode
               ? profile
               : NULL;
}

static enum status resolve_budget(const struct channel *channel, struct error *err) {
    const Surefoot__JobSpec *fields = channel->fields;
    const struct model_description *profile = of_same_mode(channel);
    char text[ERROR_MESSAGE_BYTES];
    if (!fields->has_budget && (profile == NULL || !profile->has_budget)) {
        snprintf(text, sizeof text,
                 "is missing and the cost model's profile names none for cost_mode %s",
                 job_choice_name(JOB_FIELD_COST_MODE, (int)channel->out->cost_mode));
        return refuse(channel, JOB_FIELD_BUDGET, err, text);
    }
    double budget = fields->has_budget ? fields->budget : profile->budget;
    if (channel->out->cost_mode == COST_MODE_TOKEN_SUM_POS && budget < 0) {
        snprintf(text, sizeof text,
                 "%g is negative: no text can meet it under cost_mode token_sum_pos", budget);
        return refuse(channel, JOB_FIELD_BUDGET, err, text);
    }
    channel->out->budget = budget;
    return STATUS_OK;
}

// The smallest single cost, for sound pruning. A profile speaks for its model and its mode alone,
// so that a sum over several models has none unless the job names it. Broken rules of words cost no
// less than nothing.
static void resolve_cost_min(const struct channel *channel) {
    const Surefoot__JobSpec *fields = channel->fields;
    struct search_channel *out = channel->out;
    const struct model_description *profile = of_same_mode(channel);
    if (out->cost_mode == COST_MODE_TOKEN_SUM_POS) {
        out->has_cost_min = true;
    } else if (fields->has_cost_min) {
        out->has_cost_min = true;
        out->cost_min = fields->cost_min;
    } else if (out->cost_mode != COST_MODE_END_SIGN && profile != NULL && profile->has_cost_min &&
               count_models(channel) == 1) {
        out->has_cost_min = true;
        for (size_t i = 0; i < channel->spec->n_scorers; i++) {
            if (is_model_of(channel, i)) {
                out->cost_min = channel->spec->scorers[i].weight * profile->cost_min;
            }
        }
    }
}

static enum status resolve_channel(struct channel *channel, struct error *err) {
    const Surefoot__JobSpec *fields = channel->fields;
    struct search_channel *out = channel->out;
    enum status status = find_profile(channel, err);
    if (status == STATUS_OK) {
        status = resolve_cost_mode(channel, err);
    }
    if (status == STATUS_OK) {
        status = resolve_budget(channel, err);
    }
    if (status == STATUS_OK && fields->has_cost_min && out->cost_mode == COST_MODE_END_SIGN) {
        status = refuse(channel, JOB_FIELD_COST_MIN, err,
                        "has no meaning under cost_mode end_sign: its costs are not summed");
    }
    if (status == STATUS_OK && fields->has_cost_min && fields->cost_min != 0 &&
        out->cost_mode == COST_MODE_TOKEN_SUM_POS) {
        status = refuse(channel, JOB_FIELD_COST_MIN, err, "is 0 under cost_mode token_sum_pos");
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct model_description *profile = channel->profile;
    out->discount = !fields->has_discount && profile != NULL && profile->has_discount
                        ? profile->discount
                        : job_field_number(JOB_FIELD_DISCOUNT, fields);
    out->discount_unit = (enum discount_unit)job_field_number(JOB_FIELD_DISCOUNT_UNIT, fields);
    out->admit_rule = (enum admit_rule)job_field_number(JOB_FIELD_ADMIT_RULE, fields);
    resolve_cost_min(channel);
    return STATUS_OK;
}

// What breaks a rule is within no budget: violations are counted, and none is allowed.
static const struct search_channel rules_channel = {
    .cost_mode = COST_MODE_TOKEN_SUM_POS,
    .discount = 1,
    .discount_unit = DISCOUNT_UNIT_TOKEN,
    .admit_rule = ADMIT_RULE_TERMINAL,
    .has_cost_min = true,
};

static uint32_t add_channel(struct job_spec *spec, const char *name) {
    uint32_t i = 0;
    while (i < spec->n_channels && strcmp(spec->channels[i], name) != 0) {
        i++;
    }
    if (i == spec->n_channels) {
        ASSERT(i < sizeof spec->channels / sizeof spec->channels[0]);
        spec->channels[spec->n_channels++] = name;
    }
    return i;
}

static bool has_scorer_in(const struct job_spec *spec, const char *name) {
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const struct job_scorer *scorer = &spec->scorers[i];
        if (scorer->role == SCORER_ROLE_COST &&
            is_named(channel_name(scorer->channel, scorer->lexical), name)) {
            return true;
        }
    }
    return false;
}

// A budget over costs of weight 0 could not be exceeded.
static enum status check_weights(const struct job_spec *spec, struct error *err) {
    double weights[LIMIT_CHANNELS] = {0};
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const struct search_scorer *scorer = &spec->search.scorers[i];
        if (scorer->is_cost) {
            weights[scorer->channel] += scorer->weight;
        }
    }
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        if (!(weights[i] > 0)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "spec.scorers",
                             "all those of channel %s have weight 0: its budget has no effect",
                             spec->channels[i]);
        }
    }
    return STATUS_OK;
}

// Lists the channels, cost and rules if something is in them, and gives scorers theirs.
static enum status place_scorers(struct job_spec *spec, struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    spec->n_channels = 0;
    if (has_scorer_in(spec, JOB_CHANNEL_COST)) {
        add_channel(spec, JOB_CHANNEL_COST);
    }
    for (size_t i = 0; i < message->n_channels; i++) {
        if (!has_scorer_in(spec, message->channels[i]->name)) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.channels[%zu]", i);
            return error_set(err, STATUS_INVALID_ARGUMENT, field, "no cost scorer is in channel %s",
                             message->channels[i]->name);
        }
        add_channel(spec, message->channels[i]->name);
    }
    for (size_t i = 0; i < spec->n_scorers; i++) {
        const struct job_scorer *scorer = &spec->scorers[i];
        bool is_cost = scorer->role == SCORER_ROLE_COST;
        if (!is_cost && scorer->channel != NULL) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.scorers[%zu].channel", i);
            return error_set(err, STATUS_INVALID_ARGUMENT, field,
                             "%s is a scorer of role reward; channels are of costs", scorer->name);
        }
        spec->search.scorers[i] = (struct search_scorer){
            .is_cost = is_cost,
            .channel =
                is_cost ? add_channel(spec, channel_name(scorer->channel, scorer->lexical)) : 0,
            .weight = scorer->weight,
        };
    }
    spec->search.n_scorers = (uint32_t)spec->n_scorers;
    if (spec->n_channels > LIMIT_CHANNELS) {
        return error_set(err, STATUS_LIMIT, "spec.channels",
                         "%u with those of the job's fields and of rules, the limit is %d",
                         spec->n_channels, LIMIT_CHANNELS);
    }
    spec->search.n_channels = spec->n_channels;
    return check_weights(spec, err);
}

// A default that is written out says what an absent field does.
static bool is_written_default(enum job_field_index index, const Surefoot__JobSpec *spec) {
    const struct job_field *field = job_field_get(index);
    return index == JOB_FIELD_ADMIT_RULE && job_field_number(index, spec) == field->fallback;
}

// What the job says of channel cost, and no scorer reads.
static enum status check_cost_is_read(const struct job_spec *spec, struct error *err) {
    static const enum job_field_index fields[] = {JOB_FIELD_BUDGET, JOB_FIELD_COST_MODE,
                                                  JOB_FIELD_ADMIT_RULE, JOB_FIELD_COST_MIN};
    bool is_read = spec->n_channels > 0 && is_named(spec->channels[0], JOB_CHANNEL_COST);
    for (size_t i = 0; !is_read && i < sizeof fields / sizeof fields[0]; i++) {
        const Surefoot__JobSpec *message = spec->submit->spec;
        if (job_field_is_set(fields[i], message) && !is_written_default(fields[i], message)) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.%s", job_field_get(fields[i])->name);
            return spec->n_channels == 0
                       ? error_set(err, STATUS_INVALID_ARGUMENT, field,
                                   "has no effect: the job has no scorer of role cost")
                       : error_set(err, STATUS_INVALID_ARGUMENT, field,
                                   "has no effect: no scorer is in channel %s, and rules of words "
                                   "have budget 0 in %s; name the channel of a scorer, or leave "
                                   "the field out",
                                   JOB_CHANNEL_COST, JOB_CHANNEL_RULES);
        }
    }
    return STATUS_OK;
}

static enum status resolve_named(struct job_spec *spec, const struct model_set *models,
                                 uint32_t index, struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    const char *name = spec->channels[index];
    Surefoot__JobSpec fields;
    char path[ERROR_FIELD_BYTES] = "spec";
    struct channel channel = {.spec = spec,
                              .models = models,
                              .index = index,
                              .fields = message,
                              .message = path,
                              .out = &spec->search.channels[index]};
    *channel.out = (struct search_channel){.name = name};
    if (is_named(name, JOB_CHANNEL_RULES)) {
        *channel.out = rules_channel;
        channel.out->name = name;
        return STATUS_OK;
    }
    if (!is_named(name, JOB_CHANNEL_COST)) {
        size_t declared = find_declared(message, name);
        job_channel_fields(message->channels[declared], &fields);
        channel.fields = &fields;
        snprintf(path, sizeof path, "spec.channels[%zu]", declared);
    }
    return resolve_channel(&channel, err);
}

static const struct model_description *first_cost_model(const struct job_spec *spec,
                                                        const struct model_set *models) {
    for (size_t i = 0; i < spec->n_scorers; i++) {
        if (spec->scorers[i].role == SCORER_ROLE_COST && spec->scorers[i].lexical == NULL) {
            return model_set_find(models, spec->scorers[i].name);
        }
    }
    return NULL;
}

enum status job_channels_resolve(struct job_spec *spec, const struct model_set *models,
                                 struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    struct search_spec *search = &spec->search;
    enum status status = place_scorers(spec, err);
    if (status == STATUS_OK) {
        status = check_cost_is_read(spec, err);
    }
    for (uint32_t i = 0; status == STATUS_OK && i < spec->n_channels; i++) {
        status = resolve_named(spec, models, i, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool has_cost = spec->n_channels > 0 && is_named(spec->channels[0], JOB_CHANNEL_COST);
    search->discount =
        has_cost ? search->channels[0].discount : job_field_number(JOB_FIELD_DISCOUNT, message);
    const struct model_description *profile = first_cost_model(spec, models);
    spec->cost_eos_append = message->cost_eos == NULL && profile != NULL
                                ? strcmp(profile->cost_eos, "append") == 0
                                : job_field_number(JOB_FIELD_COST_EOS, message) == COST_EOS_APPEND;
    return STATUS_OK;
}
