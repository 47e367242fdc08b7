#include "benchmarks/model_work.h"

struct model_work model_work_of(const struct model_config *config) {
    const double hidden = config->hidden_dim;
    const double heads = (double)config->n_heads * config->head_dim;
    const double kv_heads = (double)config->n_kv_heads * config->head_dim;
    const double layer = hidden * (2 * heads + 2 * kv_heads) + 3 * hidden * config->ffn_dim;
    return (struct model_work){
        .layer_parameters = layer * config->n_layers,
        .head_parameters = config->head == MODEL_HEAD_LM ? hidden * config->vocab_size : hidden,
        .attention_flops_per_position = 4 * heads * config->n_layers,
    };
}

double model_work_product_flops(const struct model_work *work, double rows, double outputs) {
    return 2 * (work->layer_parameters * rows + work->head_parameters * outputs);
}

double model_work_weight_bytes(const struct model *model) {
    const struct model_weights *weights = model_get_weights(model);
    size_t bytes = weights->lm_head.bytes + weights->score.bytes;
    for (int32_t i = 0; i < model_get_config(model)->n_layers; i++) {
        const struct layer_weights *layer = &weights->layers[i];
        bytes += layer->qkv.bytes + layer->o.bytes + layer->gate_up.bytes + layer->down.bytes;
    }
    return (double)bytes;
}
