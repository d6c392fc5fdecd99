#!/usr/bin/env bash
# One command for a machine with a GPU: is this build right there, and how fast is it?
# Builds what is missing, or takes programs that were built elsewhere (--bin DIR), and leaves all
# figures in bench/results. bench/README.md says what it runs; bench/gpu_check.sh --help how.
# Exit status: 0 all passed, 1 something failed, 77 no GPU (1 under GPT2TRAIN_REQUIRE_GPU=1).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

bin=${GPT2TRAIN_BIN:-}
device=cuda
arguments=("$@")
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=${2:-} ;;
    --bin=*) bin=${1#*=} ;;
    --device) device=${2:-} ;;
    --device=*) device=${1#*=} ;;
    --help | -h) exec python3 "$here/gpu_check.py" --help ;;
  esac
  shift
done

if [ "$device" = cuda ]; then
  reason=$(cd "$here" && python3 -c 'import machine; print(machine.why_no_gpu())')
  if [ -n "$reason" ]; then
    echo "gpu_check.sh: there is no GPU here: $reason" >&2
    if [ "${GPT2TRAIN_REQUIRE_GPU:-}" = 1 ]; then exit 1; fi
    exit 77
  fi
  export PATH=$PATH:/usr/local/cuda/bin
fi

if [ -z "$bin" ]; then
  bin=$root/build
  targets=(gpt2train)
  [ "$device" = cpu ] || targets+=(gpt2train_cuda gpu_tests)
  source "$root/scripts/common.sh"
  say "building ${targets[*]} in $bin"
  cmake -S "$root" -B "$bin" -DGPT2TRAIN_GPU_TESTS=ON
  cmake --build "$bin" --parallel "$cores" --target "${targets[@]}"
fi

# What the linker does not find of CUDA, a toolkit has, or Python packages have. A link beside
# carried programs reaches them alone; LD_LIBRARY_PATH would give PyTorch others than its own.
if [ "$device" = cuda ]; then
  packages=$(python3 -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/nvidia
  for library in $(ldd "$bin/libgpt2train_cuda.so" | awk '/not found/ { print $1 }'); do
    for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/lib "$packages"/*/lib; do
      if [ -e "$folder/$library" ]; then
        ln -s "$folder/$library" "$bin/" && break
      fi
    done
  done
fi
export GPT2TRAIN_BIN=$bin
exec python3 "$here/gpu_check.py" "${arguments[@]}"
