#include "worker/backend/precision.h"

#include <string.h>

static const char *const precision_names[PRECISION_COUNT] = {"stored", "bf16", "int8"};

const char *precision_name(enum precision precision) {
    return precision_names[precision];
}

bool precision_find(const char *name, enum precision *out) {
    for (int i = 0; i < PRECISION_COUNT; ++i) {
        if (strcmp(name, precision_names[i]) == 0) {
            *out = (enum precision)i;
            return true;
        }
    }
    return false;
}
