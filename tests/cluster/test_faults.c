// Killed parts of a real service: nothing acknowledged is lost, results are those of an undisturbed
// run.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/service.h"
#include "tests/support/testkit.h"

enum { N_JOBS = 8 };

struct fault_jobs {
    char *prompts[N_JOBS];
    Surefoot__JobSpec specs[N_JOBS];
    char keys[N_JOBS][SUREFOOT_KEY_BYTES];
};

static void make_jobs(struct fault_jobs *jobs) {
    for (int i = 0; i < N_JOBS; i++) {
        Surefoot__JobSpec *spec = &jobs->specs[i];
        surefoot__job_spec__init(spec);
        jobs->prompts[i] = service_prompt(i);
        spec->prompt = jobs->prompts[i];
        spec->method = i % 2 ? "best-of-n" : "inference-guard";
        spec->has_n = 1;
        spec->n = 16;
        spec->has_seed = 1;
        spec->seed = (uint64_t)i;
        spec->has_block_tokens = 1;
        spec->block_tokens = 8;
        spec->has_max_tokens = 1;
        spec->max_tokens = 48;
    }
}

static void free_jobs(struct fault_jobs *jobs) {
    for (int i = 0; i < N_JOBS; i++) {
        free(jobs->prompts[i]);
    }
}

static void submit_jobs(struct service *service, struct fault_jobs *jobs, const char *prefix) {
    struct error err;
    for (int i = 0; i < N_JOBS; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s-%d", prefix, i);
        const struct surefoot_submit args = {
            .spec = &jobs->specs[i], .job_key = key, .timeout_ms = SERVICE_WAIT_MS};
        assert_ok(surefoot_submit(service->client, &args, jobs->keys[i], NULL, &err), &err);
    }
}

static void fetch_jobs(struct service *service, const struct fault_jobs *jobs,
                       Surefoot__JobResult *results[N_JOBS]) {
    struct error err;
    for (int i = 0; i < N_JOBS; i++) {
        results[i] = NULL;
        assert_ok(surefoot_fetch(service->client, jobs->keys[i], SERVICE_WAIT_MS, SERVICE_WAIT_MS,
                                 &results[i], &err),
                  &err);
        assert_non_null(results[i]);
    }
}

static void assert_same_answers(Surefoot__JobResult *a[N_JOBS], Surefoot__JobResult *b[N_JOBS]) {
    for (int i = 0; i < N_JOBS; i++) {
        assert_int_equal(a[i]->outcome, b[i]->outcome);
        assert_int_equal(a[i]->n_token_ids, b[i]->n_token_ids);
        if (a[i]->n_token_ids > 0) {
            assert_memory_equal(a[i]->token_ids, b[i]->token_ids,
                                a[i]->n_token_ids * sizeof *a[i]->token_ids);
        }
        assert_memory_equal(&a[i]->reward, &b[i]->reward, sizeof a[i]->reward);
        assert_memory_equal(&a[i]->cost, &b[i]->cost, sizeof a[i]->cost);
    }
}

static void free_results(Surefoot__JobResult *results[N_JOBS]) {
    for (int i = 0; i < N_JOBS; i++) {
        surefoot_result_free(results[i]);
    }
}

// True once the service has sampled something, so that a kill hits work in progress.
static bool work_has_begun(void *context) {
    struct service *service = context;
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    if (surefoot_status(service->client, 1000, &status, &err) != STATUS_OK) {
        return false;
    }
    uint64_t orders = 0;
    for (size_t i = 0; i < status->n_groups; i++) {
        orders += status->groups[i]->orders_done;
    }
    surefoot_status_free(status);
    return orders > 0;
}

static void await_work(struct service *service) {
    assert_true(process_wait_until(work_has_begun, service, SERVICE_WAIT_MS));
}

static void test_killed_parts_lose_nothing(void **state) {
    (void)state;
    struct fault_jobs jobs;
    make_jobs(&jobs);
    Surefoot__JobResult *undisturbed[N_JOBS];
    Surefoot__JobResult *disturbed[N_JOBS];
    struct service service;

    service_start(&service, &(struct service_options){.n_groups = 2, .n_ranks = 1});
    submit_jobs(&service, &jobs, "undisturbed");
    fetch_jobs(&service, &jobs, undisturbed);
    service_stop(&service);

    print_message("a group dies\n");
    service_start(&service, &(struct service_options){.n_groups = 2, .n_ranks = 1});
    submit_jobs(&service, &jobs, "group");
    await_work(&service);
    process_signal_group(&service.groups[1], SIGKILL);
    assert_true(process_wait(&service.groups[1], SERVICE_WAIT_MS, NULL));
    service_start_group(&service, 1);
    fetch_jobs(&service, &jobs, disturbed);
    assert_same_answers(undisturbed, disturbed);
    free_results(disturbed);

    print_message("the coordinator dies, its groups find the new one\n");
    submit_jobs(&service, &jobs, "coordinator");
    process_signal(&service.coordinator, SIGKILL);
    assert_true(process_wait(&service.coordinator, SERVICE_WAIT_MS, NULL));
    service_start_coordinator(&service);
    service_await_groups(&service, 2);
    fetch_jobs(&service, &jobs, disturbed);
    assert_same_answers(undisturbed, disturbed);
    free_results(disturbed);

    print_message("results survive a restart until they are closed\n");
    process_signal(&service.coordinator, SIGKILL);
    assert_true(process_wait(&service.coordinator, SERVICE_WAIT_MS, NULL));
    service_start_coordinator(&service);
    fetch_jobs(&service, &jobs, disturbed);
    assert_same_answers(undisturbed, disturbed);
    free_results(disturbed);
    struct error err;
    assert_ok(surefoot_close_job(service.client, jobs.keys[0], SERVICE_WAIT_MS, &err), &err);
    Surefoot__JobResult *closed = NULL;
    assert_status(STATUS_NOT_FOUND,
                  surefoot_fetch(service.client, jobs.keys[0], 0, SERVICE_WAIT_MS, &closed, &err));

    print_message("the client goes away, its job does not\n");
    surefoot_client_close(service.client);
    assert_ok(surefoot_client_open(service.client_endpoint, NULL, &service.client, &err), &err);
    submit_jobs(&service, &jobs, "client");
    surefoot_client_close(service.client);
    assert_ok(surefoot_client_open(service.client_endpoint, NULL, &service.client, &err), &err);
    fetch_jobs(&service, &jobs, disturbed);
    assert_same_answers(undisturbed, disturbed);
    free_results(disturbed);

    service_stop(&service);
    free_results(undisturbed);
    free_jobs(&jobs);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_parts_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
