#!/usr/bin/env bash
# Check and measure a GPU with one command, in under 8 minutes: a description, all figures as JSON, then the tests.
# A failure does not stop the rest; the exit status reports it.
#
#     benchmarks/gpu.sh FOLDER            # PYTHON=… for another interpreter than python
set -uo pipefail

mkdir -p "${1:?give a folder for the results}" || exit
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
