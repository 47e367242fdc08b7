// Tilts that searches have asked for: to solve an optimum takes tens of milliseconds, in which the
// coordinator would do nothing else, and jobs of one experiment ask for the same one. Of its
// owner's thread, as are the tilts in it.
#ifndef COORDINATOR_SEARCH_TILT_CACHE_H
#define COORDINATOR_SEARCH_TILT_CACHE_H

#include "coordinator/search/tilt.h"

enum { TILT_CACHE_MAX = 64 }; // each with a table of up to 64 KiB

struct tilt_cache { // zero at first
    struct tilt *tilts[TILT_CACHE_MAX];
    uint64_t used[TILT_CACHE_MAX]; // number of the call that asked for it last; 0: no tilt is there
    uint64_t n_calls;
    uint64_t n_made;
};

void tilt_cache_finish(struct tilt_cache *cache);

// The tilt of `spec`, made if none of the cache is; that which nobody has asked for longest gives
// way. The caller owns a share. Errors of tilt_create().
MUST_CHECK enum status tilt_cache_find(struct tilt_cache *cache, const struct tilt_spec *spec,
                                       struct tilt **out, struct error *err);

#endif
