#include "cluster/comm/comm.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"

void comm_set_idle(struct comm *comm, comm_idle_fn idle, void *context) {
    comm->idle = idle;
    comm->idle_context = context;
}

void comm_report(struct comm *comm) {
    if (comm->rank != 0 && deadline_passed(comm->report_at_ms)) {
        comm->report_at_ms = deadline_after_ms(COMM_REPORT_MS);
        comm->ops->report(comm);
    }
}

int comm_most_silent(struct comm *comm, int64_t *silent_ms) {
    ASSERT(comm->rank == 0);
    int silent = -1;
    int64_t oldest_ms = INT64_MAX;
    for (int rank = 1; rank < comm->world_size; rank++) {
        int64_t heard_ms = comm->ops->heard_ms(comm, rank);
        if (heard_ms < oldest_ms) {
            oldest_ms = heard_ms;
            silent = rank;
        }
    }
    oldest_ms = oldest_ms > comm->met_ms ? oldest_ms : comm->met_ms;
    *silent_ms = silent >= 0 ? clock_monotonic_ms() - oldest_ms : 0;
    return silent;
}

void comm_give_up(struct comm *comm) {
    comm->given_up = true;
}

bool comm_wait_on(struct comm *comm) {
    comm_report(comm);
    if (comm->idle != NULL) {
        comm->idle(comm->idle_context);
    }
    return !comm->given_up;
}

static enum status note_meeting(struct comm *comm, enum status status) {
    if (status == STATUS_OK) {
        comm->met_ms = clock_monotonic_ms();
    }
    return status;
}

enum status comm_broadcast(struct comm *comm, void *bytes, size_t size, int root,
                           int64_t deadline_ms) {
    ASSERT(root >= 0 && root < comm->world_size);
    ASSERT(bytes != NULL || size == 0);
    if (size > INT_MAX) {
        return STATUS_LIMIT;
    }
    return comm->ops->broadcast(comm, bytes, size, root, deadline_ms);
}

enum status comm_all_gather(struct comm *comm, const void *send, size_t size, void *receive,
                            int64_t deadline_ms) {
    ASSERT((send != NULL && receive != NULL) || size == 0);
    if (size > INT_MAX) {
        return STATUS_LIMIT;
    }
    return note_meeting(comm, comm->ops->all_gather(comm, send, size, receive, deadline_ms));
}

enum status comm_all_reduce_max(struct comm *comm, double *values, int count, int64_t deadline_ms) {
    ASSERT(count >= 0 && (values != NULL || count == 0));
    if ((size_t)count > INT_MAX / sizeof *values) {
        return STATUS_LIMIT;
    }
    return note_meeting(comm, comm->ops->all_reduce_max(comm, values, count, deadline_ms));
}

enum status comm_barrier(struct comm *comm, int64_t deadline_ms) {
    return note_meeting(comm, comm->ops->barrier(comm, deadline_ms));
}

enum status comm_broadcast_message(struct comm *comm, uint8_t **bytes, size_t *size,
                                   size_t size_max, int root, int64_t deadline_ms) {
    uint64_t length = comm->rank == root ? *size : 0;
    enum status status = comm_broadcast(comm, &length, sizeof length, root, deadline_ms);
    if (status != STATUS_OK) {
        return status;
    }
    if (length > size_max || length > INT_MAX) {
        return STATUS_LIMIT;
    }
    if (comm->rank == root) {
        return comm_broadcast(comm, *bytes, *size, root, deadline_ms);
    }
    uint8_t *received = malloc(length > 0 ? length : 1);
    if (received == NULL) {
        return STATUS_NO_MEMORY;
    }
    status = comm_broadcast(comm, received, length, root, deadline_ms);
    if (status != STATUS_OK) {
        free(received);
        return status;
    }
    *bytes = received;
    *size = length;
    return STATUS_OK;
}

// Moves messages of lengths[i], gathered at a stride of `stride` bytes, together.
static void compact(uint8_t *bytes, size_t stride, const uint64_t *lengths, int count,
                    size_t *offsets) {
    offsets[0] = 0;
    for (int i = 0; i < count; i++) {
        memmove(bytes + offsets[i], bytes + (size_t)i * stride, lengths[i]);
        offsets[i + 1] = offsets[i] + lengths[i];
    }
}

// Lengths first, then one all-gather in which every rank sends as much as the longest one: a
// group's messages are about equally long, and one collective costs less than world_size of exact
// size.
enum status comm_all_gather_messages(struct comm *comm, const uint8_t *bytes, size_t size,
                                     size_t size_max, uint8_t **receive, size_t *offsets,
                                     int64_t deadline_ms) {
    size_t world_size = (size_t)comm->world_size;
    uint8_t *padded = NULL;
    uint8_t *gathered = NULL;
    uint64_t *lengths = calloc(world_size, sizeof *lengths);
    if (lengths == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint64_t length = size;
    enum status status = comm_all_gather(comm, &length, sizeof length, lengths, deadline_ms);
    if (status != STATUS_OK) {
        goto out;
    }
    uint64_t longest = 1;
    for (size_t i = 0; i < world_size; i++) {
        longest = lengths[i] > longest ? lengths[i] : longest;
    }
    status = STATUS_LIMIT;
    if (longest > size_max || longest > INT_MAX || longest > SIZE_MAX / world_size) {
        goto out;
    }
    status = STATUS_NO_MEMORY;
    padded = calloc(1, longest);
    gathered = malloc(longest * world_size);
    if (padded == NULL || gathered == NULL) {
        goto out;
    }
    if (size > 0) {
        memcpy(padded, bytes, size);
    }
    status = comm_all_gather(comm, padded, longest, gathered, deadline_ms);
    if (status != STATUS_OK) {
        goto out;
    }
    compact(gathered, longest, lengths, comm->world_size, offsets);
    *receive = gathered;
    gathered = NULL;
out:
    free(gathered);
    free(padded);
    free(lengths);
    return status;
}

void comm_abort(struct comm *comm, int exit_code) {
    comm->ops->abort(comm, exit_code);
}

void comm_close(struct comm *comm) {
    if (comm != NULL) {
        comm->ops->close(comm);
    }
}
