// Python's operators on values.
#include "worker/tokenizer/jinja/eval.h"

#include <math.h>
#include <string.h>

#include "worker/tokenizer/jinja/convert.h"

static const char *const signs[] = {
    [OPERATION_ADD] = "+",  [OPERATION_SUB] = "-",        [OPERATION_MUL] = "*",
    [OPERATION_DIV] = "/",  [OPERATION_FLOOR_DIV] = "//", [OPERATION_MOD] = "%",
    [OPERATION_POW] = "**",
};

static enum status fail_operands(struct run *run, enum operation operation, const struct value *a,
                                 const struct value *b) {
    if (a->kind == VALUE_UNDEFINED || b->kind == VALUE_UNDEFINED) {
        return run_fail_undefined(run, a->kind == VALUE_UNDEFINED ? a : b);
    }
    return run_fail(run, STATUS_INVALID_ARGUMENT, "'%s' does not take %s and %s", signs[operation],
                    value_type(a), value_type(b));
}

static enum status overflow(struct run *run) {
    return run_fail(run, STATUS_UNSUPPORTED, "an integer of more than 64 bits");
}

// Quotient rounded down and the remainder with the divisor's sign; b is not 0.
static enum status divide_floor(struct run *run, int64_t a, int64_t b, int64_t *quotient,
                                int64_t *remainder) {
    if (b == -1) { // the smallest integer has no opposite
        *remainder = 0;
        return __builtin_sub_overflow(0, a, quotient) ? overflow(run) : STATUS_OK;
    }
    *quotient = a / b;
    *remainder = a % b;
    if (*remainder != 0 && (*remainder < 0) != (b < 0)) {
        *quotient -= 1;
        *remainder += b;
    }
    return STATUS_OK;
}

static enum status power(struct run *run, int64_t base, int64_t exponent, int64_t *out) {
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) {
            return overflow(run);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return overflow(run);
        }
    }
    *out = result;
    return STATUS_OK;
}

static enum status operate_integers(struct run *run, enum operation operation, int64_t a, int64_t b,
                                    struct value *out) {
    int64_t other = 0;
    bool over = false;
    enum status status = STATUS_OK;
    *out = value_int(0);
    switch (operation) {
    case OPERATION_ADD:
        over = __builtin_add_overflow(a, b, &out->integer);
        break;
    case OPERATION_SUB:
        over = __builtin_sub_overflow(a, b, &out->integer);
        break;
    case OPERATION_MUL:
        over = __builtin_mul_overflow(a, b, &out->integer);
        break;
    case OPERATION_FLOOR_DIV:
        status = divide_floor(run, a, b, &out->integer, &other);
        break;
    case OPERATION_MOD:
        status = divide_floor(run, a, b, &other, &out->integer);
        break;
    default: // OPERATION_POW
        status = power(run, a, b, &out->integer);
        break;
    }
    return over ? overflow(run) : status;
}

// Python's float % with the divisor's sign.
static double modulo(double a, double b) {
    double rest = fmod(a, b);
    if (rest != 0) {
        return (rest < 0) != (b < 0) ? rest + b : rest;
    }
    return copysign(0.0, b);
}

// Python's float //: exact quotient of what is left without the remainder.
static double floor_divide(double a, double b) {
    double rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient -= 1;
    }
    if (quotient == 0) {
        return copysign(0.0, a / b);
    }
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static enum status operate_reals(struct run *run, enum operation operation, double a, double b,
                                 struct value *out) {
    *out = value_float(0);
    switch (operation) {
    case OPERATION_ADD:
        out->real = a + b;
        break;
    case OPERATION_SUB:
        out->real = a - b;
        break;
    case OPERATION_MUL:
        out->real = a * b;
        break;
    case OPERATION_DIV:
        out->real = a / b;
        break;
    case OPERATION_FLOOR_DIV:
        out->real = floor_divide(a, b);
        break;
    case OPERATION_MOD:
        out->real = modulo(a, b);
        break;
    default: // OPERATION_POW
        out->real = pow(a, b);
        if (isnan(out->real) && !isnan(a) && !isnan(b)) {
            return run_fail(run, STATUS_UNSUPPORTED, "a power that is a complex number");
        }
        if (isinf(out->real) && isfinite(a) && isfinite(b)) {
            return run_fail(run, STATUS_INVALID_ARGUMENT, "the power is too large, or of zero");
        }
        break;
    }
    return STATUS_OK;
}

static enum status operate_numbers(struct run *run, enum operation operation, const struct value *a,
                                   const struct value *b, struct value *out) {
    int64_t i = 0;
    int64_t j = 0;
    double x = 0;
    double y = 0;
    bool integers = value_number(a, &i, &x) == VALUE_INT;
    integers = value_number(b, &j, &y) == VALUE_INT && integers;
    bool divides = operation == OPERATION_DIV || operation == OPERATION_FLOOR_DIV ||
                   operation == OPERATION_MOD;
    if (divides && y == 0) {
        return run_fail(run, STATUS_INVALID_ARGUMENT, "division by zero");
    }
    bool content = a->content || b->content;
    bool whole = integers && operation != OPERATION_DIV && !(operation == OPERATION_POW && j < 0);
    enum status status = whole ? operate_integers(run, operation, i, j, out)
                               : operate_reals(run, operation, x, y, out);
    out->content = content;
    return status;
}

// Text + text. Where one side is markup the other is escaped, as markupsafe does.
static enum status add_texts(struct run *run, const struct text *a, const struct text *b,
                             struct value *out) {
    struct text_builder builder = {.arena = &run->arena};
    bool markup = a->markup || b->markup;
    builder_put_text(&builder, markup ? text_escape(&run->arena, a) : a);
    builder_put_text(&builder, markup ? text_escape(&run->arena, b) : b);
    struct text *text = builder_finish(&builder);
    if (text != NULL) {
        text->markup = markup;
    }
    enum status status = run_give_text(run, text, out);
    return status == STATUS_OK ? run_charge_bytes(run, a->length + b->length) : status;
}

static enum status add_lists(struct run *run, const struct value *a, const struct value *b,
                             struct value *out) {
    size_t count = a->list->count + b->list->count;
    struct value *items = arena_alloc_array(&run->arena, count, sizeof *items);
    if (items == NULL) {
        return run_no_memory(run);
    }
    if (a->list->count > 0) {
        memcpy(items, a->list->items, a->list->count * sizeof *items);
    }
    if (b->list->count > 0) {
        memcpy(items + a->list->count, b->list->items, b->list->count * sizeof *items);
    }
    return list_make(run, a->kind, items, count, out);
}

static enum status repeat(struct run *run, const struct value *value, int64_t times,
                          struct value *out) {
    struct text_builder b = {.arena = &run->arena};
    size_t length = value->kind == VALUE_STRING ? value->text->length : value->list->count;
    size_t count = times < 0 || length == 0 ? 0 : (size_t)times;
    if (count > JINJA_MEMORY_BYTES_MAX || length * count > JINJA_MEMORY_BYTES_MAX) {
        run->arena.over_limit = true;
        return run_no_memory(run);
    }
    enum status status = run_charge(run, value->kind == VALUE_STRING ? count : count * length);
    if (status != STATUS_OK) {
        return status;
    }
    if (value->kind == VALUE_STRING) {
        for (size_t i = 0; i < count && !b.failed; i++) {
            builder_put_text(&b, value->text);
        }
        struct text *text = builder_finish(&b);
        if (text != NULL) {
            text->markup = value->text->markup;
        }
        return run_give_text(run, text, out);
    }
    struct value *items = arena_alloc_array(&run->arena, count * length, sizeof *items);
    if (items == NULL) {
        return run_no_memory(run);
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(items + i * length, value->list->items, length * sizeof *items);
    }
    return list_make(run, value->kind, items, count * length, out);
}

static bool is_number(const struct value *value) {
    return value->kind == VALUE_BOOL || value->kind == VALUE_INT || value->kind == VALUE_FLOAT;
}

static bool can_repeat(const struct value *value, const struct value *times) {
    return (value->kind == VALUE_STRING || value_is_sequence(value)) &&
           (times->kind == VALUE_INT || times->kind == VALUE_BOOL);
}

static enum status operate_arithmetic(struct run *run, enum operation operation,
                                      const struct value *a, const struct value *b,
                                      struct value *out) {
    if (is_number(a) && is_number(b)) {
        return operate_numbers(run, operation, a, b, out);
    }
    if (operation == OPERATION_ADD && a->kind == VALUE_STRING && b->kind == VALUE_STRING) {
        return add_texts(run, a->text, b->text, out);
    }
    if (operation == OPERATION_ADD && value_is_sequence(a) && a->kind == b->kind) {
        return add_lists(run, a, b, out);
    }
    if (operation == OPERATION_MUL && can_repeat(a, b)) {
        return repeat(run, a, b->kind == VALUE_INT ? b->integer : b->boolean, out);
    }
    if (operation == OPERATION_MUL && can_repeat(b, a)) {
        return repeat(run, b, a->kind == VALUE_INT ? a->integer : a->boolean, out);
    }
    if (operation == OPERATION_MOD && a->kind == VALUE_STRING) {
        return format_percent(run, a->text, b, out);
    }
    return fail_operands(run, operation, a, b);
}

static bool order_holds(enum operation operation, int order) {
    switch (operation) {
    case OPERATION_LT:
        return order < 0;
    case OPERATION_LE:
        return order <= 0;
    case OPERATION_GT:
        return order > 0;
    default: // OPERATION_GE
        return order >= 0;
    }
}

enum status operate(struct run *run, enum operation operation, const struct value *a,
                    const struct value *b, struct value *out) {
    bool holds = false;
    int order = 0;
    enum status status;
    switch (operation) {
    case OPERATION_EQ:
    case OPERATION_NE:
        status = value_equal(run, a, b, &holds);
        *out = value_bool(holds == (operation == OPERATION_EQ));
        return status;
    case OPERATION_IN:
    case OPERATION_NOT_IN:
        status = value_contains(run, b, a, &holds);
        *out = value_bool(holds == (operation == OPERATION_IN));
        return status;
    case OPERATION_LT:
    case OPERATION_LE:
    case OPERATION_GT:
    case OPERATION_GE:
        status = value_compare(run, a, b, &order);
        *out = value_bool(order_holds(operation, order));
        return status;
    default:
        return operate_arithmetic(run, operation, a, b, out);
    }
}

enum status operate_unary(struct run *run, enum operation operation, const struct value *a,
                          struct value *out) {
    int64_t integer = 0;
    double real = 0;
    enum value_kind kind = value_number(a, &integer, &real);
    if (kind == VALUE_ABSENT) {
        return run_fail_type(run, operation == OPERATION_SUB ? "unary -" : "unary +", a);
    }
    if (kind == VALUE_FLOAT) {
        *out = value_float(operation == OPERATION_SUB ? -real : real);
    } else {
        *out = value_int(integer);
        if (operation == OPERATION_SUB && __builtin_sub_overflow(0, integer, &out->integer)) {
            return overflow(run);
        }
    }
    out->content = a->content;
    return STATUS_OK;
}
