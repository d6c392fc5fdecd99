#!/usr/bin/env bash
# Fetches GPT-2's vocabulary, vocab.bpe and encoder.json, and checks it against the checksums below. It is
# OpenAI's and is not part of gpt2train.
# Usage: scripts/fetch_vocab.sh [DIR]    (default: data/gpt2)
set -euo pipefail
cd "$(dirname "$0")/.."
directory=${1:-data/gpt2}

stop() {
  printf 'fetch_vocab.sh: %s\n' "$@" >&2
  exit 1
}

download() {
  if command -v curl >/dev/null; then
    curl -fsSL --connect-timeout 20 --retry 2 -o "$2" "$1"
  elif command -v wget >/dev/null; then
    wget -q --timeout=20 -O "$2" "$1"
  else
    stop "needs curl or wget"
  fi
}

# fetch NAME SHA256 URL...: the first source that has the file wins.
fetch() {
  local name=$1 sum=$2 url
  local file=$directory/$name
  shift 2
  if [ -f "$file" ] && sha256sum --status -c <<<"$sum  $file"; then
    echo "$file is there already"
    return
  fi
  for url; do
    echo "fetching $url"
    if ! download "$url" "$file.tmp"; then
      echo "fetch_vocab.sh: that failed" >&2
    elif ! sha256sum --status -c <<<"$sum  $file.tmp"; then
      echo "fetch_vocab.sh: its SHA-256 is not $sum" >&2
    else
      mv "$file.tmp" "$file"
      return
    fi
    rm -f "$file.tmp"
  done
  stop "no source has $name; a copy from elsewhere with this SHA-256 does as well, as $file:" "  $sum"
}

openai=https://openaipublic.blob.core.windows.net/gpt-2/encodings/main
hugging_face=https://huggingface.co/openai-community/gpt2/resolve/main
mkdir -p "$directory"
fetch vocab.bpe 1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5 \
  "$openai/vocab.bpe" "$hugging_face/merges.txt"
fetch encoder.json 196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783 \
  "$openai/encoder.json" "$hugging_face/vocab.json"
echo "done: --vocab $directory"
