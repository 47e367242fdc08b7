#include "client/cli/exports.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "client/benchmarks/rows.h"
#include "client/cli/items.h"
#include "common/json_numbers.h"

enum { COLUMNS_MAX = 256, MESSAGE_ID_BYTES = 64 };

// One answer, on its way into a file.
struct answer {
    const struct outfile_record *row;
    const json_t *record;
    const json_t *input;
    const char *outcome;
    const char *text; // the completion, or the refusal's
    bool refused;
    bool failed;
};

struct export {
    const struct exports_options *options;
    const struct form *form;
    const char *method; // NULL: a sweep's
    FILE *out;
    json_t *cases;   // harmbench: behaviour -> its list; owned
    json_t *columns; // of the inputs, in the order in which they are met; owned array
};

struct form {
    const char *name;
    const char *text_column; // of CSV forms
    bool bare;               // of them: nothing beside the item's fields and the text
    bool tells_failed;       // failed jobs have a place in it
    enum status (*add)(struct export *export, const struct answer *answer, struct error *err);
    enum status (*end)(struct export *export, struct error *err); // NULL: nothing is left to do
};

static enum status no_memory(struct error *err) {
    return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the export");
}

static enum status refuse_record(const struct answer *answer, const char *what, struct error *err) {
    char field[ERROR_FIELD_BYTES];
    snprintf(field, sizeof field, "line %zu", answer->row->line);
    return error_set(err, STATUS_INVALID_ARGUMENT, field, "%s", what);
}

// As JSON writes it, reals short; owned, NULL: no memory.
static char *value_text(const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text != NULL) {
        json_numbers_shorten(text);
    }
    return text;
}

static enum status print_value(const json_t *value, FILE *out, struct error *err) {
    char *text = value_text(value);
    if (text == NULL) {
        return no_memory(err);
    }
    fputs(text, out);
    free(text);
    return STATUS_OK;
}

// HarmBench's completions: {behaviour: [{"test_case", "generation"}]} (generate_completions.py).
static enum status add_harmbench(struct export *export, const struct answer *answer,
                                 struct error *err) {
    const json_t *behavior = json_object_get(answer->input, ROWS_BEHAVIOR_FIELD);
    behavior = behavior != NULL ? behavior : json_object_get(answer->record, "id");
    const char *name = json_string_value(behavior);
    const char *prompt = json_string_value(items_asked_of(answer->record));
    if (name == NULL || prompt == NULL) {
        return refuse_record(answer,
                             name == NULL ? "its id is no text: HarmBench's behaviours have names"
                                          : "asked with messages: HarmBench's test cases are texts",
                             err);
    }
    json_t *list = json_object_get(export->cases, name);
    if (list == NULL) {
        list = json_array();
        if (json_object_set_new(export->cases, name, list) != 0) {
            return no_memory(err);
        }
    }
    json_t *item = json_pack("{s:s, s:s}", "test_case", prompt, "generation", answer->text);
    return json_array_append_new(list, item) == 0 ? STATUS_OK : no_memory(err);
}

static enum status end_harmbench(struct export *export, struct error *err) {
    char *text = json_dumps(export->cases, JSON_INDENT(4));
    if (text == NULL) {
        return no_memory(err);
    }
    fprintf(export->out, "%s\n", text);
    free(text);
    return STATUS_OK;
}

// Midnight UTC of the day that the record was made with; 0: it names none.
static json_int_t created(const json_t *record) {
    const char *date = json_string_value(json_object_get(record, "date"));
    struct tm day = {0};
    bool known = date != NULL && strptime(date, "%Y-%m-%d", &day) != NULL;
    return known ? (json_int_t)timegm(&day) : 0;
}

static const char *finish_reason(const struct answer *answer) {
    const char *reason = json_string_value(json_object_get(answer->record, "finish_reason"));
    return answer->refused                                   ? "content_filter"
           : reason != NULL && strcmp(reason, "length") == 0 ? "length"
                                                             : "stop";
}

static json_t *batch_body(const struct answer *answer) {
    char id[MESSAGE_ID_BYTES];
    snprintf(id, sizeof id, "chatcmpl-%s", answer->row->key);
    json_t *refusal = answer->refused ? json_string(answer->text) : json_null();
    const json_t *models = json_object_get(answer->record, "models");
    const char *policy = json_string_value(json_object_get(models, "policy"));
    return json_pack("{s:s, s:s, s:I, s:s, s:[{s:i, s:{s:s, s:s, s:o}, s:n, s:s}]}", "id", id,
                     "object", "chat.completion", "created", created(answer->record), "model",
                     policy != NULL ? policy : "unknown", "choices", "index", 0, "message", "role",
                     "assistant", "content", answer->text, "refusal", refusal, "logprobs",
                     "finish_reason", finish_reason(answer));
}

// A line of a batch's output file (OpenAI's batch API): custom_id is the item's id.
static enum status add_batch(struct export *export, const struct answer *answer,
                             struct error *err) {
    const json_t *id = json_object_get(answer->record, "id");
    char request[MESSAGE_ID_BYTES];
    snprintf(request, sizeof request, "batch_req_%s", answer->row->key);
    const char *own = json_string_value(id);
    char *number = own == NULL ? value_text(id) : NULL;
    json_t *line =
        answer->failed
            ? json_pack("{s:s, s:s, s:n, s:{s:s, s:s}}", "id", request, "custom_id",
                        own != NULL ? own : number, "response", "error", "code", answer->outcome,
                        "message", "the job gave no answer")
            : json_pack("{s:s, s:s, s:{s:i, s:s, s:o}, s:n}", "id", request, "custom_id",
                        own != NULL ? own : number, "response", "status_code", 200, "request_id",
                        answer->row->key, "body", batch_body(answer), "error");
    free(number);
    if (line == NULL) {
        return no_memory(err);
    }
    enum status status = print_value(line, export->out, err);
    fputc('\n', export->out);
    json_decref(line);
    return status;
}

// RFC 4180: quoted where it must be.
static void print_cell(const char *text, FILE *out) {
    if (text[strcspn(text, ",\"\r\n")] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        fputs(*text == '"' ? "\"\"" : (char[2]){*text, '\0'}, out);
    }
    fputc('"', out);
}

static enum status print_field(const json_t *value, FILE *out, struct error *err) {
    if (value == NULL || json_is_null(value)) {
        return STATUS_OK;
    }
    const char *own = json_string_value(value);
    char *text = own == NULL ? value_text(value) : NULL;
    if (own == NULL && text == NULL) {
        return no_memory(err);
    }
    print_cell(own != NULL ? own : text, out);
    free(text);
    return STATUS_OK;
}

// Of a record, after the item's fields and the text.
static const char *const members[] = {
    "outcome",       "reward", "cost",           "safety_state", "budget", "over_budget",
    "finish_reason", "rule",   "tokens_sampled", "run_ms",       "key"};
enum { MEMBERS_COUNT = sizeof members / sizeof members[0] };

static bool is_own_column(const struct form *form, const char *name) {
    bool own = strcmp(name, "id") == 0 || strcmp(name, form->text_column) == 0;
    for (size_t i = 0; i < MEMBERS_COUNT && !form->bare; i++) {
        own = own || strcmp(name, members[i]) == 0 || strcmp(name, "method") == 0;
    }
    return own;
}

static bool has_column(const struct export *export, const char *name) {
    for (size_t i = 0; i < json_array_size(export->columns); i++) {
        if (strcmp(json_string_value(json_array_get(export->columns, i)), name) == 0) {
            return true;
        }
    }
    return false;
}

static enum status add_columns(struct export *export, const struct answer *answer,
                               struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)answer->input, name, value) {
        if (has_column(export, name)) {
            continue;
        }
        if (json_array_size(export->columns) == COLUMNS_MAX) {
            return refuse_record(answer, "more than 256 columns of items", err);
        }
        if (json_array_append_new(export->columns, json_string(name)) != 0) {
            return no_memory(err);
        }
    }
    return STATUS_OK;
}

// The name of an item's field in the header: input.NAME where NAME is one of ours. Owned.
static enum status column_name(const struct export *export, const char *name, char **out,
                               struct error *err) {
    static const char mark[] = "input.";
    bool own = is_own_column(export->form, name);
    size_t size = strlen(name) + sizeof mark;
    *out = malloc(size);
    if (*out == NULL) {
        return no_memory(err);
    }
    snprintf(*out, size, "%s%s", own ? mark : "", name);
    if (own && has_column(export, *out)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "RECORDS",
                         "the items have columns %.60s and %.60s, which would have one name", name,
                         *out);
    }
    return STATUS_OK;
}

static enum status print_header(const struct export *export, struct error *err) {
    FILE *out = export->out;
    enum status status = STATUS_OK;
    fputs("id", out);
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(export->columns); i++) {
        char *name = NULL;
        status =
            column_name(export, json_string_value(json_array_get(export->columns, i)), &name, err);
        if (status == STATUS_OK) {
            fputc(',', out);
            print_cell(name, out);
        }
        free(name);
    }
    fprintf(out, ",%s", export->form->text_column);
    if (!export->form->bare) {
        fputs(export->method != NULL ? ",method" : "", out);
        for (size_t i = 0; i < MEMBERS_COUNT; i++) {
            fprintf(out, ",%s", members[i]);
        }
    }
    fputs("\r\n", out);
    return status;
}

static enum status add_csv(struct export *export, const struct answer *answer, struct error *err) {
    FILE *out = export->out;
    enum status status = print_field(json_object_get(answer->record, "id"), out, err);
    for (size_t i = 0; status == STATUS_OK && i < json_array_size(export->columns); i++) {
        const char *name = json_string_value(json_array_get(export->columns, i));
        fputc(',', out);
        status = print_field(json_object_get(answer->input, name), out, err);
    }
    fputc(',', out);
    print_cell(answer->text, out);
    if (!export->form->bare && export->method != NULL) {
        fputc(',', out);
        print_cell(export->method, out);
    }
    for (size_t i = 0; status == STATUS_OK && i < MEMBERS_COUNT && !export->form->bare; i++) {
        fputc(',', out);
        status = print_field(json_object_get(answer->record, members[i]), out, err);
    }
    fputs("\r\n", out);
    return status;
}

static const struct form forms[] = {
    {.name = "harmbench", .add = add_harmbench, .end = end_harmbench},
    {.name = "strongreject", .text_column = "response", .bare = true, .add = add_csv},
    {.name = "xstest", .text_column = "completion", .bare = true, .add = add_csv},
    {.name = "openai-batch", .tells_failed = true, .add = add_batch},
    {.name = "csv", .text_column = "completion", .tells_failed = true, .add = add_csv},
};
enum { FORMS_COUNT = sizeof forms / sizeof forms[0] };

const char *exports_forms(void) {
    return "harmbench, strongreject, xstest, openai-batch, csv";
}

static enum status find_form(const char *name, const struct form **out, struct error *err) {
    for (size_t i = 0; i < FORMS_COUNT; i++) {
        if (strcmp(forms[i].name, name) == 0) {
            *out = &forms[i];
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--to", "%.40s is none of %s", name,
                     exports_forms());
}

// The method whose records are written; NULL in a sweep.
static enum status find_method(const struct outfile *file, const char *wanted, const char **out,
                               struct error *err) {
    *out = NULL;
    if (file->kind == OUTFILE_SWEEP) {
        return wanted == NULL ? STATUS_OK
                              : error_set(err, STATUS_INVALID_ARGUMENT, "--method",
                                          "the records are a sweep's, which has one method");
    }
    char names[ERROR_MESSAGE_BYTES / 2] = "";
    for (size_t i = 0; i < file->n_methods; i++) {
        const char *name = file->methods[i].name;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", name);
        if (wanted != NULL ? strcmp(name, wanted) == 0 : file->n_methods == 1) {
            *out = name;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--method", "%s%.60s; the records have %s",
                     wanted != NULL ? "none is " : "required, one of several",
                     wanted != NULL ? wanted : "", names);
}

static enum status read_answer(const struct export *export, const struct outfile_record *row,
                               const json_t *record, struct answer *out, struct error *err) {
    const char *text = json_string_value(json_object_get(record, "text"));
    *out = (struct answer){.row = row,
                           .record = record,
                           .input = json_object_get(record, "input"),
                           .outcome = row->outcome,
                           .refused = strcmp(row->outcome, "NO_SAFE_CANDIDATE") == 0};
    out->failed = !out->refused && strcmp(row->outcome, "COMPLETED") != 0;
    out->text = out->refused ? export->options->refusal : text != NULL ? text : "";
    if (!out->refused && !out->failed && text == NULL) {
        return refuse_record(out, "is COMPLETED without a text", err);
    }
    if (out->failed && !export->form->tells_failed && !export->options->skips_failed) {
        char what[ERROR_MESSAGE_BYTES / 2];
        snprintf(what, sizeof what,
                 "its job ended %s: sweep again with --retry-failed, or leave such items out with "
                 "--skip-failed",
                 row->outcome);
        return refuse_record(out, what, err);
    }
    return STATUS_OK;
}

typedef enum status (*answer_fn)(struct export *export, const struct answer *answer,
                                 struct error *err);

// Calls `visit` with every record of the method.
static enum status each_answer(struct export *export, const struct outfile *file, answer_fn visit,
                               struct exports_counts *counts, struct error *err) {
    enum status status = STATUS_OK;
    *counts = (struct exports_counts){0};
    for (size_t i = 0; status == STATUS_OK && i < file->count; i++) {
        json_t *record = NULL;
        struct answer answer;
        status = outfile_load(file, &file->records[i], &record, err);
        if (status != STATUS_OK) {
            return status;
        }
        const char *method = json_string_value(json_object_get(record, "method"));
        if (export->method == NULL || (method != NULL && strcmp(method, export->method) == 0)) {
            status = read_answer(export, &file->records[i], record, &answer, err);
            bool left_out = status == STATUS_OK && answer.failed && export->options->skips_failed;
            counts->skipped += left_out ? 1 : 0;
            if (status == STATUS_OK && !left_out) {
                counts->written++;
                counts->refused += answer.refused ? 1 : 0;
                counts->failed += answer.failed ? 1 : 0;
                status = visit(export, &answer, err);
            }
        }
        json_decref(record);
    }
    return status;
}

enum status exports_write(const struct outfile *file, const struct exports_options *options,
                          FILE *out, struct exports_counts *counts, struct error *err) {
    struct export export = {.options = options, .out = out};
    enum status status = find_form(options->form, &export.form, err);
    if (status == STATUS_OK) {
        status = find_method(file, options->method, &export.method, err);
    }
    export.cases = json_object();
    export.columns = json_array();
    if (status == STATUS_OK && (export.cases == NULL || export.columns == NULL)) {
        status = no_memory(err);
    }
    if (status == STATUS_OK && export.form->text_column != NULL) {
        status = each_answer(&export, file, add_columns, counts, err);
        status = status == STATUS_OK ? print_header(&export, err) : status;
    }
    if (status == STATUS_OK) {
        status = each_answer(&export, file, export.form->add, counts, err);
    }
    if (status == STATUS_OK && export.form->end != NULL) {
        status = export.form->end(&export, err);
    }
    json_decref(export.cases);
    json_decref(export.columns);
    if (status == STATUS_OK && (fflush(out) != 0 || ferror(out))) {
        status = error_set(err, STATUS_IO, "--out", "the export cannot be written");
    }
    return status;
}
