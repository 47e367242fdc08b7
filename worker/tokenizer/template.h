// Chat templates: messages to the prompt that a model was trained on. A template is the model's own
// (Jinja, as it lies beside the weights) or a named format for models without one (Jinja too, in
// formats/). What a template writes may be control tokens; what a message says never is, whatever
// the tokenizer says of its tokens, so that no text can forge a turn. A caller may ask for what
// transformers does instead. Formats whose markers are plain text (llama-2's [INST], alpaca,
// vicuna, beaver) cannot be protected like this: a marker in a message reads the same; what is
// refused for want of a marker stands in template_markers.h. Never changes after open; any thread.
#ifndef WORKER_TOKENIZER_TEMPLATE_H
#define WORKER_TOKENIZER_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "worker/tokenizer/jinja/jinja.h"
#include "worker/tokenizer/tokenizer.h"

enum { TEMPLATE_MESSAGES_MAX = 4096 };

struct chat_message {
    const char *role;    // borrowed, NUL-terminated; what the template accepts
    const char *content; // UTF-8; borrowed, NUL-terminated
};

// What a template renders; borrowed during the calls.
struct chat {
    const struct chat_message *messages; // [n_messages]
    size_t n_messages;                   // 1..TEMPLATE_MESSAGES_MAX
    bool continues;   // the answer goes on with the last message, the assistant's
    bool as_written;  // control tokens in messages count (transformers' default)
    struct date date; // of strftime_now
    // Variables of the template's own (enable_thinking, ...), an object of true, false, whole
    // numbers and texts; a text is content like a message. NULL: none.
    const json_t *variables;
};

// The templates of one model.
struct template_set;
struct template;

// Opens the templates of the model at `path` (worker/model/model_path.h): its own, if it has one
// (chat_template.jinja, else chat_template of tokenizer_config.json: one text, or of several that
// called "default"; else of chat_template.json; a GGUF file's tokenizer.chat_template), and how it
// spells the tokens that templates name (bos_token, ...). Borrows the tokenizer until close. An own
// template that cannot be used is no failure here, but of template_find. MALFORMED, LIMIT, IO,
// NO_MEMORY: a file is wrong; err->field names it.
MUST_CHECK enum status template_set_open(const char *path, const struct tokenizer *tokenizer,
                                         struct template_set **out, struct error *err);

void template_set_close(struct template_set *set); // NULL is allowed

// The template called `name`: a format's ("llama-2", "raw", ...), or the model's own ("model", ""
// or NULL). NOT_FOUND: *err lists the names. INVALID_ARGUMENT: the vocabulary lacks a control token
// of the format (chatml, llama-3) or a marker of the own template (template_markers.h). The status
// of parsing: the own template cannot be used.
// err->field is "chat_template".
MUST_CHECK enum status template_find(const struct template_set *set, const char *name,
                                     const struct template **out, struct error *err);

// Whether the model has a template of its own, usable or not.
bool template_set_has_own(const struct template_set *set);

// All names separated by ", ", for messages; static storage.
const char *template_names(void);

// Whether the template reads each of `variables` (as of a chat, none that it is given anyway).
// INVALID_ARGUMENT: it never reads one; err->field is "template_variables".
MUST_CHECK enum status template_check_variables(const struct template *template,
                                                const json_t *variables, struct error *err);

// Encodes the chat as a prompt, the opening of the answer at its end. As transformers does, nothing
// is put around what the template writes, but for raw and beaver, which the tokenizer begins as it
// begins any text. INVALID_ARGUMENT: the template refuses the messages or fails on them
// (err->field "chat_template", with its line and reason), invalid UTF-8
// ("messages[i].content"), a last message that is not the assistant's where it is to be continued,
// or is where it is not ("messages"). LIMIT and the rest as tokenizer_encode and jinja_render.
MUST_CHECK enum status template_encode(const struct template *template, const struct chat *chat,
                                       int32_t *ids, size_t capacity, size_t *count,
                                       struct error *err);

// The text that template_encode encodes, without what the tokenizer begins it with; as
// jinja_render. *out goes to jinja_output_finish.
MUST_CHECK enum status template_render(const struct template *template, const struct chat *chat,
                                       struct jinja_output *out, struct error *err);

#endif
