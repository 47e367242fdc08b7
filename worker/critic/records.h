// Samples from the records of a sweep or comparison that asked for states (client/cli/outfile.h):
// jobs of method sample, one roll-out each, in whatever order they were answered. States go to a
// file without a name beside the records, which is mapped, so that memory holds only what is a few
// numbers a state. What the records say of jobs and models makes the critic's terms. One thread.
#ifndef WORKER_CRITIC_RECORDS_H
#define WORKER_CRITIC_RECORDS_H

#include "worker/critic/samples.h"

struct critic_records {
    struct critic_terms terms;
    struct critic_samples samples;       // its arrays are owned
    double budgets[CRITIC_CHANNELS_MAX]; // of the jobs, or of the cost models' profiles; NaN: none
    uint32_t n_trajectories;             // that gave states
    uint32_t n_passed_over;              // without an answer, or without a state before its end
    // Private.
    size_t capacity; // samples
    int states_fd;
    size_t states_bytes; // mapped
    json_t *settings;    // of the first record, without what differs between roll-outs
    json_t *prompts;     // id as text -> number
};

// What is to be trained on them.
struct critic_wanted {
    enum critic_form form;
    double lambda;   // of a value
    int32_t n_parts; // of a latent critic's mixtures
};

// Reads them. A value's rewards are the texts' R - lambda C, for all states of a text; it takes
// every state, whatever tokens the scorers read. Errors name the line and the field:
// STATUS_MALFORMED, STATUS_INVALID_ARGUMENT: no states were asked for, jobs or models that differ,
// several cost scorers in a channel, none where one is needed, rules of words, a cost mode whose
// costs no record holds; STATUS_LIMIT, STATUS_IO, STATUS_DISK_FULL, STATUS_NO_MEMORY. Release with
// critic_records_close, on failure too.
MUST_CHECK enum status critic_records_read(const char *path, const struct critic_wanted *wanted,
                                           struct critic_records *out, struct error *err);
void critic_records_close(struct critic_records *records);

#endif
