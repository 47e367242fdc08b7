// Which backends this build has, and the check that each fills its whole table.
#include "worker/backend/backend.h"

#include <string.h>

#include "worker/backend/cpu/cpu.h"

// A missing operation must show at start, not at the first batch that needs it. Every member is a
// pointer and none is optional, so the table is complete when no word of it is null.
static bool ops_complete(const struct backend_ops *ops) {
    const char *bytes = (const char *)ops;
    for (size_t offset = 0; offset < sizeof(*ops); offset += sizeof(void *)) {
        void *entry;
        memcpy(&entry, bytes + offset, sizeof(entry));
        if (entry == NULL) {
            return false;
        }
    }
    return true;
}

enum status backend_create(const char *kind, int n_threads, struct backend **out,
                           struct error *err) {
    if (strcmp(kind, "cpu") != 0) {
        return error_set(err, STATUS_UNSUPPORTED, "backend", "no backend \"%.32s\" here: cpu",
                         kind);
    }
    struct backend *backend = NULL;
    enum status status = cpu_backend_create(n_threads, &backend, err);
    if (status != STATUS_OK) {
        return status;
    }
    ASSERT(ops_complete(backend->ops));
    *out = backend;
    return STATUS_OK;
}

void backend_destroy(struct backend *backend) {
    if (backend != NULL) {
        backend->ops->destroy(backend);
    }
}
