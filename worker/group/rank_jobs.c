// Jobs of a rank: a GroupJob checked and turned into prompt ids, sampling parameters and opened
// scorers. Whatever is wrong with a job becomes the error of its rows; the coordinator has checked
// the ranges already, so these checks only keep a rank from acting on numbers that nobody checked.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/number_text.h"
#include "proto/defaults.h"
#include "worker/group/rank_internal.h"

enum { PROMPT_IDS_FIRST = 256 };

struct rank_job *rank_job_find(struct rank *rank, uint64_t job_id) {
    int32_t slot = id_table_find(&rank->job_table, job_id, 0);
    return slot >= 0 ? &rank->jobs[slot] : NULL;
}

void rank_job_unload(struct rank *rank, struct rank_job *job) {
    sequence_destroy(rank->policy.context, job->sequence);
    job->sequence = NULL;
    decoder_state_release(rank->decoder, job->state);
    job->state = -1;
    for (int i = 0; i < job->n_scorers; i++) {
        scorer_job_unload(job->scorers[i].job);
    }
}

static void release(struct rank *rank, struct rank_job *job) {
    rank_job_unload(rank, job);
    for (int i = 0; i < job->n_scorers; i++) {
        scorer_job_close(job->scorers[i].job);
    }
    free(job->prompt_ids);
    free(job->bias_ids);
    free(job->bias_values);
    free(job->stop_text);
    for (int i = 0; i < LIMIT_FALLBACK_PREFIXES; i++) {
        free(job->prefixes[i]);
    }
    *job = (struct rank_job){.state = -1};
}

void rank_job_remove(struct rank *rank, struct rank_job *job) {
    for (int32_t i = 0; i < rank->candidate_table.capacity; i++) {
        if (id_table_used(&rank->candidate_table, i) && rank->candidates[i].job == job) {
            rank_candidate_drop(rank, &rank->candidates[i]);
        }
    }
    release(rank, job);
    id_table_remove(&rank->job_table, (int32_t)(job - rank->jobs));
}

// The job's messages: its own, or its prompt as one of the user's, for scorers a rendered prompt
// where there is nothing else. Returns owned, NULL: no memory.
static struct chat_message *make_messages(const Surefoot__GroupJob *message, size_t *n) {
    *n = message->n_messages > 0 ? message->n_messages : 1;
    struct chat_message *messages = calloc(*n, sizeof *messages);
    if (messages == NULL) {
        return NULL;
    }
    const char *prompt = message->prompt != NULL ? message->prompt : message->rendered_prompt;
    messages[0] = (struct chat_message){.role = "user", .content = prompt};
    for (size_t i = 0; i < message->n_messages; i++) {
        const Surefoot__ChatMessage *chat = message->messages[i];
        messages[i].role = chat->role != NULL ? chat->role : "";
        messages[i].content = chat->content != NULL ? chat->content : "";
    }
    return messages;
}

// NULL: no memory.
static json_t *make_variables(const Surefoot__GroupJob *message) {
    json_t *variables = json_object();
    for (size_t i = 0; i < message->n_template_variables; i++) {
        const Surefoot__TemplateVariable *variable = message->template_variables[i];
        json_t *value = variable->text != NULL ? json_string(variable->text)
                        : variable->has_number ? json_integer(variable->number)
                                               : json_boolean(variable->truth);
        const char *name = variable->name != NULL ? variable->name : "";
        if (json_object_set_new(variables, name, value) != 0) {
            json_decref(variables);
            return NULL;
        }
    }
    return variables;
}

// What a model's template renders for the job.
static enum status make_chat(const Surefoot__GroupJob *message, struct chat *chat,
                             struct error *err) {
    const char *date = message->date != NULL ? message->date : "";
    chat->continues = message->has_continue_final_message && message->continue_final_message;
    chat->as_written = message->has_control_tokens_as_written && message->control_tokens_as_written;
    if (!date_parse(date, &chat->date)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "date",
                         "\"%.16s\" is not a day as YYYY-MM-DD", date);
    }
    return STATUS_OK;
}

// The template that is named, else the profile's, else the model's own.
static enum status choose_template(const char *name, const struct rank_model *model,
                                   const struct template **out, struct error *err) {
    if (name == NULL || name[0] == '\0') {
        name = model_get_profile(model->model)->chat_template;
    }
    if (name[0] == '\0' && !template_set_has_own(model->templates)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "chat_template",
                         "is missing, and %s has neither a profile that names one nor its own; one "
                         "of %s",
                         model->name, template_names());
    }
    enum status status = template_find(model->templates, name, out, err);
    if (status == STATUS_NOT_FOUND) {
        err->status = STATUS_INVALID_ARGUMENT;
        return STATUS_INVALID_ARGUMENT;
    }
    return status;
}

// A prompt that is rendered already is read as it is, control tokens included; else the policy's
// template makes one.
static enum status encode_ids(const struct rank *rank, const Surefoot__GroupJob *message,
                              const struct template *template, const struct chat *chat,
                              int32_t *ids, size_t capacity, size_t *count, struct error *err) {
    const char *rendered = message->rendered_prompt;
    if (rendered == NULL) {
        return template_encode(template, chat, ids, capacity, count, err);
    }
    return tokenizer_encode(rank->policy.tokenizer, rendered, strlen(rendered),
                            TOKENIZER_PARSE_SPECIAL, ids, capacity, count, err);
}

static enum status encode_prompt(const struct rank *rank, const Surefoot__GroupJob *message,
                                 const struct chat *chat, struct rank_job *job, struct error *err) {
    bool is_rendered = message->rendered_prompt != NULL;
    const char *field = is_rendered               ? "rendered_prompt"
                        : message->n_messages > 0 ? "messages"
                                                  : "prompt";
    const struct template *template = NULL;
    enum status status =
        is_rendered ? STATUS_OK
                    : choose_template(message->chat_template, &rank->policy, &template, err);
    if (status == STATUS_OK && !is_rendered) {
        status = template_check_variables(template, chat->variables, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t count = 0;
    size_t capacity = PROMPT_IDS_FIRST;
    while (status == STATUS_OK) {
        int32_t *ids = realloc(job->prompt_ids, capacity * sizeof *ids);
        if (ids == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a prompt");
        }
        job->prompt_ids = ids;
        status = encode_ids(rank, message, template, chat, ids, capacity, &count, err);
        if (status == STATUS_LIMIT && count > capacity) {
            capacity = count;
            status = STATUS_OK;
            continue;
        }
        break;
    }
    if (status != STATUS_OK && message->n_messages == 0) {
        struct error cause = *err;
        return error_set(err, status, field, "%s", cause.message);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (count == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field, "has no tokens");
    }
    if ((int64_t)count + job->params.max_tokens > rank->context_tokens) {
        return error_set(err, STATUS_LIMIT, field,
                         "%zu tokens and max_tokens %d are above the context of %d tokens", count,
                         job->params.max_tokens, rank->context_tokens);
    }
    job->params.prompt_ids = job->prompt_ids;
    job->params.n_prompt = (int32_t)count;
    return STATUS_OK;
}

static enum status read_stops(const Surefoot__Sampling *sampling, struct rank_job *job,
                              struct error *err) {
    if (sampling->n_stop > DECODE_STOPS_MAX) {
        return error_set(err, STATUS_LIMIT, "sampling.stop", "%zu are above the limit %d",
                         sampling->n_stop, DECODE_STOPS_MAX);
    }
    job->stop_text = malloc(DECODE_STOPS_MAX * LIMIT_STOP_BYTES);
    if (job->stop_text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for stop strings");
    }
    char *end = job->stop_text;
    for (size_t i = 0; i < sampling->n_stop; i++) {
        size_t bytes = strlen(sampling->stop[i]);
        if (bytes == 0 || bytes > LIMIT_STOP_BYTES) {
            return error_set(err, bytes == 0 ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT,
                             "sampling.stop", "entry %zu has %zu bytes, the limits are 1 and %d", i,
                             bytes, LIMIT_STOP_BYTES);
        }
        memcpy(end, sampling->stop[i], bytes);
        job->params.stops[job->params.n_stops++] =
            (struct decode_stop){.text = end, .bytes = (int32_t)bytes};
        end += bytes;
    }
    return STATUS_OK;
}

static enum status read_bias(const struct rank *rank, const Surefoot__Sampling *sampling,
                             struct rank_job *job, struct error *err) {
    size_t n = sampling->n_logit_bias;
    uint32_t vocab = (uint32_t)model_get_config(rank->policy.model)->vocab_size;
    if (n > LIMIT_LOGIT_BIAS) {
        return error_set(err, STATUS_LIMIT, "sampling.logit_bias", "%zu are above the limit %d", n,
                         LIMIT_LOGIT_BIAS);
    }
    job->bias_ids = malloc((n > 0 ? n : 1) * sizeof *job->bias_ids);
    job->bias_values = malloc((n > 0 ? n : 1) * sizeof *job->bias_values);
    if (job->bias_ids == NULL || job->bias_values == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for logit biases");
    }
    for (size_t i = 0; i < n; i++) {
        const Surefoot__LogitBias *bias = sampling->logit_bias[i];
        if (bias->token_id >= vocab || !isfinite(bias->bias)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "sampling.logit_bias",
                             "entry %zu: token %u of %u, bias %g", i, bias->token_id, vocab,
                             (double)bias->bias);
        }
        job->bias_ids[i] = (int32_t)bias->token_id;
        job->bias_values[i] = bias->bias;
    }
    job->params.sampling.bias = (struct token_values){
        .token_ids = job->bias_ids, .values = job->bias_values, .n = (int32_t)n};
    return STATUS_OK;
}

static enum status check_range(double value, double low, double high, bool low_open,
                               const char *field, struct error *err) {
    if (isfinite(value) && (low_open ? value > low : value >= low) && value <= high) {
        return STATUS_OK;
    }
    char text[NUMBER_TEXT_BYTES];
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s is outside %s%g, %g]",
                     number_text(value, text), low_open ? "(" : "[", low, high);
}

// A message without `sampling` reads as one with every default.
static enum status read_sampling(const struct rank *rank, const Surefoot__Sampling *message,
                                 struct rank_job *job, struct error *err) {
    const Surefoot__Sampling defaults = SUREFOOT__SAMPLING__INIT;
    const Surefoot__Sampling *sampling = message != NULL ? message : &defaults;
    double temperature = sampling->has_temperature ? sampling->temperature : DEFAULT_TEMPERATURE;
    double top_p = sampling->has_top_p ? sampling->top_p : DEFAULT_TOP_P;
    double repetition = sampling->has_repetition_penalty ? sampling->repetition_penalty
                                                         : DEFAULT_REPETITION_PENALTY;
    const struct {
        double value, low, high;
        bool low_open;
        const char *field;
    } ranges[] = {
        {temperature, 0, 100, false, "sampling.temperature"},
        {sampling->top_k, 0, LIMIT_TOP_K, false, "sampling.top_k"},
        {top_p, 0, 1, true, "sampling.top_p"},
        {repetition, 0, 100, true, "sampling.repetition_penalty"},
        {sampling->frequency_penalty, -100, 100, false, "sampling.frequency_penalty"},
        {sampling->min_tokens, 0, LIMIT_MAX_TOKENS, false, "sampling.min_tokens"},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        enum status status = check_range(ranges[i].value, ranges[i].low, ranges[i].high,
                                         ranges[i].low_open, ranges[i].field, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    job->params.min_tokens = (int32_t)sampling->min_tokens;
    job->params.sampling =
        (struct sampling_params){.temperature = (float)temperature,
                                 .top_k = (int32_t)sampling->top_k,
                                 .top_p = (float)top_p,
                                 .repetition_penalty = (float)repetition,
                                 .frequency_penalty = (float)sampling->frequency_penalty};
    enum status status = read_stops(sampling, job, err);
    return status == STATUS_OK ? read_bias(rank, sampling, job, err) : status;
}

static int role_parse(const char *name) {
    return strcmp(name, "reward") == 0 ? SCORER_ROLE_REWARD
           : strcmp(name, "cost") == 0 ? SCORER_ROLE_COST
                                       : -1;
}

static const struct rank_model *find_scorer(const struct rank *rank, const char *name) {
    for (int i = 0; i < rank->n_scorers; i++) {
        if (strcmp(rank->scorers[i].name, name) == 0) {
            return &rank->scorers[i];
        }
    }
    return NULL;
}

// Errors name the members of `message`.
static enum status open_scorer(const struct rank *rank, const Surefoot__ScorerSpec *message,
                               struct scorer_job_spec *spec, struct rank_job_scorer *out,
                               struct error *err) {
    const char *name = message->name != NULL ? message->name : "";
    const struct rank_model *model = find_scorer(rank, name);
    bool is_lexical = strcmp(name, "lexical") == 0;
    if (model == NULL && !is_lexical) {
        return error_set(err, STATUS_NOT_FOUND, "name", "this group has no scorer \"%.64s\"", name);
    }
    const char *role = message->role;
    if ((role == NULL || role[0] == '\0') && model != NULL) {
        role = model_get_profile(model->model)->role;
    }
    int number = role_parse(role != NULL ? role : "");
    if (number < 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "role", "\"%.16s\" is not reward or cost",
                         role != NULL ? role : "");
    }
    spec->role = (enum scorer_role)number;
    spec->lexical = message->lexical;
    if (model != NULL) {
        enum status status = choose_template(message->chat_template, model, &spec->template, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    out->role = spec->role;
    out->scorer = model != NULL ? model->scorer : rank->lexical;
    enum status status = scorer_job_open(out->scorer, spec, &out->job, err);
    if (status != STATUS_OK) {
        struct error cause = *err;
        error_set(err, status, cause.field, "scorer %.64s: %s", name, cause.message);
    }
    return status;
}

static enum status open_scorers(struct rank *rank, const Surefoot__GroupJob *message,
                                const struct chat *chat, struct rank_job *job, struct error *err) {
    if (message->n_scorers > RANK_SCORERS_MAX) {
        return error_set(err, STATUS_LIMIT, "scorers", "%zu are above the limit %d",
                         message->n_scorers, RANK_SCORERS_MAX);
    }
    for (size_t i = 0; i < message->n_scorers; i++) {
        struct scorer_job_spec spec = {.chat = *chat,
                                       .cost_eos_append = message->cost_eos_append,
                                       .max_tokens = job->params.max_tokens};
        enum status status = open_scorer(rank, message->scorers[i], &spec, &job->scorers[i], err);
        if (status != STATUS_OK) {
            char prefix[ERROR_FIELD_BYTES];
            snprintf(prefix, sizeof prefix, "scorers[%zu]", i);
            error_prefix_field(err, prefix);
            return status;
        }
        job->n_scorers = (int)i + 1;
    }
    return STATUS_OK;
}

// Each begins an answer and leaves room for more.
static enum status read_prefix(const struct rank *rank, const char *text, struct rank_job *job,
                               int index, struct error *err) {
    size_t count = 0;
    int32_t *ids = malloc(LIMIT_PREFIX_BYTES * sizeof *ids);
    job->prefixes[index] = ids;
    if (ids == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a prefix");
    }
    enum status status =
        tokenizer_encode(rank->policy.tokenizer, text, strlen(text), TOKENIZER_CONTINUATION, ids,
                         LIMIT_PREFIX_BYTES, &count, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool ends = count == 0;
    for (size_t i = 0; i < count; i++) {
        ends = ends || decoder_is_end(rank->decoder, ids[i]);
    }
    if (ends || count >= (size_t)job->params.max_tokens) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL,
                         ends
                             ? "begins no answer: of its %zu tokens one ends a text, or it has none"
                             : "%zu tokens leave no room under max_tokens",
                         count);
    }
    job->prefix_counts[index] = (int32_t)count;
    return STATUS_OK;
}

static enum status read_prefixes(const struct rank *rank, const Surefoot__GroupJob *message,
                                 struct rank_job *job, struct error *err) {
    if (message->n_prefixes > LIMIT_FALLBACK_PREFIXES) {
        return error_set(err, STATUS_LIMIT, "fallback_prefixes", "%zu are above the limit %d",
                         message->n_prefixes, LIMIT_FALLBACK_PREFIXES);
    }
    for (size_t i = 0; i < message->n_prefixes; i++) {
        enum status status = read_prefix(rank, message->prefixes[i], job, (int)i, err);
        if (status != STATUS_OK) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "fallback_prefixes[%zu]", i);
            error_prefix_field(err, field);
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_job(struct rank *rank, const Surefoot__GroupJob *message,
                            struct rank_job *job, struct error *err) {
    bool has_prompt = message->prompt != NULL && message->prompt[0] != '\0';
    if (message->n_messages == 0 && message->rendered_prompt == NULL && !has_prompt) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "prompt", "is empty");
    }
    if (message->max_tokens < 1 || message->max_tokens > LIMIT_MAX_TOKENS) {
        return error_set(err, STATUS_LIMIT, "max_tokens", "%u is outside 1..%d",
                         message->max_tokens, LIMIT_MAX_TOKENS);
    }
    job->params.max_tokens = (int32_t)message->max_tokens;
    job->params.seed = message->seed;
    job->states = message->has_states && message->states;
    job->critic = message->has_critic && message->critic;
    if (job->critic && rank->critic == NULL) {
        return error_set(err, STATUS_UNSUPPORTED, "critic", "this group has none");
    }
    enum status status = rank_value_read_move(rank, message, &job->params.move, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct chat chat = {0};
    struct chat_message *messages = make_messages(message, &chat.n_messages);
    json_t *variables = make_variables(message);
    status = messages != NULL && variables != NULL
                 ? make_chat(message, &chat, err)
                 : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for messages");
    chat.messages = messages;
    chat.variables = variables;
    if (status == STATUS_OK) {
        status = encode_prompt(rank, message, &chat, job, err);
    }
    chat.variables = NULL; // of the policy's template; scorers have theirs
    if (status == STATUS_OK) {
        status = read_sampling(rank, message->sampling, job, err);
    }
    if (status == STATUS_OK) {
        status = read_prefixes(rank, message, job, err);
    }
    if (status == STATUS_OK) {
        status = open_scorers(rank, message, &chat, job, err);
    }
    json_decref(variables);
    free(messages);
    return status;
}

static struct rank_job *oldest(const struct rank *rank) {
    struct rank_job *job = NULL;
    for (int32_t i = 0; i < rank->job_table.capacity; i++) {
        if (id_table_used(&rank->job_table, i) && (job == NULL || rank->jobs[i].used < job->used)) {
            job = &rank->jobs[i];
        }
    }
    return job;
}

enum status rank_job_add(struct rank *rank, const Surefoot__GroupJob *message) {
    if (rank_job_find(rank, message->job_id) != NULL) {
        return STATUS_OK;
    }
    if (rank->job_table.count == rank->job_table.capacity) {
        rank_job_remove(rank, oldest(rank));
    }
    int32_t slot = id_table_add(&rank->job_table, message->job_id, 0);
    struct rank_job *job = &rank->jobs[slot];
    *job = (struct rank_job){.id = message->job_id, .state = -1, .used = ++rank->clock};
    struct error err = {.status = STATUS_OK};
    enum status status = read_job(rank, message, job, &err);
    if (status == STATUS_NO_MEMORY) {
        rank_job_remove(rank, job);
        return status;
    }
    // A first try that was too small leaves its text behind: only a failure is the job's error.
    if (status != STATUS_OK) {
        job->error = err;
    }
    return STATUS_OK;
}

static enum status prepare_policy(struct rank *rank, struct rank_item *items, int32_t n,
                                  struct error *err) {
    int32_t n_prefills = 0;
    enum status status = STATUS_OK;
    for (int32_t i = 0; i < n && status == STATUS_OK; i++) {
        struct rank_job *job = items[i].job;
        if (job->sequence != NULL) {
            continue;
        }
        job->sequence = sequence_create(rank->policy.context);
        job->state = decoder_state_acquire(rank->decoder);
        if (job->sequence == NULL || job->state < 0) {
            rank_job_unload(rank, job);
            status = error_set(err, STATUS_LIMIT, NULL, "no sequence is free for a prompt");
            break;
        }
        rank->prefills[n_prefills++] = (struct decode_prefill){.sequence = job->sequence,
                                                               .token_ids = job->params.prompt_ids,
                                                               .n_tokens = job->params.n_prompt,
                                                               .state = job->state};
    }
    if (status == STATUS_OK) {
        status = decoder_prefill(rank->decoder, rank->prefills, n_prefills, err);
    }
    for (int32_t i = 0; i < n && status != STATUS_OK; i++) {
        // A failed prefill leaves prompts half read.
        for (int32_t k = 0; k < n_prefills; k++) {
            if (items[i].job->sequence == rank->prefills[k].sequence) {
                rank_job_unload(rank, items[i].job);
                break;
            }
        }
    }
    return status;
}

static enum status prepare_scorer(struct rank *rank, int scorer, struct error *err) {
    return scorer_prepare(rank->scorers[scorer].scorer,
                          rank->scorer_jobs + rank->scorer_begins[scorer],
                          rank->scorer_counts[scorer], err);
}

// The items' jobs that use `scorer`, listed from `count` on. Returns how many are listed then.
static int32_t list_jobs(struct rank *rank, const struct scorer *scorer,
                         const struct rank_item *items, int32_t n, int32_t count) {
    for (int32_t i = 0; i < n; i++) {
        struct rank_job *job = items[i].job;
        for (int k = 0; k < job->n_scorers; k++) {
            if (job->scorers[k].scorer == scorer) {
                rank->scorer_jobs[count++] = job->scorers[k].job;
            }
        }
    }
    return count;
}

enum status rank_jobs_prepare(struct rank *rank, struct rank_item *items, int32_t n,
                              struct error *err) {
    enum status status = prepare_policy(rank, items, n, err);
    int32_t count = 0;
    for (int k = 0; k < rank->n_scorers; k++) {
        rank->scorer_begins[k] = count;
        count = list_jobs(rank, rank->scorers[k].scorer, items, n, count);
        rank->scorer_counts[k] = count - rank->scorer_begins[k];
    }
    return status == STATUS_OK ? rank_run_scorers(rank, prepare_scorer, err) : status;
}
