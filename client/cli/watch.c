#include "client/cli/watch.h"

#include <stdio.h>
#include <string.h>

#include "common/deadline.h"

enum { LOOK_EVERY_MS = 1000, LOOK_WAIT_MS = 1000, SAY_EVERY_MS = 10000 };

struct flag watch_flag(uint32_t *patience_ms) {
    return (struct flag){.name = "patience-ms",
                         .kind = FLAG_U32,
                         .target = patience_ms,
                         .min = 1,
                         .max = LIMIT_DEADLINE_MS,
                         .value = "N",
                         .help = "give up when the service does not answer or has no live group "
                                 "for so long, default 60000"};
}

struct flag watch_renamed_flag(void) {
    return (struct flag){
        .name = "patience-s", .kind = FLAG_RENAMED, .help = "--patience-ms, milliseconds,"};
}

void watch_init(struct watch *watch, struct surefoot_client *client, int32_t timeout_ms,
                uint32_t patience_ms) {
    int64_t now = clock_monotonic_ms();
    *watch = (struct watch){.client = client,
                            .timeout_ms = timeout_ms,
                            .patience_ms = patience_ms,
                            .good_ms = now,
                            .look_ms = now + LOOK_EVERY_MS};
}

void watch_note_work(struct watch *watch) {
    watch->good_ms = clock_monotonic_ms();
    watch->look_ms = watch->good_ms + LOOK_EVERY_MS;
}

int32_t watch_timeout(const struct watch *watch) {
    int64_t left = watch->good_ms + watch->patience_ms - clock_monotonic_ms();
    left = left < 1 ? 1 : left;
    return left < watch->timeout_ms ? (int32_t)left : watch->timeout_ms;
}

// False when some group is alive.
static bool find_reason(const Surefoot__ServiceStatus *state, char reason[WATCH_REASON_BYTES]) {
    snprintf(reason, WATCH_REASON_BYTES, "no group is alive%s",
             state->n_groups == 0 ? ", none is known" : ":");
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        if (group->alive) {
            return false;
        }
        size_t used = strlen(reason);
        snprintf(reason + used, WATCH_REASON_BYTES - used, " %.64s",
                 group->name == NULL ? "" : group->name);
    }
    return true;
}

static void say(struct watch *watch, const char *reason) {
    int64_t now = clock_monotonic_ms();
    if (watch->said && now < watch->say_ms) {
        return;
    }
    fprintf(stderr, "surefoot: waiting for %lld s: %s; giving up after %lld s\n",
            (long long)((now - watch->good_ms) / 1000), reason,
            (long long)((watch->patience_ms + 999) / 1000));
    watch->said = true;
    watch->say_ms = now + SAY_EVERY_MS;
}

enum status watch_look(struct watch *watch, struct error *err) {
    if (!deadline_passed(watch->look_ms)) {
        return STATUS_OK;
    }
    Surefoot__ServiceStatus *state = NULL;
    // A fair chance also when other requests have used the patience up.
    int32_t wait_ms = watch->timeout_ms < LOOK_WAIT_MS ? watch->timeout_ms : LOOK_WAIT_MS;
    enum status status = surefoot_status(watch->client, wait_ms, &state, err);
    watch->look_ms = clock_monotonic_ms() + LOOK_EVERY_MS;
    if (status != STATUS_OK && status != STATUS_DEADLINE) {
        return status;
    }
    char reason[WATCH_REASON_BYTES] = "the service does not answer";
    bool stuck = status == STATUS_DEADLINE || find_reason(state, reason);
    surefoot_status_free(state);
    if (!stuck) {
        watch->good_ms = clock_monotonic_ms();
        if (watch->said) {
            fprintf(stderr, "surefoot: the service works again\n");
            watch->said = false;
        }
        return STATUS_OK;
    }
    if (deadline_passed(watch->good_ms + watch->patience_ms)) {
        return error_set(err, STATUS_UNAVAILABLE, "--patience-ms", "%s, for %lld ms", reason,
                         (long long)watch->patience_ms);
    }
    say(watch, reason);
    return STATUS_OK;
}
