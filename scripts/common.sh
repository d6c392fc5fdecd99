# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: strict mode, the checkout's root, cores and CMake's generator.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CMAKE_GENERATOR=${CMAKE_GENERATOR:-Ninja}

# Cores that may be used: what a container's quota grants, not what the machine has.
cores=$(nproc)
if [ -r /sys/fs/cgroup/cpu.max ]; then
  read -r quota period </sys/fs/cgroup/cpu.max
  if [ "$quota" != max ] && [ $((quota / period)) -lt "$cores" ]; then
    cores=$((quota < period ? 1 : quota / period))
  fi
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$cores}

say() {
  printf '\n== %s\n' "$*"
}

stop() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}
