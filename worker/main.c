// surefoot-worker: one rank of a group under mpirun, or all ranks of one as threads.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/deadline.h"
#include "common/log.h"
#include "worker/group/follower.h"
#include "worker/group/leader.h"
#include "worker/options.h"
#include "worker/render.h"

enum exit_code {
    EXIT_CODE_STOPPED = 0,
    EXIT_CODE_START = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_REJECTED = 3,
    EXIT_CODE_FAULT = 4,
    EXIT_CODE_LOST = 5,
};

// One rank, as a process or a thread.
struct worker {
    const struct worker_options *options;
    struct comm *comm;
    int stop_fd;
    int exit_code;
    pthread_t thread;
};

static int number_from(const char *variable) {
    const char *text = getenv(variable);
    long number = text != NULL ? strtol(text, NULL, 10) : 0;
    return number > 0 && number <= LIMIT_RANKS ? (int)number : 0;
}

static bool started_by_mpi(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

// The cores that this process may use, shared by the ranks of this host.
static int threads_default(const struct worker_options *options) {
    cpu_set_t cores;
    int n_cores = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    int n_ranks = number_from("OMPI_COMM_WORLD_LOCAL_SIZE");
    n_ranks = n_ranks > 0 ? n_ranks : (int)options->ranks;
    int threads = n_cores / n_ranks;
    return threads < 1 ? 1 : threads > 256 ? 256 : threads;
}

static enum status open_rank(const struct worker_options *options, struct rank **out,
                             struct error *err) {
    struct rank_options rank_options = {
        .policy_directory = options->policy,
        .critic_path = options->critic[0] != '\0' ? options->critic : NULL,
        .value_path = options->value[0] != '\0' ? options->value : NULL,
        .n_scorers = options->n_scorers,
        .backend = options->backend,
        .threads = options->threads > 0 ? (int)options->threads : threads_default(options),
        .precision = options->precision,
        .kv_dtype = options->kv_dtype,
        .slots = (int)options->slots,
        .kv_tokens = options->kv_tokens,
        .context_tokens = (int)options->context_tokens,
    };
    for (int i = 0; i < options->n_scorers; i++) {
        rank_options.scorers[i] = (struct rank_scorer_options){
            .name = options->scorers[i].name, .directory = options->scorers[i].directory};
    }
    return rank_open(&rank_options, out, err);
}

static void log_plan(const struct rank *rank) {
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL) {
        return;
    }
    rank_print_plan(rank, stream);
    fclose(stream);
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        log_info("%s", line);
    }
    free(text);
}

static int code_of(enum group_end end) {
    switch (end) {
    case GROUP_END_STOPPED:
        return EXIT_CODE_STOPPED;
    case GROUP_END_REJECTED:
        return EXIT_CODE_REJECTED;
    case GROUP_END_FAULT:
        return EXIT_CODE_FAULT;
    case GROUP_END_LOST:
        break;
    }
    return EXIT_CODE_LOST;
}

static enum group_end run_rank(const struct worker *worker, struct rank *rank, struct error *err) {
    const struct worker_options *options = worker->options;
    struct group_timeouts timeouts = {.collective_ms = (int)options->collective_timeout_ms,
                                      .order_ms = (int)options->order_timeout_ms};
    if (worker->comm->rank > 0) {
        return follower_run(worker->comm, rank, &timeouts, err);
    }
    log_plan(rank);
    struct leader_options leader = {
        .endpoint = options->coordinator,
        .name = options->name,
        .slots_per_rank = (int)options->slots,
        .heartbeat_ms = (int)options->heartbeat_ms,
        .stop_fd = worker->stop_fd,
        .timeouts = timeouts,
    };
    return leader_run(&leader, worker->comm, rank, err);
}

static void log_counts(const struct worker *worker, const struct rank *rank) {
    struct rank_counts counts;
    rank_get_counts(rank, &counts);
    int64_t scored = 0;
    for (int i = 0; i < RANK_SCORERS_MAX; i++) {
        scored += counts.scorers[i].response_tokens;
    }
    log_info("rank %d: %lld orders; %lld tokens in %lld steps, %lld prefilled (%lld again), %lld "
             "scored; %.3f s decoding, %.3f s scoring",
             worker->comm->rank, (long long)counts.orders, (long long)counts.sampled_tokens,
             (long long)counts.decode_steps, (long long)counts.prefill_tokens,
             (long long)counts.rebuilt_tokens, (long long)scored, (double)counts.decode_ns * 1e-9,
             (double)counts.score_ns * 1e-9);
}

// Loads the models and lives as a rank. All ranks learn whether all could load.
static void *run_worker(void *argument) {
    struct worker *worker = argument;
    struct comm *comm = worker->comm;
    struct rank *rank = NULL;
    struct error err = {.status = STATUS_OK};
    double failed = open_rank(worker->options, &rank, &err) == STATUS_OK ? 0 : 1;
    if (failed > 0) {
        log_error("rank %d: %s: %s %s", comm->rank, status_name(err.status), err.field,
                  err.message);
    }
    enum status status =
        comm_all_reduce_max(comm, &failed, 1, deadline_after_ms(worker->options->order_timeout_ms));
    worker->exit_code = EXIT_CODE_START;
    if (status == STATUS_OK && failed == 0) {
        worker->exit_code = code_of(run_rank(worker, rank, &err));
        log_counts(worker, rank);
    } else if (status != STATUS_OK) {
        error_set(&err, status, NULL, "the ranks did not meet after loading");
        worker->exit_code = EXIT_CODE_LOST;
    }
    if (worker->exit_code > EXIT_CODE_START) {
        log_error("rank %d: %s: %s %s", comm->rank, status_name(err.status), err.field,
                  err.message);
    }
    if (worker->exit_code == EXIT_CODE_LOST) {
        comm_abort(comm, EXIT_CODE_LOST);
    }
    rank_close(rank);
    return NULL;
}

static int run_threads(const struct worker_options *options, int stop_fd) {
    int n_ranks = (int)options->ranks;
    struct comm *comms[WORKER_LOCAL_RANKS_MAX];
    struct worker workers[WORKER_LOCAL_RANKS_MAX];
    if (comm_local_create(n_ranks, comms) != STATUS_OK) {
        log_error("no memory for %d ranks", n_ranks);
        return EXIT_CODE_START;
    }
    int n_started = 1;
    for (int i = 0; i < n_ranks; i++) {
        workers[i] = (struct worker){.options = options, .comm = comms[i], .stop_fd = stop_fd};
    }
    while (n_started < n_ranks &&
           pthread_create(&workers[n_started].thread, NULL, run_worker, &workers[n_started]) == 0) {
        n_started++;
    }
    if (n_started < n_ranks) {
        log_error("cannot start %d threads", n_ranks);
        comm_abort(comms[0], EXIT_CODE_START);
    }
    run_worker(&workers[0]);
    int exit_code = workers[0].exit_code;
    for (int i = 1; i < n_started; i++) {
        pthread_join(workers[i].thread, NULL);
        exit_code = workers[i].exit_code > exit_code ? workers[i].exit_code : exit_code;
    }
    for (int i = 0; i < n_ranks; i++) {
        comm_close(comms[i]);
    }
    return exit_code;
}

static int run_process(const struct worker_options *options, int stop_fd) {
    struct worker worker = {.options = options, .stop_fd = stop_fd};
    struct error err = {.status = STATUS_OK};
    if (comm_mpi_open(&worker.comm, &err) != STATUS_OK) {
        log_error("%s", err.message);
        return EXIT_CODE_START;
    }
    if ((int64_t)worker.comm->world_size * options->slots > LIMIT_GROUP_SLOTS) {
        log_error("%d ranks of %lld slots are above the limit %d", worker.comm->world_size,
                  (long long)options->slots, LIMIT_GROUP_SLOTS);
        worker.exit_code = EXIT_CODE_USAGE;
    } else {
        run_worker(&worker);
    }
    comm_close(worker.comm);
    return worker.exit_code;
}

static int print_plan(const struct worker_options *options) {
    struct rank *rank = NULL;
    struct error err = {.status = STATUS_OK};
    if (open_rank(options, &rank, &err) != STATUS_OK) {
        log_error("%s: %s %s", status_name(err.status), err.field, err.message);
        return EXIT_CODE_START;
    }
    rank_print_plan(rank, stdout);
    rank_close(rank);
    return EXIT_CODE_STOPPED;
}

static int print_rendering(const struct worker_options *options) {
    struct error err = {.status = STATUS_OK};
    if (render_print(options->policy, options->render, stdout, &err) != STATUS_OK) {
        log_error("%s: %s %s", status_name(err.status), err.field, err.message);
        return EXIT_CODE_START;
    }
    return EXIT_CODE_STOPPED;
}

// A descriptor that becomes readable with SIGTERM or SIGINT. Blocked in all threads, those of
// libraries too, so before any starts. Ranks other than 0 leave these signals pending: the leader
// ends them.
static int open_stop_fd(void) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void make_name(struct worker_options *options) {
    char host[LIMIT_NAME_BYTES / 2] = "";
    gethostname(host, sizeof host - 1);
    snprintf(options->name, sizeof options->name, "%s-%d", host, (int)getpid());
}

static int run(struct worker_options *options) {
    int stop_fd = open_stop_fd();
    if (stop_fd < 0) {
        log_error("cannot watch for signals");
        return EXIT_CODE_START;
    }
    if (options->name[0] == '\0') {
        make_name(options);
    }
    bool mpi =
        options->comm == WORKER_COMM_MPI || (options->comm == WORKER_COMM_AUTO && started_by_mpi());
    int exit_code = mpi ? run_process(options, stop_fd) : run_threads(options, stop_fd);
    close(stop_fd);
    return exit_code;
}

int main(int argc, char **argv) {
    static struct worker_options options;
    struct error err = {.status = STATUS_OK};
    if (worker_options_parse(argc, argv, &options, &err) != STATUS_OK) {
        fprintf(stderr, "surefoot-worker: %s: %s (see --help)\n", err.field, err.message);
        return EXIT_CODE_USAGE;
    }
    if (options.help) {
        worker_options_print_help(stdout);
        return EXIT_CODE_STOPPED;
    }
    if (options.version) {
        printf("surefoot-worker %s\n", SUREFOOT_VERSION);
        return EXIT_CODE_STOPPED;
    }
    log_init("surefoot-worker", options.log_level);
    if (options.render[0] != '\0') {
        return print_rendering(&options);
    }
    return options.plan ? print_plan(&options) : run(&options);
}
