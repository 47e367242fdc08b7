#include "coordinator/search/combine.h"

#include <math.h>

static bool is_of(const struct search_scorer *scorer, uint32_t channel) {
    return scorer->is_cost && scorer->channel == channel;
}

double combine_reward(const struct search_spec *spec, const float *end_scores) {
    double sum = 0;
    for (uint32_t i = 0; i < spec->n_scorers; i++) {
        if (!spec->scorers[i].is_cost) {
            sum += spec->scorers[i].weight * (double)end_scores[i];
        }
    }
    return sum;
}

double combine_end_cost(const struct search_spec *spec, uint32_t channel, const float *end_scores) {
    double sum = 0;
    for (uint32_t i = 0; i < spec->n_scorers; i++) {
        if (is_of(&spec->scorers[i], channel)) {
            sum += spec->scorers[i].weight * (double)end_scores[i];
        }
    }
    return sum;
}

double combine_token_cost(const struct search_spec *spec, uint32_t channel,
                          const struct search_scores *scores, uint32_t place) {
    bool clamps = spec->channels[channel].cost_mode == COST_MODE_TOKEN_SUM_POS;
    double sum = 0;
    for (uint32_t i = 0; i < spec->n_scorers; i++) {
        if (is_of(&spec->scorers[i], channel)) {
            double score = scores->token_scores[(size_t)i * scores->stride + place];
            sum += spec->scorers[i].weight * (clamps ? fmax(0.0, score) : score);
        }
    }
    return sum;
}
