// A bounded run of the fuzzer's input function: the corpus as it is, and seeded mutations of it.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/testkit.h"

enum { ROUNDS = 2000 }; // for each file

static void draw(uint32_t round, uint32_t stream, uint32_t out[4]) {
    const uint32_t counter[4] = {round, stream, 0, 0}, key[2] = {19, 0};
    rng_philox4x32(counter, key, out);
}

// A byte is set, a bit flipped, eight bytes become a large number, or the file ends early.
static size_t mutate(unsigned char *bytes, size_t size, uint32_t round, uint32_t stream) {
    uint32_t d[4];
    draw(round, stream, d);
    size_t at = d[1] % size;
    switch (d[0] % 4) {
    case 0:
        bytes[at] = (unsigned char)d[2];
        return size;
    case 1:
        bytes[at] ^= (unsigned char)(1u << d[2] % 8);
        return size;
    case 2:
        memset(bytes + at, d[3] % 2 == 0 ? 0xff : 0, size - at < 8 ? size - at : 8);
        return size;
    default:
        return d[2] % 4 == 0 ? at : size;
    }
}

static void fuzz_file(const char *path) {
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    unsigned char *copy = malloc(size + 1);
    assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)bytes, size), 0);
    for (uint32_t round = 0; round < ROUNDS && size > 0; round++) {
        size_t length = size;
        memcpy(copy, bytes, size);
        for (uint32_t i = 0; i <= round % 3 && length > 0; i++) {
            length = mutate(copy, length, round, i);
        }
        assert_int_equal(LLVMFuzzerTestOneInput(copy, length), 0);
    }
    free(copy);
    free(bytes);
}

static void test_mutated_files_are_read_or_refused(void **state) {
    (void)state;
    const char *folder = testkit_source_path("tests/fuzz/corpus/gguf");
    DIR *directory = opendir(folder);
    assert_non_null(directory);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] != '.') {
            char path[4200];
            snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
            fuzz_file(path);
            n++;
        }
    }
    closedir(directory);
    assert_true(n >= 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mutated_files_are_read_or_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
