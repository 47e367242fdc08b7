#include "benchmarks/critic_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/rng.h"
#include "worker/critic/critic.h"
#include "worker/critic/gradient.h"

struct critic_work {
    struct critic *critic;
    int32_t n;
    int32_t *rows; // [n]
    float *raw;    // [n, outputs]
    size_t n_parameters;
};

static struct critic_terms make_terms(int32_t hidden_dim) {
    struct critic_terms terms = {
        .hidden_dim = hidden_dim, .n_parts = COST_TO_GO_PARTS_MAX, .n_channels = 1, .n_rewards = 1};
    struct critic_channel *channel = &terms.channels[0];
    channel->cost_mode = COST_MODE_TOKEN_SUM_POS;
    channel->cost_eos = COST_EOS_NONE;
    channel->admit_rule = ADMIT_RULE_TERMINAL;
    channel->discount = 1;
    channel->discount_unit = DISCOUNT_UNIT_TOKEN;
    channel->scorer.weight = terms.rewards[0].weight = 1;
    strcpy(channel->scorer.name, "cost");
    strcpy(terms.rewards[0].name, "reward");
    memset(terms.policy_hash, '0', SHA256_HEX_BYTES - 1);
    memset(channel->scorer.hash, '0', SHA256_HEX_BYTES - 1);
    memset(terms.rewards[0].hash, '0', SHA256_HEX_BYTES - 1);
    return terms;
}

// Writes the network to a file and opens it as a rank does.
static enum status open_critic(struct critic_work *work, struct backend *backend,
                               int32_t hidden_dim, struct error *err) {
    const struct critic_terms terms = make_terms(hidden_dim);
    struct critic_net net = {
        .dims = {hidden_dim, hidden_dim, hidden_dim, critic_output_count(&terms)}};
    work->n_parameters = critic_parameter_count(net.dims);
    float *weights = malloc(work->n_parameters * sizeof *weights);
    work->rows = calloc((size_t)work->n, sizeof *work->rows);
    work->raw = calloc((size_t)work->n * (size_t)net.dims[CRITIC_LAYERS], sizeof *work->raw);
    if (weights == NULL || work->rows == NULL || work->raw == NULL) {
        free(weights);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a critic");
    }
    for (size_t i = 0; i < work->n_parameters; i++) {
        weights[i] = (float)(rng_uniform(1, 2, (uint32_t)i, 0) - 0.5) / (float)hidden_dim;
    }
    float *at = weights;
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        net.weights[i] = at;
        net.biases[i] = at + (size_t)net.dims[i] * (size_t)net.dims[i + 1];
        at += ((size_t)net.dims[i] + 1) * (size_t)net.dims[i + 1];
    }
    net.sigma_min[0] = 0.01F;
    for (int32_t i = 0; i < work->n; i++) {
        work->rows[i] = i;
    }
    char path[4096];
    const char *directory = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/bench-critic-XXXXXX", directory != NULL ? directory : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) {
        free(weights);
        return error_set(err, STATUS_IO, NULL, "no file can be made as %.200s", path);
    }
    close(fd);
    enum status status = critic_file_write(path, &terms, &net, err);
    if (status == STATUS_OK) {
        status = critic_open(path, backend, work->n, &work->critic, err);
    }
    unlink(path);
    free(weights);
    return status;
}

enum status critic_work_create(struct backend *backend, int32_t hidden_dim, int32_t n,
                               struct critic_work **out, struct error *err) {
    struct critic_work *work = calloc(1, sizeof *work);
    if (work == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a critic");
    }
    work->n = n;
    enum status status = open_critic(work, backend, hidden_dim, err);
    if (status != STATUS_OK) {
        critic_work_destroy(work);
        return status;
    }
    *out = work;
    return STATUS_OK;
}

void critic_work_destroy(struct critic_work *work) {
    if (work != NULL) {
        critic_close(work->critic);
        free(work->rows);
        free(work->raw);
        free(work);
    }
}

enum status critic_work_run(struct critic_work *work, const struct tensor *states,
                            double *seconds) {
    const int64_t begin = clock_monotonic_ns();
    enum status status = critic_evaluate(work->critic, states, work->rows, work->n, work->raw);
    *seconds = (double)(clock_monotonic_ns() - begin) * 1e-9;
    return status;
}

double critic_work_flops(const struct critic_work *work) {
    return 2.0 * (double)work->n_parameters * work->n;
}

double critic_work_bytes(const struct critic_work *work) {
    return (double)work->n_parameters * sizeof(float);
}
