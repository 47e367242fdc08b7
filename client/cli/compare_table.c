#include "client/cli/compare_table.h"

#include <math.h>
#include <string.h>

#include "client/cli/paragraph.h"
#include "client/cli/print.h"

enum { COLUMNS = 100, MARGIN = 4, LABEL_MIN = 15, PROMPT_LINES = 4, ANSWER_LINES = 6 };

static const char *text_of(const json_t *result, const char *name) {
    return json_string_value(json_object_get(result, name));
}

// NaN: it has none, or none that is finite.
static double number_of(const json_t *result, const char *name) {
    const json_t *value = json_object_get(result, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static bool is_over_budget(const json_t *result) {
    return json_is_true(json_object_get(result, "over_budget"));
}

static bool is_answered(const json_t *result) {
    return strcmp(text_of(result, "outcome"), "COMPLETED") == 0;
}

static bool is_refused(const json_t *result) {
    return strcmp(text_of(result, "outcome"), "NO_SAFE_CANDIDATE") == 0;
}

// Only prompts that every method answered can be compared.
static bool is_common(const struct compare_table *table, size_t item) {
    bool common = true;
    for (int j = 0; j < table->n_columns; j++) {
        common = common && is_answered(table->columns[j].results[item]);
    }
    return common;
}

// What one method did over all prompts.
struct summary {
    size_t answered;
    size_t refused;
    size_t failed;
    size_t over_budget;
    size_t common; // prompts that every method answered; the means below are over these
    double reward; // NaN when there are none, or one has no such score
    double cost;
    double run_ms; // mean over all; a prompt that was rejected took none
};

static struct summary summarize(const struct compare_table *table, int method) {
    struct summary sum = {0};
    for (size_t i = 0; i < table->items->count; i++) {
        const json_t *result = table->columns[method].results[i];
        double run_ms = number_of(result, "run_ms");
        sum.run_ms += isfinite(run_ms) ? run_ms / (double)table->items->count : 0;
        sum.answered += is_answered(result);
        sum.refused += is_refused(result);
        sum.failed += !is_refused(result) && !is_answered(result);
        sum.over_budget += is_answered(result) && is_over_budget(result);
        if (is_common(table, i)) {
            sum.common++;
            sum.reward += number_of(result, "reward");
            sum.cost += number_of(result, "cost");
        }
    }
    sum.reward /= (double)sum.common;
    sum.cost /= (double)sum.common;
    return sum;
}

static void print_score(const char *name, const json_t *result, FILE *out) {
    double value = number_of(result, name);
    if (isfinite(value)) {
        fprintf(out, "  %s %8.3f", name, value);
    } else {
        fprintf(out, "  %s %8s", name, "-");
    }
}

// The words of the table of means, so that one explains the other.
static const char *outcome_word(const json_t *result) {
    if (is_refused(result)) {
        return "refused";
    }
    if (!is_answered(result)) {
        return text_of(result, "outcome");
    }
    return is_over_budget(result) ? "OVER BUDGET" : "answered";
}

static int label_width(const struct compare_table *table) {
    int width = LABEL_MIN;
    for (int i = 0; i < table->n_columns; i++) {
        int length = (int)strlen(table->columns[i].label);
        width = length > width ? length : width;
    }
    return width;
}

static void print_scores(const struct compare_column *column, size_t item, int width, FILE *out) {
    const json_t *result = column->results[item];
    double run_ms = number_of(result, "run_ms");
    fprintf(out, "%*s%-*s", MARGIN, "", width, column->label);
    print_score("reward", result, out);
    print_score("cost", result, out);
    fprintf(out, "  %-17s %8.2f s\n", outcome_word(result), isfinite(run_ms) ? run_ms / 1000 : 0);
}

static void print_answer(const struct compare_column *column, size_t item, int width,
                         bool show_unsafe, FILE *out) {
    const json_t *result = column->results[item];
    const struct paragraph shape = {.indent = MARGIN + width + 2,
                                    .columns = COLUMNS - MARGIN - width - 2,
                                    .lines_max = ANSWER_LINES};
    const char *why = text_of(json_object_get(result, "error"), "message");
    why = why != NULL ? why : text_of(result, "rule");
    char text[512];
    snprintf(text, sizeof text, "[%s]", why != NULL ? why : "");
    fprintf(out, "%*s%-*s  ", MARGIN, "", width, column->label);
    paragraph_print(is_answered(result) ? print_visible_text(text_of(result, "text"),
                                                             is_over_budget(result), show_unsafe)
                                        : text,
                    &shape, out);
}

static void print_item(const struct compare_table *table, size_t item, bool show_unsafe,
                       FILE *out) {
    const char *prompt = table->items->rows[item].prompt;
    const struct paragraph shape = {
        .indent = MARGIN, .columns = COLUMNS - MARGIN, .lines_max = PROMPT_LINES};
    int width = label_width(table);
    fprintf(out, "%*zu. ", MARGIN - 2, item + 1);
    paragraph_print(prompt != NULL ? prompt : "(messages)", &shape, out);
    for (int i = 0; i < table->n_columns; i++) {
        print_scores(&table->columns[i], item, width, out);
    }
    for (int i = 0; i < table->n_columns; i++) {
        print_answer(&table->columns[i], item, width, show_unsafe, out);
    }
    fputc('\n', out);
}

static void format_mean(double mean, char *text, size_t capacity) {
    snprintf(text, capacity, isfinite(mean) ? "%.3f" : "-", mean);
}

static void print_means(const struct compare_table *table, int at, int width, FILE *out) {
    struct summary sum = summarize(table, at);
    char reward[32], cost[32], answered[48], seconds[32] = "-";
    double wall_s = table->columns[at].wall_ms / 1000;
    format_mean(sum.reward, reward, sizeof reward);
    format_mean(sum.cost, cost, sizeof cost);
    snprintf(answered, sizeof answered, "%zu/%zu", sum.answered, table->items->count);
    if (isfinite(wall_s)) {
        snprintf(seconds, sizeof seconds, "%.1f", wall_s);
    }
    fprintf(out, "%-*s %11s %9s %11zu %11s %8zu %7zu %8s\n", width, table->columns[at].label,
            reward, cost, sum.over_budget, answered, sum.refused, sum.failed, seconds);
}

// The one budget of all jobs; false where they have none.
static bool find_budget(const struct compare_table *table, double *budget) {
    for (int i = 0; i < table->n_columns; i++) {
        for (size_t j = 0; j < table->items->count; j++) {
            *budget = number_of(table->columns[i].results[j], "budget");
            if (isfinite(*budget)) {
                return true;
            }
        }
    }
    return false;
}

void compare_table_print(const struct compare_table *table, bool show_unsafe, FILE *out) {
    for (size_t i = 0; i < table->items->count; i++) {
        print_item(table, i, show_unsafe, out);
    }
    int width = label_width(table);
    fprintf(out, "%-*s %11s %9s %11s %11s %8s %7s %8s\n", width, "method", "mean reward",
            "mean cost", "over budget", "answered", "refused", "failed", "seconds");
    for (int i = 0; i < table->n_columns; i++) {
        print_means(table, i, width, out);
    }
    double budget = 0;
    size_t common = summarize(table, 0).common;
    fprintf(out, "means over the %zu prompt%s that every method answered, %zu left out", common,
            print_plural(common), table->items->count - common);
    if (find_budget(table, &budget)) {
        fprintf(out, "; the budget is %g", budget);
    }
    fputc('\n', out);
}

static json_t *number_json(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

enum status compare_table_print_json(const struct compare_table *table, FILE *out) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < table->items->count; i++) {
        for (int j = 0; status == STATUS_OK && j < table->n_columns; j++) {
            status = print_json_line(json_incref(table->columns[j].results[i]), out);
        }
    }
    for (int j = 0; status == STATUS_OK && j < table->n_columns; j++) {
        struct summary sum = summarize(table, j);
        status = print_json_line(
            json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "summary",
                      table->columns[j].label, "mean_reward", number_json(sum.reward), "mean_cost",
                      number_json(sum.cost), "common", (json_int_t)sum.common, "left_out",
                      (json_int_t)(table->items->count - sum.common), "over_budget",
                      (json_int_t)sum.over_budget, "answered", (json_int_t)sum.answered, "refused",
                      (json_int_t)sum.refused, "failed", (json_int_t)sum.failed, "mean_run_ms",
                      sum.run_ms, "wall_ms", number_json(table->columns[j].wall_ms)),
            out);
    }
    return status;
}
