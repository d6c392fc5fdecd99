#!/usr/bin/env python3
"""Times `gpt2train tokenize` beside tiktoken on one text, one thread each, in turns.

The program's time is its whole run, from reading the text to the synced token file; tiktoken's is
encode_ordinary() alone, on a text that is in memory. Both in seconds on the clock and of the processor,
since other work on the machine is in the former. --threads also times the program with more threads.
Needs `pip install tiktoken`, and OpenAI's vocab.bpe and encoder.json (scripts/fetch_vocab.sh).
Usage: tiktoken_speed.py --program build/gpt2train --vocab DIR --text FILE [--rounds 5] [--threads 2,4]
"""
import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext.openai_public import r50k_pat_str


def timed(who, work):
    """Seconds on the clock and of the processor; `who` says whose."""
    used = lambda: sum(resource.getrusage(who)[:2])
    clock, cpu = time.perf_counter(), used()
    result = work()
    return time.perf_counter() - clock, used() - cpu, result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--vocab", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default="")
    options = parser.parse_args()

    text = options.text.read_bytes().decode("utf-8")
    megabytes = options.text.stat().st_size / 1e6
    ranks = data_gym_to_mergeable_bpe_ranks(str(options.vocab / "vocab.bpe"),
                                            str(options.vocab / "encoder.json"))
    encoding = tiktoken.Encoding("gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks,
                                 special_tokens={"<|endoftext|>": 50256})

    def program(threads):
        with tempfile.TemporaryDirectory() as out:
            subprocess.run([options.program, "tokenize", "--vocab", str(options.vocab), "--out", out,
                            "--input", "text", "--eot", "none", "--val_fraction", "0",
                            "--threads", str(threads), str(options.text)],
                           check=True, stdout=subprocess.DEVNULL)
            return (Path(out) / "train.bin").read_bytes()

    contestants = {"tiktoken, 1 thread": (resource.RUSAGE_SELF, lambda: encoding.encode_ordinary(text))}
    for threads in [1, *map(int, filter(None, options.threads.split(",")))]:
        contestants[f"gpt2train, {threads} thread{'s' * (threads > 1)}"] = (
            resource.RUSAGE_CHILDREN, lambda threads=threads: program(threads))
    seconds = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (who, work) in contestants.items():
            clock, cpu, result = timed(who, work)
            seconds[name].append((clock, cpu))
            tokens = result if isinstance(result, list) else memoryview(result).cast("H").tolist()
            if "tiktoken" in name:
                wanted = tokens
            elif tokens != wanted:
                sys.exit(f"{name}: other tokens than tiktoken's")

    print(f"{megabytes:.1f} MB, {len(wanted):,} tokens, {options.rounds} rounds; medians, "
          "and of the ratios to tiktoken in the same round")
    for name, rounds in seconds.items():
        line = f"{name:24}"
        for which, unit in ((0, "clock"), (1, "cpu")):
            median = statistics.median(r[which] for r in rounds)
            ratio = statistics.median(t[which] / r[which] for t, r in zip(seconds["tiktoken, 1 thread"], rounds))
            line += f"  {unit} {median:7.2f} s {megabytes / median:6.1f} MB/s x{ratio:5.2f}"
        print(line)


if __name__ == "__main__":
    main()
