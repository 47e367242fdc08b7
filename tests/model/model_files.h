// Small model directories for tests, and ways to damage them field by field.
#ifndef TESTS_MODEL_MODEL_FILES_H
#define TESTS_MODEL_MODEL_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "tests/support/reference_model.h"

// A Llama of two layers and about 30000 parameters, f32, grouped heads.
extern const struct reference_shape small_llama;

// A fresh directory holding `shape`'s model; removed with testkit_remove_tree.
char *model_files_make(const struct reference_shape *shape, int n_shards, int padding);

// Merges `change` (JSON) into the header of directory/name: a tensor given as null gets another
// name, as no byte may be without a tensor; an object's members replace or extend those of the
// file. Data bytes stay.
void model_files_change_header(const char *directory, const char *name, const char *change);

// Likewise for a JSON file; null removes a member, "weight_map" is merged in depth.
void model_files_change_json(const char *directory, const char *name, const char *change);

// Writes one element of `width` bytes of a tensor in directory/model.safetensors; *old takes what
// stood there.
void model_files_exchange_element(const char *directory, const char *tensor, size_t index,
                                  size_t width, const void *value, void *old);

// Changes weights of a model in f32 so that the values of `token` overflow, and with them
// everything behind it in its sequence; sequences without it stay finite.
void model_files_overflow_after(const char *directory, int32_t vocab_size, int32_t hidden_dim,
                                int32_t token);

// Replaces the file by header length, header and `data_bytes` zero bytes.
void model_files_write_raw(const char *directory, const char *name, uint64_t header_length,
                           const char *header, int data_bytes);

#endif
