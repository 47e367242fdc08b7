// For loops that the thread sanitizer would slow down tenfold, because it checks each vector that
// they load: they go UNCHECKED, and who calls them has what they read checked as a whole. What they
// read and no one declares, and what they write, the sanitizer does not see.
#ifndef WORKER_BACKEND_CPU_RACE_CHECK_H
#define WORKER_BACKEND_CPU_RACE_CHECK_H

#include <stddef.h>

#if defined(__SANITIZE_THREAD__)
#define UNCHECKED __attribute__((no_sanitize("thread")))

void __tsan_read_range(void *address, unsigned long size); // of the sanitizer's library

static inline void race_check_read(const void *from, size_t bytes) {
    __tsan_read_range((void *)from, bytes);
}
#else
#define UNCHECKED

static inline void race_check_read(const void *from, size_t bytes) {
    (void)from;
    (void)bytes;
}
#endif

#endif
