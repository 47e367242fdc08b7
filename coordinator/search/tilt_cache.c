#include "coordinator/search/tilt_cache.h"

void tilt_cache_finish(struct tilt_cache *cache) {
    for (int i = 0; i < TILT_CACHE_MAX; i++) {
        tilt_destroy(cache->tilts[i]);
    }
    *cache = (struct tilt_cache){.n_calls = 0};
}

enum status tilt_cache_find(struct tilt_cache *cache, const struct tilt_spec *spec,
                            struct tilt **out, struct error *err) {
    int oldest = 0;
    cache->n_calls++;
    for (int i = 0; i < TILT_CACHE_MAX; i++) {
        if (cache->tilts[i] != NULL && tilt_is_of(cache->tilts[i], spec)) {
            cache->used[i] = cache->n_calls;
            *out = tilt_share(cache->tilts[i]);
            return STATUS_OK;
        }
        oldest = cache->used[i] < cache->used[oldest] ? i : oldest;
    }
    struct tilt *made = NULL;
    enum status status = tilt_create(spec, &made, err);
    if (status != STATUS_OK) {
        return status;
    }
    tilt_destroy(cache->tilts[oldest]);
    cache->tilts[oldest] = made;
    cache->used[oldest] = cache->n_calls;
    cache->n_made++;
    *out = tilt_share(made);
    return STATUS_OK;
}
