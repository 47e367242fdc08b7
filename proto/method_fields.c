#include "proto/method_fields.h"

#include <stddef.h>
#include <string.h>

#include "common/status.h"
#include "proto/defaults.h"

enum { SAMPLE = 1, BEST_OF_N = 2, BEAM = 4, GUARD = 8 };
enum { PLAIN = 1, LAGRANGIAN = 2, AUGMENTED = 4, ANY = PLAIN | LAGRANGIAN | AUGMENTED };

static const char *const methods[] = {"sample", "best-of-n", "beam", "inference-guard"};
static const char *const selections[] = {"plain", "lagrangian", "augmented"};

static const struct {
    const char *name;
    unsigned methods;
    unsigned selections;
    bool of_retries; // read by a second try of a step only
} fields[METHOD_FIELDS_COUNT] = {
    {"n", BEST_OF_N | BEAM | GUARD, ANY},
    {"survivors", BEAM | GUARD, ANY},
    {"tries", GUARD, ANY},
    {"discount_reward", BEAM | GUARD, AUGMENTED},
    {"lagrangian_lambda", BEST_OF_N | BEAM, LAGRANGIAN},
    {"fallback_penalty", GUARD, ANY, true},
    {"fallback_weight", GUARD, ANY, true},
    {"fallback_cap", GUARD, ANY, true},
    {"early_stop", BEST_OF_N, AUGMENTED},
};

const char *method_field_name(int index) {
    return fields[index].name;
}

static const ProtobufCFieldDescriptor *descriptor_of(int index) {
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field_by_name(
        &surefoot__job_spec__descriptor, fields[index].name);
    ASSERT(field != NULL && field->label == PROTOBUF_C_LABEL_OPTIONAL);
    return field;
}

bool method_field_is_set(int index, const Surefoot__JobSpec *spec) {
    const ProtobufCFieldDescriptor *field = descriptor_of(index);
    const char *base = (const char *)spec;
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        char *text;
        memcpy(&text, base + field->offset, sizeof text);
        return text != NULL;
    }
    protobuf_c_boolean has;
    memcpy(&has, base + field->quantifier_offset, sizeof has);
    return has != 0;
}

void method_field_clear(int index, Surefoot__JobSpec *spec) {
    const ProtobufCFieldDescriptor *field = descriptor_of(index);
    char *base = (char *)spec;
    const char *no_text = NULL;
    const protobuf_c_boolean has = 0;
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        memcpy(base + field->offset, &no_text, sizeof no_text);
    } else {
        memcpy(base + field->quantifier_offset, &has, sizeof has);
    }
}

// Every bit for a name that is not there: it is refused elsewhere.
static unsigned bit_of(const char *name, const char *const *names, int count) {
    for (int i = 0; i < count; i++) {
        if (strcmp(name, names[i]) == 0) {
            return 1U << i;
        }
    }
    return ~0U;
}

bool method_field_is_read(int index, const Surefoot__JobSpec *spec) {
    unsigned method = bit_of(spec->method != NULL ? spec->method : DEFAULT_METHOD, methods,
                             sizeof methods / sizeof methods[0]);
    const char *own = method == GUARD ? "augmented" : DEFAULT_SELECTION;
    unsigned selection = bit_of(spec->selection != NULL ? spec->selection : own, selections,
                                sizeof selections / sizeof selections[0]);
    bool retries = (spec->has_tries ? spec->tries : DEFAULT_TRIES) > 1;
    return (fields[index].methods & method) != 0 && (fields[index].selections & selection) != 0 &&
           (retries || !fields[index].of_retries);
}

bool method_reads_selection(const char *method) {
    unsigned bit = bit_of(method != NULL ? method : DEFAULT_METHOD, methods,
                          sizeof methods / sizeof methods[0]);
    return (bit & (BEST_OF_N | BEAM)) != 0;
}
