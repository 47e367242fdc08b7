// Products with packed weights: rows are packed once for all threads; then each thread takes some
// panels of outputs, and each tile of rows passes over a chunk of a panel while that is in cache.
#include <stdlib.h>

#include "worker/backend/cpu/cpu_private.h"
#include "worker/backend/cpu/race_check.h"

// Bytes of a panel between two visits of a tile: the next chunk is fetched meanwhile, and both fit
// the second-level cache of every CPU that this was made for. And how far ahead a single tile
// fetches: about what a core can have under way. (Zen 4; less and more cost a tenth.)
enum { CHUNK_BYTES = 64 << 10, FETCH_AHEAD_BYTES = 6 << 10 };

// Results of this size are gone from the nearer caches before anyone reads them: fetching the lines
// that they overwrite is lost time. (Logits of 32 rows: a sixth of the product.)
enum { STREAM_BYTES = 2 << 20 };

_Static_assert(LINEAR_ROWS_MAX *LINEAR_PANEL_MAX * sizeof(float) <= KERNEL_SCRATCH_BYTES,
               "scratch too small for the sums of a panel");

// One product, or as many rows of it as pass over the weights together.
struct product {
    const struct cpu_backend *cpu;
    const struct linear_kernels *kernels;
    const struct linear_kernel *kernel;
    const struct weight *weight;
    struct linear_layout layout;
    const float *x; // [n_rows, weight->cols]
    float *out;     // [n_rows, out_cols]
    int32_t out_cols;
    int32_t n_rows;
    int32_t n_tiles;
    int32_t n_lines;  // of a packed row
    int32_t n_scales; // of a packed row
    int n_tile_parts; // into which the tiles are cut: items of work are panels times these
    enum linear_store store;
};

struct tile_place {
    int32_t row; // first
    int32_t height;
    char *lines;
    float *scales;
};

// Scales of a packed row.
static int32_t count_scales(const struct linear_layout *layout) {
    return layout->n_steps * layout->step_scales;
}

static struct tile_place place_tile(const struct product *product, int32_t tile) {
    long begin, end;
    thread_pool_range(product->n_rows, 1, tile, product->n_tiles, &begin, &end);
    const struct row_buffer *buffer = &product->cpu->rows;
    return (struct tile_place){
        .row = (int32_t)begin,
        .height = (int32_t)(end - begin),
        .lines = buffer->lines + (size_t)begin * (size_t)product->n_lines * LINE_BYTES,
        .scales = product->n_scales > 0 ? buffer->scales + (size_t)begin * (size_t)product->n_scales
                                        : NULL,
    };
}

static void pack_rows(const struct product *product, int index, int count) {
    long begin, end;
    thread_pool_range(product->n_rows, 1, index, count, &begin, &end);
    for (int32_t tile = 0; tile < product->n_tiles; ++tile) {
        struct tile_place place = place_tile(product, tile);
        long first = begin - place.row, last = end - place.row;
        if (last <= 0 || first >= place.height) {
            continue;
        }
        struct linear_rows rows = {
            .x = product->x + (size_t)place.row * (size_t)product->weight->cols,
            .lines = place.lines,
            .scales = place.scales,
            .cols = product->weight->cols,
            .n_lines = product->n_lines,
            .height = place.height,
            .begin = first > 0 ? (int32_t)first : 0,
            .end = last < place.height ? (int32_t)last : place.height,
        };
        product->kernel->pack(&rows);
    }
}

static void finish_tile(const struct product *product, const struct tile_place *place,
                        const float *sums, int32_t panel) {
    const struct linear_layout *layout = &product->layout;
    int32_t first = panel * layout->panel_outputs, left = product->out_cols - first;
    struct linear_finish finish = {
        .sums = sums,
        .bias = layout->bias != NULL ? layout->bias + (size_t)panel * (size_t)layout->panel : NULL,
        .out = product->out + (size_t)place->row * (size_t)product->out_cols + first,
        .out_stride = product->out_cols,
        .height = place->height,
        .n_outputs = left < layout->panel_outputs ? left : layout->panel_outputs,
        .store = product->store,
    };
    product->kernels->finish(&finish);
}

// Steps of a chunk: whole scale groups, chunks of about equal size, one chunk for a single tile.
static int32_t chunk_steps(const struct product *product) {
    const struct linear_layout *layout = &product->layout;
    int32_t fit = (int32_t)(CHUNK_BYTES / layout->step_bytes);
    if (product->n_tiles == 1 || fit >= layout->n_steps) {
        return layout->n_steps;
    }
    int32_t n_chunks = (layout->n_steps + fit - 1) / fit;
    return (layout->n_steps + n_chunks - 1) / n_chunks;
}

// Some tiles over one chunk of a panel.
struct chunk {
    const struct product *product;
    const char *weights;
    size_t bytes;
    float *sums; // [LINEAR_ROWS_MAX, panel]
    int32_t panel;
    int32_t tile_begin;
    int32_t tile_end;
    int32_t step; // first
    int32_t line; // first
    int32_t n_lines;
    int32_t entered; // height that the kernel is set up for; 0: none
    bool last;       // of the panel
};

// The tiles of a chunk fetch the next one together; a single tile fetches what it comes to itself.
static void plan_fetch(const struct chunk *chunk, int32_t index, struct linear_tile *tile) {
    const struct product *product = chunk->product;
    size_t n_tiles = (size_t)(chunk->tile_end - chunk->tile_begin);
    size_t unit_bytes =
        product->layout.input_bytes * (size_t)product->kernel->line_inputs / LINE_UNITS;
    if (n_tiles == 1) {
        tile->prefetch = tile->weights + FETCH_AHEAD_BYTES;
        tile->prefetch_step = unit_bytes;
    } else {
        tile->prefetch = chunk->weights + chunk->bytes + chunk->bytes / n_tiles * (size_t)index;
        tile->prefetch_step = unit_bytes / n_tiles + 1;
    }
}

static void enter_height(struct chunk *chunk, int32_t height) {
    const struct linear_kernel *kernel = chunk->product->kernel;
    if (kernel->enter != NULL && chunk->entered != height) {
        kernel->enter(height);
        chunk->entered = height;
    }
}

static void run_chunk(struct chunk *chunk) {
    const struct product *product = chunk->product;
    for (int32_t t = chunk->tile_begin; t < chunk->tile_end; ++t) {
        struct tile_place place = place_tile(product, t);
        // Sums of a panel in one chunk are finished at once and can all take the same place.
        size_t kept = chunk->step == 0 && chunk->last ? 0 : (size_t)place.row;
        struct linear_tile tile = {
            .sums = chunk->sums + kept * (size_t)product->layout.panel,
            .weights = chunk->weights,
            .x = place.lines + (size_t)chunk->line * (size_t)place.height * LINE_BYTES,
            .x_scales = place.scales != NULL
                            ? place.scales + (size_t)chunk->step * (size_t)place.height *
                                                 (size_t)product->layout.step_scales
                            : NULL,
            .n_lines = chunk->n_lines,
            .height = place.height,
            .first = chunk->step == 0,
        };
        plan_fetch(chunk, t - chunk->tile_begin, &tile);
        race_check_read(tile.x, (size_t)tile.n_lines * (size_t)tile.height * LINE_BYTES);
        enter_height(chunk, place.height);
        product->kernel->tile(&tile);
        if (chunk->last) {
            finish_tile(product, &place, tile.sums, chunk->panel);
        }
    }
}

// `chunk` names the panel, the tiles and the memory for sums.
static void run_panel(struct chunk *chunk) {
    const struct product *product = chunk->product;
    const struct linear_layout *layout = &product->layout;
    int32_t n_steps = chunk_steps(product);
    int32_t step_lines = layout->step_inputs / product->kernel->line_inputs;
    for (int32_t step = 0; step < layout->n_steps; step += n_steps) {
        size_t at = (size_t)step * layout->step_bytes;
        chunk->step = step;
        chunk->line = step * step_lines;
        chunk->last = layout->n_steps - step <= n_steps;
        chunk->n_lines = chunk->last ? product->n_lines - chunk->line : n_steps * step_lines;
        chunk->weights = layout->panels + (size_t)chunk->panel * layout->panel_bytes + at;
        chunk->bytes =
            chunk->last ? layout->panel_bytes - at : (size_t)n_steps * layout->step_bytes;
        run_chunk(chunk);
    }
}

// What was written past the caches becomes visible before this thread says that it is done.
static void stream_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

static void product_part(void *argument, int index, int count) {
    const struct product *product = argument;
    pack_rows(product, index, count);
    thread_pool_meet(product->cpu->pool, count);
    struct chunk chunk = {
        .product = product,
        .sums = (float *)(product->cpu->scratch + (size_t)index * KERNEL_SCRATCH_BYTES),
    };
    int32_t item;
    while (thread_pool_take(product->cpu->pool, index, &item)) {
        long begin, end;
        thread_pool_range(product->n_tiles, 1, item / product->layout.n_panels,
                          product->n_tile_parts, &begin, &end);
        chunk.panel = item % product->layout.n_panels;
        chunk.tile_begin = (int32_t)begin;
        chunk.tile_end = (int32_t)end;
        run_panel(&chunk);
    }
    if (chunk.entered > 0) {
        product->kernel->leave();
    }
    if (product->store == LINEAR_STREAM) {
        stream_fence();
    }
}

static void run_rows(struct product *product) {
    const struct weight *weight = product->weight;
    int32_t tile_rows = product->kernel->tile_rows;
    product->n_tiles = (product->n_rows + tile_rows - 1) / tile_rows;
    double inputs = (double)product->n_rows * weight->cols;
    // A step of every kernel multiplies one line's inputs or takes in about 8 bytes of weights.
    double multiplies = inputs * weight->rows / product->kernel->line_inputs;
    double loads = (double)weight->bytes / 8;
    int n_threads = cpu_threads_for(product->cpu, multiplies > loads ? multiplies : loads);
    // One thread reads each weight, unless there are fewer panels than threads.
    product->n_tile_parts = 1;
    while (product->n_tile_parts < product->n_tiles &&
           product->n_tile_parts * product->layout.n_panels < n_threads) {
        product->n_tile_parts += 1;
    }
    thread_pool_share(product->cpu->pool, product->n_tile_parts * product->layout.n_panels,
                      n_threads);
    thread_pool_run(product->cpu->pool, product_part, product, n_threads);
}

static bool streams(const struct tensor *out, enum linear_store store) {
    size_t row_bytes = (size_t)out->cols * sizeof(float);
    return store == LINEAR_STORE && row_bytes * (size_t)out->rows >= STREAM_BYTES &&
           row_bytes % LINE_BYTES == 0 && (uintptr_t)out->data % LINE_BYTES == 0;
}

static void multiply(struct backend *backend, struct tensor *out, const struct tensor *x,
                     const struct weight *weight, enum linear_store store) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    struct product product = {
        .cpu = cpu,
        .kernels = cpu->kernels->linear,
        .weight = weight,
        .layout = cpu_linear_layout(cpu, weight),
        .out_cols = out->cols,
        .store = streams(out, store) ? LINEAR_STREAM : store,
    };
    ASSERT(out->rows == x->rows && x->cols == weight->cols);
    product.kernel = cpu->linear[product.layout.format];
    product.n_lines = product.layout.inputs / product.kernel->line_inputs;
    product.n_scales = count_scales(&product.layout);
    int32_t n_passes = (x->rows + LINEAR_ROWS_MAX - 1) / LINEAR_ROWS_MAX;
    for (int32_t pass = 0; pass < n_passes; ++pass) {
        long begin, end;
        thread_pool_range(x->rows, 1, pass, n_passes, &begin, &end);
        product.x = (const float *)x->data + (size_t)begin * (size_t)x->cols;
        product.out = (float *)out->data + (size_t)begin * (size_t)out->cols;
        product.n_rows = (int32_t)(end - begin);
        run_rows(&product);
    }
}

void cpu_linear(struct backend *backend, struct tensor *out, const struct tensor *x,
                const struct weight *weight) {
    ASSERT(out->cols == weight->rows && !weight->gated);
    multiply(backend, out, x, weight, LINEAR_STORE);
}

void cpu_linear_add(struct backend *backend, struct tensor *out, const struct tensor *x,
                    const struct weight *weight) {
    ASSERT(out->cols == weight->rows && !weight->gated);
    multiply(backend, out, x, weight, LINEAR_ADD);
}

void cpu_linear_gated(struct backend *backend, struct tensor *out, const struct tensor *x,
                      const struct weight *weight) {
    ASSERT(2 * out->cols == weight->rows && weight->gated);
    multiply(backend, out, x, weight, LINEAR_GATE);
}

// Memory of at least `wanted` bytes: `memory` itself, or a new piece in its stead; NULL when there
// is none, and `memory` stays.
static void *enlarge(void *memory, size_t *size, size_t wanted) {
    if (wanted <= *size) {
        return memory;
    }
    void *larger = aligned_alloc(LINE_BYTES, wanted);
    if (larger != NULL) {
        free(memory);
        *size = wanted;
    }
    return larger;
}

enum status cpu_linear_reserve(struct cpu_backend *cpu, const struct weight *weight) {
    struct linear_layout layout = cpu_linear_layout(cpu, weight);
    struct row_buffer *rows = &cpu->rows;
    size_t n_lines = (size_t)(layout.inputs / cpu->linear[layout.format]->line_inputs);
    char *lines = enlarge(rows->lines, &rows->lines_bytes, LINEAR_ROWS_MAX * n_lines * LINE_BYTES);
    if (lines == NULL) {
        return STATUS_NO_MEMORY;
    }
    rows->lines = lines;
    size_t n_scales = LINEAR_ROWS_MAX * (size_t)count_scales(&layout);
    if (n_scales == 0) {
        return STATUS_OK;
    }
    float *scales = enlarge(rows->scales, &rows->scales_bytes, n_scales * sizeof(float));
    if (scales == NULL) {
        return STATUS_NO_MEMORY;
    }
    rows->scales = scales;
    return STATUS_OK;
}
