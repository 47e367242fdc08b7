// Which KV blocks the rows of a batch attend to, gathered so that rows with the same blocks meet
// them together (struct kv_visit). Host memory only; called once per batch by the engine thread.
#ifndef WORKER_MODEL_VISITS_H
#define WORKER_MODEL_VISITS_H

#include "worker/model/context_private.h"

// Entries that the rows of one batch can have in visit_rows.
int64_t visits_rows_max(int32_t batch_rows, int32_t blocks_per_sequence);

// Makes a list of the visits of the first n_pieces pieces, whose sequences already hold the blocks
// of their new tokens; pieces are in the order of their rows. window > 0: a row at position p sees
// positions above p - window only, and is listed for no span that lies before them. The list is in
// `memory`, which is that of arrays->visits or arrays->windowed.
struct visit_list visits_build(struct batch_arrays *arrays, int32_t n_pieces, int32_t window,
                               const struct visit_arrays *memory);

#endif
