#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing. Where none is, it touches no network.
# Usage: scripts/packages.sh [build|test|text]...   (all of them without arguments)
set -euo pipefail

build=(g++ cmake ninja-build pkg-config
  libdnnl-dev ocl-icd-opencl-dev  # oneDNN's CMake files look for OpenCL
  libyaml-cpp-dev libcli11-dev libfmt-dev nlohmann-json3-dev libxxhash-dev zlib1g-dev libzstd-dev)
test=(libgtest-dev libbenchmark-dev python3-jsonschema)
text=(jargon-text)
text_file=/usr/share/doc/jargon-text/jargon.txt.gz

stop() {
  printf 'packages.sh: %s\n' "$@" >&2
  exit 1
}

# Container images tell dpkg to leave documentation out, and the text is documentation.
is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] &&
    { [ "$1" != jargon-text ] || [ -f "$text_file" ]; }
}

find_missing() {
  missing=()
  local package
  for package in "${wanted[@]}"; do
    is_installed "$package" || missing+=("$package")
  done
}

wanted=()
for group in "${@:-all}"; do
  case $group in
    build) wanted+=("${build[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    text) wanted+=("${text[@]}") ;;
    all) wanted+=("${build[@]}" "${test[@]}" "${text[@]}") ;;
    *) stop "no group \"$group\"; there are build, test and text" ;;
  esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  stop "this is not Debian or Ubuntu; please install what these packages hold:" "  ${wanted[*]}"
fi
find_missing
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo)
  # Without a terminal, sudo cannot ask for a password.
  if ! command -v sudo >/dev/null || ! { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    stop "these packages are missing, and installing them needs root or sudo:" "  ${missing[*]}"
  fi
fi

echo "installing ${missing[*]}"
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@"
}
apt update || echo "packages.sh: the package lists are not all up to date; trying all the same" >&2
# --reinstall brings back the text of a jargon-text that was installed without it.
apt install -y --no-install-recommends --reinstall \
  -o "DPkg::Options::=--path-include=$text_file" "${missing[@]}" || true
find_missing
[ ${#missing[@]} = 0 ] ||
  stop "these packages could not be installed; see apt-get's words above:" "  ${missing[*]}" \
    "on Ubuntu, some of them need the component \"universe\""
