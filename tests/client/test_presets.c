// Published settings: what they are, that their methods read them, and what comes before them.
#include "client/cli/presets.h"

#include <string.h>

#include "client/cli/job_flags.h"
#include "tests/support/testkit.h"

static const struct preset *find(const char *name) {
    const struct preset *preset = NULL;
    struct error err;
    assert_ok(preset_find(name, "--preset", &preset, &err), &err);
    return preset;
}

static void apply(const char *name, Surefoot__JobSpec *spec, Surefoot__Sampling *sampling) {
    surefoot__job_spec__init(spec);
    surefoot__sampling__init(sampling);
    preset_apply(find(name), spec, sampling);
}

static void test_every_setting_is_in_range_and_read(void **state) {
    (void)state;
    size_t n = 0;
    for (const struct preset *preset; (preset = preset_get(n)) != NULL; n++) {
        Surefoot__JobSpec spec;
        Surefoot__Sampling sampling;
        assert_ptr_equal(find(preset->name), preset); // no name is there twice
        assert_int_equal(strncmp(preset->name, "paper/", 6), 0);
        apply(preset->name, &spec, &sampling);
        assert_int_equal(strncmp(preset->settings, "method=", 7), 0);
        assert_string_equal(spec.generation_defaults, "none");
        bool draws = !job_method_of(&spec)->takes_by_rank;
        assert_int_equal(sampling.has_temperature, draws);
        assert_true(draws || !sampling.has_top_k);
        for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
            const struct job_field *field = job_field_get(i);
            assert_true(!field->required || !job_field_is_read(i, &spec) ||
                        job_field_is_set(i, &spec));
            if (job_field_is_set(i, &spec)) {
                double value = job_field_number(i, &spec);
                assert_true(job_field_is_read(i, &spec));
                assert_true(field->kind == JOB_FIELD_KIND_CHOICE
                                ? value > 0
                                : value >= field->low && value <= field->high);
            }
        }
    }
    assert_in_range(n, 20, 100);
}

static void test_constants_are_the_published_ones(void **state) {
    (void)state;
    Surefoot__JobSpec spec;
    Surefoot__Sampling sampling;
    apply("paper/inference-guard", &spec, &sampling);
    assert_string_equal(spec.method, "inference-guard");
    assert_true(spec.n == 128 && spec.tries == 2);
    assert_true(spec.block_tokens == 32 && spec.max_tokens == 128);
    assert_true(job_field_number(JOB_FIELD_BLOCK_GROWTH, &spec) == 1 && spec.has_n_min);
    assert_true(spec.n_min == 0 && spec.has_patience && spec.patience == 0);
    assert_true(spec.has_abort_tokens && spec.abort_tokens == 0);
    assert_true(job_field_number(JOB_FIELD_SURVIVORS, &spec) == 32); // N/4
    assert_true(sampling.temperature == 1);
    apply("paper/best-of-n-lagrangian-10-500", &spec, &sampling);
    assert_string_equal(spec.selection, "lagrangian");
    assert_true(spec.n == 500 && spec.lagrangian_lambda == 10);
    apply("paper/beam-augmented-256", &spec, &sampling);
    assert_string_equal(spec.selection, "augmented");
    assert_true(spec.n == 256 && job_field_number(JOB_FIELD_SURVIVORS, &spec) == 64);
    apply("paper/args-cost", &spec, &sampling);
    assert_string_equal(spec.selection, "cost");
    assert_true(spec.n == 20 && spec.omega == 2.5);
    apply("paper/re-control-lagrangian", &spec, &sampling);
    assert_true(spec.steps == 30 && spec.alpha == 0.5 && spec.lagrangian_lambda == 5);
    assert_true(job_field_number(JOB_FIELD_N, &spec) == 1 && spec.max_tokens == 128);
    apply("paper/speculative-rejection", &spec, &sampling);
    assert_true(spec.rejection_alpha == 0.5 && sampling.top_k == 50 && !spec.has_n);
    apply("paper/cards", &spec, &sampling);
    assert_true(spec.n == 21 && spec.reward_threshold == 8.5 && spec.threshold_start == 0.5);
    assert_true(spec.accept_temperature == 0.7 && spec.entropy_threshold == 3);
    assert_true(spec.segment_tokens_min == 4 && spec.block_tokens == 64);
    assert_true(sampling.temperature == 0.7 && sampling.top_k == 40);
}

static enum status parse(struct job_flags *flags, int argc, char **argv, struct error *err) {
    job_flags_init(flags);
    const struct command_line line = {
        .usage = "test", .about = "", .tables = {flags->table}, .n_tables = 1};
    int n_positional = 0;
    bool help = false;
    enum status status = flags_parse(&line, argc, argv, NULL, &n_positional, &help, err);
    return status == STATUS_OK ? job_flags_finish(flags, err) : status;
}

static void test_what_is_given_comes_first(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    char *args[] = {"--n",
                    "64",
                    "--preset",
                    "paper/cards",
                    "--top-k",
                    "0",
                    "--temperature",
                    "0",
                    "--generation-defaults",
                    "model",
                    "--selection=augmented"};
    assert_ok(parse(&flags, sizeof args / sizeof args[0], args, &err), &err);
    assert_string_equal(flags.spec.method, "cards");
    assert_string_equal(flags.spec.selection, "augmented");
    assert_int_equal(flags.spec.n, 64);
    assert_true(flags.spec.sampling->has_top_k && flags.spec.sampling->top_k == 0);
    assert_true(flags.spec.sampling->temperature == 0);
    assert_string_equal(flags.spec.generation_defaults, "model");
    assert_true(flags.spec.has_reward_threshold && flags.spec.reward_threshold == 8.5);
    job_flags_destroy(&flags);
}

static void test_unknown_presets_are_named(void **state) {
    (void)state;
    struct job_flags flags;
    struct error err;
    char *args[] = {"--preset", "paper/latent-critic"};
    assert_status(STATUS_INVALID_ARGUMENT, parse(&flags, 2, args, &err));
    assert_string_equal(err.field, "--preset");
    assert_non_null(strstr(err.message, "paper/latent-critic"));
    job_flags_destroy(&flags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_setting_is_in_range_and_read),
        cmocka_unit_test(test_constants_are_the_published_ones),
        cmocka_unit_test(test_what_is_given_comes_first),
        cmocka_unit_test(test_unknown_presets_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
