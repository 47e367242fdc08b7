// Weight files whose values follow from the tensors' names alone, so that vectors need hold no
// weights. tests/parity/make_head_vectors.py makes the same values for transformers.
#ifndef TESTS_MODEL_MADE_WEIGHTS_H
#define TESTS_MODEL_MADE_WEIGHTS_H

#include <jansson.h>

// Writes directory/model.safetensors with f32 tensors of the given shapes (name -> [extents]). A
// tensor has the values that `made_as` (name -> name; NULL: none) says instead of its own name's.
void made_weights_write(const char *directory, const json_t *shapes, const json_t *made_as);

#endif
