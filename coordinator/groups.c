#include "coordinator/groups.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct groups {
    struct group places[LIMIT_GROUPS];
    bool has_models;
    struct model_set models;
};

enum status groups_create(struct groups **out) {
    struct groups *groups = calloc(1, sizeof *groups);
    if (groups == NULL) {
        return STATUS_NO_MEMORY;
    }
    *out = groups;
    return STATUS_OK;
}

void groups_destroy(struct groups *groups) {
    free(groups);
}

static enum status check_hello(const Surefoot__GroupHello *hello, struct error *err) {
    size_t length = hello->name != NULL ? strlen(hello->name) : 0;
    if (length == 0 || length > LIMIT_NAME_BYTES) {
        return error_set(err, length == 0 ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, "hello.name",
                         "%zu bytes, outside 1..%d", length, LIMIT_NAME_BYTES);
    }
    if (hello->n_ranks < 1 || hello->n_ranks > LIMIT_RANKS) {
        return error_set(err, STATUS_LIMIT, "hello.n_ranks", "%u is outside 1..%d", hello->n_ranks,
                         LIMIT_RANKS);
    }
    if (hello->slots < 1 || hello->slots > LIMIT_GROUP_SLOTS) {
        return error_set(err, STATUS_LIMIT, "hello.slots", "%u is outside 1..%d", hello->slots,
                         LIMIT_GROUP_SLOTS);
    }
    return STATUS_OK;
}

static bool same_peer(const struct channel_peer *a, const struct channel_peer *b) {
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

// The place of this name, else of this peer, else a free one, else a dead group's; -1 when all
// live.
static int find_place(const struct groups *groups, const struct groups_hello *args) {
    int free_place = -1;
    int dead_place = -1;
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *group = &groups->places[g];
        if (group->used && strcmp(group->name, args->hello->name) == 0) {
            return g;
        }
        if (!group->used && free_place < 0) {
            free_place = g;
        } else if (group->used && !group->alive && dead_place < 0) {
            dead_place = g;
        }
    }
    int peer_place = groups_find(groups, args->peer);
    return peer_place >= 0 ? peer_place : free_place >= 0 ? free_place : dead_place;
}

enum status groups_add(struct groups *groups, const struct groups_hello *args, int *group,
                       int *replaced, struct error *err) {
    struct model_set models;
    enum status status = check_hello(args->hello, err);
    if (status == STATUS_OK) {
        status = model_set_read(args->hello, &models, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, "hello");
        }
    }
    bool may_change = groups_alive(groups) == 0 && args->idle;
    if (status == STATUS_OK && groups->has_models && !may_change) {
        status = model_set_agree(&groups->models, &models, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, "hello");
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    int place = find_place(groups, args);
    if (place < 0) {
        return error_set(err, STATUS_LIMIT, "hello", "%d groups are connected, the limit is %d",
                         LIMIT_GROUPS, LIMIT_GROUPS);
    }
    const struct group *holder = &groups->places[place];
    if (holder->alive && !same_peer(&holder->peer, args->peer) &&
        args->now_ms - holder->last_seen_ms < args->silence_ms) {
        return error_set(err, STATUS_ALREADY_EXISTS, "hello.name",
                         "a group named %s is connected and alive", args->hello->name);
    }
    if (!groups->has_models || may_change) {
        groups->models = models;
        groups->has_models = true;
    }
    *replaced = groups->places[place].alive ? place : -1;
    groups->places[place] = (struct group){
        .used = true,
        .alive = true,
        .peer = *args->peer,
        .n_ranks = args->hello->n_ranks,
        .slots = args->hello->slots,
        .joined_ms = args->now_ms,
        .last_seen_ms = args->now_ms,
    };
    memcpy(groups->places[place].name, args->hello->name, strlen(args->hello->name) + 1);
    *group = place;
    return STATUS_OK;
}

int groups_find(const struct groups *groups, const struct channel_peer *peer) {
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        if (groups->places[g].alive && same_peer(&groups->places[g].peer, peer)) {
            return g;
        }
    }
    return -1;
}

void groups_seen(struct groups *groups, int group, int64_t now_ms) {
    groups->places[group].last_seen_ms = now_ms;
}

static void add_time(double *sum, double milliseconds) {
    *sum += isfinite(milliseconds) && milliseconds > 0 ? milliseconds : 0;
}

void groups_count_order(struct groups *groups, int group, const Surefoot__Gathered *gathered) {
    struct group *place = &groups->places[group];
    place->orders_done++;
    place->rebuilt += gathered->rebuilt_tokens;
    add_time(&place->decode_ms, gathered->decode_ms);
    add_time(&place->score_ms, gathered->score_ms);
    add_time(&place->collective_ms, gathered->collective_ms);
    add_time(&place->order_ms, gathered->order_ms);
}

int groups_overdue(const struct groups *groups, int64_t now_ms, int64_t dead_after_ms) {
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *group = &groups->places[g];
        if (group->alive && now_ms - group->last_seen_ms >= dead_after_ms) {
            return g;
        }
    }
    return -1;
}

static void note(struct group *group, const char *why) {
    snprintf(group->why, sizeof group->why, "%s", why);
}

void groups_lose(struct groups *groups, int group, const char *why) {
    groups->places[group].alive = false;
    note(&groups->places[group], why);
}

void groups_set_aside(struct groups *groups, int group, const char *why) {
    groups->places[group].set_aside = true;
    note(&groups->places[group], why);
}

void groups_stall(struct groups *groups, int group, const char *why) {
    groups->places[group].stalled = true;
    note(&groups->places[group], why);
}

void groups_blame(struct groups *groups, int group) {
    groups->places[group].faults++;
    groups->places[group].good_rows = 0;
}

void groups_count_bad_row(struct groups *groups, int group, bool is_fault) {
    groups->places[group].bad_rows++;
    if (is_fault) {
        groups_blame(groups, group);
    }
}

void groups_count_good_row(struct groups *groups, int group) {
    struct group *place = &groups->places[group];
    if (place->faults > 0 && ++place->good_rows == GROUP_GOOD_ROWS) {
        place->faults = 0;
    }
}

int groups_faulty(const struct groups *groups) {
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *group = &groups->places[g];
        if (group->alive && !group->set_aside && group->faults >= GROUP_FAULTS_MAX) {
            return g;
        }
    }
    return -1;
}

struct group *groups_get(struct groups *groups, int group) {
    ASSERT(group >= 0 && group < LIMIT_GROUPS);
    return groups->places[group].used ? &groups->places[group] : NULL;
}

const struct model_set *groups_models(const struct groups *groups) {
    return groups->has_models ? &groups->models : NULL;
}

size_t groups_alive(const struct groups *groups) {
    size_t count = 0;
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        count += groups->places[g].alive ? 1 : 0;
    }
    return count;
}

size_t groups_serving(const struct groups *groups) {
    size_t count = 0;
    for (int g = 0; g < LIMIT_GROUPS; g++) {
        const struct group *group = &groups->places[g];
        count += group->alive && !group->set_aside && !group->stalled ? 1 : 0;
    }
    return count;
}
