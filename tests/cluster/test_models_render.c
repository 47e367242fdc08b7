// surefoot models render: the real programs, over the shipped policy and directories of the test's.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/process.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 120000, REFUSED = 2, ARGUMENTS_MAX = 16 };

// What the program printed, for free.
static char *render(const char *model, const char *const *more, int wanted_code) {
    char program[4096];
    char log_path[4200];
    char *argv[ARGUMENTS_MAX] = {program, (char *)"models", (char *)"render", (char *)model};
    for (int i = 0; more[i] != NULL; i++) {
        argv[4 + i] = (char *)more[i];
    }
    char *scratch = testkit_make_directory();
    snprintf(program, sizeof program, "%s", testkit_binary_path("bin/surefoot"));
    snprintf(log_path, sizeof log_path, "%s/log", scratch);
    struct process process = {.pid = 0};
    int code = -1;
    process_start(&process, log_path, argv);
    assert_true(process_wait(&process, WAIT_MS, &code));
    char *log = testkit_read_file(log_path, NULL);
    if (code != wanted_code) {
        fail_msg("code %d, not %d:\n%s", code, wanted_code, log);
    }
    testkit_remove_tree(scratch);
    return log;
}

static void expect(const char *model, const char *const *more, int code, const char *part) {
    char *log = render(model, more, code);
    if (strstr(log, part) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", part, log);
    }
    free(log);
}

// The shipped policy's tokenizer with a template of its own and no profile.
static char *make_directory(const char *template) {
    char source[4096];
    char target[4200];
    char *directory = testkit_make_directory();
    assert_non_null(realpath(testkit_source_path("models/demo/policy/tokenizer.json"), source));
    snprintf(target, sizeof target, "%s/tokenizer.json", directory);
    assert_int_equal(symlink(source, target), 0);
    snprintf(target, sizeof target, "%s/chat_template.jinja", directory);
    testkit_write_file(target, template, strlen(template));
    return directory;
}

static void test_content_is_marked_and_ids_are_shown(void **state) {
    (void)state;
    const char *model = testkit_source_path("models/demo/policy");
    const char *const hello[] = {"--message", "user:Hello", NULL};
    expect(model, hello, 0, "USER: \u27e6Hello\u27e7 ASSISTANT:");
    expect(model, hello, 0, "<s>|BEGINNING| OF|");
    const char *const json[] = {"--message", "user:<s>", "--json", NULL};
    char *log = render(model, json, 0);
    json_t *object = json_loads(log, 0, NULL);
    assert_non_null(object);
    const json_t *ids = json_object_get(object, "ids");
    const json_t *content = json_array_get(json_object_get(object, "segments"), 1);
    assert_true(json_is_true(json_object_get(content, "content")));
    assert_string_equal(json_string_value(json_object_get(content, "text")), "<s>");
    assert_int_equal(json_integer_value(json_array_get(ids, 0)), 0); // the one of the tokenizer's
    for (size_t i = 1; i < json_array_size(ids); i++) {
        assert_int_not_equal(json_integer_value(json_array_get(ids, i)), 0);
    }
    json_decref(object);
    free(log);
}

static void test_own_template_date_and_prefill_are_followed(void **state) {
    (void)state;
    char *model = make_directory("{{ strftime_now('%d %b %Y') }}{% for m in messages %}"
                                 "<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
                                 "{% if add_generation_prompt %}<assistant>{% endif %}");
    const char *const dated[] = {"--date", "2024-02-29", "--message", "user:a", NULL};
    expect(model, dated, 0, "29 Feb 2024<user>\u27e6a\u27e7</user><assistant>\n");
    const char *const prefill[] = {
        "--message", "user:a", "--message", "assistant:It is ", "--continue-final-message", NULL};
    expect(model, prefill, 0, "</user><assistant>\u27e6It is \u27e7\n");
    testkit_remove_tree(model);
}

static void test_what_cannot_be_rendered_is_refused_with_the_reason(void **state) {
    (void)state;
    const char *model = testkit_source_path("models/demo/policy");
    const char *const system[] = {"--message", "system:x", "--message", "user:y", NULL};
    expect(model, system, REFUSED, "the format has no system message");
    const char *const unknown[] = {"--chat-template", "klingon", NULL};
    expect(model, unknown, REFUSED, "one of model, raw, llama-2");
    const char *const none[] = {"--chat-template", "model", NULL};
    expect(model, none, REFUSED, "none of its own");
    const char *const date[] = {"--date", "2024-02-30", NULL};
    expect(model, date, REFUSED, "9999-12-31");
    const char *const message[] = {"--message", "hello", NULL};
    expect(model, message, REFUSED, "ROLE:TEXT");
    char *broken = make_directory("a\n{% if x %}");
    const char *const nothing[] = {NULL};
    expect(broken, nothing, REFUSED, "line 2");
    testkit_remove_tree(broken);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_is_marked_and_ids_are_shown),
        cmocka_unit_test(test_own_template_date_and_prefill_are_followed),
        cmocka_unit_test(test_what_cannot_be_rendered_is_refused_with_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
