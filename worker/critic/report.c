#include "worker/critic/report.h"

#include <math.h>
#include <stdlib.h>

#include "worker/critic/measure.h"
#include "worker/model/element.h"

enum { BATCH_ROWS = 256 };
static const double places[] = {0.25, 0.5, 0.75};
static const double place_reach = 0.125;

// A channel's numbers of samples.
struct view {
    const struct critic_samples *samples;
    size_t channels;
    size_t channel;
};

static double state_of(const struct view *view, size_t index, double budget) {
    const struct critic_samples *samples = view->samples;
    size_t at = index * view->channels + view->channel;
    return (budget - (double)samples->spent[at]) / (double)samples->weights[at];
}

// What the whole text costs.
static double total_of(const struct view *view, size_t index) {
    const struct critic_samples *samples = view->samples;
    size_t at = index * view->channels + view->channel;
    return (double)samples->spent[at] + (double)samples->weights[at] * (double)samples->costs[at];
}

static bool is_safe(const struct view *view, size_t index, double budget) {
    return state_of(view, index, budget) >=
           (double)view->samples->costs[index * view->channels + view->channel];
}

static int compare_numbers(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return a < b ? -1 : a > b;
}

enum status critic_report_budgets(const struct critic_terms *terms,
                                  const struct critic_samples *samples, int32_t channel,
                                  const size_t *indexes, size_t n_indexes, double own,
                                  double budgets[REPORT_BUDGETS_MAX], size_t *n) {
    const struct view view = {samples, (size_t)terms->n_channels, (size_t)channel};
    double *totals = malloc((n_indexes + 1) * sizeof *totals);
    if (totals == NULL) {
        return STATUS_NO_MEMORY;
    }
    size_t count = 0;
    for (size_t i = 0; i < n_indexes; i++) {
        if (i == 0 || samples->trajectories[indexes[i]] != samples->trajectories[indexes[i - 1]]) {
            totals[count++] = total_of(&view, indexes[i]);
        }
    }
    qsort(totals, count, sizeof *totals, compare_numbers);
    const double wanted[] = {own, totals[count / 4], totals[count / 2], totals[count * 3 / 4]};
    *n = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        bool known = isnan(wanted[i]);
        for (size_t j = 0; j < *n; j++) {
            known = known || budgets[j] == wanted[i];
        }
        if (!known) {
            budgets[(*n)++] = wanted[i];
        }
    }
    free(totals);
    return STATUS_OK;
}

static enum status predict(struct critic *critic, struct backend *backend,
                           const struct critic_samples *samples, const size_t *indexes, size_t n,
                           struct critic_output *out, struct error *err) {
    const struct critic_terms *terms = critic_get_terms(critic);
    size_t hidden = (size_t)terms->hidden_dim, n_out = (size_t)critic_output_count(terms);
    struct tensor states = {.dtype = DTYPE_F32, .rows = BATCH_ROWS, .cols = terms->hidden_dim};
    states.data = backend->ops->alloc(backend, BATCH_ROWS * hidden * sizeof(float));
    float *values = malloc(BATCH_ROWS * hidden * sizeof *values);
    float *raw = malloc(BATCH_ROWS * n_out * sizeof *raw);
    int32_t rows[BATCH_ROWS];
    enum status status = STATUS_OK;
    if (states.data == NULL || values == NULL || raw == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a batch of states");
    }
    for (size_t begin = 0; status == STATUS_OK && begin < n; begin += BATCH_ROWS) {
        size_t count = n - begin < BATCH_ROWS ? n - begin : BATCH_ROWS;
        for (size_t row = 0; row < count; row++) {
            rows[row] = (int32_t)row;
            for (size_t j = 0; j < hidden; j++) {
                values[row * hidden + j] =
                    element_to_f32(samples->states, DTYPE_BF16, indexes[begin + row] * hidden + j);
            }
        }
        backend->ops->upload(backend, states.data, values, count * hidden * sizeof *values);
        status = critic_evaluate(critic, &states, rows, (int32_t)count, raw);
        for (size_t row = 0; status == STATUS_OK && row < count; row++) {
            status = critic_read(critic, raw + row * n_out, &out[begin + row], err);
        }
    }
    if (states.data != NULL) {
        backend->ops->release(backend, states.data);
    }
    free(values);
    free(raw);
    return status;
}

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *bins_json(const struct measure *measure) {
    json_t *bins = json_array();
    for (int i = 0; i < MEASURE_BINS; i++) {
        const struct measure_bin *bin = &measure->bins[i];
        json_array_append_new(
            bins, json_pack("{s:f, s:I, s:o, s:o}", "from", (double)i / MEASURE_BINS, "n",
                            (json_int_t)bin->n, "predicted",
                            bin->n > 0 ? number(bin->predicted) : json_null(), "happened",
                            bin->n > 0 ? number(bin->happened) : json_null()));
    }
    return bins;
}

// The samples of a text that begins at `begin` of indexes[n] end before the result.
static size_t text_end(const struct critic_samples *samples, const size_t *indexes, size_t n,
                       size_t begin) {
    size_t end = begin;
    while (end < n &&
           samples->trajectories[indexes[end]] == samples->trajectories[indexes[begin]]) {
        end++;
    }
    return end;
}

// Of each text the sample nearest to `place`, if it is within reach: picked[*], into indexes.
static size_t pick(const struct critic_samples *samples, const size_t *indexes, size_t n,
                   double place, size_t *picked) {
    size_t count = 0;
    for (size_t begin = 0, end = 0; begin < n; begin = end) {
        end = text_end(samples, indexes, n, begin);
        size_t nearest = begin;
        for (size_t i = begin; i < end; i++) {
            double distance = fabs((double)samples->places[indexes[i]] - place);
            if (distance < fabs((double)samples->places[indexes[nearest]] - place)) {
                nearest = i;
            }
        }
        if (fabs((double)samples->places[indexes[nearest]] - place) <= place_reach) {
            picked[count++] = nearest;
        }
    }
    return count;
}

struct scratch {
    struct critic_output *outputs; // [n]
    struct measure_case *cases;    // [n]
    size_t *picked;                // [n]
};

static json_t *at_place(const struct view *view, const size_t *indexes, size_t n, double budget,
                        double place, const struct scratch *scratch) {
    struct measure critic, alone;
    size_t count = pick(view->samples, indexes, n, place, scratch->picked);
    for (size_t i = 0; i < count; i++) {
        size_t at = scratch->picked[i], index = indexes[at];
        double f1 = cost_to_go_within(&scratch->outputs[at].costs[view->channel],
                                      state_of(view, index, budget));
        scratch->cases[i] = (struct measure_case){f1, is_safe(view, index, budget)};
    }
    measure_cases(scratch->cases, count, &critic);
    for (size_t i = 0; i < count; i++) {
        size_t index = indexes[scratch->picked[i]];
        double now = state_of(view, index, budget) >= 0 ? 1 : 0;
        scratch->cases[i] = (struct measure_case){now, is_safe(view, index, budget)};
    }
    measure_cases(scratch->cases, count, &alone);
    for (size_t i = 0; i < count; i++) {
        size_t index = indexes[scratch->picked[i]];
        scratch->cases[i] =
            (struct measure_case){state_of(view, index, budget), is_safe(view, index, budget)};
    }
    double auroc_z = measure_auroc(scratch->cases, count);
    return json_pack("{s:f, s:I, s:o, s:o, s:o, s:o, s:o}", "place", place, "n", (json_int_t)count,
                     "safe", number(critic.safe), "auroc", number(critic.auroc), "brier",
                     number(critic.brier), "auroc_z", number(auroc_z), "brier_z",
                     number(alone.brier));
}

static json_t *of_budget(const struct view *view, const size_t *indexes, size_t n, double budget,
                         const struct scratch *scratch) {
    json_t *at = json_array();
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        json_array_append_new(at, at_place(view, indexes, n, budget, places[i], scratch));
    }
    for (size_t i = 0; i < n; i++) {
        double f1 = cost_to_go_within(&scratch->outputs[i].costs[view->channel],
                                      state_of(view, indexes[i], budget));
        scratch->cases[i] = (struct measure_case){f1, is_safe(view, indexes[i], budget)};
    }
    struct measure all;
    measure_cases(scratch->cases, n, &all);
    return json_pack("{s:f, s:o, s:{s:I, s:o, s:o, s:o, s:o, s:o, s:o}}", "budget", budget, "at",
                     at, "all", "n", (json_int_t)n, "safe", number(all.safe), "auroc",
                     number(all.auroc), "brier", number(all.brier), "false_safe",
                     number(all.false_safe), "false_unsafe", number(all.false_unsafe), "bins",
                     bins_json(&all));
}

enum status critic_report_make(struct critic *critic, struct backend *backend,
                               const struct critic_samples *samples, int32_t channel,
                               const size_t *indexes, size_t n, const double *budgets,
                               size_t n_budgets, json_t *list, struct error *err) {
    const struct critic_terms *terms = critic_get_terms(critic);
    const struct view view = {samples, (size_t)terms->n_channels, (size_t)channel};
    const struct scratch scratch = {.outputs = calloc(n + 1, sizeof(struct critic_output)),
                                    .cases = calloc(n + 1, sizeof(struct measure_case)),
                                    .picked = calloc(n + 1, sizeof(size_t))};
    bool complete = scratch.outputs != NULL && scratch.cases != NULL && scratch.picked != NULL;
    enum status status =
        complete ? predict(critic, backend, samples, indexes, n, scratch.outputs, err)
                 : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu predictions", n);
    if (status == STATUS_OK) {
        for (size_t i = 0; i < n_budgets; i++) {
            json_t *budget = of_budget(&view, indexes, n, budgets[i], &scratch);
            json_object_set_new(budget, "scorer",
                                json_string(terms->channels[channel].scorer.name));
            json_array_append_new(list, budget);
        }
    }
    free(scratch.outputs);
    free(scratch.cases);
    free(scratch.picked);
    return status;
}

// Sums of the texts met so far.
struct pairs {
    size_t n;
    double predicted, real;                     // sums
    double predicted_2, real_2, predicted_real; // of squares and of products
};

static void pairs_add(struct pairs *pairs, double predicted, double real) {
    pairs->n++;
    pairs->predicted += predicted;
    pairs->real += real;
    pairs->predicted_2 += predicted * predicted;
    pairs->real_2 += real * real;
    pairs->predicted_real += predicted * real;
}

// NaN where all are the same.
static double pairs_correlation(const struct pairs *pairs) {
    double n = (double)pairs->n;
    double both = pairs->predicted_real - pairs->predicted * pairs->real / n;
    double left = pairs->predicted_2 - pairs->predicted * pairs->predicted / n;
    double right = pairs->real_2 - pairs->real * pairs->real / n;
    return left > 0 && right > 0 ? both / sqrt(left * right) : NAN;
}

static double pairs_error(const struct pairs *pairs) {
    return (pairs->predicted_2 - 2 * pairs->predicted_real + pairs->real_2) / (double)pairs->n;
}

enum status critic_report_value(struct critic *critic, struct backend *backend,
                                const struct critic_samples *samples, const size_t *indexes,
                                size_t n, json_t **out, struct error *err) {
    struct critic_output *outputs = calloc(n + 1, sizeof *outputs);
    size_t *picked = calloc(n + 1, sizeof *picked);
    enum status status =
        outputs != NULL && picked != NULL
            ? predict(critic, backend, samples, indexes, n, outputs, err)
            : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu predictions", n);
    if (status == STATUS_OK) {
        *out = json_array();
    }
    for (size_t i = 0; status == STATUS_OK && i < sizeof places / sizeof places[0]; i++) {
        struct pairs pairs = {0};
        size_t count = pick(samples, indexes, n, places[i], picked);
        for (size_t j = 0; j < count; j++) {
            pairs_add(&pairs, (double)outputs[picked[j]].reward,
                      (double)samples->rewards[indexes[picked[j]]]);
        }
        json_array_append_new(*out, json_pack("{s:f, s:I, s:o, s:o}", "place", places[i], "n",
                                              (json_int_t)count, "correlation",
                                              number(pairs_correlation(&pairs)), "squared_error",
                                              number(pairs_error(&pairs))));
    }
    free(outputs);
    free(picked);
    return status;
}
