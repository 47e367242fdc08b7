#include "worker/decode/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "worker/backend/backend.h"

// A live task on its way to a new leader.
struct follower {
    const struct decode_task *task;
    int32_t slot;   // in `live`
    int32_t leader; // before
};

struct decoder {
    struct model_context *context;
    struct proposal *proposal;
    struct proposal plain;
    struct backend *backend;
    struct tensor states; // [n_states, hidden], device
    struct tensor batch;  // [batch_rows, hidden], device: o_t of the step's candidates
    int32_t *free_states; // [n_states], stack
    int32_t n_free;
    // Ids that are never drawn (rows of a padded vocabulary without a token), then the end tokens,
    // which are not drawn before min_tokens.
    int32_t *forbidden;
    int32_t n_never;
    int32_t n_forbidden;
    int32_t batch_rows;
    struct sampling_row *rows;  // [batch_rows]
    struct decode_move *moves;  // [batch_rows]
    struct forward_item *items; // [batch_rows]
    int32_t *row_index;         // [batch_rows]
    int32_t *live;              // [batch_rows], indices of the tasks that grow
    int32_t *targets;           // [batch_rows], tokens that each of them grows to
    int32_t *leaders;           // [batch_rows], task that was read for each of them: itself, or one
                                // of the same tokens, whose sequence and o_t stand for its own
    struct follower *followers; // [batch_rows], scratch of a step
    int32_t *copies;            // [2, batch_rows], scratch: states from, to
    struct decoder_counts counts;
};

static enum status draw_plain(struct proposal *proposal, struct model_context *context,
                              struct tensor *states, const struct decode_move *moves,
                              struct sampling_row *rows, int32_t n) {
    (void)proposal;
    (void)moves;
    struct tensor logits;
    enum status status = model_logits(context, states, &logits);
    if (status != STATUS_OK) {
        return status;
    }
    struct backend *backend = model_get_backend(model_context_model(context));
    return backend->ops->sample(backend, &logits, rows, n);
}

const struct proposal_ops proposal_plain_ops = {.name = "plain", .draw = draw_plain};

size_t decoder_bytes(const struct model_context *context, const struct decoder_options *options) {
    int32_t hidden = model_get_config(model_context_model(context))->hidden_dim;
    size_t states = (size_t)options->n_states, rows = (size_t)options->batch_rows;
    return (states + rows) * (size_t)hidden * sizeof(float) + states * sizeof(int32_t) +
           rows * (sizeof(struct sampling_row) + sizeof(struct decode_move) +
                   sizeof(struct forward_item) + sizeof(struct follower) + 6 * sizeof(int32_t));
}

static bool is_end_id(const struct model_config *config, const struct tokenizer *tokenizer,
                      int32_t id) {
    if (id >= tokenizer_vocab_size(tokenizer)) {
        return false;
    }
    for (int32_t i = 0; i < config->n_eos; i++) {
        if (config->eos_ids[i] == id) {
            return true;
        }
    }
    return tokenizer_is_end(tokenizer, id);
}

static enum status collect_forbidden(struct decoder *decoder, const struct tokenizer *tokenizer) {
    const struct model_config *config = model_get_config(model_context_model(decoder->context));
    decoder->forbidden = malloc((size_t)config->vocab_size * sizeof *decoder->forbidden);
    if (decoder->forbidden == NULL) {
        return STATUS_NO_MEMORY;
    }
    int32_t n = 0;
    for (int32_t id = tokenizer_vocab_size(tokenizer); id < config->vocab_size; id++) {
        decoder->forbidden[n++] = id;
    }
    decoder->n_never = n;
    for (int32_t id = 0; id < config->vocab_size; id++) {
        if (is_end_id(config, tokenizer, id)) {
            decoder->forbidden[n++] = id;
        }
    }
    decoder->n_forbidden = n;
    return STATUS_OK;
}

static enum status take_tensor(struct backend *backend, struct tensor *out, int32_t rows,
                               int32_t cols) {
    *out = (struct tensor){.dtype = DTYPE_F32, .rows = rows, .cols = cols};
    out->data = backend->ops->alloc(backend, (size_t)rows * (size_t)cols * sizeof(float));
    return out->data != NULL ? STATUS_OK : STATUS_NO_MEMORY;
}

static enum status allocate(struct decoder *decoder, const struct decoder_options *options) {
    const struct model_config *config = model_get_config(model_context_model(decoder->context));
    int32_t hidden = config->hidden_dim;
    size_t rows = (size_t)options->batch_rows;
    decoder->free_states = malloc((size_t)options->n_states * sizeof *decoder->free_states);
    decoder->rows = malloc(rows * sizeof *decoder->rows);
    decoder->moves = malloc(rows * sizeof *decoder->moves);
    decoder->items = malloc(rows * sizeof *decoder->items);
    decoder->row_index = malloc(rows * sizeof *decoder->row_index);
    decoder->live = malloc(rows * sizeof *decoder->live);
    decoder->targets = malloc(rows * sizeof *decoder->targets);
    decoder->leaders = malloc(rows * sizeof *decoder->leaders);
    decoder->followers = malloc(rows * sizeof *decoder->followers);
    decoder->copies = malloc(2 * rows * sizeof *decoder->copies);
    if (decoder->moves == NULL || decoder->leaders == NULL || decoder->followers == NULL ||
        decoder->copies == NULL) {
        return STATUS_NO_MEMORY;
    }
    if (decoder->free_states == NULL || decoder->rows == NULL || decoder->items == NULL ||
        decoder->row_index == NULL || decoder->live == NULL || decoder->targets == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t i = 0; i < options->n_states; i++) {
        decoder->free_states[i] = options->n_states - 1 - i;
    }
    decoder->n_free = options->n_states;
    enum status status = take_tensor(decoder->backend, &decoder->states, options->n_states, hidden);
    if (status == STATUS_OK) {
        status = take_tensor(decoder->backend, &decoder->batch, options->batch_rows, hidden);
    }
    if (status == STATUS_OK) {
        struct tensor logits = {.dtype = DTYPE_F32, .cols = config->vocab_size};
        status = decoder->backend->ops->sample(decoder->backend, &logits, decoder->rows, 0);
    }
    return status;
}

enum status decoder_create(struct model_context *context, const struct tokenizer *tokenizer,
                           struct proposal *proposal, const struct decoder_options *options,
                           struct decoder **out) {
    ASSERT(options->n_states > 0 && options->batch_rows > 0);
    struct decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) {
        return STATUS_NO_MEMORY;
    }
    decoder->context = context;
    decoder->backend = model_get_backend(model_context_model(context));
    decoder->plain.ops = &proposal_plain_ops;
    decoder->proposal = proposal != NULL ? proposal : &decoder->plain;
    decoder->batch_rows = options->batch_rows;
    enum status status = collect_forbidden(decoder, tokenizer);
    if (status == STATUS_OK) {
        status = allocate(decoder, options);
    }
    if (status != STATUS_OK) {
        decoder_destroy(decoder);
        return status;
    }
    *out = decoder;
    return STATUS_OK;
}

void decoder_destroy(struct decoder *decoder) {
    if (decoder == NULL) {
        return;
    }
    if (decoder->states.data != NULL) {
        decoder->backend->ops->release(decoder->backend, decoder->states.data);
    }
    if (decoder->batch.data != NULL) {
        decoder->backend->ops->release(decoder->backend, decoder->batch.data);
    }
    free(decoder->forbidden);
    free(decoder->free_states);
    free(decoder->rows);
    free(decoder->moves);
    free(decoder->items);
    free(decoder->row_index);
    free(decoder->live);
    free(decoder->targets);
    free(decoder->leaders);
    free(decoder->followers);
    free(decoder->copies);
    free(decoder);
}

void decoder_get_counts(const struct decoder *decoder, struct decoder_counts *counts) {
    *counts = decoder->counts;
}

int32_t decoder_state_acquire(struct decoder *decoder) {
    return decoder->n_free > 0 ? decoder->free_states[--decoder->n_free] : -1;
}

void decoder_state_release(struct decoder *decoder, int32_t state) {
    if (state < 0) {
        return;
    }
    ASSERT(decoder->n_free < decoder->states.rows);
    decoder->free_states[decoder->n_free++] = state;
}

const struct tensor *decoder_states(const struct decoder *decoder) {
    return &decoder->states;
}

void decoder_state_copy(struct decoder *decoder, const int32_t *from, const int32_t *to,
                        int32_t n) {
    const struct backend_ops *ops = decoder->backend->ops;
    for (int32_t begin = 0; begin < n; begin += decoder->batch_rows) {
        int32_t left = n - begin;
        struct tensor batch = decoder->batch;
        batch.rows = left < decoder->batch_rows ? left : decoder->batch_rows;
        ops->gather_rows(decoder->backend, &batch, &decoder->states, from + begin, batch.rows);
        ops->scatter_rows(decoder->backend, &decoder->states, &batch, to + begin, batch.rows);
    }
}

enum status decoder_state_read(const struct decoder *decoder, int32_t state, float *out) {
    size_t hidden = (size_t)decoder->states.cols;
    ASSERT(state >= 0 && state < decoder->states.rows);
    return decoder->backend->ops->download(
        decoder->backend, out, (const float *)decoder->states.data + (size_t)state * hidden,
        hidden * sizeof *out);
}

bool decoder_is_end(const struct decoder *decoder, int32_t token_id) {
    for (int32_t i = decoder->n_never; i < decoder->n_forbidden; i++) {
        if (decoder->forbidden[i] == token_id) {
            return true;
        }
    }
    return false;
}

// Runs items[n] and keeps the state of each one's last token in the row named by row_index.
static enum status forward_and_keep(struct decoder *decoder, int32_t n, struct error *err) {
    enum status status = model_forward(decoder->context, decoder->items, n, err);
    if (status != STATUS_OK) {
        return status;
    }
    ASSERT(model_output_count(decoder->context) == n);
    struct tensor outputs = *model_outputs(decoder->context);
    outputs.rows = n;
    decoder->backend->ops->scatter_rows(decoder->backend, &decoder->states, &outputs,
                                        decoder->row_index, n);
    return STATUS_OK;
}

enum status decoder_prefill(struct decoder *decoder, const struct decode_prefill *items, int32_t n,
                            struct error *err) {
    enum status status = STATUS_OK;
    for (int32_t begin = 0; begin < n && status == STATUS_OK; begin += decoder->batch_rows) {
        int32_t left = n - begin;
        int32_t count = left < decoder->batch_rows ? left : decoder->batch_rows;
        for (int32_t i = 0; i < count; i++) {
            const struct decode_prefill *item = &items[begin + i];
            decoder->items[i] = (struct forward_item){.sequence = item->sequence,
                                                      .token_ids = item->token_ids,
                                                      .n_tokens = item->n_tokens,
                                                      .output = FORWARD_OUTPUT_LAST};
            decoder->row_index[i] = item->state;
            decoder->counts.prefill_tokens += item->n_tokens;
        }
        status = forward_and_keep(decoder, count, err);
    }
    return status;
}

// Start of the earliest stop string that ends in the text after `from_bytes`, -1 for none.
static int32_t find_stop(const struct response *response, const struct decode_params *params,
                         int32_t from_bytes) {
    int32_t earliest = -1;
    for (int32_t i = 0; i < params->n_stops; i++) {
        const struct decode_stop *stop = &params->stops[i];
        int32_t begin = from_bytes - stop->bytes + 1;
        begin = begin > 0 ? begin : 0;
        if (response->text_bytes - begin < stop->bytes) {
            continue;
        }
        const char *match = memmem(response->text + begin, (size_t)(response->text_bytes - begin),
                                   stop->text, (size_t)stop->bytes);
        if (match != NULL && (earliest < 0 || match - response->text < earliest)) {
            earliest = (int32_t)(match - response->text);
        }
    }
    return earliest;
}

// The policy's numbers left no token to draw.
static void fail_task(struct decode_task *task, const struct sampling_row *row) {
    error_set(&task->error, STATUS_DEVICE, "policy",
              row->not_finite && task->params->move.steps > 0
                  ? "the logits after %d tokens of the response are NaN or infinite: the "
                    "model's numbers overflow, or the steps along its value are too long"
              : row->not_finite
                  ? "the logits after %d tokens of the response are NaN or infinite: the "
                    "model's numbers overflow"
              : task->rank > 0 ? "after %d tokens of the response fewer tokens are left than "
                                 "the rank that is asked for"
                               : "no token can be drawn after %d tokens of the response: every "
                                 "logit is minus infinity, or its token forbidden",
              task->response->n_tokens);
}

static enum status append_token(struct decoder *decoder, const struct decode_task *task,
                                const struct sampling_row *row) {
    struct response *response = task->response;
    int32_t text_before = response->text_bytes;
    bool is_end = decoder_is_end(decoder, row->token_id);
    enum status status = response_append(response, row->token_id, row->logprob, is_end);
    if (status != STATUS_OK) {
        return status;
    }
    // A cut character at the end can be what a stop string waits for.
    bool is_last = is_end || response->n_tokens >= task->params->max_tokens;
    if (is_last) {
        status = response_flush(response);
    }
    bool may_stop = response->n_tokens >= task->params->min_tokens;
    int32_t stop = may_stop ? find_stop(response, task->params, text_before) : -1;
    if (status == STATUS_OK && (stop >= 0 || is_last)) {
        response_end(response,
                     stop >= 0 ? DECODE_FINISH_STOP
                     : is_end  ? DECODE_FINISH_EOS
                               : DECODE_FINISH_LENGTH,
                     stop);
    }
    return status;
}

// What takes a token by its rank takes the raw logits.
static const struct sampling_params raw_params = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1};

// `target`: how long the response is at the end of the block.
static void fill_row(const struct decoder *decoder, const struct decode_task *task, int32_t target,
                     struct sampling_row *row) {
    const struct decode_params *params = task->params;
    const struct response *response = task->response;
    bool may_end = response->n_tokens >= params->min_tokens;
    *row = (struct sampling_row){
        .params = task->rank > 0           ? &raw_params
                  : task->sampling != NULL ? task->sampling
                                           : &params->sampling,
        .penalty = task->penalty,
        .rank = task->rank,
        .given = task->given != NULL
                     ? task->given[response->n_tokens - (target - task->grow_tokens)] + 1
                     : 0,
        .wants_entropy = task->entropy_stop > 0,
        .prompt_ids = params->prompt_ids,
        .n_prompt = params->n_prompt,
        .response_ids = response->token_ids,
        .n_response = response->n_tokens,
        .forbidden_ids = decoder->forbidden,
        .n_forbidden = may_end ? decoder->n_never : decoder->n_forbidden,
        .seed = params->seed,
        .lineage = task->lineage,
        .position = (uint32_t)response->n_tokens,
        .token_id = -1,
    };
}

// Whether the block ends before the token that was drawn; `target` is where it ends at the latest.
static bool ends_before(const struct decode_task *task, int32_t target,
                        const struct sampling_row *row) {
    int32_t grown = task->response->n_tokens - (target - task->grow_tokens);
    return task->entropy_stop > 0 && grown >= task->entropy_after &&
           row->entropy >= task->entropy_stop;
}

static int compare_numbers(int64_t a, int64_t b) {
    return a < b ? -1 : a > b ? 1 : 0;
}

static uint32_t newest_token(const struct decode_task *task) {
    return (uint32_t)task->response->token_ids[task->response->n_tokens - 1];
}

// By the leader so far and the token that was drawn since, then by slot.
static int compare_followers(const void *left, const void *right) {
    const struct follower *a = left;
    const struct follower *b = right;
    int order = compare_numbers(a->leader, b->leader);
    order = order != 0 ? order : compare_numbers(newest_token(a->task), newest_token(b->task));
    return order != 0 ? order : compare_numbers(a->slot, b->slot);
}

// Those of followers[n] that drew the same token after the same ones get one leader, which the
// model is to read: lists it in items. Returns how many are listed.
static int32_t choose_leaders(struct decoder *decoder, struct decode_task *tasks,
                              const int32_t *live, int32_t n) {
    struct follower *followers = decoder->followers;
    qsort(followers, (size_t)n, sizeof *followers, compare_followers);
    int32_t n_items = 0;
    for (int32_t begin = 0, end = 0; begin < n; begin = end) {
        int32_t before = followers[begin].leader;
        int32_t leader = live[followers[begin].slot];
        for (; end < n && followers[end].leader == before &&
               newest_token(followers[end].task) == newest_token(followers[begin].task);
             end++) {
            leader = live[followers[end].slot] == before ? before : leader;
        }
        if (leader != before) {
            sequence_assign(decoder->context, tasks[leader].sequence, tasks[before].sequence);
        }
        for (int32_t i = begin; i < end; i++) {
            decoder->leaders[followers[i].slot] = leader;
        }
        const struct response *response = tasks[leader].response;
        decoder->items[n_items] =
            (struct forward_item){.sequence = tasks[leader].sequence,
                                  .token_ids = &response->token_ids[response->n_tokens - 1],
                                  .n_tokens = 1,
                                  .output = FORWARD_OUTPUT_LAST};
        decoder->row_index[n_items++] = tasks[leader].state;
    }
    return n_items;
}

// One token for the tasks named by live[count], but for those whose block ends before it.
static enum status step(struct decoder *decoder, struct decode_task *tasks, const int32_t *live,
                        int32_t count, struct error *err) {
    for (int32_t i = 0; i < count; i++) {
        const struct decode_task *task = &tasks[live[i]];
        decoder->row_index[i] = tasks[decoder->leaders[i]].state;
        decoder->moves[i] = task->params->move;
        fill_row(decoder, task, decoder->targets[i], &decoder->rows[i]);
    }
    struct tensor batch = decoder->batch;
    batch.rows = count;
    decoder->backend->ops->gather_rows(decoder->backend, &batch, &decoder->states,
                                       decoder->row_index, count);
    enum status status = decoder->proposal->ops->draw(decoder->proposal, decoder->context, &batch,
                                                      decoder->moves, decoder->rows, count);
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "drawing the next tokens failed");
    }
    decoder->counts.steps++;
    decoder->counts.sampled_tokens += count;
    int32_t n_going = 0;
    for (int32_t i = 0; i < count; i++) {
        struct decode_task *task = &tasks[live[i]];
        if (decoder->rows[i].token_id < 0) {
            fail_task(task, &decoder->rows[i]);
            continue;
        }
        task->cut = ends_before(task, decoder->targets[i], &decoder->rows[i]);
        if (task->cut) {
            continue;
        }
        status = append_token(decoder, task, &decoder->rows[i]);
        if (status != STATUS_OK) {
            return error_set(err, status == STATUS_LIMIT ? STATUS_INTERNAL : status, NULL,
                             "token %d could not be appended", decoder->rows[i].token_id);
        }
        if (task->response->finish == DECODE_FINISH_NONE) {
            decoder->followers[n_going++] =
                (struct follower){.task = task, .slot = i, .leader = decoder->leaders[i]};
        }
    }
    int32_t n_items = choose_leaders(decoder, tasks, live, n_going);
    decoder->counts.read_tokens += n_items;
    return n_items > 0 ? forward_and_keep(decoder, n_items, err) : STATUS_OK;
}

// By job, tokens and what ends a block, so that blocks of those that are read as one end together;
// then by slot.
static int compare_texts(const void *left, const void *right) {
    const struct follower *a = left;
    const struct follower *b = right;
    const struct decode_task *x = a->task;
    const struct decode_task *y = b->task;
    const int64_t keys[][2] = {
        {(intptr_t)x->params, (intptr_t)y->params},
        {x->entropy_after, y->entropy_after},
        {x->response->n_tokens, y->response->n_tokens},
    };
    int order = x->entropy_stop < y->entropy_stop ? -1 : x->entropy_stop > y->entropy_stop ? 1 : 0;
    for (size_t i = 0; order == 0 && i < sizeof keys / sizeof keys[0]; i++) {
        order = compare_numbers(keys[i][0], keys[i][1]);
    }
    if (order == 0 && x->response->n_tokens > 0) {
        order = memcmp(x->response->token_ids, y->response->token_ids,
                       (size_t)x->response->n_tokens * sizeof *x->response->token_ids);
    }
    return order != 0 ? order : compare_numbers(a->slot, b->slot);
}

static bool same_text(const struct follower *a, const struct follower *b) {
    struct follower other = *b;
    other.slot = a->slot;
    return compare_texts(a, &other) == 0;
}

// Of the tasks from live[first] on, those of one job with the same tokens follow the first of them.
static void lead_newcomers(struct decoder *decoder, const struct decode_task *tasks, int32_t first,
                           int32_t n_live) {
    struct follower *followers = decoder->followers;
    int32_t n = n_live - first;
    for (int32_t i = 0; i < n; i++) {
        followers[i] =
            (struct follower){.task = &tasks[decoder->live[first + i]], .slot = first + i};
    }
    qsort(followers, (size_t)n, sizeof *followers, compare_texts);
    for (int32_t i = 0; i < n; i++) {
        bool follows = i > 0 && same_text(&followers[i - 1], &followers[i]);
        int32_t leader =
            follows ? decoder->leaders[followers[i - 1].slot] : decoder->live[followers[i].slot];
        decoder->leaders[followers[i].slot] = leader;
    }
}

// Fills free places of the batch with the next tasks; returns how many it has now.
static int32_t refill(struct decoder *decoder, struct decode_task *tasks, int32_t n, int32_t *next,
                      int32_t n_live) {
    int32_t first = n_live;
    while (n_live < decoder->batch_rows && *next < n) {
        struct decode_task *task = &tasks[*next];
        ASSERT(task->grow_tokens > 0 && task->response->finish == DECODE_FINISH_NONE);
        ASSERT(task->entropy_stop <= 0 || task->entropy_after > 0);
        task->error = (struct error){.status = STATUS_OK};
        task->cut = false;
        decoder->targets[n_live] = task->response->n_tokens + task->grow_tokens;
        decoder->live[n_live++] = (*next)++;
    }
    lead_newcomers(decoder, tasks, first, n_live);
    return n_live;
}

static bool goes_on(const struct decoder *decoder, const struct decode_task *tasks, int32_t slot) {
    const struct decode_task *task = &tasks[decoder->live[slot]];
    return task->error.status == STATUS_OK && !task->cut &&
           task->response->finish == DECODE_FINISH_NONE &&
           task->response->n_tokens < decoder->targets[slot];
}

// Tasks whose blocks end leave with a sequence and an o_t of their own, unless their texts ended;
// returns how many stay. Who follows one that left may do so until it has drawn another token.
static int32_t dismiss(struct decoder *decoder, struct decode_task *tasks, int32_t n_live) {
    int32_t *from = decoder->copies, *to = decoder->copies + decoder->batch_rows;
    int32_t n_copies = 0;
    for (int32_t i = 0; i < n_live; i++) {
        const struct decode_task *task = &tasks[decoder->live[i]];
        const struct decode_task *leader = &tasks[decoder->leaders[i]];
        if (task != leader && !goes_on(decoder, tasks, i) && task->error.status == STATUS_OK &&
            task->response->finish == DECODE_FINISH_NONE) {
            sequence_assign(decoder->context, task->sequence, leader->sequence);
            from[n_copies] = leader->state;
            to[n_copies++] = task->state;
        }
    }
    decoder_state_copy(decoder, from, to, n_copies);
    int32_t kept = 0;
    for (int32_t i = 0; i < n_live; i++) {
        if (goes_on(decoder, tasks, i)) {
            decoder->targets[kept] = decoder->targets[i];
            decoder->leaders[kept] = decoder->leaders[i];
            decoder->live[kept++] = decoder->live[i];
        }
    }
    return kept;
}

enum status decoder_grow(struct decoder *decoder, struct decode_task *tasks, int32_t n,
                         struct error *err) {
    int32_t next = 0;
    int32_t n_live = 0;
    while ((n_live = refill(decoder, tasks, n, &next, n_live)) > 0) {
        enum status status = step(decoder, tasks, decoder->live, n_live, err);
        if (status != STATUS_OK) {
            return status;
        }
        n_live = dismiss(decoder, tasks, n_live);
    }
    return STATUS_OK;
}
