#include "worker/critic/gradient.h"

#include <stdlib.h>

struct critic_gradient {
    struct backend *backend;
    int32_t dims[CRITIC_LAYERS + 1];
    int32_t rows_max;
    float
        *values[CRITIC_LAYERS + 1]; // [rows_max, dims[i]] after ReLU, the last raw; the first NULL
    float *slopes[2];               // [rows_max, widest], of the loss by values
    float *turned[2];               // room for a transposed factor
    void *left;                     // device, a product's rows
    void *product;                  // device, its result
};

static int32_t widest(const int32_t dims[CRITIC_LAYERS + 1]) {
    int32_t most = 0;
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        most = dims[i] > most ? dims[i] : most;
    }
    return most;
}

size_t critic_parameter_count(const int32_t dims[CRITIC_LAYERS + 1]) {
    size_t n = 0;
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        n += ((size_t)dims[i] + 1) * (size_t)dims[i + 1];
    }
    return n;
}

void critic_net_view(struct critic_net *net, const float *parameters) {
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        net->weights[i] = parameters;
        net->biases[i] = parameters + (size_t)net->dims[i] * (size_t)net->dims[i + 1];
        parameters = net->biases[i] + net->dims[i + 1];
    }
}

enum status critic_gradient_create(struct backend *backend, const int32_t dims[CRITIC_LAYERS + 1],
                                   int32_t rows_max, struct critic_gradient **out) {
    struct critic_gradient *gradient = calloc(1, sizeof *gradient);
    if (gradient == NULL) {
        return STATUS_NO_MEMORY;
    }
    gradient->backend = backend;
    gradient->rows_max = rows_max;
    size_t wide = (size_t)widest(dims);
    size_t longest = wide > (size_t)rows_max ? wide : (size_t)rows_max;
    bool complete = true;
    gradient->dims[0] = dims[0];
    for (int i = 1; i <= CRITIC_LAYERS; i++) {
        gradient->dims[i] = dims[i];
        gradient->values[i] = malloc((size_t)rows_max * (size_t)dims[i] * sizeof(float));
        complete = complete && gradient->values[i] != NULL;
    }
    for (int i = 0; i < 2; i++) {
        gradient->slopes[i] = malloc((size_t)rows_max * wide * sizeof(float));
        gradient->turned[i] = malloc(wide * longest * sizeof(float));
        complete = complete && gradient->slopes[i] != NULL && gradient->turned[i] != NULL;
    }
    gradient->left = backend->ops->alloc(backend, wide * longest * sizeof(float));
    gradient->product = backend->ops->alloc(backend, wide * longest * sizeof(float));
    if (!complete || gradient->left == NULL || gradient->product == NULL) {
        critic_gradient_destroy(gradient);
        return STATUS_NO_MEMORY;
    }
    *out = gradient;
    return STATUS_OK;
}

void critic_gradient_destroy(struct critic_gradient *gradient) {
    if (gradient == NULL) {
        return;
    }
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        free(gradient->values[i]);
    }
    for (int i = 0; i < 2; i++) {
        free(gradient->slopes[i]);
        free(gradient->turned[i]);
    }
    void *const device[] = {gradient->left, gradient->product};
    for (int i = 0; i < 2; i++) {
        if (device[i] != NULL) {
            gradient->backend->ops->release(gradient->backend, device[i]);
        }
    }
    free(gradient);
}

// out[m, n] = a[m, k] b[n, k]^T + bias[n] (NULL: none), all on the host.
static enum status multiply(struct critic_gradient *gradient, const float *a, int32_t m,
                            const float *b, const float *bias, int32_t n, int32_t k, float *out) {
    const struct backend_ops *ops = gradient->backend->ops;
    const struct weight_source source = {
        .parts = {{.data = (void *)(uintptr_t)b, .dtype = DTYPE_F32, .rows = n, .cols = k}},
        .biases = {{.data = (void *)(uintptr_t)bias, .dtype = DTYPE_F32, .rows = 1, .cols = n}},
        .n_parts = 1};
    struct weight packed = {0};
    enum status status = ops->weight_pack(gradient->backend, &source, PRECISION_STORED, &packed);
    if (status != STATUS_OK) {
        return status;
    }
    struct tensor left = {.data = gradient->left, .dtype = DTYPE_F32, .rows = m, .cols = k};
    struct tensor product = {.data = gradient->product, .dtype = DTYPE_F32, .rows = m, .cols = n};
    ops->upload(gradient->backend, left.data, a, (size_t)m * (size_t)k * sizeof *a);
    ops->linear(gradient->backend, &product, &left, &packed);
    status =
        ops->download(gradient->backend, out, product.data, (size_t)m * (size_t)n * sizeof *out);
    ops->weight_release(gradient->backend, &packed);
    return status;
}

enum status critic_gradient_forward(struct critic_gradient *gradient, const float *parameters,
                                    const float *x, int32_t n, const float **raw) {
    ASSERT(n > 0 && n <= gradient->rows_max);
    struct critic_net net = {{0}, {0}, {0}, {0}};
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        net.dims[i] = gradient->dims[i];
    }
    critic_net_view(&net, parameters);
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        float *out = gradient->values[i + 1];
        enum status status = multiply(gradient, i == 0 ? x : gradient->values[i], n, net.weights[i],
                                      net.biases[i], net.dims[i + 1], net.dims[i], out);
        if (status != STATUS_OK) {
            return status;
        }
        size_t count = (size_t)n * (size_t)net.dims[i + 1];
        for (size_t j = 0; i + 1 < CRITIC_LAYERS && j < count; j++) {
            out[j] = out[j] < 0 ? 0 : out[j];
        }
    }
    *raw = gradient->values[CRITIC_LAYERS];
    return STATUS_OK;
}

// Derivatives by layer i's weights and biases, from those by its outputs, slopes[n, dims[i + 1]].
static enum status by_layer(struct critic_gradient *gradient, const float *input,
                            const float *slopes, int i, int32_t n, float *by_weights,
                            float *by_biases) {
    int32_t rows = gradient->dims[i + 1], cols = gradient->dims[i];
    for (int32_t c = 0; c < rows; c++) {
        double sum = 0;
        for (int32_t r = 0; r < n; r++) {
            sum += (double)slopes[(size_t)r * (size_t)rows + (size_t)c];
        }
        by_biases[c] = (float)sum;
    }
    critic_transpose(slopes, n, rows, gradient->turned[0]);
    critic_transpose(input, n, cols, gradient->turned[1]);
    return multiply(gradient, gradient->turned[0], rows, gradient->turned[1], NULL, cols, n,
                    by_weights);
}

enum status critic_gradient_backward(struct critic_gradient *gradient,
                                     const struct critic_loss *loss, const float *parameters,
                                     const float *x, int32_t n,
                                     const struct critic_targets *targets, double *mean_loss,
                                     float *by) {
    struct critic_net net = {{0}, {0}, {0}, {0}};
    struct critic_net derivatives = net;
    for (int i = 0; i <= CRITIC_LAYERS; i++) {
        net.dims[i] = derivatives.dims[i] = gradient->dims[i];
    }
    critic_net_view(&net, parameters);
    critic_net_view(&derivatives, by);
    float *slopes = gradient->slopes[0];
    *mean_loss = critic_loss_mean(loss, gradient->values[CRITIC_LAYERS], n, targets, slopes);
    for (int i = CRITIC_LAYERS - 1; i >= 0; i--) {
        int32_t rows = net.dims[i + 1], cols = net.dims[i];
        const float *input = i == 0 ? x : gradient->values[i];
        enum status status =
            by_layer(gradient, input, slopes, i, n, by + (derivatives.weights[i] - by),
                     by + (derivatives.biases[i] - by));
        if (status != STATUS_OK || i == 0) {
            return status;
        }
        float *below = slopes == gradient->slopes[0] ? gradient->slopes[1] : gradient->slopes[0];
        critic_transpose(net.weights[i], rows, cols, gradient->turned[0]);
        status = multiply(gradient, slopes, n, gradient->turned[0], NULL, cols, rows, below);
        if (status != STATUS_OK) {
            return status;
        }
        size_t count = (size_t)n * (size_t)cols;
        for (size_t j = 0; j < count; j++) {
            below[j] = input[j] > 0 ? below[j] : 0;
        }
        slopes = below;
    }
    return STATUS_OK;
}
