#include "benchmarks/machine.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "benchmarks/median.h"
#include "common/deadline.h"
#include "worker/backend/cpu/amx_tile.h"

enum {
    THREADS_MAX = 256,
    WINDOWS = 15,
    PRODUCT_ROUNDS = 1000000,
    CHAINS = 12, // independent sums: they cover the latency of both product units
    PAGE_BYTES = 2 << 20,
    READ_BYTES_MIN = 128 << 20,
    CACHE_WINDOW_BYTES = 128 << 20, // read from a cache in one window, in several passes
};

struct gauge {
    void (*run)(struct gauge *gauge); // one window
    pthread_barrier_t *barrier;
    const uint64_t *buffer; // [bytes], for reading; a multiple of 2048
    size_t bytes;
    size_t passes;
    volatile double sink; // keeps the results alive
    int64_t elapsed_ns;   // of the last window, by this thread's own watch
};

typedef void (*gauge_fn)(struct gauge *gauge);

// Vectors wider than an instruction set's own are taken apart, which measures the compiler.
typedef float vector_16f __attribute__((vector_size(64)));
typedef float vector_8f __attribute__((vector_size(32)));
typedef int32_t vector_16i __attribute__((vector_size(64)));
typedef uint64_t vector_8u __attribute__((vector_size(64)));
typedef uint64_t vector_4u __attribute__((vector_size(32)));

#define UNROLL _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; ++i)

// a = a * b + c in every chain. The contraction is what is measured here, so it is allowed.
#define CHAIN_BODY(vector, scale, shift)                                                           \
    vector a[CHAINS], b = {0}, c = {0};                                                            \
    b += scale;                                                                                    \
    c += shift;                                                                                    \
    a[0] = c;                                                                                      \
    for (int i = 1; i < CHAINS; ++i) {                                                             \
        a[i] = a[i - 1] + c;                                                                       \
    }                                                                                              \
    for (int round = 0; round < PRODUCT_ROUNDS; ++round) {                                         \
        UNROLL {                                                                                   \
            a[i] = a[i] * b + c;                                                                   \
        }                                                                                          \
    }                                                                                              \
    for (int i = 1; i < CHAINS; ++i) {                                                             \
        a[0] += a[i];                                                                              \
    }                                                                                              \
    gauge->sink = (double)a[0][0]

// Eight streams of lines keep enough loads in flight for every level of the memory.
#define READ_BODY(vector)                                                                          \
    vector sums[8] = {0};                                                                          \
    const vector *from = (const vector *)gauge->buffer;                                            \
    const size_t n = gauge->bytes / sizeof(vector);                                                \
    for (size_t pass = 0; pass < gauge->passes; ++pass) {                                          \
        for (size_t i = 0; i < n; i += 8) {                                                        \
            _Pragma("GCC unroll 8") for (size_t k = 0; k < 8; ++k) {                               \
                sums[k] ^= from[i + k];                                                            \
            }                                                                                      \
        }                                                                                          \
        __asm__ volatile("" ::: "memory");                                                         \
    }                                                                                              \
    for (int k = 1; k < 8; ++k) {                                                                  \
        sums[0] ^= sums[k];                                                                        \
    }                                                                                              \
    gauge->sink = (double)sums[0][0]

// A dot product step that the compiler knows nothing about: sums[i] = step(sums[i], x, y).
#define DOT_BODY(vector, step, x, y)                                                               \
    vector sums[CHAINS] = {0};                                                                     \
    for (int i = 0; i < CHAINS; ++i) {                                                             \
        __asm__ volatile("" : "+x"(sums[i])); /* else the equal chains would become one */         \
    }                                                                                              \
    for (int round = 0; round < PRODUCT_ROUNDS; ++round) {                                         \
        UNROLL {                                                                                   \
            step(sums[i], x, y);                                                                   \
        }                                                                                          \
    }                                                                                              \
    for (int i = 1; i < CHAINS; ++i) {                                                             \
        sums[0] += sums[i];                                                                        \
    }                                                                                              \
    gauge->sink = (double)sums[0][0]

#if defined(__x86_64__)
#define STEP_BF16(sum, x, y) sum = _mm512_dpbf16_ps(sum, x, y)
#define STEP_VNNI(sum, x, y) sum = (__v16si)_mm512_dpbusd_epi32((__m512i)(sum), x, y)
// Both operands signed, exactly: the second gives the first its signs. The inner sums would be
// hoisted out of the loop if the operand did not seem to change.
#define STEP_MADD(sum, x, y)                                                                       \
    do {                                                                                           \
        __asm__ volatile("" : "+x"(x));                                                            \
        __m256i pairs = _mm256_maddubs_epi16(y, _mm256_sign_epi8(x, y));                           \
        sum = (__v8si)_mm256_add_epi32((__m256i)(sum), _mm256_madd_epi16(pairs, ones));            \
    } while (0)

__attribute__((target("avx512f"), optimize("fp-contract=fast"))) static void
fma_avx512(struct gauge *gauge) {
    CHAIN_BODY(vector_16f, 0.999f, 0.001f);
}

__attribute__((target("avx2,fma"), optimize("fp-contract=fast"))) static void
fma_avx2(struct gauge *gauge) {
    CHAIN_BODY(vector_8f, 0.999f, 0.001f);
}

__attribute__((target("avx512f,avx512bf16"))) static void bf16_avx512(struct gauge *gauge) {
    const __m512bh x = (__m512bh)_mm512_set1_epi16(0x3c00), y = x;
    DOT_BODY(__v16sf, STEP_BF16, x, y);
}

__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(struct gauge *gauge) {
    const __m512i x = _mm512_set1_epi32(0x01010101), y = x;
    DOT_BODY(__v16si, STEP_VNNI, x, y);
}

__attribute__((target("avx2"))) static void int8_avx2(struct gauge *gauge) {
    __m256i x = _mm256_set1_epi8(1);
    const __m256i y = x, ones = _mm256_set1_epi16(1);
    DOT_BODY(__v8si, STEP_MADD, x, y);
}

// Two products, then their two additions: Zen 3 takes a quarter longer for them in turn. In
// registers of its own choice, as the compiler would keep some sums in memory. What they hold does
// not matter.
#define PAIR_OF_CHAINS(first, second)                                                              \
    "vpmaddubsw %%ymm0, %%ymm1, %%ymm2\n\t"                                                        \
    "vpmaddubsw %%ymm0, %%ymm1, %%ymm3\n\t"                                                        \
    "vpaddw %%ymm2, %%ymm" first ", %%ymm" first "\n\t"                                            \
    "vpaddw %%ymm3, %%ymm" second ", %%ymm" second "\n\t"

#define ALL_CHAINS                                                                                 \
    PAIR_OF_CHAINS("4", "5")                                                                       \
    PAIR_OF_CHAINS("6", "7")                                                                       \
    PAIR_OF_CHAINS("8", "9")                                                                       \
    PAIR_OF_CHAINS("10", "11") PAIR_OF_CHAINS("12", "13") PAIR_OF_CHAINS("14", "15")

static void q4_avx2(struct gauge *gauge) {
    int rounds = PRODUCT_ROUNDS;
    _Static_assert(CHAINS == 12, "as many as above");
    __asm__ volatile("1:\n\t" ALL_CHAINS "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(rounds)
                     :
                     : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    gauge->sink = rounds;
}

__attribute__((target("avx512f"))) static void read_avx512(struct gauge *gauge) {
    READ_BODY(vector_8u);
}

__attribute__((target("avx2"))) static void read_avx2(struct gauge *gauge) {
    READ_BODY(vector_4u);
}

#if defined(CPU_AMX)
// Whole products of tiles into four sums, which cover the latency. One keeps the unit as long as
// AMX_STEPS steps of the vectors.
enum { AMX_STEPS = 16, AMX_SUMS = 4 };

#define AMX_BODY(dot, value)                                                                       \
    uint32_t ones[AMX_ROWS_MAX * AMX_ROW_BYTES_MAX / 4],                                           \
        sums[AMX_ROWS_MAX * AMX_ROW_BYTES_MAX / 4];                                                \
    struct amx_config config = {.palette = AMX_PALETTE};                                           \
    for (int tile = 0; tile < AMX_TILES; ++tile) {                                                 \
        config.rows[tile] = AMX_ROWS_MAX;                                                          \
        config.row_bytes[tile] = AMX_ROW_BYTES_MAX;                                                \
    }                                                                                              \
    for (size_t i = 0; i < sizeof(ones) / sizeof(ones[0]); ++i) {                                  \
        ones[i] = value;                                                                           \
    }                                                                                              \
    AMX_CONFIGURE(&config);                                                                        \
    AMX_LOAD(4, ones, AMX_ROW_BYTES_MAX);                                                          \
    AMX_LOAD(5, ones, AMX_ROW_BYTES_MAX);                                                          \
    AMX_LOAD(6, ones, AMX_ROW_BYTES_MAX);                                                          \
    AMX_LOAD(7, ones, AMX_ROW_BYTES_MAX);                                                          \
    for (int i = 0; i < CHAINS * PRODUCT_ROUNDS / AMX_STEPS / AMX_SUMS; ++i) {                     \
        dot(0, 4, 6);                                                                              \
        dot(1, 4, 7);                                                                              \
        dot(2, 5, 6);                                                                              \
        dot(3, 5, 7);                                                                              \
    }                                                                                              \
    AMX_STORE(0, sums, AMX_ROW_BYTES_MAX);                                                         \
    AMX_RELEASE();                                                                                 \
    gauge->sink = sums[0]

static void bf16_amx(struct gauge *gauge) {
    AMX_BODY(AMX_DOT_BF16, 0x3c003c00);
}

static void int8_amx(struct gauge *gauge) {
    AMX_BODY(AMX_DOT_INT8, 0x01010101);
}
#endif

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

static void fma_portable(struct gauge *gauge) {
    CHAIN_BODY(vector_16f, 0.999f, 0.001f);
}

static void int8_portable(struct gauge *gauge) {
    CHAIN_BODY(vector_16i, 3, 1);
}

static void read_portable(struct gauge *gauge) {
    READ_BODY(vector_8u);
}

static void *gauge_main(void *argument) {
    struct gauge *gauge = argument;
    for (int i = 0; i < WINDOWS; ++i) {
        pthread_barrier_wait(gauge->barrier);
        int64_t begin = clock_monotonic_ns();
        gauge->run(gauge);
        gauge->elapsed_ns = clock_monotonic_ns() - begin;
        pthread_barrier_wait(gauge->barrier);
    }
    return NULL;
}

// Seconds of the median window; a window lasts as long as its slowest thread.
static double median_window(struct gauge *gauges, int n_threads) {
    pthread_barrier_t barrier;
    pthread_t threads[THREADS_MAX];
    double seconds[WINDOWS];
    pthread_barrier_init(&barrier, NULL, (unsigned)n_threads + 1);
    for (int i = 0; i < n_threads; ++i) {
        gauges[i].barrier = &barrier;
        if (pthread_create(&threads[i], NULL, gauge_main, &gauges[i]) != 0) {
            abort();
        }
    }
    for (int window = 0; window < WINDOWS; ++window) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        int64_t slowest = 0;
        for (int i = 0; i < n_threads; ++i) {
            slowest = gauges[i].elapsed_ns > slowest ? gauges[i].elapsed_ns : slowest;
        }
        seconds[window] = (double)slowest * 1e-9;
    }
    for (int i = 0; i < n_threads; ++i) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&barrier);
    return median_sort(seconds, WINDOWS);
}

// Operations per second when each step of each chain counts `ops_per_step`.
static double measure_products(gauge_fn run, int n_threads, double ops_per_step) {
    struct gauge gauges[THREADS_MAX];
    for (int i = 0; i < n_threads; ++i) {
        gauges[i] = (struct gauge){.run = run};
    }
    return ops_per_step * CHAINS * PRODUCT_ROUNDS * n_threads / median_window(gauges, n_threads);
}

static double measure_reads(int n_threads, size_t bytes, size_t passes) {
    struct gauge gauges[THREADS_MAX];
    gauge_fn run = read_portable;
#if defined(__x86_64__)
    run = has_avx512() ? read_avx512 : has_avx2() ? read_avx2 : read_portable;
#endif
    bytes = bytes / 2048 * 2048;
    size_t all_bytes = ((size_t)n_threads * bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    uint64_t *buffers = aligned_alloc(PAGE_BYTES, all_bytes);
    if (buffers == NULL) {
        return 0;
    }
    // Large pages, where the system gives them: the walks of small ones cost a tenth.
    (void)madvise(buffers, all_bytes, MADV_HUGEPAGE);
    memset(buffers, 1, all_bytes);
    for (int i = 0; i < n_threads; ++i) {
        const uint64_t *own = buffers + (size_t)i * (bytes / sizeof(uint64_t));
        gauges[i] = (struct gauge){.run = run, .buffer = own, .bytes = bytes, .passes = passes};
    }
    double seconds = median_window(gauges, n_threads);
    free(buffers);
    return (double)bytes * (double)passes * n_threads / seconds;
}

double machine_fma_flops(int n_threads) {
#if defined(__x86_64__)
    if (has_avx512()) {
        return measure_products(fma_avx512, n_threads, 2 * 16);
    }
    if (has_avx2()) {
        return measure_products(fma_avx2, n_threads, 2 * 8);
    }
#endif
    return measure_products(fma_portable, n_threads, 2 * 16);
}

double machine_bf16_flops(int n_threads) {
#if defined(CPU_AMX)
    if (amx_permitted()) {
        return measure_products(bf16_amx, n_threads, 2 * 16 * 16 * 32 / AMX_STEPS);
    }
#endif
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16")) {
        return measure_products(bf16_avx512, n_threads, 2 * 32);
    }
#endif
    (void)n_threads;
    return 0;
}

double machine_int8_ops(int n_threads) {
#if defined(CPU_AMX)
    if (amx_permitted()) {
        return measure_products(int8_amx, n_threads, 2 * 16 * 16 * 64 / AMX_STEPS);
    }
#endif
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vnni")) {
        return measure_products(int8_avx512, n_threads, 2 * 64);
    }
    if (has_avx2()) {
        return measure_products(int8_avx2, n_threads, 2 * 32);
    }
#endif
    return measure_products(int8_portable, n_threads, 2 * 16);
}

double machine_q4_ops(int n_threads) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512vnni")) {
        return measure_products(int8_avx512, n_threads, 2 * 64);
    }
    if (has_avx2()) {
        return measure_products(q4_avx2, n_threads, 2 * 32);
    }
#endif
    return measure_products(int8_portable, n_threads, 2 * 16);
}

// What one file of the first core's caches says, 0 when it is not there.
static long cache_number(int index, const char *name) {
    char path[96], text[32] = "";
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return 0;
    }
    char *end = text;
    long value = fgets(text, sizeof text, file) != NULL ? strtol(text, &end, 10) : 0;
    fclose(file);
    return *end == 'K' ? value << 10 : *end == 'M' ? value << 20 : value;
}

// sysconf would count the third level of all sockets of some machines, or none.
static size_t cache_bytes(int level) {
    for (int index = 0; index < 8; ++index) {
        if (cache_number(index, "level") == level && cache_number(index, "size") > 0) {
            return (size_t)cache_number(index, "size");
        }
    }
    return level == 2 ? (size_t)1 << 20 : (size_t)32 << 20;
}

double machine_read_bytes(int n_threads) {
    size_t bytes = 4 * cache_bytes(3) / (size_t)n_threads;
    return measure_reads(n_threads, bytes > READ_BYTES_MIN ? bytes : READ_BYTES_MIN, 1);
}

double machine_l2_bytes(int n_threads) {
    size_t bytes = cache_bytes(2) / 2;
    return measure_reads(n_threads, bytes, 1 + CACHE_WINDOW_BYTES / bytes);
}

double machine_l3_bytes(int n_threads) {
    size_t share = cache_bytes(3) / (size_t)n_threads / 4, above_l2 = 2 * cache_bytes(2);
    size_t bytes = share > above_l2 ? share : above_l2;
    return measure_reads(n_threads, bytes, 1 + CACHE_WINDOW_BYTES / bytes);
}

void machine_forget_peak_rss(void) {
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (file != NULL) {
        fputs("5", file);
        fclose(file);
    }
}

void machine_measure(int n_threads, struct machine *out) {
    *out = (struct machine){
        .n_threads = n_threads,
        .f32_flops = machine_fma_flops(n_threads),
        .bf16_flops = machine_bf16_flops(n_threads),
        .int8_ops = machine_int8_ops(n_threads),
        .q4_ops = machine_q4_ops(n_threads),
        .memory_bytes = machine_read_bytes(n_threads),
        .l2_bytes = machine_l2_bytes(n_threads),
        .l3_bytes = machine_l3_bytes(n_threads),
    };
    machine_forget_peak_rss();
}

double machine_product_peak(const struct machine *machine, enum precision precision) {
    switch (precision) {
    case PRECISION_STORED:
        break;
    case PRECISION_BF16:
        return machine->bf16_flops > 0 ? machine->bf16_flops : machine->f32_flops;
    case PRECISION_INT8:
        return machine->int8_ops;
    case PRECISION_Q4:
        return machine->q4_ops;
    }
    return machine->f32_flops;
}

// The first "model name" of /proc/cpuinfo, which only Linux on some CPUs has.
static void print_cpu(FILE *out) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    const char *name = NULL;
    while (file != NULL && name == NULL && fgets(line, sizeof line, file) != NULL) {
        name = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
    }
    fprintf(out, "# cpu:%.*s", (int)(name != NULL ? strcspn(name + 1, "\n") : 8),
            name != NULL ? name + 1 : " unknown");
    if (file != NULL) {
        fclose(file);
    }
}

void machine_print(const struct machine *machine, FILE *out) {
    print_cpu(out);
#if defined(__x86_64__)
    fprintf(out, "; vectors:%s%s%s%s",
            has_avx512() ? " avx512"
            : has_avx2() ? " avx2"
                         : " none",
            __builtin_cpu_supports("avx512bf16") ? " bf16" : "",
            __builtin_cpu_supports("avx512vnni") ? " vnni" : "", amx_permitted() ? " amx" : "");
#endif
    fprintf(out, "; %ld cores online, %d threads used\n", sysconf(_SC_NPROCESSORS_ONLN),
            machine->n_threads);
    fprintf(out,
            "# ceilings: f32 %.1f GFLOP/s, bf16 %.1f GFLOP/s, int8 %.1f GOP/s, q4 %.1f GOP/s, "
            "memory %.1f GB/s, L2 %.1f GB/s, L3 %.1f GB/s\n",
            machine->f32_flops * 1e-9, machine->bf16_flops * 1e-9, machine->int8_ops * 1e-9,
            machine->q4_ops * 1e-9, machine->memory_bytes * 1e-9, machine->l2_bytes * 1e-9,
            machine->l3_bytes * 1e-9);
}

double machine_percent(double part, double whole) {
    return whole > 0 ? 100 * part / whole : 0;
}

size_t machine_peak_rss_bytes(void) {
    char line[128];
    FILE *file = fopen("/proc/self/status", "r");
    size_t kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kilobytes = strtoul(line + 6, NULL, 10);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kilobytes << 10;
}
