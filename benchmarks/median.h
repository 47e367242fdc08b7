// The middle of several measurements: what benchmarks print, because a slow repeat says more about
// the machine's other work than about ours.
#ifndef BENCHMARKS_MEDIAN_H
#define BENCHMARKS_MEDIAN_H

#include <stddef.h>

// Sorts values [n], n >= 1, ascending and returns the one in the middle, the upper of two.
double median_sort(double *values, size_t n);

#endif
