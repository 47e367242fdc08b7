// What a critic was trained for: the policy whose hidden states it reads, and the costs and rewards
// that it predicts, each for itself or as one value. They stand as JSON in its file; a job or a
// policy with others is refused. Plain data; any thread.
#ifndef WORKER_CRITIC_TERMS_H
#define WORKER_CRITIC_TERMS_H

#include <jansson.h>
#include <stdbool.h>
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

// What the network gives (docs/methods/critic.md, docs/methods/re-control.md).
enum critic_form {
    CRITIC_FORM_LATENT,         // mixtures of each cost to go, and the reward to come
    CRITIC_FORM_VALUE,          // V, the R - lambda C that the text will have
    CRITIC_FORM_VALUE_RELEASED, // V as the code of its authors trains it
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
    enum critic_form form;
    double lambda; // of a value, at least 0; 0: of rewards alone, there are no channels
    char policy_hash[SHA256_HEX_BYTES];
    char chat_template[LIMIT_NAME_BYTES + 1]; // of the policy, "" for none
    int32_t hidden_dim;
    int32_t n_parts; // of each mixture, 1 to COST_TO_GO_PARTS_MAX; of a value 1
    int32_t n_channels;
    struct critic_channel channels[CRITIC_CHANNELS_MAX];
    int32_t n_rewards; // 0: no reward is predicted; of a value above 0
    struct critic_scorer rewards[CRITIC_REWARDS_MAX];
};

// "latent", "value", "value-released"; NULL: no such form.
const char *critic_form_name(enum critic_form form);
bool critic_form_parse(const char *name, enum critic_form *out);

bool critic_terms_are_value(const struct critic_terms *terms);

// Whether blocks of another length make other costs of the same scores.
bool critic_channel_needs_blocks(const struct critic_channel *channel);

// Owned; NULL: no memory.
json_t *critic_terms_json(const struct critic_terms *terms);

// STATUS_INVALID_ARGUMENT unless a critic of these terms predicts what `wanted` says: the same
// policy, template and form, and the same costs and rewards, by hash, weight, mode and discount;
// names of scorers and the parts of mixtures may differ. The error names the first field that
// differs, and both values.
MUST_CHECK enum status critic_terms_agree(const struct critic_terms *terms,
                                          const struct critic_terms *wanted, struct error *err);

// Reads what critic_terms_json wrote. Every field is checked, unknown ones are refused; errors name
// it, as "channels[0].discount". STATUS_MALFORMED, STATUS_LIMIT, STATUS_INVALID_ARGUMENT.
MUST_CHECK enum status critic_terms_read(const json_t *json, struct critic_terms *out,
                                         struct error *err);

#endif
