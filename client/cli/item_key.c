#include "client/cli/item_key.h"

#include <stdlib.h>
#include <string.h>

static void add_text(struct digest *digest, const char *text) {
    digest_add(digest, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

// The digest of what an item is in itself: seed, id, prompt.
static enum status item_digest(const struct item *item, uint64_t seed, struct digest *out,
                               struct error *err) {
    char *id = json_dumps(item->id, JSON_COMPACT | JSON_ENCODE_ANY);
    char *messages = item->prompt != NULL ? NULL : json_dumps(item->messages, JSON_COMPACT);
    enum status status = STATUS_OK;
    if (id == NULL || (item->prompt == NULL && messages == NULL)) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items' names");
    } else {
        digest_init(out);
        digest_add(out, &seed, sizeof seed);
        add_text(out, id);
        add_text(out, item->prompt);
        add_text(out, messages);
    }
    free(id);
    free(messages);
    return status;
}

static enum status make_keys(const struct items *items, uint64_t seed, const struct digest *shared,
                             struct item_key *keys, struct error *err) {
    for (size_t i = 0; i < items->count; i++) {
        struct digest digest;
        enum status status = item_digest(&items->rows[i], seed, &digest, err);
        if (status != STATUS_OK) {
            return status;
        }
        keys[i].seed = digest.low >> 11;
        digest_add(&digest, shared, sizeof *shared);
        digest_hex(&digest, keys[i].text);
    }
    return STATUS_OK;
}

enum status item_keys_make(const struct items *items, uint64_t seed, const json_t *settings,
                           struct item_key **out, struct error *err) {
    struct item_key *keys = calloc(items->count, sizeof *keys);
    char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
    enum status status = STATUS_OK;
    if (keys == NULL || text == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items' names");
    } else {
        struct digest shared;
        digest_init(&shared);
        add_text(&shared, text);
        status = make_keys(items, seed, &shared, keys, err);
    }
    free(text);
    if (status != STATUS_OK) {
        free(keys);
        return status;
    }
    *out = keys;
    return STATUS_OK;
}
