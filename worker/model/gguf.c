#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/model/gguf_private.h"

size_t gguf_width(enum gguf_type type) {
    static const size_t widths[GGUF_TYPES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return widths[type];
}

uint64_t gguf_number(const unsigned char *bytes, size_t count) {
    uint64_t value = 0;
    for (size_t i = count; i > 0; i--) {
        value = value << 8 | bytes[i - 1];
    }
    return value;
}

static enum status map_file(struct gguf *gguf, const char *path, struct error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // no waiting for a pipe's writer
    if (fd < 0) {
        return error_set(err, status_from_errno(errno), NULL, "cannot open %.200s: %s", path,
                         strerror(errno));
    }
    enum status status = STATUS_OK;
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = error_set(err, STATUS_IO, NULL, "%.200s is not a regular file", path);
    } else if (info.st_size == 0) {
        status = error_set(err, STATUS_MALFORMED, NULL, "the file is empty");
    } else {
        void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED) {
            status = error_set(err, status_from_errno(errno), NULL, "cannot map %.200s: %s", path,
                               strerror(errno));
        } else {
            gguf->bytes = bytes;
            gguf->size = (size_t)info.st_size;
            gguf->mapped = true;
        }
    }
    close(fd);
    return status;
}

bool gguf_is_path(const char *path) {
    size_t length = strlen(path);
    return length >= 5 && strcmp(path + length - 5, ".gguf") == 0;
}

static const char *last_component(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static enum status create(const char *file_name, struct gguf **out, struct error *err) {
    struct gguf *gguf = calloc(1, sizeof *gguf);
    if (gguf != NULL) {
        gguf->file_name = strdup(file_name);
    }
    if (gguf == NULL || gguf->file_name == NULL) {
        free(gguf);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a GGUF file");
    }
    *out = gguf;
    return STATUS_OK;
}

enum status gguf_open(const char *path, struct gguf **out, struct error *err) {
    struct gguf *gguf = NULL;
    enum status status = create(last_component(path), &gguf, err);
    if (status != STATUS_OK) {
        return status;
    }
    status = map_file(gguf, path, err);
    if (status == STATUS_OK) {
        status = gguf_read(gguf, err);
    }
    if (status != STATUS_OK) {
        gguf_close(gguf);
        return status;
    }
    *out = gguf;
    return STATUS_OK;
}

enum status gguf_parse(const void *bytes, size_t size, struct gguf **out, struct error *err) {
    struct gguf *gguf = NULL;
    enum status status = create("", &gguf, err);
    if (status != STATUS_OK) {
        return status;
    }
    gguf->bytes = bytes;
    gguf->size = size;
    status = gguf_read(gguf, err);
    if (status != STATUS_OK) {
        gguf_close(gguf);
        return status;
    }
    *out = gguf;
    return STATUS_OK;
}

void gguf_close(struct gguf *gguf) {
    if (gguf == NULL) {
        return;
    }
    for (size_t i = 0; i < gguf->n_values; i++) {
        free((char *)(uintptr_t)gguf->values[i].key);
    }
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        free((char *)(uintptr_t)gguf->tensors[i].name);
    }
    if (gguf->mapped) {
        munmap((void *)(uintptr_t)gguf->bytes, gguf->size);
    }
    free(gguf->values);
    free(gguf->tensors);
    free(gguf->file_name);
    free(gguf);
}

const char *gguf_file_name(const struct gguf *gguf) {
    return gguf->file_name;
}

const void *gguf_bytes(const struct gguf *gguf, size_t *size) {
    *size = gguf->size;
    return gguf->bytes;
}

void gguf_drop_pages(const struct gguf *gguf) {
    if (gguf->mapped) {
        // Only advice: where it is refused the pages stay until the kernel needs them.
        (void)madvise((void *)(uintptr_t)gguf->bytes, gguf->size, MADV_DONTNEED);
    }
}

static int compare_to_key(const void *key, const void *value) {
    return strcmp(key, ((const struct gguf_value *)value)->key);
}

static int compare_to_name(const void *name, const void *tensor) {
    return strcmp(name, ((const struct gguf_tensor *)tensor)->name);
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key) {
    return bsearch(key, gguf->values, gguf->n_values, sizeof gguf->values[0], compare_to_key);
}

size_t gguf_value_count(const struct gguf *gguf) {
    return gguf->n_values;
}

const struct gguf_value *gguf_value_at(const struct gguf *gguf, size_t index) {
    return &gguf->values[index];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name) {
    return bsearch(name, gguf->tensors, gguf->n_tensors, sizeof gguf->tensors[0], compare_to_name);
}

size_t gguf_tensor_count(const struct gguf *gguf) {
    return gguf->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index) {
    return &gguf->tensors[index];
}

bool gguf_integer(const struct gguf_value *value, uint64_t index, int64_t *out) {
    size_t width = gguf_width(value->type);
    if (width == 0 || value->type == GGUF_F32 || value->type == GGUF_F64) {
        return false;
    }
    uint64_t bits = gguf_number(value->data + index * width, width);
    bool is_signed = value->type == GGUF_I8 || value->type == GGUF_I16 || value->type == GGUF_I32 ||
                     value->type == GGUF_I64;
    if (!is_signed && bits > INT64_MAX) {
        return false;
    }
    unsigned shift = 64 - 8 * (unsigned)width;
    *out = is_signed ? (int64_t)(bits << shift) >> shift : (int64_t)bits;
    return true;
}

bool gguf_real(const struct gguf_value *value, uint64_t index, double *out) {
    if (value->type == GGUF_F32) {
        uint32_t bits = (uint32_t)gguf_number(value->data + index * 4, 4);
        float single;
        memcpy(&single, &bits, sizeof single);
        *out = (double)single;
        return true;
    }
    if (value->type == GGUF_F64) {
        uint64_t bits = gguf_number(value->data + index * 8, 8);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    return false;
}

bool gguf_next_string(const struct gguf_value *value, const unsigned char **at,
                      struct gguf_string *out) {
    if (value->type != GGUF_STRING || *at == value->end) {
        return false;
    }
    size_t count = (size_t)gguf_number(*at, 8); // checked when the file was opened
    *out = (struct gguf_string){.bytes = (const char *)*at + 8, .count = count};
    *at += 8 + count;
    return true;
}
