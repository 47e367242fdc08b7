// One line per event on stderr: time, level, program, message. The level is process-wide and set once
// by main; any thread may log. Whoever first knows the cause of a failure logs it, once.
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

// `program` is copied (31 bytes at most) and leads each line. Call before other threads start.
void log_init(const char *program, enum log_level level);

// Parses "error", "warn", "info" or "debug"; returns -1 for anything else.
int log_level_parse(const char *text);

void log_write(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// For lines that somebody outside can cause as often as they like: at most LOG_LIMIT_LINES of one
// kind in LOG_LIMIT_MS, then only how many were left out. One thread.
enum { LOG_LIMIT_LINES = 20, LOG_LIMIT_MS = 10000 };

struct log_limit {
    const char *kind;  // what the lines are of, for the one that counts; static
    int64_t since_ms;  // CLOCK_MONOTONIC, when this period began
    uint32_t lines;    // written in it
    uint64_t left_out; // not written in it
};

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Says what was left out once the period is over; to be called now and then.
void log_limit_tick(struct log_limit *limit);

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
