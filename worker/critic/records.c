#include "worker/critic/records.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base64.h"
#include "common/json_numbers.h"
#include "proto/job_fields.h"
#include "worker/critic/net.h"
#include "worker/critic/targets.h"
#include "worker/model/json_fields.h"

enum { FIRST_SAMPLES = 1024, ID_BYTES = 512 };

// One record while it is taken.
struct record {
    const json_t *json;
    const json_t *scores[CRITIC_CHANNELS_MAX]; // of each channel's scorer, array
    double end_scores[CRITIC_CHANNELS_MAX];
    double costs[CRITIC_CHANNELS_MAX];
    const json_t *rewards; // where states stand, array
    double worth;          // of a value: R - lambda C
    int32_t n_places;      // scores of each
    int32_t n_usable;      // states before the place where the reading parts from what was written
};

static const char *text_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static enum status copy_text(const char *text, const char *field, char *out, size_t capacity,
                             struct error *err) {
    if (text == NULL || strlen(text) >= capacity) {
        return error_set(err, STATUS_MALFORMED, field, "is missing, or above %zu bytes",
                         capacity - 1);
    }
    memcpy(out, text, strlen(text) + 1);
    return STATUS_OK;
}

// The job's word, else the cost model's, else `fallback`.
static const char *word(const json_t *job, const json_t *model, const char *key,
                        const char *fallback) {
    const char *found = text_of(job, key) != NULL ? text_of(job, key) : text_of(model, key);
    return found != NULL ? found : fallback;
}

static enum status choose(enum job_field_index index, const char *name, int *out,
                          struct error *err) {
    *out = name != NULL ? job_choice_parse(index, name) : 0;
    return *out != 0 ? STATUS_OK
                     : error_set(err, STATUS_MALFORMED, job_field_get(index)->name,
                                 "\"%.40s\" is unknown", name != NULL ? name : "");
}

// The name of what an absent choice is.
static const char *fallback_of(enum job_field_index index) {
    return job_choice_name(index, (int)job_field_get(index)->fallback);
}

// `fields` of the channel: the job's own, or those of a channel that it declares.
static enum status read_channel(const json_t *job, const json_t *fields, const json_t *model,
                                bool is_value, struct critic_channel *channel, struct error *err) {
    int mode = 0, eos = 0, rule = 0, unit = 0;
    enum status status =
        choose(JOB_FIELD_COST_MODE, word(fields, model, "cost_mode", NULL), &mode, err);
    if (status == STATUS_OK) {
        status = choose(JOB_FIELD_COST_EOS, word(job, model, "cost_eos", "none"), &eos, err);
    }
    if (status == STATUS_OK) {
        status =
            choose(JOB_FIELD_ADMIT_RULE,
                   word(fields, NULL, "admit_rule", fallback_of(JOB_FIELD_ADMIT_RULE)), &rule, err);
    }
    if (status == STATUS_OK) {
        status = choose(JOB_FIELD_DISCOUNT_UNIT,
                        word(fields, NULL, "discount_unit", fallback_of(JOB_FIELD_DISCOUNT_UNIT)),
                        &unit, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    channel->cost_mode = (enum cost_mode)mode;
    channel->cost_eos = (enum cost_eos)eos;
    channel->admit_rule = (enum admit_rule)rule;
    channel->discount_unit = (enum discount_unit)unit;
    channel->discount = job_field_get(JOB_FIELD_DISCOUNT)->fallback;
    status = json_number_get(model, "discount", false, 0, 1, &channel->discount, err);
    if (status == STATUS_OK) {
        status = json_number_get(fields, "discount", false, 0, 1, &channel->discount, err);
    }
    int32_t block = 0;
    if (status == STATUS_OK) {
        status = json_int_get(job, "block_tokens", true, 1, LIMIT_BLOCK_TOKENS, &block, err);
    }
    channel->block_tokens = critic_channel_needs_blocks(channel) ? block : 0;
    bool of_blocks = !is_value && mode != COST_MODE_TOKEN_SUM && mode != COST_MODE_TOKEN_SUM_POS;
    if (status == STATUS_OK && of_blocks && eos == COST_EOS_APPEND) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "cost_eos",
                         "append under cost_mode %s: the scores on an appended end token are in no "
                         "record",
                         job_choice_name(JOB_FIELD_COST_MODE, mode));
    }
    return status;
}

// What the job says of a scorer; NULL where it names none.
static const json_t *find_named(const json_t *job, const char *name) {
    const json_t *list = json_object_get(job, "scorers");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *scorer = json_array_get(list, i);
        if (text_of(scorer, "name") != NULL && strcmp(text_of(scorer, "name"), name) == 0) {
            return scorer;
        }
    }
    return NULL;
}

// The costs of the roll-outs: those of the job's own fields, where a scorer counts among them, and
// of the channels that it declares, in that order.
struct channel_list {
    const json_t *fields[CRITIC_CHANNELS_MAX];
    const char *names[CRITIC_CHANNELS_MAX];
    bool taken[CRITIC_CHANNELS_MAX];
    int32_t n;
};

static bool is_cost(const json_t *scorer) {
    const char *role = text_of(scorer, "role");
    return role != NULL && strcmp(role, "cost") == 0;
}

// The channel that the job gives a scorer.
static const char *channel_name(const json_t *job, const json_t *scorer) {
    const char *name = text_of(scorer, "name");
    const char *channel = text_of(name != NULL ? find_named(job, name) : NULL, "channel");
    return channel != NULL ? channel : JOB_CHANNEL_COST;
}

static enum status list_channels(const json_t *job, const json_t *scorers, struct channel_list *out,
                                 struct error *err) {
    const json_t *declared = json_object_get(job, "channels");
    *out = (struct channel_list){.n = 0};
    for (size_t i = 0; i < json_array_size(scorers) && out->n == 0; i++) {
        const json_t *scorer = json_array_get(scorers, i);
        if (is_cost(scorer) && strcmp(channel_name(job, scorer), JOB_CHANNEL_COST) == 0) {
            out->fields[0] = job;
            out->names[out->n++] = JOB_CHANNEL_COST;
        }
    }
    if ((size_t)out->n + json_array_size(declared) > CRITIC_CHANNELS_MAX) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "channels",
                         "more than %d: a critic learns no more", CRITIC_CHANNELS_MAX);
    }
    for (size_t i = 0; i < json_array_size(declared); i++) {
        const json_t *channel = json_array_get(declared, i);
        const char *name = text_of(channel, "name");
        out->fields[out->n] = channel;
        out->names[out->n++] = name != NULL ? name : "";
    }
    return out->n > 0
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "scorers", "there is no cost scorer");
}

static enum status read_scorer(const json_t *job, const json_t *model, const char *name,
                               struct critic_scorer *out, struct error *err) {
    enum status status = copy_text(name, "scorers.name", out->name, sizeof out->name, err);
    if (status == STATUS_OK) {
        status = copy_text(text_of(model, "hash"), "models.hash", out->hash, sizeof out->hash, err);
    }
    out->weight = 1;
    return status == STATUS_OK
               ? json_number_get(find_named(job, name), "weight", false, 0, 1e6, &out->weight, err)
               : status;
}

static enum status take_cost(struct critic_terms *terms, struct channel_list *list,
                             const json_t *job, const json_t *model, const json_t *scorer,
                             struct error *err) {
    const char *name = text_of(scorer, "name"), *wanted = channel_name(job, scorer);
    int32_t at = 0;
    while (at < list->n && strcmp(list->names[at], wanted) != 0) {
        at++;
    }
    if (at == list->n || list->taken[at]) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                         at == list->n ? "%.64s is of channel %.64s, which the job does not declare"
                                       : "%.64s is a second scorer of channel %.64s: a critic "
                                         "learns what one says",
                         name, wanted);
    }
    list->taken[at] = true;
    struct critic_channel *channel = &terms->channels[at];
    enum status status = read_scorer(job, model, name, &channel->scorer, err);
    if (status == STATUS_OK && !(channel->scorer.weight > 0)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "scorers", "%s has weight 0", name);
    }
    return status == STATUS_OK ? read_channel(job, list->fields[at], model,
                                              critic_terms_are_value(terms), channel, err)
                               : status;
}

// A value of rewards alone passes costs over.
static bool needs_costs(const struct critic_terms *terms) {
    return !critic_terms_are_value(terms) || terms->lambda > 0;
}

static enum status take_scorer(struct critic_terms *terms, struct channel_list *list,
                               const json_t *job, const json_t *models, const json_t *scorer,
                               struct error *err) {
    const char *name = text_of(scorer, "name");
    const json_t *model = json_object_get(models, name != NULL ? name : "");
    if (model == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                         "%.64s is no model of the service: a critic learns what models say",
                         name != NULL ? name : "one without a name");
    }
    if (is_cost(scorer) && !needs_costs(terms)) {
        return STATUS_OK;
    }
    if (is_cost(scorer)) {
        return take_cost(terms, list, job, model, scorer, err);
    }
    if (terms->n_rewards == CRITIC_REWARDS_MAX) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                         "more than %d of reward: a critic learns no more", CRITIC_REWARDS_MAX);
    }
    return read_scorer(job, model, name, &terms->rewards[terms->n_rewards++], err);
}

static const json_t *find_policy(const json_t *models) {
    const char *name;
    json_t *model;
    json_object_foreach((json_t *)(uintptr_t)models, name, model) {
        if (text_of(model, "role") != NULL && strcmp(text_of(model, "role"), "policy") == 0) {
            return model;
        }
    }
    return NULL;
}

static enum status check_value(const struct critic_terms *terms, struct error *err) {
    if (critic_terms_are_value(terms) && terms->n_rewards == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorers", "there is no reward scorer");
    }
    return critic_terms_are_value(terms) && terms->n_channels > 1
               ? error_set(err, STATUS_INVALID_ARGUMENT, "channels",
                           "%d: a value learns the cost of one", terms->n_channels)
               : STATUS_OK;
}

static enum status read_terms(const json_t *record, const json_t *settings,
                              const struct critic_wanted *wanted, struct critic_records *out,
                              struct error *err) {
    struct critic_terms *terms = &out->terms;
    const json_t *job = json_object_get(settings, "job");
    const json_t *models = json_object_get(settings, "models");
    const json_t *policy = find_policy(models);
    if (json_object_get(job, "lexical") != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical",
                         "a critic learns what models say; leave it out of the roll-outs");
    }
    terms->form = wanted->form;
    terms->lambda = wanted->lambda;
    terms->n_parts = critic_terms_are_value(terms) ? 1 : wanted->n_parts;
    const char *template = text_of(policy, "chat_template");
    template = text_of(job, "chat_template") != NULL ? text_of(job, "chat_template") : template;
    enum status status = copy_text(text_of(policy, "hash"), "models.policy.hash",
                                   terms->policy_hash, sizeof terms->policy_hash, err);
    if (status == STATUS_OK) {
        status = copy_text(template != NULL ? template : "", "chat_template", terms->chat_template,
                           sizeof terms->chat_template, err);
    }
    if (status == STATUS_OK) {
        status =
            json_int_get(policy, "hidden_dim", true, 1, CRITIC_HIDDEN_MAX, &terms->hidden_dim, err);
    }
    const json_t *scorers = json_object_get(record, "scorers");
    struct channel_list list = {.n = 0};
    if (status == STATUS_OK && needs_costs(terms)) {
        status = list_channels(job, scorers, &list, err);
    }
    terms->n_channels = list.n;
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(scorers); i++) {
        status = take_scorer(terms, &list, job, models, json_array_get(scorers, i), err);
    }
    for (int32_t i = 0; status == STATUS_OK && i < list.n; i++) {
        if (!list.taken[i]) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "channels", "%.64s has no scorer",
                             list.names[i]);
        }
        const json_t *model = json_object_get(models, terms->channels[i].scorer.name);
        const json_t *budget = json_object_get(list.fields[i], "budget");
        budget = budget != NULL ? budget : json_object_get(model, "budget");
        out->budgets[i] = json_is_number(budget) ? json_number_value(budget) : NAN;
    }
    return status == STATUS_OK ? check_value(terms, err) : status;
}

// What all records must have in common: their settings, but for the seeds of roll-outs.
static json_t *comparable(const json_t *settings) {
    json_t *copy = json_deep_copy(settings);
    json_object_del(json_object_get(copy, "job"), "seed");
    return copy;
}

static enum status check_settings(const json_t *json, const struct critic_wanted *wanted,
                                  struct critic_records *out, struct error *err) {
    const json_t *found = json_object_get(json, "settings");
    json_t *settings = json_is_object(found) ? comparable(found) : NULL;
    if (settings == NULL) {
        return error_set(err, STATUS_MALFORMED, "settings", "is missing");
    }
    if (out->settings == NULL) {
        out->settings = settings;
        return read_terms(json, settings, wanted, out, err);
    }
    bool same = json_equal(out->settings, settings);
    json_decref(settings);
    return same ? STATUS_OK
                : error_set(err, STATUS_INVALID_ARGUMENT, "settings",
                            "are others than in the first record");
}

static const json_t *find_scorer(const json_t *json, const char *name) {
    const json_t *scorers = json_object_get(json, "scorers");
    for (size_t i = 0; i < json_array_size(scorers); i++) {
        const json_t *scorer = json_array_get(scorers, i);
        if (text_of(scorer, "name") != NULL && strcmp(text_of(scorer, "name"), name) == 0) {
            return scorer;
        }
    }
    return NULL;
}

// What the text cost in the critic's channel `index`.
static enum status read_cost(const json_t *json, int32_t index, double *out, struct error *err) {
    const json_t *channels = json_object_get(json, "channels");
    const json_t *from = channels != NULL ? json_array_get(channels, (size_t)index) : json;
    if (channels == NULL && index > 0) {
        return error_set(err, STATUS_MALFORMED, "channels", "are missing");
    }
    return json_number_get(from, "cost", true, -1e30, 1e30, out, err);
}

static enum status read_verdicts(const struct critic_records *records, const json_t *json,
                                 struct record *out, struct error *err) {
    for (int32_t i = 0; i < records->terms.n_channels; i++) {
        const json_t *scorer = find_scorer(json, records->terms.channels[i].scorer.name);
        out->scores[i] = json_object_get(scorer, "token_scores");
        int32_t n_places = (int32_t)json_array_size(out->scores[i]);
        if (n_places < 1 || n_places > LIMIT_CONTEXT_TOKENS ||
            (i > 0 && n_places != out->n_places)) {
            return error_set(err, STATUS_MALFORMED, "token_scores",
                             "are missing, or as many as no other scorer's");
        }
        out->n_places = n_places;
        enum status status =
            json_number_get(scorer, "end_score", true, -1e30, 1e30, &out->end_scores[i], err);
        if (status == STATUS_OK) {
            status = read_cost(json, i, &out->costs[i], err);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_rewards(const json_t *json, struct record *out, struct error *err) {
    size_t n_states = json_array_size(json_object_get(json, "state_tokens"));
    out->rewards = json_object_get(json, "state_rewards");
    if (json_array_size(out->rewards) != n_states) {
        return error_set(err, STATUS_MALFORMED, "state_rewards", "%zu for %zu states",
                         json_array_size(out->rewards), n_states);
    }
    for (size_t i = 0; i < n_states; i++) {
        if (!json_is_number(json_array_get(out->rewards, i))) {
            return error_set(err, STATUS_MALFORMED, "state_rewards", "entry %zu is no number", i);
        }
    }
    return STATUS_OK;
}

// What a value foretells of the text.
static enum status read_worth(const struct critic_records *records, const json_t *json,
                              struct record *out, struct error *err) {
    double cost = 0;
    enum status status = json_number_get(json, "reward", true, -1e30, 1e30, &out->worth, err);
    if (status == STATUS_OK && records->terms.lambda > 0) {
        status = json_number_get(json, "cost", true, -1e30, 1e30, &cost, err);
    }
    out->worth -= records->terms.lambda * cost;
    return status;
}

static enum status read_record(const struct critic_records *records, const json_t *json,
                               struct record *out, struct error *err) {
    int32_t n_tokens = 0, read_from = LIMIT_CONTEXT_TOKENS;
    bool is_value = critic_terms_are_value(&records->terms);
    *out = (struct record){.json = json};
    enum status status =
        is_value ? read_worth(records, json, out, err) : read_verdicts(records, json, out, err);
    if (status == STATUS_OK && records->terms.n_rewards > 0 && !is_value) {
        status = read_rewards(json, out, err);
    }
    if (status == STATUS_OK) {
        status = json_int_get(json, "n_tokens", true, 1, LIMIT_MAX_TOKENS, &n_tokens, err);
    }
    if (status == STATUS_OK) {
        status = json_int_get(json, "read_from", false, 0, LIMIT_CONTEXT_TOKENS, &read_from, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (is_value) {
        out->n_places = out->n_usable = n_tokens;
        return STATUS_OK;
    }
    // Places of another reading are not those of the states; blocks end elsewhere in it.
    out->n_usable = read_from < n_tokens ? read_from : n_tokens;
    for (int32_t i = 0; read_from < n_tokens && i < records->terms.n_channels; i++) {
        bool needs_blocks = critic_channel_needs_blocks(&records->terms.channels[i]);
        out->n_usable = needs_blocks ? 0 : out->n_usable;
    }
    return STATUS_OK;
}

static bool grow(struct critic_records *records, size_t n) {
    struct critic_samples *samples = &records->samples;
    if (n <= records->capacity) {
        return true;
    }
    size_t capacity = 2 * records->capacity > FIRST_SAMPLES ? 2 * records->capacity : FIRST_SAMPLES;
    capacity = capacity > n ? capacity : n;
    size_t channels = (size_t)critic_mixture_count(&records->terms);
    const struct {
        float **array;
        size_t each;
    } floats[] = {{&samples->costs, channels},
                  {&samples->spent, channels},
                  {&samples->weights, channels},
                  {&samples->rewards, 1},
                  {&samples->places, 1}};
    uint32_t **const numbers[] = {&samples->prompts, &samples->trajectories};
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        size_t bytes = (capacity * floats[i].each + 1) * sizeof(float);
        float *grown = realloc(*floats[i].array, bytes);
        if (grown == NULL) {
            return false;
        }
        *floats[i].array = grown;
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint32_t *grown = realloc(*numbers[i], capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        *numbers[i] = grown;
    }
    records->capacity = capacity;
    return true;
}

static enum status write_states(struct critic_records *records, const char *bytes, size_t size,
                                struct error *err) {
    while (size > 0) {
        ssize_t n = write(records->states_fd, bytes, size);
        if (n < 0 && errno != EINTR) {
            return error_set(err, status_from_errno(errno), NULL,
                             "cannot write states beside the records: %s", strerror(errno));
        }
        bytes += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return STATUS_OK;
}

// The bytes of the record's states, owned; n of them.
static enum status decode_states(const struct critic_records *records, const json_t *json, size_t n,
                                 char **out, struct error *err) {
    const char *text = text_of(json, "states");
    size_t want = n * 2 * (size_t)records->terms.hidden_dim, count = 0;
    char *bytes = malloc(want + 1);
    if (bytes == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "states", "no memory for %zu bytes", want);
    }
    if (text == NULL || !base64_decode(text, strlen(text), bytes, want, &count) || count != want) {
        free(bytes);
        return error_set(err, STATUS_MALFORMED, "states",
                         "are not %zu states of %d numbers in base64", n,
                         records->terms.hidden_dim);
    }
    *out = bytes;
    return STATUS_OK;
}

static enum status find_prompt(struct critic_records *records, const json_t *json, uint32_t *out,
                               struct error *err) {
    char *id = json_dumps(json_object_get(json, "id"), JSON_ENCODE_ANY | JSON_COMPACT);
    if (id == NULL) {
        return error_set(err, STATUS_MALFORMED, "id", "is missing");
    }
    const json_t *known = json_object_get(records->prompts, id);
    *out = known != NULL ? (uint32_t)json_integer_value(known) : records->samples.n_prompts;
    int failed = known != NULL ? 0
                               : json_object_set_new(records->prompts, id,
                                                     json_integer(records->samples.n_prompts++));
    free(id);
    return failed == 0 ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "id", "no memory for ids");
}

// What the record's costs in a channel come to at each place.
struct walk {
    double *costs, *discounts; // [n]
    double *terminal, *to_go;  // [n] R_t; R_t or M_t
    float *scores;             // [n]
};

static enum status walk_channel(const struct critic_channel *channel, const struct record *record,
                                int32_t index, double *memory, float *scores, struct walk *walk,
                                struct error *err) {
    size_t n = (size_t)record->n_places;
    *walk = (struct walk){memory, memory + n, memory + 2 * n, memory + 3 * n, scores};
    for (size_t i = 0; i < n; i++) {
        const json_t *score = json_array_get(record->scores[index], i);
        scores[i] = (float)json_number_value(score);
        if (!json_is_number(score) || !isfinite(scores[i])) {
            return error_set(err, STATUS_MALFORMED, "token_scores", "place %zu is no number", i);
        }
    }
    critic_costs(channel, scores, (float)record->end_scores[index], record->n_places, walk->costs,
                 walk->discounts);
    critic_cost_to_go(ADMIT_RULE_TERMINAL, walk->costs, walk->discounts, record->n_places,
                      walk->terminal);
    critic_cost_to_go(channel->admit_rule, walk->costs, walk->discounts, record->n_places,
                      walk->to_go);
    // Block modes: what the first block cost depends on a score of the prompt, which no record has.
    bool whole = channel->cost_mode == COST_MODE_TOKEN_SUM ||
                 channel->cost_mode == COST_MODE_TOKEN_SUM_POS ||
                 channel->cost_mode == COST_MODE_BLOCK_END;
    double cost = record->costs[index];
    if (whole && fabs(walk->terminal[0] - cost) > 1e-4 * fmax(1, fabs(cost))) {
        return error_set(err, STATUS_MALFORMED, "cost",
                         "is %g, the scores of its tokens come to %g", cost, walk->terminal[0]);
    }
    return STATUS_OK;
}

// A state after `t` of the record's tokens, and what the whole text is worth.
static void add_value_sample(struct critic_records *records, const struct record *record, int32_t t,
                             uint32_t prompt) {
    struct critic_samples *samples = &records->samples;
    size_t at = samples->n++;
    samples->rewards[at] = (float)record->worth;
    samples->places[at] = (float)t / (float)record->n_places;
    samples->prompts[at] = prompt;
    samples->trajectories[at] = records->n_trajectories;
}

// A state after `t` of the record's tokens; `state` counts those of it.
static void add_sample(struct critic_records *records, const struct record *record,
                       const struct walk *walks, int32_t t, size_t state, uint32_t prompt) {
    struct critic_samples *samples = &records->samples;
    int32_t channels = records->terms.n_channels;
    size_t at = samples->n++;
    for (int32_t i = 0; i < channels; i++) {
        const struct walk *walk = &walks[i];
        double weight = 1; // gamma^t
        for (int32_t k = 0; k < t; k++) {
            weight *= walk->discounts[k];
        }
        size_t place = at * (size_t)channels + (size_t)i;
        samples->costs[place] = (float)walk->to_go[t];
        samples->spent[place] = (float)(record->costs[i] - weight * walk->terminal[t]);
        samples->weights[place] = (float)weight;
    }
    samples->rewards[at] = (float)json_number_value(json_array_get(record->rewards, state));
    samples->places[at] = (float)t / (float)record->n_places;
    samples->prompts[at] = prompt;
    samples->trajectories[at] = records->n_trajectories;
}

// `walk` is NULL of a value.
static enum status add_samples(struct critic_records *records, const struct record *record,
                               const struct walk *walks, const char *states, struct error *err) {
    const json_t *tokens = json_object_get(record->json, "state_tokens");
    size_t bytes = 2 * (size_t)records->terms.hidden_dim, before = records->samples.n;
    uint32_t prompt = 0;
    enum status status = find_prompt(records, record->json, &prompt, err);
    json_int_t last = 0;
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(tokens); i++) {
        json_int_t t = json_integer_value(json_array_get(tokens, i));
        if (t <= last) {
            return error_set(err, STATUS_MALFORMED, "state_tokens", "do not ascend from 1 on");
        }
        last = t;
        if (t > record->n_usable || t >= record->n_places) {
            break;
        }
        if (!grow(records, records->samples.n + 1)) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu states",
                             records->samples.n + 1);
        }
        status = write_states(records, states + i * bytes, bytes, err);
        if (status == STATUS_OK && critic_terms_are_value(&records->terms)) {
            add_value_sample(records, record, (int32_t)t, prompt);
        } else if (status == STATUS_OK) {
            add_sample(records, record, walks, (int32_t)t, i, prompt);
        }
    }
    records->n_trajectories += records->samples.n > before ? 1 : 0;
    records->n_passed_over += records->samples.n > before ? 0 : 1;
    return status;
}

static enum status take_record(struct critic_records *records, const json_t *json,
                               const struct critic_wanted *wanted, struct error *err) {
    struct record record;
    struct walk walks[CRITIC_CHANNELS_MAX] = {{0}};
    char *states = NULL;
    size_t n_states = json_array_size(json_object_get(json, "state_tokens"));
    const char *outcome = text_of(json, "outcome");
    if (outcome == NULL) {
        return error_set(err, STATUS_MALFORMED, "outcome", "is missing");
    }
    const json_t *job = json_object_get(json_object_get(json, "settings"), "job");
    if (!json_is_true(json_object_get(job, "states"))) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "states",
                         "were not asked for: sweep with --method sample --states");
    }
    if (strcmp(outcome, "COMPLETED") != 0 || n_states == 0) {
        records->n_passed_over++;
        return STATUS_OK;
    }
    enum status status = check_settings(json, wanted, records, err);
    if (status == STATUS_OK) {
        status = read_record(records, json, &record, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t n = (size_t)record.n_places;
    size_t n_channels = (size_t)critic_mixture_count(&records->terms);
    double *memory = calloc(4 * n * n_channels + 1, sizeof *memory);
    float *scores = calloc(n * n_channels + 1, sizeof *scores);
    if (memory == NULL || scores == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a record");
    }
    for (size_t i = 0; status == STATUS_OK && i < n_channels; i++) {
        status = walk_channel(&records->terms.channels[i], &record, (int32_t)i, memory + 4 * n * i,
                              scores + n * i, &walks[i], err);
    }
    if (status == STATUS_OK) {
        status = decode_states(records, json, n_states, &states, err);
    }
    if (status == STATUS_OK) {
        status = add_samples(records, &record, walks, states, err);
    }
    free(states);
    free(memory);
    free(scores);
    return status;
}

// Where a record stands. Answers are recorded as they come: samples are in the order of ids and
// seeds, so that what is trained does not depend on when they came.
struct line {
    char *id; // owned, as JSON text
    uint64_t seed;
    off_t offset;
    size_t number; // from 1
};

struct lines {
    struct line *items; // [count], owned
    size_t count;
    size_t capacity;
};

static int compare_lines(const void *left, const void *right) {
    const struct line *a = left, *b = right;
    int order = strcmp(a->id, b->id);
    if (order == 0) {
        order = a->seed < b->seed ? -1 : a->seed > b->seed;
    }
    return order != 0 ? order : a->number < b->number ? -1 : 1;
}

static void lines_finish(struct lines *lines) {
    for (size_t i = 0; i < lines->count; i++) {
        free(lines->items[i].id);
    }
    free(lines->items);
}

static bool lines_add(struct lines *lines, const struct line *line) {
    if (lines->count == lines->capacity) {
        size_t capacity = lines->capacity > 0 ? 2 * lines->capacity : FIRST_SAMPLES;
        struct line *grown = realloc(lines->items, capacity * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        lines->items = grown;
        lines->capacity = capacity;
    }
    lines->items[lines->count++] = *line;
    return true;
}

// The record that begins where `file` stands; owned. NULL with STATUS_OK: there is none.
static enum status read_line(FILE *file, char **text, size_t *capacity, json_t **out,
                             struct error *err) {
    json_error_t where;
    ssize_t length = getline(text, capacity, file);
    *out = NULL;
    if (length < 0) {
        return ferror(file) ? error_set(err, STATUS_IO, NULL, "the records cannot be read")
                            : STATUS_OK;
    }
    json_numbers_bound(*text, (size_t)length);
    *out = json_loadb(*text, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    return *out != NULL
               ? STATUS_OK
               : error_set(err, STATUS_MALFORMED, NULL, "column %d: %s", where.column, where.text);
}

static enum status note_line(struct lines *lines, const json_t *json, struct line line,
                             struct error *err) {
    // A seed above 63 bits is a text (docs/operations.md, --json).
    const json_t *seed = json_object_get(json, "seed");
    line.seed = json_is_string(seed) ? strtoull(json_string_value(seed), NULL, 10)
                                     : (uint64_t)json_integer_value(seed);
    line.id = json_dumps(json_object_get(json, "id"), JSON_ENCODE_ANY | JSON_COMPACT);
    if (line.id == NULL) {
        return error_set(err, STATUS_MALFORMED, "id", "is missing");
    }
    if (!lines_add(lines, &line)) {
        free(line.id);
        return error_set(err, STATUS_NO_MEMORY, "id", "no memory for %zu records", lines->count);
    }
    return STATUS_OK;
}

static void prefix_line(size_t number, struct error *err) {
    char place[32];
    snprintf(place, sizeof place, "line %zu", number);
    error_prefix_field(err, place);
}

static enum status find_lines(FILE *file, struct lines *lines, struct error *err) {
    char *text = NULL;
    size_t capacity = 0;
    json_t *json = NULL;
    enum status status = STATUS_OK;
    for (size_t number = 1; status == STATUS_OK; number++) {
        struct line line = {.offset = ftello(file), .number = number};
        status = read_line(file, &text, &capacity, &json, err);
        if (status == STATUS_OK && json == NULL) {
            break;
        }
        if (status == STATUS_OK) {
            status = note_line(lines, json, line, err);
        }
        json_decref(json);
        if (status != STATUS_OK) {
            prefix_line(number, err);
        }
    }
    free(text);
    if (status == STATUS_OK && lines->count > 0) {
        qsort(lines->items, lines->count, sizeof *lines->items, compare_lines);
    }
    return status;
}

static enum status take_lines(FILE *file, const struct lines *lines,
                              const struct critic_wanted *wanted, struct critic_records *out,
                              struct error *err) {
    char *text = NULL;
    size_t capacity = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < lines->count; i++) {
        json_t *json = NULL;
        status = fseeko(file, lines->items[i].offset, SEEK_SET) == 0
                     ? read_line(file, &text, &capacity, &json, err)
                     : error_set(err, STATUS_IO, NULL, "the records cannot be read again");
        if (status == STATUS_OK && json == NULL) {
            status = error_set(err, STATUS_IO, NULL, "the record is gone");
        }
        if (status == STATUS_OK) {
            status = take_record(out, json, wanted, err);
        }
        json_decref(json);
        if (status != STATUS_OK) {
            prefix_line(lines->items[i].number, err);
        }
    }
    free(text);
    return status;
}

// A file without a name, in the folder of the records.
static enum status open_states(const char *path, int *out, struct error *err) {
    char name[4096];
    if (snprintf(name, sizeof name, "%s.states-XXXXXX", path) >= (int)sizeof name) {
        return error_set(err, STATUS_LIMIT, NULL, "a path of %zu bytes is too long", strlen(path));
    }
    *out = mkstemp(name);
    if (*out < 0) {
        return error_set(err, status_from_errno(errno), NULL, "cannot make %.200s: %s", name,
                         strerror(errno));
    }
    unlink(name);
    return STATUS_OK;
}

enum status critic_records_read(const char *path, const struct critic_wanted *wanted,
                                struct critic_records *out, struct error *err) {
    *out = (struct critic_records){.states_fd = -1, .prompts = json_object()};
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), NULL, "cannot open %.200s: %s", path,
                         strerror(errno));
    }
    enum status status = open_states(path, &out->states_fd, err);
    struct lines lines = {0};
    if (status == STATUS_OK) {
        status = find_lines(file, &lines, err);
    }
    if (status == STATUS_OK) {
        status = take_lines(file, &lines, wanted, out, err);
    }
    lines_finish(&lines);
    fclose(file);
    if (status == STATUS_OK && out->samples.n == 0) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "states", "no record has one that counts");
    }
    if (status != STATUS_OK) {
        return status;
    }
    out->states_bytes = out->samples.n * 2 * (size_t)out->terms.hidden_dim;
    void *states = mmap(NULL, out->states_bytes, PROT_READ, MAP_SHARED, out->states_fd, 0);
    if (states == MAP_FAILED) {
        return error_set(err, status_from_errno(errno), "states", "cannot map %zu bytes: %s",
                         out->states_bytes, strerror(errno));
    }
    out->samples.states = states;
    if (out->terms.n_rewards == 0) {
        free(out->samples.rewards);
        out->samples.rewards = NULL;
    }
    return STATUS_OK;
}

void critic_records_close(struct critic_records *records) {
    struct critic_samples *samples = &records->samples;
    if (samples->states != NULL) {
        munmap((void *)(uintptr_t)samples->states, records->states_bytes);
    }
    if (records->states_fd >= 0) {
        close(records->states_fd);
    }
    free(samples->costs);
    free(samples->rewards);
    free(samples->spent);
    free(samples->weights);
    free(samples->places);
    free(samples->prompts);
    free(samples->trajectories);
    json_decref(records->settings);
    json_decref(records->prompts);
    *records = (struct critic_records){.states_fd = -1};
}
