// The client library against a scripted service.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/surefoot.h"
#include "common/deadline.h"
#include "tests/client/fake_service.h"
#include "tests/support/testkit.h"

enum { WAIT_MS = 120000, RESEND_MS = 50, ASK_MS = 50 };

static struct surefoot_client *open_client(const char *endpoint, int wake_fd) {
    const struct surefoot_options options = {
        .resend_ms = RESEND_MS, .ask_ms = ASK_MS, .wake_fd = wake_fd};
    struct surefoot_client *client = NULL;
    struct error err;
    assert_ok(surefoot_client_open(endpoint, &options, &client, &err), &err);
    return client;
}

static struct fake_service *start(const struct fake_script *script) {
    return fake_service_start("tcp://127.0.0.1:*", script);
}

static enum status submit_prompt(struct surefoot_client *client, const char *prompt,
                                 const char *key, bool follow, char out[SUREFOOT_KEY_BYTES],
                                 bool *duplicate, struct error *err) {
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = (char *)prompt;
    const struct surefoot_submit args = {
        .spec = &spec, .job_key = key, .follow = follow, .timeout_ms = WAIT_MS};
    return surefoot_submit(client, &args, out, duplicate, err);
}

static void expect_answer(struct surefoot_client *client, const char *key, const char *text) {
    Surefoot__JobResult *result = NULL;
    struct error err;
    assert_ok(surefoot_fetch(client, key, WAIT_MS, WAIT_MS, &result, &err), &err);
    assert_non_null(result);
    assert_string_equal(result->text, text);
    surefoot_result_free(result);
}

static void test_job_from_submission_to_close(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){0});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    bool duplicate = true;
    struct error err;
    assert_ok(submit_prompt(client, "hello", NULL, false, key, &duplicate, &err), &err);
    assert_false(duplicate);
    assert_int_equal(strlen(key), 32);
    expect_answer(client, key, "answer to hello");
    assert_ok(surefoot_close_job(client, key, WAIT_MS, &err), &err);
    assert_ok(surefoot_close_job(client, key, WAIT_MS, &err), &err);
    Surefoot__JobResult *result = NULL;
    assert_status(STATUS_NOT_FOUND, surefoot_fetch(client, key, 0, WAIT_MS, &result, &err));
    assert_string_equal(err.field, "job_key");
    assert_status(STATUS_NOT_FOUND, surefoot_cancel(client, key, WAIT_MS, &err));
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_keys_are_not_repeated(void **state) {
    (void)state;
    char first[SUREFOOT_KEY_BYTES];
    char second[SUREFOOT_KEY_BYTES];
    surefoot_make_key(first);
    surefoot_make_key(second);
    assert_string_not_equal(first, second);
}

static void test_same_key_is_the_same_job(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){0});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    bool duplicate = true;
    struct error err;
    assert_ok(submit_prompt(client, "hello", "mine", false, key, &duplicate, &err), &err);
    assert_false(duplicate);
    assert_ok(submit_prompt(client, "hello", "mine", false, key, &duplicate, &err), &err);
    assert_true(duplicate);
    assert_int_equal(fake_service_jobs(service), 1);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_lost_replies_are_asked_for_again(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.drop_replies = 3});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", NULL, false, key, NULL, &err), &err);
    assert_int_equal(fake_service_jobs(service), 1);
    assert_true(fake_service_requests(service) >= 4);
    expect_answer(client, key, "answer to hello");
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_client_waits_for_a_service_that_starts_later(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    char endpoint[256];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/clients", directory);
    struct surefoot_client *client = open_client(endpoint, -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.prompt = "hello";
    const struct surefoot_submit hasty = {.spec = &spec, .timeout_ms = 100};
    assert_status(STATUS_DEADLINE, surefoot_submit(client, &hasty, key, NULL, &err));
    assert_int_equal(strlen(key), 32); // known, so that it can be submitted again
    struct fake_service *service = fake_service_start(endpoint, &(struct fake_script){0});
    assert_ok(submit_prompt(client, "hello", key, false, key, NULL, &err), &err);
    assert_int_equal(fake_service_jobs(service), 1);
    fake_service_stop(service);
    // A restarted service has lost its jobs here; the connection comes back by itself.
    service = fake_service_start(endpoint, &(struct fake_script){0});
    assert_ok(submit_prompt(client, "hello", key, false, key, NULL, &err), &err);
    expect_answer(client, key, "answer to hello");
    surefoot_client_close(client);
    fake_service_stop(service);
    testkit_remove_tree(directory);
}

static void test_nothing_there_is_a_deadline(void **state) {
    (void)state;
    struct surefoot_client *client = open_client("tcp://127.0.0.1:1", -1);
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    assert_status(STATUS_DEADLINE, surefoot_status(client, 100, &status, &err));
    assert_non_null(strstr(err.message, "tcp://127.0.0.1:1"));
    assert_non_null(strstr(err.message, "100 ms"));
    surefoot_client_close(client);
}

static void test_unfinished_job_has_no_result(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.hold_results = true});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", NULL, false, key, NULL, &err), &err);
    Surefoot__JobResult *result = (void *)&err;
    assert_ok(surefoot_fetch(client, key, 0, WAIT_MS, &result, &err), &err);
    assert_null(result);
    assert_ok(surefoot_cancel(client, key, WAIT_MS, &err), &err);
    fake_service_release(service);
    expect_answer(client, key, "answer to hello");
    surefoot_client_close(client);
    fake_service_stop(service);
}

static int count_results(struct surefoot_client *client, int wanted) {
    int results = 0;
    while (results < wanted) {
        struct surefoot_event event;
        struct error err;
        assert_ok(surefoot_next_event(client, WAIT_MS, &event, &err), &err);
        if (event.kind == SUREFOOT_EVENT_RESULT) {
            assert_string_equal(event.result->job_key, event.job_key);
            results++;
        }
        surefoot_event_free(&event);
    }
    return results;
}

static void follow_many(const struct fake_script *script) {
    enum { JOBS = 40 };
    struct fake_service *service = start(script);
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    struct error err;
    for (int i = 0; i < JOBS; i++) {
        char key[SUREFOOT_KEY_BYTES];
        assert_ok(submit_prompt(client, "hello", NULL, true, key, NULL, &err), &err);
    }
    assert_int_equal(surefoot_followed_count(client), JOBS);
    assert_int_equal(count_results(client, JOBS), JOBS);
    assert_int_equal(surefoot_followed_count(client), 0);
    struct surefoot_event event;
    assert_status(STATUS_NOT_FOUND, surefoot_next_event(client, WAIT_MS, &event, &err));
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_results_of_followed_jobs_are_pushed(void **state) {
    (void)state;
    follow_many(&(struct fake_script){0});
}

static void test_silent_jobs_are_asked_after(void **state) {
    (void)state;
    follow_many(&(struct fake_script){.silent_streams = true});
}

static void test_jobs_are_followed_again_after_a_restart(void **state) {
    (void)state;
    follow_many(&(struct fake_script){.forgets_streams = true}); // fetched results do not come
}

static void test_followed_duplicate_gives_its_old_result(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){0});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", "mine", false, key, NULL, &err), &err);
    expect_answer(client, key, "answer to hello");
    assert_ok(submit_prompt(client, "hello", "mine", true, key, NULL, &err), &err);
    assert_int_equal(count_results(client, 1), 1);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_forgotten_job_is_reported_lost(void **state) {
    (void)state;
    struct fake_service *service =
        start(&(struct fake_script){.forget_asks = 1, .silent_streams = true});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", "mine", true, key, NULL, &err), &err);
    struct surefoot_event event;
    assert_ok(surefoot_next_event(client, WAIT_MS, &event, &err), &err);
    assert_int_equal(event.kind, SUREFOOT_EVENT_LOST);
    assert_string_equal(event.job_key, "mine");
    assert_int_equal(surefoot_followed_count(client), 0);
    surefoot_event_free(&event);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_progress_arrives_while_a_job_runs(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.hold_results = true});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", NULL, true, key, NULL, &err), &err);
    struct surefoot_event event;
    assert_ok(surefoot_next_event(client, WAIT_MS, &event, &err), &err);
    assert_int_equal(event.kind, SUREFOOT_EVENT_PROGRESS);
    assert_int_equal(event.progress->state, SUREFOOT__JOB_STATE__JOB_STATE_QUEUED);
    surefoot_event_free(&event);
    fake_service_release(service);
    assert_int_equal(count_results(client, 1), 1);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_refusal_names_the_field(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.reject_word = "bad"});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_status(STATUS_LIMIT, submit_prompt(client, "bad", NULL, true, key, NULL, &err));
    assert_string_equal(err.field, "spec.prompt");
    assert_int_equal(surefoot_followed_count(client), 0);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_bad_text_is_not_sent(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){0});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_status(STATUS_MALFORMED, submit_prompt(client, "a\xFF", NULL, false, key, NULL, &err));
    assert_string_equal(err.field, "submit.spec.prompt");
    assert_status(STATUS_INVALID_ARGUMENT, submit_prompt(client, "a", "", false, key, NULL, &err));
    assert_string_equal(err.field, "job_key");
    assert_int_equal(fake_service_requests(service), 0);
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_other_schema_is_refused(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.wrong_version = true});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    assert_status(STATUS_VERSION, surefoot_status(client, WAIT_MS, &status, &err));
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_an_answer_of_another_kind_is_no_answer(void **state) {
    (void)state;
    struct fake_service *service = start(&(struct fake_script){.wrong_kind = true});
    struct surefoot_client *client = open_client(fake_service_endpoint(service), -1);
    char key[SUREFOOT_KEY_BYTES];
    struct error err;
    assert_ok(submit_prompt(client, "hello", NULL, false, key, NULL, &err), &err);
    assert_status(STATUS_MALFORMED, surefoot_cancel(client, key, WAIT_MS, &err));
    assert_status(STATUS_MALFORMED, surefoot_close_job(client, key, WAIT_MS, &err));
    surefoot_client_close(client);
    fake_service_stop(service);
}

static void test_wake_descriptor_ends_every_wait(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    struct surefoot_client *client = open_client("tcp://127.0.0.1:1", ends[0]);
    Surefoot__ServiceStatus *status = NULL;
    struct error err;
    assert_status(STATUS_CANCELLED, surefoot_status(client, WAIT_MS, &status, &err));
    surefoot_client_close(client);
    close(ends[0]);
    close(ends[1]);
}

static void test_options_outside_their_range_are_refused(void **state) {
    (void)state;
    struct surefoot_client *client = NULL;
    struct error err;
    const struct surefoot_options options = {.resend_ms = 5, .wake_fd = -1};
    assert_status(STATUS_INVALID_ARGUMENT,
                  surefoot_client_open("tcp://127.0.0.1:1", &options, &client, &err));
    assert_string_equal(err.field, "resend_ms");
    assert_status(STATUS_INVALID_ARGUMENT,
                  surefoot_client_open("tcp://10.1.1.1:1", NULL, &client, &err));
    assert_string_equal(err.field, "endpoint");
    surefoot_client_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_job_from_submission_to_close),
        cmocka_unit_test(test_keys_are_not_repeated),
        cmocka_unit_test(test_same_key_is_the_same_job),
        cmocka_unit_test(test_lost_replies_are_asked_for_again),
        cmocka_unit_test(test_client_waits_for_a_service_that_starts_later),
        cmocka_unit_test(test_nothing_there_is_a_deadline),
        cmocka_unit_test(test_unfinished_job_has_no_result),
        cmocka_unit_test(test_results_of_followed_jobs_are_pushed),
        cmocka_unit_test(test_silent_jobs_are_asked_after),
        cmocka_unit_test(test_jobs_are_followed_again_after_a_restart),
        cmocka_unit_test(test_followed_duplicate_gives_its_old_result),
        cmocka_unit_test(test_forgotten_job_is_reported_lost),
        cmocka_unit_test(test_progress_arrives_while_a_job_runs),
        cmocka_unit_test(test_refusal_names_the_field),
        cmocka_unit_test(test_bad_text_is_not_sent),
        cmocka_unit_test(test_other_schema_is_refused),
        cmocka_unit_test(test_an_answer_of_another_kind_is_no_answer),
        cmocka_unit_test(test_wake_descriptor_ends_every_wait),
        cmocka_unit_test(test_options_outside_their_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
