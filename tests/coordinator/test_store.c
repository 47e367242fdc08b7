// coordinator/store.c: what was committed survives a kill, the same key is the same job, a full
// disk is an error that passes, and foreign, damaged or newer files are refused.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coordinator/store.h"
#include "tests/coordinator/small_disk.h"
#include "tests/support/testkit.h"

struct fixture {
    char *directory;
    char path[512];
};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->directory = testkit_make_directory();
    snprintf(fixture->path, sizeof fixture->path, "%s/jobs.db", fixture->directory);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    testkit_remove_tree(fixture->directory);
    free(fixture);
    return 0;
}

static struct store *open_store(const char *path, int64_t pages_max) {
    struct store_options options = {.path = path, .pages_max = pages_max};
    struct store *store = NULL;
    struct error err = {0};
    assert_ok(store_open(&options, &store, &err), &err);
    return store;
}

static enum status open_error(const char *path, struct error *err) {
    struct store_options options = {.path = path};
    struct store *store = NULL;
    enum status status = store_open(&options, &store, err);
    store_close(store);
    return status;
}

static enum status put_job(struct store *store, const char *key, const char *spec, uint64_t *id,
                           bool *is_new, struct error *err) {
    return store_put_job(store, key, (const uint8_t *)spec, strlen(spec), 1000, id, is_new, err);
}

static uint64_t must_put_job(struct store *store, const char *key, const char *spec) {
    uint64_t id = 0;
    bool is_new = false;
    struct error err = {0};
    assert_ok(put_job(store, key, spec, &id, &is_new, &err), &err);
    assert_true(is_new);
    return id;
}

static bool must_put_result(struct store *store, uint64_t id, const char *result) {
    bool is_new = false;
    struct error err = {0};
    assert_ok(store_put_result(store, id, (const uint8_t *)result, strlen(result), &is_new, &err),
              &err);
    return is_new;
}

static void expect_job(struct store *store, const char *key, const char *spec, const char *result) {
    struct store_job job;
    struct error err = {0};
    assert_ok(store_get_job(store, key, &job, &err), &err);
    assert_int_equal(job.spec_size, strlen(spec));
    assert_memory_equal(job.spec, spec, job.spec_size);
    if (result == NULL) {
        assert_null(job.result);
    } else {
        assert_int_equal(job.result_size, strlen(result));
        assert_memory_equal(job.result, result, job.result_size);
    }
    store_job_release(&job);
}

struct unfinished {
    size_t count;
    uint64_t ids[8];
};

static enum status note_unfinished(void *context, const struct store_job *job) {
    struct unfinished *list = context;
    assert_true(list->count < 8);
    list->ids[list->count++] = job->job_id;
    return STATUS_OK;
}

static void test_same_key_is_the_same_job(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint64_t first = must_put_job(store, "a", "spec one");
    uint64_t id = 0;
    bool is_new = true;
    struct error err = {0};
    assert_ok(put_job(store, "a", "spec one", &id, &is_new, &err), &err);
    assert_false(is_new);
    assert_true(id == first);
    assert_status(STATUS_ALREADY_EXISTS, put_job(store, "a", "spec two", &id, &is_new, &err));
    assert_string_equal(err.field, "job_key");
    store_close(store);
}

static void test_jobs_and_results_survive_reopening(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint64_t a = must_put_job(store, "a", "spec a");
    uint64_t b = must_put_job(store, "b", "spec b");
    uint64_t c = must_put_job(store, "c", "spec c");
    must_put_result(store, b, "result b");
    store_close(store);
    store = open_store(fixture->path, 0);
    struct unfinished list = {0};
    struct error err = {0};
    assert_ok(store_load_unfinished(store, note_unfinished, &list, &err), &err);
    assert_int_equal(list.count, 2);
    assert_true(list.ids[0] == a && list.ids[1] == c);
    expect_job(store, "b", "spec b", "result b");
    struct store_counts counts;
    assert_ok(store_get_counts(store, &counts, &err), &err);
    assert_int_equal(counts.jobs, 3);
    assert_int_equal(counts.results, 1);
    store_close(store);
}

static void test_first_result_stands(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint64_t id = must_put_job(store, "a", "spec");
    assert_true(must_put_result(store, id, "first"));
    assert_false(must_put_result(store, id, "second"));
    expect_job(store, "a", "spec", "first");
    store_close(store);
}

static void test_closed_jobs_are_gone_and_ids_are_not_reused(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint64_t id = must_put_job(store, "a", "spec");
    must_put_result(store, id, "result");
    struct error err = {0};
    struct store_closed closed = {.had_job = false};
    assert_ok(store_find_job(store, "a", &err), &err);
    assert_ok(store_close_job(store, "a", &closed, &err), &err);
    assert_true(closed.had_job && closed.had_result && closed.bytes > 0);
    assert_ok(store_close_job(store, "a", &closed, &err), &err);
    assert_false(closed.had_job || closed.had_result || closed.bytes > 0);
    assert_status(STATUS_NOT_FOUND, store_find_job(store, "a", &err));
    struct store_job job;
    bool is_new = false;
    assert_status(STATUS_NOT_FOUND, store_get_job(store, "a", &job, &err));
    assert_status(STATUS_NOT_FOUND,
                  store_put_result(store, id, (const uint8_t *)"x", 1, &is_new, &err));
    assert_true(must_put_job(store, "a", "another spec") > id);
    store_close(store);
}

static void test_kill_keeps_what_was_committed_and_nothing_else(void **state) {
    struct fixture *fixture = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store_options options = {.path = fixture->path};
        struct store *store = NULL;
        struct error err;
        uint64_t id = 0;
        bool is_new;
        bool good =
            store_open(&options, &store, &err) == STATUS_OK &&
            store_begin(store, &err) == STATUS_OK &&
            put_job(store, "committed", "one", &id, &is_new, &err) == STATUS_OK &&
            store_put_result(store, id, (const uint8_t *)"r", 1, &is_new, &err) == STATUS_OK &&
            store_commit(store, &err) == STATUS_OK && store_begin(store, &err) == STATUS_OK &&
            put_job(store, "open", "two", &id, &is_new, &err) == STATUS_OK;
        if (good) {
            raise(SIGKILL);
        }
        _exit(1);
    }
    int wait_status = 0;
    assert_int_equal(waitpid(child, &wait_status, 0), child);
    assert_true(WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL);
    struct store *store = open_store(fixture->path, 0);
    expect_job(store, "committed", "one", "r");
    struct store_job job;
    struct error err = {0};
    assert_status(STATUS_NOT_FOUND, store_get_job(store, "open", &job, &err));
    store_close(store);
}

static void test_full_disk_is_reported_and_passes(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 16);
    static char large[20000];
    memset(large, 'x', sizeof large - 1);
    struct error err = {0};
    must_put_job(store, "small", "kept");
    uint64_t id;
    bool is_new;
    int stored = 0;
    enum status status = STATUS_OK;
    char key[16];
    while (stored < 16 && status == STATUS_OK) {
        snprintf(key, sizeof key, "large-%d", stored);
        status = put_job(store, key, large, &id, &is_new, &err);
        stored += status == STATUS_OK ? 1 : 0;
    }
    assert_status(STATUS_DISK_FULL, status);
    assert_true(stored > 0);
    // A transaction that meets the limit leaves nothing of itself behind.
    assert_ok(store_begin(store, &err), &err);
    assert_ok(put_job(store, "with-large", "small", &id, &is_new, &err), &err);
    assert_status(STATUS_DISK_FULL, put_job(store, "too-large", large, &id, &is_new, &err));
    store_rollback(store);
    struct store_job job;
    assert_status(STATUS_NOT_FOUND, store_get_job(store, "with-large", &job, &err));
    expect_job(store, "small", "kept", NULL);
    // Closing a job makes room.
    struct store_closed closed = {.had_job = false};
    assert_ok(store_close_job(store, "large-0", &closed, &err), &err);
    assert_true(closed.had_job && !closed.had_result);
    assert_ok(put_job(store, "too-large", large, &id, &is_new, &err), &err);
    store_close(store);
}

// The disk is full to the last byte: not even a log entry has room but what the reserve leaves.
static void test_jobs_can_be_closed_on_a_full_disk(void **state) {
    enum { DISK_BYTES = 12 << 20, RESERVE_BYTES = 6 << 20 };
    struct fixture *fixture = *state;
    small_disk_use(fixture->directory, DISK_BYTES);
    struct store_options options = {.path = fixture->path, .reserve_bytes = RESERVE_BYTES};
    struct store *store = NULL;
    struct error err = {0};
    assert_ok(store_open(&options, &store, &err), &err);
    static char large[200000];
    memset(large, 'x', sizeof large - 1);
    uint64_t id;
    bool is_new;
    int stored = 0;
    char key[32];
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        snprintf(key, sizeof key, "job-%d", stored);
        status = put_job(store, key, large, &id, &is_new, &err);
        stored += status == STATUS_OK ? 1 : 0;
    }
    assert_status(STATUS_DISK_FULL, status);
    assert_true(stored > 10);
    small_disk_fill();
    for (int i = 0; i < stored; i++) {
        struct store_closed closed = {.had_job = false};
        snprintf(key, sizeof key, "job-%d", i);
        assert_ok(store_close_job(store, key, &closed, &err), &err);
        assert_true(closed.had_job);
    }
    // What they took can be used again, and no more than that.
    status = STATUS_OK;
    int again = 0;
    while (status == STATUS_OK && again < 10 * stored) {
        snprintf(key, sizeof key, "again-%d", again);
        status = put_job(store, key, large, &id, &is_new, &err);
        again += status == STATUS_OK ? 1 : 0;
    }
    assert_status(STATUS_DISK_FULL, status);
    assert_in_range(again, stored / 2, stored + 1);
    for (int i = 0; i < again; i++) {
        struct store_closed closed = {.had_job = false};
        snprintf(key, sizeof key, "again-%d", i);
        assert_ok(store_close_job(store, key, &closed, &err), &err);
    }
    // With room again it grows, and the reserve is there for the next time.
    small_disk_resize(4 * DISK_BYTES);
    store_restore_reserve(store);
    stored = 0;
    for (status = STATUS_OK; status == STATUS_OK;) {
        snprintf(key, sizeof key, "more-%d", stored);
        status = put_job(store, key, large, &id, &is_new, &err);
        stored += status == STATUS_OK ? 1 : 0;
    }
    assert_status(STATUS_DISK_FULL, status);
    struct store_closed closed = {.had_job = false};
    assert_true(stored > again);
    assert_ok(store_close_job(store, "more-0", &closed, &err), &err);
    store_close(store);
    small_disk_leave();
}

static void test_second_process_is_told_that_the_store_is_in_use(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    struct error err = {0};
    assert_status(STATUS_UNAVAILABLE, open_error(fixture->path, &err));
    assert_non_null(strstr(err.message, "in use"));
    store_close(store);
}

static void test_files_that_are_no_store_are_refused(void **state) {
    struct fixture *fixture = *state;
    struct error err = {0};
    char text[4096];
    memset(text, 'n', sizeof text);
    testkit_write_file(fixture->path, text, sizeof text);
    assert_status(STATUS_MALFORMED, open_error(fixture->path, &err));
    assert_true(err.message[0] != '\0');
    char missing[600];
    snprintf(missing, sizeof missing, "%s/absent/jobs.db", fixture->directory);
    assert_true(open_error(missing, &err) != STATUS_OK);
    assert_string_equal(err.field, "store");
}

// Bytes 60..63 of a database file are its user_version, 68..71 its application id (SQLite file
// format, section 1.3), both big-endian.
static void patch_header(const char *path, size_t offset, uint8_t value) {
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    assert_true(size > offset);
    bytes[offset] = (char)value;
    testkit_write_file(path, bytes, size);
    free(bytes);
}

static void test_newer_and_foreign_databases_are_refused(void **state) {
    struct fixture *fixture = *state;
    struct error err = {0};
    store_close(open_store(fixture->path, 0));
    patch_header(fixture->path, 63, 99);
    assert_status(STATUS_VERSION, open_error(fixture->path, &err));
    assert_non_null(strstr(err.message, "99"));
    patch_header(fixture->path, 63, 1);
    patch_header(fixture->path, 71, 0);
    assert_status(STATUS_MALFORMED, open_error(fixture->path, &err));
    assert_non_null(strstr(err.message, "another program"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_key_is_the_same_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs_and_results_survive_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_result_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_jobs_are_gone_and_ids_are_not_reused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_kill_keeps_what_was_committed_and_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_is_reported_and_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs_can_be_closed_on_a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_process_is_told_that_the_store_is_in_use, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_files_that_are_no_store_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_and_foreign_databases_are_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
