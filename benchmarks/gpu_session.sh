#!/usr/bin/env bash
# Measures everything that needs a GPU, in at most nine minutes, and resumes where an earlier call stopped.
#
#     bash benchmarks/gpu_session.sh RESULTS [SECONDS]
#     SIZE=small JAX_PLATFORMS=cpu bash benchmarks/gpu_session.sh RESULTS     # tries the script itself on a CPU
#
# RESULTS gets a log of each stage, the lines of benchmarks/results that the stage added (*.jsonl), and a mark when it is
# done. PYTHON is the interpreter with this package, TORCH_PYTHON one with torch (default: the same). A stage that fails
# or runs out of time is named at the end and does not stop the others; the exit status is then 1.
set -uo pipefail

results=$(mkdir -p "$1" && cd "$1" && pwd) || exit
end=$((SECONDS + ${2:-520}))
source "$(dirname "$0")/session_stages.sh"

step() { # NAME SECONDS ENCODER BATCHES OPTIONS...
    local name=$1 limit=$2 encoder=$3 batches=$4
    shift 4
    stage "$name" "$limit" "$python" benchmarks/train_step.py "${torch[@]}" --encoder "$encoder" \
        --batch-sizes "$batches" --dtype bfloat16 "$@"
}

if [ "${SIZE:-full}" = small ]; then
    tiny=(--frames 24 --bins 16 --classes 20 --rounds 1 --steps 1)
    stage convolutions 200 "$python" benchmarks/gpu_convolutions.py --encoder ecapa512 --rows 2
    stage equality 200 "$python" benchmarks/train_step.py "${torch[@]}" --check --classes 20 --frames 64 --bins 16 --batch-sizes 2
    step resnet34 200 resnet34 2 "${tiny[@]}"
else
    measured=(--rounds 3 --steps 20)
    stage devices 60 "$python" -c 'import jax; print(jax.devices()); assert jax.default_backend() == "gpu"'
    stage equality 120 "$python" benchmarks/train_step.py "${torch[@]}" --check --classes 500
    stage convolutions 90 "$python" benchmarks/gpu_convolutions.py --encoder ecapa512 --encoder campplus --rows 64
    step resnet34 150 resnet34 64,256,1024 --compile default "${measured[@]}"
    step ecapa512 60 ecapa512 64,1024 "${measured[@]}"
    step campplus 90 campplus 64,256 "${measured[@]}"
    stage pooling 60 "$python" benchmarks/pooling.py "${torch[@]}" --compile
    stage head 60 "$python" benchmarks/head.py race "${torch[@]}" --classes 17982 --classes 200000
    step resnet293 150 resnet293 64,256 "${measured[@]}"
fi

end_session
