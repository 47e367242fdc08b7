#include "common/number_text.h"

#include <stdio.h>
#include <stdlib.h>

const char *number_text(double value, char out[NUMBER_TEXT_BYTES]) {
    for (int digits = 6; digits <= 17; digits++) { // 17 always do (IEEE 754-2008, section 5.12.2)
        snprintf(out, NUMBER_TEXT_BYTES, "%.*g", digits, value);
        if (strtod(out, NULL) == value) {
            break;
        }
    }
    return out;
}
