#include "client/cli/compare_table.h"

#include <math.h>
#include <string.h>

#include "client/cli/print.h"

enum { PROMPT_COLUMNS = 88, TEXT_COLUMNS = 56 };

static bool is_answered(const Surefoot__JobResult *result) {
    return result->outcome == SUREFOOT__OUTCOME__OUTCOME_COMPLETED;
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
        bool refused = result->outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
        sum.answered += is_answered(result);
        sum.refused += refused;
        sum.failed += !refused && !is_answered(result);
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

static void print_number(protobuf_c_boolean has, double value, FILE *out) {
    if (has) {
        fprintf(out, "%8.3f", value);
    } else {
        fprintf(out, "%8s", "-");
    }
}

static void print_row(const struct compare_table *table, int method, size_t item, bool show_unsafe,
                      FILE *out) {
    const Surefoot__JobResult *result = table->columns[method].results[item];
    fprintf(out, "  %-22s ", table->columns[method].label);
    print_number(result->has_reward, result->reward, out);
    fputc(' ', out);
    print_number(result->has_cost, result->cost, out);
    bool refused = result->outcome == SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE;
    fprintf(out, "  %-4s %-17s %7.2f  ", result->over_budget ? "OVER" : "",
            refused ? "NO_SAFE_CANDIDATE" : surefoot_outcome_name(result->outcome),
            result->run_ms / 1000);
    const char *text = result->error != NULL && result->error->message != NULL
                           ? result->error->message
                           : print_visible_text(result, show_unsafe);
    print_text(text + strspn(text, " \n"), true, TEXT_COLUMNS, out);
    fputc('\n', out);
}

void compare_table_print(const struct compare_table *table, bool show_unsafe, FILE *out) {
    fprintf(out, "%-24s %8s %8s  %-4s %-17s %7s  %s\n", "prompt / method", "reward", "cost", "",
            "outcome", "time s", "answer");
    for (size_t i = 0; i < table->items->count; i++) {
        const struct item *item = &table->items->rows[i];
        fputc('\n', out);
        print_text(item->prompt != NULL ? item->prompt : "(messages)", true, PROMPT_COLUMNS, out);
        fputc('\n', out);
        for (int j = 0; j < table->n_columns; j++) {
            print_row(table, j, i, show_unsafe, out);
        }
    }
    fprintf(out, "\n%-24s %11s %9s %12s %11s %8s %7s %9s\n", "method", "mean reward", "mean cost",
            "over budget", "answered", "refused", "failed", "seconds");
    for (int j = 0; j < table->n_columns; j++) {
        struct summary sum = summarize(table, j);
        char answered[32];
        char reward[32] = "-";
        char cost[32] = "-";
        snprintf(answered, sizeof answered, "%zu/%zu", sum.answered, table->items->count);
        if (isfinite(sum.reward)) {
            snprintf(reward, sizeof reward, "%.3f", sum.reward);
        }
        if (isfinite(sum.cost)) {
            snprintf(cost, sizeof cost, "%.3f", sum.cost);
        }
        fprintf(out, "%-24s %11s %9s %12zu %11s %8zu %7zu %9.1f\n", table->columns[j].label, reward,
                cost, sum.over_budget, answered, sum.refused, sum.failed,
                table->columns[j].wall_ms / 1000);
    }
    size_t common = summarize(table, 0).common;
    fprintf(out, "means over the %zu prompts that every method answered, %zu left out\n", common,
            table->items->count - common);
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
