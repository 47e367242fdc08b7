// Collectives of one worker group behind one table: `local` (ranks are threads of one
// process) and `mpi` (ranks are processes). All ranks make the same calls in the same order, in
// each of two lanes: what one lane waits for does not hold up the other. Host buffers. Every wait
// has a deadline; after STATUS_DEADLINE or STATUS_PEER_LOST the communicator is unusable and
// comm_abort is the only thing left to do. One rank is a group too and takes the same path. A
// communicator belongs to one thread per rank.
#ifndef CLUSTER_COMM_COMM_H
#define CLUSTER_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

struct comm;

enum comm_lane { COMM_LANE_ORDERS, COMM_LANE_ROWS, COMM_LANES };

enum comm_kind {
    COMM_BROADCAST,
    COMM_ALL_GATHER,
    COMM_ALL_REDUCE_MAX, // of doubles
    COMM_BARRIER,
};

// What one rank brings to a collective.
struct comm_call {
    enum comm_kind kind;
    enum comm_lane lane;
    int root;    // of a broadcast
    size_t size; // bytes of `send`
    void *send;  // what a broadcast or a reduction brings comes here too
    void *receive;
};

struct comm_ops {
    const char *name;
    // Starts a collective in its lane, where none is under way on this rank. The buffers stay
    // valid until `test` says that it is done; nothing touches them after `abandon`.
    enum status (*begin)(struct comm *comm, const struct comm_call *call);
    enum status (*test)(struct comm *comm, enum comm_lane lane, bool *done);
    void (*abandon)(struct comm *comm);               // what is under way; final
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
    int64_t report_at_ms;             // when this rank's next sign of life is due
    int64_t met_ms;                   // when a collective that every rank must enter last succeeded
    enum comm_kind kinds[COMM_LANES]; // of what is under way
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

// Gives up what is under way, which ends with STATUS_PEER_LOST; its buffers are the caller's again.
// Final, and for the idle callback too.
void comm_abandon(struct comm *comm);

// One step of something that takes several and does not wait; *done: it was the last.
typedef enum status (*comm_step_fn)(void *context, bool *done);

// Steps until done, with pauses that leave the core to ranks that compute. STATUS_DEADLINE and
// every failure of a step are final for the communicator.
MUST_CHECK enum status comm_wait(struct comm *comm, comm_step_fn step, void *context,
                                 int64_t deadline_ms);

// The pause of a wait that has lasted so long, for a rank that waits for other things too: a 64th
// of it, at most a millisecond.
void comm_pause(int64_t waited_ns);

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

// A message of root's choosing on its way to all ranks: its length, then its bytes. While it lasts
// the lane is its own. STATUS_LIMIT, for sizes above size_max, comes on every rank, and the
// communicator stays usable. STATUS_NO_MEMORY on one rank leaves the others waiting: comm_abort.
enum comm_stage { COMM_STAGE_NEW, COMM_STAGE_LENGTH, COMM_STAGE_BYTES };
struct comm_broadcast {
    struct comm *comm;
    int root;
    size_t size_max;
    enum comm_stage stage;
    uint64_t length;
    uint8_t *bytes; // root's are borrowed, the others' owned: free() when done or failed
};
void comm_broadcast_begin(struct comm_broadcast *broadcast, struct comm *comm, uint8_t *bytes,
                          size_t size, size_t size_max, int root);
MUST_CHECK enum status comm_broadcast_step(void *broadcast, bool *done);

// Begins it and waits. On root *bytes and *size are inputs (borrowed); elsewhere *bytes returns
// owned memory, free().
MUST_CHECK enum status comm_broadcast_message(struct comm *comm, uint8_t **bytes, size_t *size,
                                              size_t size_max, int root, int64_t deadline_ms);

// Messages of different lengths, of every rank for every rank, in the lane of rows: lengths first,
// then one all-gather in which every rank sends as much as the longest one, since a group's
// messages are about equally long, and one collective costs less than world_size of exact size.
// Limits and memory as above. Zeroed before begin.
struct comm_gather {
    struct comm *comm;
    const uint8_t *bytes; // borrowed until done
    size_t size_max;
    uint64_t *lengths; // [world_size + 1], this rank's last
    uint64_t longest;  // 0 until the lengths are there
    uint8_t *padded;   // [longest]
    uint8_t *receive;  // all ranks' bytes one after the other
    size_t *offsets;   // [world_size + 1], borrowed: where each begins and the last ends
};
MUST_CHECK enum status comm_gather_begin(struct comm_gather *gather, struct comm *comm,
                                         const uint8_t *bytes, size_t size, size_t size_max,
                                         size_t *offsets);
MUST_CHECK enum status comm_gather_step(void *gather, bool *done);
// Frees what it has, `receive` too, unless it was taken. Not while it is under way.
void comm_gather_finish(struct comm_gather *gather);

// Begins it and waits: *receive returns owned memory, free().
MUST_CHECK enum status comm_all_gather_messages(struct comm *comm, const uint8_t *bytes,
                                                size_t size, size_t size_max, uint8_t **receive,
                                                size_t *offsets, int64_t deadline_ms);

// Ends every rank of the group; does not return from mpi. On local, ranks that wait now or later
// get STATUS_PEER_LOST.
void comm_abort(struct comm *comm, int exit_code);

void comm_close(struct comm *comm); // NULL allowed

#endif
