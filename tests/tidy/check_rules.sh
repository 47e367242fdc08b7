#!/bin/sh
# Exact rules of the code base that a grep can decide: who may include what, and what may not stand
# anywhere. Prints each violation as file:line and fails when there is one.
set -u
cd "$1" || exit 2
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT

sources() { # files of ours under the given folders
    for folder in "$@"; do
        [ -d "$folder" ] && find "$folder" -name '*.[ch]' -o -name '*.cu' 2>/dev/null
    done
    return 0
}

# forbid RULE PATTERN FILE... : PATTERN must match in none of the files
forbid() {
    rule=$1
    pattern=$2
    shift 2
    grep -nE "$pattern" /dev/null "$@" | sed "s|^|$rule: |" >>"$failures"
}

all=$(sources common proto cluster worker coordinator client tests benchmarks)
product=$(sources common proto cluster worker coordinator client)
except() { # the list on stdin without files that match the pattern
    grep -vE "$1"
}

forbid "parent includes" '#include "\.\./' $all
forbid "zmq.h only in proto/channel.c" '#include <zmq' $(echo "$product" | except '^proto/channel\.c$')
forbid "sqlite3.h only in coordinator/store.c" '#include <sqlite3' $(echo "$product" | except '^coordinator/store\.c$')
forbid "mpi.h only in cluster/comm" '#include <mpi' $(echo "$product" | except '^cluster/comm/')
forbid "CUDA only in worker/backend/cuda" '#include <(cuda|cublas|nccl)' $(echo "$product" | except '^(worker/backend/cuda|cluster/comm)/')
forbid "common includes only itself" '#include "(proto|worker|coordinator|client|cluster)/' $(sources common)
forbid "proto includes only common" '#include "(worker|coordinator|client|cluster)/' $(sources proto)
forbid "coordinator includes no worker" '#include "(worker|client|cluster)/' $(sources coordinator)
forbid "worker includes no coordinator" '#include "(coordinator|client)/' $(sources worker)
forbid "client includes neither" '#include "(coordinator|worker|cluster)/' $(sources client)
forbid "exit only in main.c and the assertion handler" '[^_a-z](exit|abort)\(|_exit\(([^1]|1[^2])' \
    $(echo "$product" | except '(/main\.c|common/status\.c)$' | except '^cluster/comm/')
forbid "unbounded string functions" '[^a-z_](strcpy|strcat|sprintf|gets|alloca|atoi|atof|strtok)\(' $product
forbid "struct typedefs" '^typedef (struct|enum|union) [a-z_]* *\{' $all
forbid "leftovers" '(TODO|FIXME|HACK)' $all
forbid "tests include no .c file" '#include ".*\.c"' $(sources tests)
forbid "sleeps in tests" '[^a-z_](sleep|usleep|nanosleep)\(' $(sources tests)

if [ -s "$failures" ]; then
    cat "$failures"
    exit 1
fi
