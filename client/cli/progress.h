// How far a batch is: a bar that redraws itself on a terminal, a plain line every 10 s elsewhere.
#ifndef CLIENT_CLI_PROGRESS_H
#define CLIENT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct progress {
    FILE *out;
    bool terminal;
    bool quiet;
    bool drawn;         // something stands in the terminal's last line
    size_t total;       // items of the whole batch
    size_t done_before; // those that an earlier run had done
    size_t done;        // those and the ones done since
    size_t refused;
    size_t failed;
    size_t left_from; // so many must be done in this run before the time left is shown
    int64_t start_ms; // monotonic
    size_t seen_done; // at the last look
    int64_t seen_ms;  // when it changed
    int64_t shown_ms;
    size_t shown_done; // what was shown last
};

// `left_from`: the items in flight at once, whose first ones say little about the rest; SIZE_MAX:
// the time left is never shown.
void progress_start(struct progress *progress, FILE *out, bool quiet, size_t total,
                    size_t done_before, size_t left_from);

// Seconds for `left` items when `done` took done_ms and nothing has come for idle_ms since: it
// falls while nothing comes, to 0 at least.
long progress_left_s(size_t done, size_t left, int64_t done_ms, int64_t idle_ms);

// Draws when it is time to: call often.
void progress_show(struct progress *progress);

// Draws the last state and ends the line.
void progress_end(struct progress *progress);

#endif
