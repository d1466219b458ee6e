#!/usr/bin/env bash
# Trains in N processes on this machine (Linux).
#
#   launch/local.sh [--dry-run] N [FLAG of mgnet_jax.main]...
#   launch/local.sh 2 --config=digits --workdir=runs/two
#
# --dry-run prints the commands, quoted, and starts nothing.
# PYTHON names the interpreter (default: python). With GPUs each process gets an equal share of
# them, of those in CUDA_VISIBLE_DEVICES where it is set; JAX_PLATFORMS=cpu leaves them alone.
#
# SIGTERM (or SIGHUP) and SIGINT go on to all processes. When one fails, the others have GRACE
# seconds (default: 60) to end by themselves; then they get SIGTERM, and after GRACE more SIGKILL.
# Exit code: that of the first that failed (128 + N: by signal N); 143 or 130 when they were
# stopped; 2 for a mistake.
set -euo pipefail

mistake() {
  echo "local.sh: $1" >&2
  exit 2
}

case ${1:-} in
  -h | --help)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit
    ;;
esac
dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
[ $# -gt 0 ] || mistake "the number of processes is missing: launch/local.sh N [FLAG]..."
count=$1
shift
[[ $count =~ ^[1-9][0-9]{0,3}$ ]] ||
  mistake "N='$count' is no number of processes: the first argument is 1, 2, 3, ..."
for flag in "$@"; do
  case $flag in
    --dry-run) mistake "--dry-run comes first: launch/local.sh --dry-run $count ..." ;;
    --distributed* | -distributed*) mistake "$flag is what this script says itself: leave it out" ;;
  esac
done
python=${PYTHON:-python}
command -v "$python" > /dev/null || mistake "PYTHON='$python' is not there: name an interpreter"
grace=${GRACE:-60}
[[ $grace =~ ^[0-9]+$ ]] || mistake "GRACE='$grace' is no whole number of seconds, as 60"

gpus=0
if [ "${JAX_PLATFORMS:-}" != cpu ]; then
  if [ -n "${CUDA_VISIBLE_DEVICES+set}" ]; then
    IFS=, read -ra visible <<< "$CUDA_VISIBLE_DEVICES"
    gpus=${#visible[@]}
    [[ ${visible[0]:-} != -* ]] || gpus=0 # -1: none
  elif command -v nvidia-smi > /dev/null; then
    gpus=$({ nvidia-smi --list-gpus || true; } | grep -c '^GPU ' || true)
  fi
fi
((gpus % count == 0)) ||
  mistake "N=$count processes cannot share $gpus GPUs evenly: use a divisor, or JAX_PLATFORMS=cpu"
share=$((gpus / count))

free_port() { # below the ports that systems give out themselves
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
  done
  echo "$port"
}

if [ -n "$dry" ]; then port=PORT; else port=$(free_port); fi
settings() { # of process $1, in the array `set`
  set=("MGNET_COORDINATOR=localhost:$port" "MGNET_PROCESSES=$count" "MGNET_PROCESS=$1")
  if ((share > 0)); then
    set+=("JAX_LOCAL_DEVICE_IDS=$(seq -s, $(($1 * share)) $((($1 + 1) * share - 1)))")
  fi
}

if [ -n "$dry" ]; then
  for ((i = 0; i < count; i++)); do
    settings "$i"
    printf '%q ' env "${set[@]}" "$python" -m mgnet_jax.main "$@" | sed 's/ $//'
    echo
  done
  exit 0
fi

pids=()
codes=() # of those that have ended, by their index
stopped= # the exit code for that
send() { # signal $1 to all that run
  local i
  for i in "${!pids[@]}"; do
    [ -n "${codes[i]:-}" ] || kill "-$1" "${pids[i]}" 2> /dev/null || true
  done
}
trap 'stopped=143; send TERM' TERM HUP
trap 'stopped=130; send INT' INT

failed=  # the code of the first
ended=   # the code of the first that was stopped
since=   # when the first failed, or the last signal for it
next=TERM
for ((i = 0; i < count; i++)); do
  if [ -n "$stopped" ]; then
    ended=$stopped
    break
  fi
  settings "$i"
  if ((i == 0)); then out=/dev/stdout; else out=/dev/null; fi
  (
    trap - INT # bash has background processes ignore it
    [ "$out" = /dev/stdout ] || exec > "$out"
    exec env "${set[@]}" setsid "$python" -m mgnet_jax.main "$@" < /dev/null
  ) &
  pids+=($!)
done

while ((${#codes[@]} < ${#pids[@]})); do
  for i in "${!pids[@]}"; do
    if [ -n "${codes[i]:-}" ] || kill -0 "${pids[i]}" 2> /dev/null; then continue; fi
    code=0
    wait "${pids[i]}" 2> /dev/null || code=$?
    codes[i]=$code
    case $code in
      0) ;;
      130 | 143) ended=${ended:-$code} ;;
      *)
        [ -n "$failed" ] || echo "local.sh: process $i of $count failed with exit code $code" >&2
        failed=${failed:-$code}
        since=${since:-$SECONDS}
        ;;
    esac
  done
  if [ -n "$since" ] && [ "$next" != none ] && ((SECONDS - since >= grace)); then
    if [ "$next" = TERM ]; then
      send TERM
      next=KILL
    else
      for i in "${!pids[@]}"; do # with its workers
        [ -n "${codes[i]:-}" ] || kill -KILL -- "-${pids[i]}" 2> /dev/null || true
      done
      next=none
    fi
    since=$SECONDS
  fi
  ((${#codes[@]} == ${#pids[@]})) || sleep 0.1 || true
done
exit "${failed:-${ended:-0}}"
