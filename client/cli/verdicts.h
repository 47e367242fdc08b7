// What a judge outside says of answers, as a file: rows {id, unsafe} in any form that prompts may
// have (client/benchmarks/rows.h).
#ifndef CLIENT_CLI_VERDICTS_H
#define CLIENT_CLI_VERDICTS_H

#include "client/cli/judged.h"

// Takes the verdicts of `path` over: `id` is an item's, `unsafe` true, false or a loss in [0, 1],
// `key` a record's, required where there are several settings; other fields are passed over. A row
// may judge a refused item false. After judged_complete(). STATUS_NOT_FOUND, STATUS_MALFORMED (also
// NaN), STATUS_INVALID_ARGUMENT (an id or key without a record, a second verdict, unsafe without an
// answer), each with the line; errors of rows_read().
MUST_CHECK enum status verdicts_read(const char *path, struct judged *judged, struct error *err);

#endif
