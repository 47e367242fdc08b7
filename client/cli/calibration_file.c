#include "client/cli/calibration_file.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/cli/job_json.h"
#include "client/cli/json_diff.h"
#include "proto/wire.h"

enum { FORMAT = 1, VARINT_BYTES_MAX = 10, FILE_BYTES_MAX = 1 << 30 };

static enum status fail(const struct calibration_file *file, const char *what, struct error *err) {
    return error_set(err, status_from_errno(errno), file->flag, "cannot %s %.200s: %s", what,
                     file->path, strerror(errno));
}

static enum status refuse(const struct calibration_file *file, size_t entry, const char *what,
                          struct error *err) {
    return error_set(err, STATUS_MALFORMED, file->flag,
                     "%.120s: entry %zu %s; nothing in it was changed", file->path, entry, what);
}

// The length before an entry; 0 bytes: it is torn.
static size_t read_length(const uint8_t *at, size_t left, uint64_t *length) {
    *length = 0;
    for (size_t i = 0; i < left && i < VARINT_BYTES_MAX; i++) {
        *length |= (uint64_t)(at[i] & 0x7F) << (7 * i);
        if ((at[i] & 0x80) == 0) {
            return i + 1;
        }
    }
    return 0;
}

static bool has_hash(const char *hash) {
    return hash != NULL && strlen(hash) == SHA256_HEX_BYTES - 1 &&
           strspn(hash, "0123456789abcdef") == SHA256_HEX_BYTES - 1;
}

static uint32_t count_ties(const float *rewards, size_t count) {
    uint32_t ties = 0;
    for (size_t i = 1; i < count; i++) {
        ties += rewards[i] <= rewards[i - 1] ? 1 : 0;
    }
    return ties;
}

static bool is_header(const Surefoot__CalibrationHeader *header) {
    const Surefoot__Calibration *conditions = header->conditions;
    return header->schema == FORMAT && header->rollouts >= 1 &&
           header->rollouts <= LIMIT_ROLLOUTS && conditions != NULL && conditions->policy != NULL &&
           conditions->sampling != NULL && conditions->n_rewards == 0;
}

static bool is_record(const Surefoot__CalibrationRecord *record, uint32_t rollouts) {
    bool good = has_hash(record->prompt_hash) && record->n_rewards == rollouts;
    for (size_t i = 0; good && i < record->n_rewards; i++) {
        good = isfinite(record->rewards[i]) &&
               (i == 0 || record->rewards[i] >= record->rewards[i - 1]);
    }
    return good && record->ties == count_ties(record->rewards, record->n_rewards);
}

static enum status keep_record(struct calibration_file *file, Surefoot__CalibrationEntry *entry,
                               struct error *err) {
    Surefoot__CalibrationEntry **records =
        realloc(file->records, (file->count + 1) * sizeof *records);
    if (records == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a calibration");
    }
    file->records = records;
    if (json_object_set_new(file->index, entry->record->prompt_hash,
                            json_integer((json_int_t)file->count)) != 0) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a calibration");
    }
    records[file->count++] = entry;
    return STATUS_OK;
}

static bool is_trailer(const struct calibration_file *file,
                       const Surefoot__CalibrationTrailer *trailer) {
    struct sha256 sha = file->sha;
    char hex[SHA256_HEX_BYTES];
    sha256_finish_hex(&sha, hex);
    return trailer->count == file->count && trailer->sha256 != NULL &&
           strcmp(trailer->sha256, hex) == 0;
}

// Takes what the entry is; `number` counts from 1.
static enum status take_entry(struct calibration_file *file, Surefoot__CalibrationEntry *entry,
                              size_t number, struct error *err) {
    int kinds = (entry->header != NULL) + (entry->record != NULL) + (entry->trailer != NULL);
    if (kinds != 1 || (number == 1) != (entry->header != NULL)) {
        return refuse(file, number, "is not what belongs there", err);
    }
    if (entry->header != NULL && !is_header(entry->header)) {
        return refuse(file, number, "is no header of this format", err);
    }
    if (entry->trailer != NULL && !is_trailer(file, entry->trailer)) {
        return refuse(file, number, "has not the count and SHA-256 of what comes before", err);
    }
    if (entry->record != NULL) {
        if (!is_record(entry->record, file->header->header->rollouts)) {
            return refuse(file, number, "has not the sorted rewards of every roll-out", err);
        }
        return calibration_find(file, entry->record->prompt_hash) == NULL
                   ? keep_record(file, entry, err)
                   : refuse(file, number, "is a second one of its prompt", err);
    }
    if (entry->header != NULL) {
        file->header = entry;
    } else {
        file->finished = true;
        wire_free(WIRE_CALIBRATION_ENTRY, entry);
    }
    return STATUS_OK;
}

// The entries of `bytes`; *torn when the last one is cut short.
static enum status read_entries(struct calibration_file *file, const uint8_t *bytes, size_t size,
                                bool *torn, struct error *err) {
    size_t at = 0;
    *torn = false;
    for (size_t number = 1; at < size; number++) {
        uint64_t length = 0;
        size_t before = read_length(bytes + at, size - at, &length);
        if (before == 0 || length > size - at - before) {
            *torn = true;
            return STATUS_OK;
        }
        void *entry = NULL;
        struct error why = {0};
        if (file->finished) {
            return refuse(file, number, "comes after the trailer", err);
        }
        if (wire_unpack(WIRE_CALIBRATION_ENTRY, bytes + at + before, length, &entry, &why) !=
            STATUS_OK) {
            return refuse(file, number, "cannot be read", err);
        }
        enum status status = take_entry(file, entry, number, err);
        if (status != STATUS_OK) {
            wire_free(WIRE_CALIBRATION_ENTRY, entry);
            return status;
        }
        if (!file->finished) {
            sha256_update(&file->sha, bytes + at, before + length);
            file->end = (int64_t)(at + before + length);
        }
        at += before + length;
    }
    return STATUS_OK;
}

static enum status read_file(struct calibration_file *file, uint8_t **bytes, size_t *size,
                             struct error *err) {
    struct stat info;
    if (fstat(file->fd, &info) != 0) {
        return fail(file, "look at", err);
    }
    if (!S_ISREG(info.st_mode) || info.st_size > FILE_BYTES_MAX) {
        return error_set(err, STATUS_INVALID_ARGUMENT, file->flag,
                         "%.200s is no regular file of at most %d bytes", file->path,
                         FILE_BYTES_MAX);
    }
    *size = (size_t)info.st_size;
    *bytes = malloc(*size + 1);
    if (*bytes == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a calibration");
    }
    for (size_t done = 0; done < *size;) {
        ssize_t n = pread(file->fd, *bytes + done, *size - done, (off_t)done);
        if (n <= 0) {
            return n == 0
                       ? error_set(err, STATUS_IO, file->flag, "%.200s became shorter", file->path)
                       : fail(file, "read", err);
        }
        done += (size_t)n;
    }
    return STATUS_OK;
}

enum status calibration_open(const char *path, bool writes, const char *flag,
                             struct calibration_file *out, struct error *err) {
    *out = (struct calibration_file){.path = path, .flag = flag, .index = json_object()};
    sha256_init(&out->sha);
    out->fd =
        writes ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666) : open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *bytes = NULL;
    size_t size = 0;
    bool torn = false;
    enum status status = out->fd < 0 ? fail(out, "open", err) : STATUS_OK;
    if (status == STATUS_OK && writes && flock(out->fd, LOCK_EX | LOCK_NB) != 0) {
        status = error_set(err, STATUS_ALREADY_EXISTS, flag, "another run has %.200s open", path);
    }
    if (status == STATUS_OK) {
        status = read_file(out, &bytes, &size, err);
    }
    if (status == STATUS_OK) {
        status = read_entries(out, bytes, size, &torn, err);
    }
    // An empty file is one to be written.
    if (status == STATUS_OK && out->header == NULL && (torn || !writes)) {
        status = error_set(err, STATUS_MALFORMED, flag, "%.200s is no calibration", path);
    } else if (status == STATUS_OK && !writes && (torn || !out->finished)) {
        status = error_set(err, STATUS_MALFORMED, flag,
                           "%.200s is not finished: it has no trailer; run `surefoot calibrate` "
                           "again",
                           path);
    }
    free(bytes);
    return status;
}

void calibration_close(struct calibration_file *file) {
    for (size_t i = 0; i < file->count; i++) {
        wire_free(WIRE_CALIBRATION_ENTRY, file->records[i]);
    }
    wire_free(WIRE_CALIBRATION_ENTRY, file->header);
    free(file->records);
    json_decref(file->index);
    if (file->fd >= 0) {
        close(file->fd);
    }
    *file = (struct calibration_file){.fd = -1};
}

// Writes an entry at the end, on disk when it returns; what stood there goes.
static enum status write_entry(struct calibration_file *file,
                               const Surefoot__CalibrationEntry *entry, struct error *err) {
    uint8_t *packed = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_CALIBRATION_ENTRY, entry, &packed, &size);
    uint8_t *bytes = status == STATUS_OK ? malloc(size + VARINT_BYTES_MAX) : NULL;
    if (bytes == NULL) {
        free(packed);
        return error_set(err, status == STATUS_OK ? STATUS_NO_MEMORY : status, file->flag,
                         "an entry of %.200s cannot be packed", file->path);
    }
    size_t before = 0;
    for (uint64_t left = size; before == 0 || left > 0; left >>= 7) {
        bytes[before++] = (uint8_t)((left & 0x7F) | (left > 0x7F ? 0x80 : 0));
        if (left <= 0x7F) {
            break;
        }
    }
    memcpy(bytes + before, packed, size);
    free(packed);
    if (ftruncate(file->fd, (off_t)file->end) != 0) {
        status = fail(file, "cut", err);
    }
    for (size_t done = 0; status == STATUS_OK && done < before + size;) {
        ssize_t n = pwrite(file->fd, bytes + done, before + size - done,
                           (off_t)(file->end + (int64_t)done));
        if (n < 0) {
            status = fail(file, "write", err);
        } else {
            done += (size_t)n;
        }
    }
    if (status == STATUS_OK && fdatasync(file->fd) != 0) {
        status = fail(file, "write to disk", err);
    }
    if (status == STATUS_OK && entry->trailer == NULL) {
        sha256_update(&file->sha, bytes, before + size);
        file->end += (int64_t)(before + size);
    }
    file->finished = status == STATUS_OK && entry->trailer != NULL;
    free(bytes);
    return status;
}

// An owned copy of an entry, as read from disk.
static enum status copy_entry(const Surefoot__CalibrationEntry *entry,
                              Surefoot__CalibrationEntry **out, struct error *err) {
    uint8_t *packed = NULL;
    size_t size = 0;
    void *copy = NULL;
    enum status status = wire_pack(WIRE_CALIBRATION_ENTRY, entry, &packed, &size);
    if (status == STATUS_OK) {
        status = wire_unpack(WIRE_CALIBRATION_ENTRY, packed, size, &copy, err);
    }
    free(packed);
    *out = copy;
    return status;
}

enum status calibration_begin(struct calibration_file *file,
                              const Surefoot__CalibrationHeader *header, struct error *err) {
    Surefoot__CalibrationEntry entry = SUREFOOT__CALIBRATION_ENTRY__INIT;
    entry.header = (Surefoot__CalibrationHeader *)header;
    if (file->header == NULL) {
        enum status status = write_entry(file, &entry, err);
        return status == STATUS_OK ? copy_entry(&entry, &file->header, err) : status;
    }
    json_t *before = job_message_json(&file->header->header->base);
    json_t *after = job_message_json(&header->base);
    struct json_diff diff;
    enum status status = STATUS_OK;
    if (json_diff_first(before, after, &diff)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, file->flag,
                           "%.100s was made with %s %s, now it is %s; name another file",
                           file->path, diff.path, diff.before, diff.after);
    }
    json_decref(before);
    json_decref(after);
    return status;
}

enum status calibration_append(struct calibration_file *file, const char *prompt_hash,
                               const float *rewards, size_t n_rewards, struct error *err) {
    Surefoot__CalibrationEntry entry = SUREFOOT__CALIBRATION_ENTRY__INIT;
    Surefoot__CalibrationRecord record = SUREFOOT__CALIBRATION_RECORD__INIT;
    record.prompt_hash = (char *)prompt_hash;
    record.rewards = (float *)rewards;
    record.n_rewards = n_rewards;
    record.has_ties = 1;
    record.ties = count_ties(rewards, n_rewards);
    entry.record = &record;
    if (!is_record(&record, file->header->header->rollouts)) {
        return error_set(err, STATUS_MALFORMED, file->flag,
                         "%.100s: %zu rewards came, not %u finite ones in order", file->path,
                         n_rewards, file->header->header->rollouts);
    }
    Surefoot__CalibrationEntry *copy = NULL;
    enum status status = write_entry(file, &entry, err);
    if (status == STATUS_OK) {
        status = copy_entry(&entry, &copy, err);
    }
    return status == STATUS_OK ? keep_record(file, copy, err) : status;
}

enum status calibration_finish(struct calibration_file *file, struct error *err) {
    Surefoot__CalibrationEntry entry = SUREFOOT__CALIBRATION_ENTRY__INIT;
    Surefoot__CalibrationTrailer trailer = SUREFOOT__CALIBRATION_TRAILER__INIT;
    char hex[SHA256_HEX_BYTES];
    struct sha256 sha = file->sha;
    sha256_finish_hex(&sha, hex);
    trailer.has_count = 1;
    trailer.count = (uint32_t)file->count;
    trailer.sha256 = hex;
    entry.trailer = &trailer;
    return file->finished ? STATUS_OK : write_entry(file, &entry, err);
}

enum status calibration_name_refusal(const struct calibration_file *file, struct error *err) {
    static const char field[] = "spec.calibration";
    if (file->fd < 0 || strncmp(err->field, field, sizeof field - 1) != 0) {
        return err->status;
    }
    const struct error told = *err;
    const char *what = told.field + sizeof field - 1;
    what += what[0] == '.';
    return error_set(err, told.status, file->flag, "%.100s was made otherwise: %s%s%s", file->path,
                     what, what[0] != '\0' ? ": " : "", told.message);
}

const Surefoot__CalibrationRecord *calibration_find(const struct calibration_file *file,
                                                    const char *prompt_hash) {
    const json_t *number = json_object_get(file->index, prompt_hash);
    return number == NULL ? NULL : file->records[json_integer_value(number)]->record;
}

enum status calibration_prompt_hash(const Surefoot__JobSpec *spec, char out[SHA256_HEX_BYTES],
                                    struct error *err) {
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    Surefoot__JobSpec prompt = SUREFOOT__JOB_SPEC__INIT;
    prompt.prompt = spec->prompt;
    prompt.n_messages = spec->n_messages;
    prompt.messages = spec->messages;
    prompt.rendered_prompt = spec->rendered_prompt;
    prompt.has_continue_final_message =
        spec->has_continue_final_message && spec->continue_final_message;
    prompt.continue_final_message = prompt.has_continue_final_message;
    bool as_written = spec->content_tokens != NULL && strcmp(spec->content_tokens, "as-text") != 0;
    prompt.content_tokens = as_written ? spec->content_tokens : NULL;
    prompt.n_template_variables = spec->n_template_variables;
    prompt.template_variables = spec->template_variables;
    submit.spec = &prompt;
    uint8_t *packed = NULL;
    size_t size = 0;
    enum status status = wire_pack(WIRE_SUBMIT_JOB, &submit, &packed, &size);
    if (status != STATUS_OK) {
        return error_set(err, status, "prompt", "cannot be packed: %s", status_text(status));
    }
    struct sha256 sha;
    sha256_init(&sha);
    sha256_update(&sha, packed, size);
    sha256_finish_hex(&sha, out);
    free(packed);
    return STATUS_OK;
}
