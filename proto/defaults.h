// What an absent field of a job's Sampling means, where its model says nothing. The coordinator and
// the ranks fill them in; clients write them into records and help. docs/protocol.md lists them.
#ifndef PROTO_DEFAULTS_H
#define PROTO_DEFAULTS_H

enum {
    DEFAULT_TEMPERATURE = 1,
    DEFAULT_TOP_P = 1,
    DEFAULT_REPETITION_PENALTY = 1,
};

#endif
