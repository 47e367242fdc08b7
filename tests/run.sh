#!/bin/sh
# Installs what the build needs, builds, and runs every test.
#   sh tests/run.sh                release build, all tests
#   sh tests/run.sh asan-ubsan     the same under address and undefined-behaviour sanitizers
#   sh tests/run.sh tsan           the same under the thread sanitizer
# What cannot run here (no GPU, no data) is reported as skipped. Further arguments go to ctest.
set -eu
cd "$(dirname "$0")/.."

preset=release
case "${1:-}" in
release | debug | asan-ubsan | tsan)
    preset=$1
    shift
    ;;
esac

sh cluster/setup.sh
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"

build=build
[ "$preset" = release ] || build=build/$preset

# Ranks of one machine, as root and with more ranks than cores.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Third-party libraries keep a few one-time allocations; tests/support/lsan.supp names them.
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"
export TSAN_OPTIONS="suppressions=$PWD/tests/support/tsan.supp:halt_on_error=1"
exec ctest --test-dir "$build" --output-on-failure -j 2 "$@"
