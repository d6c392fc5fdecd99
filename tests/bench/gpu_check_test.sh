#!/usr/bin/env bash
# bench/gpu_check.sh where there is no GPU: its words, its exit codes, and what it makes of programs
# that do right or wrong.
# Usage: gpu_check_test.sh PROGRAM
set -u
bin=$(dirname "$1")
script=$(dirname "$0")/../../bench/gpu_check.sh
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

# expect CODE PATTERN COMMAND...: the exit code, and a line of output that matches.
expect() {
  local code=$1 pattern=$2 got
  shift 2
  "$@" >"$dir/output.txt" 2>&1
  got=$?
  if [ "$got" != "$code" ] || ! grep -Eq -- "$pattern" "$dir/output.txt"; then
    echo "FAIL: exit $got instead of $code, or no /$pattern/: $*"
    cat "$dir/output.txt"
    failures=$((failures + 1))
  fi
}

# claims PREDICTED: a program that says it ran out, recovered, and took 5 bytes.
claims() {
  mkdir -p "$dir/$1"
  cat >"$dir/$1/gpt2train" <<SH
#!/usr/bin/env bash
for word; do case \$word in --out_dir=*) out=\${word#*=} ;; esac; done
mkdir -p "\$out"
cat >"\$out/metrics.jsonl" <<JSON
{"event": "out_of_memory"}
{"event": "step"}
{"event": "step"}
{"event": "end", "micro_batch": 8, "accumulation": 2, "predicted_peak_bytes": $1, "peak_bytes": 5, "predicted_reserved_bytes": 7, "reserved_bytes": 7}
JSON
SH
  chmod +x "$dir/$1/gpt2train"
}

check() {
  "$script" --results "$dir/results" --threads 1 "$@"
}
export CUDA_VISIBLE_DEVICES=-1
expect 77 'there is no GPU here' check
expect 1 'there is no GPU here' env GPT2TRAIN_REQUIRE_GPU=1 "$script"
expect 0 '2 passed, 0 failed' check --device cpu --bin "$bin" --only verify
expect 0 'going on with micro-batch 8 x accumulation 2' check --device cpu --bin "$bin" --only out_of_memory
claims 5
expect 0 '1 passed, 0 failed' check --device cpu --bin "$dir/5" --only out_of_memory
claims 6
expect 1 'peak_bytes: predicted 6, measured 5' check --device cpu --bin "$dir/6" --only out_of_memory
expect 1 'no time was left' check --device cpu --bin "$bin" --only verify --budget 0

[ $failures = 0 ] && echo "all as expected"
exit $((failures > 0))
