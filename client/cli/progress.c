#include "client/cli/progress.h"

#include <unistd.h>

#include "common/deadline.h"

enum { TERMINAL_EVERY_MS = 200, PLAIN_EVERY_MS = 10000, BAR_COLUMNS = 24 };

void progress_start(struct progress *progress, FILE *out, bool quiet, size_t total,
                    size_t done_before, size_t left_from) {
    int64_t now = clock_monotonic_ms();
    *progress = (struct progress){.out = out,
                                  .terminal = isatty(fileno(out)) == 1,
                                  .quiet = quiet,
                                  .total = total,
                                  .done_before = done_before,
                                  .done = done_before,
                                  .left_from = left_from,
                                  .start_ms = now,
                                  .seen_done = done_before,
                                  .seen_ms = now,
                                  .shown_ms = now,
                                  .shown_done = done_before};
}

long progress_left_s(size_t done, size_t left, int64_t done_ms, int64_t idle_ms) {
    double left_ms = (double)left * (double)done_ms / (double)done - (double)idle_ms;
    return left_ms > 0 ? (long)(left_ms / 1000) : 0;
}

static void draw(struct progress *progress) {
    int64_t now = clock_monotonic_ms();
    double seconds = (double)(now - progress->start_ms) / 1000;
    size_t done = progress->done - progress->done_before;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    if (progress->terminal) {
        size_t filled = progress->total == 0 ? 0 : BAR_COLUMNS * progress->done / progress->total;
        fputs("\r[", progress->out);
        for (size_t i = 0; i < BAR_COLUMNS; i++) {
            fputc(i < filled ? '#' : '.', progress->out);
        }
        fputs("] ", progress->out);
    }
    fprintf(progress->out, "%zu/%zu  %.2f/s", progress->done, progress->total, rate);
    if (done > 0 && done >= progress->left_from) {
        long left =
            progress_left_s(done, progress->total - progress->done,
                            progress->seen_ms - progress->start_ms, now - progress->seen_ms);
        fprintf(progress->out, "  left %ld:%02ld:%02ld", left / 3600, left / 60 % 60, left % 60);
    }
    fprintf(progress->out, "  refused %zu  failed %zu%s", progress->refused, progress->failed,
            progress->terminal ? "\x1b[K" : "\n");
    progress->drawn = progress->terminal;
    progress->shown_done = progress->done;
    fflush(progress->out);
}

void progress_show(struct progress *progress) {
    int64_t now = clock_monotonic_ms();
    if (progress->done != progress->seen_done) {
        progress->seen_done = progress->done;
        progress->seen_ms = now;
    }
    int64_t every = progress->terminal ? TERMINAL_EVERY_MS : PLAIN_EVERY_MS;
    if (!progress->quiet && now - progress->shown_ms >= every) {
        progress->shown_ms = now;
        draw(progress);
    }
}

void progress_end(struct progress *progress) {
    if (progress->quiet) {
        return;
    }
    if (progress->terminal || progress->shown_done != progress->done) {
        draw(progress);
    }
    if (progress->drawn) {
        fputc('\n', progress->out);
    }
}
