// The fields of a JobSpec that say how to search, a row each: what a value must be, what an absent
// one means, which methods read it, how help describes it. The coordinator's checks and defaults,
// the flags and records of the command line and the tables of docs/protocol.md come from these
// rows; tests/proto/test_job_fields.c compares the latter. Plain data; any thread.
#ifndef PROTO_JOB_FIELDS_H
#define PROTO_JOB_FIELDS_H

#include <stdbool.h>
#include <stddef.h>

#include "client.pb-c.h"
#include "proto/job_choices.h"

enum job_field_index { // in the order of help and documents
    JOB_FIELD_METHOD,
    JOB_FIELD_SELECTION,
    JOB_FIELD_N,
    JOB_FIELD_SURVIVORS,
    JOB_FIELD_BLOCK_TOKENS,
    JOB_FIELD_BLOCK_GROWTH,
    JOB_FIELD_BLOCK_TOKENS_MAX,
    JOB_FIELD_N_MIN,
    JOB_FIELD_PATIENCE,
    JOB_FIELD_ABORT_TOKENS,
    JOB_FIELD_MAX_TOKENS,
    JOB_FIELD_TRIES,
    JOB_FIELD_BUDGET,
    JOB_FIELD_DISCOUNT,
    JOB_FIELD_DISCOUNT_UNIT,
    JOB_FIELD_DISCOUNT_REWARD,
    JOB_FIELD_COST_MODE,
    JOB_FIELD_ADMIT_RULE,
    JOB_FIELD_COST_EOS,
    JOB_FIELD_LAGRANGIAN_LAMBDA,
    JOB_FIELD_FALLBACK_PENALTY,
    JOB_FIELD_FALLBACK_WEIGHT,
    JOB_FIELD_FALLBACK_CAP,
    JOB_FIELD_FALLBACK_TEMPERATURE,
    JOB_FIELD_COST_MIN,
    JOB_FIELD_EARLY_STOP,
    JOB_FIELD_REJECTION_ALPHA,
    JOB_FIELD_REWARD_THRESHOLD,
    JOB_FIELD_THRESHOLD_START,
    JOB_FIELD_ACCEPT_TEMPERATURE,
    JOB_FIELD_ENTROPY_THRESHOLD,
    JOB_FIELD_SEGMENT_TOKENS_MIN,
    JOB_FIELD_OMEGA,
    JOB_FIELD_STEPS,
    JOB_FIELD_ALPHA,
    JOB_FIELD_TILT,
    JOB_FIELD_TILT_T,
    JOB_FIELD_TILT_N,
    JOB_FIELD_TILT_KL,
    JOB_FIELD_TILT_BETA,
    JOB_FIELD_TILT_SAMPLER,
    JOB_FIELD_TILT_RANK_SET,
    JOB_FIELD_CALIBRATE,
    JOB_FIELD_DEADLINE_MS,
    JOB_FIELD_STATES,
    JOB_FIELD_CRITIC,
    JOB_FIELD_CRITIC_KEEP,
    JOB_FIELDS_COUNT,
};

enum job_field_kind {
    JOB_FIELD_KIND_U32,
    JOB_FIELD_KIND_REAL,
    JOB_FIELD_KIND_BOOL,
    JOB_FIELD_KIND_CHOICE, // a name; as a number one of proto/job_choices.h
};

struct job_field {
    const char *name; // as in client.proto
    enum job_field_kind kind;
    double low;                 // range of numbers
    double high;                // likewise
    bool up_to_n;               // n is the limit if that is less
    bool above_low;             // low itself is outside
    const char *const *choices; // [1..], by number; NULL ends them
    double fallback; // what an absent field is, of a choice its number; 0 for a choice: no default
    bool of_model;   // an absent field is first what a model's profile or configuration says
    bool required;   // there is no default: methods that read it need it
    const char *before; // the default in words: this, the fallback and `after`
    const char *after;
    unsigned methods;    // that read it, as bits 1 << number; 0: all
    unsigned selections; // under which they do; 0: all
    unsigned tilts;      // and which tilts; 0: all, and none
    bool of_retries;     // and only where tries is above 1
    bool of_sharing;     // and only where critic is latent+cost
    bool of_channel;     // a ChannelSpec has the field too
    const char *about;   // for help; NULL: the choices
};

// A method as clients know it; coordinator/search has its work.
struct job_method {
    enum search_selection own_selection; // of a job that names none
    bool chooses_selection;
    uint32_t n_fixed;      // candidates; 0: as many as are asked for
    uint32_t n;            // of a job that asks for none; 0: the field's default
    bool without_reward;   // it needs no reward scorer
    uint32_t block_tokens; // of a job that gives none; 0: the field's default
    bool block_fixed;      // and of every job
    bool takes_by_rank;    // it draws no token: sampling options have no effect
    bool follows_value;    // it moves states along the groups' value network
};

enum { JOB_FIELD_TEXT_BYTES = 128 };

const struct job_field *job_field_get(enum job_field_index index); // static storage

// The method of a job; one that is unknown reads all.
const struct job_method *job_method_of(const Surefoot__JobSpec *spec);

const struct job_method *job_method_get(int number); // 0: of an unknown one

bool job_field_is_set(enum job_field_index index, const Surefoot__JobSpec *spec);
void job_field_clear(enum job_field_index index,
                     Surefoot__JobSpec *spec); // a text stays its owner's

// Where the value of a field lies (uint32_t, double, protobuf_c_boolean, char *), and where whether
// it is there; NULL for a choice, which says so itself.
void *job_field_place(enum job_field_index index, Surefoot__JobSpec *spec);
protobuf_c_boolean *job_field_has_place(enum job_field_index index, Surefoot__JobSpec *spec);

// The name that a job gives, as it is; NULL: none.
const char *job_field_text(enum job_field_index index, const Surefoot__JobSpec *spec);

// What a set field is, or an absent one without a word from a model. Truth is 0 or 1, a choice its
// number, an unknown name 0.
double job_field_number(enum job_field_index index, const Surefoot__JobSpec *spec);

// What an absent field is in this job, likewise.
double job_field_fallback(enum job_field_index index, const Surefoot__JobSpec *spec);

// Whether an absent field of this job is its fallback whatever the models say.
bool job_field_has_fallback(enum job_field_index index, const Surefoot__JobSpec *spec);

// Whether the job's method under its selection reads the field, as the job's tries say; true for
// names that are unknown.
bool job_field_is_read(enum job_field_index index, const Surefoot__JobSpec *spec);

// Whether numbers that the job leaves absent are first what the policy's generation_config says.
bool job_asks_model(const Surefoot__JobSpec *spec);

// The names of the two channels that a job does not declare: of its own fields, and of rules of
// words, which no budget allows to break.
#define JOB_CHANNEL_COST "cost"
#define JOB_CHANNEL_RULES "rules"

// A job whose fields are those of a channel, the others absent, and back: by these the functions
// above serve channels too. Texts are borrowed.
void job_channel_fields(const Surefoot__ChannelSpec *channel, Surefoot__JobSpec *out);
void job_channel_set_fields(const Surefoot__JobSpec *fields, Surefoot__ChannelSpec *out);

// Name and number of a choice; 0 and NULL for those that are not there.
int job_choice_parse(enum job_field_index index, const char *name);
const char *job_choice_name(enum job_field_index index, int number);

// The choices with ", " between them, and the default in words; both end in NUL.
void job_choices_text(enum job_field_index index, char out[JOB_FIELD_TEXT_BYTES]);
void job_field_default_text(enum job_field_index index, char out[JOB_FIELD_TEXT_BYTES]);

#endif
