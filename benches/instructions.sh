#!/usr/bin/env bash
# Counts the instructions of a request, which no other program on the machine can change. Needs valgrind.
#
# Under valgrind SHA-256 is computed without the processor's own instructions for it, which it hides: each block of 64
# bytes costs some 3,400 instructions here, and a few nanoseconds in truth. Compare versions with each other, not cases.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly WARM=1000 COUNT=3000
program=$(cargo bench --bench instructions --no-run --message-format=json |
    sed -nE 's/.*"name":"instructions".*"executable":"([^"]+)".*/\1/p')

count() { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 | sed -nE 's/.*Collected : ([0-9]+).*/\1/p'; }

for case in bare no-op no-key first replay; do
    echo "$case $((($(count "$case" "$COUNT") - $(count "$case" "$WARM")) / (COUNT - WARM)))"
done
