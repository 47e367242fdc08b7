#include "worker/tokenizer/unicode_newer.h"

bool unicode_ranges_hold(const struct unicode_range *ranges, size_t n, uint32_t code) {
    size_t low = 0;
    while (low < n) {
        size_t middle = low + (n - low) / 2;
        if (code > ranges[middle].last) {
            low = middle + 1;
        } else if (code < ranges[middle].first) {
            n = middle;
        } else {
            return true;
        }
    }
    return false;
}

const char *unicode_newer_category(uint32_t code) {
    size_t low = 0;
    size_t high = unicode_newer_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (code > unicode_newer[middle].last) {
            low = middle + 1;
        } else if (code < unicode_newer[middle].first) {
            high = middle;
        } else {
            return unicode_newer[middle].category;
        }
    }
    return NULL;
}
