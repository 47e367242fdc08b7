// Once a context exists, running a model allocates nothing. The linker hands every call of the
// allocator in this program to the counting wrappers below (--wrap).
#include "tests/support/testkit.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "tests/model/model_files.h"
#include "worker/model/context.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

static _Atomic long allocations;

void *__wrap_malloc(size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __real_posix_memalign(out, alignment, size);
}

static void step(struct model_context *context, struct sequence *sequence, const int32_t *ids,
                 int32_t n) {
    struct error err = {0};
    struct tensor logits;
    struct forward_item item = {sequence, ids, n, FORWARD_OUTPUT_LAST};
    assert_ok(model_forward(context, &item, 1, &err), &err);
    assert_ok(model_logits(context, model_outputs(context), &logits), NULL);
}

static void test_forward_and_logits_allocate_nothing(void **state) {
    (void)state;
    const struct model_context_options options = {.n_kv_blocks = 32,
                                                  .n_sequences = 8,
                                                  .batch_rows = 16,
                                                  .output_rows = 8,
                                                  .context_tokens = 64};
    char *directory = model_files_make(&small_llama, 1, -1);
    struct backend *backend = NULL;
    struct model *model = NULL;
    struct model_context *context = NULL;
    struct error err = {0};
    long before = allocations;
    assert_ok(backend_create("cpu", 2, &backend, &err), &err);
    assert_ok(model_open(directory, backend, PRECISION_STORED, &model, &err), &err);
    assert_ok(model_context_create(model, &options, &context, &err), &err);
    assert_true(allocations > before); // the wrappers do count

    before = allocations;
    const int32_t ids[40] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    for (int round = 0; round < 3; ++round) {
        struct sequence *stem = sequence_create(context);
        step(context, stem, ids, 40);
        for (int i = 0; i < 5; ++i) {
            struct sequence *fork = sequence_fork(context, stem, 30 + i);
            step(context, fork, ids, 3);
            sequence_truncate(context, fork, 7);
            step(context, fork, ids, 1);
            sequence_destroy(context, fork);
        }
        sequence_destroy(context, stem);
    }
    assert_int_equal(before, allocations);

    model_context_destroy(context);
    model_close(model);
    backend_destroy(backend);
    testkit_remove_tree(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_and_logits_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
