// Model directories of any architecture from a configuration alone: the tensors that transformers'
// class of `model_type` would have, with made weights (made_weights.h) of scale 1/2.
#ifndef TESTS_MODEL_SHAPE_MODEL_H
#define TESTS_MODEL_SHAPE_MODEL_H

#include <jansson.h>

// A fresh directory with config.json and model.safetensors; removed with testkit_remove_tree.
char *shape_model_make(const json_t *config);

#endif
