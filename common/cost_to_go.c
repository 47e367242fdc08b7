#include "common/cost_to_go.h"

#include <math.h>

bool cost_to_go_is_valid(const struct cost_to_go *cost) {
    if (cost->n_parts < 1 || cost->n_parts > COST_TO_GO_PARTS_MAX) {
        return false;
    }
    double sum = 0;
    for (int k = 0; k < cost->n_parts; k++) {
        if (!(cost->weights[k] >= 0) || !isfinite(cost->mus[k]) || !isfinite(cost->sigmas[k]) ||
            !(cost->sigmas[k] > 0)) {
            return false;
        }
        sum += (double)cost->weights[k];
    }
    return fabs(sum - 1) <= 1e-3;
}

double cost_to_go_within(const struct cost_to_go *cost, double z) {
    double sum = 0;
    double weights = 0;
    for (int k = 0; k < cost->n_parts; k++) {
        double distance = (z - (double)cost->mus[k]) / (double)cost->sigmas[k];
        sum += (double)cost->weights[k] / (1 + exp(-distance));
        weights += (double)cost->weights[k];
    }
    return sum / weights;
}
