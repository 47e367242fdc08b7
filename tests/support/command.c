#include "tests/support/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

void command_init(struct command *command, const char *directory, bool serves) {
    snprintf(command->log, sizeof command->log, "%s/test-log", directory);
    snprintf(command->service, sizeof command->service, "%s", serves ? directory : "");
}

void command_start(const struct command *command, struct process *process, char *const *words) {
    char *argv[COMMAND_WORDS_MAX + 4] = {(char *)testkit_binary_path("bin/surefoot")};
    int count = 1;
    for (int i = 0; words[i] != NULL; i++) {
        assert_true(i < COMMAND_WORDS_MAX);
        argv[count++] = words[i];
    }
    if (command->service[0] != '\0') {
        argv[count++] = "--dir";
        argv[count++] = (char *)command->service;
    }
    remove(command->log);
    process_start(process, command->log, argv);
}

int command_run(const struct command *command, char **output, char *const *words) {
    struct process process;
    command_start(command, &process, words);
    int code = -1;
    if (!process_wait(&process, COMMAND_WAIT_MS, &code)) {
        process_print_log(&process);
        process_stop(&process, 1000);
        fail_msg("surefoot %s did not end", words[0]);
    }
    *output = testkit_read_file(command->log, NULL);
    return code;
}

void command_expect(const struct command *command, int code, const char *part, char *const *words) {
    char *output = NULL;
    int ended = command_run(command, &output, words);
    if (ended != code || strstr(output, part) == NULL) {
        print_error("%s: exit code %d (expected %d), wanted \"%s\" in:\n%s\n", words[0], ended,
                    code, part, output);
        fail();
    }
    free(output);
}
