// Training: gradients of the whole network are PyTorch's, a planted cost to go is learned and
// serves several budgets, and the same bits come out whatever the threads and the interruptions.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "tests/critic/critic_case.h"
#include "tests/support/testkit.h"
#include "worker/critic/critic.h"
#include "worker/critic/gradient.h"
#include "worker/critic/measure.h"
#include "worker/critic/train.h"
#include "worker/model/element.h"

enum { HIDDEN = 24, PROMPTS = 200, EACH = 10, SAMPLES = PROMPTS * EACH };

static const struct critic_train_options options = {.widths = {32, 32},
                                                    .batch = 64,
                                                    .epochs_max = 12,
                                                    .patience = 4,
                                                    .learning_rate = 3e-3,
                                                    .weight_decay = 0.01,
                                                    .seed = 5};

static struct backend *open_backend(int threads) {
    struct backend *backend = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", threads, &backend, &err), &err);
    return backend;
}

static void test_gradients_are_pytorchs(void **state) {
    (void)state;
    struct critic_case critic;
    critic_case_open(&critic);
    size_t n;
    float *costs = critic_case_floats(json_object_get(critic.vectors, "costs"), &n);
    float *rewards = critic_case_floats(json_object_get(critic.vectors, "rewards"), &n);
    size_t n_parameters = critic_parameter_count(critic.net.dims);
    float *parameters = calloc(n_parameters, sizeof *parameters);
    float *by = calloc(n_parameters, sizeof *by);
    struct critic_net view = critic.net;
    critic_net_view(&view, parameters);
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        size_t rows = (size_t)view.dims[i + 1], cols = (size_t)view.dims[i];
        memcpy(parameters + (view.weights[i] - parameters), critic.net.weights[i],
               rows * cols * sizeof(float));
        memcpy(parameters + (view.biases[i] - parameters), critic.net.biases[i],
               rows * sizeof(float));
    }
    const struct critic_loss loss = {
        CRITIC_FORM_LATENT, critic.terms.n_channels, critic.terms.n_parts, true,
        json_number_value(json_object_get(critic.vectors, "sigma_min"))};
    struct backend *backend = open_backend(2);
    struct critic_gradient *gradient = NULL;
    const float *raw;
    double mean = 0;
    assert_ok(critic_gradient_create(backend, critic.net.dims, 9, &gradient), NULL);
    assert_ok(critic_gradient_forward(gradient, parameters, critic.states, critic.n_rows, &raw),
              NULL);
    critic_case_assert_near("raw", raw, json_object_get(critic.vectors, "raw"), 1e-5);
    assert_ok(critic_gradient_backward(gradient, &loss, parameters, critic.states, critic.n_rows,
                                       &(struct critic_targets){costs, rewards, NULL}, &mean, by),
              NULL);
    critic_net_view(&view, by);
    for (size_t i = 0; i < CRITIC_LAYERS; i++) {
        const json_t *weights = json_object_get(critic.vectors, "by_weights");
        const json_t *biases = json_object_get(critic.vectors, "by_biases");
        critic_case_assert_near("weights", view.weights[i], json_array_get(weights, i), 1e-5);
        critic_case_assert_near("biases", view.biases[i], json_array_get(biases, i), 1e-5);
    }
    critic_gradient_destroy(gradient);
    backend_destroy(backend);
    free(parameters);
    free(by);
    free(costs);
    free(rewards);
    critic_case_close(&critic);
}

// States of unit normal elements, but for the scale and mean of each; a cost to go that is linear
// in them, with noise, and a reward that is another linear form.
struct planted {
    struct critic_terms terms;
    struct critic_samples samples;
    uint16_t states[SAMPLES * HIDDEN];
    float costs[SAMPLES], rewards[SAMPLES], spent[SAMPLES], weights[SAMPLES], places[SAMPLES];
    uint32_t prompts[SAMPLES], trajectories[SAMPLES];
};

static double normal(uint32_t a, uint32_t b) {
    double u = rng_uniform(77, a, b, 0), v = rng_uniform(77, a, b, 1);
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static struct planted *plant(int32_t n_parts) {
    struct planted *planted = calloc(1, sizeof *planted);
    assert_non_null(planted);
    struct critic_case critic;
    critic_case_open(&critic);
    planted->terms = critic.terms;
    critic_case_close(&critic);
    planted->terms.hidden_dim = HIDDEN;
    planted->terms.n_parts = n_parts;
    planted->terms.n_channels = 1;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        double cost = 0, reward = 0;
        for (uint32_t j = 0; j < HIDDEN; j++) {
            double x = normal(i, j);
            float value = (float)(x * (1 + j) + 10 * j);
            planted->states[i * HIDDEN + j] = to_bf16(value);
            cost += x * (j % 3 == 0 ? 1 : -0.3);
            reward += x * (j % 5 == 1 ? 1 : 0);
        }
        planted->costs[i] = (float)(40 + 5 * cost + normal(i, 1000));
        planted->rewards[i] = (float)(reward - 7);
        planted->weights[i] = 1;
        planted->places[i] = 0.5F;
        planted->prompts[i] = i / EACH;
        planted->trajectories[i] = i;
    }
    planted->samples = (struct critic_samples){.n = SAMPLES,
                                               .n_prompts = PROMPTS,
                                               .states = planted->states,
                                               .costs = planted->costs,
                                               .rewards = planted->rewards,
                                               .spent = planted->spent,
                                               .weights = planted->weights,
                                               .places = planted->places,
                                               .prompts = planted->prompts,
                                               .trajectories = planted->trajectories};
    return planted;
}

static struct critic_trainer *begin(const struct planted *planted, struct backend *backend) {
    struct critic_trainer *trainer = NULL;
    struct error err = {0};
    assert_ok(critic_trainer_create(backend, &planted->terms, &planted->samples, &options, &trainer,
                                    &err),
              &err);
    return trainer;
}

static void run_to_the_end(struct critic_trainer *trainer) {
    struct critic_epoch epoch;
    struct error err = {0};
    while (!critic_trainer_is_done(trainer)) {
        assert_ok(critic_trainer_run(trainer, &epoch, &err), &err);
    }
}

static void write_net(struct critic_trainer *trainer, const struct planted *planted,
                      const char *path) {
    struct critic_net net;
    struct error err = {0};
    assert_ok(critic_trainer_net(trainer, &net, &err), &err);
    assert_ok(critic_file_write(path, &planted->terms, &net, &err), &err);
}

static void assert_learned(int32_t n_parts) {
    char *directory = testkit_make_directory();
    char path[4200];
    struct error err = {0};
    snprintf(path, sizeof path, "%s/critic", directory);
    struct planted *planted = plant(n_parts);
    struct backend *backend = open_backend(2);
    struct critic_trainer *trainer = begin(planted, backend);
    run_to_the_end(trainer);
    write_net(trainer, planted, path);
    struct critic *critic = NULL;
    assert_ok(critic_open(path, backend, 64, &critic, &err), &err);
    size_t n;
    const size_t *held_out = critic_trainer_part(trainer, CRITIC_PART_REPORT, &n);
    assert_int_equal(n, SAMPLES / 10);
    static float states[SAMPLES * HIDDEN];
    static int32_t rows[SAMPLES];
    static float raw[SAMPLES * 16];
    static const double budgets[] = {25, 40, 55};
    static struct measure_case cases[3][SAMPLES];
    for (size_t i = 0; i < n; i++) {
        rows[i] = (int32_t)held_out[i];
    }
    for (size_t i = 0; i < (size_t)SAMPLES * HIDDEN; i++) {
        states[i] = element_to_f32(planted->states, DTYPE_BF16, i);
    }
    const struct tensor tensor = {states, DTYPE_F32, SAMPLES, HIDDEN};
    assert_ok(critic_evaluate(critic, &tensor, rows, (int32_t)n, raw), NULL);
    double error = 0, spread = 0, central = 0;
    for (size_t i = 0; i < n; i++) {
        struct critic_output output;
        assert_ok(critic_read(critic, raw + i * (size_t)(3 * n_parts + 1), &output, &err), &err);
        for (int b = 0; b < 3; b++) {
            cases[b][i] = (struct measure_case){cost_to_go_within(&output.costs[0], budgets[b]),
                                                (double)planted->costs[held_out[i]] <= budgets[b]};
        }
        double place = cost_to_go_within(&output.costs[0], (double)planted->costs[held_out[i]]);
        central += place > 0.1 && place < 0.9 ? 1.0 / (double)n : 0;
        double reward = (double)planted->rewards[held_out[i]];
        error += pow((double)output.reward - reward, 2);
        spread += pow(reward + 7, 2);
    }
    assert_true(error < 0.1 * spread);
    assert_true(central > 0.5 && central < 0.95); // four fifths, were it perfect
    for (int b = 0; b < 3; b++) {
        struct measure measure;
        measure_cases(cases[b], n, &measure);
        assert_true(measure.auroc > 0.95 && measure.brier < 0.1);
    }
    critic_close(critic);
    critic_trainer_destroy(trainer);
    backend_destroy(backend);
    free(planted);
    testkit_remove_tree(directory);
}

static void test_a_planted_cost_to_go_is_learned_for_three_budgets(void **state) {
    (void)state;
    assert_learned(1);
    assert_learned(3);
}

static void assert_equal_files(const char *a, const char *b) {
    size_t size_a, size_b;
    char *bytes_a = testkit_read_file(a, &size_a), *bytes_b = testkit_read_file(b, &size_b);
    assert_int_equal(size_a, size_b);
    assert_memory_equal(bytes_a, bytes_b, size_a);
    free(bytes_a);
    free(bytes_b);
}

static void test_threads_and_interruptions_change_no_bit(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char whole[4200], parts[4200], saved[4200];
    snprintf(whole, sizeof whole, "%s/whole", directory);
    snprintf(parts, sizeof parts, "%s/parts", directory);
    snprintf(saved, sizeof saved, "%s/saved", directory);
    struct planted *planted = plant(3);
    struct backend *one = open_backend(1), *three = open_backend(3);
    struct critic_trainer *trainer = begin(planted, one);
    run_to_the_end(trainer);
    write_net(trainer, planted, whole);
    critic_trainer_destroy(trainer);
    trainer = begin(planted, three);
    while (!critic_trainer_is_done(trainer)) {
        struct critic_epoch epoch;
        struct error err = {0};
        assert_ok(critic_trainer_run(trainer, &epoch, &err), &err);
        assert_ok(critic_trainer_save(trainer, saved, &err), &err);
        critic_trainer_destroy(trainer);
        trainer = begin(planted, three);
        assert_ok(critic_trainer_resume(trainer, saved, &err), &err);
    }
    write_net(trainer, planted, parts);
    critic_trainer_destroy(trainer);
    assert_equal_files(whole, parts);

    // A checkpoint of other labels is not taken.
    struct error err = {0};
    planted->costs[3] += 1;
    trainer = begin(planted, one);
    assert_status(STATUS_INVALID_ARGUMENT, critic_trainer_resume(trainer, saved, &err));
    assert_string_equal(err.field, "surefoot_critic_training");
    assert_status(STATUS_MALFORMED, critic_trainer_resume(trainer, whole, &err));
    critic_trainer_destroy(trainer);
    backend_destroy(one);
    backend_destroy(three);
    free(planted);
    testkit_remove_tree(directory);
}

static void assert_refused(struct planted *planted, const char *field) {
    struct backend *backend = open_backend(1);
    struct critic_trainer *trainer = NULL;
    struct error err = {0};
    assert_status(STATUS_INVALID_ARGUMENT,
                  critic_trainer_create(backend, &planted->terms, &planted->samples, &options,
                                        &trainer, &err));
    assert_string_equal(err.field, field);
    backend_destroy(backend);
    free(planted);
}

static void test_samples_that_teach_nothing_are_refused(void **state) {
    (void)state;
    struct planted *planted = plant(1);
    planted->costs[17] = NAN;
    assert_refused(planted, "costs");
    planted = plant(1);
    planted->rewards[17] = INFINITY;
    assert_refused(planted, "rewards");
    planted = plant(1);
    for (int i = 0; i < SAMPLES; i++) {
        planted->costs[i] = 3;
    }
    assert_refused(planted, "channels[0].costs");
    planted = plant(1);
    for (int i = 0; i < SAMPLES; i++) {
        planted->rewards[i] = 3;
    }
    assert_refused(planted, "rewards");
    planted = plant(1);
    planted->samples.n_prompts = 9;
    planted->samples.n = 90;
    assert_refused(planted, "prompts");
    planted = plant(1);
    for (int i = 0; i < SAMPLES; i++) {
        planted->states[i * HIDDEN + 3] = 0x7FC0; // NaN
    }
    assert_refused(planted, "states");
}

// Targets that have nothing to do with the states: what is learned of them by heart foretells
// others worse than their mean and spread do.
static void test_a_training_that_learned_nothing_gives_no_critic(void **state) {
    (void)state;
    struct planted *planted = plant(1);
    for (uint32_t i = 0; i < SAMPLES; i++) {
        planted->costs[i] = (float)normal(i, 2000);
        planted->rewards[i] = (float)normal(i, 3000);
    }
    struct backend *backend = open_backend(1);
    struct critic_train_options wild = options;
    wild.learning_rate = 1;
    wild.epochs_max = 2;
    struct critic_trainer *trainer = NULL;
    struct critic_net net;
    struct error err = {0};
    assert_ok(
        critic_trainer_create(backend, &planted->terms, &planted->samples, &wild, &trainer, &err),
        &err);
    run_to_the_end(trainer);
    assert_status(STATUS_INVALID_ARGUMENT, critic_trainer_net(trainer, &net, &err));
    assert_string_equal(err.field, "loss");
    critic_trainer_destroy(trainer);
    backend_destroy(backend);
    free(planted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_training_that_learned_nothing_gives_no_critic),
        cmocka_unit_test(test_gradients_are_pytorchs),
        cmocka_unit_test(test_a_planted_cost_to_go_is_learned_for_three_budgets),
        cmocka_unit_test(test_threads_and_interruptions_change_no_bit),
        cmocka_unit_test(test_samples_that_teach_nothing_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
