// coordinator/store.c: what was committed survives a kill, the same key is the same job, old
// results go and nothing else does, a full disk is an error that passes, files of earlier versions
// are opened, and foreign, damaged or newer ones are refused.
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/deadline.h"
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

static enum status put_result(struct store *store, uint64_t id, const char *text, int64_t done_ms,
                              bool *is_new, struct error *err) {
    const struct store_result result = {
        .bytes = (const uint8_t *)text, .size = strlen(text), .outcome = 2, .done_ms = done_ms};
    return store_put_result(store, id, &result, is_new, err);
}

static bool must_put_result(struct store *store, uint64_t id, const char *result) {
    bool is_new = false;
    struct error err = {0};
    assert_ok(put_result(store, id, result, 2000, &is_new, &err), &err);
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
    struct store_removed removed = {0};
    assert_ok(store_find_job(store, "a", &err), &err);
    assert_ok(store_close_job(store, "a", &removed, &err), &err);
    assert_true(removed.jobs == 1 && removed.results == 1 && removed.bytes > 0);
    assert_ok(store_close_job(store, "a", &removed, &err), &err);
    assert_false(removed.jobs > 0 || removed.results > 0 || removed.bytes > 0);
    assert_status(STATUS_NOT_FOUND, store_find_job(store, "a", &err));
    struct store_job job;
    bool is_new = false;
    assert_status(STATUS_NOT_FOUND, store_get_job(store, "a", &job, &err));
    assert_status(STATUS_NOT_FOUND, put_result(store, id, "x", 2000, &is_new, &err));
    assert_true(must_put_job(store, "a", "another spec") > id);
    store_close(store);
}

// The jobs of a list, as text: key, outcome, when done; "-" of one that is not.
struct listing {
    char text[512];
    uint64_t last_id;
};

static void note_listed(void *context, const struct store_listed *job) {
    struct listing *listing = context;
    size_t used = strlen(listing->text);
    char *end = listing->text + used;
    if (job->is_done) {
        snprintf(end, sizeof listing->text - used, "%s %d %" PRId64 "; ", job->job_key,
                 job->outcome, job->done_ms);
    } else {
        snprintf(end, sizeof listing->text - used, "%s -; ", job->job_key);
    }
    assert_true(job->job_id > listing->last_id);
    assert_int_equal(job->accepted_ms, 1000);
    listing->last_id = job->job_id;
}

static void expect_list(struct store *store, uint64_t after_id, uint32_t limit,
                        const char *expected) {
    struct listing listing = {.text = ""};
    struct error err = {0};
    assert_ok(store_list(store, after_id, limit, note_listed, &listing, &err), &err);
    assert_string_equal(listing.text, expected);
}

static void test_jobs_are_listed_in_the_order_of_acceptance(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint64_t b = must_put_job(store, "b", "spec");
    must_put_job(store, "a", "spec");
    must_put_result(store, must_put_job(store, "c", "spec"), "result");
    expect_list(store, 0, 2, "b -; a -; ");
    expect_list(store, 0, 9, "b -; a -; c 2 2000; ");
    expect_list(store, b, 9, "a -; c 2 2000; ");
    store_close(store);
}

static void test_purge_drops_the_oldest_results_and_no_unfinished_job(void **state) {
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    bool is_new = false;
    struct error err = {0};
    static const struct {
        const char *key;
        int64_t done_ms;
    } jobs[] = {{"third", 30}, {"first", 10}, {"fourth", 40}, {"second", 20}};
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        uint64_t id = must_put_job(store, jobs[i].key, "spec");
        assert_ok(put_result(store, id, "result", jobs[i].done_ms, &is_new, &err), &err);
    }
    must_put_job(store, "waits", "spec");
    struct store_removed removed = {0};
    assert_ok(store_purge(store, 9, 10, &removed, &err), &err);
    assert_true(removed.jobs == 0 && removed.bytes == 0 && !removed.more);
    assert_ok(store_purge(store, 30, 2, &removed, &err), &err);
    assert_true(removed.jobs == 2 && removed.results == 2 && removed.more);
    assert_int_equal(removed.bytes, 2 * strlen("specresult"));
    expect_list(store, 0, 9, "third 2 30; fourth 2 40; waits -; ");
    assert_ok(store_purge(store, 30, 2, &removed, &err), &err);
    assert_true(removed.jobs == 1 && !removed.more);
    assert_ok(store_purge(store, INT64_MAX, 9, &removed, &err), &err);
    expect_list(store, 0, 9, "waits -; ");
    store_close(store);
}

static void test_one_purge_ends_when_it_has_dropped_enough_bytes(void **state) {
    enum { JOBS = 24, RESULT_BYTES = 4 << 20 }; // 64 MiB are enough
    struct fixture *fixture = *state;
    struct store *store = open_store(fixture->path, 0);
    uint8_t *bytes = calloc(1, RESULT_BYTES);
    const struct store_result result = {.bytes = bytes, .size = RESULT_BYTES, .done_ms = 1};
    char key[16];
    bool is_new = false;
    struct error err = {0};
    assert_ok(store_begin(store, &err), &err);
    for (int i = 0; i < JOBS; i++) {
        snprintf(key, sizeof key, "job-%d", i);
        uint64_t id = must_put_job(store, key, "spec");
        assert_ok(store_put_result(store, id, &result, &is_new, &err), &err);
    }
    assert_ok(store_commit(store, &err), &err);
    free(bytes);
    struct store_removed removed = {0};
    assert_ok(store_purge(store, 1, JOBS, &removed, &err), &err);
    assert_true(removed.jobs == 16 && removed.more);
    assert_ok(store_purge(store, 1, JOBS, &removed, &err), &err);
    assert_true(removed.jobs == 8 && !removed.more);
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
        bool good = store_open(&options, &store, &err) == STATUS_OK &&
                    store_begin(store, &err) == STATUS_OK &&
                    put_job(store, "committed", "one", &id, &is_new, &err) == STATUS_OK &&
                    put_result(store, id, "r", 2000, &is_new, &err) == STATUS_OK &&
                    store_commit(store, &err) == STATUS_OK &&
                    store_begin(store, &err) == STATUS_OK &&
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
    struct store_removed removed = {0};
    assert_ok(store_close_job(store, "large-0", &removed, &err), &err);
    assert_true(removed.jobs == 1 && removed.results == 0);
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
        struct store_removed removed = {0};
        snprintf(key, sizeof key, "job-%d", i);
        assert_ok(store_close_job(store, key, &removed, &err), &err);
        assert_int_equal(removed.jobs, 1);
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
        struct store_removed removed = {0};
        snprintf(key, sizeof key, "again-%d", i);
        assert_ok(store_close_job(store, key, &removed, &err), &err);
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
    struct store_removed removed = {0};
    assert_true(stored > again);
    assert_ok(store_close_job(store, "more-0", &removed, &err), &err);
    store_close(store);
    small_disk_leave();
}

// As versions 1 and 2 of the schema left it: a result, and a job without one.
static void make_earlier_store(const char *path, int version) {
    static const char first[] = "CREATE TABLE jobs (id INTEGER PRIMARY KEY AUTOINCREMENT,"
                                " job_key TEXT NOT NULL UNIQUE, spec BLOB NOT NULL,"
                                " accepted_ms INTEGER NOT NULL);"
                                "CREATE TABLE results (job_id INTEGER PRIMARY KEY,"
                                " result BLOB NOT NULL);"
                                "INSERT INTO jobs (id, job_key, spec, accepted_ms) VALUES"
                                " (7, 'done', 'spec', 1000), (8, 'waits', 'spec', 1000);"
                                "INSERT INTO results VALUES (7, 'result');"
                                "PRAGMA application_id = 0x53757265;"
                                "PRAGMA user_version = 1;";
    static const char second[] = "ALTER TABLE jobs ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;"
                                 "ALTER TABLE jobs ADD COLUMN lost_at INTEGER NOT NULL DEFAULT 0;"
                                 "PRAGMA user_version = 2;";
    sqlite3 *database = NULL;
    assert_int_equal(sqlite3_open(path, &database), SQLITE_OK);
    assert_int_equal(sqlite3_exec(database, first, NULL, NULL, NULL), SQLITE_OK);
    if (version == 2) {
        assert_int_equal(sqlite3_exec(database, second, NULL, NULL, NULL), SQLITE_OK);
    }
    assert_int_equal(sqlite3_close(database), SQLITE_OK);
}

// It must grow to be migrated: the disk has no byte left, or what an earlier process had kept.
static void test_an_earlier_version_on_a_full_disk_is_named_and_kept(void **state) {
    enum { DISK_BYTES = 4 << 20, RESERVE_BYTES = 1 << 20 };
    struct fixture *fixture = *state;
    char reserve[600];
    snprintf(reserve, sizeof reserve, "%s-reserve", fixture->path);
    small_disk_use(fixture->directory, DISK_BYTES);
    const struct store_options options = {.path = fixture->path};
    for (int version = 1; version <= 2; version++) {
        for (int has_reserve = 0; has_reserve < 2; has_reserve++) {
            static const char zeros[RESERVE_BYTES];
            struct store *store = NULL;
            struct error err = {0};
            make_earlier_store(fixture->path, version);
            if (has_reserve) {
                testkit_write_file(reserve, zeros, sizeof zeros);
            }
            small_disk_fill();
            if (!has_reserve) {
                assert_status(STATUS_DISK_FULL, store_open(&options, &store, &err));
                assert_non_null(strstr(err.message, fixture->path));
                assert_non_null(strstr(err.message, "nothing in it was changed"));
                small_disk_resize(2 * DISK_BYTES);
            }
            assert_ok(store_open(&options, &store, &err), &err);
            expect_job(store, "done", "spec", "result");
            expect_job(store, "waits", "spec", NULL);
            store_close(store);
            small_disk_resize(DISK_BYTES);
            assert_int_equal(remove(fixture->path), 0);
            remove(reserve);
        }
    }
    small_disk_leave();
}

static void note_done(void *context, const struct store_listed *job) {
    if (job->is_done) {
        *(struct store_listed *)context = *job;
    }
}

static void test_results_of_an_earlier_version_age_from_its_migration_on(void **state) {
    struct fixture *fixture = *state;
    for (int version = 1; version <= 2; version++) {
        make_earlier_store(fixture->path, version);
        int64_t before_ms = clock_realtime_ms() / 1000 * 1000;
        store_close(open_store(fixture->path, 0));
        struct store *store = open_store(fixture->path, 0); // migrated once
        int64_t after_ms = clock_realtime_ms();
        expect_job(store, "done", "spec", "result");
        expect_job(store, "waits", "spec", NULL);
        struct store_listed listed = {0};
        struct error err = {0};
        assert_ok(store_list(store, 0, 9, note_done, &listed, &err), &err);
        assert_true(listed.job_id == 7 && listed.outcome == 0);
        assert_true(listed.done_ms >= before_ms && listed.done_ms <= after_ms);
        struct store_removed removed = {0};
        assert_ok(store_purge(store, before_ms - 1, 9, &removed, &err), &err);
        assert_int_equal(removed.jobs, 0);
        assert_ok(store_purge(store, after_ms, 9, &removed, &err), &err);
        assert_int_equal(removed.jobs, 1);
        expect_job(store, "waits", "spec", NULL);
        store_close(store);
        remove(fixture->path);
    }
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
    testkit_write_file(fixture->path, "junk", 4);
    assert_status(STATUS_MALFORMED, open_error(fixture->path, &err));
    assert_non_null(strstr(err.message, fixture->path));
    assert_non_null(strstr(err.message, "not a database"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_same_key_is_the_same_job, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs_and_results_survive_reopening, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_result_stands, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closed_jobs_are_gone_and_ids_are_not_reused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_jobs_are_listed_in_the_order_of_acceptance, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_purge_drops_the_oldest_results_and_no_unfinished_job,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_purge_ends_when_it_has_dropped_enough_bytes, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_kill_keeps_what_was_committed_and_nothing_else, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_full_disk_is_reported_and_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs_can_be_closed_on_a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_earlier_version_on_a_full_disk_is_named_and_kept,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_results_of_an_earlier_version_age_from_its_migration_on, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_process_is_told_that_the_store_is_in_use, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_files_that_are_no_store_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_and_foreign_databases_are_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
