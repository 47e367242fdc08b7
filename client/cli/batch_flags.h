// The flags of commands that run the prompts of a file as one batch.
#ifndef CLIENT_CLI_BATCH_FLAGS_H
#define CLIENT_CLI_BATCH_FLAGS_H

#include "client/cli/flags.h"

enum { BATCH_FLAGS_COUNT = 14 };

struct batch_flags {
    struct flag table[BATCH_FLAGS_COUNT]; // targets lie in this struct: it must not be moved
    char in_flight_help[48];
    const char *out;           // the file for the records, or NULL
    const char *prompt_column; // NULL: found out
    const char *id_column;     // likewise
    const char *form;          // likewise
    struct flag_list filters;
    uint32_t sample;
    uint64_t sample_seed;
    int sample_seed_given;
    uint32_t limit;
    uint32_t in_flight; // jobs
    uint32_t patience_ms;
    int retry_failed;
    int quiet;
};

// `out_help` is static.
void batch_flags_init(struct batch_flags *flags, uint32_t in_flight_default, const char *out_help);

// After parsing. STATUS_INVALID_ARGUMENT: a flag has no effect.
MUST_CHECK enum status batch_flags_check(const struct batch_flags *flags, struct error *err);

#endif
