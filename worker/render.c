#include "worker/render.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/config.h"
#include "worker/tokenizer/template.h"
#include "worker/tokenizer/utf8.h"

struct rendering {
    json_t *request; // owned
    struct tokenizer *tokenizer;
    struct template_set *templates;
    const struct template *template;
    const char *name; // of the template
    struct model_profile profile;
    struct chat_message *messages; // owned; texts are the request's
    struct chat chat;
    struct jinja_output output;
    int32_t *ids; // [n_ids], owned
    size_t n_ids;
};

static void finish(struct rendering *r) {
    jinja_output_finish(&r->output);
    template_set_close(r->templates);
    tokenizer_close(r->tokenizer);
    free(r->messages);
    free(r->ids);
    json_decref(r->request);
}

static enum status fail_request(struct error *err, const char *field) {
    return error_set(err, STATUS_MALFORMED, field, "not what a rendering is asked with");
}

static enum status read_messages(struct rendering *r, struct error *err) {
    const json_t *list = json_object_get(r->request, "messages");
    size_t n = json_array_size(list);
    r->messages = calloc(n + 1, sizeof *r->messages);
    if (r->messages == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "messages", "no memory");
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *row = json_array_get(list, i);
        const char *role = json_string_value(json_object_get(row, "role"));
        const char *content = json_string_value(json_object_get(row, "content"));
        if (role == NULL || content == NULL) {
            return fail_request(err, "messages");
        }
        r->messages[i] = (struct chat_message){.role = role, .content = content};
    }
    r->chat.messages = r->messages;
    r->chat.n_messages = n;
    return STATUS_OK;
}

static enum status read_request(struct rendering *r, const char *text, struct error *err) {
    r->request = json_loads(text, 0, NULL);
    const char *tokens = json_string_value(json_object_get(r->request, "content_tokens"));
    const char *date = json_string_value(json_object_get(r->request, "date"));
    if (!json_is_object(r->request)) {
        return fail_request(err, "render");
    }
    if (date == NULL || !date_parse(date, &r->chat.date)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "date",
                         "\"%.16s\" is not a day from 0001-01-01 to 9999-12-31",
                         date != NULL ? date : "");
    }
    r->chat.as_written = tokens != NULL && strcmp(tokens, "as-written") == 0;
    if (tokens != NULL && !r->chat.as_written && strcmp(tokens, "as-text") != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "content_tokens",
                         "unknown \"%.64s\"; one of as-text, as-written", tokens);
    }
    r->chat.variables = json_object_get(r->request, "template_variables");
    if (r->chat.variables != NULL && !json_is_object(r->chat.variables)) {
        return fail_request(err, "template_variables");
    }
    r->chat.continues = json_is_true(json_object_get(r->request, "continue_final_message"));
    return read_messages(r, err);
}

static enum status open_model(struct rendering *r, const char *model, struct error *err) {
    enum status status = model_profile_read(model, &r->profile, err);
    if (status == STATUS_OK) {
        status = tokenizer_open(model, &r->tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = template_set_open(model, r->tokenizer, &r->templates, err);
    }
    r->name = json_string_value(json_object_get(r->request, "chat_template"));
    if (r->name == NULL) {
        r->name = r->profile.chat_template[0] != '\0' ? r->profile.chat_template : "model";
    }
    if (status == STATUS_OK) {
        status = template_find(r->templates, r->name, &r->template, err);
    }
    return status == STATUS_OK ? template_check_variables(r->template, r->chat.variables, err)
                               : status;
}

static enum status encode(struct rendering *r, struct error *err) {
    enum status status = template_render(r->template, &r->chat, &r->output, err);
    size_t capacity = 0;
    while (status == STATUS_OK) {
        status = template_encode(r->template, &r->chat, r->ids, capacity, &r->n_ids, err);
        if (status != STATUS_LIMIT || r->n_ids <= capacity) {
            break;
        }
        capacity = r->n_ids;
        free(r->ids);
        r->ids = malloc(capacity * sizeof *r->ids);
        status = r->ids != NULL ? STATUS_OK : error_set(err, STATUS_NO_MEMORY, "ids", "no memory");
    }
    return status;
}

// A token's bytes as text: alone they may be a part of a character only.
static json_t *token_text(const struct tokenizer *tokenizer, int32_t id) {
    const char *bytes = NULL;
    size_t count = 0;
    size_t offset;
    if (tokenizer_token_bytes(tokenizer, id, TOKENIZER_KEEP_SPECIAL, &bytes, &count) != STATUS_OK ||
        !utf8_validate(bytes, count, &offset)) {
        return json_string("\xEF\xBF\xBD");
    }
    return json_stringn(bytes, count);
}

static json_t *describe(const struct rendering *r) {
    json_t *segments = json_array();
    json_t *ids = json_array();
    json_t *tokens = json_array();
    for (size_t i = 0; i < r->output.n_segments; i++) {
        const struct jinja_segment *segment = &r->output.segments[i];
        json_array_append_new(segments, json_pack("{s:s%, s:b}", "text", segment->text,
                                                  segment->bytes, "content", segment->content));
    }
    for (size_t i = 0; i < r->n_ids; i++) {
        json_array_append_new(ids, json_integer(r->ids[i]));
        json_array_append_new(tokens, token_text(r->tokenizer, r->ids[i]));
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "chat_template", r->name, "segments", segments, "ids",
                     ids, "tokens", tokens);
}

enum status render_print(const char *model, const char *request, FILE *out, struct error *err) {
    struct rendering rendering = {0};
    enum status status = read_request(&rendering, request, err);
    if (status == STATUS_OK) {
        status = open_model(&rendering, model, err);
    }
    if (status == STATUS_OK) {
        status = encode(&rendering, err);
    }
    if (status == STATUS_OK) {
        json_t *object = describe(&rendering);
        bool written = object != NULL && json_dumpf(object, out, JSON_COMPACT) == 0 &&
                       fputc('\n', out) != EOF && fflush(out) == 0;
        json_decref(object);
        status = written ? STATUS_OK : error_set(err, STATUS_IO, NULL, "cannot print");
    }
    finish(&rendering);
    return status;
}
