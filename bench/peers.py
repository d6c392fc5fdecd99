#!/usr/bin/env python3
"""Training speed and memory of gpt2train beside its peers, run in turn on the same machine.

Every contestant trains the same shapes on random tokens. A round runs each of them once, and
rounds repeat, so that a machine which slows down for a while slows all of them.
"""

import argparse
import datetime
import json
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from children import ROOT, RunFailed
from contestants import (
    CONTESTANTS,
    PRECISIONS,
    WORKLOADS,
    Measurement,
    Setup,
    Workload,
    measure,
    takes_part,
)
from machine import commit, describe_cpu, describe_gpu
from peers_report import markdown


@dataclass(frozen=True)
class Race:
    """Who runs what, how often."""

    contestants: list[str]
    workloads: list[Workload]
    precisions: list[str]
    rounds: int

    def cases(self, setup: Setup) -> Iterator[tuple[str, Workload, str, int]]:
        for number in range(1, self.rounds + 1):
            for work in self.workloads:
                for precision in self.precisions:
                    for contestant in self.contestants:
                        if takes_part(contestant, work, precision, number, setup):
                            yield contestant, work, precision, number


def run_race(race: Race, setup: Setup, deadline: float = math.inf) -> Iterator[Measurement | str]:
    """What each run gave: a measurement, or why there is none; then its like are not repeated.

    After `deadline`, of time.monotonic, no run starts, and one under way is killed.
    """
    given_up: set[str] = set()
    for contestant, work, precision, number in race.cases(setup):
        label = f"{work.name} {precision} {contestant}"
        if label in given_up:
            continue
        left = deadline - time.monotonic()
        try:
            if left <= 0:
                raise RunFailed(f"no time was left for round {number}")
            yield measure(
                contestant, work, precision, number, setup, min(2 * setup.run_seconds, left)
            )
        except (RunFailed, OSError, ValueError, LookupError, TypeError) as error:
            given_up.add(label)
            yield f"{label}: {error if isinstance(error, RunFailed) else repr(error)}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    names = [work.name for works in WORKLOADS.values() for work in works]
    parser.add_argument("--gpt2train", type=Path, default=ROOT / "build/gpt2train")
    parser.add_argument("--llmc", type=Path, help="folder of llm.c programs; see bench/README.md")
    parser.add_argument("--device", choices=WORKLOADS, default="cpu", help="cuda: the first GPU")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument(
        "--workloads", nargs="+", choices=names, help="all that there are for the device"
    )
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument(
        "--run_seconds",
        type=float,
        default=150.0,
        help="PyTorch starts no step after this long; a run of twice as long is killed, and not "
        "tried again: bfloat16 is slow where the processor lacks instructions for it",
    )
    parser.add_argument("--name", default="peers", help="of the files in --results, after the date")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    works = [
        work for work in WORKLOADS[args.device] if work.name in (args.workloads or [work.name])
    ]
    date = datetime.date.today().isoformat()
    machine = describe_cpu(args.threads)
    if args.device == "cuda":
        machine |= {"gpu": describe_gpu()}
    report: dict[str, object] = {
        "date": date,
        "commit": commit(),
        "command": shlex.join(["bench/peers.py", *sys.argv[1:]]),
        "machine": machine,
        "workloads": [asdict(work) for work in works],
    }
    runs: list[Measurement] = []
    failures: list[str] = []
    args.results.mkdir(parents=True, exist_ok=True)
    stem = args.results / f"{date}-{args.name}"
    with tempfile.TemporaryDirectory(prefix="gpt2train-peers-") as scratch:
        llmc = args.llmc.resolve() if args.llmc else None
        setup = Setup(
            gpt2train=args.gpt2train.resolve(),
            llmc=llmc,
            device=args.device,
            threads=args.threads,
            run_seconds=args.run_seconds,
            scratch=Path(scratch),
        )
        for outcome in run_race(Race(args.only, works, args.precisions, args.rounds), setup):
            if isinstance(outcome, Measurement):
                runs.append(outcome)
                print(outcome.line(), flush=True)
            else:
                failures.append(outcome)
                print(outcome, file=sys.stderr, flush=True)
            report |= {"runs": [asdict(each) for each in runs], "failures": failures}
            stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
            stem.with_suffix(".md").write_text(markdown(report, runs, failures))
    print(f"results: {stem}.json, {stem}.md", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
