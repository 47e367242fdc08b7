// The rank's value network: jobs that ask for it draw their tokens from states moved along its
// gradient (docs/methods/re-control.md).
#include <math.h>
#include <stdlib.h>

#include "worker/group/rank_internal.h"

struct rank_value {
    struct proposal proposal; // first
    struct critic *critic;
    int32_t *rows; // [slots], of a batch, those of as many steps side by side
    float *sizes;  // [slots] likewise
    struct rank_critic_info info;
};

// The smallest number of steps above `steps` that a row makes; 0: none.
static int32_t next_steps(const struct decode_move *moves, int32_t n, int32_t steps) {
    int32_t next = 0;
    for (int32_t i = 0; i < n; i++) {
        if (moves[i].steps > steps && (next == 0 || moves[i].steps < next)) {
            next = moves[i].steps;
        }
    }
    return next;
}

static enum status draw(struct proposal *proposal, struct model_context *context,
                        struct tensor *states, const struct decode_move *moves,
                        struct sampling_row *rows, int32_t n) {
    struct rank_value *value = (struct rank_value *)proposal;
    int32_t begin = 0;
    for (int32_t steps = next_steps(moves, n, 0); steps > 0; steps = next_steps(moves, n, steps)) {
        int32_t count = 0;
        for (int32_t i = 0; i < n; i++) {
            if (moves[i].steps == steps) {
                value->rows[begin + count] = i;
                value->sizes[begin + count++] = moves[i].size;
            }
        }
        critic_ascend(value->critic, states, value->rows + begin, value->sizes + begin, count,
                      steps);
        begin += count;
    }
    return proposal_plain_ops.draw(proposal, context, states, moves, rows, n);
}

static const struct proposal_ops value_ops = {.name = "value", .draw = draw};

enum status rank_value_open(struct rank *rank, const char *path, struct error *err) {
    struct rank_value *value = calloc(1, sizeof *value);
    rank->value = value;
    if (value == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "value", "no memory for it");
    }
    value->proposal.ops = &value_ops;
    enum status status = rank_critic_open_file(rank, path, "value", true, &value->critic, err);
    if (status != STATUS_OK) {
        return status;
    }
    size_t slots = (size_t)rank->slots;
    value->rows = malloc(slots * sizeof *value->rows);
    value->sizes = malloc(slots * sizeof *value->sizes);
    if (value->rows == NULL || value->sizes == NULL) {
        return error_set(err, STATUS_NO_MEMORY, "value", "no memory for it");
    }
    rank_critic_info_fill(value->critic, &value->info);
    return STATUS_OK;
}

void rank_value_close(struct rank *rank) {
    if (rank->value != NULL) {
        critic_close(rank->value->critic);
        free(rank->value->rows);
        free(rank->value->sizes);
        free(rank->value);
    }
}

void rank_value_describe(const struct rank *rank, Surefoot__GroupHello *hello) {
    hello->value = rank->value != NULL ? &rank->value->info.message : NULL;
}

struct proposal *rank_value_proposal(const struct rank *rank) {
    return rank->value != NULL ? &rank->value->proposal : NULL;
}

enum status rank_value_read_move(const struct rank *rank, const Surefoot__GroupJob *message,
                                 struct decode_move *out, struct error *err) {
    *out = (struct decode_move){.steps = 0};
    if (message->value_steps == 0) {
        return STATUS_OK;
    }
    if (rank->value == NULL) {
        return error_set(err, STATUS_UNSUPPORTED, "value_steps", "this group has no value network");
    }
    if (message->value_steps > LIMIT_VALUE_STEPS) {
        return error_set(err, STATUS_LIMIT, "value_steps", "%u is above %d", message->value_steps,
                         LIMIT_VALUE_STEPS);
    }
    if (!(message->value_step >= 0 && message->value_step <= LIMIT_VALUE_STEP)) {
        return error_set(err, STATUS_LIMIT, "value_step", "%g is outside 0..%d",
                         message->value_step, LIMIT_VALUE_STEP);
    }
    *out = (struct decode_move){.steps = (int32_t)message->value_steps,
                                .size = (float)message->value_step};
    return STATUS_OK;
}
