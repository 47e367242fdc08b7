#include "worker/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "proto/channel.h"

enum option_kind {
    OPTION_TEXT,
    OPTION_NUMBER,
    OPTION_SWITCH,
    OPTION_SCORER,
    OPTION_COMM,
    OPTION_PRECISION,
    OPTION_KV_DTYPE,
    OPTION_LEVEL
};

struct option_row {
    const char *flag;
    const char *value; // in the help text; NULL for switches
    enum option_kind kind;
    size_t offset; // of the member
    size_t bytes;  // of text
    int64_t low;   // of numbers
    int64_t high;
    const char *help;
};

#define MEMBER(member) offsetof(struct worker_options, member)
#define TEXT(flag, value, member, help)                                                            \
    {                                                                                              \
        flag, value, OPTION_TEXT, MEMBER(member), sizeof((struct worker_options *)NULL)->member,   \
            0, 0, help                                                                             \
    }
#define NUMBER(flag, value, member, low, high, help)                                               \
    { flag, value, OPTION_NUMBER, MEMBER(member), 0, low, high, help }

static const struct option_row rows[] = {
    TEXT("coordinator", "ENDPOINT", coordinator,
         "the coordinator's endpoint for groups (required)"),
    TEXT("name", "NAME", name, "name of the group; default: host and process id"),
    TEXT("policy", "DIR", policy, "directory of the policy model (required)"),
    {"scorer", "NAME=DIR", OPTION_SCORER, MEMBER(scorers), 0, 0, 0,
     "a reward or cost model; up to 8, separated by commas in the environment; default none"},
    TEXT("critic", "FILE", critic, "a latent critic of the policy; default none"),
    TEXT("value", "FILE", value, "a value network of the policy; default none"),
    NUMBER("threads", "N", threads, 0, 256, "of each rank; default 0: cores / ranks of this host"),
    NUMBER("slots", "N", slots, 1, 4096, "candidates that each rank grows at once; default 64"),
    NUMBER("kv-tokens", "N", kv_tokens, 0, INT64_C(1) << 31,
           "KV capacity of each model on each rank; default 0: slots * 256 + 4096"),
    NUMBER("context-tokens", "N", context_tokens, 0, LIMIT_CONTEXT_TOKENS,
           "longest prompt and response; default 0: as the models allow"),
    TEXT("backend", "NAME", backend, "cpu; default cpu"),
    {"kv-dtype", "NAME", OPTION_KV_DTYPE, MEMBER(kv_dtype), 0, 0, 0,
     "of keys and values: f32 (default), f16, bf16, int8"},
    {"precision", "NAME", OPTION_PRECISION, MEMBER(precision), 0, 0, 0,
     "of products: stored (default: weights as in the file, f32 activations), bf16, int8, q4"},
    {"comm", "KIND", OPTION_COMM, MEMBER(comm), 0, 0, 0,
     "auto (default: mpi under mpirun or srun, else local), local, mpi"},
    NUMBER("ranks", "N", ranks, 1, WORKER_LOCAL_RANKS_MAX,
           "ranks as threads of this process, with comm local; default 1"),
    NUMBER("heartbeat-ms", "N", heartbeat_ms, 1, 60000,
           "where the coordinator does not say; default 1000"),
    NUMBER("collective-timeout-ms", "N", collective_timeout_ms, 100, 3600000,
           "ranks wait so long for each other; default 30000"),
    NUMBER("order-timeout-ms", "N", order_timeout_ms, 100, 86400000,
           "and so long for the slowest one's work; default 600000"),
    {"log-level", "LEVEL", OPTION_LEVEL, MEMBER(log_level), 0, 0, 0,
     "error, warn, info (default), debug"},
    {"plan", NULL, OPTION_SWITCH, MEMBER(plan), 0, 0, 0,
     "print the memory plan and end; default off"},
    TEXT("render", "JSON", render,
         "print what the policy's chat template makes of messages and end; default none"),
    {"version", NULL, OPTION_SWITCH, MEMBER(version), 0, 0, 0, "print the version and end"},
    {"help", NULL, OPTION_SWITCH, MEMBER(help), 0, 0, 0, "print this and end"},
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static void *member(struct worker_options *options, const struct option_row *row) {
    return (char *)options + row->offset;
}

static enum status set_text(const struct option_row *row, const char *text, char *out,
                            struct error *err) {
    size_t length = strlen(text);
    if (length == 0 || length >= row->bytes) {
        return error_set(err, length == 0 ? STATUS_INVALID_ARGUMENT : STATUS_LIMIT, row->flag,
                         "has %zu bytes, outside 1..%zu", length, row->bytes - 1);
    }
    memcpy(out, text, length + 1);
    return STATUS_OK;
}

static enum status set_number(const struct option_row *row, const char *text, int64_t *out,
                              struct error *err) {
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < row->low || value > row->high) {
        return error_set(err, STATUS_INVALID_ARGUMENT, row->flag,
                         "\"%.40s\" is not a number in %lld..%lld", text, (long long)row->low,
                         (long long)row->high);
    }
    *out = value;
    return STATUS_OK;
}

// One NAME=DIR of `length` bytes.
static enum status add_scorer(struct worker_options *options, const char *text, size_t length,
                              struct error *err) {
    if (options->n_scorers == RANK_SCORERS_MAX) {
        return error_set(err, STATUS_LIMIT, "scorer", "more than %d", RANK_SCORERS_MAX);
    }
    struct worker_scorer *scorer = &options->scorers[options->n_scorers];
    const char *equals = memchr(text, '=', length);
    size_t name_bytes = equals != NULL ? (size_t)(equals - text) : 0;
    if (name_bytes == 0 || name_bytes > LIMIT_NAME_BYTES || name_bytes + 1 == length ||
        length - name_bytes - 1 >= sizeof scorer->directory) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorer",
                         "\"%.64s\" is not NAME=DIR with a name of 1..%d bytes", text,
                         LIMIT_NAME_BYTES);
    }
    memcpy(scorer->name, text, name_bytes);
    scorer->name[name_bytes] = '\0';
    memcpy(scorer->directory, equals + 1, length - name_bytes - 1);
    scorer->directory[length - name_bytes - 1] = '\0';
    for (int i = 0; i < options->n_scorers; i++) {
        if (strcmp(options->scorers[i].name, scorer->name) == 0) {
            return error_set(err, STATUS_ALREADY_EXISTS, "scorer", "\"%s\" is named twice",
                             scorer->name);
        }
    }
    if (strcmp(scorer->name, "lexical") == 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "scorer",
                         "\"lexical\" is the name of the built-in scorer");
    }
    options->n_scorers++;
    return STATUS_OK;
}

static enum status add_scorers(struct worker_options *options, const char *text,
                               struct error *err) {
    enum status status = STATUS_OK;
    while (status == STATUS_OK && *text != '\0') {
        size_t length = strcspn(text, ",");
        status = add_scorer(options, text, length, err);
        text += length;
        text += *text == ',';
    }
    return status;
}

static enum status set_comm(const char *text, enum worker_comm *out, struct error *err) {
    static const char *const names[] = {"auto", "local", "mpi"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum worker_comm)i;
            return STATUS_OK;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "comm", "\"%.40s\" is not auto, local or mpi",
                     text);
}

static enum status set_precision(const char *text, enum precision *out, struct error *err) {
    return precision_find(text, out) ? STATUS_OK
                                     : error_set(err, STATUS_INVALID_ARGUMENT, "precision",
                                                 "\"%.40s\" is not stored, bf16, int8 or q4", text);
}

static enum status set_kv_dtype(const char *text, enum kv_dtype *out, struct error *err) {
    return kv_dtype_find(text, out) ? STATUS_OK
                                    : error_set(err, STATUS_INVALID_ARGUMENT, "kv-dtype",
                                                "\"%.40s\" is not f32, f16, bf16 or int8", text);
}

static enum status set_level(const char *text, enum log_level *out, struct error *err) {
    int level = log_level_parse(text);
    if (level < 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "log-level",
                         "\"%.40s\" is not error, warn, info or debug", text);
    }
    *out = (enum log_level)level;
    return STATUS_OK;
}

// `text` is NULL for a switch given as a flag.
static enum status set_option(struct worker_options *options, const struct option_row *row,
                              const char *text, struct error *err) {
    void *target = member(options, row);
    switch (row->kind) {
    case OPTION_TEXT:
        return set_text(row, text, target, err);
    case OPTION_NUMBER:
        return set_number(row, text, target, err);
    case OPTION_SCORER:
        return add_scorers(options, text, err);
    case OPTION_COMM:
        return set_comm(text, target, err);
    case OPTION_PRECISION:
        return set_precision(text, target, err);
    case OPTION_KV_DTYPE:
        return set_kv_dtype(text, target, err);
    case OPTION_LEVEL:
        return set_level(text, target, err);
    case OPTION_SWITCH:
        break;
    }
    *(bool *)target = true;
    return STATUS_OK;
}

static enum status read_environment(struct worker_options *options, struct error *err) {
    for (int i = 0; i < N_ROWS; i++) {
        char variable[64];
        snprintf(variable, sizeof variable, "SUREFOOT_%s", rows[i].flag);
        for (char *c = variable; *c != '\0'; c++) {
            *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        }
        const char *text = rows[i].kind != OPTION_SWITCH ? getenv(variable) : NULL;
        if (text == NULL || text[0] == '\0') {
            continue;
        }
        enum status status = set_option(options, &rows[i], text, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static enum status read_flags(int argc, char **argv, struct worker_options *options,
                              struct error *err) {
    struct option flags[N_ROWS + 1] = {{0}};
    for (int i = 0; i < N_ROWS; i++) {
        flags[i].name = rows[i].flag;
        flags[i].has_arg = rows[i].value != NULL ? required_argument : no_argument;
    }
    bool scorers_given = false;
    optind = 1;
    for (;;) {
        int index = -1;
        int result = getopt_long(argc, argv, ":", flags, &index);
        if (result == -1) {
            break;
        }
        if (result != 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, argv[optind - 1],
                             result == ':' ? "needs a value" : "is not a flag of this program");
        }
        if (rows[index].kind == OPTION_SCORER && !scorers_given) {
            options->n_scorers = 0; // flags replace what the environment says
            scorers_given = true;
        }
        enum status status = set_option(options, &rows[index], optarg, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return optind == argc ? STATUS_OK
                          : error_set(err, STATUS_INVALID_ARGUMENT, argv[optind],
                                      "this program takes flags only");
}

static enum status check(const struct worker_options *options, struct error *err) {
    if (options->version || options->help) {
        return STATUS_OK;
    }
    if (options->policy[0] == '\0') {
        return error_set(err, STATUS_INVALID_ARGUMENT, "policy", "is required");
    }
    if (options->coordinator[0] == '\0' && !options->plan && options->render[0] == '\0') {
        return error_set(err, STATUS_INVALID_ARGUMENT, "coordinator", "is required");
    }
    struct error reason;
    enum status status = options->coordinator[0] != '\0'
                             ? channel_check_endpoint(options->coordinator, false, &reason)
                             : STATUS_OK;
    if (status != STATUS_OK) {
        return error_set(err, status, "coordinator", "%s", reason.message);
    }
    if (options->ranks > 1 && options->comm != WORKER_COMM_LOCAL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "ranks",
                         "needs comm local; mpirun decides otherwise");
    }
    return STATUS_OK;
}

enum status worker_options_parse(int argc, char **argv, struct worker_options *out,
                                 struct error *err) {
    struct worker_options options = {
        .backend = "cpu",
        .slots = 64,
        .ranks = 1,
        .heartbeat_ms = 1000,
        .collective_timeout_ms = 30000,
        .order_timeout_ms = 600000,
        .log_level = LOG_LEVEL_INFO,
    };
    enum status status = read_environment(&options, err);
    if (status == STATUS_OK) {
        status = read_flags(argc, argv, &options, err);
    }
    if (status == STATUS_OK) {
        status = check(&options, err);
    }
    if (status == STATUS_OK) {
        *out = options;
    }
    return status;
}

void worker_options_print_help(FILE *stream) {
    fprintf(stream, "usage: surefoot-worker --coordinator ENDPOINT --policy DIR [FLAGS]\n"
                    "A rank of a worker group: start it once for a group of threads (--comm local "
                    "--ranks N)\nor under mpirun for a group of processes.\n\n");
    for (int i = 0; i < N_ROWS; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--%s %s", rows[i].flag,
                 rows[i].value != NULL ? rows[i].value : "");
        fprintf(stream, "  %-28s %s\n", flag, rows[i].help);
    }
    fprintf(stream, "\nEach flag may come from the environment as well: --kv-tokens as "
                    "SUREFOOT_KV_TOKENS.\nExit codes: 0 stopped, 1 cannot start, 2 bad flags, 3 "
                    "refused by the coordinator,\n4 a rank failed, 5 a rank was lost.\n");
}
