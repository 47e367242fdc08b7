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
    int64_t start_ms; // monotonic
    int64_t shown_ms;
    size_t shown_done; // what was shown last
};

void progress_start(struct progress *progress, FILE *out, bool quiet, size_t total,
                    size_t done_before);

// Draws when it is time to: call often.
void progress_show(struct progress *progress);

// Draws the last state and ends the line.
void progress_end(struct progress *progress);

#endif
