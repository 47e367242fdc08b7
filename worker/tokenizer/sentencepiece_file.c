// Reads tokenizer.model as SentencePiece's ModelProto (sentencepiece_model.proto). Of the protobuf
// wire format it knows what that message uses; every length is compared with what is left first.
#include <stdlib.h>
#include <string.h>

#include "worker/tokenizer/model_file.h"
#include "worker/tokenizer/sentencepiece.h"
#include "worker/tokenizer/tokenizer_class.h"
#include "worker/tokenizer/tokenizer_source.h"

static const char file[] = "tokenizer.model";

// Wire types of protobuf.
enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

// model_type of TrainerSpec.
enum { SPM_UNIGRAM = 1, SPM_BPE = 2 };

struct wire {
    const uint8_t *at;
    const uint8_t *end;
};

struct wire_field {
    uint64_t number;
    unsigned type;
    uint64_t value;      // of VARINT, 64 and 32
    struct wire content; // of BYTES
};

static bool read_varint(struct wire *wire, uint64_t *out) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && wire->at < wire->end; shift += 7) {
        uint8_t byte = *wire->at++;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct wire *wire, size_t bytes, uint64_t *out) {
    if ((size_t)(wire->end - wire->at) < bytes) {
        return false;
    }
    *out = 0;
    for (size_t i = 0; i < bytes; i++) {
        *out |= (uint64_t)wire->at[i] << (8 * i);
    }
    wire->at += bytes;
    return true;
}

// Takes the next field; false when the message is cut or not one.
static bool read_field(struct wire *wire, struct wire_field *out) {
    uint64_t tag;
    if (!read_varint(wire, &tag)) {
        return false;
    }
    *out = (struct wire_field){.number = tag >> 3, .type = (unsigned)(tag & 7)};
    switch (out->type) {
    case WIRE_VARINT:
        return read_varint(wire, &out->value);
    case WIRE_64:
        return read_fixed(wire, 8, &out->value);
    case WIRE_32:
        return read_fixed(wire, 4, &out->value);
    case WIRE_BYTES: {
        uint64_t bytes;
        if (!read_varint(wire, &bytes) || bytes > (uint64_t)(wire->end - wire->at)) {
            return false;
        }
        out->content = (struct wire){wire->at, wire->at + bytes};
        wire->at += bytes;
        return true;
    }
    default:
        return false;
    }
}

struct reader {
    struct sentencepiece_model model;
    struct sentencepiece_piece *pieces; // [capacity], owned
    size_t capacity;
    struct error *err;
};

static enum status malformed(const struct reader *r, const char *message) {
    return error_set(r->err, STATUS_MALFORMED, file, "%s is cut or not one", message);
}

static enum status read_piece(struct reader *r, struct wire wire) {
    struct sentencepiece_piece piece = {.text = "", .type = SENTENCEPIECE_NORMAL};
    while (wire.at < wire.end) {
        struct wire_field field;
        if (!read_field(&wire, &field)) {
            return malformed(r, "pieces: a SentencePiece");
        }
        if (field.number == 1 && field.type == WIRE_BYTES) {
            piece.text = (const char *)field.content.at;
            piece.bytes = (size_t)(field.content.end - field.content.at);
        } else if (field.number == 2 && field.type == WIRE_32) {
            uint32_t bits = (uint32_t)field.value;
            memcpy(&piece.score, &bits, sizeof bits);
        } else if (field.number == 3 && field.type == WIRE_VARINT) {
            // Any other number stays one that no type has.
            piece.type = field.value <= SENTENCEPIECE_BYTE ? (enum sentencepiece_type)field.value
                                                           : (enum sentencepiece_type)0;
        }
    }
    if (r->model.n_pieces == TOKENIZER_VOCAB_MAX) {
        return error_set(r->err, STATUS_LIMIT, file, "pieces: more than %d", TOKENIZER_VOCAB_MAX);
    }
    if (r->model.n_pieces == r->capacity) {
        size_t capacity = 2 * r->capacity + 1024;
        struct sentencepiece_piece *pieces = realloc(r->pieces, capacity * sizeof *pieces);
        if (pieces == NULL) {
            return error_set(r->err, STATUS_NO_MEMORY, file, "no memory for the pieces");
        }
        r->pieces = pieces;
        r->capacity = capacity;
    }
    r->pieces[r->model.n_pieces++] = piece;
    return STATUS_OK;
}

static enum status refuse(const struct reader *r, const char *field) {
    return error_set(r->err, STATUS_UNSUPPORTED, file, "%s is not supported", field);
}

static enum status read_trainer_spec(struct reader *r, struct wire wire) {
    int32_t *const ids[] = {&r->model.unk_id, &r->model.bos_id, &r->model.eos_id, &r->model.pad_id};
    while (wire.at < wire.end) {
        struct wire_field field;
        if (!read_field(&wire, &field)) {
            return malformed(r, "trainer_spec");
        }
        if (field.type != WIRE_VARINT) {
            continue;
        }
        if (field.number == 3) {
            if (field.value != SPM_UNIGRAM && field.value != SPM_BPE) {
                return refuse(r, "trainer_spec.model_type other than unigram and bpe");
            }
            r->model.unigram = field.value == SPM_UNIGRAM;
        } else if (field.number == 24 && field.value != 0) {
            return refuse(r, "trainer_spec.treat_whitespace_as_suffix");
        } else if (field.number == 35) {
            r->model.byte_fallback = field.value != 0;
        } else if (field.number >= 40 && field.number <= 43) {
            int64_t id = (int64_t)field.value;
            *ids[field.number - 40] = id < 0 ? -1 : id > INT32_MAX ? INT32_MAX : (int32_t)id;
        }
    }
    return STATUS_OK;
}

static enum status read_normalizer_spec(struct reader *r, struct wire wire) {
    while (wire.at < wire.end) {
        struct wire_field field;
        if (!read_field(&wire, &field)) {
            return malformed(r, "normalizer_spec");
        }
        if (field.number == 2 && field.type == WIRE_BYTES) {
            r->model.charsmap = field.content.at;
            r->model.charsmap_bytes = (size_t)(field.content.end - field.content.at);
        } else if (field.number == 3 && field.type == WIRE_VARINT) {
            r->model.add_dummy_prefix = field.value != 0;
        } else if (field.number == 4 && field.type == WIRE_VARINT) {
            r->model.remove_extra_whitespaces = field.value != 0;
        } else if (field.number == 5 && field.type == WIRE_VARINT) {
            r->model.escape_whitespaces = field.value != 0;
        }
    }
    return STATUS_OK;
}

// What is decoded is not mapped back here.
static enum status check_denormalizer_spec(struct reader *r, struct wire wire) {
    while (wire.at < wire.end) {
        struct wire_field field;
        if (!read_field(&wire, &field)) {
            return malformed(r, "denormalizer_spec");
        }
        if (field.number == 2 && field.content.at != field.content.end) {
            return refuse(r, "denormalizer_spec.precompiled_charsmap");
        }
    }
    return STATUS_OK;
}

static enum status read_model(struct reader *r, const char *text, size_t bytes) {
    struct wire wire = {(const uint8_t *)text, (const uint8_t *)text + bytes};
    // Defaults of the message.
    r->model = (struct sentencepiece_model){
        .file = file,
        .unigram = true,
        .add_dummy_prefix = true,
        .remove_extra_whitespaces = true,
        .escape_whitespaces = true,
        .unk_id = 0,
        .bos_id = 1,
        .eos_id = 2,
        .pad_id = -1,
    };
    enum status status = STATUS_OK;
    while (wire.at < wire.end && status == STATUS_OK) {
        struct wire_field field;
        if (!read_field(&wire, &field)) {
            return malformed(r, "the model");
        }
        if (field.type != WIRE_BYTES) {
            continue;
        }
        switch (field.number) {
        case 1:
            status = read_piece(r, field.content);
            break;
        case 2:
            status = read_trainer_spec(r, field.content);
            break;
        case 3:
            status = read_normalizer_spec(r, field.content);
            break;
        case 5:
            status = check_denormalizer_spec(r, field.content);
            break;
        default:
            break;
        }
    }
    r->model.pieces = r->pieces;
    return status;
}

// Beside a list of special tokens in the configuration transformers passes over those of the file
// that this class would otherwise add: user-defined pieces are then text.
static enum status check_list(const struct sentencepiece_model *model,
                              const struct special_sources *sources, struct error *err) {
    static const char *const lists[] = {"additional_special_tokens", "extra_special_tokens"};
    for (size_t i = 0; i < model->n_pieces; i++) {
        for (size_t k = 0; k < 2 && model->pieces[i].type == SENTENCEPIECE_USER_DEFINED; k++) {
            const json_t *list = json_object_get(sources->tokenizer_config, lists[k]);
            if (json_array_size(list) > 0) {
                return model_file_error(
                    err, STATUS_UNSUPPORTED, "tokenizer_config.json", lists[k],
                    "beside user-defined pieces in tokenizer.model, which would not count: save "
                    "the tokenizer as tokenizer.json");
            }
        }
    }
    return STATUS_OK;
}

// transformers: a class with a pipeline of its own takes only the pieces; else the file decides,
// and `legacy`, true when nobody says otherwise, about the prefix.
static enum status fill(struct reader *r, const struct special_sources *sources,
                        struct tokenizer *tokenizer, struct error *err) {
    struct tokenizer_class class;
    enum status status = tokenizer_class_find(sources, false, &class, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (class.pipeline == PIPELINE_OF_FILE) {
        json_t *legacy = json_object_get(sources->tokenizer_config, "legacy");
        r->model.every_part_has_prefix = legacy == NULL || json_is_true(legacy);
        return sentencepiece_fill(&r->model, tokenizer, err);
    }
    if (class.pipeline != PIPELINE_LLAMA || r->model.unigram) {
        return model_file_error(err, STATUS_UNSUPPORTED, "tokenizer_config.json", "tokenizer_class",
                                "not supported over this tokenizer.model");
    }
    tokenizer->class_tokens = class.tokens;
    status = check_list(&r->model, sources, err);
    // The class sets the pipeline first, so that tokens are added in its normal form.
    if (status == STATUS_OK) {
        status = tokenizer_class_apply(&class, tokenizer, err);
    }
    if (status == STATUS_OK) {
        status = sentencepiece_fill_pieces(&r->model, tokenizer, err);
        tokenizer->bpe.unk_id = -1; // the class knows none
    }
    return status;
}

enum status tokenizer_source_sentencepiece(const char *text, size_t bytes,
                                           const struct special_sources *sources,
                                           struct tokenizer *tokenizer, struct error *err) {
    struct reader reader = {.err = err};
    enum status status = read_model(&reader, text, bytes);
    if (status == STATUS_OK) {
        status = fill(&reader, sources, tokenizer, err);
    }
    free(reader.pieces);
    return status;
}
