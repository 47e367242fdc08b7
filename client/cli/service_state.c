// Where a service keeps its things, and the file that tells of it.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "client/cli/service.h"

static void state_path(const char *directory, const char *suffix, char out[SERVICE_PATH_BYTES]) {
    snprintf(out, SERVICE_PATH_BYTES, "%.4000s/state.json%s", directory, suffix);
}

enum status service_directory(const char *given, char out[SERVICE_PATH_BYTES], struct error *err) {
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    int wanted = given != NULL ? snprintf(out, SERVICE_PATH_BYTES, "%s", given)
                 : runtime != NULL && runtime[0] == '/'
                     ? snprintf(out, SERVICE_PATH_BYTES, "%s/surefoot", runtime)
                     : snprintf(out, SERVICE_PATH_BYTES, "/tmp/surefoot-%u", (unsigned)getuid());
    // Sockets stand in it, and the system allows them 107 bytes.
    if (wanted < 1 || wanted > 80) {
        return error_set(err, STATUS_LIMIT, "--dir", "the path has %d bytes, not 1 to 80", wanted);
    }
    if (mkdir(out, 0700) != 0 && errno != EEXIST) {
        return error_set(err, status_from_errno(errno), "--dir", "cannot make %s: %s", out,
                         strerror(errno));
    }
    struct stat info;
    if (lstat(out, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 077) != 0) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--dir",
                         "%s must be a directory of yours that others may not enter (mode 0700)",
                         out);
    }
    return STATUS_OK;
}

enum status service_save(const struct service *service, struct error *err) {
    json_t *processes = json_array();
    for (int i = 0; i < service->n_processes; i++) {
        const struct process *process = &service->processes[i];
        json_array_append_new(processes, json_pack("{s:s, s:i, s:I}", "name", process->name, "pid",
                                                   (int)process->pid, "start_ticks",
                                                   (json_int_t)process->start_ticks));
    }
    json_t *state = json_pack("{s:s, s:s, s:o, s:o}", "client_endpoint", service->client_endpoint,
                              "group_endpoint", service->group_endpoint, "processes", processes,
                              "settings", service_settings_json(&service->settings));
    char path[SERVICE_PATH_BYTES];
    char part[SERVICE_PATH_BYTES];
    state_path(service->directory, "", path);
    state_path(service->directory, ".part", part);
    // Whole or not at all: commands that run meanwhile read the old one.
    bool written = state != NULL && json_dump_file(state, part, JSON_INDENT(2)) == 0 &&
                   rename(part, path) == 0;
    json_decref(state);
    return written
               ? STATUS_OK
               : error_set(err, STATUS_IO, "--dir", "cannot write %s: %s", path, strerror(errno));
}

static bool read_process(json_t *value, struct process *out) {
    const char *name = NULL;
    int pid = 0;
    json_int_t ticks = 0;
    if (json_unpack(value, "{s:s, s:i, s:I}", "name", &name, "pid", &pid, "start_ticks", &ticks) !=
            0 ||
        pid <= 1 || ticks < 0) {
        return false;
    }
    *out = (struct process){.pid = pid, .start_ticks = (uint64_t)ticks};
    snprintf(out->name, sizeof out->name, "%.31s", name);
    return true;
}

enum status service_load(const char *directory, struct service *out, struct error *err) {
    char path[SERVICE_PATH_BYTES];
    state_path(directory, "", path);
    if (access(path, F_OK) != 0) {
        return error_set(err, STATUS_NOT_FOUND, NULL, "no service is up in %s", directory);
    }
    json_t *state = json_load_file(path, 0, NULL);
    const char *client = NULL;
    const char *group = NULL;
    json_t *processes = NULL;
    memset(out, 0, sizeof *out);
    bool good = state != NULL &&
                json_unpack(state, "{s:s, s:s, s:o}", "client_endpoint", &client, "group_endpoint",
                            &group, "processes", &processes) == 0 &&
                json_array_size(processes) <= SERVICE_PROCESSES_MAX;
    for (size_t i = 0; good && i < json_array_size(processes); i++) {
        good = read_process(json_array_get(processes, i), &out->processes[i]);
        out->n_processes = (int)i + 1;
    }
    if (good) {
        // Not known when another version wrote the file.
        service_settings_read(json_object_get(state, "settings"), &out->settings);
        snprintf(out->directory, sizeof out->directory, "%s", directory);
        snprintf(out->client_endpoint, sizeof out->client_endpoint, "%s", client);
        snprintf(out->group_endpoint, sizeof out->group_endpoint, "%s", group);
    }
    json_decref(state);
    return good ? STATUS_OK
                : error_set(err, STATUS_MALFORMED, "--dir", "%s is not a state file", path);
}

void service_forget(const struct service *service) {
    char path[SERVICE_PATH_BYTES];
    state_path(service->directory, "", path);
    unlink(path);
}

int service_make_private(const char *directory, char out[SERVICE_PATH_BYTES], struct error *err) {
    char draft[SERVICE_PATH_BYTES];
    char lock[SERVICE_PATH_BYTES + 8];
    // Gets its name when it is locked, so that no other command takes it for a stale one.
    snprintf(draft, sizeof draft, "%.4000s/starting-XXXXXX", directory);
    int fd = -1;
    if (mkdtemp(draft) != NULL) {
        snprintf(out, SERVICE_PATH_BYTES, "%.4000s/private-%s", directory, strrchr(draft, '-') + 1);
        snprintf(lock, sizeof lock, "%s/lock", draft);
        fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && rename(draft, out) == 0) {
            return fd;
        }
    }
    error_set(err, status_from_errno(errno), "--dir", "cannot make %.200s: %s", draft,
              strerror(errno));
    if (fd >= 0) {
        close(fd);
    }
    service_remove_directory(draft);
    return -1;
}

void service_remove_stale(const char *directory) {
    DIR *entries = opendir(directory);
    if (entries == NULL) {
        return;
    }
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        if (strncmp(entry->d_name, "private-", 8) != 0) {
            continue;
        }
        char path[SERVICE_PATH_BYTES];
        char lock[SERVICE_PATH_BYTES + 8];
        snprintf(path, sizeof path, "%.3800s/%s", directory, entry->d_name);
        snprintf(lock, sizeof lock, "%s/lock", path);
        int fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) {
            continue;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            service_remove_directory(path);
        }
        close(fd);
    }
    closedir(entries);
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *place) {
    (void)info;
    (void)kind;
    (void)place;
    return remove(path);
}

void service_remove_directory(const char *directory) {
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
