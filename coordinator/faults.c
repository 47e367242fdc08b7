// Whose fault it is. Groups are lost and rows are bad because of the job, because of the group, or
// by chance; who is innocent must not pay for it, and who is not must be stopped.
//
// A job whose candidates were in a lost order, or in one that waited behind it, is a suspect: its
// orders are its own from then on, one at a time and with another group if there is one, until
// these candidates are back. When that order is lost too, they are sent one by one. So chance,
// which strikes long orders, does not strike the same candidate twice, and who does is found: a job
// ends FAILED when two groups were lost that worked on one candidate of its and on nothing else, or
// LOSSES_MAX that worked on it alone. Losses of orders that were out together count once. What
// counts is stored with the job.
//
// A bad row is tried with another group. When that does it right, the first one was at fault, as it
// is with every row that no group may send; at GROUP_FAULTS_MAX faults a group is set aside. When
// the second cannot do it either, the job fails.
#include <inttypes.h>

#include "common/log.h"
#include "coordinator/coordinator_internal.h"

enum { LOSSES_MAX = 16 };

static struct job *find_running(const struct coordinator *coordinator, uint64_t job_id) {
    struct job *job = job_table_find_id(coordinator->jobs, job_id);
    return job != NULL && job->state == SUREFOOT__JOB_STATE__JOB_STATE_RUNNING ? job : NULL;
}

// Which block of which candidate an item is, within its job.
static uint64_t key_of(const struct scheduler_item *item) {
    return item->candidate_id << 16 | item->n_tokens;
}

static bool has_company(const struct scheduler_order *const *orders, size_t n) {
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < orders[k]->n_items; i++) {
            if (orders[k]->items[i]->job_id != orders[0]->items[0]->job_id) {
                return true;
            }
        }
    }
    return false;
}

static void set_apart(struct coordinator *coordinator, const struct job *job) {
    uint32_t items_max = !job->losses.suspect ? 0 : job->losses.one_by_one ? 1 : UINT32_MAX;
    scheduler_set_apart(coordinator->scheduler, job->id, items_max);
}

void faults_remember(struct job *job, const struct store_losses *losses) {
    job->losses = (struct job_losses){
        .suspect = losses->count > 0,
        .one_by_one = losses->key != 0,
        .awaits_key = losses->key != 0,
        .count = losses->count,
        .key = losses->key,
    };
}

void faults_on_start(struct coordinator *coordinator, const struct job *job) {
    set_apart(coordinator, job);
}

static void end_job(struct coordinator *coordinator, struct job *job, const char *what,
                    const struct error *cause) {
    struct error err;
    error_set(&err, STATUS_PEER_LOST, cause->field, "%s; the last: %s", what, cause->message);
    log_limited(&coordinator->jobs_log, LOG_LEVEL_ERROR, "job %" PRIu64 " is ended: %s", job->id,
                err.message);
    coordinator_stop_job(coordinator, job, SUREFOOT__OUTCOME__OUTCOME_FAILED, &err);
}

// A group was lost that worked on this job alone.
static void count_loss(struct coordinator *coordinator, struct job *job,
                       const struct scheduler_order *order, const struct error *cause) {
    struct job_losses *losses = &job->losses;
    uint64_t key = order->n_items == 1 ? key_of(order->items[0]) : 0;
    losses->count++;
    losses->newest_id = scheduler_last_order_id(coordinator->scheduler);
    if (key != 0 && key == losses->key) {
        end_job(coordinator, job, "two groups were lost that worked on one of its candidates alone",
                cause);
        return;
    }
    if (losses->count >= LOSSES_MAX) {
        end_job(coordinator, job, "16 groups were lost that worked on this job alone", cause);
        return;
    }
    log_limited(&coordinator->jobs_log, LOG_LEVEL_WARN,
                "job %" PRIu64 ": a group was lost that worked on this job alone", job->id);
    losses->key = key;
    losses->one_by_one = true;
    writes_add_losses(coordinator, job);
}

static void suspect(struct coordinator *coordinator, const struct scheduler_order *order,
                    bool company, const struct error *cause) {
    for (size_t i = 0; i < order->n_items; i++) {
        struct scheduler_item *item = order->items[i];
        struct job *job = find_running(coordinator, item->job_id);
        item->avoid = order->group; // if it was the group, another one does it
        if (job == NULL) {
            continue;
        }
        job->losses.pending += item->was_lost ? 0 : 1;
        item->was_lost = true;
        if (job->losses.order_id == order->order_id) {
            continue;
        }
        job->losses.order_id = order->order_id;
        job->losses.suspect = true;
        if (!company && order->order_id > job->losses.newest_id) {
            count_loss(coordinator, job, order, cause);
        }
        set_apart(coordinator, job);
    }
}

void faults_on_lost_orders(struct coordinator *coordinator,
                           const struct scheduler_order *const *orders, size_t n,
                           const struct error *cause) {
    bool company = has_company(orders, n);
    for (size_t k = 0; k < n; k++) {
        suspect(coordinator, orders[k], company, cause);
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
                        struct scheduler_item *item, int group) {
    struct job_losses *losses = &job->losses;
    groups_count_good_row(coordinator->groups, group);
    if (item->was_bad && item->avoid != group) {
        groups_blame(coordinator->groups, item->avoid);
    }
    losses->pending -= item->was_lost ? 1 : 0;
    item->was_lost = false;
    losses->awaits_key = losses->awaits_key && key_of(item) != losses->key;
    if (losses->suspect && losses->pending == 0 && !losses->awaits_key) {
        bool had_key = losses->key != 0;
        losses->suspect = losses->one_by_one = false;
        losses->key = 0;
        set_apart(coordinator, job);
        if (had_key) {
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
        log_limited(&coordinator->groups_log, LOG_LEVEL_ERROR,
                    "group %s is set aside until it is started again: %s",
                    groups_get(coordinator->groups, group)->name, why.message);
        groups_set_aside(coordinator->groups, group, why.message);
        groups_get(coordinator->groups, group)->is_out = true;
        scheduler_remove_group(coordinator->scheduler, group);
    }
}
