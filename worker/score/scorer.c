#include "worker/score/scorer.h"

enum status scorer_job_open(struct scorer *scorer, const struct scorer_job_spec *spec,
                            struct scorer_job **out, struct error *err) {
    return scorer->ops->job_open(scorer, spec, out, err);
}

void scorer_job_close(struct scorer_job *job) {
    if (job != NULL) {
        job->scorer->ops->job_close(job);
    }
}

enum status scorer_prepare(struct scorer *scorer, struct scorer_job *const *jobs, int32_t n,
                           struct error *err) {
    return scorer->ops->prepare(scorer, jobs, n, err);
}

void scorer_job_unload(struct scorer_job *job) {
    job->scorer->ops->job_unload(job);
}

float scorer_prompt_score(const struct scorer_job *job) {
    return job->scorer->ops->prompt_score(job);
}

enum status scorer_state_open(struct scorer_job *job, struct scorer_state **out) {
    return job->scorer->ops->state_open(job, out);
}

enum status scorer_state_fork(const struct scorer_state *parent, struct scorer_state **out) {
    return parent->job->scorer->ops->state_fork(parent, out);
}

void scorer_state_drop(struct scorer_state *state) {
    if (state != NULL) {
        state->job->scorer->ops->state_drop(state);
    }
}

enum status scorer_extend(struct scorer *scorer, struct scorer_extension *extensions, int32_t n,
                          struct error *err) {
    for (int32_t i = 0; i < n; i++) {
        ASSERT(extensions[i].state->job->scorer == scorer && extensions[i].text.n_tokens > 0);
        extensions[i].error = (struct error){0};
    }
    return scorer->ops->extend(scorer, extensions, n, err);
}

void scorer_forget(struct scorer *scorer) {
    if (scorer->ops->forget != NULL) {
        scorer->ops->forget(scorer);
    }
}

void scorer_close(struct scorer *scorer) {
    if (scorer != NULL) {
        scorer->ops->close(scorer);
    }
}
