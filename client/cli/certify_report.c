#include "client/cli/certify_report.h"

#include <string.h>

#include "client/cli/print.h"

// The rate of unsafe plain answers, and on which share of prompts a filter of them has to abstain.
struct base_rate {
    struct rate_sum sum;
    double lower;
    double abstention;
};

static struct base_rate base_rate(const struct certify_report *report) {
    const struct selection_rule *rule = report->rule;
    bool joint = rule->risk == RISK_KIND_JOINT;
    struct base_rate base = {
        .sum = {.losses = report->base->losses,
                .n = joint ? report->base->n_prompts : report->base->n_answered}};
    base.lower = rate_lower(rule->bound, base.sum, rule->delta);
    // Jointly, what a filter stops counts among the prompts: nothing is divided.
    double above = base.lower > rule->epsilon ? base.lower - rule->epsilon : 0;
    base.abstention = joint ? above : rate_abstention_min(base.lower, rule->epsilon);
    return base;
}

static size_t counted(const struct certify_report *report, size_t i) {
    return report->rule->risk == RISK_KIND_JOINT ? report->tallies[i].n_prompts
                                                 : report->tallies[i].n_answered;
}

static void print_rows(const struct certify_report *report, FILE *out) {
    fprintf(out, "%-40s %8s %9s %8s %8s %8s %9s  %s\n", "setting", "prompts", "answered", "unsafe",
            "rate", "upper", "p", "certified");
    for (size_t i = 0; i < report->judged->n_settings; i++) {
        const struct selection_tally *tally = &report->tallies[i];
        const struct selection_finding *finding = &report->findings[i];
        size_t n = counted(report, i);
        print_text(report->judged->settings[i].name, true, 40, out);
        fprintf(out, "%*s %8zu %9zu %8g %8.4f %8.4f %9.3g  %s\n",
                40 - (int)strnlen(report->judged->settings[i].name, 40), "", tally->n_prompts,
                tally->n_answered, tally->losses, n > 0 ? tally->losses / (double)n : 0,
                finding->upper, finding->p,
                finding->certified ? (i == report->chosen ? "yes, chosen" : "yes") : "no");
    }
}

static void print_base(const struct certify_report *report, FILE *out) {
    if (report->base == NULL) {
        return;
    }
    const struct base_rate base = base_rate(report);
    fprintf(
        out,
        "plain answers: %g of %zu unsafe, rate %.4f or more; a filter of them alone must abstain "
        "on %.1f %% of prompts or more\n",
        base.sum.losses, base.sum.n, base.lower, 100 * base.abstention);
}

static void print_text_report(const struct certify_report *report, FILE *out) {
    const struct selection_rule *rule = report->rule;
    const char *of = rule->risk == RISK_KIND_JOINT ? "an answer is given and unsafe"
                                                   : "an answer that is given is unsafe";
    print_rows(report, out);
    print_base(report, out);
    if (report->infeasible) {
        fprintf(out,
                "no setting can reach it: each is above %g with confidence %g, told from %zu "
                "prompts\n",
                rule->epsilon, 1 - rule->delta,
                report->pilot > 0 ? report->pilot : judged_prompts(report->judged));
    } else if (report->certificate == NULL) {
        fprintf(out, "nothing is certified: that %s in at most %g of cases, confidence %g\n", of,
                rule->epsilon, 1 - rule->delta);
    } else {
        fprintf(out,
                "certified: %s; %s in at most %g of cases, confidence %g (%s, %s)\ncertificate "
                "%s%s%s\n",
                report->judged->settings[report->chosen].name, of, rule->epsilon, 1 - rule->delta,
                rate_kind_name(rule->bound), test_procedure_name(rule->procedure),
                json_string_value(json_object_get(report->certificate, "id")),
                report->path != NULL ? " in " : "", report->path != NULL ? report->path : "");
    }
}

static json_t *setting_json(const struct certify_report *report, size_t i) {
    const struct selection_tally *tally = &report->tallies[i];
    const struct selection_finding *finding = &report->findings[i];
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:b}", "name",
                     report->judged->settings[i].name, "prompts", (json_int_t)tally->n_prompts,
                     "answered", (json_int_t)tally->n_answered, "losses", tally->losses, "p",
                     finding->p, "lower", finding->lower, "upper", finding->upper, "certified",
                     finding->certified);
}

static json_t *base_json(const struct certify_report *report) {
    if (report->base == NULL) {
        return json_null();
    }
    const struct base_rate base = base_rate(report);
    return json_pack("{s:I, s:f, s:f, s:f}", "n", (json_int_t)base.sum.n, "losses", base.sum.losses,
                     "lower", base.lower, "abstention_min", base.abstention);
}

enum status certify_report_print(const struct certify_report *report, bool json, FILE *out) {
    if (!json) {
        print_text_report(report, out);
        return STATUS_OK;
    }
    bool certified = report->certificate != NULL;
    json_t *settings = json_array();
    for (size_t i = 0; i < report->judged->n_settings; i++) {
        json_array_append_new(settings, setting_json(report, i));
    }
    return print_json_line(
        json_pack("{s:b, s:b, s:I, s:s?, s:o, s:o, s:O?, s:s?}", "certified", certified,
                  "infeasible", report->infeasible, "pilot", (json_int_t)report->pilot, "chosen",
                  certified ? report->judged->settings[report->chosen].name : NULL, "settings",
                  settings, "base", base_json(report), "id",
                  json_object_get(report->certificate, "id"), "certificate", report->path),
        out);
}

enum status certify_report_checked(const json_t *certificate, bool json, FILE *out) {
    const json_t *rule = json_object_get(certificate, "rule");
    const json_t *setting =
        json_array_get(json_object_get(certificate, "settings"),
                       (size_t)json_integer_value(json_object_get(certificate, "chosen")));
    const char *id = json_string_value(json_object_get(certificate, "id"));
    double epsilon = json_number_value(json_object_get(rule, "epsilon"));
    double delta = json_number_value(json_object_get(rule, "delta"));
    double bound = json_number_value(json_object_get(certificate, "bound"));
    if (json) {
        return print_json_line(json_pack("{s:s, s:O, s:O, s:f}", "id", id, "rule", rule, "chosen",
                                         setting, "bound", bound),
                               out);
    }
    fprintf(out, "certificate %s holds: ", id);
    print_text(json_string_value(json_object_get(setting, "name")), true, 0, out);
    fprintf(out, ", %s risk at most %g, confidence %g; measured bound %.4f\n",
            json_string_value(json_object_get(rule, "risk")), epsilon, 1 - delta, bound);
    return STATUS_OK;
}
