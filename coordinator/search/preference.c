#include "coordinator/search/preference.h"

#include <stdlib.h>

#include "coordinator/search/combine.h"
#include "coordinator/search/search_internal.h"

double preference_lagrangian_cost(const struct search_spec *spec,
                                  const struct search_scores *scores,
                                  const struct safety_state *state) {
    ASSERT(scores->n_blocks > 0);
    const float *end_scores = scores->end_scores + (size_t)(scores->n_blocks - 1) * spec->n_scorers;
    double sum = 0.0;
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        sum += spec->channels[i].cost_mode == COST_MODE_TOKEN_SUM_POS
                   ? state->channels[i].cost
                   : combine_end_cost(spec, i, end_scores);
    }
    return sum;
}

// gamma^T in the job's unit, by repeated products, as the safety state has it.
static double final_discount(const struct search_spec *spec, const struct candidate *candidate) {
    uint32_t count =
        spec->discount_unit == DISCOUNT_UNIT_TOKEN ? candidate->n_tokens : candidate->n_blocks;
    double weight = 1.0;
    for (uint32_t i = 0; i < count; i++) {
        weight *= spec->discount;
    }
    return weight;
}

static bool is_foretold(const struct search_spec *spec, const struct candidate *candidate) {
    bool read = spec->critic_unread != 0 && candidate->unread == 0;
    return spec->critic_parts > 0 && candidate->finish == SEARCH_FINISH_NONE && !read;
}

bool preference_is_viable(const struct search_spec *spec, const struct candidate *candidate) {
    return is_foretold(spec, candidate) ? !candidate->safety.certain_loss && candidate->within > 0.5
                                        : candidate->safety.admissible;
}

double preference_score(const struct search_spec *spec, const struct candidate *candidate) {
    switch (spec->selection) {
    case SEARCH_SELECTION_PLAIN:
        return candidate->reward;
    case SEARCH_SELECTION_LAGRANGIAN:
        return candidate->reward - spec->lagrangian_lambda * candidate->lagrangian_cost;
    case SEARCH_SELECTION_COST:
        return -candidate->lagrangian_cost;
    case SEARCH_SELECTION_AUGMENTED:
        break;
    }
    if (candidate->unread != 0 && spec->critic_has_reward) {
        return candidate->foretold_reward;
    }
    bool discounted = spec->discount_reward && candidate->finish != SEARCH_FINISH_NONE &&
                      search_method_find(spec->method)->discounts_reward;
    return discounted ? final_discount(spec, candidate) * candidate->reward : candidate->reward;
}

double preference_prompt_score(const struct search_spec *spec, const float *prompt_scores) {
    double reward = combine_reward(spec, prompt_scores);
    double cost = 0.0;
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        cost += spec->channels[i].cost_mode == COST_MODE_TOKEN_SUM_POS
                    ? 0.0
                    : combine_end_cost(spec, i, prompt_scores);
    }
    switch (spec->selection) {
    case SEARCH_SELECTION_LAGRANGIAN:
        return reward - spec->lagrangian_lambda * cost;
    case SEARCH_SELECTION_COST:
        return -cost;
    case SEARCH_SELECTION_PLAIN:
    case SEARCH_SELECTION_AUGMENTED:
        break;
    }
    return reward;
}

enum candidate_fate preference_fate_of_unselected(const struct search_spec *spec,
                                                  const struct candidate *candidate) {
    if (candidate->unread != 0) {
        return CANDIDATE_FATE_UNSCORED;
    }
    if (spec->selection != SEARCH_SELECTION_AUGMENTED || preference_is_viable(spec, candidate)) {
        return CANDIDATE_FATE_NOT_SELECTED;
    }
    return candidate->safety.certain_loss ? CANDIDATE_FATE_PRUNED_SOUND
                                          : CANDIDATE_FATE_PRUNED_HEURISTIC;
}

// Larger first.
static int compare_doubles(double a, double b) {
    return a > b ? -1 : a < b ? 1 : 0;
}

int preference_compare(const struct search_spec *spec, const struct candidate *a,
                       const struct candidate *b) {
    bool augmented = spec->selection == SEARCH_SELECTION_AUGMENTED;
    bool viable = preference_is_viable(spec, a);
    if (augmented && viable != preference_is_viable(spec, b)) {
        return viable ? -1 : 1;
    }
    int order = 0;
    bool by_score = !augmented || viable;
    bool first = by_score && search_method_find(spec->method)->takes_first;
    // All inadmissible candidates share E = -n: the one nearest to the budgets comes first.
    if (by_score && !first) {
        order = compare_doubles(preference_score(spec, a), preference_score(spec, b));
    }
    if (!by_score && is_foretold(spec, a) && is_foretold(spec, b)) {
        order = compare_doubles(a->within, b->within);
    }
    if (order == 0 && augmented && !first) {
        order = compare_doubles(a->safety.nearness, b->safety.nearness);
    }
    if (order == 0) {
        order = a->id < b->id ? -1 : a->id > b->id ? 1 : 0;
    }
    return order;
}

static int compare_pointers(const void *left, const void *right, void *spec) {
    struct candidate *const *a = left;
    struct candidate *const *b = right;
    return preference_compare(spec, *a, *b);
}

void preference_sort(const struct search_spec *spec, struct candidate **candidates, size_t count) {
    if (count > 1) {
        qsort_r(candidates, count, sizeof(struct candidate *), compare_pointers,
                (void *)(uintptr_t)spec);
    }
}
