#include "client/cli/session.h"

#include <stdlib.h>
#include <unistd.h>

void session_flags_init(struct session_flags *flags) {
    *flags = (struct session_flags){.timeout_ms = 10000};
    flags->table[0] = (struct flag){.name = "endpoint",
                                    .kind = FLAG_TEXT,
                                    .target = &flags->endpoint,
                                    .value = "ADDRESS",
                                    .help = "service to use; default: $SUREFOOT_ENDPOINT, then the "
                                            "one that is up"};
    flags->table[1] = (struct flag){.name = "dir",
                                    .kind = FLAG_TEXT,
                                    .target = &flags->directory,
                                    .value = "STATE_DIR",
                                    .help = "of `surefoot up`; default $XDG_RUNTIME_DIR/surefoot "
                                            "or /tmp/surefoot-UID"};
    flags->table[2] = (struct flag){.name = "timeout-ms",
                                    .kind = FLAG_U32,
                                    .target = &flags->timeout_ms,
                                    .min = 1,
                                    .max = 3600000,
                                    .value = "N",
                                    .help = "until a request is answered, default 10000"};
    flags->table[3] = (struct flag){.name = "json",
                                    .kind = FLAG_SWITCH,
                                    .target = &flags->json,
                                    .help = "one JSON object a line instead of text"};
}

// Starts a service in a directory of its own below the state directory.
static enum status start_private(struct cli *cli, const struct service_flags *start,
                                 const char *directory, struct session *out, struct error *err) {
    char path[SERVICE_PATH_BYTES];
    // Said, because a service that was meant to be up may have served other models.
    fprintf(stderr,
            "surefoot: no service is up in %s: one of its own serves this command, with %s\n",
            directory, start->policy != NULL ? start->policy : "the shipped models");
    service_remove_stale(directory);
    out->private_lock = service_make_private(directory, path, err);
    if (out->private_lock < 0) {
        return err->status;
    }
    enum status status = service_start(cli, start, path, true, &out->service, err);
    out->private_service = status == STATUS_OK;
    if (status != STATUS_OK) {
        service_remove_directory(path);
        close(out->private_lock);
    }
    return status;
}

// Finds the endpoint to use, starting a private service when there is none and `start` allows it.
static enum status find_endpoint(struct cli *cli, const struct session_flags *flags,
                                 const struct service_flags *start, struct session *out,
                                 const char **endpoint, struct error *err) {
    const char *named = flags->endpoint != NULL ? flags->endpoint : getenv("SUREFOOT_ENDPOINT");
    const char *given = start == NULL ? NULL : service_flags_given(start);
    if (named != NULL && given != NULL) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "--%s", given);
        return error_set(err, STATUS_INVALID_ARGUMENT, field,
                         "has no effect on the service at %.120s, which was started without it",
                         named);
    }
    if (named != NULL) {
        *endpoint = named;
        return STATUS_OK;
    }
    char directory[SERVICE_PATH_BYTES];
    enum status status = service_directory(flags->directory, directory, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = service_load(directory, &out->service, err);
    if (status == STATUS_OK && service_alive(&out->service)) {
        *endpoint = out->service.client_endpoint;
        return start == NULL
                   ? STATUS_OK
                   : service_settings_check(cli, &out->service.settings, start, false, err);
    }
    if (status == STATUS_OK) {
        return error_set(err, STATUS_UNAVAILABLE, "--dir",
                         "the service of %s has died; `surefoot up` starts it again as it was, "
                         "`surefoot down` forgets it",
                         directory);
    }
    if (status != STATUS_NOT_FOUND) {
        return status;
    }
    if (start == NULL) {
        return error_set(err, STATUS_UNAVAILABLE, NULL,
                         "no service is up in %s; start one with `surefoot up`", directory);
    }
    status = start_private(cli, start, directory, out, err);
    *endpoint = out->service.client_endpoint;
    return status;
}

enum status session_open(struct cli *cli, const struct session_flags *flags,
                         const struct service_flags *start, struct session *out,
                         struct error *err) {
    out->client = NULL;
    out->private_service = false;
    out->timeout_ms = (int32_t)flags->timeout_ms;
    const char *endpoint = NULL;
    enum status status = find_endpoint(cli, flags, start, out, &endpoint, err);
    if (status != STATUS_OK) {
        return status;
    }
    const struct surefoot_options options = {.wake_fd = cli->signal_fd};
    return surefoot_client_open(endpoint, &options, &out->client, err);
}

void session_close(struct session *session) {
    surefoot_client_close(session->client);
    if (!session->private_service) {
        return;
    }
    struct error err;
    if (service_stop(&session->service, &err) != STATUS_OK) {
        fprintf(stderr, "surefoot: %s\n", err.message);
    }
    service_remove_directory(session->service.directory);
    close(session->private_lock);
}
