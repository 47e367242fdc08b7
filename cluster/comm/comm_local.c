#include "cluster/comm/comm.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/deadline.h"

enum call_kind { CALL_BROADCAST, CALL_ALL_GATHER, CALL_ALL_REDUCE_MAX, CALL_BARRIER };

// What one rank brought to the collective under way; its buffers stay valid while it waits inside.
struct call {
    enum call_kind kind;
    int root;
    size_t size; // bytes of `send`
    const void *send;
    void *receive;
};

// The last rank to arrive carries out the whole collective under the mutex. So no rank touches the
// buffers of another one that has left, however it left.
struct world {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int world_size;
    int n_open;
    int n_arrived;
    uint64_t n_done;    // collectives carried out
    bool broken;        // a rank missed its deadline, aborted or closed: final
    struct call *calls; // [world_size], by rank
    _Atomic int64_t *heard_ms; // [world_size], by rank
};

struct comm_local {
    struct comm base;
    struct world *world;
};

static void run_broadcast(struct world *world) {
    int root = world->calls[0].root;
    for (int i = 0; i < world->world_size; i++) {
        if (i != root && world->calls[i].size > 0) {
            memcpy(world->calls[i].receive, world->calls[root].send, world->calls[i].size);
        }
    }
}

static void run_all_gather(struct world *world) {
    size_t size = world->calls[0].size;
    for (int i = 0; i < world->world_size && size > 0; i++) {
        for (int from = 0; from < world->world_size; from++) {
            uint8_t *to = (uint8_t *)world->calls[i].receive + (size_t)from * size;
            memmove(to, world->calls[from].send, size); // a rank may gather in place
        }
    }
}

static void run_all_reduce_max(struct world *world) {
    double *result = world->calls[0].receive;
    size_t count = world->calls[0].size / sizeof *result;
    for (int i = 1; i < world->world_size; i++) {
        const double *values = world->calls[i].send;
        for (size_t k = 0; k < count; k++) {
            result[k] = values[k] > result[k] ? values[k] : result[k];
        }
    }
    for (int i = 1; i < world->world_size && count > 0; i++) {
        memcpy(world->calls[i].receive, result, count * sizeof *result);
    }
}

static void run_collective(struct world *world) {
    for (int i = 1; i < world->world_size; i++) {
        ASSERT(world->calls[i].kind == world->calls[0].kind);
        ASSERT(world->calls[i].root == world->calls[0].root);
        ASSERT(world->calls[i].size == world->calls[0].size);
    }
    switch (world->calls[0].kind) {
    case CALL_BROADCAST:
        run_broadcast(world);
        break;
    case CALL_ALL_GATHER:
        run_all_gather(world);
        break;
    case CALL_ALL_REDUCE_MAX:
        run_all_reduce_max(world);
        break;
    case CALL_BARRIER:
        break;
    }
}

static void mark_broken(struct world *world) {
    world->broken = true;
    pthread_cond_broadcast(&world->changed);
}

static void wait_until(struct world *world, int64_t time_ms) {
    struct timespec until = {.tv_sec = time_ms / 1000, .tv_nsec = time_ms % 1000 * 1000000};
    int result = pthread_cond_timedwait(&world->changed, &world->mutex, &until);
    ASSERT(result == 0 || result == ETIMEDOUT);
}

// Waits with the mutex held until collective number `number` is done.
static enum status wait_done(struct comm *comm, struct world *world, uint64_t number,
                             int64_t deadline_ms) {
    while (world->n_done < number) {
        if (world->broken) {
            return STATUS_PEER_LOST;
        }
        if (deadline_passed(deadline_ms)) {
            mark_broken(world);
            return STATUS_DEADLINE;
        }
        int64_t turn_ms = deadline_after_ms(COMM_IDLE_MS);
        wait_until(world, turn_ms < deadline_ms ? turn_ms : deadline_ms);
        pthread_mutex_unlock(&world->mutex);
        bool goes_on = comm_wait_on(comm);
        pthread_mutex_lock(&world->mutex);
        if (!goes_on) {
            mark_broken(world);
        }
    }
    return STATUS_OK;
}

static enum status join(struct comm *comm, const struct call *call, int64_t deadline_ms) {
    struct world *world = ((struct comm_local *)comm)->world;
    enum status status = STATUS_PEER_LOST;
    pthread_mutex_lock(&world->mutex);
    if (!world->broken) {
        uint64_t number = world->n_done + 1;
        world->calls[comm->rank] = *call;
        world->n_arrived++;
        if (world->n_arrived == world->world_size) {
            run_collective(world);
            world->n_arrived = 0;
            world->n_done = number;
            pthread_cond_broadcast(&world->changed);
        }
        status = wait_done(comm, world, number, deadline_ms);
    }
    pthread_mutex_unlock(&world->mutex);
    return status;
}

static enum status local_broadcast(struct comm *comm, void *bytes, size_t size, int root,
                                   int64_t deadline_ms) {
    struct call call = {CALL_BROADCAST, root, size, bytes, bytes};
    return join(comm, &call, deadline_ms);
}

static enum status local_all_gather(struct comm *comm, const void *send, size_t size, void *receive,
                                    int64_t deadline_ms) {
    struct call call = {CALL_ALL_GATHER, 0, size, send, receive};
    return join(comm, &call, deadline_ms);
}

static enum status local_all_reduce_max(struct comm *comm, double *values, int count,
                                        int64_t deadline_ms) {
    struct call call = {CALL_ALL_REDUCE_MAX, 0, (size_t)count * sizeof *values, values, values};
    return join(comm, &call, deadline_ms);
}

static enum status local_barrier(struct comm *comm, int64_t deadline_ms) {
    struct call call = {.kind = CALL_BARRIER};
    return join(comm, &call, deadline_ms);
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
    struct world *world = ((struct comm_local *)comm)->world;
    pthread_mutex_lock(&world->mutex);
    mark_broken(world);
    pthread_mutex_unlock(&world->mutex);
}

static void world_destroy(struct world *world) {
    pthread_cond_destroy(&world->changed);
    pthread_mutex_destroy(&world->mutex);
    free(world->calls);
    free(world->heard_ms);
    free(world);
}

static void local_close(struct comm *comm) {
    struct world *world = ((struct comm_local *)comm)->world;
    pthread_mutex_lock(&world->mutex);
    mark_broken(world);
    bool last = --world->n_open == 0;
    pthread_mutex_unlock(&world->mutex);
    if (last) {
        world_destroy(world);
    }
    free(comm);
}

static const struct comm_ops local_ops = {
    .name = "local",
    .broadcast = local_broadcast,
    .all_gather = local_all_gather,
    .all_reduce_max = local_all_reduce_max,
    .barrier = local_barrier,
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
    world->calls = calloc((size_t)world_size, sizeof *world->calls);
    world->heard_ms = calloc((size_t)world_size, sizeof *world->heard_ms);
    if (world->calls == NULL || world->heard_ms == NULL) {
        free(world->calls);
        free(world->heard_ms);
        free(world);
        return NULL;
    }
    for (int i = 0; i < world_size; i++) {
        atomic_init(&world->heard_ms[i], clock_monotonic_ms());
    }
    world->world_size = world_size;
    world->n_open = world_size;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); // deadlines are on this clock
    pthread_cond_init(&world->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&world->mutex, NULL);
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
