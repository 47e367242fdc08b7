// A critic as a safetensors file: the layers as "layers.0.weight", "layers.0.bias" ... "layers.2",
// of a latent critic "sigma_min" [channels], all F32, and in its metadata "surefoot_critic" (the
// format's version, 1) and "terms" (worker/critic/terms.h). Everything is checked. One thread.
#ifndef WORKER_CRITIC_CRITIC_FILE_H
#define WORKER_CRITIC_CRITIC_FILE_H

#include "worker/critic/net.h"

struct critic_file {
    struct critic_terms terms;
    struct critic_net net;       // in the mapped file
    char hash[SHA256_HEX_BYTES]; // of all its bytes
    struct safetensors *tensors; // owned
};

// Opens and maps the file. Release with critic_file_close, on failure too. Errors name the tensor
// or the field: those of safetensors_open_path and critic_terms_read; STATUS_NOT_FOUND: a tensor
// that is missing, STATUS_SHAPE, STATUS_UNSUPPORTED (dtype), STATUS_VERSION, STATUS_MALFORMED: no
// critic, a tensor too many, a NaN.
MUST_CHECK enum status critic_file_open(const char *path, struct critic_file *out,
                                        struct error *err);
void critic_file_close(struct critic_file *file);

// Writes it in place of an earlier one. Errors of safetensors_write.
MUST_CHECK enum status critic_file_write(const char *path, const struct critic_terms *terms,
                                         const struct critic_net *net, struct error *err);

#endif
