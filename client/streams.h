// The jobs that a client follows: for each its newest unread news and when it was last heard of. At
// most one piece of news is kept per job, so memory is bounded by the number of followed jobs.
#ifndef CLIENT_STREAMS_H
#define CLIENT_STREAMS_H

#include "client/surefoot.h"

struct stream {
    char job_key[SUREFOOT_KEY_BYTES];
    int64_t heard_ms;                // monotonic; when it was heard of or asked after last
    uint64_t ask_id;                 // request_id of the open question after it, 0: none
    bool lost;                       // the service does not know it
    Surefoot__JobProgress *progress; // owned, unread, or NULL
    Surefoot__JobResult *result;     // owned, unread, or NULL
};

struct streams {
    struct stream *rows; // [count], in the order of following
    int count;
    int capacity;
    int next; // where the search for news starts, so that no job starves the others
};

// STATUS_LIMIT at SUREFOOT_STREAMS_MAX. A job that is followed already stays as it is.
MUST_CHECK enum status streams_add(struct streams *streams, const char *job_key, struct error *err);
void streams_remove(struct streams *streams, const char *job_key);
void streams_finish(struct streams *streams);

// NULL when there is none. Valid until the next add or remove.
struct stream *streams_find(struct streams *streams, const char *job_key);
struct stream *streams_find_ask(struct streams *streams, uint64_t ask_id);

// Takes the news out of `reply`, for the job that it names; news of other jobs stays there.
void streams_put(struct streams *streams, Surefoot__ClientReply *reply);

// Moves the next piece of news to *event. False when there is none.
bool streams_take(struct streams *streams, struct surefoot_event *event);

// The job that has been silent longest without unread news; NULL when none waits.
struct stream *streams_most_silent(struct streams *streams);

#endif
