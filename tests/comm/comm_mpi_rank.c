// One rank of test_comm_mpi. Exit codes: 0 as the scenario wants it, 1 not.
//   cases         every collective on exact data
//   lost DIR      the last rank kills itself; each survivor writes DIR/survivor-RANK with the
//   status
//                 of its next barrier
//   abort CODE    the last rank aborts with CODE while the others wait at a barrier
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "cluster/comm/comm.h"
#include "tests/comm/comm_cases.h"

enum { LONG_MS = 60000, LOST_MS = 1000 };

static int survive(struct comm *comm, const char *directory) {
    if (comm_barrier(comm, deadline_after_ms(LONG_MS)) != STATUS_OK) {
        return 1;
    }
    if (comm->rank == comm->world_size - 1) {
        raise(SIGKILL);
    }
    enum status status = comm_barrier(comm, deadline_after_ms(LOST_MS));
    enum status again = comm_barrier(comm, deadline_after_ms(LONG_MS));
    char part_path[512];
    char path[512];
    snprintf(part_path, sizeof part_path, "%s/part-%d", directory, comm->rank);
    snprintf(path, sizeof path, "%s/survivor-%d", directory, comm->rank);
    FILE *file = fopen(part_path, "w");
    if (file == NULL) {
        return 1;
    }
    fprintf(file, "%s %s", status_name(status), status_name(again));
    fclose(file);
    rename(part_path, path); // appears whole
    comm_close(comm);        // must not wait for the dead rank
    return 0;
}

int main(int argc, char **argv) {
    struct comm *comm = NULL;
    struct error err = {0};
    if (argc < 2 || comm_mpi_open(&comm, &err) != STATUS_OK) {
        fprintf(stderr, "cannot start: %s\n", err.message);
        return 1;
    }
    if (strcmp(argv[1], "cases") == 0) {
        bool good = comm_cases_run(comm, deadline_after_ms(LONG_MS));
        comm_close(comm);
        return good ? 0 : 1;
    }
    if (argc == 3 && strcmp(argv[1], "lost") == 0) {
        return survive(comm, argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "abort") == 0) {
        if (comm->rank == comm->world_size - 1) {
            comm_abort(comm, atoi(argv[2]));
        }
        return comm_barrier(comm, deadline_after_ms(LONG_MS)) == STATUS_OK ? 0 : 1;
    }
    return 1;
}
