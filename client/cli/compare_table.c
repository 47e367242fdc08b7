#include "client/cli/compare_table.h"

#include <math.h>
#include <string.h>

#include "client/cli/paragraph.h"
#include "client/cli/print.h"

enum { COLUMNS = 100, MARGIN = 4, LABEL_MIN = 15, PROMPT_LINES = 4, ANSWER_LINES = 6 };

static bool is_answered(const Surefoot__JobResult *result) {
    return result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
}

static bool is_refused(const Surefoot__JobResult *result) {
    return result->outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
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
    double run_ms; // mean over all
};

static struct summary summarize(const struct compare_table *table, int method) {
    struct summary sum = {0};
    for (size_t i = 0; i < table->items->count; i++) {
        const Surefoot__JobResult *result = table->columns[method].results[i];
        sum.run_ms += result->run_ms / (double)table->items->count;
        sum.answered += is_answered(result);
        sum.refused += is_refused(result);
        sum.failed += !is_refused(result) && !is_answered(result);
        sum.over_budget += is_answered(result) && result->over_budget;
        if (is_common(table, i)) {
            sum.common++;
            sum.reward += result->has_reward ? result->reward : (double)NAN;
            sum.cost += result->has_cost ? result->cost : (double)NAN;
        }
    }
    sum.reward /= (double)sum.common;
    sum.cost /= (double)sum.common;
    return sum;
}

static void print_score(const char *name, protobuf_c_boolean has, double value, FILE *out) {
    if (has) {
        fprintf(out, "  %s %8.3f", name, value);
    } else {
        fprintf(out, "  %s %8s", name, "-");
    }
}

// The words of the table of means, so that one explains the other.
static const char *outcome_word(const Surefoot__JobResult *result) {
    if (is_refused(result)) {
        return "refused";
    }
    if (!is_answered(result)) {
        return surefoot_outcome_name(result->outcome);
    }
    return result->over_budget ? "OVER BUDGET" : "answered";
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
    const Surefoot__JobResult *result = column->results[item];
    fprintf(out, "%*s%-*s", MARGIN, "", width, column->label);
    print_score("reward", result->has_reward, result->reward, out);
    print_score("cost", result->has_cost, result->cost, out);
    fprintf(out, "  %-17s %8.2f s\n", outcome_word(result), result->run_ms / 1000);
}

static void print_answer(const struct compare_column *column, size_t item, int width,
                         bool show_unsafe, FILE *out) {
    const Surefoot__JobResult *result = column->results[item];
    const struct paragraph shape = {.indent = MARGIN + width + 2,
                                    .columns = COLUMNS - MARGIN - width - 2,
                                    .lines_max = ANSWER_LINES};
    const char *why = result->error != NULL ? result->error->message : result->rule;
    char text[512];
    snprintf(text, sizeof text, "[%s]", why != NULL ? why : "");
    fprintf(out, "%*s%-*s  ", MARGIN, "", width, column->label);
    paragraph_print(is_answered(result) ? print_visible_text(result, show_unsafe) : text, &shape,
                    out);
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
    char reward[32], cost[32], answered[48];
    format_mean(sum.reward, reward, sizeof reward);
    format_mean(sum.cost, cost, sizeof cost);
    snprintf(answered, sizeof answered, "%zu/%zu", sum.answered, table->items->count);
    fprintf(out, "%-*s %11s %9s %11zu %11s %8zu %7zu %8.1f\n", width, table->columns[at].label,
            reward, cost, sum.over_budget, answered, sum.refused, sum.failed,
            table->columns[at].wall_ms / 1000);
}

// The one budget of all jobs; false where they have none.
static bool find_budget(const struct compare_table *table, double *budget) {
    for (int i = 0; i < table->n_columns; i++) {
        for (size_t j = 0; j < table->items->count; j++) {
            const Surefoot__JobResult *result = table->columns[i].results[j];
            if (result->has_budget) {
                *budget = result->budget;
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

static json_t *mean_json(double mean) {
    return isfinite(mean) ? json_real(mean) : json_null();
}

enum status compare_table_print_json(const struct compare_table *table, FILE *out) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < table->items->count; i++) {
        for (int j = 0; status == STATUS_OK && j < table->n_columns; j++) {
            json_t *object = print_result_json(table->columns[j].results[i], false);
            json_object_set(object, "id", table->items->rows[i].id);
            json_object_set_new(object, "method", json_string(table->columns[j].label));
            status = print_json_line(object, out);
        }
    }
    for (int j = 0; status == STATUS_OK && j < table->n_columns; j++) {
        struct summary sum = summarize(table, j);
        status = print_json_line(
            json_pack("{s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "summary",
                      table->columns[j].label, "mean_reward", mean_json(sum.reward), "mean_cost",
                      mean_json(sum.cost), "common", (json_int_t)sum.common, "left_out",
                      (json_int_t)(table->items->count - sum.common), "over_budget",
                      (json_int_t)sum.over_budget, "answered", (json_int_t)sum.answered, "refused",
                      (json_int_t)sum.refused, "failed", (json_int_t)sum.failed, "mean_run_ms",
                      sum.run_ms, "wall_ms", table->columns[j].wall_ms),
            out);
    }
    return status;
}
