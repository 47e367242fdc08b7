// SQLite on a disk of a given size: a VFS over the usual one whose writes fail as on a full disk
// when the files of a directory, of SQLite or not, would take more than that. For one test at a
// time.
#ifndef TESTS_COORDINATOR_SMALL_DISK_H
#define TESTS_COORDINATOR_SMALL_DISK_H

#include <stdint.h>

// From now on the default for databases that are opened. Borrows `directory` until replaced.
void small_disk_use(const char *directory, int64_t bytes_max);
// Another size for databases that are open already.
void small_disk_resize(int64_t bytes_max);
// Exactly as large as what is on it.
void small_disk_fill(void);
// The usual disk again; no database may be open.
void small_disk_leave(void);

#endif
