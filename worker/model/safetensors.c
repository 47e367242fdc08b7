#include "worker/model/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/model/json_fields.h"
#include "worker/model/model_path.h"

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";
static const char metadata_name[] = "__metadata__";

struct weight_file {
    char *name;
    unsigned char *bytes; // mapped
    size_t size;
    size_t data_begin; // offset of the data section
    json_t *header;    // until its tensors are read
};

struct entry {
    struct safetensors_tensor tensor; // first, so that lookups hand it out
    char *name;                       // owned
    void *copy;                       // owned, NULL when data points into the mapping
    size_t file;
    size_t begin; // into the file's data section
};

struct safetensors {
    struct weight_file *files; // [n_files], by name
    size_t n_files;
    struct entry *entries; // [n_entries], by name
    size_t n_entries;
    json_t *metadata; // owned, of the first file; NULL: none
};

static size_t dtype_width(const char *dtype) {
    static const struct {
        const char *name;
        size_t width;
    } widths[] = {
        {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8},     {"I64", 8},
        {"U64", 8}, {"I32", 4}, {"U32", 4},  {"I16", 2},     {"U16", 2},
        {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
    };
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        if (strcmp(widths[i].name, dtype) == 0) {
            return widths[i].width;
        }
    }
    return 0;
}

static uint64_t read_u64_le(const unsigned char *bytes) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) {
        value = value << 8 | bytes[i];
    }
    return value;
}

static enum status map_file(const char *directory, struct weight_file *file, struct error *err) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", directory, file->name) >= (int)sizeof path) {
        return error_set(err, STATUS_LIMIT, file->name, "the path is longer than %zu bytes",
                         sizeof path - 1);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // no waiting for a pipe's writer
    if (fd < 0) {
        return error_set(err, status_from_errno(errno), file->name, "cannot open %s: %s", path,
                         strerror(errno));
    }
    enum status status = STATUS_OK;
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        status = error_set(err, STATUS_IO, file->name, "%s is not a regular file", path);
    } else if (info.st_size < 8) {
        status =
            error_set(err, STATUS_MALFORMED, file->name,
                      "%lld bytes are too short for a safetensors header", (long long)info.st_size);
    } else {
        void *bytes = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED) {
            status = error_set(err, status_from_errno(errno), file->name, "cannot map %s: %s", path,
                               strerror(errno));
        } else {
            file->bytes = bytes;
            file->size = (size_t)info.st_size;
        }
    }
    close(fd);
    return status;
}

static enum status read_header(struct weight_file *file, struct error *err) {
    uint64_t length = read_u64_le(file->bytes);
    if (length > SAFETENSORS_HEADER_BYTES_MAX) {
        return error_set(err, STATUS_LIMIT, file->name, "header of %llu bytes, the limit is %d",
                         (unsigned long long)length, SAFETENSORS_HEADER_BYTES_MAX);
    }
    if (length > file->size - 8) {
        return error_set(err, STATUS_MALFORMED, file->name,
                         "header of %llu bytes in a file of %zu bytes", (unsigned long long)length,
                         file->size);
    }
    json_error_t where;
    file->header =
        json_loadb((const char *)file->bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (file->header == NULL) {
        return error_set(err, STATUS_MALFORMED, file->name, "header: column %d: %s", where.column,
                         where.text);
    }
    if (!json_is_object(file->header)) {
        return error_set(err, STATUS_MALFORMED, file->name, "the header is not a JSON object");
    }
    file->data_begin = 8 + (size_t)length;
    return STATUS_OK;
}

// Reads shape and checks that its product times `width` does not overflow; the product is in bytes.
static enum status read_shape(const json_t *shape, size_t width, struct safetensors_tensor *tensor,
                              struct error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > SAFETENSORS_DIMS_MAX) {
        return error_set(err, STATUS_MALFORMED, tensor->name,
                         "shape is not an array of at most %d numbers", SAFETENSORS_DIMS_MAX);
    }
    size_t bytes = width;
    tensor->n_dims = (int32_t)json_array_size(shape);
    for (int32_t i = 0; i < tensor->n_dims; i++) {
        const json_t *value = json_array_get(shape, (size_t)i);
        json_int_t extent = json_is_integer(value) ? json_integer_value(value) : -1;
        if (extent < 0) {
            return error_set(err, STATUS_MALFORMED, tensor->name,
                             "shape[%d] is not an integer of at least 0", i);
        }
        if (__builtin_mul_overflow(bytes, (size_t)extent, &bytes)) {
            return error_set(err, STATUS_LIMIT, tensor->name,
                             "shape[%d] of %lld makes more bytes than can be addressed", i,
                             (long long)extent);
        }
        tensor->shape[i] = extent;
    }
    tensor->bytes = bytes;
    return STATUS_OK;
}

static enum status read_offsets(const json_t *offsets, const struct weight_file *file,
                                struct entry *entry, struct error *err) {
    const json_t *first = json_array_get(offsets, 0);
    const json_t *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second)) {
        return error_set(err, STATUS_MALFORMED, entry->name, "data_offsets are not two integers");
    }
    long long begin = json_integer_value(first);
    long long end = json_integer_value(second);
    size_t data_bytes = file->size - file->data_begin;
    if (begin < 0 || end < begin) {
        return error_set(err, STATUS_MALFORMED, entry->name,
                         "data_offsets [%lld, %lld] are not a range", begin, end);
    }
    if ((unsigned long long)end > data_bytes) {
        return error_set(err, STATUS_MALFORMED, entry->name,
                         "data_offsets [%lld, %lld] end outside the %zu data bytes of %s", begin,
                         end, data_bytes, file->name);
    }
    if ((size_t)(end - begin) != entry->tensor.bytes) {
        return error_set(err, STATUS_MALFORMED, entry->name,
                         "data_offsets hold %lld bytes, dtype and shape need %zu", end - begin,
                         entry->tensor.bytes);
    }
    entry->begin = (size_t)begin;
    return STATUS_OK;
}

static enum status read_entry(const struct weight_file *file, const json_t *value,
                              struct entry *entry, struct error *err) {
    struct safetensors_tensor *tensor = &entry->tensor;
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (dtype == NULL) {
        return error_set(err, STATUS_MALFORMED, entry->name, "dtype is missing or not a string");
    }
    size_t width = dtype_width(dtype);
    if (width == 0) {
        return error_set(err, STATUS_UNSUPPORTED, entry->name, "unknown dtype %.32s", dtype);
    }
    snprintf(tensor->dtype, sizeof tensor->dtype, "%s", dtype);
    enum status status = read_shape(json_object_get(value, "shape"), width, tensor, err);
    if (status == STATUS_OK) {
        status = read_offsets(json_object_get(value, "data_offsets"), file, entry, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    tensor->data = file->bytes + file->data_begin + entry->begin;
    if ((uintptr_t)tensor->data % width != 0 && tensor->bytes > 0) {
        entry->copy = malloc(tensor->bytes);
        if (entry->copy == NULL) {
            return error_set(err, STATUS_NO_MEMORY, entry->name,
                             "no memory to align a tensor of %zu bytes", tensor->bytes);
        }
        memcpy(entry->copy, tensor->data, tensor->bytes);
        tensor->data = entry->copy;
    }
    return STATUS_OK;
}

static enum status read_file_entries(struct safetensors *weights, size_t file_index,
                                     struct error *err) {
    struct weight_file *file = &weights->files[file_index];
    const char *key;
    json_t *value;
    json_object_foreach(file->header, key, value) {
        if (strcmp(key, metadata_name) == 0) {
            continue;
        }
        if (strlen(key) > SAFETENSORS_NAME_BYTES_MAX) {
            return error_set(err, STATUS_LIMIT, key, "a tensor name of %zu bytes, the limit is %d",
                             strlen(key), SAFETENSORS_NAME_BYTES_MAX);
        }
        struct entry *entry = &weights->entries[weights->n_entries];
        *entry = (struct entry){.file = file_index, .name = strdup(key)};
        if (entry->name == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for tensor names");
        }
        weights->n_entries++;
        entry->tensor.name = entry->name;
        enum status status = read_entry(file, value, entry, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static int compare_places(const void *left, const void *right) {
    const struct entry *a = left;
    const struct entry *b = right;
    if (a->file != b->file) {
        return a->file < b->file ? -1 : 1;
    }
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return a->tensor.bytes < b->tensor.bytes ? -1 : a->tensor.bytes > b->tensor.bytes;
}

static int compare_names(const void *left, const void *right) {
    return strcmp(((const struct entry *)left)->name, ((const struct entry *)right)->name);
}

static int compare_files(const void *left, const void *right) {
    return strcmp(((const struct weight_file *)left)->name,
                  ((const struct weight_file *)right)->name);
}

// The data of entry `index` begin at `end`, where those before them end.
static enum status check_begin(const struct safetensors *weights, size_t index, size_t end,
                               struct error *err) {
    const struct entry *entry = &weights->entries[index];
    if (entry->begin > end) {
        return error_set(err, STATUS_MALFORMED, entry->name,
                         "data at offset %zu leave a gap: those before end at %zu", entry->begin,
                         end);
    }
    if (entry->begin < end) { // then there is one before
        return error_set(err, STATUS_MALFORMED, entry->name,
                         "data at offset %zu overlaps %.160s, which ends at %zu", entry->begin,
                         weights->entries[index - 1].name, end);
    }
    return STATUS_OK;
}

// As the format says and its own reader checks: in the order of their offsets, tensors cover the
// data from the first byte to the last, empty ones in their places.
static enum status check_cover(struct safetensors *weights, struct error *err) {
    qsort(weights->entries, weights->n_entries, sizeof weights->entries[0], compare_places);
    size_t index = 0;
    for (size_t i = 0; i < weights->n_files; i++) {
        const struct weight_file *file = &weights->files[i];
        size_t end = 0;
        for (; index < weights->n_entries && weights->entries[index].file == i; index++) {
            enum status status = check_begin(weights, index, end, err);
            if (status != STATUS_OK) {
                return status;
            }
            end += weights->entries[index].tensor.bytes;
        }
        size_t size = file->size - file->data_begin;
        if (end != size) {
            return error_set(err, STATUS_MALFORMED, file->name,
                             "%zu bytes follow the last tensor, which ends at offset %zu",
                             size - end, end);
        }
    }
    return STATUS_OK;
}

// Sorts the entries for lookup.
static enum status check_unique(struct safetensors *weights, struct error *err) {
    if (weights->n_entries == 0) {
        return STATUS_OK;
    }
    qsort(weights->entries, weights->n_entries, sizeof weights->entries[0], compare_names);
    for (size_t i = 1; i < weights->n_entries; i++) {
        const struct entry *a = &weights->entries[i - 1];
        const struct entry *b = &weights->entries[i];
        if (strcmp(a->name, b->name) == 0) {
            return error_set(err, STATUS_MALFORMED, a->name, "stands in %s and again in %s",
                             weights->files[a->file].name, weights->files[b->file].name);
        }
    }
    return STATUS_OK;
}

// A shard must lie beside the index: a name that could leave the directory is refused.
static bool is_plain_file_name(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL && strlen(name) <= 255;
}

static enum status add_file(struct safetensors *weights, const char *name, struct error *err) {
    for (size_t i = 0; i < weights->n_files; i++) {
        if (strcmp(weights->files[i].name, name) == 0) {
            return STATUS_OK;
        }
    }
    if (weights->n_files == SAFETENSORS_FILES_MAX) {
        return error_set(err, STATUS_LIMIT, "weight_map", "more than %d weight files",
                         SAFETENSORS_FILES_MAX);
    }
    char *copy = strdup(name);
    if (copy == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for file names");
    }
    weights->files[weights->n_files++] = (struct weight_file){.name = copy};
    return STATUS_OK;
}

static enum status list_shards(struct safetensors *weights, const json_t *index,
                               struct error *err) {
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        return error_set(err, STATUS_MALFORMED, "weight_map", "%s has no weight_map", index_name);
    }
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        const char *name = json_string_value(value);
        if (name == NULL || !is_plain_file_name(name)) {
            return error_set(err, STATUS_MALFORMED, key,
                             "%s places it in \"%.64s\", which is not a file name in the directory",
                             index_name, name == NULL ? "" : name);
        }
        enum status status = add_file(weights, name, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    qsort(weights->files, weights->n_files, sizeof weights->files[0], compare_files);
    return STATUS_OK;
}

// Every tensor that the index names is in the file that it names.
static enum status check_index(const struct safetensors *weights, const json_t *index,
                               struct error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(index, "weight_map"), key, value) {
        const struct entry *entry = (const struct entry *)safetensors_find(weights, key);
        const char *name = json_string_value(value);
        if (entry == NULL || strcmp(weights->files[entry->file].name, name) != 0) {
            return error_set(err, STATUS_NOT_FOUND, key, "%s places it in %s, where it is not",
                             index_name, name);
        }
    }
    return STATUS_OK;
}

static enum status load_files(struct safetensors *weights, const char *directory,
                              struct error *err) {
    size_t n_tensors = 0;
    for (size_t i = 0; i < weights->n_files; i++) {
        enum status status = map_file(directory, &weights->files[i], err);
        if (status == STATUS_OK) {
            status = read_header(&weights->files[i], err);
        }
        if (status != STATUS_OK) {
            return status;
        }
        n_tensors += json_object_size(weights->files[i].header);
    }
    if (n_tensors > SAFETENSORS_TENSORS_MAX) {
        return error_set(err, STATUS_LIMIT, NULL, "%zu tensors, the limit is %d", n_tensors,
                         SAFETENSORS_TENSORS_MAX);
    }
    weights->entries = calloc(n_tensors + 1, sizeof weights->entries[0]);
    if (weights->entries == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu tensors", n_tensors);
    }
    for (size_t i = 0; i < weights->n_files; i++) {
        enum status status = read_file_entries(weights, i, err);
        if (i == 0) {
            weights->metadata =
                json_incref(json_object_get(weights->files[i].header, metadata_name));
        }
        json_decref(weights->files[i].header);
        weights->files[i].header = NULL;
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = check_cover(weights, err);
    return status == STATUS_OK ? check_unique(weights, err) : status;
}

// model.safetensors when there is one (as Hugging Face prefers it), else the index's shards.
static enum status list_files(struct safetensors *weights, const char *directory, json_t **index,
                              struct error *err) {
    if (model_path_has(directory, single_name)) {
        return add_file(weights, single_name, err);
    }
    enum status status = json_object_read(directory, index_name, index, err);
    if (status == STATUS_NOT_FOUND) {
        return error_set(err, STATUS_NOT_FOUND, single_name, "%.200s has neither %s nor %s",
                         directory, single_name, index_name);
    }
    return status == STATUS_OK ? list_shards(weights, *index, err) : status;
}

// With `name` that file alone, else what list_files finds.
static enum status open_files(const char *directory, const char *name, struct safetensors **out,
                              struct error *err) {
    struct safetensors *weights = calloc(1, sizeof *weights);
    if (weights == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the weight files");
    }
    json_t *index = NULL;
    enum status status = STATUS_NO_MEMORY;
    weights->files = calloc(SAFETENSORS_FILES_MAX, sizeof weights->files[0]);
    if (weights->files == NULL) {
        error_set(err, status, NULL, "no memory for the weight files");
        goto out;
    }
    status =
        name != NULL ? add_file(weights, name, err) : list_files(weights, directory, &index, err);
    if (status != STATUS_OK) {
        goto out;
    }
    status = load_files(weights, directory, err);
    if (status == STATUS_OK && index != NULL) {
        status = check_index(weights, index, err);
    }
out:
    json_decref(index);
    if (status != STATUS_OK) {
        safetensors_close(weights);
        return status;
    }
    *out = weights;
    return STATUS_OK;
}

enum status safetensors_open(const char *directory, struct safetensors **out, struct error *err) {
    return open_files(directory, NULL, out, err);
}

enum status safetensors_open_file(const char *directory, const char *name, struct safetensors **out,
                                  struct error *err) {
    return open_files(directory, name, out, err);
}

enum status safetensors_open_path(const char *path, struct safetensors **out, struct error *err) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return open_files(".", path, out, err);
    }
    char *directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (directory == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a path");
    }
    enum status status = open_files(directory, slash + 1, out, err);
    free(directory);
    return status;
}

bool safetensors_exist(const char *directory) {
    return model_path_has(directory, single_name) || model_path_has(directory, index_name);
}

void safetensors_close(struct safetensors *weights) {
    if (weights == NULL) {
        return;
    }
    for (size_t i = 0; i < weights->n_entries; i++) {
        free(weights->entries[i].name);
        free(weights->entries[i].copy);
    }
    for (size_t i = 0; i < weights->n_files; i++) {
        json_decref(weights->files[i].header);
        if (weights->files[i].bytes != NULL) {
            munmap(weights->files[i].bytes, weights->files[i].size);
        }
        free(weights->files[i].name);
    }
    json_decref(weights->metadata);
    free(weights->entries);
    free(weights->files);
    free(weights);
}

void safetensors_drop_pages(const struct safetensors *weights) {
    for (size_t i = 0; i < weights->n_files; i++) {
        // Only advice: where it is refused the pages stay until the kernel needs them.
        (void)madvise(weights->files[i].bytes, weights->files[i].size, MADV_DONTNEED);
    }
}

static int compare_name_to_entry(const void *name, const void *entry) {
    return strcmp(name, ((const struct entry *)entry)->name);
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *weights,
                                                  const char *name) {
    const struct entry *entry = bsearch(name, weights->entries, weights->n_entries,
                                        sizeof weights->entries[0], compare_name_to_entry);
    return entry == NULL ? NULL : &entry->tensor;
}

const char *safetensors_metadata(const struct safetensors *weights, const char *key) {
    return json_string_value(json_object_get(weights->metadata, key));
}

size_t safetensors_count(const struct safetensors *weights) {
    return weights->n_entries;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *weights, size_t index) {
    return &weights->entries[index].tensor;
}

size_t safetensors_file_count(const struct safetensors *weights) {
    return weights->n_files;
}

const char *safetensors_file_name(const struct safetensors *weights, size_t index) {
    return weights->files[index].name;
}

const void *safetensors_file_bytes(const struct safetensors *weights, size_t index, size_t *size) {
    *size = weights->files[index].size;
    return weights->files[index].bytes;
}
