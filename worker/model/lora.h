// A LoRA adapter as PEFT saves it: adapter_config.json and adapter_model.safetensors. A matrix W of
// its base becomes W + s B A with s = alpha / r, or alpha / sqrt(r) for rsLoRA (Hu et al. 2021,
// section 4.1; Kalajdzievski 2023, theorem 3.2). What would change the result and is not followed
// is refused by name: other kinds of adapters, DoRA, biases, initialisations that change the base.
// Immutable after open; any thread.
#ifndef WORKER_MODEL_LORA_H
#define WORKER_MODEL_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/model/safetensors.h"

enum { LORA_RANK_MAX = 1 << 14 };

// What an adapter does to one tensor of its base.
struct lora_update {
    const char *name;                       // the tensor's, as in the base
    const struct safetensors_tensor *a;     // [r, cols]
    const struct safetensors_tensor *b;     // [rows, r]
    const struct safetensors_tensor *whole; // instead of the two: the tensor itself, a head's
};

struct lora;

// Opens the adapter in `directory`. UNSUPPORTED: a field or tensor that is not followed, by name.
// MALFORMED: a field of a wrong type, a half of a pair without the other, a rank that differs from
// r. The rest as safetensors_open_file and json_object_read.
MUST_CHECK enum status lora_open(const char *directory, struct lora **out, struct error *err);
void lora_close(struct lora *lora); // NULL allowed

size_t lora_count(const struct lora *lora);
const struct lora_update *lora_at(const struct lora *lora, size_t index); // in name order
// NULL when the adapter leaves the tensor as it is.
const struct lora_update *lora_find(const struct lora *lora, const char *name);

// Whether the settings say that PEFT puts a pair beside the weight `name` (lora_targets.h).
bool lora_is_target(const struct lora *lora, const char *name);

// Whether they say that PEFT keeps the weight `name` whole in the adapter, in the base's place.
bool lora_is_saved(const struct lora *lora, const char *name);

// values[rows, cols] += s B A, whose shapes fit. NO_MEMORY.
MUST_CHECK enum status lora_add(const struct lora *lora, const struct lora_update *update,
                                float *values, int32_t rows, int32_t cols);

// Whether the name is a head's: what an adapter may bring whole, and what a base need not have.
bool lora_is_head(const char *name);

// For hashing: the file, and the settings as text.
const struct safetensors *lora_files(const struct lora *lora);
const char *lora_settings(const struct lora *lora);

#endif
