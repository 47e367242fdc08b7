// Reading a sweep's items, and their names.
#include "client/cli/items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/item_key.h"
#include "tests/support/testkit.h"

static enum status read_text(const char *name, const char *text, const char *column,
                             struct items *items, struct error *err) {
    char *directory = testkit_make_directory();
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    testkit_write_file(path, text, strlen(text));
    enum status status = items_read(path, column, items, err);
    testkit_remove_tree(directory);
    return status;
}

static void test_json_lines_keep_id_and_other_fields(void **state) {
    (void)state;
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl",
                        "{\"id\":\"x\",\"prompt\":\"hello\",\"tag\":[1]}\n\n"
                        "{\"goal\":\"second\"}\n"
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"third\"}]}",
                        NULL, &items, &err),
              &err);
    assert_int_equal(items.count, 3);
    assert_string_equal(json_string_value(items.rows[0].id), "x");
    assert_string_equal(items.rows[0].prompt, "hello");
    assert_int_equal(json_array_size(json_object_get(items.rows[0].source, "tag")), 1);
    assert_null(json_object_get(items.rows[0].source, "id"));
    assert_int_equal(json_integer_value(items.rows[1].id), 2);
    assert_string_equal(items.rows[1].prompt, "second");
    assert_int_equal(items.rows[1].line, 3);
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    Surefoot__ChatMessage rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *list[LIMIT_MESSAGES];
    item_set_prompt(&items.rows[2], &spec, rows, list);
    assert_null(spec.prompt);
    assert_int_equal(spec.n_messages, 1);
    assert_string_equal(spec.messages[0]->content, "third");
    items_finish(&items);
}

static void test_csv_finds_the_prompt_column(void **state) {
    (void)state;
    struct items items;
    struct error err;
    assert_ok(read_text("a.csv", "Behavior,Category\r\n\"do, this\",x\r\n", NULL, &items, &err),
              &err);
    assert_string_equal(items.rows[0].prompt, "do, this");
    assert_string_equal(json_string_value(json_object_get(items.rows[0].source, "Category")), "x");
    items_finish(&items);
    assert_ok(read_text("a.CSV", "q,Behavior\nwhy,x\n", "q", &items, &err), &err);
    assert_string_equal(items.rows[0].prompt, "why");
    items_finish(&items);
}

static void expect_refused(const char *name, const char *text, enum status expected,
                           const char *field) {
    struct items items;
    struct error err;
    assert_status(expected, read_text(name, text, NULL, &items, &err));
    assert_string_equal(err.field, field);
    items_finish(&items);
}

static void test_bad_lines_are_named(void **state) {
    (void)state;
    expect_refused("a.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\n", STATUS_MALFORMED, "line 2");
    expect_refused("a.jsonl", "[1]\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.jsonl", "{\"prompt\":\"a\xFF\"}\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.jsonl", "{\"prompt\":\"a\\u0000\"}\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.jsonl", "{\"prompt\":\"\"}\n", STATUS_LIMIT, "line 1");
    expect_refused("a.jsonl", "{\"prompt\":7}\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.jsonl", "{\"text\":\"a\"}\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.jsonl", "{\"messages\":[]}\n", STATUS_LIMIT, "line 1");
    expect_refused("a.jsonl", "{\"messages\":[{\"role\":\"user\"}]}\n", STATUS_MALFORMED, "line 1");
    expect_refused("a.csv", "prompt,b\nx,y\nz\n", STATUS_MALFORMED, "line 3");
    expect_refused("a.csv", "prompt\n\xFF\n", STATUS_MALFORMED, "line 2");
    expect_refused("a.csv", "other\nx\n", STATUS_MALFORMED, "line 2");
}

static void test_overlong_prompt_is_refused(void **state) {
    (void)state;
    size_t size = LIMIT_PROMPT_BYTES + 1;
    char *text = malloc(size + 64);
    assert_non_null(text);
    int head = sprintf(text, "{\"prompt\":\"");
    memset(text + head, 'a', size);
    sprintf(text + head + size, "\"}\n");
    expect_refused("a.jsonl", text, STATUS_LIMIT, "line 1");
    free(text);
}

static void test_missing_and_empty_files_are_refused(void **state) {
    (void)state;
    struct items items;
    struct error err;
    assert_status(STATUS_NOT_FOUND, items_read("/nonexistent/a.jsonl", NULL, &items, &err));
    items_finish(&items);
    assert_status(STATUS_MALFORMED, read_text("a.jsonl", "\n \n", NULL, &items, &err));
    items_finish(&items);
    assert_status(STATUS_MALFORMED, read_text("a.csv", "", NULL, &items, &err));
    items_finish(&items);
}

static struct item_key *keys_of(const char *text, const char *method, uint64_t seed, char *hash) {
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl", text, NULL, &items, &err), &err);
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.method = (char *)method;
    spec.has_seed = 1;
    spec.seed = seed;
    Surefoot__ModelInfo model = SUREFOOT__MODEL_INFO__INIT;
    model.hash = hash;
    Surefoot__ModelInfo *models[] = {&model};
    Surefoot__GroupStatus group = SUREFOOT__GROUP_STATUS__INIT;
    group.alive = 1;
    group.n_models = 1;
    group.models = models;
    Surefoot__GroupStatus *groups[] = {&group};
    Surefoot__ServiceStatus service = SUREFOOT__SERVICE_STATUS__INIT;
    service.n_groups = 1;
    service.groups = groups;
    struct item_key *keys = NULL;
    assert_ok(item_keys_make(&items, &spec, &service, &keys, &err), &err);
    items_finish(&items);
    return keys;
}

static void test_keys_tell_what_differs(void **state) {
    (void)state;
    const char *text = "{\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n"
                       "{\"id\":1,\"prompt\":\"a\"}\n{\"id\":\"1\",\"prompt\":\"a\"}\n";
    struct item_key *base = keys_of(text, "sample", 1, "h");
    struct item_key *again = keys_of(text, "sample", 1, "h");
    struct item_key *method = keys_of(text, "beam", 1, "h");
    struct item_key *seed = keys_of(text, "sample", 2, "h");
    struct item_key *model = keys_of(text, "sample", 1, "i");
    for (int i = 0; i < 4; i++) {
        assert_string_equal(base[i].text, again[i].text);
        assert_string_not_equal(base[i].text, method[i].text);
        assert_string_not_equal(base[i].text, seed[i].text);
        assert_string_not_equal(base[i].text, model[i].text);
        assert_true(base[i].seed == method[i].seed); // methods are compared on the same draws
        assert_true(base[i].seed != seed[i].seed);
        assert_true(base[i].seed < (uint64_t)1 << 53);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(base[i].text, base[j].text);
        }
    }
    free(base);
    free(again);
    free(method);
    free(seed);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines_keep_id_and_other_fields),
        cmocka_unit_test(test_csv_finds_the_prompt_column),
        cmocka_unit_test(test_bad_lines_are_named),
        cmocka_unit_test(test_overlong_prompt_is_refused),
        cmocka_unit_test(test_missing_and_empty_files_are_refused),
        cmocka_unit_test(test_keys_tell_what_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
