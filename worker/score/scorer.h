// The scorer seam: what judges candidates. A scorer is loaded once and serves many jobs; a job
// opens it with its prompt (scorer_job), every candidate has a state of its own (scorer_state) that
// is forked and dropped with it. One call extends many candidates of many jobs and reads only what
// is new since the state's last extension: a model its tokens (for a tokenizer of its own the text
// is tokenized from its beginning), words the text behind what no continuation changes. The scores
// are those of reading the whole text from scratch, bit for bit. While a candidate grows, they read
// the tokens that the policy wrote; once it has ended, the reading of the text that is returned
// (worker/decode/response.h). Engine thread only.
#ifndef WORKER_SCORE_SCORER_H
#define WORKER_SCORE_SCORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "proto/wire.h"
#include "worker/tokenizer/template.h"

enum scorer_role { SCORER_ROLE_REWARD, SCORER_ROLE_COST };

struct scorer_job_spec {
    enum scorer_role role;
    struct chat chat;                     // the prompt; borrowed during open
    const struct template *template;      // model scorers: of the model's set; borrowed likewise
    const Surefoot__LexicalSpec *lexical; // lexical scorers; borrowed during open
    bool cost_eos_append;                 // job's cost_eos is "append"
    int32_t max_tokens;                   // of the response, policy tokens
};

// A candidate's whole response so far, in tokens of the policy's. Borrowed during the call.
struct scorer_text {
    const int32_t *token_ids; // [n_tokens]
    const int32_t *text_ends; // [n_tokens], bytes of `text` complete after each token, ascending
    int32_t n_tokens;         // > 0
    const char *text;         // [text_ends[n_tokens - 1]], valid UTF-8
    bool ended;               // the last token is an end token; it has no text
    bool finished;            // nothing follows
    bool empty;               // there is no token: the one place stands for the end of the text
};

struct scorer_state;

// One candidate of a batch. A reading begins with the text of the state's last extension, or is a
// beginning of it where a stop string ends it.
struct scorer_extension {
    struct scorer_state *state;
    struct scorer_text text; // extends the text of the state's last extension, or is its reading
    float *token_scores;     // out [text.n_tokens], written from scores_from on; NULL: not wanted
    int32_t scores_from;     // out: earlier tokens' scores are as the last extension gave them
    float end_score;         // out: after the last token so far
    struct error error;      // out: status STATUS_OK, or why this candidate has no scores
};

struct scorer;
struct scorer_job;

struct scorer_ops {
    const char *name;
    enum status (*job_open)(struct scorer *scorer, const struct scorer_job_spec *spec,
                            struct scorer_job **out, struct error *err);
    void (*job_close)(struct scorer_job *job);
    enum status (*prepare)(struct scorer *scorer, struct scorer_job *const *jobs, int32_t n,
                           struct error *err);
    void (*job_unload)(struct scorer_job *job);
    float (*prompt_score)(const struct scorer_job *job);
    enum status (*state_open)(struct scorer_job *job, struct scorer_state **out);
    enum status (*state_fork)(const struct scorer_state *parent, struct scorer_state **out);
    void (*state_drop)(struct scorer_state *state);
    enum status (*extend)(struct scorer *scorer, struct scorer_extension *extensions, int32_t n,
                          struct error *err);
    void (*forget)(struct scorer *scorer); // NULL: keeps nothing
    void (*close)(struct scorer *scorer);
};

// What a scorer has read since it was opened.
struct scorer_counts {
    int64_t prompt_tokens;
    int64_t response_tokens; // rebuilds and end tokens that it forgets included
};

// Embedded first in each implementation's structs.
struct scorer {
    const struct scorer_ops *ops;
    struct scorer_counts counts; // zero where nothing is read token by token
};
struct scorer_job {
    struct scorer *scorer;
    enum scorer_role role;
    int64_t response_tokens; // its part of the scorer's count
};
struct scorer_state {
    struct scorer_job *job; // borrowed; outlives its states
};

// Opens a job: tokenizes its prompt, compiles its patterns; computes nothing yet. STATUS_LIMIT: the
// prompt and max_tokens do not fit the scorer's context (err->field "prompt");
// STATUS_INVALID_ARGUMENT names the member of the ScorerSpec, such as "lexical.forbidden_regex[2]";
// STATUS_NO_MEMORY.
MUST_CHECK enum status scorer_job_open(struct scorer *scorer, const struct scorer_job_spec *spec,
                                       struct scorer_job **out, struct error *err);
void scorer_job_close(struct scorer_job *job); // after its states; NULL allowed

// Makes jobs of this scorer ready for states: reads the prompts of those that are not, in one
// batch. STATUS_LIMIT: the KV does not suffice.
MUST_CHECK enum status scorer_prepare(struct scorer *scorer, struct scorer_job *const *jobs,
                                      int32_t n, struct error *err);

// Gives up what `prepare` holds; states that live keep what they share with it.
void scorer_job_unload(struct scorer_job *job);

// Score at the end of the prompt; of a prepared job.
float scorer_prompt_score(const struct scorer_job *job);

// A state at the end of the prompt; the job must be prepared. STATUS_LIMIT: no sequence is free.
MUST_CHECK enum status scorer_state_open(struct scorer_job *job, struct scorer_state **out);
MUST_CHECK enum status scorer_state_fork(const struct scorer_state *parent,
                                         struct scorer_state **out);
void scorer_state_drop(struct scorer_state *state); // NULL allowed

// Extends the states of n candidates, each at most once, and scores them. A failure of one
// candidate is its extension's error. STATUS_LIMIT: the KV does not suffice for all;
// STATUS_NO_MEMORY, STATUS_DEVICE: after these three the states of this call can only be dropped.
MUST_CHECK enum status scorer_extend(struct scorer *scorer, struct scorer_extension *extensions,
                                     int32_t n, struct error *err);

// Gives up what is kept only to save work.
void scorer_forget(struct scorer *scorer);

void scorer_close(struct scorer *scorer); // after its jobs; NULL allowed

#endif
