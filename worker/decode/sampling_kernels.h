// The inner loops of sampling, which a CPU backend provides for each instruction set. A row is read
// in blocks of SAMPLING_BLOCK logits; every array with an element per block or per lane follows
// that division. Sums are f32 and have one order everywhere: inside a block 16 partial sums by
// index modulo 16, in index order, joined by the tree i + (i + 8), + 4, + 2, + 1; what is summed
// over blocks is f64 in block order (worker/decode/sampling.c). So instruction sets with fused
// multiply-add agree bit for bit. Pure functions of their arguments; NaN only reaches `maxima`.
#ifndef WORKER_DECODE_SAMPLING_KERNELS_H
#define WORKER_DECODE_SAMPLING_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SAMPLING_BLOCK = 512,
    SAMPLING_LANES = 16,
    SAMPLING_SLACK = 16, // elements behind an output list that may be written
};

// A prefix of the order (logit descending, id ascending): greater logits, and ids up to last_id
// among those with this logit.
struct sampling_cut {
    float logit;
    int32_t last_id;
};

// Entries in id order, of which lists shrink but never change the order.
struct sampling_list {
    int32_t *ids;   // [n]
    float *logits;  // [n], all above -inf
    float *weights; // [n]
    int32_t n;
};

struct sampling_kernels {
    // lanes[n_blocks, 16] = maxima by index modulo 16, -inf where a lane is empty; maxima[n_blocks]
    // = theirs. False when any of x[n] is NaN or +inf.
    bool (*maxima)(const float *x, int32_t n, float *lanes, float *maxima);
    // weights[i] = 2^((x[i] - references[block]) * scale), 0 below 2^-125.5, and exactly 1 at the
    // reference; sums[n_blocks] of them. weights may be NULL. No x[i] exceeds its reference; scale
    // is finite.
    void (*weigh)(const float *x, int32_t n, const float *references, float scale, float *sums,
                  float *weights);
    // sums[n_blocks] of the weights inside the cut; x[0] has the id first_id. A block whose
    // maximum is below the cut gives 0 unread; maxima may be NULL.
    void (*sum_cut)(const float *x, const float *weights, int32_t n, int32_t first_id,
                    const float *maxima, struct sampling_cut cut, float *sums);
    // Appends every id with from <= x < to, and its logit; blocks with a maximum below `from` are
    // skipped. `to` may be +inf.
    void (*collect)(const float *x, int32_t n, const float *maxima, float from, float to,
                    struct sampling_list *out);
    // *out = the entries of `list` with logit >= pivot (upper) or < pivot; weights included.
    void (*partition)(const struct sampling_list *list, float pivot, bool upper,
                      struct sampling_list *out);
};

#endif
