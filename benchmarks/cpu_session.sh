#!/usr/bin/env bash
# Measures every row of docs/performance.md that a CPU can, in one pass of about half an hour, and resumes.
#
#     bash benchmarks/cpu_session.sh RESULTS SPEECH RUN
#
# SPEECH is the folder of real_speech.py, RUN a trained work directory. RESULTS gets a log of each stage, the lines of
# benchmarks/results that the stage added (*.jsonl), and a mark when it is done. PYTHON is the interpreter with this
# package, TORCH_PYTHON one with torch, click, soundfile and kaldi-native-fbank (default: the same). Where a stage
# compares training steps or poolings, this checkout takes part twice: how much two copies differ is the noise. A stage
# that fails is named at the end, with its log in RESULTS, and does not stop the others; the exit status is then 1.
# Leave the machine alone meanwhile.
set -uo pipefail

if [ $# -ne 3 ] || [ ! -d "$2/lists" ] || [ ! -f "$3/config.json" ]; then
    echo "usage: bash benchmarks/cpu_session.sh RESULTS SPEECH RUN; SPEECH holds lists/, RUN holds config.json" >&2
    exit 2
fi

results=$(mkdir -p "$1" && cd "$1" && pwd) || exit
speech=$(cd "$2" && pwd) || exit
run=$(cd "$3" && pwd) || exit
end=$((SECONDS + 7200))
source "$(dirname "$0")/session_stages.sh"
mapfile -t recordings < <(find "$speech/audio" -path '*libri10*' -type f | sort | head -n 2)

step() { # NAME OPTIONS...
    local name=$1
    shift
    stage "step_$name" 900 "$python" benchmarks/train_step.py "${torch[@]}" --threads 2 --beside . --restarts 3 "$@"
}

step laptop --config laptop --batch-sizes 96 --classes 1881 --rounds 4 --steps 4
step demo --config demo --frames 150 --batch-sizes 64 --classes 200 --rounds 4 --steps 4
step resnet34 --batch-sizes 16 --rounds 3 --steps 1
stage pooling 300 "$python" benchmarks/pooling.py "${torch[@]}" --frames 25 --frames 38 --beside . \
    --restarts 5 --rounds 2
stage head 600 "$python" benchmarks/head.py race "${torch[@]}" --classes 17982 --classes 200000
stage fbank 600 "$python" benchmarks/fbank.py "$speech/audio" --minutes 4 --peer-python "${torch[1]}" --without torchaudio
stage scoring 600 "$python" benchmarks/scoring.py
stage startup 600 "$python" benchmarks/startup.py measure "$run" "${recordings[@]}" --rounds 3 --no-counts
stage shards 900 "$python" benchmarks/preparation.py throughput "$speech/audio" "$results/preparation" --minutes 30 --passes 1
stage reading 300 "$python" benchmarks/preparation.py reading "$results/preparation"
stage batch_sizes 300 "$python" benchmarks/batch_sizes.py resnet34 campplus tdnn ecapa512
stage embedding_resnet34 900 "$python" benchmarks/embedding_speed.py resnet34 "$speech/audio" --files 100 --rounds 3 "${torch[@]}"
stage embedding_campplus 900 "$python" benchmarks/embedding_speed.py campplus "$speech/audio" --files 100 --rounds 3
end_session
