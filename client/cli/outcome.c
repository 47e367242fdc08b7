#include "client/cli/outcome.h"

#include "client/cli/print.h"

int outcome_print(const Surefoot__JobResult *result, const struct outcome_view *view) {
    if (!view->json) {
        print_result(result, view->show_unsafe, stdout);
    } else if (print_json_line(print_result_json(result, view->details), stdout) != STATUS_OK) {
        return CLI_EXIT_SYSTEM;
    }
    switch (result->outcome) {
    case SUREFOOT__OUTCOME__OUTCOME_COMPLETED:
        return CLI_EXIT_OK;
    case SUREFOOT__OUTCOME__OUTCOME_NO_SAFE_CANDIDATE:
        return CLI_EXIT_REFUSED;
    default:
        return CLI_EXIT_FAILED;
    }
}
