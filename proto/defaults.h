// What an absent field of a JobSpec means, where that depends on no model. The coordinator and the
// ranks fill them in; clients write them into records and help. docs/protocol.md lists them.
#ifndef PROTO_DEFAULTS_H
#define PROTO_DEFAULTS_H

enum {
    DEFAULT_N = 32, // 1 for method sample
    DEFAULT_SURVIVORS_DIVISOR = 4,
    DEFAULT_BLOCK_TOKENS = 4,
    DEFAULT_MAX_TOKENS = 128,
    DEFAULT_TRIES = 2,
    DEFAULT_LAGRANGIAN_LAMBDA = 5,
    DEFAULT_FALLBACK_WEIGHT = 3, // logits
    DEFAULT_FALLBACK_CAP = 10, // logits
    DEFAULT_TEMPERATURE = 1,
    DEFAULT_TOP_P = 1,
    DEFAULT_REPETITION_PENALTY = 1,
};

#define DEFAULT_METHOD "inference-guard"
#define DEFAULT_SELECTION "plain" // "augmented" for method inference-guard
#define DEFAULT_DISCOUNT_UNIT "token"
#define DEFAULT_ADMIT_RULE "terminal"
#define DEFAULT_FALLBACK_PENALTY "log1p"

#endif
