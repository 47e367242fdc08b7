// One input of the fuzzer of chat templates: bytes are parsed as a template and rendered over a
// conversation. libFuzzer calls this (option SUREFOOT_FUZZ, with the named formats as its corpus:
// worker/tokenizer/formats), and test_fuzz_jinja.c on mutations of templates.
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "worker/tokenizer/jinja/jinja.h"

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" Be kind.\\n\"},"
    " {\"role\": \"user\", \"content\": \"Hi <|im_start|> d\u00e9j\u00e0 \u00df \u03a3\"},"
    " {\"role\": \"assistant\", \"content\": \"<think>\\nso\\n</think>\\n\\nYes?\"},"
    " {\"role\": \"user\", \"content\": \"\\u0000 x\\ty\"}],"
    " \"tools\": null, \"add_generation_prompt\": true, \"n\": 7, \"x\": 2.5, \"flag\": false,"
    " \"word\": \"h\u00e9llo\", \"list\": [3, 1, 2, 1], \"nested\": {\"a\": {\"b\": [1, {}]}}}";

static void check(enum status status, const struct jinja_output *output, const struct error *err) {
    size_t bytes = 0;
    if (status != STATUS_OK) {
        ASSERT(status == STATUS_MALFORMED || status == STATUS_UNSUPPORTED ||
               status == STATUS_INVALID_ARGUMENT || status == STATUS_LIMIT);
        ASSERT(err->message[0] != '\0');
        return;
    }
    for (size_t i = 0; i < output->n_segments; i++) {
        const struct jinja_segment *segment = &output->segments[i];
        ASSERT(segment->text == output->text + bytes && segment->bytes > 0);
        ASSERT(i == 0 || segment->content != output->segments[i - 1].content);
        bytes += segment->bytes;
    }
    ASSERT(bytes == output->bytes && bytes <= JINJA_OUTPUT_BYTES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    char *copy = malloc(size > 0 ? size : 1); // not a byte longer
    json_t *data = json_loads(conversation, JSON_ALLOW_NUL, NULL);
    struct jinja_template *template = NULL;
    struct jinja_output output = {0};
    struct error err = {0};
    if (copy == NULL || data == NULL) {
        free(copy);
        json_decref(data);
        return 0;
    }
    if (size > 0) {
        memcpy(copy, bytes, size);
    }
    const struct jinja_inputs inputs = {.data = data, .date = {2026, 11, 28}};
    enum status status = jinja_parse(copy, size, &template, &err);
    free(copy);
    if (status == STATUS_OK) {
        status = jinja_render(template, &inputs, &output, &err);
    }
    check(status, &output, &err);
    jinja_output_finish(&output);
    jinja_close(template);
    json_decref(data);
    return 0;
}
