// The forms in which a tokenizer lies in a model directory, or a model's file. Each reader fills
// vocabulary, merges, normaliser, pre-tokenizer, decoder and added tokens of an empty tokenizer;
// tokenizer.c does what is common afterwards. A failed reader leaves a tokenizer that can be
// closed.
#ifndef WORKER_TOKENIZER_TOKENIZER_SOURCE_H
#define WORKER_TOKENIZER_TOKENIZER_SOURCE_H

#include "common/status.h"
#include "worker/model/model_path.h"
#include "worker/tokenizer/special_ids.h"
#include "worker/tokenizer/tokenizer_data.h"

// tokenizer.json. Errors as tokenizer_open.
MUST_CHECK enum status tokenizer_source_json(const char *directory,
                                             const struct special_sources *sources,
                                             struct tokenizer *tokenizer, struct error *err);

// A GGUF file, of either form (tokenizer_gguf.h).
MUST_CHECK enum status tokenizer_source_gguf(const char *path,
                                             const struct special_sources *sources,
                                             struct tokenizer *tokenizer, struct error *err);

// vocab.json and merges.txt, for the classes GPT2Tokenizer and Qwen2Tokenizer of
// tokenizer_config.json (GPT-2 when there is none).
MUST_CHECK enum status tokenizer_source_vocab_merges(const char *directory,
                                                     const struct special_sources *sources,
                                                     struct tokenizer *tokenizer,
                                                     struct error *err);

// tokenizer.model as SentencePiece's ModelProto, text [bytes].
MUST_CHECK enum status tokenizer_source_sentencepiece(const char *text, size_t bytes,
                                                      const struct special_sources *sources,
                                                      struct tokenizer *tokenizer,
                                                      struct error *err);

// tokenizer.model: SentencePiece's, or the ranks of Llama 3, which get its special tokens and
// expression. UNSUPPORTED: the configuration names another family.
MUST_CHECK enum status tokenizer_source_model(const char *directory,
                                              const struct special_sources *sources,
                                              struct tokenizer *tokenizer, struct error *err);

// qwen.tiktoken, the ranks of the first Qwen. As above, and the configuration must name it.
MUST_CHECK enum status tokenizer_source_qwen(const char *directory,
                                             const struct special_sources *sources,
                                             struct tokenizer *tokenizer, struct error *err);

// tekken.json.
MUST_CHECK enum status tokenizer_source_tekken(const char *directory,
                                               const struct special_sources *sources,
                                               struct tokenizer *tokenizer, struct error *err);

// Any two ordinary pieces whose join is one may merge, in the order of the joined ids. LIMIT,
// NO_MEMORY; err->field is the file.
MUST_CHECK enum status tokenizer_derive_merges(struct tokenizer *tokenizer, const char *file,
                                               struct error *err);

// Reads a "vocab" object of piece to id. Shared by the first two.
MUST_CHECK enum status tokenizer_read_vocabulary(json_t *vocab, const char *file, const char *path,
                                                 struct tokenizer *tokenizer, struct error *err);

// Adds the merge of two spelled pieces. MALFORMED: they or their join are not in the vocabulary.
MUST_CHECK enum status tokenizer_read_merge(const char *left, size_t left_bytes, const char *right,
                                            size_t right_bytes, uint32_t rank,
                                            struct tokenizer *tokenizer);

// Appends Metaspace: spaces become U+2581, which is put first by the rule; `split` makes each one
// begin a word. As pretokenizer_add_split.
MUST_CHECK enum status pretokenizer_add_metaspace(struct pretokenizer *pretokenizer,
                                                  enum prefix_rule rule, bool split,
                                                  struct error *err);

// Where the files of a model's tokenizer lie: a directory over a base has its own or the base's,
// never parts of both. Borrows from `path`.
const char *tokenizer_find_directory(const struct model_path *path);

// Splits of the model families, as their files write them.
extern const char tokenizer_gpt2_pattern[];
extern const char tokenizer_qwen2_pattern[];
extern const char tokenizer_llama3_pattern[];

#endif
