// Within a span, the last block that a row sees names all of them: sequences that share a block
// share every block before it (kv_tree.h). So one mark per block finds the visit that other rows
// with the same blocks have opened, and a batch has no more visits than there are blocks.
#include "worker/model/visits.h"

int64_t visits_rows_max(int32_t batch_rows, int32_t blocks_per_sequence) {
    int32_t spans = (blocks_per_sequence + KV_VISIT_BLOCKS - 1) / KV_VISIT_BLOCKS;
    return (int64_t)batch_rows * spans;
}

// The list that is being made.
struct builder {
    const struct batch_piece *pieces;
    int32_t *visit_of_block;
    struct kv_visit *visits;
    int32_t *rows;
    int32_t n_pieces;
    int32_t window; // INT32_MAX: none
    int32_t n_visits;
    int32_t n_rows;
};

// Rows of a piece that see the same number of blocks of one span: [begin, end), counted from the
// piece's first; possibly none.
struct row_range {
    int32_t begin;
    int32_t end;
};

static int32_t clamp(int64_t value, int32_t high) {
    return value < 0 ? 0 : value < high ? (int32_t)value : high;
}

// The rows that see exactly n_blocks blocks of the span at `start`; when that is all of them, also
// those that are past the span, up to the last whose window reaches it.
static struct row_range rows_seeing(const struct builder *builder, const struct batch_piece *piece,
                                    int32_t start, int32_t n_blocks) {
    int64_t offset = start - piece->first_position;
    int64_t begin = offset + (n_blocks - 1) * KV_BLOCK_TOKENS;
    int64_t end = n_blocks < KV_VISIT_BLOCKS ? begin + KV_BLOCK_TOKENS
                                             : offset + KV_VISIT_TOKENS - 1 + builder->window;
    return (struct row_range){clamp(begin, piece->n_rows), clamp(end, piece->n_rows)};
}

static const int32_t *span_blocks(const struct batch_piece *piece, int32_t start) {
    return piece->sequence->blocks + start / KV_BLOCK_TOKENS;
}

// Counts rows into the visit of these blocks, which is opened if there is none yet.
static void count_rows(struct builder *builder, int32_t first_visit, const int32_t *blocks,
                       int32_t n_blocks, int32_t start, int32_t n_rows) {
    int32_t *mark = &builder->visit_of_block[blocks[n_blocks - 1]];
    // Marks of earlier spans, lists and batches are out of date: only one that names a visit of
    // this span with this last block counts.
    bool open = *mark >= first_visit && *mark < builder->n_visits &&
                builder->visits[*mark].blocks[n_blocks - 1] == blocks[n_blocks - 1] &&
                builder->visits[*mark].n_blocks == n_blocks;
    if (!open) {
        *mark = builder->n_visits++;
        struct kv_visit visit = {.n_blocks = n_blocks, .start = start};
        for (int32_t i = 0; i < n_blocks; ++i) {
            visit.blocks[i] = blocks[i];
        }
        builder->visits[*mark] = visit;
    }
    builder->visits[*mark].row_count += n_rows;
}

// Opens the visits of one span, with the numbers of their rows.
static void open_visits(struct builder *builder, int32_t start) {
    int32_t first_visit = builder->n_visits;
    for (int32_t i = 0; i < builder->n_pieces; ++i) {
        const struct batch_piece *piece = &builder->pieces[i];
        for (int32_t n_blocks = 1; n_blocks <= KV_VISIT_BLOCKS; ++n_blocks) {
            struct row_range range = rows_seeing(builder, piece, start, n_blocks);
            if (range.begin < range.end) {
                count_rows(builder, first_visit, span_blocks(piece, start), n_blocks, start,
                           range.end - range.begin);
            }
        }
    }
}

// Lists the rows of the visits from `first_visit` on, all of one span, after those listed before.
static void list_rows(struct builder *builder, int32_t start, int32_t first_visit) {
    for (int32_t i = first_visit; i < builder->n_visits; ++i) {
        builder->visits[i].row_begin = builder->n_rows;
        builder->n_rows += builder->visits[i].row_count;
        builder->visits[i].row_count = 0; // counted again while rows are listed
    }
    for (int32_t i = 0; i < builder->n_pieces; ++i) {
        const struct batch_piece *piece = &builder->pieces[i];
        for (int32_t n_blocks = 1; n_blocks <= KV_VISIT_BLOCKS; ++n_blocks) {
            struct row_range range = rows_seeing(builder, piece, start, n_blocks);
            if (range.begin >= range.end) {
                continue;
            }
            const int32_t *blocks = span_blocks(piece, start);
            struct kv_visit *visit =
                &builder->visits[builder->visit_of_block[blocks[n_blocks - 1]]];
            ASSERT(visit->blocks[0] == blocks[0]);
            for (int32_t row = range.begin; row < range.end; ++row) {
                builder->rows[visit->row_begin + visit->row_count++] = piece->first_row + row;
            }
        }
    }
}

struct visit_list visits_build(struct batch_arrays *arrays, int32_t n_pieces, int32_t window,
                               const struct visit_arrays *memory) {
    struct builder builder = {
        .pieces = arrays->pieces,
        .visit_of_block = arrays->visit_of_block,
        .visits = memory->visits,
        .rows = memory->rows,
        .n_pieces = n_pieces,
        .window = window > 0 ? window : INT32_MAX,
    };
    int32_t first = INT32_MAX, end = 0;
    for (int32_t i = 0; i < n_pieces; ++i) {
        const struct batch_piece *piece = &builder.pieces[i];
        int32_t piece_end = piece->first_position + piece->n_rows;
        int32_t seen = piece->first_position - builder.window + 1;
        end = piece_end > end ? piece_end : end;
        first = seen < first ? seen : first;
    }
    first = first > 0 ? first / KV_VISIT_TOKENS * KV_VISIT_TOKENS : 0;
    for (int32_t start = first; start < end; start += KV_VISIT_TOKENS) {
        int32_t first_visit = builder.n_visits;
        open_visits(&builder, start);
        list_rows(&builder, start, first_visit);
    }
    return (struct visit_list){
        .n_visits = builder.n_visits, .visits = builder.visits, .rows = builder.rows};
}
