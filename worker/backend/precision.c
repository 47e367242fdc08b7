#include "worker/backend/precision.h"

#include <string.h>

static const char *const precision_names[PRECISION_COUNT] = {"stored", "bf16", "int8", "q4"};

static const char *const kv_dtype_names[KV_DTYPES] = {"f32", "f16", "bf16", "int8"};

static bool find(const char *const *names, int n, const char *name, int *out) {
    for (int i = 0; i < n; ++i) {
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

const char *precision_name(enum precision precision) {
    return precision_names[precision];
}

bool precision_find(const char *name, enum precision *out) {
    int index;
    bool found = find(precision_names, PRECISION_COUNT, name, &index);
    if (found) {
        *out = (enum precision)index;
    }
    return found;
}

const char *kv_dtype_name(enum kv_dtype dtype) {
    return kv_dtype_names[dtype];
}

bool kv_dtype_find(const char *name, enum kv_dtype *out) {
    int index;
    bool found = find(kv_dtype_names, KV_DTYPES, name, &index);
    if (found) {
        *out = (enum kv_dtype)index;
    }
    return found;
}
