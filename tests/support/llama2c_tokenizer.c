#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/llama2c.h"

enum { FIRST_PIECE = 259, PIECE_BYTES_MAX = 255 }; // after three special and 256 byte pieces
static const char *const specials[] = {"<unk>", "<s>", "</s>"};
static const char space_mark[] = "\xe2\x96\x81"; // U+2581, how SentencePiece writes a space

struct piece {
    char *text; // owned
    float score;
};

struct merge {
    char *text; // "left right", owned
    float score;
    int32_t id, left, right;
};

// `bytes` with every space as U+2581; owned by the caller.
static char *mark_spaces(const char *bytes, size_t size) {
    char *text = malloc(3 * size + 1);
    size_t used = 0;
    for (size_t i = 0; text != NULL && i < size; i++) {
        if (bytes[i] == ' ') {
            memcpy(text + used, space_mark, 3);
            used += 3;
        } else {
            text[used++] = bytes[i];
        }
    }
    if (text != NULL) {
        text[used] = '\0';
    }
    return text;
}

static enum status read_piece(FILE *file, int32_t id, struct piece *piece, struct error *err) {
    int32_t length;
    char bytes[PIECE_BYTES_MAX];
    if (fread(&piece->score, sizeof piece->score, 1, file) != 1 ||
        fread(&length, sizeof length, 1, file) != 1 || length < 1 || length > PIECE_BYTES_MAX ||
        fread(bytes, 1, (size_t)length, file) != (size_t)length) {
        return error_set(err, STATUS_MALFORMED, "tokenizer",
                         "piece %d is cut off or not 1 to %d "
                         "bytes long",
                         id, PIECE_BYTES_MAX);
    }
    piece->text = id < 3 ? strdup(specials[id]) : mark_spaces(bytes, (size_t)length);
    return piece->text != NULL ? STATUS_OK
                               : error_set(err, STATUS_NO_MEMORY, NULL, "no memory for pieces");
}

static enum status read_pieces(const char *path, int n, struct piece *pieces, struct error *err) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return error_set(err, status_from_errno(errno), path, "cannot open: %s", strerror(errno));
    }
    int32_t longest;
    enum status status = fread(&longest, sizeof longest, 1, file) == 1
                             ? STATUS_OK
                             : error_set(err, STATUS_MALFORMED, path, "no header");
    for (int id = 0; id < n && status == STATUS_OK; id++) {
        status = read_piece(file, id, &pieces[id], err);
    }
    fclose(file);
    return status;
}

static json_t *make_vocab(const struct piece *pieces, int n, struct error *err) {
    json_t *vocab = json_object();
    for (int id = 0; id < n; id++) {
        if (json_object_get(vocab, pieces[id].text) != NULL ||
            json_object_set_new(vocab, pieces[id].text, json_integer(id)) != 0) {
            error_set(err, STATUS_MALFORMED, "tokenizer", "piece %d is repeated or not UTF-8", id);
            json_decref(vocab);
            return NULL;
        }
    }
    return vocab;
}

static int32_t find_id(const json_t *vocab, const char *text, size_t size) {
    json_t *id = json_object_getn(vocab, text, size);
    return id == NULL ? -1 : (int32_t)json_integer_value(id);
}

// Best score first; the ways to make one piece by the ids of its halves.
static int compare_merges(const void *left, const void *right) {
    const struct merge *a = left, *b = right;
    if (a->score != b->score) {
        return a->score > b->score ? -1 : 1;
    }
    int32_t difference = a->id != b->id       ? a->id - b->id
                         : a->left != b->left ? a->left - b->left
                                              : a->right - b->right;
    return (difference > 0) - (difference < 0);
}

// Every way to make a piece of two others. `merges` has room for all.
static size_t list_merges(const struct piece *pieces, int n, const json_t *vocab,
                          struct merge *merges) {
    size_t count = 0;
    for (int32_t id = FIRST_PIECE; id < n; id++) {
        const char *text = pieces[id].text;
        size_t size = strlen(text);
        for (size_t cut = 1; cut < size; cut++) {
            int32_t left = find_id(vocab, text, cut);
            int32_t right = find_id(vocab, text + cut, size - cut);
            if (left < FIRST_PIECE || right < FIRST_PIECE) {
                continue;
            }
            struct merge *merge = &merges[count];
            *merge =
                (struct merge){.score = pieces[id].score, .id = id, .left = left, .right = right};
            if (asprintf(&merge->text, "%s %s", pieces[left].text, pieces[right].text) < 0) {
                merge->text = NULL;
            } else {
                count++;
            }
        }
    }
    qsort(merges, count, sizeof *merges, compare_merges);
    return count;
}

static json_t *make_merges(const struct piece *pieces, int n, const json_t *vocab) {
    size_t capacity = 1;
    for (int id = 0; id < n; id++) {
        capacity += strlen(pieces[id].text);
    }
    struct merge *merges = calloc(capacity, sizeof *merges);
    json_t *array = json_array();
    size_t count = merges == NULL ? 0 : list_merges(pieces, n, vocab, merges);
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(array, json_string(merges[i].text));
        free(merges[i].text);
    }
    free(merges);
    return array;
}

static json_t *make_added_tokens(void) {
    json_t *array = json_array();
    for (int id = 0; id < 3; id++) {
        json_array_append_new(array, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", id,
                                               "content", specials[id], "single_word", 0, "lstrip",
                                               0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    return array;
}

// The layout of Llama 2's tokenizer.json; takes vocab and merges.
static json_t *make_tokenizer(json_t *vocab, json_t *merges) {
    json_t *normalizer = json_pack("{s:s, s:[{s:s, s:s}, {s:s, s:{s:s}, s:s}]}", "type", "Sequence",
                                   "normalizers", "type", "Prepend", "prepend", space_mark, "type",
                                   "Replace", "pattern", "String", " ", "content", space_mark);
    json_t *post_processor = json_pack(
        "{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}, {s:{s:s, "
        "s:i}}, {s:{s:s, s:i}}], s:{s:{s:s, s:[i], s:[s]}}}",
        "type", "TemplateProcessing", "single", "SpecialToken", "id", "<s>", "type_id", 0,
        "Sequence", "id", "A", "type_id", 0, "pair", "SpecialToken", "id", "<s>", "type_id", 0,
        "Sequence", "id", "A", "type_id", 0, "SpecialToken", "id", "<s>", "type_id", 1, "Sequence",
        "id", "B", "type_id", 1, "special_tokens", "<s>", "id", "<s>", "ids", 1, "tokens", "<s>");
    json_t *decoder = json_pack(
        "{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}, {s:s}, {s:s, s:s, s:i, s:i}]}", "type", "Sequence",
        "decoders", "type", "Replace", "pattern", "String", space_mark, "content", " ", "type",
        "ByteFallback", "type", "Fuse", "type", "Strip", "content", " ", "start", 1, "stop", 0);
    json_t *model =
        json_pack("{s:s, s:n, s:s, s:n, s:n, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                  "unk_token", "<unk>", "continuing_subword_prefix", "end_of_word_suffix",
                  "fuse_unk", 1, "byte_fallback", 1, "vocab", vocab, "merges", merges);
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:n, s:o, s:o, s:o}", "version", "1.0",
                     "truncation", "padding", "added_tokens", make_added_tokens(), "normalizer",
                     normalizer, "pre_tokenizer", "post_processor", post_processor, "decoder",
                     decoder, "model", model);
}

// Takes `json`.
static enum status write_json(json_t *json, const char *directory, const char *name,
                              struct error *err) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int result = json == NULL ? -1 : json_dump_file(json, path, JSON_INDENT(1));
    json_decref(json);
    return result == 0 ? STATUS_OK : error_set(err, STATUS_IO, path, "cannot write");
}

enum status llama2c_convert_tokenizer(const char *tokenizer_path, int vocab_size,
                                      const char *directory, struct error *err) {
    if (vocab_size <= FIRST_PIECE) {
        return error_set(err, STATUS_LIMIT, "vocab_size", "%d pieces are no more than the %d fixed",
                         vocab_size, FIRST_PIECE);
    }
    struct piece *pieces = calloc((size_t)vocab_size, sizeof *pieces);
    if (pieces == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %d pieces", vocab_size);
    }
    enum status status = read_pieces(tokenizer_path, vocab_size, pieces, err);
    if (status == STATUS_OK) {
        json_t *vocab = make_vocab(pieces, vocab_size, err);
        status = vocab == NULL
                     ? STATUS_MALFORMED
                     : write_json(make_tokenizer(vocab, make_merges(pieces, vocab_size, vocab)),
                                  directory, "tokenizer.json", err);
    }
    if (status == STATUS_OK) {
        status =
            write_json(json_pack("{s:s, s:b, s:b, s:s, s:s, s:s}", "tokenizer_class",
                                 "LlamaTokenizer", "add_bos_token", 1, "add_eos_token", 0,
                                 "bos_token", "<s>", "eos_token", "</s>", "unk_token", "<unk>"),
                       directory, "tokenizer_config.json", err);
    }
    for (int id = 0; id < vocab_size; id++) {
        free(pieces[id].text);
    }
    free(pieces);
    return status;
}
