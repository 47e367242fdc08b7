#include "tests/support/testkit.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void testkit_assert_ok(enum status status, const struct error *err, const char *file, int line) {
    if (status == STATUS_OK) {
        return;
    }
    print_error("%s: %s: %s\n", status_name(status), err ? err->field : "",
                err ? err->message : "");
    _fail(file, line);
}

void testkit_assert_status(enum status expected, enum status status, const char *file, int line) {
    if (status == expected) {
        return;
    }
    print_error("expected %s, got %s\n", status_name(expected), status_name(status));
    _fail(file, line);
}

static char *next_buffer(void) {
    static char buffers[8][4096];
    static unsigned next;
    return buffers[next++ % 8];
}

static const char *join(const char *variable, const char *fallback, const char *relative) {
    const char *root = getenv(variable);
    char *path = next_buffer();
    snprintf(path, 4096, "%s/%s", root != NULL ? root : fallback, relative);
    return path;
}

const char *testkit_source_path(const char *relative) {
    return join("SUREFOOT_SOURCE_DIR", ".", relative);
}

const char *testkit_binary_path(const char *relative) {
    return join("SUREFOOT_BINARY_DIR", "build", relative);
}

const char *testkit_data_path(const char *relative) {
    char inside[2048];
    snprintf(inside, sizeof inside, "../shared/data/%s", relative);
    const char *path = getenv("SUREFOOT_DATA") != NULL ? join("SUREFOOT_DATA", "", relative)
                                                       : testkit_source_path(inside);
    return access(path, R_OK) == 0 ? path : NULL;
}

void testkit_note_missing(const char *relative) {
    print_message("skipped: %s is not in $SUREFOOT_DATA or ../shared/data\n", relative);
}

const char *testkit_case_path(const char *relative) {
    char inside[2048];
    snprintf(inside, sizeof inside, "../shared/cases/%s", relative);
    const char *path = testkit_source_path(inside);
    if (access(path, R_OK) == 0) {
        return path;
    }
    print_message("skipped: %s is not there\n", inside);
    return NULL;
}

char *testkit_read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("cannot open %s", path);
    }
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long length = ftell(file);
    rewind(file);
    char *bytes = malloc((size_t)length + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)length, file), (size_t)length);
    bytes[length] = '\0';
    fclose(file);
    if (size != NULL) {
        *size = (size_t)length;
    }
    return bytes;
}

void testkit_write_file(const char *path, const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        fail_msg("cannot create %s", path);
    }
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

char *testkit_make_directory(void) {
    const char *root = getenv("TMPDIR");
    char *path = malloc(4096);
    assert_non_null(path);
    snprintf(path, 4096, "%s/surefoot-test-XXXXXX", root != NULL ? root : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *state) {
    (void)info;
    (void)kind;
    (void)state;
    return remove(path);
}

void testkit_remove_tree(char *path) {
    if (path != NULL) {
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        free(path);
    }
}
