#include "coordinator/search/safety.h"

#include <float.h>
#include <math.h>

#include "coordinator/search/blocks.h"
#include "coordinator/search/combine.h"

bool safety_within_budget(double cost, double budget) {
    return cost <= budget;
}

uint32_t safety_shortest_block(const struct search_spec *spec) {
    bool varies = spec->entropy_threshold > 0 && spec->segment_tokens_min < spec->block_tokens;
    return varies ? spec->segment_tokens_min : spec->block_tokens;
}

// A running discounted sum and what the admission rules need to know of its past.
struct running_cost {
    double sum;    // S_t
    double weight; // gamma^k of the next cost
    bool exceeded; // some S_t so far was over budget
    double lowest; // smallest z at a cost so far
    double cost_lowest;
};

// z = (b - S) / gamma^t: a number also where a small gamma has become 0.
static double safety_z(double budget, double sum, double weight) {
    double left = budget - sum;
    return left == 0.0 ? 0.0 : fmax(-DBL_MAX, fmin(DBL_MAX, left / weight));
}

static void running_cost_add(struct running_cost *running, double cost, double budget) {
    running->sum += running->weight * cost;
    running->exceeded = running->exceeded || !safety_within_budget(running->sum, budget);
    running->lowest = fmin(running->lowest, safety_z(budget, running->sum, running->weight));
    running->cost_lowest = fmin(running->cost_lowest, cost);
}

static bool is_token_mode(enum cost_mode mode) {
    return mode == COST_MODE_TOKEN_SUM || mode == COST_MODE_TOKEN_SUM_POS;
}

bool safety_shows_inside_blocks(const struct search_spec *spec) {
    bool shows = true;
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        const struct search_channel *channel = &spec->channels[i];
        shows = shows && is_token_mode(channel->cost_mode) &&
                (channel->discount_unit == DISCOUNT_UNIT_TOKEN || channel->discount >= 1.0);
    }
    return shows;
}

// A channel of a candidate.
struct view {
    const struct search_spec *spec;
    const struct search_scores *scores;
    const struct search_channel *channel;
    uint32_t index; // of the channel
};

// e_j at the end of a block, counted from 0.
static double end_cost(const struct view *view, uint32_t block) {
    return combine_end_cost(view->spec, view->index,
                            view->scores->end_scores + (size_t)block * view->spec->n_scorers);
}

// e_0, at the end of the prompt.
static double prompt_cost(const struct view *view) {
    return combine_end_cost(view->spec, view->index, view->scores->prompt_scores);
}

// c at the last token of block j: e_j - e_{j-1} (end_delta) or e_j (block_end).
static double block_cost(const struct view *view, uint32_t block) {
    double score = end_cost(view, block);
    if (view->channel->cost_mode == COST_MODE_BLOCK_END) {
        return score;
    }
    return score - (block == 0 ? prompt_cost(view) : end_cost(view, block - 1));
}

// Walks the tokens in order: those that were read for token modes, those of the response for block
// modes, whose costs fall on a block's last token. gamma advances per token or per block.
static struct running_cost accumulate(const struct view *view) {
    struct running_cost running = {
        .sum = 0.0, .weight = 1.0, .lowest = INFINITY, .cost_lowest = INFINITY};
    const struct search_channel *channel = view->channel;
    const struct search_scores *scores = view->scores;
    bool per_token = is_token_mode(channel->cost_mode);
    uint32_t n = per_token ? scores->n_places : scores->n_tokens;
    uint32_t block = 0;
    uint32_t end = blocks_tokens(view->spec, 0);
    for (uint32_t i = 0; i < n; i++) {
        bool block_ends = per_token
                              ? i + 1 == end || i + 1 == n
                              : block < scores->n_blocks && scores->block_ends[block] == i + 1;
        if (per_token) {
            running_cost_add(&running, combine_token_cost(view->spec, view->index, scores, i),
                             channel->budget);
        } else if (block_ends) {
            running_cost_add(&running, block_cost(view, block), channel->budget);
        }
        if (channel->discount_unit == DISCOUNT_UNIT_TOKEN || block_ends) {
            running.weight *= channel->discount;
        }
        block += block_ends ? 1 : 0;
        end += block_ends ? blocks_tokens(view->spec, block) : 0;
    }
    return running;
}

// The largest amount by which the remaining costs can lower S: -min(0, c_min) times the sum of
// their discounts (docs/methods/inference-guard.md). Costs come at every token, in block modes once
// in each of the blocks that are left, there at its first token at the earliest. Per block the
// discount of the current block bounds every later one.
static double possible_relief(const struct view *view, double weight) {
    const struct search_channel *channel = view->channel;
    uint32_t n_tokens = view->scores->n_tokens;
    double cost_min = channel->cost_mode == COST_MODE_TOKEN_SUM_POS ? fmax(0.0, channel->cost_min)
                                                                    : channel->cost_min;
    if (cost_min >= 0.0) {
        return 0.0;
    }
    uint32_t stride = is_token_mode(channel->cost_mode) ? 1 : safety_shortest_block(view->spec);
    double discounts = 0.0;
    for (uint32_t t = n_tokens; t < view->spec->max_tokens; t++) {
        discounts += (t - n_tokens) % stride == 0 ? weight : 0.0;
        if (channel->discount_unit == DISCOUNT_UNIT_TOKEN) {
            weight *= channel->discount;
        }
    }
    return -cost_min * discounts;
}

static bool is_certain_loss(const struct view *view, const struct running_cost *running) {
    const struct search_channel *channel = view->channel;
    if (channel->admit_rule == ADMIT_RULE_PREFIX && running->exceeded) {
        return true;
    }
    bool bounded = channel->cost_mode == COST_MODE_TOKEN_SUM_POS || channel->has_cost_min;
    return bounded && !safety_within_budget(running->sum - possible_relief(view, running->weight),
                                            channel->budget);
}

static struct channel_state evaluate_end_sign(const struct view *view) {
    double budget = view->channel->budget;
    double score = prompt_cost(view);
    double highest = -INFINITY;
    for (uint32_t block = 0; block < view->scores->n_blocks; block++) {
        score = end_cost(view, block);
        highest = fmax(highest, score);
    }
    struct channel_state state = {.cost = score,
                                  .z = budget - score,
                                  .admissible = safety_within_budget(score, budget),
                                  .cost_lowest = INFINITY};
    if (view->channel->admit_rule == ADMIT_RULE_PREFIX && !safety_within_budget(highest, budget)) {
        state.z = state.admissible ? budget - highest : state.z;
        state.admissible = false;
        state.certain_loss = true;
    }
    return state;
}

static struct channel_state evaluate_sum(const struct view *view) {
    double budget = view->channel->budget;
    struct running_cost running = accumulate(view);
    struct channel_state state = {
        .cost = running.sum,
        .z = safety_z(budget, running.sum, running.weight),
        .admissible = safety_within_budget(running.sum, budget),
        .certain_loss = is_certain_loss(view, &running),
        .cost_lowest = running.cost_lowest,
    };
    if (view->channel->admit_rule == ADMIT_RULE_PREFIX && running.exceeded) {
        state.z = state.admissible ? running.lowest : state.z;
        state.admissible = false;
    }
    return state;
}

enum status safety_check_costs(const struct search_spec *spec, const struct safety_state *state,
                               struct error *err) {
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        const struct search_channel *channel = &spec->channels[i];
        double lowest = state->channels[i].cost_lowest;
        if (channel->has_cost_min && lowest < channel->cost_min) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "cost_min",
                             "%g, and a cost in channel %s is %g: what was pruned on its word may "
                             "have been good",
                             channel->cost_min, channel->name, lowest);
        }
    }
    return STATUS_OK;
}

void safety_evaluate(const struct search_spec *spec, const struct search_scores *scores,
                     struct safety_state *out) {
    *out = (struct safety_state){.admissible = true};
    double smallest = INFINITY;
    double nearest = INFINITY;
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        const struct search_channel *channel = &spec->channels[i];
        const struct view view = {.spec = spec, .scores = scores, .channel = channel, .index = i};
        struct channel_state state = channel->cost_mode == COST_MODE_END_SIGN
                                         ? evaluate_end_sign(&view)
                                         : evaluate_sum(&view);
        out->channels[i] = state;
        out->admissible = out->admissible && state.admissible;
        out->certain_loss = out->certain_loss || state.certain_loss;
        smallest = fmin(smallest, state.z);
        nearest = fmin(nearest, state.z / fmax(1.0, fabs(channel->budget)));
    }
    if (spec->n_channels > 0) {
        out->z = out->admissible ? out->channels[0].z : smallest;
        out->nearness = out->admissible || spec->n_channels == 1 ? out->z : nearest;
    }
}
