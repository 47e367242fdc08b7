#include "coordinator/search/tilt.h"

#include <math.h>
#include <stdlib.h>

#include "common/rng.h"

struct tilt {
    uint32_t n_owners;
    struct tilt_spec spec;
    struct tilt_phi phi;
    struct tilt_rule rule;
    struct tilt_table *table; // for table_count; NULL: none yet
    uint32_t table_count;
};

enum status tilt_create(const struct tilt_spec *spec, struct tilt **out, struct error *err) {
    ASSERT(spec->transform != TILT_TRANSFORM_NONE && spec->n > 0);
    ASSERT(spec->kl > 0 || spec->beta > 0);
    ASSERT(spec->sampler == TILT_SAMPLER_RANKS || spec->sampler == TILT_SAMPLER_ROLLOUTS);
    struct tilt *tilt = calloc(1, sizeof *tilt);
    if (tilt == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a tilt");
    }
    tilt->n_owners = 1;
    tilt->spec = *spec;
    enum status status =
        tilt_phi_init(&tilt->phi, spec->transform, spec->t, spec->n, spec->kl, spec->beta, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "spec.tilt_n");
        tilt_destroy(tilt);
        return status;
    }
    tilt_rule_init(&tilt->rule);
    *out = tilt;
    return STATUS_OK;
}

struct tilt *tilt_share(struct tilt *tilt) {
    tilt->n_owners++;
    return tilt;
}

bool tilt_is_of(const struct tilt *tilt, const struct tilt_spec *spec) {
    const struct tilt_spec *own = &tilt->spec;
    return own->transform == spec->transform && own->t == spec->t && own->n == spec->n &&
           own->kl == spec->kl && own->beta == spec->beta && own->sampler == spec->sampler;
}

void tilt_destroy(struct tilt *tilt) {
    if (tilt != NULL && --tilt->n_owners == 0) {
        tilt_table_destroy(tilt->table);
        tilt_phi_finish(&tilt->phi);
        free(tilt);
    }
}

double tilt_calibrated(enum tilt_sampler sampler, uint32_t places, uint32_t place) {
    if (sampler == TILT_SAMPLER_RANKS) {
        return (place + 1.0) / (2.0 * places); // (rank - 1/2) / M
    }
    return place / (2.0 * (places - 1));
}

static void fill_exponents(const struct tilt *tilt, double beta, struct tilt_table *table) {
    uint32_t last = 2 * table->places - 2;
    double largest =
        tilt_phi_at(&tilt->phi, tilt_calibrated(tilt->spec.sampler, table->places, last));
    for (uint32_t place = 0; place <= last; place++) {
        double u = tilt_calibrated(tilt->spec.sampler, table->places, place);
        double below = tilt_phi_at(&tilt->phi, u) - largest;
        table->exponents[place] = tilt_exponent(below, beta);
    }
}

enum status tilt_table_create(const struct tilt *tilt, uint32_t count, struct tilt_table **out) {
    ASSERT(count > 0);
    enum tilt_sampler sampler = tilt->spec.sampler;
    uint32_t places = sampler == TILT_SAMPLER_RANKS ? count : count + 1;
    struct tilt_table *table = calloc(1, sizeof *table);
    double *values = malloc(places * sizeof *values);
    double *p = malloc(places * sizeof *p);
    double *cumulative = malloc((places + (size_t)1) * sizeof *cumulative);
    enum status status = STATUS_NO_MEMORY;
    if (table == NULL || values == NULL || p == NULL || cumulative == NULL) {
        goto out;
    }
    table->places = places;
    table->exponents = malloc((2 * (size_t)places - 1) * sizeof *table->exponents);
    if (table->exponents == NULL) {
        goto out;
    }
    for (uint32_t i = 0; i < places; i++) {
        values[i] = tilt_phi_at(&tilt->phi, tilt_calibrated(sampler, places, 2 * i));
    }
    double unit = tilt->phi.unit;
    double beta = tilt->spec.kl > 0
                      ? tilt_beta_of_few(&tilt->rule, values, places, tilt->spec.kl, p)
                      : tilt->spec.beta / unit;
    tilt_weights(values, places, beta, p);
    tilt_law_of_few(&tilt->rule, p, places, tilt->spec.n, cumulative, &table->law);
    fill_exponents(tilt, beta, table);
    table->beta = beta * unit;
    table->rejection_draws =
        beta > 0 ? tilt_rejection_draws(&tilt->rule, &tilt->phi, beta) : INFINITY;
    *out = table;
    table = NULL;
    status = STATUS_OK;
out:
    tilt_table_destroy(table);
    free(values);
    free(p);
    free(cumulative);
    return status;
}

void tilt_table_destroy(struct tilt_table *table) {
    if (table != NULL) {
        free(table->exponents);
        free(table);
    }
}

enum status tilt_table_find(struct tilt *tilt, uint32_t count, const struct tilt_table **out) {
    if (tilt->table == NULL || tilt->table_count != count) {
        struct tilt_table *made = NULL;
        enum status status = tilt_table_create(tilt, count, &made);
        if (status != STATUS_OK) {
            return status;
        }
        tilt_table_destroy(tilt->table);
        tilt->table = made;
        tilt->table_count = count;
    }
    *out = tilt->table;
    return STATUS_OK;
}

static int compare_draws(const void *left, const void *right) {
    const struct tilt_draw *a = left;
    const struct tilt_draw *b = right;
    if (a->reward < b->reward || a->reward > b->reward) {
        return a->reward < b->reward ? -1 : 1;
    }
    return a->candidate_id < b->candidate_id ? -1 : a->candidate_id > b->candidate_id;
}

void tilt_place_by_rank(struct tilt_draw *draws, size_t count) {
    qsort(draws, count, sizeof *draws, compare_draws);
    for (size_t from = 0; from < count;) {
        size_t to = from + 1;
        while (to < count && draws[to].reward <= draws[from].reward) {
            to++;
        }
        for (size_t i = from; i < to; i++) {
            draws[i].place = (uint32_t)(from + to - 1);
        }
        from = to;
    }
}

void tilt_place_by_rollouts(struct tilt_draw *draws, size_t count, const float *rollouts,
                            uint32_t n_rollouts) {
    qsort(draws, count, sizeof *draws, compare_draws);
    uint32_t below = 0;
    uint32_t up_to = 0;
    for (size_t i = 0; i < count; i++) {
        float reward = (float)draws[i].reward;
        while (below < n_rollouts && rollouts[below] < reward) {
            below++;
        }
        while (up_to < n_rollouts && rollouts[up_to] <= reward) {
            up_to++;
        }
        draws[i].place = below + up_to;
    }
}

// Weights ascend with the place, so that of the highest place is the largest.
static double weight_of(const struct tilt_table *table, const struct tilt_draw *draw,
                        uint32_t highest) {
    double largest = table->exponents[highest];
    if (!draw->eligible || isinf(largest)) {
        return draw->eligible && draw->place == highest;
    }
    return exp(table->exponents[draw->place] - largest);
}

size_t tilt_choose(const struct tilt_table *table, const struct tilt_draw *draws, size_t count,
                   uint64_t seed) {
    size_t best = count;
    for (size_t i = 0; i < count; i++) {
        ASSERT(draws[i].place < 2 * table->places - 1);
        best = draws[i].eligible ? i : best;
    }
    ASSERT(best < count);
    double total = 0;
    for (size_t i = 0; i <= best; i++) {
        total += weight_of(table, &draws[i], draws[best].place);
    }
    double target = rng_uniform(seed, TILT_LINEAGE, 0, 0) * total;
    double sum = 0;
    for (size_t i = 0; i < best; i++) {
        sum += weight_of(table, &draws[i], draws[best].place);
        if (sum > target) {
            return i;
        }
    }
    return best;
}
