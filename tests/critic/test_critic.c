// A critic's file and its evaluation on the backend, against PyTorch (tests/vectors/critic.json).
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/critic/critic_case.h"
#include "tests/support/testkit.h"
#include "worker/critic/critic.h"

static const double tolerance = 1e-5;

struct fixture {
    struct critic_case critic;
    char *directory;
    char *path;
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    critic_case_open(&fixture->critic);
    fixture->directory = testkit_make_directory();
    fixture->path = critic_case_write(&fixture->critic, fixture->directory);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    critic_case_close(&fixture->critic);
    testkit_remove_tree(fixture->directory);
    free(fixture->path);
    free(fixture);
    return 0;
}

// raw[n_rows, outputs] of all rows in the given order, owned.
static float *evaluate(const struct fixture *fixture, int threads, int32_t rows_max,
                       const int32_t *rows) {
    struct backend *backend = NULL;
    struct critic *critic = NULL;
    struct error err = {0};
    assert_ok(backend_create("cpu", threads, &backend, &err), &err);
    assert_ok(critic_open(fixture->path, backend, rows_max, &critic, &err), &err);
    int32_t n = fixture->critic.n_rows, hidden = fixture->critic.terms.hidden_dim;
    size_t bytes = (size_t)n * (size_t)hidden * sizeof(float);
    struct tensor states = {
        .data = backend->ops->alloc(backend, bytes), .dtype = DTYPE_F32, .rows = n, .cols = hidden};
    backend->ops->upload(backend, states.data, fixture->critic.states, bytes);
    size_t n_out = (size_t)critic_output_count(critic_get_terms(critic));
    float *raw = calloc((size_t)n * n_out, sizeof *raw);
    assert_ok(critic_evaluate(critic, &states, rows, n, raw), NULL);
    backend->ops->release(backend, states.data);
    critic_close(critic);
    backend_destroy(backend);
    return raw;
}

static const int32_t in_order[] = {0, 1, 2, 3, 4, 5};

static void test_the_network_gives_what_pytorch_gives(void **state) {
    struct fixture *fixture = *state;
    const json_t *vectors = fixture->critic.vectors;
    float *raw = evaluate(fixture, 1, 8, in_order);
    critic_case_assert_near("raw", raw, json_object_get(vectors, "raw"), tolerance);
    const json_t *zs = json_object_get(vectors, "zs");
    size_t n_out = (size_t)critic_output_count(&fixture->critic.terms);
    for (int32_t row = 0; row < fixture->critic.n_rows; row++) {
        struct critic_output output;
        const float *own = raw + (size_t)row * n_out;
        assert_ok(critic_output_read(&fixture->critic.terms, fixture->critic.net.sigma_min, own,
                                     &output, NULL),
                  NULL);
        assert_true(output.reward == own[n_out - 1]);
        for (int32_t channel = 0; channel < fixture->critic.terms.n_channels; channel++) {
            const json_t *f1 = json_array_get(json_object_get(vectors, "f1"), (size_t)channel);
            for (size_t i = 0; i < json_array_size(zs); i++) {
                double z = json_number_value(json_array_get(zs, i));
                double want = json_number_value(json_array_get(json_array_get(f1, i), (size_t)row));
                double got = cost_to_go_within(&output.costs[channel], z);
                assert_true(fabs(got - want) <= tolerance);
            }
        }
    }
    free(raw);
}

static void test_a_row_depends_on_no_other_and_on_no_thread(void **state) {
    struct fixture *fixture = *state;
    static const int32_t turned[] = {5, 4, 3, 2, 1, 0};
    size_t n_out = (size_t)critic_output_count(&fixture->critic.terms);
    float *whole = evaluate(fixture, 1, 6, in_order);
    float *pieces = evaluate(fixture, 3, 4, in_order);
    float *back = evaluate(fixture, 2, 1, turned);
    assert_memory_equal(whole, pieces, 6 * n_out * sizeof(float));
    for (size_t row = 0; row < 6; row++) {
        assert_memory_equal(whole + row * n_out, back + (5 - row) * n_out, n_out * sizeof(float));
    }
    free(whole);
    free(pieces);
    free(back);
}

static void test_a_file_says_what_was_written(void **state) {
    struct fixture *fixture = *state;
    struct critic_file file;
    struct error err = {0};
    assert_ok(critic_file_open(fixture->path, &file, &err), &err);
    assert_memory_equal(&file.terms, &fixture->critic.terms, sizeof file.terms);
    assert_memory_equal(file.net.dims, fixture->critic.net.dims, sizeof file.net.dims);
    for (int i = 0; i < CRITIC_LAYERS; i++) {
        size_t n = (size_t)file.net.dims[i] * (size_t)file.net.dims[i + 1];
        assert_memory_equal(file.net.weights[i], fixture->critic.net.weights[i], n * sizeof(float));
    }
    assert_int_equal(strlen(file.hash), 64);
    critic_file_close(&file);
}

static void assert_refused(const char *path, enum status status, const char *field) {
    struct critic_file file;
    struct error err = {0};
    enum status got = critic_file_open(path, &file, &err);
    critic_file_close(&file);
    if (got != status || strcmp(err.field, field) != 0) {
        fail_msg("%s %s (%s) instead of %s %s", status_name(got), err.field, err.message,
                 status_name(status), field);
    }
}

static void test_a_file_that_is_cut_anywhere_is_refused(void **state) {
    struct fixture *fixture = *state;
    size_t size;
    char *bytes = testkit_read_file(fixture->path, &size);
    char path[4200];
    snprintf(path, sizeof path, "%s/cut", fixture->directory);
    for (size_t length = 0; length < size; length += 1 + length / 7) {
        struct critic_file file;
        struct error err = {0};
        testkit_write_file(path, bytes, length);
        assert_true(critic_file_open(path, &file, &err) != STATUS_OK && err.message[0] != '\0');
        critic_file_close(&file);
    }
    free(bytes);
}

static void test_a_file_that_cannot_be_written_leaves_nothing(void **state) {
    struct fixture *fixture = *state;
    const struct critic_case *critic = &fixture->critic;
    char path[4200];
    struct error err = {0};
    snprintf(path, sizeof path, "%s/absent/critic", fixture->directory);
    assert_status(STATUS_NOT_FOUND, critic_file_write(path, &critic->terms, &critic->net, &err));
    assert_true(strstr(err.message, path) != NULL);
    snprintf(path, sizeof path, "%s/folder", fixture->directory);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_status(STATUS_IO, critic_file_write(path, &critic->terms, &critic->net, &err));
    snprintf(path, sizeof path, "%s/folder.part", fixture->directory);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_wrong_tensors_are_named(void **state) {
    struct fixture *fixture = *state;
    struct critic_case *critic = &fixture->critic;
    float *second = (float *)(uintptr_t)critic->net.weights[1];
    float kept = second[5];
    second[5] = NAN;
    free(critic_case_write(critic, fixture->directory));
    assert_refused(fixture->path, STATUS_MALFORMED, "layers.1.weight");
    second[5] = kept;
    critic->net.sigma_min[1] = 0;
    free(critic_case_write(critic, fixture->directory));
    assert_refused(fixture->path, STATUS_LIMIT, "sigma_min");
    critic->net.sigma_min[1] = 1;
    critic->terms.hidden_dim = 15;
    free(critic_case_write(critic, fixture->directory));
    assert_refused(fixture->path, STATUS_SHAPE, "layers.0.weight");
    critic->terms.hidden_dim = 16;
    critic->terms.n_rewards = 0;
    free(critic_case_write(critic, fixture->directory));
    assert_refused(fixture->path, STATUS_SHAPE, "layers.2.weight");
    assert_refused(testkit_source_path("models/demo/policy/model.safetensors"), STATUS_MALFORMED,
                   "surefoot_critic");
}

// Replaces `old` by `new` of the same length in the file's header.
static void replace(const char *path, const char *old, const char *new) {
    size_t size;
    char *bytes = testkit_read_file(path, &size);
    char *place = memmem(bytes, size, old, strlen(old));
    assert_non_null(place);
    assert_int_equal(strlen(old), strlen(new));
    memcpy(place, new, strlen(new));
    testkit_write_file(path, bytes, size);
    free(bytes);
}

static void test_wrong_terms_are_named(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        const char *old, *new;
        enum status status;
        const char *field;
    } cases[] = {
        {"\"surefoot_critic\":\"2\"", "\"surefoot_critic\":\"3\"", STATUS_VERSION,
         "surefoot_critic"},
        {"policy_hash", "policy_hush", STATUS_MALFORMED, "terms.policy_hush"},
        {"\\\"aaaa", "\\\"aaxa", STATUS_MALFORMED, "terms.policy_hash"},
        {"\\\"bbbb", "\\\"bbxb", STATUS_MALFORMED, "terms.channels[0].scorer.hash"},
        {"token_sum_pos", "token_sum_neg", STATUS_INVALID_ARGUMENT, "terms.channels[0].cost_mode"},
        {"terminal", "terminel", STATUS_INVALID_ARGUMENT, "terms.channels[0].admit_rule"},
        {"\\\"none\\\"", "\\\"nine\\\"", STATUS_INVALID_ARGUMENT, "terms.channels[0].cost_eos"},
        {"0.999", "1.999", STATUS_LIMIT, "terms.channels[0].discount"},
        {"0.999", "0.000", STATUS_LIMIT, "terms.channels[0].discount"},
        {"\\\"token\\\"", "\\\"tiken\\\"", STATUS_INVALID_ARGUMENT,
         "terms.channels[0].discount_unit"},
        {"\\\"token\\\"", "\\\"block\\\"", STATUS_LIMIT, "terms.channels[0].block_tokens"},
        {"\\\"weight\\\":1.0", "\\\"weight\\\":0.0", STATUS_LIMIT,
         "terms.channels[0].scorer.weight"},
        {"\\\"n_parts\\\":3", "\\\"n_parts\\\":4", STATUS_LIMIT, "terms.n_parts"},
        {"\\\"hidden_dim\\\":16", "\\\"hidden_dim\\\":-6", STATUS_LIMIT, "terms.hidden_dim"},
        {"\\\"name\\\":\\\"reward\\\"", "\\\"nome\\\":\\\"reward\\\"", STATUS_MALFORMED,
         "terms.rewards[0].nome"},
        {"{\\\"policy", "[\\\"policy", STATUS_MALFORMED, "terms"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        free(critic_case_write(&fixture->critic, fixture->directory));
        replace(fixture->path, cases[i].old, cases[i].new);
        assert_refused(fixture->path, cases[i].status, cases[i].field);
    }
}

static void edit_policy(struct critic_terms *terms) {
    terms->policy_hash[3] = 'c';
}
static void edit_template(struct critic_terms *terms) {
    terms->chat_template[0] = 'L';
}
static void edit_cost(struct critic_terms *terms) {
    terms->channels[1].scorer.hash[9] = 'c';
}
static void edit_weight(struct critic_terms *terms) {
    terms->channels[1].scorer.weight = 2;
}
static void edit_mode(struct critic_terms *terms) {
    terms->channels[1].cost_mode = COST_MODE_TOKEN_SUM;
}
static void edit_eos(struct critic_terms *terms) {
    terms->channels[0].cost_eos = COST_EOS_APPEND;
}
static void edit_rule(struct critic_terms *terms) {
    terms->channels[0].admit_rule = ADMIT_RULE_PREFIX;
}
static void edit_discount(struct critic_terms *terms) {
    terms->channels[0].discount = 0.99;
}
static void edit_unit(struct critic_terms *terms) {
    terms->channels[0].discount_unit = DISCOUNT_UNIT_BLOCK;
}
static void edit_blocks(struct critic_terms *terms) {
    terms->channels[0].block_tokens = 8;
}
static void edit_channels(struct critic_terms *terms) {
    terms->n_channels = 1;
}
static void edit_reward(struct critic_terms *terms) {
    terms->rewards[0].hash[0] = 'c';
}

static void test_another_model_mode_or_gamma_is_refused_by_name(void **state) {
    struct fixture *fixture = *state;
    static const struct {
        void (*edit)(struct critic_terms *terms);
        const char *field;
    } cases[] = {
        {edit_policy, "policy_hash"},
        {edit_template, "chat_template"},
        {edit_cost, "channels[1].scorer.hash"},
        {edit_weight, "channels[1].scorer.weight"},
        {edit_mode, "channels[1].cost_mode"},
        {edit_eos, "channels[0].cost_eos"},
        {edit_rule, "channels[0].admit_rule"},
        {edit_discount, "channels[0].discount"},
        {edit_unit, "channels[0].discount_unit"},
        {edit_blocks, "channels[0].block_tokens"},
        {edit_channels, "channels"},
        {edit_reward, "rewards[0].hash"},
    };
    const struct critic_terms *terms = &fixture->critic.terms;
    struct error err = {0};
    assert_ok(critic_terms_agree(terms, terms, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct critic_terms other = *terms;
        cases[i].edit(&other);
        assert_status(STATUS_INVALID_ARGUMENT, critic_terms_agree(terms, &other, &err));
        assert_string_equal(err.field, cases[i].field);
    }
}

static void test_outputs_that_are_no_numbers_are_an_error(void **state) {
    struct fixture *fixture = *state;
    float raw[32] = {0};
    struct critic_output output;
    struct error err = {0};
    const struct critic_terms *terms = &fixture->critic.terms;
    const float *sigmas = fixture->critic.net.sigma_min;
    assert_ok(critic_output_read(terms, sigmas, raw, &output, &err), &err);
    raw[9 + 7] = 200; // log sigma of the second channel
    assert_status(STATUS_DEVICE, critic_output_read(terms, sigmas, raw, &output, &err));
    assert_string_equal(err.field, "critic.channels[1]");
    raw[9 + 7] = 0;
    raw[18] = NAN;
    assert_status(STATUS_DEVICE, critic_output_read(terms, sigmas, raw, &output, &err));
    assert_string_equal(err.field, "critic.reward");
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(test_the_network_gives_what_pytorch_gives),
        CASE(test_a_row_depends_on_no_other_and_on_no_thread),
        CASE(test_a_file_says_what_was_written),
        CASE(test_a_file_that_is_cut_anywhere_is_refused),
        CASE(test_a_file_that_cannot_be_written_leaves_nothing),
        CASE(test_wrong_tensors_are_named),
        CASE(test_wrong_terms_are_named),
        CASE(test_another_model_mode_or_gamma_is_refused_by_name),
        CASE(test_outputs_that_are_no_numbers_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
