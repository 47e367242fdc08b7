#include "client/certify/multiple_tests.h"

#include <string.h>

#include "common/status.h"

static const char *const names[] = {
    [TEST_PROCEDURE_FIXED_SEQUENCE] = "fixed-sequence",
    [TEST_PROCEDURE_HOLM] = "holm",
    [TEST_PROCEDURE_BONFERRONI] = "bonferroni",
};

const char *test_procedure_name(enum test_procedure procedure) {
    return names[procedure];
}

int test_procedure_parse(const char *name) {
    for (size_t i = 1; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            return (int)i;
        }
    }
    return 0;
}

static void run_holm(const double *p, size_t n, double delta, bool *refused) {
    for (size_t step = 0; step < n; step++) {
        size_t smallest = n;
        for (size_t i = 0; i < n; i++) {
            if (!refused[i] && (smallest == n || p[i] < p[smallest])) {
                smallest = i;
            }
        }
        if (p[smallest] > delta / (double)(n - step)) {
            return;
        }
        refused[smallest] = true;
    }
}

void multiple_tests_run(enum test_procedure procedure, const double *p, size_t n, double delta,
                        bool *refused) {
    ASSERT(n <= MULTIPLE_TESTS_MAX);
    memset(refused, 0, n * sizeof *refused);
    if (procedure == TEST_PROCEDURE_HOLM) {
        run_holm(p, n, delta, refused);
        return;
    }
    bool one_by_one = procedure == TEST_PROCEDURE_FIXED_SEQUENCE;
    for (size_t i = 0; i < n; i++) {
        refused[i] = p[i] <= (one_by_one ? delta : delta / (double)n);
        if (one_by_one && !refused[i]) {
            return;
        }
    }
}
