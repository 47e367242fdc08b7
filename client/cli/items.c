#include "client/cli/items.h"

#include <stdlib.h>
#include <string.h>

#include "client/benchmarks/benchmark.h"
#include "client/benchmarks/rows.h"
#include "client/cli/print.h"

const json_t *items_column(const json_t *fields, const char *column) {
    const json_t *whole = json_object_get(fields, column);
    const char *dot = strchr(column, '.');
    char name[ITEMS_NAME_BYTES];
    if (whole != NULL || dot == NULL || dot - column >= ITEMS_NAME_BYTES) {
        return whole;
    }
    snprintf(name, sizeof name, "%.*s", (int)(dot - column), column);
    return json_object_get(json_object_get(fields, name), dot + 1);
}

// The field of "A + B" that holds a text, where the other holds none.
static const json_t *joined_column(const json_t *fields, const char *columns) {
    const json_t *found = NULL;
    for (const char *at = columns; at != NULL;) {
        const char *plus = strstr(at, ITEMS_JOINED);
        char name[ITEMS_NAME_BYTES];
        snprintf(name, sizeof name, "%.*s", plus != NULL ? (int)(plus - at) : ITEMS_NAME_BYTES, at);
        const json_t *value = items_column(fields, name);
        if (value != NULL && !json_is_null(value) && json_string_length(value) > 0) {
            if (found != NULL) {
                return NULL;
            }
            found = value;
        }
        at = plus != NULL ? plus + strlen(ITEMS_JOINED) : NULL;
    }
    return found;
}

const json_t *items_asked_of(const json_t *record) {
    const json_t *own = json_object_get(record, "prompt");
    own = own != NULL ? own : json_object_get(record, "messages");
    const json_t *settings = json_object_get(record, "settings");
    const char *asked = json_string_value(json_object_get(settings, "asked"));
    if (own != NULL || asked == NULL) {
        return own;
    }
    const json_t *fields = json_object_get(record, "input");
    const json_t *column = items_column(fields, asked);
    return column != NULL || strstr(asked, ITEMS_JOINED) == NULL ? column
                                                                 : joined_column(fields, asked);
}

static bool is_white(const char *text) {
    return text[strspn(text, " \t\r\n\v\f")] == '\0';
}

static enum status check_prompt(const json_t *value, const char *column, size_t line,
                                struct error *err) {
    if (!json_is_string(value)) {
        return rows_refuse(line, STATUS_MALFORMED, err, "field \"%.80s\" is %s", column,
                           value == NULL ? "missing" : "not a text or a list of messages");
    }
    if (is_white(json_string_value(value))) {
        return rows_refuse(line, STATUS_MALFORMED, err, "field \"%.80s\" is empty or white space",
                           column);
    }
    return STATUS_OK;
}

// Only texts under a role are sent: anything else that says something, as tool calls, a name, an
// image among the parts of a content, would be dropped.
static enum status check_message(const json_t *message, const char *column, size_t index,
                                 size_t line, struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)message, name, value) {
        if (strcmp(name, "role") != 0 && strcmp(name, "content") != 0 && !json_is_null(value)) {
            return rows_refuse(line, STATUS_UNSUPPORTED, err,
                               "field \"%.60s[%zu].%.60s\" cannot be sent: a message has role and "
                               "content",
                               column, index, name);
        }
    }
    static const char *const texts[] = {"role", "content"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        value = json_object_get(message, texts[i]);
        if (!json_is_string(value)) {
            return rows_refuse(line, STATUS_MALFORMED, err, "field \"%.60s[%zu].%s\" is %s", column,
                               index, texts[i],
                               value == NULL ? "missing" : "not a text, nothing else is sent");
        }
    }
    return STATUS_OK;
}

static enum status check_messages(const json_t *messages, const char *column,
                                  const struct turns *turns, size_t line, struct error *err) {
    bool system = turns->system != NULL;
    size_t count = json_array_size(messages);
    size_t max = LIMIT_MESSAGES - (system ? 1 : 0) - (turns->prefill != NULL ? 1 : 0);
    if (turns->rendered) {
        return rows_refuse(line, STATUS_INVALID_ARGUMENT, err,
                           "field \"%.80s\" has messages, which --rendered cannot take", column);
    }
    if (count == 0 || count > max) {
        return rows_refuse(line, STATUS_LIMIT, err, "field \"%.80s\" has not 1 to %zu messages",
                           column, max);
    }
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(messages, i);
        enum status status = check_message(message, column, i, line, err);
        if (status != STATUS_OK) {
            return status;
        }
        const char *role = json_string_value(json_object_get(message, "role"));
        const json_t *content = json_object_get(message, "content");
        if (system && strcmp(role, "system") == 0) {
            return rows_refuse(line, STATUS_INVALID_ARGUMENT, err,
                               "has a system message of its own beside --system");
        }
        total += json_string_length(content);
    }
    const char *last =
        json_string_value(json_object_get(json_array_get(messages, count - 1), "content"));
    if (is_white(last)) {
        return rows_refuse(line, STATUS_MALFORMED, err,
                           "field \"%.80s\": the last message is empty or white space", column);
    }
    return total <= LIMIT_PROMPT_BYTES
               ? STATUS_OK
               : rows_refuse(line, STATUS_LIMIT, err,
                             "field \"%.80s\": the messages are above %d bytes", column,
                             LIMIT_PROMPT_BYTES);
}

// Parameters beside the messages of a request would be dropped: only the model, which the service
// decides, may stand there.
static enum status check_body(const struct item *item, const char *column, struct error *err) {
    const char *dot = strchr(column, '.');
    if (dot == NULL || json_object_get(item->source, column) != NULL) {
        return STATUS_OK;
    }
    char parent[ITEMS_NAME_BYTES];
    snprintf(parent, sizeof parent, "%.*s", (int)(dot - column), column);
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(json_object_get(item->source, parent), name, value) {
        if (strcmp(name, dot + 1) != 0 && strcmp(name, "model") != 0) {
            return rows_refuse(item->line, STATUS_UNSUPPORTED, err,
                               "field \"%.60s.%.60s\" would have no effect: remove it, and give "
                               "job flags instead",
                               parent, name);
        }
    }
    return STATUS_OK;
}

// Joins question and context as the benchmark does.
static enum status join(struct item *item, const struct benchmark *benchmark, struct error *err) {
    const json_t *value = items_column(item->source, benchmark->context);
    if (value == NULL || json_is_null(value)) {
        return STATUS_OK;
    }
    const char *context = json_string_value(value);
    if (context == NULL) {
        return rows_refuse(item->line, STATUS_MALFORMED, err, "field \"%.80s\" is not a text",
                           benchmark->context);
    }
    if (context[0] == '\0') {
        return STATUS_OK;
    }
    size_t size = strlen(context) + strlen(benchmark->joint) + strlen(item->prompt) + 1;
    item->joined = malloc(size);
    if (item->joined == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
    }
    snprintf(item->joined, size, "%s%s%s", benchmark->context_first ? context : item->prompt,
             benchmark->joint, benchmark->context_first ? item->prompt : context);
    item->prompt = item->joined;
    return STATUS_OK;
}

// A role by its name in ShareGPT's files, or NULL.
static const char *find_role(const char *speaker) {
    static const char *const roles[][2] = {
        {"human", "user"}, {"gpt", "assistant"}, {"system", "system"}};
    for (size_t i = 0; speaker != NULL && i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(roles[i][0], speaker) == 0) {
            return roles[i][1];
        }
    }
    return NULL;
}

// Makes a message of turn `index`; owned, NULL with an error.
static json_t *turn_message(const json_t *turn, const char *column, size_t index, size_t line,
                            struct error *err) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)turn, name, value) {
        if (strcmp(name, "from") != 0 && strcmp(name, "value") != 0 && !json_is_null(value)) {
            rows_refuse(line, STATUS_UNSUPPORTED, err,
                        "field \"%.60s[%zu].%.60s\" cannot be sent: a turn has from and value",
                        column, index, name);
            return NULL;
        }
    }
    const char *speaker = json_string_value(json_object_get(turn, "from"));
    const char *role = find_role(speaker);
    const json_t *said = json_object_get(turn, "value");
    if (role == NULL || !json_is_string(said)) {
        rows_refuse(line, STATUS_MALFORMED, err, "field \"%.60s[%zu].%s\" is %.60s%s", column,
                    index, role == NULL ? "from" : "value",
                    role == NULL && speaker != NULL ? speaker : "no text",
                    role == NULL ? ", none of human, gpt, system" : "");
        return NULL;
    }
    json_t *message = json_pack("{s:s, s:O}", "role", role, "content", (json_t *)said);
    if (message == NULL) {
        error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
    }
    return message;
}

// Makes messages of ShareGPT's turns, up to the last one of the human.
static enum status turn(struct item *item, const json_t *turns, const char *column,
                        struct error *err) {
    item->turned = json_array();
    size_t asked = 0;
    for (size_t i = 0; i < json_array_size(turns); i++) {
        json_t *message = turn_message(json_array_get(turns, i), column, i, item->line, err);
        if (message == NULL) {
            return err->status;
        }
        if (strcmp(json_string_value(json_object_get(message, "role")), "user") == 0) {
            asked = i + 1;
        }
        if (json_array_append_new(item->turned, message) != 0) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
        }
    }
    while (json_array_size(item->turned) > asked) {
        json_array_remove(item->turned, json_array_size(item->turned) - 1);
    }
    item->messages = item->turned;
    return asked > 0 ? STATUS_OK
                     : rows_refuse(item->line, STATUS_MALFORMED, err,
                                   "field \"%.80s\" has no turn of the human", column);
}

// Finds what is asked in the item's fields.
static enum status find_prompt(struct item *item, const struct benchmark *benchmark,
                               const struct turns *turns, struct error *err) {
    const char *column = benchmark->ask;
    const json_t *value = items_column(item->source, column);
    enum status status = check_body(item, column, err);
    if (status == STATUS_OK && json_is_array(value)) {
        item->messages = value;
        status = benchmark->speakers ? turn(item, value, column, err) : STATUS_OK;
        return status == STATUS_OK ? check_messages(item->messages, column, turns, item->line, err)
                                   : status;
    }
    if (status == STATUS_OK) {
        status = check_prompt(value, column, item->line, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    item->prompt = json_string_value(value);
    if (benchmark->context != NULL) {
        status = join(item, benchmark, err);
    }
    size_t bytes = strlen(item->prompt) + (turns->system == NULL ? 0 : strlen(turns->system)) +
                   (turns->prefill == NULL ? 0 : strlen(turns->prefill));
    if (status == STATUS_OK && bytes > LIMIT_PROMPT_BYTES) {
        status = rows_refuse(item->line, STATUS_LIMIT, err,
                             "field \"%.80s\": the prompt has %zu bytes, the limit is %d", column,
                             bytes, LIMIT_PROMPT_BYTES);
    }
    return status;
}

// Takes the id out of the item's fields; `column` NULL: the item's number.
static enum status find_id(struct item *item, const char *column, size_t number,
                           struct error *err) {
    json_t *id = json_object_get(item->source, column == NULL ? "id" : column);
    if (column == NULL && id != NULL) {
        return rows_refuse(item->line, STATUS_MALFORMED, err,
                           "has a field \"id\", which the first row has not");
    }
    bool good = json_is_integer(id) || (json_is_string(id) && json_string_length(id) > 0);
    if (column != NULL && !good) {
        return rows_refuse(item->line, STATUS_MALFORMED, err, "field \"%.80s\" is %s", column,
                           id == NULL ? "missing" : "no id: a text or a whole number is one");
    }
    item->id = column == NULL ? json_integer((json_int_t)number) : json_incref(id);
    if (column != NULL && strcmp(column, "id") == 0) {
        json_object_del(item->source, "id");
    }
    return item->id != NULL ? STATUS_OK
                            : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
}

// Every id once, by what a reader of the records sees.
static enum status check_ids(const struct items *items, struct error *err) {
    json_t *seen = json_object();
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
        const struct item *item = &items->rows[i];
        char *id = json_dumps(item->id, JSON_COMPACT | JSON_ENCODE_ANY);
        const json_t *before = id == NULL ? NULL : json_object_get(seen, id);
        if (before != NULL) {
            status = rows_refuse(item->line, STATUS_MALFORMED, err,
                                 "the id %.80s stands in line %lld already", id,
                                 (long long)json_integer_value(before));
        } else if (id == NULL ||
                   json_object_set_new(seen, id, json_integer((json_int_t)item->line)) != 0) {
            status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items' ids");
        }
        free(id);
    }
    json_decref(seen);
    return status;
}

// What is asked of the file's rows, judged by the first.
static enum status choose(const struct rows *rows, const struct items_choice *choice,
                          struct benchmark *benchmark, struct error *err) {
    const json_t *columns = rows->items[0].fields;
    const char *wanted = choice->prompt_column;
    enum status status = STATUS_OK;
    *benchmark = (struct benchmark){.ask = ROWS_TEXT_FIELD};
    if (!rows->bare) {
        status = benchmark_recognise(columns, benchmark, err);
    }
    if (wanted != NULL) { // a doubt about the column is settled; name and id stay if they are known
        const json_t *first = json_array_get(items_column(columns, wanted), 0);
        *benchmark = (struct benchmark){.ask = wanted,
                                        .name = benchmark->name,
                                        .id = benchmark->id,
                                        .speakers = json_object_get(first, "from") != NULL};
        status = items_column(columns, wanted) != NULL
                     ? STATUS_OK
                     : error_set(err, STATUS_INVALID_ARGUMENT, "--prompt-column",
                                 "the first row has no field \"%.80s\"", wanted);
    }
    if (status == STATUS_OK && choice->id_column != NULL) {
        benchmark->id = choice->id_column;
        status = json_object_get(columns, choice->id_column) != NULL
                     ? STATUS_OK
                     : error_set(err, STATUS_INVALID_ARGUMENT, "--id-column",
                                 "the first row has no field \"%.80s\"", choice->id_column);
    } else if (benchmark->id == NULL || json_object_get(columns, benchmark->id) == NULL) {
        benchmark->id = json_object_get(columns, "id") != NULL ? "id" : NULL;
    }
    return status;
}

static enum status make_items(struct rows *rows, const struct items_choice *choice,
                              struct items *out, struct error *err) {
    struct benchmark benchmark;
    enum status status = choose(rows, choice, &benchmark, err);
    if (status != STATUS_OK) {
        return status;
    }
    out->rows = calloc(rows->count, sizeof *out->rows);
    if (out->rows == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the items");
    }
    out->form = rows->form;
    out->benchmark = benchmark.name;
    if (benchmark.context == NULL) {
        snprintf(out->asked, sizeof out->asked, "%s", benchmark.ask);
    } else {
        snprintf(out->asked, sizeof out->asked, "%s" ITEMS_JOINED "%s",
                 benchmark.context_first ? benchmark.context : benchmark.ask,
                 benchmark.context_first ? benchmark.ask : benchmark.context);
    }
    for (size_t i = 0; status == STATUS_OK && i < rows->count; i++) {
        struct item *item = &out->rows[out->count++];
        *item = (struct item){.source = json_incref(rows->items[i].fields),
                              .line = rows->items[i].line};
        status = find_id(item, benchmark.id, out->count, err);
        if (status == STATUS_OK) {
            status = find_prompt(item, &benchmark, &choice->turns, err);
        }
    }
    out->n_read = out->n_filtered = out->count;
    return status == STATUS_OK ? check_ids(out, err) : status;
}

enum status items_read(const char *path, const struct items_choice *choice, struct items *out,
                       struct error *err) {
    *out = (struct items){0};
    struct rows rows;
    enum status status = rows_read(path, choice->form, &rows, err);
    out->from_stdin = strcmp(path, ROWS_STDIN) == 0;
    if (status == STATUS_OK) {
        status = make_items(&rows, choice, out, err);
    }
    rows_finish(&rows);
    return status;
}

void item_finish(struct item *item) {
    json_decref(item->id);
    json_decref(item->source);
    json_decref(item->turned);
    free(item->joined);
}

void items_finish(struct items *items) {
    for (size_t i = 0; i < items->count; i++) {
        item_finish(&items->rows[i]);
    }
    free(items->rows);
    *items = (struct items){0};
}

void items_describe(const struct items *items, const struct selection *selection, FILE *out) {
    const struct flag_list *filters = selection->filters;
    fprintf(out, "%s%s%s%s, %zu row%s, asking %s", items->from_stdin ? "standard input, " : "",
            items->benchmark == NULL ? "" : items->benchmark, items->benchmark == NULL ? "" : ", ",
            items->form, items->n_read, print_plural(items->n_read), items->asked);
    if (filters->count > 0 || selection->sample > 0 || selection->limit > 0) {
        fprintf(out, "; %zu selected by", items->count);
    }
    for (int i = 0; i < filters->count; i++) {
        fputs(" --filter ", out);
        print_text(filters->items[i], true, 0, out);
    }
    if (filters->count > 0) {
        fprintf(out, " (%zu left)", items->n_filtered);
    }
    if (selection->sample > 0) {
        fprintf(out, " --sample %u --sample-seed %llu", selection->sample,
                (unsigned long long)selection->sample_seed);
    }
    if (selection->limit > 0) {
        fprintf(out, " --limit %u", selection->limit);
    }
    fputc('\n', out);
}

void item_set_prompt(const struct item *item, const struct turns *turns, Surefoot__JobSpec *spec,
                     Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list) {
    if (item->prompt != NULL) {
        turns_set_prompt(turns, item->prompt, spec, rows, list);
        return;
    }
    size_t count = turns->system != NULL ? 1 : 0;
    for (size_t i = 0; i < json_array_size(item->messages); i++) {
        const json_t *message = json_array_get(item->messages, i);
        turns_set_message(&rows[count++], json_string_value(json_object_get(message, "role")),
                          json_string_value(json_object_get(message, "content")));
    }
    turns_set_messages(turns, count, spec, rows, list);
}
