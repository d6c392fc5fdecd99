#!/usr/bin/env bash
# What `cmake --install` puts where, and that a program builds against it and runs.
# Usage: install_test.sh BUILD_DIR GENERATOR COMPILER
set -u
build=$1 generator=$2 compiler=$3
source=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
prefix=$dir/prefix
failures=0

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

cmake --install "$build" --prefix "$prefix" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }

# ---- the program -------------------------------------------------------------------------------
"$prefix/bin/gpt2train" --version | grep -q '[0-9]\.[0-9]' || fail "the installed program does not run"
zcat "$prefix/share/man/man1/gpt2train.1.gz" | head -n 1 | grep -q '^\.TH GPT2TRAIN 1' || fail "no manual page"
for page in share/bash-completion/completions/gpt2train share/fish/vendor_completions.d/gpt2train.fish \
  share/zsh/site-functions/_gpt2train; do
  grep -q 'gpt2train' "$prefix/$page" || fail "no $page"
done
bash -n "$prefix/share/bash-completion/completions/gpt2train" || fail "the completions are no bash"
"$prefix/bin/gpt2train" plan --config "$prefix/share/gpt2train/configs/train_openwebtext.yaml" --device=rtx3060 |
  grep -q '^budget 11.22 GiB' || fail "no plan of an installed config"
[ -f "$prefix/share/doc/gpt2train/LICENSE" ] || fail "no licence"

# ---- the library -------------------------------------------------------------------------------
found=$(grep -rlE "$source|$build" "$prefix"/lib*/cmake) && fail "names this machine's folders: $found"
cmake -S "$prefix/share/gpt2train/examples" -B "$dir/build" -G "$generator" -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$prefix" >"$dir/log" 2>&1 || fail "configuring: $(cat "$dir/log")"
cmake --build "$dir/build" --target train_callbacks >"$dir/log" 2>&1 || fail "building: $(cat "$dir/log")"
"$dir/build/train_callbacks" "$source/examples/tiny.yaml" 0 max_iters=2 out_dir="$dir/out" \
  data.{train,val}="$source/README.md" | grep -q '^not low enough after 2 steps$' || fail "the example does not train"

exit $((failures > 0))
