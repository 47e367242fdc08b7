#include "worker/tokenizer/jinja/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/inputs.h"
#include "worker/tokenizer/jinja/parser.h"

enum { PARSE_MEMORY_BYTES_MAX = 128 << 20 };

static enum status parse(struct jinja_template *template, const char *text, size_t bytes,
                         struct error *err) {
    struct parser parser = {.arena = &template->arena, .err = err};
    enum status status = lexer_run(&template->arena, text, bytes, &parser.tokens, err);
    if (status == STATUS_OK) {
        status = parse_template(&parser, &template->root);
    }
    if (status == STATUS_OK) {
        status = scope_analyze(&parser, template->root, &template->reads);
    }
    template->source = parser.tokens.source;
    template->tokens = parser.tokens.tokens;
    template->n_tokens = parser.tokens.count;
    return status;
}

enum status jinja_parse(const char *text, size_t bytes, struct jinja_template **out,
                        struct error *err) {
    if (bytes > JINJA_TEMPLATE_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, "chat_template", "%zu bytes are above the limit %d",
                         bytes, JINJA_TEMPLATE_BYTES_MAX);
    }
    struct jinja_template *template = calloc(1, sizeof *template);
    if (template == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory");
    }
    template->arena.limit_bytes = PARSE_MEMORY_BYTES_MAX;
    enum status status = parse(template, text, bytes, err);
    if (status != STATUS_OK) {
        jinja_close(template);
        return status;
    }
    *out = template;
    return STATUS_OK;
}

void jinja_close(struct jinja_template *template) {
    if (template != NULL) {
        arena_finish(&template->arena);
        free(template);
    }
}

bool jinja_reads(const struct jinja_template *template, const char *name) {
    for (size_t i = 0; i < template->reads.count; i++) {
        if (text_is(template->reads.names[i], name)) {
            return true;
        }
    }
    return false;
}

// End of the run of bytes of one origin that starts at `start`.
static size_t segment_end(const struct text_builder *b, size_t start) {
    size_t end = start + 1;
    if (b->origins == NULL) {
        return b->length;
    }
    while (end < b->length && b->origins[end] == b->origins[start]) {
        end++;
    }
    return end;
}

static enum status give_output(const struct text_builder *b, struct jinja_output *out,
                               struct error *err) {
    size_t count = 0;
    for (size_t at = 0; at < b->length; at = segment_end(b, at)) {
        count++;
    }
    struct jinja_output output = {.text = malloc(b->length + 1),
                                  .bytes = b->length,
                                  .segments = malloc((count + 1) * sizeof *output.segments),
                                  .n_segments = count};
    if (output.text == NULL || output.segments == NULL) {
        jinja_output_finish(&output);
        return error_set(err, STATUS_NO_MEMORY, "chat_template", "no memory for the output");
    }
    if (b->length > 0) {
        memcpy(output.text, b->bytes, b->length);
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        size_t end = segment_end(b, at);
        output.segments[i] = (struct jinja_segment){
            .text = output.text + at,
            .bytes = end - at,
            .content = b->origins != NULL ? b->origins[at] != 0 : b->content};
        at = end;
    }
    *out = output;
    return STATUS_OK;
}

enum status jinja_render(const struct jinja_template *template, const struct jinja_inputs *inputs,
                         struct jinja_output *out, struct error *err) {
    struct run run = {
        .arena = {.limit_bytes = JINJA_MEMORY_BYTES_MAX}, .err = err, .date = inputs->date};
    struct text_builder output = {.arena = &run.arena};
    run.out = &output;
    enum status status = inputs_read(&run, inputs);
    if (status == STATUS_OK) {
        status = eval_new_scope(&run, NULL, template->root, &run.frame);
    }
    if (status == STATUS_OK) {
        status = eval_body(&run, template->root);
    }
    if (status == STATUS_OK) {
        status = give_output(&output, out, err);
    }
    arena_finish(&run.arena);
    return status;
}

void jinja_output_finish(struct jinja_output *output) {
    free(output->text);
    free(output->segments);
    *output = (struct jinja_output){0};
}
