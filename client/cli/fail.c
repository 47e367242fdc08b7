// How an error becomes an exit code.
#include "client/cli/cli.h"
#include "client/cli/print.h"

static int exit_code(enum status status) {
    switch (status) {
    case STATUS_OK:
        return CLI_EXIT_OK;
    case STATUS_INVALID_ARGUMENT:
    case STATUS_LIMIT:
    case STATUS_NOT_FOUND:
    case STATUS_ALREADY_EXISTS:
    case STATUS_MALFORMED:
    case STATUS_UNSUPPORTED:
    case STATUS_SHAPE:
    case STATUS_VERSION:
    case STATUS_ADDRESS_IN_USE:
    case STATUS_PERMISSION:
        return CLI_EXIT_USAGE;
    case STATUS_DEADLINE:
    case STATUS_UNAVAILABLE:
    case STATUS_RESOURCE_EXHAUSTED:
    case STATUS_PEER_LOST:
        return CLI_EXIT_NO_SERVICE;
    case STATUS_CANCELLED:
        return CLI_EXIT_INTERRUPTED;
    default:
        return CLI_EXIT_SYSTEM;
    }
}

int cli_fail(const struct error *err, bool json) {
    fprintf(stderr, "surefoot: ");
    if (err->field[0] != '\0') {
        print_text(err->field, true, 0, stderr);
        fprintf(stderr, ": ");
    }
    print_text(err->message, true, 0, stderr);
    fprintf(stderr, "\n");
    if (json &&
        print_json_line(json_pack("{s:o}", "error", print_error_json(err)), stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    return exit_code(err->status);
}
