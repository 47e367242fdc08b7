// Prints the hashes that make_tokenizer_vectors.py compares: tokenizer_ids DIRECTORY reads a JSON
// string a line from the standard input and answers with a line of three hashes each.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/tokenizer/tokenizer_hash.h"

int main(int argc, char **argv) {
    struct tokenizer *tokenizer = NULL;
    struct error err = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: tokenizer_ids DIRECTORY < texts\n");
        return 2;
    }
    enum status status = tokenizer_open(argv[1], &tokenizer, &err);
    if (status != STATUS_OK) {
        fprintf(stderr, "%s %s: %s\n", status_name(status), err.field, err.message);
        return 1;
    }
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        json_t *text = json_loads(line, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        char hashes[TOKENIZER_HASHES_BYTES + 1];
        status = tokenizer_hash(tokenizer, json_string_value(text), json_string_length(text),
                                hashes, &err);
        puts(status == STATUS_OK ? hashes : err.message);
        json_decref(text);
    }
    free(line);
    tokenizer_close(tokenizer);
    return 0;
}
