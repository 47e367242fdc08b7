// Which token begins a text, ends it and pads it, as the configuration files beside the weights
// say; and the added tokens that these files list or name, in the way of transformers 5
// (tokenization_utils_base.py, _from_pretrained; tokenization_utils_tokenizers.py, __init__).
#ifndef WORKER_TOKENIZER_SPECIAL_IDS_H
#define WORKER_TOKENIZER_SPECIAL_IDS_H

#include <jansson.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer_data.h"

// The configuration files of a model directory; each is NULL when absent.
struct special_sources {
    json_t *tokenizer_config; // owned, like the rest
    json_t *special_tokens_map;
    json_t *generation_config;
    json_t *config;
    json_t *added_tokens;
};

// Reads what there is: the tokenizer's files in `directory`, config.json and generation_config.json
// of the model at `path`, which is the same or laid over it. Errors as model_file_read_json except
// NOT_FOUND; *sources can be finished then too.
MUST_CHECK enum status special_sources_read(const char *path, const char *directory,
                                            struct special_sources *sources, struct error *err);
void special_sources_finish(struct special_sources *sources);

// Adds the tokens of added_tokens_decoder in tokenizer_config.json, else of added_tokens.json, then
// what the configuration, or where it is silent the class, names as a special token, and notes these
// in tokenizer->names. What the vocabulary lacks gets the next free id.
// MALFORMED: not a token, or an id that the library would not give it.
MUST_CHECK enum status special_ids_add_tokens(const struct special_sources *sources,
                                              struct tokenizer *tokenizer, struct error *err);

// Sets bos_id, eos_id, pad_id, end_ids and, for files other than tokenizer.json, the frame. What
// nobody names is found by the usual spellings. MALFORMED: a number that is no token.
MUST_CHECK enum status special_ids_set(const struct special_sources *sources,
                                       struct tokenizer *tokenizer, struct error *err);

#endif
