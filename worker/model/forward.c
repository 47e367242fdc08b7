// The forward pass of a Llama-shaped transformer, written once over the backend's operations.
#include <math.h>
#include <string.h>

#include "worker/model/context_private.h"
#include "worker/model/visits.h"

// How far a call has come: its items' positions, in item order, are cut into batches.
struct cursor {
    const struct forward_item *items;
    int32_t n_items;
    int32_t item;
    int32_t token; // in items[item]
};

static int32_t outputs_of(const struct forward_item *item) {
    switch (item->output) {
    case FORWARD_OUTPUT_NONE:
        return 0;
    case FORWARD_OUTPUT_LAST:
        return 1;
    case FORWARD_OUTPUT_ALL:
        return item->n_tokens;
    }
    return 0;
}

static enum status check_item(const struct model_context *context, const struct forward_item *item,
                              struct error *err) {
    const struct model_context_options *options = &context->options;
    int32_t vocab_size = model_get_config(context->model)->vocab_size;
    if (item->n_tokens < 1) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "n_tokens",
                         "%d tokens to run, not at least 1", item->n_tokens);
    }
    if (item->n_tokens > options->context_tokens - item->sequence->length) {
        return error_set(err, STATUS_LIMIT, "context_tokens",
                         "%d tokens after %d exceed the context of %d tokens", item->n_tokens,
                         item->sequence->length, options->context_tokens);
    }
    for (int32_t i = 0; i < item->n_tokens; ++i) {
        if (item->token_ids[i] < 0 || item->token_ids[i] >= vocab_size) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "token_ids",
                             "token id %d is not in the vocabulary of %d", item->token_ids[i],
                             vocab_size);
        }
    }
    return STATUS_OK;
}

// Checks everything that can be refused, before anything changes.
static enum status check_call(struct model_context *context, const struct forward_item *items,
                              int32_t n_items, struct error *err) {
    const struct model_context_options *options = &context->options;
    int64_t n_outputs = 0;
    ASSERT(n_items >= 0 && n_items <= options->n_sequences);
    for (int32_t i = 0; i < n_items; ++i) {
        enum status status = check_item(context, &items[i], err);
        if (status != STATUS_OK) {
            return status;
        }
        n_outputs += outputs_of(&items[i]);
        context->arrays.growths[i] = (struct kv_growth){items[i].sequence, items[i].n_tokens};
    }
    if (n_outputs > options->output_rows) {
        return error_set(err, STATUS_LIMIT, "output_rows", "%lld output rows, %d at most",
                         (long long)n_outputs, options->output_rows);
    }
    int64_t needed = kv_tree_blocks_needed(context->tree, context->arrays.growths, n_items);
    if (needed > kv_tree_blocks_free(context->tree)) {
        return error_set(err, STATUS_LIMIT, "n_kv_blocks", "%lld KV blocks needed, %d of %d free",
                         (long long)needed, kv_tree_blocks_free(context->tree),
                         kv_tree_blocks_total(context->tree));
    }
    return STATUS_OK;
}

static void grow_sequences(struct model_context *context, int32_t n_items) {
    for (int32_t i = 0; i < n_items; ++i) {
        const struct kv_growth *growth = &context->arrays.growths[i];
        context->arrays.old_lengths[i] = growth->sequence->length;
        struct kv_block_copy copy;
        if (kv_tree_grow(context->tree, growth, &copy)) {
            context->backend->ops->kv_copy(context->backend, &context->kv, copy.destination,
                                           copy.source);
        }
    }
}

static void shrink_sequences(struct model_context *context, int32_t n_items) {
    for (int32_t i = 0; i < n_items; ++i) {
        kv_tree_sequence_truncate(context->tree, context->arrays.growths[i].sequence,
                                  context->arrays.old_lengths[i]);
    }
}

// Puts the next tokens of one item into the batch.
static void add_piece(struct model_context *context, struct cursor *cursor, struct batch_plan *plan,
                      struct batch_piece *piece, int32_t *n_outputs) {
    struct batch_arrays *arrays = &context->arrays;
    const struct forward_item *item = &cursor->items[cursor->item];
    int32_t left = item->n_tokens - cursor->token;
    int32_t room = context->options.batch_rows - plan->n_rows;
    *piece = (struct batch_piece){
        .sequence = item->sequence,
        .first_position = arrays->old_lengths[cursor->item] + cursor->token,
        .first_row = plan->n_rows,
        .n_rows = left < room ? left : room,
    };
    for (int32_t i = 0; i < piece->n_rows; ++i) {
        int32_t row = plan->n_rows++, token = cursor->token++;
        int32_t position = piece->first_position + i;
        arrays->token_ids[row] = item->token_ids[token];
        arrays->positions[row] = position;
        arrays->kv_block[row] = item->sequence->blocks[position / KV_BLOCK_TOKENS];
        bool last = token == item->n_tokens - 1;
        if (item->output == FORWARD_OUTPUT_ALL || (item->output == FORWARD_OUTPUT_LAST && last)) {
            arrays->output_rows[(*n_outputs)++] = row;
        }
    }
    if (cursor->token == item->n_tokens) {
        cursor->item += 1;
        cursor->token = 0;
    }
}

// Plans the next batch; returns how many of its rows are wanted.
static int32_t build_batch(struct model_context *context, struct cursor *cursor,
                           struct batch_plan *plan) {
    struct batch_arrays *arrays = &context->arrays;
    int32_t n_pieces = 0, n_outputs = 0;
    *plan = (struct batch_plan){
        .token_ids = arrays->token_ids,
        .positions = arrays->positions,
        .kv_block = arrays->kv_block,
    };
    while (cursor->item < cursor->n_items && plan->n_rows < context->options.batch_rows) {
        add_piece(context, cursor, plan, &arrays->pieces[n_pieces++], &n_outputs);
    }
    plan->visits = visits_build(arrays, n_pieces, 0, &arrays->visits);
    if (arrays->windowed.visits != NULL) {
        int32_t window = model_get_config(context->model)->sliding_window;
        plan->windowed = visits_build(arrays, n_pieces, window, &arrays->windowed);
    }
    return n_outputs;
}

static void set_rows(struct activations *act, int32_t n_rows) {
    struct tensor *const tensors[] = {&act->residual, &act->kept_residual, &act->normed, &act->qkv,
                                      &act->heads,    &act->kept_heads,    &act->gated};
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); ++i) {
        tensors[i]->rows = n_rows;
    }
}

static struct attention_layer attention_layer(const struct model_context *context, int32_t layer) {
    const struct model_config *config = model_get_config(context->model);
    const struct layer_weights *w = &model_get_weights(context->model)->layers[layer];
    bool windowed = config->windowed[layer] && context->arrays.windowed.visits != NULL;
    return (struct attention_layer){
        .index = layer,
        .n_heads = config->n_heads,
        .window = windowed ? config->sliding_window : 0,
        .scale = 1.0f / sqrtf((float)config->head_dim),
        .query_norm = w->query_norm,
        .key_norm = w->key_norm,
        .norm_eps = config->norm_eps,
    };
}

// Queries, keys and values of all rows; keys and values go to the layer's KV blocks.
static void attention_inputs(struct model_context *context, int32_t layer) {
    const struct backend_ops *ops = context->backend->ops;
    const struct attention_layer attention = attention_layer(context, layer);
    const struct model_config *config = model_get_config(context->model);
    const struct model_weights *weights = model_get_weights(context->model);
    const struct layer_weights *w = &weights->layers[layer];
    struct activations *act = &context->act;
    ops->rms_norm(context->backend, &act->normed, &act->residual, &w->attention_norm,
                  config->norm_eps);
    ops->linear(context->backend, &act->qkv, &act->normed, &w->qkv);
    ops->rope_store(context->backend, &act->qkv, &context->kv, &attention);
}

static void attend(struct model_context *context, int32_t layer) {
    const struct attention_layer attention = attention_layer(context, layer);
    struct activations *act = &context->act;
    context->backend->ops->attention(context->backend, &act->heads, &act->qkv, &context->kv,
                                     &attention);
}

static void swap(struct tensor *a, struct tensor *b) {
    struct tensor kept = *a;
    *a = *b;
    *b = kept;
}

// Keeps only the rows whose states are wanted; from here on rows no longer meet one another.
static void keep_outputs(struct model_context *context, int32_t n_outputs) {
    const struct backend_ops *ops = context->backend->ops;
    struct activations *act = &context->act;
    const int32_t *rows = context->arrays.output_rows;
    ops->gather_rows(context->backend, &act->kept_residual, &act->residual, rows, n_outputs);
    ops->gather_rows(context->backend, &act->kept_heads, &act->heads, rows, n_outputs);
    swap(&act->kept_residual, &act->residual);
    swap(&act->kept_heads, &act->heads);
    set_rows(act, n_outputs);
}

static void attention_output(struct model_context *context, const struct layer_weights *w) {
    const struct backend_ops *ops = context->backend->ops;
    struct activations *act = &context->act;
    ops->linear_add(context->backend, &act->residual, &act->heads, &w->o);
}

static void feed_forward(struct model_context *context, const struct layer_weights *w) {
    const struct backend_ops *ops = context->backend->ops;
    struct activations *act = &context->act;
    ops->rms_norm(context->backend, &act->normed, &act->residual, &w->ffn_norm,
                  model_get_config(context->model)->norm_eps);
    ops->linear_gated(context->backend, &act->gated, &act->normed, &w->gate_up);
    ops->linear_add(context->backend, &act->residual, &act->gated, &w->down);
}

// All layers and the final norm of one batch. The last layer leaves out what nobody asks for: after
// its keys and values are stored, only the wanted rows matter.
static enum status run_batch(struct model_context *context, const struct batch_plan *plan,
                             int32_t n_outputs) {
    struct backend *backend = context->backend;
    const struct model_config *config = model_get_config(context->model);
    const struct model_weights *weights = model_get_weights(context->model);
    struct activations *act = &context->act;
    enum status status = backend->ops->batch_begin(backend, plan);
    if (status != STATUS_OK) {
        return status;
    }
    set_rows(act, plan->n_rows);
    backend->ops->embed(backend, &act->residual, &weights->embedding);
    for (int32_t layer = 0; layer < config->n_layers; ++layer) {
        bool last = layer == config->n_layers - 1;
        attention_inputs(context, layer);
        if (last && n_outputs == 0) {
            return STATUS_OK;
        }
        attend(context, layer);
        if (last && n_outputs < plan->n_rows) {
            keep_outputs(context, n_outputs);
        }
        attention_output(context, &weights->layers[layer]);
        feed_forward(context, &weights->layers[layer]);
        if (context->progress != NULL) {
            context->progress(context->progress_caller);
        }
    }
    struct tensor outputs = act->outputs;
    outputs.data = (char *)outputs.data +
                   (size_t)context->outputs.rows * (size_t)config->hidden_dim * sizeof(float);
    outputs.rows = n_outputs;
    backend->ops->rms_norm(backend, &outputs, &act->residual, &weights->final_norm,
                           config->norm_eps);
    context->outputs.rows += n_outputs;
    return STATUS_OK;
}

enum status model_forward(struct model_context *context, const struct forward_item *items,
                          int32_t n_items, struct error *err) {
    enum status status = check_call(context, items, n_items, err);
    if (status != STATUS_OK) {
        return status;
    }
    context->outputs.rows = 0;
    grow_sequences(context, n_items);
    struct cursor cursor = {.items = items, .n_items = n_items};
    while (cursor.item < n_items) {
        struct batch_plan plan;
        int32_t n_outputs = build_batch(context, &cursor, &plan);
        status = run_batch(context, &plan, n_outputs);
        if (status != STATUS_OK) {
            shrink_sequences(context, n_items);
            context->outputs.rows = 0;
            return error_set(err, status, "", "a batch of %d rows failed: %s", plan.n_rows,
                             status_text(status));
        }
    }
    return STATUS_OK;
}

int32_t model_output_count(const struct model_context *context) {
    return context->outputs.rows;
}

const struct tensor *model_outputs(const struct model_context *context) {
    return &context->outputs;
}

// The score of `label` among logits[n].
static float score_label(const float *logits, int32_t n, int32_t label, enum label_score kind) {
    double largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; ++i) {
        largest = i != label && (double)logits[i] > largest ? (double)logits[i] : largest;
    }
    for (int32_t i = 0; i < n; ++i) {
        sum += i != label ? exp((double)logits[i] - largest) : 0;
    }
    double odds = (double)logits[label] - largest - log(sum);
    return (float)(kind == LABEL_SCORE_PROBABILITY ? 1 / (1 + exp(-odds)) : odds);
}

static float finish_score(const struct model_config *config, const struct model_weights *weights,
                          const float *outputs) {
    if (config->label_score != LABEL_SCORE_LOGIT) {
        return score_label(outputs, config->n_labels, config->label, config->label_score);
    }
    float score = outputs[0] + weights->score_bias;
    if (config->normalize) {
        float mean = config->normalize_center ? weights->score_mean : 0;
        score = (score - mean) / weights->score_std;
    }
    return score;
}

enum status model_score_outputs(struct model_context *context, float *scores) {
    const struct model_config *config = model_get_config(context->model);
    const struct model_weights *weights = model_get_weights(context->model);
    const struct backend_ops *ops = context->backend->ops;
    ASSERT(config->head != MODEL_HEAD_LM);
    int32_t n = context->outputs.rows, n_labels = model_config_score_rows(config);
    if (n == 0) {
        return STATUS_OK;
    }
    struct tensor result = context->act.result;
    result.rows = n;
    ops->linear(context->backend, &result, &context->outputs, &weights->score);
    float *labels = context->arrays.labels;
    size_t size = (size_t)n * (size_t)n_labels * sizeof *labels;
    enum status status = ops->download(context->backend, labels, result.data, size);
    for (int32_t i = 0; i < n && status == STATUS_OK; ++i) {
        scores[i] = finish_score(config, weights, labels + (size_t)i * (size_t)n_labels);
    }
    return status;
}

enum status model_logits(struct model_context *context, const struct tensor *states,
                         struct tensor *logits) {
    const struct model_weights *weights = model_get_weights(context->model);
    ASSERT(model_get_config(context->model)->head == MODEL_HEAD_LM);
    ASSERT(states->rows <= context->options.output_rows);
    struct tensor result = context->act.result;
    result.rows = states->rows;
    context->backend->ops->linear(context->backend, &result, states, &weights->lm_head);
    *logits = result;
    return STATUS_OK;
}
