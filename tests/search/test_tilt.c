// Tilts against the tables of InfAlign's law (the density of u on 20,000 cells, made anew here),
// closed forms, simulated pools, and choices that numpy made.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "coordinator/search/tilt.h"

enum { CELLS = 20000, POOL_MAX = 64, ROLLOUTS_MAX = 32 };

static double power(double x, uint32_t n) {
    double product = 1;
    for (; n > 0; n--) {
        product *= x;
    }
    return product;
}

// The law of many candidates by the midpoint rule. exponents [CELLS]: Phi / beta; n 0: W and KL.
static struct tilt_law reference_law(const double *exponents, uint32_t n) {
    static double density[CELLS];
    struct tilt_law law = {.best_of_n = 1};
    double largest = -INFINITY;
    double sum = 0;
    for (int i = 0; i < CELLS; i++) {
        largest = fmax(largest, exponents[i]);
    }
    for (int i = 0; i < CELLS; i++) {
        density[i] = exp(exponents[i] - largest);
        sum += density[i];
    }
    double below = 0;
    for (int i = 0; i < CELLS; i++) {
        double u = (i + 0.5) / CELLS;
        double share = density[i] / sum;
        double middle = fmin(1, below + share / 2);
        below += share;
        law.win_rate += u * share;
        law.kl += share > 0 ? share * log(share * CELLS) : 0;
        if (n > 0) {
            law.best_of_n -= n * power(middle * u, n - 1) * middle / CELLS;
            law.worst_of_n += n * power((1 - middle) * (1 - u), n - 1) * (1 - middle) / CELLS;
        }
    }
    return law;
}

struct row {
    enum tilt_transform transform; // NONE: the power 7 of u, or of 1 - u where t is -1
    double t;
    double beta[3];   // at KL 0.1, 0.5, 1
    double law[3][3]; // W, Bo4, Wo4 there
};

static const double distances[] = {0.1, 0.5, 1.0};

// infalign.md, section 4, N = 4.
static const struct row rows[] = {
    {TILT_TRANSFORM_IDENTITY,
     0,
     {.62591, .24281, .13606},
     {{.6278, .6562, .6808}, {.7737, .7998, .8860}, {.8646, .8770, .9745}}},
    {TILT_TRANSFORM_LOG,
     0,
     {1.6097, .43207, .18849},
     {{.6185, .6185, .7235}, {.7682, .7682, .9270}, {.8631, .8631, .9859}}},
    {TILT_TRANSFORM_EXP,
     5,
     {96.925, 47.948, 34.198},
     {{.6113, .6994, .6025}, {.7461, .8566, .7465}, {.8390, .9192, .8572}}},
    {TILT_TRANSFORM_EXP,
     10,
     {13023, 7011.9, 5315.2},
     {{.5922, .7057, .5695}, {.7117, .8715, .6763}, {.8010, .9351, .7712}}},
    {TILT_TRANSFORM_NONE,
     1,
     {.6384, .3319, .2453},
     {{.5991, .7050, .5780}, {.7257, .8665, .6977}, {.8178, .9284, .8013}}},
    {TILT_TRANSFORM_OPTIMAL_BON,
     0,
     {.87974, .21661, .08305},
     {{.5944, .7059, .5721}, {.7025, .8733, .6646}, {.7737, .9411, .7327}}},
    {TILT_TRANSFORM_EXP_NEG,
     5,
     {.39865, .070295, .01718},
     {{.6102, .5925, .7339}, {.7539, .7230, .9439}, {.8567, .8352, .9912}}},
    {TILT_TRANSFORM_EXP_NEG,
     10,
     {.24217, .011511, .00095847},
     {{.5897, .5630, .7339}, {.7358, .6859, .9476}, {.8479, .8095, .9927}}},
    {TILT_TRANSFORM_NONE,
     -1,
     {.3106, .01772, .00053520},
     {{.5942, .5668, .7367}, {.7297, .6743, .9475}, {.8360, .7819, .9929}}},
    {TILT_TRANSFORM_OPTIMAL_WON,
     0,
     {1.1473, .20843, .028208},
     {{.5980, .5707, .7374}, {.7344, .6803, .9479}, {.8389, .7863, .9929}}},
};

// Phi of a row at the middles of the cells; of an optimum, that at the distance.
static void fill_values(const struct row *row, uint32_t n, double kl, double *values) {
    struct tilt_phi phi = {0};
    struct error err = {0};
    if (row->transform != TILT_TRANSFORM_NONE) {
        assert_ok(tilt_phi_init(&phi, row->transform, row->t, n, kl, 0, &err), &err);
    }
    for (int i = 0; i < CELLS; i++) {
        double u = (i + 0.5) / CELLS;
        values[i] = row->transform != TILT_TRANSFORM_NONE ? tilt_phi_at(&phi, u) * phi.unit
                                                          : row->t * pow(row->t > 0 ? u : 1 - u, 7);
    }
    tilt_phi_finish(&phi);
}

static struct tilt_law law_at(const double *values, uint32_t n, double beta) {
    static double exponents[CELLS];
    for (int i = 0; i < CELLS; i++) {
        exponents[i] = values[i] / beta;
    }
    return reference_law(exponents, n);
}

static struct tilt_law law_at_distance(const double *values, uint32_t n, double kl) {
    double low = 1e-12;
    double high = 1e9;
    for (int i = 0; i < 60; i++) {
        double middle = sqrt(low * high);
        bool far = law_at(values, 0, middle).kl > kl;
        low = far ? middle : low;
        high = far ? high : middle;
    }
    return law_at(values, n, high);
}

static void assert_near(double expected, double value, double tolerance) {
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not within %g of %.9g", value, tolerance, expected);
    }
}

static void test_transforms_have_the_published_laws(void **state) {
    (void)state;
    static double values[CELLS];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int k = 0; k < 3; k++) {
            fill_values(&rows[i], 4, distances[k], values);
            struct tilt_law law = law_at(values, 4, rows[i].beta[k]);
            assert_near(distances[k], law.kl, 2e-4);
            assert_near(rows[i].law[k][0], law.win_rate, 2e-4);
            assert_near(rows[i].law[k][1], law.best_of_n, 2e-4);
            assert_near(rows[i].law[k][2], law.worst_of_n, 2e-4);
        }
    }
}

// The other N of section 4.
static void test_t_grows_with_n(void **state) {
    (void)state;
    static const struct {
        struct row row;
        uint32_t n;
        double kl;
        bool worst;
        double expected;
    } cases[] = {
        {{.transform = TILT_TRANSFORM_IDENTITY}, 2, 0.5, false, .7917},
        {{.transform = TILT_TRANSFORM_EXP, .t = 5}, 2, 0.5, false, .8154},
        {{.transform = TILT_TRANSFORM_OPTIMAL_BON}, 2, 0.5, false, .8156},
        {{.transform = TILT_TRANSFORM_EXP, .t = 10}, 32, 0.5, false, .9196},
        {{.transform = TILT_TRANSFORM_EXP, .t = 40}, 32, 0.5, false, .9678},
        {{.transform = TILT_TRANSFORM_EXP, .t = 80}, 32, 0.5, false, .9806},
        {{.transform = TILT_TRANSFORM_OPTIMAL_BON}, 32, 0.5, false, .9928},
        {{.transform = TILT_TRANSFORM_EXP_NEG, .t = 10}, 32, 0.1, true, .9414},
        {{.transform = TILT_TRANSFORM_EXP_NEG, .t = 40}, 32, 0.1, true, .9838},
        {{.transform = TILT_TRANSFORM_OPTIMAL_WON}, 32, 0.1, true, .9841},
        {{.transform = TILT_TRANSFORM_EXP, .t = 10}, 4, 2, false, .9731},
        {{.transform = TILT_TRANSFORM_OPTIMAL_BON}, 4, 2, false, .9838},
    };
    static double values[CELLS];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct row row = cases[i].row;
        // Betas of exp(80 u) are beyond the range of the search: its shape at u = 1 alone counts.
        fill_values(&row, cases[i].n, cases[i].kl, values);
        double unit = fmax(1, values[CELLS - 1]);
        for (int c = 0; c < CELLS; c++) {
            values[c] /= unit;
        }
        struct tilt_law law = law_at_distance(values, cases[i].n, cases[i].kl);
        assert_near(cases[i].expected, cases[i].worst ? law.worst_of_n : law.best_of_n, 2e-4);
    }
}

static void test_no_transform_beats_the_optimum(void **state) {
    (void)state;
    static double values[CELLS];
    const uint32_t ns[] = {2, 8};
    for (size_t i = 0; i < 2; i++) {
        for (int k = 0; k < 3; k++) {
            const struct row optimum = {.transform = TILT_TRANSFORM_OPTIMAL_BON};
            fill_values(&optimum, ns[i], distances[k], values);
            double best = law_at_distance(values, ns[i], distances[k]).best_of_n;
            for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r += 2) {
                fill_values(&rows[r], ns[i], distances[k], values);
                assert_true(law_at_distance(values, ns[i], distances[k]).best_of_n <= best + 1e-6);
            }
        }
    }
}

static struct tilt *make_tilt(struct tilt_spec spec) {
    struct tilt *tilt = NULL;
    struct error err = {0};
    assert_ok(tilt_create(&spec, &tilt, &err), &err);
    return tilt;
}

static struct tilt_table *make_table(struct tilt_spec spec, uint32_t count) {
    struct tilt *tilt = make_tilt(spec);
    struct tilt_table *table = NULL;
    assert_ok(tilt_table_create(tilt, count, &table), NULL);
    tilt_destroy(tilt);
    return table;
}

// infalign.md, section 5: W, KL, Bo4, Wo4 at the betas of section 4 for KL 0.5.
static void test_few_candidates_have_the_published_laws(void **state) {
    (void)state;
    static const struct {
        enum tilt_sampler sampler;
        uint32_t count;
        double law[3][4];
    } cases[] = {
        {TILT_SAMPLER_RANKS,
         4,
         {{.7021, .2619, .7187, .8143},
          {.5802, .0419, .6208, .5869},
          {.6873, .2512, .6761, .8432}}},
        {TILT_SAMPLER_RANKS,
         16,
         {{.7564, .4323, .7801, .8707},
          {.6835, .2973, .8049, .6629},
          {.7216, .3991, .6841, .9191}}},
        {TILT_SAMPLER_RANKS,
         64,
         {{.7694, .4826, .7950, .8823},
          {.7073, .4486, .8576, .6753},
          {.7321, .4679, .6856, .9404}}},
        {TILT_SAMPLER_ROLLOUTS,
         8,
         {{.7603, .4482, .7799, .8821},
          {.7836, .6105, .8530, .8059},
          {.7140, .3579, .6832, .9021}}},
        {TILT_SAMPLER_ROLLOUTS,
         32,
         {{.7705, .4871, .7949, .8853},
          {.7438, .5829, .8802, .7165},
          {.7296, .4477, .6854, .9349}}},
        {TILT_SAMPLER_ROLLOUTS,
         100,
         {{.7727, .4959, .7982, .8858},
          {.7228, .5307, .8761, .6892},
          {.7338, .4805, .6858, .9434}}},
    };
    static const size_t columns[] = {0, 3, 7}; // of rows
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int c = 0; c < 3; c++) {
            const struct row *row = &rows[columns[c]];
            struct tilt_table *table = make_table((struct tilt_spec){.transform = row->transform,
                                                                     .t = row->t,
                                                                     .n = 4,
                                                                     .beta = row->beta[1],
                                                                     .sampler = cases[i].sampler},
                                                  cases[i].count);
            assert_near(cases[i].law[c][0], table->law.win_rate, 2e-4);
            assert_near(cases[i].law[c][1], table->law.kl, 2e-4);
            assert_near(cases[i].law[c][2], table->law.best_of_n, 2e-4);
            assert_near(cases[i].law[c][3], table->law.worst_of_n, 2e-4);
            tilt_table_destroy(table);
        }
    }
}

static void test_closed_forms(void **state) {
    (void)state;
    static double values[CELLS];
    for (int k = 0; k < 3; k++) {
        double beta = rows[0].beta[k];
        double z = beta * (exp(1 / beta) - 1);
        struct tilt_table *table =
            make_table((struct tilt_spec){.transform = TILT_TRANSFORM_IDENTITY,
                                          .n = 4,
                                          .beta = beta,
                                          .sampler = TILT_SAMPLER_RANKS},
                       4096);
        assert_near(exp(1 / beta) / z, table->rejection_draws, 1e-6);
        tilt_table_destroy(table);
        fill_values(&rows[0], 4, 0, values);
        assert_near(1 / (1 - exp(-1 / beta)) - beta, law_at(values, 4, beta).win_rate, 1e-6);
    }
    // Best of n as a tilt by log u with beta 1 / (n - 1).
    for (uint32_t n = 2; n <= 16; n *= 2) {
        fill_values(&rows[1], 4, 0, values);
        for (uint32_t of = 1; of <= 8; of *= 8) {
            struct tilt_law law = law_at(values, of, 1.0 / (n - 1));
            assert_near(n / (n + 1.0), law.win_rate, 1e-6);
            assert_near(log(n) - (n - 1.0) / n, law.kl, 1e-6);
            assert_near(n / (n + 1.0), law.best_of_n, 1e-6);
        }
        // And as the best of a pool of n.
        struct tilt_table *best = make_table(
            (struct tilt_spec){
                .transform = TILT_TRANSFORM_LOG, .n = 3, .kl = 100, .sampler = TILT_SAMPLER_RANKS},
            n);
        assert_true(best->beta == 0);
        assert_near(n / (n + 1.0), best->law.win_rate, 1e-12);
        assert_near(log(n) - (n - 1.0) / n, best->law.kl, 1e-9);
        assert_near(n / (n + 1.0), best->law.best_of_n, 1e-9);
        tilt_table_destroy(best);
    }
}

static void test_beta_meets_the_distance_on_the_law_of_few(void **state) {
    (void)state;
    const uint32_t counts[] = {1, 2, 3, 16, 64, 512};
    for (int transform = TILT_TRANSFORM_IDENTITY; transform <= TILT_TRANSFORM_OPTIMAL_WON;
         transform++) {
        for (int sampler = TILT_SAMPLER_RANKS; sampler <= TILT_SAMPLER_ROLLOUTS; sampler++) {
            for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
                struct tilt_table *table =
                    make_table((struct tilt_spec){.transform = (enum tilt_transform)transform,
                                                  .t = 10,
                                                  .n = 4,
                                                  .kl = 0.5,
                                                  .sampler = (enum tilt_sampler)sampler},
                               counts[i]);
                double most = log(table->places) - (table->places - 1.0) / table->places;
                assert_near(fmin(0.5, most), table->law.kl, 1e-9);
                assert_true((most <= 0.5) == !(table->beta > 0));
                tilt_table_destroy(table);
            }
        }
    }
}

static void test_large_beta_is_no_tilt_and_small_beta_takes_the_best(void **state) {
    (void)state;
    struct tilt_draw draws[5];
    size_t seen[5] = {0};
    struct tilt_spec spec = {.transform = TILT_TRANSFORM_EXP,
                             .t = 10,
                             .n = 4,
                             .beta = 1e300,
                             .sampler = TILT_SAMPLER_RANKS};
    struct tilt_table *none = make_table(spec, 5);
    spec.beta = 1e-300;
    struct tilt_table *best = make_table(spec, 5);
    spec.kl = 100;
    struct tilt_table *first = make_table(spec, 5);
    assert_near(0.5, none->law.win_rate, 1e-12);
    assert_near(0, none->law.kl, 1e-12);
    assert_near(5 / 6.0, best->law.win_rate, 1e-12);
    for (uint64_t seed = 0; seed < 5000; seed++) {
        for (size_t i = 0; i < 5; i++) {
            draws[i] = (struct tilt_draw){.reward = (double)i, .candidate_id = i, .eligible = true};
        }
        tilt_place_by_rank(draws, 5);
        seen[tilt_choose(none, draws, 5, seed)]++;
        assert_int_equal(4, tilt_choose(best, draws, 5, seed));
        assert_int_equal(4, tilt_choose(first, draws, 5, seed));
    }
    for (size_t i = 0; i < 5; i++) {
        assert_in_range(seen[i], 1000 - 120, 1000 + 120); // 4 sigma
    }
    tilt_table_destroy(none);
    tilt_table_destroy(best);
    tilt_table_destroy(first);
}

struct pool {
    struct tilt_draw draws[POOL_MAX];
    size_t count;
    float rollouts[ROLLOUTS_MAX];
    uint32_t n_rollouts;
    struct tilt_spec spec;
};

static size_t below(uint64_t seed, uint32_t draw, uint32_t count) {
    return (size_t)(rng_uniform(seed, 0, 0, draw) * count);
}

static int compare_floats(const void *left, const void *right) {
    const float *a = left;
    const float *b = right;
    return *a < *b ? -1 : *a > *b;
}

// As tests/parity/make_tilt_vectors.py. The answer j has the id j * 37 % 101.
static void make_pool(uint64_t seed, struct pool *pool) {
    static const double levels[] = {2, 5, 40, 1e9};
    static const double betas[] = {0.02, 0.3, 2.0};
    pool->count = 1 + below(seed, 0, 64);
    double level = levels[below(seed, 1, 4)];
    int transform = TILT_TRANSFORM_IDENTITY + (int)below(seed, 2, 4);
    double unit = transform == TILT_TRANSFORM_EXP ? exp(10.0) : 1;
    pool->spec = (struct tilt_spec){.transform = (enum tilt_transform)transform,
                                    .t = 10,
                                    .n = 4,
                                    .beta = betas[below(seed, 3, 3)] * unit,
                                    .sampler = below(seed, 4, 2) == 1 ? TILT_SAMPLER_ROLLOUTS
                                                                      : TILT_SAMPLER_RANKS};
    bool any = false;
    for (size_t j = 1; j <= pool->count; j++) {
        struct tilt_draw *draw = &pool->draws[j - 1];
        *draw = (struct tilt_draw){.reward = floor(rng_uniform(seed, j, 0, 0) * level) * 0.25,
                                   .candidate_id = j * 37 % 101,
                                   .eligible = rng_uniform(seed, j, 0, 1) < 0.8};
        any = any || draw->eligible;
    }
    for (size_t i = 0; !any && i < pool->count; i++) {
        pool->draws[i].eligible = true;
    }
    pool->n_rollouts = (uint32_t)(1 + below(seed, 5, ROLLOUTS_MAX));
    for (uint32_t k = 0; k < pool->n_rollouts; k++) {
        pool->rollouts[k] = (float)(floor(rng_uniform(seed, 1000 + k, 0, 0) * level) * 0.25);
    }
    qsort(pool->rollouts, pool->n_rollouts, sizeof pool->rollouts[0], compare_floats);
}

// Every kind of table that make_pool asks for, made once.
struct tables {
    struct tilt_table *of[2][4][3][POOL_MAX + 1];
};

static struct tilt_table *take_table(struct tables *tables, uint64_t seed,
                                     const struct pool *pool) {
    bool by_rank = pool->spec.sampler == TILT_SAMPLER_RANKS;
    uint32_t count = by_rank ? (uint32_t)pool->count : pool->n_rollouts;
    struct tilt_table **table = &tables->of[by_rank][below(seed, 2, 4)][below(seed, 3, 3)][count];
    *table = *table != NULL ? *table : make_table(pool->spec, count);
    return *table;
}

static void tables_destroy(struct tables *tables) {
    struct tilt_table **at = &tables->of[0][0][0][0];
    for (size_t i = 0; i < sizeof tables->of / sizeof *at; i++) {
        tilt_table_destroy(at[i]);
    }
    free(tables);
}

// The id of the chosen answer.
static uint64_t choose(const struct tilt_table *table, struct pool *pool, uint64_t seed) {
    if (pool->spec.sampler == TILT_SAMPLER_RANKS) {
        tilt_place_by_rank(pool->draws, pool->count);
    } else {
        tilt_place_by_rollouts(pool->draws, pool->count, pool->rollouts, pool->n_rollouts);
    }
    size_t at = tilt_choose(table, pool->draws, pool->count, seed);
    assert_true(pool->draws[at].eligible);
    return pool->draws[at].candidate_id;
}

static void test_choices_are_those_of_numpy(void **state) {
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct tables *tables = calloc(1, sizeof *tables);
    char *stored = testkit_read_file(testkit_source_path("tests/vectors/tilt_choices.txt"), NULL);
    uint64_t seed = 0;
    size_t different = 0;
    for (const char *at = stored; *at != '\0'; at++) {
        if (*at == '\n') {
            continue;
        }
        struct pool pool;
        make_pool(seed, &pool);
        uint64_t index = (uint64_t)(strchr(digits, *at) - digits);
        different += choose(take_table(tables, seed, &pool), &pool, seed) != (index + 1) * 37 % 101;
        seed++;
    }
    assert_int_equal(100000, seed);
    assert_int_equal(0, different);
    free(stored);
    tables_destroy(tables);
}

static void test_no_order_of_arrival_and_no_increasing_map_changes_a_choice(void **state) {
    (void)state;
    struct tables *tables = calloc(1, sizeof *tables);
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct pool pool;
        make_pool(seed, &pool);
        struct pool other = pool;
        const struct tilt_table *table = take_table(tables, seed, &pool);
        for (size_t i = 0; i < pool.count; i++) {
            struct tilt_draw *draw = &other.draws[i];
            *draw = pool.draws[pool.count - 1 - i];
            draw->reward =
                pool.spec.sampler == TILT_SAMPLER_RANKS ? cbrt(draw->reward) - 7 : 2 * draw->reward;
        }
        for (uint32_t k = 0; k < other.n_rollouts; k++) {
            other.rollouts[k] *= 2;
        }
        assert_int_equal(choose(table, &pool, seed), choose(table, &other, seed));
    }
    tables_destroy(tables);
}

static void test_mean_calibrated_reward_is_a_half(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct pool pool;
        make_pool(seed, &pool);
        tilt_place_by_rank(pool.draws, pool.count);
        double sum = 0;
        for (size_t i = 0; i < pool.count; i++) {
            sum += tilt_calibrated(TILT_SAMPLER_RANKS, (uint32_t)pool.count, pool.draws[i].place);
        }
        assert_near(0.5, sum / (double)pool.count, 1e-12);
    }
}

// A million uniform rewards, 16 to a pool.
static void test_ranks_win_as_often_as_their_law_says(void **state) {
    (void)state;
    enum { POOLS = 62500, COUNT = 16 };
    struct tilt_table *table = make_table((struct tilt_spec){.transform = TILT_TRANSFORM_EXP,
                                                             .t = 10,
                                                             .n = 4,
                                                             .kl = 0.5,
                                                             .sampler = TILT_SAMPLER_RANKS},
                                          COUNT);
    double sum = 0;
    double squares = 0;
    for (uint64_t seed = 0; seed < POOLS; seed++) {
        struct tilt_draw draws[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            draws[i] = (struct tilt_draw){
                .reward = rng_uniform(seed, 5, i, 0), .candidate_id = i, .eligible = true};
        }
        tilt_place_by_rank(draws, COUNT);
        double u = draws[tilt_choose(table, draws, COUNT, seed)].reward;
        sum += u;
        squares += u * u;
    }
    double mean = sum / POOLS;
    double sigma = sqrt((squares / POOLS - mean * mean) / POOLS);
    assert_near(table->law.win_rate, mean, 3 * sigma);
    tilt_table_destroy(table);
}

static int compare_places(const void *left, const void *right) {
    const struct tilt_draw *a = left;
    const struct tilt_draw *b = right;
    return a->place < b->place ? -1 : a->place > b->place;
}

// The law is that of roll-outs of its own for each answer.
static void test_rollouts_win_as_often_as_their_law_says(void **state) {
    (void)state;
    enum { POOLS = 4000, COUNT = 256, ROLLOUTS = 8 };
    struct tilt_table *table = make_table((struct tilt_spec){.transform = TILT_TRANSFORM_IDENTITY,
                                                             .n = 4,
                                                             .kl = 0.4,
                                                             .sampler = TILT_SAMPLER_ROLLOUTS},
                                          ROLLOUTS);
    double sum = 0;
    double squares = 0;
    for (uint64_t seed = 0; seed < POOLS; seed++) {
        struct tilt_draw draws[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            float rollouts[ROLLOUTS];
            for (uint32_t k = 0; k < ROLLOUTS; k++) {
                rollouts[k] = (float)rng_uniform(seed, i, k, 1);
            }
            qsort(rollouts, ROLLOUTS, sizeof rollouts[0], compare_floats);
            draws[i] = (struct tilt_draw){
                .reward = rng_uniform(seed, i, 0, 0), .candidate_id = i, .eligible = true};
            tilt_place_by_rollouts(&draws[i], 1, rollouts, ROLLOUTS);
        }
        qsort(draws, COUNT, sizeof draws[0], compare_places);
        double u = draws[tilt_choose(table, draws, COUNT, seed)].reward;
        sum += u;
        squares += u * u;
    }
    double mean = sum / POOLS;
    double sigma = sqrt((squares / POOLS - mean * mean) / POOLS);
    assert_near(table->law.win_rate, mean, 3 * sigma);
    tilt_table_destroy(table);
}

static void test_rejection_draws_are_counted(void **state) {
    (void)state;
    for (size_t r = 0; r < 4; r += 3) { // identity and exp(10 u)
        for (int k = 1; k < 3; k++) {
            struct tilt_table *table = make_table((struct tilt_spec){.transform = rows[r].transform,
                                                                     .t = rows[r].t,
                                                                     .n = 4,
                                                                     .beta = rows[r].beta[k],
                                                                     .sampler = TILT_SAMPLER_RANKS},
                                                  4);
            static double values[CELLS];
            fill_values(&rows[r], 4, 0, values);
            uint32_t accepted = 0;
            const uint32_t total = 1000000;
            for (uint32_t i = 0; i < total; i++) {
                double u = rng_uniform(1, 2, i, 0);
                double value = values[(int)(u * CELLS)] - values[CELLS - 1];
                accepted += rng_uniform(1, 3, i, 0) < exp(value / rows[r].beta[k]);
            }
            assert_near(1, table->rejection_draws * accepted / total, 0.02);
            tilt_table_destroy(table);
        }
    }
}

// Worse than every roll-out, log gives no answer a weight: those that are equal share it.
static void test_answers_without_weight_share_it(void **state) {
    (void)state;
    struct tilt_table *table = make_table(
        (struct tilt_spec){
            .transform = TILT_TRANSFORM_LOG, .n = 4, .beta = 1, .sampler = TILT_SAMPLER_ROLLOUTS},
        2);
    const float rollouts[] = {5, 6};
    size_t seen[3] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct tilt_draw draws[] = {{.reward = 1, .candidate_id = 1, .eligible = true},
                                    {.reward = 2, .candidate_id = 2, .eligible = true},
                                    {.reward = 9, .candidate_id = 3}};
        tilt_place_by_rollouts(draws, 3, rollouts, 2);
        seen[tilt_choose(table, draws, 3, seed)]++;
    }
    assert_in_range(seen[0], 100, 200);
    assert_int_equal(300, seen[0] + seen[1]);
    tilt_table_destroy(table);
}

// Of so many, the worst is held off by any answer that is not among the last: what tells these
// apart is less than numbers can hold.
static void test_an_optimum_that_is_not_found_is_refused(void **state) {
    (void)state;
    const struct tilt_spec specs[] = {
        {.transform = TILT_TRANSFORM_OPTIMAL_WON, .n = 1000, .beta = 1e-300},
        {.transform = TILT_TRANSFORM_OPTIMAL_WON, .n = 1024, .kl = 3},
    };
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        struct error err = {0};
        struct tilt *tilt = NULL;
        struct tilt_spec spec = specs[i];
        spec.sampler = TILT_SAMPLER_RANKS;
        assert_status(STATUS_LIMIT, tilt_create(&spec, &tilt, &err));
        assert_string_equal("spec.tilt_n", err.field);
        assert_null(tilt);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transforms_have_the_published_laws),
        cmocka_unit_test(test_t_grows_with_n),
        cmocka_unit_test(test_no_transform_beats_the_optimum),
        cmocka_unit_test(test_few_candidates_have_the_published_laws),
        cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_beta_meets_the_distance_on_the_law_of_few),
        cmocka_unit_test(test_large_beta_is_no_tilt_and_small_beta_takes_the_best),
        cmocka_unit_test(test_choices_are_those_of_numpy),
        cmocka_unit_test(test_no_order_of_arrival_and_no_increasing_map_changes_a_choice),
        cmocka_unit_test(test_mean_calibrated_reward_is_a_half),
        cmocka_unit_test(test_ranks_win_as_often_as_their_law_says),
        cmocka_unit_test(test_rollouts_win_as_often_as_their_law_says),
        cmocka_unit_test(test_rejection_draws_are_counted),
        cmocka_unit_test(test_answers_without_weight_share_it),
        cmocka_unit_test(test_an_optimum_that_is_not_found_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
