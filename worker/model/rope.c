#include "worker/model/rope.h"

#include <math.h>

// The range of pairs over which yarn passes from untouched to divided frequencies (Peng et al.
// 2023, section 3.2, in terms of turns within the original context).
struct ramp {
    double low;
    double high;
};

static double pair_of_turns(const struct rope *rope, double turns) {
    return rope->rotary_dim * log(rope->original_context / (turns * 2 * M_PI)) /
           (2 * log(rope->theta));
}

static struct ramp yarn_ramp(const struct rope *rope) {
    double low = pair_of_turns(rope, rope->beta_fast);
    double high = pair_of_turns(rope, rope->beta_slow);
    if (rope->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    struct ramp ramp = {fmax(low, 0), fmin(high, rope->rotary_dim - 1)};
    if (ramp.low == ramp.high) {
        ramp.high += 0.001;
    }
    return ramp;
}

static double yarn(const struct rope *rope, double frequency, int32_t pair) {
    struct ramp ramp = yarn_ramp(rope);
    double slowed = fmin(fmax((pair - ramp.low) / (ramp.high - ramp.low), 0), 1);
    return frequency / rope->factor * slowed + frequency * (1 - slowed);
}

static double llama3(const struct rope *rope, double frequency) {
    double turns = rope->original_context * frequency / (2 * M_PI); // within the first context
    double low = rope->low_freq_factor, high = rope->high_freq_factor;
    if (turns > high) {
        return frequency;
    }
    double slow = frequency / rope->factor;
    if (turns < low) {
        return slow;
    }
    double smooth = (turns - low) / (high - low);
    return (1 - smooth) * slow + smooth * frequency;
}

bool rope_is_long(const struct rope *rope, int32_t context_tokens) {
    return rope->kind == ROPE_LONGROPE && context_tokens > rope->original_context;
}

static double scaled(const struct rope *rope, bool is_long, double frequency, int32_t pair) {
    switch (rope->kind) {
    case ROPE_DEFAULT:
    case ROPE_DYNAMIC:
        return frequency;
    case ROPE_LINEAR:
        return frequency / rope->factor;
    case ROPE_YARN:
        return yarn(rope, frequency, pair);
    case ROPE_LONGROPE:
        return frequency / (double)(is_long ? rope->long_factors : rope->short_factors)[pair];
    case ROPE_LLAMA3:
        return llama3(rope, frequency);
    }
    return frequency;
}

void rope_frequencies(const struct rope *rope, bool is_long, float *frequencies) {
    for (int32_t pair = 0; pair < rope->rotary_dim / 2; pair++) {
        double frequency = pow(rope->theta, -2.0 * pair / rope->rotary_dim);
        frequencies[pair] = (float)scaled(rope, is_long, frequency, pair);
    }
}
