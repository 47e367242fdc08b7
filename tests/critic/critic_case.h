// The critic of tests/vectors/critic.json, and terms that fit it.
#ifndef TESTS_CRITIC_CRITIC_CASE_H
#define TESTS_CRITIC_CRITIC_CASE_H

#include <jansson.h>

#include "worker/critic/critic_file.h"

struct critic_case {
    json_t *vectors;
    struct critic_terms terms;
    struct critic_net net; // its arrays are owned
    int32_t n_rows;
    float *states; // [n_rows, hidden]
};

void critic_case_open(struct critic_case *out);
void critic_case_open_file(const char *path, struct critic_case *out); // or that of other vectors
void critic_case_close(struct critic_case *critic);

// Owned floats of a list; its length goes to *n.
float *critic_case_floats(const json_t *list, size_t *n);

// Fails unless each got[i] is within `tolerance` of the list's, relative to 1 or to its size.
void critic_case_assert_near(const char *what, const float *got, const json_t *want,
                             double tolerance);

// Writes the critic to a file in `directory`; returns the path, owned.
char *critic_case_write(const struct critic_case *critic, const char *directory);

#endif
