#include "worker/critic/net.h"

#include <math.h>
#include <stdio.h>

int32_t critic_mixture_count(const struct critic_terms *terms) {
    return critic_terms_are_value(terms) ? 0 : terms->n_channels;
}

int32_t critic_output_count(const struct critic_terms *terms) {
    return 3 * terms->n_parts * critic_mixture_count(terms) + (terms->n_rewards > 0 ? 1 : 0);
}

static void read_parts(int32_t n_parts, float sigma_min, const float *raw, struct cost_to_go *out) {
    double weights[COST_TO_GO_PARTS_MAX];
    double highest = -INFINITY;
    double sum = 0;
    out->n_parts = n_parts;
    for (int32_t k = 0; k < n_parts; k++) {
        highest = fmax(highest, (double)raw[k]);
    }
    for (int32_t k = 0; k < n_parts; k++) {
        weights[k] = exp((double)raw[k] - highest);
        sum += weights[k];
        out->mus[k] = raw[n_parts + k];
        out->sigmas[k] = (float)((double)sigma_min + exp((double)raw[2 * n_parts + k]));
    }
    for (int32_t k = 0; k < n_parts; k++) {
        out->weights[k] = (float)(weights[k] / sum);
    }
}

enum status critic_output_read(const struct critic_terms *terms, const float *sigma_min,
                               const float *raw, struct critic_output *out, struct error *err) {
    int32_t n_parts = terms->n_parts, n_mixtures = critic_mixture_count(terms);
    *out = (struct critic_output){0};
    for (int32_t i = 0; i < n_mixtures; i++) {
        read_parts(n_parts, sigma_min[i], raw + 3 * n_parts * i, &out->costs[i]);
        if (!cost_to_go_is_valid(&out->costs[i])) {
            char place[32];
            snprintf(place, sizeof place, "critic.channels[%d]", i);
            return error_set(err, STATUS_DEVICE, place,
                             "the predicted cost to go is no distribution: the critic's numbers "
                             "overflow");
        }
    }
    if (terms->n_rewards > 0) {
        out->reward = raw[3 * n_parts * n_mixtures];
    }
    return isfinite(out->reward) ? STATUS_OK
                                 : error_set(err, STATUS_DEVICE, "critic.reward",
                                             "the predicted reward is NaN or infinite: the "
                                             "critic's numbers overflow");
}

void critic_transpose(const float *in, int32_t rows, int32_t cols, float *out) {
    enum { TILE = 32 };
    for (int32_t r0 = 0; r0 < rows; r0 += TILE) {
        for (int32_t c0 = 0; c0 < cols; c0 += TILE) {
            for (int32_t r = r0; r < rows && r < r0 + TILE; r++) {
                for (int32_t c = c0; c < cols && c < c0 + TILE; c++) {
                    out[(size_t)c * (size_t)rows + (size_t)r] =
                        in[(size_t)r * (size_t)cols + (size_t)c];
                }
            }
        }
    }
}
