// Fields of a JobSpec that not every method reads: the coordinator refuses them where they would
// have no effect, and a client that asks several methods sends each its own.
#ifndef PROTO_METHOD_FIELDS_H
#define PROTO_METHOD_FIELDS_H

#include <stdbool.h>

#include "client.pb-c.h"

enum { METHOD_FIELDS_COUNT = 9 };

// `index` is below METHOD_FIELDS_COUNT in all of these.
const char *method_field_name(int index); // as in client.proto; static storage

bool method_field_is_set(int index, const Surefoot__JobSpec *spec);
void method_field_clear(int index, Surefoot__JobSpec *spec); // a text stays its owner's

// Whether the job's method under its selection reads the field; true for names that are unknown.
bool method_field_is_read(int index, const Surefoot__JobSpec *spec);

#endif
