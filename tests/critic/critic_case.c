#include "tests/critic/critic_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

float *critic_case_floats(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    float *values = malloc((*n + 1) * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < *n; i++) {
        values[i] = (float)json_number_value(json_array_get(list, i));
    }
    return values;
}

void critic_case_assert_near(const char *what, const float *got, const json_t *want,
                             double tolerance) {
    assert_true(json_array_size(want) > 0);
    for (size_t i = 0; i < json_array_size(want); i++) {
        double expected = json_number_value(json_array_get(want, i));
        if (!(fabs((double)got[i] - expected) <= tolerance * fmax(1, fabs(expected)))) {
            fail_msg("%s, place %zu: %.8g instead of %.8g", what, i, (double)got[i], expected);
        }
    }
}

static int number(const json_t *vectors, const char *name) {
    return (int)json_integer_value(json_object_get(vectors, name));
}

static void fill_terms(const json_t *vectors, struct critic_terms *terms) {
    bool is_value = json_object_get(vectors, "form") != NULL;
    *terms = (struct critic_terms){.form = is_value ? CRITIC_FORM_VALUE : CRITIC_FORM_LATENT,
                                   .n_parts = number(vectors, "n_parts"),
                                   .n_channels = number(vectors, "n_channels"),
                                   .n_rewards = 1,
                                   .chat_template = "llama-2"};
    memset(terms->policy_hash, 'a', SHA256_HEX_BYTES - 1);
    struct critic_scorer scorer = {.name = "reward", .weight = 1};
    memset(scorer.hash, 'b', SHA256_HEX_BYTES - 1);
    terms->rewards[0] = scorer;
    for (int32_t i = 0; i < terms->n_channels; i++) {
        snprintf(scorer.name, sizeof scorer.name, "cost%d", i);
        terms->channels[i] = (struct critic_channel){.scorer = scorer,
                                                     .cost_mode = COST_MODE_TOKEN_SUM_POS,
                                                     .cost_eos = COST_EOS_NONE,
                                                     .admit_rule = ADMIT_RULE_TERMINAL,
                                                     .discount = 0.999,
                                                     .discount_unit = DISCOUNT_UNIT_TOKEN};
    }
}

void critic_case_open(struct critic_case *out) {
    critic_case_open_file("tests/vectors/critic.json", out);
}

void critic_case_open_file(const char *path, struct critic_case *out) {
    *out = (struct critic_case){.vectors = json_load_file(testkit_source_path(path), 0, NULL)};
    assert_non_null(out->vectors);
    fill_terms(out->vectors, &out->terms);
    size_t n;
    for (size_t i = 0; i <= CRITIC_LAYERS; i++) {
        const json_t *dims = json_object_get(out->vectors, "dims");
        out->net.dims[i] = (int32_t)json_integer_value(json_array_get(dims, i));
    }
    out->terms.hidden_dim = out->net.dims[0];
    for (size_t i = 0; i < CRITIC_LAYERS; i++) {
        const json_t *weights = json_object_get(out->vectors, "weights");
        const json_t *biases = json_object_get(out->vectors, "biases");
        out->net.weights[i] = critic_case_floats(json_array_get(weights, i), &n);
        assert_int_equal(n, out->net.dims[i] * out->net.dims[i + 1]);
        out->net.biases[i] = critic_case_floats(json_array_get(biases, i), &n);
    }
    for (int32_t i = 0; i < out->terms.n_channels; i++) {
        out->net.sigma_min[i] =
            (float)json_number_value(json_object_get(out->vectors, "sigma_min"));
    }
    out->n_rows = number(out->vectors, "rows");
    out->states = critic_case_floats(json_object_get(out->vectors, "states"), &n);
}

void critic_case_close(struct critic_case *critic) {
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        free((void *)(uintptr_t)critic->net.weights[i]);
        free((void *)(uintptr_t)critic->net.biases[i]);
    }
    free(critic->states);
    json_decref(critic->vectors);
}

char *critic_case_write(const struct critic_case *critic, const char *directory) {
    char path[4200];
    struct error err = {0};
    snprintf(path, sizeof path, "%s/critic.safetensors", directory);
    assert_ok(critic_file_write(path, &critic->terms, &critic->net, &err), &err);
    return strdup(path);
}
