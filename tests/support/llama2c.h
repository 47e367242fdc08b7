// Converts models of the llama2.c project (version 0 files and their tokenizer) to Hugging Face
// directories. Blocks on files; any thread.
#ifndef TESTS_SUPPORT_LLAMA2C_H
#define TESTS_SUPPORT_LLAMA2C_H

#include "common/status.h"

// Reads a version 0 model and writes config.json and model.safetensors (f32) into the existing
// `directory`. Rows of the query and key projections are reordered from neighbouring to half-split
// rotation pairs. STATUS_MALFORMED: the file's size does not follow from its header; STATUS_LIMIT:
// a number of the header is out of range; STATUS_IO, STATUS_NO_MEMORY.
MUST_CHECK enum status llama2c_convert_model(const char *model_path, const char *directory,
                                             struct error *err);

// Reads a tokenizer of `vocab_size` pieces and writes tokenizer.json and tokenizer_config.json.
// Scores become the order of the merges. Errors as above.
MUST_CHECK enum status llama2c_convert_tokenizer(const char *tokenizer_path, int vocab_size,
                                                 const char *directory, struct error *err);

// The vocabulary size that a model file names.
MUST_CHECK enum status llama2c_vocab_size(const char *model_path, int *out, struct error *err);

#endif
