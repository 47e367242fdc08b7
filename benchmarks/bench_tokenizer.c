// How fast is a tokenizer on one thread? Prints one CSV line per directory: milliseconds to open
// it; MB/s (10^6 bytes) at which a text of 1 KB, of 64 KB and of 1 MB is encoded and the 1 MB
// decoded, each the median of the repeats; tokens of the 1 MB. The 1 KB texts are the windows of
// the file one after another, so that no word is warm from the call before.
//
//   bench_tokenizer [--repeats R] TEXT_FILE DIRECTORY...
//
// benchmarks/bench_tokenizer.py times Hugging Face tokenizers on the same windows in the same run.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "benchmarks/median.h"
#include "worker/tokenizer/tokenizer.h"
#include "worker/tokenizer/utf8.h"

enum { REPEATS_MAX = 101, KB = 1 << 10, MB = 1 << 20 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time); // one thread: others do not count
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct text {
    char *bytes; // [count], owned
    size_t count;
};

// Reads the file again and again until there is 1 MB, cut at a character.
static int read_text(const char *path, struct text *text) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    text->bytes = malloc(MB);
    while (text->bytes != NULL && text->count < MB) {
        size_t n = fread(text->bytes + text->count, 1, MB - text->count, file);
        text->count += n;
        if (n == 0 && text->count == 0) {
            break;
        }
        rewind(file);
    }
    fclose(file);
    size_t offset;
    while (text->count > 0 && !utf8_validate(text->bytes, text->count, &offset)) {
        text->count = offset;
    }
    return text->count < MB / 2;
}

// End of the window of about `bytes` bytes that starts at `at`, at a character.
static size_t window_end(const struct text *text, size_t at, size_t bytes) {
    size_t end = at + bytes < text->count ? at + bytes : text->count;
    while (end < text->count && ((unsigned char)text->bytes[end] & 0xC0) == 0x80) {
        end++;
    }
    return end;
}

// Seconds to encode the whole text in windows; the ids of the last window stay.
static double encode_windows(const struct tokenizer *tokenizer, const struct text *text,
                             size_t window, int32_t *ids, size_t *count) {
    struct error err = {0};
    double start = now();
    for (size_t at = 0; at < text->count;) {
        size_t end = window_end(text, at, window);
        if (tokenizer_encode(tokenizer, text->bytes + at, end - at, 0, ids, MB, count, &err) !=
            STATUS_OK) {
            fprintf(stderr, "bench_tokenizer: %s\n", err.message);
            exit(1);
        }
        at = end;
    }
    return now() - start;
}

static double decode_all(const struct tokenizer *tokenizer, const int32_t *ids, size_t count,
                         char *out, size_t capacity) {
    struct error err = {0};
    size_t bytes;
    double start = now();
    if (tokenizer_decode(tokenizer, ids, count, 0, out, capacity, &bytes, &err) != STATUS_OK) {
        fprintf(stderr, "bench_tokenizer: %s\n", err.message);
        exit(1);
    }
    return now() - start;
}

static int measure(const char *directory, const struct text *text, int repeats) {
    static const size_t windows[] = {KB, 64 * KB, MB};
    double seconds[4][REPEATS_MAX];
    double open_seconds[REPEATS_MAX];
    size_t count = 0;
    int32_t *ids = malloc(MB * sizeof *ids);
    char *decoded = malloc(2 * (size_t)MB);
    struct tokenizer *tokenizer = NULL;
    for (int r = 0; r < repeats; r++) {
        struct error err = {0};
        tokenizer_close(tokenizer);
        double start = now();
        if (tokenizer_open(directory, &tokenizer, &err) != STATUS_OK) {
            fprintf(stderr, "bench_tokenizer: %s: %s\n", err.field, err.message);
            return 1;
        }
        open_seconds[r] = now() - start;
        for (size_t w = 0; w < 3; w++) {
            seconds[w][r] = encode_windows(tokenizer, text, windows[w], ids, &count);
        }
        seconds[3][r] = decode_all(tokenizer, ids, count, decoded, 2 * (size_t)MB);
    }
    printf("%s,%.0f", directory, median_sort(open_seconds, (size_t)repeats) * 1e3);
    for (size_t w = 0; w < 4; w++) {
        printf(",%.1f", (double)text->count * 1e-6 / median_sort(seconds[w], (size_t)repeats));
    }
    printf(",%zu\n", count);
    tokenizer_close(tokenizer);
    free(decoded);
    free(ids);
    return 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {{"repeats", required_argument, NULL, 'r'}, {0}};
    int repeats = 5;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        repeats = c == 'r' ? atoi(optarg) : 0;
    }
    if (repeats < 1 || repeats > REPEATS_MAX || optind + 2 > argc) {
        fprintf(stderr, "usage: bench_tokenizer [--repeats 1..%d] TEXT_FILE DIRECTORY...\n",
                REPEATS_MAX);
        return 2;
    }
    struct text text = {0};
    if (read_text(argv[optind], &text) != 0) {
        fprintf(stderr, "bench_tokenizer: %s has no text\n", argv[optind]);
        return 1;
    }
    printf(
        "directory,open_ms,encode_1kb_mb_s,encode_64kb_mb_s,encode_1mb_mb_s,decode_mb_s,tokens\n");
    int rc = 0;
    for (int i = optind + 1; i < argc && rc == 0; i++) {
        rc = measure(argv[i], &text, repeats);
        fflush(stdout);
    }
    free(text.bytes);
    return rc;
}
