#include "worker/tokenizer/model_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json_numbers.h"
#include "worker/model/gguf.h"
#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/tokenizer_gguf.h"

static enum status read_open_file(FILE *file, const char *name, char **text, size_t *bytes,
                                  struct error *err) {
    struct stat info;
    if (fstat(fileno(file), &info) != 0) {
        return error_set(err, status_from_errno(errno), name, "%s", strerror(errno));
    }
    if (!S_ISREG(info.st_mode)) {
        return error_set(err, STATUS_IO, name, "not a regular file");
    }
    if (info.st_size > TOKENIZER_FILE_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, name, "%lld bytes are above the limit %d",
                         (long long)info.st_size, TOKENIZER_FILE_BYTES_MAX);
    }
    size_t size = (size_t)info.st_size;
    char *data = malloc(size + 1);
    if (data == NULL) {
        return error_set(err, STATUS_NO_MEMORY, name, "no memory for %zu bytes", size);
    }
    if (fread(data, 1, size, file) != size) {
        free(data);
        return error_set(err, STATUS_IO, name, "shorter than its size of %zu bytes", size);
    }
    data[size] = '\0';
    *text = data;
    *bytes = size;
    return STATUS_OK;
}

enum status model_file_read(const char *directory, const char *name, char **text, size_t *bytes,
                            struct error *err) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof path) {
        return error_set(err, STATUS_LIMIT, name, "the path of the directory is too long");
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // no waiting for a pipe's writer
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    if (file == NULL) {
        int reason = errno;
        if (fd >= 0) {
            close(fd);
        }
        return error_set(err, status_from_errno(reason), name, "%s: %s", path, strerror(reason));
    }
    enum status status = read_open_file(file, name, text, bytes, err);
    fclose(file);
    return status;
}

enum status model_file_read_json(const char *directory, const char *name, json_t **out,
                                 struct error *err) {
    if (gguf_is_path(directory)) {
        return tokenizer_gguf_document(directory, name, out, err);
    }
    char *text = NULL;
    size_t bytes = 0;
    enum status status = model_file_read(directory, name, &text, &bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    json_numbers_bound(text, bytes);
    json_error_t reason;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &reason);
    free(text);
    if (root == NULL) {
        return error_set(err, STATUS_MALFORMED, name, "line %d: %s", reason.line, reason.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(err, STATUS_MALFORMED, name, "not a JSON object");
    }
    *out = root;
    return STATUS_OK;
}

enum status model_file_error(struct error *err, enum status status, const char *file,
                             const char *path, const char *format, ...) {
    char field[ERROR_FIELD_BYTES];
    char message[2 * ERROR_MESSAGE_BYTES]; // error_set cuts at a character, this does not
    snprintf(field, sizeof field, "%s:%s", file, path);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(err, status, field, "%s", message);
}

bool model_file_next_line(const char **at, const char *end, const char **line, size_t *bytes) {
    if (*at == end) {
        return false;
    }
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *bytes = (size_t)((stop != NULL ? stop : end) - *at);
    *at = stop != NULL ? stop + 1 : end;
    if (*bytes > 0 && (*line)[*bytes - 1] == '\r') {
        --*bytes;
    }
    return true;
}
