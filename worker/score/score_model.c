#include "worker/score/score_model.h"

#include <stdlib.h>
#include <string.h>

#include "worker/score/readings.h"

enum {
    IDS_CAPACITY = 1024,      // first size of the scratch for ids
    CLOSING_TOKENS_MAX = 256, // one for a byte of PROFILE_SCORE_AFTER_BYTES at most
    // A text waits for one of its neighbours in the call that it shares so many ids more with than
    // with what was read before, in at most so many rounds.
    WAIT_TOKENS = 2,
    ROUNDS_MAX = 4,
    NEIGHBOURS = 32,
};

// One state's part of a round: ids[done .. total) are read now.
struct forward_work {
    int32_t extension; // index, for the caller
    int32_t done;      // ids read so far
    int32_t total;
};

struct model_scorer {
    struct scorer base;
    struct model_context *context;
    const struct tokenizer *tokenizer;
    bool shares_ids;
    bool append_eos;  // profile: finished texts are scored with the end token
    int32_t eos_id;   // -1 none
    int32_t *closing; // [n_closing], profile: what every text is read with behind it
    int32_t n_closing;
    int32_t padding_id;  // that the pooling of a CLASS head skips; -1 none
    int32_t output_rows; // positions that one forward call may score
    int32_t context_tokens;
    struct readings *readings; // of finished texts
    // Scratch of a batch.
    int *rounds;                // [capacity], in which each extension is read; 0: not yet planned
    struct forward_work *work;  // [capacity]
    struct forward_item *items; // [capacity]
    int32_t capacity;
    float *scores; // [output_rows]
    int32_t *ids;  // [ids_capacity + 1], one candidate's text in own tokens, an end token
    size_t ids_capacity;
};

struct model_job {
    struct scorer_job base;
    int32_t *prefix; // [n_prefix + n_appended], prompt in the scorer's template
    int32_t n_prefix;
    int32_t n_appended;        // closing or end tokens behind it
    bool eos_append;           // cost_eos of the job, cost role only
    struct sequence *sequence; // holds the prefix; NULL while not prepared
    float prefix_score;        // after the prefix
    float prompt_score;        // the same, an appended end token counted
};

struct model_state {
    struct scorer_state base;
    struct sequence *sequence; // prefix and ids
    int32_t *ids;              // [capacity], what was read after the prefix
    float *scores;             // [capacity], after each id
    int32_t *owners;           // [capacity], policy token that each id's score belongs to
    int32_t n_ids;
    int32_t capacity;
    int32_t n_policy_tokens; // at the last extension
    int32_t n_appended;      // of the extension under way: ids that follow ids[n_ids], forgotten
    bool ends_with_eos;      // the last of ids is an end token
};

#define PADDING_MESSAGE                                                                            \
    "%s has no effect: the end token is the padding token too, which the model's pooling skips; "  \
    "pooling last in its profile reads it"

static struct model_scorer *scorer_of(const struct scorer_job *job) {
    return (struct model_scorer *)job->scorer;
}

// What is read behind a text and forgotten: the profile's closing, or an end token.
static int32_t appended_ids(const struct model_scorer *scorer, bool end_token,
                            const int32_t **ids) {
    if (scorer->n_closing > 0) {
        *ids = scorer->closing;
        return scorer->n_closing;
    }
    *ids = &scorer->eos_id;
    return end_token && scorer->eos_id >= 0 ? 1 : 0;
}

// Encodes the prompt; grows *ids until it fits.
static enum status encode_prompt(const struct model_scorer *scorer,
                                 const struct scorer_job_spec *spec, struct model_job *job,
                                 struct error *err) {
    size_t count = 0;
    size_t capacity = 256;
    for (;;) {
        size_t room = capacity + 1 + (size_t)scorer->n_closing;
        int32_t *ids = realloc(job->prefix, room * sizeof *ids);
        if (ids == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a prompt");
        }
        job->prefix = ids;
        count = 0;
        enum status status =
            template_encode(spec->template, &spec->chat, ids, capacity, &count, err);
        if (status == STATUS_LIMIT && count > capacity) {
            capacity = count;
            continue;
        }
        if (status != STATUS_OK) {
            return status;
        }
        break;
    }
    const int32_t *appended = NULL;
    int32_t may_append = appended_ids(scorer, scorer->append_eos || job->eos_append, &appended);
    int32_t limit = scorer->context_tokens;
    int64_t needed = (int64_t)count + (scorer->shares_ids ? spec->max_tokens : 1) + may_append;
    if (count == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "prompt", "is empty");
    }
    if (needed > limit) {
        const char *end = may_append == 0         ? ""
                          : scorer->n_closing > 0 ? ", with the tokens of its score_after,"
                          : job->eos_append       ? ", with the end token that cost_eos appends,"
                                            : ", with the end token that its append_eos appends,";
        return error_set(err, STATUS_LIMIT, "prompt",
                         "%zu tokens and max_tokens %d%s are above the scorer's context of %d "
                         "tokens",
                         count, spec->max_tokens, end, limit);
    }
    job->n_prefix = (int32_t)count;
    job->n_appended = appended_ids(scorer, job->eos_append, &appended);
    memcpy(job->prefix + count, appended, (size_t)job->n_appended * sizeof *appended);
    return STATUS_OK;
}

static void job_unload(struct scorer_job *base) {
    struct model_job *job = (struct model_job *)base;
    readings_forget(scorer_of(base)->readings, job);
    sequence_destroy(scorer_of(base)->context, job->sequence);
    job->sequence = NULL;
}

static void job_close(struct scorer_job *base) {
    struct model_job *job = (struct model_job *)base;
    job_unload(base);
    free(job->prefix);
    free(job);
}

static enum status job_open(struct scorer *base, const struct scorer_job_spec *spec,
                            struct scorer_job **out, struct error *err) {
    struct model_scorer *scorer = (struct model_scorer *)base;
    if (spec->lexical != NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical",
                         "only the scorer named lexical takes these parameters");
    }
    bool eos_append = spec->cost_eos_append && spec->role == SCORER_ROLE_COST;
    if (eos_append && scorer->n_closing > 0) {
        return error_set(err, STATUS_UNSUPPORTED, "name",
                         "cost_eos append: the model's profile says what a text is read with, in "
                         "score_after");
    }
    if (eos_append && scorer->eos_id >= 0 && scorer->eos_id == scorer->padding_id) {
        return error_set(err, STATUS_UNSUPPORTED, "name", PADDING_MESSAGE, "cost_eos append");
    }
    if (eos_append && scorer->eos_id < 0) {
        return error_set(err, STATUS_UNSUPPORTED, "name",
                         "the model has no end token to append for cost_eos");
    }
    struct model_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a job");
    }
    job->base = (struct scorer_job){.scorer = base, .role = spec->role};
    job->eos_append = eos_append;
    enum status status = encode_prompt(scorer, spec, job, err);
    if (status != STATUS_OK) {
        job_close(&job->base);
        return status;
    }
    *out = &job->base;
    return STATUS_OK;
}

static enum status reserve_work(struct model_scorer *scorer, int32_t n) {
    if (n <= scorer->capacity) {
        return STATUS_OK;
    }
    struct forward_work *work = realloc(scorer->work, (size_t)n * sizeof *work);
    if (work == NULL) {
        return STATUS_NO_MEMORY;
    }
    scorer->work = work;
    struct forward_item *items = realloc(scorer->items, (size_t)n * sizeof *items);
    if (items == NULL) {
        return STATUS_NO_MEMORY;
    }
    scorer->items = items;
    int *rounds = realloc(scorer->rounds, (size_t)n * sizeof *rounds);
    if (rounds == NULL) {
        return STATUS_NO_MEMORY;
    }
    scorer->rounds = rounds;
    scorer->capacity = n;
    return STATUS_OK;
}

// Tokens up to the one whose score is that of ids[n]: the rightmost that is not padding, or the
// first, as transformers' *ForSequenceClassification pools one sequence.
static int32_t scored_length(const struct model_scorer *scorer, const int32_t *ids, int32_t n) {
    while (n > 1 && ids[n - 1] == scorer->padding_id) {
        n--;
    }
    return n;
}

// The prefix is read up to its score. What is left of it, and an appended end token, which is
// forgotten again.
static enum status finish_prefix(struct model_scorer *scorer, struct model_job *job,
                                 struct error *err) {
    int32_t n_read = sequence_length(job->sequence);
    int32_t scored = scored_length(scorer, job->prefix, job->n_prefix + job->n_appended);
    int32_t total = scored > job->n_prefix ? scored : job->n_prefix;
    job->prompt_score = job->prefix_score;
    if (total == n_read) {
        return STATUS_OK;
    }
    const struct forward_item item = {.sequence = job->sequence,
                                      .token_ids = job->prefix + n_read,
                                      .n_tokens = total - n_read,
                                      .output = FORWARD_OUTPUT_LAST};
    scorer->base.counts.prompt_tokens += item.n_tokens;
    enum status status = model_forward(scorer->context, &item, 1, err);
    if (status == STATUS_OK) {
        status = model_score_outputs(scorer->context, scorer->scores);
    }
    if (status == STATUS_OK && scored > n_read) {
        job->prompt_score = scorer->scores[0];
    }
    sequence_truncate(scorer->context, job->sequence, job->n_prefix);
    return status;
}

// Lists the next jobs that are not prepared, at most output_rows, each with a sequence; *next moves
// past them.
static enum status list_prefixes(struct model_scorer *scorer, struct scorer_job *const *jobs,
                                 int32_t n, int32_t *next, int32_t *n_items, struct error *err) {
    for (; *next < n && *n_items < scorer->output_rows; (*next)++) {
        struct model_job *job = (struct model_job *)jobs[*next];
        if (job->sequence != NULL) {
            continue;
        }
        job->sequence = sequence_create(scorer->context);
        if (job->sequence == NULL) {
            return error_set(err, STATUS_LIMIT, NULL, "no sequence is free for a prompt");
        }
        int32_t n_tokens = scored_length(scorer, job->prefix, job->n_prefix);
        scorer->items[*n_items] = (struct forward_item){.sequence = job->sequence,
                                                        .token_ids = job->prefix,
                                                        .n_tokens = n_tokens,
                                                        .output = FORWARD_OUTPUT_LAST};
        scorer->work[(*n_items)++].extension = *next;
        scorer->base.counts.prompt_tokens += n_tokens;
    }
    return STATUS_OK;
}

// Reads the prefixes of at most output_rows jobs that are not prepared; *next moves past them.
static enum status prepare_some(struct model_scorer *scorer, struct scorer_job *const *jobs,
                                int32_t n, int32_t *next, struct error *err) {
    int32_t n_items = 0;
    enum status status = list_prefixes(scorer, jobs, n, next, &n_items, err);
    if (status == STATUS_OK && n_items > 0) {
        status = model_forward(scorer->context, scorer->items, n_items, err);
    }
    if (status == STATUS_OK && n_items > 0) {
        status = model_score_outputs(scorer->context, scorer->scores);
    }
    for (int32_t k = 0; k < n_items && status == STATUS_OK; k++) {
        ((struct model_job *)jobs[scorer->work[k].extension])->prefix_score = scorer->scores[k];
    }
    for (int32_t k = 0; k < n_items && status == STATUS_OK; k++) {
        status = finish_prefix(scorer, (struct model_job *)jobs[scorer->work[k].extension], err);
    }
    for (int32_t k = 0; k < n_items && status != STATUS_OK; k++) {
        job_unload(jobs[scorer->work[k].extension]);
    }
    return status;
}

static enum status prepare(struct scorer *base, struct scorer_job *const *jobs, int32_t n,
                           struct error *err) {
    struct model_scorer *scorer = (struct model_scorer *)base;
    if (reserve_work(scorer, n) != STATUS_OK) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a batch of %d", n);
    }
    enum status status = STATUS_OK;
    for (int32_t next = 0; next < n && status == STATUS_OK;) {
        status = prepare_some(scorer, jobs, n, &next, err);
    }
    return status;
}

static float prompt_score(const struct scorer_job *base) {
    return ((const struct model_job *)base)->prompt_score;
}

static enum status reserve_ids(struct model_state *state, int32_t n) {
    if (n <= state->capacity) {
        return STATUS_OK;
    }
    int32_t capacity = 2 * n;
    size_t count = (size_t)capacity;
    int32_t *ids = realloc(state->ids, count * sizeof *ids);
    if (ids != NULL) {
        state->ids = ids;
    }
    float *scores = realloc(state->scores, count * sizeof *scores);
    if (scores != NULL) {
        state->scores = scores;
    }
    int32_t *owners = realloc(state->owners, count * sizeof *owners);
    if (owners != NULL) {
        state->owners = owners;
    }
    if (ids == NULL || scores == NULL || owners == NULL) {
        return STATUS_NO_MEMORY;
    }
    state->capacity = capacity;
    return STATUS_OK;
}

static void state_drop(struct scorer_state *base) {
    struct model_state *state = (struct model_state *)base;
    sequence_destroy(scorer_of(base->job)->context, state->sequence);
    free(state->ids);
    free(state->scores);
    free(state->owners);
    free(state);
}

static enum status state_new(struct scorer_job *job, const struct sequence *parent,
                             struct model_state **out) {
    struct model_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    state->base.job = job;
    state->sequence = sequence_fork(scorer_of(job)->context, parent, sequence_length(parent));
    if (state->sequence == NULL) {
        free(state);
        return STATUS_LIMIT;
    }
    *out = state;
    return STATUS_OK;
}

static enum status state_open(struct scorer_job *base, struct scorer_state **out) {
    struct model_job *job = (struct model_job *)base;
    ASSERT(job->sequence != NULL);
    struct model_state *state = NULL;
    enum status status = state_new(base, job->sequence, &state);
    if (status == STATUS_OK) {
        *out = &state->base;
    }
    return status;
}

static enum status state_fork(const struct scorer_state *base, struct scorer_state **out) {
    const struct model_state *parent = (const struct model_state *)base;
    struct model_state *state = NULL;
    enum status status = state_new(base->job, parent->sequence, &state);
    if (status != STATUS_OK) {
        return status;
    }
    status = reserve_ids(state, parent->n_ids);
    if (status != STATUS_OK) {
        state_drop(&state->base);
        return status;
    }
    size_t n = (size_t)parent->n_ids;
    if (n > 0) {
        memcpy(state->ids, parent->ids, n * sizeof *state->ids);
        memcpy(state->scores, parent->scores, n * sizeof *state->scores);
        memcpy(state->owners, parent->owners, n * sizeof *state->owners);
    }
    state->n_ids = parent->n_ids;
    state->n_policy_tokens = parent->n_policy_tokens;
    *out = &state->base;
    return STATUS_OK;
}

// The ids that the scorer reads for `text`: borrowed from it, or in the scorer's scratch.
static enum status encode_response(struct model_scorer *scorer, const struct scorer_text *text,
                                   const int32_t **ids, int32_t *n_ids, struct error *err) {
    if (scorer->shares_ids) {
        *ids = text->token_ids;
        *n_ids = text->empty ? 0 : text->n_tokens - (text->ended && scorer->n_closing > 0);
        return STATUS_OK;
    }
    size_t bytes = (size_t)text->text_ends[text->n_tokens - 1];
    size_t count = 0;
    enum status status =
        tokenizer_encode(scorer->tokenizer, text->text, bytes, TOKENIZER_CONTINUATION, scorer->ids,
                         scorer->ids_capacity, &count, err);
    if (status == STATUS_LIMIT && count > scorer->ids_capacity) {
        size_t capacity = 2 * count;
        int32_t *grown = realloc(scorer->ids, (capacity + 1) * sizeof *grown);
        if (grown == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu tokens", count);
        }
        scorer->ids = grown;
        scorer->ids_capacity = capacity;
        status = tokenizer_encode(scorer->tokenizer, text->text, bytes, TOKENIZER_CONTINUATION,
                                  scorer->ids, scorer->ids_capacity, &count, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (text->ended && scorer->eos_id >= 0 && scorer->n_closing == 0) {
        scorer->ids[count++] = scorer->eos_id;
    }
    *ids = scorer->ids;
    *n_ids = (int32_t)count;
    return STATUS_OK;
}

static int32_t min_int(int32_t a, int32_t b) {
    return a < b ? a : b;
}

// owners[i] = policy token in whose text the last byte of ids[i] falls. Returns the first policy
// token that gained or lost one of the first `kept` ids, which stood there before; n_tokens when
// none did.
static int32_t find_owners(const struct model_scorer *scorer, const struct scorer_text *text,
                           struct model_state *state, int32_t kept) {
    int32_t changed = text->n_tokens;
    int32_t owner = 0;
    int64_t end = 0;
    for (int32_t i = 0; i < state->n_ids; i++) {
        const char *bytes = NULL;
        size_t count = 0;
        if (scorer->shares_ids) {
            owner = i;
        } else if (text->ended && state->ids[i] == scorer->eos_id && i == state->n_ids - 1) {
            owner = text->n_tokens - 1;
        } else if (tokenizer_token_bytes(scorer->tokenizer, state->ids[i], 0, &bytes, &count) ==
                   STATUS_OK) {
            end += (int64_t)count;
            while (owner < text->n_tokens - 1 && text->text_ends[owner] < end) {
                owner++;
            }
        }
        if (i < kept && state->owners[i] != owner) {
            changed = min_int(changed, min_int(state->owners[i], owner));
        }
        state->owners[i] = owner;
    }
    return changed;
}

// What has been read already and begins like the ids of a text.
struct source {
    const struct sequence *sequence;
    const float *scores; // [length]
    int32_t length;      // ids in common; 0: nothing
};

// The text of the same job that shares most with `ids` among those before extensions[index] in the
// call, near it, where those of one job and parent stand: of the round under way, which are yet to
// be read, or of earlier ones.
static struct source find_neighbour(const struct model_scorer *scorer,
                                    const struct scorer_extension *extensions, int32_t index,
                                    const int32_t *ids, int32_t n_ids, int round, bool under_way) {
    struct source best = {.length = 0};
    const struct scorer_job *job = extensions[index].state->job;
    int32_t first = index - NEIGHBOURS > 0 ? index - NEIGHBOURS : 0;
    for (int32_t i = first; i < index; i++) {
        const struct model_state *state = (const struct model_state *)extensions[i].state;
        int planned = scorer->rounds[i];
        if (state->base.job != job || planned == 0 || (planned == round) != under_way) {
            continue;
        }
        int32_t length = readings_common(ids, n_ids, state->ids, state->n_ids);
        if (length > best.length) {
            best = (struct source){state->sequence, state->scores, length};
        }
    }
    return best;
}

// The best of what was read before the round under way; kept readings are for finished texts, which
// may differ from those that they grew from.
static struct source find_source(const struct model_scorer *scorer,
                                 const struct scorer_extension *extensions, int32_t index,
                                 const int32_t *ids, int32_t n_ids, int round) {
    struct source best = find_neighbour(scorer, extensions, index, ids, n_ids, round, false);
    if (extensions[index].text.finished) {
        int32_t length = 0;
        const struct reading *reading =
            readings_find(scorer->readings, extensions[index].state->job, ids, n_ids, &length);
        if (length > best.length) {
            best = (struct source){reading->sequence, reading->scores, length};
        }
    }
    return best;
}

// Takes from the source what is more than the first `kept` of the state's new ids. Returns how many
// of them need not be read.
static int32_t take_source(struct model_scorer *scorer, struct model_state *state, int32_t kept,
                           struct source source) {
    if (source.length <= kept) {
        return kept;
    }
    const struct model_job *job = (const struct model_job *)state->base.job;
    sequence_assign(scorer->context, state->sequence, source.sequence);
    sequence_truncate(scorer->context, state->sequence, job->n_prefix + source.length);
    memcpy(state->scores + kept, source.scores + kept,
           (size_t)(source.length - kept) * sizeof *state->scores);
    return source.length;
}

// Gives the state its new ids: the ids that stay are `kept`, the KV is cut there. Sets scores_from
// to the first policy token whose score may differ from before. Returns `kept`.
static int32_t replace_ids(struct model_scorer *scorer, struct scorer_extension *extension,
                           struct model_state *state, const int32_t *ids, int32_t n_ids) {
    const struct model_job *job = (const struct model_job *)state->base.job;
    int32_t kept = readings_common(ids, n_ids, state->ids, state->n_ids);
    int32_t from = state->n_policy_tokens;
    if (kept < state->n_ids) {
        from = min_int(from, state->owners[kept]);
        sequence_truncate(scorer->context, state->sequence, job->n_prefix + kept);
    }
    if (n_ids > kept) {
        memcpy(state->ids + kept, ids + kept, (size_t)(n_ids - kept) * sizeof *ids);
    }
    state->n_ids = n_ids;
    state->n_policy_tokens = extension->text.n_tokens;
    from = min_int(from, find_owners(scorer, &extension->text, state, kept));
    extension->scores_from = kept < n_ids ? min_int(from, state->owners[kept]) : from;
    return kept;
}

// Decides what one candidate's state reads now; *waits: nothing yet, in a round that is not the
// last. A failure is the extension's own.
static enum status plan_extension(struct model_scorer *scorer, struct scorer_extension *extensions,
                                  int round, bool *waits, struct forward_work *work) {
    struct scorer_extension *extension = &extensions[work->extension];
    struct model_state *state = (struct model_state *)extension->state;
    const struct model_job *job = (const struct model_job *)state->base.job;
    const struct scorer_text *text = &extension->text;
    const int32_t *ids = NULL;
    int32_t n_ids = 0;
    enum status status = encode_response(scorer, text, &ids, &n_ids, &extension->error);
    if (status != STATUS_OK) {
        return status;
    }
    struct source source = find_source(scorer, extensions, work->extension, ids, n_ids, round);
    int32_t there = readings_common(ids, n_ids, state->ids, state->n_ids);
    there = source.length > there ? source.length : there;
    *waits = round < ROUNDS_MAX &&
             find_neighbour(scorer, extensions, work->extension, ids, n_ids, round, true).length >=
                 there + WAIT_TOKENS;
    if (*waits) {
        return STATUS_OK;
    }
    bool end_token = !text->ended && ((text->finished && scorer->append_eos) || job->eos_append);
    const int32_t *appended = NULL;
    int32_t n_appended = appended_ids(scorer, end_token, &appended);
    int32_t limit = scorer->context_tokens;
    if ((int64_t)job->n_prefix + n_ids + n_appended > limit) {
        return error_set(&extension->error, STATUS_LIMIT, "max_tokens",
                         "prompt and response of %d tokens are above the scorer's context of %d",
                         job->n_prefix + n_ids + n_appended, limit);
    }
    if (reserve_ids(state, n_ids + n_appended + 1) != STATUS_OK) {
        return error_set(&extension->error, STATUS_NO_MEMORY, NULL, "no memory for %d tokens",
                         n_ids);
    }
    int32_t kept = replace_ids(scorer, extension, state, ids, n_ids);
    state->ends_with_eos =
        text->ended && scorer->n_closing == 0 && (scorer->shares_ids || scorer->eos_id >= 0);
    state->n_appended = n_appended;
    memcpy(state->ids + n_ids, appended, (size_t)n_appended * sizeof *appended);
    work->done = take_source(scorer, state, kept, source);
    work->total = n_ids + n_appended;
    return STATUS_OK;
}

// Padding has the score of what stands before it.
static void take_scores(const struct model_scorer *scorer, struct model_state *state, int32_t begin,
                        int32_t count, const float *scores) {
    const struct model_job *job = (const struct model_job *)state->base.job;
    for (int32_t i = begin; i < begin + count; i++) {
        bool padding = state->ids[i] == scorer->padding_id;
        float before = i > 0 ? state->scores[i - 1] : job->prefix_score;
        state->scores[i] = padding ? before : scores[i - begin];
    }
}

// Reads the ids of all work, at most output_rows in one call, longer ones in pieces.
static enum status forward_work(struct model_scorer *scorer,
                                const struct scorer_extension *extensions, int32_t n_work,
                                struct error *err) {
    int32_t first = 0;
    while (first < n_work) {
        int32_t rows = 0;
        int32_t n_items = 0;
        for (int32_t w = first; w < n_work && rows < scorer->output_rows; w++) {
            const struct forward_work *work = &scorer->work[w];
            const struct model_state *state =
                (const struct model_state *)extensions[work->extension].state;
            int32_t count = min_int(work->total - work->done, scorer->output_rows - rows);
            state->base.job->response_tokens += count;
            scorer->items[n_items++] = (struct forward_item){.sequence = state->sequence,
                                                             .token_ids = state->ids + work->done,
                                                             .n_tokens = count,
                                                             .output = FORWARD_OUTPUT_ALL};
            rows += count;
        }
        scorer->base.counts.response_tokens += rows;
        enum status status = model_forward(scorer->context, scorer->items, n_items, err);
        if (status == STATUS_OK) {
            status = model_score_outputs(scorer->context, scorer->scores);
        }
        if (status != STATUS_OK) {
            return status;
        }
        const float *scores = scorer->scores;
        for (int32_t i = 0; i < n_items; i++) {
            struct forward_work *work = &scorer->work[first + i];
            struct model_state *state = (struct model_state *)extensions[work->extension].state;
            int32_t count = scorer->items[i].n_tokens;
            take_scores(scorer, state, work->done, count, scores);
            scores += count;
            work->done += count;
        }
        while (first < n_work && scorer->work[first].done == scorer->work[first].total) {
            first++;
        }
    }
    return STATUS_OK;
}

static void report(struct model_scorer *scorer, struct scorer_extension *extension) {
    struct model_state *state = (struct model_state *)extension->state;
    const struct model_job *job = (const struct model_job *)state->base.job;
    if (state->n_appended > 0) {
        extension->end_score = state->scores[state->n_ids + state->n_appended - 1];
        sequence_truncate(scorer->context, state->sequence, job->n_prefix + state->n_ids);
    } else {
        extension->end_score =
            state->n_ids > 0 ? state->scores[state->n_ids - 1] : job->prefix_score;
    }
    if (extension->text.finished) {
        readings_keep(scorer->readings, job, state->sequence, state->ids, state->scores,
                      state->n_ids);
    }
    if (extension->token_scores == NULL) {
        return;
    }
    int32_t from = extension->scores_from;
    for (int32_t t = from; t < extension->text.n_tokens; t++) {
        extension->token_scores[t] = 0;
    }
    int32_t n_text = state->n_ids - (state->ends_with_eos ? 1 : 0);
    for (int32_t i = 0; i < n_text; i++) {
        if (state->owners[i] >= from) {
            extension->token_scores[state->owners[i]] += state->scores[i];
        }
    }
}

// A round: all extensions that are left but those that had better wait.
static enum status extend_some(struct model_scorer *scorer, struct scorer_extension *extensions,
                               int32_t n, int round, int32_t *n_left, struct error *err) {
    int32_t n_work = 0;
    for (int32_t i = 0; i < n; i++) {
        if (scorer->rounds[i] > 0) {
            continue;
        }
        struct forward_work work = {.extension = i};
        bool later = false;
        enum status status = plan_extension(scorer, extensions, round, &later, &work);
        if (status == STATUS_NO_MEMORY) {
            return error_set(err, status, NULL, "%s", extensions[i].error.message);
        }
        if (status == STATUS_OK && later) {
            continue;
        }
        scorer->rounds[i] = round;
        *n_left -= 1;
        if (status == STATUS_OK && work.done < work.total) {
            scorer->work[n_work++] = work;
        } else if (status == STATUS_OK) {
            report(scorer, &extensions[i]);
        }
    }
    enum status status = forward_work(scorer, extensions, n_work, err);
    for (int32_t w = 0; w < n_work && status == STATUS_OK; w++) {
        report(scorer, &extensions[scorer->work[w].extension]);
    }
    return status;
}

static enum status extend(struct scorer *base, struct scorer_extension *extensions, int32_t n,
                          struct error *err) {
    struct model_scorer *scorer = (struct model_scorer *)base;
    if (reserve_work(scorer, n) != STATUS_OK) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a batch of %d", n);
    }
    memset(scorer->rounds, 0, (size_t)n * sizeof *scorer->rounds);
    enum status status = STATUS_OK;
    int32_t n_left = n;
    for (int round = 1; n_left > 0 && status == STATUS_OK; round++) {
        status = extend_some(scorer, extensions, n, round, &n_left, err);
    }
    return status;
}

static void forget(struct scorer *base) {
    readings_forget_all(((struct model_scorer *)base)->readings);
}

static void model_scorer_close(struct scorer *base) {
    struct model_scorer *scorer = (struct model_scorer *)base;
    readings_destroy(scorer->readings);
    free(scorer->rounds);
    free(scorer->work);
    free(scorer->items);
    free(scorer->scores);
    free(scorer->ids);
    free(scorer->closing);
    free(scorer);
}

static const struct scorer_ops model_scorer_ops = {
    .name = "model",
    .job_open = job_open,
    .job_close = job_close,
    .prepare = prepare,
    .job_unload = job_unload,
    .prompt_score = prompt_score,
    .state_open = state_open,
    .state_fork = state_fork,
    .state_drop = state_drop,
    .extend = extend,
    .forget = forget,
    .close = model_scorer_close,
};

// The profile's score_after in the model's own tokens.
static enum status encode_closing(struct model_scorer *scorer, const char *text,
                                  struct error *err) {
    size_t count = 0;
    scorer->closing = malloc(CLOSING_TOKENS_MAX * sizeof *scorer->closing);
    if (scorer->closing == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a scorer");
    }
    enum status status = tokenizer_encode(scorer->tokenizer, text, strlen(text),
                                          TOKENIZER_PARSE_SPECIAL | TOKENIZER_CONTINUATION,
                                          scorer->closing, CLOSING_TOKENS_MAX, &count, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "score_after");
        return status;
    }
    scorer->n_closing = (int32_t)count;
    bool padding = true;
    for (size_t i = 0; i < count; i++) {
        padding = padding && scorer->closing[i] == scorer->padding_id;
    }
    return count > 0 && padding
               ? error_set(err, STATUS_UNSUPPORTED, "score_after", PADDING_MESSAGE, "score_after")
               : STATUS_OK;
}

enum status score_model_open(const struct score_model_options *options, struct scorer **out,
                             struct error *err) {
    const struct model *model = model_context_model(options->context);
    const struct model_config *config = model_get_config(model);
    if (config->head == MODEL_HEAD_LM) {
        return error_set(err, STATUS_UNSUPPORTED, "architectures",
                         "a scorer needs a sequence classification or score head");
    }
    int32_t eos_id = tokenizer_eos_id(options->tokenizer);
    eos_id = eos_id >= 0 ? eos_id : config->n_eos > 0 ? config->eos_ids[0] : -1;
    bool append_eos = model_get_profile(model)->append_eos;
    if (append_eos && eos_id < 0) {
        return error_set(err, STATUS_UNSUPPORTED, "append_eos", "the model has no end token");
    }
    bool skips = config->head == MODEL_HEAD_CLASS && !model_get_profile(model)->pools_last;
    int32_t padding_id = skips ? config->pad_id : -1;
    if (append_eos && eos_id == padding_id) {
        return error_set(err, STATUS_UNSUPPORTED, "append_eos", PADDING_MESSAGE, "append_eos");
    }
    struct model_scorer *scorer = calloc(1, sizeof *scorer);
    if (scorer == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a scorer");
    }
    *scorer = (struct model_scorer){
        .base.ops = &model_scorer_ops,
        .context = options->context,
        .tokenizer = options->tokenizer,
        .shares_ids = tokenizer_fingerprint(options->tokenizer) ==
                          tokenizer_fingerprint(options->policy_tokenizer) &&
                      tokenizer_vocab_size(options->tokenizer) <= config->vocab_size,
        .append_eos = append_eos,
        .eos_id = eos_id,
        .padding_id = padding_id,
        .output_rows = options->output_rows,
        .context_tokens = options->context_tokens,
    };
    scorer->scores = calloc((size_t)options->output_rows, sizeof *scorer->scores);
    scorer->ids = malloc((IDS_CAPACITY + 1) * sizeof *scorer->ids);
    scorer->ids_capacity = IDS_CAPACITY;
    if (scorer->scores == NULL || scorer->ids == NULL) {
        model_scorer_close(&scorer->base);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a scorer");
    }
    if (readings_create(options->context, options->kept_readings, &scorer->readings) != STATUS_OK) {
        model_scorer_close(&scorer->base);
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a scorer");
    }
    enum status status = encode_closing(scorer, model_get_profile(model)->score_after, err);
    if (status != STATUS_OK) {
        model_scorer_close(&scorer->base);
        return status;
    }
    *out = &scorer->base;
    return STATUS_OK;
}

bool score_model_shares_ids(const struct scorer *scorer) {
    return ((const struct model_scorer *)scorer)->shares_ids;
}
