// How long the blocks of a text are: the first has block_tokens, each other block_growth times what
// the one before has, up to block_tokens_max. It depends on the job alone, so that the texts of a
// step end their blocks together. Pure; any thread.
#ifndef COORDINATOR_SEARCH_BLOCKS_H
#define COORDINATOR_SEARCH_BLOCKS_H

#include <stdint.h>

#include "coordinator/search/search.h"

// Tokens of the block after `n_before` others, > 0, whatever max_tokens leaves of it.
uint32_t blocks_tokens(const struct search_spec *spec, uint32_t n_before);

// Blocks of a text of max_tokens.
uint32_t blocks_count(const struct search_spec *spec);

#endif
