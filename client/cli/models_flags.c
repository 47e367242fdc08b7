#include "client/cli/models_flags.h"

#include "proto/limits.h"

void models_flags_init(struct models_flags *flags) {
    *flags = (struct models_flags){.timeout_ms = 120000};
    flags->table[0] = (struct flag){.name = "timeout-ms",
                                    .kind = FLAG_U32,
                                    .target = &flags->timeout_ms,
                                    .min = 1,
                                    .max = LIMIT_DEADLINE_MS,
                                    .value = "N",
                                    .help = "until the model is opened; default 120000"};
    flags->table[1] = (struct flag){.name = "json",
                                    .kind = FLAG_SWITCH,
                                    .target = &flags->json,
                                    .help = "the result as one object"};
}
