// Rotary position embedding as a model means it: how fast each pair of a head's elements turns, and
// how what is turned is scaled (Su et al. 2021, section 3.4.2, and its extensions to longer texts).
// Kinds and defaults are those of Hugging Face's transformers. Values only; any thread.
#ifndef WORKER_MODEL_ROPE_H
#define WORKER_MODEL_ROPE_H

#include <stdbool.h>
#include <stdint.h>

enum { ROPE_PAIRS_MAX = 512 }; // of a head

enum rope_kind {
    ROPE_DEFAULT,
    ROPE_LINEAR,   // every frequency divided by `factor` (Chen et al. 2023)
    ROPE_DYNAMIC,  // as default up to the model's context, which is as far as texts go here
    ROPE_YARN,     // slow pairs divided by `factor`, a ramp between (Peng et al. 2023, section 3)
    ROPE_LONGROPE, // every pair has a divisor of its own, one for short and one for long texts
                   // (Ding et al. 2024)
    ROPE_LLAMA3,   // slow pairs divided by `factor`, a ramp by wavelength (Grattafiori et al. 2024)
};

struct rope {
    enum rope_kind kind;
    int32_t rotary_dim; // elements of a head that are turned, its first ones; even
    double theta;
    double factor;
    int32_t original_context; // tokens that the model was first trained for
    double low_freq_factor;   // llama3
    double high_freq_factor;
    double beta_fast; // yarn
    double beta_slow;
    bool truncate;
    float scale;                         // of cosines and sines, 1 but for yarn and longrope
    float short_factors[ROPE_PAIRS_MAX]; // longrope, [rotary_dim / 2]
    float long_factors[ROPE_PAIRS_MAX];
};

// Whether a context of that many tokens is one of long texts. transformers looks at each text's own
// length, so that keys and values of the same tokens differ before and after it passes
// original_context. Here one set serves all texts of a context, as in vLLM: results are those of
// transformers for texts of up to original_context tokens where the context is no longer than that,
// and for texts that are longer where it is.
bool rope_is_long(const struct rope *rope, int32_t context_tokens);

// Radians per position of each pair: frequencies[rotary_dim / 2].
void rope_frequencies(const struct rope *rope, bool is_long, float *frequencies);

#endif
