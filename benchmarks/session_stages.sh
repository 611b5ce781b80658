# Stages of a session of benchmarks, for `source`: each runs once, within a limit of time, and is resumed as a whole.
#
# Needs $results (an absolute directory) and $end (when $SECONDS must stop). Enters the project and sets $python and $torch.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} BENCHMARK_RESULTS=$results XLA_PYTHON_CLIENT_PREALLOCATE=false
python=${PYTHON:-python3}
torch=(--torch-python "${TORCH_PYTHON:-$(command -v "$python")}")
unfinished=()

# stage NAME SECONDS COMMAND...: skipped when done, cut off when its own or the whole time is over.
stage() {
    local name=$1 limit=$2 left=$((end - SECONDS))
    shift 2
    [ -e "$results/$name.done" ] && return
    if ((left < 15)); then
        unfinished+=("$name")
        return
    fi
    echo "== $name (at most $((limit < left ? limit : left)) s)"
    if timeout "$((limit < left ? limit : left))" "$@" 2>&1 | tee "$results/$name.log"; then
        touch "$results/$name.done"
    else
        unfinished+=("$name")
    fi
}

# Says what is left, and exits with status 1 if anything is.
end_session() {
    if ((${#unfinished[@]})); then
        echo "not done: ${unfinished[*]}; the same command continues with them"
        exit 1
    fi
    echo "all stages are done: $results"
}
