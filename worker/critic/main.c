// surefoot-critic: trains a critic on recorded roll-outs, says how one does on others, or what is
// in one. `surefoot critic` makes the records and runs it.
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/critic/records.h"
#include "worker/critic/report.h"
#include "worker/critic/train.h"

enum exit_code { EXIT_CODE_DONE = 0, EXIT_CODE_FAILED = 1, EXIT_CODE_USAGE = 2 };

enum { THREADS_MAX = 256 };

struct arguments {
    const char *records;
    const char *out;
    bool check; // the arguments alone
    enum critic_form form;
    double lambda, parts, width, batch, epochs, patience, learning_rate, weight_decay, seed,
        threads;
};

struct number_row {
    const char *flag;
    size_t offset; // of the member
    double low, high;
    bool above_low; // low itself is outside
    bool whole;
    double fallbacks[2]; // of a latent critic, of a value; NAN: it is no option of that form
    const char *help;
};

#define NUMBER(name, member, low, high, above, whole, latent, value, help)                         \
    { name, offsetof(struct arguments, member), low, high, above, whole, {latent, value}, help }

// The defaults of a value are those of its authors' code, but for the width.
static const struct number_row rows[] = {
    NUMBER("lambda", lambda, 0, 1e6, false, false, NAN, 0, "weight of costs, 0: rewards alone"),
    NUMBER("parts", parts, 1, COST_TO_GO_PARTS_MAX, false, true, COST_TO_GO_PARTS_MAX, NAN,
           "logistic parts of each mixture"),
    NUMBER("width", width, 0, CRITIC_WIDTH_MAX, false, true, 0, 0,
           "of both inner layers; 0: the hidden size"),
    NUMBER("batch", batch, 1, CRITIC_BATCH_MAX, false, true, 256, 512,
           "states, of a value texts, of one step"),
    NUMBER("epochs", epochs, 1, 1e6, false, true, 50, 100, "at most"),
    NUMBER("stop-after", patience, 1, 1e6, false, true, 5, 100, "epochs without a better one"),
    NUMBER("learning-rate", learning_rate, 0, 1, true, false, 1e-3, 1e-4, "of AdamW"),
    NUMBER("weight-decay", weight_decay, 0, 1, false, false, 0.01, 0, "of AdamW"),
    NUMBER("seed", seed, 0, 9007199254740991, false, true, 0, 0,
           "of the split, the start, the order"),
    NUMBER("threads", threads, 0, THREADS_MAX, false, true, 0, 0, "0: the cores"),
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static double *member(struct arguments *arguments, const struct number_row *row) {
    return (double *)((char *)arguments + row->offset);
}

static enum status set_number(struct arguments *arguments, const struct number_row *row,
                              const char *text, struct error *err) {
    char *end = NULL;
    double value = strtod(text, &end);
    bool inside = value <= row->high && (row->above_low ? value > row->low : value >= row->low);
    if (end == text || *end != '\0' || !inside || (row->whole && value != floor(value))) {
        return error_set(
            err, STATUS_INVALID_ARGUMENT, row->flag, "\"%.40s\" is not a %snumber in %c%g, %g]",
            text, row->whole ? "whole " : "", row->above_low ? '(' : '[', row->low, row->high);
    }
    *member(arguments, row) = value;
    return STATUS_OK;
}

// What was not given, now that the form is known.
static enum status fill_numbers(struct arguments *arguments, struct error *err) {
    for (int i = 0; i < N_ROWS; i++) {
        double *value = member(arguments, &rows[i]);
        double fallback = rows[i].fallbacks[arguments->form == CRITIC_FORM_LATENT ? 0 : 1];
        if (isnan(fallback) && !isnan(*value)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, rows[i].flag, "is nothing that a %s has",
                             critic_form_name(arguments->form));
        }
        *value = isnan(*value) ? fallback : *value;
    }
    return STATUS_OK;
}

enum { TEXT_FLAGS = 4 };

static enum status set_text(struct arguments *arguments, int index, const char *text,
                            struct error *err) {
    if (index == 3) {
        arguments->check = true;
        return STATUS_OK;
    }
    if (index < 2) {
        *(index == 0 ? &arguments->records : &arguments->out) = text;
        return STATUS_OK;
    }
    return critic_form_parse(text, &arguments->form)
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "network",
                           "\"%.40s\" is not one of latent, value, value-released", text);
}

static enum status read_arguments(int argc, char **argv, struct arguments *out, struct error *err) {
    struct option flags[N_ROWS + TEXT_FLAGS + 1] = {{"records", required_argument, NULL, 0},
                                                    {"out", required_argument, NULL, 0},
                                                    {"network", required_argument, NULL, 0},
                                                    {"check", no_argument, NULL, 0}};
    for (int i = 0; i < N_ROWS; i++) {
        *member(out, &rows[i]) = NAN;
        flags[i + TEXT_FLAGS] = (struct option){rows[i].flag, required_argument, NULL, 0};
    }
    for (;;) {
        int index = -1;
        int result = getopt_long(argc, argv, ":", flags, &index);
        if (result == -1) {
            break;
        }
        if (result != 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, argv[optind - 1],
                             result == ':' ? "needs a value" : "is not a flag of this program");
        }
        enum status status = index < TEXT_FLAGS
                                 ? set_text(out, index, optarg, err)
                                 : set_number(out, &rows[index - TEXT_FLAGS], optarg, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (optind < argc) {
        return error_set(err, STATUS_INVALID_ARGUMENT, argv[optind], "is no flag");
    }
    return out->records != NULL && out->out != NULL
               ? fill_numbers(out, err)
               : error_set(err, STATUS_INVALID_ARGUMENT, out->records == NULL ? "records" : "out",
                           "is required");
}

static int threads_of(const struct arguments *arguments) {
    cpu_set_t cores;
    int n = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    n = arguments != NULL && arguments->threads > 0 ? (int)arguments->threads : n;
    return n < THREADS_MAX ? n : THREADS_MAX;
}

// Epochs until it is done, each followed by a checkpoint, from the one that an earlier run left.
static enum status train(struct critic_trainer *trainer, const char *checkpoint,
                         struct critic_epoch *epoch, struct error *err) {
    enum status status = STATUS_OK;
    if (access(checkpoint, F_OK) == 0) {
        status = critic_trainer_resume(trainer, checkpoint, err);
        fprintf(stderr, "going on from %s\n", checkpoint);
    }
    while (status == STATUS_OK && !critic_trainer_is_done(trainer)) {
        status = critic_trainer_run(trainer, epoch, err);
        if (status == STATUS_OK) {
            fprintf(stderr, "epoch %d: loss %.4f, on texts to stop by %.4f (lowest %.4f in %d)\n",
                    epoch->number, epoch->train_loss, epoch->stop_loss, epoch->best_loss,
                    epoch->best_number);
            status = critic_trainer_save(trainer, checkpoint, err);
        }
    }
    return status;
}

// The report's own part for samples indexes [n], and the member that it is. *out is owned, on
// failure too.
static enum status make_report(const struct critic_records *records, const size_t *indexes,
                               size_t n, struct critic *critic, struct backend *backend,
                               const char **name, json_t **out, struct error *err) {
    double budgets[REPORT_BUDGETS_MAX];
    size_t n_budgets = 0;
    if (critic_terms_are_value(&records->terms)) {
        *name = "at";
        return critic_report_value(critic, backend, &records->samples, indexes, n, out, err);
    }
    *name = "budgets";
    *out = json_array();
    enum status status = STATUS_OK;
    for (int32_t i = 0; status == STATUS_OK && i < records->terms.n_channels; i++) {
        status = critic_report_budgets(&records->terms, &records->samples, i, indexes, n,
                                       records->budgets[i], budgets, &n_budgets);
        if (status == STATUS_OK) {
            status = critic_report_make(critic, backend, &records->samples, i, indexes, n, budgets,
                                        n_budgets, *out, err);
        }
    }
    return status;
}

// What the records say of how well the critic at `path` does on samples indexes [n].
static enum status report(const struct critic_records *records, const size_t *indexes, size_t n,
                          const char *path, struct backend *backend, json_t **out,
                          struct error *err) {
    struct critic *critic = NULL;
    json_t *list = NULL;
    const char *name = NULL;
    enum status status = critic_open(path, backend, 256, &critic, err);
    if (status == STATUS_OK) {
        status = critic_terms_agree(critic_get_terms(critic), &records->terms, err);
    }
    if (status == STATUS_OK) {
        status = make_report(records, indexes, n, critic, backend, &name, &list, err);
    }
    if (status == STATUS_OK) {
        *out = json_pack("{s:s, s:s, s:I, s:i, s:i, s:i, s:I, s:o, s:o}", "out", path, "hash",
                         critic_get_hash(critic), "states", (json_int_t)records->samples.n, "texts",
                         (int)records->n_trajectories, "prompts", (int)records->samples.n_prompts,
                         "passed_over", (int)records->n_passed_over, "reported_on", (json_int_t)n,
                         "terms", critic_terms_json(critic_get_terms(critic)), name, list);
    } else {
        json_decref(list);
    }
    critic_close(critic);
    return status;
}

// On all that the records hold.
static enum status report_records(const char *path, const char *records_path, json_t **out,
                                  struct error *err) {
    struct critic_records records = {.states_fd = -1};
    struct backend *backend = NULL;
    struct critic_file file;
    enum status status = critic_file_open(path, &file, err);
    const struct critic_wanted wanted = {file.terms.form, file.terms.lambda, file.terms.n_parts};
    critic_file_close(&file);
    if (status == STATUS_OK) {
        status = critic_records_read(records_path, &wanted, &records, err);
    }
    size_t *indexes = calloc(records.samples.n + 1, sizeof *indexes);
    if (status == STATUS_OK && indexes == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the samples");
    }
    for (size_t i = 0; status == STATUS_OK && i < records.samples.n; i++) {
        indexes[i] = i;
    }
    if (status == STATUS_OK) {
        status = backend_create("cpu", threads_of(NULL), &backend, err);
    }
    if (status == STATUS_OK) {
        status = report(&records, indexes, records.samples.n, path, backend, out, err);
    }
    free(indexes);
    backend_destroy(backend);
    critic_records_close(&records);
    return status;
}

// A critic may be made anew; whatever else is there stays.
static enum status check_out(const char *path, struct error *err) {
    if (access(path, F_OK) != 0) {
        return STATUS_OK;
    }
    struct critic_file file;
    struct error ignored;
    enum status status = critic_file_open(path, &file, &ignored);
    critic_file_close(&file);
    return status == STATUS_OK
               ? status
               : error_set(err, STATUS_ALREADY_EXISTS, "out",
                           "%.200s is there and no critic; name another file", path);
}

static enum status train_records(const struct arguments *arguments, json_t **out,
                                 struct error *err) {
    char checkpoint[4096];
    struct critic_records records = {.states_fd = -1};
    struct backend *backend = NULL;
    struct critic_trainer *trainer = NULL;
    struct critic_epoch epoch = {0};
    struct critic_net net;
    snprintf(checkpoint, sizeof checkpoint, "%s.training", arguments->out);
    enum status status = check_out(arguments->out, err);
    if (status == STATUS_OK) {
        const struct critic_wanted wanted = {
            arguments->form, arguments->form == CRITIC_FORM_LATENT ? 0 : arguments->lambda,
            arguments->form == CRITIC_FORM_LATENT ? (int32_t)arguments->parts : 1};
        status = critic_records_read(arguments->records, &wanted, &records, err);
    }
    if (status == STATUS_OK) {
        fprintf(stderr, "%zu states of %u texts on %u prompts (%u records without any)\n",
                records.samples.n, records.n_trajectories, records.samples.n_prompts,
                records.n_passed_over);
        status = backend_create("cpu", threads_of(arguments), &backend, err);
    }
    int32_t width = arguments->width > 0 ? (int32_t)arguments->width : records.terms.hidden_dim;
    const struct critic_train_options options = {.widths = {width, width},
                                                 .batch = (int32_t)arguments->batch,
                                                 .epochs_max = (int32_t)arguments->epochs,
                                                 .patience = (int32_t)arguments->patience,
                                                 .learning_rate = arguments->learning_rate,
                                                 .weight_decay = arguments->weight_decay,
                                                 .seed = (uint64_t)arguments->seed};
    if (status == STATUS_OK) {
        status = critic_trainer_create(backend, &records.terms, &records.samples, &options,
                                       &trainer, err);
    }
    if (status == STATUS_OK) {
        status = train(trainer, checkpoint, &epoch, err);
    }
    if (status == STATUS_OK) {
        status = critic_trainer_net(trainer, &net, err);
    }
    if (status == STATUS_OK) {
        status = critic_file_write(arguments->out, &records.terms, &net, err);
    }
    if (status == STATUS_OK) {
        size_t n = 0;
        const size_t *indexes = critic_trainer_part(trainer, CRITIC_PART_REPORT, &n);
        status = report(&records, indexes, n, arguments->out, backend, out, err);
    }
    if (status == STATUS_OK) {
        unlink(checkpoint);
    }
    critic_trainer_destroy(trainer);
    backend_destroy(backend);
    critic_records_close(&records);
    return status;
}

static enum status check(const char *path, json_t **out, struct error *err) {
    struct critic_file file;
    enum status status = critic_file_open(path, &file, err);
    if (status == STATUS_OK) {
        const int32_t *dims = file.net.dims;
        *out = json_pack("{s:s, s:[i, i, i, i], s:o}", "hash", file.hash, "dims", dims[0], dims[1],
                         dims[2], dims[3], "terms", critic_terms_json(&file.terms));
    }
    critic_file_close(&file);
    return status;
}

static void print_help(void) {
    printf(
        "usage: surefoot-critic train --records FILE.jsonl --out FILE [FLAGS]\n"
        "       surefoot-critic report CRITIC RECORDS.jsonl\n"
        "       surefoot-critic check FILE\n"
        "Trains a critic on roll-outs that `surefoot sweep --method sample --states` or `surefoot\n"
        "critic train` recorded, says how one does on others, or what is in one. --network latent "
        "(the "
        "default), value or\nvalue-released. JSON on stdout, progress on stderr. An\n"
        "interrupted training goes on from FILE.training.\n\n");
    for (int i = 0; i < N_ROWS; i++) {
        const struct number_row *row = &rows[i];
        printf("  --%-16s %s; default", row->flag, row->help);
        for (int form = 0; form < 2; form++) {
            if (!isnan(row->fallbacks[form]) &&
                (form == 0 || row->fallbacks[0] != row->fallbacks[1])) {
                printf(form == 0 ? " %g" : ", of a value %g", row->fallbacks[form]);
            }
        }
        printf("\n");
    }
    printf("  --%-16s only whether the flags are good\n", "check");
    printf("\nExit codes: 0 done, 1 failed, 2 bad flags or input.\n");
}

static int finish(enum status status, json_t *json, const struct error *err) {
    int code = EXIT_CODE_DONE;
    if (status == STATUS_OK) {
        json_dumpf(json, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
        putchar('\n');
    } else {
        bool system = status == STATUS_IO || status == STATUS_NO_MEMORY ||
                      status == STATUS_DISK_FULL || status == STATUS_DEVICE;
        fprintf(stderr, "surefoot-critic: %s: %s %s\n", status_name(status), err->field,
                err->message);
        code = system ? EXIT_CODE_FAILED : EXIT_CODE_USAGE;
    }
    json_decref(json);
    return code;
}

int main(int argc, char **argv) {
    struct error err = {0};
    json_t *json = NULL;
    if (argc == 3 && strcmp(argv[1], "check") == 0) {
        enum status status = check(argv[2], &json, &err);
        return finish(status, json, &err);
    }
    if (argc == 4 && strcmp(argv[1], "report") == 0) {
        enum status status = report_records(argv[2], argv[3], &json, &err);
        return finish(status, json, &err);
    }
    if (argc < 2 || strcmp(argv[1], "train") != 0) {
        print_help();
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? EXIT_CODE_DONE : EXIT_CODE_USAGE;
    }
    struct arguments arguments = {0};
    enum status status = read_arguments(argc - 1, argv + 1, &arguments, &err);
    if (status == STATUS_OK && arguments.check) {
        json = json_object();
        return finish(STATUS_OK, json, &err);
    }
    if (status == STATUS_OK) {
        status = train_records(&arguments, &json, &err);
    }
    return finish(status, json, &err);
}
