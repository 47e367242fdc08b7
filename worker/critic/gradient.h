// A critic's network forwards and backwards for training: values of a batch, and the gradient of
// the mean loss. Products are the backend's own, each factor handed over anew, so that the result
// does not depend on its threads. One thread.
#ifndef WORKER_CRITIC_GRADIENT_H
#define WORKER_CRITIC_GRADIENT_H

#include "worker/backend/backend.h"
#include "worker/critic/loss.h"
#include "worker/critic/net.h"

// Weights and biases in one array, layer by layer: [dims[i + 1], dims[i]], then [dims[i + 1]].
size_t critic_parameter_count(const int32_t dims[CRITIC_LAYERS + 1]);

// Points `net`, whose dims are set, at its parts of the array.
void critic_net_view(struct critic_net *net, const float *parameters);

struct critic_gradient;

// Takes all memory for batches of up to rows_max rows; borrows `backend`. STATUS_NO_MEMORY.
MUST_CHECK enum status critic_gradient_create(struct backend *backend,
                                              const int32_t dims[CRITIC_LAYERS + 1],
                                              int32_t rows_max, struct critic_gradient **out);
void critic_gradient_destroy(struct critic_gradient *gradient); // NULL allowed

// raw[n, outputs] of x[n, hidden], borrowed until the next call.
MUST_CHECK enum status critic_gradient_forward(struct critic_gradient *gradient,
                                               const float *parameters, const float *x, int32_t n,
                                               const float **raw);

// The mean loss of the same n rows with their targets, and its derivatives by all parameters:
// by[critic_parameter_count]. After critic_gradient_forward with the same parameters and x.
MUST_CHECK enum status critic_gradient_backward(struct critic_gradient *gradient,
                                                const struct critic_loss *loss,
                                                const float *parameters, const float *x, int32_t n,
                                                const struct critic_targets *targets,
                                                double *mean_loss, float *by);

#endif
