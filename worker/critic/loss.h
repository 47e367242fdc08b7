// What a critic's training minimises. Of a latent critic, for one sample: the negative
// log-likelihood of its costs to go under the predicted mixtures of logistic distributions, plus
// the squared error of the reward to come. Of a value, for one text: the squared differences of
// consecutive predictions, plus the squared error of one of them. Pure; any thread.
#ifndef WORKER_CRITIC_LOSS_H
#define WORKER_CRITIC_LOSS_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/critic/terms.h"

struct critic_loss {
    enum critic_form form;
    int32_t n_channels; // whose mixtures are predicted
    int32_t n_parts;
    bool has_reward;
    double sigma_min; // of every channel
};

// Of a batch of n rows.
struct critic_targets {
    const float *costs;   // [n, n_channels]
    const float *rewards; // [n]; NULL: none
    const bool *ends; // [n] of a value: the row is the last of its text; the batch's last is one
};

// The loss of raw[3 * n_parts * n_channels (+ 1)], the last layer's row (worker/critic/net.h), of a
// latent critic, with targets costs[n_channels] and, if there is one, reward. The derivative by
// each of raw goes to gradient, of the same size. The density of a part is that of the logistic
// distribution, exp(-s) / (sigma (1 + exp(-s))^2) with s = (cost - mu) / sigma.
double critic_loss_row(const struct critic_loss *loss, const float *raw, const float *costs,
                       float reward, double *gradient);

// The mean over n rows of raw. Its derivatives by raw go to slopes[n, outputs], unless it is NULL.
// Of a value the mean over the texts of
//   sum_t (V_t - V_{t+1})^2 + (V_T - target)^2,
// where no derivative goes through V_{t+1}: it is what V_t is to become (Kong et al. 2024, arXiv
// 2406.05954). Its authors' code lets one through, and holds the first V to the
// target in place of the last: the released form does too.
double critic_loss_mean(const struct critic_loss *loss, const float *raw, int32_t n,
                        const struct critic_targets *targets, float *slopes);

// Of a value, what a training is stopped by: the mean over the texts of the mean squared error of
// all their V. The loss above is no measure of them: it grows with what V_T alone can tell apart.
double critic_loss_value_error(const float *raw, int32_t n, const struct critic_targets *targets);

#endif
