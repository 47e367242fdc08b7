// Products with packed weights: rows are packed once for all threads; then each thread takes some
// panels of outputs, and each tile of rows passes over a chunk of a panel while that is in cache.
#include <stdlib.h>

#include "worker/backend/cpu/cpu_private.h"

// Bytes of a panel between two visits of a tile. The next chunk is fetched meanwhile; both fit the
// second-level cache of every CPU that this was made for. And how far ahead a low tile fetches.
enum { CHUNK_BYTES = 64 << 10, FETCH_AHEAD_BYTES = 2 << 10 };

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
    int32_t n_lines;   // of a packed row
    int32_t n_groups;  // of a packed row
    int n_panel_parts; // threads = n_panel_parts * n_tile_parts
    int n_tile_parts;
    enum linear_store store;
};

struct tile_place {
    int32_t row; // first
    int32_t height;
    char *lines;
    float *scales;
};

static struct tile_place place_tile(const struct product *product, int32_t tile) {
    long begin, end;
    thread_pool_range(product->n_rows, 1, tile, product->n_tiles, &begin, &end);
    const struct row_buffer *buffer = &product->cpu->rows;
    return (struct tile_place){
        .row = (int32_t)begin,
        .height = (int32_t)(end - begin),
        .lines = buffer->lines + (size_t)begin * (size_t)product->n_lines * LINE_BYTES,
        .scales = buffer->scales + (size_t)begin * (size_t)product->n_groups,
    };
}

static void pack_part(void *argument, int index, int count) {
    const struct product *product = argument;
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

// Tiles [tile_begin, tile_end) over one panel; sums: [LINEAR_ROWS_MAX, panel].
static void run_panel(const struct product *product, int32_t panel, int32_t tile_begin,
                      int32_t tile_end, float *sums) {
    const struct linear_layout *layout = &product->layout;
    const char *weights = layout->panels + (size_t)panel * layout->panel_bytes;
    int32_t chunk = chunk_steps(product),
            step_lines = layout->step_inputs / product->kernel->line_inputs;
    int32_t n_tiles = tile_end - tile_begin;
    for (int32_t step = 0; step < layout->n_steps; step += chunk) {
        bool last = layout->n_steps - step <= chunk;
        int32_t line = step * step_lines;
        int32_t n_lines = last ? product->n_lines - line : chunk * step_lines;
        size_t at = (size_t)step * layout->step_bytes;
        size_t bytes = (last ? layout->panel_bytes : at + (size_t)chunk * layout->step_bytes) - at;
        size_t bytes_per_unit = bytes / (size_t)(n_lines * LINE_UNITS);
        for (int32_t t = tile_begin; t < tile_end; ++t) {
            struct tile_place place = place_tile(product, t);
            struct linear_tile tile = {
                .sums = sums + (size_t)place.row * (size_t)layout->panel,
                .weights = weights + at,
                .x = place.lines + (size_t)line * (size_t)place.height * LINE_BYTES,
                .x_scales = place.scales + (size_t)step * (size_t)place.height,
                .prefetch =
                    weights + at + bytes + bytes / (size_t)n_tiles * (size_t)(t - tile_begin),
                .prefetch_step = bytes_per_unit / (size_t)n_tiles + 1,
                .n_lines = n_lines,
                .height = place.height,
                .first = step == 0,
            };
            if (n_tiles == 1) {
                size_t ahead = 2 * place.height < product->kernels->tile_rows ? FETCH_AHEAD_BYTES
                                                                              : CHUNK_BYTES;
                tile.prefetch = tile.weights + ahead;
                tile.prefetch_step = bytes_per_unit;
            }
            product->kernel->tile(&tile);
            if (last) {
                finish_tile(product, &place, tile.sums, panel);
            }
        }
    }
}

static void product_part(void *argument, int index, int count) {
    const struct product *product = argument;
    (void)count;
    long begin, end, tile_begin, tile_end;
    thread_pool_range(product->layout.n_panels, 1, index % product->n_panel_parts,
                      product->n_panel_parts, &begin, &end);
    thread_pool_range(product->n_tiles, 1, index / product->n_panel_parts, product->n_tile_parts,
                      &tile_begin, &tile_end);
    float *sums = (float *)(product->cpu->scratch + (size_t)index * KERNEL_SCRATCH_BYTES);
    for (long panel = begin; panel < end && tile_begin < tile_end; ++panel) {
        run_panel(product, (int32_t)panel, (int32_t)tile_begin, (int32_t)tile_end, sums);
    }
}

// Panels are shared out first, so that one thread reads each weight, then tiles: as evenly as both
// divide.
static void share_out(struct product *product, int n_threads) {
    long best = 0;
    for (int tile_parts = 1; tile_parts <= n_threads && tile_parts <= product->n_tiles;
         ++tile_parts) {
        int panel_parts = n_threads / tile_parts;
        if (panel_parts > product->layout.n_panels) {
            panel_parts = product->layout.n_panels;
        }
        long panels = (product->layout.n_panels + panel_parts - 1) / panel_parts;
        long longest = panels * ((product->n_tiles + tile_parts - 1) / tile_parts);
        if (tile_parts == 1 || longest < best) {
            best = longest;
            product->n_panel_parts = panel_parts;
            product->n_tile_parts = tile_parts;
        }
    }
}

static void run_rows(struct product *product) {
    struct thread_pool *pool = product->cpu->pool;
    const struct weight *weight = product->weight;
    int32_t tile_rows = product->kernels->tile_rows;
    product->n_tiles = (product->n_rows + tile_rows - 1) / tile_rows;
    double inputs = (double)product->n_rows * weight->cols;
    thread_pool_run(pool, pack_part, product, cpu_threads_for(product->cpu, inputs / 4));
    // A step of every kernel multiplies one line's inputs or takes in about 8 bytes of weights.
    double multiplies = inputs * weight->rows / product->kernel->line_inputs;
    double loads = (double)weight->bytes / 8;
    share_out(product, cpu_threads_for(product->cpu, multiplies > loads ? multiplies : loads));
    thread_pool_run(pool, product_part, product, product->n_panel_parts * product->n_tile_parts);
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
        .store = store,
    };
    ASSERT(out->rows == x->rows && x->cols == weight->cols);
    product.kernel = cpu->linear[product.layout.format];
    product.n_lines = product.layout.inputs / product.kernel->line_inputs;
    product.n_groups = product.layout.n_steps;
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

enum status cpu_linear_reserve(struct cpu_backend *cpu, const struct weight *weight) {
    struct linear_layout layout = cpu_linear_layout(cpu, weight);
    size_t rows = LINEAR_ROWS_MAX;
    size_t lines =
        rows * (size_t)(layout.inputs / cpu->linear[layout.format]->line_inputs) * LINE_BYTES;
    size_t scales = rows * (size_t)layout.n_steps * sizeof(float);
    if (lines > cpu->rows.lines_bytes) {
        free(cpu->rows.lines);
        cpu->rows.lines = aligned_alloc(LINE_BYTES, lines);
        cpu->rows.lines_bytes = cpu->rows.lines != NULL ? lines : 0;
    }
    if (scales > cpu->rows.scales_bytes) {
        free(cpu->rows.scales);
        cpu->rows.scales = aligned_alloc(LINE_BYTES, scales);
        cpu->rows.scales_bytes = cpu->rows.scales != NULL ? scales : 0;
    }
    return cpu->rows.lines != NULL && cpu->rows.scales != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}
