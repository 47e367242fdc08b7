#include "proto/job_fields.h"

#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "proto/limits.h"

enum {
    SAMPLE = 1 << SEARCH_METHOD_SAMPLE,
    BEST_OF_N = 1 << SEARCH_METHOD_BEST_OF_N,
    BEAM = 1 << SEARCH_METHOD_BEAM,
    GUARD = 1 << SEARCH_METHOD_INFERENCE_GUARD,
    REJECTION = 1 << SEARCH_METHOD_REJECTION,
    SPECULATIVE = 1 << SEARCH_METHOD_SPECULATIVE_REJECTION,
    CARDS = 1 << SEARCH_METHOD_CARDS,
    ARGS = 1 << SEARCH_METHOD_ARGS,
    RE_CONTROL = 1 << SEARCH_METHOD_RE_CONTROL,
    LAGRANGIAN = 1 << SEARCH_SELECTION_LAGRANGIAN,
    PLAIN = 1 << SEARCH_SELECTION_PLAIN,
    AUGMENTED = 1 << SEARCH_SELECTION_AUGMENTED,
    EXPONENTIAL = 1 << TILT_TRANSFORM_EXP | 1 << TILT_TRANSFORM_EXP_NEG,
    TILTED = EXPONENTIAL | 1 << TILT_TRANSFORM_IDENTITY | 1 << TILT_TRANSFORM_LOG |
             1 << TILT_TRANSFORM_OPTIMAL_BON | 1 << TILT_TRANSFORM_OPTIMAL_WON,
    SHARE_DIVISOR = 4, // survivors and n_min, of n
};

static const char *const methods[] = {
    [SEARCH_METHOD_SAMPLE] = "sample",
    [SEARCH_METHOD_BEST_OF_N] = "best-of-n",
    [SEARCH_METHOD_BEAM] = "beam",
    [SEARCH_METHOD_INFERENCE_GUARD] = "inference-guard",
    [SEARCH_METHOD_REJECTION] = "rejection",
    [SEARCH_METHOD_SPECULATIVE_REJECTION] = "speculative-rejection",
    [SEARCH_METHOD_CARDS] = "cards",
    [SEARCH_METHOD_ARGS] = "args",
    [SEARCH_METHOD_RE_CONTROL] = "re-control",
    NULL,
};
static const char *const selections[] = {
    [SEARCH_SELECTION_PLAIN] = "plain",
    [SEARCH_SELECTION_LAGRANGIAN] = "lagrangian",
    [SEARCH_SELECTION_AUGMENTED] = "augmented",
    [SEARCH_SELECTION_COST] = "cost",
    NULL,
};
static const char *const cost_modes[] = {
    [COST_MODE_END_DELTA] = "end_delta",         [COST_MODE_TOKEN_SUM] = "token_sum",
    [COST_MODE_TOKEN_SUM_POS] = "token_sum_pos", [COST_MODE_BLOCK_END] = "block_end",
    [COST_MODE_END_SIGN] = "end_sign",           NULL,
};
static const char *const admit_rules[] = {
    [ADMIT_RULE_TERMINAL] = "terminal",
    [ADMIT_RULE_PREFIX] = "prefix",
    NULL,
};
static const char *const discount_units[] = {
    [DISCOUNT_UNIT_TOKEN] = "token",
    [DISCOUNT_UNIT_BLOCK] = "block",
    NULL,
};
static const char *const cost_eos[] = {
    [COST_EOS_NONE] = "none",
    [COST_EOS_APPEND] = "append",
    NULL,
};
static const char *const critic_uses[] = {
    [CRITIC_USE_OFF] = "off",
    [CRITIC_USE_LATENT] = "latent",
    [CRITIC_USE_LATENT_COST] = "latent+cost",
    NULL,
};
static const char *const fallback_penalties[] = {
    [FALLBACK_PENALTY_COUNT] = "count",
    [FALLBACK_PENALTY_LOG1P] = "log1p",
    [FALLBACK_PENALTY_BINARY] = "binary",
    NULL,
};
static const char *const tilts[] = {
    [TILT_TRANSFORM_NONE] = "none",
    [TILT_TRANSFORM_IDENTITY] = "identity",
    [TILT_TRANSFORM_LOG] = "log",
    [TILT_TRANSFORM_EXP] = "exp",
    [TILT_TRANSFORM_EXP_NEG] = "exp_neg",
    [TILT_TRANSFORM_OPTIMAL_BON] = "optimal_bon",
    [TILT_TRANSFORM_OPTIMAL_WON] = "optimal_won",
    NULL,
};
static const char *const tilt_samplers[] = {
    [TILT_SAMPLER_RANKS] = "ranks",
    [TILT_SAMPLER_ROLLOUTS] = "rollouts",
    NULL,
};
static const char *const tilt_rank_sets[] = {
    [TILT_RANK_SET_ADMISSIBLE] = "admissible",
    [TILT_RANK_SET_ALL] = "all",
    NULL,
};

static const struct job_method method_rows[] = {
    [0] = {.own_selection = SEARCH_SELECTION_PLAIN, .chooses_selection = true},
    [SEARCH_METHOD_SAMPLE] = {.own_selection = SEARCH_SELECTION_PLAIN,
                              .n_fixed = 1,
                              .without_reward = true},
    [SEARCH_METHOD_BEST_OF_N] = {.own_selection = SEARCH_SELECTION_PLAIN,
                                 .chooses_selection = true},
    [SEARCH_METHOD_BEAM] = {.own_selection = SEARCH_SELECTION_PLAIN, .chooses_selection = true},
    [SEARCH_METHOD_INFERENCE_GUARD] = {.own_selection = SEARCH_SELECTION_AUGMENTED,
                                       .block_tokens = 2},
    [SEARCH_METHOD_REJECTION] = {.own_selection = SEARCH_SELECTION_AUGMENTED,
                                 .without_reward = true},
    [SEARCH_METHOD_SPECULATIVE_REJECTION] = {.own_selection = SEARCH_SELECTION_PLAIN,
                                             .chooses_selection = true},
    [SEARCH_METHOD_CARDS] = {.own_selection = SEARCH_SELECTION_PLAIN,
                             .chooses_selection = true,
                             .block_tokens = 64},
    [SEARCH_METHOD_ARGS] = {.own_selection = SEARCH_SELECTION_PLAIN,
                            .chooses_selection = true,
                            .block_tokens = 1,
                            .block_fixed = true,
                            .takes_by_rank = true},
    [SEARCH_METHOD_RE_CONTROL] = {.own_selection = SEARCH_SELECTION_PLAIN,
                                  .chooses_selection = true,
                                  .n = 1,
                                  .follows_value = true},
};

// The large ranges of real numbers only keep sums away from infinity.
static const struct job_field rows[JOB_FIELDS_COUNT] = {
    [JOB_FIELD_METHOD] = {.name = "method",
                          .kind = JOB_FIELD_KIND_CHOICE,
                          .choices = methods,
                          .fallback = SEARCH_METHOD_INFERENCE_GUARD},
    [JOB_FIELD_SELECTION] = {.name = "selection",
                             .kind = JOB_FIELD_KIND_CHOICE,
                             .choices = selections,
                             .fallback = SEARCH_SELECTION_PLAIN,
                             .after = ", augmented for inference-guard and rejection"},
    [JOB_FIELD_N] = {.name = "n",
                     .low = 1,
                     .high = LIMIT_CANDIDATES,
                     .fallback = 32,
                     .after = ", 1 for sample and re-control",
                     .methods = BEST_OF_N | BEAM | GUARD | REJECTION | SPECULATIVE | CARDS | ARGS |
                                RE_CONTROL,
                     .about = "candidates"},
    [JOB_FIELD_SURVIVORS] = {.name = "survivors",
                             .low = 1,
                             .high = LIMIT_CANDIDATES,
                             .before = "n/",
                             .fallback = SHARE_DIVISOR,
                             .up_to_n = true,
                             .after = ", at least 1",
                             .methods = BEAM | GUARD,
                             .about = "beams kept by a selection"},
    [JOB_FIELD_BLOCK_TOKENS] = {.name = "block_tokens",
                                .low = 1,
                                .high = LIMIT_BLOCK_TOKENS,
                                .fallback = 4,
                                .after = ", 2 for inference-guard, 64 for cards, 1 for args",
                                .about = "tokens between two selections"},
    [JOB_FIELD_BLOCK_GROWTH] = {.name = "block_growth",
                                .kind = JOB_FIELD_KIND_REAL,
                                .low = 1,
                                .high = 16,
                                .fallback = 1.1,
                                .methods = GUARD,
                                .about = "a block's length over that of the one before"},
    [JOB_FIELD_BLOCK_TOKENS_MAX] = {.name = "block_tokens_max",
                                    .low = 1,
                                    .high = LIMIT_BLOCK_TOKENS,
                                    .fallback = 32,
                                    .after = ", at least block_tokens",
                                    .methods = GUARD,
                                    .about = "longest block"},
    [JOB_FIELD_N_MIN] = {.name = "n_min",
                         .low = 0,
                         .high = LIMIT_CANDIDATES,
                         .up_to_n = true,
                         .before = "n/",
                         .fallback = SHARE_DIVISOR,
                         .after = ", at least 1",
                         .methods = GUARD,
                         .about = "candidates of a step that answers leave, 0: all n"},
    [JOB_FIELD_PATIENCE] = {.name = "patience",
                            .low = 0,
                            .high = LIMIT_MAX_TOKENS,
                            .fallback = 4,
                            .methods = GUARD,
                            .about = "steps without a better answer that end the search, 0: none"},
    [JOB_FIELD_ABORT_TOKENS] = {.name = "abort_tokens",
                                .low = 0,
                                .high = LIMIT_BLOCK_TOKENS,
                                .fallback = 8,
                                .methods = GUARD,
                                .about =
                                    "multiples at which the lost stop inside a block, 0: none"},
    [JOB_FIELD_MAX_TOKENS] = {.name = "max_tokens",
                              .low = 1,
                              .high = LIMIT_MAX_TOKENS,
                              .fallback = 128,
                              .of_model = true,
                              .before = "the model's, else ",
                              .about = "longest answer"},
    [JOB_FIELD_TRIES] = {.name = "tries",
                         .low = 1,
                         .high = LIMIT_TRIES,
                         .fallback = 2,
                         .methods = GUARD,
                         .about = "tries of a step when no beam is safe, the first included"},
    [JOB_FIELD_BUDGET] = {.name = "budget",
                          .kind = JOB_FIELD_KIND_REAL,
                          .low = -1e9,
                          .high = 1e9,
                          .of_model = true,
                          .before = "the cost model's",
                          .of_channel = true,
                          .about = "safety budget b"},
    [JOB_FIELD_DISCOUNT] = {.name = "discount",
                            .kind = JOB_FIELD_KIND_REAL,
                            .low = 0,
                            .high = 1,
                            .above_low = true,
                            .fallback = 0.999,
                            .of_model = true,
                            .before = "the cost model's, else ",
                            .of_channel = true,
                            .about = "gamma"},
    [JOB_FIELD_DISCOUNT_UNIT] = {.name = "discount_unit",
                                 .kind = JOB_FIELD_KIND_CHOICE,
                                 .choices = discount_units,
                                 .of_channel = true,
                                 .fallback = DISCOUNT_UNIT_TOKEN},
    [JOB_FIELD_DISCOUNT_REWARD] = {.name = "discount_reward",
                                   .kind = JOB_FIELD_KIND_BOOL,
                                   .fallback = 1,
                                   .methods = BEAM | GUARD,
                                   .selections = AUGMENTED,
                                   .about = "discount the reward too"},
    [JOB_FIELD_COST_MODE] = {.name = "cost_mode",
                             .kind = JOB_FIELD_KIND_CHOICE,
                             .choices = cost_modes,
                             .of_model = true,
                             .of_channel = true,
                             .before = "the cost model's"},
    [JOB_FIELD_ADMIT_RULE] = {.name = "admit_rule",
                              .kind = JOB_FIELD_KIND_CHOICE,
                              .choices = admit_rules,
                              .of_channel = true,
                              .fallback = ADMIT_RULE_TERMINAL},
    [JOB_FIELD_COST_EOS] = {.name = "cost_eos",
                            .kind = JOB_FIELD_KIND_CHOICE,
                            .choices = cost_eos,
                            .fallback = COST_EOS_NONE,
                            .of_model = true,
                            .before = "the cost model's, else "},
    [JOB_FIELD_LAGRANGIAN_LAMBDA] = {.name = "lagrangian_lambda",
                                     .kind = JOB_FIELD_KIND_REAL,
                                     .low = 0,
                                     .high = 1e6,
                                     .fallback = 5,
                                     .methods =
                                         BEST_OF_N | BEAM | SPECULATIVE | CARDS | ARGS | RE_CONTROL,
                                     .selections = LAGRANGIAN,
                                     .about = "weight of the cost for --selection lagrangian"},
    [JOB_FIELD_FALLBACK_PENALTY] = {.name = "fallback_penalty",
                                    .kind = JOB_FIELD_KIND_CHOICE,
                                    .choices = fallback_penalties,
                                    .fallback = FALLBACK_PENALTY_LOG1P,
                                    .methods = GUARD,
                                    .of_retries = true},
    [JOB_FIELD_FALLBACK_WEIGHT] = {.name = "fallback_weight",
                                   .kind = JOB_FIELD_KIND_REAL,
                                   .low = 0,
                                   .high = 1e6,
                                   .fallback = 3,
                                   .methods = GUARD,
                                   .of_retries = true,
                                   .about = "n2, logits"},
    [JOB_FIELD_FALLBACK_CAP] = {.name = "fallback_cap",
                                .kind = JOB_FIELD_KIND_REAL,
                                .low = 0,
                                .high = 1e3,
                                .fallback = 10,
                                .methods = GUARD,
                                .of_retries = true,
                                .about = "largest penalty of one token, logits"},
    [JOB_FIELD_FALLBACK_TEMPERATURE] = {.name = "fallback_temperature",
                                        .kind = JOB_FIELD_KIND_REAL,
                                        .low = 0,
                                        .high = 100,
                                        .fallback = 1.5,
                                        .methods = GUARD,
                                        .about = "of a second search where none is safe, 0: none"},
    [JOB_FIELD_COST_MIN] = {.name = "cost_min",
                            .kind = JOB_FIELD_KIND_REAL,
                            .low = -1e9,
                            .high = 1e9,
                            .of_model = true,
                            .before = "the cost model's",
                            .of_channel = true,
                            .about = "no cost is less; enables sound pruning"},
    [JOB_FIELD_EARLY_STOP] = {.name = "early_stop",
                              .kind = JOB_FIELD_KIND_BOOL,
                              .fallback = 1,
                              .methods = BEST_OF_N | REJECTION | RE_CONTROL,
                              .selections = AUGMENTED,
                              .after = ", false where tilt_rank_set is all",
                              .about = "=false: certainly lost candidates grow on"},
    [JOB_FIELD_REJECTION_ALPHA] = {.name = "rejection_alpha",
                                   .kind = JOB_FIELD_KIND_REAL,
                                   .low = 0,
                                   .high = 0.99,
                                   .fallback = 0.5,
                                   .methods = SPECULATIVE,
                                   .about = "share of the candidates that a block's end rejects"},
    [JOB_FIELD_REWARD_THRESHOLD] = {.name = "reward_threshold",
                                    .kind = JOB_FIELD_KIND_REAL,
                                    .low = -1e9,
                                    .high = 1e9,
                                    .required = true,
                                    .before = "must be given",
                                    .methods = CARDS,
                                    .about = "score r* that a whole answer should reach"},
    [JOB_FIELD_THRESHOLD_START] = {.name = "threshold_start",
                                   .kind = JOB_FIELD_KIND_REAL,
                                   .low = 0,
                                   .high = 1,
                                   .fallback = 0.5,
                                   .methods = CARDS,
                                   .about = "first threshold, 0 the prompt's score, 1 r*"},
    [JOB_FIELD_ACCEPT_TEMPERATURE] = {.name = "accept_temperature",
                                      .kind = JOB_FIELD_KIND_REAL,
                                      .low = 0,
                                      .high = 1e6,
                                      .fallback = 0.7,
                                      .methods = CARDS,
                                      .about = "of the test of a segment, 0: it must be reached"},
    [JOB_FIELD_ENTROPY_THRESHOLD] = {.name = "entropy_threshold",
                                     .kind = JOB_FIELD_KIND_REAL,
                                     .low = 0,
                                     .high = 100,
                                     .fallback = 3,
                                     .methods = CARDS,
                                     .about = "nats that end a segment, 0: its length alone does"},
    [JOB_FIELD_SEGMENT_TOKENS_MIN] = {.name = "segment_tokens_min",
                                      .low = 1,
                                      .high = LIMIT_BLOCK_TOKENS,
                                      .fallback = 4,
                                      .methods = CARDS,
                                      .about = "shortest segment, but at the end"},
    [JOB_FIELD_OMEGA] = {.name = "omega",
                         .kind = JOB_FIELD_KIND_REAL,
                         .low = 0,
                         .high = 1e6,
                         .fallback = 2.5,
                         .methods = ARGS,
                         .about = "weight of the score beside a token's logit"},
    [JOB_FIELD_STEPS] = {.name = "steps",
                         .low = 0,
                         .high = LIMIT_VALUE_STEPS,
                         .fallback = 30,
                         .methods = RE_CONTROL,
                         .about = "along the value's gradient before each token"},
    [JOB_FIELD_ALPHA] = {.name = "alpha",
                         .kind = JOB_FIELD_KIND_REAL,
                         .low = 0,
                         .high = LIMIT_VALUE_STEP,
                         .fallback = 0.5,
                         .methods = RE_CONTROL,
                         .about = "how far each step goes"},
    [JOB_FIELD_TILT] = {.name = "tilt",
                        .kind = JOB_FIELD_KIND_CHOICE,
                        .choices = tilts,
                        .fallback = TILT_TRANSFORM_NONE,
                        .methods = BEST_OF_N,
                        .selections = PLAIN | AUGMENTED},
    [JOB_FIELD_TILT_T] = {.name = "tilt_t",
                          .kind = JOB_FIELD_KIND_REAL,
                          .low = 0,
                          .high = 500,
                          .above_low = true,
                          .fallback = 10,
                          .methods = BEST_OF_N,
                          .selections = PLAIN | AUGMENTED,
                          .tilts = EXPONENTIAL,
                          .about = "t of the tilts exp(t u) and -exp(-t u)"},
    [JOB_FIELD_TILT_N] = {.name = "tilt_n",
                          .low = 1,
                          .high = LIMIT_TILT_N,
                          .fallback = 4,
                          .methods = BEST_OF_N,
                          .selections = PLAIN | AUGMENTED,
                          .tilts = TILTED,
                          .about = "N of the best and the worst of N"},
    [JOB_FIELD_TILT_KL] = {.name = "tilt_kl",
                           .kind = JOB_FIELD_KIND_REAL,
                           .low = 0,
                           .high = 8,
                           .above_low = true,
                           .fallback = 0.5,
                           .methods = BEST_OF_N,
                           .selections = PLAIN | AUGMENTED,
                           .tilts = TILTED,
                           .about = "distance of a tilt from the policy, nats"},
    [JOB_FIELD_TILT_BETA] = {.name = "tilt_beta",
                             .kind = JOB_FIELD_KIND_REAL,
                             .low = 0,
                             .high = 1e300,
                             .fallback = 0,
                             .methods = BEST_OF_N,
                             .selections = PLAIN | AUGMENTED,
                             .tilts = TILTED,
                             .about = "in place of --tilt-kl; 0: what that asks for"},
    [JOB_FIELD_TILT_SAMPLER] = {.name = "tilt_sampler",
                                .kind = JOB_FIELD_KIND_CHOICE,
                                .choices = tilt_samplers,
                                .fallback = TILT_SAMPLER_RANKS,
                                .methods = BEST_OF_N,
                                .selections = PLAIN | AUGMENTED,
                                .tilts = TILTED},
    [JOB_FIELD_CALIBRATE] = {.name = "calibrate",
                             .kind = JOB_FIELD_KIND_BOOL,
                             .fallback = 0,
                             .methods = BEST_OF_N,
                             .selections = PLAIN,
                             .about = "the result has all candidates' rewards"},
    [JOB_FIELD_TILT_RANK_SET] = {.name = "tilt_rank_set",
                                 .kind = JOB_FIELD_KIND_CHOICE,
                                 .choices = tilt_rank_sets,
                                 .fallback = TILT_RANK_SET_ADMISSIBLE,
                                 .methods = BEST_OF_N,
                                 .selections = PLAIN | AUGMENTED,
                                 .tilts = TILTED},
    [JOB_FIELD_DEADLINE_MS] = {.name = "deadline_ms",
                               .low = 0,
                               .high = LIMIT_DEADLINE_MS,
                               .fallback = 0,
                               .about = "the job's time limit, 0 none"},
    [JOB_FIELD_STATES] = {.name = "states",
                          .kind = JOB_FIELD_KIND_BOOL,
                          .fallback = 0,
                          .methods = SAMPLE,
                          .about = "the result has the hidden states at the ends of blocks"},
    [JOB_FIELD_CRITIC] = {.name = "critic",
                          .kind = JOB_FIELD_KIND_CHOICE,
                          .choices = critic_uses,
                          .fallback = CRITIC_USE_OFF,
                          .methods = BEAM | GUARD,
                          .selections = AUGMENTED,
                          .about = "latent: unfinished candidates by what the critic foretells; "
                                   "latent+cost: by scorers, which read the critic's choice"},
    [JOB_FIELD_CRITIC_KEEP] = {.name = "critic_keep",
                               .kind = JOB_FIELD_KIND_REAL,
                               .low = 0,
                               .high = 1,
                               .above_low = true,
                               .fallback = 0.7,
                               .methods = BEAM | GUARD,
                               .selections = AUGMENTED,
                               .of_sharing = true,
                               .about =
                                   "share of a step's unfinished candidates that scorers read"},
};

const struct job_field *job_field_get(enum job_field_index index) {
    ASSERT(index < JOB_FIELDS_COUNT);
    return &rows[index];
}

static const ProtobufCFieldDescriptor *descriptor_of(enum job_field_index index) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        &surefoot__job_spec__descriptor, job_field_get(index)->name);
    ASSERT(field != NULL && field->label == PROTOBUF_C_LABEL_OPTIONAL);
    return field;
}

const char *job_field_text(enum job_field_index index, const Surefoot__JobSpec *spec) {
    char *text;
    memcpy(&text, (const char *)spec + descriptor_of(index)->offset, sizeof text);
    return text;
}

bool job_field_is_set(enum job_field_index index, const Surefoot__JobSpec *spec) {
    if (job_field_get(index)->kind == JOB_FIELD_KIND_CHOICE) {
        return job_field_text(index, spec) != NULL;
    }
    protobuf_c_boolean has;
    memcpy(&has, (const char *)spec + descriptor_of(index)->quantifier_offset, sizeof has);
    return has != 0;
}

void *job_field_place(enum job_field_index index, Surefoot__JobSpec *spec) {
    return (char *)spec + descriptor_of(index)->offset;
}

protobuf_c_boolean *job_field_has_place(enum job_field_index index, Surefoot__JobSpec *spec) {
    bool choice = job_field_get(index)->kind == JOB_FIELD_KIND_CHOICE;
    void *place = (char *)spec + descriptor_of(index)->quantifier_offset;
    return choice ? NULL : place;
}

void job_field_clear(enum job_field_index index, Surefoot__JobSpec *spec) {
    protobuf_c_boolean *has = job_field_has_place(index, spec);
    if (has != NULL) {
        *has = 0;
    } else {
        *(char **)job_field_place(index, spec) = NULL;
    }
}

const struct job_method *job_method_get(int number) {
    ASSERT(number >= 0 && (size_t)number < sizeof method_rows / sizeof method_rows[0]);
    return &method_rows[number];
}

const struct job_method *job_method_of(const Surefoot__JobSpec *spec) {
    return job_method_get((int)job_field_number(JOB_FIELD_METHOD, spec));
}

double job_field_fallback(enum job_field_index index, const Surefoot__JobSpec *spec) {
    switch (index) {
    case JOB_FIELD_SELECTION:
        return job_method_of(spec)->own_selection;
    case JOB_FIELD_N: {
        const struct job_method *method = job_method_of(spec);
        return method->n_fixed > 0 ? method->n_fixed
               : method->n > 0     ? method->n
                                   : job_field_get(index)->fallback;
    }
    case JOB_FIELD_BLOCK_TOKENS:
        return job_method_of(spec)->block_tokens > 0 ? job_method_of(spec)->block_tokens
                                                     : job_field_get(index)->fallback;
    case JOB_FIELD_BLOCK_TOKENS_MAX: {
        double first = job_field_number(JOB_FIELD_BLOCK_TOKENS, spec);
        return first > job_field_get(index)->fallback ? first : job_field_get(index)->fallback;
    }
    case JOB_FIELD_N_MIN:
    case JOB_FIELD_SURVIVORS: {
        uint32_t n = (uint32_t)job_field_number(JOB_FIELD_N, spec);
        return n >= SHARE_DIVISOR ? n / SHARE_DIVISOR : 1;
    }
    case JOB_FIELD_EARLY_STOP:
        return job_field_number(JOB_FIELD_TILT_RANK_SET, spec) != TILT_RANK_SET_ALL;
    default:
        return job_field_get(index)->fallback;
    }
}

double job_field_number(enum job_field_index index, const Surefoot__JobSpec *spec) {
    if (!job_field_is_set(index, spec)) {
        return job_field_fallback(index, spec);
    }
    const char *at = (const char *)spec + descriptor_of(index)->offset;
    switch (job_field_get(index)->kind) {
    case JOB_FIELD_KIND_U32: {
        uint32_t value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    case JOB_FIELD_KIND_REAL: {
        double value;
        memcpy(&value, at, sizeof value);
        return value;
    }
    case JOB_FIELD_KIND_BOOL: {
        protobuf_c_boolean value;
        memcpy(&value, at, sizeof value);
        return value != 0;
    }
    case JOB_FIELD_KIND_CHOICE:
        break;
    }
    return job_choice_parse(index, job_field_text(index, spec));
}

bool job_asks_model(const Surefoot__JobSpec *spec) {
    return spec->generation_defaults == NULL || strcmp(spec->generation_defaults, "none") != 0;
}

bool job_field_has_fallback(enum job_field_index index, const Surefoot__JobSpec *spec) {
    const struct job_field *field = job_field_get(index);
    bool said_by_beta =
        index == JOB_FIELD_TILT_KL && job_field_number(JOB_FIELD_TILT_BETA, spec) > 0;
    return !field->required && !said_by_beta &&
           (!field->of_model || (index == JOB_FIELD_MAX_TOKENS && !job_asks_model(spec)));
}

// A name that is unknown is refused elsewhere.
static bool is_among(unsigned bits, double number) {
    return bits == 0 || number == 0 || (bits & 1U << (int)number) != 0;
}

bool job_field_is_read(enum job_field_index index, const Surefoot__JobSpec *spec) {
    const struct job_field *field = job_field_get(index);
    bool retries = job_field_number(JOB_FIELD_TRIES, spec) > 1;
    bool shares = job_field_number(JOB_FIELD_CRITIC, spec) == CRITIC_USE_LATENT_COST;
    return is_among(field->methods, job_field_number(JOB_FIELD_METHOD, spec)) &&
           is_among(field->selections, job_field_number(JOB_FIELD_SELECTION, spec)) &&
           is_among(field->tilts, job_field_number(JOB_FIELD_TILT, spec)) &&
           (retries || !field->of_retries) && (shares || !field->of_sharing);
}

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessage *message,
                                                enum job_field_index index) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        message->descriptor, job_field_get(index)->name);
    ASSERT(field != NULL && field->label == PROTOBUF_C_LABEL_OPTIONAL);
    return field;
}

static void copy_channel_fields(const ProtobufCMessage *from, ProtobufCMessage *to) {
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        if (!job_field_get(index)->of_channel) {
            continue;
        }
        const ProtobufCFieldDescriptor *source = field_of(from, index);
        const ProtobufCFieldDescriptor *target = field_of(to, index);
        ASSERT(source->type == target->type);
        if (source->type == PROTOBUF_C_TYPE_STRING) {
            memcpy((char *)to + target->offset, (const char *)from + source->offset,
                   sizeof(void *));
            continue;
        }
        ASSERT(source->type == PROTOBUF_C_TYPE_DOUBLE);
        memcpy((char *)to + target->offset, (const char *)from + source->offset, sizeof(double));
        memcpy((char *)to + target->quantifier_offset,
               (const char *)from + source->quantifier_offset, sizeof(protobuf_c_boolean));
    }
}

void job_channel_fields(const Surefoot__ChannelSpec *channel, Surefoot__JobSpec *out) {
    surefoot__job_spec__init(out);
    copy_channel_fields(&channel->base, &out->base);
}

void job_channel_set_fields(const Surefoot__JobSpec *fields, Surefoot__ChannelSpec *out) {
    copy_channel_fields(&fields->base, &out->base);
}

int job_choice_parse(enum job_field_index index, const char *name) {
    const char *const *choices = job_field_get(index)->choices;
    for (int i = 1; choices[i] != NULL; i++) {
        if (strcmp(choices[i], name) == 0) {
            return i;
        }
    }
    return 0;
}

const char *job_choice_name(enum job_field_index index, int number) {
    const char *const *choices = job_field_get(index)->choices;
    for (int i = 1; choices[i] != NULL; i++) {
        if (i == number) {
            return choices[i];
        }
    }
    return NULL;
}

void job_choices_text(enum job_field_index index, char out[JOB_FIELD_TEXT_BYTES]) {
    const char *const *choices = job_field_get(index)->choices;
    int n = 0;
    for (int i = 1; choices[i] != NULL; i++) {
        n += snprintf(out + n, (size_t)(JOB_FIELD_TEXT_BYTES - n), "%s%s", i > 1 ? ", " : "",
                      choices[i]);
        ASSERT(n < JOB_FIELD_TEXT_BYTES);
    }
}

void job_field_default_text(enum job_field_index index, char out[JOB_FIELD_TEXT_BYTES]) {
    const struct job_field *field = job_field_get(index);
    char number[32] = "";
    const char *value = number;
    if (field->kind == JOB_FIELD_KIND_CHOICE) {
        const char *name = job_choice_name(index, (int)field->fallback);
        value = name != NULL ? name : "";
    } else if (field->kind == JOB_FIELD_KIND_BOOL) {
        value = field->fallback != 0 ? "true" : "false";
    } else if (!field->required && (!field->of_model || field->fallback != 0)) {
        snprintf(number, sizeof number, "%g", field->fallback);
    }
    int n =
        snprintf(out, JOB_FIELD_TEXT_BYTES, "%s%s%s", field->before != NULL ? field->before : "",
                 value, field->after != NULL ? field->after : "");
    ASSERT(n < JOB_FIELD_TEXT_BYTES);
}
