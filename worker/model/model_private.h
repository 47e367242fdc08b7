// What the files that load a model share.
#ifndef WORKER_MODEL_MODEL_PRIVATE_H
#define WORKER_MODEL_MODEL_PRIVATE_H

#include "worker/model/model.h"
#include "common/sha256.h"
#include "worker/model/weight_files.h"

struct model {
    struct model_config config;
    struct model_profile profile;
    struct model_weights weights;
    struct backend *backend;
    enum precision precision;
    struct weight_files *files;
    char *directory;
    char hash[SHA256_HEX_BYTES];
    int64_t n_parameters;
    size_t weight_bytes;
    int32_t n_q4; // products of weights in four bits
};

// weight_load.c
// A matrix as the files hold it, until weight_files_drop.
MUST_CHECK enum status weight_load_matrix(struct model *model, const char *name, int32_t rows,
                                          int32_t cols, struct tensor *out, struct error *err);
// The same in four bits; weight_files_has_q4 says whether it can be.
MUST_CHECK enum status weight_load_q4(struct model *model, const char *name, int32_t rows,
                                      int32_t cols, struct tensor *out, struct error *err);
// Packs the parts of a product; `name` is for the error. Of precision q4 where they are of four
// bits, where not in int8.
MUST_CHECK enum status weight_load_pack(struct model *model, const struct weight_source *source,
                                        enum precision precision, const char *name,
                                        struct weight *out, struct error *err);
// Copies `n` floats to new backend memory; NULL when there is none.
void *weight_load_upload(struct backend *backend, const float *values, size_t n);
// A vector of n as f32 on the host; the caller frees it.
MUST_CHECK enum status weight_load_read(struct model *model, const char *name, int32_t n,
                                        float **out, struct error *err);
// The same in backend memory.
MUST_CHECK enum status weight_load_vector(struct model *model, const char *name, int32_t n,
                                          struct tensor *out, struct error *err);

// layer_load.c
// Fills model->weights.layers[index].
MUST_CHECK enum status layer_load(struct model *model, int32_t index, struct error *err);

#endif
