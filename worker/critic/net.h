// The network of a critic, on the host: Linear, ReLU, Linear, ReLU, Linear over the policy's last
// hidden state o_t after the final norm. Of each channel it gives, for each of n_parts parts, the
// logit of a weight, mu, and the logarithm of sigma - sigma_min: a mixture of logistic
// distributions of the cost to go; behind the channels the predicted reward of the text so far,
// if there is one (docs/methods/critic.md). A value has one output, V(o_t), which stands where that
// reward does (docs/methods/re-control.md). Plain data; any thread.
#ifndef WORKER_CRITIC_NET_H
#define WORKER_CRITIC_NET_H

#include "worker/critic/terms.h"

enum { CRITIC_LAYERS = 3, CRITIC_WIDTH_MAX = 1 << 16 };

struct critic_net {
    int32_t dims[CRITIC_LAYERS + 1];      // hidden_dim, two widths, outputs
    const float *weights[CRITIC_LAYERS];  // [dims[i + 1], dims[i]], borrowed
    const float *biases[CRITIC_LAYERS];   // [dims[i + 1]], borrowed
    float sigma_min[CRITIC_CHANNELS_MAX]; // above 0, units of the channel's cost
};

struct critic_output {
    struct cost_to_go costs[CRITIC_CHANNELS_MAX]; // [n_channels]
    float reward;                                 // f2, or V; 0 where none is predicted
};

// Channels whose costs to go are predicted: none by a value.
int32_t critic_mixture_count(const struct critic_terms *terms);

// Rows of the last layer for these terms.
int32_t critic_output_count(const struct critic_terms *terms);

// What a row of the last layer says: raw[critic_output_count]. STATUS_DEVICE: a number that is
// none; the error names the channel.
MUST_CHECK enum status critic_output_read(const struct critic_terms *terms, const float *sigma_min,
                                          const float *raw, struct critic_output *out,
                                          struct error *err);

// out[cols, rows] = in[rows, cols]^T.
void critic_transpose(const float *in, int32_t rows, int32_t cols, float *out);

#endif
