#include "worker/critic/measure.h"

#include <math.h>
#include <stdlib.h>

static int compare_cases(const void *left, const void *right) {
    const struct measure_case *a = left, *b = right;
    return a->score < b->score ? -1 : a->score > b->score;
}

double measure_auroc(struct measure_case *cases, size_t n) {
    qsort(cases, n, sizeof *cases, compare_cases);
    double wins = 0, unsafe = 0, safe = 0; // so far, in order of score
    for (size_t begin = 0; begin < n;) {
        double equal_safe = 0, equal_unsafe = 0;
        size_t end = begin;
        for (; end < n && cases[end].score == cases[begin].score; end++) {
            equal_safe += cases[end].safe ? 1 : 0;
            equal_unsafe += cases[end].safe ? 0 : 1;
        }
        wins += equal_safe * (unsafe + equal_unsafe / 2);
        safe += equal_safe;
        unsafe += equal_unsafe;
        begin = end;
    }
    return safe > 0 && unsafe > 0 ? wins / (safe * unsafe) : NAN;
}

void measure_cases(struct measure_case *cases, size_t n, struct measure *out) {
    *out = (struct measure){.n = n, .auroc = measure_auroc(cases, n)};
    double safe = 0, false_safe = 0, false_unsafe = 0;
    for (size_t i = 0; i < n; i++) {
        double p = cases[i].score;
        double happened = cases[i].safe ? 1 : 0;
        int place = (int)(p * MEASURE_BINS);
        struct measure_bin *bin = &out->bins[place < MEASURE_BINS ? place : MEASURE_BINS - 1];
        bin->n++;
        bin->predicted += p;
        bin->happened += happened;
        out->brier += (p - happened) * (p - happened) / (double)n;
        safe += happened;
        false_safe += !cases[i].safe && p > 0.5 ? 1 : 0;
        false_unsafe += cases[i].safe && !(p > 0.5) ? 1 : 0;
    }
    for (int i = 0; i < MEASURE_BINS; i++) {
        struct measure_bin *bin = &out->bins[i];
        bin->predicted /= bin->n > 0 ? (double)bin->n : 1;
        bin->happened /= bin->n > 0 ? (double)bin->n : 1;
    }
    out->safe = n > 0 ? safe / (double)n : NAN;
    out->false_safe = false_safe / ((double)n - safe);
    out->false_unsafe = false_unsafe / safe;
}
