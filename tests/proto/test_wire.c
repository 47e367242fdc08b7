// The wire: round trips, limits, hostile bytes, strings, versions.
#include "proto/wire.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "proto/limits.h"
#include "tests/support/testkit.h"

enum { ITEM_COUNT = 3, TOKEN_COUNT = 5 };

// Packs a request with nested messages, repeated strings and numbers.
static uint8_t *pack_submit(const char *content, size_t *size) {
    Surefoot__ChatMessage user = SUREFOOT__CHAT_MESSAGE__INIT;
    user.role = "user";
    user.content = (char *)content;
    Surefoot__ChatMessage system = SUREFOOT__CHAT_MESSAGE__INIT;
    system.role = "system";
    system.content = "be kind";
    Surefoot__ChatMessage *messages[] = {&system, &user};
    Surefoot__LogitBias bias = SUREFOOT__LOGIT_BIAS__INIT;
    bias.has_token_id = true;
    bias.token_id = 17;
    bias.has_bias = true;
    bias.bias = -1.5F;
    Surefoot__LogitBias *biases[] = {&bias};
    char *stop[] = {"\n\n", "Ende: \xC3\xBC"};
    Surefoot__Sampling sampling = SUREFOOT__SAMPLING__INIT;
    sampling.has_temperature = true;
    sampling.temperature = 0.0;
    sampling.n_logit_bias = 1;
    sampling.logit_bias = biases;
    sampling.n_stop = 2;
    sampling.stop = stop;
    Surefoot__JobSpec spec = SUREFOOT__JOB_SPEC__INIT;
    spec.n_messages = 2;
    spec.messages = messages;
    spec.has_n = true;
    spec.n = 0;
    spec.has_seed = true;
    spec.seed = UINT64_MAX;
    spec.sampling = &sampling;
    Surefoot__SubmitJob submit = SUREFOOT__SUBMIT_JOB__INIT;
    submit.job_key = "key-1";
    submit.spec = &spec;
    Surefoot__ClientRequest request = SUREFOOT__CLIENT_REQUEST__INIT;
    request.has_request_id = true;
    request.request_id = 42;
    request.submit = &submit;
    uint8_t *bytes = NULL;
    assert_ok(wire_pack(WIRE_CLIENT_REQUEST, &request, &bytes, size), NULL);
    return bytes;
}

static void test_request_round_trip_keeps_presence(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = pack_submit("gr\xC3\xBC\xC3\x9F dich", &size);
    void *message = NULL;
    struct error err;
    assert_ok(wire_unpack(WIRE_CLIENT_REQUEST, bytes, size, &message, &err), &err);
    const Surefoot__ClientRequest *request = message;
    assert_int_equal(request->request_id, 42);
    assert_null(request->fetch);
    assert_false(request->has_schema_major);
    const Surefoot__JobSpec *spec = request->submit->spec;
    assert_true(spec->has_n); // zero and present is not the same as absent
    assert_int_equal(spec->n, 0);
    assert_false(spec->has_tries);
    assert_true(spec->seed == UINT64_MAX);
    assert_int_equal(spec->n_messages, 2);
    assert_string_equal(spec->messages[1]->content, "gr\xC3\xBC\xC3\x9F dich");
    assert_true(spec->sampling->has_temperature && spec->sampling->temperature == 0.0);
    assert_int_equal(spec->sampling->logit_bias[0]->token_id, 17);
    assert_string_equal(spec->sampling->stop[1], "Ende: \xC3\xBC");
    wire_free(WIRE_CLIENT_REQUEST, message);
    free(bytes);
}

static uint8_t *pack_gathered(size_t *size) {
    uint32_t tokens[TOKEN_COUNT] = {1, 300, 70000, 0, 2};
    float scores[TOKEN_COUNT] = {0.5F, -1.0F, 0.0F, 3.25F, -0.125F};
    Surefoot__RowScore score = SUREFOOT__ROW_SCORE__INIT;
    score.n_token_scores = TOKEN_COUNT;
    score.token_scores = scores;
    Surefoot__RowScore *score_list[] = {&score};
    Surefoot__Row rows[ITEM_COUNT];
    Surefoot__Row *row_list[ITEM_COUNT];
    for (int i = 0; i < ITEM_COUNT; i++) {
        surefoot__row__init(&rows[i]);
        rows[i].has_candidate_id = true;
        rows[i].candidate_id = (uint64_t)i + 1;
        rows[i].n_token_ids = TOKEN_COUNT;
        rows[i].token_ids = tokens;
        rows[i].n_scores = 1;
        rows[i].scores = score_list;
        rows[i].text = "so far";
        row_list[i] = &rows[i];
    }
    Surefoot__Gathered gathered = SUREFOOT__GATHERED__INIT;
    gathered.has_order_id = true;
    gathered.order_id = 9;
    gathered.n_rows = ITEM_COUNT;
    gathered.rows = row_list;
    uint8_t *bytes = NULL;
    assert_ok(wire_pack(WIRE_GATHERED, &gathered, &bytes, size), NULL);
    return bytes;
}

static void test_gathered_round_trip_keeps_packed_arrays(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = pack_gathered(&size);
    void *message = NULL;
    struct error err;
    assert_ok(wire_unpack(WIRE_GATHERED, bytes, size, &message, &err), &err);
    const Surefoot__Gathered *gathered = message;
    assert_int_equal(gathered->n_rows, ITEM_COUNT);
    assert_int_equal(gathered->rows[2]->candidate_id, 3);
    assert_int_equal(gathered->rows[2]->n_token_ids, TOKEN_COUNT);
    assert_int_equal(gathered->rows[2]->token_ids[2], 70000);
    assert_true(gathered->rows[1]->scores[0]->token_scores[3] == 3.25F);
    wire_free(WIRE_GATHERED, message);
    free(bytes);
}

static void test_empty_message_unpacks(void **state) {
    (void)state;
    void *message = NULL;
    assert_ok(wire_unpack(WIRE_CLIENT_REQUEST, NULL, 0, &message, NULL), NULL);
    assert_null(((Surefoot__ClientRequest *)message)->submit);
    wire_free(WIRE_CLIENT_REQUEST, message);
    wire_free(WIRE_CLIENT_REQUEST, NULL);
}

// Unpacks a copy of exactly `size` bytes, so that a read past the end shows under ASan.
static enum status try_unpack(enum wire_type type, const uint8_t *bytes, size_t size) {
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    void *message = NULL;
    struct error err = {0};
    enum status status = wire_unpack(type, copy, size, &message, &err);
    if (status == STATUS_OK) {
        wire_free(type, message);
    } else {
        assert_null(message);
        assert_int_equal(err.status, status);
        assert_true(err.message[0] != '\0');
        assert_true(status == STATUS_MALFORMED || status == STATUS_LIMIT);
    }
    free(copy);
    return status;
}

static void test_truncated_messages_are_refused_or_whole(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = pack_submit("hello", &size);
    int refused = 0;
    for (size_t cut = 0; cut < size; cut++) {
        refused += try_unpack(WIRE_CLIENT_REQUEST, bytes, cut) == STATUS_MALFORMED;
    }
    // Only a cut between two top-level fields leaves a message: nothing, or the first field.
    assert_int_equal(refused, size - 2);
    free(bytes);
    bytes = pack_gathered(&size);
    for (size_t cut = 0; cut < size; cut++) {
        try_unpack(WIRE_GATHERED, bytes, cut);
    }
    free(bytes);
}

static void flip_and_unpack(enum wire_type type, uint8_t *bytes, size_t size, uint64_t seed) {
    for (uint32_t round = 0; round < 2000; round++) {
        uint8_t *copy = malloc(size);
        assert_non_null(copy);
        memcpy(copy, bytes, size);
        for (uint32_t flip = 0; flip <= round % 4; flip++) {
            size_t bit = (size_t)(rng_uniform(seed, 1, round, flip) * (double)(size * 8));
            copy[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
        try_unpack(type, copy, size);
        free(copy);
    }
}

static void test_flipped_bits_never_break_the_parser(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = pack_submit("hello", &size);
    flip_and_unpack(WIRE_CLIENT_REQUEST, bytes, size, 1);
    flip_and_unpack(WIRE_GROUP_COMMAND, bytes, size, 2);
    free(bytes);
    bytes = pack_gathered(&size);
    flip_and_unpack(WIRE_GATHERED, bytes, size, 3);
    flip_and_unpack(WIRE_JOB_RESULT, bytes, size, 4);
    free(bytes);
}

static void test_random_bytes_never_break_the_parser(void **state) {
    (void)state;
    uint8_t bytes[64];
    for (uint32_t round = 0; round < 2000; round++) {
        size_t size = 1 + round % sizeof bytes;
        for (uint32_t i = 0; i < size; i++) {
            bytes[i] = (uint8_t)(rng_uniform(5, 2, round, i) * 256);
        }
        for (int type = WIRE_CLIENT_REQUEST; type <= WIRE_JOB_RESULT; type++) {
            try_unpack((enum wire_type)type, bytes, size);
        }
    }
}

static void test_oversize_is_refused_both_ways(void **state) {
    (void)state;
    size_t large = (size_t)LIMIT_CLIENT_MESSAGE_BYTES + 1;
    char *text = malloc(large + 1);
    assert_non_null(text);
    memset(text, 'a', large);
    text[large] = '\0';
    struct error err;
    void *message = NULL;
    assert_status(STATUS_LIMIT,
                  wire_unpack(WIRE_CLIENT_REQUEST, (uint8_t *)text, large, &message, &err));
    assert_non_null(strstr(err.message, "4194304"));
    Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
    result.text = text;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_status(STATUS_LIMIT, wire_pack(WIRE_JOB_RESULT, &result, &bytes, &size));
    assert_null(bytes);
    free(text);
}

static void test_small_message_cannot_ask_for_many_allocations(void **state) {
    (void)state;
    // Field 14 (scorers) of JobResult, empty, again and again: two bytes each.
    size_t size = (size_t)2 * 200000;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i += 2) {
        bytes[i] = 14 << 3 | 2;
        bytes[i + 1] = 0;
    }
    assert_status(STATUS_LIMIT, try_unpack(WIRE_JOB_RESULT, bytes, size));
    free(bytes);
}

static void expect_bad_string(const char *content) {
    size_t size = 0;
    uint8_t *bytes = pack_submit(content, &size);
    void *message = NULL;
    struct error err;
    assert_status(STATUS_MALFORMED, wire_unpack(WIRE_CLIENT_REQUEST, bytes, size, &message, &err));
    assert_string_equal(err.field, "submit.spec.messages[1].content");
    free(bytes);
}

static void test_invalid_utf8_names_its_field(void **state) {
    (void)state;
    expect_bad_string("a\xFF");
    expect_bad_string("\xC0\xAF");         // overlong
    expect_bad_string("\xE0\x80\xAF");     // overlong
    expect_bad_string("\xED\xA0\x80");     // surrogate
    expect_bad_string("\xF4\x90\x80\x80"); // above U+10FFFF
    expect_bad_string("cut \xE2\x82");
    expect_bad_string("\x80");
}

static void test_nul_byte_in_a_string_is_refused(void **state) {
    (void)state;
    size_t size = 0;
    uint8_t *bytes = pack_submit("hello", &size);
    uint8_t *at = memmem(bytes, size, "hello", 5);
    assert_non_null(at);
    at[2] = 0;
    assert_status(STATUS_MALFORMED, try_unpack(WIRE_CLIENT_REQUEST, bytes, size));
    free(bytes);
}

static void test_unknown_fields_and_enum_numbers_are_let_through(void **state) {
    (void)state;
    // outcome (field 2) = 77, then an unknown field 1000 with two bytes, one of them not UTF-8.
    const uint8_t bytes[] = {2 << 3, 77, 0xC2, 0x3E, 2, 0xFF, 0x00};
    void *message = NULL;
    struct error err;
    assert_ok(wire_unpack(WIRE_JOB_RESULT, bytes, sizeof bytes, &message, &err), &err);
    const Surefoot__JobResult *result = message;
    assert_true(result->has_outcome);
    assert_int_equal((int)result->outcome, 77);
    wire_free(WIRE_JOB_RESULT, message);
}

static void test_other_major_version_is_refused(void **state) {
    (void)state;
    struct error err;
    assert_ok(wire_check_version(WIRE_SCHEMA_MAJOR, WIRE_SCHEMA_MINOR + 5, &err), &err);
    assert_status(STATUS_VERSION, wire_check_version(WIRE_SCHEMA_MAJOR + 1, 0, &err));
    assert_string_equal(err.field, "schema_major");
}

static void test_errors_travel(void **state) {
    (void)state;
    struct error sent;
    error_set(&sent, STATUS_LIMIT, "spec.n", "5000 is above the limit 4096");
    Surefoot__JobResult result = SUREFOOT__JOB_RESULT__INIT;
    Surefoot__ErrorInfo info;
    wire_error_fill(&info, &sent);
    result.error = &info;
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_ok(wire_pack(WIRE_JOB_RESULT, &result, &bytes, &size), NULL);
    void *message = NULL;
    assert_ok(wire_unpack(WIRE_JOB_RESULT, bytes, size, &message, NULL), NULL);
    struct error received;
    wire_error_read(((Surefoot__JobResult *)message)->error, &received);
    assert_int_equal(received.status, STATUS_LIMIT);
    assert_string_equal(received.field, "spec.n");
    assert_string_equal(received.message, sent.message);
    wire_free(WIRE_JOB_RESULT, message);
    free(bytes);
    info.status = 99999;
    wire_error_read(&info, &received);
    assert_int_equal(received.status, STATUS_INTERNAL);
    wire_error_read(NULL, &received);
    assert_int_equal(received.status, STATUS_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_round_trip_keeps_presence),
        cmocka_unit_test(test_gathered_round_trip_keeps_packed_arrays),
        cmocka_unit_test(test_empty_message_unpacks),
        cmocka_unit_test(test_truncated_messages_are_refused_or_whole),
        cmocka_unit_test(test_flipped_bits_never_break_the_parser),
        cmocka_unit_test(test_random_bytes_never_break_the_parser),
        cmocka_unit_test(test_oversize_is_refused_both_ways),
        cmocka_unit_test(test_small_message_cannot_ask_for_many_allocations),
        cmocka_unit_test(test_invalid_utf8_names_its_field),
        cmocka_unit_test(test_nul_byte_in_a_string_is_refused),
        cmocka_unit_test(test_unknown_fields_and_enum_numbers_are_let_through),
        cmocka_unit_test(test_other_major_version_is_refused),
        cmocka_unit_test(test_errors_travel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
