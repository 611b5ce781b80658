#!/usr/bin/env bash
# Train with several processes on this one machine: one per GPU, or CPU processes to try what a cluster does.
#
#   launch/local_processes.sh [--processes N] [--restarts R] [--grace S] [--dry-run] \
#       CONFIG --workdir W [section.option=value ...]
#
#   --processes N  number of processes (default 2); process i drives GPU i
#   --restarts R   after a failure, start all of them again, at most R times (default 0); they resume from the checkpoint
#   --grace S      seconds between asking a process to end and killing it (default 120)
#   --dry-run      print the commands, start nothing
#
# Prerequisites: bash 4.4, an environment made by launch/environment.py. The variable MQMHA names another program than
# .venv/bin/mqmha. One process can use every GPU of a machine and needs no script, only `mqmha train`.
#
# The script passes SIGTERM and Ctrl-C on to every process; they save and end with 143 (130 after Ctrl-C). When a process
# fails, it ends the others. Its status is that of the first process that failed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mqmha=${MQMHA:-$root/.venv/bin/mqmha}
processes=2 restarts=0 grace=120 dry_run=

fail() {
  echo "local_processes.sh: $1" >&2
  exit 2
}

number() { # option, value
  [[ "$2" =~ ^(0|[1-9][0-9]*)$ ]] || fail "$1 takes a whole number, not '$2'"
}

while (($#)); do
  case "$1" in
    --processes | --restarts | --grace)
      number "$1" "${2-}"
      printf -v "${1#--}" %s "$2" # the variable of the option's name
      shift 2
      ;;
    --dry-run)
      dry_run=1
      shift
      ;;
    --*) fail "unknown option $1; --processes N, --restarts R, --grace S and --dry-run stand before CONFIG" ;;
    *) break ;;
  esac
done
(($#)) || fail "which CONFIG? For example: launch/local_processes.sh configs/laptop.py --workdir runs/a"
((processes)) || fail "--processes takes at least 1"
command -v "$mqmha" >/dev/null || fail "$mqmha is not there; make environment makes it, or set MQMHA"

free_port() { # below the range from which Linux takes ports for outgoing connections
  local port
  while
    port=$((RANDOM % 10000 + 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null
  do :; done
  echo "$port"
}

pids=() status=0 deadline='' stopped=''

signal_all() {
  for pid in "${pids[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
}

collect() { # removes processes that have ended from pids, notes the first bad status
  local running=() code
  for pid in "${pids[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      running+=("$pid")
      continue
    fi
    code=0
    wait "$pid" || code=$?
    ((status)) || status=$code
  done
  pids=("${running[@]}")
}

run_all() {
  local port rank command
  port=$(free_port)
  pids=() status=0 deadline=''
  for ((rank = 0; rank < processes; rank++)); do
    # jax reads JAX_LOCAL_DEVICE_IDS itself; without it, jax chooses another device inside a Slurm step.
    command=(env "JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" "JAX_NUM_PROCESSES=$processes" "JAX_PROCESS_ID=$rank"
      "JAX_LOCAL_DEVICE_IDS=$rank" "$mqmha" train --multi-process "$@")
    if [[ $dry_run ]]; then
      printf '%q ' "${command[@]}"
      echo
    else
      "${command[@]}" &
      pids+=($!)
    fi
  done
  while ((${#pids[@]})); do
    # Polling, because an interrupted `wait` looks like a process that ended with the same status.
    sleep 0.2 || true
    collect
    if [[ $deadline ]]; then
      ((SECONDS < deadline)) || signal_all KILL
    elif [[ $stopped ]] || ((status)); then
      signal_all TERM
      deadline=$((SECONDS + grace))
    fi
  done
}

trap 'stopped=1' TERM INT HUP # the loop of run_all acts on it, once all processes run
for ((attempt = 1; ; attempt++)); do
  run_all "$@"
  if ((status == 0 || attempt > restarts)) || [[ $stopped ]]; then exit "$status"; fi
  echo "local_processes.sh: a process ended with status $status; restart $attempt of $restarts" >&2
done
