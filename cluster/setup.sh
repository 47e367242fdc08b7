#!/bin/sh
# Installs the Debian 12 packages that Surefoot builds and runs with. Safe to run again: it asks apt
# for nothing that is already installed. Runs as root, or through sudo. Arguments are further packages.
set -eu

packages="build-essential cmake ninja-build pkg-config
    libopenmpi-dev openmpi-bin libzmq3-dev libprotobuf-c-dev protobuf-c-compiler
    libsqlite3-dev libpcre2-dev libjansson-dev libutf8proc-dev libcmocka-dev procps $*"

missing=""
for package in $packages; do
    state=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
    [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "setup.sh: run as root, or install sudo" >&2; exit 1; }
    as_root="sudo"
fi
echo "setup.sh: installing$missing"
$as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
# shellcheck disable=SC2086 # the list is words on purpose
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
