// Days of the calendar as jobs name them: YYYY-MM-DD, years 0001 to 9999 (Gregorian).
#ifndef COMMON_DATE_H
#define COMMON_DATE_H

#include <stdbool.h>
#include <stdint.h>

struct date {
    int year;  // 1..9999
    int month; // 1..12
    int day;   // 1..31
};

enum { DATE_TEXT_BYTES = 11 };

// False when `text` is not the day of a calendar as YYYY-MM-DD; *date is then unchanged.
bool date_parse(const char *text, struct date *date);

// The day (UTC) of a time in milliseconds since 1970, NUL-terminated.
void date_of_realtime_ms(int64_t realtime_ms, char text[DATE_TEXT_BYTES]);

#endif
