// What a critic's training minimises, for one sample: the negative log-likelihood of its costs to
// go under the predicted mixtures of logistic distributions, plus the squared error of the reward
// to come. Pure; any thread.
#ifndef WORKER_CRITIC_LOSS_H
#define WORKER_CRITIC_LOSS_H

#include <stdbool.h>
#include <stdint.h>

struct critic_loss {
    int32_t n_channels;
    int32_t n_parts;
    bool has_reward;
    double sigma_min; // of every channel
};

// The loss of raw[3 * n_parts * n_channels (+ 1)], the last layer's row (worker/critic/net.h), with
// targets costs[n_channels] and, if there is one, reward. The derivative by each of raw goes to
// gradient, of the same size. The density of a part is that of the logistic distribution,
// exp(-s) / (sigma (1 + exp(-s))^2) with s = (cost - mu) / sigma.
double critic_loss_row(const struct critic_loss *loss, const float *raw, const float *costs,
                       float reward, double *gradient);

// The mean over n rows of raw, costs and rewards (NULL: none). Its derivatives by raw go to
// slopes[n, outputs], unless it is NULL.
double critic_loss_mean(const struct critic_loss *loss, const float *raw, int32_t n,
                        const float *costs, const float *rewards, float *slopes);

#endif
