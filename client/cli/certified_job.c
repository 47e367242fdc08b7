#include "client/cli/certified_job.h"

#include <stdlib.h>
#include <string.h>

#include "client/cli/job_json.h"
#include "client/cli/job_parse.h"
#include "common/json_numbers.h"

static bool is_runs_own(const char *name) {
    return strcmp(name, "seed") == 0 || strcmp(name, "date") == 0 ||
           strcmp(name, "deadline_ms") == 0;
}

static char *text_of(const json_t *value) {
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL) {
        json_numbers_shorten(text);
    }
    return text;
}

// "--block-tokens" of block_tokens; "--scorer" of scorers.
static void flag_of(const char *name, char out[ERROR_FIELD_BYTES]) {
    const char *flag = strcmp(name, "scorers") == 0              ? "scorer"
                       : strcmp(name, "template_variables") == 0 ? "template-var"
                       : strcmp(name, "lexical") == 0            ? "forbid"
                                                                 : name;
    snprintf(out, ERROR_FIELD_BYTES, "--%.40s", flag);
    for (char *at = out + 2; *at != '\0'; at++) {
        *at = *at == '_' ? '-' : *at;
    }
}

static enum status refuse(const char *name, const json_t *given, const json_t *certified,
                          struct error *err) {
    char flag[ERROR_FIELD_BYTES];
    char *first = text_of(given);
    char *second = text_of(certified);
    flag_of(name, flag);
    enum status status =
        error_set(err, STATUS_INVALID_ARGUMENT, flag, "%.100s, and the certificate says %.100s",
                  first != NULL ? first : "", second != NULL ? second : "nothing of it");
    free(first);
    free(second);
    return status;
}

// What is given must be what is certified.
static enum status check_given(const json_t *given, const json_t *certified, struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    enum status status = STATUS_OK;
    json_object_foreach((json_t *)given, name, value) {
        const json_t *own = json_object_get(certified, name);
        if (status != STATUS_OK || is_runs_own(name)) {
            continue;
        }
        if (strcmp(name, "sampling") == 0) {
            status = check_given(value, own, err);
        } else if (own == NULL || !json_equal(own, value)) {
            status = refuse(name, value, own, err);
        }
    }
    return status;
}

static enum status take_text(const json_t *around, const char *name, const char **text,
                             struct error *err) {
    const json_t *value = json_object_get(around, name);
    const char *certified = json_string_value(value);
    if (*text != NULL && (certified == NULL || strcmp(*text, certified) != 0)) {
        json_t *given = json_string(*text);
        enum status status = refuse(name, given, value, err);
        json_decref(given);
        return status;
    }
    *text = certified;
    return STATUS_OK;
}

static enum status take_turns(const json_t *around, struct turns *turns, struct error *err) {
    bool rendered = json_is_true(json_object_get(around, "rendered"));
    if (turns->rendered && !rendered) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--rendered",
                         "the certificate is of prompts that are not");
    }
    turns->rendered = rendered;
    enum status status = take_text(around, "system", &turns->system, err);
    return status == STATUS_OK ? take_text(around, "prefill", &turns->prefill, err) : status;
}

// All fields but the run's own.
static void take_fields(struct certified_job *job, Surefoot__JobSpec *spec) {
    Surefoot__JobSpec taken = *job->spec;
    taken.has_seed = spec->has_seed;
    taken.seed = spec->seed;
    taken.date = spec->date;
    taken.has_deadline_ms = spec->has_deadline_ms;
    taken.deadline_ms = spec->deadline_ms;
    taken.certificate = &job->claim.message;
    *spec = taken;
}

enum status certified_job_take(const char *path, Surefoot__JobSpec *spec, struct turns *turns,
                               struct certified_job *out, struct error *err) {
    enum status status = certificate_read(path, &out->certificate, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "--certificate");
        return status;
    }
    const json_t *job = json_object_get(out->certificate, "job");
    json_t *given = job_given_json(spec);
    status = check_given(given, job, err);
    json_decref(given);
    if (status == STATUS_OK) {
        status = take_turns(json_object_get(out->certificate, "around"), turns, err);
    }
    if (status == STATUS_OK) {
        status = job_parse(job, "job", &out->spec, err);
    }
    if (status == STATUS_OK) {
        status = certificate_claim(out->certificate, &out->claim, err);
    }
    if (status == STATUS_OK) {
        take_fields(out, spec);
    }
    return status;
}

void certified_job_finish(struct certified_job *job) {
    job_parse_free(job->spec);
    json_decref(job->certificate);
}
