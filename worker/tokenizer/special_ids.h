// Which token begins a text, ends it and pads it, as the configuration files beside the weights
// say; and the added tokens that only tokenizer_config.json lists where tokenizer.json is absent.
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
};

// Reads what there is. Errors as model_file_read_json except NOT_FOUND; *sources can be finished
// then too.
MUST_CHECK enum status special_sources_read(const char *directory, struct special_sources *sources,
                                            struct error *err);
void special_sources_finish(struct special_sources *sources);

// Adds the tokens of added_tokens_decoder in tokenizer_config.json, if there are any.
MUST_CHECK enum status special_ids_add_tokens(const struct special_sources *sources,
                                              struct tokenizer *tokenizer, struct error *err);

// Sets bos_id, eos_id, pad_id, end_ids and, when the configuration speaks of it, adds_bos. What no
// file names is found by the usual spellings. MALFORMED: a name that is no token.
MUST_CHECK enum status special_ids_set(const struct special_sources *sources,
                                       struct tokenizer *tokenizer, struct error *err);

#endif
