#include "tests/comm/comm_cases.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"

static const size_t sizes[] = {0, 1, 7, 4096, 100003};
enum { N_SIZES = sizeof sizes / sizeof sizes[0], SIZE_LARGEST = 100003, WORLD_MAX = 16 };
enum { SILENCE_MS = 50 }; // longer than reports are apart

static uint8_t pattern(int salt, int rank, size_t index) {
    return (uint8_t)(((size_t)salt * 131 + (size_t)rank * 31 + index * 7) % 251);
}

static void fill(uint8_t *bytes, size_t size, int salt, int rank) {
    for (size_t k = 0; k < size; k++) {
        bytes[k] = pattern(salt, rank, k);
    }
}

static bool matches(const uint8_t *bytes, size_t size, int salt, int rank) {
    for (size_t k = 0; k < size; k++) {
        if (bytes[k] != pattern(salt, rank, k)) {
            fprintf(stderr, "case %d: byte %zu of rank %d is %d\n", salt, k, rank, bytes[k]);
            return false;
        }
    }
    return true;
}

static bool expect(enum status expected, enum status status, const char *what, int rank) {
    if (expected != status) {
        fprintf(stderr, "rank %d: %s: expected %s, got %s\n", rank, what, status_name(expected),
                status_name(status));
    }
    return expected == status;
}

static bool broadcasts(struct comm *comm, uint8_t *bytes, int64_t deadline_ms) {
    bool good = true;
    for (int i = 0; i < N_SIZES; i++) {
        for (int root = 0; root < comm->world_size; root++) {
            fill(bytes, sizes[i], i, comm->rank);
            enum status status = comm_broadcast(comm, bytes, sizes[i], root, deadline_ms);
            good = good && expect(STATUS_OK, status, "broadcast", comm->rank) &&
                   matches(bytes, sizes[i], i, root);
        }
    }
    return good;
}

static bool all_gathers(struct comm *comm, uint8_t *bytes, uint8_t *receive, int64_t deadline_ms) {
    bool good = true;
    for (int i = 0; i < N_SIZES; i++) {
        fill(bytes, sizes[i], 10 + i, comm->rank);
        enum status status = comm_all_gather(comm, bytes, sizes[i], receive, deadline_ms);
        good = good && expect(STATUS_OK, status, "all_gather", comm->rank);
        for (int rank = 0; good && rank < comm->world_size; rank++) {
            good = matches(receive + (size_t)rank * sizes[i], sizes[i], 10 + i, rank);
        }
    }
    return good;
}

static bool all_reduces(struct comm *comm, int64_t deadline_ms) {
    double values[3] = {comm->rank, -comm->rank, comm->rank == comm->world_size / 2 ? 7.5 : -1e300};
    enum status status = comm_all_reduce_max(comm, values, 3, deadline_ms);
    bool good = expect(STATUS_OK, status, "all_reduce_max", comm->rank);
    if (good && (values[0] != comm->world_size - 1 || values[1] != 0.0 || values[2] != 7.5)) {
        fprintf(stderr, "all_reduce_max gave %g %g %g\n", values[0], values[1], values[2]);
        good = false;
    }
    return good && expect(STATUS_OK, comm_all_reduce_max(comm, NULL, 0, deadline_ms),
                          "empty all_reduce_max", comm->rank);
}

static bool message_broadcasts(struct comm *comm, uint8_t *bytes, int64_t deadline_ms) {
    bool good = true;
    for (int root = 0; root < comm->world_size; root++) {
        size_t sent = (size_t)root * 1000; // the first is empty
        size_t size = sent;
        uint8_t *message = comm->rank == root ? bytes : NULL;
        fill(bytes, size, 20, root);
        enum status status =
            comm_broadcast_message(comm, &message, &size, SIZE_LARGEST, root, deadline_ms);
        good = good && expect(STATUS_OK, status, "broadcast_message", comm->rank) && size == sent &&
               matches(message, size, 20, root);
        if (comm->rank != root) {
            free(message);
        }
    }
    size_t size = 101;
    uint8_t *message = comm->rank == 0 ? bytes : NULL;
    enum status status = comm_broadcast_message(comm, &message, &size, 100, 0, deadline_ms);
    return good && expect(STATUS_LIMIT, status, "oversize broadcast_message", comm->rank);
}

// Rank r sends r * 777 bytes, so that rank 0 sends none.
static bool message_gathers(struct comm *comm, uint8_t *bytes, int64_t deadline_ms) {
    size_t offsets[WORLD_MAX + 1];
    uint8_t *received = NULL;
    size_t size = (size_t)comm->rank * 777;
    fill(bytes, size, 30, comm->rank);
    enum status status =
        comm_all_gather_messages(comm, bytes, size, SIZE_LARGEST, &received, offsets, deadline_ms);
    bool good = expect(STATUS_OK, status, "all_gather_messages", comm->rank);
    for (int rank = 0; good && rank < comm->world_size; rank++) {
        size_t length = offsets[rank + 1] - offsets[rank];
        good = length == (size_t)rank * 777 && matches(received + offsets[rank], length, 30, rank);
    }
    free(received);

    size = comm->rank == comm->world_size - 1 ? 101 : 5; // one long message fails all ranks alike
    status = comm_all_gather_messages(comm, bytes, size, 100, &received, offsets, deadline_ms);
    return good && expect(STATUS_LIMIT, status, "oversize all_gather_messages", comm->rank);
}

// Refused before anything is sent, so that the ranks stay in step.
static bool limits(struct comm *comm, uint8_t *bytes, uint8_t *receive, int64_t deadline_ms) {
    size_t size = (size_t)INT_MAX + 1;
    double value = 0;
    return expect(STATUS_LIMIT, comm_broadcast(comm, bytes, size, 0, deadline_ms),
                  "broadcast above INT_MAX", comm->rank) &&
           expect(STATUS_LIMIT, comm_all_gather(comm, bytes, size, receive, deadline_ms),
                  "all_gather above INT_MAX", comm->rank) &&
           expect(STATUS_LIMIT, comm_all_reduce_max(comm, &value, INT_MAX, deadline_ms),
                  "all_reduce_max above INT_MAX", comm->rank);
}

// Works for so long, without a word.
static void spend(int64_t milliseconds) {
    int64_t end_ms = clock_monotonic_ms() + milliseconds;
    while (clock_monotonic_ms() < end_ms) {
        sched_yield();
    }
}

// A rank that comes to a meeting was alive then, however long it was silent before: while it loaded
// its models, say.
static bool meetings(struct comm *comm, int64_t deadline_ms) {
    spend(comm->rank == 0 ? 0 : SILENCE_MS);
    int64_t came_ms[WORLD_MAX];
    int64_t now_ms = clock_monotonic_ms();
    enum status status = comm_all_gather(comm, &now_ms, sizeof now_ms, came_ms, deadline_ms);
    if (!expect(STATUS_OK, status, "meetings", comm->rank)) {
        return false;
    }
    if (comm->rank == 0 && comm->world_size > 1) {
        int64_t silent_ms = 0;
        int rank = comm_most_silent(comm, &silent_ms);
        if (clock_monotonic_ms() - silent_ms < came_ms[rank]) {
            fprintf(stderr, "rank %d is silent for %lld ms after it came\n", rank,
                    (long long)silent_ms);
            return false;
        }
    }
    return true;
}

// Rank 0 leaves this once every other rank was heard of since it came here: the others say so by
// themselves while they wait for it.
static bool reports(struct comm *comm, int64_t deadline_ms) {
    spend(2); // so that the last meeting was before
    int64_t start_ms = clock_monotonic_ms();
    int64_t silent_ms = INT64_MAX;
    comm_report(comm);
    while (comm->rank == 0 && comm->world_size > 1 && silent_ms > clock_monotonic_ms() - start_ms &&
           !deadline_passed(deadline_ms)) {
        int rank = comm_most_silent(comm, &silent_ms);
        if (rank < 1 || rank >= comm->world_size) {
            fprintf(stderr, "rank %d is the most silent\n", rank);
            return false;
        }
        sched_yield();
    }
    return expect(STATUS_OK, comm_barrier(comm, deadline_ms), "reports", comm->rank);
}

// Rows are under way while an order comes: ranks do not begin the two in the same turn.
static bool lanes(struct comm *comm, uint8_t *bytes, int64_t deadline_ms) {
    size_t offsets[WORLD_MAX + 1];
    struct comm_gather gather;
    size_t size = (size_t)comm->rank * 3000 + 1;
    uint8_t order[4000];
    uint8_t *message = order;
    size_t order_size = sizeof order;
    fill(bytes, size, 40, comm->rank);
    fill(order, sizeof order, 41, 0);
    bool good = true;
    if (comm->rank % 2 == 1) {
        good =
            expect(STATUS_OK, comm_gather_begin(&gather, comm, bytes, size, SIZE_LARGEST, offsets),
                   "gather begun first", comm->rank);
    }
    enum status status =
        comm_broadcast_message(comm, &message, &order_size, SIZE_LARGEST, 0, deadline_ms);
    good = good && expect(STATUS_OK, status, "order beside rows", comm->rank) &&
           order_size == sizeof order && matches(message, order_size, 41, 0);
    if (comm->rank != 0) {
        free(message);
    }
    if (comm->rank % 2 == 0) {
        good = good && expect(STATUS_OK,
                              comm_gather_begin(&gather, comm, bytes, size, SIZE_LARGEST, offsets),
                              "gather begun second", comm->rank);
    }
    good = good && expect(STATUS_OK, comm_wait(comm, comm_gather_step, &gather, deadline_ms),
                          "rows beside an order", comm->rank);
    for (int rank = 0; good && rank < comm->world_size; rank++) {
        size_t length = offsets[rank + 1] - offsets[rank];
        good = length == (size_t)rank * 3000 + 1 &&
               matches(gather.receive + offsets[rank], length, 40, rank);
    }
    comm_gather_finish(&gather);
    return good;
}

bool comm_cases_run(struct comm *comm, int64_t deadline_ms) {
    bool good = false;
    uint8_t *bytes = malloc(SIZE_LARGEST);
    uint8_t *receive = malloc((size_t)SIZE_LARGEST * (size_t)comm->world_size);
    if (bytes == NULL || receive == NULL || comm->world_size > WORLD_MAX) {
        goto out;
    }
    good = broadcasts(comm, bytes, deadline_ms) && all_gathers(comm, bytes, receive, deadline_ms) &&
           all_reduces(comm, deadline_ms) && limits(comm, bytes, receive, deadline_ms) &&
           message_broadcasts(comm, bytes, deadline_ms) &&
           message_gathers(comm, bytes, deadline_ms) && lanes(comm, bytes, deadline_ms) &&
           meetings(comm, deadline_ms) && reports(comm, deadline_ms) &&
           expect(STATUS_OK, comm_barrier(comm, deadline_ms), "barrier", comm->rank);
out:
    free(receive);
    free(bytes);
    return good;
}
