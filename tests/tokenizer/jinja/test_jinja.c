// The interpreter against jinja2 as transformers calls it, on vectors of tests/parity/
// make_jinja_vectors.py; then what jinja2 does not have: origins of bytes, limits, messages,
// threads.
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/tokenizer/jinja/jinja.h"

static const struct date day = {.year = 2026, .month = 11, .day = 28};

static json_t *load(const char *path) {
    json_error_t why;
    json_t *root = json_load_file(testkit_source_path(path), JSON_ALLOW_NUL, &why);
    if (root == NULL) {
        fail_msg("%s: %s", path, why.text);
    }
    return root;
}

// Parses and renders; *output is empty where that fails.
static enum status render(const char *text, size_t bytes, const json_t *trusted, const json_t *data,
                          struct jinja_output *output, struct error *err) {
    struct jinja_template *template = NULL;
    const struct jinja_inputs inputs = {.trusted = trusted, .data = data, .date = day};
    *output = (struct jinja_output){0};
    enum status status = jinja_parse(text, bytes, &template, err);
    if (status == STATUS_OK) {
        status = jinja_render(template, &inputs, output, err);
    }
    jinja_close(template);
    return status;
}

static void check_case(const json_t *variables, const json_t *row) {
    struct jinja_output output;
    struct error err = {0};
    const json_t *text = json_object_get(row, "template");
    const json_t *wanted = json_object_get(row, "text");
    enum status status =
        render(json_string_value(text), json_string_length(text), variables, NULL, &output, &err);
    bool same = wanted != NULL && json_is_string(wanted) && status == STATUS_OK &&
                output.bytes == json_string_length(wanted) &&
                memcmp(output.text, json_string_value(wanted), output.bytes) == 0;
    if (json_is_true(json_object_get(row, "refused"))) {
        same = status == STATUS_UNSUPPORTED;
    } else if (json_is_null(wanted)) {
        same = status == STATUS_MALFORMED || status == STATUS_INVALID_ARGUMENT;
    }
    if (!same) {
        fail_msg("%s\nwanted %s\ngot %s %s %.*s", json_string_value(text),
                 json_is_string(wanted) ? json_string_value(wanted) : "a failure",
                 status_name(status), err.message, (int)output.bytes,
                 output.text == NULL ? "" : output.text);
    }
    jinja_output_finish(&output);
}

static void test_constructs_give_what_jinja2_gives(void **state) {
    (void)state;
    json_t *root = load("tests/vectors/jinja/cases.json");
    json_t *row;
    size_t i;
    assert_true(json_array_size(json_object_get(root, "cases")) > 250);
    json_array_foreach(json_object_get(root, "cases"), i, row) {
        check_case(json_object_get(root, "variables"), row);
    }
    json_decref(root);
}

static uint64_t fnv1a(const char *bytes, size_t count) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 0x100000001B3u;
    }
    return hash;
}

// One template over the conversations; `wanted` has a hash or null for each.
static void check_real(const json_t *root, const char *name, const json_t *wanted) {
    char relative[256];
    snprintf(relative, sizeof relative, "tok/chat_templates/%s", name);
    const char *path = testkit_data_path(relative);
    if (path == NULL) {
        testkit_note_missing(relative);
        skip();
    }
    size_t bytes;
    char *text = testkit_read_file(path, &bytes);
    const json_t *conversations = json_object_get(root, "conversations");
    for (size_t i = 0; i < json_array_size(conversations); i++) {
        struct jinja_output output;
        struct error err = {0};
        char hash[17] = "";
        const json_t *expected = json_array_get(wanted, i);
        enum status status = render(text, bytes, json_object_get(root, "trusted"),
                                    json_array_get(conversations, i), &output, &err);
        if (json_is_null(expected)) {
            assert_status(STATUS_INVALID_ARGUMENT, status);
            continue;
        }
        assert_ok(status, &err);
        snprintf(hash, sizeof hash, "%016llx",
                 (unsigned long long)fnv1a(output.text, output.bytes));
        if (strcmp(hash, json_string_value(expected)) != 0) {
            fail_msg("%s, conversation %zu: %.*s", name, i, (int)output.bytes, output.text);
        }
        jinja_output_finish(&output);
    }
    free(text);
}

static void test_templates_of_models_give_what_jinja2_gives(void **state) {
    (void)state;
    json_t *root = load("tests/vectors/jinja/real.json");
    const char *name;
    json_t *wanted;
    json_object_foreach(json_object_get(root, "templates"), name, wanted) {
        check_real(root, name, wanted);
    }
    json_decref(root);
}

// Renders with `data` and gives the text with ^ where content begins and ends.
static char *marked(const char *text, const char *data) {
    struct jinja_output output;
    struct error err = {0};
    json_error_t why;
    json_t *given = json_loads(data, 0, &why);
    json_t *trusted = json_pack("{ss}", "bos_token", "<s>");
    assert_non_null(given);
    assert_ok(render(text, strlen(text), trusted, given, &output, &err), &err);
    char *result = calloc(1, output.bytes + 2 * output.n_segments + 1);
    size_t total = 0;
    for (size_t i = 0; i < output.n_segments; i++) {
        const struct jinja_segment *segment = &output.segments[i];
        assert_true(segment->bytes > 0);
        assert_true(i == 0 || segment->content != output.segments[i - 1].content);
        strcat(result, segment->content ? "^" : "");
        strncat(result, segment->text, segment->bytes);
        strcat(result, segment->content ? "^" : "");
        total += segment->bytes;
    }
    assert_int_equal(total, output.bytes);
    jinja_output_finish(&output);
    json_decref(given);
    json_decref(trusted);
    return result;
}

static void test_every_operation_keeps_where_a_byte_comes_from(void **state) {
    (void)state;
    static const char data[] =
        "{\"c\": \" ab,cd \", \"n\": 5, \"s\": \"42\", \"m\": [{\"role\": \"user\", "
        "\"content\": \"hi\"}, {\"role\": \"<s>\", \"content\": \"ho\"}]}";
    static const char *const rows[][2] = {
        {"{{ bos_token }}x{{ c }}y", "<s>x^ ab,cd ^y"},
        {"{{ '<' + c + '>' }}", "<^ ab,cd ^>"},
        {"{{ '<' ~ c|trim ~ '>' }}", "<^ab,cd^>"},
        {"{{ c[1:3] }}{{ c[::-1] }}{{ c[1] }}", "^ab dc,ba a^"},
        {"{{ ('<' ~ c ~ '>')[::-1] }}", ">^ dc,ba ^<"},
        {"{{ c.upper() }}{{ c|title }}{{ c.strip().capitalize() }}", "^ AB,CD  Ab,cd Ab,cd^"},
        {"{{ c.split(',')[0] }}-{{ c.split(',')|last }}", "^ ab^-^cd ^"},
        {"{{ '|'.join(c.split(',')) }}", "^ ab^|^cd ^"},
        {"{{ c.split(',')|join('|') }}", "^ ab^|^cd ^"},
        {"{{ c.replace(',', '<s>') }}", "^ ab^<s>^cd ^"},
        {"{{ 'x,y'.replace(',', c) }}", "x^ ab,cd ^y"},
        {"{{ c|tojson }}{{ ['a', c]|tojson }}", "^\" ab,cd \"^[\"a\", ^\" ab,cd \"^]"},
        {"{{ ['a', c] }}", "['a', ^' ab,cd '^]"},
        {"{{ n }} {{ n + 1 }} {{ 1 }} {{ -n }}", "^5^ ^6^ 1 ^-5^"},
        {"{{ '%s|%d|%s' % (c, n, 'k') }}", "^ ab,cd ^|^5^|k"},
        {"{{ '{}|{}'.format(c, 'k') }}", "^ ab,cd ^|k"},
        {"{{ c|indent(2, true) }}", "  ^ ab,cd ^"},
        {"{% set x %}<{{ c }}>{% endset %}{{ x }}", "<^ ab,cd ^>"},
        {"{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(c)|upper }}", "<^ AB,CD ^>"},
        {"{% filter trim %}{{ c }}{% endfilter %}", "^ab,cd^"},
        {"{% set ns = namespace(t='<') %}{% set ns.t = ns.t + c %}{{ ns.t }}", "<^ ab,cd ^"},
        {"{% for ch in c[:3] %}{{ ch }}.{% endfor %}", "^ ^.^a^.^b^."},
        {"{{ '7'|int }}{{ s|int }}", "7^42^"},
        {"{% for m in m %}<|{{ m.role }}|>{{ m.content }}{% endfor %}",
         "<|user|>^hi^<|^<s>^|>^ho^"},
        {"{{ m[0] }}", "{^'role'^: 'user', ^'content'^: ^'hi'^}"},
        {"{{ {'a': 'x'}[c] or c }}", "^ ab,cd ^"},
        {"{{ c|e }}{{ '<'|e }}", "^ ab,cd ^&lt;"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text = marked(rows[i][0], data);
        assert_string_equal(rows[i][1], text);
        free(text);
    }
}

static void check_refused(const char *text, enum status wanted, const char *part) {
    struct jinja_output output;
    struct error err = {0};
    json_t *data = json_object();
    enum status status = render(text, strlen(text), NULL, data, &output, &err);
    json_decref(data);
    assert_status(wanted, status);
    assert_string_equal("chat_template", err.field);
    if (strstr(err.message, part) == NULL) {
        fail_msg("%s: \"%s\" lacks \"%s\"", text, err.message, part);
    }
}

static void test_messages_name_place_and_reason(void **state) {
    (void)state;
    check_refused("a\n  {{ 1 + }}", STATUS_MALFORMED, "line 2, column 10: expected an expression");
    check_refused("{% if x %}\n\n", STATUS_MALFORMED, "endif");
    check_refused("a\nb {% include 'x' %}", STATUS_UNSUPPORTED,
                  "line 2, column 6: the tag 'include'");
    check_refused("{{ x|pprint }}", STATUS_UNSUPPORTED, "the filter 'pprint' is not interpreted");
    check_refused("{{ x|nothing }}", STATUS_MALFORMED, "there is no filter 'nothing'");
    check_refused("\n\n{{ raise_exception('only users') }}", STATUS_INVALID_ARGUMENT,
                  "line 3: the template refuses the messages: only users");
    check_refused("{{ x.y }}", STATUS_INVALID_ARGUMENT, "line 1: 'x' is undefined");
    check_refused("{{ {}.y.z }}", STATUS_INVALID_ARGUMENT, "'dict object' has no attribute 'y'");
    check_refused("{{ [].append(1) }}", STATUS_INVALID_ARGUMENT, "is unsafe");
    check_refused("{{ ''.__class__.x }}", STATUS_INVALID_ARGUMENT, "is unsafe");
    check_refused("{{ '\xff' }}", STATUS_MALFORMED, "line 1, column 5: not UTF-8");
    check_refused("{{ 'abc }}", STATUS_MALFORMED, "the string does not end");
}

static char *repeated(const char *before, const char *part, size_t times, const char *after) {
    size_t bytes = strlen(part);
    char *text = malloc(strlen(before) + times * bytes + strlen(after) + 1);
    char *at = stpcpy(text, before);
    for (size_t i = 0; i < times; i++) {
        at = stpcpy(at, part);
    }
    strcpy(at, after);
    return text;
}

static void check_repeated(const char *before, const char *part, size_t times, const char *after,
                           const char *reason) {
    char *text = repeated(before, part, times, after);
    check_refused(text, STATUS_LIMIT, reason);
    free(text);
}

static void test_what_grows_without_end_is_stopped(void **state) {
    (void)state;
    check_refused("{% set x = 'b' * 6400000 %}{% for i in range(999) %}{{ 'a' in x }}{% endfor %}",
                  STATUS_LIMIT, "steps");
    check_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", STATUS_LIMIT, "deep");
    check_refused("{% set ns = namespace(x='ab') %}{% for i in range(99) %}"
                  "{% set ns.x = ns.x + ns.x %}{% endfor %}",
                  STATUS_LIMIT, "bytes");
    check_refused("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", STATUS_LIMIT, "output");
    check_refused("{{ 'a' * 999999999999 }}", STATUS_LIMIT, "bytes");
    check_refused("{{ [1] * 999999999 }}", STATUS_LIMIT, "bytes");
    check_refused("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", STATUS_LIMIT, "deep");
    check_refused("{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}"
                  "{% endfor %}{{ ns.x|tojson }}",
                  STATUS_LIMIT, "deep");
    check_refused("{{ '%9999s' % 1 }}", STATUS_LIMIT, "width");
    check_repeated("{{ ", "(", 5000, "", "");
    check_repeated("{{ ", "[", 500, "", "nested");
    check_repeated("{{ ", "not ", 5000, "x }}", "nested");
    check_repeated("{{ ", "-", 5000, "1 }}", "nested");
    check_repeated("{{ 1", " + 1", 5000, " }}", "nested");
    check_repeated("{{ x", ".a", 5000, " }}", "nested");
    check_repeated("{{ x", "|e", 5000, " }}", "nested");
    check_repeated("", "{% if 1 %}", 5000, "", "nested");
    check_repeated("{{ ", "1 if 1 else ", 5000, "1 }}", "nested");
    check_repeated("{{ 'a'|map(", "'map',", 5000, "'e')|list }}", "deep");
    check_repeated("{{ x ~ ", "'a' ~ ", 1 << 18, "x }}", "above the limit");
}

static void test_names_that_a_template_reads_are_known(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool reads; // the name v
    } rows[] = {
        {"v {{ x.v }}{{ x['v'] }}{{ f(v=1) }}{% set x.v = 1 %}", false},
        {"{% if v %}{{ x.documents }}{% endif %}", true},
        {"{% if x and (v is defined and v is false) %}a{% endif %}", true},
        {"{% set v = 1 %}{{ v }}", false},
        {"{% set v = v or 1 %}", true},
        {"{{ v }}{% set v = 1 %}", true},
        {"{% if v is not defined %}{% set v = true %}{% endif %}", true},
        {"{% if x %}{% set v = 1 %}{% endif %}{{ v }}", true},
        {"{% if x %}{% set v = 1 %}{{ v }}{% endif %}", false},
        {"{% if x %}{% set v = 1 %}{% else %}{{ v }}{% endif %}", true},
        {"{% if x %}{% set v = 1 %}{% elif y %}{% set v = 2 %}{% else %}{% set v = 3 %}{% endif %}"
         "{{ v }}{% for i in x %}{{ v }}{% endfor %}",
         false},
        {"{% if x %}{% set v = 1 %}{% elif y %}{% else %}{% set v = 3 %}{% endif %}{{ v }}", true},
        {"{% for v in x %}{{ v }}{% endfor %}", false},
        {"{% for y in v %}{{ y }}{% endfor %}{% for v, w in x %}{% endfor %}", true},
        {"{% for y in x if y == v %}{% endfor %}", true},
        {"{% for y in x %}{% set v = 1 %}{% endfor %}{{ v }}", true},
        {"{% for y in x %}{{ v }}{% endfor %}{% set v = 1 %}", false}, // as jinja2 compiles it
        {"{% macro v(a) %}{{ a }}{% endmacro %}{{ v(1) }}", false},
        {"{% macro m(v) %}{{ v }}{% endmacro %}{{ m(1) }}", false},
        {"{% macro m(a=v) %}{{ a }}{% endmacro %}", true},
        {"{% with v = 1 %}{{ v }}{% endwith %}", false},
        {"{{ 'a' if v else 'b' }}", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct jinja_template *template = NULL;
        struct error err = {0};
        assert_ok(jinja_parse(rows[i].text, strlen(rows[i].text), &template, &err), &err);
        if (jinja_reads(template, "v") != rows[i].reads) {
            fail_msg("%s: %s", rows[i].text, rows[i].reads ? "not read" : "read");
        }
        jinja_close(template);
    }
}

enum { THREADS = 4, RENDERINGS = 50 };

struct shared_rendering {
    const struct jinja_template *template;
    const json_t *data;
    bool equal;
};

static void *render_many(void *argument) {
    struct shared_rendering *shared = argument;
    const struct jinja_inputs inputs = {.data = shared->data, .date = day};
    shared->equal = true;
    for (int i = 0; i < RENDERINGS; i++) {
        struct jinja_output output = {0};
        struct error err;
        enum status status = jinja_render(shared->template, &inputs, &output, &err);
        shared->equal = shared->equal && status == STATUS_OK && output.bytes == 9 &&
                        memcmp(output.text, "USER: hi\n", 9) == 0;
        jinja_output_finish(&output);
    }
    return NULL;
}

static void test_threads_render_one_template_at_the_same_time(void **state) {
    (void)state;
    static const char text[] = "{% macro f(m) %}{{ m.role|upper }}: {{ m.content|trim }}\n"
                               "{% endmacro %}{% set ns = namespace(t='') %}"
                               "{% for m in messages %}{% set ns.t = ns.t + f(m) %}{% endfor %}"
                               "{{ ns.t }}";
    struct jinja_template *template = NULL;
    struct error err = {0};
    pthread_t threads[THREADS];
    struct shared_rendering shared[THREADS];
    json_t *data = json_pack("{s[{ssss}]}", "messages", "role", "user", "content", " hi ");
    assert_ok(jinja_parse(text, strlen(text), &template, &err), &err);
    for (int i = 0; i < THREADS; i++) {
        shared[i] = (struct shared_rendering){.template = template, .data = data};
        assert_int_equal(pthread_create(&threads[i], NULL, render_many, &shared[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(shared[i].equal);
    }
    jinja_close(template);
    json_decref(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constructs_give_what_jinja2_gives),
        cmocka_unit_test(test_templates_of_models_give_what_jinja2_gives),
        cmocka_unit_test(test_every_operation_keeps_where_a_byte_comes_from),
        cmocka_unit_test(test_messages_name_place_and_reason),
        cmocka_unit_test(test_what_grows_without_end_is_stopped),
        cmocka_unit_test(test_names_that_a_template_reads_are_known),
        cmocka_unit_test(test_threads_render_one_template_at_the_same_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
