// States moved along a value network before their tokens are drawn: rows of jobs that do not ask
// stay as they are, those that do are the same in any company, held or rebuilt. Random weights.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "proto/limits.h"
#include "tests/support/testkit.h"
#include "tests/worker/rank_fixture.h"
#include "tests/worker/tiny_models.h"
#include "worker/critic/critic_file.h"
#include "worker/model/model.h"

enum { WIDTH = 24, CANDIDATES = 10, PATH_BYTES = 4200 };

struct fixture {
    char *directory;
    char path[PATH_BYTES]; // of the value network
    struct critic_terms terms;
    struct critic_net net;
    struct rank *plain;  // without it
    struct rank *moving; // with it
};

static float *random_floats(uint32_t stream, size_t n, double scale) {
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)(scale * (2 * rng_uniform(9, stream, (uint32_t)i, 0) - 1));
    }
    return values;
}

static void make_value(struct fixture *fixture) {
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", 1, &backend, &err), &err);
    assert_ok(model_open(tiny_model_path(fixture->directory, "policy"), backend, PRECISION_STORED,
                         &model, &err),
              &err);
    int32_t hidden = model_get_config(model)->hidden_dim;
    fixture->terms = (struct critic_terms){
        .form = CRITIC_FORM_VALUE, .hidden_dim = hidden, .n_parts = 1, .n_rewards = 1};
    snprintf(fixture->terms.policy_hash, SHA256_HEX_BYTES, "%s", model_get_hash(model));
    snprintf(fixture->terms.rewards[0].name, sizeof fixture->terms.rewards[0].name, "reward-eos");
    memset(fixture->terms.rewards[0].hash, 'b', SHA256_HEX_BYTES - 1);
    fixture->terms.rewards[0].weight = 1;
    const int32_t dims[] = {hidden, WIDTH, WIDTH, 1};
    memcpy(fixture->net.dims, dims, sizeof dims);
    for (uint32_t i = 0; i < CRITIC_LAYERS; i++) {
        size_t rows = (size_t)dims[i + 1], cols = (size_t)dims[i];
        fixture->net.weights[i] = random_floats(i, rows * cols, 1);
        fixture->net.biases[i] = random_floats(10 + i, rows, 0.1);
    }
    model_close(model);
    backend_destroy(backend);
    assert_ok(critic_file_write(fixture->path, &fixture->terms, &fixture->net, &err), &err);
}

static enum status open_with(const struct fixture *fixture, const char *value, const char *critic,
                             int threads, int slots, struct rank **out, struct error *err) {
    struct rank_options options = {.policy_directory =
                                       tiny_model_path(fixture->directory, "policy"),
                                   .value_path = value,
                                   .critic_path = critic,
                                   .backend = "cpu",
                                   .threads = threads,
                                   .slots = slots};
    return rank_open(&options, out, err);
}

static struct rank *open_rank(const struct fixture *fixture, bool has_value, int threads,
                              int slots) {
    struct rank *rank = NULL;
    struct error err = {0};
    assert_ok(
        open_with(fixture, has_value ? fixture->path : NULL, NULL, threads, slots, &rank, &err),
        &err);
    return rank;
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->directory = tiny_models_make();
    snprintf(fixture->path, sizeof fixture->path, "%s/value", fixture->directory);
    make_value(fixture);
    fixture->plain = open_rank(fixture, false, 1, 64);
    fixture->moving = open_rank(fixture, true, 1, 64);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    rank_close(fixture->plain);
    rank_close(fixture->moving);
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        free((void *)(uintptr_t)fixture->net.weights[i]);
        free((void *)(uintptr_t)fixture->net.biases[i]);
    }
    testkit_remove_tree(fixture->directory);
    free(fixture);
    return 0;
}

// Job `id`, whose draws are those of every other id; steps 0: it does not ask.
static void add_job(struct order_fixture *order, uint64_t id, uint32_t steps, double step) {
    const struct order_job asked = {
        .id = id, .prompt = "tell me about the weather", .max_tokens = 48, .seed = 7};
    Surefoot__GroupJob *job = order_add_job(order, &asked);
    job->has_value_steps = job->has_value_step = steps > 0;
    job->value_steps = steps;
    job->value_step = step;
}

// The first blocks of candidates 1..CANDIDATES of one job alone.
static Surefoot__Gathered *run_alone(struct rank *rank, uint64_t id, uint32_t steps, double step) {
    struct order_fixture *order = order_create();
    add_job(order, id, steps, step);
    for (uint64_t i = 1; i <= CANDIDATES; i++) {
        order_add_item(order, id, i, 0, NULL, 0, FIXTURE_BLOCK);
    }
    Surefoot__Gathered *rows = order_run(rank, order);
    order_destroy(order);
    return rows;
}

static void assert_same_draws(const Surefoot__Gathered *a, const Surefoot__Gathered *b, bool same) {
    size_t n_equal = 0;
    for (size_t i = 0; i < CANDIDATES; i++) {
        const Surefoot__Row *x = a->rows[i], *y = b->rows[i];
        assert_null(x->error);
        assert_null(y->error);
        n_equal += x->n_token_ids == y->n_token_ids &&
                   memcmp(x->token_ids, y->token_ids, x->n_token_ids * sizeof(uint32_t)) == 0 &&
                   memcmp(x->logprobs, y->logprobs, x->n_token_ids * sizeof(float)) == 0;
    }
    assert_int_equal(n_equal, same ? CANDIDATES : 0);
}

static void test_rows_that_do_not_ask_and_steps_of_size_zero_change_nothing(void **state) {
    const struct fixture *fixture = *state;
    Surefoot__Gathered *plain = run_alone(fixture->plain, 1, 0, 0);
    Surefoot__Gathered *unasked = run_alone(fixture->moving, 1, 0, 0);
    Surefoot__Gathered *zero = run_alone(fixture->moving, 2, 30, 0);
    Surefoot__Gathered *moved = run_alone(fixture->moving, 3, 30, 0.05);
    assert_same_draws(plain, unasked, true);
    assert_same_draws(plain, zero, true);
    assert_same_draws(plain, moved, false);
    wire_free(WIRE_GATHERED, plain);
    wire_free(WIRE_GATHERED, unasked);
    wire_free(WIRE_GATHERED, zero);
    wire_free(WIRE_GATHERED, moved);
}

static void test_a_candidate_is_moved_alike_in_any_company(void **state) {
    const struct fixture *fixture = *state;
    static const struct {
        uint64_t id;
        uint32_t steps;
        double step;
    } jobs[] = {{11, 0, 0}, {12, 3, 0.1}, {13, 5, 0.02}, {14, 3, 0.3}};
    enum { JOBS = sizeof jobs / sizeof jobs[0] };
    struct order_fixture *order = order_create();
    for (size_t j = 0; j < JOBS; j++) {
        add_job(order, jobs[j].id, jobs[j].steps, jobs[j].step);
    }
    for (uint64_t i = 1; i <= CANDIDATES; i++) {
        for (size_t j = 0; j < JOBS; j++) {
            order_add_item(order, jobs[j].id, i, 0, NULL, 0, FIXTURE_BLOCK);
        }
    }
    Surefoot__Gathered *together = order_run(fixture->moving, order);
    order_destroy(order);
    struct rank *other = open_rank(fixture, true, 3, 4);
    for (size_t j = 0; j < JOBS; j++) {
        Surefoot__Gathered *alone = run_alone(other, jobs[j].id, jobs[j].steps, jobs[j].step);
        for (uint64_t i = 1; i <= CANDIDATES; i++) {
            assert_rows_equal(alone->rows[i - 1], order_find_row(together, jobs[j].id, i));
        }
        wire_free(WIRE_GATHERED, alone);
    }
    wire_free(WIRE_GATHERED, together);
    rank_close(other);
}

// What was drawn from a moved state goes on from the state as the policy left it.
static void test_rebuilt_candidates_equal_held_ones(void **state) {
    const struct fixture *fixture = *state;
    struct rank *other = open_rank(fixture, true, 2, 8);
    Surefoot__Gathered *first = run_alone(fixture->moving, 21, 4, 0.1);
    struct order_fixture *held = order_create(), *rebuilt = order_create();
    add_job(held, 21, 4, 0.1);
    add_job(rebuilt, 21, 4, 0.1);
    size_t n = 0;
    for (size_t i = 0; i < CANDIDATES; i++) {
        const Surefoot__Row *row = first->rows[i];
        if (row->finish == SUREFOOT__FINISH__FINISH_NONE) {
            n++;
            order_add_item(held, 21, i + 1, i + 1, row->token_ids, row->n_token_ids, 9);
            order_add_item(rebuilt, 21, i + 1, i + 1, row->token_ids, row->n_token_ids, 9);
        }
    }
    assert_true(n > 0);
    Surefoot__Gathered *a = order_run(fixture->moving, held), *b = order_run(other, rebuilt);
    assert_int_equal(a->rebuilt_tokens, 0);
    assert_true(b->rebuilt_tokens > 0);
    assert_gathered_equal(a, b);
    wire_free(WIRE_GATHERED, first);
    wire_free(WIRE_GATHERED, a);
    wire_free(WIRE_GATHERED, b);
    order_destroy(held);
    order_destroy(rebuilt);
    rank_close(other);
}

static void assert_row_error(struct rank *rank, uint64_t id, uint32_t steps, double step,
                             enum status status, const char *field) {
    Surefoot__Gathered *rows = run_alone(rank, id, steps, step);
    for (size_t i = 0; i < CANDIDATES; i++) {
        assert_non_null(rows->rows[i]->error);
        assert_int_equal(rows->rows[i]->error->status, status);
        if (field != NULL) {
            assert_string_equal(rows->rows[i]->error->field, field);
        }
    }
    wire_free(WIRE_GATHERED, rows);
}

static void test_jobs_that_cannot_be_moved_are_refused_by_name(void **state) {
    const struct fixture *fixture = *state;
    assert_row_error(fixture->plain, 31, 30, 0.5, STATUS_UNSUPPORTED, "value_steps");
    assert_row_error(fixture->moving, 32, LIMIT_VALUE_STEPS + 1, 0.5, STATUS_LIMIT, "value_steps");
    assert_row_error(fixture->moving, 33, 30, -1, STATUS_LIMIT, "value_step");
    assert_row_error(fixture->moving, 34, 30, 2e6, STATUS_LIMIT, "value_step");
    assert_row_error(fixture->moving, 35, 1, NAN, STATUS_LIMIT, "value_step");
}

static void test_a_value_of_another_policy_or_form_is_refused_by_name(void **state) {
    struct fixture *fixture = *state;
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof path, "%s.other", fixture->path);
    struct critic_terms terms = fixture->terms;
    struct rank *rank = NULL;
    struct error err = {0};
    terms.policy_hash[0] = terms.policy_hash[0] == 'a' ? 'b' : 'a';
    assert_ok(critic_file_write(path, &terms, &fixture->net, &err), &err);
    assert_status(STATUS_INVALID_ARGUMENT, open_with(fixture, path, NULL, 1, 4, &rank, &err));
    assert_string_equal(err.field, "value");
    assert_non_null(strstr(err.message, "was trained for the policy with hash"));
    assert_status(STATUS_INVALID_ARGUMENT,
                  open_with(fixture, NULL, fixture->path, 1, 4, &rank, &err));
    assert_string_equal(err.field, "critic");
    assert_non_null(strstr(err.message, "its form is value"));
    const char *latent = testkit_source_path("models/demo/critic.safetensors");
    assert_status(STATUS_INVALID_ARGUMENT, open_with(fixture, latent, NULL, 1, 4, &rank, &err));
    assert_string_equal(err.field, "value");
    assert_non_null(strstr(err.message, "its form is latent"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_that_do_not_ask_and_steps_of_size_zero_change_nothing),
        cmocka_unit_test(test_a_candidate_is_moved_alike_in_any_company),
        cmocka_unit_test(test_rebuilt_candidates_equal_held_ones),
        cmocka_unit_test(test_jobs_that_cannot_be_moved_are_refused_by_name),
        cmocka_unit_test(test_a_value_of_another_policy_or_form_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
