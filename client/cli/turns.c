#include "client/cli/turns.h"

enum status turns_check(const struct turns *turns, struct error *err) {
    if (turns->rendered && (turns->system != NULL || turns->prefill != NULL)) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--rendered",
                         "nothing goes around a rendered prompt: no --system, no --prefill");
    }
    return STATUS_OK;
}

void turns_set_message(Surefoot__ChatMessage *row, const char *role, const char *content) {
    surefoot__chat_message__init(row);
    row->role = (char *)role; // packing only reads
    row->content = (char *)content;
}

void turns_set_messages(const struct turns *turns, size_t count, Surefoot__JobSpec *spec,
                        Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list) {
    if (turns->system != NULL) {
        turns_set_message(&rows[0], "system", turns->system);
    }
    if (turns->prefill != NULL) {
        turns_set_message(&rows[count++], "assistant", turns->prefill);
        spec->has_continue_final_message = true;
        spec->continue_final_message = true;
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = &rows[i];
    }
    spec->prompt = NULL;
    spec->n_messages = count;
    spec->messages = list;
}

void turns_set_prompt(const struct turns *turns, const char *prompt, Surefoot__JobSpec *spec,
                      Surefoot__ChatMessage *rows, Surefoot__ChatMessage **list) {
    if (turns->system == NULL && turns->prefill == NULL) {
        spec->prompt = turns->rendered ? NULL : (char *)prompt;
        spec->rendered_prompt = turns->rendered ? (char *)prompt : NULL;
        spec->n_messages = 0;
        return;
    }
    size_t count = turns->system != NULL ? 1 : 0;
    turns_set_message(&rows[count++], "user", prompt);
    turns_set_messages(turns, count, spec, rows, list);
}
