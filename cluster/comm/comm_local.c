#include "cluster/comm/comm.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"

// One lane's collective under way. The last rank to arrive carries out the whole of it under the
// mutex. So no rank touches the buffers of another one that has left, however it left.
struct lane {
    int n_arrived;
    uint64_t n_done;         // collectives carried out
    struct comm_call *calls; // [world_size], by rank
};

struct world {
    pthread_mutex_t mutex;
    int world_size;
    int n_open;
    bool broken; // a rank missed its deadline, aborted or closed: final
    struct lane lanes[COMM_LANES];
    _Atomic int64_t *heard_ms; // [world_size], by rank
};

struct comm_local {
    struct comm base;
    struct world *world;
    uint64_t n_begun[COMM_LANES];
};

static void run_broadcast(const struct comm_call *calls, int world_size) {
    int root = calls[0].root;
    for (int i = 0; i < world_size; i++) {
        if (i != root && calls[i].size > 0) {
            memcpy(calls[i].send, calls[root].send, calls[i].size);
        }
    }
}

static void run_all_gather(const struct comm_call *calls, int world_size) {
    size_t size = calls[0].size;
    for (int i = 0; i < world_size && size > 0; i++) {
        for (int from = 0; from < world_size; from++) {
            uint8_t *to = (uint8_t *)calls[i].receive + (size_t)from * size;
            memmove(to, calls[from].send, size); // a rank may gather in place
        }
    }
}

static void run_all_reduce_max(const struct comm_call *calls, int world_size) {
    double *result = calls[0].send;
    size_t count = calls[0].size / sizeof *result;
    for (int i = 1; i < world_size; i++) {
        const double *values = calls[i].send;
        for (size_t k = 0; k < count; k++) {
            result[k] = values[k] > result[k] ? values[k] : result[k];
        }
    }
    for (int i = 1; i < world_size && count > 0; i++) {
        memcpy(calls[i].send, result, count * sizeof *result);
    }
}

static void run_collective(const struct comm_call *calls, int world_size) {
    for (int i = 1; i < world_size; i++) {
        ASSERT(calls[i].kind == calls[0].kind);
        ASSERT(calls[i].root == calls[0].root);
        ASSERT(calls[i].size == calls[0].size);
    }
    switch (calls[0].kind) {
    case COMM_BROADCAST:
        run_broadcast(calls, world_size);
        break;
    case COMM_ALL_GATHER:
        run_all_gather(calls, world_size);
        break;
    case COMM_ALL_REDUCE_MAX:
        run_all_reduce_max(calls, world_size);
        break;
    case COMM_BARRIER:
        break;
    }
}

static enum status local_begin(struct comm *comm, const struct comm_call *call) {
    struct comm_local *local = (struct comm_local *)comm;
    struct world *world = local->world;
    struct lane *lane = &world->lanes[call->lane];
    pthread_mutex_lock(&world->mutex);
    bool broken = world->broken;
    if (!broken) {
        ASSERT(local->n_begun[call->lane] <= lane->n_done); // one at a time
        local->n_begun[call->lane]++;
        lane->calls[comm->rank] = *call;
        lane->n_arrived++;
        if (lane->n_arrived == world->world_size) {
            run_collective(lane->calls, world->world_size);
            lane->n_arrived = 0;
            lane->n_done++;
        }
    }
    pthread_mutex_unlock(&world->mutex);
    return broken ? STATUS_PEER_LOST : STATUS_OK;
}

static enum status local_test(struct comm *comm, enum comm_lane lane, bool *done) {
    struct comm_local *local = (struct comm_local *)comm;
    pthread_mutex_lock(&local->world->mutex);
    *done = local->world->lanes[lane].n_done >= local->n_begun[lane];
    bool broken = local->world->broken;
    pthread_mutex_unlock(&local->world->mutex);
    return *done || !broken ? STATUS_OK : STATUS_PEER_LOST;
}

static void local_abandon(struct comm *comm) {
    struct world *world = ((struct comm_local *)comm)->world;
    pthread_mutex_lock(&world->mutex);
    world->broken = true;
    pthread_mutex_unlock(&world->mutex);
}

static void local_report(struct comm *comm) {
    struct world *world = ((struct comm_local *)comm)->world;
    atomic_store(&world->heard_ms[comm->rank], clock_monotonic_ms());
}

static int64_t local_heard_ms(struct comm *comm, int rank) {
    struct world *world = ((struct comm_local *)comm)->world;
    return atomic_load(&world->heard_ms[rank]);
}

static void local_abort(struct comm *comm, int exit_code) {
    (void)exit_code; // the ranks are threads of one process, which has one exit code: main's
    local_abandon(comm);
}

static void world_destroy(struct world *world) {
    pthread_mutex_destroy(&world->mutex);
    for (int lane = 0; lane < COMM_LANES; lane++) {
        free(world->lanes[lane].calls);
    }
    free(world->heard_ms);
    free(world);
}

static void local_close(struct comm *comm) {
    struct world *world = ((struct comm_local *)comm)->world;
    pthread_mutex_lock(&world->mutex);
    world->broken = true;
    bool last = --world->n_open == 0;
    pthread_mutex_unlock(&world->mutex);
    if (last) {
        world_destroy(world);
    }
    free(comm);
}

static const struct comm_ops local_ops = {
    .name = "local",
    .begin = local_begin,
    .test = local_test,
    .abandon = local_abandon,
    .report = local_report,
    .heard_ms = local_heard_ms,
    .abort = local_abort,
    .close = local_close,
};

static struct world *world_create(int world_size) {
    struct world *world = calloc(1, sizeof *world);
    if (world == NULL) {
        return NULL;
    }
    pthread_mutex_init(&world->mutex, NULL);
    world->heard_ms = calloc((size_t)world_size, sizeof *world->heard_ms);
    bool complete = world->heard_ms != NULL;
    for (int lane = 0; lane < COMM_LANES; lane++) {
        world->lanes[lane].calls = calloc((size_t)world_size, sizeof *world->lanes[lane].calls);
        complete = complete && world->lanes[lane].calls != NULL;
    }
    if (!complete) {
        world_destroy(world);
        return NULL;
    }
    for (int i = 0; i < world_size; i++) {
        atomic_init(&world->heard_ms[i], clock_monotonic_ms());
    }
    world->world_size = world_size;
    world->n_open = world_size;
    return world;
}

enum status comm_local_create(int world_size, struct comm **out) {
    ASSERT(world_size >= 1);
    struct comm_local **ranks = calloc((size_t)world_size, sizeof *ranks);
    struct world *world = world_create(world_size);
    bool complete = ranks != NULL && world != NULL;
    for (int i = 0; complete && i < world_size; i++) {
        ranks[i] = calloc(1, sizeof *ranks[i]);
        complete = ranks[i] != NULL;
    }
    for (int i = 0; complete && i < world_size; i++) {
        ranks[i]->base = (struct comm){.ops = &local_ops, .rank = i, .world_size = world_size};
        ranks[i]->world = world;
        out[i] = &ranks[i]->base;
    }
    if (!complete) {
        for (int i = 0; ranks != NULL && i < world_size; i++) {
            free(ranks[i]);
        }
        if (world != NULL) {
            world_destroy(world);
        }
    }
    free(ranks);
    return complete ? STATUS_OK : STATUS_NO_MEMORY;
}
