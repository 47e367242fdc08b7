// The lexical scorer against a table of texts, its own rules about text that goes on, and scans of
// whole texts by PCRE2 alone.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
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

// A text of random characters, in tokens that may end within one: it shows when it is complete.
struct random_text {
    char text[TOKENS_MAX * 4];
    int32_t ends[TOKENS_MAX];
    int32_t ids[TOKENS_MAX];
    int32_t n_tokens;
};

static uint32_t draw(uint64_t *seed, uint32_t n) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % n;
}

static void make_text(struct random_text *out, uint64_t *seed) {
    static const char *const characters[] = {"a", "b", "a", "b",  "ab", "ba",     " ",
                                             "-", "'", "_", "\n", "\r", "\u00e9", "\u0301"};
    memset(out, 0, sizeof *out);
    int32_t bytes = 0, whole = 0;
    int32_t n_characters = 1 + (int32_t)draw(seed, 60);
    int32_t token_end = 0;
    for (int32_t i = 0; i < n_characters; i++) {
        const char *character = characters[draw(seed, sizeof characters / sizeof characters[0])];
        bytes += snprintf(out->text + bytes, sizeof out->text - (size_t)bytes, "%s", character);
        bool last = i == n_characters - 1;
        while (token_end < bytes || (last && whole < bytes)) {
            token_end += 1 + (int32_t)draw(seed, 3);
            whole = token_end >= bytes ? bytes : whole;
            out->ends[out->n_tokens++] = whole;
        }
        token_end = token_end > bytes ? bytes : token_end;
        whole = bytes;
    }
}

static const char *const atoms[] = {
    "a",        "b",       "ab",         "\u00e9",  "\\w",       "\\W",    "\\s",
    "[ab]",     "[^a]",    ".",          "\\b",     "\\B",       "^",      "$",
    "\\A",      "\\z",     "\\Z",        "\\R",     "\\X",       "\\n",    "\\N",
    "(?<=a)",   "(?<!a)",  "(?=b)",      "(?!b)",   "(?!$)",     "(?=.b)", "(?!\\n.)",
    "(?<=\\W)", "(?<=a.)", "(?!\\z)",    "\\1",     "(?i:AB)",   "(?s:.)", "(?s:.*)",
    ".*",       "\\w+",    "(?:ab|a|b)", "a*?",     "b++",       "(?>a*)", "(?m:^)",
    "(?m:$)",   "\\G",     "\\K",        "(*SKIP)", "(*COMMIT)", "(*F)",   "(?(1)a|b)"};
static const char *const quantifiers[] = {"",  "",   "",   "",    "?",     "*",
                                          "+", "??", "*?", "{2}", "{1,2}+"};

static void append(char *out, size_t size, const char *text) {
    size_t n = strlen(out);
    snprintf(out + n, size - n, "%s", text);
}

// A pattern of up to five atoms, its first in a group.
static void make_pattern(char *out, size_t size, uint64_t *seed) {
    out[0] = '\0';
    append(out, size, draw(seed, 12) == 0 ? "(?m)" : draw(seed, 12) == 0 ? "(?s)" : "");
    uint32_t n = 1 + draw(seed, 5);
    for (uint32_t i = 0; i < n; i++) {
        append(out, size, i == 0 ? "(" : draw(seed, 6) == 0 ? "|" : "");
        append(out, size, atoms[draw(seed, sizeof atoms / sizeof atoms[0])]);
        append(out, size, i == 0 ? ")" : "");
        append(out, size, quantifiers[draw(seed, sizeof quantifiers / sizeof quantifiers[0])]);
    }
}

static pcre2_code *compile_plain(const char *pattern, uint32_t options) {
    int code = 0;
    PCRE2_SIZE at = 0;
    return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP | options, &code, &at, NULL);
}

// Complete matches in the first `bytes` of a text, searched one after the other from the beginning;
// violations [n_tokens] count those from the first-th to the last-th.
static int32_t scan_whole(const pcre2_code *code, const struct random_text *text, int32_t n_tokens,
                          bool finished, int32_t first, int32_t last, float *violations) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    size_t bytes = (size_t)text->ends[n_tokens - 1];
    size_t offset = 0;
    int32_t count = 0;
    while (pcre2_match(code, (PCRE2_SPTR)text->text, bytes, offset, PCRE2_NOTEMPTY, match, NULL) >=
           0) {
        size_t end = pcre2_get_ovector_pointer(match)[1];
        if (end <= offset || (end == bytes && !finished)) {
            break;
        }
        offset = end;
        count++;
        int32_t token = 0;
        while ((size_t)text->ends[token] < end) {
            token++;
        }
        violations[token] += count >= first && count <= last ? 1 : 0;
    }
    pcre2_match_data_free(match);
    return count;
}

struct random_rules {
    char forbidden_regex[2][160];
    char required_regex[160];
    struct rules rules;
    pcre2_code *forbidden[2];
    pcre2_code *required;
    pcre2_code *word;
    pcre2_code *words;
};

static bool make_rules(struct random_rules *out, uint64_t *seed) {
    *out = (struct random_rules){.rules = {.words_min = (int)draw(seed, 4)}};
    make_pattern(out->required_regex, sizeof out->required_regex, seed);
    out->required = compile_plain(out->required_regex, 0);
    bool valid = out->required != NULL;
    for (int i = 0; i < 2; i++) {
        make_pattern(out->forbidden_regex[i], sizeof out->forbidden_regex[i], seed);
        out->forbidden[i] = compile_plain(out->forbidden_regex[i], 0);
        valid = valid && out->forbidden[i] != NULL;
        out->rules.forbidden_regex[i] = out->forbidden_regex[i];
    }
    out->word = compile_plain("(?<!\\w)ab\\-b(?!\\w)", PCRE2_CASELESS);
    out->words = compile_plain("\\w+(?:['\\x{2019}-]\\w+)*", 0);
    out->rules.required_regex[0] = out->required_regex;
    out->rules.forbidden[0] = "ab-b";
    out->rules.words_max = out->rules.words_min + (int)draw(seed, 4);
    return valid;
}

static void free_rules(struct random_rules *rules) {
    pcre2_code_free(rules->required);
    pcre2_code_free(rules->forbidden[0]);
    pcre2_code_free(rules->forbidden[1]);
    pcre2_code_free(rules->word);
    pcre2_code_free(rules->words);
}

// What the rules say of the first n_tokens: violations [n_tokens], and the score for costs.
static float score_whole(const struct random_rules *rules, const struct random_text *text,
                         int32_t n_tokens, bool finished, float *violations) {
    memset(violations, 0, (size_t)n_tokens * sizeof *violations);
    float ignored[TOKENS_MAX] = {0};
    float *last = &violations[n_tokens - 1];
    for (int i = 0; i < 2; i++) {
        scan_whole(rules->forbidden[i], text, n_tokens, finished, 1, INT32_MAX, violations);
    }
    scan_whole(rules->word, text, n_tokens, finished, 1, INT32_MAX, violations);
    int32_t nth = rules->rules.words_max > 0 ? rules->rules.words_max + 1 : INT32_MAX;
    int32_t n_words = scan_whole(rules->words, text, n_tokens, finished, nth, nth, violations);
    if (finished) {
        *last += n_words < rules->rules.words_min ? 1 : 0;
        *last += scan_whole(rules->required, text, n_tokens, true, 1, 1, ignored) == 0 ? 1 : 0;
    }
    float sum = 0;
    for (int32_t t = 0; t < n_tokens; t++) {
        sum += violations[t];
    }
    return sum;
}

// Reads the text block by block, each in a fork of the state before, and what is left of it after a
// stop string; compares all that is said with scans of the whole text so far.
static void compare_reading(struct scorer *scorer, const struct random_rules *rules,
                            const struct random_text *text, uint64_t *seed) {
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(scorer, &rules->rules, SCORER_ROLE_COST, &job, &error), &error);
    struct scorer_state *state = NULL;
    assert_ok(scorer_state_open(job, &state), NULL);
    float kept[TOKENS_MAX] = {0};
    for (int32_t n = 0; n < text->n_tokens;) {
        n += 1 + (int32_t)draw(seed, 6);
        n = n < text->n_tokens ? n : text->n_tokens;
        bool finished = n == text->n_tokens;
        int32_t shown = finished ? n - (int32_t)draw(seed, n > 3 ? 4 : 1) : n;
        struct scorer_state *fork = NULL;
        assert_ok(scorer_state_fork(state, &fork), NULL);
        scorer_state_drop(state);
        state = fork;
        float scores[TOKENS_MAX];
        struct scorer_extension extension = {.state = state,
                                             .text = {.token_ids = text->ids,
                                                      .text_ends = text->ends,
                                                      .n_tokens = shown,
                                                      .text = text->text,
                                                      .finished = finished},
                                             .token_scores = scores};
        assert_ok(scorer_extend(scorer, &extension, 1, &error), &error);
        if (extension.error.status == STATUS_LIMIT) {
            break; // a pattern of many ways
        }
        assert_ok(extension.error.status, &extension.error);
        int32_t from = extension.scores_from;
        memcpy(kept + from, scores + from, (size_t)(shown - from) * sizeof *kept);
        float expected[TOKENS_MAX];
        float cost = score_whole(rules, text, shown, finished, expected);
        if (memcmp(kept, expected, (size_t)shown * sizeof *kept) != 0 ||
            cost != extension.end_score) {
            fail_msg("%d of %d tokens of \"%s\": cost %g, not %g, by \"%s\", \"%s\", \"%s\"", shown,
                     text->n_tokens, text->text, (double)extension.end_score, (double)cost,
                     rules->forbidden_regex[0], rules->forbidden_regex[1], rules->required_regex);
        }
    }
    scorer_state_drop(state);
    scorer_job_close(job);
}

static void test_blocks_of_any_text_and_pattern_equal_scans_of_the_whole(void **state) {
    uint64_t seed = 1;
    for (int i = 0; i < 3000; i++) {
        struct random_rules rules;
        struct random_text text;
        bool valid = make_rules(&rules, &seed);
        for (int k = 0; valid && k < 5; k++) {
            make_text(&text, &seed);
            compare_reading(*state, &rules, &text, &seed);
        }
        free_rules(&rules);
    }
}

// A stop string ends the text before its end, here before the " b" that made it break the rule.
static void test_a_reading_that_is_shorter_is_judged_alone(void **state) {
    const struct rules rules = {.forbidden_regex = {"a(?= b)|\\s.*"}};
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(*state, &rules, SCORER_ROLE_COST, &job, &error), &error);
    struct scorer_state *scorer_state = NULL;
    assert_ok(scorer_state_open(job, &scorer_state), NULL);
    struct cut_text text;
    cut(&text, "a b", 1, false);
    struct scorer_extension extension = {.state = scorer_state, .text = text.text};
    assert_ok(scorer_extend(*state, &extension, 1, &error), &error);
    assert_true(extension.end_score == 1);
    cut(&text, "a", 1, true);
    extension.text = text.text;
    assert_ok(scorer_extend(*state, &extension, 1, &error), &error);
    assert_true(extension.end_score == 0);
    scorer_state_drop(scorer_state);
    scorer_job_close(job);
}

// A search's limits count for the text, not for the blocks in which it came.
static void test_limits_do_not_depend_on_how_a_text_came(void **state) {
    enum { RUN = 100, RUNS = 212, FIRST = 200 };
    const struct rules rules = {.forbidden_regex = {"\\w+[cd]"}};
    static char text[RUN * RUNS + 1];
    int32_t ids[RUNS] = {0}, ends[RUNS];
    for (int32_t i = 0; i < RUNS; i++) {
        memset(text + i * RUN, 'a', RUN - 1);
        text[i * RUN + RUN - 1] = ' ';
        ends[i] = (i + 1) * RUN;
    }
    struct scorer_job *job = NULL;
    struct error error = {0};
    assert_ok(open_job(*state, &rules, SCORER_ROLE_COST, &job, &error), &error);
    struct scorer_state *grown = NULL;
    assert_ok(scorer_state_open(job, &grown), NULL);
    int32_t n_refused = 0;
    for (int32_t n = FIRST; n <= RUNS; n++) {
        struct scorer_state *fresh = NULL;
        assert_ok(scorer_state_open(job, &fresh), NULL);
        const struct scorer_text part = {
            .token_ids = ids, .text_ends = ends, .n_tokens = n, .text = text};
        struct scorer_text whole = part;
        whole.finished = true; // its last byte begins nothing: read from the beginning at once
        struct scorer_extension extensions[] = {{.state = grown, .text = part},
                                                {.state = fresh, .text = whole}};
        assert_ok(scorer_extend(*state, extensions, 2, &error), &error);
        assert_status(extensions[1].error.status, extensions[0].error.status);
        n_refused += extensions[0].error.status == STATUS_LIMIT ? 1 : 0;
        scorer_state_drop(fresh);
    }
    assert_in_range(n_refused, 1, RUNS - FIRST);
    scorer_state_drop(grown);
    scorer_job_close(job);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_violations_fall_on_the_token_of_their_last_byte),
        cmocka_unit_test(test_growing_text_equals_scoring_it_whole),
        cmocka_unit_test(test_blocks_of_any_text_and_pattern_equal_scans_of_the_whole),
        cmocka_unit_test(test_a_reading_that_is_shorter_is_judged_alone),
        cmocka_unit_test(test_limits_do_not_depend_on_how_a_text_came),
        cmocka_unit_test(test_bad_rules_are_named),
        cmocka_unit_test(test_hostile_pattern_stops),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
