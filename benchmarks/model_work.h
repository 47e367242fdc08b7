// How much arithmetic a model's forward pass asks for, counted from its shapes: what benchmarks
// divide by time. Additions and multiplications each count one. Norms, rotations, activations and
// softmax are left out; they are a hundredth of it.
#ifndef BENCHMARKS_MODEL_WORK_H
#define BENCHMARKS_MODEL_WORK_H

#include "worker/model/model.h"

struct model_work {
    double layer_parameters;             // of the matrices of all layers
    double head_parameters;              // of the output matrix or the score head
    double attention_flops_per_position; // of one row, for each position that it sees
};

struct model_work model_work_of(const struct model_config *config);

// Of `rows` rows through the layers, `outputs` of which go through the head.
double model_work_product_flops(const struct model_work *work, double rows, double outputs);

// Bytes of the packed matrices, all of which one step reads once; the embedding's rows are not
// counted.
double model_work_weight_bytes(const struct model *model);

#endif
