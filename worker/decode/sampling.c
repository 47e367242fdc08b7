// A row is read once for its log-probabilities, in chunks that stay in the nearest cache: maximum
// of each block, then sum of the block's weights relative to that maximum. A block's figures depend
// on the block alone, so that edits of single logits only cost their blocks. What remains of the
// draw works on the figures of the blocks, and on two shapes of the row:
// - top-k, and top-p where few tokens matter, work on a list of the tokens in question;
// - everything else draws a block by its sum, then a token inside the block.
#include "worker/decode/sampling.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "common/rng.h"
#include "worker/decode/sampling_edit.h"
#include "worker/decode/sampling_select.h"

enum {
    SCRATCH_ALIGN = 64,
    CHUNK_BLOCKS = 8,    // 16 KB of logits: half a nearest cache
    SAMPLE_CHUNKS = 128, // runs of SAMPLING_LANES logits that the border of top-p is guessed from
    GUESS_BUCKETS = 512, // of weights, GUESS_PER_OCTAVE for each factor of two
    GUESS_PER_OCTAVE = 16,
};

static const float log2_e = 0x1.715476p+0f;

struct work {
    const struct sampling_kernels *kernels;
    float *logits; // [vocab]
    int32_t vocab;
    int32_t n_blocks;
    float *lanes;      // [n_blocks, SAMPLING_LANES], maxima
    float *maxima;     // [n_blocks]
    float *sums;       // [n_blocks], weights relative to the block's maximum
    float *references; // [n_blocks], the largest logit, for lists
    double *factors;   // [n_blocks], from weights of the block to those of the row
    bool *touched;     // [n_blocks], edited
    float *weights;    // [vocab], relative to the block's maximum
    float *masses;     // [GUESS_BUCKETS]
    struct sampling_edit edit;
    struct sampling_list list;
    struct sampling_selection selection;
    float largest;
    double total; // weight of the row as it came, at temperature 1, relative to its largest
    float scale;  // log2(e) / temperature
    double u;     // the row's uniform number
};

// Memory handed out piece by piece; without a base it is only counted.
struct arena {
    unsigned char *base;
    size_t used; // bytes
};

static void *take(struct arena *arena, size_t count, size_t size) {
    void *memory = arena->base != NULL ? arena->base + arena->used : NULL;
    arena->used += (count * size + SCRATCH_ALIGN - 1) / SCRATCH_ALIGN * SCRATCH_ALIGN;
    return memory;
}

static void take_list(struct arena *arena, size_t capacity, struct sampling_list *list) {
    list->ids = take(arena, capacity, sizeof(int32_t));
    list->logits = take(arena, capacity, sizeof(float));
    list->weights = take(arena, capacity, sizeof(float));
}

static void divide(struct work *work, struct arena *arena, int32_t vocab) {
    size_t n = (size_t)vocab, n_blocks = (n + SAMPLING_BLOCK - 1) / SAMPLING_BLOCK;
    *work = (struct work){.vocab = vocab, .n_blocks = (int32_t)n_blocks, .edit = {.vocab = vocab}};
    work->lanes = take(arena, n_blocks * SAMPLING_LANES, sizeof(float));
    work->maxima = take(arena, n_blocks, sizeof(float));
    work->sums = take(arena, n_blocks, sizeof(float));
    work->references = take(arena, n_blocks, sizeof(float));
    work->factors = take(arena, n_blocks, sizeof(double));
    work->touched = take(arena, n_blocks, sizeof(bool));
    work->weights = take(arena, n, sizeof(float));
    work->masses = take(arena, GUESS_BUCKETS, sizeof(float));
    work->edit.ids = take(arena, n, sizeof(int32_t));
    work->edit.originals = take(arena, n, sizeof(float));
    work->selection.sums = take(arena, n_blocks, sizeof(float));
    take_list(arena, n + SAMPLING_SLACK, &work->list);
    take_list(arena, n + SAMPLING_SLACK, &work->selection.spare[0]);
    take_list(arena, n + SAMPLING_SLACK, &work->selection.spare[1]);
    work->edit.marks = work->list.ids; // edits are done before lists begin
}

size_t sampling_scratch_bytes(int32_t vocab) {
    struct arena arena = {0};
    struct work work;
    divide(&work, &arena, vocab);
    return arena.used;
}

static int32_t block_size(const struct work *work, int32_t block) {
    int32_t left = work->vocab - block * SAMPLING_BLOCK;
    return left < SAMPLING_BLOCK ? left : SAMPLING_BLOCK;
}

// Sums, and weights where wanted, of `n` blocks under `scale`.
static void weigh_blocks(struct work *work, int32_t block, int32_t n, float scale, bool keep) {
    int32_t begin = block * SAMPLING_BLOCK, left = work->vocab - begin;
    int32_t size = n < work->n_blocks - block ? n * SAMPLING_BLOCK : left;
    work->kernels->weigh(work->logits + begin, size, work->maxima + block, scale,
                         work->sums + block, keep ? work->weights + begin : NULL);
}

static bool find_maxima(struct work *work, int32_t block, int32_t n) {
    int32_t begin = block * SAMPLING_BLOCK, left = work->vocab - begin;
    int32_t size = n < work->n_blocks - block ? n * SAMPLING_BLOCK : left;
    return work->kernels->maxima(work->logits + begin, size,
                                 work->lanes + (size_t)block * SAMPLING_LANES,
                                 work->maxima + block);
}

static float largest_of(const float *values, int32_t n) {
    float largest = -INFINITY;
    for (int32_t i = 0; i < n; i++) {
        largest = values[i] > largest ? values[i] : largest;
    }
    return largest;
}

// Factors of the blocks under `scale`; returns the sum of all weights relative to `largest`.
static double join_blocks(struct work *work, float scale) {
    double sum = 0;
    for (int32_t block = 0; block < work->n_blocks; block++) {
        double exponent = ((double)work->maxima[block] - (double)work->largest) * (double)scale;
        work->factors[block] = exp2(exponent);
        sum += (double)work->sums[block] * work->factors[block];
    }
    return sum;
}

// The largest logit's first id.
static int32_t find_largest(const struct work *work) {
    int32_t block = 0;
    while (work->maxima[block] != work->largest) {
        block++;
    }
    int32_t id = block * SAMPLING_BLOCK;
    while (work->logits[id] != work->largest) {
        id++;
    }
    return id;
}

// Inverse of the cumulative weight, in id order.
static int32_t draw_from_list(const struct work *work) {
    const struct sampling_list *list = &work->list;
    double total = 0, sum = 0;
    for (int32_t i = 0; i < list->n; i++) {
        total += (double)list->weights[i];
    }
    int32_t last = -1;
    for (int32_t i = 0; i < list->n && (last < 0 || sum <= work->u * total); i++) {
        if (list->weights[i] > 0) {
            sum += (double)list->weights[i];
            last = list->ids[i];
        }
    }
    return last;
}

// The same inside one block, within the cut; `target` is relative to the block's maximum.
static int32_t draw_from_block(const struct work *work, int32_t block, struct sampling_cut cut,
                               double target) {
    float weights[SAMPLING_BLOCK], total;
    int32_t first = block * SAMPLING_BLOCK, n = block_size(work, block), last = -1;
    const float *logits = work->logits + first;
    work->kernels->weigh(logits, n, &work->maxima[block], work->scale, &total, weights);
    double sum = 0;
    for (int32_t i = 0; i < n && (last < 0 || sum <= target); i++) {
        bool tie = logits[i] == cut.logit && first + i <= cut.last_id;
        if (weights[i] > 0 && (logits[i] > cut.logit || tie)) {
            sum += (double)weights[i];
            last = first + i;
        }
    }
    return last;
}

// Draws by the sums of the blocks, which count what is within the cut.
static int32_t draw_from_blocks(const struct work *work, struct sampling_cut cut) {
    double total = 0, before = 0, sum = 0;
    for (int32_t block = 0; block < work->n_blocks; block++) {
        total += (double)work->sums[block] * work->factors[block];
    }
    int32_t chosen = -1;
    for (int32_t i = 0; i < work->n_blocks && (chosen < 0 || sum <= work->u * total); i++) {
        double mass = (double)work->sums[i] * work->factors[i];
        if (mass > 0) {
            before = sum;
            sum += mass;
            chosen = i;
        }
    }
    return draw_from_block(work, chosen, cut, (work->u * total - before) / work->factors[chosen]);
}

static void collect(struct work *work, float from, float to) {
    work->list.n = 0;
    work->kernels->collect(work->logits, work->vocab, work->maxima, from, to, &work->list);
}

// Weights relative to the largest logit.
static void weigh_list(struct work *work, struct sampling_list *list) {
    for (int32_t i = 0; i < list->n; i += SAMPLING_BLOCK) {
        work->references[i / SAMPLING_BLOCK] = work->largest;
    }
    work->kernels->weigh(list->logits, list->n, work->references, work->scale, work->selection.sums,
                         list->weights);
}

static void count_equally(struct sampling_list *list) {
    for (int32_t i = 0; i < list->n; i++) {
        list->weights[i] = 1;
    }
}

// A logit that at least k tokens reach, by the maxima of the lanes: few more than k do.
static float bound_top_k(struct work *work, int32_t k) {
    struct sampling_list *list = &work->list;
    list->n = 0;
    for (int32_t i = 0; i < work->n_blocks * SAMPLING_LANES && list->n < work->vocab; i++) {
        list->logits[list->n] = work->lanes[i];
        list->n += work->lanes[i] > -INFINITY;
    }
    if (list->n < k) {
        return -FLT_MAX;
    }
    count_equally(list);
    return sampling_select_prefix(&work->selection, list, k, -FLT_MAX, work->largest).logit;
}

static int32_t sample_top_k(struct work *work, const struct sampling_params *params) {
    struct sampling_list *list = &work->list;
    float from = bound_top_k(work, params->top_k);
    collect(work, from, INFINITY);
    if (list->n > params->top_k) {
        count_equally(list);
        sampling_select_keep(list, sampling_select_prefix(&work->selection, list, params->top_k,
                                                          from, work->largest));
    }
    weigh_list(work, list);
    if (params->top_p < 1) {
        double target = (double)params->top_p * sampling_select_mass(&work->selection, list, from);
        sampling_select_keep(
            list, sampling_select_prefix(&work->selection, list, target, from, work->largest));
    }
    return draw_from_list(work);
}

// Every logit inside the cut counts: nothing is cut.
static const struct sampling_cut no_cut = {.logit = -INFINITY, .last_id = INT32_MAX};

struct window { // of logits, from <= x < to
    float from;
    float to;
};

// A sample of the row in runs of SAMPLING_LANES logits at equal distances, in spare memory; false
// when the row is too short to need one.
static bool take_sample(struct work *work, struct sampling_list *sample) {
    int32_t step = work->vocab / (SAMPLE_CHUNKS * SAMPLING_LANES);
    *sample = work->selection.spare[0];
    sample->n = SAMPLE_CHUNKS * SAMPLING_LANES;
    for (int32_t i = 0; i < SAMPLE_CHUNKS && step > 1; i++) {
        memcpy(sample->logits + (size_t)i * SAMPLING_LANES,
               work->logits + (size_t)i * SAMPLING_LANES * (size_t)step,
               SAMPLING_LANES * sizeof(float));
    }
    return step > 1;
}

// The largest logit of a bucket.
static float upper_end(const struct work *work, int32_t bucket) {
    double logit = (double)work->largest - bucket / (GUESS_PER_OCTAVE * (double)work->scale);
    return logit > -FLT_MAX ? (float)logit : -FLT_MAX;
}

static void fill_masses(struct work *work, const struct sampling_list *sample) {
    float per_logit = work->scale * GUESS_PER_OCTAVE;
    memset(work->masses, 0, GUESS_BUCKETS * sizeof work->masses[0]);
    for (int32_t i = 0; i < sample->n; i++) {
        float distance = (work->largest - sample->logits[i]) * per_logit;
        int32_t bucket = distance < GUESS_BUCKETS - 1 ? (int32_t)distance : GUESS_BUCKETS - 1;
        work->masses[bucket] += sample->weights[i];
    }
}

// Lower weights than the border's weigh `tail` together: where does the border probably lie? Within
// three standard deviations of what a sample says; a wrong guess costs time only.
static struct window guess_border(struct work *work, double tail) {
    struct window window = {.from = -FLT_MAX, .to = INFINITY};
    struct sampling_list sample;
    if (!take_sample(work, &sample)) {
        return window;
    }
    weigh_list(work, &sample);
    fill_masses(work, &sample);
    double ratio = (double)work->vocab / sample.n, growth = exp2(1.0 / GUESS_PER_OCTAVE);
    double weight = exp2(-(double)(GUESS_BUCKETS - 1) / GUESS_PER_OCTAVE); // upper end of a bucket
    double mass = 0, variance = 0;
    for (int32_t bucket = GUESS_BUCKETS - 1; bucket >= 0; bucket--, weight *= growth) {
        mass += (double)work->masses[bucket] * ratio;
        variance += (double)work->masses[bucket] * weight * (9 * ratio * ratio);
        // Three more tokens of this weight may have escaped the sample.
        double room = tail - mass - 3 * ratio * weight, excess = mass - tail;
        if (room >= 0 && room * room >= variance) {
            window.from = upper_end(work, bucket);
        }
        if (excess >= 0 && excess * excess >= variance) {
            window.to = upper_end(work, bucket);
            break;
        }
    }
    return window;
}

// Sums of the blocks within the cut, and their total.
static double sum_blocks(struct work *work, struct sampling_cut cut) {
    work->kernels->sum_cut(work->logits, work->weights, work->vocab, 0, work->maxima, cut,
                           work->sums);
    double total = 0;
    for (int32_t block = 0; block < work->n_blocks; block++) {
        total += (double)work->sums[block] * work->factors[block];
    }
    return total;
}

// Lists what lies in the window; returns its weight.
static double list_window(struct work *work, struct window window) {
    collect(work, window.from, window.to);
    weigh_list(work, &work->list);
    return sampling_select_mass(&work->selection, &work->list, -FLT_MAX);
}

// Lists tokens among which the border lies that `target` reaches; returns the weight above them.
// *window is the guess, and everything when that was wrong.
static double list_border(struct work *work, double target, struct window *window) {
    struct sampling_cut above = {.logit = window->to, .last_id = INT32_MAX};
    double before = window->to < INFINITY ? sum_blocks(work, above) : 0;
    if (before < target && before + list_window(work, *window) >= target) {
        return before;
    }
    *window = (struct window){.from = -FLT_MAX, .to = INFINITY};
    list_window(work, *window);
    return 0;
}

static int32_t sample_top_p(struct work *work, double target, double total) {
    struct window window = guess_border(work, total - target);
    double before = list_border(work, target, &window);
    bool whole = window.to == INFINITY; // whether the list has all that can be drawn
    struct sampling_cut cut =
        sampling_select_prefix(&work->selection, &work->list, target - before, window.from,
                               whole ? work->largest : window.to);
    if (whole) {
        sampling_select_keep(&work->list, cut);
        return draw_from_list(work);
    }
    sum_blocks(work, cut);
    return draw_from_blocks(work, cut);
}

// What a draw needs beside the maxima.
struct plan {
    bool edited;
    bool lists;        // top-k: no weights of the whole row
    bool keep_weights; // top-p
    bool unscaled;     // temperature 1
};

static struct plan make_plan(struct work *work, const struct sampling_row *row) {
    const struct sampling_params *params = row->params;
    struct plan plan = {.edited = sampling_edit_needed(row)};
    plan.lists = params->top_k > 0 && params->top_k < work->vocab;
    plan.keep_weights = params->top_p < 1 && !plan.lists;
    plan.unscaled = params->temperature == 1;
    // Far outside of what changes a draw, and far from overflow.
    float scale = log2_e / params->temperature;
    work->scale = plan.unscaled ? log2_e : fminf(fmaxf(scale, 1e-30f), 1e30f);
    return plan;
}

// Maxima and sums of the row as it came; false when it holds NaN or +inf. *log_sum = the logarithm
// of the sum of e^logit.
static bool read_row(struct work *work, const struct plan *plan, double *log_sum) {
    bool ordered = true, keep = plan->keep_weights && plan->unscaled;
    for (int32_t block = 0; block < work->n_blocks; block += CHUNK_BLOCKS) {
        ordered &= find_maxima(work, block, CHUNK_BLOCKS);
        weigh_blocks(work, block, CHUNK_BLOCKS, log2_e, keep);
    }
    work->largest = largest_of(work->maxima, work->n_blocks);
    work->total = join_blocks(work, log2_e);
    *log_sum = (double)work->largest + log(work->total);
    return ordered;
}

static void edit_row(struct work *work, const struct sampling_row *row) {
    sampling_edit_apply(&work->edit, row);
    memset(work->touched, 0, (size_t)work->n_blocks * sizeof work->touched[0]);
    for (int32_t i = 0; i < work->edit.n; i++) {
        work->touched[work->edit.ids[i] / SAMPLING_BLOCK] = true;
    }
    for (int32_t block = 0; block < work->n_blocks; block++) {
        if (work->touched[block]) {
            find_maxima(work, block, 1);
        }
    }
    work->largest = largest_of(work->maxima, work->n_blocks);
}

// Sums, and weights where wanted, of the edited row at its temperature; returns the total.
static double weigh_row(struct work *work, const struct plan *plan) {
    if (plan->unscaled && !plan->edited) {
        return work->total;
    }
    if (!plan->unscaled) {
        weigh_blocks(work, 0, work->n_blocks, work->scale, plan->keep_weights);
    }
    for (int32_t block = 0; block < work->n_blocks && plan->unscaled; block++) {
        if (work->touched[block]) {
            weigh_blocks(work, block, 1, work->scale, plan->keep_weights);
        }
    }
    return join_blocks(work, work->scale);
}

// The token at a place of the order; -1 where fewer can be drawn.
static int32_t take_rank(struct work *work, int32_t rank) {
    struct sampling_list *list = &work->list;
    float from = bound_top_k(work, rank);
    collect(work, from, INFINITY);
    if (list->n < rank) {
        return -1;
    }
    count_equally(list);
    return sampling_select_prefix(&work->selection, list, rank, from, work->largest).last_id;
}

static int32_t sample(struct work *work, const struct plan *plan,
                      const struct sampling_params *params) {
    if (params->temperature == 0) {
        return find_largest(work);
    }
    if (plan->lists) {
        return sample_top_k(work, params);
    }
    double total = weigh_row(work, plan);
    if (params->top_p < 1) {
        return sample_top_p(work, (double)params->top_p * total, total);
    }
    return draw_from_blocks(work, no_cut);
}

// -sum p log p of the row as it came, at temperature 1: blocks in order, in f64.
static float entropy_of(const struct work *work) {
    double mean = 0; // of logits relative to the largest
    for (int32_t block = 0; block < work->n_blocks; block++) {
        float weights[SAMPLING_BLOCK], sum;
        const float *logits = work->logits + block * SAMPLING_BLOCK;
        int32_t n = block_size(work, block);
        work->kernels->weigh(logits, n, &work->maxima[block], log2_e, &sum, weights);
        double part = 0;
        for (int32_t i = 0; i < n; i++) {
            part += weights[i] > 0
                        ? (double)weights[i] * ((double)logits[i] - (double)work->largest)
                        : 0;
        }
        mean += part * work->factors[block];
    }
    return (float)(log(work->total) - mean / work->total);
}

void sampling_draw(const struct sampling_kernels *kernels, float *logits, int32_t vocab,
                   struct sampling_row *row, void *scratch) {
    struct arena arena = {.base = scratch};
    struct work work;
    divide(&work, &arena, vocab);
    work.kernels = work.selection.kernels = kernels;
    work.logits = work.edit.logits = logits;
    struct plan plan = make_plan(&work, row);
    double log_sum;
    row->token_id = -1;
    row->logprob = -INFINITY;
    row->not_finite = !read_row(&work, &plan, &log_sum);
    if (row->not_finite) {
        return;
    }
    if (work.largest > -INFINITY) {
        row->entropy = row->wants_entropy ? entropy_of(&work) : 0;
        if (plan.edited) {
            edit_row(&work, row);
        }
    }
    if (row->given > 0) {
        row->token_id = row->given - 1;
    } else if (work.largest > -INFINITY) {
        work.u = rng_uniform(row->seed, row->lineage, row->position, 0);
        row->token_id =
            row->rank > 0 ? take_rank(&work, row->rank) : sample(&work, &plan, row->params);
    }
    if (row->token_id >= 0) {
        row->logprob = (float)((double)sampling_edit_original(&work.edit, row->token_id) - log_sum);
    }
    if (row->given > 0 && row->logprob == -INFINITY) {
        row->token_id = -1;
    }
}
