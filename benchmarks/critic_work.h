// What a latent critic of a model's hidden size costs: a network with the widths that training
// gives it by default and made-up weights, evaluated on rows of hidden states. One thread.
#ifndef BENCHMARKS_CRITIC_WORK_H
#define BENCHMARKS_CRITIC_WORK_H

#include "worker/backend/backend.h"

struct critic_work;

// For `n` rows of hidden_dim elements. Borrows `backend`. STATUS_IO: no file can be made for it in
// $TMPDIR or /tmp; STATUS_NO_MEMORY.
MUST_CHECK enum status critic_work_create(struct backend *backend, int32_t hidden_dim, int32_t n,
                                          struct critic_work **out, struct error *err);
void critic_work_destroy(struct critic_work *work); // NULL allowed

// Evaluates rows 0..n-1 of `states`; *seconds: how long that took. STATUS_DEVICE.
MUST_CHECK enum status critic_work_run(struct critic_work *work, const struct tensor *states,
                                       double *seconds);

double critic_work_flops(const struct critic_work *work); // product operations of a run
double critic_work_bytes(const struct critic_work *work); // of its weights

#endif
