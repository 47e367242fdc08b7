#include "worker/tokenizer/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/utf8.h"

#define BPE_KEY_FREE UINT64_MAX

// A part of the word; parts form a list so that joining two costs the same anywhere.
struct bpe_symbol {
    int32_t id; // -1 once joined into its left neighbour
    int32_t previous;
    int32_t next; // index, -1 at the ends
};

// A pair that could be joined. It may have gone stale when it is popped.
struct bpe_candidate {
    uint32_t rank;
    int32_t position; // of the left symbol
    int32_t id;       // of the joined piece
};

static uint64_t pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t find_slot(const struct bpe *bpe, uint64_t key) {
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t slot = (size_t)(hash ^ hash >> 32) & bpe->mask;
    while (bpe->merges[slot].key != key && bpe->merges[slot].key != BPE_KEY_FREE) {
        slot = (slot + 1) & bpe->mask;
    }
    return slot;
}

static const struct merge *find_merge(const struct bpe *bpe, int32_t left, int32_t right) {
    const struct merge *merge = &bpe->merges[find_slot(bpe, pair_key(left, right))];
    return merge->key == BPE_KEY_FREE || merge->id < 0 ? NULL : merge;
}

enum status bpe_reserve(struct bpe *bpe, size_t n_merges) {
    if (n_merges > BPE_MERGES_MAX) {
        return STATUS_LIMIT;
    }
    size_t slots = 16;
    while (slots < 2 * n_merges) {
        slots *= 2;
    }
    struct merge *merges = malloc(slots * sizeof *merges);
    if (merges == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < slots; i++) {
        merges[i].key = BPE_KEY_FREE;
    }
    free(bpe->merges);
    bpe->merges = merges;
    bpe->mask = slots - 1;
    bpe->count = 0;
    return STATUS_OK;
}

void bpe_add_merge(struct bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    uint64_t key = pair_key(left, right);
    struct merge *merge = &bpe->merges[find_slot(bpe, key)];
    if (merge->key == BPE_KEY_FREE) {
        bpe->count++;
        ASSERT(2 * bpe->count <= bpe->mask + 1);
    }
    *merge = (struct merge){.key = key, .rank = rank, .id = id};
}

void bpe_prepare(struct bpe *bpe, const struct vocabulary *vocabulary) {
    // A mark that is no piece could be one unknown character with its neighbour, and a word that is
    // taken whole must be looked for as it is.
    bpe->splits_at_mark = !bpe->byte_level && !bpe->ignore_merges &&
                          vocabulary_find(vocabulary, "\xE2\x96\x81", 3) >= 0;
    for (size_t i = 0; bpe->merges != NULL && i <= bpe->mask; i++) {
        struct merge *merge = &bpe->merges[i];
        if (merge->key != BPE_KEY_FREE && vocabulary->tokens[merge->id].special) {
            merge->id = -1;
        } else if (merge->key != BPE_KEY_FREE && bpe->splits_at_mark) {
            bpe->splits_at_mark = !vocabulary_has_inner_mark(vocabulary, merge->id);
        }
    }
}

static int compare_ranks(const void *a, const void *b) {
    const struct merge *x = a;
    const struct merge *y = b;
    return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

// Puts every merge at the place of its rank, which is how most files number them; false when two
// have one rank or one is too high.
static bool place_by_rank(const struct bpe *bpe, struct merge *places, size_t n) {
    for (size_t i = 0; i < n; i++) {
        places[i].key = BPE_KEY_FREE;
    }
    for (size_t i = 0; i <= bpe->mask; i++) {
        const struct merge *merge = &bpe->merges[i];
        if (merge->key == BPE_KEY_FREE) {
            continue;
        }
        if (merge->rank >= n || places[merge->rank].key != BPE_KEY_FREE) {
            return false;
        }
        places[merge->rank] = *merge;
    }
    return true;
}

enum status bpe_fingerprint(const struct bpe *bpe, uint64_t *out) {
    struct merge *sorted = malloc((bpe->count + 1) * sizeof *sorted);
    if (sorted == NULL) {
        return STATUS_NO_MEMORY;
    }
    bool placed = place_by_rank(bpe, sorted, bpe->count);
    size_t n = 0;
    for (size_t i = 0; i < (placed ? bpe->count : bpe->mask + 1); i++) {
        struct merge merge = placed ? sorted[i] : bpe->merges[i];
        if (merge.key != BPE_KEY_FREE && merge.id >= 0) {
            sorted[n++] = merge;
        }
    }
    if (!placed) {
        qsort(sorted, n, sizeof *sorted, compare_ranks);
    }
    // A sum within a group of equals, because their order is not known.
    uint64_t sum = 0;
    uint64_t group = 0;
    for (size_t i = 0; i < n; i++) {
        group += i > 0 && sorted[i].id != sorted[i - 1].id;
        sum += mix(mix(sorted[i].key + group) + (uint64_t)sorted[i].id);
    }
    free(sorted);
    *out = sum;
    return STATUS_OK;
}

static bool comes_before(struct bpe_candidate a, struct bpe_candidate b) {
    return a.rank != b.rank ? a.rank < b.rank : a.position < b.position;
}

static enum status heap_push(struct bpe_scratch *scratch, struct bpe_candidate candidate) {
    if (scratch->heap_count == scratch->heap_capacity) {
        size_t capacity = 2 * scratch->heap_capacity + 64;
        struct bpe_candidate *heap = realloc(scratch->heap, capacity * sizeof *heap);
        if (heap == NULL) {
            return STATUS_NO_MEMORY;
        }
        scratch->heap = heap;
        scratch->heap_capacity = capacity;
    }
    size_t i = scratch->heap_count++;
    while (i > 0 && comes_before(candidate, scratch->heap[(i - 1) / 2])) {
        scratch->heap[i] = scratch->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    scratch->heap[i] = candidate;
    return STATUS_OK;
}

static struct bpe_candidate heap_pop(struct bpe_scratch *scratch) {
    struct bpe_candidate *heap = scratch->heap;
    struct bpe_candidate top = heap[0];
    struct bpe_candidate last = heap[--scratch->heap_count];
    size_t n = scratch->heap_count;
    size_t i = 0;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && comes_before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!comes_before(heap[child], last)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = last;
    scratch->heap_pops++;
    return top;
}

// Offers the pair that starts at `position`, if it can be joined.
static enum status offer_pair(const struct bpe *bpe, struct bpe_scratch *scratch,
                              int32_t position) {
    if (position < 0 || scratch->symbols[position].next < 0) {
        return STATUS_OK;
    }
    const struct bpe_symbol *left = &scratch->symbols[position];
    const struct merge *merge = find_merge(bpe, left->id, scratch->symbols[left->next].id);
    if (merge == NULL) {
        return STATUS_OK;
    }
    return heap_push(scratch, (struct bpe_candidate){merge->rank, position, merge->id});
}

static enum status reserve_symbols(struct bpe_scratch *scratch, size_t n) {
    if (n <= scratch->symbols_capacity) {
        return STATUS_OK;
    }
    struct bpe_symbol *symbols = realloc(scratch->symbols, 2 * n * sizeof *symbols);
    if (symbols == NULL) {
        return STATUS_NO_MEMORY;
    }
    scratch->symbols = symbols;
    scratch->symbols_capacity = 2 * n;
    return STATUS_OK;
}

static void put_symbol(struct bpe_scratch *scratch, int32_t id, int32_t *n) {
    scratch->symbols[*n] = (struct bpe_symbol){.id = id, .previous = *n - 1, .next = *n + 1};
    ++*n;
}

// True when the character became its bytes.
static bool put_fallback(const struct bpe *bpe, const char *character, size_t bytes,
                         struct bpe_scratch *scratch, int32_t *n) {
    if (!bpe->byte_fallback) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (bpe->byte_ids[(uint8_t)character[i]] < 0) {
            return false;
        }
    }
    for (size_t i = 0; i < bytes; i++) {
        put_symbol(scratch, bpe->byte_ids[(uint8_t)character[i]], n);
    }
    return true;
}

// Cuts the word into its smallest parts; returns how many. There is room for one per byte.
static int32_t put_symbols(const struct bpe *bpe, const struct vocabulary *vocabulary,
                           const char *word, size_t bytes, struct bpe_scratch *scratch) {
    int32_t n = 0;
    bool unk = false; // one waits, because another may join it; fallback bytes pass it by
    for (size_t i = 0; i < bytes;) {
        size_t length = bpe->byte_level ? 1 : utf8_length(word[i]);
        int32_t id = bpe->byte_level ? bpe->byte_ids[(uint8_t)word[i]]
                                     : vocabulary_find(vocabulary, word + i, length);
        bool fell_back =
            id < 0 && !bpe->byte_level && put_fallback(bpe, word + i, length, scratch, &n);
        bool is_unk = id < 0 && !fell_back && bpe->unk_id >= 0;
        if (unk && (id >= 0 || (is_unk && !bpe->fuse_unk))) {
            put_symbol(scratch, bpe->unk_id, &n);
        }
        unk = is_unk || (unk && id < 0);
        if (id >= 0) {
            put_symbol(scratch, id, &n);
        }
        i += length;
    }
    if (unk) {
        put_symbol(scratch, bpe->unk_id, &n);
    }
    if (n > 0) {
        scratch->symbols[n - 1].next = -1;
    }
    return n;
}

static enum status join_symbols(const struct bpe *bpe, struct bpe_scratch *scratch, int32_t n) {
    enum status status = STATUS_OK;
    struct bpe_symbol *symbols = scratch->symbols;
    scratch->heap_count = 0;
    for (int32_t i = 0; i < n - 1 && status == STATUS_OK; i++) {
        status = offer_pair(bpe, scratch, i);
    }
    while (status == STATUS_OK && scratch->heap_count > 0) {
        struct bpe_candidate top = heap_pop(scratch);
        struct bpe_symbol *left = &symbols[top.position];
        if (left->id < 0 || left->next < 0) {
            continue;
        }
        struct bpe_symbol *right = &symbols[left->next];
        const struct merge *merge = find_merge(bpe, left->id, right->id);
        if (merge == NULL || merge->id != top.id) {
            continue;
        }
        left->id = top.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) {
            symbols[left->next].previous = top.position;
        }
        status = offer_pair(bpe, scratch, left->previous);
        if (status == STATUS_OK) {
            status = offer_pair(bpe, scratch, top.position);
        }
    }
    return status;
}

enum { SHORT_WORD = 48 };

// The same as join_symbols for few symbols, which lie in an array: looking through them all costs
// less than a heap. Returns how many are left of ids [n].
static size_t join_few(const struct bpe *bpe, int32_t *ids, size_t n) {
    uint32_t ranks[SHORT_WORD]; // of the pair that starts here, UINT32_MAX for none
    int32_t joined[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) {
        const struct merge *merge = find_merge(bpe, ids[i], ids[i + 1]);
        ranks[i] = merge != NULL ? merge->rank : UINT32_MAX;
        joined[i] = merge != NULL ? merge->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++) {
            best = ranks[i] < ranks[best] ? i : best;
        }
        if (ranks[best] == UINT32_MAX) {
            break;
        }
        ids[best] = joined[best];
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(ranks + best, ranks + best + 1, (n - best - 1) * sizeof *ranks);
        memmove(joined + best, joined + best + 1, (n - best - 1) * sizeof *joined);
        for (size_t i = best > 0 ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const struct merge *merge = find_merge(bpe, ids[i], ids[i + 1]);
            ranks[i] = merge != NULL ? merge->rank : UINT32_MAX;
            joined[i] = merge != NULL ? merge->id : -1;
        }
    }
    return n;
}

static void encode_few(const struct bpe *bpe, const struct bpe_scratch *scratch, size_t n,
                       struct id_sink *sink) {
    int32_t ids[SHORT_WORD];
    for (size_t i = 0; i < n; i++) {
        ids[i] = scratch->symbols[i].id;
    }
    n = join_few(bpe, ids, n);
    for (size_t i = 0; i < n; i++) {
        id_sink_put(sink, ids[i]);
    }
}

// The id of a word that is itself an ordinary piece, -1 otherwise.
static int32_t find_whole(const struct bpe *bpe, const struct vocabulary *vocabulary,
                          const char *word, size_t bytes) {
    if (bytes > TOKENIZER_PIECE_BYTES_MAX) {
        return -1;
    }
    char spelling[2 * TOKENIZER_PIECE_BYTES_MAX];
    if (bpe->byte_level) {
        bytes = byte_level_spell(word, bytes, spelling);
        word = spelling;
    }
    int32_t id = vocabulary_find(vocabulary, word, bytes);
    return id >= 0 && vocabulary->tokens[id].special ? -1 : id;
}

enum status bpe_encode_word(const struct bpe *bpe, const struct vocabulary *vocabulary,
                            const char *word, size_t bytes, struct bpe_scratch *scratch,
                            struct id_sink *sink) {
    if (bpe->ignore_merges) {
        int32_t id = find_whole(bpe, vocabulary, word, bytes);
        if (id >= 0) {
            id_sink_put(sink, id);
            return STATUS_OK;
        }
    }
    enum status status = reserve_symbols(scratch, bytes);
    if (status != STATUS_OK) {
        return status;
    }
    int32_t n = put_symbols(bpe, vocabulary, word, bytes, scratch);
    if (n <= SHORT_WORD) {
        encode_few(bpe, scratch, (size_t)n, sink);
        return STATUS_OK;
    }
    status = join_symbols(bpe, scratch, n);
    for (int32_t i = n > 0 ? 0 : -1; i >= 0 && status == STATUS_OK; i = scratch->symbols[i].next) {
        id_sink_put(sink, scratch->symbols[i].id);
    }
    return status;
}

void id_sink_put(struct id_sink *sink, int32_t id) {
    if (sink->count < sink->capacity) {
        sink->ids[sink->count] = id;
    }
    sink->count++;
}

void bpe_scratch_finish(struct bpe_scratch *scratch) {
    free(scratch->symbols);
    free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

void bpe_finish(struct bpe *bpe) {
    free(bpe->merges);
    bpe->merges = NULL;
}
