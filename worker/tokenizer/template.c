#include "worker/tokenizer/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/chat_formats.h"
#include "worker/tokenizer/template_markers.h"
#include "worker/tokenizer/template_source.h"
#include "worker/tokenizer/utf8.h"

enum { FORMAT_MARKERS_MAX = 3, MARKER_IDS_MAX = 64 };

struct format {
    const char *name;
    const char *text;
    bool is_plain;                           // begun as any text of the tokenizer's
    const char *markers[FORMAT_MARKERS_MAX]; // control tokens that keep its turns apart
};

static const struct format formats[] = {
    {.name = "raw", .text = chat_format_raw, .is_plain = true},
    {.name = "llama-2", .text = chat_format_llama_2},
    {.name = "llama-3",
     .text = chat_format_llama_3,
     .markers = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    {.name = "chatml", .text = chat_format_chatml, .markers = {"<|im_start|>", "<|im_end|>"}},
    {.name = "alpaca", .text = chat_format_alpaca},
    {.name = "vicuna", .text = chat_format_vicuna},
    {.name = "beaver", .text = chat_format_beaver, .is_plain = true},
};

enum { FORMAT_COUNT = sizeof formats / sizeof *formats };

static const char own_name[] = "model";

struct template {
    const struct template_set *set;
    struct jinja_template *jinja; // owned; NULL: cannot be used
    bool is_plain;
};

struct template_set {
    const struct tokenizer *tokenizer;
    json_t *tokens;        // owned, variables of the model's own template
    json_t *format_tokens; // owned, of the named ones
    bool has_own;
    struct error own_error; // why the own template cannot be used
    struct template own;
    struct template named[FORMAT_COUNT];
};

const char *template_names(void) {
    return "model, raw, llama-2, llama-3, chatml, alpaca, vicuna, beaver";
}

bool template_set_has_own(const struct template_set *set) {
    return set->has_own;
}

// Parses the own template and tries it on conversations: borders of every kind. One that it refuses
// says nothing here; it will be a job's error.
static enum status open_own(struct template_set *set, const struct template_source *source,
                            struct error *err) {
    static const struct chat_message messages[] = {
        {"system", "rule"}, {"user", "question"}, {"assistant", "answer"}, {"user", "request"}};
    static const struct {
        size_t first;
        size_t count;
    } chats[] = {{1, 1}, {1, 3}, {0, 2}, {0, 4}};
    enum status status = jinja_parse(source->text, source->bytes, &set->own.jinja, err);
    for (size_t i = 0; status == STATUS_OK && i < sizeof chats / sizeof *chats; i++) {
        const struct chat chat = {.messages = messages + chats[i].first,
                                  .n_messages = chats[i].count,
                                  .date = {2000, 1, 1}};
        struct jinja_output output;
        struct error refusal;
        if (template_render(&set->own, &chat, &output, &refusal) == STATUS_OK) {
            status = template_markers_check(set->tokenizer, &output, err);
            jinja_output_finish(&output);
        }
    }
    return status;
}

static enum status parse_formats(struct template_set *set, struct error *err) {
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < FORMAT_COUNT; i++) {
        set->named[i] = (struct template){.set = set, .is_plain = formats[i].is_plain};
        status = jinja_parse(formats[i].text, strlen(formats[i].text), &set->named[i].jinja, err);
    }
    return status;
}

// Takes the tokens of the source.
static enum status create(struct template_source *source, const struct tokenizer *tokenizer,
                          struct template_set **out, struct error *err) {
    struct template_set *set = calloc(1, sizeof *set);
    if (set == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for templates");
    }
    set->tokenizer = tokenizer;
    set->tokens = source->tokens;
    set->format_tokens = source->format_tokens;
    source->tokens = source->format_tokens = NULL;
    set->has_own = source->text != NULL;
    set->own = (struct template){.set = set};
    enum status status = parse_formats(set, err);
    if (status != STATUS_OK) {
        template_set_close(set);
        return status;
    }
    if (set->has_own) {
        set->own_error.status = open_own(set, source, &set->own_error);
    }
    *out = set;
    return STATUS_OK;
}

enum status template_set_open(const char *path, const struct tokenizer *tokenizer,
                              struct template_set **out, struct error *err) {
    struct template_source source;
    enum status status = template_source_read(path, tokenizer, &source, err);
    if (status == STATUS_OK) {
        status = create(&source, tokenizer, out, err);
    }
    template_source_finish(&source);
    return status;
}

void template_set_close(struct template_set *set) {
    if (set == NULL) {
        return;
    }
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        jinja_close(set->named[i].jinja);
    }
    jinja_close(set->own.jinja);
    json_decref(set->tokens);
    json_decref(set->format_tokens);
    free(set);
}

// Whether the tokenizer reads the marker as a token. As plain text it would read the same in a
// message, which could then forge a turn.
static enum status has_marker(const struct tokenizer *tokenizer, const char *marker, bool *out,
                              struct error *err) {
    int32_t ids[MARKER_IDS_MAX];
    size_t count = 0;
    int32_t id = tokenizer_find(tokenizer, marker);
    enum status status =
        tokenizer_encode(tokenizer, marker, strlen(marker), TOKENIZER_PARSE_SPECIAL, ids,
                         MARKER_IDS_MAX, &count, err);
    *out = false;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        *out = *out || ids[i] == id;
    }
    return status;
}

static enum status check_markers(const struct template_set *set, const struct format *format,
                                 struct error *err) {
    for (size_t i = 0; i < FORMAT_MARKERS_MAX && format->markers[i] != NULL; i++) {
        bool found;
        enum status status = has_marker(set->tokenizer, format->markers[i], &found, err);
        if (status != STATUS_OK) {
            return status;
        }
        if (!found) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "chat_template",
                             "the vocabulary lacks the token %s, which %s needs",
                             format->markers[i], format->name);
        }
    }
    return STATUS_OK;
}

static enum status find_own(const struct template_set *set, const struct template **out,
                            struct error *err) {
    if (!set->has_own) {
        return error_set(err, STATUS_NOT_FOUND, "chat_template",
                         "the model has none of its own; name one of %s",
                         template_names() + sizeof own_name + 1);
    }
    if (set->own_error.status != STATUS_OK) {
        return error_set(err, set->own_error.status, "chat_template", "of the model: %s",
                         set->own_error.message);
    }
    *out = &set->own;
    return STATUS_OK;
}

enum status template_find(const struct template_set *set, const char *name,
                          const struct template **out, struct error *err) {
    if (name == NULL || name[0] == '\0' || strcmp(name, own_name) == 0) {
        return find_own(set, out, err);
    }
    for (size_t i = 0; i < FORMAT_COUNT; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            *out = &set->named[i];
            return check_markers(set, &formats[i], err);
        }
    }
    return error_set(err, STATUS_NOT_FOUND, "chat_template", "unknown \"%.32s\"; one of %s", name,
                     template_names());
}

static enum status message_error(struct error *err, size_t index, const char *part,
                                 const char *text) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "messages[%zu].%s", index, part);
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s", text);
}

static enum status check_utf8(const char *value, size_t index, const char *part,
                              struct error *err) {
    size_t offset;
    if (utf8_validate(value, strlen(value), &offset)) {
        return STATUS_OK;
    }
    char text[64];
    snprintf(text, sizeof text, "not UTF-8 at byte %zu", offset);
    return message_error(err, index, part, text);
}

static enum status check_chat(const struct chat *chat, struct error *err) {
    size_t n = chat->n_messages;
    if (n == 0 || n > TEMPLATE_MESSAGES_MAX) {
        return error_set(err, n == 0 ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, "messages",
                         "%zu messages, from 1 to %d are allowed", n, TEMPLATE_MESSAGES_MAX);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < n; i++) {
        status = check_utf8(chat->messages[i].role, i, "role", err);
        if (status == STATUS_OK) {
            status = check_utf8(chat->messages[i].content, i, "content", err);
        }
    }
    bool last_answers = strcmp(chat->messages[n - 1].role, "assistant") == 0;
    if (status == STATUS_OK && last_answers != chat->continues) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "messages",
                         chat->continues
                             ? "only a last message of the assistant's can be continued"
                             : "the last message is the assistant's, and is not to be continued");
    }
    return status;
}

// Marks the end of a message that the answer continues; what the template writes after it is cut
// off. The same text as in transformers, for which templates may look.
static const char continue_mark[] = "CONTINUE_FINAL_MESSAGE_TAG ";

static json_t *make_messages(const struct chat *chat) {
    json_t *messages = json_array();
    for (size_t i = 0; i < chat->n_messages; i++) {
        const struct chat_message *message = &chat->messages[i];
        bool is_marked = chat->continues && i + 1 == chat->n_messages;
        json_t *row = json_pack("{ss, ss+}", "role", message->role, "content", message->content,
                                is_marked ? continue_mark : "");
        if (row == NULL || json_array_append_new(messages, row) != 0) {
            json_decref(messages);
            return NULL;
        }
    }
    return messages;
}

// Variables as transformers gives them; there are neither tools nor documents.
static json_t *make_variables(const struct chat *chat) {
    json_t *messages = make_messages(chat);
    json_t *variables = messages == NULL
                            ? NULL
                            : json_pack("{so, sn, sn, sb}", "messages", messages, "tools",
                                        "documents", "add_generation_prompt", !chat->continues);
    if (variables != NULL && chat->variables != NULL &&
        json_object_update_missing(variables, (json_t *)chat->variables) != 0) {
        json_decref(variables);
        return NULL;
    }
    return variables;
}

enum status template_check_variables(const struct template *template, const json_t *variables,
                                     struct error *err) {
    const char *name;
    json_t *value;
    // Iterating changes nothing; jansson has no const form of it.
    json_object_foreach((json_t *)variables, name, value) {
        if (!jinja_reads(template->jinja, name)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "template_variables",
                             "the chat template never reads %.64s", name);
        }
    }
    return STATUS_OK;
}

// Shortens the output to its first `bytes` bytes.
static void cut(struct jinja_output *output, size_t bytes) {
    size_t start = 0;
    size_t n = 0;
    for (; n < output->n_segments && start < bytes; n++) {
        struct jinja_segment *segment = &output->segments[n];
        segment->bytes = segment->bytes < bytes - start ? segment->bytes : bytes - start;
        start += segment->bytes;
    }
    output->n_segments = n;
    output->bytes = bytes;
}

// The last place of the mark without its space; -1 when the template dropped it.
static ptrdiff_t find_mark(const struct jinja_output *output) {
    size_t length = sizeof continue_mark - 2;
    for (size_t end = output->bytes; end >= length; end--) {
        if (memcmp(output->text + end - length, continue_mark, length) == 0) {
            return (ptrdiff_t)(end - length);
        }
    }
    return -1;
}

// End of the text before `end` without white space at its own end.
static size_t trimmed_end(const char *text, size_t end) {
    while (end > 0) {
        size_t last = end - 1;
        while (last > 0 && ((uint8_t)text[last] & 0xC0) == 0x80) {
            last--;
        }
        uint32_t code = utf8_next(text + last, end - last).code;
        if (!utf8_is_space(code) && !(code >= 0x1C && code <= 0x1F)) {
            break;
        }
        end = last;
    }
    return end;
}

// Cuts off what stands after the message that is continued. Where the template trimmed the message,
// the space of the mark is gone, and white space before it goes too.
static enum status cut_at_mark(struct jinja_output *output, struct error *err) {
    ptrdiff_t at = find_mark(output);
    if (at < 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "messages",
                         "the template does not write the last message as it is, so it cannot be "
                         "continued");
    }
    size_t after = (size_t)at + sizeof continue_mark - 2;
    bool is_whole = after < output->bytes && output->text[after] == ' ';
    cut(output, is_whole ? (size_t)at : trimmed_end(output->text, (size_t)at));
    return STATUS_OK;
}

enum status template_render(const struct template *template, const struct chat *chat,
                            struct jinja_output *out, struct error *err) {
    enum status status = check_chat(chat, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_t *variables = make_variables(chat);
    if (variables == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "messages", "no memory for %zu messages",
                         chat->n_messages);
    }
    const struct template_set *set = template->set;
    const struct jinja_inputs inputs = {.trusted = template == &set->own ? set->tokens
                                                                         : set->format_tokens,
                                        .data = variables,
                                        .date = chat->date};
    status = jinja_render(template->jinja, &inputs, out, err);
    json_decref(variables);
    if (status == STATUS_OK && chat->continues) {
        status = cut_at_mark(out, err);
        if (status != STATUS_OK) {
            jinja_output_finish(out);
        }
    }
    return status;
}

static enum status encode_output(const struct template *template, const struct chat *chat,
                                 const struct jinja_output *output, int32_t *ids, size_t capacity,
                                 size_t *count, struct error *err) {
    const struct tokenizer *tokenizer = template->set->tokenizer;
    struct tokenizer_segment *segments = calloc(output->n_segments + 1, sizeof *segments);
    if (segments == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "messages", "no memory for %zu segments",
                         output->n_segments);
    }
    for (size_t i = 0; i < output->n_segments; i++) {
        bool is_inert = output->segments[i].content && !chat->as_written;
        segments[i] = (struct tokenizer_segment){.text = output->segments[i].text,
                                                 .bytes = output->segments[i].bytes,
                                                 .parse_special = !is_inert,
                                                 .inert = is_inert};
    }
    unsigned flags = template->is_plain && tokenizer_adds_bos(tokenizer) ? TOKENIZER_ADD_BOS : 0;
    enum status status = tokenizer_encode_segments(tokenizer, segments, output->n_segments, flags,
                                                   ids, capacity, count, err);
    free(segments);
    return status;
}

enum status template_encode(const struct template *template, const struct chat *chat, int32_t *ids,
                            size_t capacity, size_t *count, struct error *err) {
    struct jinja_output output;
    enum status status = template_render(template, chat, &output, err);
    if (status == STATUS_OK) {
        status = encode_output(template, chat, &output, ids, capacity, count, err);
        jinja_output_finish(&output);
    }
    return status;
}
