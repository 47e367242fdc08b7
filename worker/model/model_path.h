// Where a model lies: a directory in Hugging Face layout, one GGUF file, or a directory laid over
// one of these, its base, of which it holds only what differs: an adapter, a head, some layers,
// parts of config.json. This is the one place that knows the difference for the small documents
// (config.json and the like); weight_files.h is it for the tensors. Blocks on files; any thread.
#ifndef WORKER_MODEL_MODEL_PATH_H
#define WORKER_MODEL_MODEL_PATH_H

#include <jansson.h>
#include <stdbool.h>

#include "common/status.h"

enum { MODEL_PATH_BYTES = 4096 };

struct model_path {
    const char *own;             // as given; borrowed
    char base[MODEL_PATH_BYTES]; // "" when the model stands alone
    bool is_adapter;             // a PEFT directory: it holds adapter_config.json
};

// Finds the base: "base" of the profile, else base_model_name_or_path of adapter_config.json. A
// relative one starts at the directory itself. NOT_FOUND: the base is neither a directory nor a
// file; the message has the profile's base_hint, if any. UNSUPPORTED: it has a base itself. MALFORMED: the document that names it is wrong.
MUST_CHECK enum status model_path_find(const char *path, struct model_path *out, struct error *err);

// Reads config.json or generation_config.json of the model at `path`; *out is owned. A GGUF file is
// asked in its own terms. Over a base, config.json is the base's with the directory's own fields
// put in, generation_config.json the directory's own where it has one. Errors: those of
// json_object_read, gguf_open, gguf_config and model_path_find.
MUST_CHECK enum status model_document_read(const char *path, const char *name, json_t **out,
                                           struct error *err);

// What an error in that document is to be prefixed with: its name, or the GGUF file's.
const char *model_document_label(const char *path, const char *name);

// Reads the profile: surefoot.json in a directory, FILE.gguf.surefoot.json beside a GGUF file.
// Errors as json_object_read; INVALID_ARGUMENT: the path is a file, but no GGUF file.
MUST_CHECK enum status model_profile_document_read(const char *path, json_t **out,
                                                   struct error *err);

// Names the profile of the model at `path` in an error whose field begins with "surefoot.json": of
// a GGUF file it is FILE.gguf.surefoot.json, of whose name the end is shown where it is long. Other
// errors stay as they are.
void model_profile_label_error(const char *path, struct error *err);

// Whether directory/name exists.
bool model_path_has(const char *directory, const char *name);

#endif
