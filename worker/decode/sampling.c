// All sums run over the ids in order and in float64, so a draw is a function of the row alone.
// Top-k and top-p never sort: both ask for the shortest prefix, in the order (logit descending, id
// ascending), whose weight reaches a target, and find its last element by radix selection.
#include "worker/decode/sampling.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/rng.h"

enum { RADIX_BITS = 11, RADIX_BUCKETS = 1 << RADIX_BITS, SCRATCH_ALIGN = 64 };

struct scratch {
    double *weights;    // [vocab], 0 for what cannot be drawn
    double *masses;     // [RADIX_BUCKETS]
    float *original;    // [vocab], logits as they came
    int32_t *marks;     // [vocab], occurrence counts while editing
    int32_t *remaining; // the same memory: ids still in question while selecting
};

// The end of a prefix: ids with a greater logit, and the first `ties` of those with this one.
struct cut {
    float logit;
    int32_t ties;
};

static size_t round_up(size_t bytes) {
    return (bytes + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
}

size_t sampling_scratch_bytes(int32_t vocab) {
    size_t n = (size_t)vocab;
    return round_up(n * sizeof(double)) + round_up(RADIX_BUCKETS * sizeof(double)) +
           round_up(n * sizeof(float)) + round_up(n * sizeof(int32_t));
}

static struct scratch scratch_divide(void *memory, int32_t vocab) {
    size_t n = (size_t)vocab;
    unsigned char *next = memory;
    struct scratch scratch;
    scratch.weights = (double *)next;
    next += round_up(n * sizeof(double));
    scratch.masses = (double *)next;
    next += round_up(RADIX_BUCKETS * sizeof(double));
    scratch.original = (float *)next;
    next += round_up(n * sizeof(float));
    scratch.marks = (int32_t *)next;
    scratch.remaining = (int32_t *)next;
    return scratch;
}

// Keeps edited logits ordered: never NaN, never +inf.
static float clamp_logit(float logit) {
    return logit > FLT_MAX ? FLT_MAX : logit >= -FLT_MAX ? logit : -INFINITY;
}

static bool in_vocab(int32_t id, int32_t vocab) {
    return id >= 0 && id < vocab;
}

static void add_values(float *logits, int32_t vocab, const struct token_values *values,
                       float sign) {
    for (int32_t i = 0; i < values->n; i++) {
        int32_t id = values->token_ids[i];
        if (in_vocab(id, vocab)) {
            logits[id] = clamp_logit(logits[id] + sign * values->values[i]);
        }
    }
}

// Keskar et al. 2019, section 4.1, in the form that also lowers negative logits; once per id.
static void penalize_seen(float *logits, int32_t vocab, const int32_t *ids, int32_t n,
                          float penalty, int32_t *marks) {
    for (int32_t i = 0; i < n; i++) {
        int32_t id = ids[i];
        if (in_vocab(id, vocab) && marks[id] == 0) {
            marks[id] = 1;
            logits[id] = clamp_logit(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty);
        }
    }
}

static void clear_marks(int32_t *marks, int32_t vocab, const int32_t *ids, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        if (in_vocab(ids[i], vocab)) {
            marks[ids[i]] = 0;
        }
    }
}

static void penalize_frequency(float *logits, int32_t vocab, const struct sampling_row *row,
                               int32_t *marks) {
    clear_marks(marks, vocab, row->response_ids, row->n_response);
    for (int32_t i = 0; i < row->n_response; i++) {
        if (in_vocab(row->response_ids[i], vocab)) {
            marks[row->response_ids[i]]++;
        }
    }
    for (int32_t i = 0; i < row->n_response; i++) {
        int32_t id = row->response_ids[i];
        if (in_vocab(id, vocab) && marks[id] > 0) {
            logits[id] =
                clamp_logit(logits[id] - (float)marks[id] * row->params->frequency_penalty);
            marks[id] = 0;
        }
    }
}

// True when any logit may have changed.
static bool edit_logits(float *logits, int32_t vocab, const struct sampling_row *row,
                        int32_t *marks) {
    const struct sampling_params *params = row->params;
    bool edited = params->bias.n > 0 || row->penalty.n > 0 || row->n_forbidden > 0;
    add_values(logits, vocab, &params->bias, 1);
    add_values(logits, vocab, &row->penalty, -1);
    if (params->repetition_penalty != 1) {
        edited = true;
        clear_marks(marks, vocab, row->prompt_ids, row->n_prompt);
        clear_marks(marks, vocab, row->response_ids, row->n_response);
        penalize_seen(logits, vocab, row->prompt_ids, row->n_prompt, params->repetition_penalty,
                      marks);
        penalize_seen(logits, vocab, row->response_ids, row->n_response, params->repetition_penalty,
                      marks);
    }
    if (params->frequency_penalty != 0) {
        edited = true;
        penalize_frequency(logits, vocab, row, marks);
    }
    for (int32_t i = 0; i < row->n_forbidden; i++) {
        if (in_vocab(row->forbidden_ids[i], vocab)) {
            logits[row->forbidden_ids[i]] = -INFINITY;
        }
    }
    return edited;
}

// Whether every logit is a number or -inf.
static bool are_ordered(const float *logits, int32_t vocab) {
    bool ordered = true;
    for (int32_t id = 0; id < vocab; id++) {
        ordered &= logits[id] < INFINITY;
    }
    return ordered;
}

// The largest logit's first id; -1 when all are -inf. Stripes, because one maximum after the other
// would take the time of a comparison for each logit.
static int32_t argmax(const float *logits, int32_t vocab) {
    enum { STRIPES = 16 };
    float stripes[STRIPES];
    for (int i = 0; i < STRIPES; i++) {
        stripes[i] = -INFINITY;
    }
    int32_t whole = vocab - vocab % STRIPES;
    for (int32_t id = 0; id < whole; id += STRIPES) {
        for (int i = 0; i < STRIPES; i++) {
            stripes[i] = logits[id + i] > stripes[i] ? logits[id + i] : stripes[i];
        }
    }
    float largest = -INFINITY;
    for (int i = 0; i < STRIPES; i++) {
        largest = stripes[i] > largest ? stripes[i] : largest;
    }
    for (int32_t id = whole; id < vocab; id++) {
        largest = logits[id] > largest ? logits[id] : largest;
    }
    int32_t best = 0;
    while (best < vocab && logits[best] != largest) {
        best++;
    }
    return largest > -INFINITY ? best : -1;
}

// weights[i] = exp((logits[i] - largest) / temperature); returns their sum.
static double weigh(const float *logits, int32_t vocab, float largest, float temperature,
                    double *weights) {
    double scale = 1.0 / (double)temperature;
    double sum = 0;
    for (int32_t id = 0; id < vocab; id++) {
        weights[id] = exp(((double)logits[id] - (double)largest) * scale);
        sum += weights[id];
    }
    return sum;
}

// What weigh() gives at temperature 1 for edited logits, from the weights of the original ones
// under the same largest logit.
static double weigh_edits(const float *logits, const float *original, int32_t vocab, float largest,
                          double *weights) {
    double sum = 0;
    for (int32_t id = 0; id < vocab; id++) {
        if (logits[id] != original[id]) {
            weights[id] = exp((double)logits[id] - (double)largest);
        }
        sum += weights[id];
    }
    return sum;
}

// Unsigned order of keys is the order of the floats; -0 and +0 are one value.
static uint32_t key_of(float logit) {
    float value = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

static uint32_t digit_of(uint32_t key, int shift) {
    return key >> shift & (RADIX_BUCKETS - 1);
}

// Highest bucket at which the mass from above, added to *before, reaches `target`; the lowest
// occupied one when rounding keeps the sum just under it. *before grows by the mass above it.
static uint32_t select_bucket(const double *masses, double target, double *before) {
    uint32_t chosen = 0;
    double above = *before;
    for (uint32_t bucket = RADIX_BUCKETS; bucket-- > 0;) {
        if (masses[bucket] == 0) {
            continue;
        }
        chosen = bucket;
        *before = above;
        above += masses[bucket];
        if (above >= target) {
            break;
        }
    }
    return chosen;
}

// The shortest prefix, in the order (logit descending, id ascending), whose weight reaches
// `target`. Some weight is above 0, and only such ids count.
static struct cut find_cut(const float *logits, int32_t vocab, double target, double unit,
                           const struct scratch *scratch) {
    const double *weights = scratch->weights;
    int32_t *remaining = scratch->remaining;
    int32_t n = 0;
    for (int32_t id = 0; id < vocab; id++) {
        remaining[n] = id;
        n += weights[id] > 0;
    }
    double before = 0;
    for (int shift = 2 * RADIX_BITS; shift >= 0; shift -= RADIX_BITS) {
        memset(scratch->masses, 0, RADIX_BUCKETS * sizeof scratch->masses[0]);
        for (int32_t i = 0; i < n; i++) {
            int32_t id = remaining[i];
            scratch->masses[digit_of(key_of(logits[id]), shift)] += unit > 0 ? unit : weights[id];
        }
        uint32_t bucket = select_bucket(scratch->masses, target, &before);
        int32_t kept = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t id = remaining[i];
            remaining[kept] = id;
            kept += digit_of(key_of(logits[id]), shift) == bucket;
        }
        n = kept;
    }
    // Equal keys are left, so equal weights: count how many are still needed.
    struct cut cut = {.logit = logits[remaining[0]], .ties = 0};
    double weight = unit > 0 ? unit : weights[remaining[0]];
    while (cut.ties < n && (cut.ties == 0 || before + cut.ties * weight < target)) {
        cut.ties++;
    }
    return cut;
}

// Weight 0 for everything outside the cut; returns the sum of the rest.
static double apply_cut(const float *logits, int32_t vocab, struct cut cut, double *weights) {
    double sum = 0;
    for (int32_t id = 0; id < vocab; id++) {
        bool tie = logits[id] == cut.logit && weights[id] > 0;
        if (logits[id] < cut.logit || (tie && cut.ties-- <= 0)) {
            weights[id] = 0;
        } else {
            sum += weights[id];
        }
    }
    return sum;
}

// Inverse of the cumulative weight, in id order.
static int32_t draw(const double *weights, int32_t vocab, double target) {
    int32_t last = -1;
    double sum = 0;
    for (int32_t id = 0; id < vocab; id++) {
        if (weights[id] > 0) {
            sum += weights[id];
            last = id;
            if (sum > target) {
                break;
            }
        }
    }
    return last;
}

static int32_t sample(const float *logits, int32_t vocab, double sum,
                      const struct sampling_row *row, const struct scratch *scratch) {
    const struct sampling_params *params = row->params;
    if (params->top_k > 0 && params->top_k < vocab) {
        struct cut cut = find_cut(logits, vocab, params->top_k, 1, scratch);
        sum = apply_cut(logits, vocab, cut, scratch->weights);
    }
    if (params->top_p < 1) {
        struct cut cut = find_cut(logits, vocab, (double)params->top_p * sum, 0, scratch);
        sum = apply_cut(logits, vocab, cut, scratch->weights);
    }
    double u = rng_uniform(row->seed, row->lineage, row->position, 0);
    return draw(scratch->weights, vocab, u * sum);
}

enum status sampling_draw(float *logits, int32_t vocab, struct sampling_row *row, void *memory) {
    const struct sampling_params *params = row->params;
    struct scratch scratch = scratch_divide(memory, vocab);
    if (!are_ordered(logits, vocab)) {
        return STATUS_DEVICE;
    }
    row->token_id = -1;
    row->logprob = -INFINITY;
    int32_t best = argmax(logits, vocab);
    if (best < 0) {
        return STATUS_OK;
    }
    float largest = logits[best];
    double sum = weigh(logits, vocab, largest, 1, scratch.weights);
    double log_sum = (double)largest + log(sum);
    memcpy(scratch.original, logits, (size_t)vocab * sizeof logits[0]);

    bool edited = edit_logits(logits, vocab, row, scratch.marks);
    int32_t token = edited ? argmax(logits, vocab) : best;
    if (token >= 0 && params->temperature > 0) {
        if (params->temperature != 1 || logits[token] != largest) {
            sum = weigh(logits, vocab, logits[token], params->temperature, scratch.weights);
        } else if (edited) {
            sum = weigh_edits(logits, scratch.original, vocab, largest, scratch.weights);
        }
        token = sample(logits, vocab, sum, row, &scratch);
    }
    if (token >= 0) {
        row->token_id = token;
        row->logprob = (float)((double)scratch.original[token] - log_sum);
    }
    return STATUS_OK;
}
