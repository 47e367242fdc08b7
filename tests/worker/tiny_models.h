// A policy, a reward model (classification head) and cost models (score head) of random weights in
// a scratch directory, with small byte-level tokenizers written by hand. "cost" shares the policy's
// tokenizer, "foreign-cost" and "foreign-reward" have one with other merges.
#ifndef TESTS_WORKER_TINY_MODELS_H
#define TESTS_WORKER_TINY_MODELS_H

#include <stdint.h>

// Special tokens are the last two of the 300 ids; ids below 256 are bytes.
enum { TINY_VOCAB = 300, TINY_BOS = 298, TINY_EOS = 299, TINY_CONTEXT = 256 };

// Writes all models; returns the owned path, for testkit_remove_tree.
char *tiny_models_make(void);

// "<directory>/<name>", in one of a few rotating static buffers. Names: policy, reward, cost,
// reward-eos (its profile says append_eos), foreign-cost, foreign-reward (append_eos as well),
// nfd-cost (its tokenizer makes accented letters longer).
const char *tiny_model_path(const char *directory, const char *name);

#endif
