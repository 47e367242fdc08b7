// The models that the connected groups run, as the coordinator knows them: what the first group's
// hello said, against which every other group and every job is checked. Plain data, copied freely.
#ifndef COORDINATOR_MODEL_SET_H
#define COORDINATOR_MODEL_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/critic_description.h"
#include "proto/limits.h"
#include "proto/wire.h"

enum { MODEL_HASH_BYTES = 128, MODEL_EXEMPT_MAX = 1024 };

struct model_description { // as ModelInfo in client.proto
    char name[LIMIT_NAME_BYTES + 1];
    char role[LIMIT_NAME_BYTES + 1]; // policy, reward, cost; "" unknown
    char hash[MODEL_HASH_BYTES + 1];
    char chat_template[LIMIT_NAME_BYTES + 1]; // "" unknown
    char precision[LIMIT_NAME_BYTES + 1];     // of products; "" unknown
    char kv_dtype[LIMIT_NAME_BYTES + 1];      // of keys and values; likewise
    char cost_mode[LIMIT_NAME_BYTES + 1];     // "" when the profile names none; likewise cost_eos
    char cost_eos[LIMIT_NAME_BYTES + 1];
    uint32_t context_length; // tokens
    uint32_t vocab_size;
    uint32_t hidden_dim; // 0: not said
    uint64_t parameter_count;
    bool has_budget;
    bool has_discount;
    bool has_cost_min;
    double budget;
    double discount;
    double cost_min;
    bool has_generation;
    Surefoot__GenerationDefaults generation; // of policies; no pointers in it
};

struct model_set {
    struct model_description policy;
    struct model_description scorers[LIMIT_SCORERS];
    size_t n_scorers;
    struct critic_description critic;
    struct critic_description value; // a value network
    uint32_t block_tokens_max;       // tokens that one order may ask for
    int32_t exempt_ids[MODEL_EXEMPT_MAX];
    size_t n_exempt;
};

// Reads and range-checks what a hello says about models. STATUS_INVALID_ARGUMENT and STATUS_LIMIT
// name the field of the hello.
MUST_CHECK enum status model_set_read(const Surefoot__GroupHello *hello, struct model_set *out,
                                      struct error *err);

// STATUS_INVALID_ARGUMENT unless `other` has the same models (names, roles, hashes, profiles) and
// takes blocks as large as `set` promises; `err` names what differs.
MUST_CHECK enum status model_set_agree(const struct model_set *set, const struct model_set *other,
                                       struct error *err);

// The scorer called `name`, or NULL.
const struct model_description *model_set_find(const struct model_set *set, const char *name);

// Writes the scorers' names separated by ", " for messages, truncated to `size`.
void model_set_list(const struct model_set *set, char *text, size_t size);

// Fills `info`; strings are borrowed from `model`.
void model_description_fill(const struct model_description *model, Surefoot__ModelInfo *info);

#endif
