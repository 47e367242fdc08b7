// common/log.c: lines that others cause are bounded, counted, and stay lines.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"
#include "tests/support/testkit.h"

// Everything that `write` logs; caller frees.
static char *capture(void (*write)(struct log_limit *limit), struct log_limit *limit) {
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);
    assert_true(file != NULL && saved >= 0);
    fflush(stderr);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    write(limit);
    fflush(stderr);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    char *text = calloc(1, 1 << 16);
    assert_non_null(text);
    rewind(file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 0);
    fclose(file);
    return text;
}

static size_t count_lines(const char *text) {
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '\n' ? 1 : 0;
    }
    return count;
}

static void write_many(struct log_limit *limit) {
    for (int i = 0; i < 20000; i++) {
        log_limited(limit, LOG_LEVEL_WARN, "stranger %d", i);
    }
}

static void tick(struct log_limit *limit) {
    log_limit_tick(limit);
}

static void test_lines_of_one_kind_are_bounded_and_counted(void **state) {
    (void)state;
    struct log_limit limit = {.kind = "strangers", .since_ms = clock_monotonic_ms()};
    char *text = capture(write_many, &limit);
    assert_int_equal(count_lines(text), LOG_LIMIT_LINES);
    free(text);
    limit.since_ms -= LOG_LIMIT_MS;
    text = capture(tick, &limit);
    assert_non_null(strstr(text, "19980 more lines of strangers"));
    assert_int_equal(count_lines(text), 1);
    free(text);
    text = capture(write_many, &limit);
    assert_int_equal(count_lines(text), LOG_LIMIT_LINES);
    free(text);
}

static void write_foreign(struct log_limit *limit) {
    (void)limit;
    log_warn("name a\n2026 forged\x1b[31m\x7f");
}

static void test_text_of_others_stays_in_its_line(void **state) {
    (void)state;
    char *text = capture(write_foreign, NULL);
    assert_int_equal(count_lines(text), 1);
    assert_non_null(strstr(text, "name a?2026 forged?[31m?"));
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_of_one_kind_are_bounded_and_counted),
        cmocka_unit_test(test_text_of_others_stays_in_its_line),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
