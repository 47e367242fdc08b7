// What a job may give a chat template beside its messages: variables of the template's own, such as
// enable_thinking. Whether the template reads one, the group says.
#ifndef PROTO_TEMPLATE_VARIABLES_H
#define PROTO_TEMPLATE_VARIABLES_H

#include "common/status.h"
#include "proto/wire.h"

// Whether `name` is what every template is given (messages, bos_token, ...) or may call
// (raise_exception, ...), which is no variable of its own.
bool template_variable_is_reserved(const char *name);

// INVALID_ARGUMENT, LIMIT: the name is absent, no identifier or reserved, not exactly one value is
// set, or it is too long. err->field is empty: the caller knows where it stands.
MUST_CHECK enum status template_variable_check(const Surefoot__TemplateVariable *variable,
                                               struct error *err);

#endif
