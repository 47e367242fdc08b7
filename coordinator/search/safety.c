#include "coordinator/search/safety.h"

#include <math.h>

#include "coordinator/search/combine.h"

bool safety_within_budget(double cost, double budget) {
    return cost <= budget;
}

// A running discounted sum and what the admission rules need to know of its past.
struct running_cost {
    double sum;    // S_t
    double weight; // gamma^k of the next cost
    bool exceeded; // some S_t so far was over budget
    double lowest; // smallest z at a cost so far
};

static void running_cost_add(struct running_cost *running, double cost, double budget) {
    running->sum += running->weight * cost;
    running->exceeded = running->exceeded || !safety_within_budget(running->sum, budget);
    running->lowest = fmin(running->lowest, (budget - running->sum) / running->weight);
}

static bool is_token_mode(enum cost_mode mode) {
    return mode == COST_MODE_TOKEN_SUM || mode == COST_MODE_TOKEN_SUM_POS;
}

// e_j at the end of a block, counted from 0.
static double end_cost(const struct search_spec *spec, const struct search_scores *scores,
                       uint32_t block) {
    return combine_end_cost(spec, scores->end_scores + (size_t)block * spec->n_scorers);
}

// c at the last token of block j: e_j - e_{j-1} (end_delta) or e_j (block_end).
static double block_cost(const struct search_spec *spec, const struct search_scores *scores,
                         uint32_t block) {
    double score = end_cost(spec, scores, block);
    if (spec->cost_mode == COST_MODE_BLOCK_END) {
        return score;
    }
    return score - (block == 0 ? combine_end_cost(spec, scores->prompt_scores)
                               : end_cost(spec, scores, block - 1));
}

// Walks the tokens in order: those that were read for token modes, those of the response for block
// modes, whose costs fall on a block's last token. gamma advances per token or per block.
static struct running_cost accumulate(const struct search_spec *spec,
                                      const struct search_scores *scores) {
    struct running_cost running = {.sum = 0.0, .weight = 1.0, .lowest = INFINITY};
    bool per_token = is_token_mode(spec->cost_mode);
    uint32_t n = per_token ? scores->n_places : scores->n_tokens;
    uint32_t block = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool block_ends = per_token
                              ? (i + 1) % spec->block_tokens == 0 || i + 1 == n
                              : block < scores->n_blocks && scores->block_ends[block] == i + 1;
        if (per_token) {
            running_cost_add(&running, combine_token_cost(spec, scores, i), spec->budget);
        } else if (block_ends) {
            running_cost_add(&running, block_cost(spec, scores, block), spec->budget);
        }
        if (spec->discount_unit == DISCOUNT_UNIT_TOKEN || block_ends) {
            running.weight *= spec->discount;
        }
        block += block_ends ? 1 : 0;
    }
    return running;
}

// The largest amount by which the remaining costs can lower S: -min(0, c_min) times the sum of
// their discounts (docs/methods/inference-guard.md). Costs come at every token, in block modes once
// in each of the blocks that are left, there at its first token at the earliest. Per block the
// discount of the current block bounds every later one.
static double possible_relief(const struct search_spec *spec, uint32_t n_tokens, double weight) {
    double cost_min =
        spec->cost_mode == COST_MODE_TOKEN_SUM_POS ? fmax(0.0, spec->cost_min) : spec->cost_min;
    if (cost_min >= 0.0) {
        return 0.0;
    }
    uint32_t stride = is_token_mode(spec->cost_mode) ? 1 : spec->block_tokens;
    double discounts = 0.0;
    for (uint32_t t = n_tokens; t < spec->max_tokens; t++) {
        discounts += (t - n_tokens) % stride == 0 ? weight : 0.0;
        if (spec->discount_unit == DISCOUNT_UNIT_TOKEN) {
            weight *= spec->discount;
        }
    }
    return -cost_min * discounts;
}

static bool is_certain_loss(const struct search_spec *spec, const struct search_scores *scores,
                            const struct running_cost *running) {
    if (spec->admit_rule == ADMIT_RULE_PREFIX && running->exceeded) {
        return true;
    }
    bool bounded = spec->cost_mode == COST_MODE_TOKEN_SUM_POS || spec->has_cost_min;
    return bounded && !safety_within_budget(
                          running->sum - possible_relief(spec, scores->n_tokens, running->weight),
                          spec->budget);
}

static void evaluate_end_sign(const struct search_spec *spec, const struct search_scores *scores,
                              struct safety_state *out) {
    double score = combine_end_cost(spec, scores->prompt_scores);
    double highest = -INFINITY;
    for (uint32_t block = 0; block < scores->n_blocks; block++) {
        score = end_cost(spec, scores, block);
        highest = fmax(highest, score);
    }
    out->cost = score;
    out->z = spec->budget - score;
    out->admissible = safety_within_budget(score, spec->budget);
    if (spec->admit_rule == ADMIT_RULE_PREFIX && !safety_within_budget(highest, spec->budget)) {
        out->z = out->admissible ? spec->budget - highest : out->z;
        out->admissible = false;
        out->certain_loss = true;
    }
}

static void evaluate_sum(const struct search_spec *spec, const struct search_scores *scores,
                         struct safety_state *out) {
    struct running_cost running = accumulate(spec, scores);
    out->cost = running.sum;
    out->z = (spec->budget - running.sum) / running.weight;
    out->admissible = safety_within_budget(running.sum, spec->budget);
    out->certain_loss = is_certain_loss(spec, scores, &running);
    if (spec->admit_rule == ADMIT_RULE_PREFIX && running.exceeded) {
        out->z = out->admissible ? running.lowest : out->z;
        out->admissible = false;
    }
}

void safety_evaluate(const struct search_spec *spec, const struct search_scores *scores,
                     struct safety_state *out) {
    *out = (struct safety_state){.cost = 0.0, .z = spec->budget, .admissible = true};
    if (!spec->has_cost) {
        return;
    }
    if (spec->cost_mode == COST_MODE_END_SIGN) {
        evaluate_end_sign(spec, scores, out);
    } else {
        evaluate_sum(spec, scores, out);
    }
    double violations =
        scores->n_blocks == 0
            ? 0.0
            : combine_violations(spec, scores->end_scores +
                                           (size_t)(scores->n_blocks - 1) * spec->n_scorers);
    if (!safety_within_budget(violations, 0.0)) {
        out->z = fmin(out->z, -violations);
        out->admissible = false;
        out->certain_loss = true;
    }
}
