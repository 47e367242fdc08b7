// The lexical scorer against a table of texts and against its own rules about text that goes on.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/testkit.h"
#include "worker/score/lexical.h"

enum { TOKENS_MAX = 128 };

static int setup(void **state) {
    return lexical_open((struct scorer **)state) == STATUS_OK ? 0 : -1;
}

static int teardown(void **state) {
    scorer_close(*state);
    return 0;
}

// A spec with one entry per list; NULL leaves a list empty.
struct rules {
    char *required[3];
    char *forbidden[3];
    char *required_regex[3];
    char *forbidden_regex[3];
    int words_min; // 0 none
    int words_max;
};

static size_t count(char *const *entries) {
    size_t n = 0;
    while (n < 3 && entries[n] != NULL) {
        n++;
    }
    return n;
}

static enum status open_job(struct scorer *scorer, const struct rules *rules, enum scorer_role role,
                            struct scorer_job **job, struct error *error) {
    Surefoot__LexicalSpec lexical = SUREFOOT__LEXICAL_SPEC__INIT;
    lexical.required = (char **)rules->required;
    lexical.n_required = count(rules->required);
    lexical.forbidden = (char **)rules->forbidden;
    lexical.n_forbidden = count(rules->forbidden);
    lexical.required_regex = (char **)rules->required_regex;
    lexical.n_required_regex = count(rules->required_regex);
    lexical.forbidden_regex = (char **)rules->forbidden_regex;
    lexical.n_forbidden_regex = count(rules->forbidden_regex);
    lexical.has_words_min = rules->words_min > 0;
    lexical.words_min = (uint32_t)rules->words_min;
    lexical.has_words_max = rules->words_max > 0;
    lexical.words_max = (uint32_t)rules->words_max;
    const struct scorer_job_spec spec = {.role = role, .lexical = &lexical};
    return scorer_job_open(scorer, &spec, job, error);
}

// A text cut into tokens of `step` bytes.
struct cut_text {
    struct scorer_text text;
    int32_t ids[TOKENS_MAX];
    int32_t ends[TOKENS_MAX];
};

static void cut(struct cut_text *out, const char *text, int32_t step, bool finished) {
    memset(out, 0, sizeof *out);
    int32_t bytes = (int32_t)strlen(text);
    int32_t n = 0;
    for (int32_t end = step; n == 0 || out->ends[n - 1] < bytes; end += step) {
        assert_in_range(n, 0, TOKENS_MAX - 1);
        out->ends[n++] = end < bytes ? end : bytes;
    }
    out->text = (struct scorer_text){.token_ids = out->ids,
                                     .text_ends = out->ends,
                                     .n_tokens = n,
                                     .text = text,
                                     .finished = finished};
}

static float score(struct scorer *scorer, const struct rules *rules, enum scorer_role role,
                   const char *text, int32_t step, bool finished, float *token_scores) {
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(scorer, rules, role, &job, &error), &error);
    struct scorer_state *state = NULL;
    assert_ok(scorer_state_open(job, &state), NULL);
    struct cut_text cut_up;
    cut(&cut_up, text, step, finished);
    struct scorer_extension extension = {
        .state = state, .text = cut_up.text, .token_scores = token_scores};
    assert_ok(scorer_extend(scorer, &extension, 1, &error), &error);
    assert_ok(extension.error.status, &extension.error);
    assert_int_equal(extension.scores_from, 0);
    scorer_state_drop(state);
    scorer_job_close(job);
    return extension.end_score;
}

static void test_table(void **state) {
    const struct {
        struct rules rules;
        const char *text;
        bool finished;
        float cost;
        float reward;
    } cases[] = {
        // Whole words, without regard to case, Unicode included; phrases; punctuation is literal.
        {{.forbidden = {"kill"}}, "Kill it. KILL! killer skill kill_er", true, 2, -1},
        {{.forbidden = {"\u00e9tude"}}, "\u00c9TUDE, \u00e9tudes", true, 1, 0},
        {{.forbidden = {"blow up"}}, "blow up the balloon, blow  up, blowup", true, 1, 0},
        {{.forbidden = {"a.b"}}, "a.b axb", true, 1, 0},
        {{.forbidden = {"$5"}}, "costs $5, or $55", true, 1, 0},
        {{.forbidden = {"one", "two"}}, "one two one", true, 3, -2},
        {{.forbidden_regex = {"b[ao]mb"}}, "bamb bomb BOMB", true, 2, -1},
        {{.forbidden_regex = {"(?i)bomb"}}, "bamb bomb BOMB", true, 2, -1},
        {{.forbidden_regex = {"x*"}}, "abc", true, 0, 1},
        {{.forbidden_regex = {"\\d{3}"}}, "12 1234 \u0663\u0663\u0663", true, 2, -1},
        // Required entries count when the text is finished only.
        {{.required = {"yes"}}, "No.", true, 1, 0},
        {{.required = {"yes"}}, "No.", false, 0, 0},
        {{.required = {"yes", "please"}}, "Yes, but", true, 1, 0.5F},
        {{.required = {"yes"}, .required_regex = {"\\?$"}}, "yes?", true, 0, 1},
        {{.required = {"yes"}}, "yes yes yes", true, 0, 1},
        // Words.
        {{.words_min = 3}, "two words", true, 1, 0},
        {{.words_min = 3}, "two words", false, 0, 1},
        {{.words_min = 3}, "don't you dare", true, 0, 1},
        {{.words_max = 2}, "one two three four", true, 1, 0},
        {{.words_max = 2}, "one two thr", false, 0, 1},
        {{.words_max = 2}, "well-known don't", true, 0, 1},
        // The end of a text that goes on waits.
        {{.forbidden = {"kill"}}, "to kill", false, 0, 1},
        {{.forbidden = {"kill"}}, "to kill", true, 1, 0},
        {{.forbidden = {"kill"}}, "to kill ", false, 1, 0},
        {{.forbidden = {"kill"}, .required = {"nice"}}, "kill nice kill.", true, 2, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int32_t step = 1; step <= 5; step += 4) {
            float scores[TOKENS_MAX];
            float cost = score(*state, &cases[i].rules, SCORER_ROLE_COST, cases[i].text, step,
                               cases[i].finished, scores);
            float reward = score(*state, &cases[i].rules, SCORER_ROLE_REWARD, cases[i].text, step,
                                 cases[i].finished, NULL);
            if (cost != cases[i].cost || reward != cases[i].reward) {
                fail_msg("case %zu \"%s\": cost %g, reward %g", i, cases[i].text, (double)cost,
                         (double)reward);
            }
            struct cut_text cut_up;
            cut(&cut_up, cases[i].text, step, cases[i].finished);
            float sum = 0;
            for (int32_t t = 0; t < cut_up.text.n_tokens; t++) {
                assert_true(scores[t] >= 0);
                sum += scores[t];
            }
            assert_true(sum == cost);
        }
    }
}

static void test_violations_fall_on_the_token_of_their_last_byte(void **state) {
    const struct rules rules = {.forbidden = {"kill"}, .required = {"sorry"}, .words_max = 3};
    float scores[TOKENS_MAX];
    //                      0123456789012345678
    const char *text = "we kill and kill it";
    assert_true(score(*state, &rules, SCORER_ROLE_COST, text, 3, true, scores) == 4);
    // Bytes 3..6 end in token 2, 12..15 in token 5, which also ends word four; the rest at the end.
    const float expected[] = {0, 0, 1, 0, 0, 2, 1};
    assert_memory_equal(scores, expected, sizeof expected);
}

static void test_growing_text_equals_scoring_it_whole(void **state) {
    const struct rules rules = {.forbidden = {"kill", "bomb"},
                                .forbidden_regex = {"k\\w+r", "o(?!m)"},
                                .required = {"sorry"},
                                .words_min = 3,
                                .words_max = 6};
    static const char text[] = "kill or killer? no bomb, bombs to kill; sorry o ok";
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(*state, &rules, SCORER_ROLE_COST, &job, &error), &error);
    struct scorer_state *scorer_state = NULL;
    assert_ok(scorer_state_open(job, &scorer_state), NULL);
    float kept[TOKENS_MAX] = {0};
    struct cut_text whole;
    cut(&whole, text, 1, true);
    for (int32_t n = 1; n <= whole.text.n_tokens; n++) {
        struct scorer_text part = whole.text;
        part.n_tokens = n;
        part.finished = n == whole.text.n_tokens;
        struct scorer_state *fork = NULL;
        assert_ok(scorer_state_fork(scorer_state, &fork), NULL);
        scorer_state_drop(scorer_state);
        scorer_state = fork;
        float scores[TOKENS_MAX];
        struct scorer_extension extension = {
            .state = scorer_state, .text = part, .token_scores = scores};
        assert_ok(scorer_extend(*state, &extension, 1, &error), &error);
        int32_t from = extension.scores_from;
        assert_in_range(from, 0, n);
        memcpy(kept + from, scores + from, (size_t)(n - from) * sizeof(float));
        char prefix[TOKENS_MAX];
        snprintf(prefix, sizeof prefix, "%.*s", n, text);
        float expected[TOKENS_MAX];
        float end = score(*state, &rules, SCORER_ROLE_COST, prefix, 1, part.finished, expected);
        assert_memory_equal(kept, expected, (size_t)n * sizeof(float));
        assert_true(end == extension.end_score);
    }
    scorer_state_drop(scorer_state);
    scorer_job_close(job);
}

static void test_bad_rules_are_named(void **state) {
    static char long_entry[600];
    memset(long_entry, 'a', sizeof long_entry - 1);
    const struct {
        struct rules rules;
        enum status status;
        const char *field;
    } cases[] = {
        {{.forbidden_regex = {"ok", "(open"}},
         STATUS_INVALID_ARGUMENT,
         "lexical.forbidden_regex[1]"},
        {{.required_regex = {"[z-a]"}}, STATUS_INVALID_ARGUMENT, "lexical.required_regex[0]"},
        {{.required_regex = {"\\C"}}, STATUS_INVALID_ARGUMENT, "lexical.required_regex[0]"},
        {{.required = {""}}, STATUS_INVALID_ARGUMENT, "lexical.required[0]"},
        {{.forbidden = {"ok", long_entry}}, STATUS_LIMIT, "lexical.forbidden[1]"},
        {{.forbidden_regex = {"\xff"}}, STATUS_INVALID_ARGUMENT, "lexical.forbidden_regex[0]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct scorer_job *job = NULL;
        struct error error = {0};
        assert_status(cases[i].status,
                      open_job(*state, &cases[i].rules, SCORER_ROLE_COST, &job, &error));
        assert_string_equal(error.field, cases[i].field);
        assert_null(job);
    }
    const struct scorer_job_spec spec = {.role = SCORER_ROLE_COST};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_status(STATUS_INVALID_ARGUMENT, scorer_job_open(*state, &spec, &job, &error));
    assert_string_equal(error.field, "lexical");
}

// Exponential backtracking ends with an error of that candidate.
static void test_hostile_pattern_stops(void **state) {
    const struct rules rules = {.forbidden_regex = {"(a+)+$", "(x+x+)+[yz]"}};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(*state, &rules, SCORER_ROLE_COST, &job, &error), &error);
    struct scorer_state *scorer_state = NULL;
    assert_ok(scorer_state_open(job, &scorer_state), NULL);
    struct cut_text text;
    cut(&text, "xxxxxxxxxxxxxxxxxxxxx", 1, true);
    struct scorer_extension extension = {.state = scorer_state, .text = text.text};
    assert_ok(scorer_extend(*state, &extension, 1, &error), &error);
    assert_status(STATUS_LIMIT, extension.error.status);
    assert_string_equal(extension.error.field, "lexical.forbidden_regex[1]");
    scorer_state_drop(scorer_state);
    scorer_job_close(job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_violations_fall_on_the_token_of_their_last_byte),
        cmocka_unit_test(test_growing_text_equals_scoring_it_whole),
        cmocka_unit_test(test_bad_rules_are_named),
        cmocka_unit_test(test_hostile_pattern_stops),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
