#!/usr/bin/env bash
# From a fresh clone to a GPT-2 that writes: installs what is missing, builds, trains, samples.
source "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/quickstart.sh [--text FILE] [--iters N] [--out DIR]

Installs the packages that are missing, builds build/gpt2train, trains a small GPT-2 on bytes of
text inside a memory budget (configs/quickstart.yaml), and lets it write.

  --text FILE   train on this text, plain or gzipped, instead of the Jargon File
  --iters N     iterations, instead of those of configs/quickstart.yaml
  --out DIR     where text, checkpoints and metrics go, instead of build/quickstart;
                new, empty, or left by an earlier quickstart, whose files are replaced
TEXT
}

text=
iters=
out=build/quickstart
while [ $# -gt 0 ]; do
  case $1 in
    --text | --iters | --out)
      [ -n "${2-}" ] || stop "$1 needs a value"
      case $1 in
        --text) text=$(realpath -- "$2") ;;
        --iters) iters=$2 ;;
        --out) out=$(realpath -m -- "$2") ;;
      esac
      shift 2
      ;;
    --text=* | --iters=* | --out=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && stop "unknown option $1" ;;
  esac
done
cd "$root"

[ -z "$text" ] || { [ -f "$text" ] && [ -r "$text" ]; } || stop "$text is not a file that can be read"
[[ $iters =~ ^([1-9][0-9]{0,8})?$ ]] || stop "--iters needs a count, not \"$iters\""
mark=.made-by-quickstart
[ ! -e "$out" ] || [ -f "$out/$mark" ] || { [ -d "$out" ] && [ -z "$(ls -A "$out")" ]; } ||
  stop "$out is in use, and not by an earlier quickstart; give another --out"

say "packages"
if [ -n "$text" ]; then
  scripts/packages.sh build
else
  scripts/packages.sh build text
  text=/usr/share/doc/jargon-text/jargon.txt.gz
fi

say "build"
first=()
[ -f build/CMakeCache.txt ] || first=(-DBUILD_TESTING=OFF -DGPT2TRAIN_BENCHMARKS=OFF)
cmake --preset release "${first[@]}"
cmake --build --preset release --parallel "$cores" --target gpt2train

say "text: $text, nine tenths to train on, one to validate with"
mkdir -p "$out"
touch "$out/$mark"
rm -rf "$out"/step-* "$out"/{metrics.jsonl,metrics.csv,run.html,config.yaml,README.txt} "$out/train.txt" "$out/val.txt"
gzip -dcf -- "$text" >"$out/text"
size=$(stat -c %s "$out/text")
[ "$size" -ge 10000 ] || stop "$text has $size bytes; 10,000 are the least to learn from"
head -c $((size * 9 / 10)) "$out/text" >"$out/train.txt"
tail -c +$((size * 9 / 10 + 1)) "$out/text" >"$out/val.txt"
rm "$out/text"

say "train"
flags=(--out_dir="$out" --data.train="$out/train.txt" --data.val="$out/val.txt")
[ -z "$iters" ] || flags+=(--max_iters="$iters" --lr_decay_iters="$iters"
  --warmup_iters=$((iters / 20)) --eval_interval=$(((iters + 3) / 4)))
build/gpt2train --config configs/quickstart.yaml "${flags[@]}"

say "sample"
build/gpt2train sample --out_dir="$out" --prompt="The hacker" --max_new_tokens=400 --temperature=0.6

say "done"
cat <<TEXT
checkpoints  $(echo "$out"/step-*)
metrics      $out/metrics.jsonl
more text    build/gpt2train sample --out_dir=$out --prompt="Unix is"
the run      $out/run.html, for a browser
TEXT
