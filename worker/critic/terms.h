// What a critic was trained for: the policy whose hidden states it reads, and the costs and rewards
// that it predicts. They stand as JSON in its file; a job or a policy with others is refused. Plain
// data; any thread.
#ifndef WORKER_CRITIC_TERMS_H
#define WORKER_CRITIC_TERMS_H

#include <jansson.h>
#include <stdint.h>

#include "common/cost_to_go.h"
#include "common/status.h"
#include "proto/job_choices.h"
#include "proto/limits.h"
#include "common/sha256.h"

enum {
    CRITIC_CHANNELS_MAX = 4,
    CRITIC_REWARDS_MAX = LIMIT_SCORERS,
    CRITIC_HIDDEN_MAX = 1 << 16,
};

struct critic_scorer {
    char name[LIMIT_NAME_BYTES + 1];
    char hash[SHA256_HEX_BYTES];
    double weight; // costs: above 0
};

// One cost of jobs, and how their safety state reads it (coordinator/search/safety.h).
struct critic_channel {
    struct critic_scorer scorer;
    enum cost_mode cost_mode;
    enum cost_eos cost_eos;
    enum admit_rule admit_rule; // terminal: R_t is predicted; prefix: M_t
    double discount;            // gamma, (0, 1]
    enum discount_unit discount_unit;
    int32_t block_tokens; // 0 where nothing depends on it
};

struct critic_terms {
    char policy_hash[SHA256_HEX_BYTES];
    char chat_template[LIMIT_NAME_BYTES + 1]; // of the policy, "" for none
    int32_t hidden_dim;
    int32_t n_parts; // of each mixture, 1 or COST_TO_GO_PARTS_MAX
    int32_t n_channels;
    struct critic_channel channels[CRITIC_CHANNELS_MAX];
    int32_t n_rewards; // 0: no reward is predicted
    struct critic_scorer rewards[CRITIC_REWARDS_MAX];
};

// Whether blocks of another length make other costs of the same scores.
bool critic_channel_needs_blocks(const struct critic_channel *channel);

// Owned; NULL: no memory.
json_t *critic_terms_json(const struct critic_terms *terms);

// STATUS_INVALID_ARGUMENT unless a critic of these terms predicts what `wanted` says: the same
// policy and template, and the same costs and rewards, by hash, weight, mode and discount; names of
// scorers and the parts of mixtures may differ. The error names the first field that differs, and
// both values.
MUST_CHECK enum status critic_terms_agree(const struct critic_terms *terms,
                                          const struct critic_terms *wanted, struct error *err);

// Reads what critic_terms_json wrote. Every field is checked, unknown ones are refused; errors name
// it, as "channels[0].discount". STATUS_MALFORMED, STATUS_LIMIT, STATUS_INVALID_ARGUMENT.
MUST_CHECK enum status critic_terms_read(const json_t *json, struct critic_terms *out,
                                         struct error *err);

#endif
