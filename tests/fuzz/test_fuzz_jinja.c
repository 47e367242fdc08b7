// A bounded run of the fuzzer's input function over mutated templates: whatever they are, parsing
// and rendering them ends with an output or an error. The sources are the templates of the vectors
// and, where they are at hand, those of models. Without an argument a few thousand, else as many as
// the argument says (run it under the sanitizers).
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/testkit.h"

enum { MUTATIONS_DEFAULT = 3000, SOURCES_MAX = 512, CHANGES_MAX = 6 };

static const char *const pieces[] = {
    "{{",     "}}",    "{%",       "%}",     "{#",         "#}",       "-",       "+",
    "|",      "(",     ")",        "[",      "]",          "{",        "}",       ".",
    ",",      ":",     "=",        "==",     "~",          "'",        "\"",      "\\",
    "if ",    "endif", "else",     "for ",   " in ",       "endfor",   "set ",    "macro ",
    "x",      "loop",  "is ",      "not ",   "namespace(", "range(",   "99999",   "-1",
    "::-1",   "map(",  "select",   "tojson", "messages",   "content",  "join",    "split",
    "**",     "1e308", "%s",       "\n",     "\xc3\xa9",   "raw",      "endraw",  "endset",
    "* 9999", "break", "caller()", "call ",  "endcall",    "endmacro", "indent(", ".format(",
};

struct sources {
    char *texts[SOURCES_MAX];
    size_t count;
};

static void add(struct sources *sources, const char *text) {
    if (sources->count < SOURCES_MAX) {
        sources->texts[sources->count++] = strdup(text);
    }
}

static void add_vectors(struct sources *sources) {
    json_error_t why;
    json_t *root =
        json_load_file(testkit_source_path("tests/vectors/jinja/cases.json"), JSON_ALLOW_NUL, &why);
    json_t *row;
    size_t i;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "cases"), i, row) {
        add(sources, json_string_value(json_object_get(row, "template")));
    }
    json_decref(root);
}

static void add_real(struct sources *sources) {
    json_error_t why;
    json_t *root =
        json_load_file(testkit_source_path("tests/vectors/jinja/real.json"), JSON_ALLOW_NUL, &why);
    const char *name;
    json_t *row;
    assert_non_null(root);
    json_object_foreach(json_object_get(root, "templates"), name, row) {
        char relative[256];
        snprintf(relative, sizeof relative, "tok/chat_templates/%s", name);
        const char *path = testkit_data_path(relative);
        if (path != NULL) {
            size_t bytes;
            char *text = testkit_read_file(path, &bytes);
            add(sources, text);
            free(text);
        }
    }
    json_decref(root);
}

// Random choices of one mutation: `number` and a counter make them.
struct choices {
    uint64_t number;
    uint32_t at;
};

static size_t choose(struct choices *choices, size_t n) {
    return (size_t)(rng_uniform(8, choices->number, choices->at++, 0) * (double)n);
}

// Replaces the bytes from .. to of *text, which is owned, by `count` bytes.
static void splice(char **text, size_t from, size_t to, const char *bytes, size_t count) {
    size_t length = strlen(*text);
    char *changed = malloc(length - (to - from) + count + 1);
    assert_non_null(changed);
    memcpy(changed, *text, from);
    memcpy(changed + from, bytes, count);
    memcpy(changed + from + count, *text + to, length - to + 1);
    free(*text);
    *text = changed;
}

// Changes *text once: a byte, a part left out or doubled, a piece of syntax or of another template
// put in.
static void change(char **text, const struct sources *sources, struct choices *choices) {
    size_t length = strlen(*text);
    size_t from = choose(choices, length + 1);
    size_t to = from + choose(choices, (length - from < 20 ? length - from : 20) + 1);
    const char *piece = pieces[choose(choices, sizeof pieces / sizeof *pieces)];
    const char *other = sources->texts[choose(choices, sources->count)];
    size_t start = choose(choices, strlen(other) + 1);
    size_t taken = choose(choices, (strlen(other) - start < 60 ? strlen(other) - start : 60) + 1);
    char byte = (char)(1 + choose(choices, 255));
    switch (choose(choices, 6)) {
    case 0:
        splice(text, from, to, "", 0);
        break;
    case 1: {
        char *part = strndup(*text + from, to - from);
        splice(text, from, from, part, to - from);
        free(part);
        break;
    }
    case 2:
        splice(text, from, to, &byte, 1);
        break;
    case 3:
        splice(text, from, to, other + start, taken);
        break;
    default:
        splice(text, from, choose(choices, 2) == 0 ? from : to, piece, strlen(piece));
        break;
    }
}

static uint64_t n_mutations = MUTATIONS_DEFAULT;

static void test_mutated_templates_end_with_a_text_or_an_error(void **state) {
    (void)state;
    struct sources sources = {0};
    add_vectors(&sources);
    add_real(&sources);
    for (uint64_t number = 0; number < n_mutations; number++) {
        struct choices choices = {.number = number};
        char *text = strdup(sources.texts[choose(&choices, sources.count)]);
        for (size_t n = 1 + choose(&choices, CHANGES_MAX); n > 0; n--) {
            change(&text, &sources, &choices);
        }
        assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)text, strlen(text)), 0);
        free(text);
    }
    for (size_t i = 0; i < sources.count; i++) {
        free(sources.texts[i]);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutated_templates_end_with_a_text_or_an_error),
    };
    if (argc > 1) {
        n_mutations = strtoull(argv[1], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
