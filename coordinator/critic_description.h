// What the groups' critic, or their value network, foretells, and for which policy, costs and
// rewards it was trained. Plain data, copied freely.
#ifndef COORDINATOR_CRITIC_DESCRIPTION_H
#define COORDINATOR_CRITIC_DESCRIPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/job_choices.h"
#include "proto/limits.h"
#include "proto/wire.h"

enum { CRITIC_HASH_BYTES = 128 };

struct critic_scorer_description {
    char hash[CRITIC_HASH_BYTES + 1];
    double weight;
};

struct critic_channel_description {
    struct critic_scorer_description scorer;
    enum cost_mode cost_mode;
    enum cost_eos cost_eos;
    enum admit_rule admit_rule;
    double discount;
    enum discount_unit discount_unit;
    uint32_t block_tokens; // 0: blocks of any length
};

struct critic_description {
    char hash[CRITIC_HASH_BYTES + 1]; // "": there is none
    char chat_template[LIMIT_NAME_BYTES + 1];
    uint32_t n_parts; // of a value 0
    uint32_t n_channels;
    struct critic_channel_description channels[LIMIT_CHANNELS];
    uint32_t n_rewards; // 0: no reward is foretold
    double lambda;      // of a value: weight of its channels' costs, 0 without channels
    struct critic_scorer_description rewards[LIMIT_SCORERS];
};

// Of a value with `is_value`, else of a latent critic. NULL: there is none. STATUS_INVALID_ARGUMENT
// and STATUS_LIMIT name the field.
MUST_CHECK enum status critic_description_read(const Surefoot__CriticInfo *info, bool is_value,
                                               struct critic_description *out, struct error *err);

#endif
