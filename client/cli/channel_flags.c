#include "client/cli/channel_flags.h"

#include <stdlib.h>
#include <string.h>

#include "client/cli/field_flag.h"
#include "proto/job_fields.h"

static const char flag_name[] = "--channel";

struct flag channel_flags_flag(struct channel_flags *channels) {
    return (struct flag){.name = flag_name + 2,
                         .kind = FLAG_LIST,
                         .target = &channels->flags,
                         .value = "NAME[:FIELD=X,...]",
                         .help = "costs with a budget of their own, of the scorers that name it: "
                                 "budget, discount, discount-unit, cost-mode, admit-rule, cost-min "
                                 "as above; repeatable; default none"};
}

static enum status unknown_field(const char *given, struct error *err) {
    char known[ERROR_MESSAGE_BYTES / 2] = "";
    size_t used = 0;
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        if (job_field_get(index)->of_channel) {
            char name[FIELD_FLAG_NAME_BYTES];
            field_flag_name(index, name);
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                     used > 0 ? ", " : "", name);
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, flag_name,
                     "\"%.64s\" is not FIELD=VALUE with one of %s", given, known);
}

// FIELD=VALUE.
static enum status read_field(char *text, Surefoot__JobSpec *fields, struct error *err) {
    char *value = strchr(text, '=');
    if (value == NULL) {
        return unknown_field(text, err);
    }
    *value++ = '\0';
    for (enum job_field_index index = 0; index < JOB_FIELDS_COUNT; index++) {
        char name[FIELD_FLAG_NAME_BYTES];
        field_flag_name(index, name);
        if (!job_field_get(index)->of_channel || strcmp(name, text) != 0) {
            continue;
        }
        if (job_field_is_set(index, fields)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, flag_name, "%s is there twice", name);
        }
        struct flag flag = field_flag(index, fields);
        char path[sizeof "channel." + FIELD_FLAG_NAME_BYTES];
        snprintf(path, sizeof path, "channel.%s", name);
        flag.name = path;
        return flags_read(&flag, value, err);
    }
    return unknown_field(text, err);
}

// NAME or NAME:FIELD=VALUE,FIELD=VALUE.
static enum status read_channel(char *text, Surefoot__ChannelSpec *out, struct error *err) {
    Surefoot__JobSpec fields = SUREFOOT__JOB_SPEC__INIT;
    surefoot__channel_spec__init(out);
    out->name = text;
    char *rest = strchr(text, ':');
    if (rest != NULL) {
        *rest++ = '\0';
    }
    while (rest != NULL) {
        char *field = rest;
        rest = strchr(field, ',');
        if (rest != NULL) {
            *rest++ = '\0';
        }
        enum status status = read_field(field, &fields, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    job_channel_set_fields(&fields, out);
    return STATUS_OK;
}

enum status channel_flags_finish(struct channel_flags *channels, struct error *err) {
    if (channels->flags.count > LIMIT_CHANNELS) {
        return error_set(err, STATUS_LIMIT, flag_name, "%d are above the limit %d",
                         channels->flags.count, LIMIT_CHANNELS);
    }
    for (int i = 0; i < channels->flags.count; i++) {
        channels->texts[i] = strdup(channels->flags.items[i]);
        if (channels->texts[i] == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the flags");
        }
        enum status status = read_channel(channels->texts[i], &channels->rows[i], err);
        if (status != STATUS_OK) {
            return status;
        }
        channels->list[channels->count++] = &channels->rows[i];
    }
    return STATUS_OK;
}

void channel_flags_destroy(struct channel_flags *channels) {
    for (size_t i = 0; i < LIMIT_CHANNELS; i++) {
        free(channels->texts[i]);
    }
}
