// The finished candidates of a search, one of each text. A text is known by a digest of 64 bits: a
// chance agreement of two would count one answer too few, and choose no other.
#ifndef COORDINATOR_SEARCH_TEXT_SET_H
#define COORDINATOR_SEARCH_TEXT_SET_H

#include "coordinator/search/candidate.h"

struct text_set {
    struct candidate **places; // [capacity], owned; open addressing by text_digest, NULL is free
    size_t capacity;           // 0 or a power of two
    size_t count;
};

uint64_t text_digest(const char *text); // NULL: the empty text

// Keeps the candidate, or gives the one that is kept of its text; *kept is NULL in the former case.
// STATUS_NO_MEMORY.
MUST_CHECK enum status text_set_add(struct text_set *set, struct candidate *candidate,
                                    struct candidate **kept);
// Keeps the candidate in place of the one that is kept of its text.
void text_set_replace(struct text_set *set, struct candidate *candidate);
void text_set_finish(struct text_set *set);

#endif
