// The regularised incomplete beta function, from which every exact statement about counts comes.
// Pure; any thread.
#ifndef CLIENT_CERTIFY_INCOMPLETE_BETA_H
#define CLIENT_CERTIFY_INCOMPLETE_BETA_H

// log B(a, b) for a, b > 0.
double log_beta(double a, double b);

// log I_x(a, b) for a, b > 0 and x in [0, 1]; -INFINITY at x = 0. The continued fraction of DLMF
// 8.17.22, taken from the side where it converges fast (DLMF 8.17.4). Relative error of I_x below
// 1e-9 for a + b up to 1e6.
double log_incomplete_beta(double a, double b, double x);

#endif
