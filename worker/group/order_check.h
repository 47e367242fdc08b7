// What a leader checks of an order before it reaches any rank: counts, indices and token ids, so
// that every rank may index with them. The contents of jobs are checked by the rank, whose answer
// is then an error of that job's rows alone.
#ifndef WORKER_GROUP_ORDER_CHECK_H
#define WORKER_GROUP_ORDER_CHECK_H

#include "common/status.h"
#include "proto/wire.h"

struct order_limits {
    uint32_t slots;            // items in one order, 1..LIMIT_GROUP_SLOTS
    uint32_t vocab_size;       // of the policy, token ids
    uint32_t block_tokens_max; // new tokens of one item, 1..LIMIT_BLOCK_TOKENS
};

// STATUS_INVALID_ARGUMENT or STATUS_LIMIT; err names the field, such as
// "order.items[3].grow_tokens".
MUST_CHECK enum status order_check(const Surefoot__Order *order, const struct order_limits *limits,
                                   struct error *err);

#endif
