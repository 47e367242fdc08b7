#include "tests/coordinator/small_disk.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/support/testkit.h"

// A file of ours stands before the one that it wraps, in one allocation.
struct small_file {
    sqlite3_file base;
    sqlite3_file *real;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *real;
    const char *directory;
    int64_t bytes_max;
} disk;

static int64_t used_bytes(void) {
    int64_t sum = 0;
    DIR *directory = opendir(disk.directory);
    assert_non_null(directory);
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char path[1024];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", disk.directory, entry->d_name);
        if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            sum += info.st_size;
        }
    }
    closedir(directory);
    return sum;
}

static int file_write(sqlite3_file *file, const void *bytes, int count, sqlite3_int64 offset) {
    sqlite3_file *real = ((struct small_file *)file)->real;
    sqlite3_int64 size = 0;
    int rc = real->pMethods->xFileSize(real, &size);
    if (rc == SQLITE_OK && offset + count > size &&
        used_bytes() + offset + count - size > disk.bytes_max) {
        return SQLITE_FULL;
    }
    return rc == SQLITE_OK ? real->pMethods->xWrite(real, bytes, count, offset) : rc;
}

#define REAL(file) (((struct small_file *)(file))->real)

static int file_close(sqlite3_file *file) {
    return REAL(file)->pMethods->xClose(REAL(file));
}

static int file_read(sqlite3_file *file, void *bytes, int count, sqlite3_int64 offset) {
    return REAL(file)->pMethods->xRead(REAL(file), bytes, count, offset);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size) {
    return REAL(file)->pMethods->xTruncate(REAL(file), size);
}

static int file_sync(sqlite3_file *file, int flags) {
    return REAL(file)->pMethods->xSync(REAL(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size) {
    return REAL(file)->pMethods->xFileSize(REAL(file), size);
}

static int file_lock(sqlite3_file *file, int level) {
    return REAL(file)->pMethods->xLock(REAL(file), level);
}

static int file_unlock(sqlite3_file *file, int level) {
    return REAL(file)->pMethods->xUnlock(REAL(file), level);
}

static int file_check_lock(sqlite3_file *file, int *out) {
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), out);
}

// Hints of how large a file will be: making it so would be a write of its own.
static int file_control(sqlite3_file *file, int operation, void *argument) {
    return operation == SQLITE_FCNTL_SIZE_HINT
               ? SQLITE_OK
               : REAL(file)->pMethods->xFileControl(REAL(file), operation, argument);
}

static int file_sector_size(sqlite3_file *file) {
    return REAL(file)->pMethods->xSectorSize(REAL(file));
}

static int file_characteristics(sqlite3_file *file) {
    return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file));
}

// Version 1: no shared memory, which a database that is open exclusively does not need.
static const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_lock,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                     int *out_flags) {
    (void)vfs;
    struct small_file *small = (struct small_file *)file;
    small->real = (sqlite3_file *)(small + 1);
    int rc = disk.real->xOpen(disk.real, name, small->real, flags, out_flags);
    file->pMethods = small->real->pMethods != NULL ? &methods : NULL;
    return rc;
}

void small_disk_use(const char *directory, int64_t bytes_max) {
    disk.real = sqlite3_vfs_find(NULL);
    disk.vfs = *disk.real;
    disk.vfs.zName = "small";
    disk.vfs.szOsFile = (int)sizeof(struct small_file) + disk.real->szOsFile;
    disk.vfs.xOpen = open_file;
    disk.directory = directory;
    disk.bytes_max = bytes_max;
    assert_int_equal(sqlite3_vfs_register(&disk.vfs, 1), SQLITE_OK);
}

void small_disk_resize(int64_t bytes_max) {
    disk.bytes_max = bytes_max;
}

void small_disk_fill(void) {
    disk.bytes_max = used_bytes();
}

void small_disk_leave(void) {
    assert_int_equal(sqlite3_vfs_register(disk.real, 1), SQLITE_OK);
    assert_int_equal(sqlite3_vfs_unregister(&disk.vfs), SQLITE_OK);
}
