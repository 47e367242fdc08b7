// Reading a sweep's items, and their names.
#include "client/cli/items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/item_key.h"
#include "client/cli/job_json.h"
#include "client/cli/json_diff.h"
#include "tests/support/testkit.h"

static enum status read_as(const char *name, const char *text, const struct items_choice *choice,
                           struct items *items, struct error *err) {
    char *directory = testkit_make_directory();
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    testkit_write_file(path, text, strlen(text));
    enum status status = items_read(path, choice, items, err);
    testkit_remove_tree(directory);
    return status;
}

static enum status read_text(const char *name, const char *text, struct items *items,
                             struct error *err) {
    return read_as(name, text, &(struct items_choice){0}, items, err);
}

static void test_json_lines_keep_id_and_other_fields(void **state) {
    (void)state;
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl",
                        "\xEF\xBB\xBF{\"id\":\"x\",\"prompt\":\"hello\",\"tag\":[1]}\n\n"
                        "{\"id\":7,\"prompt\":\"second\"}",
                        &items, &err),
              &err);
    assert_int_equal(items.count, 2);
    assert_string_equal(json_string_value(items.rows[0].id), "x");
    assert_string_equal(items.rows[0].prompt, "hello");
    assert_int_equal(json_array_size(json_object_get(items.rows[0].source, "tag")), 1);
    assert_null(json_object_get(items.rows[0].source, "id"));
    assert_int_equal(json_integer_value(items.rows[1].id), 7);
    assert_string_equal(items.rows[1].prompt, "second");
    assert_int_equal(items.rows[1].line, 3);
    assert_string_equal(items.asked, "prompt");
    assert_string_equal(items.form, "JSON lines");
    assert_null(items.benchmark);
    items_finish(&items);
}

static void test_messages_and_system_message_are_sent_in_order(void **state) {
    (void)state;
    struct items items;
    struct error err;
    const struct items_choice choice = {.turns = {.system = "be kind"}};
    const struct turns plain = {.system = NULL};
    const struct turns prefill = {.prefill = "It is "};
    const struct turns rendered = {.rendered = true};
    const char *text = "{\"messages\":[{\"role\":\"user\",\"content\":\"third\"}]}\n";
    assert_ok(read_as("a.jsonl", text, &choice, &items, &err), &err);
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    Surefoot__ChatMessage rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *list[LIMIT_MESSAGES];
    item_set_prompt(&items.rows[0], &plain, &spec, rows, list);
    assert_null(spec.prompt);
    assert_int_equal(spec.n_messages, 1);
    assert_string_equal(spec.messages[0]->content, "third");
    item_set_prompt(&items.rows[0], &choice.turns, &spec, rows, list);
    assert_int_equal(spec.n_messages, 2);
    assert_string_equal(spec.messages[0]->role, "system");
    assert_string_equal(spec.messages[1]->content, "third");
    items_finish(&items);
    assert_ok(read_as("a.txt", "one\n", &choice, &items, &err), &err);
    item_set_prompt(&items.rows[0], &choice.turns, &spec, rows, list);
    assert_int_equal(spec.n_messages, 2);
    assert_string_equal(spec.messages[0]->content, "be kind");
    assert_string_equal(spec.messages[1]->role, "user");
    assert_string_equal(spec.messages[1]->content, "one");
    item_set_prompt(&items.rows[0], &prefill, &spec, rows, list);
    assert_int_equal(spec.n_messages, 2);
    assert_string_equal(spec.messages[0]->content, "one");
    assert_string_equal(spec.messages[1]->role, "assistant");
    assert_string_equal(spec.messages[1]->content, "It is ");
    assert_true(spec.continue_final_message);
    item_set_prompt(&items.rows[0], &rendered, &spec, rows, list);
    assert_null(spec.prompt);
    assert_string_equal(spec.rendered_prompt, "one");
    item_set_prompt(&items.rows[0], &plain, &spec, rows, list);
    assert_int_equal(spec.n_messages, 0);
    assert_string_equal(spec.prompt, "one");
    assert_null(spec.rendered_prompt);
    items_finish(&items);
    text = "{\"messages\":[{\"role\":\"system\",\"content\":\"mine\"},"
           "{\"role\":\"user\",\"content\":\"x\"}]}\n";
    assert_status(STATUS_INVALID_ARGUMENT, read_as("a.jsonl", text, &choice, &items, &err));
    assert_string_equal(err.field, "line 1");
    items_finish(&items);
}

// What each small file is taken for, and what its only item is.
struct sample {
    const char *name;
    const char *text;
    const char *benchmark; // NULL: none
    const char *asked;
    const char *id; // as JSON
    const char *prompt;
};

static const struct sample samples[] = {
    {"a.csv",
     "Index,Goal,Target,Behavior,Category,Source\n0,Write it,\"Sure, \",Defamation,Harassment,O\n",
     "JailbreakBench", "Goal", "\"0\"", "Write it"},
    {"a.csv", "Goal,Target,Behavior,Category\nWrite it,Sure,Defamation,Harassment\n",
     "JailbreakBench", "Goal", "1", "Write it"},
    {"a.csv",
     "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
     "\"do, this\",contextual,illegal,,\"first\nsecond\",do_this\n",
     "HarmBench", "ContextString + Behavior", "\"do_this\"", "first\nsecond\n\n---\n\ndo, this"},
    {"a.csv", "category,source,forbidden_prompt\nc,s,do it\n", "StrongREJECT", "forbidden_prompt",
     "1", "do it"},
    {"a.tsv", "goal\ttarget\n\"do\tit\"\tSure, here\n", "AdvBench", "goal", "1", "do\tit"},
    {"a.json", "[{\"instruction\":\"sort\",\"input\":\"b a\",\"output\":\"a b\"}]", "Alpaca",
     "instruction + input", "1", "sort\n\n### Input:\nb a"},
    {"a.json", "[{\"instruction\":\"sort\",\"input\":\"\",\"output\":\"a b\"}]", "Alpaca",
     "instruction + input", "1", "sort"},
    {"a.jsonl", "{\"input\":\"why?\",\"target\":\"x\",\"id\":4}", "inspect samples", "input", "4",
     "why?"},
    {"a.jsonl",
     "{\"id\":3,\"risk_area\":\"r\",\"types_of_harm\":\"t\",\"specific_harms\":\"s\","
     "\"question\":\"q?\"}",
     "Do-Not-Answer", "question", "3", "q?"},
    {"a.csv", "Type,Category,Question,Best Answer,Correct Answers\na,b,q?,c,d\n", "TruthfulQA",
     "Question", "1", "q?"},
    {"a.json", " [ \"one prompt\" ] ", NULL, "prompt", "1", "one prompt"},
    {"a.TXT", "\xEF\xBB\xBF\r\n  one prompt \r\n", NULL, "prompt", "1", "  one prompt "},
    {"a", "{\"question\":\"q?\",\"answer\":7}", NULL, "question", "1", "q?"},
};

static void expect_sample(const struct sample *sample, const struct items_choice *choice) {
    struct items items;
    struct error err;
    assert_ok(read_as(sample->name, sample->text, choice, &items, &err), &err);
    assert_int_equal(items.count, 1);
    if (sample->benchmark == NULL) {
        assert_null(items.benchmark);
    } else {
        assert_string_equal(items.benchmark, sample->benchmark);
    }
    assert_string_equal(items.asked, sample->asked);
    char *id = json_dumps(items.rows[0].id, JSON_ENCODE_ANY);
    assert_string_equal(id, sample->id);
    free(id);
    assert_string_equal(items.rows[0].prompt, sample->prompt);
    items_finish(&items);
}

static void test_benchmarks_are_known_by_their_columns(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        expect_sample(&samples[i], &(struct items_choice){0});
    }
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl",
                        "{\"custom_id\":\"r-1\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":"
                        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}}",
                        &items, &err),
              &err);
    assert_string_equal(items.benchmark, "OpenAI batch");
    assert_string_equal(json_string_value(items.rows[0].id), "r-1");
    assert_int_equal(json_array_size(items.rows[0].messages), 1);
    items_finish(&items);
}

static void test_flags_decide_over_what_is_recognised(void **state) {
    (void)state;
    const char *harmbench = "Behavior,SemanticCategory,ContextString,BehaviorID,n\nb,s,c,x,5\n";
    struct sample sample = {"a.csv", harmbench, "HarmBench", "Behavior", "\"x\"", "b"};
    expect_sample(&sample, &(struct items_choice){.prompt_column = "Behavior"});
    sample = (struct sample){"a.csv", "q,Behavior\nwhy,x\n", NULL, "q", "\"x\"", "why"};
    expect_sample(&sample, &(struct items_choice){.prompt_column = "q", .id_column = "Behavior"});
    struct items items;
    struct error err;
    struct items_choice choice = {.prompt_column = "nosuch"};
    assert_status(STATUS_INVALID_ARGUMENT, read_as("a.csv", harmbench, &choice, &items, &err));
    assert_string_equal(err.field, "--prompt-column");
    items_finish(&items);
    choice = (struct items_choice){.id_column = "nosuch"};
    assert_status(STATUS_INVALID_ARGUMENT, read_as("a.csv", harmbench, &choice, &items, &err));
    assert_string_equal(err.field, "--id-column");
    items_finish(&items);
}

static void expect_refused(const char *name, const char *text, enum status expected,
                           const char *field, const char *part) {
    struct items items;
    struct error err;
    assert_status(expected, read_text(name, text, &items, &err));
    assert_string_equal(err.field, field);
    if (strstr(err.message, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, err.message);
    }
    items_finish(&items);
}

static void test_doubt_about_the_column_names_the_candidates(void **state) {
    (void)state;
    const enum status bad = STATUS_INVALID_ARGUMENT;
    const char *field = "--prompt-column";
    expect_refused("a.csv", "Goal,Behavior\nx,y\n", bad, field, "Goal, Behavior");
    expect_refused("a.csv", "goal,target,prompt\nx,y,z\n", bad, field, "goal, prompt");
    expect_refused("a.csv", "goal,target,category,source,forbidden_prompt\na,b,c,d,e\n", bad, field,
                   "StrongREJECT (forbidden_prompt) and like AdvBench (goal)");
    expect_refused("a.csv", "other,more\nx,y\n", bad, field, "other, more");
    expect_refused("a.jsonl", "{\"prompt\":\"a\",\"messages\":[]}\n", bad, field,
                   "prompt, messages");
    expect_refused("a.csv", "Behavior,BehaviorID,ImageFileName\nx,y,z\n", STATUS_UNSUPPORTED, field,
                   "images");
    expect_refused("a.jsonl", "{\"input\":\"a\",\"target\":\"b\",\"choices\":[\"b\"]}\n",
                   STATUS_UNSUPPORTED, field, "choices");
}

static void test_bad_lines_are_named(void **state) {
    (void)state;
    const enum status bad = STATUS_MALFORMED;
    expect_refused("a.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\n", bad, "line 2", "");
    expect_refused("a.jsonl", "{\"prompt\":\"a\",\"prompt\":\"b\"}\n", bad, "line 1", "duplicate");
    expect_refused("a.jsonl", "7\n", bad, "line 1", "");
    expect_refused("a.jsonl", "{\"prompt\":\"a\xFF\"}\n", bad, "line 1", "");
    expect_refused("a.jsonl", "{\"prompt\":\"a\\u0000\"}\n", bad, "line 1", "");
    expect_refused("a.jsonl", "{\"prompt\":\"\"}\n", bad, "line 1", "\"prompt\" is empty");
    expect_refused("a.jsonl", "{\"prompt\":\"a\"}\n{\"prompt\":\" \\n\\t\"}\n", bad, "line 2",
                   "\"prompt\" is empty or white space");
    expect_refused("a.jsonl", "{\"prompt\":7}\n", bad, "line 1", "\"prompt\" is not a text");
    expect_refused("a.jsonl", "{\"prompt\":\"a\"}\n{\"goal\":\"b\"}\n", bad, "line 2",
                   "\"prompt\" is missing");
    expect_refused("a.jsonl", "{\"messages\":[]}\n", STATUS_LIMIT, "line 1", "messages");
    expect_refused("a.jsonl", "{\"messages\":[{\"role\":\"user\"}]}\n", bad, "line 1", "content");
    expect_refused("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\" \"}]}\n", bad,
                   "line 1", "white space");
    expect_refused("a.csv", "prompt,b\nx,y\nz\n", bad, "line 3", "in the row: 1, in the header: 2");
    expect_refused("a.csv", "prompt\n\xFF\n", bad, "line 2", "\"prompt\" is not UTF-8");
    expect_refused("a.csv", "prompt,tag,tag\nx,y,z\n", bad, "line 1", "\"tag\"");
    expect_refused("a.json", "[\n{\"prompt\":\"a\"},\n\n{\"prompt\":\"b\"\n", bad, "line 5", "");
    expect_refused("a.json", "[\n\"a\",\n{\"prompt\":\"b\"}]", bad, "line 3", "mixed");
    expect_refused("a.json", "[\"a\"] x", bad, "line 1", "after the list");
    expect_refused("a.json", "[\"a\" \"b\"]", bad, "line 1", "no end");
    expect_refused("a.json", "[\"a\",]", bad, "line 1", "");
    expect_refused("a.json", "[\"a\",\n\" \"]", bad, "line 2", "white space");
    expect_refused("a.txt", "a\n\xFF\n", bad, "line 2", "UTF-8");
    expect_refused("a.txt", "{\"prompt\":\"a\"}\n", bad, "line 1", "JSON");
    expect_refused("a.jsonl",
                   "{\"custom_id\":\"r\",\"method\":\"P\",\"url\":\"u\",\"body\":{\"messages\":"
                   "[{\"role\":\"user\",\"content\":\"hi\"}],\"temperature\":0}}",
                   STATUS_UNSUPPORTED, "line 1", "\"body.temperature\"");
}

// What a message has beside role and content is not sent, so it is refused unless it is null.
static void test_messages_with_more_than_texts_are_refused(void **state) {
    (void)state;
    const enum status bad = STATUS_UNSUPPORTED;
    expect_refused("a.jsonl",
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}\n"
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
                   "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\"}]},"
                   "{\"role\":\"user\",\"content\":\"go\"}]}\n",
                   bad, "line 2", "\"messages[1].tool_calls\" cannot be sent");
    expect_refused("a.jsonl",
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\",\"name\":\"Ann\"}]}", bad,
                   "line 1", "\"messages[0].name\"");
    expect_refused("a.jsonl",
                   "{\"messages\":[{\"role\":\"tool\",\"content\":\"7\",\"tool_call_id\":\"c\"}]}",
                   bad, "line 1", "\"messages[0].tool_call_id\"");
    expect_refused("a.jsonl",
                   "{\"input\":[{\"role\":\"user\",\"content\":\"hi\",\"images\":[\"a.png\"]}],"
                   "\"target\":\"x\"}",
                   bad, "line 1", "\"input[0].images\"");
    expect_refused("a.jsonl",
                   "{\"custom_id\":\"r\",\"method\":\"P\",\"url\":\"u\",\"body\":{\"messages\":"
                   "[{\"role\":\"user\",\"content\":\"hi\",\"audio\":{}}]}}",
                   bad, "line 1", "\"body.messages[0].audio\"");
    expect_refused("a.jsonl",
                   "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                   "\"hi\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]}]}",
                   STATUS_MALFORMED, "line 1", "\"messages[0].content\" is not a text");
    expect_refused("a.jsonl", "{\"messages\":[7]}", STATUS_MALFORMED, "line 1",
                   "\"messages[0].role\" is missing");
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl",
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\","
                        "\"tool_calls\":null,\"name\":null}]}",
                        &items, &err),
              &err);
    assert_int_equal(json_array_size(items.rows[0].messages), 1);
    items_finish(&items);
}

static void test_ids_are_texts_or_numbers_and_stand_once(void **state) {
    (void)state;
    const enum status bad = STATUS_MALFORMED;
    expect_refused("a.csv", "id,prompt\nx,a\ny,b\nx,c\n", bad, "line 4", "\"x\" stands in line 2");
    expect_refused("a.jsonl", "{\"id\":1,\"prompt\":\"a\"}\n{\"id\":1,\"prompt\":\"a\"}\n", bad,
                   "line 2", "id 1 stands in line 1");
    expect_refused("a.jsonl", "{\"id\":null,\"prompt\":\"a\"}\n", bad, "line 1", "\"id\"");
    expect_refused("a.jsonl", "{\"id\":1.5,\"prompt\":\"a\"}\n", bad, "line 1", "\"id\"");
    expect_refused("a.jsonl", "{\"id\":1,\"prompt\":\"a\"}\n{\"prompt\":\"b\"}\n", bad, "line 2",
                   "\"id\" is missing");
    expect_refused("a.jsonl", "{\"prompt\":\"a\"}\n{\"id\":1,\"prompt\":\"b\"}\n", bad, "line 2",
                   "the first row has not");
    expect_refused("a.csv", "id,prompt\n,a\n", bad, "line 2", "\"id\"");
    expect_refused("a.csv", "Behavior,SemanticCategory,ContextString,BehaviorID\nb,s,,x\nc,s,,x\n",
                   bad, "line 3", "\"x\" stands in line 2");
}

// The ids of the items that `selection` leaves of `text`, each followed by a space; owned.
static char *selected(const char *text, const struct selection *selection) {
    struct items items;
    struct error err;
    char *ids = calloc(1, 512);
    assert_non_null(ids);
    assert_ok(read_text("a.jsonl", text, &items, &err), &err);
    assert_ok(items_select(&items, selection, &err), &err);
    for (size_t i = 0; i < items.count; i++) {
        char *id = json_dumps(items.rows[i].id, JSON_ENCODE_ANY);
        strcat(strcat(ids, id), " ");
        free(id);
    }
    items_finish(&items);
    return ids;
}

static const char filtered_rows[] =
    "{\"prompt\":\"a\",\"kind\":\"x\",\"n\":1,\"in\":{\"lang\":\"de\"}}\n"
    "{\"prompt\":\"b\",\"kind\":\"y\",\"n\":2,\"in\":{\"lang\":\"en\"}}\n"
    "{\"prompt\":\"c\",\"kind\":\"x=y\",\"n\":null}\n"
    "{\"prompt\":\"d\",\"kind\":\"x\",\"n\":true}\n";

static void expect_filtered(const char *first, const char *second, const char *expected) {
    struct flag_list *filters = calloc(1, sizeof *filters);
    assert_non_null(filters);
    filters->items[filters->count++] = first;
    if (second != NULL) {
        filters->items[filters->count++] = second;
    }
    char *ids = selected(filtered_rows, &(struct selection){.filters = filters});
    assert_string_equal(ids, expected);
    free(ids);
    free(filters);
}

static void expect_filter_refused(const char *filter, enum status expected, const char *part) {
    struct flag_list *filters = calloc(1, sizeof *filters);
    assert_non_null(filters);
    filters->items[filters->count++] = filter;
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl", filtered_rows, &items, &err), &err);
    assert_status(expected, items_select(&items, &(struct selection){.filters = filters}, &err));
    if (strstr(err.message, part) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", part, err.message);
    }
    items_finish(&items);
    free(filters);
}

// Ids are the rows' numbers in the file, whatever is selected.
static void test_filters_keep_rows_with_a_value(void **state) {
    (void)state;
    expect_filtered("kind=x", NULL, "1 4 ");
    expect_filtered("kind=x=y", NULL, "3 ");
    expect_filtered("kind=x", "kind=y", "1 2 4 ");
    expect_filtered("kind=x", "n=1", "1 ");
    expect_filtered("n=null", "n=true", "3 4 ");
    expect_filtered("in.lang=en", NULL, "2 ");
    expect_filtered("id=3", NULL, "3 ");
    const enum status bad = STATUS_INVALID_ARGUMENT;
    expect_filter_refused("sort=x", bad,
                          "no row has a field \"sort\"; there are id, prompt, kind, n");
    expect_filter_refused("kind=z", bad, "\"kind=z\" leaves no row of 4");
    expect_filter_refused("kind", bad, "not FIELD=VALUE");
    expect_filter_refused("=x", bad, "not FIELD=VALUE");
    expect_filter_refused("in=x", STATUS_MALFORMED, "\"in\" is a list or an object");
}

static void test_samples_are_drawn_by_seed_and_id_in_order(void **state) {
    (void)state;
    const struct flag_list *none = calloc(1, sizeof *none);
    assert_non_null(none);
    char text[4096] = "";
    char backwards[4096] = "";
    for (int i = 0; i < 40; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "{\"id\":%d,\"prompt\":\"p\"}\n", i + 10);
        used = strlen(backwards);
        snprintf(backwards + used, sizeof backwards - used, "{\"id\":%d,\"prompt\":\"p\"}\n",
                 49 - i);
    }
    char *five = selected(text, &(struct selection){.filters = none, .sample = 5});
    char *again = selected(text, &(struct selection){.filters = none, .sample = 5});
    char *six = selected(text, &(struct selection){.filters = none, .sample = 6});
    char *first = selected(text, &(struct selection){.filters = none, .sample = 6, .limit = 2});
    char *other =
        selected(text, &(struct selection){.filters = none, .sample = 5, .sample_seed = 1});
    char *turned = selected(backwards, &(struct selection){.filters = none, .sample = 5});
    char *all = selected(text, &(struct selection){.filters = none, .sample = 41});
    assert_int_equal(strlen(five), 15); // five ids of two digits
    assert_string_equal(five, again);
    assert_string_not_equal(five, other);
    assert_memory_equal(six, first, 6);
    assert_int_equal(strlen(first), 6);
    assert_int_equal(strlen(all), 120);
    for (int i = 0; i < 5; i++) {
        char id[4];
        snprintf(id, sizeof id, "%.3s", five + 3 * i);
        assert_non_null(strstr(six, id));
        assert_non_null(strstr(turned, id));
        assert_true(i == 0 || atoi(five + 3 * i) > atoi(five + 3 * (i - 1)));
    }
    free(five);
    free(again);
    free(six);
    free(first);
    free(other);
    free(turned);
    free(all);
    free((void *)none);
}

static const char test_cases[] = "{\n"
                                 "    \"one\": [\"do {this}\\n\"],\n"
                                 "    \"none\": [],\n"
                                 "    \"two\": [\n"
                                 "        \"a \\\"b\\\", [c]\",\n"
                                 "        \" d \"\n"
                                 "    ]\n"
                                 "}\n";

// The texts of the lists in the file's order, as generate_completions.py flattens them.
static void test_test_cases_of_harmbench_are_flattened(void **state) {
    (void)state;
    struct items items;
    struct error err;
    static const char *const ids[] = {"one", "two/1", "two/2"};
    static const char *const prompts[] = {"do {this}\n", "a \"b\", [c]", " d "};
    static const size_t lines[] = {2, 5, 6};
    assert_ok(read_text("test_cases.json", test_cases, &items, &err), &err);
    assert_int_equal(items.count, 3);
    assert_string_equal(items.benchmark, "HarmBench test cases");
    assert_string_equal(items.asked, "test_case");
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(json_string_value(items.rows[i].id), ids[i]);
        assert_string_equal(items.rows[i].prompt, prompts[i]);
        assert_int_equal(items.rows[i].line, lines[i]);
        assert_string_equal(json_string_value(json_object_get(items.rows[i].source, "behavior_id")),
                            i == 0 ? "one" : "two");
    }
    items_finish(&items);
    assert_ok(read_text("a", "{\"x\":[\"hello\"]}", &items, &err), &err);
    assert_string_equal(items.rows[0].prompt, "hello");
    items_finish(&items);
    expect_refused("a.json", "{\"x\":[\"t\"],\n\"y\":[\"t\",\n[\"a.png\",\"t\"]]}",
                   STATUS_UNSUPPORTED, "line 3",
                   "\"y\": test case 2 is a list, an image and a text");
    expect_refused("a.json", "{\"x\":[7]}", STATUS_MALFORMED, "line 1",
                   "test case 1 is not a text");
    expect_refused("a.json", "{\"x\":[\"a\",\n\" \"]}", STATUS_MALFORMED, "line 2", "white space");
    expect_refused("a.json", "{\"x/1\":[\"a\"],\"x\":[\"b\",\"c\"]}", STATUS_MALFORMED, "line 1",
                   "\"x/1\" stands in line 1");
    // One line of JSON lines, not a behaviour of that name.
    expect_refused("a.json", "{\"prompt\":[\"a\"]}", STATUS_MALFORMED, "line 1", "");
}

#define TURN(speaker, text) "{\"from\":\"" speaker "\",\"value\":\"" text "\"}"

static void test_sharegpt_is_asked_up_to_the_last_human_turn(void **state) {
    (void)state;
    struct items items;
    struct error err;
    const struct items_choice choice = {.prompt_column = "conversations"};
    const char *text = "[{\"id\":\"s_0\",\"conversations\":[" TURN("system", "be kind") "," TURN(
        "human", "one") "," TURN("gpt", "two") ",{\"from\":\"human\",\"value\":\"three\",\"text\":"
                                               "null}," TURN("gpt", "four") "]}]";
    static const char *const wanted[][2] = {
        {"system", "be kind"}, {"user", "one"}, {"assistant", "two"}, {"user", "three"}};
    for (int named = 0; named < 2; named++) {
        assert_ok(named ? read_as("a.json", text, &choice, &items, &err)
                        : read_text("a.json", text, &items, &err),
                  &err);
        assert_string_equal(items.benchmark, "ShareGPT");
        assert_string_equal(json_string_value(items.rows[0].id), "s_0");
        assert_int_equal(json_array_size(items.rows[0].messages), 4);
        for (size_t i = 0; i < 4; i++) {
            const json_t *message = json_array_get(items.rows[0].messages, i);
            assert_string_equal(json_string_value(json_object_get(message, "role")), wanted[i][0]);
            assert_string_equal(json_string_value(json_object_get(message, "content")),
                                wanted[i][1]);
        }
        items_finish(&items);
    }
    const enum status bad = STATUS_MALFORMED;
    expect_refused("a.jsonl", "{\"conversations\":[" TURN("human", "a") "," TURN("bing", "b") "]}",
                   bad, "line 1", "\"conversations[1].from\" is bing, none of human, gpt, system");
    expect_refused("a.jsonl", "{\"conversations\":[" TURN("gpt", "b") "]}", bad, "line 1",
                   "no turn of the human");
    expect_refused("a.jsonl", "{\"conversations\":[]}", bad, "line 1", "no turn of the human");
    expect_refused("a.jsonl", "{\"conversations\":[{\"from\":\"human\",\"value\":7}]}", bad,
                   "line 1", "\"conversations[0].value\" is no text");
    expect_refused("a.jsonl", "{\"conversations\":[{\"role\":\"user\",\"content\":\"a\"}]}",
                   STATUS_UNSUPPORTED, "line 1", "\"conversations[0].role\" cannot be sent");
    expect_refused("a.jsonl",
                   "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\",\"image\":\"x.png\"}]}",
                   STATUS_UNSUPPORTED, "line 1", "\"conversations[0].image\"");
}

static void test_a_form_is_what_the_caller_says(void **state) {
    (void)state;
    struct items items;
    struct error err;
    struct items_choice choice = {.form = "csv"};
    assert_ok(read_as("a.dat", "prompt,b\nhello,c\n", &choice, &items, &err), &err);
    assert_string_equal(items.form, "CSV");
    assert_string_equal(items.rows[0].prompt, "hello");
    items_finish(&items);
    choice.form = "json";
    assert_ok(read_as("a.csv", "{\"prompt\":\"hello\"}\n", &choice, &items, &err), &err);
    assert_string_equal(items.form, "JSON lines");
    items_finish(&items);
    choice.form = "xlsx";
    assert_status(STATUS_INVALID_ARGUMENT, read_as("a.csv", "prompt\nx\n", &choice, &items, &err));
    assert_string_equal(err.field, "--form");
    items_finish(&items);
}

static void test_overlong_prompt_is_refused(void **state) {
    (void)state;
    size_t size = LIMIT_PROMPT_BYTES + 1;
    char *text = malloc(size + 64);
    assert_non_null(text);
    int head = sprintf(text, "{\"prompt\":\"");
    memset(text + head, 'a', size);
    sprintf(text + head + size, "\"}\n");
    expect_refused("a.jsonl", text, STATUS_LIMIT, "line 1", "the limit is 1048576");
    free(text);
}

static void expect_no_file(const char *name, const char *text, enum status expected) {
    struct items items;
    struct error err;
    assert_status(expected, read_text(name, text, &items, &err));
    items_finish(&items);
}

static void test_missing_empty_and_packed_files_are_refused(void **state) {
    (void)state;
    struct items items;
    struct error err;
    assert_status(STATUS_NOT_FOUND,
                  items_read("/nonexistent/a.jsonl", &(struct items_choice){0}, &items, &err));
    items_finish(&items);
    expect_no_file("a.jsonl", "\n \n", STATUS_MALFORMED);
    expect_no_file("a.json", "[]", STATUS_MALFORMED);
    expect_no_file("a.txt", "", STATUS_MALFORMED);
    expect_no_file("a.csv", "", STATUS_MALFORMED);
    expect_no_file("a.csv", "prompt\n", STATUS_MALFORMED);
    expect_no_file("a.jsonl", "\x1F\x8B\x08", STATUS_UNSUPPORTED);
    expect_no_file("a.txt", "\xFF\xFEq", STATUS_UNSUPPORTED);
}

// Public files; counts, ids and digests of all prompts are make_prompt_digests.py's.
static const struct real_file {
    const char *path;
    const char *benchmark;
    const char *asked;
    size_t count;
    const char *first;
    const char *last;
    const char *digest;
} real_files[] = {
    {"prompts/harmbench_behaviors_text_val.csv", "HarmBench", "ContextString + Behavior", 80,
     "\"safrole_oil_extraction_guide\"", "\"dimethylmercury_instructions_home\"",
     "0e87a3d12c213188bd50e5e26e3fd01f"},
    {"prompts/xstest_prompts.csv", "XSTest", "prompt", 450, "\"1\"", "\"450\"",
     "538d180df7a15d4bd11e3bb94aaf2795"},
    {"prompts/rd_advbench.csv", "AdvBench", "goal", 520, "1", "520",
     "271ddeb555a1ce92f4c64554439ed3a2"},
    {"pref/TruthfulQA.csv", "TruthfulQA", "Question", 817, "1", "817",
     "b30fe7373b84704f76cd2cb43cbac6e0"},
    {"prompts/BeaverTails-Evaluation.json", "BeaverTails evaluation", "prompt", 700, "1", "700",
     "b7eba706e49510b411a194cce22b5f36"},
    {"prompts/alpaca_farm_eval.json", "AlpacaFarm evaluation", "prompt", 805, "0", "804",
     "7dd206b11f09f7fc767b45ac0ec80d93"},
    {"prompts/inthewild_jailbreak_llms.json", NULL, "prompt", 666, "1", "666",
     "c572cef0b51685d747e1a65cad2cf416"},
    {"prompts/rd_split_harmful_val.json", NULL, "instruction", 39, "1", "39",
     "6a5177aefc548e2af17594c076a049b7"},
    {"prompts/do_not_answer/malicious_uses.jsonl", NULL, "prompt", 243, "1", "243",
     "f10cfc26ebbb256cfa305c23db1849c5"},
    {"prompts/malicious_instruct.txt", NULL, "prompt", 100, "1", "100",
     "f223d4eef39f6cc34c828521962d4f0d"},
    {"pref/pku_saferlhf_dpo_5k.json", NULL, "prompt", 5135, "1", "5135",
     "55969b7377ab6bd71286f95872e26846"},
};

static void expect_id(const struct item *item, const char *expected) {
    char *id = json_dumps(item->id, JSON_ENCODE_ANY);
    assert_string_equal(id, expected);
    free(id);
}

static void expect_real_file(const char *path, const struct real_file *file) {
    struct items items;
    struct error err;
    assert_ok(items_read(path, &(struct items_choice){0}, &items, &err), &err);
    assert_int_equal(items.count, file->count);
    assert_string_equal(items.asked, file->asked);
    assert_true((items.benchmark == NULL) == (file->benchmark == NULL));
    if (file->benchmark != NULL) {
        assert_string_equal(items.benchmark, file->benchmark);
    }
    expect_id(&items.rows[0], file->first);
    expect_id(&items.rows[items.count - 1], file->last);
    struct digest digest;
    char hex[DIGEST_HEX_BYTES];
    digest_init(&digest);
    for (size_t i = 0; i < items.count; i++) {
        digest_add(&digest, items.rows[i].prompt, strlen(items.rows[i].prompt));
    }
    digest_hex(&digest, hex);
    assert_string_equal(hex, file->digest);
    items_finish(&items);
}

static void test_real_files_are_read_as_their_authors_do(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof real_files / sizeof real_files[0]; i++) {
        const char *path = testkit_data_path(real_files[i].path);
        if (path == NULL) {
            testkit_note_missing(real_files[i].path);
            skip();
        }
        expect_real_file(path, &real_files[i]);
    }
}

static struct item_key *keys_of(const char *text, int n, uint64_t seed) {
    struct items items;
    struct error err;
    assert_ok(read_text("a.jsonl", text, &items, &err), &err);
    json_t *settings = json_pack("{s:i}", "n", n);
    struct item_key *keys = NULL;
    assert_ok(item_keys_make(&items, seed, settings, &keys, &err), &err);
    json_decref(settings);
    items_finish(&items);
    return keys;
}

static void test_keys_tell_what_differs(void **state) {
    (void)state;
    const char *text = "{\"id\":1,\"prompt\":\"a\"}\n{\"id\":2,\"prompt\":\"b\"}\n"
                       "{\"id\":3,\"prompt\":\"a\"}\n{\"id\":\"1\",\"prompt\":\"a\"}\n";
    struct item_key *base = keys_of(text, 1, 1);
    struct item_key *again = keys_of(text, 1, 1);
    struct item_key *settings = keys_of(text, 2, 1);
    struct item_key *seed = keys_of(text, 1, 2);
    for (int i = 0; i < 4; i++) {
        assert_string_equal(base[i].text, again[i].text);
        assert_string_not_equal(base[i].text, settings[i].text);
        assert_string_not_equal(base[i].text, seed[i].text);
        assert_true(base[i].seed == settings[i].seed); // methods are compared on the same draws
        assert_true(base[i].seed != seed[i].seed);
        assert_true(base[i].seed < (uint64_t)1 << 53);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(base[i].text, base[j].text);
        }
    }
    free(base);
    free(again);
    free(settings);
    free(seed);
}

static void expect_json(const json_t *object, const char *expected) {
    json_t *wanted = json_loads(expected, 0, NULL);
    assert_non_null(wanted);
    struct json_diff diff;
    if (json_diff_first(object, wanted, &diff)) {
        fail_msg("%s is %s, not %s", diff.path, diff.before, diff.after);
    }
    json_decref(wanted);
}

// Defaults are those of docs/protocol.md.
static void test_job_has_every_field_given_or_default(void **state) {
    (void)state;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = "not part of it";
    json_t *job = job_json(&spec);
    expect_json(job,
                "{\"method\":\"inference-guard\",\"selection\":\"augmented\",\"n\":32,"
                "\"survivors\":8,\"block_tokens\":2,\"block_growth\":1.1,\"block_tokens_max\":32,"
                "\"n_min\":8,\"patience\":4,\"abort_tokens\":8,"
                "\"generation_defaults\":\"model\",\"tries\":2,"
                "\"content_tokens\":\"as-text\","
                "\"discount_unit\":\"token\",\"discount_reward\":true,\"admit_rule\":\"terminal\","
                "\"lagrangian_lambda\":5.0,\"fallback_penalty\":\"log1p\",\"fallback_weight\":3.0,"
                "\"fallback_cap\":10.0,\"fallback_temperature\":1.5,\"seed\":0,\"early_stop\":true,"
                "\"deadline_ms\":0,"
                "\"rejection_alpha\":0.5,\"threshold_start\":0.5,\"accept_temperature\":0.7,"
                "\"entropy_threshold\":3.0,\"segment_tokens_min\":4,\"omega\":2.5,\"states\":false,"
                "\"steps\":30,\"alpha\":0.5,"
                "\"critic\":\"off\",\"critic_keep\":0.7,"
                "\"rejection_alpha\":0.5,\"tilt\":\"none\",\"tilt_t\":10.0,\"tilt_n\":4,"
                "\"tilt_kl\":0.5,\"tilt_beta\":0.0,\"tilt_rank_set\":\"admissible\","
                "\"tilt_sampler\":\"ranks\",\"calibrate\":false,"
                "\"sampling\":{\"frequency_penalty\":0.0,\"min_tokens\":0}}");
    json_decref(job);
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    Surefoot__LogitBias bias = SUREFOOT__LOGIT_BIAS__INIT;
    Surefoot__LogitBias *biases[] = {&bias};
    char *stops[] = {"END"};
    Surefoot__ScorerSpec scorer = SUREFOOT__SCORER_SPEC__INIT;
    Surefoot__ScorerSpec *scorers[] = {&scorer};
    bias.has_token_id = bias.has_bias = 1;
    bias.token_id = 7;
    bias.bias = -2.5F;
    sampling.n_logit_bias = sampling.n_stop = 1;
    sampling.logit_bias = biases;
    sampling.stop = stops;
    sampling.has_top_k = 1;
    sampling.top_k = 40;
    scorer.name = "cost";
    spec.n_scorers = 1;
    spec.scorers = scorers;
    spec.sampling = &sampling;
    spec.method = "best-of-n";
    spec.generation_defaults = "none";
    spec.has_n = 1;
    spec.n = 2;
    spec.has_budget = 1;
    spec.budget = 2.5;
    spec.has_seed = 1;
    spec.seed = UINT64_MAX;
    job = job_json(&spec);
    assert_string_equal(json_string_value(json_object_get(job, "selection")), "plain");
    assert_int_equal(json_integer_value(json_object_get(job, "survivors")), 1);
    assert_true(json_real_value(json_object_get(job, "budget")) == 2.5);
    assert_string_equal(json_string_value(json_object_get(job, "seed")), "18446744073709551615");
    assert_int_equal(json_integer_value(json_object_get(job, "max_tokens")), 128);
    expect_json(json_object_get(job, "scorers"), "[{\"name\":\"cost\"}]");
    expect_json(json_object_get(job, "sampling"),
                "{\"temperature\":1.0,\"top_k\":40,\"top_p\":1.0,\"repetition_penalty\":1.0,"
                "\"frequency_penalty\":0.0,\"min_tokens\":0,\"stop\":[\"END\"],"
                "\"logit_bias\":[{\"token_id\":7,\"bias\":-2.5}]}");
    json_decref(job);
}

static void test_models_have_what_their_profiles_say(void **state) {
    (void)state;
    Surefoot__ModelInfo cost = SUREFOOT__MODEL_INFO__INIT;
    cost.name = "cost";
    cost.role = "cost";
    cost.hash = "abc";
    cost.has_budget = 1;
    cost.budget = 2.5;
    Surefoot__GenerationDefaults generation = SUREFOOT__GENERATION_DEFAULTS__INIT;
    generation.has_top_k = 1;
    generation.top_k = 40;
    Surefoot__ModelInfo policy = SUREFOOT__MODEL_INFO__INIT;
    policy.name = "policy";
    policy.generation = &generation;
    Surefoot__ModelInfo *models[] = {&cost, &policy};
    Surefoot__GroupStatus lost = SUREFOOT__GROUP_STATUS__INIT;
    Surefoot__GroupStatus group = SUREFOOT__GROUP_STATUS__INIT;
    group.alive = 1;
    group.n_models = 2;
    group.models = models;
    Surefoot__GroupStatus *groups[] = {&lost, &group};
    Surefoot__ServiceStatus service = SUREFOOT__SERVICE_STATUS__INIT;
    service.groups = groups;
    service.n_groups = 1;
    assert_null(job_models_json(&service));
    service.n_groups = 2;
    json_t *object = job_models_json(&service);
    expect_json(object, "{\"cost\":{\"role\":\"cost\",\"hash\":\"abc\",\"budget\":2.5},"
                        "\"policy\":{\"generation\":{\"top_k\":40}}}");
    json_decref(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines_keep_id_and_other_fields),
        cmocka_unit_test(test_messages_and_system_message_are_sent_in_order),
        cmocka_unit_test(test_benchmarks_are_known_by_their_columns),
        cmocka_unit_test(test_flags_decide_over_what_is_recognised),
        cmocka_unit_test(test_doubt_about_the_column_names_the_candidates),
        cmocka_unit_test(test_bad_lines_are_named),
        cmocka_unit_test(test_messages_with_more_than_texts_are_refused),
        cmocka_unit_test(test_ids_are_texts_or_numbers_and_stand_once),
        cmocka_unit_test(test_filters_keep_rows_with_a_value),
        cmocka_unit_test(test_samples_are_drawn_by_seed_and_id_in_order),
        cmocka_unit_test(test_a_form_is_what_the_caller_says),
        cmocka_unit_test(test_test_cases_of_harmbench_are_flattened),
        cmocka_unit_test(test_sharegpt_is_asked_up_to_the_last_human_turn),
        cmocka_unit_test(test_overlong_prompt_is_refused),
        cmocka_unit_test(test_missing_empty_and_packed_files_are_refused),
        cmocka_unit_test(test_real_files_are_read_as_their_authors_do),
        cmocka_unit_test(test_keys_tell_what_differs),
        cmocka_unit_test(test_models_have_what_their_profiles_say),
        cmocka_unit_test(test_job_has_every_field_given_or_default),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
