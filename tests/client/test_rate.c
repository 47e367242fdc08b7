// client/certify/: p-values and bounds against scipy's and statsmodels' (tests/vectors/rates.json,
// made by tests/parity/make_rate_vectors.py), and what they promise, by simulation.
#include "client/certify/rate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "client/certify/multiple_tests.h"
#include "common/rng.h"
#include "tests/support/testkit.h"

enum { RESAMPLES = 2000, SETTINGS = 4, PROMPTS = 300 };

static json_t *load(const char *name) {
    json_t *vectors = json_load_file(testkit_source_path("tests/vectors/rates.json"), 0, NULL);
    assert_non_null(vectors);
    json_t *part = json_incref(json_object_get(vectors, name));
    json_decref(vectors);
    assert_non_null(part);
    return part;
}

static double at(const json_t *row, size_t i) {
    return json_number_value(json_array_get(row, i));
}

static enum rate_kind kind_of(const json_t *row) {
    int kind = rate_kind_parse(json_string_value(json_array_get(row, 0)));
    assert_int_not_equal(kind, 0);
    return (enum rate_kind)kind;
}

static void assert_near(const json_t *row, const char *what, double value, double wanted) {
    if (!(fabs(value - wanted) <= 1e-9)) {
        char *text = json_dumps(row, JSON_COMPACT);
        print_error("%s is %.17g, wanted %.17g in %s\n", what, value, wanted, text);
        free(text);
        fail();
    }
}

static void test_p_values_equal_scipys(void **state) {
    (void)state;
    json_t *rows = load("p_values");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        const struct rate_sum sum = {at(row, 1), (size_t)at(row, 2)};
        assert_near(row, "below", rate_p_below(kind_of(row), sum, at(row, 3)), at(row, 4));
        assert_near(row, "above", rate_p_above(kind_of(row), sum, at(row, 3)), at(row, 5));
    }
    assert_true(i > 200);
    json_decref(rows);
}

static void test_bounds_equal_statsmodels_and_scipys(void **state) {
    (void)state;
    json_t *rows = load("intervals");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        const struct rate_sum sum = {at(row, 1), (size_t)at(row, 2)};
        assert_near(row, "lower", rate_lower(kind_of(row), sum, at(row, 3)), at(row, 4));
        assert_near(row, "upper", rate_upper(kind_of(row), sum, at(row, 3)), at(row, 5));
    }
    assert_true(i > 100);
    json_decref(rows);
}

static void test_holm_and_bonferroni_refuse_what_statsmodels_refuses(void **state) {
    (void)state;
    json_t *rows = load("tests");
    size_t i = 0;
    json_t *row = NULL;
    json_array_foreach(rows, i, row) {
        const json_t *p_list = json_object_get(row, "p");
        double p[MULTIPLE_TESTS_MAX];
        size_t n = json_array_size(p_list);
        for (size_t j = 0; j < n; j++) {
            p[j] = at(p_list, j);
        }
        for (int k = TEST_PROCEDURE_HOLM; k <= TEST_PROCEDURE_BONFERRONI; k++) {
            bool refused[MULTIPLE_TESTS_MAX];
            multiple_tests_run((enum test_procedure)k, p, n,
                               json_number_value(json_object_get(row, "delta")), refused);
            const json_t *wanted =
                json_object_get(row, test_procedure_name((enum test_procedure)k));
            for (size_t j = 0; j < n; j++) {
                assert_int_equal(refused[j], json_is_true(json_array_get(wanted, j)));
            }
        }
    }
    assert_int_equal(i, 60);
    json_decref(rows);
}

static void test_a_fixed_sequence_ends_at_the_first_that_stays(void **state) {
    (void)state;
    const double p[] = {0.01, 0.05, 0.051, 0.001};
    bool refused[4];
    multiple_tests_run(TEST_PROCEDURE_FIXED_SEQUENCE, p, 4, 0.05, refused);
    assert_true(refused[0] && refused[1]);
    assert_false(refused[2] || refused[3]);
}

static void test_nothing_seen_says_nothing(void **state) {
    (void)state;
    const struct rate_sum none = {0, 0};
    for (int kind = RATE_KIND_EXACT; kind <= RATE_KIND_ANYTIME; kind++) {
        assert_true(rate_p_below((enum rate_kind)kind, none, 0.05) == 1);
        assert_true(rate_upper((enum rate_kind)kind, none, 0.05) == 1);
        assert_true(rate_lower((enum rate_kind)kind, none, 0.05) == 0);
    }
}

// So that the bound is the end of an interval.
static void test_p_values_fall_as_the_rate_grows_above_the_mean(void **state) {
    (void)state;
    for (int kind = RATE_KIND_EXACT; kind <= RATE_KIND_ANYTIME; kind++) {
        for (size_t n = 1; n <= 1000; n = n * 3 + 1) {
            for (size_t k = 0; k < n; k += 1 + n / 7) {
                const struct rate_sum sum = {(double)k, n};
                double last = 1;
                for (double rate = fmax(1e-6, (double)k / (double)n); rate < 1; rate += 0.003) {
                    double p = rate_p_below((enum rate_kind)kind, sum, rate);
                    assert_true(p <= last * (1 + 1e-9));
                    last = p;
                }
            }
        }
    }
}

static void test_a_filter_abstains_as_often_as_the_base_rate_asks(void **state) {
    (void)state;
    assert_true(fabs(rate_abstention_min(0.3, 0.05) - 0.25 / 0.95) < 1e-15);
    assert_true(rate_abstention_min(0.05, 0.05) == 0);
    assert_true(rate_abstention_min(0.01, 0.05) == 0);
    // Stopping that share of unsafe answers leaves the target exactly.
    double share = rate_abstention_min(0.3, 0.05);
    assert_true(fabs((0.3 - share) / (1 - share) - 0.05) < 1e-15);
}

// The largest count of RESAMPLES that a rate of `delta` reaches with a probability above 1e-6.
static size_t tolerated(double delta) {
    size_t count = 0;
    while (1 - rate_binomial_cdf(count, RESAMPLES, delta) > 1e-6) {
        count++;
    }
    return count;
}

// One loss of prompt i under a setting: dependent over settings, as answers to one prompt are.
static bool is_unsafe(uint64_t resample, size_t i, double risk) {
    return rng_uniform(resample, 77, (uint32_t)i, 0) < risk;
}

// The p-value of one setting; looking after every prompt, that of the smallest.
static double p_of(enum rate_kind kind, uint64_t resample, double risk, double target) {
    struct rate_sum sum = {0, 0};
    double smallest = 1;
    for (size_t i = 0; i < PROMPTS; i++) {
        sum.losses += is_unsafe(resample, i, risk) ? 1 : 0;
        sum.n++;
        if (kind == RATE_KIND_ANYTIME && sum.n % 10 == 0) {
            smallest = fmin(smallest, rate_p_below(kind, sum, target));
        }
    }
    return kind == RATE_KIND_ANYTIME ? smallest : rate_p_below(kind, sum, target);
}

// Two settings are just above the target, two below: certifying one of the former is a violation.
static void test_the_rate_is_violated_at_most_as_often_as_delta_allows(void **state) {
    (void)state;
    const double target = 0.05;
    const double delta = 0.1;
    const double risks[SETTINGS] = {0.005, 0.02, 0.0501, 0.0501};
    for (int kind = RATE_KIND_EXACT; kind <= RATE_KIND_ANYTIME; kind++) {
        size_t violations[TEST_PROCEDURE_BONFERRONI + 1] = {0};
        size_t certified[TEST_PROCEDURE_BONFERRONI + 1] = {0};
        for (uint64_t resample = 0; resample < RESAMPLES; resample++) {
            double p[SETTINGS];
            for (size_t i = 0; i < SETTINGS; i++) {
                p[i] = p_of((enum rate_kind)kind, resample, risks[i], target);
            }
            for (int k = TEST_PROCEDURE_FIXED_SEQUENCE; k <= TEST_PROCEDURE_BONFERRONI; k++) {
                bool refused[SETTINGS];
                multiple_tests_run((enum test_procedure)k, p, SETTINGS, delta, refused);
                violations[k] += refused[2] || refused[3];
                certified[k] += refused[0];
            }
        }
        for (int k = TEST_PROCEDURE_FIXED_SEQUENCE; k <= TEST_PROCEDURE_BONFERRONI; k++) {
            printf("%s, %s: violated in %zu of %d, %zu tolerated; certified in %zu\n",
                   rate_kind_name((enum rate_kind)kind),
                   test_procedure_name((enum test_procedure)k), violations[k], RESAMPLES,
                   tolerated(delta), certified[k]);
            assert_true(violations[k] <= tolerated(delta));
            assert_true(certified[k] > RESAMPLES * 9 / 10);
        }
    }
}

// The bound covers, whatever the rate: also a rate at which few losses come.
static void test_bounds_cover_the_rate(void **state) {
    (void)state;
    const double delta = 0.1;
    const double rates[] = {0.003, 0.05, 0.4};
    for (int kind = RATE_KIND_EXACT; kind <= RATE_KIND_ANYTIME; kind++) {
        for (size_t r = 0; r < 3; r++) {
            size_t above = 0;
            size_t below = 0;
            for (uint64_t resample = 0; resample < RESAMPLES; resample++) {
                struct rate_sum sum = {0, PROMPTS};
                for (size_t i = 0; i < PROMPTS; i++) {
                    sum.losses += is_unsafe(resample, i, rates[r]) ? 1 : 0;
                }
                above += rate_upper((enum rate_kind)kind, sum, delta) < rates[r];
                below += rate_lower((enum rate_kind)kind, sum, delta) > rates[r];
            }
            assert_true(above <= tolerated(delta) && below <= tolerated(delta));
        }
    }
}

// On a pilot of 60 prompts: every setting's rate is found to be above the target.
static void test_an_infeasible_target_is_recognised_from_the_pilot(void **state) {
    (void)state;
    const double target = 0.05;
    const double delta = 0.1;
    size_t found = 0;
    size_t wrong = 0;
    for (uint64_t resample = 0; resample < RESAMPLES; resample++) {
        struct rate_sum far = {0, 60};
        struct rate_sum edge = {0, 60};
        for (size_t i = 0; i < 60; i++) {
            far.losses += is_unsafe(resample, i, 0.3) ? 1 : 0;
            edge.losses += is_unsafe(resample, i, target) ? 1 : 0;
        }
        found += rate_p_above(RATE_KIND_ANYTIME, far, target) <= delta;
        wrong += rate_p_above(RATE_KIND_ANYTIME, edge, target) <= delta;
    }
    printf("infeasible: found in %zu of %d, wrongly in %zu\n", found, RESAMPLES, wrong);
    assert_true(found > RESAMPLES * 95 / 100);
    assert_true(wrong <= tolerated(delta));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_p_values_equal_scipys),
        cmocka_unit_test(test_bounds_equal_statsmodels_and_scipys),
        cmocka_unit_test(test_holm_and_bonferroni_refuse_what_statsmodels_refuses),
        cmocka_unit_test(test_a_fixed_sequence_ends_at_the_first_that_stays),
        cmocka_unit_test(test_nothing_seen_says_nothing),
        cmocka_unit_test(test_p_values_fall_as_the_rate_grows_above_the_mean),
        cmocka_unit_test(test_a_filter_abstains_as_often_as_the_base_rate_asks),
        cmocka_unit_test(test_the_rate_is_violated_at_most_as_often_as_delta_allows),
        cmocka_unit_test(test_bounds_cover_the_rate),
        cmocka_unit_test(test_an_infeasible_target_is_recognised_from_the_pilot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
