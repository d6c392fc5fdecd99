#!/usr/bin/env python3
"""Training speed and memory of gpt2train beside its peers, run in turn on the same machine.

Every contestant trains the same shapes on random tokens. A round runs each of them once, and
rounds repeat, so that a machine which slows down for a while slows all of them.
"""

import argparse
import array
import datetime
import json
import os
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKEN_COUNT = 2_000_000
NEVER = 1_000_000  # an interval that no run reaches
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Workload:
    """A model and a batch; no dropout, no biases, one micro-batch a step."""

    name: str
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    batch_size: int
    warmup: int  # steps that are run and not counted
    steps: int

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.block_size

    def shape_flags(self) -> list[str]:
        """The sizes as flags: gpt2train and torch_gpt2.py share nanoGPT's names."""
        names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "batch_size")
        return [f"--{name}={getattr(self, name)}" for name in names]


WORKLOADS = (
    Workload("gpt2-124m-4x256", 12, 12, 768, 256, 50304, batch_size=4, warmup=2, steps=8),
    Workload("gpt2-124m-1x1024", 12, 12, 768, 1024, 50304, batch_size=1, warmup=2, steps=8),
    Workload("nanogpt-cpu", 4, 4, 128, 64, 65, batch_size=12, warmup=20, steps=200),
)


@dataclass
class Measurement:
    """One run of one contestant."""

    workload: str
    precision: str
    contestant: str
    round: int
    command: str
    step_ms: list[float]
    tokens_per_second: float  # of the median step
    peak_rss_bytes: int
    other_cores: float  # cores that the rest of the machine kept busy meanwhile
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """What the runs of one invocation share."""

    gpt2train: Path
    llmc: Path | None
    threads: int
    run_seconds: float
    scratch: Path  # a temporary folder


@dataclass(frozen=True)
class Finished:
    """A child process that ended well."""

    output: str
    peak_rss_bytes: int
    other_cores: float


class RunFailed(Exception):
    """A contestant's process failed, or did not do the work it was asked for."""


def busy_seconds() -> float:
    """CPU time of the whole machine since boot, with what a hypervisor took away."""
    user, nice, system, _idle, _iowait, *rest = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, *rest))) / os.sysconf("SC_CLK_TCK")


def run_child(command: list[str], setup: Setup, cwd: Path = ROOT) -> Finished:
    """Runs a command to its end. The peak is the kernel's figure for that process."""
    environment = os.environ | {"OMP_NUM_THREADS": str(setup.threads)}
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start, busy = time.monotonic(), busy_seconds()
        child = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=errors)
        killer = threading.Timer(2 * setup.run_seconds, child.kill)
        killer.start()
        _, status, usage = os.wait4(child.pid, 0)
        killer.cancel()
        others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
        other_cores = max(0.0, others / (time.monotonic() - start))
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if child.returncode == -signal.SIGKILL:
            raise RunFailed(f"killed, by the limit of {2 * setup.run_seconds:g} s or for memory")
        if child.returncode != 0:
            raise RunFailed(f"exit status {child.returncode}: {errors.read()[-500:].strip()}")
        return Finished(output.read(), usage.ru_maxrss * 1024, other_cores)  # KiB on Linux


def write_tokens(path: Path, vocab_size: int, seed: int) -> None:
    """Random uint16 tokens below the vocabulary; slightly uneven, which no timing sees."""
    raw = array.array("H", random.Random(seed).randbytes(2 * TOKEN_COUNT))
    with path.open("wb") as file:
        array.array("H", (token % vocab_size for token in raw)).tofile(file)


def token_files(work: Workload, setup: Setup) -> tuple[Path, Path]:
    """The training and validation files for a workload, made when first asked for."""
    paths = [setup.scratch / f"{split}-{work.vocab_size}.bin" for split in ("train", "val")]
    for seed, path in enumerate(paths):
        if not path.exists():
            write_tokens(path, work.vocab_size, seed)
    return paths[0], paths[1]


@dataclass(frozen=True)
class Timing:
    """What a contestant reports: its command, counted steps, memory, and details."""

    command: list[str]
    step_ms: list[float]
    peak_rss_bytes: int
    other_cores: float
    details: dict[str, object]


def run_gpt2train(work: Workload, precision: str, setup: Setup) -> Timing:
    train, val = token_files(work, setup)
    out_dir = setup.scratch / "out"
    command = [
        str(setup.gpt2train),
        *work.shape_flags(),
        "--gradient_accumulation_steps=1",
        "--bias=false",
        "--dropout=0",
        f"--dtype={precision}",
        "--device=cpu",
        f"--train={train}",
        f"--val={val}",
        f"--out_dir={out_dir}",
        f"--max_iters={work.warmup + work.steps}",
        f"--eval_interval={NEVER}",
        "--eval_iters=1",
        f"--checkpoint_interval={NEVER}",
        "--always_save_checkpoint=false",
    ]
    finished = run_child(command, setup)
    lines = (out_dir / "metrics.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event for event in events if event["event"] == "step"][work.warmup :]
    if len(steps) < work.steps:
        raise RunFailed(f"{len(steps)} steps counted, {work.steps} wanted")
    if any(step["micro_batch"] != work.batch_size for step in steps):
        raise RunFailed("memory forced a smaller micro-batch: not the same work as the peers'")
    end = events[-1]
    details = {
        "peak_bytes": end["peak_bytes"],
        "reserved_bytes": end["reserved_bytes"],
        "mfu": statistics.median(step["mfu"] for step in steps),
    }
    step_ms = [step["step_ms"] for step in steps]
    return Timing(command, step_ms, finished.peak_rss_bytes, finished.other_cores, details)


def run_torch(work: Workload, precision: str, setup: Setup, compiled: str) -> Timing:
    command = [
        sys.executable,
        str(ROOT / "bench/peers/torch_gpt2.py"),
        *work.shape_flags(),
        f"--dtype={precision}",
        f"--compile={compiled}",
        f"--threads={setup.threads}",
        f"--warmup={work.warmup}",
        f"--steps={work.steps}",
        f"--max_seconds={setup.run_seconds:g}",
    ]
    finished = run_child(command, setup)
    record = json.loads(finished.output.splitlines()[-1])
    details = {key: record[key] for key in ("torch", "optimizer", "compile")}
    # The program's own peak leaves out the compilers that torch.compile starts.
    peak = record["peak_rss_bytes"]
    return Timing(command, record["step_ms"], peak, finished.other_cores, details)


def run_llmc(work: Workload, precision: str, setup: Setup) -> Timing:
    assert setup.llmc is not None and precision == "float32"
    command = [str(setup.llmc / f"train_gpt2_{work.batch_size}x{work.block_size}")]
    finished = run_child(command, setup, cwd=setup.llmc)
    found = re.findall(
        r"^step \d+: train loss .* \(took ([\d.]+) ms\)", finished.output, re.MULTILINE
    )
    step_ms = [float(ms) for ms in found]
    if len(step_ms) < 2:
        raise RunFailed("fewer than two steps in the output")
    # The first step allocates and touches all the memory: warm-up.
    return Timing(command, step_ms[1:], finished.peak_rss_bytes, finished.other_cores, {})


CONTESTANTS = {
    "gpt2train": run_gpt2train,
    "torch-eager": lambda work, precision, setup: run_torch(work, precision, setup, "off"),
    "torch-compile": lambda work, precision, setup: run_torch(work, precision, setup, "on"),
    "llm.c": run_llmc,
}


def takes_part(contestant: str, work: Workload, precision: str, number: int, setup: Setup) -> bool:
    """llm.c has the 124M model in float32 only, and is so slow that one round must do."""
    if contestant != "llm.c":
        return True
    return setup.llmc is not None and work.n_layer == 12 and precision == "float32" and number == 1


def measure(
    contestant: str, work: Workload, precision: str, number: int, setup: Setup
) -> Measurement:
    timing = CONTESTANTS[contestant](work, precision, setup)
    command = shlex.join(timing.command)
    for path, short in ((setup.scratch, "$SCRATCH"), (setup.llmc, "$LLMC"), (ROOT, ".")):
        if path is not None:
            command = command.replace(str(path), short)
    return Measurement(
        workload=work.name,
        precision=precision,
        contestant=contestant,
        round=number,
        command=command.replace(sys.executable, "python3"),
        step_ms=timing.step_ms,
        tokens_per_second=1e3 * work.tokens_per_step / statistics.median(timing.step_ms),
        peak_rss_bytes=timing.peak_rss_bytes,
        other_cores=round(timing.other_cores, 2),
        details=timing.details,
    )


def output_of(*command: str) -> str:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else ""


def describe_machine(threads: int) -> dict[str, object]:
    """The processor, and which instructions it has of those that decide such a race."""
    fields = dict(line.split(":", 1) for line in output_of("lscpu").splitlines() if ":" in line)
    flags = set(fields.get("Flags", "").split())
    return {
        "cpu": fields.get("Model name", "unknown").strip(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


@dataclass(frozen=True)
class Row:
    """All rounds of one contestant on one workload in one precision."""

    workload: str
    precision: str
    contestant: str
    median: float  # tokens/s, of the rounds
    low: float
    high: float
    peak_rss_bytes: int


def summarise(runs: list[Measurement]) -> list[Row]:
    rows = []
    for key in dict.fromkeys((run.workload, run.precision, run.contestant) for run in runs):
        same = [run for run in runs if (run.workload, run.precision, run.contestant) == key]
        rates = [run.tokens_per_second for run in same]
        peak = max(run.peak_rss_bytes for run in same)
        rows.append(Row(*key, statistics.median(rates), min(rates), max(rates), peak))
    return rows


def best_torch(rows: Iterable[Row], workload: str, precision: str | None) -> float | None:
    """The fastest PyTorch of a workload: eager or compiled, and in any precision for None."""
    rates = [
        row.median
        for row in rows
        if row.contestant.startswith("torch")
        and row.workload == workload
        and precision in (None, row.precision)
    ]
    return max(rates, default=None)


def own_table(runs: list[Measurement]) -> list[str]:
    """gpt2train against its own measures: the machine's matrix rate, and its allocator's ledger."""
    text = [
        "| workload | precision | share of the matrix rate | reserved, MiB | peak RSS, MiB |",
        "|---|---|---:|---:|---:|",
    ]
    own = [run for run in runs if run.contestant == "gpt2train"]
    for workload, precision in dict.fromkeys((run.workload, run.precision) for run in own):
        same = [run for run in own if (run.workload, run.precision) == (workload, precision)]
        share = statistics.median(float(str(run.details["mfu"])) for run in same)
        reserved = max(int(str(run.details["reserved_bytes"])) for run in same)
        resident = max(run.peak_rss_bytes for run in same)
        text.append(
            f"| {workload} | {precision} | {share:.0%} | {reserved / 2**20:.0f} "
            f"| {resident / 2**20:.0f} |"
        )
    return text


def markdown(report: dict[str, object], runs: list[Measurement], failures: list[str]) -> str:
    rows = summarise(runs)

    def ratio(row: Row, precision: str | None) -> str:
        best = best_torch(rows, row.workload, precision)
        return f"{row.median / best:.2f}" if best else ""

    machine = report["machine"]
    assert isinstance(machine, dict)
    text = [
        f"# Training speed beside peers, {report['date']}",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{', '.join(machine['instructions']) or 'no vector extensions of note'}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GiB",
        f"- Commit: {report['commit']}",
        f"- Command: `{report['command']}`",
        f"- Cores that other programs kept busy during a run: at most "
        f"{max((run.other_cores for run in runs), default=0.0):.2f}",
        "",
        "| workload | precision | program | tokens/s | rounds from - to "
        "| / best torch, same precision | / best torch, any precision | peak RSS, MiB |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        text.append(
            f"| {row.workload} | {row.precision} | {row.contestant} | {row.median:.1f} "
            f"| {row.low:.1f} - {row.high:.1f} | {ratio(row, row.precision)} | {ratio(row, None)} "
            f"| {row.peak_rss_bytes / 2**20:.0f} |"
        )
    text += ["", "A round's figure is its median step's; the table has the median round."]
    text += ["", *own_table(runs)]
    if failures:
        text += ["", "Without a figure:", "", *(f"- {failure}" for failure in failures)]
    text += ["", "```sh", *dict.fromkeys(run.command for run in runs), "```", ""]
    return "\n".join(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    names = [work.name for work in WORKLOADS]
    parser.add_argument("--gpt2train", type=Path, default=ROOT / "build/gpt2train")
    parser.add_argument("--llmc", type=Path, help="folder of llm.c programs; see bench/README.md")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--workloads", nargs="+", choices=names, default=names)
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
    date = datetime.date.today().isoformat()
    report: dict[str, object] = {
        "date": date,
        "commit": output_of("git", "describe", "--always", "--dirty") or "none",
        "command": shlex.join(["bench/peers.py", *sys.argv[1:]]),
        "machine": describe_machine(args.threads),
        "workloads": [asdict(work) for work in WORKLOADS if work.name in args.workloads],
    }
    runs: list[Measurement] = []
    failures: list[str] = []
    args.results.mkdir(parents=True, exist_ok=True)
    stem = args.results / f"{date}-{args.name}"
    with tempfile.TemporaryDirectory(prefix="gpt2train-peers-") as scratch:
        llmc = args.llmc.resolve() if args.llmc else None
        binary = args.gpt2train.resolve()
        setup = Setup(binary, llmc, args.threads, args.run_seconds, Path(scratch))
        cases = [
            (contestant, work, precision, number)
            for work in WORKLOADS
            if work.name in args.workloads
            for precision in args.precisions
            for number in range(1, args.rounds + 1)
            for contestant in args.only
            if takes_part(contestant, work, precision, number, setup)
        ]
        given_up: set[str] = set()
        for contestant, work, precision, number in cases:
            label = f"{work.name} {precision} {contestant}"
            if label in given_up:
                continue
            try:
                run = measure(contestant, work, precision, number, setup)
                runs.append(run)
                print(f"{label}: {run.tokens_per_second:.1f} tokens/s", flush=True)
            except (RunFailed, OSError) as error:
                given_up.add(label)
                failures.append(f"{label}: {error}")
                print(failures[-1], file=sys.stderr, flush=True)
            report |= {"runs": [asdict(each) for each in runs], "failures": failures}
            stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
            stem.with_suffix(".md").write_text(markdown(report, runs, failures))
    print(f"results: {stem}.json, {stem}.md", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
