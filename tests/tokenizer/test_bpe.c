#include "tests/support/testkit.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/bpe.h"

// Pieces a, aa, aaaa, ... of 2^k letters, each joined from two halves.
enum { DOUBLINGS = 8 };

struct doubling {
    struct vocabulary vocabulary;
    struct bpe bpe;
};

static void doubling_init(struct doubling *d) {
    char letters[1 << DOUBLINGS];
    memset(letters, 'a', sizeof letters);
    *d = (struct doubling){.bpe = {.unk_id = -1}};
    assert_ok(bpe_reserve(&d->bpe, DOUBLINGS), NULL);
    for (int k = 0; k < DOUBLINGS; k++) {
        assert_ok(vocabulary_add(&d->vocabulary, k, letters, (size_t)1 << k), NULL);
        if (k > 0) {
            bpe_add_merge(&d->bpe, k - 1, k - 1, (uint32_t)k, k);
        }
    }
}

static void doubling_finish(struct doubling *d) {
    bpe_finish(&d->bpe);
    vocabulary_finish(&d->vocabulary);
}

static size_t pops_for(const struct doubling *d, size_t letters, size_t *count) {
    char *text = malloc(letters);
    assert_non_null(text);
    memset(text, 'a', letters);
    struct bpe_scratch scratch = {0};
    struct id_sink sink = {0};
    assert_ok(bpe_encode_word(&d->bpe, &d->vocabulary, text, letters, &scratch, &sink), NULL);
    size_t pops = scratch.heap_pops;
    bpe_scratch_finish(&scratch);
    free(text);
    *count = sink.count;
    return pops;
}

static void test_joins_lowest_rank_first_and_leftmost_among_equals(void **state) {
    (void)state;
    struct doubling d;
    doubling_init(&d);
    struct bpe_scratch scratch = {0};
    int32_t ids[8];
    struct id_sink sink = {.ids = ids, .capacity = 8};
    assert_ok(bpe_encode_word(&d.bpe, &d.vocabulary, "aaaaaaa", 7, &scratch, &sink), NULL);
    assert_int_equal(sink.count, 3);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 1);
    assert_int_equal(ids[2], 0);
    bpe_scratch_finish(&scratch);
    doubling_finish(&d);
}

static void test_work_grows_with_the_word_and_not_with_its_square(void **state) {
    (void)state;
    struct doubling d;
    doubling_init(&d);
    size_t count;
    // A candidate per pair at the start, and at most two for each join.
    size_t letters = 1 << 20;
    size_t pops = pops_for(&d, letters, &count);
    assert_int_equal(count, letters >> (DOUBLINGS - 1));
    assert_true(pops <= 3 * letters);
    doubling_finish(&d);
}

static void test_sink_counts_beyond_its_capacity(void **state) {
    (void)state;
    int32_t ids[2] = {0, 0};
    struct id_sink sink = {.ids = ids, .capacity = 1};
    id_sink_put(&sink, 7);
    id_sink_put(&sink, 8);
    assert_int_equal(sink.count, 2);
    assert_int_equal(ids[0], 7);
    assert_int_equal(ids[1], 0);
}

static void test_fingerprint_depends_on_merges_and_their_order(void **state) {
    (void)state;
    uint64_t prints[3];
    for (int variant = 0; variant < 3; variant++) {
        struct bpe bpe = {0};
        assert_ok(bpe_reserve(&bpe, 2), NULL);
        bpe_add_merge(&bpe, 1, 2, variant == 1 ? 9 : 0, 3);
        bpe_add_merge(&bpe, 3, variant == 2 ? 2 : 1, 5, 4);
        assert_ok(bpe_fingerprint(&bpe, &prints[variant]), NULL);
        bpe_finish(&bpe);
    }
    assert_true(prints[0] != prints[1]);
    assert_true(prints[0] != prints[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joins_lowest_rank_first_and_leftmost_among_equals),
        cmocka_unit_test(test_work_grows_with_the_word_and_not_with_its_square),
        cmocka_unit_test(test_sink_counts_beyond_its_capacity),
        cmocka_unit_test(test_fingerprint_depends_on_merges_and_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
