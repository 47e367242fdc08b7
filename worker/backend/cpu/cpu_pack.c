// Weights on their way into panels (linear.h has the layouts). Panels are as wide as the chosen
// instruction set's tiles; what one output's weights become does not depend on that, nor on the
// instruction set: this file is compiled once.
#include <math.h>
#include <string.h>

#include "worker/backend/cpu/cpu_private.h"

enum { PACK_INPUTS = INT8_GROUP }; // inputs of one row that are converted at a time

static enum linear_format format_of(const struct weight *weight) {
    static const enum linear_format stored[] = {
        [DTYPE_F32] = LINEAR_F32, [DTYPE_F16] = LINEAR_F16, [DTYPE_BF16] = LINEAR_BF16};
    switch (weight->precision) {
    case PRECISION_STORED:
        break;
    case PRECISION_BF16:
        return LINEAR_BF16_ROUNDED;
    case PRECISION_INT8:
        return LINEAR_INT8;
    case PRECISION_Q4:
        return LINEAR_Q4;
    }
    return stored[weight->dtype];
}

static int32_t divide_up(int32_t n, int32_t unit) {
    return n / unit + (n % unit != 0);
}

static size_t aligned(size_t size) {
    return (size + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

struct linear_layout cpu_linear_layout(const struct cpu_backend *cpu, const struct weight *weight) {
    // Inputs that stay together, what rows are filled up to, bits of one weight, bytes of an
    // output's header in a step, and scales of a row there.
    static const struct shape {
        int32_t step_inputs;
        int32_t multiple;
        int32_t bits;
        int32_t header;
        int32_t scales;
    } shapes[LINEAR_FORMAT_COUNT] = {
        [LINEAR_F32] = {LINE_UNITS, LINE_UNITS, 32, 0, 0},
        [LINEAR_F16] = {LINE_UNITS, LINE_UNITS, 16, 0, 0},
        [LINEAR_BF16] = {2 * LINE_UNITS, 2 * LINE_UNITS, 16, 0, 0},
        [LINEAR_BF16_ROUNDED] = {2 * LINE_UNITS, 2 * LINE_UNITS, 16, 0, 0},
        [LINEAR_INT8] = {INT8_GROUP, INT8_STEP, 8, sizeof(uint32_t), 1},
        [LINEAR_Q4] = {Q4_STEP, Q4_STEP, 4, Q4_STEP / Q4_GROUP * 2 * sizeof(uint16_t),
                       Q4_STEP_SCALES},
    };
    enum linear_format format = format_of(weight);
    const struct shape *shape = &shapes[format];
    int32_t panel = cpu->kernels->linear->panel;
    struct linear_layout layout = {
        .format = format,
        .panel = panel,
        .panel_outputs = weight->gated ? panel / 2 : panel,
        .n_panels = divide_up(weight->rows, panel),
        .inputs = divide_up(weight->cols, shape->multiple) * shape->multiple,
        .step_inputs = shape->step_inputs,
        .step_scales = shape->scales,
        .input_bytes = (size_t)panel * (size_t)shape->bits / 8,
        .panels = weight->data,
    };
    size_t header = (size_t)panel * (size_t)shape->header;
    layout.n_steps = divide_up(layout.inputs, shape->step_inputs);
    layout.step_bytes = header + (size_t)shape->step_inputs * layout.input_bytes;
    layout.panel_bytes =
        (size_t)layout.n_steps * header + (size_t)layout.inputs * layout.input_bytes;
    size_t panels = aligned((size_t)layout.n_panels * layout.panel_bytes);
    layout.bytes = panels;
    if (weight->has_bias) {
        layout.bias = (const float *)(layout.panels + panels);
        layout.bytes += (size_t)layout.n_panels * (size_t)panel * sizeof(float);
    }
    return layout;
}

// One output of the product: a row of a part, and its bias.
struct source_row {
    const char *weights; // NULL: the panel has no such output
    enum dtype dtype;
    float bias;
};

static struct source_row find_row(const struct weight_source *source,
                                  const struct linear_layout *layout, int32_t panel,
                                  int32_t column) {
    int32_t part = 0, row = panel * layout->panel_outputs + column;
    if (source->gated && column >= layout->panel_outputs) {
        part = 1;
        row -= layout->panel_outputs;
    }
    while (!source->gated && part < source->n_parts && row >= source->parts[part].rows) {
        row -= source->parts[part].rows;
        part += 1;
    }
    if (part == source->n_parts || row >= source->parts[part].rows) {
        return (struct source_row){0};
    }
    const struct tensor *from = &source->parts[part];
    const float *bias = source->biases[part].data;
    return (struct source_row){
        .weights =
            (const char *)from->data + (size_t)row * dtype_row_bytes(from->dtype, from->cols),
        .dtype = from->dtype,
        .bias = bias != NULL ? bias[row] : 0,
    };
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint16_t round_to_bf16(float value) {
    uint32_t bits = float_bits(value);
    if (isnan(value)) {
        return 0x7fc0;
    }
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// One row's weights of one step, or of PACK_INPUTS, at `column` of the panel.
static void put_f32(char *to, const struct linear_layout *layout, int32_t column, const float *w,
                    int32_t n) {
    float *at = (float *)to + column;
    for (int32_t k = 0; k < n; ++k) {
        at[(size_t)k * (size_t)layout->panel] = w[k];
    }
}

static void put_f16(char *to, const struct linear_layout *layout, int32_t column, const uint16_t *w,
                    int32_t n) {
    uint16_t *at = (uint16_t *)to + column;
    for (int32_t k = 0; k < n; ++k) {
        at[(size_t)k * (size_t)layout->panel] = w[k];
    }
}

static void put_bf16(char *to, const struct linear_layout *layout, int32_t column, const float *w,
                     int32_t n) {
    uint32_t *at = (uint32_t *)to + column;
    for (int32_t k = 0; k < n; k += 2) {
        uint32_t later = k + 1 < n ? round_to_bf16(w[k + 1]) : 0;
        at[(size_t)(k / 2) * (size_t)layout->panel] = (uint32_t)round_to_bf16(w[k]) << 16 | later;
    }
}

// A group of `size` values that have been spread, which left them smaller by `size`. Symmetric:
// weight = scale * q with q in [-127, 127], the scale the least bf16 that allows it. Groups with
// nothing above 2^-100 count as zeros; weights that are not finite make the output not a number.
static void put_int8(char *to, const struct linear_layout *layout, int32_t column, const float *w,
                     int32_t size) {
    uint32_t largest = 0;
    for (int32_t k = 0; k < size; ++k) {
        uint32_t magnitude = float_bits(w[k]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    float exact = float_from_bits(largest) / 127 * (float)size;
    uint32_t scale = (float_bits(exact) + 0xffff) & 0xffff0000;
    float inverse = (float)size / float_from_bits(scale);
    if (largest >= 0x7f800000) {
        scale = 0x7fc00000;
    }
    if (largest >= 0x7f800000 || float_from_bits(largest) < 0x1p-100f) {
        inverse = 0;
    }
    int32_t sum = 0;
    int8_t *at = (int8_t *)to + (size_t)layout->panel * sizeof(uint32_t) + (size_t)column * 4;
    for (int32_t k = 0; k < size && inverse > 0; ++k) {
        // Adding the constant leaves a whole number, nearest even, in the low fraction bits.
        int8_t q = (int8_t)(float_bits(w[k] * inverse + 0x1.8p23f) - 0x4b400000);
        at[(size_t)(k / 4) * (size_t)layout->panel * 4 + (size_t)(k % 4)] = q;
        sum += q;
    }
    uint32_t header = scale | (uint16_t)(int16_t)-sum;
    memcpy(to + (size_t)column * sizeof(header), &header, sizeof(header));
}

// A row of DTYPE_Q4_1, whose bits stay what they are.
static void put_q4(char *panel, const struct linear_layout *layout, int32_t column,
                   const unsigned char *block, int32_t n_blocks) {
    const size_t width = (size_t)layout->panel, half = width / 2;
    const size_t group_bytes = layout->step_bytes / (Q4_STEP / Q4_GROUP);
    const int shift = (size_t)column < half ? 0 : 4;
    for (int32_t b = 0; b < n_blocks; ++b, block += Q4_BLOCK_BYTES) {
        char *to = panel + (size_t)b * group_bytes;
        memcpy(to + (size_t)column * 2, block, 2);
        memcpy(to + (width + (size_t)column) * 2, block + 2, 2);
        unsigned char *at = (unsigned char *)to + 4 * width + (size_t)column % half * 4;
        for (int k = 0; k < Q4_GROUP; ++k) {
            int q = k < 16 ? block[4 + k] & 15 : block[4 + k - 16] >> 4;
            at[(size_t)(k / 4) * half * 4 + (size_t)(k % 4)] |= (unsigned char)(q << shift);
        }
    }
}

struct pack_call {
    const struct cpu_backend *cpu;
    const struct weight_source *source;
    const struct linear_layout *layout;
    char *panels; // zeros
    float *bias;
    int32_t cols;
};

static void pack_row(const struct pack_call *call, char *panel, int32_t column,
                     const struct source_row *row) {
    const struct linear_layout *layout = call->layout;
    if (layout->format == LINEAR_Q4) {
        put_q4(panel, layout, column, (const unsigned char *)row->weights,
               call->cols / Q4_BLOCK_VALUES);
        return;
    }
    float w[PACK_INPUTS];
    for (int32_t k = 0; k < call->cols; k += PACK_INPUTS) {
        int32_t n = call->cols - k < PACK_INPUTS ? call->cols - k : PACK_INPUTS;
        const char *from = row->weights + (size_t)k * dtype_bytes(row->dtype);
        char *to = panel + (size_t)(k / layout->step_inputs) * layout->step_bytes;
        if (layout->format == LINEAR_F16) {
            uint16_t half[PACK_INPUTS];
            memcpy(half, from, (size_t)n * sizeof(half[0]));
            put_f16(to, layout, column, half, n);
            continue;
        }
        call->cpu->kernels->widen(w, from, row->dtype, (size_t)n);
        if (layout->format == LINEAR_F32) {
            put_f32(to, layout, column, w, n);
        } else if (layout->format == LINEAR_INT8) {
            int32_t size = n > INT8_STEP ? INT8_GROUP : INT8_STEP;
            memset(w + n, 0, (size_t)(size - n) * sizeof(w[0]));
            call->cpu->linear[LINEAR_INT8]->spread(w, size);
            put_int8(to, layout, column, w, size);
        } else {
            put_bf16(to, layout, column, w, n);
        }
    }
}

static void pack_part(void *argument, int index, int count) {
    const struct pack_call *call = argument;
    const struct linear_layout *layout = call->layout;
    long begin, end;
    thread_pool_range(layout->n_panels, 1, index, count, &begin, &end);
    for (long panel = begin; panel < end; ++panel) {
        char *to = call->panels + (size_t)panel * layout->panel_bytes;
        for (int32_t column = 0; column < layout->panel; ++column) {
            struct source_row row = find_row(call->source, layout, (int32_t)panel, column);
            if (row.weights != NULL) {
                pack_row(call, to, column, &row);
            }
            if (call->bias != NULL) {
                call->bias[(size_t)panel * (size_t)layout->panel + (size_t)column] = row.bias;
            }
        }
    }
}

static enum dtype common_dtype(const struct weight_source *source) {
    for (int32_t i = 1; i < source->n_parts; ++i) {
        if (source->parts[i].dtype != source->parts[0].dtype) {
            return DTYPE_F32;
        }
    }
    return source->parts[0].dtype;
}

enum status cpu_weight_pack(struct backend *backend, const struct weight_source *source,
                            enum precision precision, struct weight *out) {
    struct cpu_backend *cpu = cpu_backend_from(backend);
    struct weight weight = {.cols = source->parts[0].cols,
                            .dtype = common_dtype(source),
                            .precision = precision,
                            .gated = source->gated};
    for (int32_t i = 0; i < source->n_parts; ++i) {
        ASSERT(source->parts[i].cols == weight.cols);
        ASSERT((source->parts[i].dtype == DTYPE_Q4_1) == (precision == PRECISION_Q4));
        ASSERT(precision != PRECISION_Q4 || weight.cols % Q4_BLOCK_VALUES == 0);
        weight.rows += source->parts[i].rows;
        weight.has_bias = weight.has_bias || source->biases[i].data != NULL;
    }
    ASSERT(!source->gated || source->parts[0].rows == source->parts[1].rows);
    if (cpu_linear_reserve(cpu, &weight) != STATUS_OK) {
        return STATUS_NO_MEMORY;
    }
    weight.bytes = cpu_linear_layout(cpu, &weight).bytes;
    weight.data = cpu_weight_alloc(cpu, weight.bytes);
    if (weight.data == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct linear_layout layout = cpu_linear_layout(cpu, &weight);
    struct pack_call call = {
        .cpu = cpu,
        .source = source,
        .layout = &layout,
        .panels = weight.data,
        .bias = (float *)layout.bias,
        .cols = weight.cols,
    };
    thread_pool_run(cpu->pool, pack_part, &call, thread_pool_size(cpu->pool));
    *out = weight;
    return STATUS_OK;
}

void cpu_weight_release(struct backend *backend, struct weight *weight) {
    cpu_weight_free(cpu_backend_from(backend), weight->data);
    *weight = (struct weight){0};
}
