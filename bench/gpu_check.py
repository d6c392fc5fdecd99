"""The parts of bench/gpu_check.sh, which finds the GPU and the programs: start that.

Parts run in order, each within its share of the budget; what one leaves is for the later ones.
A part that fails stops none of them.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import gpu_parts
from children import ROOT
from contestants import CONTESTANTS, Setup
from gpu_parts import FAILED, Check, Outcome
from gpu_report import markdown
from gpu_workloads import SCALES
from machine import commit, describe_cpu, describe_gpu


@dataclass(frozen=True)
class Part:
    name: str
    share: int  # of the budget: seconds of the default one
    run: Callable[[Check], Iterator[Outcome]]
    needs_gpu: bool = False


PARTS = (
    Part("kernels", 80, gpu_parts.kernel_tests, needs_gpu=True),
    Part("verify", 10, gpu_parts.verification),
    Part("train", 50, gpu_parts.short_runs),
    Part("out_of_memory", 20, gpu_parts.out_of_memory),
    Part("sanitizers", 100, gpu_parts.sanitizers, needs_gpu=True),
    Part("profile", 40, gpu_parts.profiles),
    Part("race", 240, gpu_parts.race),
)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/gpu_check.sh",
        description="Is this build right on this machine's GPU, and how fast is it?",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = [part.name for part in PARTS]
    parser.add_argument(
        "--bin", type=Path, default=os.environ.get("GPT2TRAIN_BIN"), help="folder of programs"
    )
    parser.add_argument("--device", choices=SCALES, default="cuda", help="cpu: a test of this test")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="parts to run")
    parser.add_argument(
        "--budget", type=float, default=sum(part.share for part in PARTS), help="seconds in all"
    )
    parser.add_argument("--golden", type=Path, help="folder of reference data for verify")
    parser.add_argument("--llmc", type=Path, help="folder of llm.c's train_gpt2cu")
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=CONTESTANTS,
        default=["gpt2train", "torch-compile", "llm.c"],
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--results", type=Path, help="folder; bench/results, or out for a CPU")
    return parser.parse_args()


def run_parts(check: Check, parts: list[Part], budget: float) -> Iterator[tuple[Part, Outcome]]:
    """The outcomes as they come. A part has the share of the time left that its numbers say."""
    end = time.monotonic() + budget
    for index, part in enumerate(parts):
        left = end - time.monotonic()
        check.deadline = time.monotonic() + left * part.share / sum(p.share for p in parts[index:])
        try:
            for outcome in part.run(check):
                yield part, outcome
        except Exception as error:  # of this program: the other parts are worth having all the same
            yield part, Outcome(part.name, FAILED, f"the part itself broke: {error!r}")


def make_check(args: argparse.Namespace, scratch: str) -> Check:
    setup = Setup(
        gpt2train=args.bin.resolve() / "gpt2train",
        llmc=args.llmc.resolve() if args.llmc else None,
        device=args.device,
        threads=args.threads,
        run_seconds=args.budget,
        scratch=Path(scratch),
    )
    return Check(args.bin.resolve(), setup, SCALES[args.device], args.golden, args.contestants)


def shown_command(args: argparse.Namespace) -> str:
    """How this was started, without the machine's paths."""
    command = shlex.join(["bench/gpu_check.sh", *sys.argv[1:]])
    for name in ("bin", "golden", "llmc", "results"):
        path = getattr(args, name)
        command = command.replace(str(path), f"${name.upper()}") if path else command
    return command


def main() -> int:
    args = parse_arguments()
    begin = time.monotonic()
    machine = describe_cpu(args.threads)
    name = "cpu"
    if args.device == "cuda":
        machine["gpu"] = gpu = describe_gpu()
        name = re.sub(r"[^a-z0-9]+", "-", str(gpu["name"]).lower()).strip("-")
    results = args.results or ROOT / ("out" if args.device == "cpu" else "bench/results")
    results.mkdir(parents=True, exist_ok=True)
    date = datetime.date.today().isoformat()
    stem = results / f"{date}-{name}"
    parts = [
        part
        for part in PARTS
        if part.name in args.only and not (part.needs_gpu and args.device == "cpu")
    ]
    outcomes: list[dict[str, object]] = []
    report: dict[str, object] = {
        "date": date,
        "commit": commit(),
        "command": shown_command(args),
        "machine": machine,
        "outcomes": outcomes,
    }
    with tempfile.TemporaryDirectory(prefix="gpt2train-gpu-check-") as scratch:
        check = make_check(args, scratch)
        for part, outcome in run_parts(check, parts, args.budget):
            outcomes.append({"part": part.name, **asdict(outcome)})
            line = f"{part.name}: {outcome.name}: {outcome.status}, {outcome.seconds:.1f} s"
            print(f"{line}: {outcome.note}"[:400], flush=True)
            report["seconds"] = round(time.monotonic() - begin, 1)
            report["runs"] = [asdict(run) for run in check.runs]
            stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
            stem.with_suffix(".md").write_text(markdown(report, check.runs))
    table = markdown(report, check.runs)
    print(f"\n{table}\nresults: {stem}.json, {stem}.md")
    return 1 if any(outcome["status"] == FAILED for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
