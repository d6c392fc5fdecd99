#!/usr/bin/env bash
# What a compiler does not check: who includes whom, who prints, size, formatting.
# Usage: tests/lint.sh [ROOT]
set -uo pipefail
shopt -s globstar nullglob
cd "${1:-$(dirname "$0")/..}" || exit 1
failures=0

fail() {
  printf 'lint: %s\n' "$@"
  failures=$((failures + 1))
}

# forbid RULE PATTERN FILE...: no line of the files matches.
forbid() {
  local found
  found=$(grep -nP -e "$2" -- "${@:3}" /dev/null)
  case $? in
    0) fail "$1" "$found" ;;
    1) ;;
    *) fail "grep failed on: $1" ;;
  esac
}

# files_but PATTERN: the program's files whose path does not match.
files_but() {
  printf '%s\n' {include,src,kernels}/**/*.{h,cpp,cu,cuh} | grep -vE "$1"
}

# ---- layers -----------------------------------------------------------------------------------

# layer NAME BELOW...: its files include, of the project, only what is their own or below.
layer() {
  local files=({include/gpt2train,src}/"$1"/**/*.{h,cpp}) allowed
  [ "$1" != kernels ] || files=(kernels/**/*.{h,cpp,cu,cuh})
  [ ${#files[@]} -gt 0 ] || fail "layer $1 has no files"
  allowed="(gpt2train|src)/($(IFS='|' && echo "$*"))/"
  [[ " $* " != *" kernels "* ]] || allowed+='|kernels/'
  [ "$1" != kernels ] || allowed+='|tests/emulator/emulator\.h'  # the device, where there is none
  forbid "layer $1 may include of the project only: $*" "^\s*#\s*include\s*\"(?!$allowed)" "${files[@]}"
}

layer core
layer memory core
layer kernels core
layer data core
layer tokenizer core data
layer ops core memory kernels
layer model core memory kernels ops
layer nanogpt core model
layer train core memory kernels ops model data
layer config core memory kernels ops model data train
layer run core memory kernels ops model data tokenizer train config
layer cli core memory kernels ops model nanogpt data tokenizer train config run

mapfile -t files < <(files_but '^(kernels|src/cuda)/')
forbid "a backend's own headers stay in its directory" '#\s*include\s*"kernels/\w+/' "${files[@]}"
mapfile -t files < <(files_but '^src/config/')
forbid "YAML is known to src/config only" '#\s*include\s*[<"]yaml-cpp' "${files[@]}"
forbid "what others include names no library but the standard one" \
  '#\s*include\s*<(?!\w+>)' include/gpt2train/**/*.h kernels/*.h
mapfile -t files < <(files_but '^(kernels|src)/cuda/')
forbid "CUDA is known to kernels/cuda and src/cuda only" \
  '#\s*include\s*[<"](cuda|cublas|cudnn|curand|nvrtc|nvToolsExt)' "${files[@]}"
mapfile -t files < <(printf '%s\n' kernels/cuda/**/*.{h,cu,cuh} | grep -v '/gpu\.h$')
forbid "kernels speak to the device through kernels/cuda/gpu.h only" \
  '\basm\b|__shared__|<<<|__\w+_sync\b|__sync\w+\(|#\s*include\s*<(cooperative_groups|cub|mma|cuda_\w+16)' "${files[@]}"
mapfile -t files < <(files_but '^src/cli/')
forbid "only src/cli prints" \
  '\bstd::(cout|cerr|clog)\b|\b(printf|puts|putchar)\(|\bstd(out|err)\b|fmt::print\("' "${files[@]}"

# ---- form -------------------------------------------------------------------------------------

code=({include,src,kernels,examples,tests,bench}/**/*.{h,cpp,cu,cuh})
text=("${code[@]}" {src,kernels,examples,tests,bench,cmake,configs,scripts}/**/*.{txt,cmake,py,sh,yaml} CMakeLists.txt)
forbid "unfinished work belongs in the issue tracker" '\b(TO[D]O|FIX[M]E|X[X]X)\b' "${text[@]}" ./*.md
for file in "${text[@]}"; do
  lines=$(wc -l <"$file")
  case $file in tests/*) most=900 ;; *) most=450 ;; esac
  [ "$lines" -le $most ] || fail "$file has $lines lines: more than $most are more than one idea"
done
for file in {include,src,kernels,tests}/**/*.{h,cuh}; do
  grep -q '^#pragma once$' "$file" || fail "$file lacks #pragma once"
done

# Two types of one name are undefined behaviour that no compiler reports: it shows where the linker
# takes the one's destructor for the other's.
types=$(awk '
  FNR == 1 { space = ""; own = 0 }
  /^namespace [a-z0-9_:]+ \{/ { space = $2 }
  /^namespace \{/ { own = 1 }
  /^\}  \/\/ namespace$/ { own = 0 }
  !own && space ~ /^gpt2train/ && /^(struct|class|enum class|union) [A-Z][A-Za-z0-9_]*( |$)/ && (/\{/ || !/;$/) {
    print space "::" ($1 == "enum" ? $3 : $2), FILENAME ":" FNR
  }' {include,src,kernels}/**/*.{h,cpp,cu,cuh} | sort)
twice=$(cut -d' ' -f1 <<<"$types" | uniq -d)
[ -z "$twice" ] || fail "types of the same name:" "$(grep -F "$twice" <<<"$types")"

# Other versions format some lines differently.
format=$(command -v clang-format-14 || command -v clang-format)
if [[ $($format --version 2>/dev/null) == *"version 14."* ]]; then
  problems=$("$format" --dry-run -Werror "${code[@]}" 2>&1 | grep -E 'error|warning' | cut -d: -f1 | sort | uniq -c)
  [ -z "$problems" ] || fail "clang-format -i would change (lines, file):" "$problems"
else
  echo "lint: formatting was not checked, for want of clang-format 14"
fi

[ $failures = 0 ] && echo "lint: clean"
exit $((failures > 0))
