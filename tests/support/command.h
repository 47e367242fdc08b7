// The surefoot command in tests: started with words, waited for, its exit code and output looked
// at.
#ifndef TESTS_SUPPORT_COMMAND_H
#define TESTS_SUPPORT_COMMAND_H

#include "tests/support/process.h"

enum { COMMAND_WORDS_MAX = 60, COMMAND_WAIT_MS = 180000, COMMAND_PATH_BYTES = 512 };

struct command {
    char service[COMMAND_PATH_BYTES]; // directory that --dir gives to every run; "": none is given
    char log[COMMAND_PATH_BYTES];     // output of the last run
};

// Keeps its log in `directory`; with `serves` that is the directory of the service too.
void command_init(struct command *command, const char *directory, bool serves);

// `words` ends with NULL and follows the program's name.
void command_start(const struct command *command, struct process *process, char *const *words);

// Runs to the end, at most COMMAND_WAIT_MS, and returns the exit code; *output is owned.
int command_run(const struct command *command, char **output, char *const *words);

// Fails the test unless the run ends with `code` and its output has `part`.
void command_expect(const struct command *command, int code, const char *part, char *const *words);

#endif
