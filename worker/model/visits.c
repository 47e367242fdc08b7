// Within a span, the last block that a row sees names all of them: sequences that share a block
// share every block before it (kv_tree.h). So one mark per block finds the visit that other rows
// with the same blocks have opened, and a batch has no more visits than there are blocks.
#include "worker/model/visits.h"

int64_t visits_rows_max(int32_t batch_rows, int32_t blocks_per_sequence) {
    int32_t spans = (blocks_per_sequence + KV_VISIT_BLOCKS - 1) / KV_VISIT_BLOCKS;
    return (int64_t)batch_rows * spans;
}

// Rows of a piece that see the same number of blocks of one span: [begin, end), counted from the
// piece's first; possibly none.
struct row_range {
    int32_t begin;
    int32_t end;
};

static int32_t clamp(int32_t value, int32_t high) {
    return value < 0 ? 0 : value < high ? value : high;
}

// The rows that see exactly n_blocks blocks of the span at `start`; when that is all of them, also
// those that are past the span.
static struct row_range rows_seeing(const struct batch_piece *piece, int32_t start,
                                    int32_t n_blocks) {
    int32_t offset = start - piece->first_position;
    int32_t begin = offset + (n_blocks - 1) * KV_BLOCK_TOKENS;
    struct row_range range = {clamp(begin, piece->n_rows), piece->n_rows};
    if (n_blocks < KV_VISIT_BLOCKS) {
        range.end = clamp(begin + KV_BLOCK_TOKENS, piece->n_rows);
    }
    return range;
}

static const int32_t *span_blocks(const struct batch_piece *piece, int32_t start) {
    return piece->sequence->blocks + start / KV_BLOCK_TOKENS;
}

// Counts rows into the visit of these blocks, which is opened if there is none yet.
static void count_rows(struct batch_arrays *arrays, struct batch_plan *plan, int32_t first_visit,
                       const int32_t *blocks, int32_t n_blocks, int32_t start, int32_t n_rows) {
    int32_t *mark = &arrays->visit_of_block[blocks[n_blocks - 1]];
    // Marks of earlier spans and batches are out of date: only one that names a visit of this span
    // with this last block counts.
    bool open = *mark >= first_visit && *mark < plan->n_visits &&
                arrays->visits[*mark].blocks[n_blocks - 1] == blocks[n_blocks - 1] &&
                arrays->visits[*mark].n_blocks == n_blocks;
    if (!open) {
        *mark = plan->n_visits++;
        struct kv_visit visit = {.n_blocks = n_blocks, .start = start};
        for (int32_t i = 0; i < n_blocks; ++i) {
            visit.blocks[i] = blocks[i];
        }
        arrays->visits[*mark] = visit;
    }
    arrays->visits[*mark].row_count += n_rows;
}

// Opens the visits of one span, with the numbers of their rows.
static void open_visits(struct batch_arrays *arrays, int32_t n_pieces, int32_t start,
                        struct batch_plan *plan) {
    int32_t first_visit = plan->n_visits;
    for (int32_t i = 0; i < n_pieces; ++i) {
        const struct batch_piece *piece = &arrays->pieces[i];
        for (int32_t n_blocks = 1; n_blocks <= KV_VISIT_BLOCKS; ++n_blocks) {
            struct row_range range = rows_seeing(piece, start, n_blocks);
            if (range.begin < range.end) {
                count_rows(arrays, plan, first_visit, span_blocks(piece, start), n_blocks, start,
                           range.end - range.begin);
            }
        }
    }
}

// Lists the rows of the visits from `first_visit` on, all of one span, after those listed before.
// Returns the number of rows listed so far.
static int32_t list_rows(struct batch_arrays *arrays, int32_t n_pieces, int32_t start,
                         const struct batch_plan *plan, int32_t first_visit,
                         int32_t n_rows_listed) {
    for (int32_t i = first_visit; i < plan->n_visits; ++i) {
        arrays->visits[i].row_begin = n_rows_listed;
        n_rows_listed += arrays->visits[i].row_count;
        arrays->visits[i].row_count = 0; // counted again while rows are listed
    }
    for (int32_t i = 0; i < n_pieces; ++i) {
        const struct batch_piece *piece = &arrays->pieces[i];
        for (int32_t n_blocks = 1; n_blocks <= KV_VISIT_BLOCKS; ++n_blocks) {
            struct row_range range = rows_seeing(piece, start, n_blocks);
            if (range.begin == range.end) {
                continue;
            }
            const int32_t *blocks = span_blocks(piece, start);
            struct kv_visit *visit = &arrays->visits[arrays->visit_of_block[blocks[n_blocks - 1]]];
            ASSERT(visit->blocks[0] == blocks[0]);
            for (int32_t row = range.begin; row < range.end; ++row) {
                arrays->visit_rows[visit->row_begin + visit->row_count++] = piece->first_row + row;
            }
        }
    }
    return n_rows_listed;
}

void visits_build(struct batch_arrays *arrays, int32_t n_pieces, struct batch_plan *plan) {
    int32_t end = 0, n_rows_listed = 0;
    for (int32_t i = 0; i < n_pieces; ++i) {
        int32_t piece_end = arrays->pieces[i].first_position + arrays->pieces[i].n_rows;
        end = piece_end > end ? piece_end : end;
    }
    plan->visits = arrays->visits;
    plan->visit_rows = arrays->visit_rows;
    plan->n_visits = 0;
    for (int32_t start = 0; start < end; start += KV_VISIT_TOKENS) {
        int32_t first_visit = plan->n_visits;
        open_visits(arrays, n_pieces, start, plan);
        n_rows_listed = list_rows(arrays, n_pieces, start, plan, first_visit, n_rows_listed);
    }
}
