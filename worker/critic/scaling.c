#include "worker/critic/scaling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/critic/gradient.h"
#include "worker/model/element.h"

// A running mean and sum of squared differences from it (Welford 1962).
struct moments {
    size_t n;
    double mean;
    double squares;
};

static void moments_add(struct moments *moments, double value) {
    moments->n++;
    double difference = value - moments->mean;
    moments->mean += difference / (double)moments->n;
    moments->squares += difference * (value - moments->mean);
}

static double spread_of(const struct moments *moments) {
    return sqrt(moments->squares / (double)moments->n);
}

static enum status measure_states(const struct critic_samples *samples, int32_t hidden,
                                  const size_t *indexes, size_t n, struct critic_scaling *out,
                                  struct error *err) {
    out->state_means = calloc((size_t)hidden, sizeof *out->state_means);
    out->state_spreads = calloc((size_t)hidden, sizeof *out->state_spreads);
    struct moments *moments = calloc((size_t)hidden, sizeof *moments);
    enum status status = STATUS_OK;
    if (out->state_means == NULL || out->state_spreads == NULL || moments == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, "states", "no memory for their means");
    }
    for (size_t i = 0; status == STATUS_OK && i < n; i++) {
        const uint16_t *state = samples->states + indexes[i] * (size_t)hidden;
        for (int32_t j = 0; j < hidden; j++) {
            moments_add(&moments[j], (double)element_to_f32(state, DTYPE_BF16, (size_t)j));
        }
    }
    for (int32_t j = 0; status == STATUS_OK && j < hidden; j++) {
        double spread = spread_of(&moments[j]);
        if (!isfinite(spread)) {
            status = error_set(err, STATUS_INVALID_ARGUMENT, "states",
                               "element %d of a state is NaN or infinite", j);
        }
        out->state_means[j] = (float)moments[j].mean;
        out->state_spreads[j] = spread > 1e-6 ? (float)spread : 1;
    }
    free(moments);
    return status;
}

static enum status measure_targets(const float *values, size_t stride, const char *what,
                                   const size_t *indexes, size_t n, double *mean, double *spread,
                                   struct error *err) {
    struct moments moments = {0};
    for (size_t i = 0; i < n; i++) {
        moments_add(&moments, (double)values[indexes[i] * stride]);
    }
    *mean = moments.mean;
    *spread = spread_of(&moments);
    if (!isfinite(*spread)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, what, "one of them is NaN or infinite");
    }
    if (!(*spread > 1e-9 * fmax(1, fabs(*mean)))) {
        return error_set(err, STATUS_INVALID_ARGUMENT, what,
                         "all of them are %g: there is nothing to learn", *mean);
    }
    return STATUS_OK;
}

enum status critic_scaling_make(const struct critic_terms *terms,
                                const struct critic_samples *samples, const size_t *indexes,
                                size_t n, struct critic_scaling *out, struct error *err) {
    *out = (struct critic_scaling){.reward_spread = 1};
    enum status status = measure_states(samples, terms->hidden_dim, indexes, n, out, err);
    for (int32_t i = 0; status == STATUS_OK && i < critic_mixture_count(terms); i++) {
        char what[32];
        snprintf(what, sizeof what, "channels[%d].costs", i);
        status = measure_targets(samples->costs + i, (size_t)terms->n_channels, what, indexes, n,
                                 &out->cost_means[i], &out->cost_spreads[i], err);
    }
    if (status == STATUS_OK && terms->n_rewards > 0) {
        status = measure_targets(samples->rewards, 1, "rewards", indexes, n, &out->reward_mean,
                                 &out->reward_spread, err);
    }
    return status;
}

void critic_scaling_finish(struct critic_scaling *scaling) {
    free(scaling->state_means);
    free(scaling->state_spreads);
    *scaling = (struct critic_scaling){0};
}

void critic_scaling_state(const struct critic_scaling *scaling, const uint16_t *state,
                          int32_t hidden_dim, float *out) {
    for (int32_t j = 0; j < hidden_dim; j++) {
        out[j] = (element_to_f32(state, DTYPE_BF16, (size_t)j) - scaling->state_means[j]) /
                 scaling->state_spreads[j];
    }
}

static void fold_states(const struct critic_scaling *scaling, const int32_t *dims, float *weights,
                        float *biases) {
    for (int32_t row = 0; row < dims[1]; row++) {
        float *own = weights + (size_t)row * (size_t)dims[0];
        double shift = 0;
        for (int32_t j = 0; j < dims[0]; j++) {
            own[j] = own[j] / scaling->state_spreads[j];
            shift += (double)own[j] * (double)scaling->state_means[j];
        }
        biases[row] = (float)((double)biases[row] - shift);
    }
}

// Row `row` of the last layer times `factor`, plus `shift`.
static void fold_row(int32_t width, float *weights, float *biases, int32_t row, double factor,
                     double shift) {
    float *own = weights + (size_t)row * (size_t)width;
    for (int32_t j = 0; j < width; j++) {
        own[j] = (float)((double)own[j] * factor);
    }
    biases[row] = (float)((double)biases[row] * factor + shift);
}

void critic_scaling_fold(const struct critic_scaling *scaling, const struct critic_terms *terms,
                         float sigma_min, float *parameters, struct critic_net *net) {
    critic_net_view(net, parameters);
    float *first = parameters + (net->weights[0] - parameters);
    float *last = parameters + (net->weights[CRITIC_LAYERS - 1] - parameters);
    float *biases = parameters + (net->biases[CRITIC_LAYERS - 1] - parameters);
    fold_states(scaling, net->dims, first, parameters + (net->biases[0] - parameters));
    int32_t width = net->dims[CRITIC_LAYERS - 1], n_parts = terms->n_parts;
    for (int32_t i = 0; i < critic_mixture_count(terms); i++) {
        double spread = scaling->cost_spreads[i];
        for (int32_t k = 0; k < n_parts; k++) {
            int32_t mu = 3 * n_parts * i + n_parts + k;
            fold_row(width, last, biases, mu, spread, scaling->cost_means[i]);
            fold_row(width, last, biases, mu + n_parts, 1, log(spread));
        }
        net->sigma_min[i] = (float)((double)sigma_min * spread);
    }
    if (terms->n_rewards > 0) {
        fold_row(width, last, biases, critic_output_count(terms) - 1, scaling->reward_spread,
                 scaling->reward_mean);
    }
}
