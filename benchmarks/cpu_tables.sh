#!/bin/sh
# The tables of docs/results/cpu.md: makes models of random weights, runs every benchmark of the CPU
# engine and leaves one file a table.
#   sh benchmarks/cpu_tables.sh OUT_DIR [BUILD_DIR]
# THREADS (2) and REPEATS (3) may be set in the environment. Models are made below OUT_DIR/models and
# stay there for the next run.
set -eu
if [ $# -lt 1 ]; then
    sed -n '2,6s/^# //p' "$0" >&2
    exit 2
fi
out=$1
bin=${2:-build}/bin
threads=${THREADS:-2}
repeats=${REPEATS:-3}
mkdir -p "$out/models"

model() { # SHAPE DTYPE: the directory, made when it is not there
    directory=$out/models/$1-$2
    if [ ! -d "$directory" ]; then
        "$bin/make_random_model" --shape "$1" --dtype "$2" "$directory.part"
        mv "$directory.part" "$directory"
    fi
    echo "$directory"
}

table() { # NAME COMMAND...: the command's output, on the terminal too
    name=$1
    shift
    echo "== $name"
    { echo "# $*" | sed "s|$bin/||g; s|$out/||g"; "$@"; } | tee "$out/$name.csv"
}

decode() { # NAME SHAPE DTYPE PRECISION KV_DTYPE ARGUMENTS...
    name=$1
    directory=$(model "$2" "$3")
    precision=$4
    kv_dtype=$5
    shift 5
    table "$name" "$bin/bench_decode" --model "$directory" --precision "$precision" \
        --kv-dtype "$kv_dtype" --threads "$threads" --repeats "$repeats" "$@"
}

decode 110m-f32 110m f32 stored f32
decode 110m-bf16 110m bf16 bf16 bf16
decode 110m-int8 110m bf16 int8 int8
decode 110m-int8-bf16-kv 110m bf16 int8 bf16
decode 1.1b-bf16 1.1b bf16 bf16 bf16
decode 1.1b-int8 1.1b bf16 int8 int8
for precision in stored:f32 bf16:bf16 int8:int8; do
    kv_dtype=${precision#*:}
    precision=${precision%:*}
    decode "110m-$precision-prompts" 110m bf16 "$precision" "$kv_dtype" \
        --prompt 16,512,2048 --sequences 64 --new 32
    table "scorers-$precision" "$bin/bench_scorers" --shape 110m --dtype bf16 \
        --precision "$precision" --threads "$threads" --repeats "$repeats"
    table "guard-$precision" "$bin/bench_guard" --dtype bf16 --precision "$precision" \
        --comm local --threads "$threads"
done
