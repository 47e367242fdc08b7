#include "worker/critic/loss.h"

#include <math.h>

enum { OUTPUTS_MAX = 3 * COST_TO_GO_PARTS_MAX * CRITIC_CHANNELS_MAX + 1 };

// log(sum exp(values)).
static double log_sum_exp(const double *values, int32_t n) {
    double highest = -INFINITY;
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        highest = fmax(highest, values[i]);
    }
    for (int32_t i = 0; i < n; i++) {
        sum += exp(values[i] - highest);
    }
    return highest + log(sum);
}

// -log sum_k w_k p_k(cost) and its derivatives by raw[3 * n]: logits, mus, log(sigma - sigma_min).
static double channel_loss(int32_t n, double sigma_min, const float *raw, double cost,
                           double *gradient) {
    double logits[COST_TO_GO_PARTS_MAX], joint[COST_TO_GO_PARTS_MAX];
    double by_mu[COST_TO_GO_PARTS_MAX], by_raw_sigma[COST_TO_GO_PARTS_MAX];
    for (int32_t k = 0; k < n; k++) {
        double grown = exp((double)raw[2 * n + k]);
        double sigma = sigma_min + grown;
        double s = (cost - (double)raw[n + k]) / sigma;
        double slope = tanh(s / 2); // -d log p / d s
        logits[k] = (double)raw[k];
        // log p = -|s| - log sigma - 2 log(1 + exp(-|s|)): the density is even in s.
        joint[k] = logits[k] - fabs(s) - log(sigma) - 2 * log1p(exp(-fabs(s)));
        by_mu[k] = slope / sigma;
        by_raw_sigma[k] = (slope * s - 1) / sigma * grown;
    }
    double total = log_sum_exp(joint, n);
    double normaliser = log_sum_exp(logits, n);
    for (int32_t k = 0; k < n; k++) {
        double share = exp(joint[k] - total); // that the part has in the density
        gradient[k] = exp(logits[k] - normaliser) - share;
        gradient[n + k] = -share * by_mu[k];
        gradient[2 * n + k] = -share * by_raw_sigma[k];
    }
    return normaliser - total;
}

double critic_loss_row(const struct critic_loss *loss, const float *raw, const float *costs,
                       float reward, double *gradient) {
    int32_t size = 3 * loss->n_parts;
    double sum = 0;
    for (int32_t i = 0; i < loss->n_channels; i++) {
        sum += channel_loss(loss->n_parts, loss->sigma_min, raw + i * size, (double)costs[i],
                            gradient + i * size);
    }
    if (loss->has_reward) {
        int32_t place = loss->n_channels * size;
        double error = (double)raw[place] - (double)reward;
        gradient[place] = 2 * error;
        sum += error * error;
    }
    return sum;
}

static double value_loss(const struct critic_loss *loss, const float *raw, int32_t n,
                         const struct critic_targets *targets, float *slopes) {
    bool released = loss->form == CRITIC_FORM_VALUE_RELEASED;
    double sum = 0, passed_on = 0; // what the row before let through
    int32_t n_texts = 0;
    for (int32_t row = 0; row < n; row++) {
        n_texts += targets->ends[row] ? 1 : 0;
    }
    for (int32_t row = 0; row < n; row++) {
        bool first = row == 0 || targets->ends[row - 1], last = targets->ends[row];
        double slope = passed_on;
        passed_on = 0;
        if (released ? first : last) {
            double error = (double)raw[row] - (double)targets->rewards[row];
            sum += error * error;
            slope += 2 * error;
        }
        if (!last) {
            double step = (double)raw[row] - (double)raw[row + 1];
            sum += step * step;
            slope += 2 * step;
            passed_on = released ? -2 * step : 0;
        }
        if (slopes != NULL) {
            slopes[row] = (float)(slope / n_texts);
        }
    }
    return sum / n_texts;
}

double critic_loss_mean(const struct critic_loss *loss, const float *raw, int32_t n,
                        const struct critic_targets *targets, float *slopes) {
    if (loss->form != CRITIC_FORM_LATENT) {
        return value_loss(loss, raw, n, targets, slopes);
    }
    const float *rewards = targets->rewards;
    int32_t n_out = 3 * loss->n_parts * loss->n_channels + (loss->has_reward ? 1 : 0);
    double sum = 0;
    for (int32_t row = 0; row < n; row++) {
        double by[OUTPUTS_MAX];
        size_t begin = (size_t)row * (size_t)n_out;
        sum += critic_loss_row(loss, raw + begin,
                               targets->costs + (size_t)row * (size_t)loss->n_channels,
                               rewards != NULL ? rewards[row] : 0, by);
        for (int32_t i = 0; slopes != NULL && i < n_out; i++) {
            slopes[begin + (size_t)i] = (float)(by[i] / n);
        }
    }
    return sum / n;
}

double critic_loss_value_error(const float *raw, int32_t n, const struct critic_targets *targets) {
    double sum = 0, of_text = 0;
    int32_t n_texts = 0, length = 0;
    for (int32_t row = 0; row < n; row++) {
        of_text += pow((double)raw[row] - (double)targets->rewards[row], 2);
        length++;
        if (targets->ends[row]) {
            sum += of_text / length;
            n_texts++;
            of_text = length = 0;
        }
    }
    return sum / n_texts;
}
