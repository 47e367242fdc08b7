// What does it cost that two scorers read along? One rank grows N candidates in blocks of d tokens,
// a reward and a cost model score every block, the best K stay and are forked into the next N, the
// others are dropped: the work of InferenceGuard without the service around it. Prints one CSV
// line: tokens that the scorers read for each token written, their time beside the policy's, and
// the work of their products beside the policy's. docs/measuring.md defines the columns.
//
//   bench_scorers [--shape 110m] [--dtype bf16] [--n 32] [--block-tokens 16] [--max-tokens 64]
//   bench_scorers --policy DIR --reward DIR --cost DIR
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/arguments.h"
#include "benchmarks/machine.h"
#include "benchmarks/median.h"
#include "benchmarks/model_work.h"
#include "benchmarks/random_model.h"
#include "client/cli/service.h"
#include "proto/limits.h"
#include "worker/group/rank.h"

enum { REPEATS_MAX = 101, PROMPT_BYTES_MAX = 1 << 16, MODELS = 3, PATH_BYTES = 4096 };

struct settings {
    const char *models[MODELS]; // directories of policy, reward, cost
    struct random_model_options shape;
    enum precision precision;
    uint32_t n, survivors, block_tokens, max_tokens, prompt_bytes;
    uint32_t n_threads, n_repeats;
    char prompt[PROMPT_BYTES_MAX + 1];
};

struct candidate {
    uint64_t id;
    uint32_t *tokens; // [max_tokens], owned
    uint32_t n_tokens;
    float reward;
    bool done;
};

// One job under way.
struct search {
    const struct settings *settings;
    struct rank *rank;
    uint64_t job_id;
    uint64_t last_id;
    struct candidate *candidates; // [n], the newest generation, best first once it is ranked
    struct candidate *children;   // [n], the next one
    Surefoot__OrderItem *items;   // [n]
    Surefoot__OrderItem **item_list;
    uint64_t *released; // [2 n]
    size_t n_released;
    double decode_ms, score_ms;
    double prompt_ms;
    uint32_t prompt_tokens;
    double written; // tokens that the policy sampled, of all jobs and without the prompts' orders
    double read[2]; // tokens that the scorers read, likewise
};

static void search_close(struct search *search) {
    for (uint32_t i = 0; i < search->settings->n; i++) {
        free(search->candidates != NULL ? search->candidates[i].tokens : NULL);
        free(search->children != NULL ? search->children[i].tokens : NULL);
    }
    free(search->candidates);
    free(search->children);
    free(search->items);
    free(search->item_list);
    free(search->released);
}

static enum status search_open(struct search *search, const struct settings *settings,
                               struct rank *rank, struct error *err) {
    const size_t n = settings->n;
    *search = (struct search){.settings = settings, .rank = rank};
    search->candidates = calloc(n, sizeof *search->candidates);
    search->children = calloc(n, sizeof *search->children);
    search->items = calloc(n, sizeof *search->items);
    search->item_list = calloc(n, sizeof *search->item_list);
    search->released = calloc(2 * n, sizeof *search->released);
    bool complete = search->candidates != NULL && search->children != NULL &&
                    search->items != NULL && search->item_list != NULL && search->released != NULL;
    for (size_t i = 0; i < n && complete; i++) {
        search->candidates[i].tokens = calloc(settings->max_tokens, sizeof(uint32_t));
        search->children[i].tokens = calloc(settings->max_tokens, sizeof(uint32_t));
        complete = search->candidates[i].tokens != NULL && search->children[i].tokens != NULL;
    }
    return complete ? STATUS_OK
                    : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu candidates", n);
}

// Adds an item of `child`, which starts as a copy of `parent` (NULL: the prompt).
static void add_item(struct search *search, Surefoot__Order *order, struct candidate *child,
                     const struct candidate *parent, uint32_t grow_tokens) {
    Surefoot__OrderItem *item = &search->items[order->n_items];
    child->id = ++search->last_id;
    child->n_tokens = parent != NULL ? parent->n_tokens : 0;
    child->done = false;
    if (parent != NULL) {
        memcpy(child->tokens, parent->tokens, parent->n_tokens * sizeof *parent->tokens);
    }
    surefoot__order_item__init(item);
    item->job_id = search->job_id;
    item->candidate_id = child->id;
    item->parent_id = parent != NULL ? parent->id : 0;
    item->tokens = child->tokens;
    item->n_tokens = child->n_tokens;
    item->grow_tokens = grow_tokens;
    search->item_list[order->n_items++] = item;
    order->items = search->item_list;
}

static enum status take_row(const Surefoot__Row *row, struct candidate *child, struct error *err) {
    if (row->error != NULL) {
        wire_error_read(row->error, err);
        return err->status;
    }
    memcpy(child->tokens + child->n_tokens, row->token_ids,
           row->n_token_ids * sizeof *row->token_ids);
    child->n_tokens += (uint32_t)row->n_token_ids;
    child->done = row->finish != 0;
    child->reward = row->scores[0]->end_score;
    return STATUS_OK;
}

static enum status execute(struct search *search, Surefoot__Order *order,
                           struct candidate *children, struct error *err) {
    Surefoot__Gathered *gathered = NULL;
    enum status status = rank_execute(search->rank, order, 0, &gathered, err);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < gathered->n_rows && status == STATUS_OK; i++) {
        status = take_row(gathered->rows[i], &children[i], err);
        search->prompt_tokens = gathered->rows[i]->prompt_tokens;
    }
    search->decode_ms += gathered->decode_ms;
    search->score_ms += gathered->score_ms;
    wire_free(WIRE_GATHERED, gathered);
    return status;
}

// Opens the job and grows one candidate by one token, so that the prompt is read and its time is
// known; the candidate is dropped with the next order.
static enum status read_prompt(struct search *search, struct error *err) {
    Surefoot__ScorerSpec specs[2] = {SUREFOOT__SCORER_SPEC__INIT, SUREFOOT__SCORER_SPEC__INIT};
    Surefoot__ScorerSpec *spec_list[2] = {&specs[0], &specs[1]};
    Surefoot__GroupJob job = SUREFOOT__GROUP_JOB__INIT, *job_list = &job;
    job.date = (char *)"2026-01-01"; // a constant: no template here asks for it
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    specs[0].name = "reward";
    specs[1].name = "cost";
    job.job_id = search->job_id;
    job.prompt = (char *)search->settings->prompt;
    job.seed = search->job_id;
    // One more than is grown: a text that ends is read again where its tokens are not the
    // tokenizer's own, as the random ones of a model without training are.
    job.max_tokens = search->settings->max_tokens + 1;
    job.scorers = spec_list;
    job.n_scorers = 2;
    order.jobs = &job_list;
    order.n_jobs = 1;
    search->last_id = 0;
    search->decode_ms = search->score_ms = 0;
    add_item(search, &order, &search->children[0], NULL, 1);
    enum status status = execute(search, &order, search->children, err);
    search->prompt_ms = search->decode_ms + search->score_ms;
    search->decode_ms = search->score_ms = 0;
    search->released[0] = search->children[0].id;
    search->n_released = 1;
    return status;
}

static int compare_candidates(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->done != y->done) {
        return x->done ? 1 : -1; // what has ended cannot grow
    }
    return x->reward != y->reward ? (x->reward < y->reward ? 1 : -1) : x->id < y->id ? -1 : 1;
}

// How many of the ranked candidates are forked.
static uint32_t count_parents(const struct search *search) {
    uint32_t n = 0;
    while (n < search->settings->survivors && !search->candidates[n].done) {
        n++;
    }
    return n;
}

// Drops what was not chosen, forks the first n_parents candidates (0: the prompt), grows the forks.
static enum status grow(struct search *search, uint32_t n_parents, struct error *err) {
    const struct settings *settings = search->settings;
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    Surefoot__ReleaseCandidates release = SUREFOOT__RELEASE_CANDIDATES__INIT;
    Surefoot__ReleaseCandidates *release_list = &release;
    for (uint32_t i = n_parents; n_parents > 0 && i < settings->n; i++) {
        search->released[search->n_released++] = search->candidates[i].id;
    }
    release.job_id = search->job_id;
    release.candidate_ids = search->released;
    release.n_candidate_ids = search->n_released;
    order.releases = &release_list;
    order.n_releases = 1;
    for (uint32_t i = 0; i < settings->n; i++) {
        const struct candidate *parent = n_parents > 0 ? &search->candidates[i % n_parents] : NULL;
        uint32_t written = parent != NULL ? parent->n_tokens : 0;
        uint32_t left = settings->max_tokens - written;
        add_item(search, &order, &search->children[i], parent,
                 left < settings->block_tokens ? left : settings->block_tokens);
    }
    enum status status = execute(search, &order, search->children, err);
    // The parents have done their part; they go with the next order.
    search->n_released = 0;
    for (uint32_t i = 0; i < n_parents; i++) {
        search->released[search->n_released++] = search->candidates[i].id;
    }
    struct candidate *ranked = search->children;
    search->children = search->candidates;
    search->candidates = ranked;
    qsort(ranked, settings->n, sizeof *ranked, compare_candidates);
    return status;
}

static void add_counts(struct search *search, const struct rank_counts *before) {
    struct rank_counts after;
    rank_get_counts(search->rank, &after);
    search->written += (double)(after.sampled_tokens - before->sampled_tokens);
    for (int i = 0; i < 2; i++) {
        search->read[i] +=
            (double)(after.scorers[i].response_tokens - before->scorers[i].response_tokens);
    }
}

// Ends early when every candidate that would be forked has ended its text.
static enum status grow_all(struct search *search, struct error *err) {
    const struct settings *settings = search->settings;
    struct rank_counts before;
    rank_get_counts(search->rank, &before);
    enum status status = grow(search, 0, err);
    for (uint32_t written = settings->block_tokens;
         written < settings->max_tokens && status == STATUS_OK; written += settings->block_tokens) {
        uint32_t n_parents = count_parents(search);
        if (n_parents == 0) {
            break;
        }
        status = grow(search, n_parents, err);
    }
    add_counts(search, &before);
    return status;
}

static enum status run_job(struct search *search, uint64_t job_id, struct error *err) {
    search->job_id = job_id;
    enum status status = read_prompt(search, err);
    if (status == STATUS_OK) {
        status = grow_all(search, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    Surefoot__ReleaseCandidates release = SUREFOOT__RELEASE_CANDIDATES__INIT;
    Surefoot__ReleaseCandidates *release_list = &release;
    Surefoot__Order order = SUREFOOT__ORDER__INIT;
    release.job_id = job_id;
    release.whole_job = true;
    order.releases = &release_list;
    order.n_releases = 1;
    return execute(search, &order, NULL, err);
}

// Means and medians of one job.
struct outcome {
    double written, read[2];
    double decode_ms, score_ms, prompt_ms;
    uint32_t prompt_tokens;
};

static enum status measure(const struct settings *settings, struct rank *rank, struct outcome *out,
                           struct error *err) {
    double decode_ms[REPEATS_MAX], score_ms[REPEATS_MAX], prompt_ms[REPEATS_MAX];
    struct search search;
    enum status status = search_open(&search, settings, rank, err);
    if (status == STATUS_OK) {
        status = run_job(&search, 1, err); // pays for pages that later jobs use
    }
    search.written = search.read[0] = search.read[1] = 0;
    for (uint32_t i = 0; i < settings->n_repeats && status == STATUS_OK; i++) {
        status = run_job(&search, 2 + i, err);
        decode_ms[i] = search.decode_ms;
        score_ms[i] = search.score_ms;
        prompt_ms[i] = search.prompt_ms;
    }
    if (status == STATUS_OK) {
        out->written = search.written / settings->n_repeats;
        out->read[0] = search.read[0] / settings->n_repeats;
        out->read[1] = search.read[1] / settings->n_repeats;
        out->prompt_tokens = search.prompt_tokens;
        out->decode_ms = median_sort(decode_ms, settings->n_repeats);
        out->score_ms = median_sort(score_ms, settings->n_repeats);
        out->prompt_ms = median_sort(prompt_ms, settings->n_repeats);
    }
    search_close(&search);
    return status;
}

static enum status print_outcome(const struct settings *settings, const struct outcome *outcome,
                                 const struct machine *machine, struct error *err) {
    struct model_work work[MODELS];
    for (int i = 0; i < MODELS; i++) {
        struct model_config config;
        enum status status = model_config_read(settings->models[i], &config, err);
        if (status != STATUS_OK) {
            return status;
        }
        work[i] = model_work_of(&config);
    }
    const double written = outcome->written;
    const double *read = outcome->read;
    const double scorer_flops = model_work_product_flops(&work[1], read[0], read[0]) +
                                model_work_product_flops(&work[2], read[1], read[1]);
    const double policy_flops = model_work_product_flops(&work[0], written, written);
    const double peak = machine_product_peak(machine, settings->precision);
    const double rate = scorer_flops / outcome->score_ms * 1e3;
    puts("precision,threads,n,survivors,block,new,prompt,tokens,reward_read,cost_read,work_ratio,"
         "prompt_ms,decode_ms,score_ms,time_ratio,decode_tps,score_gflops,score_peak_percent,"
         "peak_rss_mb");
    printf("%s,%u,%u,%u,%u,%u,%u,%.0f,%.4f,%.4f,%.3f,%.2f,%.2f,%.2f,%.3f,%.1f,%.1f,%.1f,%.0f\n",
           precision_name(settings->precision), settings->n_threads, settings->n,
           settings->survivors, settings->block_tokens, settings->max_tokens,
           outcome->prompt_tokens, written, read[0] / written, read[1] / written,
           scorer_flops / policy_flops, outcome->prompt_ms, outcome->decode_ms, outcome->score_ms,
           outcome->score_ms / outcome->decode_ms, written / outcome->decode_ms * 1e3, rate * 1e-9,
           machine_percent(rate, peak), (double)machine_peak_rss_bytes() / (1 << 20));
    return STATUS_OK;
}

static enum status run(const struct settings *settings, struct error *err) {
    const struct rank_options options = {
        .policy_directory = settings->models[0],
        .scorers = {{"reward", settings->models[1]}, {"cost", settings->models[2]}},
        .n_scorers = 2,
        .backend = "cpu",
        .threads = (int)settings->n_threads,
        .precision = settings->precision,
        .slots = (int)settings->n,
        // Two generations of candidates, prompts in the scorers' templates, partly filled blocks.
        .kv_tokens = 2 * (settings->prompt_bytes + 256) +
                     2 * (int64_t)settings->n * (settings->max_tokens + 32),
    };
    struct machine machine;
    struct rank *rank = NULL;
    struct outcome outcome = {0};
    machine_measure((int)settings->n_threads, &machine);
    machine_print(&machine, stdout);
    enum status status = rank_open(&options, &rank, err);
    if (status == STATUS_OK) {
        status = measure(settings, rank, &outcome, err);
    }
    if (status == STATUS_OK) {
        status = print_outcome(settings, &outcome, &machine, err);
    }
    rank_close(rank);
    return status;
}

// Runs with models of random weights in a directory that is gone afterwards.
static enum status run_random(struct settings *settings, struct error *err) {
    static const char *const names[] = {"policy", "reward", "cost"};
    static char paths[MODELS][PATH_BYTES];
    char directory[PATH_BYTES];
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.3900s/bench-scorers-XXXXXX",
             parent != NULL ? parent : "/tmp");
    if (mkdtemp(directory) == NULL) {
        return error_set(err, STATUS_IO, NULL, "cannot make %.200s", directory);
    }
    enum status status = random_model_write_guard(directory, &settings->shape, err);
    for (int i = 0; i < MODELS; i++) {
        snprintf(paths[i], PATH_BYTES, "%.4000s/%s", directory, names[i]);
        settings->models[i] = paths[i];
    }
    if (status == STATUS_OK) {
        status = run(settings, err);
    }
    service_remove_directory(directory);
    return status;
}

static enum status check(struct settings *settings, const char *shape, const char *dtype_name,
                         const char *precision, struct error *err) {
    static const char *const dtypes[] = {"f32", "f16", "bf16"};
    int dtype = 0, named = 0;
    for (int i = 0; i < MODELS; i++) {
        named += settings->models[i] != NULL;
    }
    if (named != 0 && named != MODELS) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--policy",
                         "--policy, --reward and --cost are named together or not at all");
    }
    if (!random_model_preset(shape, &settings->shape)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--shape",
                         "\"%.80s\" is not one of 15m, 110m, 1.1b, 7b", shape);
    }
    if (!precision_find(precision, &settings->precision)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--precision",
                         "\"%.80s\" is not one of stored, bf16, int8, q4", precision);
    }
    if (settings->survivors == 0) {
        settings->survivors = settings->n / 4 > 0 ? settings->n / 4 : 1;
    }
    if (settings->survivors > settings->n) {
        return error_set(err, STATUS_LIMIT, "--survivors", "%u is above --n %u",
                         settings->survivors, settings->n);
    }
    enum status status = arguments_choice("--dtype", dtype_name, dtypes, 3, &dtype, err);
    settings->shape.dtype = (enum dtype)dtype;
    memset(settings->prompt, 'a', settings->prompt_bytes);
    settings->prompt[settings->prompt_bytes] = '\0';
    return status;
}

static int parse(int argc, char **argv, struct settings *settings) {
    const char *shape = "15m", *dtype = "f32", *precision = "stored";
    const struct flag flags[] = {
        flag_text("policy", &settings->models[0], "DIR", "model that writes"),
        flag_text("reward", &settings->models[1], "DIR", "reward model"),
        flag_text("cost", &settings->models[2], "DIR", "cost model"),
        flag_text("shape", &shape, "NAME",
                  "of the models that are made where none are named; default 15m"),
        flag_text("dtype", &dtype, "NAME", "of their weights; default f32"),
        flag_text("precision", &precision, "NAME",
                  "of products: stored, bf16, int8 or q4; default stored"),
        flag_u32("n", &settings->n, 1, LIMIT_CANDIDATES, "N", "candidates; default 32"),
        flag_u32("survivors", &settings->survivors, 0, LIMIT_CANDIDATES, "K",
                 "that are forked after each block; default 0: a quarter of N"),
        flag_u32("block-tokens", &settings->block_tokens, 1, LIMIT_BLOCK_TOKENS, "D", "default 16"),
        flag_u32("max-tokens", &settings->max_tokens, 1, LIMIT_MAX_TOKENS, "N", "default 64"),
        flag_u32("prompt-bytes", &settings->prompt_bytes, 1, PROMPT_BYTES_MAX, "N",
                 "each a token of a model that is made; default 512"),
        flag_u32("threads", &settings->n_threads, 1, 256, "N", "default 2"),
        flag_u32("repeats", &settings->n_repeats, 1, REPEATS_MAX, "N",
                 "jobs of which the median is printed; default 3"),
        {.name = NULL},
    };
    const struct command_line line = {
        .program = "bench_scorers",
        .usage = "[FLAGS]",
        .about = "Measures what two scorers that read along cost; prints CSV.",
        .tables = {flags},
        .n_tables = 1,
    };
    struct error err = {0};
    int code = arguments_parse(&line, argc, argv, NULL);
    if (code < 0 && check(settings, shape, dtype, precision, &err) != STATUS_OK) {
        return arguments_fail(line.program, &err);
    }
    return code;
}

int main(int argc, char **argv) {
    static struct settings settings = {.n = 32,
                                       .block_tokens = 16,
                                       .max_tokens = 64,
                                       .prompt_bytes = 512,
                                       .n_threads = 2,
                                       .n_repeats = 3};
    struct error err = {0};
    int code = parse(argc - 1, argv + 1, &settings);
    if (code >= 0) {
        return code;
    }
    enum status status =
        settings.models[0] != NULL ? run(&settings, &err) : run_random(&settings, &err);
    return status == STATUS_OK ? 0 : arguments_fail("bench_scorers", &err);
}
