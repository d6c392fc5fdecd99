#!/usr/bin/env bash
# The program as its users meet it: exit codes, one-line errors, nothing written over, signals, resume.
# Usage: cli_test.sh PROGRAM
set -u
program=$1
tests=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export GPT2TRAIN_CACHE_DIR=$dir/cache  # what is measured here is of no use to anyone
failures=0

fail() {
  echo "FAIL: $*"
  failures=$((failures + 1))
}

# expect CODE PATTERN -- COMMAND...: the exit code, and one line on stderr that matches.
expect() {
  local code=$1 pattern=$2
  shift 3
  "$@" >out.txt 2>err.txt
  local got=$?
  [ "$got" = "$code" ] || fail "exit $got instead of $code: $* ($(head -n 1 err.txt))"
  grep -Eq -- "$pattern" err.txt || fail "no /$pattern/ in: $(head -n 3 err.txt) ($*)"
  [ "$(wc -l <err.txt)" -le 1 ] || fail "more than one line of error: $*"
}

# await PROCESS COMMAND...: until the command succeeds, or the process has ended.
await() {
  local process=$1
  shift
  until "$@" 2>/dev/null || ! kill -0 "$process" 2>/dev/null; do sleep 0.01; done
}

# documented SECTION FILE: each key of the JSON in FILE is in that section of docs/json.md, or before the sections.
documented() {
  local page key
  page=$(sed -n "1,/^## /p; /^## $1\$/,/^## /p" "$tests/../docs/json.md")
  grep -q '"[a-z]' "$2" || fail "$2 has no JSON of $1"
  for key in $(sed 's/"settings":{[^}]*}/"settings":{}/' "$2" | grep -o '"[a-z0-9_]*": *' | tr -d '": ' | sort -u); do
    [[ $page == *"\`$key\`"* ]] || fail "docs/json.md does not have $key of $1"
  done
}

# A corpus of bytes that repeats, and a run of seconds on it.
yes 'to be, or not to be: that is the question. ' | head -n 400 | tr -d '\n' >train.txt
head -c 4000 train.txt >val.txt
cat >tiny.yaml <<'YAML'
out_dir: out
seed: 7
device: cpu
dtype: float32
model:
  n_layer: 2
  n_head: 2
  n_embd: 32
  block_size: 32
  vocab_size: 256
  bias: true
data:
  train: train.txt
  val: val.txt
training:
  batch_size: 4
  gradient_accumulation_steps: 2
  max_iters: 20
evaluation:
  eval_interval: 10
  eval_iters: 2
optimizer:
  learning_rate: 0.003
  min_lr: 0.0003
  warmup_iters: 2
  lr_decay_iters: 20
YAML
run() { "$program" --config tiny.yaml "$@"; }
start() { exec "$program" --config tiny.yaml "$@"; }  # with &: then $! is the program itself

# ---- the main job ------------------------------------------------------------------------------
run --sample_tokens=40 --tensorboard=true >log.txt 2>&1 || fail "training: $(tail -n 2 log.txt)"
grep -q '"event":"eval","step":20.*"sample":"[^"]' out/metrics.jsonl || fail "no sample at the last evaluation"
[ "$(grep -c '^---------------$' log.txt)" = 6 ] || fail "not three samples on the screen: $(cat log.txt)"
grep -q 'step 20: train loss' log.txt || fail "no evaluation at the end"
[ -d out/step-00000020 ] || fail "no checkpoint of the end"
[ "$(grep -c '"event":"step"' out/metrics.jsonl)" = 20 ] || fail "metrics.jsonl has not 20 steps"
head -n 1 out/metrics.jsonl | grep -q '^{"event":"start".*"settings":{"out_dir":"out"' || fail "metrics.jsonl has no start: $(head -n 1 out/metrics.jsonl)"
[ "$(grep -c '"event":"step".*"peak_by_category":{' out/metrics.jsonl)" = 1 ] || fail "a peak that stays is told again"
[ "$(wc -l <out/metrics.csv)" = 22 ] || fail "metrics.csv has not 20 steps, the last evaluation and a header"
awk -F, 'NF != 13 { exit 1 }' out/metrics.csv || fail "metrics.csv has rows of different lengths"
grep -q '^10,[0-9].*,[0-9.]*,[0-9.]*$' out/metrics.csv || fail "metrics.csv has no evaluation in the row of its step"
grep -q '^step-NNNNNNNN' out/README.txt || fail "no README.txt"
"$program" config --config out/config.yaml | diff out/config.yaml - || fail "config.yaml loads to something else"
tail -n 1 out/run.html | grep -q '^</html>$' || fail "run.html has no end"
grep -q '"state":"done"' out/run.html || fail "run.html does not say that the run is done"
predicted=$(sed -n 's/.*"event":"end".*"predicted_peak_bytes":\([0-9]*\).*/\1/p' out/metrics.jsonl)
measured=$(sed -n 's/.*"event":"end".*[^_]"peak_bytes":\([0-9]*\).*/\1/p' out/metrics.jsonl)
[ -n "$predicted" ] && [ "$predicted" = "$measured" ] || fail "predicted $predicted, measured $measured"
# Resident memory is what the ledger reserved within 5 %, and 36 MiB and 8 MiB a thread (README).
if ! grep -q __asan_init "$program"; then
  end_of() { sed -n "s/.*\"event\":\"end\".*\"$1\":\([0-9]*\).*/\1/p" out/metrics.jsonl; }
  threads=${OMP_NUM_THREADS:-$(nproc)}
  most=$(($(end_of reserved_bytes) * 105 / 100 + (36 + 8 * threads) * 1048576))
  [ "$(end_of resident_bytes)" -le "$most" ] || fail "resident $(end_of resident_bytes), expected $most at most"
fi
documented metrics.jsonl out/metrics.jsonl
[ "$(tr -d -c '\033\r' <log.txt | wc -c)" = 0 ] || fail "a log has what only a terminal understands"
"$program" sample --out_dir=out --prompt='to be' --max_new_tokens=20 >sample.txt 2>&1 || fail "sample: $(cat sample.txt)"
grep -q 'to be' sample.txt || fail "the sample does not begin with its prompt"
five() { "$program" sample --out_dir=out --max_new_tokens=40 --num_samples=5 "$@"; }
texts() { five --prompt='to be' "$@"; }
texts >sample.txt || fail "sample of five"
[ "$(grep -c '^---------------$' sample.txt)" = 4 ] || fail "not five samples"
texts --batch=3 | diff - sample.txt >/dev/null || fail "samples that are written together are others"
texts --recompute | diff - sample.txt >/dev/null || fail "samples without a cache are others"
texts --seed=1 | diff - sample.txt >/dev/null && fail "another seed writes the same"
printf 'to be' | five --prompt=- | diff - sample.txt >/dev/null || fail "sample --prompt=-"
printf 'to be' >prompt.txt
five --start=FILE:prompt.txt | diff - sample.txt >/dev/null || fail "sample --prompt=FILE:"
texts --batch=2 --json >sample.txt || fail "sample --json"
[ "$(grep -c '^{"event":"sample","sample":[0-4],"prompt":"to be","text":' sample.txt)" = 5 ] || fail "sample --json: $(head -n 1 sample.txt)"
documented sample sample.txt
end_of_sample() { sed -n "s/^{\"event\":\"end\".*\"$1\":\([0-9]*\).*/\1/p" sample.txt; }
[ -n "$(end_of_sample peak_bytes)" ] && [ "$(end_of_sample peak_bytes)" = "$(end_of_sample predicted_peak_bytes)" ] ||
  fail "sample --json: memory is not as predicted: $(tail -n 1 sample.txt)"
expect 4 'out of memory: .*fewer samples at once fit this budget: --batch=[1-9]' -- \
  "$program" sample --out_dir=out --num_samples=2000 --batch=2000 --memory.limit=4MiB
expect 4 'smallest memory.limit that works here is [0-9]' -- "$program" sample --out_dir=out --memory.limit=100KiB
expect 2 'stop_at_eot.*no token' -- "$program" sample --out_dir=out --stop_at_eot
expect 2 'cannot read nothing.txt' -- "$program" sample --out_dir=out --prompt=FILE:nothing.txt
"$program" eval --out_dir=out --json >eval.json || fail "eval"
[ "$(sed -n 's/^    "tokens": \([0-9]*\),/\1/p' eval.json)" = 3999 ] || fail "eval does not predict each byte once: $(cat eval.json)"
documented eval eval.json
of_eval() { sed -n "s/^  \"$1\": \([0-9]*\).*/\1/p" eval.json; }
[ -n "$(of_eval peak_bytes)" ] && [ "$(of_eval peak_bytes)" = "$(of_eval predicted_peak_bytes)" ] ||
  fail "eval: memory is not as predicted: $(cat eval.json)"
"$program" eval --out_dir=out --data=train.txt --stride=8 --batch=64 | grep -q '^loss [0-9.]*, perplexity .* every 8,' || fail "eval --stride"
words() { printf '%b' "$(printf '\\x%02x\\x%02x' $(for word; do echo $((word % 256)) $((word / 256)); done))"; }
{ words 55434 308 1 0 1 0 26 0; head -c 1008 /dev/zero; words 65535 26 0 1 2 2 116 111 2 32 98 1 35; } >questions.bin
"$program" eval --out_dir=out --hellaswag=questions.bin --json | grep -q '"examples": 1' || fail "eval --hellaswag"
head -c 1030 questions.bin >torn.bin
expect 3 'torn.bin: byte 1030: the file ends' -- "$program" eval --out_dir=out --hellaswag=torn.bin
mkdir -p bytes && echo '{"kind": "bytes", "vocab_size": 256}' >bytes/meta.json
echo '{"ctx": "to", "endings": ["be", "#"], "label": 0}' >questions.jsonl
"$program" eval --out_dir=out --vocab=bytes --data=val.txt --hellaswag=questions.jsonl --json >vocab.json || fail "eval --vocab"
[ "$(grep '"loss"' vocab.json)" = "$(grep '"loss"' eval.json)" ] || fail "bytes by a vocabulary have another loss"
documented eval vocab.json
grep -q '"examples": 1' vocab.json || fail "eval reads no questions from JSON lines"
expect 2 'name the model.s vocabulary' -- "$program" eval --out_dir=out --hellaswag=questions.jsonl
[ "$(five --prompt=be)" = "$(five --prompt=be --vocab=bytes)" ] || fail "bytes by a vocabulary are another text"
expect 4 'smallest memory.limit that works here' -- "$program" eval --out_dir=out --limit=100KiB
expect 2 'stride' -- "$program" eval --out_dir=out --stride=33
"$program" verify >/dev/null 2>&1 || fail "verify"
"$program" verify --dtype=bf16 --gelu=tanh --json >out.txt || fail "verify --json"
grep -q '"pass": true' out.txt || fail "verify --json does not pass"
documented verify out.txt
"$program" devices | grep -q 'threads' || fail "devices"
"$program" devices --json >out.txt || fail "devices --json"
documented devices out.txt
"$program" devices --catalogue | grep -q '^rtx3060  *11.69  *11.22 ' || fail "devices --catalogue"
"$program" devices --catalogue --json >out.txt || fail "devices --catalogue --json"
grep -q '"memory_bytes": 12552041922' out.txt || fail "devices --catalogue --json has no RTX 3060"
documented devices out.txt

# ---- plan --as nanogpt -------------------------------------------------------------------------
expect 4 "logits \\(65536, 50304\\) bf16 needs 6.14 GiB in nanoGPT's evaluation; in use 6.78 GiB" -- \
  "$program" plan --as nanogpt-compiled --batch_size=64 --memory.limit=9.5GiB --device=cpu
expect 4 'largest batch_size' -- \
  "$program" plan --as nanogpt-compiled --batch_size=64 --memory.limit=9.5GiB --device=cpu --json
documented 'plan --as' out.txt
for key in max_batch_size live_bytes_at_failure failing_tensor failing_phase requested_bytes; do
  grep -q "^  \"$key\": [^n]" out.txt || fail "plan --as --json has no $key"
done
"$program" plan --config tiny.yaml --as nanogpt --memory.limit=4GiB --json >out.txt || fail "plan --as nanogpt"
grep -q '^  "failing_tensor": null' out.txt || fail "a batch that fits has a failing tensor"
expect 2 'command line' -- "$program" plan --as llm.c

# ---- cards by name -----------------------------------------------------------------------------
card() { "$program" plan --config tiny.yaml --device=cpu --memory.device="$@" | head -n 1; }
[ "$(card rtx3060)" = 'budget 11.22 GiB' ] || fail "an RTX 3060 has 11.69 GiB, of which 480 MiB are no run's: $(card rtx3060)"
[ "$(card rtx3060 --memory.limit=100%)" = 'budget 11.69 GiB' ] || fail "a share is not of the whole card"
expect 2 'memory.device: "rtx3o60" is not one of rtx3060, .*did you mean rtx3060' -- run --memory.device=rtx3o60
[ "$("$program" plan --config tiny.yaml --device=rtx3060 | head -n 1)" = 'budget 11.22 GiB' ] || fail "a card as the device"
expect 5 'cuda' -- run --out_dir=new --device=rtx3060
expect 2 'device: expected one of auto.cpu.cuda, or a card .*did you mean rtx3060' -- run --out_dir=new --device=rtx3o60
printf 'mine: {memory: 8GiB}\n' >devices.yaml
GPT2TRAIN_DEVICES=devices.yaml expect 2 'devices.yaml:1:7: mine: has no ' -- "$program" devices --catalogue

# ---- reproduce ---------------------------------------------------------------------------------
source_root=$(cd "$(dirname "$0")/../.." && pwd)
"$program" reproduce --write=documents || fail "reproduce --write"
diff -r documents "$source_root/configs/documents" ||
  fail "configs/documents is not what gpt2train reproduce --write=configs/documents writes"
"$program" reproduce --markdown >page.txt || fail "reproduce --markdown"
grep '^|' "$source_root/docs/reproduce.md" | diff page.txt - ||
  fail "the table of docs/reproduce.md is not what gpt2train reproduce --markdown prints"
"$program" reproduce --json >out.txt || fail "reproduce --json"
documented reproduce out.txt
grep -A12 '"id": "B",' out.txt | tr -d ' \n' | grep -q \
  '"fits":false,"failing_tensor":"logits","failing_shape":"(65536,50304)","failing_phase":"evaluation","requested_bytes":6593445888' ||
  fail "scenario B does not fail at its logits: $(grep -A12 '"id": "B",' out.txt)"

"$program" profile --config tiny.yaml --steps=1 | grep -q '^matmul .*%$' || fail "profile"
"$program" profile --config tiny.yaml --steps=1 --json >out.txt || fail "profile --json"
documented profile out.txt
printf "import os\nn_layer = 2 * 3\ncompile = False\ndataset = 'shakespeare'\n" >tiny.py
"$program" config --config tiny.py --n_head=6 >tiny_py.yaml || fail "config of a Python file"
grep -q '^# ignored: tiny.py:3: compile' tiny_py.yaml || fail "config does not say what it passes over"
grep -q '  n_layer: 6' tiny_py.yaml || fail "config loses a setting of a Python file"
"$program" config --config tiny_py.yaml | diff - <(grep -v '^#' tiny_py.yaml) || fail "the YAML of config loads to something else"
printf 'n_layer = 2\nn_head = six\n' >bad.py
expect 2 'bad.py:2:10: nothing is known of six' -- "$program" --config bad.py
for config in "$source_root"/configs/train_gpt2_*_12gb.yaml; do
  "$program" plan --config "$config" --device=cuda --memory.device=rtx3060 >out.txt || fail "$config does not fit"
done
"$program" plan --config tiny.yaml --explain | grep -q '^rule of thumb' || fail "plan --explain"
large=(--n_embd=256 --block_size=256 --batch_size=32 --memory.limit=64MiB)
"$program" plan --config tiny.yaml "${large[@]}" --explain | grep -q '^\* the smallest that fits: --batch_size=' ||
  fail "plan --explain finds no change"
"$program" plan --config tiny.yaml "${large[@]}" --explain --json >out.txt
grep -q '"smallest_change": "--batch_size=' out.txt || fail "plan --explain --json"
documented plan out.txt
expect 4 'out of memory' -- "$program" plan --config tiny.yaml "${large[@]}" --memory.plan=off
"$program" --help | grep -q -- '--batch_size' || fail "--help names no settings"
for fact in 'gpt2train [0-9.]*' 'built by: ' 'CPU kernels: for ' 'CUDA: ' 'unpacks: '; do
  "$program" --version | grep -q "^$fact" || fail "--version does not say $fact"
done

# ---- what shells and man read ------------------------------------------------------------------
"$program" manual >gpt2train.1 || fail "manual"
grep -q '^\.B \\-\\-batch_size' gpt2train.1 || fail "the manual has no settings"
if command -v groff >/dev/null; then
  groff -man -Tutf8 -ww -z gpt2train.1 2>&1 | grep . && fail "groff warns of the manual"
fi
"$program" completion bash >completion.bash || fail "completion bash"
completed() {
  bash -c 'source ./completion.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _gpt2train; echo ${COMPREPLY[@]}' - "$@"
}
[ "$(completed gpt2train pro)" = profile ] || fail "bash completes no command"
[ "$(completed gpt2train plan --expl)" = --explain ] || fail "bash completes no option"
[ "$(completed gpt2train --dtype = bf)" = bfloat16 ] || fail "bash completes no value"
"$program" completion zsh | head -n 1 | grep -q '^#compdef gpt2train' || fail "completion zsh"
"$program" completion fish | grep -q "seen_subcommand_from plan' -l explain" || fail "completion fish"
expect 2 'tcsh' -- "$program" completion tcsh

# ---- nothing is written over -------------------------------------------------------------------
expect 3 'holds checkpoints up to iteration 20' -- run
before=$(md5sum <out/metrics.jsonl)
expect 3 'holds checkpoints' -- run --max_iters=5
[ "$before" = "$(md5sum <out/metrics.jsonl)" ] || fail "metrics.jsonl of another run was touched"
expect 3 'expected shape|another model|checkpoint' -- run --init_from=resume --n_embd=64
expect 3 'seed' -- run --init_from=resume --seed=8
run --init_from=resume --max_iters=24 >log.txt 2>&1 || fail "resume: $(tail -n 1 log.txt)"
grep -q '^\[19,19,' out/run.html && grep -q '^\[23,23,' out/run.html || fail "run.html of a resumed run lacks steps"

# ---- weights out and in ------------------------------------------------------------------------
"$program" export --format=hf --out=exported --out_dir=out >out.txt || fail "export --format=hf"
grep -q '^exported/model.safetensors, [0-9]* bytes' out.txt || fail "export does not say what it wrote"
"$program" export --format=nanogpt --out=exported --out_dir=out >out.txt || fail "export --format=nanogpt"
expect 2 'ckpt.pt is there already' -- "$program" export --format=nanogpt --out=exported --out_dir=out
expect 2 'llm.c computes GELU by tanh' -- "$program" export --format=llmc --out=refused --out_dir=out
expect 3 'no whole checkpoint' -- "$program" export --format=hf --out=refused --out_dir=nowhere
[ ! -e refused ] || fail "a refused export left files behind"
for from in exported exported/ckpt.pt; do
  run --out_dir="in_${from##*/}" --init_from=$from --eval_only=true >in.txt 2>&1 || fail "init_from $from: $(tail -n 1 in.txt)"
  grep -q "^step 0: .*$(sed -n 's/^step 24: .*\(val loss .*\)/\1/p' log.txt)" in.txt || fail "other losses than before export: $(grep '^step' in.txt)"
done
expect 3 'n_embd is 32 in the file and 64 in the settings' -- run --out_dir=wide --init_from=exported --n_embd=64
expect 3 'hf download openai-community/gpt2-xl' -- env HF_HUB_CACHE=none "$program" --config tiny.yaml --out_dir=xl --init_from=gpt2-xl

# ---- configuration -----------------------------------------------------------------------------
expect 2 'unknown.*batch_size|did you mean' -- run --btach_size=3
printf 'model:\n  n_layr: 3\n' >bad.yaml
expect 2 'bad.yaml:2:3: .*n_layr.*n_layer' -- "$program" --config bad.yaml
printf 'model:\n  n_layer: three\n' >bad.yaml
expect 2 'bad.yaml:2:12: .*three' -- "$program" --config bad.yaml
printf 'model:\n  n_layer: 3\n  n_layer: 4\n' >bad.yaml
expect 2 'bad.yaml:3:3: .*twice' -- "$program" --config bad.yaml
printf -- '- 1\n- 2\n' >bad.yaml
expect 2 'bad.yaml' -- "$program" --config bad.yaml
printf 'model: [1, 2\n' >bad.yaml
expect 2 'bad.yaml:[0-9]+:[0-9]+' -- "$program" --config bad.yaml
expect 2 'missing.yaml' -- "$program" --config missing.yaml
expect 2 'directory' -- "$program" --config out
expect 2 'n_head|divi' -- run --out_dir=new --n_head=3
expect 2 'dropout' -- run --out_dir=new --dropout=1.5
expect 2 'float16' -- run --out_dir=new --dtype=float16
expect 2 'memory.offload' -- run --out_dir=new --offload=moments
expect 5 'cuda' -- run --out_dir=new --device=cuda
expect 5 'cuda' -- "$program" verify --device=cuda
expect 2 'cuDNN needs dtype' -- run --out_dir=new --attention=cudnn
expect 5 'cuDNN needs a CUDA device' -- run --out_dir=new --attention=cudnn --dtype=bfloat16
[ ! -e new ] || fail "a refused configuration left files behind"

# ---- data --------------------------------------------------------------------------------------
expect 3 'nothing.bin' -- run --out_dir=new --train=nothing.bin
: >empty.bin
expect 3 'empty' -- run --out_dir=new --train=empty.bin
printf 'abc' >odd.bin
expect 3 'odd.bin.*(odd|bytes)' -- run --out_dir=new --train=odd.bin --format=nanogpt
printf '\001\000\377\377\002\000%0100d' 0 >beyond.bin
expect 3 'beyond.bin: byte 2: .*65535' -- run --out_dir=new --train=beyond.bin --format=nanogpt
{ printf '\210\330\064\001\001\000\000\000\377\000\000\000'; head -c 1012 /dev/zero; head -c 20 /dev/zero; } >lies.bin
expect 3 'lies.bin' -- run --out_dir=new --train=lies.bin --format=llmc
head -c 20 train.txt >short.txt
expect 3 'short.txt|data.train|tokens' -- run --out_dir=new --train=short.txt
[ ! -e new ] || fail "refused data left files behind"
expect 3 'cannot be made|denied|Read-only|Not a directory' -- run --out_dir=train.txt/out

# ---- memory ------------------------------------------------------------------------------------
wide=(--n_embd=128 --block_size=128 --eval_iters=1 --max_iters=1)
expect 4 'smallest memory.limit' -- run --out_dir=new2 --limit=5MiB "${wide[@]}"
limit=$(sed -n 's/.*smallest memory.limit that works here is \([0-9]*\).*/\1/p' err.txt)
rm -rf new2
run --out_dir=new2 --memory.limit="$limit" "${wide[@]}" >log.txt 2>&1 || fail "the budget that was named does not work: $(tail -n 1 log.txt)"
run --out_dir=low --memory.limit=24MiB --memory.plan=off --batch_size=48 --gradient_accumulation_steps=1 \
  --block_size=128 --n_embd=96 --max_iters=2 --memory.trace=low.json >log.txt 2>&1 || fail "recovery: $(tail -n 1 log.txt)"
grep -q '"event":"out_of_memory"' low/metrics.jsonl || fail "nothing ran out of 24 MiB"

# A trace is whole however the run ends.
for suffix in csv json pickle; do
  run --out_dir=traced_$suffix --max_iters=1 --memory.trace=trace.$suffix >/dev/null 2>&1 || fail "a run with trace.$suffix"
  [ "$(wc -c <trace.$suffix)" -gt 10000 ] || fail "trace.$suffix is too short"
done
# A program's own Python may lack what the system's has.
for python in /usr/bin/python3 python3; do
  "$python" -c 'import jsonschema' 2>/dev/null && break
done
"$python" "$tests/memory/check_trace_events.py" trace.json low.json || [[ $? = 77 || $? = 127 ]] || fail "a trace for Perfetto is not as it should be"
grep -q '"out of memory"' low.json || fail "low.json says nothing of running out"
expect 4 'out of memory' -- run --out_dir=new3 --memory.limit=1MiB --memory.plan=off --memory.trace=trace.html
tail -n 1 trace.html | grep -q '^</html>$' || fail "trace.html of a run without memory has no end"
grep -q 'largest free block' out.txt || fail "no table of memory where it ran out"
expect 2 'memory.trace: .*\.csv, \.json, \.pickle or \.html' -- run --out_dir=new4 --memory.trace=trace.txt
[ ! -e new4 ] || fail "a refused trace left files behind"
# ---- a sweep -----------------------------------------------------------------------------------
bench() { "$program" bench --config tiny.yaml --out_dir=bench --steps=2 --warmup=1 "$@"; }
sweep=(--micro_batch=1,4 --recompute=none,block)
bench "${sweep[@]}" --csv=bench.csv --svg=bench.svg >bench.txt 2>&1 || fail "bench: $(tail -n 1 bench.txt)"
[ "$(grep -c '  =$' bench.txt)" = 4 ] || fail "bench: not four points as predicted: $(cat bench.txt)"
grep -q '^\* float32' bench.txt || fail "bench: nothing is on the front"
[ "$(wc -l <bench/bench.jsonl)" = 4 ] && [ "$(wc -l <bench.csv)" = 5 ] || fail "bench: not four points in its files"
[ "$(grep -c '<title>micro-batch' bench.svg)" = 4 ] || fail "bench: not four points in the plot"
plan_json() { "$program" plan --config tiny.yaml --json "$@" >plan.json || fail "plan --json $*"; }
told() { grep -c "\"tokens_per_second_source\": $1" plan.json; }
plan_json
for bytes in $(sed 's/.*"predicted_peak_bytes":\([0-9]*\).*/\1/' bench/bench.jsonl); do
  grep -q "\"predicted_peak_bytes\": $bytes," plan.json || fail "bench predicts $bytes, plan does not"
done
[ "$(told '"measured"')" = 4 ] && [ "$(told null)" = 0 ] || fail "plan knows not how fast what bench measured is"
grep -q '"tokens_per_second_error": [0-9]' plan.json || fail "plan does not say how far its model is off"
"$program" plan --config tiny.yaml | grep -q '^tokens/s: .* 4 measured points; for a point left out it is off by' || fail "plan has no note on its speeds"
(export GPT2TRAIN_CACHE_DIR=$dir/nothing && plan_json) || fail "plan without a cache"
[ "$(told null)" = "$(told .)" ] || fail "plan has speeds of nothing"
(export GPT2TRAIN_CACHE_DIR=$dir/nothing && plan_json --bench bench/bench.jsonl) || fail "plan --bench"
[ "$(told '"measured"')" = 4 ] || fail "plan --bench does not take the points"
expect 3 'missing.jsonl' -- "$program" plan --config tiny.yaml --bench missing.jsonl
before=$(md5sum <bench/bench.jsonl)
bench "${sweep[@]}" >bench.txt 2>&1 || fail "bench again: $(tail -n 1 bench.txt)"
grep -q '^4 of these points were measured before' bench.txt || fail "bench measured again what it had"
[ "$before" = "$(md5sum <bench/bench.jsonl)" ] || fail "bench wrote what it had"
bench --micro_batch=1 --recompute=none --fresh --json >bench.txt 2>&1 || fail "bench --fresh"
documented bench bench.txt
grep -q '"as_predicted": true' bench.txt || fail "bench --json: $(head -n 3 bench.txt)"
[ "$(wc -l <bench/bench.jsonl)" = 5 ] || fail "bench --fresh measured nothing"
bench --micro_batch=1 --recompute=none --fresh --seconds=0.001 >bench.txt 2>&1 || fail "bench --seconds"
grep -q '^stopped after 0 of 1 points' bench.txt || fail "bench --seconds did not stop"
bench --synthetic --limit=1MiB --train=nothing.bin >bench.txt 2>&1 || fail "bench --synthetic: $(tail -n 1 bench.txt)"
[ "$(grep -c 'does not fit: ' bench.txt)" = 12 ] || fail "bench: what does not fit 1 MiB is not listed"
expect 2 'micro_batch: 3 does not divide the 8 sequences' -- bench --micro_batch=3
expect 2 'recompute: expected one of' -- bench --recompute=all
expect 3 'missing/a.svg' -- bench --svg=missing/a.svg
# A device that refuses what the budget allows: logits of 512 MiB in an address space of 600.
if ! grep -q __asan_init "$program"; then
  (ulimit -v 614400 && OMP_NUM_THREADS=2 bench --synthetic --limit=64GiB --vocab_size=65536 --logits=full \
    --block_size=128 --batch_size=16 --micro_batch=16,1 --recompute=none >bench.txt 2>&1) ||
    fail "bench out of memory: $(tail -n 1 bench.txt)"
  grep -q ' 16  none .*ran out of memory: logits' bench.txt || fail "bench: nothing ran out: $(cat bench.txt)"
  grep -q ' 1  none .*  =$' bench.txt || fail "bench did not go on where it ran out"
fi
(exec "$program" bench --config tiny.yaml --out_dir=cutbench --steps=100 >cutbench.txt 2>&1) &
pid=$!
await $pid test -s cutbench/bench.jsonl
kill -INT $pid
wait $pid || fail "bench after SIGINT: exit $?"
kept=$(wc -l <cutbench/bench.jsonl)
grep -q "^stopped after $kept of 12 points" cutbench.txt || fail "bench after SIGINT: $(tail -n 1 cutbench.txt)"
[ "$(grep -c '  =$' cutbench.txt)" = "$kept" ] || fail "bench after SIGINT shows other points than it kept"

# ---- devices, again and again ------------------------------------------------------------------
"$program" devices --watch=0.1 >watch.txt &
pid=$!
watched() { [ "$(grep -c '^cpu .* in use, .* %' watch.txt)" -ge 3 ]; }
await $pid watched
kill -INT $pid
wait $pid || fail "devices --watch after SIGINT: exit $?"
grep -q "$(printf '\033')" watch.txt && fail "devices --watch commands a terminal that is none"
expect 2 'watch' -- "$program" devices --watch=0

# ---- a tuned run -------------------------------------------------------------------------------
tuned() { (export GPT2TRAIN_CACHE_DIR=$dir/tuned && run --memory.tune=true --max_iters=2 "$@" >tuned.txt 2>&1); }
tuned --out_dir=tuned1 || fail "tune: $(tail -n 1 tuned.txt)"
[ "$(grep -c '^tune: .*: [0-9,]* tokens/s$' tuned.txt)" = 6 ] || fail "tune did not try six plans: $(cat tuned.txt)"
[ "$(wc -l <tuned/bench.jsonl)" = 6 ] || fail "tune does not keep what it measured"
grep -q '^plan: .*(by what was measured)$' tuned.txt || fail "the plan is not by what was measured"
grep -q '"event":"plan".*"tuned":true' tuned1/metrics.jsonl || fail "metrics.jsonl does not say that the plan was tuned"
before=$(md5sum <tuned/bench.jsonl)
first=$(grep '^plan:' tuned.txt)
tuned --out_dir=tuned2 || fail "tune again: $(tail -n 1 tuned.txt)"
[ "$(grep -c '^tune: .*, measured before$' tuned.txt)" = 6 ] || fail "a second start measured again: $(cat tuned.txt)"
[ "$before" = "$(md5sum <tuned/bench.jsonl)" ] && [ "$first" = "$(grep '^plan:' tuned.txt)" ] ||
  fail "a second start chose otherwise"
taken=$(sed -n 's/^plan:  micro-batch \([0-9]*\) .*/\1/p' tuned.txt)
GPT2TRAIN_CACHE_DIR=$dir/tuned "$program" plan --config tiny.yaml --memory.tune=true | grep -q "^\* *$taken  " ||
  fail "plan does not choose as a tuned run does, micro-batch $taken"
expect 2 'memory.tune chooses a plan' -- run --out_dir=tuned3 --memory.tune=true --memory.plan=off
# A trial that the device refuses memory for harms nothing.
if ! grep -q __asan_init "$program"; then
  (ulimit -v 614400 && export OMP_NUM_THREADS=2 && tuned --out_dir=tuned4 --limit=64GiB --vocab_size=65536 \
    --logits=full --block_size=128 --batch_size=16 --gradient_accumulation_steps=1 --recompute=none --eval_micro_batch=1 \
    --eval_iters=1 --max_iters=0) || fail "tune out of memory: $(tail -n 1 tuned.txt)"
  grep -q '^tune:  micro-batch 16, .*ran out of memory at logits' tuned.txt || fail "no trial ran out: $(cat tuned.txt)"
  grep -Eq '^plan:  micro-batch (8|4) .*\(by what was measured\)$' tuned.txt || fail "tune did not go on: $(cat tuned.txt)"
fi
(export GPT2TRAIN_CACHE_DIR=$dir/cuttune && start --out_dir=tuned5 --memory.tune=true --batch_size=64 --n_embd=128 \
  --block_size=128 >cuttune.txt 2>&1) &
pid=$!
await $pid grep -q '^tune:' cuttune.txt
kill -INT $pid
wait $pid || fail "tune after SIGINT: exit $?"
grep -q '^interrupted before the run began' cuttune.txt || fail "tune after SIGINT: $(tail -n 1 cuttune.txt)"
grep -q '"event"' tuned5/metrics.jsonl && fail "a run began after SIGINT"

# ---- signals -----------------------------------------------------------------------------------
run --out_dir=whole --max_iters=60 --eval_interval=30 >/dev/null 2>&1 || fail "uninterrupted run"
start --out_dir=cut --max_iters=60 --eval_interval=30 --memory.trace=cut.html >cut.txt 2>&1 &
pid=$!
await $pid grep -q '"event":"step"' cut/metrics.jsonl
kill -INT $pid
wait $pid || fail "SIGINT: exit $?"
tail -n 1 cut.html | grep -q '^</html>$' || fail "cut.html has no end"
grep -q 'interrupted at iteration' cut.txt || fail "SIGINT did not interrupt: $(tail -n 1 cut.txt)"
run --out_dir=cut --max_iters=60 --eval_interval=30 --init_from=resume >/dev/null 2>&1 || fail "resume after SIGINT"

start --out_dir=killed --max_iters=60 --eval_interval=30 --checkpoint_interval=5 --tensorboard=true --sample_tokens=20 >/dev/null 2>&1 &
pid=$!
await $pid test -d killed/step-00000005
kill -KILL $pid
wait $pid 2>/dev/null
[ -d killed/step-00000060 ] && fail "kill -9 came too late"
run --out_dir=killed --max_iters=60 --eval_interval=30 --checkpoint_interval=5 --init_from=resume --tensorboard=true --sample_tokens=20 >/dev/null 2>&1 ||
  fail "resume after kill -9"
[ "$(ls killed/events.out.tfevents.* | wc -l)" = 2 ] || fail "not a file for TensorBoard at each start"
[ "$(grep -c '^\[\([0-9]*\),\1,' killed/run.html)" = 59 ] || fail "run.html after kill -9 has not each step once"
[ "$(cut -d, -f1 killed/metrics.csv | uniq | wc -l)" = 62 ] && [ "$(wc -l <killed/metrics.csv)" = 62 ] ||
  fail "metrics.csv after kill -9 has not each step once"
for python in /usr/bin/python3 python3; do
  "$python" -c 'import tensorboard' 2>/dev/null && break
done
"$python" "$tests/train/check_tensorboard.py" killed || [[ $? = 77 || $? = 127 ]] || fail "files for TensorBoard are not as metrics.jsonl"
losses() { sed -n 's/.*"event":"step","step":\([0-9]*\),"loss":\([^,]*\),.*/\1 \2/p' "$1/metrics.jsonl" | sort -n -u; }
for dir_name in cut killed; do
  [ "$(losses whole)" = "$(losses $dir_name)" ] || fail "losses of $dir_name are not those of the whole run"
done

# ---- runs beside each other --------------------------------------------------------------------
"$program" compare whole killed/metrics.jsonl --svg=compare.svg >compare.txt || fail "compare"
grep -Eq '^steps +60 +60$' compare.txt || fail "compare: $(cat compare.txt)"
grep -q '^  checkpoint.checkpoint_interval .* 0 .* 5$' compare.txt || fail "compare names no setting that differs: $(cat compare.txt)"
tail -n 1 compare.svg | grep -q '^</svg>$' || fail "compare --svg"
"$program" compare whole --json | grep -q '"best_val_loss": [0-9]' || fail "compare --json"
expect 3 'nowhere/metrics.jsonl|nowhere: cannot be read' -- "$program" compare whole nowhere
expect 2 'RUN' -- "$program" compare

# ---- a torn checkpoint -------------------------------------------------------------------------
newest=$(ls -d killed/step-* | tail -n 1)
printf 'x' | dd of="$newest/model.safetensors" bs=1 seek=900 conv=notrunc 2>/dev/null
run --out_dir=killed --init_from=resume --max_iters=61 >log.txt 2>&1 || fail "resume past a corrupted checkpoint"
grep -q 'skipped .*step-' log.txt || fail "the corrupted checkpoint was not named"

# ---- tokens ------------------------------------------------------------------------------------
"$program" tokenizer train --vocab_size=280 --out=vocab train.txt >/dev/null || fail "tokenizer train"
echo '{"text": "to be <|endoftext|>\ud83d\ude00"}' >text.jsonl
printf '{"hex": "746f206265203c7c656e646f66746578747c3ef09f9880"}\n' >text.hex
"$program" encode --vocab vocab <text.jsonl >ids || fail "encode"
"$program" encode --vocab vocab <text.hex | cmp -s - ids || fail "hex and text encode differently"
"$program" decode --vocab vocab <ids | cmp -s - text.hex || fail "decode does not give the text back"
"$program" encode --vocab vocab --special <text.jsonl | grep -q ', 279,' || fail "--special does not recognise <|endoftext|>"
expect 2 'vocab' -- "$program" encode
expect 3 'nowhere: has no vocab.bpe' -- "$program" encode --vocab nowhere
expect 3 'standard input: line 2: expected .*text' -- "$program" encode --vocab vocab < <(cat text.jsonl ids)
expect 3 'standard input: line 1: "hex" is not' -- "$program" encode --vocab vocab <<<'{"hex": "0g"}'
expect 3 'standard input: line 1: id 280, expected' -- "$program" decode --vocab vocab <<<'{"ids": [280]}'
"$program" tokenize --vocab vocab --out=tokens --delimiter='. ' --val_fraction=0.1 train.txt >out.txt || fail "tokenize"
grep -q 'tokens: .* documents, .* tokens for training' out.txt || fail "tokenize told nothing"
expect 3 'train.bin: is there already' -- "$program" tokenize --vocab vocab --out=tokens train.txt
run --data.train=tokens/train.bin --data.val=tokens/val.bin --vocab_size=280 --max_iters=1 --out_dir=on_tokens >/dev/null 2>&1 ||
  fail "training on what tokenize wrote"
[ -z "$(run --max_iters=1 --out_dir=still --quiet 2>&1)" ] || fail "train --quiet tells something"
[ -d still/step-00000001 ] || fail "train --quiet does nothing"
expect 2 'batch_size' -- run --quiet --batch_size=none
[ -z "$("$program" tokenize -q --tokenizer=char --out=chars --val_tail=0.1 train.txt 2>&1)" ] || fail "tokenize --quiet"
on_terminal() {  # NAME VARIABLE=VALUE: escape sequences of a run whose output is a terminal
  env TERM=xterm NO_COLOR= "$2" script -qec "'$program' tokenize --tokenizer=char --out=$1 train.txt" /dev/null </dev/null | tr -d -c '\033' | wc -c
}
if script -qec true /dev/null </dev/null >/dev/null 2>&1; then  # it is there, and so are terminals
  [ "$(on_terminal drawn A=)" != 0 ] || fail "nothing is drawn on a terminal"
  [ "$(on_terminal plain NO_COLOR=1)" = 0 ] || fail "NO_COLOR is not heeded"
  [ "$(on_terminal dumb TERM=dumb)" = 0 ] || fail "a dumb terminal is drawn on"
fi
grep -q '"kind": "char", "vocab_size": 16' chars/meta.json || fail "meta.json: $(cat chars/meta.json)"
mkdir pickled
! command -v python3 >/dev/null || python3 - <<'PYTHON' || fail "meta.pkl is not nanoGPT's"
import json, pickle
meta, itos = pickle.load(open("chars/meta.pkl", "rb")), json.load(open("chars/meta.json"))["itos"]
assert meta == {"vocab_size": 16, "itos": dict(enumerate(itos)), "stoi": {c: i for i, c in enumerate(itos)}}, meta
pickle.dump(meta, open("pickled/meta.pkl", "wb"))
PYTHON
[ -f pickled/meta.pkl ] || cp chars/meta.pkl pickled
"$program" encode --vocab chars <<<'{"text": "to be"}' >ids && "$program" encode --vocab pickled <<<'{"text": "to be"}' |
  cmp -s - ids || fail "a pickle of Python's gives other tokens"
expect 2 'fetch_vocab' -- "$program" tokenize --out=none train.txt

# nanoGPT's shakespeare and shakespeare_char and llm.c's tinyshakespeare, where the reference data is.
if [ -f "${GPT2TRAIN_GOLDEN_DIR:-}/tinyshakespeare/expected.json" ]; then
  text=$GPT2TRAIN_GOLDEN_DIR/tinyshakespeare/input.txt
  gpt2=$GPT2TRAIN_GOLDEN_DIR/gpt2_bpe
  "$program" tokenize --vocab "$gpt2" --eot none --val_tail 0.1 --out bpe "$text" >/dev/null || fail "tokenize shakespeare"
  "$program" tokenize --tokenizer char --val_tail 0.1 --out char "$text" >/dev/null || fail "tokenize shakespeare_char"
  "$program" tokenize --vocab "$gpt2" --format llmc --delimiter '\n\n' --keep_delimiter --val_tokens 32768 --out llmc \
    "$text" >/dev/null || fail "tokenize tinyshakespeare"
  for file in bpe/train.bin bpe/val.bin char/train.bin char/val.bin llmc/train_000000.bin llmc/val_000000.bin; do
    grep -q "\"$(sha256sum <$file | cut -d' ' -f1)\"" "$GPT2TRAIN_GOLDEN_DIR/tinyshakespeare/expected.json" ||
      fail "$file is not the reference's"
  done
fi

[ $failures = 0 ] && echo "all command-line checks passed"
exit $((failures > 0))
