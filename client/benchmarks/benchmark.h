// The public benchmarks, known by the columns of their files: which column is asked, which names
// the item, which text stands before or after the question. What each is sent as follows its
// authors' own code. docs/operations.md has the list.
#ifndef CLIENT_BENCHMARKS_BENCHMARK_H
#define CLIENT_BENCHMARKS_BENCHMARK_H

#include <stdbool.h>

#include <jansson.h>

#include "common/status.h"

enum { BENCHMARK_COLUMNS_MAX = 8 };

struct benchmark {
    const char *name;
    const char *columns[BENCHMARK_COLUMNS_MAX]; // it is this benchmark when all of them are there
    const char *ask;     // column of a text or a list of messages; "body.messages": within "body"
    const char *id;      // NULL, or not there: "id", or the row's number
    bool speakers;       // what is asked is a list of turns {from: human|gpt|system, value}
    const char *context; // column that is joined to the question when it is not empty, or NULL
    const char *joint;   // between the two
    bool context_first;  // else the question comes first
    const char *refusal; // why such a file cannot be asked, or NULL
};

// Whether a column of that name is one that rows are asked by.
bool benchmark_is_asked(const char *column);

// Picks what is asked of rows with the keys of `columns`: a benchmark of the table, or one without
// name for files with exactly one column of a usual name. STATUS_INVALID_ARGUMENT: none, or several
// to choose from, which the message names; STATUS_UNSUPPORTED: known, but not to be asked as it is.
MUST_CHECK enum status benchmark_recognise(const json_t *columns, struct benchmark *out,
                                           struct error *err);

#endif
