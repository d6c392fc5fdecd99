#!/usr/bin/env bash
# Builds everything and runs every test; then once more under AddressSanitizer and UBSan, and the
# emulated CUDA kernels under ThreadSanitizer.
source "$(dirname "$0")/common.sh"

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [--quick]

Installs the packages that are missing, builds into build/ and runs all tests, then builds into
build-asan/ and runs the tests but the slow ones under AddressSanitizer and UBSan, and into
build-tsan/ to run the emulated CUDA kernels under ThreadSanitizer.

  --quick   no sanitizers
TEXT
}

quick=false
for option; do
  case $option in
    --quick) quick=true ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && stop "unknown option $option" ;;
  esac
done
cd "$root"

say "packages"
scripts/packages.sh build test

summary=
# run_tests PRESET TARGETS CTEST-OPTION...: configures, builds and tests; adds a line to the summary.
run_tests() {
  local preset=$1 began=$SECONDS verdict
  local -a targets
  read -ra targets <<<"$2"
  shift 2
  say "$preset: build"
  cmake --preset "$preset" -DBUILD_TESTING=ON
  if cmake --build --preset "$preset" --parallel "$cores" --target "${targets[@]}"; then
    say "$preset: tests"
    ctest --preset "$preset" --parallel "$cores" "$@" && verdict=passed || verdict=FAILED
  else
    verdict="FAILED to build"
  fi
  summary+="$preset: $verdict ($((SECONDS - began)) s)"$'\n'
}

run_tests release all
if ! $quick; then
  run_tests asan all -LE 'lint|slow'
  run_tests tsan "emulated_tests emulator_tests" -R '^emulat'
fi

say "summary"
printf %s "$summary"
[[ $summary != *FAILED* ]]
