#!/usr/bin/env python3
"""Compares `gpt2train encode` and `decode` with tiktoken's gpt2 on random and adversarial strings.

Needs `pip install tiktoken` and OpenAI's vocab.bpe and encoder.json (scripts/fetch_vocab.sh).
Usage: compare_tiktoken.py --program build/gpt2train --vocab DIR [--count 100000] [--seed 1]
"""
import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000"
NOT_SPACES = "\ufeff\u180e\u200b\x1c\x1d\x1e\x1f\u2060\0\x7f\u200d"
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'l", "'r", "''", "\u2019s"]
WORDS = "the of and Hello WORLD naive caf\u00e9 \u65e5\u672c\u8a9e \u0928\u092e\u0938\u094d\u0924\u0947 \u043c\u0438\u0440 42 2026 x86_64 e\u0301 \U0001f468\u200d\U0001f469".split()
SPECIAL = ["<|endoftext|>", "<|endoftext|", "|endoftext|>", "<|endoftext|><|endoftext|>"]


def gpt2(vocab):
    ranks = data_gym_to_mergeable_bpe_ranks(str(vocab / "vocab.bpe"), str(vocab / "encoder.json"))
    return tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks,
                             special_tokens={"<|endoftext|>": 50256})


def any_character(rng):
    plane = rng.choice([0, 0, 0, 0, 1, 1, 2, 3, 14, 15, 16])
    return chr(plane * 0x10000 + rng.randrange(0x10000))  # surrogates included


def part(rng):
    kind = rng.randrange(12)
    if kind == 0:
        return "".join(any_character(rng) for _ in range(rng.randrange(1, 8)))
    if kind == 1:
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 6)))
    if kind == 2:
        return rng.choice(NOT_SPACES)
    if kind == 3:
        return rng.choice(CONTRACTIONS)
    if kind == 4:
        return rng.choice(SPECIAL)
    if kind == 5:
        return rng.choice(["a", " ", "\n", "=", "-", "0", "\u65e5", "\xa0", "'"]) * rng.randrange(1, 80)
    if kind == 6:
        return chr(rng.randrange(0x80))
    if kind == 7:
        return chr(rng.randrange(0x80, 0x3000))
    if kind == 8:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(1, 40)))
    return rng.choice(["", " "]) + rng.choice(WORDS)


def strings(count, rng):
    """Strings, and bytes where they may be invalid UTF-8."""
    for code in range(0x110000):  # every character, in the middle of others
        if code % 1024 == 0:
            yield "".join(f"a{chr(code + i)} 1{chr(code + i)}" for i in range(1024))
    for unit in ["a", " ", "\n", "ab", "\u65e5", "a ", "0", "'s"]:
        yield unit * 20000
    for _ in range(count - 1088 - 8):
        text = "".join(part(rng) for _ in range(rng.randrange(1, 12)))
        if rng.randrange(4) > 0:
            yield text
            continue
        raw = bytearray(text.encode("utf-8", "surrogatepass"))
        for _ in range(rng.randrange(1, 4)):
            if raw:
                place = rng.randrange(len(raw))
                if rng.randrange(2):
                    raw[place] = rng.randrange(256)
                else:
                    del raw[place]
        yield bytes(raw)


def run(program, vocab, command, lines, *flags):
    done = subprocess.run([program, command, "--vocab", str(vocab), *flags], text=True, check=True,
                          input="".join(json.dumps(line) + "\n" for line in lines), stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    reference = gpt2(options.vocab)
    inputs = list(strings(options.count, random.Random(options.seed)))
    lines = [{"text": s} if isinstance(s, str) else {"hex": s.hex()} for s in inputs]
    texts = [s if isinstance(s, str) else s.decode("utf-8", "replace") for s in inputs]
    differences = 0
    for flags, allowed in (([], set()), (["--special"], "all")):
        answers = run(options.program, options.vocab, "encode", lines, *flags)
        wanted = [reference.encode(t, allowed_special=allowed, disallowed_special=()) for t in texts]
        wrong = [i for i, ids in enumerate(wanted) if answers[i]["ids"] != ids]
        for i in wrong[:5]:
            print(f"{texts[i]!r}: {answers[i]['ids'][:40]}, expected {wanted[i][:40]}")
        decoded = run(options.program, options.vocab, "decode", [{"ids": ids} for ids in wanted])
        garbled = sum(d["hex"] != reference.decode_bytes(w).hex() for d, w in zip(decoded, wanted))
        print(f"encode {' '.join(flags)}: {len(inputs):,} strings, {sum(map(len, wanted)):,} tokens, "
              f"{len(wrong)} different; decode: {garbled} different")
        differences += len(wrong) + garbled
    sys.exit(differences > 0)


if __name__ == "__main__":
    main()
