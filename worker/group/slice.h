// One rank's share of an order, as bytes for the all-gather. Leader and followers alike.
#ifndef WORKER_GROUP_SLICE_H
#define WORKER_GROUP_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/group/rank.h"

// Carries out the items of `rank_index` and packs what came of it, a Gathered, into owned bytes. A
// failure of the rank is packed as the Gathered's error, so that every rank takes part in the
// gather; *fault then tells it, and is STATUS_OK otherwise. Fails only with STATUS_NO_MEMORY.
MUST_CHECK enum status slice_execute(struct rank *rank, const Surefoot__Order *order,
                                     int rank_index, uint8_t **bytes, size_t *size,
                                     struct error *fault);

// The bytes of a share that failed so.
MUST_CHECK enum status slice_fail(const Surefoot__Order *order, const struct error *fault,
                                  uint8_t **bytes, size_t *size);

// After such a fault the rank cannot go on; STATUS_LIMIT only means that this order was too large.
bool slice_fault_is_fatal(enum status status);

#endif
