#include "client/certify/incomplete_beta.h"

#include <math.h>

enum { TERMS_MAX = 100000 };

// log Gamma(x) minus Stirling's main terms, x >= 10 (DLMF 5.11.1).
static double stirling_rest(double x) {
    static const double terms[] = {1.0 / 12,    -1.0 / 360, 1.0 / 1260,
                                   -1.0 / 1680, 1.0 / 1188, -691.0 / 360360};
    double square = 1 / (x * x);
    double sum = 0;
    for (int i = (int)(sizeof terms / sizeof terms[0]) - 1; i >= 0; i--) {
        sum = sum * square + terms[i];
    }
    return sum / x;
}

static double log_gamma(double x) {
    int sign = 0;
    return lgamma_r(x, &sign);
}

// With large arguments the logarithms of the gamma functions cancel: their main terms are
// subtracted by hand.
double log_beta(double a, double b) {
    const double log_root_two_pi = 0.91893853320467274178;
    double small = a < b ? a : b;
    double large = a < b ? b : a;
    if (large < 10) {
        return log_gamma(small) + log_gamma(large) - log_gamma(small + large);
    }
    double rest = stirling_rest(large) - stirling_rest(small + large);
    double large_part = (large - 0.5) * log1p(-small / (small + large));
    if (small < 10) {
        return log_gamma(small) + rest + small - small * log(small + large) + large_part;
    }
    return -0.5 * log(large) + log_root_two_pi + rest + stirling_rest(small) +
           (small - 0.5) * log(small / (small + large)) + large * log1p(-small / (small + large));
}

// DLMF 8.17.22 by the modified Lentz method (Thompson and Barnett 1986).
static double continued_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1;
    double d = 1 / (1 - (a + b) * x / (a + 1));
    double value = d;
    for (int m = 1; m <= TERMS_MAX; m++) {
        const double steps[2] = {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                                 -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))};
        double change = 1;
        for (int i = 0; i < 2; i++) {
            d = 1 + steps[i] * d;
            c = 1 + steps[i] / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            change = c * d;
            value *= change;
        }
        if (fabs(change - 1) < 1e-16) {
            break;
        }
    }
    return value;
}

double log_incomplete_beta(double a, double b, double x) {
    if (x <= 0) {
        return -INFINITY;
    }
    if (x >= 1) {
        return 0;
    }
    if (x > (a + 1) / (a + b + 2)) { // I_x(a, b) = 1 - I_{1-x}(b, a)
        return log1p(-exp(log_incomplete_beta(b, a, 1 - x)));
    }
    return a * log(x) + b * log1p(-x) - log_beta(a, b) - log(a) + log(continued_fraction(a, b, x));
}
