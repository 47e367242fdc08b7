#include "benchmarks/private_service.h"

#include <string.h>
#include <unistd.h>

static enum status make_models(struct private_service *service,
                               const struct random_model_options *shape, struct error *err) {
    static const char *const names[] = {"policy", "reward", "cost"};
    static const enum model_head heads[] = {MODEL_HEAD_LM, MODEL_HEAD_CLASS, MODEL_HEAD_SCORE};
    enum status status = STATUS_OK;
    for (int i = 0; i < 3 && status == STATUS_OK; i++) {
        char directory[SERVICE_PATH_BYTES];
        struct random_model_options options = *shape;
        options.head = heads[i];
        options.seed = shape->seed + (uint64_t)i;
        snprintf(directory, sizeof directory, "%.4000s/%s", service->directory, names[i]);
        snprintf(service->models[i], sizeof service->models[i], "%s=%s", names[i], directory);
        status = random_model_write(directory, &options, err);
    }
    return status;
}

static enum status start(struct private_service *service, struct service_flags *flags,
                         const struct random_model_options *shape, struct error *err) {
    enum status status = STATUS_OK;
    if (flags->policy == NULL) {
        status = make_models(service, shape, err);
        flags->policy = service->models[0] + strlen("policy=");
        flags->rewards = (struct flag_list){.items = {service->models[1]}, .count = 1};
        flags->costs = (struct flag_list){.items = {service->models[2]}, .count = 1};
    }
    if (status == STATUS_OK) {
        status =
            service_start(&service->cli, flags, service->directory, true, &service->service, err);
        service->started = status == STATUS_OK;
    }
    return status;
}

enum status private_service_open(struct service_flags *flags,
                                 const struct random_model_options *shape,
                                 struct private_service *out, struct error *err) {
    char parent[SERVICE_PATH_BYTES];
    *out = (struct private_service){.lock = -1, .cli.signal_fd = -1};
    enum status status = cli_open(&out->cli);
    if (status != STATUS_OK) {
        return error_set(err, status, NULL, "no service can be started from here");
    }
    status = service_directory(NULL, parent, err);
    if (status != STATUS_OK) {
        return status;
    }
    service_remove_stale(parent);
    out->lock = service_make_private(parent, out->directory, err);
    if (out->lock < 0) {
        return err->status;
    }
    status = start(out, flags, shape, err);
    const struct surefoot_options options = {.wake_fd = out->cli.signal_fd};
    return status == STATUS_OK
               ? surefoot_client_open(out->service.client_endpoint, &options, &out->client, err)
               : status;
}

void private_service_close(struct private_service *service) {
    struct error err;
    surefoot_client_close(service->client);
    if (service->started && service_stop(&service->service, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
    }
    if (service->lock >= 0) {
        service_remove_directory(service->directory);
        close(service->lock);
    }
    if (service->cli.signal_fd >= 0) {
        close(service->cli.signal_fd);
    }
}
