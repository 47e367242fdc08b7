#include "worker/tokenizer/unigram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/utf8.h"

#define EDGE_FREE 0u // no edge leads to the root

enum { UNIGRAM_NODES_MAX = 1 << 24, UNK_PENALTY = 10 };

// The best way to a byte of the word.
struct unigram_node {
    double score;
    uint32_t start; // where its last piece begins
    int32_t id;     // of its last piece; UNKNOWN when that is an unknown character
};

enum { UNKNOWN = -2, UNREACHED = -1 };

// An edge is child (32 bits), node (24 bits), byte (8 bits).
static size_t find_edge(const struct unigram *u, uint32_t node, uint8_t byte) {
    uint32_t key = node << 8 | byte;
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t slot = (size_t)(hash >> 32) & u->mask;
    while (u->children[slot] != EDGE_FREE && (uint32_t)u->children[slot] != key) {
        slot = (slot + 1) & u->mask;
    }
    return slot;
}

// The child of a node by a byte, 0 when there is none.
static uint32_t find_child(const struct unigram *u, uint32_t node, uint8_t byte) {
    return (uint32_t)(u->children[find_edge(u, node, byte)] >> 32);
}

static void add_piece(struct unigram *u, const char *piece, size_t bytes, int32_t id) {
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        size_t slot = find_edge(u, node, (uint8_t)piece[i]);
        if (u->children[slot] == EDGE_FREE) {
            uint32_t child = (uint32_t)u->n_nodes++;
            u->children[slot] = (uint64_t)child << 32 | node << 8 | (uint8_t)piece[i];
            u->ids[child] = -1;
        }
        node = (uint32_t)(u->children[slot] >> 32);
    }
    u->ids[node] = id;
}

static bool is_piece(const struct vocabulary *v, size_t n_scores, int32_t id) {
    return (size_t)id < n_scores && v->tokens[id].present && !v->tokens[id].special;
}

enum { SCORE_SCALE_BITS_MAX = 40 };

static void set_score_scale(struct unigram *u) {
    double scale = 1;
    double limit = ldexp(1, SCORE_SCALE_BITS_MAX);
    u->score_max = fabs(u->unk_score);
    for (size_t i = 0; i < u->n_scores; i++) {
        double score = u->scores[i];
        u->score_max = fabs(score) > u->score_max ? fabs(score) : u->score_max;
        while (scale <= limit && score * scale != floor(score * scale)) {
            scale *= 2;
        }
    }
    double unk = u->unk_score * scale;
    u->score_scale = scale <= limit && unk == floor(unk) ? scale : 0;
}

static void set_splits_at_mark(struct unigram *u, const struct vocabulary *vocabulary) {
    int32_t mark = vocabulary_find(vocabulary, "\xE2\x96\x81", 3);
    u->splits_at_mark = mark >= 0 && is_piece(vocabulary, u->n_scores, mark);
    for (int32_t id = 0; id < vocabulary->size && u->splits_at_mark; id++) {
        u->splits_at_mark =
            !is_piece(vocabulary, u->n_scores, id) || !vocabulary_has_inner_mark(vocabulary, id);
    }
}

bool unigram_splits(const struct unigram *unigram, size_t bytes) {
    static const double exact = 9007199254740992.0; // 2^53
    double sum = unigram->score_max * unigram->score_scale * (double)(bytes + 1);
    return unigram->splits_at_mark && unigram->score_scale > 0 && sum <= exact;
}

enum status unigram_prepare(struct unigram *unigram, const struct vocabulary *vocabulary) {
    size_t nodes_max = 1;
    double lowest = INFINITY;
    for (size_t i = 0; i < unigram->n_scores; i++) {
        lowest = unigram->scores[i] < lowest ? unigram->scores[i] : lowest;
    }
    unigram->unk_score = lowest - UNK_PENALTY;
    for (int32_t id = 0; id < vocabulary->size; id++) {
        nodes_max +=
            is_piece(vocabulary, unigram->n_scores, id) ? vocabulary->tokens[id].content_bytes : 0;
    }
    if (nodes_max > UNIGRAM_NODES_MAX) {
        return STATUS_LIMIT;
    }
    size_t slots = 16;
    while (slots < nodes_max + nodes_max / 2) {
        slots *= 2;
    }
    unigram->children = calloc(slots, sizeof *unigram->children);
    unigram->ids = malloc(nodes_max * sizeof *unigram->ids);
    if (unigram->children == NULL || unigram->ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    unigram->mask = slots - 1;
    unigram->n_nodes = 1;
    unigram->ids[0] = -1;
    for (int32_t id = 0; id < vocabulary->size; id++) {
        if (is_piece(vocabulary, unigram->n_scores, id)) {
            size_t bytes;
            const char *piece = vocabulary_content(vocabulary, id, &bytes);
            add_piece(unigram, piece, bytes, id);
        }
    }
    set_score_scale(unigram);
    set_splits_at_mark(unigram, vocabulary);
    return STATUS_OK;
}

static void offer(struct unigram_node *target, double score, size_t start, int32_t id) {
    if (target->id == UNREACHED || score > target->score) {
        *target = (struct unigram_node){.score = score, .start = (uint32_t)start, .id = id};
    }
}

// Extends the ways that reach byte `at` by every piece that starts there.
static void extend(const struct unigram *u, const char *word, size_t bytes, size_t at,
                   struct unigram_node *nodes) {
    size_t character = utf8_length(word[at]);
    double score = nodes[at].score;
    bool single = false;
    uint32_t node = 0;
    for (size_t end = at; end < bytes;) {
        node = find_child(u, node, (uint8_t)word[end++]);
        if (node == 0) {
            break;
        }
        if (u->ids[node] >= 0) {
            offer(&nodes[end], u->scores[u->ids[node]] + score, at, u->ids[node]);
            single = single || end - at == character;
        }
    }
    if (!single) {
        offer(&nodes[at + character], u->unk_score + score, at, UNKNOWN);
    }
}

// A run of unknown characters: their bytes where each has a piece, else one unk_id.
static enum status put_unknown(const struct unigram *u, const char *run, size_t bytes,
                               struct id_sink *sink) {
    bool covered = u->byte_fallback;
    for (size_t i = 0; i < bytes && covered; i++) {
        covered = u->byte_ids[(uint8_t)run[i]] >= 0;
    }
    if (!covered && u->unk_id < 0) {
        return STATUS_UNSUPPORTED;
    }
    for (size_t i = 0; i < bytes && covered; i++) {
        id_sink_put(sink, u->byte_ids[(uint8_t)run[i]]);
    }
    if (!covered) {
        id_sink_put(sink, u->unk_id);
    }
    return STATUS_OK;
}

// Turns the links around, so that the way can be walked from its start: node i then holds in
// `start` where the piece that begins at i ends, and its id.
static void reverse_path(struct unigram_node *nodes, size_t bytes) {
    size_t at = bytes;
    size_t end = 0;
    int32_t id = 0;
    while (true) {
        struct unigram_node node = nodes[at];
        nodes[at].start = (uint32_t)end;
        nodes[at].id = id;
        if (at == 0) {
            break;
        }
        end = at;
        id = node.id;
        at = node.start;
    }
}

enum status unigram_encode_word(const struct unigram *unigram, const char *word, size_t bytes,
                                struct unigram_scratch *scratch, struct id_sink *sink) {
    if (bytes + 1 > scratch->capacity) {
        size_t capacity = 2 * (bytes + 1);
        struct unigram_node *nodes = realloc(scratch->nodes, capacity * sizeof *nodes);
        if (nodes == NULL) {
            return STATUS_NO_MEMORY;
        }
        scratch->nodes = nodes;
        scratch->capacity = capacity;
    }
    struct unigram_node *nodes = scratch->nodes;
    nodes[0] = (struct unigram_node){0};
    for (size_t i = 1; i <= bytes; i++) {
        nodes[i].id = UNREACHED;
    }
    for (size_t at = 0; at < bytes; at += utf8_length(word[at])) {
        extend(unigram, word, bytes, at, nodes);
    }
    reverse_path(nodes, bytes);
    enum status status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK;) {
        size_t end = nodes[at].start;
        if (nodes[at].id >= 0) {
            id_sink_put(sink, nodes[at].id);
        } else {
            while (end < bytes && nodes[end].id == UNKNOWN) {
                end = nodes[end].start;
            }
            status = put_unknown(unigram, word + at, end - at, sink);
        }
        at = end;
    }
    return status;
}

void unigram_scratch_finish(struct unigram_scratch *scratch) {
    free(scratch->nodes);
    *scratch = (struct unigram_scratch){0};
}

void unigram_finish(struct unigram *unigram) {
    free(unigram->scores);
    free(unigram->children);
    free(unigram->ids);
    unigram->scores = NULL;
    unigram->children = NULL;
    unigram->ids = NULL;
}
