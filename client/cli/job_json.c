#include "client/cli/job_json.h"

#include <string.h>

#include "client/cli/template_var.h"
#include "proto/defaults.h"
#include "proto/job_fields.h"

// One value of a field, at `at`.
static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(char *const *)at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return job_message_json(*(ProtobufCMessage *const *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_UINT32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_UINT64: {
        uint64_t value = *(const uint64_t *)at; // any 64 bits; a number of jansson is signed
        return value <= INT64_MAX ? json_integer((json_int_t)value)
                                  : json_sprintf("%llu", (unsigned long long)value);
    }
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    default:
        ASSERT(false); // JobSpec and ModelInfo have no others
        return NULL;
    }
}

static size_t value_bytes(const ProtobufCFieldDescriptor *field) {
    ASSERT(field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE);
    return sizeof(void *); // the only lists there
}

static json_t *list_json(const ProtobufCFieldDescriptor *field, const char *items, size_t count) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, value_json(field, items + i * value_bytes(field)));
    }
    return list;
}

json_t *job_message_json(const ProtobufCMessage *message) {
    json_t *object = json_object();
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        const char *at = (const char *)message + field->offset;
        const char *quantifier = (const char *)message + field->quantifier_offset;
        bool pointer =
            field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)quantifier;
            if (count > 0) {
                json_object_set_new(object, field->name,
                                    list_json(field, *(const char *const *)at, count));
            }
        } else if (pointer ? *(const void *const *)at != NULL
                           : *(const protobuf_c_boolean *)quantifier != 0) {
            json_object_set_new(object, field->name, value_json(field, at));
        }
    }
    return object;
}

static json_t *fallback_json(enum job_field_index index, const Surefoot__JobSpec *spec) {
    double value = job_field_fallback(index, spec);
    switch (job_field_get(index)->kind) {
    case JOB_FIELD_KIND_U32:
        return json_integer((json_int_t)value);
    case JOB_FIELD_KIND_REAL:
        return json_real(value);
    case JOB_FIELD_KIND_BOOL:
        return json_boolean(value != 0);
    case JOB_FIELD_KIND_CHOICE:
        break;
    }
    return json_string(job_choice_name(index, (int)value));
}

// Numbers that are left to a model are not settings of the job: the result says what they came to.
static json_t *default_json(const Surefoot__JobSpec *spec) {
    json_t *object = json_pack("{s:s, s:s, s:i}", "generation_defaults", "model", "content_tokens",
                               "as-text", "seed", 0);
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        if (job_field_has_fallback(index, spec)) {
            json_object_set_new(object, job_field_get(index)->name, fallback_json(index, spec));
        }
    }
    return object;
}

static json_t *default_sampling_json(const Surefoot__JobSpec *spec) {
    if (job_asks_model(spec)) {
        return json_pack("{s:f, s:i}", "frequency_penalty", 0.0, "min_tokens", 0);
    }
    return json_pack("{s:f, s:i, s:f, s:f, s:f, s:i}", "temperature", (double)DEFAULT_TEMPERATURE,
                     "top_k", 0, "top_p", (double)DEFAULT_TOP_P, "repetition_penalty",
                     (double)DEFAULT_REPETITION_PENALTY, "frequency_penalty", 0.0, "min_tokens", 0);
}

json_t *job_given_json(const Surefoot__JobSpec *spec) {
    Surefoot__JobSpec shared = *spec;
    shared.prompt = NULL;
    shared.rendered_prompt = NULL;
    shared.has_continue_final_message = 0; // of a prefill, which is none of the job's fields
    shared.n_messages = 0;
    shared.n_template_variables = 0; // below: as an object, whose members have no order
    json_t *given = job_message_json(&shared.base);
    json_t *variables = template_vars_json(spec->template_variables, spec->n_template_variables);
    if (variables != NULL) {
        json_object_set_new(given, "template_variables", variables);
    }
    return given;
}

json_t *job_json(const Surefoot__JobSpec *spec) {
    json_t *object = default_json(spec);
    json_t *sampling = default_sampling_json(spec);
    json_t *given = job_given_json(spec);
    json_object_update(sampling, json_object_get(given, "sampling"));
    json_object_update(object, given);
    json_object_set_new(object, "sampling", sampling);
    json_decref(given);
    return object;
}

json_t *job_models_json(const Surefoot__ServiceStatus *state) {
    for (size_t i = 0; i < state->n_groups; i++) {
        const Surefoot__GroupStatus *group = state->groups[i];
        if (!group->alive) {
            continue;
        }
        json_t *models = json_object();
        for (size_t j = 0; j < group->n_models; j++) {
            const Surefoot__ModelInfo *model = group->models[j];
            json_t *fields = job_message_json(&model->base);
            json_object_del(fields, "name"); // its key already
            json_object_set_new(models, model->name == NULL ? "" : model->name, fields);
        }
        return models;
    }
    return NULL;
}
