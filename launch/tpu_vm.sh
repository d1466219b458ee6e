#!/usr/bin/env bash
# Trains on Cloud TPU VMs, asked for as a queued resource; gcloud does the rest.
#
#   launch/tpu_vm.sh [--dry-run] ACTION --name=NAME --zone=ZONE [OPTION]... [-- FLAG...]
#
#   create   asks for the TPU: --type=v5litepod-16 --version=v2-alpha-tpuv5-lite
#            [--spot] [--slices=N] (several slices: N nodes NAME-0, NAME-1, ...)
#   status   the state of the request; once it is ACTIVE, what runs and who holds the chips
#   setup    copies the commit of this checkout to all workers and installs it there
#   run      starts `python -m mgnet_jax.main FLAG...` on all workers, in the background
#   logs     the end of the newest log of each worker: [--lines=N]
#   stop     SIGTERM to the run: it saves, and `run` with the same flags goes on
#   delete   ends the request and the TPU; gcloud asks first
#
#   --project=PROJECT   else gcloud's own
#   --python=PYTHON     on the workers, for setup (default: python3.11; apt brings it if need be)
#   --dry-run           prints each gcloud command, quoted, and runs none
#
# TPU_NAME, TPU_ZONE, TPU_TYPE, TPU_VERSION and TPU_PROJECT stand for the options that are left out.
# launch/tpu_vm.sh run --name=a --zone=b -- --config=imagenet --workdir=/mnt/shared/run
# shellcheck disable=SC2016  # what stands in '' is for the workers' shells
set -euo pipefail

mistake() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}

actions="create status setup run logs stop delete"
dry=
action=
name=${TPU_NAME:-}
zone=${TPU_ZONE:-}
type=${TPU_TYPE:-}
version=${TPU_VERSION:-}
project=${TPU_PROJECT:-}
python=python3.11
slices=1
lines=50
spot=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    -h | --help)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
      exit
      ;;
    --dry-run) dry=1 ;;
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --python=*) python=${1#*=} ;;
    --slices=*) slices=${1#*=} ;;
    --lines=*) lines=${1#*=} ;;
    --spot) spot=1 ;;
    -*) mistake "$1 is no option of this script: flags of mgnet_jax.main come after --" ;;
    *)
      [ -z "$action" ] || mistake "two actions, '$action' and '$1': give one of: $actions"
      action=$1
      ;;
  esac
  shift
done
[ "${1:-}" != -- ] || shift

case " $actions " in
  *" ${action:-none} "*) ;;
  *) mistake "the action is '$action': give one of: $actions" ;;
esac
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] ||
  mistake "--name='$name': small letters, digits and -, as --name=mgnet (or TPU_NAME)"
[ -n "$zone" ] || mistake "--zone is missing: as --zone=us-west4-a (or TPU_ZONE)"
[[ $slices =~ ^[1-9][0-9]*$ ]] || mistake "--slices='$slices' is no number of slices: 1, 2, 3, ..."
[[ $lines =~ ^[1-9][0-9]*$ ]] || mistake "--lines='$lines' is no number of lines, as --lines=50"
if [ "$action" = create ]; then
  [ -n "$type" ] || mistake "--type is missing: as --type=v5litepod-16 (or TPU_TYPE)"
  [ -n "$version" ] || mistake "--version is missing: as --version=v2-alpha-tpuv5-lite"
fi
if [ "$action" = run ]; then
  [ $# -gt 0 ] || mistake "flags of mgnet_jax.main are missing: run ... -- --config=..."
  workdir=
  for flag in "$@"; do
    case $flag in
      --workdir=?* | -workdir=?*) workdir=$flag ;;
      --distributed* | -distributed*) mistake "$flag: leave it out, TPUs know each other" ;;
    esac
  done
  [ -n "$workdir" ] || mistake "--workdir is missing: a folder that all workers see, as of NFS"
else
  [ $# = 0 ] || mistake "'$1': only the action run takes flags of mgnet_jax.main"
fi
[ -n "$dry" ] || command -v gcloud > /dev/null || mistake "gcloud is not there: install its SDK"

where=("--zone=$zone")
[ -z "$project" ] || where+=("--project=$project")

resources() { # gcloud compute tpus queued-resources ...
  local command=(gcloud compute tpus queued-resources "$@" "${where[@]}")
  if [ -n "$dry" ]; then
    printf '%q ' "${command[@]}" | sed 's/ $//'
    echo
  else
    "${command[@]}"
  fi
}

everywhere() { # runs a script with bash on all workers; the exit code is that of one that failed
  resources ssh "$name" --node=all --worker=all --command="$1"
}

# What the workers run. ~/mgnet_jax: the checkout, .venv, logs/, run.pid
running='cd ~/mgnet_jax 2> /dev/null || { echo "$(hostname): use setup first" >&2; exit 1; }
pid=$(cat run.pid 2> /dev/null || true)
alive() { [ -n "$pid" ] && grep -qs mgnet_jax.main "/proc/$pid/cmdline"; }
'
holders='holders=$(sudo lsof -w /dev/accel* /dev/vfio/* 2> /dev/null || true)
'

case $action in
  create)
    if ((slices == 1)); then
      nodes=("--node-id=$name")
    else
      nodes=("--node-count=$slices" "--node-prefix=$name")
    fi
    [ -z "$spot" ] || nodes+=(--spot)
    resources create "$name" "${nodes[@]}" "--accelerator-type=$type" "--runtime-version=$version"
    ;;
  status)
    if [ -n "$dry" ]; then
      resources describe "$name" '--format=value(state.state)'
      state=ACTIVE
    else
      state=$(resources describe "$name" '--format=value(state.state)')
      echo "$name: $state"
    fi
    [ "$state" != ACTIVE ] || everywhere "$running$holders"'
if alive; then echo "$(hostname): process $pid runs"; else echo "$(hostname): no run"; fi
echo "${holders:-the chips are free}"'
    ;;
  setup)
    here=$(cd "$(dirname "$0")/.." && pwd)
    archive=mgnet_jax.tar.gz
    if [ -z "$dry" ]; then
      folder=$(mktemp -d)
      trap 'rm -rf "$folder"' EXIT
      git -C "$here" archive --output="$folder/$archive" HEAD
      archive=$folder/$archive
    fi
    resources scp "$archive" "$name:mgnet_jax.tar.gz" --node=all --worker=all
    everywhere "set -e
mkdir -p ~/mgnet_jax
tar -xzf ~/mgnet_jax.tar.gz -C ~/mgnet_jax
cd ~/mgnet_jax
if ! $(printf %q "$python") -m venv .venv; then
  sudo apt-get update -q
  sudo apt-get install -qy $(printf %q "$python") $(printf %q "$python-venv")
  $(printf %q "$python") -m venv .venv
fi
.venv/bin/pip install -q -c constraints.txt -e '.[tpu,images]'"
    ;;
  run)
    everywhere "$running$holders"'
if alive; then echo "$(hostname): process $pid runs: use stop first" >&2; exit 1; fi
if [ -n "$holders" ]; then echo "$(hostname): the chips are held by
$holders" >&2; exit 1; fi'
    flags=$(printf ' %q' "$@")
    everywhere "cd ~/mgnet_jax && mkdir -p logs || exit 1
nohup .venv/bin/python -m mgnet_jax.main$flags > logs/\$(date +%Y%m%d-%H%M%S).log 2>&1 < /dev/null &
echo \$! > run.pid"
    ;;
  logs)
    everywhere "lines=$lines; $running$holders"'
log=$(ls -t logs/*.log 2> /dev/null | head -n 1)
if [ -z "$log" ]; then echo "$(hostname): no log yet"; exit; fi
echo "$(hostname): $log"
tail -n "$lines" "$log"
if ! alive && [ -n "$holders" ]; then echo "nothing of ours runs, and the chips are held by
$holders"; fi'
    ;;
  stop)
    everywhere "$running"'
if alive; then kill -TERM "$pid"; echo "$(hostname): process $pid saves and ends"
else echo "$(hostname): no run"; fi'
    ;;
  delete)
    resources delete "$name" --force
    ;;
esac
