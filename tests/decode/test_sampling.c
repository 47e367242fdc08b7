// Sampling against a slow reference that sorts the whole vocabulary in float64, and against the
// frequencies that its distribution predicts.
#include "worker/decode/sampling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/backend/reference.h"
#include "tests/support/testkit.h"
#include "worker/backend/cpu/cpu_private.h"

static const struct sampling_params plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};

static const struct sampling_kernels *kernel_sets[REFERENCE_ISAS]; // what this CPU has, best first
static int n_kernel_sets;

static int find_kernel_sets(void **state) {
    (void)state;
    for (int i = 0; i < REFERENCE_ISAS; i++) {
        struct backend *backend = reference_backend(reference_isas[i], 1);
        if (backend != NULL) {
            kernel_sets[n_kernel_sets++] = cpu_backend_from(backend)->kernels->sampling;
        }
        backend_destroy(backend);
    }
    return 0;
}

// sampling_draw on a copy of the logits, with scratch that holds what an earlier row left there.
static void draw_with(const struct sampling_kernels *kernels, const float *logits, int32_t vocab,
                      struct sampling_row *row) {
    float *copy = malloc((size_t)vocab * sizeof *copy);
    void *scratch = aligned_alloc(64, sampling_scratch_bytes(vocab));
    assert_non_null(copy);
    assert_non_null(scratch);
    memset(scratch, 0xA5, sampling_scratch_bytes(vocab));
    memcpy(copy, logits, (size_t)vocab * sizeof *copy);
    sampling_draw(kernels, copy, vocab, row, scratch);
    free(copy);
    free(scratch);
}

static void draw_row(const float *logits, int32_t vocab, struct sampling_row *row) {
    draw_with(kernel_sets[0], logits, vocab, row);
}

struct ranked {
    float logit;
    int32_t id;
};

static int compare_ranked(const void *left, const void *right) {
    const struct ranked *a = left, *b = right;
    if (a->logit != b->logit) {
        return a->logit > b->logit ? -1 : 1;
    }
    return a->id < b->id ? -1 : 1;
}

static void reference_edit(float *z, int32_t vocab, const struct sampling_row *row) {
    const struct sampling_params *params = row->params;
    for (int32_t i = 0; i < params->bias.n; i++) {
        z[params->bias.token_ids[i]] += params->bias.values[i];
    }
    for (int32_t i = 0; i < row->penalty.n; i++) {
        z[row->penalty.token_ids[i]] -= row->penalty.values[i];
    }
    for (int32_t id = 0; id < vocab; id++) {
        int seen = 0, count = 0;
        for (int32_t i = 0; i < row->n_prompt; i++) {
            seen += row->prompt_ids[i] == id;
        }
        for (int32_t i = 0; i < row->n_response; i++) {
            count += row->response_ids[i] == id;
        }
        if (seen + count > 0) {
            z[id] =
                z[id] > 0 ? z[id] / params->repetition_penalty : z[id] * params->repetition_penalty;
        }
        z[id] -= (float)count * params->frequency_penalty;
    }
    for (int32_t i = 0; i < row->n_forbidden; i++) {
        z[row->forbidden_ids[i]] = -INFINITY;
    }
}

// The distribution that the parameters describe: p[vocab], by full sort; returns the largest
// logit's id. `slack` is how close the cumulative probability comes to top_p at a border: where it
// is within rounding, both neighbours are right and the case says nothing.
static int32_t reference_distribution(const float *logits, int32_t vocab,
                                      const struct sampling_row *row, double *p, double *slack) {
    const struct sampling_params *params = row->params;
    float *z = malloc((size_t)vocab * sizeof *z);
    struct ranked *order = malloc((size_t)vocab * sizeof *order);
    assert_non_null(z);
    assert_non_null(order);
    memcpy(z, logits, (size_t)vocab * sizeof *z);
    reference_edit(z, vocab, row);
    for (int32_t id = 0; id < vocab; id++) {
        order[id] = (struct ranked){z[id], id};
        p[id] = 0;
    }
    qsort(order, (size_t)vocab, sizeof *order, compare_ranked);
    double temperature = params->temperature > 0 ? (double)params->temperature : 1;
    int32_t kept = params->top_k > 0 && params->top_k < vocab ? params->top_k : vocab;
    double total = 0, cumulative = 0;
    for (int32_t i = 0; i < kept; i++) {
        total += exp(((double)order[i].logit - (double)order[0].logit) / temperature);
    }
    *slack = 1;
    for (int32_t i = 0; i < kept; i++) {
        double mass = exp(((double)order[i].logit - (double)order[0].logit) / temperature) / total;
        p[order[i].id] = mass;
        cumulative += mass;
        if (params->top_p < 1) {
            *slack = fmin(*slack, fabs(cumulative - (double)params->top_p));
            if (cumulative >= (double)params->top_p) {
                break;
            }
        }
    }
    for (int32_t id = 0; id < vocab; id++) {
        p[id] /= cumulative;
    }
    int32_t best = order[0].id;
    free(z);
    free(order);
    return best;
}

// The token that the uniform number selects, and how near a border of the cumulative it lies.
static int32_t reference_draw(const double *p, int32_t vocab, const struct sampling_row *row,
                              double *slack) {
    double u = rng_uniform(row->seed, row->lineage, row->position, 0);
    double cumulative = 0;
    int32_t chosen = -1;
    for (int32_t id = 0; id < vocab; id++) {
        cumulative += p[id];
        if (p[id] > 0) {
            *slack = fmin(*slack, fabs(cumulative - u));
            if (chosen < 0 && cumulative > u) {
                chosen = id;
            }
        }
    }
    return chosen;
}

static double reference_logprob(const float *logits, int32_t vocab, int32_t id) {
    double largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < vocab; i++) {
        largest = fmax(largest, (double)logits[i]);
    }
    for (int32_t i = 0; i < vocab; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return (double)logits[id] - largest - log(sum);
}

static uint32_t next_random(uint64_t *state) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

enum shape {
    SHAPE_COARSE, // few distinct values: ties everywhere
    SHAPE_UNIFORM,
    SHAPE_FLAT,   // an untrained model's: top-p takes most of the vocabulary
    SHAPE_NORMAL, // deviation 2.5
    SHAPE_ZIPF,   // a trained model's
    SHAPE_EQUAL,
    SHAPE_ONE_HOT,
    SHAPE_WIDE, // magnitudes from 1e-30 to 1e30
    SHAPES,
};

static float random_logit(enum shape shape, uint64_t *state) {
    double u = (next_random(state) % 1000000 + 0.5) / 1e6, v = next_random(state) % 1000000 / 1e6;
    double normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
    switch (shape) {
    case SHAPE_COARSE:
        return (float)round(8 * u - 4);
    case SHAPE_UNIFORM:
        return (float)(24 * u - 12);
    case SHAPE_FLAT:
        return (float)(0.4 * normal);
    case SHAPE_NORMAL:
        return (float)(2.5 * normal);
    case SHAPE_ZIPF:
        return (float)(-1.2 * log(1 + 30000 * u) + 3);
    case SHAPE_WIDE:
        return (float)((v < 0.5 ? -1 : 1) * pow(10, 60 * u - 30));
    case SHAPE_ONE_HOT:
        return -INFINITY;
    default:
        return 1.5f;
    }
}

static void random_logits(float *logits, int32_t vocab, enum shape shape, uint64_t *state) {
    bool holes = shape != SHAPE_EQUAL && next_random(state) % 2 == 0;
    for (int32_t i = 0; i < vocab; i++) {
        logits[i] = random_logit(shape, state);
        if (holes && next_random(state) % 31 == 0) {
            logits[i] = -INFINITY;
        }
    }
    if (shape == SHAPE_ONE_HOT || (holes && vocab < 4)) {
        logits[next_random(state) % (uint32_t)vocab] = 2;
    }
}

// Draws with every instruction set and compares with the reference. False when the uniform number
// or top-p lies so near a border that f32 weights may decide otherwise.
static bool check_row(const float *logits, int32_t vocab, const struct sampling_row *row, double *p,
                      int number) {
    const struct sampling_params *params = row->params;
    double slack;
    int32_t want = reference_distribution(logits, vocab, row, p, &slack);
    if (!isfinite(p[want])) {
        return false; // everything forbidden; its own test below
    }
    if (params->temperature > 0) {
        want = reference_draw(p, vocab, row, &slack);
    } else {
        slack = 1;
    }
    double logprob = reference_logprob(logits, vocab, want);
    float first_logprob = 0;
    for (int i = 0; i < n_kernel_sets; i++) {
        struct sampling_row drawn = *row;
        draw_with(kernel_sets[i], logits, vocab, &drawn);
        if (slack < 1e-6) {
            continue;
        }
        if (drawn.token_id != want) {
            fail_msg("row %d, %s: token %d, the reference has %d (vocabulary %d, temperature %g, "
                     "k %d, p %g, slack %g)",
                     number, reference_isas[i], drawn.token_id, want, vocab,
                     (double)params->temperature, params->top_k, (double)params->top_p, slack);
        }
        double tolerance = 1e-6 + 1e-6 * fabs(logprob);
        assert_true(drawn.logprob == logprob || fabs((double)drawn.logprob - logprob) <= tolerance);
        // With fused multiply-add or without: the two that have it agree bit for bit.
        assert_true(i != 1 || n_kernel_sets < 3 || drawn.logprob == first_logprob);
        first_logprob = drawn.logprob;
    }
    return slack >= 1e-6;
}

static void test_draws_equal_the_sorting_reference(void **state) {
    (void)state;
    static const float temperatures[] = {1, 0.7f, 0, 2.5f, 0.05f, 1e-20f, 1e20f};
    static const int32_t top_ks[] = {0, 0, 1, 5, 40, 300, 100000};
    static const float top_ps[] = {1, 0.9f, 0.5f, 0.01f, 0.999f, 1e-12f};
    static const int32_t vocabs[] = {1, 7, 500, 512, 513, 1500};
    enum { VOCAB_MAX = 1500, ROWS = 6000 };
    float logits[VOCAB_MAX];
    double p[VOCAB_MAX];
    int32_t ids[32];
    float values[32];
    uint64_t random = 5;
    int compared = 0;
    for (int i = 0; i < ROWS; i++) {
        int32_t vocab = vocabs[next_random(&random) % 6];
        random_logits(logits, vocab, (enum shape)(i % SHAPES), &random);
        for (int k = 0; k < 32; k++) {
            ids[k] = (int32_t)(next_random(&random) % (uint32_t)vocab);
            values[k] = (float)(next_random(&random) % 9) - 4;
        }
        values[0] = i % 8 == 0 ? -1e9f : values[0];
        struct sampling_params params = {
            .temperature = temperatures[next_random(&random) % 7],
            .top_k = top_ks[next_random(&random) % 7],
            .top_p = top_ps[next_random(&random) % 6],
            .repetition_penalty = i % 3 == 0 ? 1.3f : 1,
            .frequency_penalty = i % 5 == 0 ? 0.5f : 0,
            .bias = {ids, values, i % 4 == 0 ? 6 : 0},
        };
        struct sampling_row row = {
            .params = &params,
            .penalty = {ids + 3, values + 3, i % 7 == 0 ? 6 : 0},
            .prompt_ids = ids + 8,
            .n_prompt = 10,
            .response_ids = ids + 14,
            .n_response = 18,
            .forbidden_ids = ids + 1,
            .n_forbidden = i % 6 == 0 ? 2 : 0,
            .seed = 7,
            .lineage = (uint64_t)i,
            .position = (uint32_t)i * 3,
        };
        compared += check_row(logits, vocab, &row, p, i);
    }
    assert_true(compared > ROWS * 8 / 10);
}

// Where top-p's border is guessed and lists are split.
static void test_large_vocabularies_equal_the_reference(void **state) {
    (void)state;
    static const float temperatures[] = {1, 0.7f, 1.5f};
    static const int32_t top_ks[] = {0, 0, 0, 40, 3000, 30000};
    static const float top_ps[] = {0.9f, 0.5f, 0.95f, 0.01f, 0.9999f, 1};
    enum { VOCAB_MAX = 128256, ROWS = 160 };
    float *logits = malloc(VOCAB_MAX * sizeof *logits);
    double *p = malloc(VOCAB_MAX * sizeof *p);
    assert_non_null(logits);
    assert_non_null(p);
    uint64_t random = 11;
    int compared = 0;
    for (int i = 0; i < ROWS; i++) {
        int32_t vocab = i % 20 == 0 ? VOCAB_MAX : 4096 + (int32_t)(next_random(&random) % 20000);
        random_logits(logits, vocab, (enum shape)(i % SHAPES), &random);
        struct sampling_params params = plain;
        params.temperature = temperatures[next_random(&random) % 3];
        params.top_k = top_ks[next_random(&random) % 6];
        params.top_p = top_ps[next_random(&random) % 6];
        struct sampling_row row = {.params = &params, .seed = 3, .position = (uint32_t)i};
        compared += check_row(logits, vocab, &row, p, i);
    }
    assert_true(compared > ROWS / 2);
    free(logits);
    free(p);
}

static void test_greedy_takes_the_smallest_id_of_equals(void **state) {
    (void)state;
    const float logits[] = {-1, 3, 0, 3, 3};
    struct sampling_params params = plain;
    params.temperature = 0;
    const int32_t forbidden[] = {1};
    struct sampling_row row = {.params = &params, .forbidden_ids = forbidden};
    draw_row(logits, 5, &row);
    assert_int_equal(row.token_id, 1);
    row.n_forbidden = 1;
    draw_row(logits, 5, &row);
    assert_int_equal(row.token_id, 3);
}

static void test_ties_are_cut_by_id(void **state) {
    (void)state;
    const float logits[] = {1, 2, 2, 2, 2, 0};
    struct sampling_params by_count = plain, by_mass = plain;
    by_count.top_k = 2;
    by_mass.top_p = 0.3f;
    bool drawn[2][6] = {{false}};
    for (uint32_t i = 0; i < 400; i++) {
        struct sampling_row row = {.params = &by_count, .position = i};
        draw_row(logits, 6, &row);
        drawn[0][row.token_id] = true;
        row.params = &by_mass;
        draw_row(logits, 6, &row);
        drawn[1][row.token_id] = true;
    }
    static const bool want[6] = {false, true, true, false, false, false};
    assert_memory_equal(drawn[0], want, sizeof want);
    assert_memory_equal(drawn[1], want, sizeof want);
}

static void test_logprob_ignores_what_shapes_the_draw(void **state) {
    (void)state;
    const float logits[] = {0, logf(3), -INFINITY, 0};
    const int32_t ids[] = {0};
    const float values[] = {20};
    struct sampling_params params = {.temperature = 0.3f,
                                     .top_k = 1,
                                     .top_p = 0.5f,
                                     .repetition_penalty = 2,
                                     .bias = {ids, values, 1}};
    struct sampling_row row = {.params = &params, .prompt_ids = ids, .n_prompt = 1};
    draw_row(logits, 4, &row);
    assert_int_equal(row.token_id, 0);
    assert_true(fabsf(row.logprob - logf(0.2f)) < 1e-6f);
}

static void test_ids_outside_the_vocabulary_are_ignored(void **state) {
    (void)state;
    const float logits[] = {0, 5, 0};
    const int32_t ids[] = {-1, 3, INT32_MAX, INT32_MIN};
    const float values[] = {9, 9, 9, 9};
    struct sampling_params params = {.temperature = 0,
                                     .top_p = 1,
                                     .repetition_penalty = 1.5f,
                                     .frequency_penalty = 1,
                                     .bias = {ids, values, 4}};
    struct sampling_row row = {.params = &params,
                               .penalty = {ids, values, 4},
                               .prompt_ids = ids,
                               .n_prompt = 4,
                               .response_ids = ids,
                               .n_response = 4,
                               .forbidden_ids = ids,
                               .n_forbidden = 4};
    draw_row(logits, 3, &row);
    assert_int_equal(row.token_id, 1);
}

static void test_rows_without_a_distribution(void **state) {
    (void)state;
    struct sampling_row row = {.params = &plain};
    const float not_a_number[] = {0, NAN, 1};
    draw_row(not_a_number, 3, &row);
    assert_true(row.not_finite && row.token_id == -1);
    const float infinite[] = {0, INFINITY, 1};
    draw_row(infinite, 3, &row);
    assert_true(row.not_finite && row.token_id == -1);
    const float nothing[] = {-INFINITY, -INFINITY};
    draw_row(nothing, 2, &row);
    assert_false(row.not_finite);
    assert_int_equal(row.token_id, -1);
    const float two[] = {1, 2};
    const int32_t both[] = {0, 1};
    row.forbidden_ids = both;
    row.n_forbidden = 2;
    draw_row(two, 2, &row);
    assert_int_equal(row.token_id, -1);
    const float extreme[] = {3e38f, -3e38f, 0};
    struct sampling_params cold = plain;
    cold.temperature = 1e-30f;
    row = (struct sampling_row){.params = &cold};
    draw_row(extreme, 3, &row);
    assert_int_equal(row.token_id, 0);
    assert_true(row.logprob == 0);
}

// Places of a sorted vocabulary with many ties, some of its tokens forbidden; the draw that they
// are otherwise subject to has no say.
static void test_a_rank_is_a_place_of_the_sorted_vocabulary(void **state) {
    (void)state;
    enum { VOCAB = 3001, RANKS = 2990 };
    static float logits[VOCAB];
    static struct ranked order[VOCAB];
    const int32_t forbidden[] = {5, 700, 2999};
    for (int32_t id = 0; id < VOCAB; id++) {
        logits[id] = 0.25f * (float)(int)(60 * rng_uniform(7, 1, (uint32_t)id, 0));
        order[id] = (struct ranked){.logit = logits[id], .id = id};
    }
    logits[17] = order[17].logit = -INFINITY;
    for (int32_t i = 0; i < 3; i++) {
        order[forbidden[i]].logit = -INFINITY;
    }
    qsort(order, VOCAB, sizeof order[0], compare_ranked);
    for (int set = 0; set < n_kernel_sets; set++) {
        for (int32_t rank = 1; rank <= RANKS; rank += rank < 40 ? 1 : 61) {
            struct sampling_row row = {.params = &plain,
                                       .forbidden_ids = forbidden,
                                       .n_forbidden = 3,
                                       .lineage = (uint64_t)rank,
                                       .rank = rank};
            draw_with(kernel_sets[set], logits, VOCAB, &row);
            assert_int_equal(row.token_id, order[rank - 1].id);
        }
        struct sampling_row last = {
            .params = &plain, .forbidden_ids = forbidden, .n_forbidden = 3, .rank = VOCAB - 4};
        draw_with(kernel_sets[set], logits, VOCAB, &last);
        assert_int_equal(last.token_id, order[VOCAB - 5].id);
        last.rank = VOCAB - 3; // three are forbidden, one is minus infinity
        draw_with(kernel_sets[set], logits, VOCAB, &last);
        assert_int_equal(last.token_id, -1);
        assert_false(last.not_finite);
    }
}

static void test_entropy_is_that_of_the_row_as_it_came(void **state) {
    (void)state;
    enum { VOCAB = 1300 };
    static float logits[VOCAB];
    struct sampling_params params = plain;
    const int32_t biased = 3;
    const float bias = 50;
    params.temperature = 0.3f;
    params.top_k = 4;
    params.bias = (struct token_values){.token_ids = &biased, .values = &bias, .n = 1};
    for (int spread = 0; spread < 5; spread++) {
        double total = 0, mean = 0;
        for (int32_t id = 0; id < VOCAB; id++) {
            logits[id] = (float)(spread * 6 * rng_uniform(9, 2, (uint32_t)id, 0));
            total += exp((double)logits[id]);
            mean += exp((double)logits[id]) * (double)logits[id];
        }
        double entropy = log(total) - mean / total;
        assert_true(spread > 0 || fabs(entropy - log(VOCAB)) < 1e-9);
        for (int set = 0; set < n_kernel_sets; set++) {
            struct sampling_row row = {.params = &params, .wants_entropy = true};
            draw_with(kernel_sets[set], logits, VOCAB, &row);
            assert_true(fabs((double)row.entropy - entropy) < 1e-5);
            assert_true(row.token_id == biased);
        }
    }
    const float certain[] = {-INFINITY, 2, -INFINITY};
    struct sampling_row row = {.params = &plain, .wants_entropy = true};
    draw_row(certain, 3, &row);
    assert_true(row.entropy == 0);
}

static void test_a_draw_is_repeatable_and_keyed(void **state) {
    (void)state;
    enum { VOCAB = 300 };
    float logits[VOCAB];
    uint64_t random = 2;
    random_logits(logits, VOCAB, SHAPE_UNIFORM, &random);
    for (int32_t i = 0; i < VOCAB; i++) {
        logits[i] *= 0.1f;
    }
    struct sampling_row base = {.params = &plain, .seed = 7, .lineage = 3, .position = 9};
    draw_row(logits, VOCAB, &base);
    int changed = 0;
    for (uint32_t i = 0; i < 30; i++) {
        struct sampling_row same = {.params = &plain, .seed = 7, .lineage = 3, .position = 9};
        draw_row(logits, VOCAB, &same);
        assert_int_equal(same.token_id, base.token_id);
        struct sampling_row other = {.params = &plain,
                                     .seed = 7 + (i % 3 == 0),
                                     .lineage = 3 + (i % 3 == 1),
                                     .position = 9 + (i % 3 == 2)};
        draw_row(logits, VOCAB, &other);
        changed += other.token_id != base.token_id;
    }
    assert_int_equal(changed, 30);
}

// Pearson's statistic of the draws against the reference, in cells of at least 8 expected.
static void check_frequencies(const struct sampling_params *params, uint64_t seed) {
    enum { VOCAB = 40, DRAWS = 20000 };
    float logits[VOCAB];
    double p[VOCAB], slack, statistic = 0, rest_p = 0;
    int counts[VOCAB] = {0}, rest = 0, cells = 0;
    for (int i = 0; i < VOCAB; i++) {
        logits[i] = sinf((float)i * 1.7f) * 3;
    }
    struct sampling_row row = {.params = params, .seed = seed};
    reference_distribution(logits, VOCAB, &row, p, &slack);
    for (uint32_t i = 0; i < DRAWS; i++) {
        row.lineage = i / 64;
        row.position = i % 64;
        draw_row(logits, VOCAB, &row);
        counts[row.token_id]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        if (p[i] == 0) {
            assert_int_equal(counts[i], 0);
        } else if (p[i] * DRAWS < 8) {
            rest += counts[i];
            rest_p += p[i];
        } else {
            double excess = counts[i] - p[i] * DRAWS;
            statistic += excess * excess / (p[i] * DRAWS);
            cells++;
        }
    }
    if (rest_p * DRAWS >= 1) {
        double excess = rest - rest_p * DRAWS;
        statistic += excess * excess / (rest_p * DRAWS);
        cells++;
    }
    // Mean cells - 1, variance 2 (cells - 1): chance never gives five deviations above the mean.
    assert_true(statistic < cells - 1 + 5 * sqrt(2.0 * (cells - 1)));
}

static void test_frequencies_follow_the_distribution(void **state) {
    (void)state;
    check_frequencies(&plain, 1);
    struct sampling_params params = plain;
    params.temperature = 0.6f;
    check_frequencies(&params, 2);
    params.top_k = 12;
    check_frequencies(&params, 3);
    params.top_p = 0.85f;
    check_frequencies(&params, 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_draws_equal_the_sorting_reference),
        cmocka_unit_test(test_large_vocabularies_equal_the_reference),
        cmocka_unit_test(test_greedy_takes_the_smallest_id_of_equals),
        cmocka_unit_test(test_ties_are_cut_by_id),
        cmocka_unit_test(test_logprob_ignores_what_shapes_the_draw),
        cmocka_unit_test(test_ids_outside_the_vocabulary_are_ignored),
        cmocka_unit_test(test_rows_without_a_distribution),
        cmocka_unit_test(test_a_rank_is_a_place_of_the_sorted_vocabulary),
        cmocka_unit_test(test_entropy_is_that_of_the_row_as_it_came),
        cmocka_unit_test(test_a_draw_is_repeatable_and_keyed),
        cmocka_unit_test(test_frequencies_follow_the_distribution),
    };
    return cmocka_run_group_tests(tests, find_kernel_sets, NULL);
}
