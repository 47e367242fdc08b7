// What the files beside a model's weights say about its chat template.
#ifndef WORKER_TOKENIZER_TEMPLATE_SOURCE_H
#define WORKER_TOKENIZER_TEMPLATE_SOURCE_H

#include <jansson.h>

#include "common/status.h"
#include "worker/tokenizer/tokenizer.h"

struct template_source {
    char *text; // [bytes], owned; NULL: the model has no template
    size_t bytes;
    json_t *tokens;        // owned: bos_token, eos_token, ... as the template is given them
    json_t *format_tokens; // owned: as the formats of template.h are, the tokenizer's roles too
};

// Errors as template_set_open; *out can be finished then too.
MUST_CHECK enum status template_source_read(const char *path, const struct tokenizer *tokenizer,
                                            struct template_source *out, struct error *err);

void template_source_finish(struct template_source *source);

#endif
