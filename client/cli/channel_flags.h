// --channel NAME:FIELD=VALUE,...: costs with a budget of their own. Which fields there are, and
// what they may be, stands in proto/job_fields.h.
#ifndef CLIENT_CLI_CHANNEL_FLAGS_H
#define CLIENT_CLI_CHANNEL_FLAGS_H

#include "client.pb-c.h"
#include "client/cli/flags.h"
#include "proto/limits.h"

struct channel_flags {
    struct flag_list flags;
    char *texts[LIMIT_CHANNELS]; // owned; names and values are cut out of them
    Surefoot__ChannelSpec rows[LIMIT_CHANNELS];
    Surefoot__ChannelSpec *list[LIMIT_CHANNELS]; // [count]
    size_t count;
};

struct flag channel_flags_flag(struct channel_flags *channels);

// Reads what the flag was given. STATUS_INVALID_ARGUMENT, STATUS_LIMIT, STATUS_NO_MEMORY.
MUST_CHECK enum status channel_flags_finish(struct channel_flags *channels, struct error *err);

void channel_flags_destroy(struct channel_flags *channels); // what finish allocated

#endif
