// Intel AMX: eight registers of at most 16 rows of 64 bytes each (Intel SDM, volume 1, chapter 18).
// Instructions are written out, as macros because a register's number is part of one: GCC 12's own
// forms do not say that they read memory, and of a configuration name only the first 8 bytes.
#ifndef WORKER_BACKEND_CPU_AMX_TILE_H
#define WORKER_BACKEND_CPU_AMX_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { AMX_TILES = 8, AMX_ROWS_MAX = 16, AMX_ROW_BYTES_MAX = 64, AMX_PALETTE = 1 };

// What LDTILECFG reads. A register without rows must not be named.
struct amx_config {
    uint8_t palette; // AMX_PALETTE
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16]; // of each register; those past AMX_TILES 0
    uint8_t rows[16];       // likewise
};

_Static_assert(sizeof(struct amx_config) == 64, "the size is the instruction's");

// AMX_CONFIGURE also sets all registers to zero; AMX_RELEASE must follow it, on the same thread, so
// that the system need not keep 8 KiB at each change of threads. Strides are bytes between rows.
// AMX_DOT_INT8(sums, a, b): sums[m][n] += a[m][4k + i] * b[k][4n + i], signed, into 32 bits, over
// all k and i. AMX_DOT_BF16: pairs instead of fours, see linear.h for the order of its sums.
#define AMX_CONFIGURE(config) __asm__ volatile("ldtilecfg %0" : : "m"(*(config)))
#define AMX_RELEASE() __asm__ volatile("tilerelease")
#define AMX_ZERO(tile) __asm__ volatile("tilezero %%tmm" #tile ::)
#define AMX_LOAD(tile, from, stride)                                                               \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile                                            \
                     :                                                                             \
                     : "r"((const void *)(from)), "r"((size_t)(stride))                            \
                     : "memory")
#define AMX_STORE(tile, to, stride)                                                                \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)"                                        \
                     :                                                                             \
                     : "r"((void *)(to)), "r"((size_t)(stride))                                    \
                     : "memory")
#define AMX_DOT_INT8(sums, a, b)                                                                   \
    __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)
#define AMX_DOT_BF16(sums, a, b)                                                                   \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sums ::)

// Whether the CPU has the tiles and both products, and the system lets this process have them: it
// must be asked once before the first use (Linux, Documentation/arch/x86/xstate.rst), for all
// threads, and asking again does no harm.
static inline bool amx_permitted(void) {
#if defined(CPU_AMX) && defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
           __builtin_cpu_supports("amx-bf16") &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

#endif
