#include "tests/search/world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/support/testkit.h"

enum { WORLD_TOKENS_MAX = 4096 };

void world_init(struct world *world, uint64_t seed) {
    *world = (struct world){.seed = seed};
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        world->logits[v] = 2.0 * rng_uniform(seed, 1, v, 0);
        world->costs[v] = 1.2 * rng_uniform(seed, 2, v, 0) - 0.6;
        world->rewards[v] = 2.0 * rng_uniform(seed, 3, v, 0) - 1.0;
    }
    world->costs[WORLD_EOS] = 0.0;
}

struct search_spec world_spec(enum search_method method, enum search_selection selection,
                              uint32_t n, uint32_t block_tokens, uint32_t max_tokens) {
    return (struct search_spec){
        .method = method,
        .selection = selection,
        .n = n,
        .survivors = n >= 4 ? n / 4 : 1,
        .block_tokens = block_tokens,
        .block_growth = 1,
        .block_tokens_max = block_tokens,
        .n_min = n,
        .prefix_tokens_max = 8,
        .max_tokens = max_tokens,
        .tries = 2,
        .tilt.transform = TILT_TRANSFORM_NONE,
        .scorers = {{.weight = 1}, {.is_cost = true, .weight = 1}},
        .n_scorers = WORLD_SCORERS,
        .channels = {{.cost_mode = COST_MODE_TOKEN_SUM_POS,
                      .budget = 0.5,
                      .discount = 0.999,
                      .discount_unit = DISCOUNT_UNIT_TOKEN,
                      .admit_rule = ADMIT_RULE_TERMINAL}},
        .n_channels = 1,
        .discount = 0.999,
        .discount_unit = DISCOUNT_UNIT_TOKEN,
        .discount_reward = true,
        .lagrangian_lambda = 5.0,
        .fallback_penalty = FALLBACK_PENALTY_LOG1P,
        .fallback_weight = 1.0,
        .fallback_cap = 10.0,
        .early_stop = true,
        .segment_tokens_min = 1,
    };
}

static float token_cost(const struct world *world, uint32_t token, uint32_t position) {
    return (float)(world->costs[token] +
                   world->cost_noise * (rng_uniform(world->seed, 4, position, token) - 0.5));
}

void world_scores(struct search_score out[WORLD_SCORERS], double reward, const float *costs,
                  size_t n, uint32_t from) {
    out[0] = (struct search_score){.end_score = (float)reward};
    out[1] = (struct search_score){.end_score = n > 0 ? costs[n - 1] : 0,
                                   .token_scores = costs,
                                   .n_token_scores = n,
                                   .from = from};
}

// The token of a place by logit.
static uint32_t take_rank(const struct world *world, uint32_t rank) {
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        uint32_t before = 0;
        for (uint32_t other = 0; other < WORLD_VOCAB; other++) {
            before += world->logits[other] > world->logits[v] ||
                      (world->logits[other] == world->logits[v] && other < v);
        }
        if (before + 1 == rank) {
            return v;
        }
    }
    fail_msg("there is no token of rank %u", rank);
    return 0;
}

double world_logprob(const struct world *world, uint32_t token) {
    double total = 0.0;
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        total += exp(world->logits[v]);
    }
    return world->logits[token] - log(total);
}

// Nats of the next token's distribution, as far as segments ask.
static double entropy_at(const struct world *world, uint32_t position) {
    return 6.0 * rng_uniform(world->seed, 6, position, 0);
}

static uint32_t draw(const struct world *world, const struct search_grow *grow, uint32_t position) {
    double weights[WORLD_VOCAB];
    double total = 0.0;
    for (uint32_t v = 0; v < WORLD_VOCAB; v++) {
        double penalty = 0.0;
        for (uint32_t i = 0; i < grow->n_penalties; i++) {
            penalty = grow->penalty_ids[i] == v ? grow->penalties[i] : penalty;
        }
        weights[v] = exp(world->logits[v] - penalty);
        total += weights[v];
    }
    double left = total * rng_uniform(world->seed, grow->candidate_id, position, 0);
    for (uint32_t v = 0; v < WORLD_VOCAB - 1; v++) {
        left -= weights[v];
        if (left < 0.0) {
            return v;
        }
    }
    return WORLD_VOCAB - 1;
}

double world_reward(const struct world *world, const uint32_t *tokens, uint32_t n_tokens) {
    double sum = 0.0;
    for (uint32_t i = 0; i < n_tokens; i++) {
        sum += world->rewards[tokens[i]];
    }
    return sum;
}

double world_cost(const struct world *world, const struct search_spec *spec, const uint32_t *tokens,
                  uint32_t n_tokens) {
    double sum = 0.0;
    double weight = 1.0;
    for (uint32_t i = 0; i < n_tokens; i++) {
        double cost = token_cost(world, tokens[i], i);
        sum += weight *
               (spec->channels[0].cost_mode == COST_MODE_TOKEN_SUM_POS ? fmax(0.0, cost) : cost);
        weight *= spec->channels[0].discount;
    }
    return sum;
}

static void answer_grow(const struct world *world, const struct search_spec *spec,
                        struct search *search, const struct search_grow *grow) {
    uint32_t tokens[WORLD_TOKENS_MAX];
    float logprobs[WORLD_TOKENS_MAX];
    float costs[WORLD_TOKENS_MAX];
    assert_in_range(grow->n_tokens + grow->grow_tokens, 1, WORLD_TOKENS_MAX);
    if (grow->n_tokens > 0) {
        memcpy(tokens, grow->tokens, grow->n_tokens * sizeof *tokens);
    }
    uint32_t end = grow->n_tokens;
    enum search_finish finish = SEARCH_FINISH_NONE;
    while (end < grow->n_tokens + grow->grow_tokens && finish == SEARCH_FINISH_NONE) {
        if (grow->entropy_stop > 0 && end - grow->n_tokens >= grow->entropy_after &&
            entropy_at(world, end) >= (double)grow->entropy_stop) {
            break;
        }
        tokens[end] =
            grow->token_rank > 0 ? take_rank(world, grow->token_rank) : draw(world, grow, end);
        logprobs[end] = (float)world_logprob(world, tokens[end]);
        finish = tokens[end] == WORLD_EOS ? SEARCH_FINISH_EOS : SEARCH_FINISH_NONE;
        end++;
    }
    if (finish == SEARCH_FINISH_NONE && end == spec->max_tokens) {
        finish = SEARCH_FINISH_LENGTH;
    }
    for (uint32_t i = grow->n_tokens; i < end; i++) {
        costs[i] = token_cost(world, tokens[i], i);
    }
    char text[WORLD_TOKENS_MAX + 1];
    uint32_t n_text = end - (finish == SEARCH_FINISH_EOS ? 1 : 0);
    for (uint32_t i = 0; i < n_text; i++) {
        text[i] = (char)('a' + tokens[i]);
    }
    text[n_text] = '\0';
    struct search_score scores[WORLD_SCORERS];
    world_scores(scores, world_reward(world, tokens, end), costs + grow->n_tokens,
                 end - grow->n_tokens, grow->n_tokens);
    const struct search_row row = {
        .candidate_id = grow->candidate_id,
        .text = text,
        .token_ids = tokens + grow->n_tokens,
        .logprobs = logprobs + grow->n_tokens,
        .n_tokens = end - grow->n_tokens,
        .finish = finish,
        .scores = scores,
        .n_places = end,
    };
    struct error err;
    assert_ok(search_on_row(search, &row, &err), &err);
}

struct in_flight {
    struct search_grow grow;
    uint32_t *tokens;
    uint32_t *penalty_ids;
    float *penalties;
};

static void *copy(const void *bytes, size_t size) {
    void *out = malloc(size + 1);
    assert_non_null(out);
    if (size > 0) {
        memcpy(out, bytes, size);
    }
    return out;
}

// The grow's arrays are the search's; a group keeps its own copy, as the wire does.
static struct in_flight take_copy(const struct search_grow *grow) {
    struct in_flight item = {.grow = *grow};
    item.tokens = copy(grow->tokens, grow->n_tokens * sizeof(uint32_t));
    item.penalty_ids = copy(grow->penalty_ids, grow->n_penalties * sizeof(uint32_t));
    item.penalties = copy(grow->penalties, grow->n_penalties * sizeof(float));
    item.grow.tokens = item.tokens;
    item.grow.penalty_ids = item.penalty_ids;
    item.grow.penalties = item.penalties;
    return item;
}

static void free_copy(struct in_flight *item) {
    free(item->tokens);
    free(item->penalty_ids);
    free(item->penalties);
}

uint64_t world_run_search(const struct world *world, const struct search_spec *spec,
                          const struct world_run *run, struct search *search) {
    size_t batch = run->batch == 0 ? spec->n : run->batch;
    struct in_flight *flight = calloc(batch, sizeof *flight);
    assert_non_null(flight);
    size_t n = 0;
    uint32_t turn = 0;
    uint64_t released[8];
    while (!search_is_done(search)) {
        struct search_grow grow;
        while (n < batch && search_next(search, &grow)) {
            flight[n++] = take_copy(&grow);
        }
        assert_true(n > 0);
        size_t pick = (size_t)((double)n * rng_uniform(run->shuffle_seed, 5, turn, 0));
        struct in_flight item = flight[pick];
        flight[pick] = flight[--n];
        answer_grow(world, spec, search, &item.grow);
        free_copy(&item);
        while (search_take_released(search, released, 8) > 0) {
        }
        turn++;
    }
    free(flight);
    struct search_progress progress;
    search_get_progress(search, &progress);
    return progress.tokens;
}

struct search *world_open_search(const struct search_spec *spec) {
    struct search *search = NULL;
    assert_status(STATUS_OK, search_create(spec, &search, NULL));
    return search;
}

struct verdict world_verdict(const struct world *world, const struct search_spec *spec,
                             const struct world_run *how) {
    struct verdict verdict = {.cost = 0.0};
    struct search *search = world_open_search(spec);
    verdict.tokens_sampled = world_run_search(world, spec, how, search);
    search_get_answer(search, &verdict.answer);
    verdict.n_candidates = search_candidate_count(search);
    struct search_candidate chosen;
    verdict.z = search_find_candidate(search, verdict.answer.candidate_id, &chosen)
                    ? chosen.safety_state
                    : NAN;
    if (verdict.answer.found) {
        assert_true(search_find_candidate(search, verdict.answer.candidate_id, &chosen));
        assert_in_range(chosen.n_tokens, 1, 256);
        memcpy(verdict.tokens, chosen.tokens, chosen.n_tokens * sizeof *chosen.tokens);
        verdict.n_tokens = chosen.n_tokens;
        verdict.cost = chosen.channels[0].cost;
        verdict.reward = chosen.reward;
        assert_int_equal(chosen.fate, CANDIDATE_FATE_CHOSEN);
    }
    search_destroy(search);
    return verdict;
}

void assert_same_verdict(const struct verdict *a, const struct verdict *b) {
    assert_int_equal(a->answer.found, b->answer.found);
    assert_int_equal(a->answer.candidate_id, b->answer.candidate_id);
    assert_int_equal(a->tokens_sampled, b->tokens_sampled);
    assert_int_equal(a->n_candidates, b->n_candidates);
    assert_int_equal(a->answer.n_finished, b->answer.n_finished);
    assert_int_equal(a->answer.n_admissible, b->answer.n_admissible);
    assert_int_equal(a->answer.n_repeats, b->answer.n_repeats);
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
}
