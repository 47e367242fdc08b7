// Memory of packed weights: one after the other in slabs of huge pages, in the order in which they
// are packed, which is the order in which a model uses them. Products read weights faster than
// small pages can be looked up, and hardware does not fetch past the end of a small page.
#include <stdlib.h>
#include <sys/mman.h>

#include "worker/backend/cpu/cpu_private.h"

enum { HUGE_PAGE_BYTES = 2 << 20, SLAB_BYTES = 64 << 20 };

struct weight_slab {
    struct weight_slab *next;
    char *mapping; // of mapping_bytes; memory begins at its first huge page
    size_t mapping_bytes;
    char *memory;
    size_t size;
    size_t used;
    int n_weights; // that live here
};

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static struct weight_slab *create_slab(size_t size) {
    struct weight_slab *slab = calloc(1, sizeof(*slab));
    if (slab == NULL) {
        return NULL;
    }
    slab->size = round_up(size, HUGE_PAGE_BYTES);
    slab->mapping_bytes = slab->size + HUGE_PAGE_BYTES;
    slab->mapping =
        mmap(NULL, slab->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slab->mapping == MAP_FAILED) {
        free(slab);
        return NULL;
    }
    size_t past = (uintptr_t)slab->mapping % HUGE_PAGE_BYTES;
    slab->memory = slab->mapping + (past == 0 ? 0 : HUGE_PAGE_BYTES - past);
    // Only advice: without huge pages everything works, somewhat slower.
    (void)madvise(slab->memory, slab->size, MADV_HUGEPAGE);
    return slab;
}

void *cpu_weight_alloc(struct cpu_backend *cpu, size_t size) {
    size = round_up(size, LINE_BYTES);
    struct weight_slab *slab = cpu->slabs;
    if (slab == NULL || slab->size - slab->used < size) {
        slab = create_slab(size > SLAB_BYTES ? size : SLAB_BYTES);
        if (slab == NULL) {
            return NULL;
        }
        slab->next = cpu->slabs;
        cpu->slabs = slab;
    }
    void *memory = slab->memory + slab->used;
    slab->used += size;
    slab->n_weights += 1;
    return memory;
}

void cpu_weight_free(struct cpu_backend *cpu, void *memory) {
    uintptr_t address = (uintptr_t)memory;
    for (struct weight_slab **link = &cpu->slabs; *link != NULL; link = &(*link)->next) {
        struct weight_slab *slab = *link;
        uintptr_t begin = (uintptr_t)slab->memory;
        if (address < begin || address >= begin + slab->size) {
            continue;
        }
        slab->n_weights -= 1;
        if (slab->n_weights == 0) {
            *link = slab->next;
            munmap(slab->mapping, slab->mapping_bytes);
            free(slab);
        }
        return;
    }
    ASSERT(memory == NULL);
}
