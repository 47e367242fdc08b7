// What this machine can do at most: the yardsticks that benchmarks divide by. Each is measured with
// the widest vectors that the CPU has, products of bf16 and 8-bit numbers with its matrix unit
// (AMX) where the system permits that, by n_threads threads (1..256) of its own that start
// together, and is the median of several windows of a few milliseconds; a call blocks for 0.1 s to
// 0.3 s.
#ifndef BENCHMARKS_MACHINE_H
#define BENCHMARKS_MACHINE_H

#include <stddef.h>
#include <stdio.h>

#include "worker/backend/precision.h"

// Operations per second of all threads together, a multiplication and an addition being two, on
// operands in registers: independent fused multiply-adds in f32; dot products of bf16 pairs (AMX or
// AVX-512), 0 when the CPU has none; multiply-accumulates of 8-bit numbers into 32 bits (AMX, VNNI,
// the AVX2 sequence of three instructions, or 32-bit arithmetic).
double machine_fma_flops(int n_threads);
double machine_bf16_flops(int n_threads);
double machine_int8_ops(int n_threads);
// The same of weights of four bits: the 8-bit instructions, or on AVX2 such that leave the sums of
// some products in 16 bits.
double machine_q4_ops(int n_threads);

// Bytes per second that the threads together read, each from a buffer of its own: from memory, and
// from the second and third level of cache. Sizes of caches are the system's, or 1 MB and 32 MB.
double machine_read_bytes(int n_threads);
double machine_l2_bytes(int n_threads);
double machine_l3_bytes(int n_threads);

struct machine {
    int n_threads;
    double f32_flops, bf16_flops, int8_ops, q4_ops; // per second
    double memory_bytes, l2_bytes, l3_bytes;        // per second
};

// All of the above, in about a second; then forgets the memory that it took.
void machine_measure(int n_threads, struct machine *out);

// What products of this precision could reach: of PRECISION_STORED, whose activations are f32, the
// f32 ceiling; of PRECISION_BF16 that too, on a CPU without such dot products; of PRECISION_Q4,
// some of whose products may be int8, that of four bits.
double machine_product_peak(const struct machine *machine, enum precision precision);

// Lines that start with "#": the CPU, its vector units and the ceilings.
void machine_print(const struct machine *machine, FILE *out);

// 100 * part / whole for a report, 0 when the ceiling is unknown.
double machine_percent(double part, double whole);

// Most bytes that this process has had resident since its start or the last call to forget; 0 where
// /proc does not say.
void machine_forget_peak_rss(void);
size_t machine_peak_rss_bytes(void);

#endif
