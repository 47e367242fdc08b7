// Certificates as files: what `surefoot certify` found, bound to the data, models and fields that
// it found it with. docs/methods/certificate.md says what one means. The same findings give the
// same bytes: no date, no place. Whatever can be computed again is, at every reading.
#ifndef CLIENT_CLI_CERTIFICATE_H
#define CLIENT_CLI_CERTIFICATE_H

#include <jansson.h>

#include "client/cli/judged.h"
#include "client/surefoot.h"
#include "proto/limits.h"

// Owned object of the chosen setting `chosen` among the judged ones. `judge` says who judged
// (borrowed). STATUS_MALFORMED: settings that are none of a sweep's; STATUS_NO_MEMORY.
MUST_CHECK enum status certificate_make(const struct judged *judged,
                                        const struct selection_rule *rule,
                                        const struct selection_tally *tallies, size_t chosen,
                                        json_t *judge, json_t **out, struct error *err);

// Reads one and computes it again; owned. STATUS_NOT_FOUND, STATUS_IO; STATUS_MALFORMED: no
// certificate, or altered, the field says where; STATUS_VERSION: of another schema.
MUST_CHECK enum status certificate_read(const char *path, json_t **out, struct error *err);

// Whether a certificate can be written there: the file is none yet, in a directory where one can be
// made, or a certificate, which is kept. STATUS_ALREADY_EXISTS: it holds something else; STATUS_IO.
MUST_CHECK enum status certificate_check_path(const char *path, struct error *err);

// Writes it, whole or not at all. STATUS_ALREADY_EXISTS: the file holds something else;
// STATUS_IO, STATUS_DISK_FULL, STATUS_NO_MEMORY.
MUST_CHECK enum status certificate_write(const char *path, const json_t *certificate,
                                         struct error *err);

// What a job says of its certificate: the message, borrowing from this struct and the certificate.
struct certificate_claim {
    Surefoot__Certificate message;
    Surefoot__CertifiedModel models[LIMIT_SCORERS + 1];
    Surefoot__CertifiedModel *model_list[LIMIT_SCORERS + 1];
    char info[LIMIT_SCORERS + 1][SHA256_HEX_BYTES];
};

// Of a certificate that was read; the struct must not be moved.
MUST_CHECK enum status certificate_claim(const json_t *certificate, struct certificate_claim *out,
                                         struct error *err);

#endif
