#include "client/cli/judged.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/items.h"
#include "client/cli/json_diff.h"
#include "common/json_numbers.h"

static enum status no_memory(struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the answers");
}

// As JSON writes it, short; owned, NULL: no memory.
static char *value_text(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (text != NULL) {
        json_numbers_shorten(text);
    }
    return text;
}

static enum status hash_value(const json_t *value, char hex[SHA256_HEX_BYTES], struct error *err) {
    char *text = value_text(value);
    if (text == NULL) {
        return no_memory(err);
    }
    sha256_hex(text, strlen(text), hex);
    free(text);
    return STATUS_OK;
}

static enum status refuse_record(const char *field, const struct outfile_record *row,
                                 const char *what, struct error *err) {
    char place[ERROR_FIELD_BYTES];
    snprintf(place, sizeof place, "%.40s line %zu", field, row->line);
    return error_set(err, STATUS_MALFORMED, place, "%s", what);
}

static enum status read_answer(const json_t *record, const struct outfile_record *row,
                               const char *field, struct judged_answer *out, struct error *err) {
    const char *text = json_string_value(json_object_get(record, "text"));
    const json_t *asked = items_asked_of(record);
    out->answered = strcmp(row->outcome, "COMPLETED") == 0;
    out->id = value_text(json_object_get(record, "id"));
    if (!out->answered && strcmp(row->outcome, "NO_SAFE_CANDIDATE") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "item %.80s ended %s: it is no answer and no refusal; sweep again with "
                         "--retry-failed",
                         out->id != NULL ? out->id : "", row->outcome);
    }
    if (asked == NULL) {
        return refuse_record(field, row, "does not hold what was asked", err);
    }
    if (out->answered != (text != NULL)) {
        return refuse_record(
            field, row, out->answered ? "is COMPLETED without a text" : "is refused with a text",
            err);
    }
    memcpy(out->key, row->key, sizeof out->key);
    out->scores = json_incref(json_object_get(record, "scores"));
    sha256_hex(text != NULL ? text : "", text != NULL ? strlen(text) : 0, out->text);
    enum status status = out->id != NULL ? hash_value(asked, out->prompt, err) : no_memory(err);
    if (status == STATUS_OK) {
        sha256_hex(out->id, strlen(out->id), out->order);
    }
    return status;
}

static enum status grow(struct judged_setting *setting, struct error *err) {
    size_t count = setting->count;
    if (count == RATE_COUNT_MAX) {
        return error_set(err, STATUS_LIMIT, "--records", "more than %d answers of one setting",
                         RATE_COUNT_MAX);
    }
    if ((count & (count - 1)) == 0) { // grows by doubling
        struct judged_answer *answers =
            realloc(setting->answers, (count == 0 ? 1 : 2 * count) * sizeof *answers);
        if (answers == NULL) {
            return no_memory(err);
        }
        setting->answers = answers;
    }
    setting->answers[count] = (struct judged_answer){0};
    setting->count++;
    return STATUS_OK;
}

static enum status add_record(struct judged_setting *setting, const struct outfile_record *row,
                              json_t *record, const char *field, struct error *err) {
    json_t *models = json_object_get(record, "models");
    if (!json_is_object(models)) {
        return refuse_record(field, row, "does not hold the models that answered", err);
    }
    if (setting->models == NULL) {
        setting->models = json_incref(models);
    } else if (!json_equal(setting->models, models)) {
        return refuse_record(field, row, "is of other models than the records above", err);
    }
    enum status status = grow(setting, err);
    return status == STATUS_OK
               ? read_answer(record, row, field, &setting->answers[setting->count - 1], err)
               : status;
}

// The setting that a method becomes: its place among the labels; n_labels: none of them.
static size_t place_of(const struct outfile *file, size_t method, const char *const *labels,
                       size_t n_labels) {
    if (labels == NULL) {
        return method;
    }
    size_t i = 0;
    while (i < n_labels && strcmp(labels[i], file->methods[method].name) != 0) {
        i++;
    }
    return i;
}

static size_t method_of(const struct outfile *file, const json_t *record) {
    const char *name =
        file->kind == OUTFILE_SWEEP ? "" : json_string_value(json_object_get(record, "method"));
    size_t i = 0;
    while (strcmp(file->methods[i].name, name) != 0) {
        i++;
        ASSERT(i < file->n_methods);
    }
    return i;
}

enum status judged_add(struct judged *judged, const struct outfile *file, const char *const *labels,
                       size_t n_labels, const char *field, struct error *err) {
    size_t n = labels != NULL ? n_labels : file->n_methods;
    struct judged_setting *settings = &judged->settings[judged->n_settings];
    if (judged->n_settings + n > MULTIPLE_TESTS_MAX) {
        return error_set(err, STATUS_LIMIT, field, "more than %d settings", MULTIPLE_TESTS_MAX);
    }
    memset(settings, 0, n * sizeof *settings);
    judged->n_settings += n;
    for (size_t i = 0; i < file->n_methods; i++) {
        size_t place = place_of(file, i, labels, n);
        if (place < n) {
            settings[place].settings = json_incref(file->methods[i].settings);
        }
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < file->count; i++) {
        json_t *record = NULL;
        status = outfile_load(file, &file->records[i], &record, err);
        size_t place = status == STATUS_OK ? place_of(file, method_of(file, record), labels, n) : n;
        if (place < n) {
            status = add_record(&settings[place], &file->records[i], record, field, err);
        }
        json_decref(record);
    }
    return status;
}

static int by_order(const void *a, const void *b) {
    const struct judged_answer *left = a;
    const struct judged_answer *right = b;
    return strcmp(left->order, right->order);
}

// True when the settings differ in this field of the job.
static bool differs(const struct judged *judged, const char *name) {
    const json_t *first = json_object_get(judged->settings[0].settings, "job");
    for (size_t i = 1; i < judged->n_settings; i++) {
        const json_t *other = json_object_get(judged->settings[i].settings, "job");
        const json_t *a = json_object_get(first, name);
        const json_t *b = json_object_get(other, name);
        if (a != b && !json_equal(a, b)) {
            return true;
        }
    }
    return false;
}

// "budget=0.5,n=8": the fields of this job in which not all jobs agree, in their order; of the only
// setting its method.
static enum status name_setting(const struct judged *judged, struct judged_setting *setting,
                                struct error *err) {
    const json_t *job = json_object_get(setting->settings, "job");
    char *name = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&name, &size);
    if (out == NULL) {
        return no_memory(err);
    }
    const char *field = NULL;
    json_t *value = NULL;
    int n = 0;
    json_object_foreach((json_t *)job, field, value) {
        if (judged->n_settings > 1 ? differs(judged, field) : strcmp(field, "method") == 0) {
            char *text = value_text(value);
            const char *plain = json_string_value(value);
            fprintf(out, "%s%s=%s", n++ > 0 ? "," : "", field,
                    plain != NULL  ? plain
                    : text != NULL ? text
                                   : "");
            free(text);
        }
    }
    if (fclose(out) != 0) {
        free(name);
        return no_memory(err);
    }
    free(setting->name);
    setting->name = name;
    return STATUS_OK;
}

enum status judged_name(struct judged *judged, struct error *err) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < judged->n_settings; i++) {
        status = name_setting(judged, &judged->settings[i], err);
    }
    return status;
}

static enum status check_alike(const struct judged *judged, const struct judged_setting *setting,
                               struct error *err) {
    json_t *first = json_copy(judged->settings[0].settings);
    json_t *second = json_copy(setting->settings);
    json_object_del(first, "job");
    json_object_del(second, "job");
    struct json_diff diff;
    bool differ = json_diff_first(first, second, &diff);
    json_decref(first);
    json_decref(second);
    if (differ) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                         "%s: %s is %s, and %s of %s: settings may differ in the job alone",
                         setting->name, diff.path, diff.after, diff.before,
                         judged->settings[0].name);
    }
    for (const struct judged_setting *other = judged->settings; other < setting; other++) {
        if (json_equal(json_object_get(other->settings, "job"),
                       json_object_get(setting->settings, "job"))) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                             "two settings are the same job");
        }
    }
    return STATUS_OK;
}

static const struct judged_setting *longest(const struct judged *judged) {
    const struct judged_setting *most = &judged->settings[0];
    for (size_t i = 1; i < judged->n_settings; i++) {
        most = judged->settings[i].count > most->count ? &judged->settings[i] : most;
    }
    return most;
}

static enum status check_prompts(const struct judged_setting *most,
                                 const struct judged_setting *setting, struct error *err) {
    for (size_t i = 0; i < setting->count; i++) {
        const struct judged_answer *answer = &setting->answers[i];
        const struct judged_answer *other = &most->answers[i];
        if (strcmp(answer->order, other->order) != 0) {
            bool lacks = strcmp(answer->order, other->order) > 0;
            return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                             "item %.80s has a record under %.60s and none under %.60s",
                             lacks ? other->id : answer->id, lacks ? most->name : setting->name,
                             lacks ? setting->name : most->name);
        }
        if (strcmp(answer->prompt, other->prompt) != 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                             "item %.80s asks one thing under %.60s and another under %.60s",
                             answer->id, most->name, setting->name);
        }
    }
    return STATUS_OK;
}

enum status judged_complete(struct judged *judged, struct error *err) {
    if (judged->n_settings == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--records", "hold no answer");
    }
    for (size_t i = 0; i < judged->n_settings; i++) {
        struct judged_setting *setting = &judged->settings[i];
        if (setting->count > 0) {
            qsort(setting->answers, setting->count, sizeof *setting->answers, by_order);
        }
    }
    enum status status = judged_name(judged, err);
    const struct judged_setting *most = longest(judged);
    for (size_t i = 0; status == STATUS_OK && i < judged->n_settings; i++) {
        status = check_alike(judged, &judged->settings[i], err);
        if (status == STATUS_OK) {
            status = check_prompts(most, &judged->settings[i], err);
        }
    }
    return status;
}

// The scorer's entry in a job that names it; NULL: it does not.
static const json_t *find_scorer(const struct judged_setting *setting, const char *name) {
    const json_t *scorers = json_object_get(json_object_get(setting->settings, "job"), "scorers");
    size_t i = 0;
    json_t *scorer = NULL;
    json_array_foreach((json_t *)scorers, i, scorer) {
        const char *own = json_string_value(json_object_get(scorer, "name"));
        if (own != NULL && strcmp(own, name) == 0) {
            return scorer;
        }
    }
    return NULL;
}

static enum status check_scorer(const struct judged_setting *setting, const char *name,
                                struct error *err) {
    const json_t *scorer = find_scorer(setting, name);
    const json_t *weight = json_object_get(scorer, "weight");
    if (scorer == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "%.60s does not name %.60s among its scorers; give every one with "
                         "--scorer, the judge as %.60s:reward:0",
                         setting->name, name, name);
    }
    if (!json_is_number(weight) || json_number_value(weight) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--judge",
                         "%.60s has a weight in %.60s: a judge selects nothing; name it as "
                         "--scorer %.60s:reward:0",
                         name, setting->name, name);
    }
    return STATUS_OK;
}

enum status judged_by_scorer(struct judged *judged, const char *name, double threshold,
                             struct error *err) {
    for (size_t s = 0; s < judged->n_settings; s++) {
        struct judged_setting *setting = &judged->settings[s];
        enum status status = check_scorer(setting, name, err);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t i = 0; i < setting->count; i++) {
            struct judged_answer *answer = &setting->answers[i];
            const json_t *score = json_object_get(answer->scores, name);
            if (answer->answered && !json_is_number(score)) {
                return error_set(err, STATUS_MALFORMED, "--judge",
                                 "the record of item %.80s under %.60s has no score of %.60s",
                                 answer->id, setting->name, name);
            }
            answer->judged = answer->answered;
            answer->loss = answer->answered && json_number_value(score) > threshold ? 1 : 0;
        }
    }
    return STATUS_OK;
}

enum status judged_tally(const struct judged *judged, size_t count, struct selection_tally *tallies,
                         struct error *err) {
    for (size_t s = 0; s < judged->n_settings; s++) {
        const struct judged_setting *setting = &judged->settings[s];
        struct selection_tally tally = {0};
        for (size_t i = 0; i < setting->count && i < count; i++) {
            const struct judged_answer *answer = &setting->answers[i];
            if (answer->answered && !answer->judged) {
                return error_set(err, STATUS_INVALID_ARGUMENT, "--verdicts",
                                 "none for the answer to item %.80s under %.60s, key %s",
                                 answer->id, setting->name, answer->key);
            }
            tally.n_prompts++;
            tally.n_answered += answer->answered ? 1 : 0;
            tally.losses += answer->answered ? answer->loss : 0;
        }
        tallies[s] = tally;
    }
    return STATUS_OK;
}

bool judged_is_constant(const struct judged *judged) {
    double first = NAN;
    for (size_t s = 0; s < judged->n_settings; s++) {
        for (size_t i = 0; i < judged->settings[s].count; i++) {
            const struct judged_answer *answer = &judged->settings[s].answers[i];
            bool counts = answer->answered && answer->judged;
            first = counts && isnan(first) ? answer->loss : first;
            if (counts && answer->loss != first) {
                return false;
            }
        }
    }
    return true;
}

bool judged_is_graded(const struct judged *judged) {
    for (size_t s = 0; s < judged->n_settings; s++) {
        for (size_t i = 0; i < judged->settings[s].count; i++) {
            double loss = judged->settings[s].answers[i].loss;
            if (loss != 0 && loss != 1) {
                return true;
            }
        }
    }
    return false;
}

size_t judged_prompts(const struct judged *judged) {
    return longest(judged)->count;
}

void judged_cut(struct judged *judged, size_t setting, size_t count) {
    struct judged_setting *cut = &judged->settings[setting];
    while (cut->count > count) {
        struct judged_answer *answer = &cut->answers[--cut->count];
        free(answer->id);
        json_decref(answer->scores);
    }
}

void judged_drop(struct judged *judged, size_t setting) {
    struct judged_setting *dropped = &judged->settings[setting];
    judged_cut(judged, setting, 0);
    free(dropped->answers);
    free(dropped->name);
    json_decref(dropped->settings);
    json_decref(dropped->models);
    judged->n_settings--;
    memmove(dropped, dropped + 1, (judged->n_settings - setting) * sizeof *dropped);
}

void judged_finish(struct judged *judged) {
    while (judged->n_settings > 0) {
        judged_drop(judged, judged->n_settings - 1);
    }
}
