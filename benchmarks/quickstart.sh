#!/usr/bin/env bash
# The quickstart as a new user runs it, with its time and peak memory, kept under benchmarks/results with date, machine
# and versions. Needs an environment with the package installed, GNU time, and an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/benchmarks/results/$(date +%F)-quickstart.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo "date: $(date +%F)  commit: $(git rev-parse --short HEAD)"
    echo "machine: $(nproc) cores, $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo), $(awk '/MemTotal/ {printf "%d GiB", $2 / 2^20}' /proc/meminfo)"
    python -m tso.cli doctor
    echo "command: python -m tso.train"
    /usr/bin/time -f "elapsed %E, peak memory %M KiB" python -m tso.train run.output_dir="$work/run" "$@" 2>&1 | sed "s#$work/run#runs/quickstart#g"
} | tee "$out"
