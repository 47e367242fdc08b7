// Methods of strings, dicts and lists. What Python has beyond these is refused by name; what
// changes a list or dict is unsafe, as in jinja2's immutable sandbox.
#include <string.h>

#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/jinja/strings.h"
#include "worker/tokenizer/utf8.h"

#define METHOD(function)                                                                           \
    static enum status function(struct run *run, const struct value *self,                         \
                                const struct value *argv, const struct call *call,                 \
                                struct value *out)
#define UNUSED(name) (void)name

// The characters to strip, or NULL for white space.
static enum status strip_characters(struct run *run, const struct value *value,
                                    const struct text **characters) {
    *characters = NULL;
    if (value->kind == VALUE_STRING) {
        *characters = value->text;
    } else if (value->kind != VALUE_NONE && value->kind != VALUE_ABSENT) {
        return run_fail_type(run, "strip", value);
    }
    return STATUS_OK;
}

static enum status strip(struct run *run, const struct value *self, const struct value *argv,
                         unsigned sides, struct value *out) {
    const struct text *characters = NULL;
    enum status status = strip_characters(run, &argv[0], &characters);
    return status == STATUS_OK ? string_strip(run, self->text, characters, sides, out) : status;
}

METHOD(str_strip) {
    UNUSED(call);
    return strip(run, self, argv, STRIP_LEFT | STRIP_RIGHT, out);
}

METHOD(str_lstrip) {
    UNUSED(call);
    return strip(run, self, argv, STRIP_LEFT, out);
}

METHOD(str_rstrip) {
    UNUSED(call);
    return strip(run, self, argv, STRIP_RIGHT, out);
}

static enum status to_case(struct run *run, const struct value *self, enum letter_case to,
                           struct value *out) {
    enum status status = run_charge_bytes(run, self->text->length);
    return status == STATUS_OK ? run_give_text(run, text_to_case(&run->arena, self->text, to), out)
                               : status;
}

METHOD(str_upper) {
    UNUSED(argv);
    UNUSED(call);
    return to_case(run, self, CASE_UPPER, out);
}

METHOD(str_lower) {
    UNUSED(argv);
    UNUSED(call);
    return to_case(run, self, CASE_LOWER, out);
}

METHOD(str_title) {
    UNUSED(argv);
    UNUSED(call);
    return run_give_text(run, text_title(&run->arena, self->text), out);
}

METHOD(str_capitalize) {
    UNUSED(argv);
    UNUSED(call);
    return run_give_text(run, text_capitalize(&run->arena, self->text), out);
}

// An integer argument, or `otherwise` when there is none.
static enum status integer_of(struct run *run, const struct value *value, int64_t otherwise,
                              int64_t *out) {
    if (value->kind == VALUE_ABSENT) {
        *out = otherwise;
    } else if (value->kind == VALUE_INT) {
        *out = value->integer;
    } else if (value->kind == VALUE_BOOL) {
        *out = value->boolean;
    } else {
        return run_fail_type(run, "an argument that is an integer", value);
    }
    return STATUS_OK;
}

static enum status refuse_markup(struct run *run, const struct value *self) {
    if (self->text->markup) {
        return run_fail(run, STATUS_UNSUPPORTED, "this method on escaped text");
    }
    return STATUS_OK;
}

// The separator of split, NULL for white space.
static enum status separator_of(struct run *run, const struct value *value,
                                const struct text **separator) {
    *separator = NULL;
    if (value->kind == VALUE_STRING) {
        *separator = value->text;
        if (value->text->length == 0) {
            return run_fail(run, STATUS_INVALID_ARGUMENT, "empty separator");
        }
    } else if (value->kind != VALUE_NONE && value->kind != VALUE_ABSENT) {
        return run_fail_type(run, "split", value);
    }
    return STATUS_OK;
}

static enum status split(struct run *run, const struct value *self, const struct value *argv,
                         bool from_right, struct value *out) {
    const struct text *separator = NULL;
    int64_t splits = 0;
    enum status status = refuse_markup(run, self);
    if (status == STATUS_OK) {
        status = separator_of(run, &argv[0], &separator);
    }
    if (status == STATUS_OK) {
        status = integer_of(run, &argv[1], -1, &splits);
    }
    return status == STATUS_OK ? string_split(run, self->text, separator, splits, from_right, out)
                               : status;
}

METHOD(str_split) {
    UNUSED(call);
    return split(run, self, argv, false, out);
}

METHOD(str_rsplit) {
    UNUSED(call);
    return split(run, self, argv, true, out);
}

METHOD(str_splitlines) {
    UNUSED(call);
    int64_t keep = 0;
    enum status status = refuse_markup(run, self);
    if (status == STATUS_OK) {
        status = integer_of(run, &argv[0], 0, &keep);
    }
    return status == STATUS_OK ? string_split_lines(run, self->text, keep != 0, out) : status;
}

// The part of the text that find, count, startswith and endswith look at: optional start and end in
// characters. *inside is false when start lies behind the end.
static enum status part_of(struct run *run, const struct value *self, const struct value *argv,
                           struct text *part, size_t *start, bool *inside) {
    const struct text *text = self->text;
    size_t length = text_count(text);
    int64_t n = (int64_t)length;
    int64_t from = 0;
    int64_t to = n;
    *inside = true;
    *start = 0;
    *part = *text;
    if (argv[1].kind == VALUE_ABSENT) {
        return run_charge_bytes(run, text->length);
    }
    const struct value none = {.kind = VALUE_ABSENT};
    enum status status = integer_of(run, argv[1].kind == VALUE_NONE ? &none : &argv[1], 0, &from);
    if (status == STATUS_OK) {
        status = integer_of(run, argv[2].kind == VALUE_NONE ? &none : &argv[2], n, &to);
    }
    if (status != STATUS_OK) {
        return status;
    }
    from = from < 0 ? (from + n < 0 ? 0 : from + n) : from;
    to = to < 0 ? (to + n < 0 ? 0 : to + n) : (to > n ? n : to);
    *inside = from <= to;
    if (*inside) {
        size_t first = text_offset(text, (size_t)from);
        *part = (struct text){.bytes = text->bytes + first,
                              .length = text_offset(text, (size_t)to) - first};
        *start = (size_t)from;
    }
    return run_charge_bytes(run, 2 * text->length);
}

static bool has_prefix(const struct text *text, const struct text *prefix) {
    return prefix->length <= text->length &&
           (prefix->length == 0 || memcmp(text->bytes, prefix->bytes, prefix->length) == 0);
}

static bool has_suffix(const struct text *text, const struct text *suffix) {
    return suffix->length <= text->length &&
           (suffix->length == 0 || memcmp(text->bytes + text->length - suffix->length,
                                          suffix->bytes, suffix->length) == 0);
}

// startswith and endswith take one text or a tuple of them.
static enum status has_end(struct run *run, const struct value *self, const struct value *argv,
                           bool (*has)(const struct text *, const struct text *),
                           struct value *out) {
    struct text part;
    size_t start = 0;
    bool inside;
    struct list single = {.items = (struct value *)&argv[0], .count = 1};
    const struct list *list = argv[0].kind == VALUE_TUPLE ? argv[0].list : &single;
    enum status status = part_of(run, self, argv, &part, &start, &inside);
    *out = value_bool(false);
    for (size_t i = 0; status == STATUS_OK && i < list->count; i++) {
        if (list->items[i].kind != VALUE_STRING) {
            return run_fail_type(run, "startswith or endswith", &list->items[i]);
        }
        out->boolean = out->boolean || (inside && has(&part, list->items[i].text));
    }
    return status;
}

METHOD(str_startswith) {
    UNUSED(call);
    return has_end(run, self, argv, has_prefix, out);
}

METHOD(str_endswith) {
    UNUSED(call);
    return has_end(run, self, argv, has_suffix, out);
}

// Character index of the first or last occurrence; -1 when there is none.
static enum status find(struct run *run, const struct value *self, const struct value *argv,
                        bool last, struct value *out) {
    struct text part;
    size_t start = 0;
    bool inside;
    if (argv[0].kind != VALUE_STRING) {
        return run_fail_type(run, "find", &argv[0]);
    }
    enum status status = part_of(run, self, argv, &part, &start, &inside);
    if (status != STATUS_OK) {
        return status;
    }
    ptrdiff_t at = -1;
    if (inside) {
        at = last ? text_find_last(&part, argv[0].text, part.length)
                  : text_find(&part, argv[0].text, 0);
    }
    const struct text before = {.bytes = part.bytes, .length = at < 0 ? 0 : (size_t)at};
    *out = value_int(at < 0 ? -1 : (int64_t)(start + text_count(&before)));
    return last ? run_charge(run, part.length / 8) : STATUS_OK;
}

METHOD(str_find) {
    UNUSED(call);
    return find(run, self, argv, false, out);
}

METHOD(str_rfind) {
    UNUSED(call);
    return find(run, self, argv, true, out);
}

static enum status index_or_fail(struct run *run, const struct value *self,
                                 const struct value *argv, bool last, struct value *out) {
    enum status status = find(run, self, argv, last, out);
    if (status == STATUS_OK && out->integer < 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "substring not found");
    }
    return status;
}

METHOD(str_index) {
    UNUSED(call);
    return index_or_fail(run, self, argv, false, out);
}

METHOD(str_rindex) {
    UNUSED(call);
    return index_or_fail(run, self, argv, true, out);
}

METHOD(str_count) {
    UNUSED(call);
    struct text part;
    size_t start = 0;
    bool inside;
    if (argv[0].kind != VALUE_STRING) {
        return run_fail_type(run, "count", &argv[0]);
    }
    enum status status = part_of(run, self, argv, &part, &start, &inside);
    if (status != STATUS_OK) {
        return status;
    }
    const struct text *what = argv[0].text;
    int64_t count = 0;
    if (inside && what->length == 0) {
        count = (int64_t)text_count(&part) + 1;
    } else if (inside) {
        for (ptrdiff_t at = text_find(&part, what, 0); at >= 0; count++) {
            at = text_find(&part, what, (size_t)at + what->length);
        }
    }
    *out = value_int(count);
    return STATUS_OK;
}

METHOD(str_replace) {
    UNUSED(call);
    int64_t count = 0;
    enum status status = refuse_markup(run, self);
    if (status == STATUS_OK) {
        status = integer_of(run, &argv[2], -1, &count);
    }
    for (int i = 0; status == STATUS_OK && i < 2; i++) {
        if (argv[i].kind != VALUE_STRING) {
            status = run_fail_type(run, "replace", &argv[i]);
        }
    }
    return status == STATUS_OK
               ? string_replace(run, self->text, argv[0].text, argv[1].text, count, out)
               : status;
}

METHOD(str_join) {
    UNUSED(call);
    struct list items;
    enum status status = refuse_markup(run, self);
    if (status == STATUS_OK) {
        status = value_items(run, &argv[0], &items);
    }
    for (size_t i = 0; status == STATUS_OK && i < items.count; i++) {
        if (items.items[i].kind != VALUE_STRING) {
            status = run_fail_type(run, "join", &items.items[i]);
        }
    }
    return status == STATUS_OK ? string_join(run, self->text, &items, out) : status;
}

METHOD(str_format) {
    UNUSED(argv);
    return format_braces(run, self->text, call, out);
}

static enum status remove_end(struct run *run, const struct value *self, const struct value *argv,
                              bool prefix, struct value *out) {
    if (argv[0].kind != VALUE_STRING) {
        return run_fail_type(run, "removeprefix or removesuffix", &argv[0]);
    }
    const struct text *end = argv[0].text;
    bool has = prefix ? has_prefix(self->text, end) : has_suffix(self->text, end);
    size_t length = has ? end->length : 0;
    return run_give_text(
        run, text_slice(&run->arena, self->text, prefix ? length : 0, self->text->length - length),
        out);
}

METHOD(str_removeprefix) {
    UNUSED(call);
    return remove_end(run, self, argv, true, out);
}

METHOD(str_removesuffix) {
    UNUSED(call);
    return remove_end(run, self, argv, false, out);
}

// Before, separator, after; the whole and two empty texts when it does not occur.
static enum status partition(struct run *run, const struct value *self, const struct value *argv,
                             bool last, struct value *out) {
    const struct text *text = self->text;
    if (argv[0].kind != VALUE_STRING || argv[0].text->length == 0) {
        return argv[0].kind == VALUE_STRING
                   ? run_fail(run, STATUS_INVALID_ARGUMENT, "empty separator")
                   : run_fail_type(run, "partition", &argv[0]);
    }
    const struct text *what = argv[0].text;
    ptrdiff_t at = last ? text_find_last(text, what, text->length) : text_find(text, what, 0);
    size_t cut = at < 0 ? (last ? 0 : text->length) : (size_t)at;
    size_t after = at < 0 ? cut : cut + what->length;
    struct value parts[3];
    enum status status = run_give_text(run, text_slice(&run->arena, text, 0, cut), &parts[0]);
    if (status == STATUS_OK) {
        status = run_give_text(run, at < 0 ? text_constant(&run->arena, "") : what, &parts[1]);
    }
    if (status == STATUS_OK) {
        status = run_give_text(run, text_slice(&run->arena, text, after, text->length - after),
                               &parts[2]);
    }
    if (status == STATUS_OK) {
        status = run_charge(run, text->length / 8);
    }
    return status == STATUS_OK ? list_make(run, VALUE_TUPLE, parts, 3, out) : status;
}

METHOD(str_partition) {
    UNUSED(call);
    return partition(run, self, argv, false, out);
}

METHOD(str_rpartition) {
    UNUSED(call);
    return partition(run, self, argv, true, out);
}

// Whether the text is not empty and every character is of a class.
static enum status all_are(struct run *run, const struct value *self, bool (*is)(uint32_t),
                           struct value *out) {
    const struct text *text = self->text;
    bool all = text->length > 0;
    for (size_t at = 0; all && at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        all = is(step.code);
        at += step.bytes;
    }
    *out = value_bool(all);
    return run_charge_bytes(run, text->length);
}

METHOD(str_isspace) {
    UNUSED(argv);
    UNUSED(call);
    return all_are(run, self, character_is_space, out);
}

METHOD(str_isalpha) {
    UNUSED(argv);
    UNUSED(call);
    return all_are(run, self, character_is_alpha, out);
}

METHOD(str_isdecimal) {
    UNUSED(argv);
    UNUSED(call);
    return all_are(run, self, character_is_digit, out);
}

static enum status is_in_case(struct run *run, const struct value *self, bool (*is)(uint32_t),
                              struct value *out) {
    const struct text *text = self->text;
    bool all = true;
    bool any = false;
    for (size_t at = 0; all && at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        if (character_is_cased(step.code)) {
            all = is(step.code);
            any = true;
        }
        at += step.bytes;
    }
    *out = value_bool(all && any);
    return run_charge_bytes(run, text->length);
}

METHOD(str_isupper) {
    UNUSED(argv);
    UNUSED(call);
    return is_in_case(run, self, character_is_upper, out);
}

METHOD(str_islower) {
    UNUSED(argv);
    UNUSED(call);
    return is_in_case(run, self, character_is_lower, out);
}

static enum status give_view(struct run *run, const struct value *self, enum view_kind kind,
                             struct value *out) {
    struct view *view = arena_alloc(&run->arena, sizeof *view);
    if (view == NULL) {
        return run_no_memory(run);
    }
    *view = (struct view){.kind = kind, .dict = self->dict};
    *out = (struct value){.kind = VALUE_VIEW, .view = view};
    return STATUS_OK;
}

METHOD(dict_items) {
    UNUSED(argv);
    UNUSED(call);
    return give_view(run, self, VIEW_ITEMS, out);
}

METHOD(dict_keys) {
    UNUSED(argv);
    UNUSED(call);
    return give_view(run, self, VIEW_KEYS, out);
}

METHOD(dict_values) {
    UNUSED(argv);
    UNUSED(call);
    return give_view(run, self, VIEW_VALUES, out);
}

METHOD(dict_get) {
    UNUSED(call);
    struct value *found = NULL;
    enum status status = dict_find(run, self->dict, &argv[0], &found);
    if (status == STATUS_OK) {
        *out = found != NULL ? *found : (argv[1].kind == VALUE_ABSENT ? value_none() : argv[1]);
    }
    return status;
}

METHOD(copy) {
    UNUSED(run);
    UNUSED(argv);
    UNUSED(call);
    *out = *self; // lists and dicts never change
    return STATUS_OK;
}

// Index of an item, or how many are equal to it.
static enum status count_items(struct run *run, const struct value *self, const struct value *what,
                               int64_t *first, int64_t *count) {
    enum status status = STATUS_OK;
    *first = -1;
    *count = 0;
    for (size_t i = 0; status == STATUS_OK && i < self->list->count; i++) {
        bool equal = false;
        status = value_equal(run, &self->list->items[i], what, &equal);
        *first = equal && *first < 0 ? (int64_t)i : *first;
        *count += equal;
    }
    return status;
}

METHOD(list_index) {
    UNUSED(call);
    int64_t first = 0;
    int64_t count = 0;
    enum status status = count_items(run, self, &argv[0], &first, &count);
    if (status == STATUS_OK && first < 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "the value is not in the list");
    }
    *out = value_int(status == STATUS_OK ? first : 0);
    return status;
}

METHOD(list_count) {
    UNUSED(call);
    int64_t first = 0;
    int64_t count = 0;
    enum status status = count_items(run, self, &argv[0], &first, &count);
    *out = value_int(status == STATUS_OK ? count : 0);
    return status;
}

static const struct native string_methods[] = {
    {"strip", "/=chars", str_strip},
    {"lstrip", "/=chars", str_lstrip},
    {"rstrip", "/=chars", str_rstrip},
    {"upper", "", str_upper},
    {"lower", "", str_lower},
    {"title", "", str_title},
    {"capitalize", "", str_capitalize},
    {"split", "=sep =maxsplit", str_split},
    {"rsplit", "=sep =maxsplit", str_rsplit},
    {"splitlines", "=keepends", str_splitlines},
    {"startswith", "/prefix =start =end", str_startswith},
    {"endswith", "/suffix =start =end", str_endswith},
    {"find", "/sub =start =end", str_find},
    {"rfind", "/sub =start =end", str_rfind},
    {"index", "/sub =start =end", str_index},
    {"rindex", "/sub =start =end", str_rindex},
    {"count", "/sub =start =end", str_count},
    {"replace", "/old new =count", str_replace},
    {"join", "/iterable", str_join},
    {"format", "*", str_format},
    {"removeprefix", "/prefix", str_removeprefix},
    {"removesuffix", "/suffix", str_removesuffix},
    {"partition", "/sep", str_partition},
    {"rpartition", "/sep", str_rpartition},
    {"isspace", "", str_isspace},
    {"isalpha", "", str_isalpha},
    {"isdecimal", "", str_isdecimal},
    {"isupper", "", str_isupper},
    {"islower", "", str_islower},
    {"casefold", "", NULL},
    {"center", "", NULL},
    {"encode", "", NULL},
    {"expandtabs", "", NULL},
    {"format_map", "", NULL},
    {"isalnum", "", NULL},
    {"isascii", "", NULL},
    {"isdigit", "", NULL},
    {"isidentifier", "", NULL},
    {"isnumeric", "", NULL},
    {"isprintable", "", NULL},
    {"istitle", "", NULL},
    {"ljust", "", NULL},
    {"maketrans", "", NULL},
    {"rjust", "", NULL},
    {"swapcase", "", NULL},
    {"translate", "", NULL},
    {"zfill", "", NULL},
};

static const struct native dict_methods[] = {
    {"items", "", dict_items},          {"keys", "", dict_keys}, {"values", "", dict_values},
    {"get", "/key =default", dict_get}, {"copy", "", copy},      {"fromkeys", "", NULL},
};

static const struct native list_methods[] = {
    {"index", "/value", list_index},
    {"count", "/value", list_count},
    {"copy", "", copy},
};

// As list_methods without copy.
static const struct native tuple_methods[] = {
    {"index", "/value", list_index},
    {"count", "/value", list_count},
};

static const struct native number_attributes[] = {
    {"real", "", NULL},       {"imag", "", NULL},
    {"numerator", "", NULL},  {"denominator", "", NULL},
    {"conjugate", "", NULL},  {"bit_length", "", NULL},
    {"bit_count", "", NULL},  {"to_bytes", "", NULL},
    {"from_bytes", "", NULL}, {"as_integer_ratio", "", NULL},
    {"is_integer", "", NULL}, {"hex", "", NULL},
    {"fromhex", "", NULL},
};

// What changes its object.
static const char *const unsafe_list_names[] = {"append", "clear", "pop",    "reverse",
                                                "insert", "sort",  "extend", "remove"};
static const char *const unsafe_dict_names[] = {"clear", "pop", "popitem", "setdefault", "update"};

static bool is_one_of(const struct text *name, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (text_is(name, names[i])) {
            return true;
        }
    }
    return false;
}

const struct native *method_find(const struct value *value, const struct text *name, bool *unsafe) {
    *unsafe = name->length > 4 && memcmp(name->bytes, "__", 2) == 0 &&
              memcmp(name->bytes + name->length - 2, "__", 2) == 0;
    if (*unsafe) {
        return NULL;
    }
    switch (value->kind) {
    case VALUE_STRING:
        return native_find(string_methods, sizeof string_methods / sizeof *string_methods, name);
    case VALUE_DICT:
        *unsafe = is_one_of(name, unsafe_dict_names,
                            sizeof unsafe_dict_names / sizeof *unsafe_dict_names);
        return native_find(dict_methods, sizeof dict_methods / sizeof *dict_methods, name);
    case VALUE_LIST:
        *unsafe = is_one_of(name, unsafe_list_names,
                            sizeof unsafe_list_names / sizeof *unsafe_list_names);
        return native_find(list_methods, sizeof list_methods / sizeof *list_methods, name);
    case VALUE_TUPLE:
        return native_find(tuple_methods, sizeof tuple_methods / sizeof *tuple_methods, name);
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
        return native_find(number_attributes, sizeof number_attributes / sizeof *number_attributes,
                           name);
    default:
        return NULL;
    }
}
