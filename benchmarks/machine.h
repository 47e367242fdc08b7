// What this machine can do at most: the yardsticks that benchmarks divide by. Each call starts
// n_threads threads, runs them for about 0.2 s and takes the best of several windows; blocks.
#ifndef BENCHMARKS_MACHINE_H
#define BENCHMARKS_MACHINE_H

// f32 operations per second of independent fused multiply-adds (two operations each) in registers,
// with the widest vectors that the CPU has.
double machine_fma_flops(int n_threads);

// Bytes per second that the threads together read, each from a buffer of its own that no cache
// holds.
double machine_read_bytes(int n_threads);

#endif
