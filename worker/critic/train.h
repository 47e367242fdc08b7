// Trains a critic on samples: AdamW (Loshchilov and Hutter 2019) on critic_loss_mean over batches
// of samples, of a value of whole texts, drawn without replacement, split by prompt into eight
// tenths to train on, one to stop by and one to report on, until the loss on the second, of a value
// critic_loss_value_error, has not fallen for `patience` epochs. Costs and rewards are trained in
// units of their spread, states with each element's mean and spread taken out; the network that
// comes out has both folded in. For the same samples, terms and options the result is the same bit
// for bit, whatever the backend's threads and wherever it was interrupted. Borrows samples, terms
// and backend. One thread.
#ifndef WORKER_CRITIC_TRAIN_H
#define WORKER_CRITIC_TRAIN_H

#include "worker/backend/backend.h"
#include "worker/critic/net.h"
#include "worker/critic/samples.h"

enum { CRITIC_PROMPTS_MIN = 10, CRITIC_BATCH_MAX = 65536 };

struct critic_train_options {
    int32_t widths[CRITIC_LAYERS - 1]; // 1..CRITIC_WIDTH_MAX
    int32_t batch;                     // 1..CRITIC_BATCH_MAX samples or texts
    int32_t epochs_max;
    int32_t patience; // epochs
    double learning_rate;
    double weight_decay;
    uint64_t seed;
};

enum critic_part { CRITIC_PART_TRAIN, CRITIC_PART_STOP, CRITIC_PART_REPORT };

struct critic_trainer;

// STATUS_INVALID_ARGUMENT: too few prompts, costs or rewards that are constant or no numbers,
// states that are no numbers; the error names them. STATUS_NO_MEMORY.
MUST_CHECK enum status critic_trainer_create(struct backend *backend,
                                             const struct critic_terms *terms,
                                             const struct critic_samples *samples,
                                             const struct critic_train_options *options,
                                             struct critic_trainer **out, struct error *err);
void critic_trainer_destroy(struct critic_trainer *trainer); // NULL allowed

struct critic_epoch {
    int32_t number;      // from 1
    double train_loss;   // mean over its batches, as they were met
    double stop_loss;    // on the part to stop by, after it
    double best_loss;    // lowest so far
    int32_t best_number; // its epoch
};

bool critic_trainer_is_done(const struct critic_trainer *trainer);
// One epoch. STATUS_DEVICE: the loss is no number any more, the error says in which epoch.
MUST_CHECK enum status critic_trainer_run(struct critic_trainer *trainer, struct critic_epoch *out,
                                          struct error *err);

// The state between two epochs, as a safetensors file, and back: critic_trainer_resume leaves the
// trainer as it was when the file was written. STATUS_INVALID_ARGUMENT: written with other samples,
// terms or options, the error names which; errors of safetensors_write and its reader.
MUST_CHECK enum status critic_trainer_save(const struct critic_trainer *trainer, const char *path,
                                           struct error *err);
MUST_CHECK enum status critic_trainer_resume(struct critic_trainer *trainer, const char *path,
                                             struct error *err);

// The best network so far, folded; its arrays are the trainer's until the next call.
// STATUS_INVALID_ARGUMENT: its loss on the part to stop by is no lower than that of the targets'
// mean and spread alone.
MUST_CHECK enum status critic_trainer_net(struct critic_trainer *trainer, struct critic_net *out,
                                          struct error *err);

// The part of a prompt; the samples of a part, in their order: indexes [*n], borrowed.
const size_t *critic_trainer_part(const struct critic_trainer *trainer, enum critic_part part,
                                  size_t *n);

#endif
