#!/bin/sh
# All methods and presets on the shipped prompts at equal N and at equal tokens, what each part of
# inference-guard is worth, N, and tilts: the tables of docs/results/guard.md (docs/measuring.md).
#   sh benchmarks/guard_table.sh OUT [surefoot's flags, as --dir DIR]
# Records go to the directory OUT; run it again after an interruption. The service is the caller's,
# of the shipped models with --latent-critic. May be set in the environment: PARTS (defaults
# rivals tokens ablation sizes tilt), RESULTS (a page to write, else the tables are printed), COUNT
# of prompts (300), SEED (1), REWARD_THRESHOLD of cards (3), PROMPTS, BUILD (build), and VALUE: anything
# where the service has a value network (up --value), for the rows of re-control.
set -eu
if [ $# -lt 1 ]; then
    sed -n '2,10s/^# //p' "$0" >&2
    exit 2
fi
out=$1
shift
surefoot=${BUILD:-build}/bin/surefoot
here=$(dirname "$0")
prompts=${PROMPTS:-$here/../models/demo/prompts.jsonl}
count=${COUNT:-300}
mkdir -p "$out"

answer() { # FILE METHODS FLAGS...: their records, where they are not there
    file=$out/$1.jsonl
    methods=$2
    shift 2
    touch "$file"
    before=$(wc -l <"$file")
    "$surefoot" compare "$prompts" --limit "$count" --out "$file" --methods "$methods" "$@" >/dev/null
    if [ "$(wc -l <"$file")" -gt "$before" ]; then
        printf '%s\t%s\t%s\t%s\n' "$part" "$(date -u +%F)" \
            "$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)" \
            "$(nproc) cores of $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
            >>"$out/ran.txt"
    fi
}

equal() { # METHOD: the N at which it samples as many tokens as inference-guard
    python3 "$here/guard_table.py" "$out" --equal "$1"
}

defaults() {
    answer inference-guard inference-guard "$@"
}

# Of presets that are another row to the letter once N is 32, only that row: paper/base is sample,
# paper/best-of-n... best-of-n but for its tokens, paper/args args:plain.
rivals() {
    answer rivals sample,rejection,best-of-n:plain,best-of-n:lagrangian,best-of-n:augmented --n 32 "$@"
    answer rivals beam:plain,beam:lagrangian,beam:augmented --n 32 "$@"
    answer rivals speculative-rejection:plain,speculative-rejection:augmented --n 32 "$@"
    answer rivals cards:plain,cards:augmented --n 32 --reward-threshold "$threshold" "$@"
    answer rivals args:plain,args:augmented --n 20 "$@"
    answer rivals paper/best-of-n-lagrangian-10-500,paper/beam-128,paper/beam-lagrangian-128 --n 32 "$@"
    answer rivals paper/beam-augmented-128,paper/inference-guard,paper/speculative-rejection --n 32 "$@"
    answer rivals paper/cards --n 21 --reward-threshold "$threshold" "$@"
    answer rivals paper/args-lagrangian,paper/args-cost --n 20 "$@"
    if [ -n "${VALUE:-}" ]; then
        answer rivals paper/re-control "$@"
        answer rivals re-control:plain --n 32 "$@"
    fi
}

tokens() {
    for method in best-of-n:augmented best-of-n:plain beam:augmented beam:plain \
        speculative-rejection:augmented args:augmented; do
        n=$(equal $method)
        answer "tokens-$(echo $method | tr : -)-$n" $method --n "$n" "$@"
    done
}

ablations() { # PREFIX FLAGS...: inference-guard, a part exchanged
    prefix=$1
    shift
    answer "$prefix-none-adaptive" inference-guard --block-growth 1 --block-tokens 4 --n-min 0 --patience 0 \
        --abort-tokens 0 "$@"
    answer "$prefix-n-fixed" inference-guard --n-min 0 "$@"
    answer "$prefix-no-patience" inference-guard --patience 0 "$@"
    answer "$prefix-block-fixed" inference-guard --block-growth 1 --block-tokens 4 "$@"
    answer "$prefix-no-fallback" inference-guard --tries 1 --fallback-temperature 0 "$@"
    answer "$prefix-critic-latent" inference-guard --critic latent "$@"
    answer "$prefix-block-32" inference-guard --block-growth 1 --block-tokens 32 "$@"
    answer "$prefix-block-32-no-abort" inference-guard --block-growth 1 --block-tokens 32 --abort-tokens 0 "$@"
}

# On a third of the prompts. Hard ones: those made of tweets, few candidates, and a budget that any marked
# word exceeds. Of the others the searches without a safety state are rivals' rows.
ablation() (
    count=$((count / 3))
    ablations ablation "$@"
    set -- --filter source=davidson --n 8 --budget 0 "$@"
    answer hard-defaults inference-guard "$@"
    ablations hard "$@"
    answer hard-no-state beam:plain "$@"
    answer hard-lagrangian beam:lagrangian "$@"
)

sizes() {
    for n in 8 16; do
        answer size-inference-guard-$n inference-guard --n $n "$@"
    done
    for n in 8 16 64; do
        answer size-best-of-n-$n best-of-n:augmented --n $n "$@"
    done
    answer size-speculative-rejection-64 speculative-rejection:augmented --n 64 "$@"
}

# On a third of the prompts. Without a cost, so that the law is that of the policy; the draws, and
# what they are compared with, from seeds of their own.
tilt() (
    count=$((count / 3))
    set -- --scorer reward "$@"
    "$surefoot" calibrate "$prompts" --limit "$count" --rollouts 64 \
        --out "$out/tilt.calibration" "$@" --seed 1000
    for seed in 1001 1002 1003 1004; do
        for name in identity exp; do
            answer "tilt-$name-$seed" best-of-n:plain --n 64 --block-tokens 32 --tilt $name \
                --calibration "$out/tilt.calibration" "$@" --seed $seed
        done
    done
)

threshold=${REWARD_THRESHOLD:-3}
for part in ${PARTS:-defaults rivals tokens ablation sizes tilt}; do
    $part --seed "${SEED:-1}" "$@"
done
python3 "$here/guard_table.py" "$out" ${RESULTS:+--results "$RESULTS"}
