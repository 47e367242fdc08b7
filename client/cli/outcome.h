// How a finished job is shown and which exit code it makes.
#ifndef CLIENT_CLI_OUTCOME_H
#define CLIENT_CLI_OUTCOME_H

#include "client/cli/cli.h"
#include "client/surefoot.h"

#define OUTCOME_FIELDS                                                                             \
    "key, outcome, text (when answered), reward, cost, safety_state, budget, channels[name,\n"     \
    "budget, cost, safety_state, admissible], over_budget, scores{scorer: score of the answer},\n" \
    "finish_reason, rule, certificate, seed, n_finished, n_admissible, n_aborted, n_repeats, "     \
    "n_unscored, tries_used, n_restarts, fallback_fired, date, template_variables, "               \
    "prompt_tokens,\ntokens_sampled, tokens_after_choice, rebuilt_tokens, scored_tokens, "         \
    "queue_ms, run_ms, "                                                                           \
    "sampling{temperature, top_k, ..., "                                                           \
    "from_model}, models{name: hash},\nerror{status, field, "                                      \
    "message}; with --states states (base64 of bf16), state_tokens, state_rewards, n_tokens, "     \
    "read_from,\nscorers."

#define OUTCOME_JSON_HELP                                                                          \
    "JSON: " OUTCOME_FIELDS " With --details\ntoken_ids, read_ids "                                \
    "(as scorers read the text), "                                                                 \
    "token_logprobs, scorers[name, role, end_score, token_scores],\ncandidates[candidate_id, "     \
    "parent_id, n_tokens, reward, cost, safety_state, admissible,\nchannels (where there are "     \
    "several), fate, finish_reason]."

struct outcome_view {
    int json;
    int details;
    int show_unsafe;
};

// Prints the result on stdout and returns the exit code of its outcome.
int outcome_print(const Surefoot__JobResult *result, const struct outcome_view *view);

#endif
