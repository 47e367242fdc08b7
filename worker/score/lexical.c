#include "worker/score/lexical.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"

enum { HEAP_LIMIT_KIB = 4096, ENTRY_FIELD_BYTES = 48 };

struct lexical_scorer {
    struct scorer base;
    pcre2_match_context *limits;
    pcre2_match_data *match; // one pair of offsets
    pcre2_code *word;
    int64_t steps_left; // of the jobs' patterns, in the text that is read
};

// One list of the spec, compiled.
struct pattern_list {
    const char *field;  // member of LexicalSpec, static
    pcre2_code **codes; // [n], owned
    int32_t n;
};

enum { LIST_REQUIRED, LIST_FORBIDDEN, LIST_REQUIRED_REGEX, LIST_FORBIDDEN_REGEX, LIST_COUNT };

struct lexical_job {
    struct scorer_job base;
    struct pattern_list lists[LIST_COUNT];
    int64_t words_min; // -1 none
    int64_t words_max; // -1 none
    size_t compiled_bytes;
    int32_t n_required;
    float prompt_score;
};

struct lexical_state {
    struct scorer_state base;
    float *violations; // [capacity], per policy token at the last extension
    int32_t n_tokens;
    int32_t capacity;
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
    list->codes = calloc(n > 0 ? n : 1, sizeof *list->codes);
    if (list->codes == NULL) {
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
        list->codes[list->n++] = code;
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
        for (int32_t k = 0; k < job->lists[i].n; k++) {
            pcre2_code_free(job->lists[i].codes[k]);
        }
        free(job->lists[i].codes);
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
    } sources[LIST_COUNT] = {
        [LIST_REQUIRED] = {"lexical.required", spec->required, spec->n_required, true},
        [LIST_FORBIDDEN] = {"lexical.forbidden", spec->forbidden, spec->n_forbidden, true},
        [LIST_REQUIRED_REGEX] = {"lexical.required_regex", spec->required_regex,
                                 spec->n_required_regex, false},
        [LIST_FORBIDDEN_REGEX] = {"lexical.forbidden_regex", spec->forbidden_regex,
                                  spec->n_forbidden_regex, false},
    };
    for (int i = 0; i < LIST_COUNT; i++) {
        job->lists[i].field = sources[i].field;
        enum status status = compile_list(job, &job->lists[i], sources[i].entries, sources[i].n,
                                          sources[i].words, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    job->n_required = job->lists[LIST_REQUIRED].n + job->lists[LIST_REQUIRED_REGEX].n;
    return STATUS_OK;
}

// PCRE2 calls this before every item of a job's pattern that it tries. The match limit holds for
// one search; this one for all searches in a text, of which there can be thousands.
static int count_step(pcre2_callout_block *block, void *context) {
    (void)block;
    struct lexical_scorer *scorer = context;
    return --scorer->steps_left < 0 ? PCRE2_ERROR_CALLOUT : 0;
}

// Finds the next non-empty match from *offset on; *offset moves to its end. *found false: no more.
static enum status next_match(struct lexical_scorer *scorer, const pcre2_code *code,
                              const char *text, size_t bytes, size_t *offset, bool *found) {
    int rc = pcre2_match(code, (PCRE2_SPTR)text, bytes, *offset,
                         PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, scorer->match, scorer->limits);
    if (rc == PCRE2_ERROR_NOMATCH) {
        *found = false;
        return STATUS_OK;
    }
    if (rc == PCRE2_ERROR_NOMEMORY) {
        return STATUS_NO_MEMORY;
    }
    if (rc < 0) {
        return STATUS_LIMIT;
    }
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(scorer->match);
    // \K can put the start behind the end or before the search's start; the end alone counts, and
    // it must move on.
    if (ends[1] <= *offset) {
        *found = false;
        return STATUS_OK;
    }
    *offset = ends[1];
    *found = true;
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

static size_t text_bytes(const struct scorer_text *text) {
    return text->n_tokens > 0 ? (size_t)text->text_ends[text->n_tokens - 1] : 0;
}

static enum status tally_list(struct lexical_scorer *scorer, const struct pattern_list *list,
                              bool forbidden, struct tally *tally, struct error *err) {
    size_t bytes = text_bytes(tally->text);
    for (int32_t i = 0; i < list->n; i++) {
        size_t offset = 0;
        bool found = true;
        while (found) {
            enum status status =
                next_match(scorer, list->codes[i], tally->text->text, bytes, &offset, &found);
            if (status != STATUS_OK) {
                char field[ENTRY_FIELD_BYTES];
                snprintf(field, sizeof field, "%s[%d]", list->field, i);
                return error_set(err, status, field,
                                 "a search took more than %d steps, or all in one text %d",
                                 LEXICAL_MATCH_LIMIT, LEXICAL_STEPS_MAX);
            }
            bool complete = found && (tally->text->finished || offset < bytes);
            if (complete && forbidden) {
                count_violation(tally, offset);
            } else if (complete) {
                tally->satisfied++;
                found = false;
            }
        }
    }
    return STATUS_OK;
}

static enum status tally_words(struct lexical_scorer *scorer, const struct lexical_job *job,
                               struct tally *tally, struct error *err) {
    const struct scorer_text *text = tally->text;
    if (job->words_min < 0 && job->words_max < 0) {
        return STATUS_OK;
    }
    size_t bytes = text_bytes(text);
    size_t offset = 0;
    int64_t n_words = 0;
    for (bool found = true; found;) {
        enum status status = next_match(scorer, scorer->word, text->text, bytes, &offset, &found);
        if (status != STATUS_OK) {
            return error_set(err, status, "lexical.words_max", "counting words took too long");
        }
        if (found && (text->finished || offset < bytes)) {
            n_words++;
            if (n_words == job->words_max + 1 && job->words_max >= 0) {
                count_violation(tally, offset);
            }
        }
    }
    if (text->finished && n_words < job->words_min) {
        tally->violations[text->n_tokens - 1] += 1;
        tally->total += 1;
    }
    return STATUS_OK;
}

// Violations of a text from its beginning, and the score at its end.
static enum status score_text(struct lexical_scorer *scorer, const struct lexical_job *job,
                              const struct scorer_text *text, float *violations, float *end_score,
                              struct error *err) {
    struct tally tally = {.text = text, .violations = violations};
    scorer->steps_left = LEXICAL_STEPS_MAX;
    for (int i = 0; i < LIST_COUNT; i++) {
        bool forbidden = i == LIST_FORBIDDEN || i == LIST_FORBIDDEN_REGEX;
        enum status status = tally_list(scorer, &job->lists[i], forbidden, &tally, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    enum status status = tally_words(scorer, job, &tally, err);
    if (status != STATUS_OK) {
        return status;
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
    enum status status = compile_lists(job, lexical, err);
    struct scorer_text empty = {.text = ""};
    if (status == STATUS_OK) {
        status =
            score_text((struct lexical_scorer *)base, job, &empty, NULL, &job->prompt_score, err);
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
    *out = &state->base;
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
            score_text(scorer, (const struct lexical_job *)state->base.job, &extension->text,
                       violations, &extension->end_score, &extension->error);
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
