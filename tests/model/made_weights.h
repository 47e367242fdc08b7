// Weight files whose values follow from the tensors' names alone, so that vectors need hold no
// weights. tests/parity/make_head_vectors.py makes the same values for transformers.
#ifndef TESTS_MODEL_MADE_WEIGHTS_H
#define TESTS_MODEL_MADE_WEIGHTS_H

#include <jansson.h>
#include <stdint.h>

// Number `index` of the endless row that belongs to a name, in [-0.5, 0.5).
double made_weights_draw(const char *name, uint64_t index);

// Writes directory/model.safetensors with f32 tensors of the given shapes (name -> [extents]). A
// tensor has the values that `made_as` (name -> name; NULL: none) says instead of its own name's;
// those of what is no norm are multiplied by `scale`.
void made_weights_write(const char *directory, const json_t *shapes, const json_t *made_as,
                        double scale);

#endif
