// The flags that `surefoot models check` and `surefoot models render` have in common.
#ifndef CLIENT_CLI_MODELS_FLAGS_H
#define CLIENT_CLI_MODELS_FLAGS_H

#include "client/cli/flags.h"

struct models_flags {
    struct flag table[3]; // targets lie in this struct: it must not be moved
    uint32_t timeout_ms;
    int json;
};

void models_flags_init(struct models_flags *flags);

#endif
