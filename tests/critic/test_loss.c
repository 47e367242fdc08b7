// The training loss and its derivatives, against PyTorch and against finite differences in double.
#include <math.h>
#include <stdlib.h>

#include "common/rng.h"
#include "tests/critic/critic_case.h"
#include "tests/support/testkit.h"
#include "worker/critic/loss.h"

enum { OUTPUTS_MAX = 64 };

static void test_loss_and_derivatives_are_pytorchs(void **state) {
    (void)state;
    struct critic_case critic;
    critic_case_open(&critic);
    size_t n;
    float *raw = critic_case_floats(json_object_get(critic.vectors, "raw"), &n);
    float *costs = critic_case_floats(json_object_get(critic.vectors, "costs"), &n);
    float *rewards = critic_case_floats(json_object_get(critic.vectors, "rewards"), &n);
    const json_t *losses = json_object_get(critic.vectors, "losses");
    const json_t *by_raw = json_object_get(critic.vectors, "by_raw");
    const struct critic_loss loss = {
        CRITIC_FORM_LATENT, critic.terms.n_channels, critic.terms.n_parts, true,
        json_number_value(json_object_get(critic.vectors, "sigma_min"))};
    size_t n_out = (size_t)critic_output_count(&critic.terms);
    for (size_t row = 0; row < (size_t)critic.n_rows; row++) {
        double gradient[OUTPUTS_MAX];
        double got = critic_loss_row(&loss, raw + row * n_out,
                                     costs + row * (size_t)loss.n_channels, rewards[row], gradient);
        double want = json_number_value(json_array_get(losses, row));
        assert_true(fabs(got - want) <= 1e-5 * fmax(1, fabs(want)));
        for (size_t i = 0; i < n_out; i++) {
            double derivative = json_number_value(json_array_get(by_raw, row * n_out + i));
            assert_true(fabs(gradient[i] - derivative) <= 1e-5);
        }
    }
    free(raw);
    free(costs);
    free(rewards);
    critic_case_close(&critic);
}

static void test_derivatives_are_slopes_of_the_loss_far_out_too(void **state) {
    (void)state;
    for (uint32_t trial = 0; trial < 400; trial++) {
        const struct critic_loss loss = {CRITIC_FORM_LATENT, 1 + (int32_t)(trial % 4),
                                         1 + (int32_t)(trial % 3), trial % 2 == 0, 0.01};
        int32_t n = 3 * loss.n_parts * loss.n_channels + (loss.has_reward ? 1 : 0);
        float raw[OUTPUTS_MAX], costs[4];
        double gradient[OUTPUTS_MAX], ignored[OUTPUTS_MAX];
        for (int32_t i = 0; i < n; i++) {
            raw[i] = (float)(8 * rng_uniform(3, trial, (uint32_t)i, 0) - 4);
        }
        for (uint32_t i = 0; i < 4; i++) {
            costs[i] = (float)(40 * rng_uniform(3, trial, i, 1) - 20);
        }
        double value = critic_loss_row(&loss, raw, costs, 1.5F, gradient);
        assert_true(isfinite(value));
        for (int32_t i = 0; i < n; i++) {
            const float step = 0x1p-14F; // exact in raw
            float kept = raw[i];
            raw[i] = kept + step;
            double above = critic_loss_row(&loss, raw, costs, 1.5F, ignored);
            double up = (double)raw[i];
            raw[i] = kept - step;
            double below = critic_loss_row(&loss, raw, costs, 1.5F, ignored);
            double slope = (above - below) / (up - (double)raw[i]);
            raw[i] = kept;
            assert_true(fabs(gradient[i] - slope) <= 1e-3 * fmax(1, fabs(slope)));
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_and_derivatives_are_pytorchs),
        cmocka_unit_test(test_derivatives_are_slopes_of_the_loss_far_out_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
