#include "client/cli/batch_flags.h"

#include <string.h>

#include "client/cli/watch.h"
#include "client/surefoot.h"

void batch_flags_init(struct batch_flags *flags, uint32_t in_flight_default, const char *out_help) {
    *flags = (struct batch_flags){.in_flight = in_flight_default, .patience_ms = 60000};
    snprintf(flags->in_flight_help, sizeof flags->in_flight_help,
             "jobs at the service at once, default %u", in_flight_default);
    const struct flag table[] = {
        {.name = "out",
         .kind = FLAG_TEXT,
         .target = &flags->out,
         .value = "OUT.jsonl",
         .help = out_help},
        {.name = "retry-failed",
         .kind = FLAG_SWITCH,
         .target = &flags->retry_failed,
         .help = "remove the records of failed items and do them again"},
        {.name = "prompt-column",
         .kind = FLAG_TEXT,
         .target = &flags->prompt_column,
         .value = "NAME",
         .help = "what is asked; default: known by the columns"},
        {.name = "id-column",
         .kind = FLAG_TEXT,
         .target = &flags->id_column,
         .value = "NAME",
         .help = "default: known by the columns, id, the row's number"},
        {.name = "form",
         .kind = FLAG_TEXT,
         .target = &flags->form,
         .value = "NAME",
         .help = "csv, tsv, txt or json; default: by the end of the file's name, else json"},
        {.name = "filter",
         .kind = FLAG_LIST,
         .target = &flags->filters,
         .value = "FIELD=VALUE",
         .help =
             "only rows with it, repeatable: values of one field are alternatives; default all"},
        {.name = "sample",
         .kind = FLAG_U32,
         .target = &flags->sample,
         .max = UINT32_MAX,
         .value = "N",
         .help = "N of them, drawn by seed and id, in the file's order, 0: all; default 0"},
        {.name = "sample-seed",
         .kind = FLAG_U64,
         .target = &flags->sample_seed,
         .given = &flags->sample_seed_given,
         .value = "N",
         .help = "of the draw; default 0"},
        {.name = "limit",
         .kind = FLAG_U32,
         .target = &flags->limit,
         .max = UINT32_MAX,
         .value = "N",
         .help = "the first N of them, 0: all; default 0"},
        {.name = "in-flight",
         .kind = FLAG_U32,
         .target = &flags->in_flight,
         .min = 1,
         .max = SUREFOOT_STREAMS_MAX,
         .value = "N",
         .help = flags->in_flight_help},
        {.name = "quiet", .kind = FLAG_SWITCH, .target = &flags->quiet, .help = "no progress"},
        watch_flag(&flags->patience_ms),
        watch_renamed_flag(),
    };
    _Static_assert(sizeof table / sizeof table[0] < BATCH_FLAGS_COUNT,
                   "a NULL name ends the table");
    memcpy(flags->table, table, sizeof table);
}

enum status batch_flags_check(const struct batch_flags *flags, struct error *err) {
    return flags->sample_seed_given && flags->sample == 0
               ? error_set(err, STATUS_INVALID_ARGUMENT, "--sample-seed",
                           "has no effect without --sample")
               : STATUS_OK;
}
