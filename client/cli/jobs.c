// surefoot jobs and surefoot purge: what the service keeps, and dropping it.
#include <time.h>

#include "client/cli/print.h"
#include "client/cli/session.h"

enum { MS_PER_HOUR = 3600 * 1000 };

static const char *state_name(uint32_t state) {
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value(&surefoot__job_state__descriptor, (int)state);
    return value == NULL ? "UNKNOWN" : value->name + sizeof "JOB_STATE_" - 1;
}

static const char *outcome_name(const Surefoot__ListedJob *job) {
    return job->has_outcome ? surefoot_outcome_name(job->outcome) : "-";
}

// UTC, to the second.
static void format_time(int64_t ms, char out[32]) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL ||
        strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0) {
        snprintf(out, 32, "?");
    }
}

static enum status print_job(const Surefoot__ListedJob *job, bool json) {
    const char *key = job->job_key != NULL ? job->job_key : "";
    if (json) {
        json_t *object =
            json_pack("{s:s, s:s, s:I, s:I}", "key", key, "state", state_name(job->state),
                      "accepted_ms", (json_int_t)job->accepted_ms, "bytes", (json_int_t)job->bytes);
        if (object != NULL && job->has_done_ms) {
            json_object_set_new(object, "done_ms", json_integer((json_int_t)job->done_ms));
        }
        if (object != NULL && job->has_outcome) {
            json_object_set_new(object, "outcome", json_string(outcome_name(job)));
        }
        return print_json_line(object, stdout);
    }
    char accepted[32];
    char done[32] = "-";
    format_time(job->accepted_ms, accepted);
    if (job->has_done_ms) {
        format_time(job->done_ms, done);
    }
    printf("%-8s %-17s %-20s %-20s %10llu  ", state_name(job->state), outcome_name(job), accepted,
           done, (unsigned long long)job->bytes);
    print_text(key, true, 0, stdout);
    return printf("\n") < 0 ? STATUS_IO : STATUS_OK;
}

// Page after page, so that a long list needs no more memory than a short one.
static enum status print_jobs(struct session *session, bool json, struct error *err) {
    uint64_t after = 0;
    bool more = true;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && more) {
        Surefoot__JobList *list = NULL;
        status = surefoot_list(session->client, after, LIMIT_JOBS_LISTED, session->timeout_ms,
                               &list, err);
        if (status != STATUS_OK) {
            return status;
        }
        for (size_t i = 0; status == STATUS_OK && i < list->n_jobs; i++) {
            status = print_job(list->jobs[i], json);
        }
        if (status != STATUS_OK) {
            error_set(err, status, NULL, "the list cannot be printed");
        }
        more = list->has_next && list->next > after;
        after = list->next;
        surefoot_list_free(list);
    }
    return status;
}

int verb_jobs(struct cli *cli, int argc, char **argv) {
    struct session_flags flags;
    session_flags_init(&flags);
    const struct command_line line = {
        .usage = "jobs [FLAGS]",
        .about = "Lists the jobs that the service keeps, in the order of their acceptance: state, "
                 "outcome, accepted, done\n(UTC), bytes, key.\n"
                 "JSON, a line a job: key, state, accepted_ms, bytes, done_ms, outcome.",
        .tables = {flags.table},
        .n_tables = 1,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        status = print_jobs(&session, flags.json, &err);
    }
    session_close(&session);
    return status == STATUS_OK ? CLI_EXIT_OK : cli_fail(&err, flags.json);
}

static enum status purge_all(struct session *session, uint64_t older_than_ms, uint64_t *purged,
                             struct error *err) {
    bool more = true;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && more) {
        uint32_t count = 0;
        status =
            surefoot_purge(session->client, older_than_ms, session->timeout_ms, &count, &more, err);
        *purged += count;
    }
    return status;
}

int verb_purge(struct cli *cli, int argc, char **argv) {
    struct session_flags flags;
    session_flags_init(&flags);
    double hours = 0.0;
    int given = 0;
    const struct flag own[] = {
        {.name = "older-than-hours",
         .kind = FLAG_REAL,
         .target = &hours,
         .given = &given,
         .max = 87600,
         .value = "N",
         .help = "since the result was stored, 0: all; required, no default"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "purge --older-than-hours N [FLAGS]",
        .about =
            "Drops results, as close does, whoever their jobs are of; their keys are then free "
            "again. Jobs that\nhave not ended stay.\nJSON: purged.",
        .tables = {flags.table, own},
        .n_tables = 2,
    };
    int n_positional = 0;
    bool help = false;
    struct error err;
    struct session session = {0};
    uint64_t purged = 0;
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK && !given) {
        status = error_set(&err, STATUS_INVALID_ARGUMENT, "--older-than-hours", "must be given");
    }
    if (status == STATUS_OK) {
        status = session_open(cli, &flags, NULL, &session, &err);
    }
    if (status == STATUS_OK) {
        status = purge_all(&session, (uint64_t)(hours * MS_PER_HOUR), &purged, &err);
    }
    session_close(&session);
    if (status != STATUS_OK) {
        return cli_fail(&err, flags.json);
    }
    if (flags.json) {
        json_t *object = json_pack("{s:I}", "purged", (json_int_t)purged);
        return print_json_line(object, stdout) == STATUS_OK ? CLI_EXIT_OK : CLI_EXIT_SYSTEM;
    }
    printf("%llu result%s dropped\n", (unsigned long long)purged, print_plural(purged));
    return CLI_EXIT_OK;
}
