// What the fields of a JobSpec that take a name can choose, by number: frozen. The names stand in
// proto/job_fields.c.
#ifndef PROTO_JOB_CHOICES_H
#define PROTO_JOB_CHOICES_H

enum search_method {
    SEARCH_METHOD_SAMPLE = 1,
    SEARCH_METHOD_BEST_OF_N = 2,
    SEARCH_METHOD_BEAM = 3,
    SEARCH_METHOD_INFERENCE_GUARD = 4,
    SEARCH_METHOD_REJECTION = 5,
    SEARCH_METHOD_SPECULATIVE_REJECTION = 6,
    SEARCH_METHOD_CARDS = 7,
    SEARCH_METHOD_ARGS = 8,
    SEARCH_METHOD_RE_CONTROL = 9,
};
enum search_selection {
    SEARCH_SELECTION_PLAIN = 1,      // by reward R
    SEARCH_SELECTION_LAGRANGIAN = 2, // by R - lambda C
    SEARCH_SELECTION_AUGMENTED = 3,  // safety state first
    SEARCH_SELECTION_COST = 4,       // by -C
};
enum cost_mode {
    COST_MODE_END_DELTA = 1,
    COST_MODE_TOKEN_SUM = 2,
    COST_MODE_TOKEN_SUM_POS = 3,
    COST_MODE_BLOCK_END = 4,
    COST_MODE_END_SIGN = 5,
};
enum admit_rule { ADMIT_RULE_TERMINAL = 1, ADMIT_RULE_PREFIX = 2 };
enum discount_unit { DISCOUNT_UNIT_TOKEN = 1, DISCOUNT_UNIT_BLOCK = 2 };
enum cost_eos { COST_EOS_NONE = 1, COST_EOS_APPEND = 2 };
enum critic_use {
    CRITIC_USE_OFF = 1,
    CRITIC_USE_LATENT = 2,      // by f1 and f2 of the groups' critic
    CRITIC_USE_LATENT_COST = 3, // these choose which the scorers read
};
enum fallback_penalty {
    FALLBACK_PENALTY_COUNT = 1,
    FALLBACK_PENALTY_LOG1P = 2,
    FALLBACK_PENALTY_BINARY = 3,
};
enum tilt_transform { // Phi of the calibrated reward
    TILT_TRANSFORM_NONE = 1,
    TILT_TRANSFORM_IDENTITY = 2,
    TILT_TRANSFORM_LOG = 3,
    TILT_TRANSFORM_EXP = 4,
    TILT_TRANSFORM_EXP_NEG = 5,
    TILT_TRANSFORM_OPTIMAL_BON = 6,
    TILT_TRANSFORM_OPTIMAL_WON = 7,
};
enum tilt_sampler { TILT_SAMPLER_RANKS = 1, TILT_SAMPLER_ROLLOUTS = 2 };
enum tilt_rank_set { TILT_RANK_SET_ADMISSIBLE = 1, TILT_RANK_SET_ALL = 2 };

#endif
