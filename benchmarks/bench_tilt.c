// What does the choice of a tilt cost? Prints one CSV line per number of answers and transform:
// median microseconds of one selection among `answers` uniform rewards (ranks, equal ones, the
// draw), and milliseconds of what is made once: Phi, and the table whose beta is solved for KL 0.5;
// microseconds in which the next job of the same settings finds both in the coordinator's cache.
//
//   bench_tilt
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "benchmarks/median.h"
#include "common/rng.h"
#include "coordinator/search/tilt_cache.h"

enum { REPEATS = 201, ANSWERS_MAX = 4096 };

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
}

static double select_us(const struct tilt_table *table, uint32_t answers) {
    static struct tilt_draw draws[ANSWERS_MAX];
    double times[REPEATS];
    for (uint64_t seed = 0; seed < REPEATS; seed++) {
        for (uint32_t i = 0; i < answers; i++) {
            draws[i] = (struct tilt_draw){
                .reward = rng_uniform(seed, 1, i, 0), .candidate_id = i + 1, .eligible = true};
        }
        double start = now_us();
        tilt_place_by_rank(draws, answers);
        (void)tilt_choose(table, draws, answers, seed);
        times[seed] = now_us() - start;
    }
    return median_sort(times, REPEATS);
}

static enum status measure(const char *name, const struct tilt_spec *spec, uint32_t answers) {
    struct tilt_cache cache = {.n_made = 0};
    struct tilt *tilts[2] = {NULL, NULL};
    const struct tilt_table *table = NULL;
    struct error err = {0};
    double times[5] = {now_us()};
    enum status status = STATUS_OK;
    for (int i = 0; status == STATUS_OK && i < 2; i++) { // solved, then found
        status = tilt_cache_find(&cache, spec, &tilts[i], &err);
        times[2 * i + 1] = now_us();
        if (status == STATUS_OK) {
            status = tilt_table_find(tilts[i], answers, &table);
        }
        times[2 * i + 2] = now_us();
    }
    if (status == STATUS_OK) {
        printf("%s,%u,%.2f,%.2f,%.2f,%.2f\n", name, answers, select_us(table, answers),
               (times[1] - times[0]) * 1e-3, (times[2] - times[1]) * 1e-3, times[4] - times[2]);
    }
    tilt_destroy(tilts[0]);
    tilt_destroy(tilts[1]);
    tilt_cache_finish(&cache);
    return status;
}

int main(void) {
    static const struct {
        const char *name;
        enum tilt_transform transform;
    } transforms[] = {{"identity", TILT_TRANSFORM_IDENTITY},
                      {"exp", TILT_TRANSFORM_EXP},
                      {"optimal_bon", TILT_TRANSFORM_OPTIMAL_BON},
                      {"optimal_won", TILT_TRANSFORM_OPTIMAL_WON}};
    printf("transform,answers,select_us,create_ms,table_ms,again_us\n");
    for (size_t i = 0; i < sizeof transforms / sizeof transforms[0]; i++) {
        for (uint32_t answers = 16; answers <= ANSWERS_MAX; answers *= 4) {
            const struct tilt_spec spec = {.transform = transforms[i].transform,
                                           .t = 10,
                                           .n = 4,
                                           .kl = 0.5,
                                           .sampler = TILT_SAMPLER_RANKS,
                                           .rank_set = TILT_RANK_SET_ADMISSIBLE};
            enum status status = measure(transforms[i].name, &spec, answers);
            if (status != STATUS_OK) {
                fprintf(stderr, "bench_tilt: %s\n", status_text(status));
                return 1;
            }
        }
    }
    return 0;
}
