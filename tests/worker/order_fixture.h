// Orders for a rank, built field by field, and comparison of the rows that come back.
#ifndef TESTS_WORKER_ORDER_FIXTURE_H
#define TESTS_WORKER_ORDER_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/group/rank.h"

struct order_fixture; // owns everything it is given copies of

struct order_fixture *order_create(void);
void order_destroy(struct order_fixture *order);
Surefoot__Order *order_message(struct order_fixture *order);

struct order_job {
    uint64_t id;
    const char *prompt;
    uint32_t max_tokens;
    uint64_t seed;
    const char *const *scorers;         // NULL-terminated names; roles from the profiles
    const Surefoot__Sampling *sampling; // borrowed; NULL: defaults
    bool cost_eos_append;
};
Surefoot__GroupJob *order_add_job(struct order_fixture *order, const struct order_job *job);

// `tokens` [n_tokens] are copied.
Surefoot__OrderItem *order_add_item(struct order_fixture *order, uint64_t job_id,
                                    uint64_t candidate_id, uint64_t parent_id,
                                    const uint32_t *tokens, size_t n_tokens, uint32_t grow_tokens);

// Takes effect on the order's first use of index 1, 2, ...; returns the index. Arrays are borrowed.
uint32_t order_add_penalty(struct order_fixture *order, uint32_t *ids, float *values, size_t n);

void order_add_release(struct order_fixture *order, uint64_t job_id, uint64_t candidate_id,
                       bool whole_job);

// Executes on rank index 0 and fails the test when the call fails. Free with wire_free.
Surefoot__Gathered *order_run(struct rank *rank, struct order_fixture *order);

// The row of a candidate; fails the test when there is none.
const Surefoot__Row *order_find_row(const Surefoot__Gathered *gathered, uint64_t job_id,
                                    uint64_t candidate_id);

// Same tokens, log-probabilities, finish, text, reading and scores, bit for bit; no errors.
void assert_rows_equal(const Surefoot__Row *a, const Surefoot__Row *b);
// The same for all rows, in order.
void assert_gathered_equal(const Surefoot__Gathered *a, const Surefoot__Gathered *b);

#endif
