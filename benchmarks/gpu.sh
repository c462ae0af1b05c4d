#!/usr/bin/env bash
# The whole check of a GPU in one command, meant to take under 8 minutes: what there is, all figures as JSON, then the
# tests. What fails does not keep the rest from being measured; the exit status tells of it.
#
#     benchmarks/gpu.sh FOLDER            # PYTHON=… for another than the python on the path
set -uo pipefail

mkdir -p "${1:?say in which folder to put the results}" || exit
folder=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-python} status=0
fastmf() { "$python" -m fastmf "$@" || status=1; }

fastmf doctor --json > "$folder/doctor.json"
cat "$folder/doctor.json"
fastmf synth "$folder/ml-20m-twin.parquet" --like ml-20m --overwrite
fastmf bench --dataset "$folder/ml-20m-twin.parquet" --device cuda --device cpu --solver als --solver sgd-hogwild \
    --overwrite -o "$folder/k32.json"
fastmf bench --dataset "$folder/ml-20m-twin.parquet" --device cuda --solver als-cg --solver sgd --epochs 5 \
    --overwrite -o "$folder/k32-others.json"
fastmf bench --dataset "$folder/ml-20m-twin.parquet" --device cuda --solver als --k 128 --epochs 5 \
    --overwrite -o "$folder/k128.json"
"$python" benchmarks/topn.py --device cuda --overwrite -o "$folder/topn.json" || status=1
"$python" -m pytest -q -m gpu -p no:cacheprovider > "$folder/tests.txt" 2>&1 || status=1
tail -n 20 "$folder/tests.txt"
rm -f "$folder/ml-20m-twin.parquet"
exit "$status"
