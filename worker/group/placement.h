// Where the candidates of a group are: which rank grew each one last. A hint that saves rebuilding;
// what comes back does not depend on it. Leader's thread only.
#ifndef WORKER_GROUP_PLACEMENT_H
#define WORKER_GROUP_PLACEMENT_H

#include "common/status.h"
#include "proto/wire.h"

struct placement;

MUST_CHECK enum status placement_create(int n_ranks, struct placement **out);
void placement_destroy(struct placement *placement); // NULL allowed

// Forgets what the order releases, then fills ranks[order->n_items] with a rank for each item and
// remembers it: the rank that holds the item's parent, unless another ends sooner with it although
// it must read the parent's text again, once for all of its children that go there. What begins at
// the prompt is dealt out evenly. Loads are the tokens to grow and to read again. STATUS_NO_MEMORY:
// nothing is placed.
MUST_CHECK enum status placement_assign(struct placement *placement, const Surefoot__Order *order,
                                        uint32_t *ranks);

// Rank that grew the candidate last, -1 when it is not known.
int placement_find(const struct placement *placement, uint64_t job_id, uint64_t candidate_id);

#endif
