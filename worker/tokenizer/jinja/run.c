#include "worker/tokenizer/jinja/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "worker/tokenizer/jinja/functions.h"

enum { BYTES_PER_STEP = 64 };

enum status run_fail(struct run *run, enum status status, const char *format, ...) {
    char message[ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return error_set(run->err, status, "chat_template", "line %d: %s", run->line, message);
}

enum status run_no_memory(struct run *run) {
    if (run->arena.over_limit) {
        return run_fail(run, STATUS_LIMIT, "the values take more than %d bytes",
                        JINJA_MEMORY_BYTES_MAX);
    }
    return run_fail(run, STATUS_NO_MEMORY, "no memory");
}

enum status run_charge(struct run *run, size_t steps) {
    run->steps += steps;
    if (run->steps > JINJA_STEPS_MAX) {
        return run_fail(run, STATUS_LIMIT, "the rendering takes more than %d steps",
                        JINJA_STEPS_MAX);
    }
    return STATUS_OK;
}

enum status run_charge_bytes(struct run *run, size_t bytes) {
    return run_charge(run, bytes / BYTES_PER_STEP);
}

enum status run_enter(struct run *run) {
    run->value_depth++;
    if (run->value_depth > JINJA_VALUE_DEPTH_MAX) {
        return run_fail(run, STATUS_LIMIT, "values lie inside each other more than %d deep",
                        JINJA_VALUE_DEPTH_MAX);
    }
    return run_charge(run, 1);
}

void run_leave(struct run *run) {
    run->value_depth--;
}

enum status run_give_text(struct run *run, const struct text *text, struct value *out) {
    if (text == NULL) {
        return run_no_memory(run);
    }
    *out = value_text(text);
    return STATUS_OK;
}

enum status run_give_undefined(struct run *run, struct undefined undefined, struct value *out) {
    struct undefined *kept = arena_alloc(&run->arena, sizeof *kept);
    if (kept == NULL) {
        return run_no_memory(run);
    }
    *kept = undefined;
    *out = (struct value){.kind = VALUE_UNDEFINED, .undefined = kept};
    return STATUS_OK;
}

enum { NAME_BYTES_SHOWN = 64 };

enum status run_fail_undefined(struct run *run, const struct value *value) {
    const struct undefined *undefined = value->undefined;
    if (undefined->hint != NULL) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "%s", undefined->hint);
    }
    size_t length = undefined->name->length;
    int shown = (int)(length < NAME_BYTES_SHOWN ? length : NAME_BYTES_SHOWN);
    const char *name = undefined->name->bytes;
    if (undefined->unsafe) {
        return run_fail(run, STATUS_INVALID_ARGUMENT,
                        "access to attribute '%.*s' of '%s' is unsafe", shown, name,
                        undefined->owner);
    }
    if (undefined->owner == NULL) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "'%.*s' is undefined", shown, name);
    }
    return run_fail(run, STATUS_INVALID_ARGUMENT, "'%s' has no attribute '%.*s'", undefined->owner,
                    shown, name);
}

enum status run_fail_type(struct run *run, const char *operation, const struct value *value) {
    if (value->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, value);
    }
    return run_fail(run, STATUS_INVALID_ARGUMENT, "%s does not take a value of type %s", operation,
                    value_type(value));
}

struct frame *run_new_frame(struct run *run, struct frame *parent) {
    struct frame *frame = arena_alloc(&run->arena, sizeof *frame);
    if (frame != NULL) {
        frame->parent = parent;
    }
    return frame;
}

static struct binding *find_binding(struct frame *frame, const struct text *name) {
    for (size_t i = 0; i < frame->count; i++) {
        if (text_equal(frame->bindings[i].name, name)) {
            return &frame->bindings[i];
        }
    }
    return NULL;
}

enum status frame_set(struct run *run, struct frame *frame, const struct text *name,
                      const struct value *value) {
    struct binding *binding = find_binding(frame, name);
    if (binding != NULL) {
        binding->value = *value;
        return STATUS_OK;
    }
    if (frame->count == frame->capacity) {
        size_t capacity = 2 * frame->capacity + 4;
        struct binding *bindings = arena_alloc_array(&run->arena, capacity, sizeof *bindings);
        if (bindings == NULL) {
            return run_no_memory(run);
        }
        if (frame->count > 0) {
            memcpy(bindings, frame->bindings, frame->count * sizeof *bindings);
        }
        frame->bindings = bindings;
        frame->capacity = capacity;
    }
    frame->bindings[frame->count++] = (struct binding){.name = name, .value = *value};
    return run_charge(run, frame->count / 16);
}

enum status run_lookup(struct run *run, const struct text *name, struct value *out) {
    for (struct frame *frame = run->frame; frame != NULL; frame = frame->parent) {
        const struct binding *binding = find_binding(frame, name);
        if (binding != NULL) {
            if (binding->value.kind != VALUE_ABSENT) {
                *out = binding->value;
                return STATUS_OK;
            }
            return run_give_undefined(run, (struct undefined){.name = name}, out);
        }
    }
    const struct value *given = dict_find_text(run->variables, name);
    if (given != NULL) {
        *out = *given;
        return STATUS_OK;
    }
    return function_find(run, name, out);
}
