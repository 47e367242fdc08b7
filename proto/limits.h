// Named limits of everything that comes from outside, checked before anything is allocated. The
// coordinator enforces them; clients and workers use the same names. docs/protocol.md lists them.
#ifndef PROTO_LIMITS_H
#define PROTO_LIMITS_H

enum {
    LIMIT_CLIENT_MESSAGE_BYTES = 4 << 20,
    LIMIT_GROUP_MESSAGE_BYTES = 64 << 20,
    LIMIT_CLIENT_UNSENT_BYTES = 16 << 20,   // of messages that one client has not read
    LIMIT_CLIENTS_UNSENT_BYTES = 256 << 20, // of those that all of them have not read
    LIMIT_GROUP_HELLO_BYTES = 1 << 20,      // of a message before its sender is a group
    LIMIT_GROUP_MESSAGES_WAITING = 4,       // of one sender; more wait on its side
    LIMIT_JOB_KEY_BYTES = 128,
    LIMIT_NAME_BYTES = 64,        // group, model, method and template names
    LIMIT_PROMPT_BYTES = 1 << 20, // prompt, or all messages together
    LIMIT_MESSAGES = 256,
    LIMIT_TEMPLATE_VARIABLES = 16,
    LIMIT_TEMPLATE_TEXT_BYTES = 4096, // of one such variable
    LIMIT_CANDIDATES = 4096,          // n
    LIMIT_MAX_TOKENS = 8192,
    LIMIT_BLOCK_TOKENS = 1024,
    LIMIT_TRIES = 16,
    LIMIT_TOP_K = 1 << 20,
    LIMIT_TILT_N = 1024,
    LIMIT_VALUE_STEPS = 1000,
    LIMIT_VALUE_STEP = 1000000,
    LIMIT_ROLLOUTS = 4096, // of one prompt
    LIMIT_FALLBACK_PREFIXES = 8,
    LIMIT_PREFIX_BYTES = 256, // of each; as many tokens at most
    LIMIT_STOP_STRINGS = 16,
    LIMIT_STOP_BYTES = 256,
    LIMIT_LOGIT_BIAS = 1024,
    LIMIT_SCORERS = 8,            // in one job
    LIMIT_CHANNELS = 4,           // of costs, in one job
    LIMIT_LEXICAL_ENTRIES = 256,  // per list
    LIMIT_LEXICAL_BYTES = 512,    // per entry
    LIMIT_STATES_BYTES = 2 << 20, // of hidden states in one result
    LIMIT_GROUPS = 256,
    LIMIT_RANKS = 1024, // in one group
    LIMIT_GROUP_SLOTS = 65536,
    LIMIT_VOCAB = 1 << 20,
    LIMIT_CONTEXT_TOKENS = 1 << 20,
    LIMIT_JOBS_STORED = 1 << 20, // jobs and results not yet closed
    LIMIT_JOBS_LISTED = 1000,    // in one answer
    LIMIT_JOBS_PURGED = 256,     // by one request
    LIMIT_DEADLINE_MS = 7 * 24 * 3600 * 1000,
};

#endif
