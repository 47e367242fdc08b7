// The names of a sweep's items: equal exactly when id, prompt and settings (job, seed, system
// message, models) are equal, so that a rerun meets its own jobs.
#ifndef CLIENT_CLI_ITEM_KEY_H
#define CLIENT_CLI_ITEM_KEY_H

#include "client/cli/digest.h"
#include "client/cli/items.h"

struct item_key {
    char text[DIGEST_HEX_BYTES];
    uint64_t seed; // [0, 2^53), the item's own; it depends on the sweep's seed, id and prompt alone
};

// Returns owned keys [items->count] for the sweep's seed and its settings. STATUS_NO_MEMORY.
MUST_CHECK enum status item_keys_make(const struct items *items, uint64_t seed,
                                      const json_t *settings, struct item_key **out,
                                      struct error *err);

#endif
