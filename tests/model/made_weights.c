#include "tests/model/made_weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"

static uint64_t hash_of(const char *name) {
    uint64_t value = UINT64_C(0xcbf29ce484222325); // FNV-1a
    for (; *name != '\0'; name++) {
        value = (value ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    }
    return value;
}

// Element `index` of the tensor with that hash: the top 24 bits of splitmix64, in [-0.5, 0.5).
static double element(uint64_t hash, uint64_t index) {
    uint64_t z = hash + (index + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z = z ^ z >> 31;
    return (double)(z >> 40) / (1 << 24) - 0.5;
}

double made_weights_draw(const char *name, uint64_t index) {
    return element(hash_of(name), index);
}

static size_t count_of(const json_t *shape) {
    size_t count = 1;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        count *= (size_t)json_integer_value(json_array_get(shape, i));
    }
    return count;
}

static char *header_of(const json_t *shapes) {
    json_t *header = json_object();
    size_t begin = 0;
    const char *name;
    json_t *shape;
    json_object_foreach((json_t *)(uintptr_t)shapes, name, shape) {
        size_t end = begin + 4 * count_of(shape);
        json_object_set_new(header, name,
                            json_pack("{s:s, s:O, s:[I,I]}", "dtype", "F32", "shape", shape,
                                      "data_offsets", (json_int_t)begin, (json_int_t)end));
        begin = end;
    }
    char *text = json_dumps(header, JSON_COMPACT);
    assert_non_null(text);
    json_decref(header);
    return text;
}

static void write_values(FILE *file, const char *made_as, size_t count, double scale) {
    uint64_t hash = hash_of(made_as);
    bool norm = strstr(made_as, "norm") != NULL && strstr(made_as, "normalizer") == NULL;
    for (size_t i = 0; i < count; i++) {
        double value = element(hash, i);
        float stored = (float)(norm ? 1 + value / 2 : value * scale);
        assert_int_equal(fwrite(&stored, sizeof stored, 1, file), 1);
    }
}

void made_weights_write(const char *directory, const json_t *shapes, const json_t *made_as,
                        double scale) {
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    char *header = header_of(shapes);
    uint64_t padded = (strlen(header) + 7) / 8 * 8;
    assert_int_equal(fwrite(&padded, sizeof padded, 1, file), 1); // little endian, as the engine
    fprintf(file, "%-*s", (int)padded, header);
    free(header);
    const char *name;
    json_t *shape;
    json_object_foreach((json_t *)(uintptr_t)shapes, name, shape) {
        const char *other = json_string_value(json_object_get(made_as, name));
        write_values(file, other != NULL ? other : name, count_of(shape), scale);
    }
    assert_int_equal(fclose(file), 0);
}
