// Three tables. A row of `jobs` is valid from its commit on: the key is unique, `spec` the packed
// SubmitJob, `accepted_ms` wall-clock time, `losses` and `lost_at` a struct store_losses. A row of
// `results` belongs to exactly one job, is written once and never changed, and so is the row of
// `done` that comes with it: what is asked of many results at once, apart from their bytes.
// `done_ms` is wall-clock time, that of the migration for results that are older than the table,
// whose `outcome` is 0. A job without a result is unfinished and runs again, from its beginning,
// after a restart. Closing or purging a job deletes its rows.
// PRAGMA user_version numbers the schema.
#include "coordinator/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"

#define PAGES_MAX_EVER INT64_C(4294967294) // SQLite's own limit

enum {
    APPLICATION_ID = 0x53757265, // "Sure", marks the file as ours
    PAGE_BYTES = 4096,
    JOB_ID_SHIFT = 20,
    CACHE_KIB = 16384,
    REMOVED_BYTES_MAX = 64 << 20, // by one call, so that it does not keep others waiting for long
};

enum statement {
    STATEMENT_BEGIN,
    STATEMENT_COMMIT,
    STATEMENT_FIND_JOB,
    STATEMENT_INSERT_JOB,
    STATEMENT_INSERT_RESULT,
    STATEMENT_INSERT_DONE,
    STATEMENT_PUT_LOSSES,
    STATEMENT_JOB_EXISTS,
    STATEMENT_GET_JOB,
    STATEMENT_GET_SPEC,
    STATEMENT_BYTES,
    STATEMENT_DELETE_RESULT,
    STATEMENT_DELETE_DONE,
    STATEMENT_DELETE_JOB,
    STATEMENT_FIND_OLD,
    STATEMENT_LIST,
    STATEMENT_UNFINISHED,
    STATEMENT_COUNTS,
    STATEMENT_COUNT,
};

static const char *const statement_texts[STATEMENT_COUNT] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_FIND_JOB] = "SELECT id, spec FROM jobs WHERE job_key = ?1",
    [STATEMENT_INSERT_JOB] = "INSERT INTO jobs (job_key, spec, accepted_ms) VALUES (?1, ?2, ?3)",
    [STATEMENT_INSERT_RESULT] =
        "INSERT INTO results (job_id, result) VALUES (?1, ?2) ON CONFLICT (job_id) DO NOTHING",
    [STATEMENT_INSERT_DONE] = "INSERT INTO done (job_id, outcome, done_ms) VALUES (?1, ?2, ?3)",
    [STATEMENT_PUT_LOSSES] = "UPDATE jobs SET losses = ?2, lost_at = ?3 WHERE id = ?1",
    [STATEMENT_JOB_EXISTS] = "SELECT 1 FROM jobs WHERE id = ?1",
    [STATEMENT_GET_JOB] = "SELECT id, accepted_ms, spec, result FROM jobs"
                          " LEFT JOIN results ON results.job_id = jobs.id WHERE job_key = ?1",
    [STATEMENT_GET_SPEC] = "SELECT spec FROM jobs WHERE id = ?1",
    [STATEMENT_BYTES] = "SELECT length(spec) + ifnull(length(result), 0) FROM jobs"
                        " LEFT JOIN results ON results.job_id = jobs.id WHERE id = ?1",
    [STATEMENT_DELETE_RESULT] = "DELETE FROM results WHERE job_id = ?1",
    [STATEMENT_DELETE_DONE] = "DELETE FROM done WHERE job_id = ?1",
    [STATEMENT_DELETE_JOB] = "DELETE FROM jobs WHERE id = ?1",
    [STATEMENT_FIND_OLD] = "SELECT job_id FROM done WHERE done_ms <= ?1 ORDER BY done_ms LIMIT 1",
    [STATEMENT_LIST] = "SELECT id, job_key, accepted_ms, length(spec) + ifnull(length(result), 0),"
                       " outcome, done_ms FROM jobs"
                       " LEFT JOIN results ON results.job_id = jobs.id"
                       " LEFT JOIN done ON done.job_id = jobs.id"
                       " WHERE id > ?1 ORDER BY id LIMIT ?2",
    [STATEMENT_UNFINISHED] =
        "SELECT id, accepted_ms, spec, losses, lost_at FROM jobs WHERE"
        " NOT EXISTS (SELECT 1 FROM results WHERE job_id = jobs.id) ORDER BY id",
    [STATEMENT_COUNTS] = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM results),"
                         " (SELECT ifnull(sum(length(spec)), 0) FROM jobs) +"
                         " (SELECT ifnull(sum(length(result)), 0) FROM results)",
};

// Entry i takes a file of version i to version i + 1. Entries are never changed, new ones go last.
static const char *const migrations[] = {
    "CREATE TABLE jobs ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  job_key TEXT NOT NULL UNIQUE,"
    "  spec BLOB NOT NULL,"
    "  accepted_ms INTEGER NOT NULL);"
    "CREATE TABLE results ("
    "  job_id INTEGER PRIMARY KEY,"
    "  result BLOB NOT NULL);",
    "ALTER TABLE jobs ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE jobs ADD COLUMN lost_at INTEGER NOT NULL DEFAULT 0;",
    "CREATE TABLE done ("
    "  job_id INTEGER PRIMARY KEY,"
    "  outcome INTEGER NOT NULL,"
    "  done_ms INTEGER NOT NULL);"
    "CREATE INDEX done_by_age ON done (done_ms);"
    "INSERT INTO done SELECT job_id, 0, 1000 * CAST(strftime('%s', 'now') AS INTEGER)"
    " FROM results;",
};

enum { SCHEMA_VERSION = sizeof migrations / sizeof migrations[0] };

struct store {
    sqlite3 *database;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    const char *path; // until it is open, borrowed
    bool is_open;     // until then whoever opens it says what failed
    struct log_limit log;
    int64_t pages_max;
    int64_t reserve_bytes;
    int reserve_fd;   // -1 none
    bool has_reserve; // else it is in use, or there was no room for it yet
};

// Converts a SQLite result; `doing` ends the sentence "cannot ...".
static enum status convert(struct store *store, int rc, const char *doing, struct error *err) {
    enum status status = STATUS_IO;
    int primary = rc & 0xff;
    if (primary == SQLITE_FULL ||
        (primary == SQLITE_IOERR && sqlite3_system_errno(store->database) == ENOSPC)) {
        status = STATUS_DISK_FULL;
    } else if (primary == SQLITE_NOTADB || primary == SQLITE_CORRUPT) {
        status = STATUS_MALFORMED;
    } else if (primary == SQLITE_BUSY || primary == SQLITE_LOCKED) {
        status = STATUS_UNAVAILABLE;
    } else if (primary == SQLITE_NOMEM) {
        status = STATUS_NO_MEMORY;
    } else if (primary == SQLITE_TOOBIG) {
        status = STATUS_LIMIT;
    }
    // A full disk is told to everybody who meets it, and passes.
    if (status != STATUS_DISK_FULL && store->is_open) {
        log_limited(&store->log, LOG_LEVEL_ERROR, "store: cannot %s: %s", doing,
                    sqlite3_errmsg(store->database));
    }
    return error_set(err, status, "store", "%.200s%scannot %s: %s",
                     store->is_open ? "" : store->path, store->is_open ? "" : ": ", doing,
                     sqlite3_errmsg(store->database));
}

static enum status execute(struct store *store, const char *text, const char *doing,
                           struct error *err) {
    int rc = sqlite3_exec(store->database, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? STATUS_OK : convert(store, rc, doing, err);
}

static int read_pragma(struct store *store, const char *text, int64_t *out) {
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->database, text, -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW) {
            *out = sqlite3_column_int64(statement, 0);
            rc = SQLITE_OK;
        }
    }
    sqlite3_finalize(statement);
    return rc;
}

static enum status configure(struct store *store, struct error *err) {
    char text[512];
    snprintf(text, sizeof text,
             "PRAGMA page_size = %d; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;"
             "PRAGMA synchronous = FULL; PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY;"
             // Takes the lock at once, so that a second coordinator is told now.
             "BEGIN IMMEDIATE; COMMIT;",
             PAGE_BYTES, CACHE_KIB);
    return execute(store, text, "open the database", err);
}

// As large as it may become; with 1, as large as it is.
static enum status limit_pages(struct store *store, int64_t pages, struct error *err) {
    char text[64];
    snprintf(text, sizeof text, "PRAGMA max_page_count = %lld", (long long)pages);
    return execute(store, text, "limit the database", err);
}

// False without room for it.
static bool take_reserve(struct store *store) {
    struct error err;
    int64_t pages = store->pages_max > 0 ? store->pages_max : PAGES_MAX_EVER;
    store->has_reserve = store->reserve_bytes == 0 ||
                         posix_fallocate(store->reserve_fd, 0, store->reserve_bytes) == 0;
    return limit_pages(store, store->has_reserve ? pages : 1, &err) == STATUS_OK &&
           store->has_reserve;
}

static bool use_reserve(struct store *store) {
    if (!store->has_reserve || store->reserve_fd < 0 || ftruncate(store->reserve_fd, 0) != 0) {
        return false;
    }
    log_warn("the disk is full: the store's reserve is used to close jobs");
    store->has_reserve = false;
    struct error err;
    return limit_pages(store, 1, &err) == STATUS_OK;
}

void store_restore_reserve(struct store *store) {
    if (!store->has_reserve && take_reserve(store)) {
        log_info("the store has its reserve again");
    }
}

static enum status open_reserve(struct store *store, const struct store_options *options,
                                struct error *err) {
    store->pages_max = options->pages_max;
    store->reserve_bytes = options->reserve_bytes;
    if (options->reserve_bytes > 0) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s-reserve", options->path) >= (int)sizeof path) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "store", "the path is too long");
        }
        store->reserve_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (store->reserve_fd < 0) {
            return error_set(err, status_from_errno(errno), "store", "%s: %s", path,
                             strerror(errno));
        }
    }
    if (!take_reserve(store)) {
        log_warn("the disk has no room for the store's reserve: the store does not grow");
    }
    return STATUS_OK;
}

// Ids begin at the time of creation, so that a worker group that still holds candidates of jobs
// from a deleted store cannot take them for those of a new one.
static enum status seed_job_ids(struct store *store, struct error *err) {
    char text[256];
    snprintf(text, sizeof text,
             "INSERT INTO sqlite_sequence (name, seq) VALUES ('jobs', %lld); "
             "PRAGMA application_id = %d;",
             (long long)(clock_realtime_ms() / 1000) << JOB_ID_SHIFT, APPLICATION_ID);
    return execute(store, text, "initialise the database", err);
}

static enum status migrate(struct store *store, const char *path, struct error *err) {
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int rc = read_pragma(store, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK) {
        rc = read_pragma(store, "PRAGMA user_version", &version);
    }
    if (rc == SQLITE_OK) {
        rc = read_pragma(store, "SELECT count(*) FROM sqlite_schema", &tables);
    }
    if (rc != SQLITE_OK) {
        return convert(store, rc, "read the database", err);
    }
    if (application != APPLICATION_ID && tables > 0) {
        return error_set(err, STATUS_MALFORMED, "store", "%s is a database of another program",
                         path);
    }
    if (version > SCHEMA_VERSION) {
        return error_set(err, STATUS_VERSION, "store", "%s has schema %lld, this program knows %d",
                         path, (long long)version, SCHEMA_VERSION);
    }
    enum status status = STATUS_OK;
    for (int64_t v = version; status == STATUS_OK && v < SCHEMA_VERSION; v++) {
        char bump[64];
        snprintf(bump, sizeof bump, "PRAGMA user_version = %lld", (long long)v + 1);
        status = execute(store, "BEGIN IMMEDIATE", "migrate the database", err);
        if (status == STATUS_OK) {
            status = execute(store, migrations[v], "migrate the database", err);
        }
        if (status == STATUS_OK && v == 0) {
            status = seed_job_ids(store, err);
        }
        if (status == STATUS_OK) {
            status = execute(store, bump, "migrate the database", err);
        }
        if (status == STATUS_OK) {
            status = execute(store, "COMMIT", "migrate the database", err);
        }
    }
    return status;
}

static enum status prepare_all(struct store *store, struct error *err) {
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        int rc = sqlite3_prepare_v3(store->database, statement_texts[i], -1,
                                    SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
        if (rc != SQLITE_OK) {
            return convert(store, rc, "prepare a statement", err);
        }
    }
    return STATUS_OK;
}

static enum status bring_up_to_date(struct store *store, const char *path, struct error *err) {
    enum status status = configure(store, err);
    return status == STATUS_OK ? migrate(store, path, err) : status;
}

// Gives the disk what an earlier process had kept for such a time; false: there is nothing.
static bool free_reserve(const char *path) {
    char reserve[PATH_MAX];
    struct stat info;
    return snprintf(reserve, sizeof reserve, "%s-reserve", path) < (int)sizeof reserve &&
           stat(reserve, &info) == 0 && info.st_size > 0 && truncate(reserve, 0) == 0;
}

enum status store_open(const struct store_options *options, struct store **out, struct error *err) {
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "store", "no memory");
    }
    store->log.kind = "the store";
    store->reserve_fd = -1;
    store->path = options->path;
    int rc =
        sqlite3_open_v2(options->path, &store->database,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    enum status status = rc == SQLITE_OK ? STATUS_OK : convert(store, rc, "open the database", err);
    if (status == STATUS_OK) {
        sqlite3_extended_result_codes(store->database, 1);
        status = bring_up_to_date(store, options->path, err);
    }
    if (status == STATUS_DISK_FULL && free_reserve(options->path)) {
        log_warn("the disk is full: the store's reserve is used to open it");
        sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
        status = bring_up_to_date(store, options->path, err);
    }
    if (status == STATUS_OK) {
        status = prepare_all(store, err);
    }
    if (status == STATUS_OK) {
        status = open_reserve(store, options, err);
    }
    if (status != STATUS_OK) {
        store_close(store);
        if (status == STATUS_DISK_FULL) {
            return error_set(err, status, "store",
                             "%s cannot be opened on a full disk; nothing in it was changed: make "
                             "room and start again",
                             options->path);
        }
        if (status == STATUS_UNAVAILABLE) {
            return error_set(err, status, "store", "%s is in use by another process",
                             options->path);
        }
        return status;
    }
    store->is_open = true;
    store->path = NULL;
    *out = store;
    return STATUS_OK;
}

void store_close(struct store *store) {
    if (store == NULL) {
        return;
    }
    for (int i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3_finalize(store->statements[i]);
    }
    // Closing copies the log into the database; what could not be copied stays in the log.
    sqlite3_close(store->database);
    if (store->reserve_fd >= 0) {
        close(store->reserve_fd); // what is reserved stays so
    }
    free(store);
}

static sqlite3_stmt *fresh(struct store *store, enum statement which) {
    sqlite3_stmt *statement = store->statements[which];
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return statement;
}

// Runs a statement that returns no row.
static enum status run(struct store *store, sqlite3_stmt *statement, const char *doing,
                       struct error *err) {
    int rc = sqlite3_step(statement);
    enum status status = rc == SQLITE_DONE ? STATUS_OK : convert(store, rc, doing, err);
    sqlite3_reset(statement);
    return status;
}

enum status store_begin(struct store *store, struct error *err) {
    return run(store, fresh(store, STATEMENT_BEGIN), "begin", err);
}

enum status store_commit(struct store *store, struct error *err) {
    return run(store, fresh(store, STATEMENT_COMMIT), "commit", err);
}

void store_rollback(struct store *store) {
    // After a full disk SQLite has already rolled back by itself.
    if (sqlite3_get_autocommit(store->database) == 0) {
        int rc = sqlite3_exec(store->database, "ROLLBACK", NULL, NULL, NULL);
        ASSERT(rc == SQLITE_OK || sqlite3_get_autocommit(store->database) != 0);
    }
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text) {
    int rc = sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
    ASSERT(rc == SQLITE_OK);
}

static void bind_blob(sqlite3_stmt *statement, int index, const uint8_t *bytes, size_t size) {
    ASSERT(size <= INT_MAX);
    // A NULL pointer would bind NULL instead of an empty blob.
    int rc = sqlite3_bind_blob(statement, index, size > 0 ? bytes : (const uint8_t *)"", (int)size,
                               SQLITE_STATIC);
    ASSERT(rc == SQLITE_OK);
}

static void bind_number(sqlite3_stmt *statement, int index, int64_t value) {
    int rc = sqlite3_bind_int64(statement, index, value);
    ASSERT(rc == SQLITE_OK);
}

// STATUS_NOT_FOUND when the key is free.
static enum status find_twin(struct store *store, const char *job_key, const uint8_t *spec,
                             size_t size, uint64_t *job_id, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_FIND_JOB);
    bind_text(statement, 1, job_key);
    int rc = sqlite3_step(statement);
    enum status status = STATUS_NOT_FOUND;
    if (rc == SQLITE_ROW) {
        bool same = (size_t)sqlite3_column_bytes(statement, 1) == size &&
                    (size == 0 || memcmp(sqlite3_column_blob(statement, 1), spec, size) == 0);
        *job_id = (uint64_t)sqlite3_column_int64(statement, 0);
        status = same ? STATUS_OK
                      : error_set(err, STATUS_ALREADY_EXISTS, "job_key",
                                  "names another job, with another specification");
    } else if (rc != SQLITE_DONE) {
        status = convert(store, rc, "look up a job", err);
    }
    sqlite3_reset(statement);
    return status;
}

enum status store_put_job(struct store *store, const char *job_key, const uint8_t *spec,
                          size_t size, int64_t accepted_ms, uint64_t *job_id, bool *is_new,
                          struct error *err) {
    enum status status = find_twin(store, job_key, spec, size, job_id, err);
    if (status != STATUS_NOT_FOUND) {
        *is_new = false;
        return status;
    }
    sqlite3_stmt *statement = fresh(store, STATEMENT_INSERT_JOB);
    bind_text(statement, 1, job_key);
    bind_blob(statement, 2, spec, size);
    bind_number(statement, 3, accepted_ms);
    status = run(store, statement, "store a job", err);
    if (status == STATUS_OK) {
        *job_id = (uint64_t)sqlite3_last_insert_rowid(store->database);
        *is_new = true;
    }
    return status;
}

static enum status job_exists(struct store *store, uint64_t job_id, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_JOB_EXISTS);
    bind_number(statement, 1, (int64_t)job_id);
    int rc = sqlite3_step(statement);
    sqlite3_reset(statement);
    if (rc == SQLITE_DONE) {
        return error_set(err, STATUS_NOT_FOUND, "job_key", "the job was closed");
    }
    return rc == SQLITE_ROW ? STATUS_OK : convert(store, rc, "look up a job", err);
}

enum status store_put_result(struct store *store, uint64_t job_id,
                             const struct store_result *result, bool *is_new, struct error *err) {
    enum status status = job_exists(store, job_id, err);
    if (status != STATUS_OK) {
        return status;
    }
    sqlite3_stmt *statement = fresh(store, STATEMENT_INSERT_RESULT);
    bind_number(statement, 1, (int64_t)job_id);
    bind_blob(statement, 2, result->bytes, result->size);
    status = run(store, statement, "store a result", err);
    bool inserted = status == STATUS_OK && sqlite3_changes(store->database) > 0;
    if (inserted) {
        statement = fresh(store, STATEMENT_INSERT_DONE);
        bind_number(statement, 1, (int64_t)job_id);
        bind_number(statement, 2, result->outcome);
        bind_number(statement, 3, result->done_ms);
        status = run(store, statement, "store a result", err);
    }
    *is_new = inserted && status == STATUS_OK;
    return status;
}

enum status store_put_losses(struct store *store, uint64_t job_id,
                             const struct store_losses *losses, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_PUT_LOSSES);
    bind_number(statement, 1, (int64_t)job_id);
    bind_number(statement, 2, losses->count);
    bind_number(statement, 3, (int64_t)losses->key);
    return run(store, statement, "note a lost group", err);
}

static bool copy_column(sqlite3_stmt *statement, int column, uint8_t **bytes, size_t *size) {
    *bytes = NULL;
    *size = 0;
    if (sqlite3_column_type(statement, column) == SQLITE_NULL) {
        return true;
    }
    size_t count = (size_t)sqlite3_column_bytes(statement, column);
    uint8_t *copy = malloc(count + 1);
    if (copy == NULL) {
        return false;
    }
    if (count > 0) {
        memcpy(copy, sqlite3_column_blob(statement, column), count);
    }
    *bytes = copy;
    *size = count;
    return true;
}

enum status store_get_spec(struct store *store, uint64_t job_id, uint8_t **spec, size_t *size,
                           struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_GET_SPEC);
    bind_number(statement, 1, (int64_t)job_id);
    int rc = sqlite3_step(statement);
    enum status status = STATUS_OK;
    if (rc == SQLITE_DONE) {
        status = error_set(err, STATUS_NOT_FOUND, "store", "no such job");
    } else if (rc != SQLITE_ROW) {
        status = convert(store, rc, "read a job", err);
    } else if (!copy_column(statement, 0, spec, size)) {
        status = error_set(err, STATUS_NO_MEMORY, "store", "no memory for a job");
    }
    sqlite3_reset(statement);
    return status;
}

enum status store_get_job(struct store *store, const char *job_key, struct store_job *out,
                          struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_GET_JOB);
    bind_text(statement, 1, job_key);
    int rc = sqlite3_step(statement);
    enum status status = STATUS_OK;
    struct store_job job = {0};
    if (rc == SQLITE_DONE) {
        status = error_set(err, STATUS_NOT_FOUND, "job_key", "no such job");
    } else if (rc != SQLITE_ROW) {
        status = convert(store, rc, "read a job", err);
    } else {
        job.job_id = (uint64_t)sqlite3_column_int64(statement, 0);
        job.accepted_ms = sqlite3_column_int64(statement, 1);
        if (copy_column(statement, 2, &job.spec, &job.spec_size) &&
            copy_column(statement, 3, &job.result, &job.result_size)) {
            *out = job;
        } else {
            store_job_release(&job);
            status = error_set(err, STATUS_NO_MEMORY, "store", "no memory for a job");
        }
    }
    sqlite3_reset(statement);
    return status;
}

void store_job_release(struct store_job *job) {
    free(job->spec);
    free(job->result);
    *job = (struct store_job){0};
}

// Steps a statement whose rows begin with a job's id.
static enum status find_id(struct store *store, sqlite3_stmt *statement, uint64_t *job_id,
                           bool *found, struct error *err) {
    int rc = sqlite3_step(statement);
    *found = rc == SQLITE_ROW;
    *job_id = *found ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return *found || rc == SQLITE_DONE ? STATUS_OK : convert(store, rc, "look up a job", err);
}

static enum status find_by_key(struct store *store, const char *job_key, uint64_t *job_id,
                               bool *found, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_FIND_JOB);
    bind_text(statement, 1, job_key);
    return find_id(store, statement, job_id, found, err);
}

enum status store_find_job(struct store *store, const char *job_key, struct error *err) {
    uint64_t job_id = 0;
    bool found = false;
    enum status status = find_by_key(store, job_key, &job_id, &found, err);
    return status == STATUS_OK && !found
               ? error_set(err, STATUS_NOT_FOUND, "job_key", "no such job")
               : status;
}

static enum status find_old(struct store *store, int64_t done_before_ms, uint64_t *job_id,
                            bool *found, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_FIND_OLD);
    bind_number(statement, 1, done_before_ms);
    return find_id(store, statement, job_id, found, err);
}

static enum status count_bytes(struct store *store, uint64_t job_id, uint64_t *bytes,
                               struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_BYTES);
    bind_number(statement, 1, (int64_t)job_id);
    int rc = sqlite3_step(statement);
    *bytes = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? STATUS_OK
                                                 : convert(store, rc, "look up a job", err);
}

static enum status delete_row(struct store *store, enum statement which, uint64_t job_id,
                              uint64_t *count, struct error *err) {
    sqlite3_stmt *statement = fresh(store, which);
    bind_number(statement, 1, (int64_t)job_id);
    enum status status = run(store, statement, "drop a job", err);
    *count += status == STATUS_OK ? (uint64_t)sqlite3_changes(store->database) : 0;
    return status;
}

static enum status delete_job(struct store *store, uint64_t job_id, struct store_removed *removed,
                              struct error *err) {
    uint64_t bytes = 0;
    uint64_t n_done = 0;
    enum status status = count_bytes(store, job_id, &bytes, err);
    if (status == STATUS_OK) {
        status = delete_row(store, STATEMENT_DELETE_RESULT, job_id, &removed->results, err);
    }
    if (status == STATUS_OK) {
        status = delete_row(store, STATEMENT_DELETE_DONE, job_id, &n_done, err);
    }
    if (status == STATUS_OK) {
        status = delete_row(store, STATEMENT_DELETE_JOB, job_id, &removed->jobs, err);
    }
    removed->bytes += bytes;
    return status;
}

// Which jobs are to go: one by its key, or the oldest of those that are done.
struct removal {
    const char *job_key; // or NULL
    int64_t done_before_ms;
    uint32_t limit;
};

static enum status remove_jobs(struct store *store, const struct removal *removal,
                               struct store_removed *removed, struct error *err) {
    enum status status = STATUS_OK;
    bool found = true;
    *removed = (struct store_removed){0};
    for (uint32_t i = 0;
         status == STATUS_OK && found && i < removal->limit && removed->bytes < REMOVED_BYTES_MAX;
         i++) {
        uint64_t job_id = 0;
        status = removal->job_key != NULL
                     ? find_by_key(store, removal->job_key, &job_id, &found, err)
                     : find_old(store, removal->done_before_ms, &job_id, &found, err);
        if (status == STATUS_OK && found) {
            status = delete_job(store, job_id, removed, err);
        }
    }
    removed->more = found;
    return status;
}

static enum status remove_alone(struct store *store, const struct removal *removal,
                                struct store_removed *removed, struct error *err) {
    enum status status = store_begin(store, err);
    if (status == STATUS_OK) {
        status = remove_jobs(store, removal, removed, err);
    }
    if (status == STATUS_OK) {
        status = store_commit(store, err);
    }
    if (status != STATUS_OK) {
        store_rollback(store);
    }
    return status;
}

// With the reserve's help, unless others share the transaction.
static enum status make_room(struct store *store, const struct removal *removal,
                             struct store_removed *removed, struct error *err) {
    struct store_removed done = {0};
    enum status status;
    if (sqlite3_get_autocommit(store->database) == 0) {
        status = remove_jobs(store, removal, &done, err);
    } else {
        status = remove_alone(store, removal, &done, err);
        if (status == STATUS_DISK_FULL && use_reserve(store)) {
            status = remove_alone(store, removal, &done, err);
        }
    }
    if (status == STATUS_OK) {
        *removed = done;
    }
    return status;
}

enum status store_close_job(struct store *store, const char *job_key, struct store_removed *removed,
                            struct error *err) {
    const struct removal removal = {.job_key = job_key, .limit = 1};
    return make_room(store, &removal, removed, err);
}

enum status store_purge(struct store *store, int64_t done_before_ms, uint32_t limit,
                        struct store_removed *removed, struct error *err) {
    const struct removal removal = {.done_before_ms = done_before_ms, .limit = limit};
    return make_room(store, &removal, removed, err);
}

enum status store_list(struct store *store, uint64_t after_id, uint32_t limit, store_list_fn visit,
                       void *context, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_LIST);
    bind_number(statement, 1, (int64_t)after_id);
    bind_number(statement, 2, limit);
    int rc = sqlite3_step(statement);
    for (; rc == SQLITE_ROW; rc = sqlite3_step(statement)) {
        const struct store_listed job = {
            .job_id = (uint64_t)sqlite3_column_int64(statement, 0),
            .job_key = (const char *)sqlite3_column_text(statement, 1),
            .accepted_ms = sqlite3_column_int64(statement, 2),
            .bytes = (uint64_t)sqlite3_column_int64(statement, 3),
            .is_done = sqlite3_column_type(statement, 5) != SQLITE_NULL,
            .outcome = sqlite3_column_int(statement, 4),
            .done_ms = sqlite3_column_int64(statement, 5),
        };
        visit(context, &job);
    }
    enum status status = rc == SQLITE_DONE ? STATUS_OK : convert(store, rc, "list the jobs", err);
    sqlite3_reset(statement);
    return status;
}

enum status store_load_unfinished(struct store *store, store_visit_fn visit, void *context,
                                  struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_UNFINISHED);
    enum status status = STATUS_OK;
    int rc = sqlite3_step(statement);
    while (status == STATUS_OK && rc == SQLITE_ROW) {
        struct store_job job = {.job_id = (uint64_t)sqlite3_column_int64(statement, 0),
                                .accepted_ms = sqlite3_column_int64(statement, 1),
                                .losses = {(uint32_t)sqlite3_column_int64(statement, 3),
                                           (uint64_t)sqlite3_column_int64(statement, 4)}};
        if (copy_column(statement, 2, &job.spec, &job.spec_size)) {
            status = visit(context, &job);
            store_job_release(&job);
        } else {
            status = error_set(err, STATUS_NO_MEMORY, "store", "no memory for a job");
        }
        rc = sqlite3_step(statement);
    }
    if (status == STATUS_OK && rc != SQLITE_DONE) {
        status = convert(store, rc, "read the unfinished jobs", err);
    }
    sqlite3_reset(statement);
    return status;
}

enum status store_get_counts(struct store *store, struct store_counts *out, struct error *err) {
    sqlite3_stmt *statement = fresh(store, STATEMENT_COUNTS);
    int rc = sqlite3_step(statement);
    enum status status = STATUS_OK;
    if (rc == SQLITE_ROW) {
        out->jobs = (uint64_t)sqlite3_column_int64(statement, 0);
        out->results = (uint64_t)sqlite3_column_int64(statement, 1);
        out->bytes = (uint64_t)sqlite3_column_int64(statement, 2);
    } else {
        status = convert(store, rc, "count the jobs", err);
    }
    sqlite3_reset(statement);
    return status;
}
