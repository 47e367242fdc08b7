#include "worker/critic/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "worker/critic/gradient.h"
#include "worker/critic/scaling.h"
#include "worker/critic/split.h"
#include "worker/model/safetensors_write.h"

// In units of the costs' spread. Costs to go of safe texts are often exactly 0: without it the
// likelihood would have no bound.
static const float sigma_min = 0.01F;
static const double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8; // AdamW's usual ones
static const double gradient_norm_max = 5;
static const double logistic_scale = 0.5513288954217921; // sqrt(3) / pi: of spread 1
enum { ROWS_MAX = 1 << 20 };                             // samples of a batch

// The arrays of parameter size that a checkpoint holds.
enum { ARRAY_NOW, ARRAY_FIRST_MOMENT, ARRAY_SECOND_MOMENT, ARRAY_BEST, ARRAYS };
static const char *const array_names[ARRAYS] = {"parameters", "first_moment", "second_moment",
                                                "best"};

// What else it holds, in f64; the counts are exact there.
struct counters {
    double epochs;
    double steps;
    double best_epoch;
    double best_loss;
};

struct critic_trainer {
    const struct critic_terms *terms;
    const struct critic_samples *samples;
    struct critic_train_options options;
    struct critic_split split;
    // What batches are drawn from, by part: unit i is split.indexes[units[i]] up to [units[i + 1]].
    size_t *units[CRITIC_PARTS];
    size_t n_units[CRITIC_PARTS];
    size_t rows_max; // samples of a batch
    struct critic_scaling scaling;
    struct critic_gradient *gradient;
    int32_t dims[CRITIC_LAYERS + 1];
    size_t n_parameters;
    float *arrays[ARRAYS]; // [n_parameters]
    float *by;             // [n_parameters]
    float *folded;         // [n_parameters]
    size_t *order;         // [units to train on]
    float *x;              // [rows_max, hidden_dim]
    float *costs;          // [rows_max, channels]
    float *rewards;        // [rows_max]
    bool *ends;            // [rows_max]
    struct counters counters;
    char identity[SHA256_HEX_BYTES]; // of samples, terms and options
};

static enum status check_samples(const struct critic_terms *terms,
                                 const struct critic_samples *samples, struct error *err) {
    if (samples->n_prompts < CRITIC_PROMPTS_MIN) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "prompts",
                         "states of %u prompts, at least %d are needed", samples->n_prompts,
                         CRITIC_PROMPTS_MIN);
    }
    size_t channels = (size_t)critic_mixture_count(terms);
    for (size_t i = 0; i < samples->n * channels; i++) {
        if (!isfinite(samples->costs[i])) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "costs",
                             "the cost to go of state %zu is NaN or infinite", i / channels);
        }
    }
    for (size_t i = 0; terms->n_rewards > 0 && i < samples->n; i++) {
        if (!isfinite(samples->rewards[i])) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "rewards",
                             "the reward at state %zu is NaN or infinite", i);
        }
    }
    return STATUS_OK;
}

static enum status check_parts(const struct critic_trainer *trainer, struct error *err) {
    for (int part = 0; part < CRITIC_PARTS; part++) {
        if (trainer->split.counts[part] == 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "states",
                             "the prompts of a part have none: more prompts are needed");
        }
    }
    return STATUS_OK;
}

// As PyTorch's Linear begins: uniform within 1/sqrt(inputs). The mus of a mixture begin apart.
static void begin_parameters(struct critic_trainer *trainer) {
    float *at = trainer->arrays[ARRAY_NOW];
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        double bound = 1 / sqrt((double)trainer->dims[i]);
        size_t n = ((size_t)trainer->dims[i] + 1) * (size_t)trainer->dims[i + 1];
        for (size_t j = 0; j < n; j++) {
            double u = rng_uniform(trainer->options.seed, (uint64_t)i + 1, (uint32_t)j,
                                   (uint32_t)(j >> 32) + 1);
            at[j] = (float)((2 * u - 1) * bound);
        }
        at += n;
    }
    int32_t n_parts = trainer->terms->n_parts;
    float *biases = at - trainer->dims[CRITIC_LAYERS];
    for (int32_t i = 0; i < critic_mixture_count(trainer->terms); i++) {
        for (int32_t k = 0; k < n_parts && n_parts > 1; k++) {
            biases[3 * n_parts * i + n_parts + k] += 2 * (float)k / (float)(n_parts - 1) - 1;
        }
    }
}

static void hash_identity(struct critic_trainer *trainer, const char *terms) {
    const struct critic_samples *samples = trainer->samples;
    size_t channels = (size_t)critic_mixture_count(trainer->terms);
    char text[512];
    const struct critic_train_options *options = &trainer->options;
    int n = snprintf(text, sizeof text, "%d %d %d %d %d %a %a %" PRIu64 " %zu", options->widths[0],
                     options->widths[1], options->batch, options->epochs_max, options->patience,
                     options->learning_rate, options->weight_decay, options->seed, samples->n);
    struct sha256 sha;
    sha256_init(&sha);
    sha256_update(&sha, text, (size_t)n);
    sha256_update(&sha, terms, strlen(terms));
    if (channels > 0) {
        sha256_update(&sha, samples->costs, samples->n * channels * sizeof *samples->costs);
    }
    sha256_update(&sha, samples->trajectories, samples->n * sizeof *samples->trajectories);
    sha256_update(&sha, samples->prompts, samples->n * sizeof *samples->prompts);
    if (samples->rewards != NULL) {
        sha256_update(&sha, samples->rewards, samples->n * sizeof *samples->rewards);
    }
    sha256_update(&sha, trainer->scaling.state_means,
                  (size_t)trainer->terms->hidden_dim * sizeof(float));
    sha256_finish_hex(&sha, trainer->identity);
}

// A unit is a sample, of a value all those of a text: in a part they stand one behind the other.
static enum status cut_units(struct critic_trainer *trainer, struct error *err) {
    const struct critic_samples *samples = trainer->samples;
    size_t longest = 1, batch = (size_t)trainer->options.batch;
    for (int part = 0; part < CRITIC_PARTS; part++) {
        const size_t *indexes = trainer->split.indexes[part];
        size_t count = trainer->split.counts[part], n = 0;
        size_t *units = malloc((count + 1) * sizeof *units);
        if (units == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu samples", samples->n);
        }
        for (size_t i = 0; i < count; i++) {
            bool goes_on =
                critic_terms_are_value(trainer->terms) && i > 0 &&
                samples->trajectories[indexes[i]] == samples->trajectories[indexes[i - 1]];
            if (!goes_on) {
                units[n++] = i;
            }
            longest = i + 1 - units[n - 1] > longest ? i + 1 - units[n - 1] : longest;
        }
        units[n] = count;
        trainer->units[part] = units;
        trainer->n_units[part] = n;
    }
    trainer->rows_max = batch * longest < samples->n ? batch * longest : samples->n;
    if (trainer->rows_max > ROWS_MAX) {
        return error_set(err, STATUS_LIMIT, "batch",
                         "%zu texts of up to %zu states: a batch has at most %d states", batch,
                         longest, ROWS_MAX);
    }
    return STATUS_OK;
}

static enum status take_memory(struct critic_trainer *trainer, struct backend *backend,
                               struct error *err) {
    size_t rows = trainer->rows_max, n = trainer->n_parameters;
    bool complete = true;
    for (int i = 0; i < ARRAYS; i++) {
        trainer->arrays[i] = calloc(n, sizeof(float));
        complete = complete && trainer->arrays[i] != NULL;
    }
    trainer->by = calloc(n, sizeof(float));
    trainer->folded = calloc(n, sizeof(float));
    trainer->order = calloc(trainer->n_units[CRITIC_PART_TRAIN], sizeof *trainer->order);
    trainer->x = calloc(rows * (size_t)trainer->dims[0], sizeof(float));
    trainer->costs = calloc(rows * (size_t)critic_mixture_count(trainer->terms) + 1, sizeof(float));
    trainer->rewards = calloc(rows, sizeof(float));
    trainer->ends = calloc(rows, sizeof *trainer->ends);
    complete = complete && trainer->by != NULL && trainer->folded != NULL &&
               trainer->order != NULL && trainer->x != NULL && trainer->costs != NULL &&
               trainer->rewards != NULL && trainer->ends != NULL &&
               critic_gradient_create(backend, trainer->dims, (int32_t)rows, &trainer->gradient) ==
                   STATUS_OK;
    return complete
               ? STATUS_OK
               : error_set(err, STATUS_NO_MEMORY, NULL,
                           "no memory to train %zu parameters in batches of %zu states", n, rows);
}

static enum status begin(struct critic_trainer *trainer, struct backend *backend,
                         struct error *err) {
    const struct critic_samples *samples = trainer->samples;
    enum status status = check_samples(trainer->terms, samples, err);
    if (status == STATUS_OK &&
        critic_split_make(samples, trainer->options.seed, &trainer->split) != STATUS_OK) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu samples", samples->n);
    }
    if (status == STATUS_OK) {
        status = check_parts(trainer, err);
    }
    if (status == STATUS_OK) {
        status = cut_units(trainer, err);
    }
    if (status == STATUS_OK) {
        status =
            critic_scaling_make(trainer->terms, samples, trainer->split.indexes[CRITIC_PART_TRAIN],
                                trainer->split.counts[CRITIC_PART_TRAIN], &trainer->scaling, err);
    }
    if (status == STATUS_OK) {
        status = take_memory(trainer, backend, err);
    }
    json_t *json = status == STATUS_OK ? critic_terms_json(trainer->terms) : NULL;
    char *text = json_dumps(json, JSON_COMPACT);
    if (status == STATUS_OK && text == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the critic's terms");
    }
    if (status == STATUS_OK) {
        hash_identity(trainer, text);
        begin_parameters(trainer);
        trainer->counters.best_loss = INFINITY;
    }
    free(text);
    json_decref(json);
    return status;
}

enum status critic_trainer_create(struct backend *backend, const struct critic_terms *terms,
                                  const struct critic_samples *samples,
                                  const struct critic_train_options *options,
                                  struct critic_trainer **out, struct error *err) {
    struct critic_trainer *trainer = calloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a trainer");
    }
    trainer->terms = terms;
    trainer->samples = samples;
    trainer->options = *options;
    trainer->dims[0] = terms->hidden_dim;
    trainer->dims[1] = options->widths[0];
    trainer->dims[2] = options->widths[1];
    trainer->dims[CRITIC_LAYERS] = critic_output_count(terms);
    trainer->n_parameters = critic_parameter_count(trainer->dims);
    enum status status = begin(trainer, backend, err);
    if (status != STATUS_OK) {
        critic_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return STATUS_OK;
}

void critic_trainer_destroy(struct critic_trainer *trainer) {
    if (trainer == NULL) {
        return;
    }
    critic_gradient_destroy(trainer->gradient);
    critic_scaling_finish(&trainer->scaling);
    critic_split_finish(&trainer->split);
    for (int i = 0; i < ARRAYS; i++) {
        free(trainer->arrays[i]);
    }
    for (int part = 0; part < CRITIC_PARTS; part++) {
        free(trainer->units[part]);
    }
    free(trainer->by);
    free(trainer->folded);
    free(trainer->order);
    free(trainer->x);
    free(trainer->costs);
    free(trainer->rewards);
    free(trainer->ends);
    free(trainer);
}

// A sample into place `row` of a batch.
static void load_sample(struct critic_trainer *trainer, size_t index, size_t row) {
    const struct critic_samples *samples = trainer->samples;
    const struct critic_scaling *scaling = &trainer->scaling;
    size_t hidden = (size_t)trainer->dims[0];
    size_t channels = (size_t)critic_mixture_count(trainer->terms);
    critic_scaling_state(scaling, samples->states + index * hidden, trainer->dims[0],
                         trainer->x + row * hidden);
    for (size_t i = 0; i < channels; i++) {
        double cost = (double)samples->costs[index * channels + i];
        trainer->costs[row * channels + i] =
            (float)((cost - scaling->cost_means[i]) / scaling->cost_spreads[i]);
    }
    if (samples->rewards != NULL) {
        double reward = (double)samples->rewards[index];
        trainer->rewards[row] = (float)((reward - scaling->reward_mean) / scaling->reward_spread);
    }
}

// Unit `unit` of a part behind the first `rows` of a batch; returns how many they are then.
static size_t load_unit(struct critic_trainer *trainer, enum critic_part part, size_t unit,
                        size_t rows) {
    const size_t *units = trainer->units[part];
    for (size_t i = units[unit]; i < units[unit + 1]; i++) {
        trainer->ends[rows] = i + 1 == units[unit + 1];
        load_sample(trainer, trainer->split.indexes[part][i], rows++);
    }
    return rows;
}

static struct critic_loss loss_of(const struct critic_trainer *trainer) {
    return (struct critic_loss){.form = trainer->terms->form,
                                .n_channels = critic_mixture_count(trainer->terms),
                                .n_parts = trainer->terms->n_parts,
                                .has_reward = trainer->terms->n_rewards > 0,
                                .sigma_min = (double)sigma_min};
}

// One step along trainer->by, whose norm is cut at gradient_norm_max.
static void descend(struct critic_trainer *trainer) {
    double squares = 0;
    for (size_t i = 0; i < trainer->n_parameters; i++) {
        squares += (double)trainer->by[i] * (double)trainer->by[i];
    }
    double norm = sqrt(squares);
    double factor = norm > gradient_norm_max ? gradient_norm_max / norm : 1;
    double step = ++trainer->counters.steps;
    double rate = trainer->options.learning_rate;
    double keep = 1 - rate * trainer->options.weight_decay;
    double first_scale = 1 / (1 - pow(beta1, step)), second_scale = 1 / (1 - pow(beta2, step));
    float *now = trainer->arrays[ARRAY_NOW], *first = trainer->arrays[ARRAY_FIRST_MOMENT];
    float *second = trainer->arrays[ARRAY_SECOND_MOMENT];
    for (size_t i = 0; i < trainer->n_parameters; i++) {
        double slope = factor * (double)trainer->by[i];
        first[i] = (float)(beta1 * (double)first[i] + (1 - beta1) * slope);
        second[i] = (float)(beta2 * (double)second[i] + (1 - beta2) * slope * slope);
        double move =
            (double)first[i] * first_scale / (sqrt((double)second[i] * second_scale) + epsilon);
        now[i] = (float)((double)now[i] * keep - rate * move);
    }
}

// The order of an epoch's units: a permutation drawn anew from seed and epoch (Durstenfeld 1964).
static void shuffle(struct critic_trainer *trainer) {
    size_t n = trainer->n_units[CRITIC_PART_TRAIN];
    uint64_t epoch = (uint64_t)trainer->counters.epochs;
    for (size_t i = 0; i < n; i++) {
        trainer->order[i] = i;
    }
    for (size_t i = n - 1; i > 0; i--) {
        double u = rng_uniform(trainer->options.seed, CRITIC_LAYERS + 1 + epoch, (uint32_t)i,
                               (uint32_t)(i >> 32));
        size_t j = (size_t)(u * (double)(i + 1));
        size_t kept = trainer->order[i];
        trainer->order[i] = trainer->order[j];
        trainer->order[j] = kept;
    }
}

// The mean loss over a part in batches, without `learn` what is stopped by, of units in `order`
// (NULL: as they stand); with `learn` each is followed by a step.
static enum status pass(struct critic_trainer *trainer, enum critic_part part, const size_t *order,
                        bool learn, double *mean) {
    const struct critic_loss loss = loss_of(trainer);
    const struct critic_targets targets = {trainer->costs, trainer->rewards, trainer->ends};
    size_t n = trainer->n_units[part], batch = (size_t)trainer->options.batch;
    double sum = 0;
    for (size_t begin = 0; begin < n; begin += batch) {
        size_t count = n - begin < batch ? n - begin : batch, rows = 0;
        for (size_t i = begin; i < begin + count; i++) {
            rows = load_unit(trainer, part, order != NULL ? order[i] : i, rows);
        }
        const float *raw;
        double batch_loss = 0;
        const float *now = trainer->arrays[ARRAY_NOW];
        enum status status =
            critic_gradient_forward(trainer->gradient, now, trainer->x, (int32_t)rows, &raw);
        if (status == STATUS_OK && learn) {
            status = critic_gradient_backward(trainer->gradient, &loss, now, trainer->x,
                                              (int32_t)rows, &targets, &batch_loss, trainer->by);
        } else if (status == STATUS_OK) {
            batch_loss = critic_terms_are_value(trainer->terms)
                             ? critic_loss_value_error(raw, (int32_t)rows, &targets)
                             : critic_loss_mean(&loss, raw, (int32_t)rows, &targets, NULL);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (learn) {
            descend(trainer);
        }
        sum += batch_loss * (double)count;
    }
    *mean = sum / (double)n;
    return STATUS_OK;
}

bool critic_trainer_is_done(const struct critic_trainer *trainer) {
    const struct counters *counters = &trainer->counters;
    return counters->epochs >= trainer->options.epochs_max ||
           counters->epochs - counters->best_epoch >= trainer->options.patience;
}

enum status critic_trainer_run(struct critic_trainer *trainer, struct critic_epoch *out,
                               struct error *err) {
    struct counters *counters = &trainer->counters;
    double train_loss = 0, stop_loss = 0;
    shuffle(trainer);
    enum status status = pass(trainer, CRITIC_PART_TRAIN, trainer->order, true, &train_loss);
    if (status == STATUS_OK) {
        status = pass(trainer, CRITIC_PART_STOP, NULL, false, &stop_loss);
    }
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "a product failed: %s", status_text(status));
    }
    counters->epochs++;
    if (!isfinite(train_loss) || !isfinite(stop_loss)) {
        return error_set(err, STATUS_DEVICE, "loss",
                         "is NaN or infinite in epoch %.0f: a lower learning rate may help",
                         counters->epochs);
    }
    if (stop_loss < counters->best_loss) {
        counters->best_loss = stop_loss;
        counters->best_epoch = counters->epochs;
        memcpy(trainer->arrays[ARRAY_BEST], trainer->arrays[ARRAY_NOW],
               trainer->n_parameters * sizeof(float));
    }
    *out = (struct critic_epoch){.number = (int32_t)counters->epochs,
                                 .train_loss = train_loss,
                                 .stop_loss = stop_loss,
                                 .best_loss = counters->best_loss,
                                 .best_number = (int32_t)counters->best_epoch};
    return STATUS_OK;
}

static const char identity_key[] = "surefoot_critic_training";
static const char counters_name[] = "counters";
enum { COUNTERS = sizeof(struct counters) / sizeof(double) };

enum status critic_trainer_save(const struct critic_trainer *trainer, const char *path,
                                struct error *err) {
    struct safetensors_tensor tensors[ARRAYS + 1];
    for (int i = 0; i < ARRAYS; i++) {
        tensors[i] = (struct safetensors_tensor){.name = array_names[i],
                                                 .dtype = "F32",
                                                 .n_dims = 1,
                                                 .shape = {(int64_t)trainer->n_parameters},
                                                 .data = trainer->arrays[i],
                                                 .bytes = trainer->n_parameters * sizeof(float)};
    }
    tensors[ARRAYS] = (struct safetensors_tensor){.name = counters_name,
                                                  .dtype = "F64",
                                                  .n_dims = 1,
                                                  .shape = {COUNTERS},
                                                  .data = &trainer->counters,
                                                  .bytes = sizeof trainer->counters};
    const struct safetensors_text metadata[] = {{identity_key, trainer->identity}};
    return safetensors_write(path, metadata, 1, tensors, ARRAYS + 1, err);
}

static enum status take_tensor(const struct safetensors *tensors, const char *name, size_t bytes,
                               void *out, struct error *err) {
    const struct safetensors_tensor *tensor = safetensors_find(tensors, name);
    if (tensor == NULL || tensor->bytes != bytes) {
        return error_set(err, STATUS_MALFORMED, name, "is missing, or not of %zu bytes", bytes);
    }
    memcpy(out, tensor->data, bytes);
    return STATUS_OK;
}

enum status critic_trainer_resume(struct critic_trainer *trainer, const char *path,
                                  struct error *err) {
    struct safetensors *tensors = NULL;
    enum status status = safetensors_open_path(path, &tensors, err);
    if (status != STATUS_OK) {
        return status;
    }
    const char *identity = safetensors_metadata(tensors, identity_key);
    if (identity == NULL) {
        status = error_set(err, STATUS_MALFORMED, identity_key, "%.200s is no state of a training",
                           path);
    } else if (strcmp(identity, trainer->identity) != 0) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, identity_key,
                           "%.200s was written by a training with other samples, terms or options",
                           path);
    }
    for (int i = 0; status == STATUS_OK && i < ARRAYS; i++) {
        status = take_tensor(tensors, array_names[i], trainer->n_parameters * sizeof(float),
                             trainer->arrays[i], err);
    }
    if (status == STATUS_OK) {
        status =
            take_tensor(tensors, counters_name, sizeof trainer->counters, &trainer->counters, err);
    }
    safetensors_close(tensors);
    return status;
}

// The loss, on the part to stop by, of what knows no state: of each target the mean and the spread,
// as one logistic distribution.
static double loss_of_constant(struct critic_trainer *trainer) {
    const struct critic_loss loss = loss_of(trainer);
    const struct critic_targets targets = {trainer->costs, trainer->rewards, trainer->ends};
    size_t n = trainer->n_units[CRITIC_PART_STOP];
    float raw[3 * COST_TO_GO_PARTS_MAX * CRITIC_CHANNELS_MAX + 1] = {0};
    int32_t n_parts = loss.n_parts;
    for (int32_t i = 0; i < loss.n_channels * n_parts; i++) {
        int32_t channel = i / n_parts;
        raw[3 * n_parts * channel + 2 * n_parts + i % n_parts] =
            (float)log(logistic_scale - loss.sigma_min);
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        load_unit(trainer, CRITIC_PART_STOP, i, 0);
        // A value's target is the same for all states of a text, and 0 the mean.
        sum += critic_terms_are_value(trainer->terms)
                   ? pow((double)trainer->rewards[0], 2)
                   : critic_loss_mean(&loss, raw, 1, &targets, NULL);
    }
    return sum / (double)n;
}

enum status critic_trainer_net(struct critic_trainer *trainer, struct critic_net *out,
                               struct error *err) {
    if (trainer->counters.best_epoch == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, NULL, "nothing was trained yet");
    }
    // What the released form holds to the target is no state that knows much of it.
    double constant =
        trainer->terms->form == CRITIC_FORM_VALUE_RELEASED ? INFINITY : loss_of_constant(trainer);
    if (!(trainer->counters.best_loss < constant)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "loss",
                         "is %.4g on the texts to stop by, and %.4g where only the mean and the "
                         "spread are known: nothing was learned; a lower learning rate or more "
                         "roll-outs may help",
                         trainer->counters.best_loss, constant);
    }
    memcpy(trainer->folded, trainer->arrays[ARRAY_BEST], trainer->n_parameters * sizeof(float));
    *out = (struct critic_net){{0}, {0}, {0}, {0}};
    memcpy(out->dims, trainer->dims, sizeof out->dims);
    critic_scaling_fold(&trainer->scaling, trainer->terms, sigma_min, trainer->folded, out);
    return STATUS_OK;
}

const size_t *critic_trainer_part(const struct critic_trainer *trainer, enum critic_part part,
                                  size_t *n) {
    *n = trainer->split.counts[part];
    return trainer->split.indexes[part];
}
