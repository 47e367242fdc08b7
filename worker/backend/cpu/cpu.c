// Creation of the CPU backend, the choice of its kernels, and its table of operations.
#include "worker/backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#include "worker/backend/cpu/amx_tile.h"
#include "worker/backend/cpu/cpu_private.h"

struct isa_choice {
    const char *name;
    const struct cpu_kernels *kernels;
    const struct linear_kernel *int8; // instead of those of `kernels`; NULL: those
    const struct linear_kernel *bf16_rounded;
    const struct linear_kernel *q4;
    const struct attention_kernel *kv_int8; // likewise
    const struct attention_kernel *kv_bf16;
    bool available;
    bool tiles; // if the system permits AMX's registers and the build has kernels for them
};

enum { ISAS_MAX = 6 };

// Best first.
static int list_isas(struct isa_choice choices[ISAS_MAX]) {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                __builtin_cpu_supports("f16c");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
    bool bf16 = vnni && __builtin_cpu_supports("avx512bf16");
    const struct linear_kernel *amx_int8 = NULL, *amx_bf16 = NULL;
#if defined(CPU_AMX)
    amx_int8 = &kernel_int8_avx512amx;
    amx_bf16 = &kernel_bf16_rounded_avx512amx;
#endif
    choices[n++] = (struct isa_choice){.name = "avx512amx",
                                       .kernels = &cpu_kernels_avx512,
                                       .int8 = amx_int8,
                                       .bf16_rounded = amx_bf16,
                                       .q4 = &kernel_q4_avx512vnni,
                                       .kv_int8 = &kernel_attention_int8_avx512vnni,
                                       .kv_bf16 = &kernel_attention_bf16_avx512bf16,
                                       .available = bf16,
                                       .tiles = true};
    choices[n++] = (struct isa_choice){.name = "avx512bf16",
                                       .kernels = &cpu_kernels_avx512,
                                       .int8 = &kernel_int8_avx512vnni,
                                       .bf16_rounded = &kernel_bf16_rounded_avx512bf16,
                                       .q4 = &kernel_q4_avx512vnni,
                                       .kv_int8 = &kernel_attention_int8_avx512vnni,
                                       .kv_bf16 = &kernel_attention_bf16_avx512bf16,
                                       .available = bf16};
    choices[n++] = (struct isa_choice){.name = "avx512vnni",
                                       .kernels = &cpu_kernels_avx512,
                                       .int8 = &kernel_int8_avx512vnni,
                                       .q4 = &kernel_q4_avx512vnni,
                                       .kv_int8 = &kernel_attention_int8_avx512vnni,
                                       .available = vnni};
    choices[n++] =
        (struct isa_choice){.name = "avx512", .kernels = &cpu_kernels_avx512, .available = avx512};
    choices[n++] =
        (struct isa_choice){.name = "avx2", .kernels = &cpu_kernels_avx2, .available = avx2};
#endif
    choices[n++] =
        (struct isa_choice){.name = "generic", .kernels = &cpu_kernels_generic, .available = true};
    return n;
}

// The system is asked only where its answer matters: what it permits enlarges the state of threads.
static bool available(const struct isa_choice *choice) {
    return choice->available && (!choice->tiles || amx_permitted());
}

static enum status choose_isa(struct isa_choice *out, struct error *err) {
    const char *wanted = getenv("SUREFOOT_CPU_ISA");
    struct isa_choice choices[ISAS_MAX];
    int n = list_isas(choices);
    for (int i = 0; i < n; ++i) {
        bool named = wanted != NULL && strcmp(wanted, choices[i].name) == 0;
        if (named && !available(&choices[i])) {
            return error_set(err, STATUS_UNSUPPORTED, "SUREFOOT_CPU_ISA", "this CPU has no %s",
                             wanted);
        }
        if (named || (wanted == NULL && available(&choices[i]))) {
            *out = choices[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "SUREFOOT_CPU_ISA",
                     "\"%.32s\" is not avx512amx, avx512bf16, avx512vnni, avx512, avx2 or generic",
                     wanted);
}

const char *cpu_backend_isa(const struct backend *backend) {
    return ((const struct cpu_backend *)backend)->isa;
}

int cpu_threads_for(const struct cpu_backend *cpu, double work) {
    // Waiting threads take a microsecond to join in, some thousand steps of one thread.
    const double work_per_thread = 8e3;
    double wanted = work / work_per_thread;
    int size = thread_pool_size(cpu->pool);
    return wanted < 2 ? 1 : wanted < size ? (int)wanted : size;
}

static enum status cpu_batch_begin(struct backend *backend, const struct batch_plan *plan) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    cpu->plan = *plan;
    return STATUS_OK;
}

static void cpu_share_cores(struct backend *backend, bool shared) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    cpu->pool = shared && cpu->pools[1] != NULL ? cpu->pools[1] : cpu->pools[0];
}

static size_t cpu_own_bytes(const struct backend *backend) {
    const struct cpu_backend *cpu = (const struct cpu_backend *)backend;
    size_t per_thread = KERNEL_SCRATCH_BYTES + cpu->sample_stride;
    return (size_t)thread_pool_size(cpu->pools[0]) * per_thread + cpu->rows.lines_bytes +
           cpu->rows.scales_bytes;
}

static void cpu_destroy(struct backend *backend) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    thread_pool_destroy(cpu->pools[0]);
    thread_pool_destroy(cpu->pools[1]);
    free(cpu->scratch);
    free(cpu->rows.lines);
    free(cpu->rows.scales);
    free(cpu->sample_scratch);
    free(cpu);
}

static const struct backend_ops cpu_ops = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .release = cpu_release,
    .import_table = cpu_import_table,
    .release_table = cpu_release_table,
    .upload = cpu_upload,
    .download = cpu_download,
    .kv_bytes = cpu_kv_bytes,
    .kv_create = cpu_kv_create,
    .kv_destroy = cpu_kv_destroy,
    .kv_copy = cpu_kv_copy,
    .batch_begin = cpu_batch_begin,
    .embed = cpu_embed,
    .rms_norm = cpu_rms_norm,
    .weight_pack = cpu_weight_pack,
    .weight_release = cpu_weight_release,
    .linear = cpu_linear,
    .linear_add = cpu_linear_add,
    .linear_gated = cpu_linear_gated,
    .relu = cpu_relu,
    .relu_slopes = cpu_relu_slopes,
    .add_scaled = cpu_add_scaled,
    .rope_store = cpu_rope_store,
    .attention = cpu_attention,
    .gather_rows = cpu_gather_rows,
    .scatter_rows = cpu_scatter_rows,
    .sample = cpu_sample,
    .share_cores = cpu_share_cores,
    .own_bytes = cpu_own_bytes,
    .destroy = cpu_destroy,
};

static void take_kernels(struct cpu_backend *cpu, const struct isa_choice *isa) {
    cpu->isa = isa->name;
    cpu->kernels = isa->kernels;
    memcpy(cpu->linear, isa->kernels->linear->formats, sizeof(cpu->linear));
    if (isa->int8 != NULL) {
        cpu->linear[LINEAR_INT8] = isa->int8;
    }
    if (isa->bf16_rounded != NULL) {
        cpu->linear[LINEAR_BF16_ROUNDED] = isa->bf16_rounded;
    }
    if (isa->q4 != NULL) {
        cpu->linear[LINEAR_Q4] = isa->q4;
    }
    memcpy(cpu->attention, isa->kernels->attention, sizeof(cpu->attention));
    if (isa->kv_int8 != NULL) {
        cpu->attention[KV_INT8] = isa->kv_int8;
    }
    if (isa->kv_bf16 != NULL) {
        cpu->attention[KV_BF16] = isa->kv_bf16;
    }
}

enum status cpu_backend_create(int n_threads, struct backend **out, struct error *err) {
    struct isa_choice isa = {0};
    enum status status = choose_isa(&isa, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct cpu_backend *cpu = calloc(1, sizeof(*cpu));
    if (cpu == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "backend", "no memory for the backend");
    }
    cpu->base.ops = &cpu_ops;
    take_kernels(cpu, &isa);
    status = thread_pool_create(n_threads, &cpu->pools[0], err);
    if (status == STATUS_OK && n_threads > 1) {
        status = thread_pool_create(n_threads / 2, &cpu->pools[1], err);
    }
    cpu->pool = cpu->pools[0];
    if (status != STATUS_OK) {
        cpu_destroy(&cpu->base);
        return status;
    }
    cpu->scratch = aligned_alloc(64, (size_t)n_threads * KERNEL_SCRATCH_BYTES);
    if (cpu->scratch == NULL) {
        cpu_destroy(&cpu->base);
        return error_set(err, STATUS_NO_MEMORY, "backend", "no memory for %d threads", n_threads);
    }
    *out = &cpu->base;
    return STATUS_OK;
}
