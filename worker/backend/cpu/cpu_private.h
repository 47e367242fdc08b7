// What the files of the CPU backend share.
#ifndef WORKER_BACKEND_CPU_CPU_PRIVATE_H
#define WORKER_BACKEND_CPU_CPU_PRIVATE_H

#include "worker/backend/backend.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/linear.h"
#include "worker/backend/cpu/thread_pool.h"

// Rows packed for a product; room for LINEAR_ROWS_MAX rows of the widest weight so far.
struct row_buffer {
    char *lines;   // see linear.h
    float *scales; // of LINEAR_INT8 and LINEAR_Q4
    size_t lines_bytes;
    size_t scales_bytes;
};

struct cpu_backend {
    struct backend base;
    struct thread_pool *pools[2]; // of all threads, of half of them (NULL: there is one only)
    struct thread_pool *pool;     // the one in use
    const char *isa;
    const struct cpu_kernels *kernels;
    const struct linear_kernel *linear[LINEAR_FORMAT_COUNT]; // of `kernels`, or better ones
    const struct attention_kernel *attention[KV_DTYPES];     // likewise
    char *scratch;                                           // [pool size, KERNEL_SCRATCH_BYTES]
    struct batch_plan plan;
    struct row_buffer rows;
    struct weight_slab *slabs; // newest first
    char *sample_scratch;      // [pool size, sample_stride]
    size_t sample_stride;
};

static inline struct cpu_backend *cpu_backend_from(struct backend *backend) {
    return (struct cpu_backend *)backend;
}

// Threads worth waking for `work` elementary steps.
int cpu_threads_for(const struct cpu_backend *cpu, double work);

// cpu_memory.c
void *cpu_alloc(struct backend *backend, size_t size);
void cpu_release(struct backend *backend, void *memory);
void *cpu_import_table(struct backend *backend, const void *host, size_t size);
void cpu_release_table(struct backend *backend, void *memory);
void cpu_upload(struct backend *backend, void *destination, const void *source, size_t size);
enum status cpu_download(struct backend *backend, void *destination, const void *source,
                         size_t size);
size_t cpu_kv_bytes(const struct kv_storage *storage);
enum status cpu_kv_create(struct backend *backend, struct kv_storage *storage);
void cpu_kv_destroy(struct backend *backend, struct kv_storage *storage);
void cpu_kv_copy(struct backend *backend, struct kv_storage *storage, int32_t destination,
                 int32_t source);

// Keys and values of one layer. Blocks of one head stand together, so that one thread's reads run
// on through memory.
struct kv_layer {
    char *keys;         // [n_kv_heads, n_blocks, key_bytes]
    char *values;       // [n_kv_heads, n_blocks, value_bytes]
    size_t key_bytes;   // one head's part of a block
    size_t value_bytes; // likewise
    size_t n_blocks;
};

struct kv_layer cpu_kv_layer(const struct kv_storage *storage, int32_t layer);

static inline char *kv_layer_keys(const struct kv_layer *layer, int32_t kv_head, int32_t block) {
    return layer->keys + ((size_t)kv_head * layer->n_blocks + (size_t)block) * layer->key_bytes;
}

static inline char *kv_layer_values(const struct kv_layer *layer, int32_t kv_head, int32_t block) {
    return layer->values + ((size_t)kv_head * layer->n_blocks + (size_t)block) * layer->value_bytes;
}

// cpu_rope.c
size_t cpu_rope_bytes(const struct kv_storage *storage);
void cpu_rope_fill(struct cpu_backend *cpu, struct kv_storage *storage);
void cpu_rope_store(struct backend *backend, struct tensor *qkv, struct kv_storage *storage,
                    const struct attention_layer *layer);

// cpu_attention.c
void cpu_attention(struct backend *backend, struct tensor *out, const struct tensor *qkv,
                   const struct kv_storage *storage, const struct attention_layer *layer);

// cpu_ops.c
void cpu_embed(struct backend *backend, struct tensor *out, const struct tensor *table);
void cpu_rms_norm(struct backend *backend, struct tensor *out, const struct tensor *x,
                  const struct tensor *weight, float eps);
void cpu_relu(struct backend *backend, struct tensor *x);
void cpu_relu_slopes(struct backend *backend, struct tensor *slopes, const struct tensor *values);
void cpu_add_scaled(struct backend *backend, struct tensor *x, const struct tensor *y,
                    const float *scales);
void cpu_gather_rows(struct backend *backend, struct tensor *out, const struct tensor *x,
                     const int32_t *rows, int32_t n);
void cpu_scatter_rows(struct backend *backend, struct tensor *out, const struct tensor *x,
                      const int32_t *rows, int32_t n);

// Where things are in a packed weight: panels one after the other, then biases in their order.
struct linear_layout {
    enum linear_format format;
    int32_t panel;         // outputs of a panel, gates and ups counted apart
    int32_t panel_outputs; // columns of the product that come from a panel
    int32_t n_panels;
    int32_t inputs;      // of a packed row, zeros at its end included
    int32_t step_inputs; // inputs that stay together: a scale group, or fewest for all kernels
    int32_t n_steps;     // of a panel; the last may have fewer inputs
    int32_t step_scales; // of a packed row
    size_t input_bytes;  // one input's weights of all outputs
    size_t step_bytes;
    size_t panel_bytes;
    const char *panels;
    const float *bias; // [n_panels, panel], zeros where an output has none; NULL: none has
    size_t bytes;      // of all
};

// cpu_pack.c
struct linear_layout cpu_linear_layout(const struct cpu_backend *cpu, const struct weight *weight);
enum status cpu_weight_pack(struct backend *backend, const struct weight_source *source,
                            enum precision precision, struct weight *out);
void cpu_weight_release(struct backend *backend, struct weight *weight);

// cpu_slab.c
// Zeros, aligned to a line; NULL when there is no memory. Each goes back by cpu_weight_free (NULL
// allowed); memory is taken from the system and given back by slabs of many weights.
void *cpu_weight_alloc(struct cpu_backend *cpu, size_t size);
void cpu_weight_free(struct cpu_backend *cpu, void *memory);

// cpu_linear.c
// Memory for the rows of products with this weight.
enum status cpu_linear_reserve(struct cpu_backend *cpu, const struct weight *weight);
void cpu_linear(struct backend *backend, struct tensor *out, const struct tensor *x,
                const struct weight *weight);
void cpu_linear_add(struct backend *backend, struct tensor *out, const struct tensor *x,
                    const struct weight *weight);
void cpu_linear_gated(struct backend *backend, struct tensor *out, const struct tensor *x,
                      const struct weight *weight);

// cpu_sample.c
enum status cpu_sample(struct backend *backend, struct tensor *logits, struct sampling_row *rows,
                       int32_t n);

#endif
