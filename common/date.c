#include "common/date.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool date_parse(const char *text, struct date *date) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    static const char form[] = "dddd-dd-dd";
    int numbers[3] = {0, 0, 0};
    bool fits = strlen(text) == sizeof form - 1;
    for (size_t i = 0, part = 0; fits && form[i] != '\0'; i++) {
        if (form[i] == '-') {
            fits = text[i] == '-';
            part++;
        } else {
            fits = text[i] >= '0' && text[i] <= '9';
            numbers[part] = 10 * numbers[part] + (text[i] - '0');
        }
    }
    bool is_leap = (numbers[0] % 4 == 0 && numbers[0] % 100 != 0) || numbers[0] % 400 == 0;
    if (!fits || numbers[0] < 1 || numbers[1] < 1 || numbers[1] > 12 || numbers[2] < 1 ||
        numbers[2] > days[numbers[1] - 1] + (is_leap && numbers[1] == 2)) {
        return false;
    }
    *date = (struct date){.year = numbers[0], .month = numbers[1], .day = numbers[2]};
    return true;
}

void date_of_realtime_ms(int64_t realtime_ms, char text[DATE_TEXT_BYTES]) {
    time_t seconds = (time_t)(realtime_ms / 1000);
    struct tm tm = {0};
    if (gmtime_r(&seconds, &tm) == NULL || strftime(text, DATE_TEXT_BYTES, "%Y-%m-%d", &tm) == 0) {
        snprintf(text, DATE_TEXT_BYTES, "1970-01-01"); // a clock beyond the year 9999
    }
}
