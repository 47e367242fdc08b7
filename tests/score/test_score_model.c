// Incremental scoring against scoring from scratch. What a state reports after any history of
// forks, prunes and extensions must equal, bit for bit, one forward pass over the whole text with
// its scores laid out by a second, byte by byte, formulation of the attribution rule.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/rng.h"
#include "tests/model/model_files.h"
#include "tests/support/testkit.h"
#include "tests/worker/tiny_models.h"
#include "worker/decode/response.h"
#include "worker/score/score_model.h"

enum { TOKENS_MAX = 40, POOL = 10, KEPT = 12, CONTEXT = 250, OUTPUT_ROWS = 23, IDS_MAX = 512 };

struct world {
    char *directory;
    struct backend *backend;
    struct tokenizer *policy_tokenizer;
};

// One loaded scorer with a context of its own.
struct loaded {
    struct model *model;
    struct tokenizer *tokenizer;
    struct template_set *templates;
    struct model_context *context;
    struct scorer *scorer;
    int32_t padding_id; // that a class head's pooling skips; -1: none
};

static int setup(void **state) {
    struct world *world = calloc(1, sizeof *world);
    struct error error = {0};
    world->directory = tiny_models_make();
    assert_ok(backend_create("cpu", 1, &world->backend, &error), &error);
    assert_ok(tokenizer_open(tiny_model_path(world->directory, "policy"), &world->policy_tokenizer,
                             &error),
              &error);
    *state = world;
    return 0;
}

static int teardown(void **state) {
    struct world *world = *state;
    tokenizer_close(world->policy_tokenizer);
    backend_destroy(world->backend);
    testkit_remove_tree(world->directory);
    free(world);
    return 0;
}

static struct loaded load(const struct world *world, const char *name, int32_t n_blocks) {
    struct loaded loaded = {0};
    struct error error = {0};
    const char *path = tiny_model_path(world->directory, name);
    assert_ok(model_open(path, world->backend, PRECISION_STORED, &loaded.model, &error), &error);
    assert_ok(tokenizer_open(path, &loaded.tokenizer, &error), &error);
    assert_ok(template_set_open(path, loaded.tokenizer, &loaded.templates, &error), &error);
    const struct model_context_options options = {.n_kv_blocks = n_blocks,
                                                  .n_sequences = 2 * POOL + 4 + KEPT,
                                                  .batch_rows = 16,
                                                  .output_rows = CONTEXT,
                                                  .context_tokens = CONTEXT};
    assert_ok(model_context_create(loaded.model, &options, &loaded.context, &error), &error);
    // Fewer rows than the context allows, so that long extensions are cut into pieces.
    const struct score_model_options scorer = {.context = loaded.context,
                                               .tokenizer = loaded.tokenizer,
                                               .policy_tokenizer = world->policy_tokenizer,
                                               .output_rows = OUTPUT_ROWS,
                                               .context_tokens = CONTEXT,
                                               .kept_readings = KEPT};
    assert_ok(score_model_open(&scorer, &loaded.scorer, &error), &error);
    const struct model_config *config = model_get_config(loaded.model);
    bool skips = config->head == MODEL_HEAD_CLASS && !model_get_profile(loaded.model)->pools_last;
    loaded.padding_id = skips ? config->pad_id : -1;
    return loaded;
}

static void unload(struct loaded *loaded) {
    scorer_close(loaded->scorer);
    assert_int_equal(model_context_blocks_free(loaded->context),
                     model_context_blocks_total(loaded->context));
    model_context_destroy(loaded->context);
    template_set_close(loaded->templates);
    tokenizer_close(loaded->tokenizer);
    model_close(loaded->model);
}

static const struct template *find_template(const struct loaded *loaded, const char *name) {
    const struct template *template = NULL;
    struct error error = {0};
    assert_ok(template_find(loaded->templates, name, &template, &error), &error);
    return template;
}

static const struct chat_message message = {.role = "user", .content = "how are you today"};
static const struct chat prompt = {.messages = &message, .n_messages = 1};

static struct scorer_job *open_job(struct loaded *loaded, enum scorer_role role, bool eos_append) {
    const struct scorer_job_spec spec = {.role = role,
                                         .chat = prompt,
                                         .template = find_template(loaded, "beaver"),
                                         .cost_eos_append = eos_append,
                                         .max_tokens = TOKENS_MAX};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(scorer_job_open(loaded->scorer, &spec, &job, &error), &error);
    assert_ok(scorer_prepare(loaded->scorer, &job, 1, &error), &error);
    return job;
}

// A candidate and what its scorer has reported about it so far.
struct candidate {
    bool used;
    struct response response;
    struct scorer_state *state;
    float token_scores[IDS_MAX];
    float end_score;
};

static struct scorer_text view(const struct response *response) {
    if (response->finish != DECODE_FINISH_NONE) {
        return (struct scorer_text){.token_ids = response->read_ids,
                                    .text_ends = response->read_ends,
                                    .n_tokens = response->n_read > 0 ? response->n_read : 1,
                                    .text = response->text,
                                    .ended = response->finish == DECODE_FINISH_EOS,
                                    .finished = true,
                                    .empty = response->n_read == 0};
    }
    return (struct scorer_text){.token_ids = response->token_ids,
                                .text_ends = response->text_ends,
                                .n_tokens = response->n_tokens,
                                .text = response->text};
}

// scores[i]: what transformers' pooling gives for the text up to there, the first of the head's
// values when all of it is padding.
static void pool(const struct loaded *loaded, const int32_t *ids, int32_t n, float *scores) {
    float values[IDS_MAX];
    memcpy(values, scores, (size_t)n * sizeof *values);
    for (int32_t i = 0; i < n; i++) {
        int32_t place = 0;
        for (int32_t k = 0; k <= i; k++) {
            place = ids[k] != loaded->padding_id ? k : place;
        }
        scores[i] = values[place];
    }
}

// The scores of a text by one pass over all of it.
static void score_from_scratch(struct loaded *loaded, const struct response *response,
                               bool append_eos, float *token_scores, float *end_score) {
    struct scorer_text text = view(response);
    int32_t ids[IDS_MAX];
    size_t n_prefix = 0;
    struct error error = {0};
    assert_ok(
        template_encode(find_template(loaded, "beaver"), &prompt, ids, IDS_MAX, &n_prefix, &error),
        &error);
    bool shared = score_model_shares_ids(loaded->scorer);
    bool closes = model_get_profile(loaded->model)->score_after[0] != '\0';
    bool replaced = text.ended && closes;
    text.ended = text.ended && !closes;
    size_t n = 0;
    if (shared) {
        n = text.empty ? 0 : (size_t)text.n_tokens - replaced;
        memcpy(ids + n_prefix, text.token_ids, n * sizeof *ids);
    } else {
        assert_ok(tokenizer_encode(
                      loaded->tokenizer, text.text, (size_t)text.text_ends[text.n_tokens - 1],
                      TOKENIZER_CONTINUATION, ids + n_prefix, IDS_MAX - n_prefix - 4, &n, &error),
                  &error);
        if (text.ended) {
            ids[n_prefix + n++] = TINY_EOS;
        }
    }
    static const int32_t closing[] = {TINY_EOS, 'a', '\n'};
    int32_t n_appended = closes ? 3 : append_eos;
    memcpy(ids + n_prefix + n, closing, (size_t)n_appended * sizeof *ids);
    struct sequence *sequence = sequence_create(loaded->context);
    assert_non_null(sequence);
    const struct forward_item item = {.sequence = sequence,
                                      .token_ids = ids,
                                      .n_tokens = (int32_t)(n_prefix + n) + n_appended,
                                      .output = FORWARD_OUTPUT_ALL};
    float scores[IDS_MAX];
    assert_ok(model_forward(loaded->context, &item, 1, &error), &error);
    assert_ok(model_score_outputs(loaded->context, scores), &error);
    sequence_destroy(loaded->context, sequence);
    pool(loaded, ids, item.n_tokens, scores);
    *end_score = scores[item.n_tokens - 1];
    n -= text.ended ? 1 : 0; // an end token costs nothing
    memset(token_scores, 0, (size_t)text.n_tokens * sizeof *token_scores);
    size_t byte = 0;
    for (size_t i = 0; i < n; i++) {
        const char *bytes = NULL;
        size_t count = 0;
        assert_ok(tokenizer_token_bytes(loaded->tokenizer, ids[n_prefix + i], 0, &bytes, &count),
                  NULL);
        byte += count;
        int32_t owner = text.n_tokens - 1;
        for (int32_t t = text.n_tokens - 1; count > 0 && t >= 0; t--) {
            if ((size_t)text.text_ends[t] >= byte) {
                owner = t;
            }
        }
        token_scores[shared ? (int32_t)i : owner] += scores[n_prefix + i];
    }
}

static uint32_t draw(uint64_t seed, uint32_t *counter, uint32_t below) {
    return (uint32_t)(rng_uniform(seed, 1, (*counter)++, 0) * below);
}

// Appends n tokens: merged pieces, and bytes of any kind, so that tokens cut characters.
static void write_tokens(struct candidate *candidate, uint64_t seed, uint32_t *counter, int32_t n) {
    static const int32_t letters[] = {'t', 'h', 'e', ' ', 'a',  'n',  'd',  'k',  'i', 'l',
                                      'b', 'o', 'm', 'g', 0xC3, 0xA9, 0xE2, 0x82, 0xAC};
    for (int32_t i = 0; i < n && candidate->response.n_tokens < TOKENS_MAX; i++) {
        int32_t id = draw(seed, counter, 2) == 0
                         ? letters[draw(seed, counter, sizeof letters / sizeof letters[0])]
                         : (int32_t)(4 + draw(seed, counter, TINY_BOS - 4));
        assert_ok(response_append(&candidate->response, id, 0, false), NULL);
        if (id == 0xC3 && i + 1 < n && candidate->response.n_tokens < TOKENS_MAX) {
            assert_ok(response_append(&candidate->response, 0xA9, 0, false), NULL);
            i++;
        }
    }
}

static void finish(struct candidate *candidate, bool with_eos) {
    if (candidate->response.n_tokens == TOKENS_MAX) {
        with_eos = false;
    }
    if (with_eos) {
        assert_ok(response_append(&candidate->response, TINY_EOS, 0, true), NULL);
    }
    assert_ok(response_flush(&candidate->response), NULL);
    response_end(&candidate->response, with_eos ? DECODE_FINISH_EOS : DECODE_FINISH_LENGTH, -1);
    struct error error = {0};
    assert_ok(response_read(&candidate->response, &error), &error);
}

// A stop string was found: the text ends at a byte of any token.
static void cut(struct candidate *candidate, uint64_t seed, uint32_t *counter) {
    struct response *response = &candidate->response;
    int32_t shown = (int32_t)draw(seed, counter, (uint32_t)response->text_bytes + 1);
    while (shown > 0 && shown < response->text_bytes &&
           ((unsigned char)response->text[shown] & 0xC0) == 0x80) {
        shown--;
    }
    response_end(response, DECODE_FINISH_STOP, shown);
    struct error error = {0};
    assert_ok(response_read(response, &error), &error);
}

static void drop(struct candidate *candidate) {
    response_finish(&candidate->response);
    scorer_state_drop(candidate->state);
    *candidate = (struct candidate){0};
}

struct settings {
    const char *model;
    enum scorer_role role;
    bool cost_eos_append;
    bool profile_eos;
};

static bool eos_is_appended(const struct settings *settings, const struct response *response) {
    if (response->finish == DECODE_FINISH_EOS) {
        return false;
    }
    return (settings->cost_eos_append && settings->role == SCORER_ROLE_COST) ||
           (settings->profile_eos && response->finish != DECODE_FINISH_NONE);
}

// Extends all used candidates of the pool in one call and checks every one of them.
static void extend_and_check(struct loaded *loaded, const struct settings *settings,
                             struct candidate *pool) {
    struct scorer_extension extensions[POOL];
    float scores[POOL][IDS_MAX];
    struct candidate *owners[POOL];
    int32_t n = 0;
    for (int i = 0; i < POOL; i++) {
        if (pool[i].used && pool[i].response.n_tokens > 0) {
            owners[n] = &pool[i];
            extensions[n] = (struct scorer_extension){
                .state = pool[i].state, .text = view(&pool[i].response), .token_scores = scores[n]};
            n++;
        }
    }
    struct error error = {0};
    assert_ok(scorer_extend(loaded->scorer, extensions, n, &error), &error);
    for (int32_t i = 0; i < n; i++) {
        struct candidate *candidate = owners[i];
        assert_ok(extensions[i].error.status, &extensions[i].error);
        int32_t from = extensions[i].scores_from;
        int32_t n_tokens = extensions[i].text.n_tokens;
        memcpy(candidate->token_scores + from, scores[i] + from,
               (size_t)(n_tokens - from) * sizeof(float));
        float expected[IDS_MAX];
        float end_score;
        score_from_scratch(loaded, &candidate->response,
                           eos_is_appended(settings, &candidate->response), expected, &end_score);
        assert_memory_equal(candidate->token_scores, expected, (size_t)n_tokens * sizeof(float));
        assert_memory_equal(&extensions[i].end_score, &end_score, sizeof end_score);
    }
}

static void mutate_pool(const struct world *world, struct scorer_job *job, struct candidate *pool,
                        uint64_t seed, uint32_t *counter) {
    for (int i = 0; i < POOL; i++) {
        struct candidate *candidate = &pool[i];
        if (!candidate->used) {
            struct candidate *parent = &pool[draw(seed, counter, POOL)];
            if (parent->used && parent->response.finish == DECODE_FINISH_NONE) {
                *candidate = *parent;
                assert_ok(response_fork(&candidate->response, &parent->response), NULL);
                assert_ok(scorer_state_fork(parent->state, &candidate->state), NULL);
            } else {
                candidate->used = true;
                assert_ok(response_init(&candidate->response, world->policy_tokenizer, TOKENS_MAX),
                          NULL);
                assert_ok(scorer_state_open(job, &candidate->state), NULL);
            }
        } else if (candidate->response.finish != DECODE_FINISH_NONE ||
                   draw(seed, counter, 6) == 0) {
            drop(candidate);
        }
    }
    for (int i = 0; i < POOL; i++) {
        if (pool[i].used && pool[i].response.finish == DECODE_FINISH_NONE) {
            write_tokens(&pool[i], seed, counter, 1 + (int32_t)draw(seed, counter, 9));
            if (draw(seed, counter, 5) == 0 || pool[i].response.n_tokens == TOKENS_MAX) {
                if (draw(seed, counter, 3) == 0) {
                    cut(&pool[i], seed, counter);
                } else {
                    finish(&pool[i], draw(seed, counter, 2) == 0);
                }
            }
        }
    }
}

static void run_tree(const struct world *world, const struct settings *settings, uint64_t seed) {
    struct loaded loaded = load(world, settings->model, 200);
    struct scorer_job *job = open_job(&loaded, settings->role, settings->cost_eos_append);
    struct candidate pool[POOL];
    memset(pool, 0, sizeof pool);
    uint32_t counter = 0;
    for (int round = 0; round < 12; round++) {
        mutate_pool(world, job, pool, seed, &counter);
        extend_and_check(&loaded, settings, pool);
        if (round == 5) {
            // Giving up the prompt takes nothing from the states that live.
            struct error error = {0};
            float before = scorer_prompt_score(job);
            scorer_job_unload(job);
            assert_ok(scorer_prepare(loaded.scorer, &job, 1, &error), &error);
            float after = scorer_prompt_score(job);
            assert_memory_equal(&before, &after, sizeof before);
        }
    }
    for (int i = 0; i < POOL; i++) {
        drop(&pool[i]);
    }
    scorer_job_close(job);
    unload(&loaded);
}

static void run_trees(void **state, const struct settings *settings) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run_tree(*state, settings, seed);
    }
}

static void test_score_head_with_shared_ids(void **state) {
    run_trees(state, &(struct settings){.model = "cost", .role = SCORER_ROLE_COST});
}

static void test_score_head_with_forked_end_tokens(void **state) {
    run_trees(state, &(struct settings){
                         .model = "cost", .role = SCORER_ROLE_COST, .cost_eos_append = true});
}

static void test_class_head_with_shared_ids(void **state) {
    run_trees(state, &(struct settings){.model = "reward", .role = SCORER_ROLE_REWARD});
    run_trees(state, &(struct settings){.model = "reward-eos",
                                        .role = SCORER_ROLE_REWARD,
                                        .cost_eos_append = true,
                                        .profile_eos = true});
}

// The model pads with `id`, and its tokenizer knows nothing of it.
static void set_padding(const char *directory, int32_t id) {
    char change[64];
    model_files_change_json(directory, "tokenizer_config.json", "{\"pad_token\": \"</s>\"}");
    snprintf(change, sizeof change, id >= 0 ? "{\"pad_token_id\": %d}" : "{\"pad_token_id\": null}",
             id);
    model_files_change_json(directory, "config.json", change);
}

// The padding token is a common letter, the end of the prompt, the end token, or never written.
static void test_class_head_reads_the_last_token_that_is_not_padding(void **state) {
    const struct world *world = *state;
    static const int32_t paddings[] = {'e', ':', TINY_EOS, 7};
    static const char *const pooling[] = {"{\"pooling\": \"last-non-pad\"}",
                                          "{\"pooling\": \"last\"}"};
    const char *directory = tiny_model_path(world->directory, "reward");
    const struct settings reward = {.model = "reward", .role = SCORER_ROLE_REWARD};
    const struct settings cost = {
        .model = "reward", .role = SCORER_ROLE_COST, .cost_eos_append = true};
    for (size_t i = 0; i < sizeof paddings / sizeof paddings[0]; i++) {
        set_padding(directory, paddings[i]);
        run_tree(*state, &reward, i);
        if (paddings[i] != TINY_EOS) {
            run_tree(*state, &cost, i);
        }
    }
    set_padding(directory, 'e');
    for (int k = 0; k < 2; k++) {
        model_files_change_json(directory, "surefoot.json", pooling[k]);
        run_tree(*state, &reward, 9);
    }
    model_files_change_json(directory, "surefoot.json", "{\"pooling\": null}");
    set_padding(directory, -1);
}

// The prompt's own score is read behind the closing too.
static void check_closed_prompt(const struct world *world, const char *model) {
    struct loaded loaded = load(world, model, 40);
    int32_t ids[IDS_MAX];
    float scores[IDS_MAX];
    size_t n = 0;
    struct error error = {0};
    assert_ok(
        template_encode(find_template(&loaded, "beaver"), &prompt, ids, IDS_MAX - 3, &n, &error),
        &error);
    static const int32_t closing[] = {TINY_EOS, 'a', '\n'};
    memcpy(ids + n, closing, sizeof closing);
    const struct forward_item item = {.sequence = sequence_create(loaded.context),
                                      .token_ids = ids,
                                      .n_tokens = (int32_t)n + 3,
                                      .output = FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(loaded.context, &item, 1, &error), &error);
    assert_ok(model_score_outputs(loaded.context, scores), &error);
    sequence_destroy(loaded.context, item.sequence);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, false);
    assert_true(scorer_prompt_score(job) == scores[0]);
    scorer_job_close(job);
    unload(&loaded);
}

// The profile's closing stands behind every text, in the place of the response's own end token.
static void test_texts_are_scored_after_the_profiles_closing(void **state) {
    const struct world *world = *state;
    static const struct settings all[] = {
        {.model = "reward", .role = SCORER_ROLE_REWARD},
        {.model = "cost", .role = SCORER_ROLE_COST},
        {.model = "foreign-cost", .role = SCORER_ROLE_COST},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const char *directory = tiny_model_path(world->directory, all[i].model);
        model_files_change_json(directory, "surefoot.json", "{\"score_after\": \"</s>a\\n\"}");
        run_tree(world, &all[i], i);
        check_closed_prompt(world, all[i].model);
        model_files_change_json(directory, "surefoot.json", "{\"score_after\": null}");
    }
    // Padding inside the closing is skipped like any other.
    const char *directory = tiny_model_path(world->directory, "reward");
    set_padding(directory, '\n');
    model_files_change_json(directory, "surefoot.json", "{\"score_after\": \"</s>a\\n\"}");
    run_tree(world, &all[0], 7);
    struct loaded loaded = load(world, "reward", 40);
    const struct scorer_job_spec spec = {.role = SCORER_ROLE_COST,
                                         .chat = prompt,
                                         .template = find_template(&loaded, "beaver"),
                                         .cost_eos_append = true,
                                         .max_tokens = TOKENS_MAX};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_status(STATUS_UNSUPPORTED, scorer_job_open(loaded.scorer, &spec, &job, &error));
    assert_non_null(strstr(error.message, "score_after"));
    unload(&loaded);
    model_files_change_json(directory, "surefoot.json", "{\"score_after\": null}");
    set_padding(directory, -1);
}

static void test_prompts_score_by_the_same_rule(void **state) {
    struct world *world = *state;
    const char *directory = tiny_model_path(world->directory, "reward");
    struct loaded plain = load(world, "reward", 40);
    int32_t ids[IDS_MAX];
    float scores[IDS_MAX];
    size_t n = 0;
    struct error error = {0};
    assert_ok(
        template_encode(find_template(&plain, "beaver"), &prompt, ids, IDS_MAX - 1, &n, &error),
        &error);
    ids[n] = TINY_EOS;
    const struct forward_item item = {.sequence = sequence_create(plain.context),
                                      .token_ids = ids,
                                      .n_tokens = (int32_t)n + 1,
                                      .output = FORWARD_OUTPUT_ALL};
    assert_ok(model_forward(plain.context, &item, 1, &error), &error);
    assert_ok(model_score_outputs(plain.context, scores), &error);
    sequence_destroy(plain.context, item.sequence);
    unload(&plain);
    assert_int_equal(ids[n - 1], ':');
    set_padding(directory, ':');
    struct loaded pooled = load(world, "reward", 40);
    struct scorer_job *bare = open_job(&pooled, SCORER_ROLE_COST, false);
    struct scorer_job *appended = open_job(&pooled, SCORER_ROLE_COST, true);
    assert_true(scorer_prompt_score(bare) == scores[n - 2]);
    assert_true(scorer_prompt_score(appended) == scores[n]);
    scorer_job_close(bare);
    scorer_job_close(appended);
    unload(&pooled);
    set_padding(directory, -1);
}

// An end token that the pooling skips cannot be what a text is scored after.
static void test_an_appended_end_token_that_is_padding_is_refused(void **state) {
    struct world *world = *state;
    struct error error = {0};
    const char *directory = tiny_model_path(world->directory, "reward-eos");
    struct model *model = NULL;
    set_padding(directory, TINY_EOS);
    struct loaded loaded = {0};
    assert_ok(model_open(directory, world->backend, PRECISION_STORED, &model, &error), &error);
    assert_ok(tokenizer_open(directory, &loaded.tokenizer, &error), &error);
    const struct model_context_options options = {.n_kv_blocks = 4,
                                                  .n_sequences = 2,
                                                  .batch_rows = 16,
                                                  .output_rows = 16,
                                                  .context_tokens = 64};
    assert_ok(model_context_create(model, &options, &loaded.context, &error), &error);
    const struct score_model_options scorer = {.context = loaded.context,
                                               .tokenizer = loaded.tokenizer,
                                               .policy_tokenizer = world->policy_tokenizer,
                                               .output_rows = 16,
                                               .context_tokens = 64};
    assert_status(STATUS_UNSUPPORTED, score_model_open(&scorer, &loaded.scorer, &error));
    assert_string_equal(error.field, "append_eos");
    assert_non_null(strstr(error.message, "pooling"));
    model_context_destroy(loaded.context);
    tokenizer_close(loaded.tokenizer);
    model_close(model);
    set_padding(directory, -1);
    directory = tiny_model_path(world->directory, "reward");
    set_padding(directory, TINY_EOS);
    loaded = load(world, "reward", 40);
    const struct scorer_job_spec spec = {.role = SCORER_ROLE_COST,
                                         .chat = prompt,
                                         .template = find_template(&loaded, "beaver"),
                                         .cost_eos_append = true,
                                         .max_tokens = TOKENS_MAX};
    struct scorer_job *job = NULL;
    assert_status(STATUS_UNSUPPORTED, scorer_job_open(loaded.scorer, &spec, &job, &error));
    assert_non_null(strstr(error.message, "cost_eos"));
    unload(&loaded);
    set_padding(directory, -1);
}

static void copy_file(const char *from, const char *to, const char *name) {
    char path[4400];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", from, name);
    char *bytes = testkit_read_file(path, &size);
    snprintf(path, sizeof path, "%s/%s", to, name);
    testkit_write_file(path, bytes, size);
    free(bytes);
}

// End score of ids 1 5 9 33 77 | 200 300 2, read with a tokenizer whose bytes are their own ids.
static float score_handed_ids(const struct world *world, const char *model) {
    static const struct chat_message bytes[] = {{.role = "user", .content = "\x01\x05\x09!M"}};
    struct world own = *world; // the policy has the same tokenizer
    struct error error = {0};
    const char *path = tiny_model_path(world->directory, model);
    assert_ok(tokenizer_open(path, &own.policy_tokenizer, &error), &error);
    struct loaded loaded = load(&own, model, 40);
    const struct scorer_job_spec spec = {.chat = {.messages = bytes, .n_messages = 1},
                                         .template = find_template(&loaded, "raw"),
                                         .max_tokens = TOKENS_MAX};
    struct scorer_job *job = NULL;
    assert_ok(scorer_job_open(loaded.scorer, &spec, &job, &error), &error);
    assert_ok(scorer_prepare(loaded.scorer, &job, 1, &error), &error);
    struct scorer_extension extension = {.text = {.token_ids = (const int32_t[]){200, 300, 2},
                                                  .text_ends = (const int32_t[]){0, 0, 0},
                                                  .n_tokens = 3,
                                                  .text = "",
                                                  .finished = true}};
    assert_ok(scorer_state_open(job, &extension.state), NULL);
    assert_ok(scorer_extend(loaded.scorer, &extension, 1, &error), &error);
    assert_ok(extension.error.status, &extension.error);
    scorer_state_drop(extension.state);
    scorer_job_close(job);
    unload(&loaded);
    tokenizer_close(own.policy_tokenizer);
    return extension.end_score;
}

static void test_handed_model_whose_padding_is_its_end_token(void **state) {
    const struct world *world = *state;
    const char *handed = testkit_case_path("07_rm_pad_equals_eos");
    if (handed == NULL) {
        skip();
    }
    const char *directory = tiny_model_path(world->directory, "handed");
    assert_int_equal(mkdir(directory, 0700), 0);
    copy_file(handed, directory, "config.json");
    copy_file(handed, directory, "model.safetensors");
    copy_file(tiny_model_path(world->directory, "policy"), directory, "tokenizer.json");
    static const char config[] = "{\"add_bos_token\": false}";
    char path[4400];
    snprintf(path, sizeof path, "%s/tokenizer_config.json", directory);
    testkit_write_file(path, config, strlen(config));
    assert_true(fabsf(score_handed_ids(world, "handed") - 0.39697f) < 1e-4f);
    static const char profile[] = "{\"schema\": 1, \"pooling\": \"last\"}";
    snprintf(path, sizeof path, "%s/surefoot.json", directory);
    testkit_write_file(path, profile, strlen(profile));
    assert_true(fabsf(score_handed_ids(world, "handed") + 1.07523f) < 1e-4f);
}

static void test_score_head_retokenized(void **state) {
    run_trees(state, &(struct settings){.model = "foreign-cost", .role = SCORER_ROLE_COST});
    run_trees(state, &(struct settings){.model = "foreign-cost",
                                        .role = SCORER_ROLE_COST,
                                        .cost_eos_append = true});
}

static void test_tokenizer_that_lengthens_its_text(void **state) {
    run_trees(state, &(struct settings){.model = "nfd-cost", .role = SCORER_ROLE_COST});
}

static void test_class_head_retokenized(void **state) {
    run_trees(state, &(struct settings){.model = "foreign-reward",
                                        .role = SCORER_ROLE_REWARD,
                                        .profile_eos = true});
}

static void test_tokenizers_agree_or_not(void **state) {
    struct world *world = *state;
    struct loaded own = load(world, "cost", 20);
    struct loaded foreign = load(world, "foreign-cost", 20);
    assert_true(score_model_shares_ids(own.scorer));
    assert_false(score_model_shares_ids(foreign.scorer));
    unload(&own);
    unload(&foreign);
}

// "the" is one token of the foreign tokenizer: when "th" grows to it, both letters change.
static void test_retokenized_border_restates_earlier_scores(void **state) {
    struct world *world = *state;
    struct loaded loaded = load(world, "foreign-cost", 40);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, false);
    struct candidate candidate = {.used = true};
    assert_ok(response_init(&candidate.response, world->policy_tokenizer, TOKENS_MAX), NULL);
    assert_ok(scorer_state_open(job, &candidate.state), NULL);
    const char *letters = "th";
    for (int i = 0; i < 2; i++) {
        assert_ok(response_append(&candidate.response, letters[i], 0, false), NULL);
    }
    struct error error = {0};
    float scores[TOKENS_MAX];
    struct scorer_extension extension = {
        .state = candidate.state, .text = view(&candidate.response), .token_scores = scores};
    assert_ok(scorer_extend(loaded.scorer, &extension, 1, &error), &error);
    assert_int_equal(extension.scores_from, 0);
    assert_true(scores[0] != 0 && scores[1] != 0);
    assert_ok(response_append(&candidate.response, 'e', 0, false), NULL);
    extension.text = view(&candidate.response);
    assert_ok(scorer_extend(loaded.scorer, &extension, 1, &error), &error);
    assert_int_equal(extension.scores_from, 0);
    assert_true(scores[0] == 0 && scores[1] == 0 && scores[2] != 0);
    assert_memory_equal(&scores[2], &extension.end_score, sizeof(float));
    // A token that shows nothing: no scorer token, the end score stays.
    float end_score = extension.end_score;
    assert_ok(response_append(&candidate.response, TINY_BOS, 0, false), NULL);
    extension.text = view(&candidate.response);
    assert_ok(scorer_extend(loaded.scorer, &extension, 1, &error), &error);
    assert_int_equal(extension.scores_from, 3);
    assert_true(scores[3] == 0);
    assert_memory_equal(&end_score, &extension.end_score, sizeof end_score);
    drop(&candidate);
    scorer_job_close(job);
    unload(&loaded);
}

// cost_eos append: e_0 stands on an end token as every e_j does, so that differences compare like
// with like; the token scores do not see it.
static void test_appended_end_token_is_read_after_the_prompt_too(void **state) {
    struct world *world = *state;
    struct loaded loaded = load(world, "cost", 40);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, true);
    struct scorer_job *bare = open_job(&loaded, SCORER_ROLE_COST, false);
    int32_t ids[IDS_MAX];
    size_t n = 0;
    struct error error = {0};
    assert_ok(template_encode(find_template(&loaded, "beaver"), &prompt, ids, IDS_MAX, &n, &error),
              &error);
    ids[n++] = TINY_EOS;
    struct sequence *sequence = sequence_create(loaded.context);
    const struct forward_item item = {.sequence = sequence,
                                      .token_ids = ids,
                                      .n_tokens = (int32_t)n,
                                      .output = FORWARD_OUTPUT_ALL};
    float scores[IDS_MAX];
    assert_ok(model_forward(loaded.context, &item, 1, &error), &error);
    assert_ok(model_score_outputs(loaded.context, scores), &error);
    sequence_destroy(loaded.context, sequence);
    assert_true(scorer_prompt_score(job) == scores[n - 1]);
    assert_true(scorer_prompt_score(bare) == scores[n - 2]);
    assert_true(scores[n - 1] != scores[n - 2]);
    scorer_job_close(job);
    scorer_job_close(bare);
    unload(&loaded);
}

static void test_prompt_and_responses_that_do_not_fit_are_refused(void **state) {
    struct world *world = *state;
    struct loaded own = load(world, "cost", 40);
    struct loaded foreign = load(world, "foreign-cost", 40);
    struct scorer_job_spec spec = {.role = SCORER_ROLE_COST,
                                   .chat = prompt,
                                   .template = find_template(&own, "beaver"),
                                   .max_tokens = CONTEXT};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_status(STATUS_LIMIT, scorer_job_open(own.scorer, &spec, &job, &error));
    assert_string_equal(error.field, "prompt");
    assert_null(strstr(error.message, "end token"));
    spec.cost_eos_append = true;
    assert_status(STATUS_LIMIT, scorer_job_open(own.scorer, &spec, &job, &error));
    assert_non_null(strstr(error.message, "with the end token that cost_eos appends"));
    spec.cost_eos_append = false;
    // How many tokens another tokenizer makes of the text is known only later.
    spec.template = find_template(&foreign, "beaver");
    assert_ok(scorer_job_open(foreign.scorer, &spec, &job, &error), &error);
    assert_ok(scorer_prepare(foreign.scorer, &job, 1, &error), &error);
    struct response response;
    struct scorer_state *scorer_state = NULL;
    assert_ok(response_init(&response, world->policy_tokenizer, CONTEXT), NULL);
    assert_ok(scorer_state_open(job, &scorer_state), NULL);
    for (int i = 0; i < CONTEXT; i++) {
        assert_ok(response_append(&response, 'x', 0, false), NULL);
    }
    struct scorer_extension extension = {.state = scorer_state, .text = view(&response)};
    assert_ok(scorer_extend(foreign.scorer, &extension, 1, &error), &error);
    assert_status(STATUS_LIMIT, extension.error.status);
    response_finish(&response);
    scorer_state_drop(scorer_state);
    scorer_job_close(job);
    unload(&own);
    unload(&foreign);
}

static void test_too_little_kv_is_reported_and_states_can_be_dropped(void **state) {
    struct world *world = *state;
    struct loaded loaded = load(world, "cost", 6);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, false);
    struct candidate pool[2];
    memset(pool, 0, sizeof pool);
    struct scorer_extension extensions[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(response_init(&pool[i].response, world->policy_tokenizer, TOKENS_MAX), NULL);
        assert_ok(scorer_state_open(job, &pool[i].state), NULL);
        for (int k = 0; k < TOKENS_MAX; k++) {
            assert_ok(response_append(&pool[i].response, 'a', 0, false), NULL);
        }
        extensions[i] =
            (struct scorer_extension){.state = pool[i].state, .text = view(&pool[i].response)};
    }
    struct error error = {0};
    assert_status(STATUS_LIMIT, scorer_extend(loaded.scorer, extensions, 2, &error));
    drop(&pool[0]);
    drop(&pool[1]);
    scorer_job_close(job);
    unload(&loaded);
}

static struct candidate fork_candidate(const struct candidate *parent) {
    struct candidate child = *parent;
    assert_ok(response_fork(&child.response, &parent->response), NULL);
    assert_ok(scorer_state_fork(parent->state, &child.state), NULL);
    return child;
}

static int32_t common(const struct response *a, const struct response *b) {
    int32_t n = 0;
    while (n < a->n_read && n < b->n_read && a->read_ids[n] == b->read_ids[n]) {
        n++;
    }
    return n;
}

// How many tokens the scorer reads for one call over the pool.
static int64_t count_reading(struct loaded *loaded, const struct settings *settings,
                             struct candidate *pool) {
    int64_t before = loaded->scorer->counts.response_tokens;
    extend_and_check(loaded, settings, pool);
    return loaded->scorer->counts.response_tokens - before;
}

static void test_what_finished_texts_share_is_read_once(void **state) {
    struct world *world = *state;
    const struct settings settings = {.model = "cost", .role = SCORER_ROLE_COST};
    struct loaded loaded = load(world, "cost", 200);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, false);
    struct candidate pool[POOL];
    memset(pool, 0, sizeof pool);
    pool[0].used = true;
    assert_ok(response_init(&pool[0].response, world->policy_tokenizer, TOKENS_MAX), NULL);
    assert_ok(scorer_state_open(job, &pool[0].state), NULL);
    // Single letters, which the tokenizer would merge: the reading differs from the first token on.
    for (int i = 0; i < 30; i++) {
        assert_ok(response_append(&pool[0].response, "the kind of man "[i % 16], 0, false), NULL);
    }
    assert_int_equal(count_reading(&loaded, &settings, pool), 30);
    for (int i = 1; i <= 3; i++) {
        pool[i] = fork_candidate(&pool[0]);
        assert_ok(response_append(&pool[i].response, " bg"[i - 1], 0, false), NULL);
        finish(&pool[i], false);
    }
    struct candidate stem = pool[0];
    pool[0] = (struct candidate){0};
    const struct response *a = &pool[1].response;
    const struct response *b = &pool[2].response;
    assert_true(a->read_ids[0] != 't' && common(a, b) >= 10);
    int64_t rest = b->n_read - common(a, b) + pool[3].response.n_read;
    int32_t shared = common(a, &pool[3].response);
    shared = shared > common(b, &pool[3].response) ? shared : common(b, &pool[3].response);
    assert_int_equal(count_reading(&loaded, &settings, pool), a->n_read + rest - shared);
    // In a later call, a text that is known already costs nothing, until it is forgotten.
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i <= 3; i++) {
            drop(&pool[i]);
        }
        pool[1] = fork_candidate(&stem);
        assert_ok(response_append(&pool[1].response, 'b', 0, false), NULL);
        finish(&pool[1], false);
        int64_t read = count_reading(&loaded, &settings, pool);
        assert_int_equal(read, round == 0 ? 0 : pool[1].response.n_read);
        if (round == 0) {
            scorer_forget(loaded.scorer);
        }
    }
    drop(&pool[1]);
    drop(&stem);
    scorer_job_unload(job);
    assert_int_equal(model_context_blocks_free(loaded.context),
                     model_context_blocks_total(loaded.context));
    scorer_job_close(job);
    unload(&loaded);
}

// The second of two children that begin alike reads what it has for itself; a third that equals the
// first reads nothing, unless it is another job's.
static void test_what_children_share_is_read_once(void **state) {
    struct world *world = *state;
    const struct settings settings = {.model = "cost", .role = SCORER_ROLE_COST};
    struct loaded loaded = load(world, "cost", 200);
    struct scorer_job *job = open_job(&loaded, SCORER_ROLE_COST, false);
    struct candidate pool[POOL];
    memset(pool, 0, sizeof pool);
    struct scorer_job *other = open_job(&loaded, SCORER_ROLE_COST, false);
    static const char *const written[] = {"kind", "kilo", "kind", "mind", "kind"};
    for (int i = 0; i < 5; i++) {
        pool[i].used = true;
        assert_ok(response_init(&pool[i].response, world->policy_tokenizer, TOKENS_MAX), NULL);
        assert_ok(scorer_state_open(i == 4 ? other : job, &pool[i].state), NULL);
        for (int k = 0; k < 4; k++) {
            assert_ok(response_append(&pool[i].response, written[i][k], 0, false), NULL);
        }
    }
    assert_int_equal(count_reading(&loaded, &settings, pool), 4 + 2 + 0 + 4 + 4);
    for (int i = 0; i < 5; i++) { // each goes on by itself
        assert_ok(response_append(&pool[i].response, "abaca"[i], 0, false), NULL);
    }
    assert_int_equal(count_reading(&loaded, &settings, pool), 5);
    for (int i = 0; i < 5; i++) {
        drop(&pool[i]);
    }
    scorer_job_close(other);
    scorer_job_close(job);
    unload(&loaded);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_score_head_with_shared_ids),
        cmocka_unit_test(test_score_head_with_forked_end_tokens),
        cmocka_unit_test(test_class_head_with_shared_ids),
        cmocka_unit_test(test_class_head_reads_the_last_token_that_is_not_padding),
        cmocka_unit_test(test_texts_are_scored_after_the_profiles_closing),
        cmocka_unit_test(test_prompts_score_by_the_same_rule),
        cmocka_unit_test(test_handed_model_whose_padding_is_its_end_token),
        cmocka_unit_test(test_an_appended_end_token_that_is_padding_is_refused),
        cmocka_unit_test(test_score_head_retokenized),
        cmocka_unit_test(test_class_head_retokenized),
        cmocka_unit_test(test_tokenizer_that_lengthens_its_text),
        cmocka_unit_test(test_tokenizers_agree_or_not),
        cmocka_unit_test(test_retokenized_border_restates_earlier_scores),
        cmocka_unit_test(test_appended_end_token_is_read_after_the_prompt_too),
        cmocka_unit_test(test_prompt_and_responses_that_do_not_fit_are_refused),
        cmocka_unit_test(test_too_little_kv_is_reported_and_states_can_be_dropped),
        cmocka_unit_test(test_what_finished_texts_share_is_read_once),
        cmocka_unit_test(test_what_children_share_is_read_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
