// The first place where two JSON values differ, for messages.
#ifndef CLIENT_CLI_JSON_DIFF_H
#define CLIENT_CLI_JSON_DIFF_H

#include <stdbool.h>

#include <jansson.h>

enum { JSON_DIFF_PATH_BYTES = 96, JSON_DIFF_VALUE_BYTES = 64 };

struct json_diff {
    char path[JSON_DIFF_PATH_BYTES];    // "job.sampling.top_k", "" for the values themselves
    char before[JSON_DIFF_VALUE_BYTES]; // as JSON, cut when it is long; "nothing" where it is not
    char after[JSON_DIFF_VALUE_BYTES];
};

// False when they are equal. Objects are looked into, lists compared as a whole.
bool json_diff_first(const json_t *before, const json_t *after, struct json_diff *out);

#endif
