// The AVX-512 forms of the LINEAR_Q4 kernels for a CPU that may have no AVX-512: the same source
// over plain C in place of the instructions. It says that the kernels are right if the CPUs do what
// their manual says.
#ifndef TESTS_BACKEND_Q4_EMULATION_H
#define TESTS_BACKEND_Q4_EMULATION_H

#include "worker/backend/cpu/linear.h"

enum { Q4_EMULATION_PANEL = 32 };

#if defined(__x86_64__) && !defined(__clang__)
enum { Q4_EMULATIONS = 2 };
#else
enum { Q4_EMULATIONS = 0 };
#endif

extern const struct linear_kernel kernel_q4_emulated_bw, kernel_q4_emulated_vnni;
static const struct linear_kernel *const q4_emulations[] = {&kernel_q4_emulated_bw,
                                                            &kernel_q4_emulated_vnni};

#endif
