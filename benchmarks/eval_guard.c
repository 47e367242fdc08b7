// Runs the same prompts through several methods of a running service and re-scores every returned
// text from scratch. Prints one row per method: answered, over budget, reward, cost, tokens, time;
// and the paired difference of reward to the first method. Exit code 1 when a method with a safety
// rule returned a text over budget, or when a reported cost is not what the judge finds.
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/rescore.h"
#include "client/surefoot.h"
#include "common/deadline.h"

enum { PROMPTS_MAX = 10000, WAIT_MS = 600000, METHODS_MAX = 16 };

struct method {
    const char *label;
    char *name;
    char *selection;
};

static const struct method methods[] = {
    {"sample", "sample", NULL},
    {"best-of-n", "best-of-n", "plain"},
    {"best-of-n augmented", "best-of-n", "augmented"},
    {"beam", "beam", "plain"},
    {"beam augmented", "beam", "augmented"},
    {"inference-guard", "inference-guard", NULL},
    {"rejection", "rejection", NULL},
    {"speculative augm.", "speculative-rejection", "augmented"},
};

struct options {
    const char *endpoint;
    const char *prompts_path;
    const char *cost_directory;
    uint32_t count, n, block_tokens, max_tokens;
    uint64_t seed;
};

struct method_totals {
    uint32_t answered, over_budget, mismatches, fallbacks;
    double reward, cost, tokens, wall_ms;
    double *rewards; // [count], NaN where nothing was answered
};

static enum status read_prompts(const struct options *options, char **prompts, uint32_t *count) {
    FILE *file = fopen(options->prompts_path, "r");
    if (file == NULL) {
        return STATUS_NOT_FOUND;
    }
    char *line = NULL;
    size_t capacity = 0;
    uint32_t n = 0;
    while (n < options->count && getline(&line, &capacity, file) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        const char *prompt = json_string_value(json_object_get(object, "prompt"));
        if (prompt != NULL) {
            prompts[n] = strdup(prompt);
            n += prompts[n] != NULL ? 1 : 0;
        }
        json_decref(object);
    }
    free(line);
    fclose(file);
    *count = n;
    return n > 0 ? STATUS_OK : STATUS_MALFORMED;
}

static enum status submit(struct surefoot_client *client, const struct options *options,
                          const struct method *method, char *prompt, uint32_t index, char *key,
                          struct error *err) {
    Surefoot__JobSpec spec;
    surefoot__job_spec__init(&spec);
    spec.prompt = prompt;
    spec.method = method->name;
    spec.selection = method->selection;
    if (strcmp(method->name, "sample") != 0) {
        spec.has_n = 1;
        spec.n = options->n;
    }
    spec.has_block_tokens = 1;
    spec.block_tokens = options->block_tokens;
    spec.has_max_tokens = 1;
    spec.max_tokens = options->max_tokens;
    spec.has_seed = 1;
    spec.seed = options->seed + index;
    const struct surefoot_submit args = {.spec = &spec, .timeout_ms = WAIT_MS};
    return surefoot_submit(client, &args, key, NULL, err);
}

static enum status count_result(struct rescorer *judge, const char *prompt,
                                const Surefoot__JobResult *result, uint32_t index,
                                struct method_totals *totals, struct error *err) {
    totals->tokens += (double)result->tokens_sampled;
    totals->fallbacks += result->fallback_fired ? 1 : 0;
    totals->rewards[index] = NAN;
    if (result->outcome != SUREFOOT__OUTCOME__OUTCOME_COMPLETED) {
        return STATUS_OK;
    }
    double cost;
    enum status status = rescorer_cost(judge, prompt, result->text, &cost, err);
    if (status != STATUS_OK) {
        return status;
    }
    totals->answered++;
    totals->over_budget += cost <= rescorer_budget(judge) ? 0 : 1;
    totals->mismatches += fabs(cost - result->cost) <= 1e-9 * (1.0 + fabs(cost)) ? 0 : 1;
    totals->reward += result->reward;
    totals->cost += cost;
    totals->rewards[index] = result->reward;
    return STATUS_OK;
}

static enum status run_method(struct surefoot_client *client, struct rescorer *judge,
                              const struct options *options, const struct method *method,
                              char **prompts, uint32_t count, struct method_totals *totals,
                              struct error *err) {
    char(*keys)[SUREFOOT_KEY_BYTES] = calloc(count, sizeof *keys);
    Surefoot__JobResult **results = calloc(count, sizeof *results);
    enum status status = keys == NULL || results == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    int64_t start_ns = clock_monotonic_ns();
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = submit(client, options, method, prompts[i], i, keys[i], err);
    }
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = surefoot_fetch(client, keys[i], WAIT_MS, WAIT_MS, &results[i], err);
    }
    totals->wall_ms = (double)(clock_monotonic_ns() - start_ns) / 1e6;
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = results[i] == NULL
                     ? error_set(err, STATUS_DEADLINE, "", "job %u did not end in time", i)
                     : count_result(judge, prompts[i], results[i], i, totals, err);
    }
    for (uint32_t i = 0; i < count && status == STATUS_OK; i++) {
        status = surefoot_close_job(client, keys[i], WAIT_MS, err);
    }
    for (uint32_t i = 0; results != NULL && i < count; i++) {
        surefoot_result_free(results[i]);
    }
    free(results);
    free(keys);
    return status;
}

// Mean and 95 % half-width of the paired difference over prompts that both answered.
static void paired_difference(const struct method_totals *a, const struct method_totals *b,
                              uint32_t count, double *mean, double *half_width) {
    double sum = 0.0;
    double squares = 0.0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        double difference = a->rewards[i] - b->rewards[i];
        if (!isnan(difference)) {
            sum += difference;
            squares += difference * difference;
            n++;
        }
    }
    *mean = n == 0 ? NAN : sum / n;
    *half_width = n < 2 ? NAN : 1.96 * sqrt(fmax(0.0, squares / n - *mean * *mean) / (n - 1));
}

static void print_header(const struct options *options, uint32_t count) {
    printf("# %u prompts, N=%u, block %u, max %u tokens, seed %llu + prompt number\n", count,
           options->n, options->block_tokens, options->max_tokens,
           (unsigned long long)options->seed);
    printf("%-20s %8s %11s %8s %8s %17s %9s %9s %9s\n", "method", "answered", "over budget",
           "reward", "cost", "reward - sample", "tokens", "fallback", "ms/prompt");
}

static void print_row(const struct method *method, const struct method_totals *totals,
                      const struct method_totals *first, uint32_t count) {
    double difference;
    double half_width;
    paired_difference(totals, first, count, &difference, &half_width);
    double answered = totals->answered > 0 ? totals->answered : NAN;
    printf("%-20s %7.1f%% %4u (%4.1f%%) %8.3f %8.3f %+8.3f +- %5.3f %9.1f %9u %9.1f\n",
           method->label, 100.0 * totals->answered / count, totals->over_budget,
           100.0 * totals->over_budget / count, totals->reward / answered, totals->cost / answered,
           difference, half_width, totals->tokens / count, totals->fallbacks,
           totals->wall_ms / count);
    fflush(stdout);
}

static bool has_safety_rule(const struct method *method) {
    return strcmp(method->name, "inference-guard") == 0 || strcmp(method->name, "rejection") == 0 ||
           (method->selection != NULL && strcmp(method->selection, "augmented") == 0);
}

static int evaluate(const struct options *options) {
    static char *prompts[PROMPTS_MAX];
    struct method_totals totals[METHODS_MAX] = {{0}};
    size_t n_methods = sizeof methods / sizeof methods[0];
    struct surefoot_client *client = NULL;
    struct rescorer *judge = NULL;
    struct error err = {.message = "cannot read the prompts"};
    uint32_t count = 0;
    int faults = 0;
    enum status status = read_prompts(options, prompts, &count);
    if (status == STATUS_OK) {
        status = surefoot_client_open(options->endpoint, NULL, &client, &err);
    }
    if (status == STATUS_OK) {
        status = rescorer_open(options->cost_directory, 1, &judge, &err);
    }
    if (status == STATUS_OK) {
        print_header(options, count);
    }
    for (size_t m = 0; m < n_methods && status == STATUS_OK; m++) {
        totals[m].rewards = calloc(count, sizeof(double));
        status = totals[m].rewards == NULL ? STATUS_NO_MEMORY
                                           : run_method(client, judge, options, &methods[m],
                                                        prompts, count, &totals[m], &err);
        if (status == STATUS_OK) {
            print_row(&methods[m], &totals[m], &totals[0], count);
            faults += (int)totals[m].mismatches;
            faults += has_safety_rule(&methods[m]) ? (int)totals[m].over_budget : 0;
        }
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "eval_guard: %s: %s %s\n", status_name(status), err.field, err.message);
    } else {
        printf("# faults (over budget under a safety rule, or cost not as re-scored): %d\n",
               faults);
    }
    for (size_t m = 0; m < n_methods; m++) {
        free(totals[m].rewards);
    }
    for (uint32_t i = 0; i < count; i++) {
        free(prompts[i]);
    }
    rescorer_close(judge);
    surefoot_client_close(client);
    return status == STATUS_OK && faults == 0 ? 0 : 1;
}

static uint32_t parse_count(const char *text, uint32_t max) {
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    return *text == '\0' || *end != '\0' || value > max ? 0 : (uint32_t)value;
}

int main(int argc, char **argv) {
    struct options options = {
        .count = 500, .n = 32, .block_tokens = 16, .max_tokens = 64, .seed = 7};
    static const struct option flags[] = {
        {"endpoint", required_argument, NULL, 'e'},
        {"prompts", required_argument, NULL, 'p'},
        {"cost-model", required_argument, NULL, 'c'},
        {"count", required_argument, NULL, 'k'},
        {"n", required_argument, NULL, 'n'},
        {"block-tokens", required_argument, NULL, 'b'},
        {"max-tokens", required_argument, NULL, 'm'},
        {"seed", required_argument, NULL, 's'},
        {NULL, 0, NULL, 0},
    };
    int flag;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case 'e':
            options.endpoint = optarg;
            break;
        case 'p':
            options.prompts_path = optarg;
            break;
        case 'c':
            options.cost_directory = optarg;
            break;
        case 'k':
            options.count = parse_count(optarg, PROMPTS_MAX);
            break;
        case 'n':
            options.n = parse_count(optarg, 4096);
            break;
        case 'b':
            options.block_tokens = parse_count(optarg, 1024);
            break;
        case 'm':
            options.max_tokens = parse_count(optarg, 1024);
            break;
        case 's':
            options.seed = parse_count(optarg, UINT32_MAX);
            break;
        default:
            options.count = 0;
            break;
        }
    }
    if (options.endpoint == NULL || options.prompts_path == NULL ||
        options.cost_directory == NULL || options.count == 0 || options.n == 0 ||
        options.block_tokens == 0 || options.max_tokens == 0) {
        fprintf(stderr,
                "usage: eval_guard --endpoint ADDRESS --prompts FILE.jsonl --cost-model DIR\n"
                "           [--count 1..10000] [--n 1..4096] [--block-tokens 1..1024]\n"
                "           [--max-tokens 1..1024] [--seed S]\n");
        return 2;
    }
    return evaluate(&options);
}
