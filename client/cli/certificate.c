#include "client/cli/certificate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/job_parse.h"
#include "common/json_numbers.h"
#include "proto/same_job.h"

enum { SCHEMA = 1, FILE_BYTES_MAX = 16 << 20 };

static const char mark[] = "surefoot_certificate";
// Another machine's logarithms may differ in the last bits.
static const double tolerance = 1e-9;

static enum status no_memory(struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the certificate");
}

static enum status refuse(const char *field, const char *what, struct error *err) {
    return error_set(err, STATUS_MALFORMED, field, "%s", what);
}

// The name of everything in it but that name.
static enum status make_id(const json_t *certificate, char hex[SHA256_HEX_BYTES],
                           struct error *err) {
    json_t *others = json_copy((json_t *)certificate);
    json_object_del(others, "id");
    char *text = json_dumps(others, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(others);
    if (text == NULL) {
        return no_memory(err);
    }
    sha256_hex(text, strlen(text), hex);
    free(text);
    return STATUS_OK;
}

static void hash_line(struct sha256 *sha, const char *text) {
    sha256_update(sha, text, strlen(text));
    sha256_update(sha, "\n", 1);
}

// Ids and prompts of all, in the order of the ids' hashes.
static json_t *calibration_json(const struct judged *judged) {
    const struct judged_setting *most = &judged->settings[0];
    for (size_t s = 1; s < judged->n_settings; s++) {
        most = judged->settings[s].count > most->count ? &judged->settings[s] : most;
    }
    struct sha256 sha;
    char hex[SHA256_HEX_BYTES];
    sha256_init(&sha);
    for (size_t i = 0; i < most->count; i++) {
        hash_line(&sha, most->answers[i].id);
        hash_line(&sha, most->answers[i].prompt);
    }
    sha256_finish_hex(&sha, hex);
    return json_pack("{s:I, s:s}", "prompts", (json_int_t)most->count, "sha256", hex);
}

// Of each answer to one of the ids its key, text and verdict.
static json_t *setting_json(const struct judged_setting *setting,
                            const struct selection_tally *tally,
                            const struct selection_finding *finding) {
    struct sha256 sha;
    char hex[SHA256_HEX_BYTES];
    sha256_init(&sha);
    for (size_t i = 0; i < setting->count; i++) {
        char loss[32];
        snprintf(loss, sizeof loss, "%.17g", setting->answers[i].loss);
        hash_line(&sha, setting->answers[i].key);
        hash_line(&sha, setting->answers[i].text);
        hash_line(&sha, loss);
    }
    sha256_finish_hex(&sha, hex);
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:b, s:s}", "name", setting->name, "prompts",
                     (json_int_t)tally->n_prompts, "answered", (json_int_t)tally->n_answered,
                     "losses", tally->losses, "p", finding->p, "upper", finding->upper, "certified",
                     finding->certified, "answers_sha256", hex);
}

// Fields of the chosen job that belong to a run and not to what was certified.
static json_t *certified_job(const struct judged_setting *setting) {
    static const char *const others[] = {"seed", "date", "deadline_ms", "certificate"};
    json_t *job = json_copy(json_object_get(setting->settings, "job"));
    for (size_t i = 0; job != NULL && i < sizeof others / sizeof others[0]; i++) {
        json_object_del(job, others[i]);
    }
    return job;
}

// What the service said of the models that answered.
static json_t *models_json(const struct judged_setting *setting) {
    const json_t *all = json_object_get(setting->settings, "models");
    json_t *models = json_object();
    const char *name = NULL;
    json_t *hash = NULL;
    json_object_foreach(setting->models, name, hash) {
        json_t *model = json_object_get(all, name);
        if (!json_equal(json_object_get(model, "hash"), hash)) {
            json_decref(models);
            return NULL;
        }
        json_object_set(models, name, model);
    }
    return models;
}

static enum status hash_fields(const json_t *job, char hex[SHA256_HEX_BYTES], struct error *err) {
    Surefoot__JobSpec *spec = NULL;
    enum status status = job_parse(job, "job", &spec, err);
    if (status == STATUS_OK && same_job_fields_hash(spec, hex) != STATUS_OK) {
        status = no_memory(err);
    }
    job_parse_free(spec);
    return status;
}

static double bound_of(const struct selection_rule *rule, const struct selection_finding *finding) {
    return fmin(finding->upper, rule->epsilon);
}

enum status certificate_make(const struct judged *judged, const struct selection_rule *rule,
                             const struct selection_tally *tallies, size_t chosen, json_t *judge,
                             json_t **out, struct error *err) {
    struct selection_finding findings[MULTIPLE_TESTS_MAX];
    const struct judged_setting *setting = &judged->settings[chosen];
    char fields[SHA256_HEX_BYTES];
    char id[SHA256_HEX_BYTES];
    size_t again = selection_run(rule, tallies, judged->n_settings, findings);
    ASSERT(again == chosen);
    json_t *job = certified_job(setting);
    json_t *models = models_json(setting);
    enum status status =
        models != NULL ? hash_fields(job, fields, err)
                       : refuse("--records", "settings.models lack a model that answered", err);
    if (status != STATUS_OK) {
        json_decref(job);
        json_decref(models);
        return status;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < judged->n_settings; i++) {
        json_array_append_new(list, setting_json(&judged->settings[i], &tallies[i], &findings[i]));
    }
    json_t *certificate = json_pack(
        "{s:i, s:{s:s, s:s, s:s, s:f, s:f}, s:O, s:o, s:o, s:I, s:f, s:o, s:s, s:{s:O*, s:O*, "
        "s:O*}, s:o}",
        mark, SCHEMA, "rule", "risk", risk_kind_name(rule->risk), "bound",
        rate_kind_name(rule->bound), "procedure", test_procedure_name(rule->procedure), "epsilon",
        rule->epsilon, "delta", rule->delta, "judge", judge, "calibration",
        calibration_json(judged), "settings", list, "chosen", (json_int_t)chosen, "bound",
        bound_of(rule, &findings[chosen]), "job", job, "fields", fields, "around", "system",
        json_object_get(setting->settings, "system"), "prefill",
        json_object_get(setting->settings, "prefill"), "rendered",
        json_object_get(setting->settings, "rendered"), "models", models);
    if (certificate == NULL) {
        return no_memory(err);
    }
    status = make_id(certificate, id, err);
    if (status != STATUS_OK || json_object_set_new(certificate, "id", json_string(id)) != 0) {
        json_decref(certificate);
        return status != STATUS_OK ? status : no_memory(err);
    }
    *out = certificate;
    return STATUS_OK;
}

static bool is_rate(double value) {
    return value > 0 && value < 1;
}

static enum status read_rule(const json_t *certificate, struct selection_rule *out,
                             struct error *err) {
    const char *risk = NULL;
    const char *bound = NULL;
    const char *procedure = NULL;
    if (json_unpack(json_object_get(certificate, "rule"), "{s:s, s:s, s:s, s:F, s:F}", "risk",
                    &risk, "bound", &bound, "procedure", &procedure, "epsilon", &out->epsilon,
                    "delta", &out->delta) != 0) {
        return refuse("rule", "lacks risk, bound, procedure, epsilon or delta", err);
    }
    out->risk = (enum risk_kind)risk_kind_parse(risk);
    out->bound = (enum rate_kind)rate_kind_parse(bound);
    out->procedure = (enum test_procedure)test_procedure_parse(procedure);
    if (out->risk == 0 || out->bound == 0 || out->procedure == 0) {
        return refuse("rule", "names a risk, bound or procedure that is unknown", err);
    }
    return is_rate(out->epsilon) && is_rate(out->delta)
               ? STATUS_OK
               : refuse("rule", "epsilon and delta are not in (0, 1)", err);
}

static enum status read_tally(const json_t *setting, const struct selection_rule *rule,
                              const char *field, struct selection_tally *out, struct error *err) {
    json_int_t prompts = 0;
    json_int_t answered = 0;
    if (json_unpack((json_t *)setting, "{s:I, s:I, s:F}", "prompts", &prompts, "answered",
                    &answered, "losses", &out->losses) != 0) {
        return refuse(field, "lacks prompts, answered or losses", err);
    }
    bool whole = rule->bound == RATE_KIND_BOUNDED || out->losses == floor(out->losses);
    if (prompts < 0 || prompts > RATE_COUNT_MAX || answered < 0 || answered > prompts ||
        !(out->losses >= 0 && out->losses <= (double)answered) || !whole) {
        return refuse(field, "its counts contradict each other", err);
    }
    out->n_prompts = (size_t)prompts;
    out->n_answered = (size_t)answered;
    return STATUS_OK;
}

static bool is_near(const json_t *value, double wanted) {
    return json_is_number(value) && fabs(json_number_value(value) - wanted) <= tolerance;
}

static enum status check_findings(const json_t *certificate, struct error *err) {
    struct selection_rule rule;
    struct selection_tally tallies[MULTIPLE_TESTS_MAX];
    struct selection_finding findings[MULTIPLE_TESTS_MAX];
    const json_t *list = json_object_get(certificate, "settings");
    size_t n = json_array_size(list);
    char field[ERROR_FIELD_BYTES];
    enum status status = read_rule(certificate, &rule, err);
    if (status == STATUS_OK && (n == 0 || n > MULTIPLE_TESTS_MAX)) {
        status = refuse("settings", "is not a list of 1 to 64", err);
    }
    for (size_t i = 0; status == STATUS_OK && i < n; i++) {
        snprintf(field, sizeof field, "settings[%zu]", i);
        status = read_tally(json_array_get(list, i), &rule, field, &tallies[i], err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t chosen = selection_run(&rule, tallies, n, findings);
    for (size_t i = 0; i < n; i++) {
        const json_t *setting = json_array_get(list, i);
        const json_t *certified = json_object_get(setting, "certified");
        snprintf(field, sizeof field, "settings[%zu]", i);
        if (!is_near(json_object_get(setting, "p"), findings[i].p) ||
            !is_near(json_object_get(setting, "upper"), findings[i].upper) ||
            !json_is_boolean(certified) || json_is_true(certified) != findings[i].certified) {
            return refuse(field, "its p, upper or certified does not follow from its counts", err);
        }
    }
    const json_t *stated = json_object_get(certificate, "chosen");
    if (chosen == n || !json_is_integer(stated) ||
        json_integer_value(stated) != (json_int_t)chosen) {
        return refuse("chosen", "does not follow from the counts", err);
    }
    return is_near(json_object_get(certificate, "bound"), bound_of(&rule, &findings[chosen]))
               ? STATUS_OK
               : refuse("bound", "does not follow from the counts", err);
}

static enum status check_text(const json_t *certificate, const char *field, const char *wanted,
                              const char *what, struct error *err) {
    const char *text = json_string_value(json_object_get(certificate, field));
    return text != NULL && strcmp(text, wanted) == 0 ? STATUS_OK : refuse(field, what, err);
}

static enum status check(const json_t *certificate, struct error *err) {
    const json_t *schema = json_object_get(certificate, mark);
    if (!json_is_integer(schema)) {
        return refuse(mark, "is missing: this is no certificate", err);
    }
    if (json_integer_value(schema) != SCHEMA) {
        return error_set(err, STATUS_VERSION, mark, "is %lld; this program reads %d",
                         (long long)json_integer_value(schema), SCHEMA);
    }
    char hex[SHA256_HEX_BYTES];
    enum status status = check_findings(certificate, err);
    if (status == STATUS_OK) {
        status = hash_fields(json_object_get(certificate, "job"), hex, err);
    }
    if (status == STATUS_OK) {
        status = check_text(certificate, "fields", hex, "is not the hash of job", err);
    }
    if (status == STATUS_OK) {
        struct certificate_claim claim; // the models too
        status = certificate_claim(certificate, &claim, err);
    }
    if (status == STATUS_OK) {
        status = make_id(certificate, hex, err);
    }
    return status == STATUS_OK ? check_text(certificate, "id", hex,
                                            "is not the hash of the rest: it was altered", err)
                               : status;
}

enum status certificate_claim(const json_t *certificate, struct certificate_claim *out,
                              struct error *err) {
    const json_t *models = json_object_get(certificate, "models");
    *out = (struct certificate_claim){0};
    surefoot__certificate__init(&out->message);
    if (!json_is_object(models) || json_object_size(models) > LIMIT_SCORERS + 1) {
        return refuse("models", "is not an object of 1 to 9 models", err);
    }
    const char *name = NULL;
    json_t *fields = NULL;
    size_t n = 0;
    json_object_foreach((json_t *)models, name, fields) {
        Surefoot__CertifiedModel *model = &out->models[n];
        const char *hash = json_string_value(json_object_get(fields, "hash"));
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "models.%.50s", name);
        if (hash == NULL) {
            return refuse(field, "has no hash", err);
        }
        enum status status = job_parse_model_hash(name, fields, field, out->info[n], err);
        if (status != STATUS_OK) {
            return status;
        }
        surefoot__certified_model__init(model);
        model->name = (char *)name;
        model->hash = (char *)hash;
        model->info = out->info[n];
        out->model_list[n++] = model;
    }
    const json_t *rule = json_object_get(certificate, "rule");
    out->message.id = (char *)json_string_value(json_object_get(certificate, "id"));
    out->message.fields = (char *)json_string_value(json_object_get(certificate, "fields"));
    out->message.n_models = n;
    out->message.models = out->model_list;
    out->message.has_epsilon = out->message.has_delta = out->message.has_bound = 1;
    out->message.epsilon = json_number_value(json_object_get(rule, "epsilon"));
    out->message.delta = json_number_value(json_object_get(rule, "delta"));
    out->message.bound = json_number_value(json_object_get(certificate, "bound"));
    return STATUS_OK;
}

static enum status fail(const char *path, const char *what, struct error *err) {
    enum status status = errno == ENOENT ? STATUS_NOT_FOUND : status_from_errno(errno);
    return error_set(err, status, NULL, "cannot %s %.200s: %s", what, path, strerror(errno));
}

// The whole file, with a NUL behind it; owned.
static enum status read_file(const char *path, char **out, struct error *err) {
    FILE *file = fopen(path, "rb");
    char *text = file != NULL ? malloc(FILE_BYTES_MAX + 1) : NULL;
    if (text == NULL) {
        enum status status = file == NULL ? fail(path, "read", err) : no_memory(err);
        if (file != NULL) {
            fclose(file);
        }
        return status;
    }
    size_t size = fread(text, 1, FILE_BYTES_MAX + 1, file);
    enum status status = ferror(file) != 0 ? fail(path, "read", err) : STATUS_OK;
    fclose(file);
    if (status == STATUS_OK && size > FILE_BYTES_MAX) {
        status = error_set(err, STATUS_LIMIT, NULL, "%.200s is above %d bytes: no certificate",
                           path, FILE_BYTES_MAX);
    }
    if (status != STATUS_OK) {
        free(text);
        return status;
    }
    text[size] = '\0';
    *out = text;
    return STATUS_OK;
}

enum status certificate_read(const char *path, json_t **out, struct error *err) {
    char *text = NULL;
    enum status status = read_file(path, &text, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_error_t why;
    json_t *certificate = json_loads(text, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!json_is_object(certificate)) {
        json_decref(certificate);
        return error_set(err, STATUS_MALFORMED, NULL,
                         "%.150s is no certificate, or not all of one: %.80s", path,
                         certificate == NULL ? why.text : "not an object");
    }
    status = check(certificate, err);
    if (status != STATUS_OK) {
        json_decref(certificate);
        return status;
    }
    *out = certificate;
    return STATUS_OK;
}

static enum status write_part(const char *part, const char *text, const char *path,
                              struct error *err) {
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        return fail(part, "write", err);
    }
    size_t size = strlen(text);
    ssize_t written = write(fd, text, size);
    errno = written >= 0 && (size_t)written < size ? ENOSPC : errno;
    bool whole = written == (ssize_t)size && fsync(fd) == 0;
    enum status status = whole ? STATUS_OK : fail(part, "write", err);
    close(fd);
    if (status == STATUS_OK && rename(part, path) != 0) {
        status = fail(path, "write", err);
    }
    if (status != STATUS_OK) {
        unlink(part);
    }
    return status;
}

static enum status refuse_other(const char *path, struct error *err) {
    return error_set(err, STATUS_ALREADY_EXISTS, NULL,
                     "%.200s holds something else; name another file", path);
}

static enum status part_path(const char *path, char part[PATH_MAX], struct error *err) {
    return snprintf(part, PATH_MAX, "%s.part", path) < PATH_MAX
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, NULL, "the path is too long");
}

enum status certificate_check_path(const char *path, struct error *err) {
    char part[PATH_MAX];
    json_t *there = NULL;
    struct error ignored;
    if (access(path, F_OK) == 0) {
        enum status status = certificate_read(path, &there, &ignored);
        json_decref(there);
        return status == STATUS_OK ? status : refuse_other(path, err);
    }
    enum status status = part_path(path, part, err);
    if (status != STATUS_OK) {
        return status;
    }
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        return fail(part, "write", err);
    }
    close(fd);
    unlink(part);
    return STATUS_OK;
}

enum status certificate_write(const char *path, const json_t *certificate, struct error *err) {
    char part[PATH_MAX];
    char *text = json_dumps(certificate, JSON_INDENT(2) | JSON_SORT_KEYS);
    char *there = NULL;
    struct error ignored;
    if (text == NULL) {
        return no_memory(err);
    }
    json_numbers_shorten(text);
    size_t size = strlen(text);
    char *whole = realloc(text, size + 2);
    if (whole == NULL) {
        free(text);
        return no_memory(err);
    }
    memcpy(whole + size, "\n", 2);
    enum status status = part_path(path, part, err);
    if (status == STATUS_OK && access(path, F_OK) != 0) {
        status = write_part(part, whole, path, err);
    } else if (status == STATUS_OK &&
               (read_file(path, &there, &ignored) != STATUS_OK || strcmp(there, whole) != 0)) {
        status = refuse_other(path, err);
    }
    free(there);
    free(whole);
    return status;
}
