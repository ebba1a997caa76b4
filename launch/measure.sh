#!/usr/bin/env bash
# Measures gaxn on this machine's GPU, then trains the rows of stacked MNIST while time is left.
#
#     launch/measure.sh FOLDER [MINUTES]
#     launch/measure.sh /tmp/measured --tiny      the smallest forms on a CPU: shows that it works
#
# Needs gaxn[cuda,benchmarks], and MNIST in $GAXN_DATA or a download. FOLDER gets a JSON file per
# benchmark, to be copied to benchmarks/results, and the runs. Each row of stacked MNIST has an equal
# part of MINUTES (by default 60); the same command goes on where they stopped.
set -euo pipefail
if (($# < 1 || $# > 2)) || ! [[ ${2:-60} =~ ^([1-9][0-9]*|--tiny)$ ]]; then
    echo "launch/measure.sh: the arguments must be FOLDER and a number of minutes or --tiny, got '$*'" >&2
    exit 2
fi
folder=$(realpath -m "$1") minutes=${2:-60} device=gpu
tiny=() rows=(quarter+dcgan quarter+pacdcgan2 half+dcgan half+pacdcgan2 r3gan)
if [[ $minutes == --tiny ]]; then
    minutes=10 device=cpu rows=(quarter+dcgan+tiny)
    tiny=(--tiny --rounds 1 --seconds 0.1 --rows "DCGAN, MNIST" --sides eager)
fi
mkdir -p "$folder"
cd "$(dirname "$0")/.."

python -m benchmarks.race --device "$device" --json "$folder/race_$device.json" "${tiny[@]}"
# What the order of sums costs: the same numbers at every start.
XLA_FLAGS="--xla_gpu_deterministic_ops=true ${XLA_FLAGS:-}" python -m benchmarks.race \
    --device "$device" "${tiny[@]}" --sides gaxn --json "$folder/race_${device}_deterministic.json"

for row in "${rows[@]}"; do
    # SIGTERM at the end of its time: the run saves, and timeout ends with status 124.
    timeout --signal=TERM "$((minutes * 60 / ${#rows[@]}))" \
        python -m gaxn.main --config "configs/stacked_mnist.py:$row" \
        --workdir "$folder/stacked_mnist/$row" || (($? == 124))
done
