#include "client/cli/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/json_diff.h"
#include "client/surefoot.h"
#include "common/json_numbers.h"

enum { OUTFILE_FORMAT = 1 };

// How every record begins, and what is left of one that a crash tore.
static const struct kind {
    const char *member;
    const char *mark;
    const char *name;
} kinds[] = {
    [OUTFILE_SWEEP] = {"surefoot_sweep", "{\"surefoot_sweep\":1,", "sweep"},
    [OUTFILE_COMPARISON] = {"surefoot_compare", "{\"surefoot_compare\":1,", "comparison"},
};

static enum status fail(const char *what, struct error *err) {
    return error_set(err, status_from_errno(errno), "--out", "cannot %s: %s", what,
                     strerror(errno));
}

static bool is_failed(const char *outcome) {
    return strcmp(outcome, "COMPLETED") != 0 && strcmp(outcome, "NO_SAFE_CANDIDATE") != 0;
}

// The static form of an outcome's name; NULL when there is none of that name.
static const char *outcome_name(const char *name) {
    char full[64];
    snprintf(full, sizeof full, "OUTCOME_%.40s", name);
    const ProtobufCEnumValue *value =
        protobuf_c_enum_descriptor_get_value_by_name(&surefoot__outcome__descriptor, full);
    return value != NULL                  ? surefoot_outcome_name((Surefoot__Outcome)value->value)
           : strcmp(name, "UNKNOWN") == 0 ? "UNKNOWN"
                                          : NULL;
}

static enum status refuse_line(size_t line, const char *what, struct error *err) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "--out line %zu", line);
    return error_set(err, STATUS_MALFORMED, field, "%s; nothing in the file was changed", what);
}

// The method of a record, "" in a sweep; NULL: it has none and should.
static const char *method_of(const json_t *record, enum outfile_kind kind) {
    return kind == OUTFILE_SWEEP ? "" : json_string_value(json_object_get(record, "method"));
}

static bool is_record(const json_t *record, enum outfile_kind kind) {
    const char *key = json_string_value(json_object_get(record, "key"));
    const char *outcome = json_string_value(json_object_get(record, "outcome"));
    return json_integer_value(json_object_get(record, kinds[kind].member)) == OUTFILE_FORMAT &&
           json_object_get(record, "id") != NULL && method_of(record, kind) != NULL &&
           key != NULL && strlen(key) < DIGEST_HEX_BYTES && outcome != NULL &&
           outcome_name(outcome) != NULL;
}

// True when `line` is what a crash leaves of a record.
static bool is_torn(const char *line, size_t size, enum outfile_kind kind) {
    size_t mark = strlen(kinds[kind].mark);
    return memcmp(line, kinds[kind].mark, size < mark ? size : mark) == 0;
}

static struct outfile_method *find_method(const struct outfile *file, const char *name) {
    for (size_t i = 0; i < file->n_methods; i++) {
        if (strcmp(file->methods[i].name, name) == 0) {
            return &file->methods[i];
        }
    }
    return NULL;
}

// Adds a method that is not there yet. Borrows the settings.
static enum status add_method(struct outfile *file, const char *name, json_t *settings, size_t line,
                              struct error *err) {
    struct outfile_method *methods =
        realloc(file->methods, (file->n_methods + 1) * sizeof *methods);
    char *copy = strdup(name);
    file->methods = methods != NULL ? methods : file->methods;
    if (methods == NULL || copy == NULL) {
        free(copy);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the records");
    }
    methods[file->n_methods++] =
        (struct outfile_method){.name = copy, .settings = json_incref(settings), .line = line};
    return STATUS_OK;
}

// The first difference of settings; those of different methods may differ in the job.
static bool differ(const json_t *before, const json_t *after, bool same_method,
                   struct json_diff *out) {
    if (same_method) {
        return json_diff_first(before, after, out);
    }
    json_t *first = json_copy((json_t *)before);
    json_t *second = json_copy((json_t *)after);
    json_object_del(first, "job");
    json_object_del(second, "job");
    bool found = json_diff_first(first, second, out);
    json_decref(first);
    json_decref(second);
    return found;
}

// The name under which an item and its method stand in the index; owned, NULL: no memory.
static char *index_name(const json_t *id, const char *method) {
    char *text = json_dumps(id, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t size = text == NULL ? 0 : strlen(text) + 1 + strlen(method) + 1;
    char *name = text == NULL ? NULL : malloc(size);
    if (name != NULL) {
        snprintf(name, size, "%s %s", text, method);
    }
    free(text);
    return name;
}

enum status outfile_digest(const json_t *input, struct digest *out, struct error *err) {
    char *text = input == NULL ? NULL : json_dumps(input, JSON_COMPACT | JSON_SORT_KEYS);
    if (input != NULL && text == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a record");
    }
    digest_init(out);
    digest_add(out, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
    free(text);
    return STATUS_OK;
}

// Adds a record of a known method to the table. STATUS_ALREADY_EXISTS: its item has one.
static enum status add_record(struct outfile *file, const json_t *record, int64_t offset,
                              size_t line, struct error *err) {
    struct outfile_method *method = find_method(file, method_of(record, file->kind));
    char *id = index_name(json_object_get(record, "id"), method->name);
    if (id != NULL && json_object_get(file->index, id) != NULL) {
        free(id);
        return STATUS_ALREADY_EXISTS;
    }
    struct outfile_record *records = file->records;
    // Grows by doubling: the count passes a power of two.
    if ((file->count & (file->count - 1)) == 0) {
        size_t capacity = file->count == 0 ? 1 : 2 * file->count;
        records = realloc(file->records, capacity * sizeof *records);
        file->records = records != NULL ? records : file->records;
    }
    struct digest digest;
    enum status status = outfile_digest(json_object_get(record, "input"), &digest, err);
    if (id == NULL || records == NULL ||
        json_object_set_new(file->index, id, json_integer((json_int_t)file->count)) != 0) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the records");
    }
    free(id);
    if (status != STATUS_OK) {
        return status;
    }
    const char *outcome = outcome_name(json_string_value(json_object_get(record, "outcome")));
    struct outfile_record *row = &file->records[file->count++];
    *row = (struct outfile_record){
        .outcome = outcome, .input = digest, .offset = offset, .line = line};
    snprintf(row->key, sizeof row->key, "%s", json_string_value(json_object_get(record, "key")));
    method->count++;
    method->n_failed += is_failed(outcome);
    return STATUS_OK;
}

static enum status take_record(struct outfile *file, const json_t *record, int64_t offset,
                               size_t line, struct error *err) {
    json_t *settings = json_object_get(record, "settings");
    const char *name = method_of(record, file->kind);
    const struct outfile_method *method = find_method(file, name);
    const struct outfile_method *like = method != NULL ? method : file->methods;
    struct json_diff diff;
    if (like != NULL && differ(like->settings, settings, method != NULL, &diff)) {
        char what[ERROR_MESSAGE_BYTES];
        snprintf(what, sizeof what, "settings.%s is %s, and %s in line %zu", diff.path, diff.after,
                 diff.before, like->line);
        return refuse_line(line, what, err);
    }
    enum status status = method != NULL ? STATUS_OK : add_method(file, name, settings, line, err);
    if (status == STATUS_OK) {
        status = add_record(file, record, offset, line, err);
    }
    return status == STATUS_ALREADY_EXISTS
               ? refuse_line(line,
                             file->kind == OUTFILE_SWEEP
                                 ? "its id has a record above already"
                                 : "its id has a record of this method above already",
                             err)
               : status;
}

static enum status take_line(struct outfile *file, const char *text, size_t size, int64_t offset,
                             size_t line, struct error *err) {
    json_t *record = json_loadb(text, size, 0, NULL);
    bool ended = text[size - 1] == '\n';
    enum status status = STATUS_OK;
    if (is_record(record, file->kind)) {
        file->unended = !ended;
        status = take_record(file, record, offset, line, err);
    } else if (!ended && record == NULL && is_torn(text, size, file->kind)) {
        file->torn_bytes = size;
    } else {
        char what[64];
        snprintf(what, sizeof what, "not a record of a %s", kinds[file->kind].name);
        status = refuse_line(line, what, err);
    }
    json_decref(record);
    return status;
}

static FILE *reopen(int fd) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *lines = copy < 0 ? NULL : fdopen(copy, "rb");
    if (lines == NULL && copy >= 0) {
        close(copy);
    }
    return lines;
}

// Reads every record and changes nothing in the file.
static enum status read_records(struct outfile *file, struct error *err) {
    FILE *lines = reopen(file->fd);
    if (lines == NULL) {
        return fail("read the file", err);
    }
    rewind(lines);
    char *text = NULL;
    size_t capacity = 0;
    size_t line = 0;
    int64_t offset = 0;
    enum status status = STATUS_OK;
    for (ssize_t size = 0; status == STATUS_OK && (size = getline(&text, &capacity, lines)) >= 0;
         offset += size) {
        status = take_line(file, text, (size_t)size, offset, ++line, err);
    }
    if (status == STATUS_OK && ferror(lines)) {
        status = fail("read the file", err);
    }
    free(text);
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
static enum status mend_end(struct outfile *file, struct error *err) {
    off_t size = lseek(file->fd, 0, SEEK_END);
    enum status status = STATUS_OK;
    if (file->torn_bytes > 0 &&
        (size < 0 || ftruncate(file->fd, size - (off_t)file->torn_bytes) != 0)) {
        status = fail("cut the file", err);
    } else if (file->unended && file->torn_bytes == 0) {
        status = write_all(file->fd, "\n", 1, err);
    }
    file->torn_bytes = status == STATUS_OK ? 0 : file->torn_bytes;
    file->unended = file->unended && status != STATUS_OK;
    return status;
}

// Opens a regular file other than `input`, without changing what is in it.
static enum status open_locked(const char *path, const char *input, enum outfile_kind kind, int *fd,
                               struct error *err) {
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
        return error_set(err, STATUS_ALREADY_EXISTS, "--out", "another %s writes %s",
                         kinds[kind].name, path);
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

static void forget_records(struct outfile *file) {
    for (size_t i = 0; i < file->n_methods; i++) {
        free(file->methods[i].name);
        json_decref(file->methods[i].settings);
    }
    free(file->methods);
    free(file->records);
    json_decref(file->index);
    *file = (struct outfile){
        .fd = file->fd, .kind = file->kind, .path = file->path, .input = file->input};
}

// Opens the file beside, and empties it if it is what a killed run left there.
static enum status open_part(const char *part, const struct outfile *file, int *fd,
                             struct error *err) {
    struct outfile left = {.fd = -1, .kind = file->kind, .index = json_object()};
    enum status status = open_locked(part, file->input, file->kind, &left.fd, err);
    if (status == STATUS_OK && read_records(&left, err) != STATUS_OK) {
        status = error_set(err, STATUS_MALFORMED, "--out",
                           "%.200s stands in the way: it is not a part of a %s", part,
                           kinds[file->kind].name);
    }
    if (status == STATUS_OK && ftruncate(left.fd, 0) != 0) {
        status = fail("empty the file beside", err);
    }
    *fd = left.fd;
    forget_records(&left);
    return status;
}

// Copies the lines of the records to keep.
static enum status copy_kept(const struct outfile *file, int out, struct error *err) {
    FILE *lines = reopen(file->fd);
    if (lines == NULL) {
        return fail("read the file", err);
    }
    char *text = NULL;
    size_t capacity = 0;
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < file->count; i++) {
        if (is_failed(file->records[i].outcome)) {
            continue;
        }
        ssize_t size = -1;
        if (fseeko(lines, (off_t)file->records[i].offset, SEEK_SET) != 0 ||
            (size = getline(&text, &capacity, lines)) < 1) {
            status = fail("read the file", err);
            break;
        }
        status = write_all(out, text, (size_t)size, err);
        if (status == STATUS_OK && text[size - 1] != '\n') {
            status = write_all(out, "\n", 1, err);
        }
    }
    free(text);
    fclose(lines);
    return status;
}

// Puts a file without the failed records in place of the old one.
static enum status drop_failed_records(struct outfile *file, struct error *err) {
    char part[PATH_MAX + 8];
    char path[PATH_MAX]; // a link stays one: what it points to is replaced
    if (realpath(file->path, path) == NULL) {
        return fail("find the file", err);
    }
    snprintf(part, sizeof part, "%s.part", path);
    int fd = -1;
    enum status status = open_part(part, file, &fd, err);
    if (status == STATUS_OK) {
        status = copy_kept(file, fd, err);
        if (status == STATUS_OK && (fsync(fd) != 0 || rename(part, path) != 0)) {
            status = fail("replace the file", err);
        }
        if (status != STATUS_OK) {
            unlink(part);
        }
    }
    if (status != STATUS_OK) {
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    close(file->fd);
    file->fd = fd;
    forget_records(file);
    file->index = json_object();
    status = read_records(file, err);
    return status == STATUS_OK ? sync_directory_of(path, err) : status;
}

enum status outfile_open(const char *path, const char *input, enum outfile_kind kind,
                         struct outfile *out, struct error *err) {
    *out = (struct outfile){
        .fd = -1, .kind = kind, .path = path, .input = input, .index = json_object()};
    if (out->index == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the records");
    }
    enum status status = open_locked(path, input, kind, &out->fd, err);
    return status == STATUS_OK ? read_records(out, err) : status;
}

// Refuses records that would stay beside others that they do not fit.
static enum status check_settings(const struct outfile *file, const json_t *settings,
                                  bool drop_failed, struct error *err) {
    for (size_t i = 0; i < file->n_methods; i++) {
        const struct outfile_method *method = &file->methods[i];
        const json_t *own = json_object_get(settings, method->name);
        const json_t *any = json_object_iter_value(json_object_iter((json_t *)settings));
        size_t stay = method->count - (drop_failed ? method->n_failed : 0);
        struct json_diff diff;
        if (stay > 0 && differ(method->settings, own != NULL ? own : any, own != NULL, &diff)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--out",
                             "holds records of another %s: %.60s%s%s is %s there and %s now; name "
                             "another file",
                             kinds[file->kind].name, method->name,
                             method->name[0] != '\0' ? ": " : "", diff.path, diff.before,
                             diff.after);
        }
    }
    return STATUS_OK;
}

// Takes the settings of the records to come: equal to those that are there, where any stayed.
static enum status take_settings(struct outfile *file, const json_t *settings, struct error *err) {
    enum status status = STATUS_OK;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)settings, name, value) {
        if (status == STATUS_OK && find_method(file, name) == NULL) {
            status = add_method(file, name, value, 0, err);
        }
    }
    return status;
}

// The kind of the first record; of what is none a sweep's, which opening then refuses.
static enum outfile_kind kind_of(FILE *lines) {
    char start[64];
    size_t size = fread(start, 1, sizeof start, lines);
    size_t mark = strlen(kinds[OUTFILE_COMPARISON].mark);
    return size >= mark && memcmp(start, kinds[OUTFILE_COMPARISON].mark, mark) == 0
               ? OUTFILE_COMPARISON
               : OUTFILE_SWEEP;
}

enum status outfile_open_records(const char *path, const char *field, struct outfile *out,
                                 struct error *err) {
    FILE *lines = fopen(path, "rb");
    if (lines == NULL) {
        return error_set(err, STATUS_NOT_FOUND, field, "cannot read %.200s: %s", path,
                         strerror(errno));
    }
    enum outfile_kind kind = kind_of(lines);
    fclose(lines);
    enum status status = outfile_open(path, NULL, kind, out, err);
    if (status != STATUS_OK && strncmp(err->field, "--out", 5) == 0) {
        struct error told = *err;
        char place[ERROR_FIELD_BYTES];
        snprintf(place, sizeof place, "%.30s%.30s", field, told.field + 5);
        error_set(err, status, place, "%.200s: %.300s", path, told.message);
    }
    return status;
}

enum status outfile_start(struct outfile *file, const json_t *settings, bool drop_failed,
                          struct error *err) {
    size_t n_failed = 0;
    for (size_t i = 0; i < file->n_methods; i++) {
        n_failed += file->methods[i].n_failed;
    }
    enum status status = check_settings(file, settings, drop_failed, err);
    if (status == STATUS_OK) {
        status = drop_failed && n_failed > 0 ? drop_failed_records(file, err) : mend_end(file, err);
    }
    if (status == STATUS_OK) {
        status = take_settings(file, settings, err);
    }
    return status == STATUS_OK ? sync_directory_of(file->path, err) : status;
}

void outfile_close(struct outfile *file) {
    if (file->fd >= 0) {
        close(file->fd);
        file->fd = -1;
    }
    forget_records(file);
}

const struct outfile_record *outfile_find(const struct outfile *file, const json_t *id,
                                          const char *method) {
    char *text = index_name(id, method);
    const json_t *number = text == NULL ? NULL : json_object_get(file->index, text);
    free(text);
    return number == NULL ? NULL : &file->records[json_integer_value(number)];
}

const char *outfile_date(const struct outfile *file) {
    const json_t *settings = file->n_methods == 0 ? NULL : file->methods[0].settings;
    return json_string_value(json_object_get(json_object_get(settings, "job"), "date"));
}

enum status outfile_load(const struct outfile *file, const struct outfile_record *record,
                         json_t **out, struct error *err) {
    FILE *lines = reopen(file->fd);
    char *text = NULL;
    size_t capacity = 0;
    ssize_t size = -1;
    if (lines != NULL && fseeko(lines, (off_t)record->offset, SEEK_SET) == 0) {
        size = getline(&text, &capacity, lines);
    }
    json_t *value = size < 1 ? NULL : json_loadb(text, (size_t)size, 0, NULL);
    enum status status = value != NULL ? STATUS_OK : fail("read the file", err);
    if (lines != NULL) {
        fclose(lines);
    }
    free(text);
    *out = value;
    return status;
}

enum status outfile_append(struct outfile *file, json_t *record, struct error *err) {
    // The mark comes first in the line: a torn record is known by it.
    const struct outfile_method *method = find_method(file, method_of(record, file->kind));
    json_t *marked = json_pack("{s:i}", kinds[file->kind].member, OUTFILE_FORMAT);
    char *text = marked == NULL || json_object_update(marked, record) != 0 ||
                         json_object_set(marked, "settings", method->settings) != 0
                     ? NULL
                     : json_dumps(marked, JSON_COMPACT);
    json_decref(marked);
    if (text == NULL) {
        json_decref(record);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a record");
    }
    json_numbers_shorten(text);
    int64_t offset = lseek(file->fd, 0, SEEK_END);
    size_t size = strlen(text);
    text[size] = '\n'; // in place of the NUL: the line goes out in one write
    enum status status = write_all(file->fd, text, size + 1, err);
    free(text);
    if (status == STATUS_OK) {
        status = add_record(file, record, offset, file->count + 1, err);
        ASSERT(status != STATUS_ALREADY_EXISTS); // an item without a record has been done
    }
    json_decref(record);
    return status;
}

enum status outfile_sync(struct outfile *file, struct error *err) {
    return fdatasync(file->fd) == 0 ? STATUS_OK : fail("sync", err);
}
