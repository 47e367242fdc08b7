// What do the faster precisions cost in quality? Reads texts with a policy, a cost model and a
// reward model, with stored weights and f32 keys and values and then with each precision and keys
// and values of --kv-dtype, and prints the policy's perplexity on the responses, the cost model's
// area under the ROC curve (labels: 1 is unsafe) by summed costs and by the end score, the reward's
// correlation with that of the first, and how each differs from it.
//
//   eval_precision --texts FILE.jsonl [--policy DIR] [--cost DIR] [--reward DIR] [--count N]
//                  [--kv-dtype f32|f16|bf16|int8] [--threads T]
//
// A line of FILE has "prompt", "text" (the response) and, for the cost model, "label".
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/model/context.h"
#include "worker/tokenizer/template.h"
#include "worker/tokenizer/tokenizer.h"

enum { TEXTS_MAX = 1000000, TOKENS_MAX = 2048 };

struct text {
    char *prompt;
    char *response;
    int label; // -1: none
};

struct options {
    const char *texts_path;
    const char *policy;
    const char *cost;
    const char *reward;
    enum kv_dtype kv_dtype;
    int count;
    int threads;
};

struct reader {
    struct backend *backend;
    struct model *model;
    struct model_context *context;
    struct tokenizer *tokenizer;
    struct template_set *templates;
    const struct template *chat_template;
    int32_t ids[TOKENS_MAX];
    size_t n_prompt;
    size_t n; // prompt, response and EOS
};

// A way to compute, and what it gives on all texts.
struct figures {
    enum precision precision;
    enum kv_dtype kv_dtype;
    double perplexity;
    double auc_sum;
    double auc_end;
    double *rewards; // [n texts]
};

static void fail(const char *what, const struct error *err) {
    fprintf(stderr, "eval_precision: %s: %s: %s\n", what, err->field, err->message);
    exit(1);
}

static void *need(void *memory) {
    if (memory == NULL) {
        fprintf(stderr, "eval_precision: no memory\n");
        exit(1);
    }
    return memory;
}

static int read_texts(const struct options *options, struct text **out) {
    FILE *file = fopen(options->texts_path, "r");
    if (file == NULL) {
        fprintf(stderr, "eval_precision: cannot read %s\n", options->texts_path);
        exit(1);
    }
    struct text *texts = need(calloc((size_t)options->count, sizeof *texts));
    char *line = NULL;
    size_t capacity = 0;
    int n = 0;
    while (n < options->count && getline(&line, &capacity, file) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        const char *prompt = json_string_value(json_object_get(object, "prompt"));
        const char *response = json_string_value(json_object_get(object, "text"));
        const json_t *label = json_object_get(object, "label");
        if (prompt == NULL || response == NULL) {
            fprintf(stderr, "eval_precision: line %d has no prompt or no text\n", n + 1);
            exit(1);
        }
        texts[n].prompt = need(strdup(prompt));
        texts[n].response = need(strdup(response));
        texts[n].label = json_is_integer(label) ? json_integer_value(label) != 0 : -1;
        json_decref(object);
        n++;
    }
    free(line);
    fclose(file);
    *out = texts;
    return n;
}

static void open_reader(struct reader *reader, const char *directory, const struct figures *way,
                        int threads) {
    struct error err = {0};
    enum status status = backend_create("cpu", threads, &reader->backend, &err);
    if (status == STATUS_OK) {
        status = model_open(directory, reader->backend, way->precision, &reader->model, &err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_open(directory, &reader->tokenizer, &err);
    }
    if (status == STATUS_OK) {
        status = template_set_open(directory, reader->tokenizer, &reader->templates, &err);
    }
    if (status == STATUS_OK) {
        status = template_find(reader->templates, model_get_profile(reader->model)->chat_template,
                               &reader->chat_template, &err);
    }
    if (status == STATUS_OK) {
        int32_t longest = model_get_config(reader->model)->context_length;
        longest = longest < TOKENS_MAX ? longest : TOKENS_MAX;
        const struct model_context_options options = {
            .n_kv_blocks = longest / KV_BLOCK_TOKENS + 1,
            .n_sequences = 1,
            .batch_rows = 256,
            .output_rows = longest,
            .context_tokens = longest,
            .kv_dtype = way->kv_dtype,
        };
        status = model_context_create(reader->model, &options, &reader->context, &err);
    }
    if (status != STATUS_OK) {
        fail(directory, &err);
    }
}

static void close_reader(struct reader *reader) {
    model_context_destroy(reader->context);
    template_set_close(reader->templates);
    tokenizer_close(reader->tokenizer);
    model_close(reader->model);
    backend_destroy(reader->backend);
}

// Encodes prompt, response and EOS, and runs them; every position's state is kept.
static struct sequence *read_text(struct reader *reader, const struct text *text) {
    struct error err = {0};
    const struct chat_message message = {.role = "user", .content = text->prompt};
    size_t n_response = 0;
    const struct chat chat = {.messages = &message, .n_messages = 1};
    enum status status = template_encode(reader->chat_template, &chat, reader->ids, TOKENS_MAX,
                                         &reader->n_prompt, &err);
    if (status == STATUS_OK) {
        char response[TOKENS_MAX * 4];
        snprintf(response, sizeof response, " %s", text->response);
        status = tokenizer_encode(reader->tokenizer, response, strlen(response), 0,
                                  reader->ids + reader->n_prompt, TOKENS_MAX - 1 - reader->n_prompt,
                                  &n_response, &err);
    }
    if (status != STATUS_OK) {
        fail("text", &err);
    }
    reader->n = reader->n_prompt + n_response + 1;
    reader->ids[reader->n - 1] = tokenizer_eos_id(reader->tokenizer);
    struct sequence *sequence = need(sequence_create(reader->context));
    const struct forward_item item = {sequence, reader->ids, (int32_t)reader->n,
                                      FORWARD_OUTPUT_ALL};
    if (model_forward(reader->context, &item, 1, &err) != STATUS_OK) {
        fail("text", &err);
    }
    return sequence;
}

// -log p(id) under softmax(logits), in float64.
static double surprise(const float *logits, int32_t vocab_size, int32_t id) {
    double largest = -INFINITY, sum = 0;
    for (int32_t i = 0; i < vocab_size; i++) {
        largest = fmax(largest, (double)logits[i]);
    }
    for (int32_t i = 0; i < vocab_size; i++) {
        sum += exp((double)logits[i] - largest);
    }
    return log(sum) + largest - (double)logits[id];
}

static void perplexity(const struct options *options, const struct text *texts, int n,
                       struct figures *out) {
    struct reader reader = {0};
    open_reader(&reader, options->policy, out, options->threads);
    int32_t vocab_size = model_get_config(reader.model)->vocab_size;
    double sum = 0, tokens = 0;
    for (int i = 0; i < n; i++) {
        if (texts[i].label == 1) {
            continue; // what the policy is not meant to write
        }
        struct sequence *sequence = read_text(&reader, &texts[i]);
        struct tensor logits;
        if (model_logits(reader.context, model_outputs(reader.context), &logits) != STATUS_OK) {
            fail(options->policy, &(struct error){.message = "no logits"});
        }
        const float *rows = logits.data;
        for (size_t t = reader.n_prompt; t < reader.n; t++) {
            sum += surprise(rows + (t - 1) * (size_t)vocab_size, vocab_size, reader.ids[t]);
        }
        tokens += (double)(reader.n - reader.n_prompt);
        sequence_destroy(reader.context, sequence);
    }
    close_reader(&reader);
    out->perplexity = exp(sum / tokens);
}

struct labelled {
    double value;
    int label;
};

static int by_value(const void *a, const void *b) {
    double x = ((const struct labelled *)a)->value, y = ((const struct labelled *)b)->value;
    return (x > y) - (x < y);
}

// Area under the ROC curve from ranks; ties count half (Mann-Whitney).
static double area_under_curve(struct labelled *values, int n) {
    qsort(values, (size_t)n, sizeof *values, by_value);
    double ranks = 0, positives = 0;
    for (int i = 0; i < n;) {
        int end = i;
        while (end < n && values[end].value == values[i].value) {
            end++;
        }
        for (int k = i; k < end; k++) {
            ranks += values[k].label ? (i + 1 + end) / 2.0 : 0;
            positives += values[k].label;
        }
        i = end;
    }
    return (ranks - positives * (positives + 1) / 2) / (positives * (n - positives));
}

static void judge(const struct options *options, const struct text *texts, int n,
                  struct figures *out) {
    struct reader reader = {0};
    open_reader(&reader, options->cost, out, options->threads);
    double discount = model_get_profile(reader.model)->discount;
    struct labelled *sums = need(calloc((size_t)n, sizeof *sums));
    struct labelled *ends = need(calloc((size_t)n, sizeof *ends));
    float scores[TOKENS_MAX];
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (texts[i].label < 0) {
            continue;
        }
        struct sequence *sequence = read_text(&reader, &texts[i]);
        if (model_score_outputs(reader.context, scores) != STATUS_OK) {
            fail(options->cost, &(struct error){.message = "no scores"});
        }
        double sum = 0, weight = 1;
        for (size_t t = reader.n_prompt; t + 1 < reader.n; t++, weight *= discount) {
            sum += weight * fmax(0, (double)scores[t]);
        }
        sums[used] = (struct labelled){sum, texts[i].label};
        ends[used++] = (struct labelled){(double)scores[reader.n - 1], texts[i].label};
        sequence_destroy(reader.context, sequence);
    }
    out->auc_sum = area_under_curve(sums, used);
    out->auc_end = area_under_curve(ends, used);
    free(sums);
    free(ends);
    close_reader(&reader);
}

static void reward(const struct options *options, const struct text *texts, int n,
                   struct figures *out) {
    struct reader reader = {0};
    open_reader(&reader, options->reward, out, options->threads);
    out->rewards = need(calloc((size_t)n, sizeof *out->rewards));
    float scores[TOKENS_MAX];
    for (int i = 0; i < n; i++) {
        struct sequence *sequence = read_text(&reader, &texts[i]);
        if (model_score_outputs(reader.context, scores) != STATUS_OK) {
            fail(options->reward, &(struct error){.message = "no scores"});
        }
        out->rewards[i] = (double)scores[reader.n - 1];
        sequence_destroy(reader.context, sequence);
    }
    close_reader(&reader);
}

// Pearson's correlation.
static double correlation(const double *a, const double *b, int n) {
    double mean_a = 0, mean_b = 0, ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        mean_a += a[i] / n;
        mean_b += b[i] / n;
    }
    for (int i = 0; i < n; i++) {
        ab += (a[i] - mean_a) * (b[i] - mean_b);
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
    }
    return ab / sqrt(aa * bb);
}

static double percent(double value, double base) {
    return 100 * (value / base - 1);
}

// `all` [n_ways], the first is what the others are compared with; each read n texts.
static void print_figures(const struct options *options, const struct figures *all, int n_ways,
                          int n) {
    printf("# %d texts; change against stored weights, f32 activations, f32 keys and values\n", n);
    printf("precision,kv_dtype");
    printf("%s", options->policy != NULL ? ",perplexity,change_percent" : "");
    printf("%s", options->cost != NULL ? ",auc_sum,change_percent,auc_end,change_percent" : "");
    printf("%s\n", options->reward != NULL ? ",reward_correlation" : "");
    for (int w = 0; w < n_ways; w++) {
        printf("%s,%s", precision_name(all[w].precision), kv_dtype_name(all[w].kv_dtype));
        if (options->policy != NULL) {
            printf(",%.4f,%+.3f", all[w].perplexity, percent(all[w].perplexity, all[0].perplexity));
        }
        if (options->cost != NULL) {
            printf(",%.5f,%+.3f,%.5f,%+.3f", all[w].auc_sum,
                   percent(all[w].auc_sum, all[0].auc_sum), all[w].auc_end,
                   percent(all[w].auc_end, all[0].auc_end));
        }
        if (options->reward != NULL) {
            printf(",%.6f", correlation(all[0].rewards, all[w].rewards, n));
        }
        printf("\n");
    }
}

static void parse(int argc, char **argv, struct options *options) {
    static const struct option flags[] = {
        {"texts", required_argument, NULL, 't'},    {"policy", required_argument, NULL, 'p'},
        {"cost", required_argument, NULL, 'c'},     {"reward", required_argument, NULL, 'r'},
        {"kv-dtype", required_argument, NULL, 'k'}, {"count", required_argument, NULL, 'n'},
        {"threads", required_argument, NULL, 'j'},  {0},
    };
    int flag;
    bool known = true;
    while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1) {
        switch (flag) {
        case 't':
            options->texts_path = optarg;
            break;
        case 'p':
            options->policy = optarg;
            break;
        case 'c':
            options->cost = optarg;
            break;
        case 'r':
            options->reward = optarg;
            break;
        case 'k':
            known = kv_dtype_find(optarg, &options->kv_dtype);
            break;
        case 'n':
            options->count = atoi(optarg);
            break;
        case 'j':
            options->threads = atoi(optarg);
            break;
        default:
            exit(2);
        }
    }
    if (!known || options->texts_path == NULL || options->count < 1 || options->count > TEXTS_MAX ||
        options->threads < 1 || options->threads > 256) {
        fprintf(stderr,
                "usage: eval_precision --texts FILE [--policy DIR] [--cost DIR] "
                "[--reward DIR] [--count 1..%d] [--kv-dtype f32|f16|bf16|int8] "
                "[--threads 1..256]\n",
                TEXTS_MAX);
        exit(2);
    }
}

// Whether all models that are asked for have weights in four bits.
static bool has_q4(const struct options *options) {
    const char *const directories[] = {options->policy, options->cost, options->reward};
    struct error err = {0};
    bool all = true;
    for (size_t i = 0; i < sizeof directories / sizeof directories[0] && all; i++) {
        struct backend *backend = NULL;
        struct model *model = NULL;
        if (directories[i] == NULL) {
            continue;
        }
        enum status status = backend_create("cpu", options->threads, &backend, &err);
        if (status == STATUS_OK) {
            status = model_open(directories[i], backend, PRECISION_Q4, &model, &err);
        }
        all = status != STATUS_UNSUPPORTED || strcmp(err.field, "precision") != 0;
        model_close(model);
        backend_destroy(backend);
        if (all && status != STATUS_OK) {
            fail(directories[i], &err);
        }
    }
    return all;
}

int main(int argc, char **argv) {
    struct options options = {.count = 1000, .threads = 2};
    parse(argc, argv, &options);
    struct text *texts = NULL;
    int n = read_texts(&options, &texts);
    struct figures all[1 + PRECISION_COUNT] = {{.precision = PRECISION_STORED, .kv_dtype = KV_F32}};
    int n_ways = 1;
    for (int p = 0; p < PRECISION_COUNT; p++) {
        bool base = p == PRECISION_STORED && options.kv_dtype == KV_F32;
        if (!base && (p != PRECISION_Q4 || has_q4(&options))) {
            all[n_ways++] =
                (struct figures){.precision = (enum precision)p, .kv_dtype = options.kv_dtype};
        }
    }
    for (int w = 0; w < n_ways; w++) {
        if (options.policy != NULL) {
            perplexity(&options, texts, n, &all[w]);
        }
        if (options.cost != NULL) {
            judge(&options, texts, n, &all[w]);
        }
        if (options.reward != NULL) {
            reward(&options, texts, n, &all[w]);
        }
    }
    print_figures(&options, all, n_ways, n);
    for (int w = 0; w < n_ways; w++) {
        free(all[w].rewards);
    }
    for (int i = 0; i < n; i++) {
        free(texts[i].prompt);
        free(texts[i].response);
    }
    free(texts);
    return 0;
}
