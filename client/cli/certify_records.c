#include "client/cli/certify_records.h"

#include "client/cli/outfile.h"

static enum status add_records(struct certify_findings *found, const char *path,
                               struct error *err) {
    struct outfile file = {.fd = -1};
    enum status status = outfile_open_records(path, "--records", &file, err);
    if (status == STATUS_OK) {
        status = judged_add(&found->judged, &file, NULL, 0, "--records", err);
    }
    outfile_close(&file);
    return status;
}

// Of a sweep that was interrupted the answers that are there are not a sample of the others.
static enum status check_asked(const uint32_t *asked, size_t n_prompts, struct error *err) {
    if (asked == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "--asked",
                         "required with --records: how many prompts were asked; they hold %zu",
                         n_prompts);
    }
    return n_prompts == *asked
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "--asked",
                           "%u prompts, and the records hold %zu: end the sweep first", *asked,
                           n_prompts);
}

enum status certify_records(struct certify_findings *found, const struct flag_list *records,
                            const uint32_t *asked, struct error *err) {
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < records->count; i++) {
        status = add_records(found, records->items[i], err);
    }
    if (status == STATUS_OK) {
        status = certify_judge(found, err);
    }
    if (status == STATUS_OK) {
        status = certify_take_base(found, err);
    }
    if (status == STATUS_OK) {
        size_t n_prompts = judged_prompts(&found->judged);
        found->pilot = certify_pilot_size(found, n_prompts);
        status = check_asked(asked, n_prompts, err);
    }
    if (status == STATUS_OK) {
        size_t n_prompts = judged_prompts(&found->judged);
        status = certify_check_count(found, n_prompts, found->judged.n_settings, err);
    }
    if (status == STATUS_OK) {
        status = certify_look_at_pilot(found, err);
    }
    return status == STATUS_OK && !found->infeasible ? certify_decide(found, err) : status;
}
