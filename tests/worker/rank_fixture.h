// A rank over the tiny models with all of their scorers, two jobs for it, and the first two blocks
// of their candidates.
#ifndef TESTS_WORKER_RANK_FIXTURE_H
#define TESTS_WORKER_RANK_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/worker/order_fixture.h"
#include "worker/group/rank.h"

enum { FIXTURE_SCORERS = 5, FIXTURE_BLOCK = 12, FIXTURE_MAX_TOKENS = 48 };

struct rank_fixture {
    char *directory;   // of tiny_models_make
    struct rank *rank; // one thread, 64 slots, ample memory
};

// For cmocka_run_group_tests: *state is a rank_fixture.
int rank_fixture_setup(void **state);
int rank_fixture_teardown(void **state);

// Another rank over the same models, for rank_close. Scorers, in this order: reward, reward-eos,
// cost, foreign-cost, foreign-reward. kv_tokens 0: ample.
struct rank *rank_fixture_open(const char *directory, int threads, int slots, int64_t kv_tokens);

// Ids 1 and 2, each with all scorers but "reward"; the second appends EOS to costs.
extern const struct order_job rank_fixture_jobs[2];

// The tokens of a candidate so far.
struct grown {
    uint64_t candidate_id;
    uint32_t tokens[FIXTURE_MAX_TOKENS];
    size_t n_tokens;
    bool finished;
};

// Candidates 1..n of `job`, each grown by a block. Returns [n], for free; *rows for wire_free.
struct grown *grow_first(struct rank *rank, const struct order_job *job, size_t n,
                         Surefoot__Gathered **rows);

// A second block: two children with new ids from every unfinished candidate, which also goes on
// itself. The order repeats the job when `with_job`.
struct order_fixture *second_order(const struct order_job *job, const struct grown *grown, size_t n,
                                   bool with_job);

#endif
