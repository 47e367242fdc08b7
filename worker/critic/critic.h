// A critic at work: its network on a backend, evaluated on rows of o_t where they lie; no state of
// a text comes to the host. All memory is taken when it is opened. A row's result does not depend
// on the others. Engine thread only.
#ifndef WORKER_CRITIC_CRITIC_H
#define WORKER_CRITIC_CRITIC_H

#include "worker/backend/backend.h"
#include "worker/critic/critic_file.h"

struct critic;

// Opens the file at `path` for batches of up to rows_max rows. Borrows `backend` until close.
// Errors of critic_file_open, and STATUS_NO_MEMORY.
MUST_CHECK enum status critic_open(const char *path, struct backend *backend, int32_t rows_max,
                                   struct critic **out, struct error *err);
void critic_close(struct critic *critic); // NULL allowed

const struct critic_terms *critic_get_terms(const struct critic *critic);
const char *critic_get_hash(const struct critic *critic); // of the file, SHA-256, hex

// raw[n, critic_output_count], host: the last layer for states[rows[i], :] (device, f32). Waits.
// n may be above rows_max. STATUS_DEVICE.
MUST_CHECK enum status critic_evaluate(struct critic *critic, const struct tensor *states,
                                       const int32_t *rows, int32_t n, float *raw);

// Of a value: states[rows[i], :] (device, f32) += sizes[i] dV/do at the states, `steps` times (Kong
// et al. 2024, arXiv 2406.05954). n may be above rows_max; rows differ; sizes, of n, and rows are
// host memory. Queues work and does not wait.
void critic_ascend(struct critic *critic, struct tensor *states, const int32_t *rows,
                   const float *sizes, int32_t n, int32_t steps);

// What critic_evaluate's row says; errors of critic_output_read.
MUST_CHECK enum status critic_read(const struct critic *critic, const float *raw,
                                   struct critic_output *out, struct error *err);

#endif
