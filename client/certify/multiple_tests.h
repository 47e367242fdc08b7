// Which of several hypotheses are refused so that the probability of refusing any true one stays at
// most delta (Learn then Test, Angelopoulos et al. 2021). Pure; any thread.
#ifndef CLIENT_CERTIFY_MULTIPLE_TESTS_H
#define CLIENT_CERTIFY_MULTIPLE_TESTS_H

#include <stdbool.h>
#include <stddef.h>

enum { MULTIPLE_TESTS_MAX = 64 };

enum test_procedure {
    TEST_PROCEDURE_FIXED_SEQUENCE = 1, // in their order, each at delta, up to the first that stays
    TEST_PROCEDURE_HOLM = 2,           // by p-value, the i-th smallest at delta/(n - i) (Holm 1979)
    TEST_PROCEDURE_BONFERRONI = 3,     // each at delta/n
};

// "fixed-sequence", "holm", "bonferroni"; test_procedure_parse gives 0 for any other name.
const char *test_procedure_name(enum test_procedure procedure);
int test_procedure_parse(const char *name);

// Sets refused[i] for p[n], n up to MULTIPLE_TESTS_MAX. The order for a fixed sequence must have
// been chosen without the data of these tests.
void multiple_tests_run(enum test_procedure procedure, const double *p, size_t n, double delta,
                        bool *refused);

#endif
