#!/usr/bin/env bash
# Counts the instructions of a fixed piece of deduplication under callgrind and holds the number against the recorded one:
# the same on a busy machine, so that CI can see what a clock there cannot.
#     benchmarks/instructions.sh            # compare; fails where it takes a tenth more
#     benchmarks/instructions.sh --record   # take the number as the new one
# Needs valgrind. Another compiler makes other code: then the numbers are printed and not held against each other.
set -euo pipefail
cd "$(dirname "$0")/.."
record=benchmarks/results/instructions.txt
cargo build --quiet --release -p tso-core --example instructions
out=$(mktemp)
trap 'rm -f "$out"' EXIT
valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/instructions 2> "$out" || { cat "$out"; exit 1; }
count=$(sed -n -E 's/.*I +refs: *([0-9,]+).*/\1/p' "$out" | tr -d ,)
compiler=$(rustc --version)
if [ "${1:-}" = --record ]; then
    printf '%s\n%s\n%s\n' "$count" "$compiler" "$(date +%F), $(uname -m), $(valgrind --version)" > "$record"
    echo "recorded: $count instructions"
    exit
fi
before=$(sed -n 1p "$record")
echo "instructions: $count, recorded: $before ($(sed -n 2p "$record"))"
if [ "$compiler" != "$(sed -n 2p "$record")" ]; then
    echo "not compared: this compiler is $compiler"
elif [ $((count * 10)) -gt $((before * 11)) ]; then
    echo "more than a tenth above what was recorded; find out why, or record the new number with --record"
    exit 1
fi
