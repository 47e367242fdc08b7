#include "cluster/comm/comm.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdlib.h>

#include "common/deadline.h"
#include "common/log.h"

enum {
    CLOSE_TIMEOUT_MS = 10000,
    REPORT_TAG = 1, // the only messages between two ranks; collectives are apart from them
};

struct comm_mpi {
    struct comm base;
    bool finalize; // MPI was initialised here
    bool broken;   // a request may be pending: MPI must not be entered again except to abort
    MPI_Comm lanes[COMM_LANES];       // of the same ranks
    MPI_Request requests[COMM_LANES]; // MPI_REQUEST_NULL: none under way
    bool reporting;                   // `report` is under way
    MPI_Request report;               // of a rank other than 0
    unsigned char report_byte;        // what it carries: that it comes is all it says
    int64_t *heard_ms;                // [world_size], on rank 0
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

static int start(const struct comm_call *call, MPI_Comm lane, MPI_Request *request) {
    int size = (int)call->size;
    switch (call->kind) {
    case COMM_BROADCAST:
        return MPI_Ibcast(call->send, size, MPI_BYTE, call->root, lane, request);
    case COMM_ALL_GATHER:
        return MPI_Iallgather(call->send, size, MPI_BYTE, call->receive, size, MPI_BYTE, lane,
                              request);
    case COMM_ALL_REDUCE_MAX:
        return MPI_Iallreduce(MPI_IN_PLACE, call->send, size / (int)sizeof(double), MPI_DOUBLE,
                              MPI_MAX, lane, request);
    case COMM_BARRIER:
        return MPI_Ibarrier(lane, request);
    }
    return MPI_ERR_ARG;
}

static enum status mpi_begin(struct comm *comm, const struct comm_call *call) {
    struct comm_mpi *mpi = from_base(comm);
    if (mpi->broken) {
        return STATUS_PEER_LOST;
    }
    MPI_Request *request = &mpi->requests[call->lane];
    ASSERT(*request == MPI_REQUEST_NULL); // one at a time
    enum status status = convert(start(call, mpi->lanes[call->lane], request));
    mpi->broken = status != STATUS_OK;
    return status;
}

static enum status mpi_test(struct comm *comm, enum comm_lane lane, bool *done) {
    struct comm_mpi *mpi = from_base(comm);
    if (mpi->broken) {
        return STATUS_PEER_LOST;
    }
    int over = 0;
    enum status status = convert(MPI_Test(&mpi->requests[lane], &over, MPI_STATUS_IGNORE));
    mpi->broken = status != STATUS_OK;
    *done = over != 0;
    return status;
}

static void mpi_abandon(struct comm *comm) {
    from_base(comm)->broken = true;
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
    if (mpi->finalize && comm_barrier(comm, deadline_after_ms(CLOSE_TIMEOUT_MS)) == STATUS_OK) {
        take_reports(mpi);
        MPI_Comm_free(&mpi->lanes[COMM_LANE_ROWS]);
        MPI_Finalize();
    }
    free(mpi->heard_ms);
    free(mpi);
}

static const struct comm_ops mpi_ops = {
    .name = "mpi",
    .begin = mpi_begin,
    .test = mpi_test,
    .abandon = mpi_abandon,
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
    mpi->lanes[COMM_LANE_ORDERS] = MPI_COMM_WORLD;
    mpi->requests[COMM_LANE_ORDERS] = mpi->requests[COMM_LANE_ROWS] = MPI_REQUEST_NULL;
    if (convert(MPI_Comm_dup(MPI_COMM_WORLD, &mpi->lanes[COMM_LANE_ROWS])) != STATUS_OK) {
        free(mpi);
        return error_set(err, STATUS_UNSUPPORTED, NULL, "MPI gave no second communicator");
    }
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
