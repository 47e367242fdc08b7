// Renders what tests/parity/ asks for, a line of JSON in, a line of JSON out:
// {"template": TEXT, "trusted": {...}, "data": {...}, "date": "YYYY-MM-DD"} gives
// {"segments": [[TEXT, IS_CONTENT], ...]} or {"status": NAME, "error": TEXT}.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/tokenizer/jinja/jinja.h"

static json_t *segments_of(const struct jinja_output *output) {
    json_t *segments = json_array();
    for (size_t i = 0; i < output->n_segments; i++) {
        const struct jinja_segment *segment = &output->segments[i];
        json_array_append_new(segments,
                              json_pack("[s%b]", segment->text, segment->bytes, segment->content));
    }
    return segments;
}

static json_t *render(const json_t *request) {
    struct error err = {0};
    struct jinja_template *template = NULL;
    struct jinja_output output = {0};
    const json_t *text = json_object_get(request, "template");
    struct jinja_inputs inputs = {.trusted = json_object_get(request, "trusted"),
                                  .data = json_object_get(request, "data")};
    if (!date_parse(json_string_value(json_object_get(request, "date")), &inputs.date)) {
        return json_pack("{ssss}", "status", "INVALID_ARGUMENT", "error", "not a date");
    }
    enum status status =
        jinja_parse(json_string_value(text), json_string_length(text), &template, &err);
    if (status == STATUS_OK) {
        status = jinja_render(template, &inputs, &output, &err);
    }
    json_t *answer = status == STATUS_OK
                         ? json_pack("{so}", "segments", segments_of(&output))
                         : json_pack("{ssss}", "status", status_name(status), "error", err.message);
    jinja_output_finish(&output);
    jinja_close(template);
    return answer;
}

int main(void) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        json_t *request = json_loadb(line, (size_t)length, JSON_ALLOW_NUL, NULL);
        if (request == NULL) {
            fprintf(stderr, "not a line of JSON\n");
            free(line);
            return 1;
        }
        json_t *answer = render(request);
        json_dumpf(answer, stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(answer);
        json_decref(request);
    }
    free(line);
    return 0;
}
