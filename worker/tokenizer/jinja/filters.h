// Filters: those of texts and numbers are in filters_text.c, those of lists in filters_list.c, the
// table of all in filters.c.
#ifndef WORKER_TOKENIZER_JINJA_FILTERS_H
#define WORKER_TOKENIZER_JINJA_FILTERS_H

#include "worker/tokenizer/jinja/strings.h"

#define FILTER(function)                                                                           \
    enum status function(struct run *run, const struct value *self, const struct value *argv,      \
                         const struct call *call, struct value *out)

FILTER(filter_abs);
FILTER(filter_capitalize);
FILTER(filter_center);
FILTER(filter_default);
FILTER(filter_escape);
FILTER(filter_float);
FILTER(filter_format);
FILTER(filter_indent);
FILTER(filter_int);
FILTER(filter_lower);
FILTER(filter_replace);
FILTER(filter_round);
FILTER(filter_safe);
FILTER(filter_string);
FILTER(filter_title);
FILTER(filter_tojson);
FILTER(filter_trim);
FILTER(filter_truncate);
FILTER(filter_upper);
FILTER(filter_wordcount);

FILTER(filter_batch);
FILTER(filter_dictsort);
FILTER(filter_first);
FILTER(filter_items);
FILTER(filter_join);
FILTER(filter_last);
FILTER(filter_length);
FILTER(filter_list);
FILTER(filter_map);
FILTER(filter_max);
FILTER(filter_min);
FILTER(filter_reject);
FILTER(filter_rejectattr);
FILTER(filter_reverse);
FILTER(filter_select);
FILTER(filter_selectattr);
FILTER(filter_slice);
FILTER(filter_sort);
FILTER(filter_sum);
FILTER(filter_unique);

#endif
