#include "client/benchmarks/benchmark.h"

#include <stdio.h>
#include <string.h>

#include "client/benchmarks/rows.h"

static const struct benchmark benchmarks[] = {
    {.name = "HarmBench multimodal",
     .columns = {"Behavior", "BehaviorID", "ImageFileName"},
     .refusal = "its behaviours are about images, which are not sent"},
    {.name = "MM-Harmful Bench",
     .columns = {"image_url", "question"},
     .refusal = "its questions are about images, which are not sent"},
    // baselines/direct_request: f"{context}\n\n---\n\n{behavior}".
    {.name = "HarmBench",
     .columns = {"Behavior", "SemanticCategory", "BehaviorID", "ContextString"},
     .ask = "Behavior",
     .id = "BehaviorID",
     .context = "ContextString",
     .joint = "\n\n---\n\n",
     .context_first = true},
    // generate_completions.py sends each test case as it is.
    {.name = "HarmBench test cases",
     .columns = {ROWS_BEHAVIOR_FIELD, ROWS_CASE_FIELD},
     .ask = ROWS_CASE_FIELD},
    {.name = "ShareGPT", .columns = {"conversations"}, .ask = "conversations", .speakers = true},
    {.name = "JailbreakBench",
     .columns = {"Goal", "Target", "Behavior", "Category"},
     .ask = "Goal",
     .id = "Index"},
    {.name = "StrongREJECT",
     .columns = {"category", "source", "forbidden_prompt"},
     .ask = "forbidden_prompt"},
    {.name = "XSTest", .columns = {"prompt", "type", "focus", "note"}, .ask = "prompt"},
    {.name = "AdvBench", .columns = {"goal", "target"}, .ask = "goal"},
    {.name = "BeaverTails evaluation",
     .columns = {"prompt", "category", "category_id"},
     .ask = "prompt"},
    {.name = "BeaverTails",
     .columns = {"prompt", "response", "category", "is_safe"},
     .ask = "prompt"},
    {.name = "PKU-SafeRLHF", .columns = {"prompt", "response_0", "response_1"}, .ask = "prompt"},
    {.name = "Do-Not-Answer",
     .columns = {"risk_area", "types_of_harm", "specific_harms", "question"},
     .ask = "question"},
    {.name = "TruthfulQA",
     .columns = {"Category", "Question", "Best Answer", "Correct Answers"},
     .ask = "Question"},
    // The part of its authors' prompt that is not the chat template.
    {.name = "Alpaca",
     .columns = {"instruction", "input", "output"},
     .ask = "instruction",
     .context = "input",
     .joint = "\n\n### Input:\n"},
    {.name = "AlpacaFarm evaluation",
     .columns = {"JSON_idx", "prompt"},
     .ask = "prompt",
     .id = "JSON_idx"},
    {.name = "inspect samples with choices",
     .columns = {"input", "target", "choices"},
     .refusal = "the choices are not put into the question"},
    {.name = "inspect samples", .columns = {"input", "target"}, .ask = "input"},
    {.name = "OpenAI batch",
     .columns = {"custom_id", "method", "url", "body"},
     .ask = "body.messages",
     .id = "custom_id"},
};
enum { BENCHMARKS_COUNT = sizeof benchmarks / sizeof benchmarks[0] };

static const char *const usual_columns[] = {
    "prompt", "messages", "instruction", "question", "Question", "query",
    "goal",   "Goal",     "Behavior",    "behavior", "input",    "forbidden_prompt",
};
enum { USUAL_COUNT = sizeof usual_columns / sizeof usual_columns[0] };

bool benchmark_is_asked(const char *column) {
    bool found = false;
    for (size_t i = 0; i < USUAL_COUNT; i++) {
        found = found || strcmp(usual_columns[i], column) == 0;
    }
    for (size_t i = 0; i < BENCHMARKS_COUNT; i++) {
        found = found || (benchmarks[i].ask != NULL && strcmp(benchmarks[i].ask, column) == 0);
    }
    return found;
}

static bool has_all(const json_t *columns, const struct benchmark *benchmark) {
    for (size_t i = 0; i < BENCHMARK_COLUMNS_MAX && benchmark->columns[i] != NULL; i++) {
        if (json_object_get(columns, benchmark->columns[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static bool owns(const struct benchmark *benchmark, const char *column) {
    bool found = benchmark->id != NULL && strcmp(benchmark->id, column) == 0;
    for (size_t i = 0; i < BENCHMARK_COLUMNS_MAX && benchmark->columns[i] != NULL; i++) {
        found = found || strcmp(benchmark->columns[i], column) == 0;
    }
    return found;
}

static void add_name(char *list, size_t size, const char *name) {
    size_t used = strlen(list);
    snprintf(list + used, size - used, "%s%.40s", used == 0 ? "" : ", ", name);
}

// The columns that could be asked: of a benchmark its own, and every usual one it does not own.
static int list_candidates(const json_t *columns, const struct benchmark *benchmark, char *list,
                           size_t size, const char **only) {
    int count = 0;
    list[0] = '\0';
    if (benchmark != NULL) {
        add_name(list, size, benchmark->ask);
        count++;
    }
    for (size_t i = 0; i < USUAL_COUNT; i++) {
        const char *name = usual_columns[i];
        if (json_object_get(columns, name) != NULL &&
            (benchmark == NULL || !owns(benchmark, name))) {
            add_name(list, size, name);
            *only = name;
            count++;
        }
    }
    return count;
}

static enum status refuse_unknown(const json_t *columns, struct error *err) {
    char list[160] = "";
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)columns, name, value) {
        add_name(list, sizeof list, name);
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--prompt-column",
                     "needed: no column has a usual name; there are %s", list);
}

enum status benchmark_recognise(const json_t *columns, struct benchmark *out, struct error *err) {
    const struct benchmark *found = NULL;
    for (size_t i = 0; i < BENCHMARKS_COUNT; i++) {
        const struct benchmark *row = &benchmarks[i];
        if (!has_all(columns, row)) {
            continue;
        }
        if (row->refusal != NULL) {
            return error_set(err, STATUS_UNSUPPORTED, "--prompt-column",
                             "needed: this looks like %s, and %s", row->name, row->refusal);
        }
        if (found != NULL && strcmp(found->ask, row->ask) != 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--prompt-column",
                             "needed: this looks like %s (%s) and like %s (%s)", found->name,
                             found->ask, row->name, row->ask);
        }
        found = found == NULL ? row : found;
    }
    char list[160];
    const char *only = NULL;
    int count = list_candidates(columns, found, list, sizeof list, &only);
    if (count > 1) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--prompt-column",
                         "needed: several columns could be asked: %s", list);
    }
    if (count == 0) {
        return refuse_unknown(columns, err);
    }
    *out = found != NULL ? *found : (struct benchmark){.ask = only};
    return STATUS_OK;
}
