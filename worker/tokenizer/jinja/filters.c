#include "worker/tokenizer/jinja/filters.h"

static const struct native filters[] = {
    {"abs", "", filter_abs},
    {"attr", "*", NULL},
    {"batch", "linecount =fill_with", filter_batch},
    {"capitalize", "", filter_capitalize},
    {"center", "=width", filter_center},
    {"count", "", filter_length},
    {"d", "=default_value =boolean", filter_default},
    {"default", "=default_value =boolean", filter_default},
    {"dictsort", "=case_sensitive =by =reverse", filter_dictsort},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"filesizeformat", "*", NULL},
    {"first", "", filter_first},
    {"float", "=default", filter_float},
    {"forceescape", "*", NULL},
    {"format", "*", filter_format},
    {"groupby", "*", NULL},
    {"indent", "=width =first =blank", filter_indent},
    {"int", "=default =base", filter_int},
    {"items", "", filter_items},
    {"join", "=d =attribute", filter_join},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"lower", "", filter_lower},
    {"map", "*", filter_map},
    {"max", "=case_sensitive =attribute", filter_max},
    {"min", "=case_sensitive =attribute", filter_min},
    {"pprint", "*", NULL},
    {"random", "*", NULL},
    {"reject", "*", filter_reject},
    {"rejectattr", "*", filter_rejectattr},
    {"replace", "old new =count", filter_replace},
    {"reverse", "", filter_reverse},
    {"round", "=precision =method", filter_round},
    {"safe", "", filter_safe},
    {"select", "*", filter_select},
    {"selectattr", "*", filter_selectattr},
    {"slice", "slices =fill_with", filter_slice},
    {"sort", "=reverse =case_sensitive =attribute", filter_sort},
    {"string", "", filter_string},
    {"striptags", "*", NULL},
    {"sum", "=attribute =start", filter_sum},
    {"title", "", filter_title},
    {"tojson", "=ensure_ascii =indent =separators =sort_keys", filter_tojson},
    {"trim", "=chars", filter_trim},
    {"truncate", "=length =killwords =end =leeway", filter_truncate},
    {"unique", "=case_sensitive =attribute", filter_unique},
    {"upper", "", filter_upper},
    {"urlencode", "*", NULL},
    {"urlize", "*", NULL},
    {"wordcount", "", filter_wordcount},
    {"wordwrap", "*", NULL},
    {"xmlattr", "*", NULL},
};

const struct native *filter_find(const struct text *name) {
    return native_find(filters, sizeof filters / sizeof *filters, name);
}

enum status filter_apply(struct run *run, const struct text *name, const struct value *value,
                         const struct call *call, struct value *out) {
    const struct native *filter = filter_find(name);
    if (filter == NULL) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "there is no filter '%.*s'",
                        (int)(name->length < 40 ? name->length : 40), name->bytes);
    }
    enum status status = run_enter(run);
    if (status == STATUS_OK) {
        status = native_call(run, filter, value, call, out);
    }
    run_leave(run);
    return status;
}
