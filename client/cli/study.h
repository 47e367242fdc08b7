// Items under one method or several at the service: what sweep and compare do. Each item is
// answered once under each method. Its job is named by its content, so a rerun after any
// interruption meets its own jobs again; with a file for the records a job is closed only after its
// record is on disk, and what the file holds is not done again. All methods of an item have one
// seed. The methods run one after the other, so that their times do not mix.
#ifndef CLIENT_CLI_STUDY_H
#define CLIENT_CLI_STUDY_H

#include "client/cli/batch_flags.h"
#include "client/cli/item_key.h"
#include "client/cli/items.h"
#include "client/cli/job_flags.h"
#include "client/cli/outfile.h"
#include "client/cli/progress.h"
#include "client/cli/session.h"
#include "client/cli/watch.h"

enum {
    STUDY_METHODS_MAX = 16,
    STUDY_SYNC_RECORDS = 64, // records that may wait for the disk
};

struct study_method {
    const char *label;      // borrowed; "" when it is the only one, of a sweep
    Surefoot__JobSpec spec; // without prompt; its seed is the study's. Borrows what it points to
    json_t *settings;       // owned: what its records have in common
    struct item_key *keys;  // owned [items.count]
    json_t **results;       // owned [items.count]: with keep_results, records without input and
                            // settings; NULL where there is none
    double wall_ms;         // of all items; NaN when not all were done in this run
};

// Zero but for outfile.fd = -1 before study_open.
struct study {
    struct session session;
    struct items items;
    struct turns turns;
    struct job_flags *job;  // borrowed; has the calibrations
    struct outfile outfile; // fd -1: none is asked for
    struct study_method methods[STUDY_METHODS_MAX];
    int n_methods;
    bool keep_results;
    struct progress progress; // of the range that was answered last: items times methods

    // Of the run.
    int at; // method that runs
    struct watch watch;
    Surefoot__JobSpec spec; // of the item described last
    Surefoot__ChatMessage message_rows[LIMIT_MESSAGES];
    Surefoot__ChatMessage *message_list[LIMIT_MESSAGES];
    const char *unsynced[STUDY_SYNC_RECORDS]; // keys of what was recorded since the last sync
    int n_unsynced;
    bool away; // the service did not answer the last time, and no result has come since
    int64_t synced_ms;
};

// Reads the items of `path`, says what they are, opens the file for the records if flags->out names
// one, and fixes the job's date: that of the records. Borrows all of it. Errors of items_read() and
// outfile_open().
MUST_CHECK enum status study_open(struct study *study, const char *path, enum outfile_kind kind,
                                  const struct batch_flags *flags, struct job_flags *job,
                                  struct error *err);

// Settles what the records say of the methods that the caller has set (label, spec), with its
// session, and makes the file ready. STATUS_INVALID_ARGUMENT: the records are of another study, or
// two methods are one; STATUS_UNAVAILABLE; errors of the file.
MUST_CHECK enum status study_start(struct study *study, const struct batch_flags *flags,
                                   struct error *err);

struct study_range { // of methods and items; ends are not in it
    int method_begin;
    int method_end;
    size_t item_begin;
    size_t item_end;
};

// Answers what has no record yet, once for each item and method of a study that was started.
// STATUS_INVALID_ARGUMENT: an item was edited; errors of batch_run() and of the file. What was
// recorded is safe in every case.
MUST_CHECK enum status study_answer(struct cli *cli, struct study *study,
                                    const struct batch_flags *flags,
                                    const struct study_range *range, struct error *err);

// Both, for everything.
MUST_CHECK enum status study_run(struct cli *cli, struct study *study,
                                 const struct batch_flags *flags, struct error *err);

// The exit code of a run that ended well: CLI_EXIT_FAILED when an item failed or is missing.
int study_exit_code(const struct study *study);

void study_close(struct study *study);

#endif
