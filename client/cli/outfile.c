#include "client/cli/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.pb-c.h"

// How every record begins, and what is left of one that a crash tore.
enum { OUTFILE_FORMAT = 1 };
#define RECORD_MARK "{\"surefoot_sweep\":1,"

static enum status fail(const char *what, struct error *err) {
    return error_set(err, status_from_errno(errno), "--out", "cannot %s: %s", what,
                     strerror(errno));
}

static bool is_failed(const char *outcome) {
    return strcmp(outcome, "COMPLETED") != 0 && strcmp(outcome, "NO_SAFE_CANDIDATE") != 0;
}

static bool is_outcome(const char *name) {
    char full[64];
    snprintf(full, sizeof full, "OUTCOME_%.40s", name);
    return strcmp(name, "UNKNOWN") == 0 || protobuf_c_enum_descriptor_get_value_by_name(
                                               &surefoot__outcome__descriptor, full) != NULL;
}

// What reading a file finds out, beside its records.
struct reading {
    FILE *kept; // copies of the records to keep, or NULL
    bool dropped;
    bool unended; // the last record lacks its line end
};

static enum status take_record(struct outfile *file, const json_t *record, const char *line,
                               size_t size, struct reading *reading, struct error *err) {
    const char *outcome = json_string_value(json_object_get(record, "outcome"));
    if (reading->kept != NULL && is_failed(outcome)) {
        reading->dropped = true;
        return STATUS_OK;
    }
    json_object_set_new(file->records, json_string_value(json_object_get(record, "key")),
                        json_string(outcome));
    bool written =
        reading->kept == NULL || (fwrite(line, 1, size, reading->kept) == size &&
                                  (!reading->unended || fputc('\n', reading->kept) != EOF));
    return written ? STATUS_OK : fail("write", err);
}

static bool is_record(const json_t *record) {
    const char *outcome = json_string_value(json_object_get(record, "outcome"));
    return json_integer_value(json_object_get(record, "surefoot_sweep")) == OUTFILE_FORMAT &&
           json_is_string(json_object_get(record, "key")) && outcome != NULL && is_outcome(outcome);
}

// True when `line` is what a crash leaves of a record.
static bool is_torn(const char *line, size_t size) {
    size_t mark = sizeof RECORD_MARK - 1;
    return memcmp(line, RECORD_MARK, size < mark ? size : mark) == 0;
}

static enum status take_line(struct outfile *file, const char *line, size_t size, size_t number,
                             struct reading *reading, struct error *err) {
    json_t *record = json_loadb(line, size, 0, NULL);
    bool ended = line[size - 1] == '\n';
    enum status status = STATUS_OK;
    if (is_record(record)) {
        reading->unended = !ended;
        status = take_record(file, record, line, size, reading, err);
    } else if (!ended && record == NULL && is_torn(line, size)) {
        file->torn_bytes = size;
    } else {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "--out line %zu", number);
        status = error_set(err, STATUS_MALFORMED, field,
                           "not a record of a sweep; nothing in the file was changed");
    }
    json_decref(record);
    return status;
}

// Reads every record and changes nothing.
static enum status read_records(struct outfile *file, struct reading *reading, struct error *err) {
    int copy = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    FILE *lines = copy < 0 ? NULL : fdopen(copy, "rb");
    if (lines == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return fail("read the file", err);
    }
    rewind(lines);
    char *line = NULL;
    size_t capacity = 0;
    size_t number = 0;
    enum status status = STATUS_OK;
    for (ssize_t size = 0; status == STATUS_OK && (size = getline(&line, &capacity, lines)) >= 0;) {
        number++;
        status = take_line(file, line, (size_t)size, number, reading, err);
    }
    if (status == STATUS_OK && ferror(lines)) {
        status = fail("read the file", err);
    }
    free(line);
    fclose(lines);
    return status;
}

static enum status write_all(int fd, const char *bytes, size_t size, struct error *err) {
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno != EINTR) {
            return fail("write", err);
        }
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
    return STATUS_OK;
}

// Makes the file end with a whole record: cuts a torn one, ends one that lacks its line end.
static enum status mend_end(struct outfile *file, const struct reading *reading,
                            struct error *err) {
    if (reading->unended) {
        return write_all(file->fd, "\n", 1, err);
    }
    if (file->torn_bytes == 0) {
        return STATUS_OK;
    }
    off_t size = lseek(file->fd, 0, SEEK_END);
    return size >= 0 && ftruncate(file->fd, size - (off_t)file->torn_bytes) == 0
               ? STATUS_OK
               : fail("cut the file", err);
}

// Opens a regular file other than `input`, without changing what is in it.
static enum status open_locked(const char *path, const char *input, int *fd, struct error *err) {
    *fd = open(path, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    if (*fd < 0) {
        return fail("open the file", err);
    }
    struct stat info;
    struct stat other;
    if (fstat(*fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--out", "%.200s is no regular file", path);
    }
    if (input != NULL && stat(input, &other) == 0 && info.st_dev == other.st_dev &&
        info.st_ino == other.st_ino) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--out", "%.100s is the input file %.100s",
                         path, input);
    }
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        return error_set(err, STATUS_ALREADY_EXISTS, "--out", "another sweep writes %s", path);
    }
    return STATUS_OK;
}

static enum status sync_directory_of(const char *path, struct error *err) {
    char directory[4096];
    const char *slash = strrchr(path, '/');
    snprintf(directory, sizeof directory, "%.*s", slash == NULL ? 1 : (int)(slash - path + 1),
             slash == NULL ? "." : path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    enum status status = good ? STATUS_OK : fail("sync the directory", err);
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

// Opens the file beside, and empties it if it is what a killed run left there.
static enum status open_part(const char *part, const char *input, int *fd, struct error *err) {
    struct outfile left = {.fd = -1, .records = json_object()};
    struct reading reading = {0};
    enum status status = open_locked(part, input, &left.fd, err);
    if (status == STATUS_OK && read_records(&left, &reading, err) != STATUS_OK) {
        status = error_set(err, STATUS_MALFORMED, "--out",
                           "%.200s stands in the way: it is not a part of a sweep", part);
    }
    if (status == STATUS_OK && ftruncate(left.fd, 0) != 0) {
        status = fail("empty the file beside", err);
    }
    *fd = left.fd;
    json_decref(left.records);
    return status;
}

// Reads the records, and puts a file without the failed ones in place of the old one.
static enum status read_dropping(struct outfile *file, const char *path, const char *input,
                                 struct reading *reading, struct error *err) {
    char part[4096];
    snprintf(part, sizeof part, "%.4000s.part", path);
    int fd = -1;
    enum status status = open_part(part, input, &fd, err);
    if (status != STATUS_OK) {
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    reading->kept = copy < 0 ? NULL : fdopen(copy, "wb");
    if (reading->kept == NULL) {
        status = fail("write", err);
    } else {
        status = read_records(file, reading, err);
    }
    if (reading->kept != NULL && fclose(reading->kept) != 0 && status == STATUS_OK) {
        status = fail("write", err);
    }
    if (status == STATUS_OK && reading->dropped) {
        status = fsync(fd) == 0 && rename(part, path) == 0 ? sync_directory_of(path, err)
                                                           : fail("replace the file", err);
    }
    if (status == STATUS_OK && reading->dropped) {
        close(file->fd);
        file->fd = fd;
        *reading = (struct reading){0}; // the copy ends with a whole record
        file->torn_bytes = 0;
        return STATUS_OK;
    }
    close(fd);
    unlink(part);
    return status;
}

enum status outfile_open(const char *path, const char *input, bool drop_failed, struct outfile *out,
                         struct error *err) {
    *out = (struct outfile){.fd = -1, .records = json_object()};
    if (out->records == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the records");
    }
    struct reading reading = {0};
    enum status status = open_locked(path, input, &out->fd, err);
    if (status == STATUS_OK) {
        status = drop_failed ? read_dropping(out, path, input, &reading, err)
                             : read_records(out, &reading, err);
    }
    if (status == STATUS_OK) {
        status = mend_end(out, &reading, err);
    }
    return status == STATUS_OK ? sync_directory_of(path, err) : status;
}

void outfile_close(struct outfile *file) {
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
    json_decref(file->records);
    file->records = NULL;
}

const char *outfile_find(const struct outfile *file, const char *key) {
    return json_string_value(json_object_get(file->records, key));
}

enum status outfile_append(struct outfile *file, json_t *record, struct error *err) {
    // The mark comes first in the line: a torn record is known by it.
    json_t *marked = json_pack("{s:i}", "surefoot_sweep", OUTFILE_FORMAT);
    char *text = marked == NULL || json_object_update(marked, record) != 0
                     ? NULL
                     : json_dumps(marked, JSON_COMPACT);
    json_decref(marked);
    if (text == NULL) {
        json_decref(record);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a record");
    }
    size_t size = strlen(text);
    text[size] = '\n'; // in place of the NUL: the line goes out in one write
    enum status status = write_all(file->fd, text, size + 1, err);
    free(text);
    if (status == STATUS_OK) {
        json_object_set(file->records, json_string_value(json_object_get(record, "key")),
                        json_object_get(record, "outcome"));
    }
    json_decref(record);
    return status;
}

enum status outfile_sync(struct outfile *file, struct error *err) {
    return fdatasync(file->fd) == 0 ? STATUS_OK : fail("sync", err);
}
