// Names of the search parameters' choices, as clients write them.
#include <string.h>

#include "coordinator/search/search.h"

struct choice {
    const char *name;
    int number;
};

static int parse(const struct choice *choices, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(choices[i].name, name) == 0) {
            return choices[i].number;
        }
    }
    return 0;
}

static const char *find_name(const struct choice *choices, size_t count, int number) {
    for (size_t i = 0; i < count; i++) {
        if (choices[i].number == number) {
            return choices[i].name;
        }
    }
    return "unknown";
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct choice methods[] = {
    {"sample", SEARCH_METHOD_SAMPLE},
    {"best-of-n", SEARCH_METHOD_BEST_OF_N},
    {"beam", SEARCH_METHOD_BEAM},
    {"inference-guard", SEARCH_METHOD_INFERENCE_GUARD},
};

int search_method_parse(const char *name) {
    return parse(methods, COUNT(methods), name);
}

const char *search_method_name(int method) {
    return find_name(methods, COUNT(methods), method);
}

static const struct choice selections[] = {
    {"plain", SEARCH_SELECTION_PLAIN},
    {"lagrangian", SEARCH_SELECTION_LAGRANGIAN},
    {"augmented", SEARCH_SELECTION_AUGMENTED},
};

int search_selection_parse(const char *name) {
    return parse(selections, COUNT(selections), name);
}

const char *search_selection_name(int selection) {
    return find_name(selections, COUNT(selections), selection);
}

static const struct choice cost_modes[] = {
    {"end_delta", COST_MODE_END_DELTA},         {"token_sum", COST_MODE_TOKEN_SUM},
    {"token_sum_pos", COST_MODE_TOKEN_SUM_POS}, {"block_end", COST_MODE_BLOCK_END},
    {"end_sign", COST_MODE_END_SIGN},
};

int cost_mode_parse(const char *name) {
    return parse(cost_modes, COUNT(cost_modes), name);
}

const char *cost_mode_name(int mode) {
    return find_name(cost_modes, COUNT(cost_modes), mode);
}

int admit_rule_parse(const char *name) {
    static const struct choice rules[] = {
        {"terminal", ADMIT_RULE_TERMINAL},
        {"prefix", ADMIT_RULE_PREFIX},
    };
    return parse(rules, COUNT(rules), name);
}

int discount_unit_parse(const char *name) {
    static const struct choice units[] = {
        {"token", DISCOUNT_UNIT_TOKEN},
        {"block", DISCOUNT_UNIT_BLOCK},
    };
    return parse(units, COUNT(units), name);
}

int fallback_penalty_parse(const char *name) {
    static const struct choice penalties[] = {
        {"count", FALLBACK_PENALTY_COUNT},
        {"log1p", FALLBACK_PENALTY_LOG1P},
        {"binary", FALLBACK_PENALTY_BINARY},
    };
    return parse(penalties, COUNT(penalties), name);
}

const char *candidate_fate_name(enum candidate_fate fate) {
    static const struct choice fates[] = {
        {"live", CANDIDATE_FATE_LIVE},
        {"chosen", CANDIDATE_FATE_CHOSEN},
        {"finished", CANDIDATE_FATE_FINISHED},
        {"pruned-sound", CANDIDATE_FATE_PRUNED_SOUND},
        {"pruned-heuristic", CANDIDATE_FATE_PRUNED_HEURISTIC},
        {"not-selected", CANDIDATE_FATE_NOT_SELECTED},
        {"duplicate", CANDIDATE_FATE_DUPLICATE},
        {"extended", CANDIDATE_FATE_EXTENDED},
    };
    return find_name(fates, COUNT(fates), (int)fate);
}
