// The jobs that are not yet finished and stored, by key and by number, and the queue of those that
// wait for their turn to be searched. Owns the jobs.
#ifndef COORDINATOR_JOB_TABLE_H
#define COORDINATOR_JOB_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "coordinator/job.h"
#include "proto/channel.h"

struct job_table;

MUST_CHECK enum status job_table_create(struct job_table **out);
void job_table_destroy(struct job_table *table); // with its jobs; NULL allowed

// Takes `job` and queues it behind those of the same peer; NULL is the peer of all jobs of an
// earlier process. Its key and number must be new. STATUS_NO_MEMORY: not taken.
MUST_CHECK enum status job_table_add(struct job_table *table, struct job *job,
                                     const struct channel_peer *peer);
// Takes a job out, the queue included, and destroys it.
void job_table_remove(struct job_table *table, struct job *job);

struct job *job_table_find_key(const struct job_table *table, const char *key); // or NULL
struct job *job_table_find_id(const struct job_table *table, uint64_t id);      // or NULL

// Takes the oldest job of the peer whose turn it is out of the queue, not out of the table; NULL
// when the queue is empty. Peers with queued jobs take turns.
struct job *job_table_pop(struct job_table *table);

// Takes a job out of the queue, if it is there, but leaves it in the table.
void job_table_unqueue(struct job_table *table, struct job *job);

size_t job_table_queued(const struct job_table *table);

// Calls `visit` for every job; it must not add or remove any.
void job_table_visit(const struct job_table *table, void (*visit)(void *context, struct job *job),
                     void *context);

#endif
