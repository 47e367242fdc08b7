// A format is a function that writes a conversation as segments. Text that the format owns may hold
// special tokens, text of a message may not; a message is trimmed where the model's own template
// trims. The formats follow chujiezheng/chat_templates, except beaver (PKU-Alignment/safe-rlhf,
// safe_rlhf/configs/constants.py and safe_rlhf/datasets/utils.py, format_prompt).
#include "worker/tokenizer/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/utf8.h"

enum { SEGMENTS_PER_MESSAGE = 8, SEGMENTS_PER_PROMPT = 8 };

// A prompt while it is written. Segments borrow from the messages, the tokenizer and this file.
struct prompt {
    const struct tokenizer *tokenizer;
    struct tokenizer_segment *segments; // [capacity], owned
    size_t count;
    size_t capacity;
    unsigned flags; // of the encoder
};

struct format {
    const char *name;
    void (*write)(struct prompt *prompt, const struct chat_message *messages, size_t n);
    bool takes_system;
    bool takes_turns; // more than one message
    bool needs_eos;   // ends an answer with EOS
};

static void put(struct prompt *prompt, const char *text, size_t bytes, bool parse_special) {
    ASSERT(prompt->count < prompt->capacity);
    prompt->segments[prompt->count++] =
        (struct tokenizer_segment){.text = text, .bytes = bytes, .parse_special = parse_special};
}

static void put_marker(struct prompt *prompt, const char *text) {
    put(prompt, text, strlen(text), true);
}

// BOS or EOS as its spelling, nothing when the tokenizer has none.
static void put_token(struct prompt *prompt, int32_t id) {
    const char *text;
    size_t bytes;
    if (id >= 0 && tokenizer_token_bytes(prompt->tokenizer, id, TOKENIZER_KEEP_SPECIAL, &text,
                                         &bytes) == STATUS_OK) {
        put(prompt, text, bytes, true);
    }
}

static void put_bos(struct prompt *prompt) {
    put_token(prompt, tokenizer_bos_id(prompt->tokenizer));
}

static void put_eos(struct prompt *prompt) {
    put_token(prompt, tokenizer_eos_id(prompt->tokenizer));
}

// White space as Python's str.strip takes it off: White_Space and the four separators of ASCII.
static bool is_trimmed(const char *text, size_t bytes) {
    struct utf8_step step = utf8_next(text, bytes);
    return step.kind == UTF8_WELL_FORMED &&
           (utf8_is_space(step.code) || (step.code >= 0x1C && step.code <= 0x1F));
}

static const char *trim_start(const char *text) {
    while (*text != '\0' && is_trimmed(text, strnlen(text, 4))) {
        text += utf8_length(*text);
    }
    return text;
}

static size_t trim_end(const char *text) {
    size_t bytes = strlen(text);
    while (bytes > 0) {
        size_t last = bytes - 1;
        while (last > 0 && ((uint8_t)text[last] & 0xC0) == 0x80) {
            last--;
        }
        if (!is_trimmed(text + last, bytes - last)) {
            break;
        }
        bytes = last;
    }
    return bytes;
}

static void put_trimmed(struct prompt *prompt, const char *content) {
    const char *text = trim_start(content);
    put(prompt, text, trim_end(text), false);
}

static bool is_role(const struct chat_message *message, const char *role) {
    return strcmp(message->role, role) == 0;
}

static void write_raw(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    (void)n;
    prompt->flags = tokenizer_adds_bos(prompt->tokenizer) ? TOKENIZER_ADD_BOS : 0;
    put(prompt, messages[0].content, strlen(messages[0].content), false);
}

static void write_llama_2(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *content = messages[i].content;
        if (is_role(&messages[i], "assistant")) {
            put_marker(prompt, " ");
            put_trimmed(prompt, content);
            put_marker(prompt, " ");
            put_eos(prompt);
            continue;
        }
        put_bos(prompt);
        put_marker(prompt, "[INST] ");
        if (is_role(&messages[i], "system")) {
            put_marker(prompt, "<<SYS>>\n");
            put_trimmed(prompt, content);
            // The block and the message after it are trimmed as one text, at the outer ends.
            content = messages[++i].content;
            size_t bytes = trim_end(content);
            put_marker(prompt, bytes > 0 ? "\n<</SYS>>\n\n" : "\n<</SYS>>");
            put(prompt, content, bytes, false);
        } else {
            put_trimmed(prompt, content);
        }
        put_marker(prompt, " [/INST]");
    }
}

static void put_llama_3_header(struct prompt *prompt, const char *role) {
    put_marker(prompt, "<|start_header_id|>");
    put(prompt, role, strlen(role), false);
    put_marker(prompt, "<|end_header_id|>\n\n");
}

static void write_llama_3(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    bool has_system = is_role(&messages[0], "system");
    put_bos(prompt);
    put_llama_3_header(prompt, "system");
    put_marker(prompt, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
                       "You are a helpful assistant");
    if (has_system) {
        put_trimmed(prompt, messages[0].content);
    }
    put_marker(prompt, "<|eot_id|>");
    for (size_t i = has_system ? 1 : 0; i < n; i++) {
        put_llama_3_header(prompt, messages[i].role);
        put_trimmed(prompt, messages[i].content);
        put_marker(prompt, "<|eot_id|>");
    }
    put_llama_3_header(prompt, "assistant");
}

static void write_chatml(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    put_bos(prompt);
    for (size_t i = 0; i < n; i++) {
        put_marker(prompt, "<|im_start|>");
        put(prompt, messages[i].role, strlen(messages[i].role), false);
        put_marker(prompt, "\n");
        put_trimmed(prompt, messages[i].content);
        put_marker(prompt, "<|im_end|>\n");
    }
    put_marker(prompt, "<|im_start|>assistant\n");
}

// Alpaca and vicuna differ in the words only.
struct turn_words {
    const char *user;
    const char *user_end;
    const char *assistant;
    const char *assistant_end; // after EOS
    const char *opening;       // of the answer
};

static void write_turns(struct prompt *prompt, const struct turn_words *words,
                        const struct chat_message *messages, size_t n) {
    put_bos(prompt);
    for (size_t i = 0; i < n; i++) {
        if (is_role(&messages[i], "system")) {
            put_trimmed(prompt, messages[i].content);
            put_marker(prompt, "\n\n");
        } else if (is_role(&messages[i], "user")) {
            put_marker(prompt, words->user);
            put_trimmed(prompt, messages[i].content);
            put_marker(prompt, words->user_end);
        } else {
            put_marker(prompt, words->assistant);
            put_trimmed(prompt, messages[i].content);
            put_eos(prompt);
            put_marker(prompt, words->assistant_end);
        }
    }
    put_marker(prompt, words->opening);
}

static void write_alpaca(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    static const struct turn_words words = {.user = "### Instruction:\n",
                                            .user_end = "\n\n",
                                            .assistant = "### Response:\n",
                                            .assistant_end = "\n\n",
                                            .opening = "### Response:\n"};
    write_turns(prompt, &words, messages, n);
}

static void write_vicuna(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    static const struct turn_words words = {.user = "USER: ",
                                            .user_end = "\n",
                                            .assistant = "ASSISTANT: ",
                                            .assistant_end = "\n",
                                            .opening = "ASSISTANT:"};
    write_turns(prompt, &words, messages, n);
}

static void write_beaver(struct prompt *prompt, const struct chat_message *messages, size_t n) {
    prompt->flags = tokenizer_adds_bos(prompt->tokenizer) ? TOKENIZER_ADD_BOS : 0;
    put_marker(prompt, "BEGINNING OF CONVERSATION: ");
    for (size_t i = 0; i < n; i++) {
        const char *content = messages[i].content;
        bool user = is_role(&messages[i], "user");
        put_marker(prompt, user ? "USER: " : "");
        put(prompt, content, strlen(content), false);
        if (user) {
            put_marker(prompt, " ASSISTANT:");
        } else {
            put_eos(prompt);
        }
    }
}

static const struct format formats[TEMPLATE_COUNT] = {
    [TEMPLATE_RAW] = {"raw", write_raw, false, false, false},
    [TEMPLATE_LLAMA_2] = {"llama-2", write_llama_2, true, true, true},
    [TEMPLATE_LLAMA_3] = {"llama-3", write_llama_3, true, true, false},
    [TEMPLATE_CHATML] = {"chatml", write_chatml, true, true, false},
    [TEMPLATE_ALPACA] = {"alpaca", write_alpaca, true, true, true},
    [TEMPLATE_VICUNA] = {"vicuna", write_vicuna, true, true, true},
    [TEMPLATE_BEAVER] = {"beaver", write_beaver, false, true, true},
};

enum status template_find(const char *name, enum template_id *out, struct error *err) {
    for (int id = 0; id < TEMPLATE_COUNT; id++) {
        if (strcmp(formats[id].name, name) == 0) {
            *out = (enum template_id)id;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_NOT_FOUND, "template", "the formats are %s; there is no \"%s\"",
                     template_names(), name);
}

const char *template_name(enum template_id id) {
    ASSERT(id >= 0 && id < TEMPLATE_COUNT);
    return formats[id].name;
}

const char *template_names(void) {
    return "raw, llama-2, llama-3, chatml, alpaca, vicuna, beaver";
}

static enum status message_error(struct error *err, size_t index, const char *part,
                                 const char *text) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "messages[%zu].%s", index, part);
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s", text);
}

// What may stand at `index`: system first, then user and assistant in turn.
static enum status check_message(const struct format *format, const struct chat_message *messages,
                                 size_t index, struct error *err) {
    const struct chat_message *message = &messages[index];
    bool system_first = is_role(&messages[0], "system");
    size_t turn = index - (system_first ? 1 : 0);
    size_t offset;
    if (!utf8_validate(message->content, strlen(message->content), &offset)) {
        char text[64];
        snprintf(text, sizeof text, "not UTF-8 at byte %zu", offset);
        return message_error(err, index, "content", text);
    }
    if (is_role(message, "system")) {
        if (!format->takes_system) {
            return message_error(err, index, "role", "the format has no system message");
        }
        return index == 0 ? STATUS_OK
                          : message_error(err, index, "role", "a system message comes first");
    }
    if (!is_role(message, "user") && !is_role(message, "assistant")) {
        return message_error(err, index, "role", "is none of system, user, assistant");
    }
    if (is_role(message, "user") != (turn % 2 == 0)) {
        return message_error(err, index, "role", "user and assistant must alternate, user first");
    }
    return STATUS_OK;
}

static enum status check_messages(const struct tokenizer *tokenizer, const struct format *format,
                                  const struct chat_message *messages, size_t n,
                                  struct error *err) {
    if (n == 0 || n > TEMPLATE_MESSAGES_MAX) {
        return error_set(err, n == 0 ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, "messages",
                         "%zu messages, from 1 to %d are allowed", n, TEMPLATE_MESSAGES_MAX);
    }
    for (size_t i = 0; i < n; i++) {
        enum status status = check_message(format, messages, i, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (!is_role(&messages[n - 1], "user")) {
        return message_error(err, n - 1, "role", "the last message must be the user's");
    }
    if (n > 1 && !format->takes_turns) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "messages",
                         "the format takes one message, not %zu", n);
    }
    bool has_answer = n > (is_role(&messages[0], "system") ? 2 : 1);
    if (has_answer && format->needs_eos && tokenizer_eos_id(tokenizer) < 0) {
        return error_set(err, STATUS_UNSUPPORTED, "template",
                         "%s ends an answer with EOS, which the tokenizer does not have",
                         format->name);
    }
    return STATUS_OK;
}

// Writes the prompt; the caller frees prompt->segments.
static enum status write_prompt(const struct tokenizer *tokenizer, enum template_id id,
                                const struct chat_message *messages, size_t n,
                                struct prompt *prompt, struct error *err) {
    ASSERT(id >= 0 && id < TEMPLATE_COUNT);
    const struct format *format = &formats[id];
    enum status status = check_messages(tokenizer, format, messages, n, err);
    if (status != STATUS_OK) {
        return status;
    }
    size_t capacity = SEGMENTS_PER_MESSAGE * n + SEGMENTS_PER_PROMPT;
    *prompt = (struct prompt){.tokenizer = tokenizer, .capacity = capacity};
    prompt->segments = malloc(capacity * sizeof *prompt->segments);
    if (prompt->segments == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "messages", "no memory for %zu messages", n);
    }
    format->write(prompt, messages, n);
    return STATUS_OK;
}

enum status template_encode(const struct tokenizer *tokenizer, enum template_id id,
                            const struct chat_message *messages, size_t n, int32_t *ids,
                            size_t capacity, size_t *count, struct error *err) {
    struct prompt prompt;
    enum status status = write_prompt(tokenizer, id, messages, n, &prompt, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = tokenizer_encode_segments(tokenizer, prompt.segments, prompt.count, prompt.flags, ids,
                                       capacity, count, err);
    free(prompt.segments);
    return status;
}

enum status template_text(const struct tokenizer *tokenizer, enum template_id id,
                          const struct chat_message *messages, size_t n, char *text,
                          size_t capacity, size_t *bytes, struct error *err) {
    struct prompt prompt;
    enum status status = write_prompt(tokenizer, id, messages, n, &prompt, err);
    if (status != STATUS_OK) {
        return status;
    }
    size_t total = 0;
    if ((prompt.flags & TOKENIZER_ADD_BOS) != 0) {
        put_bos(&prompt); // last of the segments, first of the text
        struct tokenizer_segment bos = prompt.segments[--prompt.count];
        memmove(prompt.segments + 1, prompt.segments, prompt.count * sizeof *prompt.segments);
        prompt.segments[0] = bos;
        prompt.count++;
    }
    for (size_t i = 0; i < prompt.count; i++) {
        const struct tokenizer_segment *segment = &prompt.segments[i];
        if (segment->bytes > 0 && total + segment->bytes <= capacity) {
            memcpy(text + total, segment->text, segment->bytes);
        }
        total += segment->bytes;
    }
    free(prompt.segments);
    *bytes = total;
    if (total > capacity) {
        return error_set(err, STATUS_LIMIT, "text", "%zu bytes are needed, there is room for %zu",
                         total, capacity);
    }
    return STATUS_OK;
}
