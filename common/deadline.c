#include "common/deadline.h"

#include <time.h>

#include "common/status.h"

int64_t clock_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_monotonic_ms(void) {
    return clock_monotonic_ns() / 1000000;
}

int64_t clock_realtime_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t deadline_after_ms(int64_t timeout_ms) {
    ASSERT(timeout_ms >= 0);
    int64_t now = clock_monotonic_ms();
    return timeout_ms > INT64_MAX - now ? INT64_MAX : now + timeout_ms;
}

int deadline_left_ms(int64_t deadline_ms) {
    int64_t now = clock_monotonic_ms();
    int64_t left = deadline_ms <= now ? 0 : deadline_ms - now;
    return left > INT32_MAX ? INT32_MAX : (int)left;
}

bool deadline_passed(int64_t deadline_ms) {
    return clock_monotonic_ms() >= deadline_ms;
}
