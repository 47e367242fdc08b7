// Model directories that cannot be served: the worker and `surefoot models check` say which file
// and which member is wrong, and end with their documented exit codes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/model/model_files.h"
#include "tests/support/process.h"
#include "tests/support/service.h"
#include "tests/support/testkit.h"
#include "tests/worker/tiny_models.h"

enum { WAIT_MS = 120000, WORKER_CANNOT_START = 1, CHECK_REFUSED = 2, JOB_FAILED = 3 };

enum { REMOVED = -1, A_PIPE = -2, ENDS_IN_NAN = -3 };

static const char weights[] = "model.safetensors";
static const char config[] = "config.json";
static const char tokenizer[] = "tokenizer.json";
static const char profile[] = "surefoot.json";

struct bad_model {
    const char *what; // for a person
    const char *name; // the damaged file
    // Merged into the file's JSON, or into the header of the weights; NULL: see `size`.
    const char *change;
    long size; // that the file is cut to; or a verb below
    const char *status;
    const char *field;
    const char *part; // of the message
};

#define NORM "model.layers.3.input_layernorm.weight"
static const struct bad_model rows[] = {
    {"missing tensor", weights, "{\"" NORM "\": null}", 0, "NOT_FOUND", NORM, "[256] or [1, 256]"},
    {"another shape", weights, "{\"" NORM "\": {\"shape\": [128, 2]}}", 0, "SHAPE", NORM,
     "config.json needs [256] or [1, 256]"},
    {"shape and bytes", weights, "{\"" NORM "\": {\"shape\": [257]}}", 0, "MALFORMED", NORM,
     "need 514"},
    {"negative shape", weights, "{\"" NORM "\": {\"shape\": [-256]}}", 0, "MALFORMED", NORM,
     "at least 0"},
    {"endless shape", weights,
     "{\"" NORM "\": {\"shape\": [4611686018427387904, 4611686018427387904]}}", 0, "LIMIT", NORM,
     "can be addressed"},
    {"overlap", weights, "{\"" NORM "\": {\"data_offsets\": [0, 512]}}", 0, "MALFORMED",
     "model.embed_tokens.weight", "overlaps " NORM},
    {"cut data", weights, NULL, 5000000, "MALFORMED", ".weight", "end outside"},
    {"cut header", weights, NULL, 100, "MALFORMED", weights, "in a file of 100 bytes"},
    {"empty weights", weights, NULL, 0, "MALFORMED", weights, "too short"},
    {"weights in a pipe", weights, NULL, A_PIPE, "IO", weights, "not a regular file"},
    {"a weight that is no number", weights, NULL, ENDS_IN_NAN, "MALFORMED", ".weight",
     "NaN or infinity at ["},
    {"no weights", weights, NULL, REMOVED, "NOT_FOUND", weights, "model.safetensors"},
    {"architecture", config, "{\"architectures\": [\"GPT2LMHeadModel\"]}", 0, "UNSUPPORTED",
     "config.json.architectures", "Llama"},
    {"architecture without a head", config, "{\"architectures\": [\"GPT2Model\"]}", 0,
     "UNSUPPORTED", "policy.config.json.architectures", "Llama"},
    {"no architecture", config, "{\"architectures\": null}", 0, "MALFORMED",
     "config.json.architectures", "names no"},
    {"no heads", config, "{\"num_attention_heads\": 0}", 0, "LIMIT",
     "config.json.num_attention_heads", "1 to 1024"},
    {"text for a number", config, "{\"hidden_size\": \"256\"}", 0, "MALFORMED",
     "config.json.hidden_size", "not an integer"},
    {"too many layers", config, "{\"num_hidden_layers\": 1000000000}", 0, "LIMIT",
     "config.json.num_hidden_layers", "1 to 1024"},
    {"activation", config, "{\"hidden_act\": \"gelu\"}", 0, "UNSUPPORTED", "config.json.hidden_act",
     "silu"},
    {"rope scaling", config, "{\"rope_scaling\": {\"rope_type\": \"mrope\"}}", 0, "UNSUPPORTED",
     "config.json.rope_scaling.rope_type", "llama3"},
    {"vocabulary", config, "{\"vocab_size\": 5000}", 0, "SHAPE", "model.embed_tokens.weight",
     "[5000, 256]"},
    {"end token", config, "{\"eos_token_id\": [1, -3]}", 0, "LIMIT", "config.json.eos_token_id",
     "0 to 4095"},
    {"cut config", config, NULL, 40, "MALFORMED", config, "line"},
    {"config in a pipe", config, NULL, A_PIPE, "IO", config, "not a regular file"},
    {"no config", config, NULL, REMOVED, "NOT_FOUND", config, "cannot open"},
    {"tokenizer's kind", tokenizer, "{\"model\": {\"type\": \"WordPiece\"}}", 0, "UNSUPPORTED",
     "tokenizer.json:model.type", "WordPiece"},
    {"pre-tokenizer's kind", tokenizer, "{\"pre_tokenizer\": {\"type\": \"Klingon\"}}", 0,
     "UNSUPPORTED", "tokenizer.json:pre_tokenizer", "Klingon"},
    {"no tokenizer model", tokenizer, "{\"model\": null}", 0, "MALFORMED", "tokenizer.json:model",
     "not an object"},
    {"id beyond the model", tokenizer, "{\"model\": {\"vocab\": {\"zzzz\": 999999}}}", 0, "SHAPE",
     "vocab_size", "the model 4096"},
    {"id twice", tokenizer, "{\"model\": {\"vocab\": {\"zzzz\": 7}}}", 0, "MALFORMED",
     "tokenizer.json:model.vocab", "id 7"},
    {"cut tokenizer", tokenizer, NULL, 100000, "MALFORMED", tokenizer, "line"},
    {"tokenizer in a pipe", tokenizer, NULL, A_PIPE, "IO", tokenizer, "not a regular file"},
    {"no tokenizer", tokenizer, NULL, REMOVED, "NOT_FOUND", tokenizer, "none of tokenizer.json"},
    {"role", profile, "{\"role\": \"judge\"}", 0, "INVALID_ARGUMENT", "surefoot.json.role",
     "policy, reward, cost"},
    {"chat template", profile, "{\"chat_template\": \"klingon\"}", 0, "INVALID_ARGUMENT",
     "surefoot.json.chat_template", "klingon"},
    {"a policy for a reward", profile, "{\"role\": \"reward\", \"append_eos\": true}", 0,
     "INVALID_ARGUMENT", "policy.surefoot.json.role", "reward"},
    {"cut profile", profile, NULL, 10, "MALFORMED", "policy.surefoot.json", "line"},
    {"a base that is not there", profile, "{\"base\": \"nowhere\"}", 0, "NOT_FOUND",
     "policy.surefoot.json.base", "nowhere"},
    {"profile's schema", profile, "{\"schema\": 99}", 0, "VERSION", "surefoot.json.schema", "99"},
};
#undef NORM

static void copy_file(const char *from, const char *to) {
    size_t size = 0;
    char *bytes = testkit_read_file(from, &size);
    testkit_write_file(to, bytes, size);
    free(bytes);
}

// The shipped policy is bf16.
static void write_nan_at_end(const char *path) {
    static const unsigned char nan[] = {0xc0, 0x7f};
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -(long)sizeof nan, SEEK_END), 0);
    assert_int_equal(fwrite(nan, sizeof nan, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

// The shipped policy, damaged; only the damaged file is a copy.
static char *make_directory(const struct bad_model *row) {
    static const char *const names[] = {
        weights, config, tokenizer, profile, "tokenizer_config.json", "generation_config.json"};
    char *directory = testkit_make_directory();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char source[4096];
        char target[512];
        char relative[128];
        snprintf(relative, sizeof relative, "models/demo/policy/%s", names[i]);
        snprintf(target, sizeof target, "%s/%s", directory, names[i]);
        assert_non_null(realpath(testkit_source_path(relative), source));
        if (names[i] != row->name) {
            assert_int_equal(symlink(source, target), 0);
            continue;
        }
        if (row->size >= 0 || row->size == ENDS_IN_NAN) {
            copy_file(source, target);
        }
        if (row->size == ENDS_IN_NAN) {
            write_nan_at_end(target);
        } else if (row->size == A_PIPE) {
            assert_int_equal(mkfifo(target, 0600), 0);
        } else if (row->change == NULL && row->size >= 0) {
            assert_int_equal(truncate(target, row->size), 0);
        }
    }
    if (row->change != NULL && row->name == weights) {
        model_files_change_header(directory, weights, row->change);
    } else if (row->change != NULL) {
        model_files_change_json(directory, row->name, row->change);
    }
    return directory;
}

// What the program printed, for free; *code is -1 when it did not end in time.
static char *run_program(char *const argv[], int *code) {
    char *scratch = testkit_make_directory();
    char log_path[512];
    snprintf(log_path, sizeof log_path, "%s/log", scratch);
    struct process process = {.pid = 0};
    process_start(&process, log_path, argv);
    if (!process_wait(&process, WAIT_MS, code)) {
        *code = -1;
    }
    char *log = testkit_read_file(log_path, NULL);
    testkit_remove_tree(scratch);
    return log;
}

static void expect(const struct bad_model *row, char *const argv[], int expected_code) {
    int code = -1;
    char *log = run_program(argv, &code);
    if (code != expected_code || strstr(log, row->status) == NULL ||
        strstr(log, row->field) == NULL || strstr(log, row->part) == NULL) {
        fail_msg("%s: expected code %d, %s, \"%s\", \"%s\"; code %d and:\n%s", row->what,
                 expected_code, row->status, row->field, row->part, code, log);
    }
    free(log);
}

static void test_damaged_directories_are_refused(void **state) {
    (void)state;
    char worker[4096];
    char surefoot[4096];
    snprintf(worker, sizeof worker, "%s", testkit_binary_path("bin/surefoot-worker"));
    snprintf(surefoot, sizeof surefoot, "%s", testkit_binary_path("bin/surefoot"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *directory = make_directory(&rows[i]);
        char *plan[] = {worker, "--plan", "--policy", directory, NULL};
        char *check[] = {surefoot, "models", "check", directory, NULL};
        expect(&rows[i], plan, WORKER_CANNOT_START);
        expect(&rows[i], check, CHECK_REFUSED);
        testkit_remove_tree(directory);
    }
}

// The profile beside a file says that it is a scorer, as that in a directory does.
static void test_a_file_is_checked_as_its_profile_says(void **state) {
    (void)state;
    char surefoot[4096], path[4200], beside[4300];
    snprintf(surefoot, sizeof surefoot, "%s", testkit_binary_path("bin/surefoot"));
    char *place = testkit_make_directory();
    snprintf(path, sizeof path, "%s/m.gguf", place);
    snprintf(beside, sizeof beside, "%s.surefoot.json", path);
    copy_file(testkit_source_path("tests/vectors/gguf/llama.gguf"), path);
    static const char text[] = "{\"schema\": 1, \"role\": \"reward\", \"head\": \"value\"}";
    testkit_write_file(beside, text, sizeof text - 1);
    const struct bad_model row = {.what = "a scorer's profile beside a file",
                                  .status = "NOT_FOUND",
                                  .field = "checked.v_head.summary.weight",
                                  .part = "not in the weight files"};
    char *check[] = {surefoot, "models", "check", path, NULL};
    expect(&row, check, CHECK_REFUSED);
    testkit_remove_tree(place);
}

static void test_a_file_that_is_no_gguf_file_is_no_model(void **state) {
    (void)state;
    char surefoot[4096], path[4200];
    snprintf(surefoot, sizeof surefoot, "%s", testkit_binary_path("bin/surefoot"));
    char *place = testkit_make_directory();
    snprintf(path, sizeof path, "%s/model.safetensors", place);
    testkit_write_file(path, "", 0);
    const struct bad_model row = {.what = "a file",
                                  .status = "INVALID_ARGUMENT",
                                  .field = "policy",
                                  .part =
                                      "neither a directory nor a file whose name ends in .gguf"};
    char *check[] = {surefoot, "models", "check", path, NULL};
    expect(&row, check, CHECK_REFUSED);
    testkit_remove_tree(place);
}

static void test_up_says_why_a_model_cannot_be_served(void **state) {
    (void)state;
    char surefoot[4096];
    snprintf(surefoot, sizeof surefoot, "%s", testkit_binary_path("bin/surefoot"));
    const struct bad_model row = {.what = "up",
                                  .name = config,
                                  .size = REMOVED,
                                  .status = "surefoot: group-1: surefoot-worker: rank 0: NOT_FOUND",
                                  .field = config,
                                  .part = "cannot open"};
    char *model = make_directory(&row);
    char *place = testkit_make_directory();
    char *up[] = {surefoot, "up", "--comm", "local", "--dir", place, "--policy", model, NULL};
    expect(&row, up, CHECK_REFUSED);
    testkit_remove_tree(place);
    testkit_remove_tree(model);
}

// A policy that is finite, and overflows behind a '%': such a job fails with the reason, on either
// group; the service serves the next one.
static void test_numbers_that_overflow_end_their_job_alone(void **state) {
    (void)state;
    char surefoot[4096];
    snprintf(surefoot, sizeof surefoot, "%s", testkit_binary_path("bin/surefoot"));
    char *models = tiny_models_make();
    char *place = testkit_make_directory();
    char *policy = (char *)tiny_model_path(models, "policy");
    model_files_overflow_after(policy, TINY_VOCAB, 32, '%');
    char *up[] = {surefoot,   "up",   "--comm",   "local", "--dir", place,
                  "--policy", policy, "--groups", "2",     NULL};
    char *down[] = {surefoot, "down", "--dir", place, NULL};
    char *bad[] = {surefoot,       "run",       "9 % of them", "--dir",          place,
                   "--method",     "best-of-n", "--scorer",    "lexical:reward", "--words-max",
                   "50",           "--n",       "4",           "--temperature",  "0",
                   "--max-tokens", "6",         NULL};
    char *good[sizeof bad / sizeof bad[0]];
    memcpy(good, bad, sizeof bad);
    good[2] = "tell me";
    char *const *calls[] = {up, bad, good, down};
    char *logs[4];
    int codes[4];
    for (int i = 0; i < 4; i++) {
        logs[i] = run_program((char *const *)calls[i], &codes[i]);
    }
    static const int expected[] = {0, JOB_FAILED, 0, 0};
    for (int i = 0; i < 4; i++) {
        if (codes[i] != expected[i]) {
            fail_msg("call %d: code %d:\n%s", i, codes[i], logs[i]);
        }
    }
    assert_non_null(strstr(logs[1], "FAILED"));
    assert_non_null(strstr(logs[1], "NaN or infinite"));
    assert_non_null(strstr(logs[2], "COMPLETED"));
    for (int i = 0; i < 4; i++) {
        free(logs[i]);
    }
    testkit_remove_tree(place);
    testkit_remove_tree(models);
}

int main(void) {
    if (!service_is_possible()) {
        return TESTKIT_SKIP;
    }
    // Beside which `surefoot models check` looks at what is no policy.
    setenv("SUREFOOT_MODELS", testkit_source_path("models/demo"), 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_directories_are_refused),
        cmocka_unit_test(test_a_file_is_checked_as_its_profile_says),
        cmocka_unit_test(test_a_file_that_is_no_gguf_file_is_no_model),
        cmocka_unit_test(test_up_says_why_a_model_cannot_be_served),
        cmocka_unit_test(test_numbers_that_overflow_end_their_job_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
