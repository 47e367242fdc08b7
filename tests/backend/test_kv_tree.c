// The KV tree against a model of what each sequence must contain: the test writes a number into the
// cell of every new position and follows the copies that the tree asks for, so that a block that is
// shared too long, copied too short or freed too early shows as a wrong number.
#include "tests/support/testkit.h"

#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "worker/model/kv_tree.h"

enum { N_BLOCKS = 48, N_SEQUENCES = 12, CONTEXT = 150, STEPS = 60000 };

struct shadow {
    struct sequence *sequence; // NULL: free
    int32_t values[CONTEXT];
};

struct world {
    struct kv_tree *tree;
    struct shadow shadows[N_SEQUENCES];
    int32_t cells[N_BLOCKS][KV_BLOCK_TOKENS];
    int32_t next_value;
    uint64_t draws;
};

static int32_t draw(struct world *world, int32_t n) {
    return (int32_t)(rng_uniform(41, world->draws++, 0, 0) * n);
}

static void set_up(struct world *world) {
    const struct kv_tree_options options = {N_BLOCKS, N_SEQUENCES, CONTEXT};
    memset(world, 0, sizeof(*world));
    assert_ok(kv_tree_create(&options, &world->tree), NULL);
}

static void write_new(struct world *world, struct shadow *shadow, int32_t from) {
    for (int32_t p = from; p < shadow->sequence->length; ++p) {
        int32_t block = shadow->sequence->blocks[p / KV_BLOCK_TOKENS];
        assert_int_equal(1, kv_tree_references(world->tree, block));
        shadow->values[p] = ++world->next_value;
        world->cells[block][p % KV_BLOCK_TOKENS] = shadow->values[p];
    }
}

// Grows a random subset of the sequences in one go, as a forward call does.
static void grow_some(struct world *world) {
    struct kv_growth growths[N_SEQUENCES];
    struct shadow *grown[N_SEQUENCES];
    int32_t n = 0;
    for (int i = 0; i < N_SEQUENCES; ++i) {
        struct shadow *shadow = &world->shadows[i];
        int32_t room = shadow->sequence != NULL ? CONTEXT - shadow->sequence->length : 0;
        if (room > 0 && draw(world, 2) == 0) {
            int32_t n_tokens = 1 + draw(world, room < 40 ? room : 40);
            grown[n] = shadow;
            growths[n++] = (struct kv_growth){shadow->sequence, n_tokens};
        }
    }
    int32_t before = kv_tree_blocks_free(world->tree);
    int64_t needed = kv_tree_blocks_needed(world->tree, growths, n);
    if (needed > before) {
        return;
    }
    for (int32_t i = 0; i < n; ++i) {
        int32_t old = growths[i].sequence->length;
        struct kv_block_copy copy;
        if (kv_tree_grow(world->tree, &growths[i], &copy)) {
            memcpy(world->cells[copy.destination], world->cells[copy.source],
                   KV_BLOCK_TOKENS * sizeof(int32_t));
        }
        write_new(world, grown[i], old);
    }
    assert_int_equal(before - needed, kv_tree_blocks_free(world->tree));
}

static void fork_one(struct world *world) {
    struct shadow *from = &world->shadows[draw(world, N_SEQUENCES)];
    struct shadow *to = &world->shadows[draw(world, N_SEQUENCES)];
    if (to->sequence != NULL) {
        return;
    }
    int32_t before = kv_tree_blocks_free(world->tree);
    if (from->sequence == NULL) {
        to->sequence = kv_tree_sequence_create(world->tree);
    } else {
        int32_t length = draw(world, from->sequence->length + 1);
        to->sequence = kv_tree_sequence_fork(world->tree, from->sequence, length);
        memcpy(to->values, from->values, sizeof(to->values));
        assert_int_equal(length, to->sequence->length);
    }
    assert_non_null(to->sequence);
    assert_int_equal(before, kv_tree_blocks_free(world->tree)); // forks take nothing
}

static void step(struct world *world) {
    struct shadow *shadow = &world->shadows[draw(world, N_SEQUENCES)];
    switch (draw(world, 4)) {
    case 0:
        grow_some(world);
        break;
    case 1:
        fork_one(world);
        break;
    case 2:
        if (shadow->sequence != NULL) {
            kv_tree_sequence_truncate(world->tree, shadow->sequence,
                                      draw(world, shadow->sequence->length + 1));
        }
        break;
    default:
        kv_tree_sequence_destroy(world->tree, shadow->sequence);
        shadow->sequence = NULL;
        break;
    }
}

// Contents, counts and the number of free blocks, recomputed from the sequences alone.
static void check(const struct world *world) {
    int32_t holders[N_BLOCKS] = {0};
    for (int i = 0; i < N_SEQUENCES; ++i) {
        const struct shadow *shadow = &world->shadows[i];
        int32_t length = shadow->sequence != NULL ? shadow->sequence->length : 0;
        for (int32_t p = 0; p < length; ++p) {
            int32_t block = shadow->sequence->blocks[p / KV_BLOCK_TOKENS];
            assert_int_equal(shadow->values[p], world->cells[block][p % KV_BLOCK_TOKENS]);
            holders[block] += p % KV_BLOCK_TOKENS == 0;
        }
    }
    int32_t n_free = 0;
    for (int32_t block = 0; block < N_BLOCKS; ++block) {
        assert_int_equal(holders[block], kv_tree_references(world->tree, block));
        n_free += holders[block] == 0;
    }
    assert_int_equal(n_free, kv_tree_blocks_free(world->tree));
}

static void test_random_histories_keep_contents_and_counts(void **state) {
    (void)state;
    struct world world;
    set_up(&world);
    for (int i = 0; i < STEPS; ++i) {
        step(&world);
        check(&world);
    }
    for (int i = 0; i < N_SEQUENCES; ++i) {
        kv_tree_sequence_destroy(world.tree, world.shadows[i].sequence);
    }
    assert_int_equal(N_BLOCKS, kv_tree_blocks_free(world.tree));
    assert_int_equal(0, kv_tree_sequences_alive(world.tree));
    kv_tree_destroy(world.tree);
}

static void test_many_forks_hold_the_prompt_once(void **state) {
    (void)state;
    enum { FORKS = 256, PROMPT = 520, PROMPT_BLOCKS = 33 };
    const struct kv_tree_options options = {PROMPT_BLOCKS + FORKS, FORKS + 1, 1024};
    struct kv_tree *tree = NULL;
    assert_ok(kv_tree_create(&options, &tree), NULL);
    struct kv_block_copy copy;
    struct kv_growth growths[FORKS + 1];
    struct sequence *prompt = kv_tree_sequence_create(tree);
    assert_false(kv_tree_grow(tree, &(struct kv_growth){prompt, PROMPT}, &copy));
    for (int i = 0; i < FORKS; ++i) {
        growths[i] = (struct kv_growth){kv_tree_sequence_fork(tree, prompt, PROMPT), 8};
    }
    assert_null(kv_tree_sequence_create(tree));
    assert_int_equal(FORKS, kv_tree_blocks_free(tree));
    assert_int_equal(FORKS + 1, kv_tree_references(tree, prompt->blocks[0]));
    // Each fork fills a copy of the open block; the prompt itself holds the original.
    assert_int_equal(FORKS, kv_tree_blocks_needed(tree, growths, FORKS));
    for (int i = 0; i < FORKS; ++i) {
        assert_true(kv_tree_grow(tree, &growths[i], &copy));
        assert_int_equal(prompt->blocks[PROMPT_BLOCKS - 1], copy.source);
    }
    assert_int_equal(0, kv_tree_blocks_free(tree));
    assert_int_equal(1, kv_tree_references(tree, prompt->blocks[PROMPT_BLOCKS - 1]));
    for (int i = 0; i < FORKS; ++i) {
        kv_tree_sequence_destroy(tree, growths[i].sequence);
    }
    assert_int_equal(FORKS, kv_tree_blocks_free(tree));
    kv_tree_sequence_destroy(tree, prompt);
    assert_int_equal(options.n_blocks, kv_tree_blocks_free(tree));
    kv_tree_destroy(tree);
}

static void test_last_holder_of_an_open_block_copies_nothing(void **state) {
    (void)state;
    const struct kv_tree_options options = {3, 3, 64};
    struct kv_tree *tree = NULL;
    assert_ok(kv_tree_create(&options, &tree), NULL);
    struct kv_block_copy copy;
    struct sequence *prompt = kv_tree_sequence_create(tree);
    assert_false(kv_tree_grow(tree, &(struct kv_growth){prompt, 5}, &copy));
    struct kv_growth growths[2] = {{kv_tree_sequence_fork(tree, prompt, 5), 1},
                                   {kv_tree_sequence_fork(tree, prompt, 4), 1}};
    kv_tree_sequence_destroy(tree, prompt);
    assert_int_equal(1, kv_tree_blocks_needed(tree, growths, 2));
    assert_true(kv_tree_grow(tree, &growths[1], &copy));
    assert_false(kv_tree_grow(tree, &growths[0], &copy));
    kv_tree_destroy(tree);
}

// A context far above the KV costs no tables for positions that no block can hold.
static void test_tables_are_no_longer_than_the_blocks(void **state) {
    (void)state;
    enum { BLOCKS = 3 };
    const struct kv_tree_options options = {BLOCKS, 1 << 10, 1 << 24};
    assert_int_equal(BLOCKS, kv_tree_blocks_per_sequence(&options));
    assert_true(kv_tree_bytes(&options) < 1 << 17);
    struct kv_tree *tree = NULL;
    assert_ok(kv_tree_create(&options, &tree), NULL);
    struct kv_block_copy copy;
    const struct kv_growth all = {kv_tree_sequence_create(tree), BLOCKS * KV_BLOCK_TOKENS};
    assert_int_equal(BLOCKS, kv_tree_blocks_needed(tree, &all, 1));
    assert_false(kv_tree_grow(tree, &all, &copy));
    assert_int_equal(0, kv_tree_blocks_free(tree));
    const struct kv_growth more = {all.sequence, 1};
    assert_int_equal(1, kv_tree_blocks_needed(tree, &more, 1));
    kv_tree_destroy(tree);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_histories_keep_contents_and_counts),
        cmocka_unit_test(test_many_forks_hold_the_prompt_once),
        cmocka_unit_test(test_last_holder_of_an_open_block_copies_nothing),
        cmocka_unit_test(test_tables_are_no_longer_than_the_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
