#include "cluster/comm/comm.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "common/deadline.h"
#include "common/log.h"

enum {
    CLOSE_TIMEOUT_MS = 10000,
    SPIN_TESTS = 64, // polls before the first sleep: a collective among ready ranks is over by then
    // Then a sleep is a 64th of the wait so far, so that waiting ranks leave the cores to those
    // that compute and no wait gets longer by more than that; an idle rank polls a thousand times a
    // second.
    SLEEP_SHARE = 64,
    SLEEP_MIN_NS = 5 * 1000,
    SLEEP_MAX_NS = 1000 * 1000,
    REPORT_TAG = 1, // the only messages between two ranks; collectives are apart from them
};

struct comm_mpi {
    struct comm base;
    bool finalize; // MPI was initialised here
    bool broken;   // a request may be pending: MPI must not be entered again except to abort
    bool reporting;            // `report` is under way
    MPI_Request report;        // of a rank other than 0
    unsigned char report_byte; // what it carries: that it comes is all it says
    int64_t *heard_ms;         // [world_size], on rank 0
};

static struct comm_mpi *from_base(struct comm *comm) {
    return (struct comm_mpi *)comm;
}

static enum status convert(int code) {
    if (code == MPI_SUCCESS) {
        return STATUS_OK;
    }
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(code, text, &length);
    log_error("MPI: %.*s", length, text);
    int error_class = MPI_ERR_OTHER;
    MPI_Error_class(code, &error_class);
    return error_class == MPI_ERR_NO_MEM ? STATUS_NO_MEMORY : STATUS_PEER_LOST;
}

static void pause_after(int64_t waited_ns) {
    int64_t pause_ns = waited_ns / SLEEP_SHARE;
    pause_ns = pause_ns < SLEEP_MIN_NS ? SLEEP_MIN_NS : pause_ns;
    pause_ns = pause_ns > SLEEP_MAX_NS ? SLEEP_MAX_NS : pause_ns;
    struct timespec duration = {.tv_nsec = (long)pause_ns};
    nanosleep(&duration, NULL);
}

// Polls instead of MPI_Wait, which has no deadline and keeps a core busy.
static enum status wait_request(struct comm *comm, MPI_Request *request, int64_t deadline_ms) {
    int64_t start_ns = clock_monotonic_ns();
    int64_t idle_at_ms = deadline_after_ms(COMM_IDLE_MS);
    for (int n_tests = 0;; n_tests += n_tests < SPIN_TESTS) {
        int done = 0;
        int code = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (code != MPI_SUCCESS || done) {
            return convert(code);
        }
        if (deadline_passed(deadline_ms)) {
            return STATUS_DEADLINE;
        }
        if (deadline_passed(idle_at_ms)) {
            if (!comm_wait_on(comm)) {
                return STATUS_PEER_LOST;
            }
            idle_at_ms = deadline_after_ms(COMM_IDLE_MS);
        }
        if (n_tests == SPIN_TESTS) {
            pause_after(clock_monotonic_ns() - start_ns);
        }
    }
}

// Takes the result of starting a collective and sees it through.
static enum status complete(struct comm *comm, int code, MPI_Request *request,
                            int64_t deadline_ms) {
    enum status status = convert(code);
    if (status == STATUS_OK) {
        status = wait_request(comm, request, deadline_ms);
    }
    from_base(comm)->broken = status != STATUS_OK;
    return status;
}

static enum status mpi_broadcast(struct comm *comm, void *bytes, size_t size, int root,
                                 int64_t deadline_ms) {
    if (from_base(comm)->broken) {
        return STATUS_PEER_LOST;
    }
    MPI_Request request;
    int code = MPI_Ibcast(bytes, (int)size, MPI_BYTE, root, MPI_COMM_WORLD, &request);
    return complete(comm, code, &request, deadline_ms);
}

static enum status mpi_all_gather(struct comm *comm, const void *send, size_t size, void *receive,
                                  int64_t deadline_ms) {
    if (from_base(comm)->broken) {
        return STATUS_PEER_LOST;
    }
    MPI_Request request;
    int code = MPI_Iallgather(send, (int)size, MPI_BYTE, receive, (int)size, MPI_BYTE,
                              MPI_COMM_WORLD, &request);
    return complete(comm, code, &request, deadline_ms);
}

static enum status mpi_all_reduce_max(struct comm *comm, double *values, int count,
                                      int64_t deadline_ms) {
    if (from_base(comm)->broken) {
        return STATUS_PEER_LOST;
    }
    MPI_Request request;
    int code =
        MPI_Iallreduce(MPI_IN_PLACE, values, count, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD, &request);
    return complete(comm, code, &request, deadline_ms);
}

static enum status mpi_barrier(struct comm *comm, int64_t deadline_ms) {
    if (from_base(comm)->broken) {
        return STATUS_PEER_LOST;
    }
    MPI_Request request;
    int code = MPI_Ibarrier(MPI_COMM_WORLD, &request);
    return complete(comm, code, &request, deadline_ms);
}

// One report at a time: while rank 0 does not take the last one, there is nothing to add to it.
static void mpi_report(struct comm *comm) {
    struct comm_mpi *mpi = from_base(comm);
    int done = 1;
    if (mpi->broken ||
        (mpi->reporting &&
         (MPI_Test(&mpi->report, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done))) {
        return;
    }
    mpi->reporting = MPI_Isend(&mpi->report_byte, 1, MPI_BYTE, 0, REPORT_TAG, MPI_COMM_WORLD,
                               &mpi->report) == MPI_SUCCESS;
}

static void take_reports(struct comm_mpi *mpi) {
    int waiting = 0;
    MPI_Status from;
    while (!mpi->broken &&
           MPI_Iprobe(MPI_ANY_SOURCE, REPORT_TAG, MPI_COMM_WORLD, &waiting, &from) == MPI_SUCCESS &&
           waiting) {
        unsigned char byte;
        if (MPI_Recv(&byte, 1, MPI_BYTE, from.MPI_SOURCE, REPORT_TAG, MPI_COMM_WORLD, &from) !=
            MPI_SUCCESS) {
            return;
        }
        mpi->heard_ms[from.MPI_SOURCE] = clock_monotonic_ms();
    }
}

static int64_t mpi_heard_ms(struct comm *comm, int rank) {
    take_reports(from_base(comm));
    return from_base(comm)->heard_ms[rank];
}

static void mpi_abort(struct comm *comm, int exit_code) {
    (void)comm;
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    abort(); // MPI_Abort may return where the launcher is gone already
}

static void mpi_close(struct comm *comm) {
    struct comm_mpi *mpi = from_base(comm);
    comm->idle = NULL;
    comm->report_at_ms = INT64_MAX; // no more signs of life, so that none is left behind
    if (mpi->finalize && mpi_barrier(comm, deadline_after_ms(CLOSE_TIMEOUT_MS)) == STATUS_OK) {
        take_reports(mpi);
        MPI_Finalize();
    }
    free(mpi->heard_ms);
    free(mpi);
}

static const struct comm_ops mpi_ops = {
    .name = "mpi",
    .broadcast = mpi_broadcast,
    .all_gather = mpi_all_gather,
    .all_reduce_max = mpi_all_reduce_max,
    .barrier = mpi_barrier,
    .report = mpi_report,
    .heard_ms = mpi_heard_ms,
    .abort = mpi_abort,
    .close = mpi_close,
};

enum status comm_mpi_open(struct comm **out, struct error *err) {
    struct comm_mpi *mpi = calloc(1, sizeof *mpi);
    if (mpi == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the communicator");
    }
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (!initialized) {
        int provided = MPI_THREAD_SINGLE;
        int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
        if (code != MPI_SUCCESS || provided < MPI_THREAD_FUNNELED) {
            free(mpi);
            return error_set(err, STATUS_UNSUPPORTED, NULL,
                             "MPI did not start with thread support FUNNELED");
        }
        mpi->finalize = true;
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    mpi->base.ops = &mpi_ops;
    MPI_Comm_rank(MPI_COMM_WORLD, &mpi->base.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &mpi->base.world_size);
    mpi->heard_ms = calloc((size_t)mpi->base.world_size, sizeof *mpi->heard_ms);
    if (mpi->heard_ms == NULL) {
        free(mpi);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the communicator");
    }
    for (int i = 0; i < mpi->base.world_size; i++) {
        mpi->heard_ms[i] = clock_monotonic_ms();
    }
    *out = &mpi->base;
    return STATUS_OK;
}
