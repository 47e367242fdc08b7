// A value network: V, the states moved along its gradient and the logits of these are PyTorch's
// (tests/vectors/value.json), and so are loss and gradients of both forms; a planted value is
// learned, by the corrected form alone; what a file says of itself is checked.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/critic/critic_case.h"
#include "tests/support/testkit.h"
#include "worker/critic/critic.h"
#include "worker/critic/gradient.h"
#include "worker/critic/train.h"
#include "worker/model/element.h"

enum { ROWS = 6, HIDDEN = 16, PATH_BYTES = 4200 };

static const int32_t in_order[ROWS] = {0, 1, 2, 3, 4, 5};

struct fixture {
    struct critic_case value;
    char *directory;
    char *path;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    critic_case_open_file("tests/vectors/value.json", &fixture->value);
    assert_int_equal(fixture->value.n_rows, ROWS);
    assert_int_equal(fixture->value.terms.hidden_dim, HIDDEN);
    fixture->directory = testkit_make_directory();
    fixture->path = critic_case_write(&fixture->value, fixture->directory);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    critic_case_close(&fixture->value);
    testkit_remove_tree(fixture->directory);
    free(fixture->path);
    free(fixture);
    return 0;
}

static struct backend *open_backend(int threads) {
    struct backend *backend = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", threads, &backend, &err), &err);
    return backend;
}

static const json_t *vector(const struct fixture *fixture, const char *name) {
    const json_t *list = json_object_get(fixture->value.vectors, name);
    assert_non_null(list);
    return list;
}

static void test_v_is_pytorchs(void **state) {
    const struct fixture *fixture = *state;
    struct backend *backend = open_backend(2);
    struct critic *critic = NULL;
    struct error err = {0};
    float raw[ROWS];
    assert_ok(critic_open(fixture->path, backend, 4, &critic, &err), &err);
    const struct tensor states = {fixture->value.states, DTYPE_F32, ROWS, HIDDEN};
    assert_ok(critic_evaluate(critic, &states, in_order, ROWS, raw), NULL);
    critic_case_assert_near("V", raw, vector(fixture, "raw"), 1e-5);
    struct critic_output output;
    assert_ok(critic_read(critic, &raw[2], &output, &err), &err);
    assert_true(output.reward == raw[2]);
    critic_close(critic);
    backend_destroy(backend);
}

// The states [ROWS, HIDDEN] after `steps` steps of rows[n].
static void ascend(const struct fixture *fixture, int threads, int32_t rows_max,
                   const int32_t *rows, int32_t n, int32_t steps, float *out) {
    struct backend *backend = open_backend(threads);
    struct critic *critic = NULL;
    struct error err = {0};
    float sizes[ROWS];
    assert_ok(critic_open(fixture->path, backend, rows_max, &critic, &err), &err);
    for (int32_t i = 0; i < n; i++) {
        sizes[i] =
            (float)json_number_value(json_array_get(vector(fixture, "sizes"), (size_t)rows[i]));
    }
    memcpy(out, fixture->value.states, ROWS * HIDDEN * sizeof *out);
    struct tensor states = {out, DTYPE_F32, ROWS, HIDDEN};
    critic_ascend(critic, &states, rows, sizes, n, steps);
    critic_close(critic);
    backend_destroy(backend);
}

static void test_moved_states_and_their_logits_are_pytorchs(void **state) {
    const struct fixture *fixture = *state;
    float once[ROWS * HIDDEN], moved[ROWS * HIDDEN];
    int32_t steps = (int32_t)json_integer_value(vector(fixture, "steps"));
    int32_t vocab = (int32_t)json_integer_value(vector(fixture, "vocab"));
    ascend(fixture, 1, 8, in_order, ROWS, 1, once);
    critic_case_assert_near("after a step", once, vector(fixture, "moved_once"), 1e-5);
    ascend(fixture, 1, 8, in_order, ROWS, steps, moved);
    critic_case_assert_near("after all steps", moved, vector(fixture, "moved"), 1e-5);

    size_t n;
    float *head = critic_case_floats(vector(fixture, "head"), &n);
    float *logits = calloc((size_t)(ROWS * vocab), sizeof *logits);
    const struct weight_source source = {
        .parts = {{.data = head, .dtype = DTYPE_F32, .rows = vocab, .cols = HIDDEN}}, .n_parts = 1};
    struct backend *backend = open_backend(2);
    struct weight packed = {0};
    assert_ok(backend->ops->weight_pack(backend, &source, PRECISION_STORED, &packed), NULL);
    const struct tensor states = {moved, DTYPE_F32, ROWS, HIDDEN};
    struct tensor out = {logits, DTYPE_F32, ROWS, vocab};
    backend->ops->linear(backend, &out, &states, &packed);
    critic_case_assert_near("logits", logits, vector(fixture, "logits"), 1e-5);
    backend->ops->weight_release(backend, &packed);
    backend_destroy(backend);
    free(head);
    free(logits);
}

static void test_a_moved_row_depends_on_no_other_and_the_rest_stays(void **state) {
    const struct fixture *fixture = *state;
    static const int32_t turned[ROWS] = {5, 4, 3, 2, 1, 0}, some[] = {4, 1};
    float whole[ROWS * HIDDEN], other[ROWS * HIDDEN];
    size_t row_bytes = HIDDEN * sizeof(float);
    ascend(fixture, 1, ROWS, in_order, ROWS, 7, whole);
    ascend(fixture, 3, 4, turned, ROWS, 7, other);
    assert_memory_equal(whole, other, sizeof whole);
    ascend(fixture, 2, 1, some, 2, 7, other);
    for (size_t row = 0; row < ROWS; row++) {
        bool is_moved = row == 4 || row == 1;
        const float *want = (is_moved ? whole : fixture->value.states) + row * HIDDEN;
        assert_memory_equal(other + row * HIDDEN, want, row_bytes);
    }
    // Row 3 has a step of size 0, the others have not.
    for (size_t row = 0; row < ROWS; row++) {
        bool same =
            memcmp(whole + row * HIDDEN, fixture->value.states + row * HIDDEN, row_bytes) == 0;
        assert_int_equal(same, row == 3);
    }
}

static void test_loss_and_gradients_of_both_forms_are_pytorchs(void **state) {
    const struct fixture *fixture = *state;
    const struct critic_case *value = &fixture->value;
    size_t n, n_parameters = critic_parameter_count(value->net.dims);
    float *rewards = critic_case_floats(vector(fixture, "rewards"), &n);
    float *parameters = calloc(n_parameters, sizeof *parameters);
    float *by = calloc(n_parameters, sizeof *by);
    bool ends[ROWS];
    for (size_t i = 0; i < ROWS; i++) {
        ends[i] = json_is_true(json_array_get(vector(fixture, "ends"), i));
    }
    struct critic_net view = value->net;
    critic_net_view(&view, parameters);
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        size_t rows = (size_t)view.dims[i + 1], cols = (size_t)view.dims[i];
        memcpy(parameters + (view.weights[i] - parameters), value->net.weights[i],
               rows * cols * sizeof(float));
        memcpy(parameters + (view.biases[i] - parameters), value->net.biases[i],
               rows * sizeof(float));
    }
    struct backend *backend = open_backend(2);
    struct critic_gradient *gradient = NULL;
    assert_ok(critic_gradient_create(backend, value->net.dims, ROWS, &gradient), NULL);
    for (int form = CRITIC_FORM_VALUE; form <= CRITIC_FORM_VALUE_RELEASED; form++) {
        const struct critic_loss loss = {.form = (enum critic_form)form, .has_reward = true};
        const struct critic_targets targets = {NULL, rewards, ends};
        const json_t *want = vector(fixture, critic_form_name((enum critic_form)form));
        const float *raw;
        float slopes[ROWS];
        double mean = 0;
        assert_ok(critic_gradient_forward(gradient, parameters, value->states, ROWS, &raw), NULL);
        critic_loss_mean(&loss, raw, ROWS, &targets, slopes);
        critic_case_assert_near("by V", slopes, json_object_get(want, "by_raw"), 1e-5);
        assert_ok(critic_gradient_backward(gradient, &loss, parameters, value->states, ROWS,
                                           &targets, &mean, by),
                  NULL);
        double expected = json_number_value(json_object_get(want, "loss"));
        assert_true(fabs(mean - expected) <= 1e-5 * fmax(1, fabs(expected)));
        critic_net_view(&view, by);
        for (size_t i = 0; i < CRITIC_LAYERS; i++) {
            critic_case_assert_near("weights", view.weights[i],
                                    json_array_get(json_object_get(want, "by_weights"), i), 1e-5);
            critic_case_assert_near("biases", view.biases[i],
                                    json_array_get(json_object_get(want, "by_biases"), i), 1e-5);
        }
    }
    critic_gradient_destroy(gradient);
    backend_destroy(backend);
    free(rewards);
    free(parameters);
    free(by);
}

static struct critic_channel one_cost(const struct critic_terms *terms) {
    return (struct critic_channel){.scorer = terms->rewards[0],
                                   .cost_mode = COST_MODE_TOKEN_SUM,
                                   .cost_eos = COST_EOS_NONE,
                                   .admit_rule = ADMIT_RULE_TERMINAL,
                                   .discount = 1,
                                   .discount_unit = DISCOUNT_UNIT_TOKEN};
}

static void test_a_file_says_what_was_written(void **state) {
    struct fixture *fixture = *state;
    struct critic_file file;
    struct error err = {0};
    assert_ok(critic_file_open(fixture->path, &file, &err), &err);
    assert_memory_equal(&file.terms, &fixture->value.terms, sizeof file.terms);
    critic_file_close(&file);
    struct critic_terms *terms = &fixture->value.terms;
    terms->form = CRITIC_FORM_VALUE_RELEASED;
    terms->lambda = 2.5;
    terms->n_channels = 1;
    terms->channels[0] = one_cost(terms);
    free(critic_case_write(&fixture->value, fixture->directory));
    assert_ok(critic_file_open(fixture->path, &file, &err), &err);
    assert_memory_equal(&file.terms, terms, sizeof file.terms);
    critic_file_close(&file);
}

static void edit_lambda_without_costs(struct critic_terms *terms) {
    terms->lambda = 5;
}
static void edit_costs_without_lambda(struct critic_terms *terms) {
    terms->n_channels = 1;
    terms->channels[0] = one_cost(terms);
}
static void edit_negative_lambda(struct critic_terms *terms) {
    terms->lambda = -1;
}
static void edit_no_rewards(struct critic_terms *terms) {
    terms->n_rewards = 0;
}

static void test_wrong_terms_are_named(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        void (*edit)(struct critic_terms *terms);
        const char *field;
    } cases[] = {{edit_lambda_without_costs, "terms.channels"},
                 {edit_costs_without_lambda, "terms.channels"},
                 {edit_negative_lambda, "terms.lambda"},
                 {edit_no_rewards, "terms.rewards"}};
    const struct critic_terms kept = fixture->value.terms;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct critic_file file;
        struct error err = {0};
        fixture->value.terms = kept;
        cases[i].edit(&fixture->value.terms);
        free(critic_case_write(&fixture->value, fixture->directory));
        enum status status = critic_file_open(fixture->path, &file, &err);
        critic_file_close(&file);
        assert_true(status != STATUS_OK);
        assert_string_equal(err.field, cases[i].field);
    }
}

static void test_another_form_or_lambda_is_refused_by_name(void **state) {
    struct fixture *fixture = *state;
    struct critic_terms other = fixture->value.terms;
    struct error err = {0};
    assert_ok(critic_terms_agree(&fixture->value.terms, &other, &err), &err);
    other.form = CRITIC_FORM_VALUE_RELEASED;
    assert_status(STATUS_INVALID_ARGUMENT, critic_terms_agree(&fixture->value.terms, &other, &err));
    assert_string_equal(err.field, "form");
    other.form = CRITIC_FORM_VALUE;
    other.lambda = 5;
    assert_status(STATUS_INVALID_ARGUMENT, critic_terms_agree(&fixture->value.terms, &other, &err));
    assert_string_equal(err.field, "lambda");
}

// Texts of a few states of unit normal elements: what a text comes to is a linear form of its last
// one, which element 0 tells from the others; these say nothing of it.
enum { TEXTS = 1200, EACH = 4, SAMPLES = TEXTS * EACH, TEXTS_OF_PROMPT = 3 };

struct planted {
    struct critic_terms terms;
    struct critic_samples samples;
    uint16_t states[SAMPLES * HIDDEN];
    float rewards[SAMPLES], places[SAMPLES];
    uint32_t prompts[SAMPLES], trajectories[SAMPLES];
};

static double normal(uint32_t a, uint32_t b) {
    double u = rng_uniform(78, a, b, 0), v = rng_uniform(78, a, b, 1);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static struct planted *plant(const struct fixture *fixture, enum critic_form form) {
    struct planted *planted = calloc(1, sizeof *planted);
    assert_non_null(planted);
    planted->terms = fixture->value.terms;
    planted->terms.form = form;
    for (uint32_t text = 0; text < TEXTS; text++) {
        double reward = 0;
        for (uint32_t i = text * EACH; i < (text + 1) * EACH; i++) {
            reward = 0;
            for (uint32_t j = 0; j < HIDDEN; j++) {
                double x = normal(i, j) + (j == 0 && i % EACH == EACH - 1 ? 6 : 0);
                planted->states[i * HIDDEN + j] = to_bf16((float)x);
                reward += j % 5 == 1 ? x : 0;
            }
            planted->places[i] = (float)(i % EACH + 1) / (EACH + 1);
            planted->prompts[i] = text / TEXTS_OF_PROMPT;
            planted->trajectories[i] = text;
        }
        for (uint32_t i = text * EACH; i < (text + 1) * EACH; i++) {
            planted->rewards[i] = (float)(3 * reward - 7);
        }
    }
    planted->samples = (struct critic_samples){.n = SAMPLES,
                                               .n_prompts = TEXTS / TEXTS_OF_PROMPT,
                                               .states = planted->states,
                                               .rewards = planted->rewards,
                                               .places = planted->places,
                                               .prompts = planted->prompts,
                                               .trajectories = planted->trajectories};
    return planted;
}

static const struct critic_train_options options = {.widths = {32, 32},
                                                    .batch = 32,
                                                    .epochs_max = 30,
                                                    .patience = 30,
                                                    .learning_rate = 3e-3,
                                                    .weight_decay = 0,
                                                    .seed = 5};

// Trains to the end, with a checkpoint after every epoch where `saved` is a path, and writes it.
static void train(const struct planted *planted, struct backend *backend, const char *saved,
                  const char *path, struct critic_trainer **out) {
    struct critic_trainer *trainer = NULL;
    struct critic_epoch epoch;
    struct critic_net net;
    struct error err = {0};
    assert_ok(critic_trainer_create(backend, &planted->terms, &planted->samples, &options, &trainer,
                                    &err),
              &err);
    while (!critic_trainer_is_done(trainer)) {
        assert_ok(critic_trainer_run(trainer, &epoch, &err), &err);
        if (saved != NULL) {
            assert_ok(critic_trainer_save(trainer, saved, &err), &err);
            critic_trainer_destroy(trainer);
            assert_ok(critic_trainer_create(backend, &planted->terms, &planted->samples, &options,
                                            &trainer, &err),
                      &err);
            assert_ok(critic_trainer_resume(trainer, saved, &err), &err);
        }
    }
    assert_ok(critic_trainer_net(trainer, &net, &err), &err);
    assert_ok(critic_file_write(path, &planted->terms, &net, &err), &err);
    *out = trainer;
}

// Of held-out texts: the mean squared error of V at their last states, as a share of the spread.
static double error_at_the_end(const struct fixture *fixture, enum critic_form form) {
    char path[PATH_BYTES];
    struct error err = {0};
    struct planted *planted = plant(fixture, form);
    struct backend *backend = open_backend(2);
    struct critic_trainer *trainer = NULL;
    struct critic *critic = NULL;
    snprintf(path, sizeof path, "%s/planted", fixture->directory);
    train(planted, backend, NULL, path, &trainer);
    assert_ok(critic_open(path, backend, 64, &critic, &err), &err);
    static float states[SAMPLES * HIDDEN];
    for (size_t i = 0; i < (size_t)SAMPLES * HIDDEN; i++) {
        states[i] = element_to_f32(planted->states, DTYPE_BF16, i);
    }
    const struct tensor tensor = {states, DTYPE_F32, SAMPLES, HIDDEN};
    size_t n;
    const size_t *held_out = critic_trainer_part(trainer, CRITIC_PART_REPORT, &n);
    assert_int_equal(n, SAMPLES / 10);
    double error = 0, spread = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t row = (int32_t)held_out[i];
        float raw = 0;
        if (held_out[i] % EACH == EACH - 1) {
            assert_ok(critic_evaluate(critic, &tensor, &row, 1, &raw), NULL);
            error += pow((double)raw - (double)planted->rewards[held_out[i]], 2);
            spread += pow((double)planted->rewards[held_out[i]] + 7, 2);
        }
    }
    critic_close(critic);
    critic_trainer_destroy(trainer);
    backend_destroy(backend);
    free(planted);
    return error / spread;
}

static void test_a_planted_value_is_learned_by_the_corrected_form_alone(void **state) {
    const struct fixture *fixture = *state;
    double corrected = error_at_the_end(fixture, CRITIC_FORM_VALUE);
    double released = error_at_the_end(fixture, CRITIC_FORM_VALUE_RELEASED);
    if (!(corrected < 0.3 && released > 0.7)) {
        fail_msg("errors %g and %g of the spread", corrected, released);
    }
}

static void test_threads_and_interruptions_change_no_bit(void **state) {
    const struct fixture *fixture = *state;
    char whole[PATH_BYTES], parts[PATH_BYTES], saved[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s/whole", fixture->directory);
    snprintf(parts, sizeof parts, "%s/parts", fixture->directory);
    snprintf(saved, sizeof saved, "%s/saved", fixture->directory);
    struct planted *planted = plant(fixture, CRITIC_FORM_VALUE);
    struct backend *one = open_backend(1), *three = open_backend(3);
    struct critic_trainer *trainer = NULL;
    train(planted, one, NULL, whole, &trainer);
    critic_trainer_destroy(trainer);
    train(planted, three, saved, parts, &trainer);
    critic_trainer_destroy(trainer);
    size_t size_a, size_b;
    char *a = testkit_read_file(whole, &size_a), *b = testkit_read_file(parts, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(a, b, size_a);
    free(a);
    free(b);
    backend_destroy(one);
    backend_destroy(three);
    free(planted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(test_v_is_pytorchs),
        CASE(test_moved_states_and_their_logits_are_pytorchs),
        CASE(test_a_moved_row_depends_on_no_other_and_the_rest_stays),
        CASE(test_loss_and_gradients_of_both_forms_are_pytorchs),
        CASE(test_a_file_says_what_was_written),
        CASE(test_wrong_terms_are_named),
        CASE(test_another_form_or_lambda_is_refused_by_name),
        CASE(test_a_planted_value_is_learned_by_the_corrected_form_alone),
        CASE(test_threads_and_interruptions_change_no_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
