#include "coordinator/job_scorers.h"

#include <stdio.h>
#include <string.h>

#include "coordinator/spec_check.h"

static const char lexical_name[] = "lexical";

const char *scorer_role_name(enum scorer_role role) {
    return role == SCORER_ROLE_COST ? "cost" : "reward";
}

static int role_parse(const char *name) {
    return strcmp(name, "reward") == 0 ? SCORER_ROLE_REWARD
           : strcmp(name, "cost") == 0 ? SCORER_ROLE_COST
                                       : 0;
}

static enum status check_entries(char *const *entries, size_t count, const char *field,
                                 struct error *err) {
    enum status status = check_list(count, LIMIT_LEXICAL_ENTRIES, field, err);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        char entry[ERROR_FIELD_BYTES];
        snprintf(entry, sizeof entry, "%s[%zu]", field, i);
        status = check_text(entries[i], LIMIT_LEXICAL_BYTES, entry, err);
    }
    return status;
}

static enum status check_lexical(const Surefoot__LexicalSpec *lexical, struct error *err) {
    const struct {
        char *const *entries;
        size_t count;
        const char *field;
    } lists[] = {
        {lexical->required, lexical->n_required, "lexical.required"},
        {lexical->forbidden, lexical->n_forbidden, "lexical.forbidden"},
        {lexical->required_regex, lexical->n_required_regex, "lexical.required_regex"},
        {lexical->forbidden_regex, lexical->n_forbidden_regex, "lexical.forbidden_regex"},
    };
    bool any = lexical->has_words_min || lexical->has_words_max;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        any = any || lists[i].count > 0;
        enum status status = check_entries(lists[i].entries, lists[i].count, lists[i].field, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (!any) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical", "names no rule");
    }
    if (lexical->has_words_min && lexical->has_words_max &&
        lexical->words_min > lexical->words_max) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical.words_min",
                         "%u is above words_max %u", lexical->words_min, lexical->words_max);
    }
    return STATUS_OK;
}

static enum status check_scorer(const Surefoot__ScorerSpec *scorer, struct error *err) {
    enum status status = check_text(scorer->name, LIMIT_NAME_BYTES, "name", err);
    int role = 0;
    if (status == STATUS_OK) {
        status = check_choice(scorer->role, role_parse, "reward, cost", "role", &role, err);
    }
    double weight = 1;
    if (status == STATUS_OK) {
        status = check_number(scorer->has_weight, scorer->weight,
                              (struct number_range){.low = 0, .high = 1e6}, "weight", &weight, err);
    }
    if (status == STATUS_OK) {
        status = check_template(scorer->chat_template, "chat_template", err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool is_lexical = strcmp(scorer->name, lexical_name) == 0;
    if (is_lexical != (scorer->lexical != NULL)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical",
                         is_lexical ? "is missing" : "only a scorer named lexical takes it");
    }
    if (!is_lexical) {
        return STATUS_OK;
    }
    if (role == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "role",
                         "is missing; a lexical scorer has no profile, name reward or cost");
    }
    return check_lexical(scorer->lexical, err);
}

enum status job_scorers_check(const Surefoot__JobSpec *spec, struct error *err) {
    enum status status = check_list(spec->n_scorers, LIMIT_SCORERS, "spec.scorers", err);
    if (status == STATUS_OK && spec->lexical != NULL) {
        status = check_lexical(spec->lexical, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, "spec");
            return status;
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < spec->n_scorers; i++) {
        const Surefoot__ScorerSpec *scorer = spec->scorers[i];
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "spec.scorers[%zu]", i);
        status = check_scorer(scorer, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, field);
            return status;
        }
        for (size_t j = 0; j < i; j++) {
            if (scorer->lexical == NULL && strcmp(scorer->name, spec->scorers[j]->name) == 0) {
                return error_set(err, STATUS_INVALID_ARGUMENT, field, "a second scorer named %s",
                                 scorer->name);
            }
        }
    }
    return status;
}

static enum status unknown_model(const char *name, const struct model_set *models,
                                 const char *field, struct error *err) {
    char known[ERROR_MESSAGE_BYTES / 2];
    model_set_list(models, known, sizeof known);
    return error_set(err, STATUS_INVALID_ARGUMENT, field,
                     "unknown scorer \"%.64s\"; the groups have %s%slexical", name, known,
                     known[0] != '\0' ? ", " : "");
}

static enum status resolve_scorer(const Surefoot__ScorerSpec *message,
                                  const struct model_set *models, struct job_scorer *out,
                                  struct error *err) {
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", message->name);
    out->weight = message->has_weight ? message->weight : 1;
    out->chat_template = message->chat_template;
    out->lexical = message->lexical;
    out->channel = message->channel;
    const char *role = message->role;
    if (message->lexical == NULL) {
        const struct model_description *model = model_set_find(models, message->name);
        if (model == NULL) {
            return unknown_model(message->name, models, "name", err);
        }
        role = role != NULL ? role : model->role;
    }
    int number = role_parse(role);
    if (number == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "role",
                         "is missing and the profile of %s names none; reward or cost",
                         message->name);
    }
    out->role = (enum scorer_role)number;
    return STATUS_OK;
}

// The job's own rules of words: a scorer beside the others.
static enum status add_rules(struct job_spec *spec, struct error *err) {
    const Surefoot__LexicalSpec *lexical = spec->submit->spec->lexical;
    if (lexical == NULL) {
        return STATUS_OK;
    }
    if (spec->n_scorers == LIMIT_SCORERS) {
        return error_set(err, STATUS_LIMIT, "spec.lexical",
                         "is a scorer beside %d others; the limit is %d", LIMIT_SCORERS,
                         LIMIT_SCORERS);
    }
    struct job_scorer *scorer = &spec->scorers[spec->n_scorers++];
    *scorer = (struct job_scorer){.role = SCORER_ROLE_COST, .weight = 1, .lexical = lexical};
    memcpy(scorer->name, lexical_name, sizeof lexical_name);
    return STATUS_OK;
}

// The groups' models by their roles.
static void use_models(struct job_spec *spec, const struct model_set *models) {
    for (size_t i = 0; i < models->n_scorers; i++) {
        int role = role_parse(models->scorers[i].role);
        if (role != 0) {
            struct job_scorer *scorer = &spec->scorers[spec->n_scorers++];
            *scorer = (struct job_scorer){.role = (enum scorer_role)role, .weight = 1};
            memcpy(scorer->name, models->scorers[i].name, sizeof scorer->name);
        }
    }
}

enum status job_scorers_resolve(struct job_spec *spec, const struct model_set *models,
                                struct error *err) {
    const Surefoot__JobSpec *message = spec->submit->spec;
    spec->n_scorers = 0;
    for (size_t i = 0; i < message->n_scorers; i++) {
        enum status status = resolve_scorer(message->scorers[i], models, &spec->scorers[i], err);
        if (status != STATUS_OK) {
            char field[ERROR_FIELD_BYTES];
            snprintf(field, sizeof field, "spec.scorers[%zu]", i);
            error_prefix_field(err, field);
            return status;
        }
        spec->n_scorers++;
    }
    if (message->n_scorers == 0) {
        use_models(spec, models);
    }
    return add_rules(spec, err);
}
