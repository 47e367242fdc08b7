// Whose fault it is. Groups are lost and rows are bad because of the job, because of the group, or
// by chance; who is innocent must not pay for it, and who is not must be stopped.
//
// A job whose candidates were in a lost order is a suspect: its orders are its own from then on, one
// at a time, until it comes further than it was, and with another group if there is one. A suspect that loses LOSSES_MAX groups one after
// the other, alone in each and each order given out after the loss before was known, ends FAILED.
// The count is stored with the job. A bad row is tried with another group. When that does it right,
// the first one was at fault, as it is with every row that no group may send; at GROUP_FAULTS_MAX
// faults a group is set aside. When the second cannot do it either, the job fails.
#include <inttypes.h>

#include "common/log.h"
#include "coordinator/coordinator_internal.h"

enum { LOSSES_MAX = 2 };

static struct job *find_running(const struct coordinator *coordinator, uint64_t job_id) {
    struct job *job = job_table_find_id(coordinator->jobs, job_id);
    return job != NULL && job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING ? job : NULL;
}

static uint64_t tokens_sampled(const struct job *job) {
    struct search_progress progress;
    search_get_progress(job->search, &progress);
    return progress.tokens;
}

static bool has_company(const struct scheduler_order *order) {
    for (size_t i = 1; i < order->n_items; i++) {
        if (order->items[i]->job_id != order->items[0]->job_id) {
            return true;
        }
    }
    return false;
}

// A group was lost that worked on this job alone.
static void count_loss(struct coordinator *coordinator, struct job *job,
                       const struct error *cause) {
    struct job_losses *losses = &job->losses;
    losses->count++;
    losses->at_tokens = tokens_sampled(job);
    losses->newest_id = scheduler_last_order_id(coordinator->scheduler);
    if (losses->count < LOSSES_MAX) {
        log_limited(&coordinator->jobs_log, LOG_LEVEL_WARN,
                    "job %" PRIu64 ": a group was lost while it worked on this job alone", job->id);
        writes_add_losses(coordinator, job);
        return;
    }
    struct error err;
    error_set(&err, STATUS_PEER_LOST, cause->field,
              "%u groups were lost one after the other while they worked on this job alone; the "
              "last: %s",
              losses->count, cause->message);
    log_limited(&coordinator->jobs_log, LOG_LEVEL_ERROR, "job %" PRIu64 " is ended: %s", job->id,
                err.message);
    coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err);
}

void faults_on_lost_order(struct coordinator *coordinator, const struct scheduler_order *order,
                          const struct error *cause) {
    bool company = order != NULL && has_company(order);
    for (size_t i = 0; order != NULL && i < order->n_items; i++) {
        order->items[i]->avoid = order->group; // if it was the group, another one does it
        struct job *job = find_running(coordinator, order->items[i]->job_id);
        if (job == NULL || job->losses.order_id == order->order_id) {
            continue;
        }
        job->losses.order_id = order->order_id;
        job->losses.suspect = true;
        scheduler_set_apart(coordinator->scheduler, job->id, true);
        if (!company && order->order_id > job->losses.newest_id) {
            count_loss(coordinator, job, cause);
        }
    }
}

void faults_on_bad_row(struct coordinator *coordinator, struct scheduler_order *order, size_t index,
                       bool malformed, const struct error *err) {
    struct scheduler_item *item = order->items[index];
    struct job *job = find_running(coordinator, item->job_id);
    const struct group *group = groups_get(coordinator->groups, order->group);
    ASSERT(job != NULL && group != NULL);
    groups_count_bad_row(coordinator->groups, order->group, malformed);
    log_limited(&coordinator->rows_log, LOG_LEVEL_WARN,
                "job %" PRIu64 ": a row of group %s is of no use: %s %s", job->id, group->name,
                err->field, err->message);
    if (!item->was_bad && scheduler_has_other_group(coordinator->scheduler, order->group)) {
        item->avoid = order->group;
        item->was_bad = true;
        scheduler_retry(coordinator->scheduler, order, index);
    } else {
        coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, err);
    }
}

void faults_on_good_row(struct coordinator *coordinator, struct job *job,
                        const struct scheduler_item *item, int group) {
    groups_count_good_row(coordinator->groups, group);
    if (item->was_bad && item->avoid != group) {
        groups_blame(coordinator->groups, item->avoid);
    }
    if (job->losses.suspect && tokens_sampled(job) > job->losses.at_tokens) {
        bool counted = job->losses.count > 0;
        job->losses.suspect = false;
        job->losses.count = 0;
        scheduler_set_apart(coordinator->scheduler, job->id, false);
        if (counted) {
            writes_add_losses(coordinator, job);
        }
    }
}

void faults_judge(struct coordinator *coordinator) {
    int group;
    while ((group = groups_faulty(coordinator->groups)) >= 0) {
        struct error why;
        error_set(&why, STATUS_UNAVAILABLE, NULL,
                  "%d of its rows were bad that other groups do right, or that no group may send",
                  GROUP_FAULTS_MAX);
        log_error("group %s is set aside until it is started again: %s",
                  groups_get(coordinator->groups, group)->name, why.message);
        groups_set_aside(coordinator->groups, group, why.message);
        groups_get(coordinator->groups, group)->is_out = true;
        scheduler_remove_group(coordinator->scheduler, group);
    }
}
