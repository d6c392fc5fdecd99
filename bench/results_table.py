#!/usr/bin/env python3
"""Prints what a file of bench/peers.py says: the README's table, or with --page the page beside it."""

import argparse
import json
from pathlib import Path

from contestants import Measurement
from peers_report import Row, markdown, summarise

TITLES = {
    "gpt2-124m-4x256": "GPT-2 124M, 4 x 256",
    "gpt2-124m-1x1024": "GPT-2 124M, 1 x 1,024",
    "nanogpt-cpu": "nanoGPT's CPU setting",
}


def whole_mib(row: Row) -> str:
    return "" if row.memory[0] is None else f"{row.memory[0] / 2**20:,.0f} MiB"


def readme_table(runs: list[Measurement]) -> str:
    """Of one precision on a CPU; PyTorch is the faster of eager and compiled."""
    rows = summarise(runs, "cpu")
    text = [
        "| | gpt2train | PyTorch | ratio | llm.c | ratio | memory of gpt2train | of PyTorch |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for workload in dict.fromkeys(row.workload for row in rows):
        same = {row.contestant: row for row in rows if row.workload == workload}
        own, llmc = same["gpt2train"], same.get("llm.c")
        torch = max(
            (row for name, row in same.items() if name.startswith("torch")),
            key=lambda row: row.median,
        )
        beside_llmc = f" {llmc.median:,.0f} | {own.median / llmc.median:.1f} " if llmc else " | "
        text.append(
            f"| {TITLES[workload]} | {own.median:,.0f} ({own.low:,.0f} - {own.high:,.0f}) "
            f"| {torch.median:,.0f} | {own.median / torch.median:.2f} |{beside_llmc}"
            f"| {whole_mib(own)} | {whole_mib(torch)} |"
        )
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", action="store_true", help="the whole page")
    parser.add_argument("results", type=Path, help="a file that bench/peers.py wrote")
    args = parser.parse_args()
    report = json.loads(args.results.read_text())
    # Files of a CPU that are older than the figure of a card do not have it.
    runs = [Measurement(**({"card_bytes": None} | run)) for run in report["runs"]]
    if args.page:
        print(markdown(report, runs, report["failures"]), end="")
    else:
        print(readme_table(runs))


if __name__ == "__main__":
    main()
