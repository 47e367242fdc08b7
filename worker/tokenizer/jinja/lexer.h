// Cuts a template into tokens: text between tags with white space control applied, and what stands
// inside the tags. All tokens of a template are made at once.
#ifndef WORKER_TOKENIZER_JINJA_LEXER_H
#define WORKER_TOKENIZER_JINJA_LEXER_H

#include "common/status.h"
#include "worker/tokenizer/jinja/text.h"

enum token_kind {
    TOKEN_END,
    TOKEN_DATA,
    TOKEN_PRINT_BEGIN, // {{
    TOKEN_PRINT_END,
    TOKEN_BLOCK_BEGIN, // {%
    TOKEN_BLOCK_END,
    TOKEN_NAME,
    TOKEN_STRING,
    TOKEN_INTEGER,
    TOKEN_FLOAT,
    TOKEN_OPERATOR,
};

struct token {
    enum token_kind kind;
    int line;                // from 1
    size_t offset;           // in the source
    const struct text *text; // data, name, string (escapes read), operator; NULL for the others
    int64_t integer;
    double real;
};

struct token_list {
    const struct text *source; // line ends are \n, as tokens count them
    struct token *tokens;      // [count], the last is TOKEN_END
    size_t count;
    size_t capacity;
};

// Fills *tokens from the arena. MALFORMED, UNSUPPORTED: *err names the place. LIMIT, NO_MEMORY.
MUST_CHECK enum status lexer_run(struct arena *arena, const char *text, size_t bytes,
                                 struct token_list *tokens, struct error *err);

// Fails with "line L, column C: ..." for the byte at `offset`.
MUST_CHECK enum status lexer_fail(const struct token_list *tokens, size_t offset,
                                  enum status status, struct error *err, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
