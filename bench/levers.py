#!/usr/bin/env python3
"""What each memory lever of gpt2train saves, and what it costs, on this machine.

Every lever is `gpt2train bench` with one setting changed. A round runs each once, and rounds
repeat, so that a machine which slows down for a while slows all of them; a cost is the ratio to
the same round's run without the lever.
"""

import argparse
import datetime
import json
import os
import shlex
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from children import ROOT, run_child
from machine import commit, describe_cpu, describe_gpu


@dataclass(frozen=True)
class Lever:
    """Settings that take less memory; `without` is the dtype of the run it is held against."""

    name: str
    settings: tuple[str, ...]
    without: str = "float32"
    device: str = ""  # the only one that has it, where one does


LEVERS = [
    Lever("logits_rows: 256", ("--logits_rows=256",)),
    Lever("recompute: gelu", ("--recompute=gelu",)),
    Lever("recompute: gelu+layernorm", ("--recompute=gelu+layernorm",)),
    Lever("recompute: block, recompute_layers: 6", ("--recompute=block", "--recompute_layers=6")),
    Lever("recompute: block", ("--recompute=block",)),
    Lever("moments: bfloat16", ("--moments=bfloat16",)),
    Lever("moments: int8", ("--moments=int8",)),
    Lever("dtype: bfloat16", ("--dtype=bfloat16",)),
    Lever("master_weights: false", ("--master_weights=false",), "bfloat16"),
    Lever("offload: moments", ("--offload=moments",), "bfloat16", "cuda"),
    Lever("offload: optimizer", ("--offload=optimizer",), "bfloat16", "cuda"),
]


@dataclass(frozen=True)
class Point:
    """One run of `bench`."""

    round: int
    lever: str  # "float32" or "bfloat16" where it is none
    micro_batch_seconds: float
    update_seconds: float
    peak_bytes: int
    other_cores: float


def measure(args: argparse.Namespace, number: int, name: str, settings: tuple[str, ...]) -> Point:
    with tempfile.TemporaryDirectory(prefix="gpt2train-levers-") as scratch:
        command = [
            str(args.gpt2train), "bench", f"--config={args.config}", f"--device={args.device}",
            f"--out_dir={scratch}", f"--micro_batch={args.micro_batch}",
            f"--batch_size={args.micro_batch}", "--gradient_accumulation_steps=2",
            f"--block_size={args.block_size}", "--recompute=none", "--dtype=float32", "--synthetic",
            "--warmup=1", f"--steps={args.steps}", "--fresh", "--json",
        ]  # fmt: skip
        keys = {setting.split("=")[0] for setting in settings}
        command = [part for part in command if part.split("=")[0] not in keys]
        environment = {"GPT2TRAIN_CACHE_DIR": scratch}  # each run is measured, none taken over
        done = run_child([*command, *settings], args.run_seconds, environment)
    (point,) = json.loads(done.output)["points"]
    if point["status"] != "measured" or not point["as_predicted"]:
        raise SystemExit(f"{name}: {point['status']}, as predicted: {point.get('as_predicted')}")
    step = statistics.median(point["step_seconds"]) - point["update_seconds"]
    return Point(
        round=number,
        lever=name,
        micro_batch_seconds=step / point["settings"]["timed_accumulation"],
        update_seconds=point["update_seconds"],
        peak_bytes=point["peak_bytes"],
        other_cores=done.other_cores,
    )


def ratio_text(ratios: list[float]) -> str:
    low, high = min(ratios), max(ratios)
    return f"{statistics.median(ratios):.2f} ({low:.2f} - {high:.2f})"


def table(points: list[Point]) -> str:
    lines = [
        "| lever | peak | without it | time of a micro-batch | of an update |",
        "|---|---:|---:|---:|---:|",
    ]
    for lever in LEVERS:
        mine = [point for point in points if point.lever == lever.name]
        theirs = [point for point in points if point.lever == lever.without]
        if not mine:
            continue
        pairs = list(zip(mine, theirs, strict=True))
        lines.append(
            f"| `{lever.name}` | {mine[0].peak_bytes / 2**30:.2f} GiB "
            f"| {theirs[0].peak_bytes / 2**30:.2f} GiB, {lever.without} "
            f"| {ratio_text([a.micro_batch_seconds / b.micro_batch_seconds for a, b in pairs])} "
            f"| {ratio_text([a.update_seconds / b.update_seconds for a, b in pairs])} |"
        )
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--gpt2train", type=Path, default=ROOT / "build/gpt2train")
    parser.add_argument("--config", type=Path, default=ROOT / "configs/train_openwebtext.yaml")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--micro_batch", type=int, default=4)
    parser.add_argument("--block_size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--run_seconds", type=float, default=300.0)
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--table", type=Path, help="print what a file of results says, measure nothing")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.table:
        print(table([Point(**each) for each in json.loads(args.table.read_text())["points"]]))
        return 0
    date = datetime.date.today().isoformat()
    machine = describe_gpu() if args.device == "cuda" else describe_cpu(os.cpu_count() or 1)
    report: dict[str, object] = {
        "date": date,
        "commit": commit(),
        "command": shlex.join(["bench/levers.py", *sys.argv[1:]]),
        "machine": machine,
    }
    levers = [lever for lever in LEVERS if lever.device in ("", args.device)]
    runs = [(dtype, (f"--dtype={dtype}",)) for dtype in ("float32", "bfloat16")]
    for lever in levers:
        dtype = () if lever.without == "float32" else (f"--dtype={lever.without}",)
        runs.append((lever.name, (*dtype, *lever.settings)))
    points: list[Point] = []
    results = args.results / f"{date}-{args.device}-levers.json"
    args.results.mkdir(parents=True, exist_ok=True)
    for number in range(1, args.rounds + 1):
        for name, settings in runs:
            points.append(measure(args, number, name, settings))
            print(points[-1], file=sys.stderr, flush=True)
        report["points"] = [asdict(point) for point in points]
        results.write_text(json.dumps(report, indent=1) + "\n")
    print(table(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
