// How well probabilities foretell what then happens: the numbers that a critic is reported with.
// Pure; any thread.
#ifndef WORKER_CRITIC_MEASURE_H
#define WORKER_CRITIC_MEASURE_H

#include <stdbool.h>
#include <stddef.h>

enum { MEASURE_BINS = 10 };

struct measure_bin {
    size_t n;
    double predicted; // mean probability; 0 for an empty bin
    double happened;  // share that was safe; likewise
};

struct measure {
    size_t n;
    double safe;         // share that was safe
    double auroc;        // of the probabilities; NaN when all were safe or none was
    double brier;        // mean squared difference (Brier 1950)
    double false_safe;   // share of the unsafe with a probability above 0.5; NaN without unsafe
    double false_unsafe; // share of the safe with one of at most 0.5; likewise
    struct measure_bin bins[MEASURE_BINS]; // of probabilities [i, i + 1) / MEASURE_BINS, the last
                                           // with 1
};

struct measure_case {
    double score; // a probability, or for measure_auroc any number
    bool safe;
};

// The chance that a safe case scores higher than an unsafe one, ties half (Hanley and McNeil 1982).
// Sorts the cases. NaN when all are safe or none is.
double measure_auroc(struct measure_case *cases, size_t n);

// Of probabilities. Sorts the cases.
void measure_cases(struct measure_case *cases, size_t n, struct measure *out);

#endif
