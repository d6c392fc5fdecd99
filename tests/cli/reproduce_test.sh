#!/usr/bin/env bash
# `gpt2train reproduce --run`: each scenario of the notes is trained for a step, at a scale that a
# CPU has in a second, and does what it does in full.
# Usage: reproduce_test.sh PROGRAM
set -u
program=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
failures=0

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

# values KEY: of that key in run.json, in order, one a line.
values() { sed -n "s/^ *\"$1\": \(.*[^,]\),\{0,1\}$/\1/p" run.json; }
count() { values "$1" | grep -cx -- "$2"; }

"$program" reproduce --run --device=cpu --json >run.json 2>err.txt || fail "exit $?: $(cat err.txt)"
scenarios=$(count reduced_by 16)
[ "$scenarios" = 18 ] || fail "$scenarios scenarios were run at a sixteenth, not 18"
[ "$(count holds true)" = 18 ] || fail "not all of them hold: $(cat err.txt)"
[ "$(count ran true)" = 36 ] || fail "not all of both runs of each ended"
[ "$(count losses_finite true)" = 36 ] || fail "losses are not all finite"
for kind in peak reserved; do
  [ "$(values "measured_${kind}_bytes" | wc -l)" = 36 ] || fail "not every run has its ${kind} bytes"
done
# Above a run, a scenario has a predicted peak as well: of the whole, and of all logits at once.
sed -n '/"run": {/,/^      }/p' run.json >runs.json && mv runs.json run.json
for kind in peak reserved; do
  [ "$(values "predicted_${kind}_bytes")" = "$(values "measured_${kind}_bytes")" ] ||
    fail "predicted and measured ${kind} bytes differ"
done
# B, B2, B3, B4 and B5 die as they do in full, B6 at another tensor; the others fit.
[ "$(values tensor | sort | uniq -c | tr -s ' \n' ' ')" = ' 5 "gelu" 1 "qkv" ' ] ||
  fail "it runs out elsewhere: $(values tensor | tr '\n' ' ')"

[ $failures = 0 ] && echo "all scenarios do as predicted"
exit $((failures > 0))
