#include "coordinator/job_table.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS_FIRST = 256 };

// The queued jobs of one peer, oldest first; exists while there are any.
struct job_line {
    struct channel_peer peer;
    struct job *first;
    struct job *last;
    struct job_line *next; // in the order of turns
    struct job_line *previous;
    struct job_line *next_by_peer;
};

struct job_table {
    struct job **by_key;       // [n_buckets] chains
    struct job **by_id;        // [n_buckets] chains
    struct job_line **by_peer; // [n_buckets] chains
    size_t n_buckets;          // a power of two
    size_t n_jobs;
    struct job_line *turn_first;
    struct job_line *turn_last;
    size_t n_queued;
};

// FNV-1a, 64 bits (Fowler, Noll, Vo).
static size_t hash_bytes(const void *bytes, size_t size) {
    const unsigned char *at = bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return (size_t)(hash ^ (hash >> 32));
}

static size_t hash_id(uint64_t id) {
    return (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static struct job **key_chain(const struct job_table *table, const char *key) {
    return &table->by_key[hash_bytes(key, strlen(key)) & (table->n_buckets - 1)];
}

static struct job **id_chain(const struct job_table *table, uint64_t id) {
    return &table->by_id[hash_id(id) & (table->n_buckets - 1)];
}

static struct job_line **peer_chain(const struct job_table *table,
                                    const struct channel_peer *peer) {
    return &table->by_peer[hash_bytes(peer->bytes, peer->size) & (table->n_buckets - 1)];
}

enum status job_table_create(struct job_table **out) {
    struct job_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return STATUS_NO_MEMORY;
    }
    table->n_buckets = BUCKETS_FIRST;
    table->by_key = calloc(table->n_buckets, sizeof(struct job *));
    table->by_id = calloc(table->n_buckets, sizeof(struct job *));
    table->by_peer = calloc(table->n_buckets, sizeof(struct job_line *));
    if (table->by_key == NULL || table->by_id == NULL || table->by_peer == NULL) {
        job_table_destroy(table);
        return STATUS_NO_MEMORY;
    }
    *out = table;
    return STATUS_OK;
}

void job_table_destroy(struct job_table *table) {
    if (table == NULL) {
        return;
    }
    for (size_t b = 0; table->by_id != NULL && b < table->n_buckets; b++) {
        for (struct job *job = table->by_id[b]; job != NULL;) {
            struct job *next = job->next_by_id;
            job_destroy(job);
            job = next;
        }
    }
    for (struct job_line *line = table->turn_first; line != NULL;) {
        struct job_line *next = line->next;
        free(line);
        line = next;
    }
    free(table->by_key);
    free(table->by_id);
    free(table->by_peer);
    free(table);
}

static void link_job(struct job_table *table, struct job *job) {
    struct job **keys = key_chain(table, job->key);
    struct job **ids = id_chain(table, job->id);
    job->next_by_key = *keys;
    *keys = job;
    job->next_by_id = *ids;
    *ids = job;
}

static enum status grow(struct job_table *table) {
    struct job_table larger = {.n_buckets = 2 * table->n_buckets};
    larger.by_key = calloc(larger.n_buckets, sizeof(struct job *));
    larger.by_id = calloc(larger.n_buckets, sizeof(struct job *));
    larger.by_peer = calloc(larger.n_buckets, sizeof(struct job_line *));
    if (larger.by_key == NULL || larger.by_id == NULL || larger.by_peer == NULL) {
        free(larger.by_key);
        free(larger.by_id);
        free(larger.by_peer);
        return STATUS_NO_MEMORY;
    }
    for (size_t b = 0; b < table->n_buckets; b++) {
        for (struct job *job = table->by_id[b]; job != NULL;) {
            struct job *next = job->next_by_id;
            link_job(&larger, job);
            job = next;
        }
    }
    for (struct job_line *line = table->turn_first; line != NULL; line = line->next) {
        struct job_line **chain = peer_chain(&larger, &line->peer);
        line->next_by_peer = *chain;
        *chain = line;
    }
    free(table->by_key);
    free(table->by_id);
    free(table->by_peer);
    table->by_key = larger.by_key;
    table->by_id = larger.by_id;
    table->by_peer = larger.by_peer;
    table->n_buckets = larger.n_buckets;
    return STATUS_OK;
}

static void append_turn(struct job_table *table, struct job_line *line) {
    line->next = NULL;
    line->previous = table->turn_last;
    *(table->turn_last != NULL ? &table->turn_last->next : &table->turn_first) = line;
    table->turn_last = line;
}

static void remove_turn(struct job_table *table, struct job_line *line) {
    *(line->previous != NULL ? &line->previous->next : &table->turn_first) = line->next;
    *(line->next != NULL ? &line->next->previous : &table->turn_last) = line->previous;
}

// The line of a peer, made if there is none; NULL without memory.
static struct job_line *find_line(struct job_table *table, const struct channel_peer *peer) {
    struct job_line **chain = peer_chain(table, peer);
    for (struct job_line *line = *chain; line != NULL; line = line->next_by_peer) {
        if (line->peer.size == peer->size &&
            memcmp(line->peer.bytes, peer->bytes, peer->size) == 0) {
            return line;
        }
    }
    struct job_line *line = calloc(1, sizeof *line);
    if (line != NULL) {
        line->peer = *peer;
        line->next_by_peer = *chain;
        *chain = line;
        append_turn(table, line);
    }
    return line;
}

static void remove_line(struct job_table *table, struct job_line *line) {
    struct job_line **at = peer_chain(table, &line->peer);
    while (*at != line) {
        at = &(*at)->next_by_peer;
    }
    *at = line->next_by_peer;
    remove_turn(table, line);
    free(line);
}

enum status job_table_add(struct job_table *table, struct job *job,
                          const struct channel_peer *peer) {
    static const struct channel_peer nobody = {.size = 0};
    ASSERT(job_table_find_id(table, job->id) == NULL);
    if (table->n_jobs >= table->n_buckets) {
        enum status status = grow(table);
        if (status != STATUS_OK) {
            return status;
        }
    }
    struct job_line *line = find_line(table, peer != NULL ? peer : &nobody);
    if (line == NULL) {
        return STATUS_NO_MEMORY;
    }
    link_job(table, job);
    table->n_jobs++;
    job->line = line;
    job->next_in_line = NULL;
    job->previous_in_line = line->last;
    *(line->last != NULL ? &line->last->next_in_line : &line->first) = job;
    line->last = job;
    table->n_queued++;
    return STATUS_OK;
}

static void leave_queue(struct job_table *table, struct job *job) {
    struct job_line *line = job->line;
    if (line == NULL) {
        return;
    }
    struct job *next = job->next_in_line;
    struct job *previous = job->previous_in_line;
    *(previous != NULL ? &previous->next_in_line : &line->first) = next;
    *(next != NULL ? &next->previous_in_line : &line->last) = previous;
    job->line = NULL;
    table->n_queued--;
    if (line->first == NULL) {
        remove_line(table, line);
    }
}

void job_table_remove(struct job_table *table, struct job *job) {
    struct job **at = key_chain(table, job->key);
    while (*at != job) {
        at = &(*at)->next_by_key;
    }
    *at = job->next_by_key;
    at = id_chain(table, job->id);
    while (*at != job) {
        at = &(*at)->next_by_id;
    }
    *at = job->next_by_id;
    table->n_jobs--;
    leave_queue(table, job);
    job_destroy(job);
}

struct job *job_table_find_key(const struct job_table *table, const char *key) {
    struct job *job = *key_chain(table, key);
    while (job != NULL && strcmp(job->key, key) != 0) {
        job = job->next_by_key;
    }
    return job;
}

struct job *job_table_find_id(const struct job_table *table, uint64_t id) {
    struct job *job = *id_chain(table, id);
    while (job != NULL && job->id != id) {
        job = job->next_by_id;
    }
    return job;
}

struct job *job_table_pop(struct job_table *table) {
    struct job_line *line = table->turn_first;
    if (line == NULL) {
        return NULL;
    }
    struct job *job = line->first;
    remove_turn(table, line);
    append_turn(table, line);
    leave_queue(table, job);
    return job;
}

void job_table_unqueue(struct job_table *table, struct job *job) {
    leave_queue(table, job);
}

size_t job_table_queued(const struct job_table *table) {
    return table->n_queued;
}

void job_table_visit(const struct job_table *table, void (*visit)(void *context, struct job *job),
                     void *context) {
    for (size_t b = 0; b < table->n_buckets; b++) {
        for (struct job *job = table->by_id[b]; job != NULL; job = job->next_by_id) {
            visit(context, job);
        }
    }
}
