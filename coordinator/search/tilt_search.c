// The end of a search with a tilt: its finished candidates become the draws of tilt.h. The memory
// it needs beyond theirs is one record a candidate; theirs is what as many candidates that still
// grow hold.
#include <math.h>
#include <stdlib.h>

#include "coordinator/search/search_internal.h"

// Those within budget and, where all are ranked, the others. *n_eligible: the former.
static uint32_t collect(const struct search *search, struct tilt_draw *draws,
                        uint32_t *n_eligible) {
    bool ranks_all = search->spec.tilt.rank_set == TILT_RANK_SET_ALL;
    uint32_t count = 0;
    *n_eligible = 0;
    for (size_t i = 0; i < search->n_candidates; i++) {
        const struct candidate *candidate = search->candidates[i];
        bool eligible = candidate->safety.admissible;
        if (candidate->finish != SEARCH_FINISH_NONE && (eligible || ranks_all)) {
            *n_eligible += eligible ? 1 : 0;
            draws[count++] = (struct tilt_draw){
                .reward = candidate->reward, .candidate_id = candidate->id, .eligible = eligible};
        }
    }
    return count;
}

// The law is that of the answers within budget when these alone were ranked, and that of roll-outs,
// which are of all answers, when all are within budget.
static bool has_law(const struct search *search, uint32_t n_ranked, uint32_t n_draws) {
    return search->spec.tilt.sampler == TILT_SAMPLER_RANKS ? n_draws == n_ranked
                                                           : n_draws == search->n_candidates;
}

static void note_choice(struct search *search, const struct tilt_table *table,
                        const struct tilt_draw *chosen, uint32_t n_draws) {
    bool by_ranks = search->spec.tilt.sampler == TILT_SAMPLER_RANKS;
    uint32_t n_ranked = by_ranks ? table->places : search->spec.n_rollouts;
    search->best = search->candidates[chosen->candidate_id - 1];
    search->tilted = (struct search_tilt){
        .n_draws = n_draws,
        .n_ranked = n_ranked,
        .rank = 1 + 0.5 * chosen->place,
        .calibrated = tilt_calibrated(search->spec.tilt.sampler, table->places, chosen->place),
        .beta = table->beta,
        .has_law = has_law(search, n_ranked, n_draws),
        .law = table->law,
        .rejection_draws = table->rejection_draws,
        .log_inverse_share = log((double)search->n_candidates / n_draws),
    };
}

enum status search_choose_tilted(struct search *search) {
    const struct search_spec *spec = &search->spec;
    bool by_ranks = spec->tilt.sampler == TILT_SAMPLER_RANKS;
    struct tilt_draw *draws = malloc(search->n_candidates * sizeof *draws);
    if (draws == NULL) {
        return STATUS_NO_MEMORY;
    }
    uint32_t n_eligible = 0;
    uint32_t count = collect(search, draws, &n_eligible);
    enum status status = STATUS_OK;
    const struct tilt_table *table = NULL;
    if (n_eligible > 0) {
        status = tilt_table_find(search->tilt, by_ranks ? count : spec->n_rollouts, &table);
    }
    if (table != NULL && by_ranks) {
        tilt_place_by_rank(draws, count);
    } else if (table != NULL) {
        tilt_place_by_rollouts(draws, count, spec->rollouts, spec->n_rollouts);
    }
    if (table != NULL) {
        size_t at = tilt_choose(table, draws, count, search->spec.seed);
        note_choice(search, table, &draws[at], n_eligible);
    }
    free(draws);
    return status;
}
