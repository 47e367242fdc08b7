// Random jobs of up to four channels over all methods, against a reference that knows nothing of
// the search: it keeps what rows said, and works every state out anew. Sums are compared bit for
// bit: with one channel they are those of a job's own fields.
#include "tests/support/testkit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "proto/job_fields.h"
#include "tests/search/world.h"

enum {
    N_JOBS = 10000,
    TOKENS_MAX = 16,
    PLACES_MAX = TOKENS_MAX + 2,
    VOCAB = 8,
    RECORDS_MAX = 2048
};

// What rows said of a candidate, and the state that it must have.
struct record {
    uint32_t tokens[TOKENS_MAX];
    uint32_t n_tokens;
    float scores[LIMIT_SCORERS][PLACES_MAX];
    uint32_t n_places;
    float ends[TOKENS_MAX][LIMIT_SCORERS];
    uint32_t block_ends[TOKENS_MAX];
    uint32_t n_blocks;
    bool known;
    bool ended;
    bool lost;
    struct channel_state states[LIMIT_CHANNELS];
};

struct job {
    uint64_t seed;
    struct search_spec spec;
    float prompt[LIMIT_SCORERS];
    struct record records[RECORDS_MAX]; // by id - 1
};

static double draw(const struct job *job, uint64_t what, uint64_t a, uint32_t b) {
    return rng_uniform(job->seed, 100 * what + a, b, 0);
}

static uint32_t draw_below(const struct job *job, uint64_t what, uint32_t n) {
    uint32_t drawn = (uint32_t)(n * draw(job, what, 0, 0));
    return drawn < n ? drawn : n - 1;
}

static float draw_score(const struct job *job, uint64_t what, uint64_t a, uint32_t b) {
    return (float)(1.4 * draw(job, what, a, b) - 0.6);
}

static struct search_channel random_channel(const struct job *job, uint32_t index) {
    uint32_t at = 20 + 10 * index;
    struct search_channel channel = {
        .cost_mode = (enum cost_mode)(1 + draw_below(job, at, 5)),
        .budget = 3.0 * draw(job, at + 1, 0, 0) - 0.5,
        .discount = draw_below(job, at + 2, 2) == 0 ? 1.0 : 0.8 + 0.2 * draw(job, at + 3, 0, 0),
        .discount_unit = (enum discount_unit)(1 + draw_below(job, at + 4, 2)),
        .admit_rule = (enum admit_rule)(1 + draw_below(job, at + 5, 2)),
        .has_cost_min = draw_below(job, at + 6, 2) == 0,
    };
    if (channel.cost_mode == COST_MODE_TOKEN_SUM_POS) {
        channel.budget = fabs(channel.budget);
    } else {
        // Scores are in [-0.6, 0.8], weights at most 2, of 4 scorers; a difference of scores is
        // lower.
        double lowest = channel.cost_mode == COST_MODE_END_DELTA ? -8.0 * 1.4 : -8.0 * 0.6;
        channel.cost_min = channel.has_cost_min ? lowest : 0.0;
    }
    channel.has_cost_min = channel.has_cost_min && channel.cost_mode != COST_MODE_END_SIGN;
    return channel;
}

static void random_job(struct job *job, uint64_t seed, uint32_t n_methods) {
    job->seed = seed;
    memset(job->records, 0, sizeof job->records);
    enum search_method method = (enum search_method)(1 + draw_below(job, 1, n_methods));
    const struct job_method *row = job_method_get((int)method);
    enum search_selection selection = row->chooses_selection
                                          ? (enum search_selection)(1 + draw_below(job, 2, 3))
                                          : row->own_selection;
    uint32_t n = row->n_fixed > 0 ? row->n_fixed : 1 + draw_below(job, 3, 8);
    struct search_spec *spec = &job->spec;
    uint32_t block_tokens = row->block_fixed ? row->block_tokens : 1 + draw_below(job, 4, 4);
    *spec = world_spec(method, selection, n, block_tokens, 4 + draw_below(job, 5, TOKENS_MAX - 3));
    spec->survivors = 1 + draw_below(job, 6, n);
    spec->early_stop = draw_below(job, 16, 2) == 0;
    spec->n_channels = 1 + draw_below(job, 7, LIMIT_CHANNELS);
    spec->n_scorers = 1 + spec->n_channels + draw_below(job, 8, LIMIT_SCORERS - LIMIT_CHANNELS);
    spec->scorers[0] = (struct search_scorer){.weight = 1};
    for (uint32_t i = 1; i < spec->n_scorers; i++) {
        spec->scorers[i] = (struct search_scorer){
            .is_cost = true,
            .channel = (i - 1) % spec->n_channels,
            .weight = 2.0 * draw(job, 9, i, 0),
        };
        job->prompt[i] = draw_score(job, 10, i, 0);
    }
    for (uint32_t i = 0; i < spec->n_channels; i++) {
        spec->channels[i] = random_channel(job, i);
    }
}

// The weighted sum over the scorers of a channel.
static double together(const struct job *job, uint32_t channel, const float *scores, size_t stride,
                       bool clamps) {
    double sum = 0;
    for (uint32_t i = 1; i < job->spec.n_scorers; i++) {
        double score = scores[i * stride];
        if (job->spec.scorers[i].channel == channel) {
            sum += job->spec.scorers[i].weight * (clamps && score < 0 ? 0 : score);
        }
    }
    return sum;
}

static struct channel_state expect_sign(const struct job *job, const struct record *record,
                                        uint32_t index) {
    const struct search_channel *channel = &job->spec.channels[index];
    struct channel_state state = {.cost = together(job, index, job->prompt, 1, false)};
    double worst = -INFINITY;
    for (uint32_t j = 0; j < record->n_blocks; j++) {
        state.cost = together(job, index, record->ends[j], 1, false);
        worst = state.cost > worst ? state.cost : worst;
    }
    state.z = channel->budget - state.cost;
    state.admissible = state.cost <= channel->budget;
    if (channel->admit_rule == ADMIT_RULE_PREFIX && worst > channel->budget) {
        state.z = state.admissible ? channel->budget - worst : state.z;
        state.admissible = false;
        state.certain_loss = true;
    }
    return state;
}

// What is still to come can lower the sum by so much: of every token that is left, or of the first
// tokens of the blocks that are.
static double relief(const struct job *job, const struct record *record,
                     const struct search_channel *channel, double weight, bool per_token) {
    double left = 0;
    for (uint32_t t = record->n_tokens; t < job->spec.max_tokens; t++) {
        if (per_token || (t - record->n_tokens) % job->spec.block_tokens == 0) {
            left += weight;
        }
        weight *= channel->discount_unit == DISCOUNT_UNIT_TOKEN ? channel->discount : 1;
    }
    return channel->cost_min < 0 ? -channel->cost_min * left : 0;
}

static struct channel_state expect_sum(const struct job *job, const struct record *record,
                                       uint32_t index) {
    const struct search_channel *channel = &job->spec.channels[index];
    bool per_token =
        channel->cost_mode == COST_MODE_TOKEN_SUM || channel->cost_mode == COST_MODE_TOKEN_SUM_POS;
    uint32_t n = per_token ? record->n_places : record->n_tokens;
    struct channel_state state = {.cost = 0};
    double weight = 1;
    double lowest = INFINITY;
    bool was_over = false;
    uint32_t block = 0;
    for (uint32_t t = 0; t < n; t++) {
        bool ends = per_token ? (t + 1) % job->spec.block_tokens == 0 || t + 1 == n
                              : record->block_ends[block] == t + 1;
        if (per_token || ends) {
            double cost;
            if (per_token) {
                cost = together(job, index, &record->scores[0][t], PLACES_MAX,
                                channel->cost_mode == COST_MODE_TOKEN_SUM_POS);
            } else {
                cost = together(job, index, record->ends[block], 1, false);
                if (channel->cost_mode == COST_MODE_END_DELTA) {
                    cost -= together(job, index, block > 0 ? record->ends[block - 1] : job->prompt,
                                     1, false);
                }
            }
            state.cost += weight * cost;
            was_over = was_over || state.cost > channel->budget;
            double z = (channel->budget - state.cost) / weight;
            lowest = z < lowest ? z : lowest;
        }
        if (ends || channel->discount_unit == DISCOUNT_UNIT_TOKEN) {
            weight *= channel->discount;
        }
        block += ends ? 1 : 0;
    }
    state.z = (channel->budget - state.cost) / weight;
    state.admissible = state.cost <= channel->budget;
    bool is_bounded = channel->has_cost_min || channel->cost_mode == COST_MODE_TOKEN_SUM_POS;
    bool prefix = channel->admit_rule == ADMIT_RULE_PREFIX;
    state.certain_loss =
        (prefix && was_over) ||
        (is_bounded &&
         state.cost - relief(job, record, channel, weight, per_token) > channel->budget);
    if (prefix && was_over) {
        state.z = state.admissible ? lowest : state.z;
        state.admissible = false;
    }
    return state;
}

static bool all_admissible(const struct job *job, const struct channel_state *states) {
    bool all = true;
    for (uint32_t i = 0; i < job->spec.n_channels; i++) {
        all = all && states[i].admissible;
    }
    return all;
}

// The state after a row: what was lost while it grew stays as it was when it would come back.
static void expect_state(const struct job *job, struct record *record) {
    struct channel_state states[LIMIT_CHANNELS];
    bool certain = false;
    for (uint32_t i = 0; i < job->spec.n_channels; i++) {
        states[i] = job->spec.channels[i].cost_mode == COST_MODE_END_SIGN
                        ? expect_sign(job, record, i)
                        : expect_sum(job, record, i);
        certain = certain || states[i].certain_loss;
    }
    if (!record->lost || !all_admissible(job, states)) {
        memcpy(record->states, states, sizeof states);
    }
    record->lost = record->lost ||
                   (certain && !record->ended && job->spec.selection == SEARCH_SELECTION_AUGMENTED);
}

// Grows a candidate by random tokens and scores; a text that ends is read anew from a random place.
static void grow(struct job *job, struct search *search, const struct search_grow *order) {
    uint64_t id = order->candidate_id;
    assert_in_range(id, 1, RECORDS_MAX);
    struct record *record = &job->records[id - 1];
    if (!record->known && order->parent_id != 0) {
        *record = job->records[order->parent_id - 1];
        record->lost = false;
    }
    record->known = true;
    assert_int_equal(record->n_tokens, order->n_tokens);
    assert_memory_equal(record->tokens, order->tokens, order->n_tokens * sizeof(uint32_t));
    enum search_finish finish = SEARCH_FINISH_NONE;
    float logprobs[TOKENS_MAX] = {0};
    for (uint32_t k = 0; k < order->grow_tokens && finish == SEARCH_FINISH_NONE; k++) {
        uint32_t token = (uint32_t)(VOCAB * draw(job, 11, id, record->n_tokens)) % VOCAB;
        record->tokens[record->n_tokens++] = token;
        finish = token == 0 ? SEARCH_FINISH_EOS : SEARCH_FINISH_NONE;
    }
    if (finish == SEARCH_FINISH_NONE && record->n_tokens == job->spec.max_tokens) {
        finish = SEARCH_FINISH_LENGTH;
    }
    record->ended = finish != SEARCH_FINISH_NONE;
    uint32_t before = record->n_places;
    record->n_places =
        record->n_tokens + (record->ended ? (uint32_t)(3 * draw(job, 12, id, 0)) : 0);
    struct search_score scores[LIMIT_SCORERS] = {{0}};
    for (uint32_t i = 0; i < job->spec.n_scorers; i++) {
        uint32_t from = (uint32_t)((before + 1) * draw(job, 13, id, 16 * i + record->n_blocks));
        for (uint32_t t = from; t < record->n_places; t++) {
            record->scores[i][t] = draw_score(job, 14, id, 1024 * record->n_blocks + 64 * i + t);
        }
        record->ends[record->n_blocks][i] = draw_score(job, 15, id, 64 * i + record->n_blocks);
        scores[i] = (struct search_score){
            .end_score = record->ends[record->n_blocks][i],
            .prompt_score = job->prompt[i],
            .from = from,
            .token_scores = &record->scores[i][from],
            .n_token_scores = record->n_places - from,
        };
    }
    record->block_ends[record->n_blocks++] = record->n_tokens;
    char text[TOKENS_MAX + 1] = "";
    for (uint32_t t = 0; t < record->n_tokens; t++) {
        text[t] = (char)('a' + record->tokens[t]);
    }
    const struct search_row row = {
        .candidate_id = id,
        .token_ids = record->tokens + order->n_tokens,
        .logprobs = logprobs,
        .n_tokens = record->n_tokens - order->n_tokens,
        .finish = finish,
        .text = text,
        .scores = scores,
        .n_places = record->n_places,
    };
    struct error err;
    assert_ok(search_on_row(search, &row, &err), &err);
    expect_state(job, record);
}

// In parts of the budgets; of one channel z itself.
static double nearness(const struct job *job, const struct channel_state *states) {
    double smallest = INFINITY;
    for (uint32_t i = 0; i < job->spec.n_channels; i++) {
        double size = fabs(job->spec.channels[i].budget);
        double part = states[i].z / (size > 1 && job->spec.n_channels > 1 ? size : 1);
        smallest = part < smallest ? part : smallest;
    }
    return smallest;
}

static void check_candidate(const struct job *job, const struct search_candidate *candidate) {
    const struct record *record = &job->records[candidate->candidate_id - 1];
    double smallest = INFINITY;
    for (uint32_t i = 0; i < job->spec.n_channels; i++) {
        const struct channel_state *state = &candidate->channels[i];
        assert_memory_equal(&state->cost, &record->states[i].cost, sizeof state->cost);
        assert_memory_equal(&state->z, &record->states[i].z, sizeof state->z);
        assert_int_equal(state->admissible, record->states[i].admissible);
        assert_int_equal(state->admissible, state->z >= 0);
        smallest = state->z < smallest ? state->z : smallest;
    }
    assert_int_equal(candidate->admissible, all_admissible(job, record->states));
    assert_true(candidate->safety_state ==
                (candidate->admissible ? candidate->channels[0].z : smallest));
    assert_int_equal(candidate->admissible, candidate->safety_state >= 0);
}

// Of what ended or was given up over budget, nothing was nearer than what a refusal shows.
static void check_refusal(const struct job *job, const struct search *search,
                          const struct search_candidate *shown) {
    double nearest = nearness(job, shown->channels);
    for (size_t i = 0; i < search_candidate_count(search); i++) {
        struct search_candidate other;
        search_get_candidate(search, i, &other);
        if (job->records[i].known && !other.admissible && other.fate != CANDIDATE_FATE_EXTENDED) {
            assert_true(nearness(job, other.channels) <= nearest);
        }
    }
}

struct tally {
    uint32_t answered[LIMIT_CHANNELS + 1];
    uint32_t refused[LIMIT_CHANNELS + 1];
    uint32_t over_budget;
};

static void run_job(struct job *job, struct tally *tally) {
    struct search *search = world_open_search(&job->spec);
    struct search_grow order;
    uint64_t released[8];
    while (search_next(search, &order)) {
        grow(job, search, &order);
        while (search_take_released(search, released, 8) > 0) {
        }
    }
    assert_true(search_is_done(search));
    struct search_answer answer;
    search_get_answer(search, &answer);
    struct search_candidate shown;
    for (size_t i = 0; i < search_candidate_count(search); i++) {
        search_get_candidate(search, i, &shown);
        if (job->records[i].known) {
            check_candidate(job, &shown);
        }
    }
    assert_true(search_find_candidate(search, answer.candidate_id, &shown));
    bool augmented = job->spec.selection == SEARCH_SELECTION_AUGMENTED;
    assert_true(answer.found || augmented);
    if (!answer.found) {
        assert_false(shown.admissible);
        check_refusal(job, search, &shown);
        tally->refused[job->spec.n_channels]++;
    } else if (augmented) {
        assert_true(shown.admissible && !answer.over_budget);
        tally->answered[job->spec.n_channels]++;
    } else {
        assert_int_equal(answer.over_budget, !shown.admissible);
        tally->over_budget += answer.over_budget ? 1 : 0;
    }
    search_destroy(search);
}

static void test_no_random_job_is_answered_over_any_budget(void **state) {
    (void)state;
    struct job *job = malloc(sizeof *job);
    struct tally tally = {.over_budget = 0};
    uint32_t n_methods = 0;
    assert_non_null(job);
    while (job_choice_name(JOB_FIELD_METHOD, (int)n_methods + 1) != NULL) {
        n_methods++;
    }
    for (uint64_t seed = 1; seed <= N_JOBS; seed++) {
        random_job(job, seed, n_methods);
        run_job(job, &tally);
    }
    free(job);
    for (uint32_t n = 1; n <= LIMIT_CHANNELS; n++) {
        assert_true(tally.answered[n] > 100 && tally.refused[n] > 100);
    }
    assert_true(tally.over_budget > 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_random_job_is_answered_over_any_budget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
