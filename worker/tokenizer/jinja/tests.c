// The tests that stand after `is`.
#include "worker/tokenizer/jinja/characters.h"
#include "worker/tokenizer/jinja/eval.h"
#include "worker/tokenizer/jinja/strings.h"
#include "worker/tokenizer/utf8.h"

#define TEST(function)                                                                             \
    static enum status function(struct run *run, const struct value *self,                         \
                                const struct value *argv, const struct call *call,                 \
                                struct value *out)

// A test that only looks at the kind of its value.
#define KIND_TEST(function, condition)                                                             \
    TEST(function) {                                                                               \
        (void)run;                                                                                 \
        (void)argv;                                                                                \
        (void)call;                                                                                \
        *out = value_bool(condition);                                                              \
        return STATUS_OK;                                                                          \
    }

KIND_TEST(is_defined, self->kind != VALUE_UNDEFINED)
KIND_TEST(is_undefined, self->kind == VALUE_UNDEFINED)
KIND_TEST(is_none, self->kind == VALUE_NONE)
KIND_TEST(is_boolean, self->kind == VALUE_BOOL)
KIND_TEST(is_true, self->kind == VALUE_BOOL && self->boolean)
KIND_TEST(is_false, self->kind == VALUE_BOOL && !self->boolean)
KIND_TEST(is_integer, self->kind == VALUE_INT)
KIND_TEST(is_float, self->kind == VALUE_FLOAT)
KIND_TEST(is_string, self->kind == VALUE_STRING)
KIND_TEST(is_mapping, self->kind == VALUE_DICT)
KIND_TEST(is_escaped, self->kind == VALUE_STRING && self->text->markup)
KIND_TEST(is_number,
          self->kind == VALUE_BOOL || self->kind == VALUE_INT || self->kind == VALUE_FLOAT)
KIND_TEST(is_callable, self->kind == VALUE_NATIVE || self->kind == VALUE_MACRO ||
                           self->kind == VALUE_UNDEFINED || self->kind == VALUE_LOOP)
KIND_TEST(is_sequence, self->kind == VALUE_STRING || value_is_sequence(self) ||
                           self->kind == VALUE_DICT || self->kind == VALUE_RANGE ||
                           self->kind == VALUE_UNDEFINED)
KIND_TEST(is_iterable, self->kind == VALUE_STRING || value_is_sequence(self) ||
                           self->kind == VALUE_DICT || self->kind == VALUE_RANGE ||
                           self->kind == VALUE_VIEW || self->kind == VALUE_GENERATOR ||
                           self->kind == VALUE_LOOP || self->kind == VALUE_UNDEFINED)

// value % divisor is `rest`.
static enum status has_rest(struct run *run, const struct value *self, const struct value *divisor,
                            int64_t rest, struct value *out) {
    struct value remainder;
    const struct value wanted = value_int(rest);
    bool equal = false;
    enum status status = operate(run, OPERATION_MOD, self, divisor, &remainder);
    if (status == STATUS_OK) {
        status = value_equal(run, &remainder, &wanted, &equal);
    }
    *out = value_bool(equal);
    return status;
}

TEST(is_odd) {
    (void)argv;
    (void)call;
    const struct value two = value_int(2);
    return has_rest(run, self, &two, 1, out);
}

TEST(is_even) {
    (void)argv;
    (void)call;
    const struct value two = value_int(2);
    return has_rest(run, self, &two, 0, out);
}

TEST(is_divisible) {
    (void)call;
    return has_rest(run, self, &argv[0], 0, out);
}

// Whether the value's text has letters, all of one case.
static enum status has_case(struct run *run, const struct value *self, bool (*is)(uint32_t),
                            struct value *out) {
    const struct text *text = NULL;
    bool all = true;
    bool any = false;
    enum status status = value_to_text(run, self, &text);
    for (size_t at = 0; status == STATUS_OK && all && at < text->length;) {
        struct utf8_step step = utf8_next(text->bytes + at, text->length - at);
        if (character_is_cased(step.code)) {
            all = is(step.code);
            any = true;
        }
        at += step.bytes;
    }
    *out = value_bool(all && any);
    return status;
}

TEST(is_lower) {
    (void)argv;
    (void)call;
    return has_case(run, self, character_is_lower, out);
}

TEST(is_upper) {
    (void)argv;
    (void)call;
    return has_case(run, self, character_is_upper, out);
}

// Identity. Of strings and numbers Python's depends on how they were made.
TEST(is_same) {
    (void)call;
    const struct value *other = &argv[0];
    bool by_value = self->kind == VALUE_STRING || self->kind == VALUE_INT ||
                    self->kind == VALUE_FLOAT || self->kind == VALUE_TUPLE;
    if (self->kind == other->kind && by_value) {
        return run_fail(run, STATUS_UNSUPPORTED, "'sameas' of strings, numbers and tuples");
    }
    if (self->kind != other->kind || self->kind == VALUE_UNDEFINED) {
        *out = value_bool(false);
    } else if (self->kind == VALUE_BOOL) {
        *out = value_bool(self->boolean == other->boolean);
    } else {
        *out = value_bool(self->kind == VALUE_NONE || self->list == other->list);
    }
    return STATUS_OK;
}

TEST(is_filter) {
    (void)call;
    (void)argv;
    (void)run;
    *out = value_bool(self->kind == VALUE_STRING && filter_find(self->text) != NULL);
    return STATUS_OK;
}

TEST(is_test) {
    (void)call;
    (void)argv;
    (void)run;
    *out = value_bool(self->kind == VALUE_STRING && test_find(self->text) != NULL);
    return STATUS_OK;
}

#define OPERATION_TEST(function, operation)                                                        \
    TEST(function) {                                                                               \
        (void)call;                                                                                \
        return operate(run, operation, self, &argv[0], out);                                       \
    }

OPERATION_TEST(is_equal, OPERATION_EQ)
OPERATION_TEST(is_unequal, OPERATION_NE)
OPERATION_TEST(is_less, OPERATION_LT)
OPERATION_TEST(is_at_most, OPERATION_LE)
OPERATION_TEST(is_greater, OPERATION_GT)
OPERATION_TEST(is_at_least, OPERATION_GE)
OPERATION_TEST(is_in, OPERATION_IN)

static const struct native tests[] = {
    {"defined", "", is_defined},     {"undefined", "", is_undefined},
    {"none", "", is_none},           {"boolean", "", is_boolean},
    {"true", "", is_true},           {"false", "", is_false},
    {"integer", "", is_integer},     {"float", "", is_float},
    {"number", "", is_number},       {"string", "", is_string},
    {"mapping", "", is_mapping},     {"sequence", "", is_sequence},
    {"iterable", "", is_iterable},   {"callable", "", is_callable},
    {"escaped", "", is_escaped},     {"odd", "", is_odd},
    {"even", "", is_even},           {"divisibleby", "num", is_divisible},
    {"lower", "", is_lower},         {"upper", "", is_upper},
    {"sameas", "other", is_same},    {"filter", "", is_filter},
    {"test", "", is_test},           {"in", "seq", is_in},
    {"==", "/other", is_equal},      {"eq", "/other", is_equal},
    {"equalto", "/other", is_equal}, {"!=", "/other", is_unequal},
    {"ne", "/other", is_unequal},    {">", "/other", is_greater},
    {"gt", "/other", is_greater},    {"greaterthan", "/other", is_greater},
    {">=", "/other", is_at_least},   {"ge", "/other", is_at_least},
    {"<", "/other", is_less},        {"lt", "/other", is_less},
    {"lessthan", "/other", is_less}, {"<=", "/other", is_at_most},
    {"le", "/other", is_at_most},
};

const struct native *test_find(const struct text *name) {
    return native_find(tests, sizeof tests / sizeof *tests, name);
}

enum status test_apply(struct run *run, const struct text *name, const struct value *value,
                       const struct call *call, struct value *out) {
    const struct native *test = test_find(name);
    if (test == NULL) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "there is no test '%.*s'",
                        (int)(name->length < 40 ? name->length : 40), name->bytes);
    }
    enum status status = run_enter(run);
    if (status == STATUS_OK) {
        status = native_call(run, test, value, call, out);
    }
    run_leave(run);
    return status;
}
