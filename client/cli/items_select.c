// Which of the items are asked: filters, a sample, the first.
#include "client/cli/items.h"

#include <stdlib.h>
#include <string.h>

#include "client/benchmarks/rows.h"
#include "client/cli/digest.h"
#include "common/rng.h"

// Keeps the items that are marked.
static void keep(struct items *items, const bool *marked) {
    size_t count = 0;
    for (size_t i = 0; i < items->count; i++) {
        if (marked[i]) {
            items->rows[count++] = items->rows[i];
        } else {
            item_finish(&items->rows[i]);
        }
    }
    items->count = count;
}

// The field of an item that a filter names, or NULL.
static const json_t *get_filtered(const struct item *item, const char *name) {
    const json_t *value = items_column(item->source, name);
    return value == NULL && strcmp(name, "id") == 0 ? item->id : value;
}

static enum status refuse_field(const struct items *items, const char *name, struct error *err) {
    char list[160] = "id";
    const char *field = NULL;
    json_t *value = NULL;
    json_object_foreach(items->rows[0].source, field, value) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%.40s", ", ", field);
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--filter",
                     "no row%s has a field \"%.60s\"; there are %s",
                     items->count < items->n_read ? " that is left" : "", name, list);
}

// Marks the items whose field is the filter's value. Borrows `filter`, whose first `length` bytes
// name the field.
static enum status mark_equal(const struct items *items, const char *filter, size_t length,
                              bool *marked, struct error *err) {
    char name[ITEMS_NAME_BYTES];
    snprintf(name, sizeof name, "%.*s", (int)length, filter);
    const char *wanted = filter + length + 1;
    bool found = false;
    for (size_t i = 0; i < items->count; i++) {
        const json_t *value = get_filtered(&items->rows[i], name);
        found = found || value != NULL;
        if (json_is_array(value) || json_is_object(value)) {
            return rows_refuse(items->rows[i].line, STATUS_MALFORMED, err,
                               "field \"%.80s\" is a list or an object, which --filter cannot "
                               "compare",
                               name);
        }
        if (value == NULL || marked[i]) {
            continue;
        }
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY);
        const char *is = text != NULL ? text : json_string_value(value);
        marked[i] = is != NULL && strcmp(is, wanted) == 0;
        free(text);
    }
    return found ? STATUS_OK : refuse_field(items, name, err);
}

// The bytes of the field's name before "="; STATUS_INVALID_ARGUMENT.
static enum status check_filter(const char *filter, size_t *length, struct error *err) {
    const char *equals = strchr(filter, '=');
    *length = equals == NULL ? 0 : (size_t)(equals - filter);
    return *length > 0 && *length < ITEMS_NAME_BYTES
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "--filter",
                           "\"%.80s\" is not FIELD=VALUE with a name of 1 to %d bytes", filter,
                           ITEMS_NAME_BYTES - 1);
}

// Keeps what passes the filter number `at` or a later one of the same field.
static enum status filter_field(struct items *items, const struct flag_list *filters, int at,
                                struct error *err) {
    size_t length = 0;
    enum status status = check_filter(filters->items[at], &length, err);
    bool *marked = status == STATUS_OK ? calloc(items->count, sizeof *marked) : NULL;
    if (status == STATUS_OK && marked == NULL) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the filters");
    }
    for (int i = at; status == STATUS_OK && i < filters->count; i++) {
        if (strncmp(filters->items[i], filters->items[at], length + 1) == 0) {
            status = mark_equal(items, filters->items[i], length, marked, err);
        }
    }
    if (status == STATUS_OK) {
        keep(items, marked);
    }
    free(marked);
    return status;
}

static enum status filter(struct items *items, const struct flag_list *filters, struct error *err) {
    for (int i = 0; i < filters->count; i++) {
        size_t length = strcspn(filters->items[i], "=") + 1;
        bool seen = false;
        for (int j = 0; j < i; j++) {
            seen = seen || strncmp(filters->items[j], filters->items[i], length) == 0;
        }
        enum status status = seen ? STATUS_OK : filter_field(items, filters, i, err);
        if (status == STATUS_OK && items->count == 0) {
            status = error_set(err, STATUS_INVALID_ARGUMENT, "--filter",
                               "\"%.80s\" leaves no row of %zu", filters->items[i], items->n_read);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    items->n_filtered = items->count;
    return STATUS_OK;
}

struct draw {
    uint64_t number;
    size_t index;
};

static int compare_draws(const void *a, const void *b) {
    const struct draw *first = a;
    const struct draw *second = b;
    if (first->number != second->number) {
        return first->number < second->number ? -1 : 1;
    }
    return first->index < second->index ? -1 : first->index > second->index;
}

// The number that an item draws: the lowest ones are the sample.
static enum status draw(const struct item *item, uint64_t seed, uint64_t *out, struct error *err) {
    struct digest digest;
    char *id = json_dumps(item->id, JSON_COMPACT | JSON_ENCODE_ANY);
    if (id == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the sample");
    }
    digest_init(&digest);
    digest_add(&digest, id, strlen(id));
    free(id);
    const uint32_t counter[4] = {(uint32_t)digest.low, (uint32_t)(digest.low >> 32),
                                 (uint32_t)digest.high, (uint32_t)(digest.high >> 32)};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t drawn[4];
    rng_philox4x32(counter, key, drawn);
    *out = (uint64_t)drawn[1] << 32 | drawn[0];
    return STATUS_OK;
}

static enum status sample(struct items *items, size_t count, uint64_t seed, struct error *err) {
    if (count == 0 || count >= items->count) {
        return STATUS_OK;
    }
    struct draw *draws = calloc(items->count, sizeof *draws);
    bool *marked = calloc(items->count, sizeof *marked);
    enum status status = draws != NULL && marked != NULL
                             ? STATUS_OK
                             : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the sample");
    for (size_t i = 0; status == STATUS_OK && i < items->count; i++) {
        draws[i].index = i;
        status = draw(&items->rows[i], seed, &draws[i].number, err);
    }
    if (status == STATUS_OK) {
        qsort(draws, items->count, sizeof *draws, compare_draws);
        for (size_t i = 0; i < count; i++) {
            marked[draws[i].index] = true;
        }
        keep(items, marked);
    }
    free(draws);
    free(marked);
    return status;
}

enum status items_select(struct items *items, const struct selection *selection,
                         struct error *err) {
    enum status status = filter(items, selection->filters, err);
    if (status == STATUS_OK) {
        status = sample(items, selection->sample, selection->sample_seed, err);
    }
    while (status == STATUS_OK && selection->limit > 0 && items->count > selection->limit) {
        item_finish(&items->rows[--items->count]);
    }
    return status;
}
