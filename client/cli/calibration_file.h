// A calibration on disk: a header with what its rewards hold under, for each prompt the rewards of
// its roll-outs, and a trailer with their number and the SHA-256 of everything before
// (CalibrationEntry in proto/client.proto, each after its length as a varint). Written record by
// record, so that an interrupted run goes on; without its trailer it is not used.
#ifndef CLIENT_CLI_CALIBRATION_FILE_H
#define CLIENT_CLI_CALIBRATION_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "client/surefoot.h"
#include "common/sha256.h"

struct calibration_file {
    int fd;                               // -1: closed
    const char *path;                     // for errors; borrowed
    const char *flag;                     // that names it, likewise
    Surefoot__CalibrationEntry *header;   // owned; NULL: none yet
    Surefoot__CalibrationEntry **records; // owned [count]
    size_t count;
    json_t *index;     // owned object: prompt hash -> number of the record
    bool finished;     // it has its trailer
    int64_t end;       // where the trailer begins, or the next entry
    struct sha256 sha; // of the bytes before `end`
};

// Reads and checks the whole file. With `writes` it is made if need be, locked, and what a crash
// left of a last entry is passed over; without, it must be finished. `path` and `flag` name
// the file in errors, borrowed until it is closed. STATUS_NOT_FOUND; STATUS_ALREADY_EXISTS: another
// run has it open; STATUS_MALFORMED: no calibration, damaged or not finished, the message names the
// entry; STATUS_IO. Release with calibration_close(), on failure too.
MUST_CHECK enum status calibration_open(const char *path, bool writes, const char *flag,
                                        struct calibration_file *out, struct error *err);
void calibration_close(struct calibration_file *file);

// Makes the file ready for records, once: writes the header, or compares it with what is there.
// STATUS_INVALID_ARGUMENT: it was made under something else, the message names what.
MUST_CHECK enum status calibration_begin(struct calibration_file *file,
                                         const Surefoot__CalibrationHeader *header,
                                         struct error *err);

// Appends the record of a prompt and returns when it is on disk. Rewards ascend.
MUST_CHECK enum status calibration_append(struct calibration_file *file, const char *prompt_hash,
                                          const float *rewards, size_t n_rewards,
                                          struct error *err);

// Writes the trailer and returns when it is on disk.
MUST_CHECK enum status calibration_finish(struct calibration_file *file, struct error *err);

// Of an error that is returned as it is, unless it is a service's refusal of a calibration (field
// spec.calibration): then it names the file. Returns its status.
enum status calibration_name_refusal(const struct calibration_file *file, struct error *err);

// The record of a prompt, NULL when there is none. Borrowed.
const Surefoot__CalibrationRecord *calibration_find(const struct calibration_file *file,
                                                    const char *prompt_hash);

// SHA-256 of what the prompt of a job is made of: prompt or messages or the rendered prompt,
// whether the last message goes on, how control tokens count, template variables. Not the day, and
// not the template, which a calibration names itself. STATUS_NO_MEMORY, STATUS_LIMIT.
MUST_CHECK enum status calibration_prompt_hash(const Surefoot__JobSpec *spec,
                                               char out[SHA256_HEX_BYTES], struct error *err);

#endif
