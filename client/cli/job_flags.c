#include "client/cli/job_flags.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/presets.h"
#include "common/deadline.h"

static struct flag *add(struct flag *at, const char *name, enum flag_kind kind, void *target,
                        const char *value, const char *help) {
    *at = (struct flag){.name = name, .kind = kind, .target = target, .value = value, .help = help};
    return at + 1;
}

static struct flag *add_count(struct flag *at, const char *name, uint32_t *target, int *given,
                              double min, double max, const char *help) {
    *at = (struct flag){.name = name,
                        .kind = FLAG_U32,
                        .target = target,
                        .given = given,
                        .min = min,
                        .max = max,
                        .value = "N",
                        .help = help};
    return at + 1;
}

static struct flag *add_real(struct flag *at, const char *name, double *target, int *given,
                             double min, double max, const char *help) {
    *at = (struct flag){.name = name,
                        .kind = FLAG_REAL,
                        .target = target,
                        .given = given,
                        .min = min,
                        .max = max,
                        .value = "X",
                        .help = help};
    return at + 1;
}

// As add_real, for a range without its lower end 0.
static struct flag *add_above_zero(struct flag *at, const char *name, double *target, int *given,
                                   double max, const char *help) {
    struct flag *next = add_real(at, name, target, given, 0, max, help);
    at->above_min = true;
    return next;
}

static void describe_field(enum job_field_index index, struct job_flag_text *out) {
    char about[JOB_FIELD_TEXT_BYTES];
    char fallback[JOB_FIELD_TEXT_BYTES];
    const struct job_field *field = job_field_get(index);
    if (field->about != NULL) {
        snprintf(about, sizeof about, "%s", field->about);
    } else {
        job_choices_text(index, about);
    }
    job_field_default_text(index, fallback);
    snprintf(out->help, sizeof out->help, "%s; default %s", about, fallback);
    field_flag_name(index, out->name);
}

static struct flag *add_field(struct flag *at, enum job_field_index index,
                              struct job_flags *flags) {
    struct job_flag_text *text = &flags->texts[index];
    describe_field(index, text);
    *at = field_flag(index, &flags->spec);
    at->name = text->name;
    at->help = text->help;
    return at + 1;
}

static struct flag *add_search_flags(struct flag *at, struct job_flags *flags) {
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        at = add_field(at, index, flags);
    }
    *at = (struct flag){.name = "seed",
                        .kind = FLAG_U64,
                        .target = &flags->spec.seed,
                        .given = &flags->spec.has_seed,
                        .value = "N",
                        .help = "of the random numbers; default 0"};
    return at + 1;
}

static struct flag *add_sampling_flags(struct flag *at, struct job_flags *flags) {
    Surefoot__Sampling *sampling = &flags->sampling;
    at = add_real(at, "temperature", &sampling->temperature, &sampling->has_temperature, 0, 100,
                  "0 is greedy; default the model's, else 1");
    at = add_count(at, "top-k", &sampling->top_k, &sampling->has_top_k, 0, LIMIT_TOP_K,
                   "0 is off; default the model's, else 0");
    at = add_above_zero(at, "top-p", &sampling->top_p, &sampling->has_top_p, 1,
                        "1 is off; default the model's, else 1");
    at = add_above_zero(at, "repetition-penalty", &sampling->repetition_penalty,
                        &sampling->has_repetition_penalty, 100,
                        "1 is off; default the model's, else 1");
    at = add_real(at, "frequency-penalty", &sampling->frequency_penalty,
                  &sampling->has_frequency_penalty, -100, 100, "logits; default 0");
    at = add(at, "generation-defaults", FLAG_TEXT, &flags->spec.generation_defaults, "NAME",
             "whose defaults: model (its generation_config), none; default model");
    at = add_count(at, "min-tokens", &sampling->min_tokens, &sampling->has_min_tokens, 0,
                   LIMIT_MAX_TOKENS, "no end of text before; default 0");
    at =
        add(at, "logit-bias", FLAG_LIST, &flags->logit_bias, "TOKEN=X", "repeatable; default none");
    at = add(at, "fallback-prefix", FLAG_LIST, &flags->fallback_prefixes, "TEXT",
             "where nothing is safe, a search of answers that begin so; repeatable; default none");
    return add(at, "stop", FLAG_LIST, &flags->stop, "TEXT",
               "end before this text; repeatable; default none");
}

static struct flag *add_scorer_flags(struct flag *at, struct job_flags *flags) {
    Surefoot__LexicalSpec *lexical = &flags->lexical;
    at = add(at, "scorer", FLAG_LIST, &flags->scorers, "NAME[:ROLE[:W[:CHANNEL]]]",
             "a model, or \"lexical\"; parts may be empty; repeatable; default all models of the "
             "service, a cost in channel cost, of lexical in rules");
    *at++ = channel_flags_flag(&flags->channels);
    at = add(at, "require", FLAG_LIST, &flags->required, "WORD",
             "a rule of words: kept, or no answer; of scorer lexical if there is one; repeatable; "
             "default none");
    at = add(at, "forbid", FLAG_LIST, &flags->forbidden, "WORD", "likewise; default none");
    at =
        add(at, "require-regex", FLAG_LIST, &flags->required_regex, "RE", "likewise; default none");
    at =
        add(at, "forbid-regex", FLAG_LIST, &flags->forbidden_regex, "RE", "likewise; default none");
    at = add_count(at, "words-min", &lexical->words_min, &lexical->has_words_min, 0,
                   LIMIT_PROMPT_BYTES, "likewise; default 0");
    return add_count(at, "words-max", &lexical->words_max, &lexical->has_words_max, 0,
                     LIMIT_PROMPT_BYTES, "likewise; default none");
}

void job_flags_init(struct job_flags *flags) {
    memset(flags, 0, sizeof *flags);
    surefoot__job_spec__init(&flags->spec);
    surefoot__sampling__init(&flags->sampling);
    surefoot__lexical_spec__init(&flags->lexical);
    flags->calibration_file.fd = -1;
    struct flag *at = add(flags->table, "preset", FLAG_TEXT, &flags->preset, "NAME",
                          "published settings for what is not given: surefoot help presets; "
                          "default none");
    at = add_search_flags(at, flags);
    at = add_sampling_flags(at, flags);
    at = add_scorer_flags(at, flags);
    at = add(at, "certificate", FLAG_TEXT, &flags->certificate, "FILE",
             "of `surefoot certify`: its fields, and refused where models or fields are others; "
             "default none");
    at = add(at, "chat-template", FLAG_TEXT, &flags->spec.chat_template, "NAME",
             "a format, or model for the model's own; default the policy's profile, else its own");
    at = add(at, "content-tokens", FLAG_TEXT, &flags->spec.content_tokens, "NAME",
             "as-text: no text of a message is a control token, as-written; default as-text");
    at = add(at, "calibration", FLAG_TEXT, &flags->calibration_path, "FILE",
             "of `surefoot calibrate`: rewards of other answers to the prompt; default none");
    at = add(at, "date", FLAG_TEXT, &flags->spec.date, "YYYY-MM-DD",
             "today for templates; default the day (UTC) of acceptance, of a sweep its records'");
    *at++ = template_vars_flag(&flags->variables);
    at = add(at, "prefill", FLAG_TEXT, &flags->turns.prefill, "TEXT",
             "beginning of the answer, which goes on with it; default none");
    at = add(at, "rendered", FLAG_SWITCH, &flags->turns.rendered, NULL,
             "the prompt is rendered already: no template, control tokens count; default false");
    at = add(at, "system", FLAG_TEXT, &flags->turns.system, "TEXT",
             "system message before the prompt; default none");
    ASSERT(at < flags->table + JOB_FLAGS_COUNT); // the last row stays empty and ends the table
}

// TOKEN=X.
static enum status read_bias(const char *text, Surefoot__LogitBias *out, struct error *err) {
    char *end = NULL;
    unsigned long token = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '=' || token >= LIMIT_VOCAB) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--logit-bias",
                         "\"%.80s\" is not TOKEN=X with a token id below %d", text, LIMIT_VOCAB);
    }
    char *tail = NULL;
    double bias = strtod(end + 1, &tail);
    if (tail == end + 1 || *tail != '\0' || !(fabs(bias) <= (double)FLT_MAX)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--logit-bias",
                         "the bias of \"%.80s\" is not a finite number in single precision", text);
    }
    surefoot__logit_bias__init(out);
    out->has_token_id = 1;
    out->token_id = (uint32_t)token;
    out->has_bias = 1;
    out->bias = (float)bias;
    return STATUS_OK;
}

static enum status build_bias(struct job_flags *flags, struct error *err) {
    int count = flags->logit_bias.count;
    if (count == 0) {
        return STATUS_OK;
    }
    if (count > LIMIT_LOGIT_BIAS) {
        return error_set(err, STATUS_LIMIT, "--logit-bias", "%d entries are above the limit %d",
                         count, LIMIT_LOGIT_BIAS);
    }
    flags->bias_rows = calloc((size_t)count, sizeof *flags->bias_rows);
    flags->bias_list = calloc((size_t)count, sizeof(void *));
    if (flags->bias_rows == NULL || flags->bias_list == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the flags");
    }
    for (int i = 0; i < count; i++) {
        enum status status = read_bias(flags->logit_bias.items[i], &flags->bias_rows[i], err);
        if (status != STATUS_OK) {
            return status;
        }
        flags->bias_list[i] = &flags->bias_rows[i];
    }
    flags->sampling.n_logit_bias = (size_t)count;
    flags->sampling.logit_bias = flags->bias_list;
    return STATUS_OK;
}

// Cuts the text at its next colon; NULL: there is none, or nothing to cut.
static char *cut(char *text) {
    char *colon = text == NULL ? NULL : strchr(text, ':');
    if (colon != NULL) {
        *colon++ = '\0';
    }
    return colon;
}

// NAME[:ROLE[:WEIGHT[:CHANNEL]]]; an empty part is an absent one.
static enum status build_scorer(struct job_flags *flags, int index, struct error *err) {
    const char *given = flags->scorers.items[index];
    char *text = flags->scorer_text[index];
    if (strlen(given) >= sizeof flags->scorer_text[index]) {
        return error_set(err, STATUS_LIMIT, "--scorer", "\"%.40s...\" is too long", given);
    }
    memcpy(text, given, strlen(given) + 1);
    Surefoot__ScorerSpec *scorer = &flags->scorer_rows[index];
    surefoot__scorer_spec__init(scorer);
    scorer->name = text;
    char *role = cut(text);
    char *weight = cut(role);
    char *channel = cut(weight);
    scorer->role = role != NULL && role[0] != '\0' ? role : NULL;
    scorer->channel = channel != NULL && channel[0] != '\0' ? channel : NULL;
    if (weight != NULL && weight[0] != '\0') {
        char *end = NULL;
        scorer->has_weight = 1;
        scorer->weight = strtod(weight, &end);
        if (end == weight || *end != '\0' || !isfinite(scorer->weight)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--scorer",
                             "the weight of \"%.80s\" is not a finite number", given);
        }
    }
    if (strcmp(scorer->name, "lexical") == 0) {
        scorer->lexical = &flags->lexical;
        flags->lexical_used = true;
    }
    flags->scorer_list[index] = scorer;
    return STATUS_OK;
}

static enum status build_scorers(struct job_flags *flags, struct error *err) {
    if (flags->scorers.count > LIMIT_SCORERS) {
        return error_set(err, STATUS_LIMIT, "--scorer", "%d are above the limit %d",
                         flags->scorers.count, LIMIT_SCORERS);
    }
    for (int i = 0; i < flags->scorers.count; i++) {
        enum status status = build_scorer(flags, i, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    flags->spec.n_scorers = (size_t)flags->scorers.count;
    flags->spec.scorers = flags->scorer_list;
    return STATUS_OK;
}

static void set_list(const struct flag_list *list, size_t *count, char ***items) {
    *count = (size_t)list->count;
    *items = (char **)list->items; // packing only reads
}

static bool has_rules(const Surefoot__LexicalSpec *lexical) {
    return lexical->n_required > 0 || lexical->n_forbidden > 0 || lexical->n_required_regex > 0 ||
           lexical->n_forbidden_regex > 0 || lexical->has_words_min || lexical->has_words_max;
}

enum status job_flags_finish(struct job_flags *flags, struct error *err) {
    Surefoot__LexicalSpec *lexical = &flags->lexical;
    const struct preset *preset = NULL;
    if (flags->preset != NULL) {
        if (preset_find(flags->preset, "--preset", &preset, err) != STATUS_OK) {
            return STATUS_INVALID_ARGUMENT;
        }
        preset_apply(preset, &flags->spec, &flags->sampling);
    }
    set_list(&flags->required, &lexical->n_required, &lexical->required);
    set_list(&flags->forbidden, &lexical->n_forbidden, &lexical->forbidden);
    set_list(&flags->required_regex, &lexical->n_required_regex, &lexical->required_regex);
    set_list(&flags->forbidden_regex, &lexical->n_forbidden_regex, &lexical->forbidden_regex);
    set_list(&flags->fallback_prefixes, &flags->spec.n_fallback_prefixes,
             &flags->spec.fallback_prefixes);
    set_list(&flags->stop, &flags->sampling.n_stop, &flags->sampling.stop);
    flags->spec.sampling = &flags->sampling;
    enum status status = turns_check(&flags->turns, err);
    if (status == STATUS_OK) {
        status = template_vars_finish(&flags->variables, err);
        flags->spec.n_template_variables = flags->variables.count;
        flags->spec.template_variables = flags->variables.list;
    }
    if (status == STATUS_OK && flags->calibration_path != NULL) {
        status = calibration_open(flags->calibration_path, false, "--calibration",
                                  &flags->calibration_file, err);
    }
    if (status == STATUS_OK) {
        status = build_bias(flags, err);
    }
    if (status == STATUS_OK) {
        status = build_scorers(flags, err);
    }
    if (status == STATUS_OK) {
        status = channel_flags_finish(&flags->channels, err);
        flags->spec.n_channels = flags->channels.count;
        flags->spec.channels = flags->channels.list;
    }
    if (status == STATUS_OK && has_rules(lexical) && !flags->lexical_used) {
        flags->spec.lexical = lexical;
    }
    return status == STATUS_OK && flags->certificate != NULL
               ? certified_job_take(flags->certificate, &flags->spec, &flags->turns,
                                    &flags->certified, err)
               : status;
}

void job_flags_fix_date(struct job_flags *flags, const char *recorded) {
    struct date date;
    if (flags->spec.date != NULL) {
        return;
    }
    if (recorded != NULL && date_parse(recorded, &date)) {
        snprintf(flags->date, sizeof flags->date, "%s", recorded);
    } else {
        date_of_realtime_ms(clock_realtime_ms(), flags->date);
    }
    flags->spec.date = flags->date;
}

void job_flags_set_prompt(struct job_flags *flags, const char *prompt) {
    turns_set_prompt(&flags->turns, prompt, &flags->spec, flags->message_rows, flags->message_list);
}

enum status job_flags_calibrate(struct job_flags *flags, Surefoot__JobSpec *spec,
                                struct error *err) {
    const struct calibration_file *file = &flags->calibration_file;
    if (file->fd < 0) {
        return STATUS_OK;
    }
    char hash[SHA256_HEX_BYTES];
    enum status status = calibration_prompt_hash(spec, hash, err);
    if (status != STATUS_OK) {
        return status;
    }
    const Surefoot__CalibrationRecord *record = calibration_find(file, hash);
    if (record == NULL) {
        return error_set(err, STATUS_NOT_FOUND, "--calibration",
                         "%.100s has no record of the prompt (SHA-256 %.12s...)", file->path, hash);
    }
    flags->calibration = *file->header->header->conditions;
    flags->calibration.rewards = record->rewards;
    flags->calibration.n_rewards = record->n_rewards;
    spec->calibration = &flags->calibration;
    return STATUS_OK;
}

void job_flags_destroy(struct job_flags *flags) {
    calibration_close(&flags->calibration_file);
    template_vars_destroy(&flags->variables);
    channel_flags_destroy(&flags->channels);
    certified_job_finish(&flags->certified);
    free(flags->bias_rows);
    free(flags->bias_list);
}
