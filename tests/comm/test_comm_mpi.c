// Starts comm_mpi_rank under mpirun: the only way to see real processes meet and die.
#include "tests/support/testkit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/process.h"

enum { RUN_MS = 90000 };

static int setup(void **state) {
    (void)state;
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    // Open MPI leaks in plugins that it unloads, which no suppression can name; the collectives'
    // own memory is checked by test_comm_local.
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    return 0;
}

// survivors_go_on: by default mpirun ends all ranks as soon as one died.
static void start(struct process *process, const char *directory, const char *n_ranks,
                  bool survivors_go_on, const char *scenario, const char *argument) {
    char log_path[4096];
    snprintf(log_path, sizeof log_path, "%s/output", directory);
    char *argv[16];
    int count = 0;
    argv[count++] = "mpirun";
    argv[count++] = "--oversubscribe";
    argv[count++] = "--bind-to";
    argv[count++] = "none";
    if (survivors_go_on) {
        argv[count++] = "--enable-recovery";
    }
    argv[count++] = "-n";
    argv[count++] = (char *)n_ranks;
    argv[count++] = (char *)testkit_binary_path("tests/comm_mpi_rank");
    argv[count++] = (char *)scenario;
    argv[count++] = (char *)argument;
    argv[count] = NULL;
    process_start(process, log_path, argv);
}

static void expect_exit(struct process *process, int expected) {
    int exit_code = -1;
    bool ended = process_wait(process, RUN_MS, &exit_code);
    if (!ended || exit_code != expected) {
        process_print_log(process);
        process_stop(process, 0);
        fail_msg("exit code %d instead of %d", exit_code, expected);
    }
}

static void test_collectives_are_exact_over_processes(void **state) {
    (void)state;
    static const char *const world_sizes[] = {"1", "2", "3"};
    char *directory = testkit_make_directory();
    for (int i = 0; i < 3; i++) {
        struct process process;
        start(&process, directory, world_sizes[i], false, "cases", NULL);
        expect_exit(&process, 0);
    }
    testkit_remove_tree(directory);
}

struct survivor {
    char path[4096];
    char text[64]; // what it wrote, "" so far
};

static bool has_written(void *context) {
    struct survivor *survivor = context;
    FILE *file = fopen(survivor->path, "r");
    if (file == NULL) {
        return false;
    }
    survivor->text[fread(survivor->text, 1, sizeof survivor->text - 1, file)] = '\0';
    fclose(file);
    return survivor->text[0] != '\0';
}

static void test_survivors_of_a_killed_rank_see_it_in_time(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    struct process process;
    start(&process, directory, "3", true, "lost", directory);
    for (int rank = 0; rank < 2; rank++) {
        struct survivor survivor = {.text = ""};
        snprintf(survivor.path, sizeof survivor.path, "%s/survivor-%d", directory, rank);
        if (!process_wait_until(has_written, &survivor, RUN_MS) ||
            (strcmp(survivor.text, "DEADLINE PEER_LOST") != 0 &&
             strcmp(survivor.text, "PEER_LOST PEER_LOST") != 0)) {
            process_print_log(&process);
            process_stop(&process, 0);
            fail_msg("survivor %d saw \"%s\"", rank, survivor.text);
        }
    }
    process_stop(&process, 0); // mpirun itself may not notice that all ranks are gone
    testkit_remove_tree(directory);
}

static void test_abort_ends_the_run_with_its_code(void **state) {
    (void)state;
    char *directory = testkit_make_directory();
    struct process process;
    start(&process, directory, "2", false, "abort", "23");
    expect_exit(&process, 23);
    testkit_remove_tree(directory);
}

int main(void) {
    if (system("command -v mpirun >/dev/null 2>&1") != 0) {
        printf("skipped: mpirun is not installed\n");
        return TESTKIT_SKIP;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_collectives_are_exact_over_processes),
        cmocka_unit_test(test_survivors_of_a_killed_rank_see_it_in_time),
        cmocka_unit_test(test_abort_ends_the_run_with_its_code),
    };
    return cmocka_run_group_tests_name("comm_mpi", tests, setup, NULL);
}
