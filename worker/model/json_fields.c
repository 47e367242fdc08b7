#include "worker/model/json_fields.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/json_numbers.h"

// Reads the whole of an open file; *out is owned by the caller.
static enum status read_all(int fd, const char *name, char **out, size_t *size, struct error *err) {
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return error_set(err, STATUS_IO, NULL, "%s is not a regular file", name);
    }
    if (info.st_size > JSON_FILE_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, NULL, "%s has %lld bytes, the limit is %d", name,
                         (long long)info.st_size, JSON_FILE_BYTES_MAX);
    }
    size_t wanted = (size_t)info.st_size;
    char *bytes = malloc(wanted + 1);
    if (bytes == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %s", name);
    }
    size_t got = 0;
    while (got < wanted) {
        ssize_t n = read(fd, bytes + got, wanted - got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            free(bytes);
            return error_set(err, STATUS_IO, NULL, "cannot read %s: %s", name,
                             n < 0 ? strerror(errno) : "it became shorter");
        }
        got += (size_t)n;
    }
    *out = bytes;
    *size = wanted;
    return STATUS_OK;
}

enum status json_object_read(const char *directory, const char *name, json_t **out,
                             struct error *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path) {
        return error_set(err, STATUS_LIMIT, NULL, "the path of %s is longer than %zu bytes", name,
                         sizeof path - 1);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // no waiting for a pipe's writer
    if (fd < 0) {
        return error_set(err, status_from_errno(errno), NULL, "cannot open %s: %s", path,
                         strerror(errno));
    }
    char *bytes = NULL;
    size_t size = 0;
    enum status status = read_all(fd, name, &bytes, &size, err);
    close(fd);
    if (status != STATUS_OK) {
        return status;
    }
    json_numbers_bound(bytes, size);
    json_error_t where;
    json_t *object = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &where);
    free(bytes);
    if (object == NULL) {
        return error_set(err, STATUS_MALFORMED, NULL, "%s: line %d, column %d: %s", name,
                         where.line, where.column, where.text);
    }
    if (!json_is_object(object)) {
        json_decref(object);
        return error_set(err, STATUS_MALFORMED, NULL, "%s is not a JSON object", name);
    }
    *out = object;
    return STATUS_OK;
}

const json_t *json_value_find(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum status absent(bool required, const char *key, struct error *err) {
    return required ? error_set(err, STATUS_MALFORMED, key, "%s is missing", key) : STATUS_OK;
}

enum status json_int_get(const json_t *object, const char *key, bool required, int64_t min,
                         int64_t max, int32_t *out, struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (value == NULL) {
        return absent(required, key, err);
    }
    if (!json_is_integer(value)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not an integer", key);
    }
    int64_t number = json_integer_value(value);
    if (number < min || number > max) {
        return error_set(err, STATUS_LIMIT, key, "%s is %lld, allowed is %lld to %lld", key,
                         (long long)number, (long long)min, (long long)max);
    }
    *out = (int32_t)number;
    return STATUS_OK;
}

enum status json_limit_get(const json_t *object, const char *key, bool required, int64_t min,
                           int32_t max, int32_t *out, struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (json_is_number(value) && json_number_value(value) > (double)max) {
        *out = max;
        return STATUS_OK;
    }
    return json_int_get(object, key, required, min, max, out, err);
}

enum status json_number_get(const json_t *object, const char *key, bool required, double min,
                            double max, double *out, struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (value == NULL) {
        return absent(required, key, err);
    }
    if (!json_is_number(value)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not a number", key);
    }
    double number = json_number_value(value);
    if (!(number >= min && number <= max)) {
        return error_set(err, STATUS_LIMIT, key, "%s is %g, allowed is %g to %g", key, number, min,
                         max);
    }
    *out = number;
    return STATUS_OK;
}

enum status json_bool_get(const json_t *object, const char *key, bool *out, struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_boolean(value)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is neither true nor false", key);
    }
    *out = json_is_true(value);
    return STATUS_OK;
}

enum status json_string_get(const json_t *object, const char *key, char *out, size_t capacity,
                            struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    if (!json_is_string(value)) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not a string", key);
    }
    if (json_string_length(value) >= capacity) {
        return error_set(err, STATUS_LIMIT, key, "%s has %zu bytes, the limit is %zu", key,
                         json_string_length(value), capacity - 1);
    }
    snprintf(out, capacity, "%s", json_string_value(value));
    return STATUS_OK;
}

enum status json_strings_get(const json_t *object, const char *key, json_t **out,
                             struct error *err) {
    const json_t *value = json_value_find(object, key);
    if (value == NULL) {
        return STATUS_OK;
    }
    bool good = json_is_array(value);
    for (size_t i = 0; i < json_array_size(value); i++) {
        good = good && json_is_string(json_array_get(value, i));
    }
    if (!good) {
        return error_set(err, STATUS_MALFORMED, key, "%s is not an array of strings", key);
    }
    *out = json_incref((json_t *)(uintptr_t)value);
    return STATUS_OK;
}

bool json_says_nothing(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_TRUE:
        return false;
    }
    return false;
}
