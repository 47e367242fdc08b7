#include "client/cli/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status fail(const char *what, struct error *err) {
    return error_set(err, status_from_errno(errno), "--out", "cannot %s: %s", what,
                     strerror(errno));
}

static bool is_failed(const char *outcome) {
    return strcmp(outcome, "COMPLETED") != 0 && strcmp(outcome, "NO_SAFE_CANDIDATE") != 0;
}

// Cuts the file back to its last line end.
static enum status cut_torn_line(struct outfile *file, struct error *err) {
    off_t size = lseek(file->fd, 0, SEEK_END);
    off_t end = size;
    char byte = '\n';
    while (end > 0) {
        if (pread(file->fd, &byte, 1, end - 1) != 1) {
            return fail("read the file", err);
        }
        if (byte == '\n') {
            break;
        }
        end--;
    }
    file->torn_bytes = (size_t)(size - end);
    return size == end || ftruncate(file->fd, end) == 0 ? STATUS_OK : fail("cut the file", err);
}

static enum status take_line(struct outfile *file, const char *line, size_t size, size_t number,
                             FILE *kept, bool *dropped, struct error *err) {
    json_t *record = json_loadb(line, size, 0, NULL);
    const char *key = json_string_value(json_object_get(record, "key"));
    const char *outcome = json_string_value(json_object_get(record, "outcome"));
    enum status status = STATUS_OK;
    if (key == NULL || outcome == NULL) {
        char field[ERROR_FIELD_BYTES];
        snprintf(field, sizeof field, "--out line %zu", number);
        status = error_set(err, STATUS_MALFORMED, field, "not a record of a sweep");
    } else if (kept != NULL && is_failed(outcome)) {
        *dropped = true;
    } else {
        json_object_set_new(file->records, key, json_string(outcome));
        if (kept != NULL && fwrite(line, 1, size, kept) != size) {
            status = fail("write", err);
        }
    }
    json_decref(record);
    return status;
}

// Reads every record; copies those to keep to `kept` when that is not NULL.
static enum status read_records(struct outfile *file, FILE *kept, bool *dropped,
                                struct error *err) {
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
        status = take_line(file, line, (size_t)size, number, kept, dropped, err);
    }
    free(line);
    fclose(lines);
    return status;
}

static enum status open_locked(const char *path, int flags, int *fd, struct error *err) {
    *fd = open(path, flags | O_RDWR | O_APPEND | O_CLOEXEC, 0644);
    if (*fd < 0) {
        return fail("open the file", err);
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

// Reads the records, and puts a file without the failed ones in place of the old one.
static enum status read_dropping(struct outfile *file, const char *path, struct error *err) {
    char part[4096];
    snprintf(part, sizeof part, "%.4000s.part", path);
    int fd = -1;
    bool dropped = false;
    enum status status = open_locked(part, O_CREAT | O_TRUNC, &fd, err);
    int copy = status == STATUS_OK ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    FILE *kept = copy < 0 ? NULL : fdopen(copy, "wb");
    if (status == STATUS_OK && kept == NULL) {
        status = fail("write", err);
    }
    if (status == STATUS_OK) {
        status = read_records(file, kept, &dropped, err);
    }
    if (kept != NULL && fclose(kept) != 0 && status == STATUS_OK) {
        status = fail("write", err);
    }
    if (status == STATUS_OK && dropped) {
        status = fsync(fd) == 0 && rename(part, path) == 0 ? sync_directory_of(path, err)
                                                           : fail("replace the file", err);
    }
    if (status == STATUS_OK && dropped) {
        close(file->fd);
        file->fd = fd;
        return STATUS_OK;
    }
    if (fd >= 0) {
        close(fd);
        unlink(part);
    }
    return status;
}

enum status outfile_open(const char *path, bool drop_failed, struct outfile *out,
                         struct error *err) {
    *out = (struct outfile){.fd = -1, .records = json_object()};
    if (out->records == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the records");
    }
    enum status status = open_locked(path, O_CREAT, &out->fd, err);
    if (status == STATUS_OK) {
        status = cut_torn_line(out, err);
    }
    if (status == STATUS_OK) {
        status = drop_failed ? read_dropping(out, path, err) : read_records(out, NULL, NULL, err);
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

enum status outfile_append(struct outfile *file, json_t *record, struct error *err) {
    char *text = record == NULL ? NULL : json_dumps(record, JSON_COMPACT);
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
