// Shared verbs of the tests: cmocka with its prerequisites, shorthands that print what differed, and
// ways to find the source tree, the shared data and a scratch directory.
#ifndef TESTS_SUPPORT_TESTKIT_H
#define TESTS_SUPPORT_TESTKIT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/status.h"

// Exit code with which a whole test program reports that it cannot run here.
enum { TESTKIT_SKIP = 77 };

// Fails the test and prints status name and error text when `status` is not STATUS_OK.
#define assert_ok(status, err) testkit_assert_ok((status), (err), __FILE__, __LINE__)
// Fails the test unless `status` has the expected value; prints both names.
#define assert_status(expected, status) testkit_assert_status((expected), (status), __FILE__, __LINE__)

void testkit_assert_ok(enum status status, const struct error *err, const char *file, int line);
void testkit_assert_status(enum status expected, enum status status, const char *file, int line);

// "<source tree>/<relative>", in one of 8 rotating static buffers.
const char *testkit_source_path(const char *relative);
// "<build tree>/<relative>", likewise.
const char *testkit_binary_path(const char *relative);

// "<data>/<relative>" where data is $SUREFOOT_DATA or ../shared/data beside the source tree; NULL when
// the file is absent: the test then calls skip() after printing why with testkit_note_missing().
const char *testkit_data_path(const char *relative);
void testkit_note_missing(const char *relative);
// "<source tree>/../shared/cases/<relative>", likewise; NULL, and a note why, when it is absent.
const char *testkit_case_path(const char *relative);

// Reads a whole file; NUL-terminated, caller frees; fails the test when it cannot.
char *testkit_read_file(const char *path, size_t *size);
void testkit_write_file(const char *path, const void *bytes, size_t size);

// A fresh directory under $TMPDIR or /tmp, removed with its contents by testkit_remove_tree.
char *testkit_make_directory(void); // returns owned path
void testkit_remove_tree(char *path); // takes path

#endif
