#include "worker/tokenizer/sentencepiece.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/tokenizer_source.h"
#include "worker/tokenizer/utf8.h"

static const struct normalize_string space = {" ", 1};
static const struct normalize_string space_mark = {"\xE2\x96\x81", 3};

static enum status piece_error(const struct sentencepiece_model *m, size_t id, enum status status,
                               const char *reason, struct error *err) {
    return error_set(err, status, m->file, "piece %zu %s", id, reason);
}

static enum status add_piece(const struct sentencepiece_model *m, size_t id,
                             struct tokenizer *tokenizer, struct error *err) {
    const struct sentencepiece_piece *piece = &m->pieces[id];
    size_t offset;
    if (piece->type < SENTENCEPIECE_NORMAL || piece->type > SENTENCEPIECE_BYTE) {
        return piece_error(m, id, STATUS_MALFORMED, "has a type that is not 1 to 6", err);
    }
    if (piece->bytes > 0 && !utf8_validate(piece->text, piece->bytes, &offset)) {
        return piece_error(m, id, STATUS_MALFORMED, "is not UTF-8", err);
    }
    if (!isfinite(piece->score)) {
        return piece_error(m, id, STATUS_MALFORMED, "has a score that is not finite", err);
    }
    enum status status =
        vocabulary_add(&tokenizer->vocabulary, (int64_t)id, piece->text, piece->bytes);
    switch (status) {
    case STATUS_OK:
        return STATUS_OK;
    case STATUS_ALREADY_EXISTS:
        return piece_error(m, id, STATUS_MALFORMED, "occurs twice", err);
    case STATUS_MALFORMED:
        return piece_error(m, id, STATUS_MALFORMED, "is empty", err);
    case STATUS_LIMIT:
        return error_set(err, STATUS_LIMIT, m->file,
                         "piece %zu: at most %d pieces of at most %d bytes", id,
                         TOKENIZER_VOCAB_MAX, TOKENIZER_PIECE_BYTES_MAX);
    default:
        return piece_error(m, id, status, "cannot be stored", err);
    }
}

static enum status add_pieces(const struct sentencepiece_model *m, struct tokenizer *tokenizer,
                              struct error *err) {
    if (m->n_pieces == 0) {
        return error_set(err, STATUS_MALFORMED, m->file, "no pieces");
    }
    enum status status = STATUS_OK;
    for (size_t id = 0; id < m->n_pieces && status == STATUS_OK; id++) {
        status = add_piece(m, id, tokenizer, err);
    }
    tokenizer->model_size = (int32_t)m->n_pieces;
    const int32_t ids[] = {m->unk_id, m->bos_id, m->eos_id, m->pad_id};
    for (size_t i = 0; i < 4 && status == STATUS_OK; i++) {
        if (ids[i] < -1 || ids[i] >= tokenizer->model_size) {
            return error_set(err, STATUS_MALFORMED, m->file, "id %d is not one of %d pieces",
                             ids[i], tokenizer->model_size);
        }
    }
    return status;
}

// A place in the order in which pieces are made.
struct ranked_piece {
    float score;
    int32_t id;
};

static int compare_ranked(const void *a, const void *b) {
    const struct ranked_piece *x = a;
    const struct ranked_piece *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

// Id of a part of a piece that may be merged, -1 otherwise.
static int32_t find_part(const struct sentencepiece_model *m, const struct tokenizer *tokenizer,
                         const char *text, size_t bytes, bool normal_only) {
    int32_t id = vocabulary_find(&tokenizer->vocabulary, text, bytes);
    return id >= 0 && normal_only && m->pieces[id].type != SENTENCEPIECE_NORMAL ? -1 : id;
}

// The ways to make each piece of two others, in the order of the pieces. Only counts when `add` is
// false.
static size_t derive_merges(const struct sentencepiece_model *m, const struct ranked_piece *order,
                            size_t n, bool normal_only, struct tokenizer *tokenizer, bool add) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sentencepiece_piece *piece = &m->pieces[order[i].id];
        for (size_t at = 0; at < piece->bytes; at += utf8_length(piece->text[at])) {
            int32_t left = at > 0 ? find_part(m, tokenizer, piece->text, at, normal_only) : -1;
            int32_t right = left < 0 ? -1
                                     : find_part(m, tokenizer, piece->text + at, piece->bytes - at,
                                                 normal_only);
            if (right >= 0 && add) {
                bpe_add_merge(&tokenizer->bpe, left, right, (uint32_t)count, order[i].id);
            }
            count += right >= 0 ? 1 : 0;
        }
    }
    return count;
}

static enum status add_merges(const struct sentencepiece_model *m, bool by_score,
                              struct tokenizer *tokenizer, struct error *err) {
    struct ranked_piece *order = malloc(m->n_pieces * sizeof *order);
    if (order == NULL) {
        return error_set(err, STATUS_NO_MEMORY, m->file, "no memory for the order of merges");
    }
    size_t n = 0;
    for (size_t id = 0; id < m->n_pieces; id++) {
        if (!by_score || m->pieces[id].type == SENTENCEPIECE_NORMAL) {
            order[n++] = (struct ranked_piece){by_score ? m->pieces[id].score : 0, (int32_t)id};
        }
    }
    qsort(order, n, sizeof *order, compare_ranked);
    size_t merges = derive_merges(m, order, n, by_score, tokenizer, false);
    enum status status = bpe_reserve(&tokenizer->bpe, merges);
    if (status == STATUS_OK) {
        derive_merges(m, order, n, by_score, tokenizer, true);
    } else {
        error_set(err, status, m->file, "%zu merges, the limit is %d", merges, BPE_MERGES_MAX);
    }
    free(order);
    return status;
}

static enum status set_unigram(const struct sentencepiece_model *m, struct tokenizer *tokenizer,
                               struct error *err) {
    struct unigram *unigram = &tokenizer->unigram;
    tokenizer->kind = MODEL_UNIGRAM;
    unigram->scores = malloc(m->n_pieces * sizeof *unigram->scores);
    if (unigram->scores == NULL) {
        return error_set(err, STATUS_NO_MEMORY, m->file, "no memory for the scores");
    }
    unigram->n_scores = m->n_pieces;
    for (size_t id = 0; id < m->n_pieces; id++) {
        unigram->scores[id] = m->pieces[id].score;
    }
    unigram->unk_id = m->unk_id;
    unigram->byte_fallback = m->byte_fallback;
    return STATUS_OK;
}

// Adds the pieces of a type as tokens that are found in the text as it comes.
static enum status add_tokens(const struct sentencepiece_model *m, enum sentencepiece_type type,
                              bool special, struct tokenizer *tokenizer, struct error *err) {
    for (size_t id = 0; id < m->n_pieces; id++) {
        const struct sentencepiece_piece *piece = &m->pieces[id];
        if (piece->type != type) {
            continue;
        }
        enum status status = tokenizer_add_token(tokenizer, &(struct added_token){
                                                                .content = piece->text,
                                                                .bytes = (uint16_t)piece->bytes,
                                                                .id = (int32_t)id,
                                                                .special = special,
                                                            });
        if (status != STATUS_OK) {
            return piece_error(m, id, status, "cannot be an added token", err);
        }
    }
    return STATUS_OK;
}

static struct normalize_step *add_step(struct tokenizer *tokenizer, enum normalize_kind kind) {
    struct normalize_step *step = &tokenizer->normalizer.steps[tokenizer->normalizer.n_steps++];
    *step = (struct normalize_step){.kind = kind};
    return step;
}

static enum status add_replacement(struct tokenizer *tokenizer, const char *pattern,
                                   const char *content, struct error *err) {
    struct normalize_step *step = add_step(tokenizer, NORMALIZE_REPLACE_REGEX);
    step->content.count = strlen(content);
    memcpy(step->content.bytes, content, step->content.count);
    return normalize_step_set_regex(step, pattern, strlen(pattern), err);
}

// In SentencePiece's order: the map, spaces taken out, spaces made visible.
static enum status set_normalizer(const struct sentencepiece_model *m, struct tokenizer *tokenizer,
                                  struct error *err) {
    enum status status = STATUS_OK;
    if (m->charsmap_bytes > 0) {
        struct normalize_step *step = add_step(tokenizer, NORMALIZE_CHARSMAP);
        status = charsmap_read(m->charsmap, m->charsmap_bytes, &step->map);
        if (status != STATUS_OK) {
            return error_set(err, status, m->file, "normalizer_spec.precompiled_charsmap: %s",
                             status_text(status));
        }
    }
    if (m->remove_extra_whitespaces) {
        status = add_replacement(tokenizer, "\\A +| +\\z", "", err);
        if (status == STATUS_OK) {
            status = add_replacement(tokenizer, " {2,}", " ", err);
        }
    }
    if (m->escape_whitespaces) {
        struct normalize_step *step = add_step(tokenizer, NORMALIZE_REPLACE);
        step->pattern = space;
        step->content = space_mark;
    }
    if (status == STATUS_OK && m->add_dummy_prefix && m->every_part_has_prefix) {
        // Metaspace puts no prefix before one that is there, SentencePiece does.
        status = add_replacement(tokenizer, "\\A\xE2\x96\x81", "\xE2\x96\x81\xE2\x96\x81", err);
    }
    return status;
}

// User-defined pieces are cut out after the prefix was put.
static enum status split_user_defined(const struct sentencepiece_model *m,
                                      struct tokenizer *tokenizer, struct error *err) {
    struct pretokenize_step *step = NULL;
    enum status status = STATUS_OK;
    for (size_t id = 0; id < m->n_pieces && status == STATUS_OK; id++) {
        const struct sentencepiece_piece *piece = &m->pieces[id];
        if (piece->type != SENTENCEPIECE_USER_DEFINED) {
            continue;
        }
        if (step == NULL) {
            step = pretokenizer_add(&tokenizer->pretokenizer, PRETOKENIZE_TOKENS);
        }
        const struct added_token token = {
            .content = piece->text, .bytes = (uint16_t)piece->bytes, .id = (int32_t)id};
        status = added_tokens_add(&step->tokens, &token);
    }
    if (status == STATUS_OK && step != NULL) {
        status = added_tokens_prepare(&step->tokens);
        tokenizer->bpe.ignore_merges = true; // a whole piece is one, though no merge makes it
    }
    return status == STATUS_OK
               ? status
               : error_set(err, status, m->file, "user-defined pieces: %s", status_text(status));
}

static void set_decoder(const struct sentencepiece_model *m, struct tokenizer *tokenizer) {
    tokenizer->decoder = (struct decoder){
        .byte_fallback = m->byte_fallback,
        .replaces = true,
        .pattern = space_mark,
        .content = space,
        .start_rule = m->add_dummy_prefix ? START_LOSES_SPACE : START_KEEPS,
    };
}

static void set_ids(const struct sentencepiece_model *m, struct tokenizer *tokenizer) {
    tokenizer->bos_id = m->bos_id;
    tokenizer->eos_id = m->eos_id;
    tokenizer->pad_id = m->pad_id;
    tokenizer->bpe.unk_id = m->unk_id;
}

enum status sentencepiece_fill(const struct sentencepiece_model *model, struct tokenizer *tokenizer,
                               struct error *err) {
    enum status status = add_pieces(model, tokenizer, err);
    if (status == STATUS_OK) {
        tokenizer->bpe.fuse_unk = true;
        tokenizer->bpe.byte_fallback = model->byte_fallback;
        status = model->unigram ? set_unigram(model, tokenizer, err)
                                : add_merges(model, true, tokenizer, err);
    }
    if (status == STATUS_OK) {
        set_ids(model, tokenizer);
        set_decoder(model, tokenizer);
        status = set_normalizer(model, tokenizer, err);
    }
    if (status == STATUS_OK && model->add_dummy_prefix) {
        status = pretokenizer_add_metaspace(
            &tokenizer->pretokenizer, model->every_part_has_prefix ? PREFIX_ALWAYS : PREFIX_FIRST,
            false, err);
    }
    if (status == STATUS_OK) {
        status = split_user_defined(model, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = add_tokens(model, SENTENCEPIECE_CONTROL, true, tokenizer, err);
    }
    return status == STATUS_OK ? add_tokens(model, SENTENCEPIECE_UNKNOWN, true, tokenizer, err)
                               : status;
}

enum status sentencepiece_fill_pieces(const struct sentencepiece_model *model,
                                      struct tokenizer *tokenizer, struct error *err) {
    enum status status = add_pieces(model, tokenizer, err);
    if (status == STATUS_OK) {
        set_ids(model, tokenizer);
        status = add_merges(model, false, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = add_tokens(model, SENTENCEPIECE_UNKNOWN, true, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = add_tokens(model, SENTENCEPIECE_CONTROL, true, tokenizer, err);
    }
    return status == STATUS_OK
               ? add_tokens(model, SENTENCEPIECE_USER_DEFINED, false, tokenizer, err)
               : status;
}
