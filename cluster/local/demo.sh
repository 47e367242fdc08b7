#!/bin/sh
# Surefoot in one command on one machine: installs what the build needs, builds, starts a coordinator
# and a group of 2 ranks with the shipped models, answers a handful of prompts with plain sampling,
# best-of-n and InferenceGuard side by side, prints reward, cost, outcome and time, and stops everything.
#   sh cluster/local/demo.sh              the first 12 shipped prompts
#   sh cluster/local/demo.sh --limit 40   flags go to `surefoot compare`
# Answers that are over budget are hidden; --show-unsafe shows them.
set -eu
cd "$(dirname "$0")/../.."

sh cluster/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release --target surefoot surefoot-coordinator surefoot-worker

# Short, because sockets stand in it; mktemp makes it for this user alone.
state=$(mktemp -d /tmp/surefoot-demo-XXXXXX)
surefoot=build/bin/surefoot

stop() {
    code=$?
    trap - EXIT INT TERM
    if [ -e "$state/state.json" ]; then
        "$surefoot" down --dir "$state" || code=1
    fi
    rm -rf "$state"
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$surefoot" up --dir "$state" --groups 1 --ranks 2
"$surefoot" status --dir "$state"
echo
"$surefoot" compare models/demo/prompts.jsonl --dir "$state" --limit 12 --n 16 --seed 1 "$@"
echo
