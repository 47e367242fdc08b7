#!/bin/sh
# Which models cluster/local/demo.sh serves: SmolLM2 where models.sh has it, the tiny ones where no
# registry gives it, none where anything else fails. The script runs in a tree of stubs, so nothing is
# fetched, built or served. Usage: test_demo_sh.sh SOURCE_DIRECTORY
set -eu
source=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

stub() { # PATH BODY
    mkdir -p "$(dirname "$tree/$1")"
    printf '#!/bin/sh\n%s\n' "$2" >"$tree/$1"
    chmod +x "$tree/$1"
}

mkdir -p "$tree/cluster/local"
cp "$source/cluster/local/demo.sh" "$tree/cluster/local"
stub cluster/setup.sh 'echo "setup.sh $*" >>"$CALLS"'
stub cluster/models.sh 'echo "models.sh $*" >>"$CALLS"; exit "$FETCHED"'
stub bin/cmake 'echo "cmake $*" >>"$CALLS"'
stub build/bin/surefoot 'echo "surefoot $*" >>"$CALLS"; [ "$1" != compare ] || exit "$COMPARED"'

failed() {
    echo "$1; called, and said:" >&2
    cat "$tree/calls" "$tree/log" >&2
    exit 1
}

# demo FETCHED COMPARED WANTED FLAGS...: with these exit codes of models.sh and compare, demo's is WANTED.
demo() {
    fetched=$1
    compared=$2
    wanted=$3
    shift 3
    code=0
    CALLS="$tree/calls" FETCHED=$fetched COMPARED=$compared PATH="$tree/bin:$PATH" \
        sh "$tree/cluster/local/demo.sh" "$@" >"$tree/log" 2>&1 || code=$?
    [ "$code" -eq "$wanted" ] || failed "exit code $code, expected $wanted"
}
called() { grep -q -- "$1" "$tree/calls" || failed "not called: $1"; }
not_called() { ! grep -q -- "$1" "$tree/calls" || failed "called: $1"; }
begin() { : >"$tree/calls"; }

begin
demo 0 0 0 --limit 3
called "models.sh smollm2"
called "surefoot up .*--policy models/smollm2/.*gguf --cost harm=models/smollm2-cost --reward quality=models/smollm2-reward"
called "surefoot compare .*models/smollm2-prompts.jsonl .*--limit 3"

begin
demo 3 0 0 --show-unsafe
not_called "--policy"
called "surefoot up"
called "surefoot compare .*models/demo/prompts.jsonl .*--show-unsafe"
grep -q "tiny shipped models instead" "$tree/log" || failed "the fall back is not said"

for code in 1 2; do
    begin
    demo "$code" 0 "$code"
    not_called "surefoot"
    not_called "cmake"
done

begin
demo 0 3 3 # some prompts failed
