#!/bin/sh
# What cluster/models.sh says where python3 has no pip. Usage: test_models_sh.sh SOURCE_DIRECTORY
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
printf '#!/bin/sh\necho "No module named pip" >&2\nexit 1\n' >"$work/bin/python3"
printf '#!/bin/sh\nprintf "install ok installed"\n' >"$work/bin/dpkg-query" # nothing to install
chmod +x "$work/bin/python3" "$work/bin/dpkg-query"
code=0
PATH="$work/bin:$PATH" sh "$1/cluster/models.sh" smollm2 --dir "$work/model" 2>"$work/log" || code=$?
if [ "$code" -ne 1 ] || ! grep -q "python3-pip" "$work/log"; then
    echo "exit code $code, expected 1 and what installs pip:" >&2
    cat "$work/log" >&2
    exit 1
fi
