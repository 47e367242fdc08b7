#include "worker/critic/targets.h"

#include <math.h>

static bool is_token_mode(enum cost_mode mode) {
    return mode == COST_MODE_TOKEN_SUM || mode == COST_MODE_TOKEN_SUM_POS;
}

static bool is_end_of_block(const struct critic_channel *channel, int32_t t, int32_t n) {
    return t + 1 == n || (channel->block_tokens > 0 && (t + 1) % channel->block_tokens == 0);
}

void critic_costs(const struct critic_channel *channel, const float *scores, float end_score,
                  int32_t n, double *costs, double *discounts) {
    double weight = channel->scorer.weight;
    double last = 0; // e_j of the block before
    // end_sign: z_t = b - e_t moves by differences, undiscounted.
    double gamma = channel->cost_mode == COST_MODE_END_SIGN ? 1 : channel->discount;
    for (int32_t t = 0; t < n; t++) {
        bool ends = is_end_of_block(channel, t, n);
        bool at_end = t + 1 == n && !is_token_mode(channel->cost_mode);
        double score = weight * (double)(at_end ? end_score : scores[t]);
        discounts[t] = channel->discount_unit == DISCOUNT_UNIT_TOKEN || ends ? gamma : 1;
        switch (channel->cost_mode) {
        case COST_MODE_TOKEN_SUM:
            costs[t] = score;
            break;
        case COST_MODE_TOKEN_SUM_POS:
            costs[t] = fmax(0, score);
            break;
        case COST_MODE_BLOCK_END:
            costs[t] = ends ? score : 0;
            break;
        case COST_MODE_END_DELTA:
        case COST_MODE_END_SIGN:
            costs[t] = ends ? score - last : 0;
            break;
        }
        last = ends ? score : last;
    }
}

void critic_cost_to_go(enum admit_rule rule, const double *costs, const double *discounts,
                       int32_t n, double *to_go) {
    double next = 0; // of the place behind
    for (int32_t t = n - 1; t >= 0; t--) {
        double later = t + 1 == n ? 0 : discounts[t] * next;
        next = costs[t] + (rule == ADMIT_RULE_PREFIX ? fmax(0, later) : later);
        to_go[t] = next;
    }
}
