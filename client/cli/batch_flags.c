#include "client/cli/batch_flags.h"

#include "client/cli/watch.h"
#include "client/surefoot.h"

void batch_flags_init(struct batch_flags *flags, uint32_t in_flight_default) {
    *flags = (struct batch_flags){.in_flight = in_flight_default, .patience_ms = 60000};
    snprintf(flags->in_flight_help, sizeof flags->in_flight_help,
             "jobs at the service at once, default %u", in_flight_default);
    flags->table[0] = (struct flag){.name = "prompt-column",
                                    .kind = FLAG_TEXT,
                                    .target = &flags->prompt_column,
                                    .value = "NAME",
                                    .help = "what is asked; default: known by the columns"};
    flags->table[4] = (struct flag){.name = "id-column",
                                    .kind = FLAG_TEXT,
                                    .target = &flags->id_column,
                                    .value = "NAME",
                                    .help = "default: known by the columns, id, the row's number"};
    flags->table[1] = (struct flag){.name = "in-flight",
                                    .kind = FLAG_U32,
                                    .target = &flags->in_flight,
                                    .min = 1,
                                    .max = SUREFOOT_STREAMS_MAX,
                                    .value = "N",
                                    .help = flags->in_flight_help};
    flags->table[2] = watch_flag(&flags->patience_ms);
    flags->table[5] = watch_renamed_flag();
    flags->table[3] = (struct flag){
        .name = "quiet", .kind = FLAG_SWITCH, .target = &flags->quiet, .help = "no progress"};
}
