// Base64: the vectors of RFC 4648, section 10, and what comes back of bytes.
#include <string.h>

#include "common/base64.h"
#include "tests/support/testkit.h"

static void test_rfc_vectors(void **state) {
    (void)state;
    static const char *const texts[] = {"f", "fo", "foo", "foob", "fooba", "foobar"};
    static const char *const encoded[] = {"Zg==",     "Zm8=",     "Zm9v",
                                          "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t i = 0; i < 6; i++) {
        char out[16], back[16];
        size_t count = 0;
        base64_encode(texts[i], strlen(texts[i]), out);
        assert_string_equal(out, encoded[i]);
        assert_int_equal(strlen(out), base64_length(strlen(texts[i])));
        assert_true(base64_decode(out, strlen(out), back, sizeof back, &count));
        assert_int_equal(count, strlen(texts[i]));
        assert_memory_equal(back, texts[i], count);
    }
}

static void test_every_byte_comes_back(void **state) {
    (void)state;
    unsigned char bytes[256];
    char text[400], back[256];
    size_t count = 0;
    for (int i = 0; i < 256; i++) {
        bytes[i] = (unsigned char)(255 - i);
    }
    base64_encode(bytes, sizeof bytes, text);
    assert_true(base64_decode(text, strlen(text), back, sizeof back, &count));
    assert_int_equal(count, sizeof bytes);
    assert_memory_equal(back, bytes, sizeof bytes);
    base64_encode(bytes, 0, text);
    assert_string_equal(text, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_vectors),
        cmocka_unit_test(test_every_byte_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
