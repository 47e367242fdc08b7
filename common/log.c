#include "common/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "common/deadline.h"

static char log_program[32] = "surefoot";
static enum log_level log_threshold = LOG_LEVEL_INFO;

void log_init(const char *program, enum log_level level) {
    snprintf(log_program, sizeof log_program, "%s", program);
    log_threshold = level;
}

static const char *const level_names[] = {"error", "warn", "info", "debug"};

int log_level_parse(const char *text) {
    for (int i = 0; i < (int)(sizeof level_names / sizeof level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static void write_line(enum log_level level, const char *format, va_list args) {
    if (level > log_threshold) {
        return;
    }
    struct timeval now;
    gettimeofday(&now, NULL);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[1024];
    int used = snprintf(line, sizeof line,
                        "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s %s: ", utc.tm_year + 1900,
                        utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                        (int)(now.tv_usec / 1000), level_names[level], log_program);
    int wanted = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    used += wanted;
    if (used > (int)sizeof line - 2) {
        used = (int)sizeof line - 2;
    }
    for (char *at = line; at < line + used; at++) {
        // Text of others may be in it: one event stays one line, and no terminal obeys it.
        *at = (unsigned char)*at < ' ' || *at == 0x7f ? '?' : *at;
    }
    line[used] = '\n';
    // One write for the line, so that lines of several threads and ranks do not mix.
    fwrite(line, 1, (size_t)used + 1, stderr);
}

void log_write(enum log_level level, const char *format, ...) {
    va_list args;
    va_start(args, format);
    write_line(level, format, args);
    va_end(args);
}

void log_limit_tick(struct log_limit *limit) {
    int64_t now_ms = clock_monotonic_ms();
    if (now_ms - limit->since_ms < LOG_LIMIT_MS) {
        return;
    }
    if (limit->left_out > 0) {
        log_warn("%" PRIu64 " more lines of %s were left out within %d s", limit->left_out,
                 limit->kind, LOG_LIMIT_MS / 1000);
    }
    *limit = (struct log_limit){.kind = limit->kind, .since_ms = now_ms};
}

void log_limited(struct log_limit *limit, enum log_level level, const char *format, ...) {
    log_limit_tick(limit);
    if (limit->lines == LOG_LIMIT_LINES) {
        limit->left_out++;
        return;
    }
    limit->lines++;
    va_list args;
    va_start(args, format);
    write_line(level, format, args);
    va_end(args);
}
