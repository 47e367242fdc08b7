#include "worker/tokenizer/jinja/native.h"

#include <string.h>

#include "worker/tokenizer/jinja/run.h"

const struct native *native_find(const struct native *table, size_t count,
                                 const struct text *name) {
    for (size_t i = 0; i < count; i++) {
        if (text_is(name, table[i].name)) {
            return &table[i];
        }
    }
    return NULL;
}

enum status native_bind(struct run *run, const struct native *native, const struct value *self,
                        struct value *out) {
    if (native->function == NULL) {
        return run_fail(run, STATUS_UNSUPPORTED, "'%s' is not interpreted", native->name);
    }
    struct bound_native *bound = arena_alloc(&run->arena, sizeof *bound);
    if (bound == NULL) {
        return run_no_memory(run);
    }
    bound->native = native;
    bound->self = self == NULL ? (struct value){.kind = VALUE_ABSENT} : *self;
    *out = (struct value){.kind = VALUE_NATIVE, .native = bound};
    return STATUS_OK;
}

// The names of a row's parameters.
struct parameters {
    struct text names[NATIVE_PARAMETERS_MAX];
    bool optional[NATIVE_PARAMETERS_MAX];
    size_t count;
    bool by_place_only;
};

static void read_parameters(const char *text, struct parameters *out) {
    *out = (struct parameters){.by_place_only = *text == '/'};
    text += out->by_place_only;
    while (*text != '\0' && out->count < NATIVE_PARAMETERS_MAX) {
        out->optional[out->count] = *text == '=';
        text += *text == '=';
        size_t length = strcspn(text, " ");
        out->names[out->count++] = (struct text){.bytes = text, .length = length};
        text += length + (text[length] == ' ');
    }
}

static enum status fail_call(struct run *run, const struct native *native, const char *what) {
    return run_fail(run, STATUS_INVALID_ARGUMENT, "%s: %s", native->name, what);
}

static enum status bind_named(struct run *run, const struct native *native,
                              const struct parameters *parameters, const struct call *call,
                              struct value *argv) {
    for (size_t i = 0; i < call->n_named; i++) {
        size_t at = 0;
        while (at < parameters->count && !text_equal(&parameters->names[at], call->named[i].name)) {
            at++;
        }
        if (at == parameters->count || parameters->by_place_only) {
            return fail_call(run, native, "an argument of an unknown name");
        }
        if (argv[at].kind != VALUE_ABSENT) {
            return fail_call(run, native, "an argument is given twice");
        }
        argv[at] = call->named[i].value;
    }
    return STATUS_OK;
}

enum status native_call(struct run *run, const struct native *native, const struct value *self,
                        const struct call *call, struct value *out) {
    struct value argv[NATIVE_PARAMETERS_MAX];
    memset(argv, 0, sizeof argv); // all ABSENT
    *out = value_none();
    if (native->function == NULL) {
        return run_fail(run, STATUS_UNSUPPORTED, "'%s' is not interpreted", native->name);
    }
    if (strcmp(native->parameters, "*") == 0) {
        return native->function(run, self, argv, call, out);
    }
    struct parameters parameters;
    read_parameters(native->parameters, &parameters);
    if (call->n_positional > parameters.count) {
        return fail_call(run, native, "too many arguments");
    }
    if (call->n_positional > 0) {
        memcpy(argv, call->positional, call->n_positional * sizeof *argv);
    }
    enum status status = bind_named(run, native, &parameters, call, argv);
    for (size_t i = 0; status == STATUS_OK && i < parameters.count; i++) {
        if (argv[i].kind == VALUE_ABSENT && !parameters.optional[i]) {
            status = fail_call(run, native, "an argument is missing");
        }
    }
    return status == STATUS_OK ? native->function(run, self, argv, call, out) : status;
}
