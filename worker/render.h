// What a model's chat template makes of messages, for a person to look at: surefoot models render.
// Opens the tokenizer and the templates, no weights.
#ifndef WORKER_RENDER_H
#define WORKER_RENDER_H

#include <stdio.h>

#include "common/status.h"

// `request` is an object of JSON: messages ([{role, content}]), and optionally chat_template,
// content_tokens, date (YYYY-MM-DD, needed), continue_final_message and template_variables (an
// object), as in a JobSpec. Prints one
// object on a line: chat_template, segments ([{text, content}]: whether a message said it), ids,
// and tokens (each id's text). Errors: MALFORMED, the request is none; else as template_encode.
MUST_CHECK enum status render_print(const char *model, const char *request, FILE *out,
                                    struct error *err);

#endif
