#include "worker/model/safetensors_write.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_ALIGNMENT = 8 };

static json_t *describe_tensor(const struct safetensors_tensor *tensor, size_t begin) {
    json_t *shape = json_array();
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensor->dtype, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + tensor->bytes));
}

// Owned text; NULL: no memory, or a text that is no UTF-8.
static char *make_header(const struct safetensors_text *metadata, size_t n_metadata,
                         const struct safetensors_tensor *tensors, size_t n) {
    json_t *header = json_object();
    json_t *texts = json_object();
    int failed = header == NULL || texts == NULL;
    for (size_t i = 0; i < n_metadata; i++) {
        failed |= json_object_set_new(texts, metadata[i].key, json_string(metadata[i].value));
    }
    failed |= json_object_set(header, "__metadata__", texts);
    size_t begin = 0;
    for (size_t i = 0; i < n; i++) {
        failed |= json_object_set_new(header, tensors[i].name, describe_tensor(&tensors[i], begin));
        begin += tensors[i].bytes;
    }
    char *text = failed ? NULL : json_dumps(header, JSON_COMPACT);
    json_decref(texts);
    json_decref(header);
    return text;
}

static bool write_all(int fd, const void *bytes, size_t size) {
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        at += n;
        size -= (size_t)n;
    }
    return true;
}

static bool write_header(int fd, const char *text) {
    size_t length = strlen(text);
    size_t padding = (HEADER_ALIGNMENT - length % HEADER_ALIGNMENT) % HEADER_ALIGNMENT;
    unsigned char size[8];
    for (size_t i = 0; i < sizeof size; i++) {
        size[i] = (unsigned char)((uint64_t)(length + padding) >> (8 * i));
    }
    return write_all(fd, size, sizeof size) && write_all(fd, text, length) &&
           write_all(fd, "        ", padding);
}

enum status safetensors_write(const char *path, const struct safetensors_text *metadata,
                              size_t n_metadata, const struct safetensors_tensor *tensors, size_t n,
                              struct error *err) {
    char part[4096];
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part) {
        return error_set(err, STATUS_LIMIT, NULL, "a path of %zu bytes, the limit is %zu",
                         strlen(path), sizeof part - sizeof ".part");
    }
    char *header = make_header(metadata, n_metadata, tensors, n);
    if (header == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the header of %.200s", path);
    }
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0 && write_header(fd, header);
    for (size_t i = 0; good && i < n; i++) {
        good = write_all(fd, tensors[i].data, tensors[i].bytes);
    }
    good = good && fsync(fd) == 0;
    int cause = errno;
    if (fd >= 0 && close(fd) != 0 && good) {
        good = false;
        cause = errno;
    }
    if (good && rename(part, path) != 0) {
        good = false;
        cause = errno;
    }
    free(header);
    if (good) {
        return STATUS_OK;
    }
    if (fd >= 0) {
        unlink(part);
    }
    return error_set(err, status_from_errno(cause), NULL, "cannot write %.200s: %s", path,
                     strerror(cause));
}
