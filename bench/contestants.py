"""The programs that are measured beside one another, and what they are given to do."""

import array
import json
import random
import re
import shlex
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from children import ROOT, Finished, RunFailed, run_child

TOKEN_COUNT = 2_200_000
LARGEST_VOCABULARY = 50257  # of the tokens, as llm.c has no others
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

    @property
    def flops_per_token(self) -> int:
        """Forward and backward as nanoGPT counts: 6 a weight but for positions, and attention."""
        weights = 12 * self.n_layer * self.n_embd**2 + self.vocab_size * self.n_embd
        return 6 * weights + 12 * self.n_layer * self.n_embd * self.block_size

    @property
    def is_124m(self) -> bool:
        return (self.n_layer, self.n_embd) == (12, 768)

    def shape_flags(self) -> list[str]:
        """The sizes as flags: gpt2train and torch_gpt2.py share nanoGPT's names."""
        names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "batch_size")
        return [f"--{name}={getattr(self, name)}" for name in names]


WORKLOADS = {
    "cpu": (
        Workload("gpt2-124m-4x256", 12, 12, 768, 256, 50304, batch_size=4, warmup=2, steps=8),
        Workload("gpt2-124m-1x1024", 12, 12, 768, 1024, 50304, batch_size=1, warmup=2, steps=8),
        Workload("nanogpt-cpu", 4, 4, 128, 64, 65, batch_size=12, warmup=20, steps=200),
    ),
    "cuda": (
        *(
            Workload(f"gpt2-124m-{size}x1024", 12, 12, 768, 1024, 50304, size, warmup=5, steps=20)
            for size in (4, 8, 16, 32, 64)
        ),
        Workload("gpt2-30m-16x512", 6, 6, 384, 512, 50304, batch_size=16, warmup=5, steps=40),
    ),
}


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
    card_bytes: int | None  # most memory in use on the GPU
    details: dict[str, object] = field(default_factory=dict)

    def line(self) -> str:
        label = f"{self.workload} {self.precision} {self.contestant}"
        return f"{label}: {self.tokens_per_second:.1f} tokens/s"


@dataclass(frozen=True)
class Setup:
    """What the runs of one invocation share."""

    gpt2train: Path
    llmc: Path | None
    device: str  # "cpu" or "cuda"
    threads: int
    run_seconds: float
    scratch: Path  # a temporary folder

    def run(self, command: list[str], seconds: float, cwd: Path = ROOT) -> Finished:
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        return run_child(command, seconds, threads, cwd, watch_card=self.device == "cuda")

    def shown(self, command: list[str]) -> str:
        """A command without this machine's paths."""
        text = shlex.join(command)
        folders = ((self.scratch, "$SCRATCH"), (self.llmc, "$LLMC"), (ROOT, "."))
        for path, short in folders:
            if path is not None:
                text = text.replace(str(path), short)
        return text.replace(str(self.gpt2train), "gpt2train").replace(sys.executable, "python3")


def write_tokens(path: Path, vocab_size: int, seed: int) -> None:
    """Random tokens, slightly uneven, which no timing sees; llm.c's format, which all can read."""
    raw = array.array("H", random.Random(seed).randbytes(2 * TOKEN_COUNT))
    largest = min(vocab_size, LARGEST_VOCABULARY)
    with path.open("wb") as file:
        array.array("i", (20240520, 1, TOKEN_COUNT, *([0] * 253))).tofile(file)
        array.array("H", (token % largest for token in raw)).tofile(file)


def token_files(work: Workload, scratch: Path) -> tuple[Path, Path]:
    """The training and validation files for a workload, made when first asked for."""
    paths = [scratch / f"{split}-{work.vocab_size}.bin" for split in ("train", "val")]
    for seed, path in enumerate(paths):
        if not path.exists():
            write_tokens(path, work.vocab_size, seed)
    return paths[0], paths[1]


@dataclass(frozen=True)
class Timing:
    """What a contestant reports: its command, counted steps, memory, and details."""

    command: list[str]
    step_ms: list[float]
    finished: Finished
    details: dict[str, object]
    peak_rss_bytes: int | None = None  # where it is not the process's own


def gpt2train_flags(work: Workload, precision: str, setup: Setup) -> list[str]:
    """The settings under which gpt2train does the work of the others, and nothing else."""
    train, val = token_files(work, setup.scratch)
    return [
        *work.shape_flags(),
        "--gradient_accumulation_steps=1",
        "--bias=false",
        "--dropout=0",
        f"--dtype={precision}",
        f"--device={setup.device}",
        f"--train={train}",
        f"--val={val}",
        f"--out_dir={setup.scratch / 'out'}",
        f"--max_iters={work.warmup + work.steps}",
        f"--eval_interval={NEVER}",
        "--eval_iters=1",
        f"--checkpoint_interval={NEVER}",
        "--always_save_checkpoint=false",
    ]


def run_gpt2train(work: Workload, precision: str, setup: Setup, seconds: float) -> Timing:
    command = [str(setup.gpt2train), *gpt2train_flags(work, precision, setup)]
    finished = setup.run(command, seconds)
    lines = (setup.scratch / "out/metrics.jsonl").read_text().splitlines()
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
        "recompute": end["recompute"],
        "mfu": statistics.median(step["mfu"] for step in steps),
    }
    return Timing(command, [step["step_ms"] for step in steps], finished, details)


def run_torch(
    work: Workload, precision: str, setup: Setup, seconds: float, compiled: str
) -> Timing:
    command = [
        sys.executable,
        str(ROOT / "bench/peers/torch_gpt2.py"),
        *work.shape_flags(),
        f"--dtype={precision}",
        f"--device={setup.device}",
        f"--compile={compiled}",
        f"--threads={setup.threads}",
        f"--warmup={work.warmup}",
        f"--steps={work.steps}",
        f"--max_seconds={setup.run_seconds:g}",
    ]
    finished = setup.run(command, seconds)
    record = json.loads(finished.output.splitlines()[-1])
    names = ("torch", "optimizer", "compile", "peak_bytes", "reserved_bytes")
    details = {name: record[name] for name in names if name in record}
    # The program's own peak leaves out the compilers that torch.compile starts.
    return Timing(command, record["step_ms"], finished, details, record["peak_rss_bytes"])


def run_llmc(work: Workload, precision: str, setup: Setup, seconds: float) -> Timing:
    assert setup.llmc is not None
    if setup.device == "cpu":
        command = [str(setup.llmc / f"train_gpt2_{work.batch_size}x{work.block_size}")]
        pattern = r"^step \d+: train loss .* \(took ([\d.]+) ms\)"
        warmup = 1  # the first step allocates and touches all the memory
    else:
        train, val = token_files(work, setup.scratch)
        flags = {
            "-i": train,
            "-j": val,
            "-e": f"d{work.n_layer}",  # random weights
            "-b": work.batch_size,
            "-t": work.block_size,
            "-d": work.tokens_per_step,
            "-x": work.warmup + work.steps,
            "-v": NEVER,
            "-m": 1,
            "-s": 0,
            "-c": 0.1,
            "-r": 0,
        }
        words = (str(word) for pair in flags.items() for word in pair)
        command = [str(setup.llmc / "train_gpt2cu"), *words]
        pattern = r"^step +\d+/\d+ \| .* \| ([\d.]+) ms \|"
        warmup = work.warmup
    finished = setup.run(command, seconds, cwd=setup.llmc)
    step_ms = [float(ms) for ms in re.findall(pattern, finished.output, re.MULTILINE)][warmup:]
    if not step_ms:
        raise RunFailed("no counted step in the output", finished.output)
    return Timing(command, step_ms, finished, {})


CONTESTANTS: dict[str, Callable[[Workload, str, Setup, float], Timing]] = {
    "gpt2train": run_gpt2train,
    "torch-eager": partial(run_torch, compiled="off"),
    "torch-compile": partial(run_torch, compiled="on"),
    "llm.c": run_llmc,
}


def takes_part(contestant: str, work: Workload, precision: str, number: int, setup: Setup) -> bool:
    """llm.c has the 124M model alone; its CPU program is so slow that one round must do."""
    if contestant != "llm.c":
        return True
    if setup.llmc is None or not work.is_124m:
        return False
    if setup.device == "cuda":
        return precision == "bfloat16"
    return precision == "float32" and number == 1


def measure(
    contestant: str, work: Workload, precision: str, number: int, setup: Setup, seconds: float
) -> Measurement:
    """One run; raises RunFailed where it fails or takes more than `seconds`."""
    timing = CONTESTANTS[contestant](work, precision, setup, seconds)
    return Measurement(
        workload=work.name,
        precision=precision,
        contestant=contestant,
        round=number,
        command=setup.shown(timing.command),
        step_ms=timing.step_ms,
        tokens_per_second=1e3 * work.tokens_per_step / statistics.median(timing.step_ms),
        peak_rss_bytes=timing.peak_rss_bytes or timing.finished.peak_rss_bytes,
        other_cores=round(timing.finished.other_cores, 2),
        card_bytes=timing.finished.card_bytes,
        details=timing.details,
    )
