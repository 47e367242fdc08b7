// Monotonic time and deadlines. A deadline is an absolute CLOCK_MONOTONIC time in milliseconds, so
// that it survives being passed down through calls and is not moved by a stepped wall clock.
#ifndef COMMON_DEADLINE_H
#define COMMON_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

// Milliseconds since an arbitrary fixed point.
int64_t clock_monotonic_ms(void);

// Nanoseconds since the same point.
int64_t clock_monotonic_ns(void);

// Milliseconds since 1970-01-01 UTC, for records that people read.
int64_t clock_realtime_ms(void);

// now + timeout_ms, saturating; a negative timeout is programmer error.
int64_t deadline_after_ms(int64_t timeout_ms);

// Milliseconds left, 0 when passed, at most INT32_MAX so that it fits a poll timeout.
int deadline_left_ms(int64_t deadline_ms);

bool deadline_passed(int64_t deadline_ms);

#endif
