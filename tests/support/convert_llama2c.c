// convert-llama2c MODEL.bin TOKENIZER.bin OUT_DIR: a llama2.c version 0 model as a Hugging Face
// directory. OUT_DIR is created when absent. Exit status 0, 1 for a failure, 2 for wrong usage.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/llama2c.h"

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: convert-llama2c MODEL.bin TOKENIZER.bin OUT_DIR\n");
        return 2;
    }
    struct error err = {0};
    int vocab_size = 0;
    if (mkdir(argv[3], 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "convert-llama2c: %s: %s\n", argv[3], strerror(errno));
        return 1;
    }
    enum status status = llama2c_vocab_size(argv[1], &vocab_size, &err);
    if (status == STATUS_OK) {
        status = llama2c_convert_model(argv[1], argv[3], &err);
    }
    if (status == STATUS_OK) {
        status = llama2c_convert_tokenizer(argv[2], vocab_size, argv[3], &err);
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "convert-llama2c: %s: %s: %s\n", status_name(status), err.field,
                err.message);
        return 1;
    }
    return 0;
}
