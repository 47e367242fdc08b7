#include "benchmarks/private_service.h"

#include <stdio.h>
#include <unistd.h>

enum { FLAG_BYTES = sizeof((struct private_service *)0)->models[0] };

static enum status start(struct private_service *service, struct service_flags *flags,
                         const struct random_model_options *shape, struct error *err) {
    enum status status = STATUS_OK;
    if (flags->policy == NULL) {
        snprintf(service->models[0], FLAG_BYTES, "%.4000s/policy", service->directory);
        snprintf(service->models[1], FLAG_BYTES, "reward=%.4000s/reward", service->directory);
        snprintf(service->models[2], FLAG_BYTES, "cost=%.4000s/cost", service->directory);
        flags->policy = service->models[0];
        flags->rewards = (struct flag_list){.items = {service->models[1]}, .count = 1};
        flags->costs = (struct flag_list){.items = {service->models[2]}, .count = 1};
        status = random_model_write_guard(service->directory, shape, err);
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
