#include "client/cli/certify_findings.h"

#include <math.h>
#include <string.h>

#include "client/cli/certificate.h"
#include "client/cli/verdicts.h"

// The fewest prompts of which all safe ones would certify the first setting of `n`.
static size_t prompts_min(const struct selection_rule *rule, size_t n_settings) {
    bool one_by_one = rule->procedure == TEST_PROCEDURE_FIXED_SEQUENCE;
    double level = one_by_one ? rule->delta : rule->delta / (double)n_settings;
    size_t low = 0;
    size_t high = RATE_COUNT_MAX;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        const struct rate_sum sum = {.losses = 0, .n = middle};
        if (rate_p_below(rule->bound, sum, rule->epsilon) <= level) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

enum status certify_check_count(const struct certify_findings *found, size_t n_prompts,
                                size_t n_settings, struct error *err) {
    size_t least = prompts_min(&found->rule, n_settings);
    return n_prompts >= least
               ? STATUS_OK
               : error_set(err, STATUS_INVALID_ARGUMENT, "prompts",
                           "%zu are too few: %zu safe answers without an unsafe one are the fewest "
                           "that certify %g with delta %g",
                           n_prompts, least, found->rule.epsilon, found->rule.delta);
}

size_t certify_pilot_size(const struct certify_findings *found, size_t n_prompts) {
    size_t size = (size_t)ceil(found->pilot_share * (double)n_prompts);
    return size < n_prompts ? size : n_prompts;
}

enum status certify_judge(struct certify_findings *found, struct error *err) {
    enum status status = judged_complete(&found->judged, err);
    if (status == STATUS_OK) {
        status = found->judge != NULL
                     ? judged_by_scorer(&found->judged, found->judge_name, found->threshold, err)
                     : verdicts_read(found->verdicts, &found->judged, err);
    }
    found->constant = judged_is_constant(&found->judged);
    if (status == STATUS_OK && found->rule.bound != RATE_KIND_BOUNDED &&
        judged_is_graded(&found->judged)) {
        status = error_set(err, STATUS_INVALID_ARGUMENT, "--bound",
                           "verdicts between 0 and 1 need hoeffding-bentkus");
    }
    return status;
}

enum status certify_take_base(struct certify_findings *found, struct error *err) {
    if (!found->use_base) {
        return STATUS_OK;
    }
    struct judged *judged = &found->judged;
    for (size_t i = 0; i < judged->n_settings; i++) {
        const json_t *job = json_object_get(judged->settings[i].settings, "job");
        const char *method = json_string_value(json_object_get(job, "method"));
        if (method != NULL && strcmp(method, "sample") == 0) {
            struct selection_tally tallies[MULTIPLE_TESTS_MAX];
            enum status status = judged_tally(judged, SIZE_MAX, tallies, err);
            if (status == STATUS_OK) {
                found->base = tallies[i];
                found->has_base = true;
                judged_drop(judged, i);
                status = judged_name(judged, err);
            }
            return status;
        }
    }
    return error_set(err, STATUS_INVALID_ARGUMENT, "--base",
                     "no setting has the method sample, whose answers are plain");
}

static enum status check_judge(const struct certify_findings *found, struct error *err) {
    return found->constant && !found->trust_constant
               ? error_set(err, STATUS_INVALID_ARGUMENT,
                           found->judge != NULL ? "--judge" : "--verdicts",
                           "every answer is called the same, as by a judge that does not work; "
                           "--trust-constant-judge if it does")
               : STATUS_OK;
}

enum status certify_look_at_pilot(struct certify_findings *found, struct error *err) {
    enum status status = judged_tally(&found->judged, found->pilot, found->tallies, err);
    if (status != STATUS_OK || found->pilot == 0) {
        return status;
    }
    size_t n = found->judged.n_settings;
    found->chosen = selection_run(&found->rule, found->tallies, n, found->findings);
    found->infeasible = selection_is_infeasible(&found->rule, found->findings, n);
    return found->infeasible ? check_judge(found, err) : STATUS_OK;
}

static bool is_whole(const struct certify_findings *found, size_t setting) {
    return found->judged.settings[setting].count == judged_prompts(&found->judged);
}

static json_t *judge_json(const struct certify_findings *found) {
    if (found->judge == NULL) {
        return json_pack("{s:s}", "kind", "verdicts");
    }
    const json_t *models = json_object_get(found->judged.settings[0].settings, "models");
    return json_pack("{s:s, s:s, s:f, s:O?}", "kind", "scorer", "name", found->judge_name,
                     "threshold", found->threshold, "hash",
                     json_object_get(json_object_get(models, found->judge_name), "hash"));
}

enum status certify_decide(struct certify_findings *found, struct error *err) {
    size_t n = found->judged.n_settings;
    enum status status = check_judge(found, err);
    if (status == STATUS_OK) {
        status = judged_tally(&found->judged, SIZE_MAX, found->tallies, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    found->chosen = selection_run(&found->rule, found->tallies, n, found->findings);
    for (size_t i = 0; i < n && found->rule.bound != RATE_KIND_ANYTIME; i++) {
        bool tested =
            found->rule.procedure != TEST_PROCEDURE_FIXED_SEQUENCE || found->findings[i].certified;
        if (tested && !is_whole(found, i)) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "--records",
                             "%.100s has %zu of %zu prompts; --bound anytime alone may stop early",
                             found->judged.settings[i].name, found->judged.settings[i].count,
                             judged_prompts(&found->judged));
        }
    }
    if (found->chosen == n) {
        found->infeasible = selection_is_infeasible(&found->rule, found->findings, n);
        found->pilot = 0;
        return STATUS_OK;
    }
    json_t *judge = judge_json(found);
    status = certificate_make(&found->judged, &found->rule, found->tallies, found->chosen, judge,
                              &found->certificate, err);
    json_decref(judge);
    return status == STATUS_OK && found->write != NULL
               ? certificate_write(found->write, found->certificate, err)
               : status;
}

void certify_findings_finish(struct certify_findings *found) {
    judged_finish(&found->judged);
    json_decref(found->certificate);
}
