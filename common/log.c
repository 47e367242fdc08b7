#include "common/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

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

void log_write(enum log_level level, const char *format, ...) {
    if (level > log_threshold) {
        return;
    }
    struct timeval now;
    gettimeofday(&now, NULL);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[1024];
    int used = snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s %s: ",
                        utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                        utc.tm_sec, (int)(now.tv_usec / 1000), level_names[level], log_program);
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    used += wanted;
    if (used > (int)sizeof line - 2) {
        used = (int)sizeof line - 2;
    }
    line[used] = '\n';
    // One write for the line, so that lines of several threads and ranks do not mix.
    fwrite(line, 1, (size_t)used + 1, stderr);
}
