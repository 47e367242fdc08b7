// Creation of a context and its sequences. What a context takes is computed in one place and both
// printed as the plan and taken from the backend, so that the two cannot differ.
#include "worker/model/context.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "worker/model/context_private.h"
#include "worker/model/visits.h"

static struct kv_storage kv_shape(const struct model *model,
                                  const struct model_context_options *options) {
    const struct model_config *config = model_get_config(model);
    const struct model_weights *weights = model_get_weights(model);
    int64_t positions = (int64_t)options->n_kv_blocks * KV_BLOCK_TOKENS;
    return (struct kv_storage){
        .dtype = options->kv_dtype,
        .n_layers = config->n_layers,
        .n_blocks = options->n_kv_blocks,
        .n_kv_heads = config->n_kv_heads,
        .head_dim = config->head_dim,
        .n_positions =
            positions < options->context_tokens ? (int32_t)positions : options->context_tokens,
        .inv_freq = rope_is_long(&config->rope, options->context_tokens) ? weights->long_inv_freq
                                                                         : weights->inv_freq,
        .rotary_dim = config->rope.rotary_dim,
        .rotary_scale = config->rope.scale,
    };
}

static struct kv_tree_options tree_shape(const struct model_context_options *options) {
    return (struct kv_tree_options){
        .n_blocks = options->n_kv_blocks,
        .n_sequences = options->n_sequences,
        .context_tokens = options->context_tokens,
    };
}

static struct tensor shape(int32_t rows, int32_t cols) {
    return (struct tensor){.dtype = DTYPE_F32, .rows = rows, .cols = cols};
}

static struct activations activation_shapes(const struct model *model,
                                            const struct model_context_options *options) {
    const struct model_config *config = model_get_config(model);
    int32_t rows = options->batch_rows;
    int32_t q_dim = config->n_heads * config->head_dim;
    int32_t kv_dim = config->n_kv_heads * config->head_dim;
    int32_t result_dim =
        config->head == MODEL_HEAD_LM ? config->vocab_size : model_config_score_rows(config);
    return (struct activations){
        .residual = shape(rows, config->hidden_dim),
        .kept_residual = shape(rows, config->hidden_dim),
        .normed = shape(rows, config->hidden_dim),
        .qkv = shape(rows, q_dim + 2 * kv_dim),
        .heads = shape(rows, q_dim),
        .kept_heads = shape(rows, q_dim),
        .gated = shape(rows, config->ffn_dim),
        .outputs = shape(options->output_rows, config->hidden_dim),
        .result = shape(options->output_rows, result_dim),
    };
}

static size_t tensor_bytes(const struct tensor *tensor) {
    return (size_t)tensor->rows * (size_t)tensor->cols * dtype_bytes(tensor->dtype);
}

// Next `size` bytes of `memory`; with memory NULL only the sum in *used is made.
static void *carve(char *memory, size_t *used, size_t size) {
    void *part = memory != NULL ? memory + *used : NULL;
    *used += (size + 63) / 64 * 64;
    return part;
}

static int64_t visit_rows_max(const struct model_context_options *options) {
    struct kv_tree_options tree = tree_shape(options);
    return visits_rows_max(options->batch_rows, kv_tree_blocks_per_sequence(&tree));
}

// Lays the index arrays out in `memory` and returns how much they take.
static size_t lay_out_arrays(const struct model *model, const struct model_context_options *options,
                             char *memory, struct batch_arrays *arrays) {
    int32_t window = model_get_config(model)->sliding_window;
    size_t rows = (size_t)options->batch_rows;
    size_t blocks = (size_t)options->n_kv_blocks;
    size_t visit_rows = (size_t)visit_rows_max(options);
    size_t visits = visit_rows < blocks ? visit_rows : blocks; // a block ends one at most
    size_t sequences = (size_t)options->n_sequences, used = 0;
    arrays->token_ids = carve(memory, &used, rows * sizeof(int32_t));
    arrays->positions = carve(memory, &used, rows * sizeof(int32_t));
    arrays->kv_block = carve(memory, &used, rows * sizeof(int32_t));
    arrays->output_rows = carve(memory, &used, rows * sizeof(int32_t));
    arrays->pieces = carve(memory, &used, rows * sizeof(struct batch_piece));
    arrays->visits.visits = carve(memory, &used, visits * sizeof(struct kv_visit));
    arrays->visits.rows = carve(memory, &used, visit_rows * sizeof(int32_t));
    if (window > 0 && window < options->context_tokens) { // else it hides nothing
        arrays->windowed.visits = carve(memory, &used, visits * sizeof(struct kv_visit));
        arrays->windowed.rows = carve(memory, &used, visit_rows * sizeof(int32_t));
    }
    arrays->visit_of_block = carve(memory, &used, blocks * sizeof(int32_t));
    arrays->labels =
        carve(memory, &used,
              (size_t)options->output_rows *
                  (size_t)model_config_score_rows(model_get_config(model)) * sizeof(float));
    arrays->growths = carve(memory, &used, sequences * sizeof(struct kv_growth));
    arrays->old_lengths = carve(memory, &used, sequences * sizeof(int32_t));
    return used;
}

void model_context_plan(const struct model *model, const struct model_context_options *options,
                        struct model_context_plan *plan) {
    struct kv_storage kv = kv_shape(model, options);
    struct kv_tree_options tree = tree_shape(options);
    struct activations act = activation_shapes(model, options);
    const struct tensor *tensors = (const struct tensor *)&act;
    struct batch_arrays arrays;
    plan->kv_bytes = model_get_backend(model)->ops->kv_bytes(&kv);
    plan->scratch_bytes = lay_out_arrays(model, options, NULL, &arrays) + kv_tree_bytes(&tree);
    for (int i = 0; i < ACTIVATION_COUNT; ++i) {
        plan->scratch_bytes += tensor_bytes(&tensors[i]);
    }
}

static enum status check_option(const char *name, int32_t value, int32_t limit, struct error *err) {
    if (value < 1 || value > limit) {
        return error_set(err, STATUS_INVALID_ARGUMENT, name, "%d is not in 1..%d", value, limit);
    }
    return STATUS_OK;
}

static enum status check_options(const struct model *model,
                                 const struct model_context_options *options, struct error *err) {
    const struct {
        const char *name;
        int32_t value;
        int32_t limit;
    } checks[] = {
        {"n_kv_blocks", options->n_kv_blocks, 1 << 26},
        {"n_sequences", options->n_sequences, 1 << 20},
        {"batch_rows", options->batch_rows, 1 << 16},
        {"output_rows", options->output_rows, 1 << 20},
        {"context_tokens", options->context_tokens, model_get_config(model)->context_length},
    };
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); ++i) {
        enum status status = check_option(checks[i].name, checks[i].value, checks[i].limit, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (visit_rows_max(options) > INT32_MAX) {
        return error_set(err, STATUS_LIMIT, "batch_rows",
                         "%d rows with contexts of %d tokens are too many for one batch",
                         options->batch_rows, options->context_tokens);
    }
    return STATUS_OK;
}

static enum status take_memory(struct model_context *context) {
    const struct model_context_options *options = &context->options;
    const struct backend_ops *ops = context->backend->ops;
    struct kv_tree_options tree = tree_shape(options);
    enum status status = kv_tree_create(&tree, &context->tree);
    if (status != STATUS_OK) {
        return status;
    }
    size_t size = lay_out_arrays(context->model, options, NULL, &context->arrays);
    context->array_memory = aligned_alloc(64, size);
    if (context->array_memory == NULL) {
        return STATUS_NO_MEMORY;
    }
    memset(context->array_memory, 0, size);
    lay_out_arrays(context->model, options, context->array_memory, &context->arrays);
    struct kv_storage kv = kv_shape(context->model, options);
    status = ops->kv_create(context->backend, &kv);
    if (status != STATUS_OK) {
        return status;
    }
    context->kv = kv;
    context->act = activation_shapes(context->model, options);
    struct tensor *tensors = (struct tensor *)&context->act;
    for (int i = 0; i < ACTIVATION_COUNT; ++i) {
        tensors[i].data = ops->alloc(context->backend, tensor_bytes(&tensors[i]));
        if (tensors[i].data == NULL) {
            return STATUS_NO_MEMORY;
        }
    }
    // An empty batch of full size lets the backend take now what it needs for the largest one.
    struct batch_plan largest = {
        .n_rows = options->batch_rows,
        .token_ids = context->arrays.token_ids,
        .positions = context->arrays.positions,
        .kv_block = context->arrays.kv_block,
    };
    return ops->batch_begin(context->backend, &largest);
}

enum status model_context_create(const struct model *model,
                                 const struct model_context_options *options,
                                 struct model_context **out, struct error *err) {
    enum status status = check_options(model, options, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct model_context_plan plan;
    model_context_plan(model, options, &plan);
    struct model_context *context = calloc(1, sizeof(*context));
    if (context != NULL) {
        context->model = model;
        context->backend = model_get_backend(model);
        context->options = *options;
        status = take_memory(context);
    }
    status = context == NULL ? STATUS_NO_MEMORY : status;
    if (status != STATUS_OK) {
        model_context_destroy(context);
        return error_set(err, status, "", "%zu bytes of KV blocks and %zu bytes of scratch: %s",
                         plan.kv_bytes, plan.scratch_bytes, status_text(status));
    }
    const struct rope *rope = &model_get_config(model)->rope;
    if (rope_is_long(rope, options->context_tokens)) {
        log_info("%s: in a context of %d tokens, more than original_max_position_embeddings %d, "
                 "longrope's long factors serve texts of every length, unlike in transformers",
                 model_get_directory(model), options->context_tokens, rope->original_context);
    }
    context->outputs = context->act.outputs;
    context->outputs.rows = 0;
    *out = context;
    return STATUS_OK;
}

void model_context_destroy(struct model_context *context) {
    if (context == NULL) {
        return;
    }
    const struct backend_ops *ops = context->backend->ops;
    struct tensor *tensors = (struct tensor *)&context->act;
    for (int i = 0; i < ACTIVATION_COUNT; ++i) {
        ops->release(context->backend, tensors[i].data);
    }
    ops->kv_destroy(context->backend, &context->kv);
    free(context->array_memory);
    kv_tree_destroy(context->tree);
    free(context);
}

void model_context_set_progress(struct model_context *context, model_progress_fn progress,
                                void *caller) {
    context->progress = progress;
    context->progress_caller = caller;
}

const struct model *model_context_model(const struct model_context *context) {
    return context->model;
}

int32_t model_context_blocks_free(const struct model_context *context) {
    return kv_tree_blocks_free(context->tree);
}

int32_t model_context_blocks_total(const struct model_context *context) {
    return kv_tree_blocks_total(context->tree);
}

struct sequence *sequence_create(struct model_context *context) {
    return kv_tree_sequence_create(context->tree);
}

struct sequence *sequence_fork(struct model_context *context, const struct sequence *parent,
                               int32_t length) {
    return kv_tree_sequence_fork(context->tree, parent, length);
}

void sequence_assign(struct model_context *context, struct sequence *sequence,
                     const struct sequence *source) {
    kv_tree_sequence_assign(context->tree, sequence, source);
}

void sequence_truncate(struct model_context *context, struct sequence *sequence, int32_t length) {
    kv_tree_sequence_truncate(context->tree, sequence, length);
}

void sequence_destroy(struct model_context *context, struct sequence *sequence) {
    kv_tree_sequence_destroy(context->tree, sequence);
}

int32_t sequence_length(const struct sequence *sequence) {
    return sequence->length;
}
