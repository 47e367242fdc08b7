#include "client/cli/presets.h"

#include <string.h>

#include "client/cli/field_flag.h"

enum { SETTING_BYTES = 64 };

static const char table_1[] = "Ji et al. 2025, arXiv 2502.01208v1, Table 1";
static const char table_2[] = "Ji et al. 2025, arXiv 2502.01208v1, Tables 1 and 2";

// clang-format off
static const struct preset presets[] = {
    {"paper/base", table_2,
     "method=sample block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-100", table_1,
     "method=best-of-n selection=plain n=100 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-200", table_1,
     "method=best-of-n selection=plain n=200 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-500", table_1,
     "method=best-of-n selection=plain n=500 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-lagrangian-100", table_2,
     "method=best-of-n selection=lagrangian lagrangian-lambda=5 n=100 block-tokens=32 "
     "max-tokens=128 temperature=1"},
    {"paper/best-of-n-lagrangian-200", table_2,
     "method=best-of-n selection=lagrangian lagrangian-lambda=5 n=200 block-tokens=32 "
     "max-tokens=128 temperature=1"},
    {"paper/best-of-n-lagrangian-500", table_2,
     "method=best-of-n selection=lagrangian lagrangian-lambda=5 n=500 block-tokens=32 "
     "max-tokens=128 temperature=1"},
    {"paper/best-of-n-lagrangian-10-500", table_2,
     "method=best-of-n selection=lagrangian lagrangian-lambda=10 n=500 block-tokens=32 "
     "max-tokens=128 temperature=1"},
    {"paper/best-of-n-augmented-100", table_2,
     "method=best-of-n selection=augmented n=100 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-augmented-200", table_2,
     "method=best-of-n selection=augmented n=200 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/best-of-n-augmented-500", table_2,
     "method=best-of-n selection=augmented n=500 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-64", table_1,
     "method=beam selection=plain n=64 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-128", table_1,
     "method=beam selection=plain n=128 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-256", table_1,
     "method=beam selection=plain n=256 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-lagrangian-64", table_2,
     "method=beam selection=lagrangian lagrangian-lambda=5 n=64 block-tokens=32 max-tokens=128 "
     "temperature=1"},
    {"paper/beam-lagrangian-128", table_2,
     "method=beam selection=lagrangian lagrangian-lambda=5 n=128 block-tokens=32 max-tokens=128 "
     "temperature=1"},
    {"paper/beam-lagrangian-256", table_2,
     "method=beam selection=lagrangian lagrangian-lambda=5 n=256 block-tokens=32 max-tokens=128 "
     "temperature=1"},
    {"paper/beam-augmented-64", table_2,
     "method=beam selection=augmented n=64 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-augmented-128", table_2,
     "method=beam selection=augmented n=128 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/beam-augmented-256", table_2,
     "method=beam selection=augmented n=256 block-tokens=32 max-tokens=128 temperature=1"},
    {"paper/inference-guard", table_2,
     "method=inference-guard n=128 n-min=0 patience=0 tries=2 block-tokens=32 block-growth=1 "
     "abort-tokens=0 fallback-temperature=0 max-tokens=128 temperature=1"},
    {"paper/inference-guard-512", table_1,
     "method=inference-guard n=512 n-min=0 patience=0 tries=2 block-tokens=32 block-growth=1 "
     "abort-tokens=0 fallback-temperature=0 max-tokens=128 temperature=1"},
    {"paper/args", table_2,
     "method=args selection=plain n=20 omega=2.5 max-tokens=128"},
    {"paper/args-lagrangian", table_2,
     "method=args selection=lagrangian lagrangian-lambda=5 n=20 omega=2.5 max-tokens=128"},
    {"paper/args-cost", table_2,
     "method=args selection=cost n=20 omega=2.5 max-tokens=128"},
    {"paper/re-control", table_2,
     "method=re-control selection=plain steps=30 alpha=0.5 max-tokens=128 temperature=1"},
    {"paper/re-control-lagrangian", table_2,
     "method=re-control selection=lagrangian lagrangian-lambda=5 steps=30 alpha=0.5 "
     "max-tokens=128 temperature=1"},
    {"paper/speculative-rejection", "Sun et al. 2024, arXiv 2410.20290, released code",
     "method=speculative-rejection selection=plain rejection-alpha=0.5 temperature=1 top-k=50"},
    {"paper/cards", "Li et al. 2025, arXiv 2406.16306, released code",
     "method=cards selection=plain n=21 reward-threshold=8.5 threshold-start=0.5 "
     "accept-temperature=0.7 entropy-threshold=3 segment-tokens-min=4 block-tokens=64 "
     "max-tokens=128 temperature=0.7 top-k=40"},
};
// clang-format on

const struct preset *preset_get(size_t index) {
    return index < sizeof presets / sizeof presets[0] ? &presets[index] : NULL;
}

enum status preset_find(const char *name, const char *flag, const struct preset **out,
                        struct error *err) {
    for (size_t i = 0; preset_get(i) != NULL; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = &presets[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, flag,
                     "unknown preset \"%.64s\"; see surefoot help presets", name);
}

// NAME=VALUE of a sampling option that is absent.
static void fill_option(const char *name, const char *value, Surefoot__Sampling *sampling) {
    struct error err;
    const struct flag flags[] = {
        {"temperature", FLAG_REAL, &sampling->temperature, &sampling->has_temperature, .max = 100},
        {"top-k", FLAG_U32, &sampling->top_k, &sampling->has_top_k, .max = LIMIT_TOP_K},
    };
    const struct flag *flag = strcmp(name, flags[0].name) == 0 ? &flags[0] : &flags[1];
    ASSERT(strcmp(name, flag->name) == 0);
    if (!*flag->given) {
        enum status status = flags_read(flag, value, &err);
        ASSERT(status == STATUS_OK);
    }
}

// The same of a field of the job; false: there is no such field.
static bool fill_field(const char *name, const char *value, Surefoot__JobSpec *spec) {
    for (enum job_field_index i = 0; i < JOB_FIELDS_COUNT; i++) {
        char own[FIELD_FLAG_NAME_BYTES];
        field_flag_name(i, own);
        if (strcmp(own, name) != 0) {
            continue;
        }
        const struct flag flag = field_flag(i, spec);
        struct error err;
        if (!job_field_is_set(i, spec) && flag.kind == FLAG_TEXT) {
            const char *choice = job_choice_name(i, job_choice_parse(i, value));
            ASSERT(choice != NULL);
            *(const char **)flag.target = choice;
        } else if (!job_field_is_set(i, spec)) {
            enum status status = flags_read(&flag, value, &err);
            ASSERT(status == STATUS_OK);
        }
        return true;
    }
    return false;
}

void preset_apply(const struct preset *preset, Surefoot__JobSpec *spec,
                  Surefoot__Sampling *sampling) {
    if (spec->generation_defaults == NULL) {
        spec->generation_defaults = (char *)"none"; // packing only reads
    }
    const char *at = preset->settings;
    while (*at != '\0') {
        char setting[SETTING_BYTES];
        size_t length = strcspn(at, " ");
        ASSERT(length < sizeof setting);
        memcpy(setting, at, length);
        setting[length] = '\0';
        char *value = strchr(setting, '=');
        ASSERT(value != NULL);
        *value++ = '\0';
        if (!fill_field(setting, value, spec)) {
            fill_option(setting, value, sampling);
        }
        at += length + (at[length] == ' ');
    }
}

void presets_print(FILE *out) {
    fprintf(out, "usage: surefoot run|submit|sweep ... --preset NAME [FLAGS]\n"
                 "       surefoot compare ... --methods NAME,... [FLAGS]\n\n"
                 "Settings that were published, as flags without dashes. A flag that is given "
                 "holds before them.\nAll of them: generation-defaults=none. Budget, cost mode and "
                 "discount stay the cost model's.\n\n");
    for (size_t i = 0; preset_get(i) != NULL; i++) {
        fprintf(out, "  %s (%s)\n      %s\n", presets[i].name, presets[i].source,
                presets[i].settings);
    }
}
