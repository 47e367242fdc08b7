// Orders as messages: what the scheduler decided, written as a GroupCommand.
#ifndef COORDINATOR_ORDER_H
#define COORDINATOR_ORDER_H

#include "common/status.h"
#include "coordinator/job_table.h"
#include "coordinator/scheduler.h"

// Packs `order` with the descriptions that its group has yet to be told and the releases that are
// due there, both of which count as sent. Returns owned bytes, free(). STATUS_LIMIT,
// STATUS_NO_MEMORY: what was taken from the scheduler is lost, so that the group must be taken out
// of service.
MUST_CHECK enum status order_pack(struct scheduler *scheduler, const struct scheduler_order *order,
                                  const struct job_table *jobs, uint8_t **bytes, size_t *size);

#endif
