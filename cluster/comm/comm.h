// Collectives of one worker group behind one table: `local` (ranks are threads of one
// process) and `mpi` (ranks are processes). All ranks make the same calls in
// the same order. Host buffers. Every wait has a deadline; after STATUS_DEADLINE or
// STATUS_PEER_LOST the communicator is unusable and comm_abort is the only thing left to do. One
// rank is a group too and takes the same path. A communicator belongs to one thread per rank.
#ifndef CLUSTER_COMM_COMM_H
#define CLUSTER_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct comm;

struct comm_ops {
    const char *name;
    enum status (*broadcast)(struct comm *comm, void *bytes, size_t size, int root,
                             int64_t deadline_ms);
    enum status (*all_gather)(struct comm *comm, const void *send, size_t size, void *receive,
                              int64_t deadline_ms);
    enum status (*all_reduce_max)(struct comm *comm, double *values, int count,
                                  int64_t deadline_ms);
    enum status (*barrier)(struct comm *comm, int64_t deadline_ms);
    void (*report)(struct comm *comm);                // tells rank 0 of this rank; never blocks
    int64_t (*heard_ms)(struct comm *comm, int rank); // on rank 0: when it last did
    void (*abort)(struct comm *comm, int exit_code);
    void (*close)(struct comm *comm);
};

// Called on a waiting rank about every COMM_IDLE_MS, so that the leader can beat while other ranks
// still work. Must not call collectives.
typedef void (*comm_idle_fn)(void *context);

enum { COMM_IDLE_MS = 10, COMM_REPORT_MS = 20 };

// Embedded first in each implementation's struct.
struct comm {
    const struct comm_ops *ops;
    int rank;
    int world_size;
    comm_idle_fn idle; // NULL: none
    void *idle_context;
    int64_t report_at_ms; // when this rank's next sign of life is due
    int64_t met_ms;       // when a collective that every rank must enter last succeeded
    bool given_up;
};

// Ranks as threads: fills out[world_size]; each is closed by comm_close.
MUST_CHECK enum status comm_local_create(int world_size, struct comm **out);

// This process's rank of MPI_COMM_WORLD. Initialises MPI when it is not; comm_close finalises it
// then (after a meeting with a deadline, since MPI_Finalize has none; not on an unusable
// communicator). The calling thread is the one that makes all further calls.
MUST_CHECK enum status comm_mpi_open(struct comm **out, struct error *err);

// Sets the callback of this rank's waits; NULL for none. Borrows `context` until set again or
// closed.
void comm_set_idle(struct comm *comm, comm_idle_fn idle, void *context);

// A sign of life of this rank: ranks that work say so by this as often as they like (rank 0 is told
// at most every COMM_REPORT_MS), ranks that wait in a collective do by themselves. A rank that does
// neither hangs.
void comm_report(struct comm *comm);

// On rank 0: the other rank that has given no sign of life for longest, and for how long (or since
// the communicator was made); -1 in a world of one. To come to an all-gather, a reduction or a
// barrier is a sign of life, whatever a rank did before it.
int comm_most_silent(struct comm *comm, int64_t *silent_ms);

// From within the idle callback: the wait under way ends with STATUS_PEER_LOST.
void comm_give_up(struct comm *comm);

// Of the implementations: about every COMM_IDLE_MS of a wait. False: it was given up.
bool comm_wait_on(struct comm *comm);

// Each collective: STATUS_LIMIT for more than INT_MAX bytes (nothing was sent, the communicator
// stays usable), STATUS_DEADLINE, STATUS_PEER_LOST. Sends root's `size` bytes to all.
MUST_CHECK enum status comm_broadcast(struct comm *comm, void *bytes, size_t size, int root,
                                      int64_t deadline_ms);

// receive[world_size][size] = every rank's send[size], by rank.
MUST_CHECK enum status comm_all_gather(struct comm *comm, const void *send, size_t size,
                                       void *receive, int64_t deadline_ms);

// values[count] = elementwise maximum over ranks.
MUST_CHECK enum status comm_all_reduce_max(struct comm *comm, double *values, int count,
                                           int64_t deadline_ms);

MUST_CHECK enum status comm_barrier(struct comm *comm, int64_t deadline_ms);

// A message of root's choosing: its length, then its bytes. On root *bytes and *size are inputs
// (borrowed); elsewhere *bytes returns owned memory, free(). Sizes above size_max: STATUS_LIMIT on
// every rank, and the communicator stays usable. STATUS_NO_MEMORY on one rank leaves the others
// waiting: comm_abort.
MUST_CHECK enum status comm_broadcast_message(struct comm *comm, uint8_t **bytes, size_t *size,
                                              size_t size_max, int root, int64_t deadline_ms);

// Messages of different lengths: *receive returns owned memory holding all ranks' bytes one after
// the other, offsets[world_size + 1] (caller's) where each begins and the last ends. Limits and
// memory as above.
MUST_CHECK enum status comm_all_gather_messages(struct comm *comm, const uint8_t *bytes,
                                                size_t size, size_t size_max, uint8_t **receive,
                                                size_t *offsets, int64_t deadline_ms);

// Ends every rank of the group; does not return from mpi. On local, ranks that wait now or later
// get STATUS_PEER_LOST.
void comm_abort(struct comm *comm, int exit_code);

void comm_close(struct comm *comm); // NULL allowed

#endif
