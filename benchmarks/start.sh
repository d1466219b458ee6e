#!/usr/bin/env bash
# Times the README's first command in a clean copy of HEAD with an empty home folder, then the digits run
# alone: without the jit cache, and with what the first command left in it.
#
#     bash benchmarks/start.sh > benchmarks/results/NAME.txt
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git rev-parse --short HEAD)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git archive HEAD | tar -x -C "$copy"
cd "$copy"
export HOME=$copy/home TIMEFORMAT='%0R s in all'
unset JAX_COMPILATION_CACHE_DIR
mkdir "$HOME"
install_and_run=$(grep -m1 '^python3 -m venv' README.md)

run() {
  echo "--- $1"
  { time bash -c "$1" > log.txt 2>&1; } 2>&1
  grep -E '^(first steps done|last epoch)|; compiled in' log.txt
}

echo "commit $commit, $(nproc) processors, $(date +%F)"
run "$install_and_run"
run ".venv/bin/python -m mgnet_jax.main --workdir=cold --jit_cache="
run ".venv/bin/python -m mgnet_jax.main --workdir=warm"
