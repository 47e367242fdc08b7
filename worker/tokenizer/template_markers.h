// Whether the vocabulary has the markers with which a model's own template keeps turns apart. Where
// it lacks them they are encoded as ordinary text, a message can write the same, and forge a turn.
//
// Many templates mark turns with plain text by design, and most of what stands between two messages
// is plain text in all of them, so what is refused is exactly this: text of the template's between
// two messages, or behind the last one, that holds a marker and no added token at all. A marker is
// "<...>" or "[...]" around up to 64 bytes without white space and brackets, a letter among them
// and, behind a leading "/", something that is no ASCII letter ("<|im_end|>", "<start_of_turn>",
// "[/SYSTEM_PROMPT]"); "<s>" and "</s>" are too. No markers are tags of one word ("[/INST]",
// "<think>") and "<|system|>", "<|user|>", "<|assistant|>", which OLMo, Tulu and others write as
// text by design.
#ifndef WORKER_TOKENIZER_TEMPLATE_MARKERS_H
#define WORKER_TOKENIZER_TEMPLATE_MARKERS_H

#include "common/status.h"
#include "worker/tokenizer/jinja/jinja.h"
#include "worker/tokenizer/tokenizer.h"

// Of what a template made of a conversation whose messages hold no markers. INVALID_ARGUMENT: a
// border between messages as above; *err (field "chat_template") names the marker. Else the status
// of encoding.
MUST_CHECK enum status template_markers_check(const struct tokenizer *tokenizer,
                                              const struct jinja_output *output, struct error *err);

#endif
