// Scorers of one architecture's shape work in pairs, side by side: each on half of the threads and
// on a backend of its own, so that neither waits for the other's operations to be divided, and what
// one does on a single thread does not leave the other threads idle. What they compute is the same
// with any number of threads.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>

#include "worker/group/rank_internal.h"

enum { BEAT_NS = 100 * 1000 * 1000 };

// The second of a pair, on a thread of its own while the rank's thread runs the first.
struct side_run {
    struct rank *rank;
    rank_scorer_fn run;
    int scorer;
    sem_t done;
    enum status status;
    struct error err;
};

static bool same_shape(const struct model_config *a, const struct model_config *b) {
    return a->architecture == b->architecture && a->vocab_size == b->vocab_size &&
           a->hidden_dim == b->hidden_dim && a->ffn_dim == b->ffn_dim &&
           a->n_layers == b->n_layers && a->n_heads == b->n_heads &&
           a->n_kv_heads == b->n_kv_heads && a->head_dim == b->head_dim;
}

enum status rank_pair_scorer(struct rank *rank, int index, const char *directory, int threads,
                             struct error *err) {
    struct rank_model *scorer = &rank->scorers[index];
    scorer->partner = -1;
    scorer->backend = rank->backend;
    struct model_config config;
    enum status status = model_config_read(directory, &config, err);
    if (status != STATUS_OK) {
        return status;
    }
    // Halves of an odd number would leave a thread out.
    if (threads % 2 != 0) {
        return STATUS_OK;
    }
    for (int i = 0; i < index; i++) {
        if (rank->scorers[i].partner < 0 &&
            same_shape(model_get_config(rank->scorers[i].model), &config)) {
            if (rank->side == NULL) {
                status = backend_create(rank->backend_name, threads, &rank->side, err);
            }
            if (status == STATUS_OK) {
                scorer->backend = rank->side;
                scorer->partner = i;
                rank->scorers[i].partner = index;
            }
            return status;
        }
    }
    return STATUS_OK;
}

void rank_report_side_progress(void *context) {
    struct rank *rank = context;
    if (rank->side_by_side) {
        atomic_fetch_add(&rank->side_progress, 1); // the callback is the rank's thread's
    } else {
        rank_report_progress(rank);
    }
}

static void share_cores(struct rank *rank, bool shared) {
    rank->side_by_side = shared;
    rank->backend->ops->share_cores(rank->backend, shared);
    rank->side->ops->share_cores(rank->side, shared);
}

static void *run_side(void *argument) {
    struct side_run *side = argument;
    side->status = side->run(side->rank, side->scorer, &side->err);
    sem_post(&side->done);
    return NULL;
}

// Waits for the other thread and passes its signs of life on.
static void await(struct side_run *side) {
    uint64_t seen = 0;
    for (;;) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += BEAT_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (sem_clockwait(&side->done, CLOCK_MONOTONIC, &until) == 0) {
            return;
        }
        ASSERT(errno == ETIMEDOUT || errno == EINTR);
        uint64_t progress = atomic_load(&side->rank->side_progress);
        if (progress != seen) {
            seen = progress;
            rank_report_progress(side->rank);
        }
    }
}

static enum status run_pair(struct rank *rank, int first, rank_scorer_fn run, struct error *err) {
    struct side_run side = {.rank = rank, .run = run, .scorer = rank->scorers[first].partner};
    pthread_t thread;
    sem_init(&side.done, 0, 0);
    share_cores(rank, true);
    atomic_store(&rank->side_progress, 0);
    if (pthread_create(&thread, NULL, run_side, &side) != 0) {
        share_cores(rank, false);
        sem_destroy(&side.done);
        enum status status = run(rank, first, err);
        return status == STATUS_OK ? run(rank, side.scorer, err) : status;
    }
    rank->counts.paired_runs++;
    enum status status = run(rank, first, err);
    await(&side);
    pthread_join(thread, NULL);
    sem_destroy(&side.done);
    share_cores(rank, false);
    if (status == STATUS_OK && side.status != STATUS_OK) {
        *err = side.err;
        status = side.status;
    }
    return status;
}

enum status rank_run_scorers(struct rank *rank, rank_scorer_fn run, struct error *err) {
    enum status status = STATUS_OK;
    for (int k = 0; k < rank->n_scorers && status == STATUS_OK; k++) {
        int partner = rank->scorers[k].partner;
        bool paired = partner >= 0 && rank->scorer_counts[partner] > 0;
        if (rank->scorer_counts[k] == 0 || (paired && partner < k)) {
            continue;
        }
        status = paired ? run_pair(rank, k, run, err) : run(rank, k, err);
    }
    return status;
}
