// What a caller puts around a prompt: a system message before it, the beginning of the answer after
// it; or nothing, because it is rendered already.
#ifndef CLIENT_CLI_TURNS_H
#define CLIENT_CLI_TURNS_H

#include <stddef.h>

#include "client/surefoot.h"

enum { TURNS_AROUND = 2 }; // messages beside those of an item

struct turns {
    const char *system;  // NULL none
    const char *prefill; // NULL none
    int rendered;
};

// STATUS_INVALID_ARGUMENT: --rendered beside one of the others.
MUST_CHECK enum status turns_check(const struct turns *turns, struct error *err);

// Puts a prompt, or with system or prefill the messages around it, into spec. `rows` and `list`
// hold the messages, TURNS_AROUND + 1 each; everything is borrowed.
void turns_set_prompt(const struct turns *turns, const char *prompt, Surefoot__JobSpec *spec,
                      Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list);

// The same for messages, of which `rows` [count] hold the item's from rows[1] on where there is a
// system message, else from rows[0] on.
void turns_set_messages(const struct turns *turns, size_t count, Surefoot__JobSpec *spec,
                        Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list);

void turns_set_message(Surefoot__ChatMessage *row, const char *role, const char *content);

#endif
