// Which visits a batch gets, for block tables written by hand.
#include "worker/model/visits.h"
#include "tests/support/testkit.h"

enum { BLOCKS = 8, ROWS = 4 };

struct batch {
    struct batch_piece pieces[ROWS];
    struct kv_visit visits[ROWS];
    int32_t visit_rows[ROWS];
    int32_t visit_of_block[BLOCKS]; // as a new context's: no mark names a visit of this batch
    struct batch_arrays arrays;
};

static void batch_init(struct batch *batch) {
    *batch = (struct batch){0};
    batch->arrays = (struct batch_arrays){.pieces = batch->pieces,
                                          .visits = {batch->visits, batch->visit_rows},
                                          .visit_of_block = batch->visit_of_block};
}

// A visit's unused places must not be taken for the block whose number is what they hold.
static void test_block_0_is_shared_like_any_other(void **state) {
    (void)state;
    int32_t short_blocks[] = {1}, long_blocks[] = {2, 0};
    const struct sequence sequences[] = {{.length = 1, .blocks = short_blocks},
                                         {.length = KV_BLOCK_TOKENS + 1, .blocks = long_blocks}};
    struct batch batch;
    batch_init(&batch);
    batch.pieces[0] = (struct batch_piece){&sequences[0], 0, 0, 1};
    batch.pieces[1] = (struct batch_piece){&sequences[1], KV_BLOCK_TOKENS, 1, 1};
    batch.pieces[2] = (struct batch_piece){&sequences[1], KV_BLOCK_TOKENS, 2, 1};
    const struct visit_list list = visits_build(&batch.arrays, 3, 0, &batch.arrays.visits);
    assert_int_equal(list.n_visits, 2);
    assert_int_equal(batch.visits[0].n_blocks, 1);
    assert_int_equal(batch.visits[0].row_count, 1);
    assert_int_equal(batch.visits[1].n_blocks, 2);
    assert_int_equal(batch.visits[1].row_count, 2);
    assert_int_equal(batch.visit_rows[batch.visits[1].row_begin], 1);
    assert_int_equal(batch.visit_rows[batch.visits[1].row_begin + 1], 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_0_is_shared_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
