#include "worker/decode/sampling_select.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { SORT_MAX = 32 }; // where sorting by insertion costs no more than another split

// Unsigned order of keys is the order of the floats; -0 and +0 are one value.
static uint32_t key_of(float logit) {
    float value = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

static float logit_of(uint32_t key) {
    uint32_t bits = key & UINT32_C(0x80000000) ? key & UINT32_C(0x7fffffff) : ~key;
    float logit;
    memcpy(&logit, &bits, sizeof logit);
    return logit;
}

// A key in (low, high), high - low > 1. The middle of the values, which logits are spread over,
// takes turns with the middle of the keys, which bounds the number of splits whatever the values.
static uint32_t choose_pivot(uint32_t low, uint32_t high, int round) {
    float from = logit_of(low), to = logit_of(high - 1);
    float middle = 0.5f * from + 0.5f * to;
    if (round == 0 && from == -FLT_MAX) {
        middle = to - 16; // nats below the largest: usually far below every border
    }
    uint32_t key = key_of(middle);
    bool inside = key > low && key < high;
    return round % 2 == 0 && inside ? key : low + (high - low) / 2;
}

double sampling_select_mass(struct sampling_selection *selection, const struct sampling_list *list,
                            float from) {
    struct sampling_cut all_from = {.logit = from, .last_id = INT32_MAX};
    selection->kernels->sum_cut(list->logits, list->weights, list->n, 0, NULL, all_from,
                                selection->sums);
    double mass = 0;
    for (int32_t begin = 0, block = 0; begin < list->n; begin += SAMPLING_BLOCK, block++) {
        mass += (double)selection->sums[block];
    }
    return mass;
}

// Prefix of equal logits, which are in id order.
static struct sampling_cut cut_equals(const struct sampling_list *list, double missing) {
    double weight = (double)list->weights[0];
    double needed = weight > 0 ? ceil(missing / weight) : 1;
    int32_t count = needed < 1 ? 1 : needed < list->n ? (int32_t)needed : list->n;
    return (struct sampling_cut){.logit = list->logits[0], .last_id = list->ids[count - 1]};
}

// Prefix of at most SORT_MAX entries.
static struct sampling_cut cut_sorted(const struct sampling_list *list, double missing) {
    int32_t order[SORT_MAX];
    for (int32_t i = 0; i < list->n; i++) {
        int32_t at = i; // equal logits stay in id order
        for (; at > 0 && list->logits[order[at - 1]] < list->logits[i]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = i;
    }
    int32_t count = 0;
    for (double sum = 0; count < list->n && (count == 0 || sum < missing); count++) {
        sum += (double)list->weights[order[count]];
    }
    int32_t last = order[count - 1];
    return (struct sampling_cut){.logit = list->logits[last], .last_id = list->ids[last]};
}

struct sampling_cut sampling_select_prefix(struct sampling_selection *selection,
                                           const struct sampling_list *list, double target,
                                           float from, float largest) {
    uint32_t low = key_of(from), high = key_of(largest) + 1; // all keys are in [low, high)
    double before = 0;                                       // weight at and above `high`
    const struct sampling_list *rest = list;
    for (int round = 0; rest->n > SORT_MAX && high - low > 1; round++) {
        uint32_t key = choose_pivot(low, high, round);
        float pivot = logit_of(key);
        double mass = sampling_select_mass(selection, rest, pivot);
        bool upper = before + mass >= target;
        struct sampling_list *part = &selection->spare[rest == &selection->spare[0]];
        selection->kernels->partition(rest, pivot, upper, part);
        // An empty part says that all are on the other side, whatever rounding made of the sums.
        bool empty = part->n == 0;
        rest = empty ? rest : part;
        if (upper != empty) {
            low = key;
        } else {
            high = key;
            before += empty ? 0 : mass;
        }
    }
    return rest->n <= SORT_MAX ? cut_sorted(rest, target - before)
                               : cut_equals(rest, target - before);
}

void sampling_select_keep(struct sampling_list *list, struct sampling_cut cut) {
    int32_t kept = 0;
    for (int32_t i = 0; i < list->n; i++) {
        float logit = list->logits[i];
        bool keep = logit > cut.logit || (logit == cut.logit && list->ids[i] <= cut.last_id);
        list->ids[kept] = list->ids[i];
        list->logits[kept] = logit;
        list->weights[kept] = list->weights[i];
        kept += keep;
    }
    list->n = kept;
}
