#!/bin/sh
# The methods and their published forms over the shipped prompts, each with the same N, as one table
# with 95 % intervals (docs/measuring.md, guard_table).
#   sh benchmarks/guard_table.sh OUT.jsonl [surefoot's flags, as --dir DIR]
# Records go to OUT; run it again after an interruption. PROMPTS (models/demo/prompts.jsonl), COUNT
# (300), N (32), SEED (1), REWARD_THRESHOLD of cards (3) and BUILD (build) may be set in the
# environment.
set -eu
if [ $# -lt 1 ]; then
    sed -n '2,7s/^# //p' "$0" >&2
    exit 2
fi
out=$1
shift
surefoot=${BUILD:-build}/bin/surefoot
here=$(dirname "$0")

answer() { # METHODS FLAGS...: their records, where they are not there
    methods=$1
    shift
    "$surefoot" compare "${PROMPTS:-$here/../models/demo/prompts.jsonl}" --limit "${COUNT:-300}" \
        --seed "${SEED:-1}" --out "$out" --methods "$methods" "$@" >/dev/null
}

n=${N:-32}
answer paper/base,rejection,best-of-n:augmented,beam:augmented,inference-guard --n "$n" "$@"
answer speculative-rejection:plain,speculative-rejection:augmented --n "$n" "$@"
answer cards:plain,cards:augmented --n "$n" --reward-threshold "${REWARD_THRESHOLD:-3}" "$@"
answer paper/best-of-n-100,paper/best-of-n-lagrangian-100,paper/best-of-n-augmented-100 --n "$n" "$@"
answer paper/beam-128,paper/beam-lagrangian-128,paper/beam-augmented-128,paper/inference-guard \
    --n "$n" "$@"
answer paper/speculative-rejection --n "$n" "$@"
answer paper/args,paper/args-lagrangian,paper/args-cost,args:augmented --n 20 "$@"
python3 "$here/guard_table.py" "$out"
