// A scorer of words: required and forbidden words and patterns, and the number of words. It has no
// weights; everything it knows comes with the job (LexicalSpec).
//
// Entries of `required` and `forbidden` match as whole words (or phrases: neither side touches a
// letter, digit or underscore), without regard to case in the sense of Unicode. Entries of the
// regex lists are PCRE2 patterns with UTF and Unicode classes, case-sensitive unless they say (?i).
// A word, for the counts, is a run of word characters that may hold single apostrophes and hyphens.
//
// Violations of a text:
//   F  non-overlapping non-empty matches of each forbidden entry, at the token in which the
//      match's last byte falls. In a text that goes on, a match (or word) that reaches its end
//      waits for what follows.
//   L  1 when there are more than words_max words, at the token in which the first word too many
//      ends; 1 when a finished text has fewer than words_min, at its last token.
//   M  required entries that a finished text lacks, at its last token.
// Role cost, a rule: the coordinator lets no text pass that has a violation. token_scores[t] counts
// the violations at token t, end_score is F + L + M so far, at the prompt 0. None is negative, so 0
// is a sound cost_min; only a pattern that looks ahead can take a violation back as the text grows.
// Role reward: end_score is the satisfied share of the required entries (1 when none is required)
// minus F + L; token_scores as for costs.
#ifndef WORKER_SCORE_LEXICAL_H
#define WORKER_SCORE_LEXICAL_H

#include "worker/score/scorer.h"

// Matching stops with STATUS_LIMIT, as the candidate's error, when one search takes more steps than
// LEXICAL_MATCH_LIMIT, or all searches in a text together try more than LEXICAL_STEPS_MAX items of
// the regex lists: no job holds up the others. The compiled patterns of a job's scorer take at most
// LEXICAL_COMPILED_BYTES.
enum {
    LEXICAL_MATCH_LIMIT = 1 << 18,
    LEXICAL_DEPTH_LIMIT = 1 << 14,
    LEXICAL_STEPS_MAX = 1 << 20,
    LEXICAL_COMPILED_BYTES = 4 << 20,
};

// Owned, closed by scorer_close. STATUS_NO_MEMORY.
MUST_CHECK enum status lexical_open(struct scorer **out);

#endif
