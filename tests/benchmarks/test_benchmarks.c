// The benchmark programs on tiny models: their tables are complete, and numbers that are defined by
// others agree with them. No number here says anything about speed.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/random_model.h"
#include "tests/support/testkit.h"

enum { COLUMNS_MAX = 32, ROWS_MAX = 16, CELL_BYTES = 48 };

// A benchmark's output without the lines that start with "#".
struct table {
    char names[COLUMNS_MAX][CELL_BYTES];
    char cells[ROWS_MAX][COLUMNS_MAX][CELL_BYTES];
    int n_columns;
    int n_rows;
};

static int set_up(void **state) {
    struct random_model_options options;
    struct error err;
    char *directory = testkit_make_directory();
    assert_true(random_model_preset("15m", &options));
    options.dim = 64;
    options.n_layers = 2;
    options.n_heads = 4;
    options.n_kv_heads = 2;
    options.hidden = 96;
    options.vocab_size = 300;
    assert_ok(random_model_write_guard(directory, &options, &err), &err);
    *state = directory;
    return 0;
}

static int tear_down(void **state) {
    testkit_remove_tree(*state);
    return 0;
}

static int split(char *line, char cells[COLUMNS_MAX][CELL_BYTES]) {
    int n = 0;
    for (char *cell = strtok(line, ",\n"); cell != NULL; cell = strtok(NULL, ",\n")) {
        assert_in_range(n, 0, COLUMNS_MAX - 1);
        snprintf(cells[n++], CELL_BYTES, "%s", cell);
    }
    return n;
}

// Runs "<build>/bin/<command>" where the models lie.
static void run(const char *command, const char *directory, struct table *table) {
    char line[4096], whole[16384];
    memset(table, 0, sizeof *table);
    snprintf(whole, sizeof whole, "cd %s && %s/%s", directory, testkit_binary_path("bin"), command);
    FILE *out = popen(whole, "r");
    assert_non_null(out);
    while (fgets(line, sizeof line, out) != NULL) {
        if (line[0] == '#') {
            continue;
        }
        if (table->n_columns == 0) {
            table->n_columns = split(line, table->names);
            continue;
        }
        assert_in_range(table->n_rows, 0, ROWS_MAX - 1);
        assert_int_equal(split(line, table->cells[table->n_rows++]), table->n_columns);
    }
    assert_int_equal(pclose(out), 0);
}

static double number(const struct table *table, int row, const char *name) {
    for (int i = 0; i < table->n_columns; i++) {
        if (strcmp(table->names[i], name) == 0) {
            char *end;
            double value = strtod(table->cells[row][i], &end);
            assert_true(*end == '\0' && isfinite(value));
            return value;
        }
    }
    fail_msg("no column %s", name);
    return 0;
}

static void assert_near(double value, double expected, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%g is not %g within %g", value, expected, tolerance);
    }
}

static void test_decode_prints_a_row_for_each_prompt_and_number_of_sequences(void **state) {
    struct table table;
    run("bench_decode --model policy --prompt 5,40 --sequences 1,3 --new 4 --repeats 2 "
        "--threads 1 --temperature 0",
        *state, &table);
    assert_int_equal(table.n_rows, 4);
    for (int row = 0; row < 4; row++) {
        assert_int_equal(number(&table, row, "prompt"), row < 2 ? 5 : 40);
        double n = row % 2 == 0 ? 1 : 3;
        assert_int_equal(number(&table, row, "sequences"), n);
        double step_ms = number(&table, row, "step_ms");
        double tps = number(&table, row, "decode_tps");
        assert_true(tps > 0 && number(&table, row, "prompt_tps") > 0);
        // step_ms has three digits after the point.
        assert_near(tps * step_ms, 1000 * n, tps * 0.001 + step_ms * 0.1);
        assert_true(number(&table, row, "peak_rss_mb") > 0);
        assert_true(number(&table, row, "critic_percent") > 0); // of times that vary by themselves
        assert_true(number(&table, row, "critic_ms") > 0);
    }
}

static void test_help_names_the_values_of_flags(void **state) {
    (void)state;
    static const char *const programs[] = {"bench_decode", "bench_guard", "bench_matmul",
                                           "bench_scorers", "make_random_model"};
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        char command[4096], text[16384];
        snprintf(command, sizeof command, "%s/%s --help", testkit_binary_path("bin"), programs[i]);
        FILE *out = popen(command, "r");
        assert_non_null(out);
        text[fread(text, 1, sizeof text - 1, out)] = '\0';
        assert_int_equal(pclose(out), 0);
        assert_null(strstr(text, "(null)"));
        assert_non_null(strstr(text, " N "));
    }
}

static void test_decode_gives_the_rate_without_draws_too(void **state) {
    struct table table;
    run("bench_decode --model policy --prompt 5 --sequences 8 --new 4 --repeats 1 --threads 1",
        *state, &table);
    assert_int_equal(table.n_rows, 1);
    double tps = number(&table, 0, "model_tps"), sample_ms = number(&table, 0, "sample_ms");
    double model_ms = number(&table, 0, "step_ms") - sample_ms;
    assert_true(sample_ms > 0 && tps > number(&table, 0, "decode_tps"));
    assert_near(tps * model_ms, 1000 * 8, tps * 0.001 + model_ms * 0.1);
}

static void test_scorers_read_each_token_once(void **state) {
    struct table table;
    run("bench_scorers --policy policy --reward reward --cost cost --n 8 "
        "--block-tokens 4 --max-tokens 16 --prompt-bytes 20 --repeats 1 --threads 1",
        *state, &table);
    assert_int_equal(table.n_rows, 1);
    assert_int_equal(number(&table, 0, "tokens"), 8 * 16);
    assert_near(number(&table, 0, "reward_read"), 1, 1e-9);
    assert_near(number(&table, 0, "cost_read"), 1, 1e-9);
    // Two scorers of the policy's layers against these and the output matrix.
    const double layers = 2 * (64 * (2 * 64 + 2 * 32) + 3 * 64 * 96), head = 64 * 300;
    assert_near(number(&table, 0, "work_ratio"), 2 * (layers + 64) / (layers + head), 0.0006);
}

static void test_guard_accounts_for_all_time(void **state) {
    struct table table;
    run("bench_guard --policy policy --reward reward=reward --cost cost=cost --comm local "
        "--threads 1 --n 8 --block-tokens 4 --max-tokens 16 --prompt-bytes 20 --jobs 3 "
        "--in-flight 2",
        *state, &table);
    assert_int_equal(table.n_rows, 2);
    for (int row = 0; row < 2; row++) {
        static const char *const parts[] = {"decode_percent", "score_percent", "collective_percent",
                                            "leader_percent", "waiting_percent"};
        double sum = 0;
        for (int i = 0; i < 5; i++) {
            double part = number(&table, row, parts[i]);
            assert_true(part >= -0.01);
            sum += part;
        }
        assert_near(sum, 100, 0.03); // five roundings to 0.01
        assert_near(number(&table, row, "tokens_per_job"), 8 * 16, 0.05);
        double lowest = number(&table, row, "job_ms_min");
        double highest = number(&table, row, "job_ms_max");
        assert_true(lowest > 0 && lowest <= number(&table, row, "job_ms"));
        assert_true(number(&table, row, "job_ms") <= highest);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_decode_prints_a_row_for_each_prompt_and_number_of_sequences, set_up, tear_down),
        cmocka_unit_test(test_help_names_the_values_of_flags),
        cmocka_unit_test_setup_teardown(test_decode_gives_the_rate_without_draws_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_scorers_read_each_token_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_guard_accounts_for_all_time, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
