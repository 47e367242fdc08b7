#include "coordinator/scheduler_job.h"

#include <stdlib.h>
#include <string.h>

bool scheduler_reserve(void *array_pointer, size_t count, size_t *capacity, size_t element_bytes) {
    if (count < *capacity) {
        return true;
    }
    void **array = array_pointer;
    size_t wanted = *capacity == 0 ? 16 : 2 * *capacity;
    void *grown = realloc(*array, wanted * element_bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *capacity = wanted;
    return true;
}

static void penalties_drop(struct scheduler_penalties *penalties) {
    if (penalties != NULL && --penalties->references == 0) {
        free(penalties->token_ids);
        free(penalties->values);
        free(penalties);
    }
}

void scheduler_item_destroy(struct scheduler_item *item) {
    if (item != NULL) {
        penalties_drop(item->penalties);
        free(item);
    }
}

void scheduler_job_destroy(struct scheduler_job *job) {
    for (size_t i = 0; i < job->n_queue; i++) {
        scheduler_item_destroy(job->queue[i]);
    }
    penalties_drop(job->penalties);
    free(job->queue);
    free(job->holder);
    free(job);
}

static bool goes_on(const struct scheduler_item *item) {
    return item->parent_id == item->candidate_id;
}

// What goes on itself is held already: it comes first, so that as few as possible are held.
static void enqueue(struct scheduler_job *job, struct scheduler_item *item) {
    size_t at = job->n_queue;
    if (goes_on(item)) {
        at = 0;
        while (at < job->n_queue && goes_on(job->queue[at])) {
            at++;
        }
    } else {
        job->n_new++;
    }
    memmove(job->queue + at + 1, job->queue + at, (job->n_queue - at) * sizeof *job->queue);
    job->queue[at] = item;
    job->n_queue++;
}

// The penalties of a grow: those of the job's newest item when they are the same.
static struct scheduler_penalties *share_penalties(struct scheduler_job *job,
                                                   const struct search_grow *grow) {
    struct scheduler_penalties *last = job->penalties;
    bool same = last != NULL && last->n == grow->n_penalties &&
                memcmp(last->token_ids, grow->penalty_ids, last->n * sizeof(uint32_t)) == 0 &&
                memcmp(last->values, grow->penalties, last->n * sizeof(float)) == 0;
    if (!same) {
        struct scheduler_penalties *made = calloc(1, sizeof *made);
        if (made == NULL) {
            return NULL;
        }
        made->references = 1;
        made->n = grow->n_penalties;
        made->token_ids = malloc(made->n * sizeof(uint32_t));
        made->values = malloc(made->n * sizeof(float));
        if (made->token_ids == NULL || made->values == NULL) {
            penalties_drop(made);
            return NULL;
        }
        memcpy(made->token_ids, grow->penalty_ids, made->n * sizeof(uint32_t));
        memcpy(made->values, grow->penalties, made->n * sizeof(float));
        penalties_drop(last);
        job->penalties = made;
    }
    job->penalties->references++;
    return job->penalties;
}

static bool push_grow(struct scheduler_job *job, const struct search_grow *grow) {
    struct scheduler_item *item =
        calloc(1, sizeof *item + (size_t)grow->n_tokens * sizeof item->tokens[0]);
    if (item == NULL) {
        return false;
    }
    item->job_id = job->job_id;
    item->candidate_id = grow->candidate_id;
    item->parent_id = grow->parent_id;
    item->grow_tokens = grow->grow_tokens;
    item->unread_by = grow->unread_by;
    item->token_rank = grow->token_rank;
    item->entropy_stop = grow->entropy_stop;
    item->entropy_after = grow->entropy_after;
    item->temperature = grow->temperature;
    item->prefix_index = grow->prefix_index;
    item->avoid = -1;
    item->n_tokens = grow->n_tokens;
    if (grow->n_tokens > 0) {
        memcpy(item->tokens, grow->tokens, (size_t)grow->n_tokens * sizeof item->tokens[0]);
    }
    if (grow->n_penalties > 0) {
        item->penalties = share_penalties(job, grow);
        if (item->penalties == NULL) {
            scheduler_item_destroy(item);
            return false;
        }
    }
    enqueue(job, item);
    return true;
}

enum status scheduler_job_pull(struct scheduler_job *job, size_t wanted) {
    struct search_grow grow;
    while (job->n_queue < wanted) {
        if (!scheduler_reserve(&job->queue, job->n_queue + job->n_out, &job->queue_capacity,
                               sizeof(struct scheduler_item *))) {
            return STATUS_NO_MEMORY;
        }
        if (!job->next(job->context, &grow)) {
            return STATUS_OK;
        }
        if (!push_grow(job, &grow)) {
            return STATUS_NO_MEMORY;
        }
    }
    return STATUS_OK;
}

void scheduler_job_requeue(struct scheduler_job *job, struct scheduler_item *item) {
    ASSERT(job->n_queue < job->queue_capacity && job->n_out > 0);
    memmove(job->queue + 1, job->queue, job->n_queue * sizeof *job->queue);
    job->queue[0] = item;
    job->n_queue++;
    job->n_out--;
}

void scheduler_job_compact(struct scheduler_job *job) {
    size_t kept = 0;
    for (size_t i = 0; i < job->n_queue; i++) {
        if (job->queue[i] != NULL) {
            job->queue[kept++] = job->queue[i];
        }
    }
    job->n_queue = kept;
}

int scheduler_job_home(const struct scheduler_job *job, const struct scheduler_item *item) {
    uint64_t source = item->parent_id;
    return source > 0 && source < job->n_holder ? (int)job->holder[source] - 1 : -1;
}

void scheduler_job_set_holder(struct scheduler_job *job, const struct scheduler_item *item,
                              int group) {
    ASSERT(job->n_out > 0);
    job->n_out--;
    if (!goes_on(item)) {
        ASSERT(job->n_new > 0);
        job->n_new--;
    }
    size_t id = item->candidate_id;
    if (id >= job->n_holder) {
        size_t wanted = 2 * id + 64;
        uint16_t *grown = realloc(job->holder, wanted * sizeof *grown);
        if (grown == NULL) {
            return; // only costs the preference for a group
        }
        memset(grown + job->n_holder, 0, (wanted - job->n_holder) * sizeof *grown);
        job->holder = grown;
        job->n_holder = wanted;
    }
    job->n_held += job->holder[id] == 0 ? 1 : 0;
    job->holder[id] = (uint16_t)(group + 1);
}

int scheduler_job_clear_holder(struct scheduler_job *job, uint64_t candidate_id) {
    if (candidate_id >= job->n_holder || job->holder[candidate_id] == 0) {
        return -1;
    }
    int group = (int)job->holder[candidate_id] - 1;
    job->holder[candidate_id] = 0;
    job->n_held--;
    return group;
}

void scheduler_job_forget_group(struct scheduler_job *job, int group) {
    for (size_t c = 0; c < job->n_holder; c++) {
        if (job->holder[c] == group + 1) {
            job->holder[c] = 0;
            job->n_held--;
        }
    }
}
