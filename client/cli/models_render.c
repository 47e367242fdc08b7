#include "client/cli/models_render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/models_flags.h"
#include "client/cli/print.h"
#include "client/cli/service.h"
#include "client/cli/template_var.h"
#include "client/cli/worker_run.h"
#include "common/date.h"
#include "common/deadline.h"

struct render_flags {
    struct flag_list messages;
    const char *chat_template;
    const char *content_tokens;
    const char *date;
    struct template_vars variables;
    int continues;
    struct models_flags shared;
};

// ROLE:TEXT of each --message; "user:Hello" where there is none.
static enum status make_messages(const struct flag_list *flags, json_t **out, struct error *err) {
    json_t *messages = json_array();
    for (int i = 0; i < flags->count; i++) {
        const char *colon = strchr(flags->items[i], ':');
        json_t *message = colon == NULL || colon == flags->items[i]
                              ? NULL
                              : json_pack("{s:s%, s:s}", "role", flags->items[i],
                                          (size_t)(colon - flags->items[i]), "content", colon + 1);
        if (message == NULL) {
            json_decref(messages);
            return error_set(err, STATUS_INVALID_ARGUMENT, "--message",
                             "\"%.80s\" is not ROLE:TEXT in UTF-8", flags->items[i]);
        }
        json_array_append_new(messages, message);
    }
    if (flags->count == 0) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "user", "content", "Hello"));
    }
    *out = messages;
    return STATUS_OK;
}

static enum status make_request(const struct render_flags *flags, char **out, struct error *err) {
    char today[DATE_TEXT_BYTES];
    json_t *messages = NULL;
    enum status status = make_messages(&flags->messages, &messages, err);
    if (status != STATUS_OK) {
        return status;
    }
    date_of_realtime_ms(clock_realtime_ms(), today);
    json_t *request = json_pack(
        "{s:o, s:o*, s:s*, s:s*, s:s, s:b}", "messages", messages, "template_variables",
        template_vars_json(flags->variables.list, flags->variables.count), "chat_template",
        flags->chat_template, "content_tokens", flags->content_tokens, "date",
        flags->date != NULL ? flags->date : today, "continue_final_message", flags->continues);
    *out = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    return *out != NULL ? STATUS_OK
                        : error_set(err, STATUS_INVALID_ARGUMENT, NULL, "a flag is not UTF-8");
}

// What messages said stands between U+27E6 and U+27E7.
static void print_rendering(const json_t *object) {
    const json_t *segments = json_object_get(object, "segments");
    const json_t *ids = json_object_get(object, "ids");
    const json_t *tokens = json_object_get(object, "tokens");
    printf("chat template: %s; between \u27e6 and \u27e7 is what the messages say\n",
           json_string_value(json_object_get(object, "chat_template")));
    for (size_t i = 0; i < json_array_size(segments); i++) {
        const json_t *segment = json_array_get(segments, i);
        bool content = json_is_true(json_object_get(segment, "content"));
        fputs(content ? "\u27e6" : "", stdout);
        print_text(json_string_value(json_object_get(segment, "text")), false, 0, stdout);
        fputs(content ? "\u27e7" : "", stdout);
    }
    printf("\n%zu token%s:", json_array_size(ids), print_plural(json_array_size(ids)));
    for (size_t i = 0; i < json_array_size(ids); i++) {
        printf(" %lld", (long long)json_integer_value(json_array_get(ids, i)));
    }
    fputs("\n", stdout);
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        fputs(i > 0 ? "|" : "", stdout);
        print_text(json_string_value(json_array_get(tokens, i)), true, 0, stdout);
    }
    fputs("\n", stdout);
}

static enum status render(struct cli *cli, const char *model, const struct render_flags *flags,
                          int *code, struct error *err) {
    char program[SERVICE_PATH_BYTES + 32];
    char *request = NULL;
    struct worker_run run = {0};
    enum status status = make_request(flags, &request, err);
    if (status == STATUS_OK) {
        snprintf(program, sizeof program, "%s/surefoot-worker", cli->program_dir);
        char *argv[] = {program, "--policy", (char *)model, "--render", request, NULL};
        status = worker_run(cli, argv, flags->shared.timeout_ms, &run, err);
    }
    json_t *object = status == STATUS_OK && run.good ? json_loads(run.output, 0, NULL) : NULL;
    if (status == STATUS_OK && object == NULL) {
        fputs(run.output, stderr);
        *code = CLI_EXIT_USAGE;
    } else if (status == STATUS_OK && flags->shared.json) {
        fputs(run.output, stdout);
    } else if (status == STATUS_OK) {
        print_rendering(object);
    }
    json_decref(object);
    free(request);
    worker_run_finish(&run);
    return status;
}

int verb_models_render(struct cli *cli, int argc, char **argv) {
    struct render_flags flags = {0};
    models_flags_init(&flags.shared);
    const struct flag own[] = {
        {.name = "message",
         .kind = FLAG_LIST,
         .target = &flags.messages,
         .value = "ROLE:TEXT",
         .help = "repeatable, in order; default user:Hello"},
        {.name = "chat-template",
         .kind = FLAG_TEXT,
         .target = &flags.chat_template,
         .value = "NAME",
         .help = "a format, or model for the model's own; default its profile's, else its own"},
        {.name = "content-tokens",
         .kind = FLAG_TEXT,
         .target = &flags.content_tokens,
         .value = "NAME",
         .help = "as-text, as-written; default as-text"},
        {.name = "date",
         .kind = FLAG_TEXT,
         .target = &flags.date,
         .value = "YYYY-MM-DD",
         .help = "today for the template; default today, UTC"},
        template_vars_flag(&flags.variables),
        {.name = "continue-final-message",
         .kind = FLAG_SWITCH,
         .target = &flags.continues,
         .help = "the answer goes on with the last message; default false"},
        {.name = NULL},
    };
    const struct command_line line = {
        .usage = "models render MODEL [FLAGS]",
        .about = "Shows the text that a model's chat template makes of messages, which of it the "
                 "messages\nsay, and its token ids. Reads no weights. JSON: chat_template, "
                 "segments{text, content},\nids, tokens.",
        .tables = {own, flags.shared.table},
        .n_tables = 2,
        .positional_min = 2,
        .positional_max = 2,
    };
    const char *positional[2];
    int n_positional = 0;
    bool help = false;
    int code = CLI_EXIT_OK;
    struct error err;
    enum status status = flags_parse(&line, argc, argv, positional, &n_positional, &help, &err);
    if (status == STATUS_OK && help) {
        flags_print_help(&line, stdout);
        return CLI_EXIT_OK;
    }
    if (status == STATUS_OK) {
        status = template_vars_finish(&flags.variables, &err);
    }
    if (status == STATUS_OK) {
        status = render(cli, positional[1], &flags, &code, &err);
    }
    template_vars_destroy(&flags.variables);
    return status == STATUS_OK ? code : cli_fail(&err, flags.shared.json);
}
