#!/usr/bin/env bash
# The kernels' tests and their table, on a machine with a GPU that has torch, triton, transformers and pytest, and no
# network: nothing is installed there, the package runs from the checkout.
#
#     benchmarks/kernels_gpu.sh [wheels] [options of benchmarks/kernels.py]
#
# wheels is a folder with whatever else is to take part, fetched beforehand for the machine's Python, for instance by
#     pip download --no-deps -d wheels liger-kernel cut-cross-entropy trl hypothesis sortedcontainers
# Peers that are neither there nor carried are left out of the table by name.
set -euo pipefail
cd "$(dirname "$0")/.."

python - <<'CHECK' || exit 1
import sys
import torch
if not torch.cuda.is_available():
    sys.exit("this machine has no GPU that torch sees; run python benchmarks/kernels.py for the table of a CPU")
print(torch.cuda.get_device_name(), "torch", torch.__version__)
CHECK

wheels=
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then wheels=$1; shift; fi
extra=$(mktemp -d)
trap 'rm -rf "$extra"' EXIT
if [ -n "$wheels" ]; then
    ls "$wheels"/*.whl > /dev/null || { echo "no wheels in $wheels"; exit 1; }
    for wheel in "$wheels"/*.whl; do python -m zipfile -e "$wheel" "$extra"; done
fi
export PYTHONPATH="$PWD/kernels:$extra${PYTHONPATH:+:$PYTHONPATH}"

# Correctness first: a table of a kernel that is wrong is worth nothing.
python -m pytest -q -p no:cacheprovider tests/kernels/test_kernels_triton.py tests/kernels/test_kernels_linear.py \
    tests/kernels/test_kernels_properties.py
python benchmarks/kernels.py --shapes gpu "$@"
