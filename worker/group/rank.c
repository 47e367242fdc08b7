// Opening and closing of a rank, its memory plan, and what it says about its models.
#include "worker/group/rank.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "worker/group/rank_internal.h"
#include "worker/model/model_path.h"

enum {
    SLOTS_DEFAULT = 64,
    SLOTS_MAX = 4096,
    THREADS_MAX = 256,
    KV_TOKENS_PER_SLOT = 256,
    KV_TOKENS_BASE = 4096,
    // Candidates that are grown, their parents, and four times as many that wait: the scheduler
    // admits jobs by what a group can hold (coordinator/scheduler.c).
    HELD_PER_SLOT = 6,
    JOBS_PER_SLOT = 2,
    JOBS_BASE = 64,
    BATCH_ROWS = 256,
    SCORER_OUTPUT_ROWS = 512,
    KEPT_READINGS_MAX = 256,     // of finished texts, by a scorer
    LOGITS_BYTES_MAX = 64 << 20, // of one step; more candidates take turns
    LOGITS_ROWS_MIN = 8,
};

static int32_t held_max(const struct rank *rank) {
    return HELD_PER_SLOT * rank->slots;
}

static int32_t jobs_max(const struct rank *rank) {
    return JOBS_PER_SLOT * rank->slots + JOBS_BASE;
}

static int32_t min_int(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static enum status check_options(const struct rank_options *options, struct error *err) {
    if (options->threads < 1 || options->threads > THREADS_MAX) {
        return error_set(err, STATUS_LIMIT, "threads", "%d is outside 1..%d", options->threads,
                         THREADS_MAX);
    }
    if (options->slots < 0 || options->slots > SLOTS_MAX) {
        return error_set(err, STATUS_LIMIT, "slots", "%d is outside 1..%d", options->slots,
                         SLOTS_MAX);
    }
    if (options->kv_tokens < 0 || options->kv_tokens > (int64_t)INT32_MAX / 2) {
        return error_set(err, STATUS_LIMIT, "kv_tokens", "%lld is outside 0..%d",
                         (long long)options->kv_tokens, INT32_MAX / 2);
    }
    if (options->context_tokens < 0 || options->context_tokens > LIMIT_CONTEXT_TOKENS) {
        return error_set(err, STATUS_LIMIT, "context_tokens", "%d is outside 0..%d",
                         options->context_tokens, LIMIT_CONTEXT_TOKENS);
    }
    if (options->n_scorers < 0 || options->n_scorers > RANK_SCORERS_MAX) {
        return error_set(err, STATUS_LIMIT, "scorers", "%d is outside 0..%d", options->n_scorers,
                         RANK_SCORERS_MAX);
    }
    for (int i = 0; i < options->n_scorers; i++) {
        const char *name = options->scorers[i].name;
        if (name == NULL || name[0] == '\0' || strlen(name) > LIMIT_NAME_BYTES ||
            strcmp(name, "lexical") == 0) {
            return error_set(err, STATUS_INVALID_ARGUMENT, "scorers",
                             "a name has 1 to %d bytes and is not lexical", LIMIT_NAME_BYTES);
        }
        for (int k = 0; k < i; k++) {
            if (strcmp(name, options->scorers[k].name) == 0) {
                return error_set(err, STATUS_ALREADY_EXISTS, "scorers", "two are named %s", name);
            }
        }
    }
    return STATUS_OK;
}

// A model whose jobs would all fail for its template is refused now: the one that its profile
// names, or its own where the profile names none.
static enum status open_templates(const char *directory, struct rank_model *out,
                                  struct error *err) {
    const char *name = model_get_profile(out->model)->chat_template;
    const struct template *found;
    struct error why = {0};
    enum status status = template_set_open(directory, out->tokenizer, &out->templates, err);
    if (status != STATUS_OK || (name[0] == '\0' && !template_set_has_own(out->templates))) {
        return status;
    }
    if (template_find(out->templates, name, &found, &why) != STATUS_OK) {
        status = error_set(
            err, why.status == STATUS_NOT_FOUND ? STATUS_INVALID_ARGUMENT : why.status,
            name[0] != '\0' ? "surefoot.json.chat_template" : "chat_template", "%s", why.message);
        model_profile_label_error(directory, err);
    }
    return status;
}

static enum status open_model(struct rank *rank, const char *name, const char *directory,
                              bool is_policy, struct rank_model *out, struct error *err) {
    snprintf(out->name, sizeof out->name, "%s", name);
    enum status status = model_open(directory, out->backend, rank->precision, &out->model, err);
    if (status == STATUS_OK) {
        status = tokenizer_open(directory, &out->tokenizer, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct model_config *config = model_get_config(out->model);
    if ((config->head == MODEL_HEAD_LM) != is_policy) {
        return error_set(err, STATUS_UNSUPPORTED, "architectures",
                         "%s: a policy writes, a scorer has a classification or score head", name);
    }
    if (tokenizer_vocab_size(out->tokenizer) > config->vocab_size) {
        return error_set(err, STATUS_SHAPE, "vocab_size",
                         "%s: the tokenizer has %d ids, the model %d", name,
                         tokenizer_vocab_size(out->tokenizer), config->vocab_size);
    }
    return open_templates(directory, out, err);
}

// Last component of a path, for the policy's name.
static void name_of_directory(const char *directory, char *out, size_t capacity) {
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/') {
        begin--;
    }
    snprintf(out, capacity, "%.*s", (int)(end - begin), directory + begin);
}

static enum status open_models(struct rank *rank, const struct rank_options *options,
                               struct error *err) {
    char name[LIMIT_NAME_BYTES + 1];
    name_of_directory(options->policy_directory, name, sizeof name);
    rank->policy.backend = rank->backend;
    enum status status =
        open_model(rank, name, options->policy_directory, true, &rank->policy, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, "policy");
        return status;
    }
    int32_t context = min_int(model_config_default_context(model_get_config(rank->policy.model)),
                              LIMIT_CONTEXT_TOKENS);
    for (int i = 0; i < options->n_scorers; i++) {
        rank->n_scorers = i + 1;
        const char *directory = options->scorers[i].directory;
        status = rank_pair_scorer(rank, i, directory, options->threads, err);
        if (status == STATUS_OK) {
            status = open_model(rank, options->scorers[i].name, directory, false, &rank->scorers[i],
                                err);
        }
        if (status != STATUS_OK) {
            error_prefix_field(err, options->scorers[i].name);
            return status;
        }
        context = min_int(context,
                          model_config_default_context(model_get_config(rank->scorers[i].model)));
    }
#if defined(__GLIBC__)
    // Parsing tokenizer files takes several times the memory that a tokenizer keeps.
    malloc_trim(0);
#endif
    int32_t policy_context = model_get_config(rank->policy.model)->context_length;
    rank->context_tokens = options->context_tokens > 0 ? options->context_tokens : context;
    if (rank->context_tokens > policy_context) {
        return error_set(err, STATUS_LIMIT, "context_tokens",
                         "%d are above the policy's context of %d tokens", rank->context_tokens,
                         policy_context);
    }
    return STATUS_OK;
}

static enum status create_context(struct rank *rank, struct rank_model *model, struct error *err) {
    model_context_plan(model->model, &model->options, &model->plan);
    enum status status = model_context_create(model->model, &model->options, &model->context, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, model->name);
        return status;
    }
    bool is_side = model->backend != rank->backend;
    model_context_set_progress(model->context,
                               is_side ? rank_report_side_progress : rank_report_progress, rank);
    return STATUS_OK;
}

static enum status create_policy_context(struct rank *rank,
                                         const struct model_context_options *shared,
                                         struct error *err) {
    const struct model_config *config = model_get_config(rank->policy.model);
    int32_t logits_rows = LOGITS_BYTES_MAX / (int32_t)sizeof(float) / config->vocab_size;
    logits_rows = logits_rows > LOGITS_ROWS_MIN ? logits_rows : LOGITS_ROWS_MIN;
    rank->policy.options = *shared;
    rank->policy.options.context_tokens = rank->context_tokens;
    rank->policy.options.output_rows = min_int(rank->slots, logits_rows);
    enum status status = create_context(rank, &rank->policy, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct decoder_options options = {.n_states = held_max(rank) + jobs_max(rank),
                                      .batch_rows = rank->policy.options.output_rows};
    rank->decoder_bytes = decoder_bytes(rank->policy.context, &options);
    status = decoder_create(rank->policy.context, rank->policy.tokenizer, rank_value_proposal(rank),
                            &options, &rank->decoder);
    return status == STATUS_OK ? status : error_set(err, status, NULL, "no memory for the decoder");
}

static enum status create_scorer(struct rank *rank, struct rank_model *model,
                                 const struct model_context_options *shared, struct error *err) {
    // A scorer's own template and tokens may make the same text longer than the policy's.
    // Only the policy's own context may decide that texts are long ones.
    const struct model_config *config = model_get_config(model->model);
    int32_t exact = model_config_default_context(config);
    int32_t own = rank->context_tokens <= exact ? exact : config->context_length;
    model->options = *shared;
    model->options.context_tokens = min_int(own, 2 * rank->context_tokens);
    model->options.output_rows = SCORER_OUTPUT_ROWS;
    int32_t kept_readings = min_int(rank->slots, KEPT_READINGS_MAX);
    model->options.n_sequences += kept_readings;
    enum status status = create_context(rank, model, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct score_model_options options = {.context = model->context,
                                          .tokenizer = model->tokenizer,
                                          .policy_tokenizer = rank->policy.tokenizer,
                                          .output_rows = model->options.output_rows,
                                          .context_tokens = model->options.context_tokens,
                                          .kept_readings = kept_readings};
    status = score_model_open(&options, &model->scorer, err);
    if (status != STATUS_OK) {
        error_prefix_field(err, model->name);
    }
    return status;
}

static enum status create_contexts(struct rank *rank, const struct rank_options *options,
                                   struct error *err) {
    int64_t kv_tokens = options->kv_tokens > 0
                            ? options->kv_tokens
                            : (int64_t)rank->slots * KV_TOKENS_PER_SLOT + KV_TOKENS_BASE;
    struct model_context_options shared = {
        .n_kv_blocks = (int32_t)((kv_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS),
        .n_sequences = held_max(rank) + jobs_max(rank),
        .batch_rows = BATCH_ROWS,
        .kv_dtype = options->kv_dtype,
    };
    enum status status = create_policy_context(rank, &shared, err);
    for (int i = 0; i < rank->n_scorers && status == STATUS_OK; i++) {
        status = create_scorer(rank, &rank->scorers[i], &shared, err);
    }
    if (status == STATUS_OK && lexical_open(&rank->lexical) != STATUS_OK) {
        status = error_set(err, STATUS_NO_MEMORY, NULL, "no memory for the lexical scorer");
    }
    return status;
}

static enum status collect_exempt(struct rank *rank) {
    int32_t vocab = tokenizer_vocab_size(rank->policy.tokenizer);
    rank->exempt_ids = malloc((size_t)vocab * sizeof *rank->exempt_ids);
    if (rank->exempt_ids == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (int32_t id = 0; id < vocab; id++) {
        if (tokenizer_is_special(rank->policy.tokenizer, id) || decoder_is_end(rank->decoder, id)) {
            rank->exempt_ids[rank->n_exempt++] = (uint32_t)id;
        }
    }
    return STATUS_OK;
}

static enum status create_tables(struct rank *rank) {
    enum status status = id_table_init(&rank->job_table, jobs_max(rank));
    if (status == STATUS_OK) {
        status = id_table_init(&rank->candidate_table, held_max(rank));
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t slots = (size_t)rank->slots;
    size_t extensions = slots * RANK_SCORERS_MAX;
    rank->jobs = calloc((size_t)jobs_max(rank), sizeof *rank->jobs);
    rank->candidates = calloc((size_t)held_max(rank), sizeof *rank->candidates);
    rank->tasks = calloc(slots, sizeof *rank->tasks);
    rank->prefills = calloc(slots, sizeof *rank->prefills);
    rank->state_pairs = calloc(2 * slots, sizeof *rank->state_pairs);
    rank->extensions = calloc(extensions, sizeof *rank->extensions);
    rank->extension_items = calloc(extensions, sizeof *rank->extension_items);
    rank->extension_indices = calloc(extensions, sizeof *rank->extension_indices);
    rank->scorer_jobs = calloc(extensions, sizeof *rank->scorer_jobs);
    bool complete = rank->jobs != NULL && rank->candidates != NULL && rank->tasks != NULL &&
                    rank->prefills != NULL && rank->state_pairs != NULL &&
                    rank->extensions != NULL && rank->extension_items != NULL &&
                    rank->extension_indices != NULL && rank->scorer_jobs != NULL;
    return complete ? collect_exempt(rank) : STATUS_NO_MEMORY;
}

static void describe_generation(const struct model_generation *generation,
                                Surefoot__GenerationDefaults *out) {
    surefoot__generation_defaults__init(out);
    out->has_temperature = generation->has_temperature;
    out->temperature = generation->temperature;
    out->has_top_k = generation->has_top_k;
    out->top_k = (uint32_t)generation->top_k;
    out->has_top_p = generation->has_top_p;
    out->top_p = generation->top_p;
    out->has_repetition_penalty = generation->has_repetition_penalty;
    out->repetition_penalty = generation->repetition_penalty;
    out->has_max_new_tokens = generation->has_max_new_tokens;
    out->max_new_tokens = (uint32_t)generation->max_new_tokens;
    out->has_do_sample = generation->has_do_sample;
    out->do_sample = generation->do_sample;
}

static void describe_model(const struct rank *rank, const struct rank_model *model,
                           const char *role, Surefoot__ModelInfo *info) {
    const struct model_config *config = model_get_config(model->model);
    const struct model_profile *profile = model_get_profile(model->model);
    surefoot__model_info__init(info);
    info->name = (char *)model->name;
    info->role = (char *)role;
    info->hash = (char *)model_get_hash(model->model);
    info->precision = (char *)precision_name(rank->precision);
    info->kv_dtype = (char *)kv_dtype_name(model->options.kv_dtype);
    info->has_context_length = info->has_vocab_size = info->has_parameter_count = true;
    info->context_length = (uint32_t)min_int(rank->context_tokens, model->options.context_tokens);
    info->vocab_size = (uint32_t)config->vocab_size;
    info->has_hidden_dim = true;
    info->hidden_dim = (uint32_t)config->hidden_dim;
    info->parameter_count = (uint64_t)model_parameter_count(model->model);
    if (profile->chat_template[0] != '\0') {
        info->chat_template = (char *)profile->chat_template;
    } else if (template_set_has_own(model->templates)) {
        info->chat_template = (char *)"model";
    }
    if (strcmp(role, "cost") != 0) {
        return;
    }
    info->cost_mode = profile->cost_mode[0] != '\0' ? (char *)profile->cost_mode : NULL;
    info->cost_eos = (char *)(profile->cost_eos_append ? "append" : "none");
    info->has_budget = profile->has_budget;
    info->budget = profile->budget;
    info->has_cost_min = profile->has_cost_min;
    info->cost_min = profile->cost_min;
    info->has_discount = profile->has_discount;
    info->discount = profile->discount;
}

enum status rank_open(const struct rank_options *options, struct rank **out, struct error *err) {
    enum status status = check_options(options, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct rank *rank = calloc(1, sizeof *rank);
    if (rank == NULL) {
        return error_set(err, STATUS_NO_MEMORY, NULL, "no memory for a rank");
    }
    rank->precision = options->precision;
    rank->slots = options->slots > 0 ? options->slots : SLOTS_DEFAULT;
    snprintf(rank->backend_name, sizeof rank->backend_name, "%s", options->backend);
    status = backend_create(options->backend, options->threads, &rank->backend, err);
    if (status == STATUS_OK) {
        status = open_models(rank, options, err);
    }
    if (status == STATUS_OK && options->value_path != NULL) {
        status = rank_value_open(rank, options->value_path, err);
    }
    if (status == STATUS_OK) {
        status = create_contexts(rank, options, err);
    }
    if (status == STATUS_OK && options->critic_path != NULL) {
        status = rank_critic_open(rank, options->critic_path, err);
    }
    if (status == STATUS_OK && create_tables(rank) != STATUS_OK) {
        status = error_set(err, STATUS_NO_MEMORY, "slots", "no memory for %d slots", rank->slots);
    }
    if (status != STATUS_OK) {
        rank_close(rank);
        return status;
    }
    describe_model(rank, &rank->policy, "policy", &rank->infos[RANK_SCORERS_MAX]);
    describe_generation(&model_get_config(rank->policy.model)->generation, &rank->generation);
    rank->infos[RANK_SCORERS_MAX].generation = &rank->generation;
    for (int i = 0; i < rank->n_scorers; i++) {
        describe_model(rank, &rank->scorers[i], model_get_profile(rank->scorers[i].model)->role,
                       &rank->infos[i]);
        rank->info_pointers[i] = &rank->infos[i];
    }
    *out = rank;
    return STATUS_OK;
}

static void close_model(struct rank_model *model) {
    scorer_close(model->scorer);
    model_context_destroy(model->context);
    template_set_close(model->templates);
    tokenizer_close(model->tokenizer);
    model_close(model->model);
}

void rank_close(struct rank *rank) {
    if (rank == NULL) {
        return;
    }
    if (rank->jobs != NULL && rank->candidates != NULL) {
        rank_candidates_drop_all(rank);
        for (int32_t i = 0; i < rank->job_table.capacity; i++) {
            if (id_table_used(&rank->job_table, i)) {
                rank_job_remove(rank, &rank->jobs[i]);
            }
        }
    }
    id_table_finish(&rank->job_table);
    id_table_finish(&rank->candidate_table);
    free(rank->jobs);
    free(rank->candidates);
    free(rank->tasks);
    free(rank->prefills);
    free(rank->state_pairs);
    free(rank->extensions);
    free(rank->extension_items);
    free(rank->extension_indices);
    free(rank->scorer_jobs);
    free(rank->exempt_ids);
    scorer_close(rank->lexical);
    rank_critic_close(rank);
    decoder_destroy(rank->decoder);
    rank_value_close(rank);
    close_model(&rank->policy);
    for (int i = 0; i < rank->n_scorers; i++) {
        close_model(&rank->scorers[i]);
    }
    backend_destroy(rank->side);
    backend_destroy(rank->backend);
    free(rank);
}

void rank_set_progress(struct rank *rank, rank_progress_fn progress, void *context) {
    rank->progress = progress;
    rank->progress_context = context;
}

static void add_plan(const struct rank_model *model, struct rank_plan *plan) {
    plan->weight_bytes += model_weight_bytes(model->model);
    plan->kv_bytes += model->plan.kv_bytes;
    plan->scratch_bytes += model->plan.scratch_bytes + tokenizer_bytes(model->tokenizer);
}

static size_t backend_bytes(const struct rank *rank) {
    size_t side = rank->side != NULL ? rank->side->ops->own_bytes(rank->side) : 0;
    return rank->backend->ops->own_bytes(rank->backend) + side;
}

void rank_get_plan(const struct rank *rank, struct rank_plan *plan) {
    *plan = (struct rank_plan){.scratch_bytes = rank->decoder_bytes + backend_bytes(rank)};
    add_plan(&rank->policy, plan);
    for (int i = 0; i < rank->n_scorers; i++) {
        add_plan(&rank->scorers[i], plan);
    }
}

static void print_line(FILE *stream, const char *name, const struct rank_plan *plan) {
    const double mib = 1 << 20;
    fprintf(stream, "plan: %-16s weights %9.1f MiB, KV %9.1f MiB, scratch %9.1f MiB\n", name,
            (double)plan->weight_bytes / mib, (double)plan->kv_bytes / mib,
            (double)plan->scratch_bytes / mib);
}

void rank_print_plan(const struct rank *rank, FILE *stream) {
    struct rank_plan plan = {.scratch_bytes = rank->decoder_bytes};
    add_plan(&rank->policy, &plan);
    print_line(stream, rank->policy.name, &plan);
    for (int i = 0; i < rank->n_scorers; i++) {
        plan = (struct rank_plan){0};
        add_plan(&rank->scorers[i], &plan);
        print_line(stream, rank->scorers[i].name, &plan);
    }
    plan = (struct rank_plan){.scratch_bytes = backend_bytes(rank)};
    print_line(stream, rank->backend_name, &plan);
    rank_get_plan(rank, &plan);
    print_line(stream, "total", &plan);
}

void rank_describe(struct rank *rank, Surefoot__GroupHello *hello) {
    hello->policy = &rank->infos[RANK_SCORERS_MAX];
    hello->n_scorers = (size_t)rank->n_scorers;
    hello->scorers = rank->info_pointers;
    hello->backend = rank->backend_name;
    hello->has_order_tokens_max = true;
    hello->order_tokens_max = LIMIT_BLOCK_TOKENS;
    hello->n_exempt_ids = rank->n_exempt;
    hello->exempt_ids = rank->exempt_ids;
    rank_critic_describe(rank, hello);
    rank_value_describe(rank, hello);
}

void rank_get_counts(const struct rank *rank, struct rank_counts *counts) {
    struct decoder_counts decoder;
    decoder_get_counts(rank->decoder, &decoder);
    *counts = rank->counts;
    counts->sampled_tokens = decoder.sampled_tokens;
    counts->decode_steps = decoder.steps;
    counts->prefill_tokens = decoder.prefill_tokens;
    for (int i = 0; i < rank->n_scorers; i++) {
        counts->scorers[i] = rank->scorers[i].scorer->counts;
    }
}

int32_t rank_kv_blocks_free(const struct rank *rank) {
    int32_t n = model_context_blocks_free(rank->policy.context);
    for (int i = 0; i < rank->n_scorers; i++) {
        n = min_int(n, model_context_blocks_free(rank->scorers[i].context));
    }
    return n;
}
