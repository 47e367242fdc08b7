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

// Whether the job's method under its selection reads the field, as the job's tries say; true for
// names that are unknown.
bool method_field_is_read(int index, const Surefoot__JobSpec *spec);

// Whether the method can choose its selection; true for unknown names, DEFAULT_METHOD for NULL.
bool method_reads_selection(const char *method);

#endif
