// The SentencePiece vocabularies of GGUF files (tokenizer.ggml.model "llama"): pieces with scores,
// joined by score. What a file of this kind means is what llama.cpp makes of it: a space goes
// before the text and before each part that follows a special token.
#include <stdlib.h>

#include "worker/model/gguf.h"
#include "worker/model/gguf_config.h"
#include "worker/model/gguf_names.h"
#include "worker/model/model_path.h"
#include "worker/tokenizer/sentencepiece.h"
#include "worker/tokenizer/tokenizer_gguf.h"
#include "worker/tokenizer/tokenizer_source.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";
static const char scores_key[] = "tokenizer.ggml.scores";
static const char types_key[] = "tokenizer.ggml.token_type";

// Fills pieces[tokens->count].
static enum status read_pieces(const struct gguf_value *tokens, const struct gguf_value *scores,
                               const struct gguf_value *types, struct sentencepiece_piece *pieces,
                               struct error *err) {
    const unsigned char *at = tokens->data;
    struct gguf_string text = {0};
    for (uint64_t i = 0; gguf_next_string(tokens, &at, &text); i++) {
        double score = 0;
        int64_t type = 0;
        if (!gguf_real(scores, i, &score) || !gguf_integer(types, i, &type) ||
            type < SENTENCEPIECE_NORMAL || type > SENTENCEPIECE_BYTE) {
            return error_set(err, STATUS_MALFORMED, types_key,
                             "token %llu has no score or is of type %lld", (unsigned long long)i,
                             (long long)type);
        }
        pieces[i] = (struct sentencepiece_piece){.text = text.bytes,
                                                 .bytes = text.count,
                                                 .score = (float)score,
                                                 .type = (enum sentencepiece_type)type};
    }
    return STATUS_OK;
}

static enum status check_arrays(const struct gguf_value *tokens, const struct gguf_value *scores,
                                const struct gguf_value *types, struct error *err) {
    bool present = tokens != NULL && scores != NULL && types != NULL;
    if (!present || tokens->type != GGUF_STRING || !tokens->is_array || !scores->is_array ||
        !types->is_array || scores->count != tokens->count || types->count != tokens->count) {
        return error_set(err, STATUS_MALFORMED, tokens_key,
                         "tokens, scores and token_type are not three arrays of one length");
    }
    return tokens->count <= TOKENIZER_VOCAB_MAX
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, tokens_key, "%llu tokens, the limit is %d",
                           (unsigned long long)tokens->count, TOKENIZER_VOCAB_MAX);
}

static enum status read_id(const struct gguf *gguf, const char *key, int32_t *out,
                           struct error *err) {
    int64_t id = -1;
    enum status status = gguf_get_integer(gguf, key, false, &id, err);
    if (status == STATUS_OK && id >= TOKENIZER_VOCAB_MAX) {
        status = error_set(err, STATUS_LIMIT, key, "%s is %lld, the limit is %d", key,
                           (long long)id, TOKENIZER_VOCAB_MAX - 1);
    }
    *out = (int32_t)id;
    return status;
}

static enum status read_options(const struct gguf *gguf, struct sentencepiece_model *model,
                                struct error *err) {
    const struct {
        const char *key;
        int32_t *out;
    } ids[] = {{"tokenizer.ggml.unknown_token_id", &model->unk_id},
               {"tokenizer.ggml.bos_token_id", &model->bos_id},
               {"tokenizer.ggml.eos_token_id", &model->eos_id},
               {"tokenizer.ggml.padding_token_id", &model->pad_id}};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0] && status == STATUS_OK; i++) {
        status = read_id(gguf, ids[i].key, ids[i].out, err);
    }
    model->add_dummy_prefix = true;
    if (status == STATUS_OK) {
        status = tokenizer_gguf_flag(gguf, "tokenizer.ggml.add_space_prefix",
                                     &model->add_dummy_prefix, err);
    }
    if (status == STATUS_OK) {
        status = tokenizer_gguf_flag(gguf, "tokenizer.ggml.remove_extra_whitespaces",
                                     &model->remove_extra_whitespaces, err);
    }
    model->every_part_has_prefix = model->add_dummy_prefix;
    model->escape_whitespaces = true;
    model->byte_fallback = true;
    return status;
}

// The spaces after Phi-3's turn markers are theirs, which a file does not hold.
static enum status refuse_phi3(const struct gguf *gguf, struct error *err) {
    static const char key[] = "general.architecture";
    struct gguf_string name;
    return gguf_get_string(gguf, key, &name) && gguf_string_is(&name, "phi3")
               ? error_set(err, STATUS_UNSUPPORTED, key,
                           "phi3 with a SentencePiece vocabulary is not supported: whether its "
                           "markers take the spaces after them does not stand in the file")
               : STATUS_OK;
}

static enum status fill(const struct gguf *gguf, struct tokenizer *tokenizer, struct error *err) {
    const struct gguf_value *tokens = gguf_find(gguf, tokens_key);
    const struct gguf_value *scores = gguf_find(gguf, scores_key);
    const struct gguf_value *types = gguf_find(gguf, types_key);
    struct sentencepiece_model model = {.file = "tokenizer.ggml"};
    struct sentencepiece_piece *pieces = NULL;
    enum status status = refuse_phi3(gguf, err);
    if (status == STATUS_OK) {
        status = tokenizer_gguf_check(gguf, err);
    }
    if (status == STATUS_OK) {
        status = check_arrays(tokens, scores, types, err);
    }
    if (status == STATUS_OK) {
        status = read_options(gguf, &model, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    pieces = calloc((size_t)tokens->count + 1, sizeof *pieces);
    status = pieces != NULL ? read_pieces(tokens, scores, types, pieces, err)
                            : error_set(err, STATUS_NO_MEMORY, tokens_key, "no memory for pieces");
    if (status == STATUS_OK) {
        model.pieces = pieces;
        model.n_pieces = (size_t)tokens->count;
        status = sentencepiece_fill(&model, tokenizer, err);
    }
    free(pieces);
    return status;
}

enum status tokenizer_source_gguf(const char *path, const struct special_sources *sources,
                                  struct tokenizer *tokenizer, struct error *err) {
    struct gguf *gguf = NULL;
    struct gguf_string model;
    const char *label = model_document_label(path, "");
    enum status status = gguf_open(path, &gguf, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, label);
        return status;
    }
    bool pieces =
        gguf_get_string(gguf, "tokenizer.ggml.model", &model) && gguf_string_is(&model, "llama");
    if (pieces) {
        status = fill(gguf, tokenizer, err);
        if (status != STATUS_OK) {
            error_prefix_field(err, label);
        }
    }
    gguf_close(gguf);
    return pieces ? status : tokenizer_source_json(path, sources, tokenizer, err);
}
