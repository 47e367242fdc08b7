#include "coordinator/search/blocks.h"

uint32_t blocks_tokens(const struct search_spec *spec, uint32_t n_before) {
    double tokens = spec->block_tokens;
    if (spec->block_growth <= 1.0) {
        return spec->block_tokens;
    }
    for (uint32_t i = 0; i < n_before && tokens < spec->block_tokens_max; i++) {
        tokens *= spec->block_growth;
    }
    return tokens < spec->block_tokens_max ? (uint32_t)(tokens + 0.5) : spec->block_tokens_max;
}

uint32_t blocks_count(const struct search_spec *spec) {
    uint32_t count = 0;
    for (uint32_t tokens = 0; tokens < spec->max_tokens; count++) {
        tokens += blocks_tokens(spec, count);
    }
    return count;
}
