// Every collective on data of which each rank knows the exact result: byte k of rank r in case c is
// a fixed function of (c, r, k). Run by each rank, as a thread (test_comm_local) or as a process
// (comm_mpi_rank); prints what differed.
#ifndef TESTS_COMM_COMM_CASES_H
#define TESTS_COMM_COMM_CASES_H

#include <stdbool.h>

#include "cluster/comm/comm.h"

// Every operation, several sizes, every root. False, with a line on stderr, when anything is wrong.
bool comm_cases_run(struct comm *comm, int64_t deadline_ms);

#endif
