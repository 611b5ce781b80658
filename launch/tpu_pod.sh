#!/usr/bin/env bash
# Train on a Cloud TPU slice, from one host to a whole pod.
#
#   export TPU_NAME=mqmha ZONE=us-west4-a ACCELERATOR=v5litepod-64
#   launch/tpu_pod.sh create                     # get the slice (SPOT=1: cheap, may be taken away)
#   launch/tpu_pod.sh setup                      # copy the committed files, make the environment, on every host;
#                                                # runs and data below the checkout stay
#   launch/tpu_pod.sh run CONFIG --workdir W [section.option=value ...]      # start; the connection may end
#   launch/tpu_pod.sh log                        # follow the output of host WORKER (default 0)
#   launch/tpu_pod.sh stop                       # save and end; the same `run` resumes
#   launch/tpu_pod.sh resume CONFIG --workdir W  # after the slice was taken away: delete, create, setup, run
#   launch/tpu_pod.sh delete
#
# --dry-run before the command prints what would be executed.
#
# Prerequisites: gcloud, logged in, with a project in which the TPU API is enabled and quota exists; git; an ssh key
# that gcloud may use. Optional variables: RUNTIME (software version of the TPU's hosts; the default fits ACCELERATOR),
# NFS=host:/share (a Filestore share, mounted at /mnt/mqmha on every host; W belongs there, as all hosts must see it).
#
# On every host the training is the systemd unit `mqmha`. It outlives the ssh connection, and systemd starts it again
# when it fails (also when a peer is lost). On `stop` and on shutdown it gets SIGTERM and three minutes to save.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "tpu_pod.sh: $1" >&2
  exit 2
}

# The hosts get the text of these two functions and run it.
# shellcheck disable=SC2329
setup_host() ( # NFS share or nothing
  set -eu
  mkdir -p mqmha_jax
  # Only files that an earlier setup copied are removed: runs and data may lie beside them.
  if [ -f mqmha_jax/.copied ]; then (cd mqmha_jax && grep -v '/$' .copied | tr '\n' '\0' | xargs -0 rm -f --); fi
  tar -xzf mqmha_jax.tar.gz -C mqmha_jax
  tar -tzf mqmha_jax.tar.gz >mqmha_jax/.copied
  # jax asks for huge pages on v5e and later: the TPU runtime starts and ends faster.
  echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null
  # The hosts' own Python is 3.10; uv brings 3.11.
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  export UV_PYTHON_PREFERENCE=only-managed
  ~/.local/bin/uv python install --quiet 3.11
  "$(~/.local/bin/uv python find 3.11)" mqmha_jax/launch/environment.py --extras tpu
  if [ -n "${1-}" ]; then
    sudo apt-get install --quiet --yes nfs-common
    sudo mkdir -p /mnt/mqmha
    mountpoint -q /mnt/mqmha || sudo mount -t nfs "$1" /mnt/mqmha
  fi
)

# shellcheck disable=SC2329
start_on_host() { # arguments of mqmha train
  # 143 is an orderly stop. A process that is back before the others notice its loss fails a few times: hence 20
  # attempts, but no more, so that a mistake does not repeat for ever.
  cd ~/mqmha_jax && sudo systemd-run --unit=mqmha --collect --uid="$(id -u)" --gid="$(id -g)" \
    --working-directory="$PWD" --property=Restart=on-failure --property=RestartSec=30 \
    --property=StartLimitIntervalSec=3600 --property=StartLimitBurst=20 --property=SuccessExitStatus=143 \
    --property=KillMode=mixed --property=TimeoutStopSec=180 \
    "$PWD/.venv/bin/mqmha" train --multi-process "$@"
}

dry_run=
if [[ "${1-}" == --dry-run ]]; then
  dry_run=1
  shift
fi
task=${1-}
(($# == 0)) || shift

call() {
  if [[ $dry_run ]]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

tpu() { call gcloud compute tpus tpu-vm "$1" "$TPU_NAME" --zone="$ZONE" "${@:2}"; }

on_hosts() { tpu ssh --worker="$1" --command="$2"; } # which, command

call_on_hosts() { # function, arguments
  local arguments
  printf -v arguments ' %q' "${@:2}"
  on_hosts all "$(declare -f "$1")
$1$arguments"
}

create() {
  local runtime=${RUNTIME-}
  case "${ACCELERATOR-}" in
    '') fail "set ACCELERATOR, for example: export ACCELERATOR=v5litepod-64" ;;
    v4-*) runtime=${runtime:-tpu-ubuntu2204-base} ;;
    v5litepod-*) runtime=${runtime:-v2-alpha-tpuv5-lite} ;;
    v5p-*) runtime=${runtime:-v2-alpha-tpuv5} ;;
    v6e-*) runtime=${runtime:-v2-alpha-tpuv6e} ;;
  esac
  [[ $runtime ]] || fail "no software version is known for ACCELERATOR=$ACCELERATOR (known: v4-*, v5litepod-*, v5p-*, \
v6e-*); set RUNTIME to one that this lists: gcloud compute tpus versions list --zone=$ZONE"
  tpu create --accelerator-type="$ACCELERATOR" --version="$runtime" ${SPOT:+--spot}
}

setup() {
  local folder
  if [[ $(git -C "$root" status --porcelain) ]]; then
    echo "tpu_pod.sh: this tree has uncommitted changes, which are not copied" >&2
  fi
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  call git -C "$root" archive --format=tar.gz --output="$folder/mqmha_jax.tar.gz" HEAD
  call gcloud compute tpus tpu-vm scp "$folder/mqmha_jax.tar.gz" "$TPU_NAME:" --zone="$ZONE" --worker=all
  call_on_hosts setup_host "${NFS-}"
}

[[ "$task" =~ ^(create|setup|run|log|stop|resume|delete)$ ]] ||
  fail "unknown command '$task'; valid: create, setup, run, log, stop, resume, delete"
for name in TPU_NAME ZONE; do
  [[ ${!name-} ]] || fail "set $name, for example: export TPU_NAME=mqmha ZONE=us-west4-a"
done
if [[ "$task" == run || "$task" == resume ]]; then
  (($#)) || fail "which CONFIG? For example: launch/tpu_pod.sh $task configs/laptop.py --workdir /mnt/mqmha/runs/a"
fi

case "$task" in
  create | setup) "$task" ;;
  run) call_on_hosts start_on_host "$@" ;;
  log) on_hosts "${WORKER:-0}" 'sudo journalctl --unit=mqmha --lines=200 --follow' ;;
  stop) on_hosts all 'sudo systemctl stop mqmha' ;;
  resume)
    tpu delete --quiet || echo "tpu_pod.sh: nothing to delete" >&2
    create
    setup
    call_on_hosts start_on_host "$@"
    ;;
  delete) tpu delete ;;
esac
