// The surefoot program itself, against a scripted service: exit codes, errors, sweeps and how they
// go on after an interruption.
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/file.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/date.h"
#include "proto/defaults.h"
#include "tests/client/fake_service.h"
#include "tests/support/command.h"
#include "tests/support/process.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 180000, ITEMS = 30, ARGUMENTS_MAX = 24, PATH_BYTES = 512 };

struct place {
    char *directory;
    char in[PATH_BYTES];
    char out[PATH_BYTES];
    struct command command;
    int records; // has_records waits for
};

static int set_up(void **state) {
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    place->directory = testkit_make_directory();
    snprintf(place->in, sizeof place->in, "%s/in.jsonl", place->directory);
    snprintf(place->out, sizeof place->out, "%s/out.jsonl", place->directory);
    command_init(&place->command, place->directory, false);
    *state = place;
    return 0;
}

static int tear_down(void **state) {
    struct place *place = *state;
    testkit_remove_tree(place->directory);
    free(place);
    return 0;
}

// Writes items "p-0" ... with every fifth prompt carrying `word`.
static void write_items(const struct place *place, const char *word) {
    char text[ITEMS * 64];
    int size = 0;
    for (int i = 0; i < ITEMS; i++) {
        size += snprintf(text + size, sizeof text - (size_t)size,
                         "{\"id\":\"i%d\",\"prompt\":\"p-%d%s\",\"tag\":%d}\n", i, i,
                         i % 5 == 0 ? word : "", i);
    }
    testkit_write_file(place->in, text, (size_t)size);
}

#define RUN(place, output, ...)                                                                    \
    command_run(&(place)->command, (output), (char *[]){__VA_ARGS__, NULL})

static int sweep(const struct place *place, struct fake_service *service, char **output) {
    return RUN(place, output, "sweep", (char *)place->in, "--out", (char *)place->out, "--endpoint",
               (char *)fake_service_endpoint(service), "--in-flight", "4", "--quiet", "--json");
}

// Checks that the output holds every item exactly once, with the answer to its own prompt.
static void expect_each_once(const struct place *place) {
    FILE *file = fopen(place->out, "r");
    assert_non_null(file);
    bool seen[ITEMS] = {false};
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;
    while (getline(&line, &capacity, file) >= 0) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        int number = atoi(json_string_value(json_object_get(record, "id")) + 1);
        assert_in_range(number, 0, ITEMS - 1);
        assert_false(seen[number]);
        seen[number] = true;
        json_t *input = json_object_get(record, "input");
        assert_int_equal(json_integer_value(json_object_get(input, "tag")), number);
        const char *text = json_string_value(json_object_get(record, "text"));
        char wanted[64];
        snprintf(wanted, sizeof wanted, "answer to p-%d", number);
        if (text != NULL) {
            assert_string_equal(text, wanted);
        }
        assert_non_null(json_object_get(record, "outcome"));
        json_decref(record);
        count++;
    }
    free(line);
    fclose(file);
    assert_int_equal(count, ITEMS);
}

static void expect_code(int expected, int code, char *output) {
    if (code != expected) {
        print_error("exit code %d, expected %d:\n%s\n", code, expected, output);
    }
    free(output);
    assert_int_equal(code, expected);
}

#define EXPECT(expected, part, ...)                                                                \
    command_expect(&((const struct place *)*state)->command, (expected), (part),                   \
                   (char *[]){__VA_ARGS__, NULL})

static void test_bad_usage_exits_with_2_and_names_the_fault(void **state) {
    EXPECT(2, "no such verb", "jump");
    EXPECT(2, "--n: \"0\" is not in [1, 4096]", "run", "--n", "0", "hello");
    EXPECT(2, "--nn: unknown flag", "run", "--nn", "hello");
    EXPECT(2, "--patience-s: is --patience-ms", "sweep", "x", "--patience-s=3");
    EXPECT(2, "--timeout-s: is --start-timeout-ms", "up", "--timeout-s", "3");
    EXPECT(2, "--timeout-s", "models", "check", "/", "--timeout-s", "3");
    EXPECT(2, "usage: surefoot run PROMPT", "run");
    EXPECT(2, "--out: required", "sweep", "x.jsonl");
    EXPECT(2, "/nonexistent", "sweep", "/nonexistent", "--out", "/tmp/x");
    EXPECT(2, "\"field\":\"endpoint\"", "status", "--endpoint", "tcp://10.0.0.1:1", "--json");
    EXPECT(2, "between commas", "compare", "x.jsonl", "--methods", ",");
    EXPECT(2, "--methods: unknown method \"foo\"; one of sample, ", "compare", "x.jsonl",
           "--methods", "sample,foo");
    EXPECT(2, "--methods: unknown selection \"foo\"; one of plain, ", "compare", "x.jsonl",
           "--methods", "beam:foo");
    EXPECT(2, "--methods: unknown preset \"paper/foo\"", "compare", "x.jsonl", "--methods",
           "sample,paper/foo");
    EXPECT(2, "--fallback-prefix: has no effect on any of the methods", "compare", "x.jsonl",
           "--methods", "sample,beam", "--fallback-prefix", "No.");
    EXPECT(2, "--preset: has no effect here", "compare", "x.jsonl", "--preset", "paper/args");
    EXPECT(2, "--preset: unknown preset \"foo\"", "run", "hello", "--preset", "foo");
    EXPECT(2, "no such verb", "--jump");
    EXPECT(2, "jump: no such verb", "help", "jump");
    EXPECT(2, "x: one argument too many", "help", "models", "check", "x");
}

static void test_help_and_version_exit_with_0(void **state) {
    EXPECT(0, "Exit codes", "--help");
    EXPECT(0, "Exit codes", "help");
    EXPECT(0, "surefoot ", "--version");
    EXPECT(0, "usage: surefoot sweep FILE|- --out", "help", "sweep");
    EXPECT(0, "paper/inference-guard (Ji", "help", "presets");
    EXPECT(0, "usage: surefoot models check", "help", "models");
    EXPECT(0, "usage: surefoot models render", "help", "models", "render");
    EXPECT(0, "--lagrangian-lambda", "run", "--help");
    EXPECT(0, "--retry-failed", "sweep", "--help");
}

static void test_help_has_a_default_for_every_flag(void **state) {
    struct place *place = *state;
    static char *const verbs[] = {"up",    "down", "status", "run",   "submit",  "fetch", "cancel",
                                  "close", "jobs", "purge",  "sweep", "compare", "models"};
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        char *output = NULL;
        bool models = strcmp(verbs[i], "models") == 0;
        int code = models ? RUN(place, &output, "models", "check", "--help")
                          : RUN(place, &output, verbs[i], "--help");
        assert_int_equal(code, 0);
        for (char *line = strtok(output, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            if (strncmp(line, "  --", 4) == 0 && strstr(line, "default") == NULL) {
                fail_msg("%s: %s", verbs[i], line);
            }
        }
        free(output);
    }
}

static void test_help_states_the_defaults_that_jobs_take(void **state) {
    struct place *place = *state;
    static const struct {
        const char *flag;
        int value;
    } defaults[] = {
        {"  --temperature ", DEFAULT_TEMPERATURE},
        {"  --top-p ", DEFAULT_TOP_P},
        {"  --repetition-penalty ", DEFAULT_REPETITION_PENALTY},
    };
    char *output = NULL;
    assert_int_equal(RUN(place, &output, "run", "--help"), 0);
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        const char *line = strstr(output, defaults[i].flag);
        assert_non_null(line);
        // The number itself: no digit before or after it.
        char *text = strndup(line, strcspn(line, "\n"));
        char *stated = text != NULL ? strstr(text, "default ") : NULL;
        assert_non_null(stated);
        bool found = false;
        for (const char *at = stated; *at != '\0' && *at != '[' && *at != '('; at++) {
            bool starts = isdigit((unsigned char)*at) && !isdigit((unsigned char)at[-1]);
            found = found || (starts && strtol(at, NULL, 10) == defaults[i].value);
        }
        if (!found) {
            fail_msg("the default is %d: %s", defaults[i].value, text);
        }
        free(text);
    }
    free(output);
}

static void test_no_service_exits_with_4(void **state) {
    EXPECT(4, "no answer", "status", "--endpoint", "tcp://127.0.0.1:1", "--timeout-ms", "100");
    struct place *place = *state;
    EXPECT(4, "no service is up", "status", "--dir", place->directory);
}

static void test_private_directories_of_killed_commands_are_removed(void **state) {
    struct place *place = *state;
    char stale[PATH_BYTES];
    char used[PATH_BYTES];
    char lock[PATH_BYTES + 8];
    snprintf(stale, sizeof stale, "%s/private-stale0", place->directory);
    snprintf(used, sizeof used, "%s/private-used00", place->directory);
    assert_int_equal(mkdir(stale, 0700), 0);
    assert_int_equal(mkdir(used, 0700), 0);
    snprintf(lock, sizeof lock, "%s/lock", stale);
    testkit_write_file(lock, "", 0);
    snprintf(lock, sizeof lock, "%s/lock", used);
    int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    EXPECT(2, "not a directory or GGUF file", "up", "--dir", place->directory, "--policy",
           "/nonexistent");
    assert_int_not_equal(access(stale, F_OK), 0);
    assert_int_equal(access(used, F_OK), 0);
    close(fd);
    EXPECT(2, "one of its own serves this command, with /nonexistent", "run", "hello", "--dir",
           place->directory, "--policy", "/nonexistent");
    assert_int_not_equal(access(used, F_OK), 0);
}

static void test_run_prints_the_answer_and_closes_the_job(void **state) {
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.refuse_word = "never"});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "answer to hello", "run", "hello", "--endpoint", endpoint);
    EXPECT(0, "\"text\":\"answer to hello\"", "run", "hello", "--endpoint", endpoint, "--json");
    EXPECT(6, "NO_SAFE_CANDIDATE", "run", "never", "--endpoint", endpoint);
    EXPECT(2, "spec.method", "run", "hello", "--method", "unknown", "--endpoint", endpoint);
    assert_int_equal(fake_service_jobs(service), 3);
    assert_int_equal(fake_service_open(service), 0);
    fake_service_stop(service);
}

static void test_answer_over_budget_is_masked(void **state) {
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.over_budget = true});
    char *endpoint = (char *)fake_service_endpoint(service);
    struct place *place = *state;
    char *output = NULL;
    assert_int_equal(RUN(place, &output, "run", "hello", "--endpoint", endpoint), 0);
    assert_non_null(strstr(output, "over budget: hidden"));
    assert_null(strstr(output, "answer to hello"));
    free(output);
    EXPECT(0, "answer to hello", "run", "hello", "--show-unsafe", "--endpoint", endpoint);
    fake_service_stop(service);
}

static void test_job_verbs_follow_one_key(void **state) {
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.hold_results = true});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "mine", "submit", "hello", "--key", "mine", "--endpoint", endpoint);
    EXPECT(0, "\"duplicate\":true", "submit", "hello", "--key", "mine", "--json", "--endpoint",
           endpoint);
    EXPECT(7, "has not ended", "fetch", "mine", "--endpoint", endpoint);
    EXPECT(0, "cancelled", "cancel", "mine", "--endpoint", endpoint);
    fake_service_release(service);
    EXPECT(0, "answer to hello", "fetch", "mine", "--wait-ms", "60000", "--endpoint", endpoint);
    EXPECT(0, "closed", "close", "mine", "--endpoint", endpoint);
    EXPECT(2, "job_key", "fetch", "mine", "--endpoint", endpoint);
    EXPECT(2, "job_key", "cancel", "mine", "--endpoint", endpoint);
    EXPECT(2, "job_key", "close", "mine", "--endpoint", endpoint);
    fake_service_stop(service);
}

static void test_stored_jobs_are_listed_and_purged(void **state) {
    enum { JOBS = 5 };
    struct place *place = *state;
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.results_max = JOBS - 1});
    char *endpoint = (char *)fake_service_endpoint(service);
    for (int i = 0; i < JOBS; i++) {
        char key[] = {'k', (char)('0' + i), '\0'};
        EXPECT(0, key, "submit", "hello", "--key", key, "--endpoint", endpoint);
    }
    EXPECT(0, "\"text\":\"answer to hello\"", "fetch", "k3", "--wait-ms", "60000", "--json",
           "--endpoint", endpoint);
    char *output = NULL;
    assert_int_equal(RUN(place, &output, "jobs", "--endpoint", endpoint), 0);
    assert_string_equal(
        output,
        "DONE     COMPLETED         1970-01-02T00:00:00Z 1970-01-02T00:00:01Z         77  k0\n"
        "DONE     COMPLETED         1970-01-02T00:00:00Z 1970-01-02T00:00:01Z         77  k1\n"
        "DONE     COMPLETED         1970-01-02T00:00:00Z 1970-01-02T00:00:01Z         77  k2\n"
        "DONE     COMPLETED         1970-01-02T00:00:00Z 1970-01-02T00:00:01Z         77  k3\n"
        "QUEUED   -                 1970-01-02T00:00:00Z -                            77  k4\n");
    free(output);
    EXPECT(0, "{\"key\":\"k4\",\"state\":\"QUEUED\",\"accepted_ms\":86400000,\"bytes\":77}", "jobs",
           "--json", "--endpoint", endpoint);
    EXPECT(2, "--older-than-hours", "purge", "--endpoint", endpoint);
    EXPECT(2, "is not in", "purge", "--older-than-hours", "-1", "--endpoint", endpoint);
    EXPECT(0, "4 results dropped", "purge", "--older-than-hours", "0", "--endpoint", endpoint);
    assert_int_equal(fake_service_open(service), 1);
    EXPECT(0, "{\"purged\":0}", "purge", "--older-than-hours", "0.5", "--json", "--endpoint",
           endpoint);
    fake_service_stop(service);
}

static void test_who_may_not_list_and_purge_is_told(void **state) {
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.refuses_admin = true});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(2, "\"status\":\"PERMISSION\"", "jobs", "--json", "--endpoint", endpoint);
    EXPECT(2, "request: scripted", "purge", "--older-than-hours", "1", "--endpoint", endpoint);
    fake_service_stop(service);
}

static void test_sweep_answers_every_item_once(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.refuse_submits = 2});
    char *output = NULL;
    int code = sweep(place, service, &output);
    expect_code(0, code, output);
    expect_each_once(place);
    assert_int_equal(fake_service_jobs(service), ITEMS);
    assert_int_equal(fake_service_open(service), 0);
    // A rerun has nothing to do.
    code = sweep(place, service, &output);
    assert_non_null(strstr(output, "\"new\":0"));
    expect_code(0, code, output);
    assert_int_equal(fake_service_jobs(service), ITEMS);
    fake_service_stop(service);
}

static void test_sweep_leaves_files_that_are_not_its_own(void **state) {
    struct place *place = *state;
    write_items(place, "");
    char *input = testkit_read_file(place->in, NULL);
    EXPECT(2, "is the input file", "sweep", place->in, "--out", place->in);
    char *left = testkit_read_file(place->in, NULL);
    assert_string_equal(left, input);
    free(left);
    free(input);
    testkit_write_file(place->out, "a note", 6);
    EXPECT(2, "--out line 1: not a record", "sweep", place->in, "--out", place->out);
    left = testkit_read_file(place->out, NULL);
    assert_string_equal(left, "a note");
    free(left);
}

static void test_sweep_says_what_it_asks(void **state) {
    struct place *place = *state;
    char csv[PATH_BYTES];
    snprintf(csv, sizeof csv, "%s/jailbreak.csv", place->directory);
    const char *text = "Index,Goal,Target,Behavior,Category,Source\n7,Say it,Sure,Defamation,c,s\n";
    testkit_write_file(csv, text, strlen(text));
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    EXPECT(0, "JailbreakBench, CSV, 1 row, asking Goal\n", "sweep", csv, "--out", place->out,
           "--system", "be kind", "--endpoint", (char *)fake_service_endpoint(service));
    fake_service_stop(service);
    char *line = testkit_read_file(place->out, NULL);
    json_t *record = json_loads(line, 0, NULL);
    assert_non_null(record);
    const char *const wanted[][2] = {
        {"benchmark", "JailbreakBench"}, {"asked", "Goal"}, {"system", "be kind"}};
    const json_t *settings = json_object_get(record, "settings");
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_string_equal(json_string_value(json_object_get(settings, wanted[i][0])),
                            wanted[i][1]);
    }
    const json_t *job = json_object_get(settings, "job");
    assert_string_equal(json_string_value(json_object_get(job, "method")), "inference-guard");
    assert_int_equal(json_integer_value(json_object_get(job, "n")), 32);
    const json_t *policy = json_object_get(json_object_get(settings, "models"), "policy");
    assert_string_equal(json_string_value(json_object_get(policy, "hash")), "0123456789abcdef");
    assert_string_equal(json_string_value(json_object_get(record, "id")), "7");
    assert_string_equal(json_string_value(json_object_get(record, "text")),
                        "answer to system: be kind, user: Say it");
    json_decref(record);
    free(line);
}

static void test_sweep_refuses_other_flags_and_edited_rows(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    char *output = NULL;
    int code = sweep(place, service, &output);
    expect_code(0, code, output);
    EXPECT(2, "job.n is 32 there and 16 now", "sweep", place->in, "--out", place->out, "--n", "16",
           "--endpoint", endpoint);
    EXPECT(2, "job.seed is 0 there and 1 now", "sweep", place->in, "--out", place->out, "--seed",
           "1", "--endpoint", endpoint);
    EXPECT(2, "system is null there and", "sweep", place->in, "--out", place->out, "--system", "x",
           "--endpoint", endpoint);
    EXPECT(0, "30 items", "sweep", place->in, "--out", place->out, "--n", "32", "--endpoint",
           endpoint);
    const char *edited = "{\"id\":\"i3\",\"prompt\":\"p-3\",\"tag\":\"benign\"}\n";
    testkit_write_file(place->in, edited, strlen(edited));
    EXPECT(2, "line 1: field \"tag\" is \"benign\", and 3 in the record", "sweep", place->in,
           "--out", place->out, "--endpoint", endpoint);
    edited = "{\"id\":\"i3\",\"prompt\":\"p-4\",\"tag\":3}\n";
    testkit_write_file(place->in, edited, strlen(edited));
    EXPECT(2, "line 1: field \"prompt\" is \"p-4\", and \"p-3\" in the record", "sweep", place->in,
           "--out", place->out, "--endpoint", endpoint);
    fake_service_stop(service);
    write_items(place, "");
    expect_each_once(place);
}

// Record `number` of OUT, from 0; owned.
static json_t *load_record(const struct place *place, int number) {
    FILE *file = fopen(place->out, "r");
    assert_non_null(file);
    char *line = NULL;
    size_t capacity = 0;
    for (int i = 0; i <= number; i++) {
        assert_true(getline(&line, &capacity, file) >= 0);
    }
    json_t *record = json_loads(line, 0, NULL);
    assert_non_null(record);
    free(line);
    fclose(file);
    return record;
}

static const char *recorded_date(const json_t *record) {
    const json_t *settings = json_object_get(record, "settings");
    return json_string_value(json_object_get(json_object_get(settings, "job"), "date"));
}

// A template may tell the day: a sweep that goes on another day makes the prompts it began with.
static void test_sweep_goes_on_with_the_date_of_its_records(void **state) {
    struct place *place = *state;
    write_items(place, "");
    char *all = testkit_read_file(place->in, NULL);
    testkit_write_file(place->in, all, (size_t)(strchr(all, '\n') + 1 - all));
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "\n1 item: 1 answered", "sweep", place->in, "--out", place->out, "--date",
           "2024-02-29", "--endpoint", endpoint);
    testkit_write_file(place->in, all, strlen(all));
    free(all);
    EXPECT(2, "job.date is \"2024-02-29\" there and \"2024-03-01\" now", "sweep", place->in,
           "--out", place->out, "--date", "2024-03-01", "--endpoint", endpoint);
    EXPECT(0, "30 items", "sweep", place->in, "--out", place->out, "--endpoint", endpoint);
    fake_service_stop(service);
    expect_each_once(place);
    json_t *record = load_record(place, ITEMS - 1);
    assert_string_equal(recorded_date(record), "2024-02-29");
    // What the service was told, not only what the record says of it.
    assert_string_equal(json_string_value(json_object_get(record, "date")), "2024-02-29");
    json_decref(record);
}

static void test_sweep_records_variables_of_the_template(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "30 items", "sweep", place->in, "--out", place->out, "--template-var",
           "enable_thinking=false", "--template-var", "effort=\"7\"", "--template-var", "top=-7",
           "--endpoint", endpoint);
    json_t *record = load_record(place, 0);
    json_t *job = json_object_get(json_object_get(record, "settings"), "job");
    json_t *wanted = json_pack("{sb, ss, si}", "enable_thinking", 0, "effort", "7", "top", -7);
    assert_true(json_equal(json_object_get(job, "template_variables"), wanted));
    json_decref(wanted);
    json_decref(record);
    EXPECT(2, "job.template_variables.enable_thinking is false there and true now", "sweep",
           place->in, "--out", place->out, "--template-var", "top=-7", "--template-var",
           "effort=\"7\"", "--template-var", "enable_thinking=true", "--endpoint", endpoint);
    EXPECT(0, "30 items", "sweep", place->in, "--out", place->out, "--template-var", "top=-7",
           "--template-var", "effort=\"7\"", "--template-var", "enable_thinking=false",
           "--endpoint", endpoint);
    fake_service_stop(service);
}

static void test_variables_that_mean_nothing_are_refused(void **state) {
    (void)state;
    static const struct {
        char *flag;
        const char *part;
    } rows[] = {
        {"think", "not NAME=VALUE"},
        {"think=False", "neither true nor false"},
        {"think=\"x", "no text of JSON"},
        {"a-b=1", "a-b"},
        {"messages=x", "given to every template"},
        {"n=9223372036854775808", "64 bits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        EXPECT(2, rows[i].part, "run", "x", "--template-var", rows[i].flag);
        EXPECT(2, rows[i].part, "models", "render", "/", "--template-var", rows[i].flag);
    }
    EXPECT(2, "a is there twice", "run", "x", "--template-var", "a=1", "--template-var", "a=2");
}

static void test_first_record_fixes_the_date_of_sweep_and_compare(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    for (int i = 0; i < 2; i++) {
        remove(place->out);
        EXPECT(0, "", i == 0 ? "sweep" : "compare", place->in, "--out", place->out, "--endpoint",
               endpoint);
        json_t *record = load_record(place, 0);
        struct date date;
        assert_non_null(recorded_date(record));
        assert_true(date_parse(recorded_date(record), &date));
        assert_string_equal(json_string_value(json_object_get(record, "date")),
                            recorded_date(record));
        json_decref(record);
    }
    fake_service_stop(service);
}

// A sweep killed between writing a record and closing its job leaves the job stored.
static void test_rerun_closes_jobs_that_a_killed_sweep_left(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *output = NULL;
    int code = sweep(place, service, &output);
    expect_code(0, code, output);
    char *records = testkit_read_file(place->out, NULL);
    json_t *record = json_loads(records, JSON_DISABLE_EOF_CHECK, NULL);
    char *key = (char *)json_string_value(json_object_get(record, "key"));
    assert_non_null(key);
    EXPECT(0, key, "submit", "p", "--key", key, "--endpoint",
           (char *)fake_service_endpoint(service));
    json_decref(record);
    free(records);
    assert_int_equal(fake_service_open(service), 1);
    code = sweep(place, service, &output);
    expect_code(0, code, output);
    assert_int_equal(fake_service_open(service), 0);
    fake_service_stop(service);
}

static void test_sweep_finishes_lost_replies_silence_and_forgotten_jobs(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service = fake_service_start(
        "tcp://127.0.0.1:*",
        &(struct fake_script){.drop_replies = 2, .silent_streams = true, .forget_asks = 10});
    char *output = NULL;
    int code = RUN(place, &output, "sweep", place->in, "--out", place->out, "--endpoint",
                   (char *)fake_service_endpoint(service), "--in-flight", "64", "--quiet");
    expect_code(0, code, output);
    expect_each_once(place);
    fake_service_stop(service);
}

static void test_sweep_tells_failed_items(void **state) {
    struct place *place = *state;
    write_items(place, " bad");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.fail_word = "bad"});
    char *output = NULL;
    int code = sweep(place, service, &output);
    assert_non_null(strstr(output, "\"failed\":6"));
    expect_code(3, code, output);
    expect_each_once(place);
    char *endpoint = (char *)fake_service_endpoint(service);
    code = RUN(place, &output, "sweep", place->in, "--out", place->out, "--endpoint", endpoint,
               "--quiet", "--retry-failed", "--json");
    assert_non_null(strstr(output, "\"new\":6"));
    expect_code(3, code, output);
    expect_each_once(place);
    fake_service_stop(service);
}

static void test_refused_prompts_are_records_and_refused_flags_end_the_sweep(void **state) {
    struct place *place = *state;
    write_items(place, " bad");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.reject_word = "bad"});
    char *output = NULL;
    int code = sweep(place, service, &output);
    assert_non_null(strstr(output, "\"failed\":6"));
    expect_code(3, code, output);
    expect_each_once(place);
    char second[PATH_BYTES + 8];
    snprintf(second, sizeof second, "%s.second", place->out);
    EXPECT(2, "spec.method", "sweep", place->in, "--out", second, "--method", "unknown",
           "--endpoint", (char *)fake_service_endpoint(service));
    fake_service_stop(service);
}

// True once OUT has every result that the first service gives.
static bool has_records(void *context) {
    const struct place *place = context;
    FILE *file = fopen(place->out, "r");
    if (file == NULL) {
        return false;
    }
    int lines = 0;
    for (int byte = getc(file); byte != EOF; byte = getc(file)) {
        lines += byte == '\n';
    }
    fclose(file);
    return lines >= place->records;
}

// Ends a sweep by `number` when it hangs half-way, and lets a second one finish. The first service
// gives results for a third of the items only.
static void interrupt_and_go_on(struct place *place, int number, int expected) {
    write_items(place, "");
    place->records = ITEMS / 3;
    char endpoint[PATH_BYTES];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/clients", place->directory);
    struct fake_service *service =
        fake_service_start(endpoint, &(struct fake_script){.results_max = ITEMS / 3});
    struct process process;
    char *words[] = {"sweep",  place->in, "--out",       place->out, "--endpoint",
                     endpoint, "--quiet", "--in-flight", "16",       NULL};
    command_start(&place->command, &process, words);
    assert_true(process_wait_until(has_records, place, WAIT_MS));
    process_signal(&process, number);
    int code = -1;
    assert_true(process_wait(&process, WAIT_MS, &code));
    assert_int_equal(code, expected);
    fake_service_stop(service);
    // What a crash in the middle of a write leaves.
    FILE *out = fopen(place->out, "a");
    assert_non_null(out);
    fputs("{\"surefoot_sweep\":1,\"id\":\"i9\",\"key\":\"torn", out);
    fclose(out);
    service = fake_service_start(endpoint, &(struct fake_script){0});
    char *output = NULL;
    code = sweep(place, service, &output);
    expect_code(0, code, output);
    expect_each_once(place);
    assert_in_range(fake_service_jobs(service), 1, ITEMS - ITEMS / 3);
    assert_int_equal(fake_service_open(service), 0);
    fake_service_stop(service);
}

static void test_interrupted_sweep_goes_on(void **state) {
    interrupt_and_go_on(*state, SIGINT, 5);
}

static void test_killed_sweep_goes_on(void **state) {
    interrupt_and_go_on(*state, SIGKILL, 128 + SIGKILL);
}

static const char *const compared[] = {"sample", "beam"};

#define COMPARE(place, endpoint)                                                                   \
    "compare", (place)->in, "--out", (place)->out, "--methods", "sample,beam", "--endpoint",       \
        (char *)(endpoint), "--in-flight", "16", "--quiet"

// Checks that OUT holds every item once under each method, and that the methods share its seed.
static void expect_each_once_compared(const struct place *place) {
    FILE *file = fopen(place->out, "r");
    assert_non_null(file);
    json_t *seeds[ITEMS][2] = {{NULL}};
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) >= 0) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        int number = atoi(json_string_value(json_object_get(record, "id")) + 1);
        const char *method = json_string_value(json_object_get(record, "method"));
        bool beam = strcmp(method, compared[1]) == 0;
        assert_string_equal(method, compared[beam]);
        assert_in_range(number, 0, ITEMS - 1);
        assert_null(seeds[number][beam]);
        seeds[number][beam] = json_incref(json_object_get(record, "seed"));
        const json_t *settings = json_object_get(record, "settings");
        assert_string_equal(
            json_string_value(json_object_get(json_object_get(settings, "job"), "method")), method);
        json_decref(record);
    }
    free(line);
    fclose(file);
    for (int i = 0; i < ITEMS; i++) {
        assert_true(json_is_integer(seeds[i][0]));
        assert_true(json_equal(seeds[i][0], seeds[i][1]));
        assert_true(i == 0 || !json_equal(seeds[i][0], seeds[i - 1][0]));
        json_decref(seeds[i][0]);
        json_decref(seeds[i][1]);
    }
}

// The first service gives the results of one method and of a third of the items of the other.
static void test_killed_comparison_goes_on(void **state) {
    struct place *place = *state;
    write_items(place, "");
    place->records = ITEMS + ITEMS / 3;
    char endpoint[PATH_BYTES];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/clients", place->directory);
    struct fake_service *service =
        fake_service_start(endpoint, &(struct fake_script){.results_max = place->records});
    struct process process;
    command_start(&place->command, &process, (char *[]){COMPARE(place, endpoint), NULL});
    assert_true(process_wait_until(has_records, place, WAIT_MS));
    process_signal(&process, SIGKILL);
    int code = -1;
    assert_true(process_wait(&process, WAIT_MS, &code));
    fake_service_stop(service);
    FILE *out = fopen(place->out, "a");
    assert_non_null(out);
    fputs("{\"surefoot_compare\":1,\"id\":\"i9\",\"method\":\"beam\",\"key\":\"torn", out);
    fclose(out);
    service = fake_service_start(endpoint, &(struct fake_script){0});
    char *output = NULL;
    code = RUN(place, &output, COMPARE(place, endpoint));
    // Both methods count whole, but the times are not of this run.
    assert_non_null(strstr(output, "means over the 30 prompts that every method answered"));
    assert_non_null(strstr(output, "30. p-29\n"));
    assert_non_null(strstr(output, "30/30        0       0        -\n"));
    expect_code(0, code, output);
    expect_each_once_compared(place);
    assert_in_range(fake_service_jobs(service), 1, ITEMS - ITEMS / 3);
    assert_int_equal(fake_service_open(service), 0);
    int before = fake_service_jobs(service);
    EXPECT(0, "30/30", COMPARE(place, endpoint));
    assert_int_equal(fake_service_jobs(service), before);
    fake_service_stop(service);
}

static void test_comparison_refuses_other_flags_files_and_edited_rows(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "30 items", "sweep", place->in, "--out", place->out, "--endpoint", endpoint);
    char *records = testkit_read_file(place->out, NULL);
    EXPECT(2, "--out line 1: not a record of a comparison", COMPARE(place, endpoint));
    char *left = testkit_read_file(place->out, NULL);
    assert_string_equal(left, records);
    free(left);
    free(records);
    assert_int_equal(remove(place->out), 0);
    EXPECT(0, "30/30", COMPARE(place, endpoint));
    EXPECT(2, "--out line 1: not a record of a sweep", "sweep", place->in, "--out", place->out,
           "--endpoint", endpoint);
    EXPECT(2, "another comparison: beam: job.n is 32 there and 16 now", COMPARE(place, endpoint),
           "--n", "16");
    EXPECT(2, "another comparison: sample: system is null there and", COMPARE(place, endpoint),
           "--system", "be kind");
    EXPECT(2, "is the input file", "compare", place->in, "--out", place->in);
    EXPECT(2, "sample and sample:plain are the same", "compare", place->in, "--methods",
           "sample,sample:plain", "--endpoint", endpoint);
    expect_each_once_compared(place);
    // One more method: the records of the others stay, and what they share must fit.
    EXPECT(2, "another comparison: sample: system is null there and", "compare", place->in, "--out",
           place->out, "--methods", "best-of-n", "--endpoint", endpoint, "--system", "x");
    int before = fake_service_jobs(service);
    EXPECT(0, "30/30", "compare", place->in, "--out", place->out, "--methods", "sample,best-of-n",
           "--endpoint", endpoint);
    assert_int_equal(fake_service_jobs(service), before + ITEMS);
    const char *edited = "{\"id\":\"i3\",\"prompt\":\"p-3\",\"tag\":\"benign\"}\n";
    testkit_write_file(place->in, edited, strlen(edited));
    EXPECT(2, "line 1: field \"tag\" is \"benign\", and 3 in the record", COMPARE(place, endpoint));
    fake_service_stop(service);
}

static void test_comparison_does_failed_items_again(void **state) {
    struct place *place = *state;
    write_items(place, " bad");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.fail_word = "bad"});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(3, "24/30        0       6", COMPARE(place, endpoint));
    int before = fake_service_jobs(service);
    EXPECT(3, "24/30        0       6", COMPARE(place, endpoint));
    assert_int_equal(fake_service_jobs(service), before);
    EXPECT(3, "24/30        0       6", COMPARE(place, endpoint), "--retry-failed");
    assert_int_equal(fake_service_jobs(service), before + 2 * ITEMS / 5);
    expect_each_once_compared(place);
    fake_service_stop(service);
}

// 180 s are not enough for the old way, a whole timeout for each record.
static void test_sweep_keeps_its_patience_when_the_service_dies(void **state) {
    struct place *place = *state;
    place->records = ITEMS / 3;
    write_items(place, "");
    char endpoint[PATH_BYTES];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/clients", place->directory);
    struct fake_service *service =
        fake_service_start(endpoint, &(struct fake_script){.results_max = ITEMS / 3});
    struct process process;
    char *words[] = {"sweep",   place->in,       "--out",       place->out, "--endpoint",
                     endpoint,  "--quiet",       "--in-flight", "16",       "--timeout-ms",
                     "3600000", "--patience-ms", "1500",        NULL};
    command_start(&place->command, &process, words);
    assert_true(process_wait_until(has_records, place, WAIT_MS));
    fake_service_stop(service);
    int code = -1;
    assert_true(process_wait(&process, WAIT_MS, &code));
    char *output = testkit_read_file(place->command.log, NULL);
    assert_non_null(strstr(output, "--patience-ms: the service does not answer, for 1500 ms"));
    expect_code(4, code, output);
}

static void test_waiting_for_a_lost_group_is_said_and_ends(void **state) {
    struct place *place = *state;
    write_items(place, "");
    const struct fake_script script = {.results_max = 1, .alive_asks = 2};
    struct fake_service *service = fake_service_start("tcp://127.0.0.1:*", &script);
    char *output = NULL;
    int code = RUN(place, &output, "sweep", place->in, "--out", place->out, "--endpoint",
                   (char *)fake_service_endpoint(service), "--patience-ms", "1500", "--quiet");
    assert_non_null(strstr(output, "s: no group is alive: group-1; giving up after 2 s"));
    assert_non_null(strstr(output, "--patience-ms: no group is alive: group-1, for 1500 ms"));
    expect_code(4, code, output);
    code = RUN(place, &output, "run", "hello", "--endpoint", (char *)fake_service_endpoint(service),
               "--patience-ms", "1500");
    assert_non_null(strstr(output, "s: no group is alive: group-1; giving up after 2 s"));
    assert_non_null(strstr(output, "surefoot fetch"));
    expect_code(4, code, output);
    fake_service_stop(service);
}

static void test_sweep_without_groups_or_service_exits_with_4(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.no_groups = true});
    char *output = NULL;
    int code = sweep(place, service, &output);
    assert_non_null(strstr(output, "no group is alive"));
    expect_code(4, code, output);
    fake_service_stop(service);
}

// Runs the program with IN on its standard input: by way of the shell, `script` says how.
static void expect_shell(const struct place *place, int expected, const char *part,
                         const char *script, char *const *words) {
    char *argv[ARGUMENTS_MAX + 8] = {"sh",
                                     "-c",
                                     (char *)script,
                                     "sh",
                                     (char *)place->in,
                                     (char *)testkit_binary_path("bin/surefoot")};
    for (int i = 0; words[i] != NULL; i++) {
        assert_true(i < ARGUMENTS_MAX);
        argv[i + 6] = words[i];
    }
    remove(place->command.log);
    struct process process;
    process_start(&process, place->command.log, argv);
    int code = -1;
    assert_true(process_wait(&process, WAIT_MS, &code));
    char *output = testkit_read_file(place->command.log, NULL);
    if (strstr(output, part) == NULL) {
        fail_msg("\"%s\" is not in:\n%s", part, output);
    }
    expect_code(expected, code, output);
}

#define PIPED "in=$1; shift; cat \"$in\" | \"$@\""
#define REDIRECTED "in=$1; shift; \"$@\" < \"$in\""

static void test_items_come_from_standard_input(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    char *words[] = {"sweep", "-", "--out", place->out, "--endpoint", endpoint, NULL};
    expect_shell(place, 0, "standard input, JSON lines, 30 rows, asking prompt\n", PIPED, words);
    expect_each_once(place);
    expect_shell(place, 0, "0 of them in this run", REDIRECTED, words);
    EXPECT(0, "0 of them in this run", "sweep", place->in, "--out", place->out, "--endpoint",
           endpoint);
    // Records are checked against what comes now.
    write_items(place, " edited");
    expect_shell(place, 2, "line 1: field \"prompt\" is \"p-0 edited\", and \"p-0\" in the record",
                 PIPED, words);
    expect_shell(place, 2, "/dev/stdin", REDIRECTED,
                 (char *[]){"sweep", "-", "--out", place->in, "--endpoint", endpoint, NULL});
    EXPECT(2, "standard input: no items", "sweep", "-", "--out", place->out);
    const char *csv = "prompt,tag\np-1,1\n";
    testkit_write_file(place->in, csv, strlen(csv));
    assert_int_equal(remove(place->out), 0);
    expect_shell(place, 0, "standard input, CSV, 1 row, asking prompt\n", PIPED,
                 (char *[]){"compare", "-", "--form", "csv", "--endpoint", endpoint, NULL});
    fake_service_stop(service);
}

static void test_selections_are_said_and_may_grow(void **state) {
    struct place *place = *state;
    write_items(place, " bad");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){0});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0,
           "JSON lines, 30 rows, asking prompt; 1 selected by --filter tag=3 --filter tag=4 "
           "--filter id=i4 (1 left) --limit 5\n",
           "sweep", place->in, "--out", place->out, "--filter", "tag=3", "--filter", "tag=4",
           "--filter", "id=i4", "--limit", "5", "--endpoint", endpoint);
    json_t *record = load_record(place, 0);
    assert_string_equal(json_string_value(json_object_get(record, "id")), "i4");
    json_decref(record);
    EXPECT(0, "; 3 selected by --sample 3 --sample-seed 9\n", "compare", place->in, "--methods",
           "sample", "--sample", "3", "--sample-seed", "9", "--endpoint", endpoint);
    assert_int_equal(remove(place->out), 0);
    EXPECT(0, "5 items: 5 answered, 0 refused, 0 failed; 5 of them", "sweep", place->in, "--out",
           place->out, "--sample", "5", "--sample-seed", "2", "--endpoint", endpoint);
    EXPECT(0, "9 items: 9 answered, 0 refused, 0 failed; 4 of them", "sweep", place->in, "--out",
           place->out, "--sample", "9", "--sample-seed", "2", "--endpoint", endpoint);
    EXPECT(2, "--sample-seed: has no effect without --sample", "sweep", place->in, "--out",
           place->out, "--sample-seed", "2");
    EXPECT(2, "--filter: no row has a field \"sort\"; there are id, prompt, tag", "sweep",
           place->in, "--out", place->out, "--filter", "sort=x");
    fake_service_stop(service);
}

static void test_compare_prints_a_line_for_each_method(void **state) {
    struct place *place = *state;
    write_items(place, "");
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.over_budget = true});
    char *output = NULL;
    int code = RUN(place, &output, "compare", place->in, "--limit", "3", "--methods",
                   "sample,beam:lagrangian", "--endpoint", (char *)fake_service_endpoint(service),
                   "--quiet");
    assert_non_null(strstr(output, "beam:lagrangian"));
    assert_non_null(strstr(output, "3/3"));
    assert_null(strstr(output, "answer to"));
    expect_code(0, code, output);
    assert_int_equal(fake_service_jobs(service), 6);
    assert_int_equal(fake_service_open(service), 0);
    fake_service_stop(service);
}

static void test_compare_refuses_a_flag_that_no_method_reads(void **state) {
    struct place *place = *state;
    write_items(place, "");
    char *in = place->in;
    EXPECT(2, "--tries: has no effect", "compare", in, "--methods", "sample,beam", "--tries", "3");
    EXPECT(2, "--n: has no effect", "compare", in, "--methods", "sample", "--n", "8");
    EXPECT(2, "--fallback-weight: has", "compare", in, "--methods", "beam", "--fallback-weight",
           "1");
    EXPECT(2, "--lagrangian-lambda: has", "compare", in, "--methods", "beam:augmented",
           "--lagrangian-lambda", "1");
}

// The second prompt is answered by sample alone.
static void test_compare_averages_over_common_prompts_and_keeps_results(void **state) {
    struct place *place = *state;
    const char *text = "one\nnever\nthree\n";
    char input[PATH_BYTES];
    snprintf(input, sizeof input, "%s/in.txt", place->directory);
    testkit_write_file(input, text, strlen(text));
    struct fake_service *service = fake_service_start(
        "tcp://127.0.0.1:*",
        &(struct fake_script){.refuse_word = "never", .refuse_method = "inference-guard"});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(2, "--selection: has no effect on any of the methods", "compare", input, "--methods",
           "sample,best-of-n:plain,inference-guard", "--selection", "lagrangian", "--endpoint",
           endpoint);
    EXPECT(2, "--methods: sample:augmented: method sample is always plain", "compare", input,
           "--methods", "sample:augmented,beam", "--endpoint", endpoint);
    EXPECT(2, "--method: has no effect here", "compare", input, "--method", "beam", "--endpoint",
           endpoint);
    EXPECT(2, "--fallback-cap: has no effect", "compare", input, "--fallback-cap", "1", "--tries",
           "1", "--endpoint", endpoint);
    EXPECT(2, "--temperature: has no effect on any", "compare", input, "--methods",
           "args:plain,args:lagrangian", "--temperature", "0.5", "--endpoint", endpoint);
    EXPECT(2, "--logit-bias: has no effect on any", "compare", input, "--methods", "args",
           "--logit-bias", "3=1", "--endpoint", endpoint);
    EXPECT(0, "every method answered", "compare", input, "--methods", "args,sample",
           "--temperature", "0.5", "--endpoint", endpoint, "--quiet");
    EXPECT(0, "every method answered", "compare", input, "--methods", "sample,beam,inference-guard",
           "--selection", "lagrangian", "--endpoint", endpoint, "--quiet", "--out", place->out);
    static const char *const selections[] = {"plain", "lagrangian", "augmented"};
    for (int i = 0; i < 3; i++) {
        json_t *record = load_record(place, 3 * i);
        const json_t *job = json_object_get(json_object_get(record, "settings"), "job");
        assert_string_equal(json_string_value(json_object_get(job, "selection")), selections[i]);
        json_decref(record);
    }
    assert_int_equal(remove(place->out), 0);
    EXPECT(0, "means over the 2 prompts that every method answered, 1 left out", "compare", input,
           "--methods", "sample,inference-guard", "--tries", "3", "--endpoint", endpoint, "--quiet",
           "--out", place->out);
    // Costs are 1.25 but for the prompt that only sample answered, 100.
    EXPECT(0, "\"summary\":\"sample\",\"mean_reward\":0.5,\"mean_cost\":1.25,\"common\":2,",
           "compare", input, "--methods", "sample,inference-guard", "--endpoint", endpoint,
           "--quiet", "--json");
    EXPECT(2, "another comparison: inference-guard: job.tries is 3 there and 2 now", "compare",
           input, "--endpoint", endpoint, "--out", place->out);
    fake_service_stop(service);
    FILE *file = fopen(place->out, "r");
    char *line = NULL;
    size_t capacity = 0;
    int count = 0;
    while (getline(&line, &capacity, file) >= 0) {
        json_t *record = json_loads(line, 0, NULL);
        const char *method = json_string_value(json_object_get(record, "method"));
        const json_t *job = json_object_get(json_object_get(record, "settings"), "job");
        assert_string_equal(json_string_value(json_object_get(job, "method")), method);
        assert_int_equal(json_integer_value(json_object_get(job, "n")),
                         strcmp(method, "sample") == 0 ? 1 : 32);
        assert_int_equal(json_integer_value(json_object_get(job, "tries")),
                         strcmp(method, "sample") == 0 ? 2 : 3); // its own default
        json_decref(record);
        count++;
    }
    free(line);
    fclose(file);
    assert_int_equal(count, 6);
}

// Each method has sampling of its own: the preset's where no flag says otherwise, none where tokens
// are taken by their logits.
static void test_compare_takes_presets_among_its_methods(void **state) {
    struct place *place = *state;
    char input[PATH_BYTES];
    snprintf(input, sizeof input, "%s/in.txt", place->directory);
    testkit_write_file(input, "one\n", 4);
    struct fake_service *service =
        fake_service_start("tcp://127.0.0.1:*", &(struct fake_script){.refuse_word = "never"});
    char *endpoint = (char *)fake_service_endpoint(service);
    EXPECT(0, "every method answered", "compare", input, "--methods",
           "paper/args-cost,paper/cards,beam", "--temperature", "0.5", "--n", "8", "--endpoint",
           endpoint, "--quiet", "--out", place->out);
    fake_service_stop(service);
    static const struct {
        const char *label, *method, *selection;
        double temperature;
        int top_k;
    } expected[] = {{"paper/args-cost", "args", "cost", 1, 0},
                    {"paper/cards", "cards", "plain", 0.5, 40},
                    {"beam", "beam", "plain", 0.5, -1}};
    for (int i = 0; i < 3; i++) {
        json_t *record = load_record(place, i);
        const json_t *job = json_object_get(json_object_get(record, "settings"), "job");
        const json_t *sampling = json_object_get(job, "sampling");
        assert_string_equal(json_string_value(json_object_get(record, "method")),
                            expected[i].label);
        assert_string_equal(json_string_value(json_object_get(job, "method")), expected[i].method);
        assert_string_equal(json_string_value(json_object_get(job, "selection")),
                            expected[i].selection);
        assert_int_equal(json_integer_value(json_object_get(job, "n")), 8);
        assert_true(json_number_value(json_object_get(sampling, "temperature")) ==
                    expected[i].temperature);
        const json_t *top_k = json_object_get(sampling, "top_k");
        assert_int_equal(top_k == NULL ? -1 : json_integer_value(top_k), expected[i].top_k);
        json_decref(record);
    }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_bad_usage_exits_with_2_and_names_the_fault),
        CASE(test_private_directories_of_killed_commands_are_removed),
        CASE(test_help_and_version_exit_with_0),
        CASE(test_help_has_a_default_for_every_flag),
        CASE(test_help_states_the_defaults_that_jobs_take),
        CASE(test_no_service_exits_with_4),
        CASE(test_run_prints_the_answer_and_closes_the_job),
        CASE(test_answer_over_budget_is_masked),
        CASE(test_job_verbs_follow_one_key),
        CASE(test_stored_jobs_are_listed_and_purged),
        CASE(test_who_may_not_list_and_purge_is_told),
        CASE(test_sweep_answers_every_item_once),
        CASE(test_sweep_leaves_files_that_are_not_its_own),
        CASE(test_sweep_says_what_it_asks),
        CASE(test_sweep_refuses_other_flags_and_edited_rows),
        CASE(test_sweep_goes_on_with_the_date_of_its_records),
        CASE(test_sweep_records_variables_of_the_template),
        CASE(test_variables_that_mean_nothing_are_refused),
        CASE(test_first_record_fixes_the_date_of_sweep_and_compare),
        CASE(test_rerun_closes_jobs_that_a_killed_sweep_left),
        CASE(test_sweep_finishes_lost_replies_silence_and_forgotten_jobs),
        CASE(test_sweep_tells_failed_items),
        CASE(test_refused_prompts_are_records_and_refused_flags_end_the_sweep),
        CASE(test_interrupted_sweep_goes_on),
        CASE(test_killed_sweep_goes_on),
        CASE(test_killed_comparison_goes_on),
        CASE(test_comparison_refuses_other_flags_files_and_edited_rows),
        CASE(test_comparison_does_failed_items_again),
        CASE(test_sweep_keeps_its_patience_when_the_service_dies),
        CASE(test_waiting_for_a_lost_group_is_said_and_ends),
        CASE(test_sweep_without_groups_or_service_exits_with_4),
        CASE(test_items_come_from_standard_input),
        CASE(test_selections_are_said_and_may_grow),
        CASE(test_compare_refuses_a_flag_that_no_method_reads),
        CASE(test_compare_averages_over_common_prompts_and_keeps_results),
        CASE(test_compare_takes_presets_among_its_methods),
        CASE(test_compare_prints_a_line_for_each_method),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
