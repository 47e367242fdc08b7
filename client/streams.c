#include "client/streams.h"

#include <stdlib.h>
#include <string.h>

#include "common/deadline.h"
#include "proto/wire.h"

static void free_progress(Surefoot__JobProgress *progress) {
    // JobProgress is no type of its own on the wire, but any message can be freed by itself.
    if (progress != NULL) {
        surefoot__job_progress__free_unpacked(progress, NULL);
    }
}

static void finish_row(struct stream *row) {
    free_progress(row->progress);
    surefoot_result_free(row->result);
}

enum status streams_add(struct streams *streams, const char *job_key, struct error *err) {
    if (streams_find(streams, job_key) != NULL) {
        return STATUS_OK;
    }
    if (streams->count == SUREFOOT_STREAMS_MAX) {
        return error_set(err, STATUS_LIMIT, "follow", "%d jobs are followed already, the limit",
                         SUREFOOT_STREAMS_MAX);
    }
    if (streams->count == streams->capacity) {
        int capacity = streams->capacity == 0 ? 16 : 2 * streams->capacity;
        struct stream *rows = realloc(streams->rows, (size_t)capacity * sizeof *rows);
        if (rows == NULL) {
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for one more followed job");
        }
        streams->rows = rows;
        streams->capacity = capacity;
    }
    struct stream *row = &streams->rows[streams->count++];
    *row = (struct stream){.heard_ms = clock_monotonic_ms()};
    memcpy(row->job_key, job_key, strlen(job_key) + 1);
    return STATUS_OK;
}

static void remove_row(struct streams *streams, struct stream *row) {
    finish_row(row);
    int after = streams->count - (int)(row - streams->rows) - 1;
    memmove(row, row + 1, (size_t)after * sizeof *row);
    streams->count--;
}

void streams_remove(struct streams *streams, const char *job_key) {
    struct stream *row = streams_find(streams, job_key);
    if (row != NULL) {
        remove_row(streams, row);
    }
}

void streams_finish(struct streams *streams) {
    for (int i = 0; i < streams->count; i++) {
        finish_row(&streams->rows[i]);
    }
    free(streams->rows);
    *streams = (struct streams){0};
}

struct stream *streams_find(struct streams *streams, const char *job_key) {
    for (int i = 0; i < streams->count; i++) {
        if (strcmp(streams->rows[i].job_key, job_key) == 0) {
            return &streams->rows[i];
        }
    }
    return NULL;
}

struct stream *streams_find_ask(struct streams *streams, uint64_t ask_id) {
    for (int i = 0; i < streams->count; i++) {
        if (streams->rows[i].ask_id == ask_id) {
            return &streams->rows[i];
        }
    }
    return NULL;
}

void streams_put(struct streams *streams, Surefoot__ClientReply *reply) {
    const char *key = reply->result != NULL     ? reply->result->job_key
                      : reply->progress != NULL ? reply->progress->job_key
                                                : NULL;
    struct stream *row = key == NULL ? NULL : streams_find(streams, key);
    if (row == NULL) {
        return;
    }
    row->heard_ms = clock_monotonic_ms();
    if (reply->result != NULL && row->result == NULL) {
        row->result = reply->result;
        reply->result = NULL;
    } else if (reply->progress != NULL && row->result == NULL) {
        free_progress(row->progress);
        row->progress = reply->progress;
        reply->progress = NULL;
    }
}

static bool has_news(const struct stream *row) {
    return row->result != NULL || row->lost || row->progress != NULL;
}

bool streams_take(struct streams *streams, struct surefoot_event *event) {
    for (int i = 0; i < streams->count; i++) {
        int index = (streams->next + i) % streams->count;
        struct stream *row = &streams->rows[index];
        if (!has_news(row)) {
            continue;
        }
        *event = (struct surefoot_event){.kind = row->result != NULL ? SUREFOOT_EVENT_RESULT
                                                 : row->lost         ? SUREFOOT_EVENT_LOST
                                                                     : SUREFOOT_EVENT_PROGRESS};
        memcpy(event->job_key, row->job_key, sizeof event->job_key);
        streams->next = index + 1;
        if (event->kind == SUREFOOT_EVENT_PROGRESS) {
            event->progress = row->progress;
            row->progress = NULL;
            return true;
        }
        event->result = row->result;
        row->result = NULL;
        remove_row(streams, row);
        streams->next = index;
        return true;
    }
    return false;
}

struct stream *streams_most_silent(struct streams *streams) {
    struct stream *silent = NULL;
    for (int i = 0; i < streams->count; i++) {
        struct stream *row = &streams->rows[i];
        if (!has_news(row) && (silent == NULL || row->heard_ms < silent->heard_ms)) {
            silent = row;
        }
    }
    return silent;
}

void surefoot_event_free(struct surefoot_event *event) {
    free_progress(event->progress);
    surefoot_result_free(event->result);
    event->progress = NULL;
    event->result = NULL;
}
