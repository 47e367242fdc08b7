#!/bin/sh
# The scorers that are shipped over SmolLM2's file: what they say without it, and that they can be
# served where cluster/models.sh has fetched it. Usage: test_smollm2_models.sh SOURCE_DIRECTORY SUREFOOT
set -eu
models=$1/models
surefoot=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for kind in cost reward; do
    mkdir "$work/$kind"
    cp "$models/smollm2-$kind"/* "$work/$kind"
    code=0
    "$surefoot" models check "$work/$kind" --timeout-ms 900000 >"$work/log" 2>&1 || code=$?
    if [ "$code" -ne 2 ] ||
        ! grep -q "Q4_1.gguf is not there: sh cluster/models.sh smollm2 fetches it" "$work/log"; then
        echo "exit code $code, expected 2 and what fetches the base:" >&2
        cat "$work/log" >&2
        exit 1
    fi
done

base=$models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
if [ ! -e "$base" ]; then
    echo "skipped: $base is not there (sh cluster/models.sh smollm2)"
    exit 77
fi
for kind in cost reward; do
    "$surefoot" models check "$models/smollm2-$kind" --policy "$base" --timeout-ms 900000
done
