// The tokenizer classes of transformers 5: some of them build their own pipeline from the pieces
// and merges of a file and leave its normaliser, pre-tokenizer and decoder unread
// (tokenization_utils_tokenizers.py, convert_to_native_format, and models/*/tokenization_*.py).
// Which class opens a directory is decided as AutoTokenizer does, by tokenizer_class and
// model_type.
#ifndef WORKER_TOKENIZER_TOKENIZER_CLASS_H
#define WORKER_TOKENIZER_TOKENIZER_CLASS_H

#include "common/status.h"
#include "worker/tokenizer/special_ids.h"
#include "worker/tokenizer/tokenizer_data.h"

enum pipeline {
    PIPELINE_OF_FILE, // TokenizersBackend: what the file says
    PIPELINE_LLAMA,
    PIPELINE_GEMMA,
    PIPELINE_QWEN2,
    PIPELINE_GPT2,
    PIPELINE_NEOX,
};

// A token that a class names where no file does.
struct class_token {
    const char *name;    // "bos_token"
    const char *content; // NULL: it says that there is none
};

struct tokenizer_class {
    enum pipeline pipeline;
    const struct class_token *tokens; // static; a name of NULL ends them
    bool adds_anew;                   // what is named loses the flags that a file lists it with
    bool keeps_post_processor;        // that of tokenizer.json counts
    bool add_prefix_space;            // as the configuration or the class's default says
    bool legacy; // LLAMA: the prefix goes before every part, not the first only
};

// What holds for a tokenizer of any form. UNSUPPORTED: the configuration sets an option that would
// change ids or text and that none here follows. MALFORMED: an option of the wrong kind. err->field
// is "<file>:<key>".
MUST_CHECK enum status tokenizer_class_check_options(const struct special_sources *sources,
                                                     struct error *err);

// Finds the class for a directory; `byte_level`: its tokenizer.json speaks of ByteLevel.
// UNSUPPORTED: a class with a pipeline of its own that is not one of the above. MALFORMED: an
// option of the wrong kind. err->field is "tokenizer_config.json:<key>".
MUST_CHECK enum status tokenizer_class_find(const struct special_sources *sources, bool byte_level,
                                            struct tokenizer_class *out, struct error *err);

// Sets normaliser, pre-tokenizer, decoder and the model's options to those of the class, which has
// one of its own. UNSUPPORTED: the model is not BPE. NO_MEMORY.
MUST_CHECK enum status tokenizer_class_apply(const struct tokenizer_class *class,
                                             struct tokenizer *tokenizer, struct error *err);

#endif
