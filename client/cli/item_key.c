#include "client/cli/item_key.h"

#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

static void add_text(struct digest *digest, const char *text) {
    digest_add(digest, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

static enum status add_spec(struct digest *digest, const Surefoot__JobSpec *spec,
                            struct error *err) {
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    submit.spec = (Surefoot__JobSpec *)spec; // packing only reads
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_SUBMIT_JOB, &submit, &bytes, &size);
    if (status != STATUS_OK) {
        return error_set(err, status, "flags", "the job flags are too large");
    }
    digest_add(digest, bytes, size);
    free(bytes);
    return STATUS_OK;
}

// The models of the first group that is alive; every group of a service has the same.
static enum status add_models(struct digest *digest, const Surefoot__ServiceStatus *state,
                              struct error *err) {
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        if (!group->alive) {
            continue;
        }
        for (size_t j = 0; j < group->n_models; j++) {
            add_text(digest, group->models[j]->name);
            add_text(digest, group->models[j]->role);
            add_text(digest, group->models[j]->hash);
            add_text(digest, group->models[j]->precision);
            add_text(digest, group->models[j]->kv_dtype);
        }
        return STATUS_OK;
    }
    return error_set(err, STATUS_UNAVAILABLE, NULL,
                     "no group is alive, so the service's models are not known");
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

enum status item_keys_make(const struct items *items, const char *system,
                           const Surefoot__JobSpec *spec, const Surefoot__ServiceStatus *state,
                           struct item_key **out, struct error *err) {
    struct digest shared;
    digest_init(&shared);
    if (system != NULL) {
        add_text(&shared, system);
    }
    enum status status = add_spec(&shared, spec, err);
    if (status == STATUS_OK) {
        status = add_models(&shared, state, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct item_key *keys = calloc(items->count, sizeof *keys);
    if (keys == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items' names");
    } else {
        status = make_keys(items, spec->has_seed ? spec->seed : 0, &shared, keys, err);
    }
    if (status != STATUS_OK) {
        free(keys);
        return status;
    }
    *out = keys;
    return STATUS_OK;
}
