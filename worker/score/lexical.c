#include "worker/score/lexical.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"

enum {
    HEAP_LIMIT_KIB = 4096,
    ENTRY_FIELD_BYTES = 48,
    SETTLED_VIOLATIONS_MAX = 1 << 12, // 16 KiB that every fork copies
};

struct lexical_scorer {
    struct scorer base;
    pcre2_match_context *limits;
    pcre2_match_data *match; // one pair of offsets
    pcre2_code *word;
    int64_t steps_left; // of the jobs' patterns, in the text that is read
};

struct pattern {
    pcre2_code *code;
    bool settles; // what a search has found without a look at the text's end holds for good
};

// One list of the spec, compiled; LIST_WORDS is one pattern where words are counted.
struct pattern_list {
    const char *field;        // member of LexicalSpec, static
    struct pattern *patterns; // [n], owned
    int32_t n;
};

enum {
    LIST_REQUIRED,
    LIST_FORBIDDEN,
    LIST_REQUIRED_REGEX,
    LIST_FORBIDDEN_REGEX,
    LIST_WORDS,
    LIST_COUNT
};

struct lexical_job {
    struct scorer_job base;
    struct pattern_list lists[LIST_COUNT];
    int64_t words_min; // -1 none
    int64_t words_max; // -1 none
    size_t compiled_bytes;
    int32_t n_required;
    int32_t n_patterns; // of all lists
    float prompt_score;
};

// How far a pattern's searches are settled: no text that follows changes them.
struct progress {
    int32_t resume; // byte; no match that is not counted begins before it
    int32_t count;  // matches that end at or before it
};

// What is settled of a text.
struct settled {
    struct progress *progress; // [n_patterns], in the order of the lists; owned
    int32_t *ends;             // [n_ends] bytes at which violations end, owned
    int32_t n_ends;
    int32_t ends_capacity;
    int32_t bytes; // of the text that was read
    int64_t steps; // at least what a scan from the beginning takes before the resume points
    bool gave_up;  // that scan is needed: a limit was met
};

struct lexical_state {
    struct scorer_state base;
    float *violations; // [capacity], per policy token at the last extension
    int32_t n_tokens;
    int32_t capacity;
    struct settled settled;
};

static pcre2_code *compile(const char *pattern, size_t bytes, uint32_t options, struct error *err,
                           const char *field) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, bytes,
                                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | options,
                                         &code, &offset, NULL);
    if (compiled == NULL) {
        char text[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        error_set(err, STATUS_INVALID_ARGUMENT, field, "at byte %zu: %s", (size_t)offset, text);
    }
    return compiled;
}

// Whether the pattern sets the option m: `^` at the text's end then fails without asking for more.
static bool is_multiline(const char *pattern) {
    for (const char *at = strstr(pattern, "(?"); at != NULL; at = strstr(at, "(?")) {
        static const char letters[] = "^-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        at += 2;
        size_t n = strspn(at, letters);
        if ((at[n] == ')' || at[n] == ':') && memchr(at, 'm', n) != NULL) {
            return true;
        }
    }
    return false;
}

// Whether what PCRE2_PARTIAL_HARD finds is settled. It is not where a match depends on where its
// search began (\G, verbs that end a search, newlines of two characters) or need not begin and end
// in order (\K). Those are looked for without regard to quoting: a text too many is read whole.
static bool settles(const pcre2_code *code, const char *pattern) {
    uint32_t newline = 0;
    pcre2_pattern_info(code, PCRE2_INFO_NEWLINE, &newline);
    return newline == PCRE2_NEWLINE_LF && strstr(pattern, "\\G") == NULL &&
           strstr(pattern, "\\K") == NULL && strstr(pattern, "(*") == NULL &&
           !is_multiline(pattern);
}

// A pattern that matches `entry` as a whole word or phrase.
static pcre2_code *compile_word(const char *entry, struct error *err, const char *field) {
    static const char before[] = "(?<!\\w)";
    static const char after[] = "(?!\\w)";
    char pattern[2 * LIMIT_LEXICAL_BYTES + sizeof before + sizeof after];
    size_t n = sizeof before - 1;
    memcpy(pattern, before, n);
    for (const char *c = entry; *c != '\0'; c++) {
        bool plain = (unsigned char)*c >= 0x80 || (*c >= '0' && *c <= '9') ||
                     (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z');
        if (!plain) {
            pattern[n++] = '\\';
        }
        pattern[n++] = *c;
    }
    memcpy(pattern + n, after, sizeof after - 1);
    n += sizeof after - 1;
    return compile(pattern, n, PCRE2_CASELESS, err, field);
}

static enum status check_compiled(struct lexical_job *job, const pcre2_code *code,
                                  const char *field, struct error *err) {
    size_t bytes = 0;
    pcre2_pattern_info(code, PCRE2_INFO_SIZE, &bytes);
    job->compiled_bytes += bytes;
    return job->compiled_bytes <= LEXICAL_COMPILED_BYTES
               ? STATUS_OK
               : error_set(err, STATUS_LIMIT, field,
                           "the patterns so far take %zu bytes, compiled; the limit is %d",
                           job->compiled_bytes, LEXICAL_COMPILED_BYTES);
}

static enum status compile_list(struct lexical_job *job, struct pattern_list *list,
                                char *const *entries, size_t n, bool words, struct error *err) {
    if (n > LIMIT_LEXICAL_ENTRIES) {
        return error_set(err, STATUS_LIMIT, list->field, "%zu entries are above the limit %d", n,
                         LIMIT_LEXICAL_ENTRIES);
    }
    list->patterns = calloc(n > 0 ? n : 1, sizeof *list->patterns);
    if (list->patterns == NULL) {
        return error_set(err, STATUS_NO_MEMORY, list->field, "no memory for %zu patterns", n);
    }
    for (size_t i = 0; i < n; i++) {
        char field[ENTRY_FIELD_BYTES];
        snprintf(field, sizeof field, "%s[%zu]", list->field, i);
        size_t bytes = strlen(entries[i]);
        if (bytes == 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, field, "is empty");
        }
        if (bytes > LIMIT_LEXICAL_BYTES) {
            return error_set(err, STATUS_LIMIT, field, "%zu bytes are above the limit %d", bytes,
                             LIMIT_LEXICAL_BYTES);
        }
        pcre2_code *code = words ? compile_word(entries[i], err, field)
                                 : compile(entries[i], bytes, PCRE2_AUTO_CALLOUT, err, field);
        if (code == NULL) {
            return STATUS_INVALID_ARGUMENT;
        }
        list->patterns[list->n++] =
            (struct pattern){.code = code, .settles = words || settles(code, entries[i])};
        enum status status = check_compiled(job, code, field, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static void job_close(struct scorer_job *base) {
    struct lexical_job *job = (struct lexical_job *)base;
    for (int i = 0; i < LIST_COUNT; i++) {
        for (int32_t k = 0; i != LIST_WORDS && k < job->lists[i].n; k++) {
            pcre2_code_free(job->lists[i].patterns[k].code);
        }
        free(job->lists[i].patterns);
    }
    free(job);
}

static enum status compile_lists(struct lexical_job *job, const Surefoot__LexicalSpec *spec,
                                 struct error *err) {
    const struct {
        const char *field;
        char *const *entries;
        size_t n;
        bool words;
    } sources[LIST_WORDS] = {
        [LIST_REQUIRED] = {"lexical.required", spec->required, spec->n_required, true},
        [LIST_FORBIDDEN] = {"lexical.forbidden", spec->forbidden, spec->n_forbidden, true},
        [LIST_REQUIRED_REGEX] = {"lexical.required_regex", spec->required_regex,
                                 spec->n_required_regex, false},
        [LIST_FORBIDDEN_REGEX] = {"lexical.forbidden_regex", spec->forbidden_regex,
                                  spec->n_forbidden_regex, false},
    };
    for (int i = 0; i < LIST_WORDS; i++) {
        job->lists[i].field = sources[i].field;
        enum status status = compile_list(job, &job->lists[i], sources[i].entries, sources[i].n,
                                          sources[i].words, err);
        if (status != STATUS_OK) {
            return status;
        }
        job->n_patterns += job->lists[i].n;
    }
    job->n_required = job->lists[LIST_REQUIRED].n + job->lists[LIST_REQUIRED_REGEX].n;
    return STATUS_OK;
}

static enum status list_words(struct lexical_job *job, pcre2_code *word, struct error *err) {
    struct pattern_list *list = &job->lists[LIST_WORDS];
    list->field = "lexical.words_max";
    if (job->words_min < 0 && job->words_max < 0) {
        return STATUS_OK;
    }
    list->patterns = malloc(sizeof *list->patterns);
    if (list->patterns == NULL) {
        return error_set(err, STATUS_NO_MEMORY, list->field, "no memory for a pattern");
    }
    list->patterns[list->n++] = (struct pattern){.code = word, .settles = true};
    job->n_patterns++;
    return STATUS_OK;
}

// PCRE2 calls this before every item of a job's pattern that it tries. The match limit holds for
// one search; this one for all searches in a text, of which there can be thousands.
static int count_step(pcre2_callout_block *block, void *context) {
    (void)block;
    struct lexical_scorer *scorer = context;
    return --scorer->steps_left < 0 ? PCRE2_ERROR_CALLOUT : 0;
}

enum found { FOUND_NONE, FOUND_MATCH, FOUND_BEGINNING };

// Finds the next non-empty match from *offset on; *offset moves to its end. With PCRE2_PARTIAL_HARD
// among the options FOUND_BEGINNING: what follows the text decides whether there is a match at
// *offset, and there is none before it.
static enum status next_match(struct lexical_scorer *scorer, const pcre2_code *code,
                              const char *text, size_t bytes, uint32_t options, size_t *offset,
                              enum found *found) {
    int rc =
        pcre2_match(code, (PCRE2_SPTR)text, bytes, *offset,
                    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | options, scorer->match, scorer->limits);
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scorer->match);
    if (rc == PCRE2_ERROR_PARTIAL) {
        *offset = ends[0];
        *found = FOUND_BEGINNING;
        return STATUS_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
        *found = FOUND_NONE;
        return STATUS_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) {
        return STATUS_NO_MEMORY;
    }
    if (rc < 0) {
        return STATUS_LIMIT;
    }
    // \K can put the start behind the end or before the search's start; the end alone counts, and
    // it must move on.
    if (ends[1] <= *offset) {
        *found = FOUND_NONE;
        return STATUS_OK;
    }
    *offset = ends[1];
    *found = FOUND_MATCH;
    return STATUS_OK;
}

// Whether the list's nth complete match, from 1 on, breaks a rule.
static bool is_violation(const struct lexical_job *job, int list, int32_t nth) {
    bool forbidden = list == LIST_FORBIDDEN || list == LIST_FORBIDDEN_REGEX;
    return forbidden || (list == LIST_WORDS && job->words_max >= 0 && nth == job->words_max + 1);
}

// So many matches of a pattern are searched for.
static int32_t matches_max(int list) {
    return list == LIST_REQUIRED || list == LIST_REQUIRED_REGEX ? 1 : INT32_MAX;
}

static size_t text_bytes(const struct scorer_text *text) {
    return text->n_tokens > 0 ? (size_t)text->text_ends[text->n_tokens - 1] : 0;
}

static enum status settle_violation(struct settled *settled, int32_t end_byte) {
    if (settled->n_ends == settled->ends_capacity) {
        int32_t capacity = settled->ends_capacity == 0 ? 16 : 2 * settled->ends_capacity;
        int32_t *ends = capacity <= SETTLED_VIOLATIONS_MAX
                            ? realloc(settled->ends, (size_t)capacity * sizeof *ends)
                            : NULL;
        if (ends == NULL) {
            return STATUS_LIMIT;
        }
        settled->ends = ends;
        settled->ends_capacity = capacity;
    }
    settled->ends[settled->n_ends++] = end_byte;
    return STATUS_OK;
}

// Settles searches of a text that goes on, from the resume point as far as they can be.
static enum status settle_pattern(struct lexical_scorer *scorer, const struct lexical_job *job,
                                  int list, const pcre2_code *code, const struct scorer_text *text,
                                  struct progress *progress, struct settled *settled) {
    size_t bytes = text_bytes(text);
    enum found found = FOUND_MATCH;
    while (found == FOUND_MATCH && progress->count < matches_max(list)) {
        int64_t steps_left = scorer->steps_left;
        size_t offset = (size_t)progress->resume;
        enum status status =
            next_match(scorer, code, text->text, bytes, PCRE2_PARTIAL_HARD, &offset, &found);
        if (status != STATUS_OK) {
            return status;
        }
        if (found == FOUND_MATCH && offset == bytes) {
            return STATUS_OK; // it waits for what follows
        }
        offset = found == FOUND_NONE ? bytes : offset;
        if (offset > (size_t)progress->resume) {
            settled->steps += steps_left - scorer->steps_left;
            progress->resume = (int32_t)offset;
        }
        if (found == FOUND_MATCH && is_violation(job, list, ++progress->count)) {
            status = settle_violation(settled, progress->resume);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

static enum status settle(struct lexical_scorer *scorer, const struct lexical_job *job,
                          const struct scorer_text *text, struct settled *settled) {
    struct progress *progress = settled->progress;
    for (int i = 0; i < LIST_COUNT; i++) {
        const struct pattern_list *list = &job->lists[i];
        for (int32_t k = 0; k < list->n; k++, progress++) {
            if (!list->patterns[k].settles) {
                continue;
            }
            enum status status =
                settle_pattern(scorer, job, i, list->patterns[k].code, text, progress, settled);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    settled->bytes = (int32_t)text_bytes(text);
    return STATUS_OK;
}

struct tally {
    const struct scorer_text *text; // NULL: the empty text at the prompt
    float *violations;              // [n_tokens]
    double total;                   // F + L
    int32_t satisfied;              // required entries that are there
};

// The token in which the last byte of a match falls. Halving, because a hostile pattern matches at
// every character of a long text.
static int32_t token_of(const struct scorer_text *text, size_t end_byte) {
    int32_t low = 0, high = text->n_tokens - 1;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if ((size_t)text->text_ends[middle] < end_byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void count_violation(struct tally *tally, size_t end_byte) {
    tally->violations[token_of(tally->text, end_byte)] += 1;
    tally->total += 1;
}

static void count_violation_at_end(struct tally *tally) {
    tally->violations[tally->text->n_tokens - 1] += 1;
    tally->total += 1;
}

static enum status refuse_search(const struct lexical_job *job, int list, int32_t index,
                                 enum status status, struct error *err) {
    char field[ENTRY_FIELD_BYTES];
    snprintf(field, sizeof field, list == LIST_WORDS ? "%s" : "%s[%d]", job->lists[list].field,
             index);
    return error_set(err, status, field, "a search took more than %d steps, or all in one text %d",
                     LEXICAL_MATCH_LIMIT, LEXICAL_STEPS_MAX);
}

// Tallies the matches of one pattern behind those that are settled.
static enum status tally_pattern(struct lexical_scorer *scorer, const struct lexical_job *job,
                                 int list, const pcre2_code *code, struct progress settled,
                                 struct tally *tally) {
    const struct scorer_text *text = tally->text;
    size_t bytes = text_bytes(text);
    size_t offset = (size_t)settled.resume;
    int32_t count = settled.count;
    bool complete = true;
    while (complete && count < matches_max(list)) {
        enum found found = FOUND_NONE;
        enum status status = next_match(scorer, code, text->text, bytes, 0, &offset, &found);
        if (status != STATUS_OK) {
            return status;
        }
        complete = found == FOUND_MATCH && (text->finished || offset < bytes);
        if (complete && is_violation(job, list, ++count)) {
            count_violation(tally, offset);
        }
    }
    if (matches_max(list) == 1) {
        tally->satisfied += count;
    }
    if (list == LIST_WORDS && text->finished && count < job->words_min) {
        count_violation_at_end(tally);
    }
    return STATUS_OK;
}

// Violations of a text, and the score at its end. What `settled` holds is not read again; NULL: the
// text is read from its beginning.
static enum status score_text(struct lexical_scorer *scorer, const struct lexical_job *job,
                              const struct scorer_text *text, const struct settled *settled,
                              float *violations, float *end_score, struct error *err) {
    struct tally tally = {.text = text, .violations = violations};
    for (int32_t i = 0; settled != NULL && i < settled->n_ends; i++) {
        count_violation(&tally, (size_t)settled->ends[i]);
    }
    const struct progress *progress = settled != NULL ? settled->progress : NULL;
    for (int i = 0; i < LIST_COUNT; i++) {
        const struct pattern_list *list = &job->lists[i];
        for (int32_t k = 0; k < list->n; k++) {
            struct progress from = progress != NULL ? *progress++ : (struct progress){0};
            enum status status =
                tally_pattern(scorer, job, i, list->patterns[k].code, from, &tally);
            if (status != STATUS_OK) {
                return refuse_search(job, i, k, status, err);
            }
        }
    }
    int32_t missing = job->n_required - tally.satisfied;
    if (text->finished && missing > 0) {
        violations[text->n_tokens - 1] += (float)missing;
    }
    if (job->base.role == SCORER_ROLE_COST) {
        *end_score = (float)(tally.total + (text->finished ? missing : 0));
    } else {
        double share = job->n_required > 0 ? (double)tally.satisfied / job->n_required : 1;
        *end_score = (float)(share - tally.total);
    }
    return STATUS_OK;
}

// Scores the text by reading what is not settled. Whatever stops that (a limit, or a reading that
// ends before what was read) leaves the verdict, an error too, to a scan from the beginning: it
// takes no more steps, so that a text has the same scores however it came.
static enum status read_text(struct lexical_scorer *scorer, const struct lexical_job *job,
                             const struct scorer_text *text, struct settled *settled,
                             float *violations, float *end_score, struct error *err) {
    if (!settled->gave_up && text_bytes(text) >= (size_t)settled->bytes) {
        struct error ignored = {0};
        scorer->steps_left = LEXICAL_STEPS_MAX - settled->steps;
        enum status status = text->finished ? STATUS_OK : settle(scorer, job, text, settled);
        scorer->steps_left = LEXICAL_STEPS_MAX - settled->steps;
        if (status == STATUS_OK) {
            status = score_text(scorer, job, text, settled, violations, end_score, &ignored);
        }
        if (status == STATUS_OK) {
            return STATUS_OK;
        }
        settled->gave_up = true;
        memset(violations, 0, (size_t)text->n_tokens * sizeof *violations);
    }
    scorer->steps_left = LEXICAL_STEPS_MAX;
    return score_text(scorer, job, text, NULL, violations, end_score, err);
}

static enum status job_open(struct scorer *base, const struct scorer_job_spec *spec,
                            struct scorer_job **out, struct error *err) {
    const Surefoot__LexicalSpec *lexical = spec->lexical;
    if (lexical == NULL) {
        return error_set(err, STATUS_INVALID_ARGUMENT, "lexical", "is missing");
    }
    struct lexical_job *job = calloc(1, sizeof *job);
    if (job == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a job");
    }
    job->base = (struct scorer_job){.scorer = base, .role = spec->role};
    job->words_min = lexical->has_words_min ? (int64_t)lexical->words_min : -1;
    job->words_max = lexical->has_words_max ? (int64_t)lexical->words_max : -1;
    struct lexical_scorer *scorer = (struct lexical_scorer *)base;
    enum status status = compile_lists(job, lexical, err);
    if (status == STATUS_OK) {
        status = list_words(job, scorer->word, err);
    }
    if (status == STATUS_OK) {
        const struct scorer_text empty = {.text = ""};
        scorer->steps_left = LEXICAL_STEPS_MAX;
        status = score_text(scorer, job, &empty, NULL, NULL, &job->prompt_score, err);
    }
    if (status != STATUS_OK) {
        job_close(&job->base);
        return status;
    }
    *out = &job->base;
    return STATUS_OK;
}

static enum status prepare(struct scorer *scorer, struct scorer_job *const *jobs, int32_t n,
                           struct error *err) {
    (void)scorer, (void)jobs, (void)n, (void)err;
    return STATUS_OK; // a prompt is not read
}

static void job_unload(struct scorer_job *job) {
    (void)job;
}

static float prompt_score(const struct scorer_job *job) {
    return ((const struct lexical_job *)job)->prompt_score;
}

static void state_drop(struct scorer_state *base) {
    struct lexical_state *state = (struct lexical_state *)base;
    free(state->violations);
    free(state->settled.progress);
    free(state->settled.ends);
    free(state);
}

static enum status reserve(struct lexical_state *state, int32_t n) {
    if (n <= state->capacity) {
        return STATUS_OK;
    }
    float *violations = realloc(state->violations, 2 * (size_t)n * sizeof *violations);
    if (violations == NULL) {
        return STATUS_NO_MEMORY;
    }
    state->violations = violations;
    state->capacity = 2 * n;
    return STATUS_OK;
}

static enum status state_open(struct scorer_job *job, struct scorer_state **out) {
    struct lexical_state *state = calloc(1, sizeof *state);
    if (state == NULL) {
        return STATUS_NO_MEMORY;
    }
    state->base.job = job;
    size_t n_patterns = (size_t)((const struct lexical_job *)job)->n_patterns;
    state->settled.progress = calloc(n_patterns + 1, sizeof *state->settled.progress);
    if (state->settled.progress == NULL) {
        state_drop(&state->base);
        return STATUS_NO_MEMORY;
    }
    *out = &state->base;
    return STATUS_OK;
}

static enum status copy_settled(const struct lexical_job *job, const struct settled *from,
                                struct settled *out) {
    int32_t *ends = malloc(((size_t)from->ends_capacity + 1) * sizeof *ends);
    if (ends == NULL) {
        return STATUS_NO_MEMORY;
    }
    struct progress *progress = out->progress;
    memcpy(progress, from->progress, (size_t)job->n_patterns * sizeof *progress);
    if (from->n_ends > 0) {
        memcpy(ends, from->ends, (size_t)from->n_ends * sizeof *ends);
    }
    *out = *from;
    out->progress = progress;
    out->ends = ends;
    return STATUS_OK;
}

static enum status state_fork(const struct scorer_state *base, struct scorer_state **out) {
    const struct lexical_state *parent = (const struct lexical_state *)base;
    struct scorer_state *fork = NULL;
    enum status status = state_open(base->job, &fork);
    if (status != STATUS_OK) {
        return status;
    }
    struct lexical_state *state = (struct lexical_state *)fork;
    status = reserve(state, parent->n_tokens);
    if (status == STATUS_OK) {
        status =
            copy_settled((const struct lexical_job *)base->job, &parent->settled, &state->settled);
    }
    if (status != STATUS_OK) {
        state_drop(fork);
        return status;
    }
    if (parent->n_tokens > 0) {
        memcpy(state->violations, parent->violations,
               (size_t)parent->n_tokens * sizeof *state->violations);
    }
    state->n_tokens = parent->n_tokens;
    *out = fork;
    return STATUS_OK;
}

// Compares the violations at tokens before the last extension's end with what they were.
static void store_violations(struct lexical_state *state, struct scorer_extension *extension,
                             const float *violations) {
    int32_t n = extension->text.n_tokens;
    int32_t from = 0;
    while (from < state->n_tokens && from < n && violations[from] == state->violations[from]) {
        from++;
    }
    extension->scores_from = from;
    memcpy(state->violations, violations, (size_t)n * sizeof *violations);
    state->n_tokens = n;
    if (extension->token_scores != NULL) {
        memcpy(extension->token_scores + from, violations + from,
               (size_t)(n - from) * sizeof *violations);
    }
}

static enum status extend(struct scorer *base, struct scorer_extension *extensions, int32_t n,
                          struct error *err) {
    struct lexical_scorer *scorer = (struct lexical_scorer *)base;
    for (int32_t i = 0; i < n; i++) {
        struct scorer_extension *extension = &extensions[i];
        struct lexical_state *state = (struct lexical_state *)extension->state;
        size_t n_tokens = (size_t)extension->text.n_tokens;
        float *violations = calloc(n_tokens, sizeof *violations);
        if (violations == NULL || reserve(state, extension->text.n_tokens) != STATUS_OK) {
            free(violations);
            return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for %zu tokens", n_tokens);
        }
        enum status status =
            read_text(scorer, (const struct lexical_job *)state->base.job, &extension->text,
                      &state->settled, violations, &extension->end_score, &extension->error);
        if (status == STATUS_OK) {
            store_violations(state, extension, violations);
        }
        free(violations);
    }
    return STATUS_OK;
}

static void lexical_close(struct scorer *base) {
    struct lexical_scorer *scorer = (struct lexical_scorer *)base;
    pcre2_match_context_free(scorer->limits);
    pcre2_match_data_free(scorer->match);
    pcre2_code_free(scorer->word);
    free(scorer);
}

static const struct scorer_ops lexical_ops = {
    .name = "lexical",
    .job_open = job_open,
    .job_close = job_close,
    .prepare = prepare,
    .job_unload = job_unload,
    .prompt_score = prompt_score,
    .state_open = state_open,
    .state_fork = state_fork,
    .state_drop = state_drop,
    .extend = extend,
    .close = lexical_close,
};

enum status lexical_open(struct scorer **out) {
    static const char word[] = "\\w+(?:['\\x{2019}-]\\w+)*";
    struct lexical_scorer *scorer = calloc(1, sizeof *scorer);
    if (scorer == NULL) {
        return STATUS_NO_MEMORY;
    }
    scorer->base.ops = &lexical_ops;
    scorer->limits = pcre2_match_context_create(NULL);
    scorer->match = pcre2_match_data_create(1, NULL);
    scorer->word = compile(word, sizeof word - 1, 0, NULL, NULL);
    if (scorer->limits == NULL || scorer->match == NULL || scorer->word == NULL) {
        lexical_close(&scorer->base);
        return STATUS_NO_MEMORY;
    }
    pcre2_set_match_limit(scorer->limits, LEXICAL_MATCH_LIMIT);
    pcre2_set_depth_limit(scorer->limits, LEXICAL_DEPTH_LIMIT);
    pcre2_set_heap_limit(scorer->limits, HEAP_LIMIT_KIB);
    pcre2_set_callout(scorer->limits, count_step, scorer);
    *out = &scorer->base;
    return STATUS_OK;
}
