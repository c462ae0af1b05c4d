#!/usr/bin/env bash
# The whole check of a GPU in one command, in under 8 minutes: what there is, the tests, then all figures as JSON.
#
#     benchmarks/gpu.sh FOLDER            # PYTHON=… for another than the python on the path
set -euo pipefail

mkdir -p "${1:?say in which folder to put the results}"
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
fastmf() { "${PYTHON:-python}" -m fastmf "$@"; }

fastmf doctor --json | tee "$folder/doctor.json"
"${PYTHON:-python}" -m pytest -q -m gpu -p no:cacheprovider | tee "$folder/tests.txt"
fastmf bench --dataset ml-20m --device cpu --device cuda --solver als --solver als-cg --solver sgd --solver sgd-hogwild \
    --overwrite -o "$folder/k32.json"
fastmf bench --dataset ml-20m --device cuda --solver als --solver als-cg --k 128 --epochs 5 \
    --overwrite -o "$folder/k128.json"
"${PYTHON:-python}" benchmarks/topn.py --device cpu --device cuda --overwrite -o "$folder/topn.json"
