// InfAlign's choice among the finished answers of a job (arXiv 2412.19792;
// docs/methods/infalign.md): the r-th best is taken with a probability that grows with its
// calibrated reward, so that the distance from the reference policy is bounded and known. Sampler
// (A) calibrates by ranks among the answers themselves, (B) by rewards of other answers to the
// prompt, its roll-outs. Pure; of the owner's thread.
#ifndef COORDINATOR_SEARCH_TILT_H
#define COORDINATOR_SEARCH_TILT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/search/tilt_law.h"

struct tilt_spec {
    enum tilt_transform transform; // NONE: no tilt
    double t;
    uint32_t n;  // N of the procedure that best_of_n and worst_of_n of the law describe, >= 1
    double kl;   // nats, what the law's distance shall be; 0: beta says
    double beta; // > 0 where kl is 0; of Phi as the paper writes it
    enum tilt_sampler sampler;
    enum tilt_rank_set rank_set;
};

// An answer among which is chosen. Equal texts are so many answers: the law counts draws.
struct tilt_draw {
    double reward;
    uint64_t candidate_id;
    bool eligible;  // may be chosen; others count for the ranks alone
    uint32_t place; // out: see tilt_place_by_rank and tilt_place_by_rollouts
};

// Weights of 2 * places - 1 places, half steps for equal rewards: rank 1 + place / 2 of `places`
// answers under (A), place / 2 of `places` - 1 roll-outs below under (B).
struct tilt_table {
    uint32_t places;
    double beta;       // of Phi as the paper writes it; 0 takes the largest Phi
    double *exponents; // [2 * places - 1], (Phi - its largest) / beta; -inf is no weight; owned
    struct tilt_law law;
    double rejection_draws; // of exact rejection at the same beta; infinite at beta 0
};

struct tilt; // shared by searches of one thread

// With one owner. STATUS_LIMIT: the optimum that is asked for was not found (field "spec.tilt_n");
// STATUS_NO_MEMORY.
MUST_CHECK enum status tilt_create(const struct tilt_spec *spec, struct tilt **out,
                                   struct error *err);
struct tilt *tilt_share(struct tilt *tilt); // one more owner
void tilt_destroy(struct tilt *tilt);       // of one owner; NULL allowed

// Whether a tilt of `spec` is the same.
bool tilt_is_of(const struct tilt *tilt, const struct tilt_spec *spec);

// The table for `count` > 0 answers or roll-outs, whose beta is solved on the law of so many
// exactly; a distance that they cannot reach gives beta 0. Returns owned; STATUS_NO_MEMORY.
MUST_CHECK enum status tilt_table_create(const struct tilt *tilt, uint32_t count,
                                         struct tilt_table **out);
void tilt_table_destroy(struct tilt_table *table); // NULL allowed

// The same, kept until one for another number is asked for; borrowed as long.
MUST_CHECK enum status tilt_table_find(struct tilt *tilt, uint32_t count,
                                       const struct tilt_table **out);

// Sort by (reward, candidate_id), ascending, and set the places; equal rewards share their mean
// rank. Roll-outs [n_rollouts] ascend; an equal one counts a half.
void tilt_place_by_rank(struct tilt_draw *draws, size_t count);
void tilt_place_by_rollouts(struct tilt_draw *draws, size_t count, const float *rollouts,
                            uint32_t n_rollouts);

// The calibrated reward in [0, 1] that a place stands for.
double tilt_calibrated(enum tilt_sampler sampler, uint32_t places, uint32_t place);

// Which of the sorted draws is taken, by one number in [0, 1) keyed by (seed, TILT_LINEAGE, 0); one
// at least is eligible. Where none has a weight, those of the highest place share it.
#define TILT_LINEAGE UINT64_MAX // no candidate's
size_t tilt_choose(const struct tilt_table *table, const struct tilt_draw *draws, size_t count,
                   uint64_t seed);

#endif
