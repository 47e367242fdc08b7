// A scripted coordinator for tests of clients: a thread that answers requests from a table of jobs
// and misbehaves on demand. Nothing about a job is computed; its result is "answer to <prompt>".
#ifndef TESTS_CLIENT_FAKE_SERVICE_H
#define TESTS_CLIENT_FAKE_SERVICE_H

#include <stdbool.h>

struct fake_service;

// What the service does wrong. All zero: nothing.
struct fake_script {
    int drop_replies;        // so many replies are lost, the work behind them done
    int refuse_submits;      // so many submissions are answered UNAVAILABLE
    bool silent_streams;     // results are not pushed, only fetched
    bool forgets_streams;    // submissions are not followed by pushes, as after a restart
    bool hold_results;       // jobs stay QUEUED until fake_service_release
    int results_max;         // after so many results jobs stay QUEUED; 0: no limit
    int forget_asks;         // at so many questions after a job it is forgotten
    bool over_budget;        // results are over budget
    bool no_groups;          // the state shows no group
    bool refuses_admin;      // lists and purges are refused
    int alive_asks;          // from this question after the state on its group is lost; 0: never
    bool wrong_version;      // replies carry another schema major
    bool wrong_kind;         // a cancel is answered as a close and a close as a cancel
    const char *reject_word; // prompts with this word are refused at submission, field spec.prompt
    const char *fail_word;   // prompts with this word end FAILED
    const char *refuse_word; // prompts with this word end NO_SAFE_CANDIDATE
    const char *refuse_method; // only under this method; under others they cost 100. NULL: any
};

// Listens at `endpoint` ("tcp://127.0.0.1:*" for a free port). Fails the test when it cannot.
struct fake_service *fake_service_start(const char *endpoint, const struct fake_script *script);

// Lists and purges take two jobs at a time.
void fake_service_stop(struct fake_service *service);

const char *fake_service_endpoint(const struct fake_service *service);

void fake_service_release(struct fake_service *service); // ends hold_results

// Counters so far.
int fake_service_requests(struct fake_service *service); // all messages
int fake_service_jobs(struct fake_service *service);     // submissions with a key not known before
int fake_service_open(struct fake_service *service);     // jobs not closed

#endif
