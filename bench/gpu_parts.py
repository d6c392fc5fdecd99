"""The parts of a GPU check. Each yields outcomes: what was asked, what came of it, and figures."""

import json
import math
import shutil
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from children import Finished, RunFailed
from contestants import Measurement, Setup, gpt2train_flags
from gpu_workloads import FLOAT32, QUIET, SEGMENTS, Precision, Scale
from machine import output_of
from peers import Race, run_race

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
SANITIZERS = ("memcheck", "racecheck", "synccheck")
ROUNDS = 3  # of the race, where there is time

Figures = dict[str, object]


@dataclass
class Outcome:
    """Of one thing that a part tried."""

    name: str
    status: str
    note: str = ""
    seconds: float = 0.0
    command: str = ""
    figures: Figures = field(default_factory=dict)


@dataclass
class Check:
    """What the parts share."""

    bin: Path
    setup: Setup
    scale: Scale
    golden: Path | None
    contestants: list[str]
    deadline: float = math.inf  # of the part under way, by time.monotonic
    runs: list[Measurement] = field(default_factory=list)

    def gpu_tests(self) -> Path:
        """Beside the program where both were carried, or as they are built."""
        beside = self.bin / "gpu_tests"
        return beside if beside.exists() else self.bin / "tests/gpu_tests"

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def attempt(
        self,
        name: str,
        command: list[str],
        judge: Callable[[Finished, Figures], str],
        to_come: int = 1,
    ) -> Outcome:
        """Runs a command. `judge` adds figures, and returns a note or raises RunFailed.

        Of the time left, it may have four times its share among `to_come` runs, itself included:
        a slow one can borrow, and one that hangs leaves something to the others.
        """
        outcome = Outcome(name, FAILED, command=self.setup.shown(command))
        begin = time.monotonic()
        try:
            if self.left() <= 0:
                raise RunFailed("no time was left for it")
            seconds = self.left() * min(1.0, 4 / to_come)
            finished = self.setup.run(command, seconds)
            outcome.note = judge(finished, outcome.figures)
            outcome.status = PASSED
        except (RunFailed, OSError, ValueError, LookupError, TypeError) as error:
            outcome.note = str(error) if isinstance(error, RunFailed) else repr(error)
        outcome.seconds = round(time.monotonic() - begin, 2)
        return outcome


def demand(condition: bool, message: str) -> None:
    if not condition:
        raise RunFailed(message)


# ---- the kernels by themselves ----------------------------------------------------------------


def suites_of(program: Path) -> list[str]:
    listed = output_of(program, "--gtest_list_tests").splitlines()
    return [line.split()[0] for line in listed if line[:1].strip() and line.split()[0][-1] == "."]


def tests_passed(finished: Finished, figures: Figures) -> str:
    counts = [line for line in finished.output.splitlines() if line.startswith("[  PASSED  ]")]
    demand(len(counts) == 1, "the program did not say what passed")
    figures["tests"] = tests = int(counts[0].split()[3])
    demand(tests > 0, "no test ran")
    return f"{tests} tests"


def kernel_tests(check: Check) -> Iterator[Outcome]:
    """A process a suite: after a fault on the GPU, a process can do no more."""
    program = check.gpu_tests()
    suites = suites_of(program)
    if not suites:
        yield Outcome("list of tests", FAILED, f"{program.name} lists none; is it built?")
    for index, suite in enumerate(suites):
        command = [str(program), f"--gtest_filter={suite}*", "--gtest_brief=1"]
        yield check.attempt(suite.rstrip("."), command, tests_passed, len(suites) - index)


def sanitizer_found_nothing(finished: Finished, figures: Figures) -> str:
    """The tests passed, and the tool counts no error and no hazard, warnings included."""
    summaries = [line for line in finished.output.splitlines() if " SUMMARY: " in line]
    demand(bool(summaries), "the sanitizer did not sum up")
    demand(all(" SUMMARY: 0 " in line for line in summaries), "; ".join(summaries))
    return tests_passed(finished, figures)


def sanitizers(check: Check) -> Iterator[Outcome]:
    found = shutil.which("compute-sanitizer")
    if found is None:
        yield Outcome("compute-sanitizer", SKIPPED, "it is not on the path")
        return
    program = check.gpu_tests()
    # Matrix products are cuBLASLt's kernels: that they stay inside our memory is ours to check.
    pairs = [
        (tool, suite)
        for tool in SANITIZERS
        for suite in suites_of(program)
        if tool == "memcheck" or "Matmul" not in suite
    ]
    for index, (tool, suite) in enumerate(pairs):
        command = [found, "--tool", tool, "--error-exitcode", "86", str(program)]
        command += [f"--gtest_filter={suite}*", "--gtest_brief=1"]
        name = f"{tool} {suite.rstrip('.')}"
        yield check.attempt(name, command, sanitizer_found_nothing, len(pairs) - index)


# ---- gpt2train --------------------------------------------------------------------------------


def verification(check: Check) -> Iterator[Outcome]:
    """A built-in case; and reference weights, logits and gradients, where a folder has them."""

    def judge(finished: Finished, figures: Figures) -> str:
        report = json.loads(finished.output)
        figures |= {name: report[name] for name in report if name != "gradients"}
        loss, gradient = report["loss_deviation"], report["gradient_worst_deviation"]
        demand(report["pass"] is True, "a deviation is above its limit")
        demand(report["backend"] == check.setup.device, f"it ran on {report['backend']}")
        return f"loss off by {loss:.1e}, gradients by at most {gradient:.1e}"

    base = [str(check.setup.gpt2train), "verify", "--json", f"--device={check.setup.device}"]
    for dtype in ("float32", "bfloat16"):
        yield check.attempt(f"built-in {dtype}", [*base, f"--dtype={dtype}"], judge)
    if check.golden is None:
        return
    stem = "tiny_bias_"
    found = [*check.golden.rglob(f"{stem}weights.safetensors")]
    if not found:
        yield Outcome("golden", FAILED, f"no {stem}weights.safetensors in the folder")
        return
    for dtype in ("float32", "bfloat16"):
        files = [
            f"--{name}={found[0].with_name(f'{stem}{name}.safetensors')}"
            for name in ("weights", "io", "grads")
        ]
        yield check.attempt(f"golden {dtype}", [*base, f"--dtype={dtype}", *files], judge)


def learnable_tokens(path: Path) -> Path:
    """Tokens of which each says the next: a loss that falls within a few steps."""
    with path.open("wb") as file:
        array("H", (i % 97 for i in range(200_000))).tofile(file)
    return path


def events_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def number(event: dict[str, object], name: str) -> float:
    value = event[name]
    if not isinstance(value, int | float):  # a loss that is not finite is null
        raise RunFailed(f"{name} is {value}")
    return value


def compare_peaks(end: dict[str, object], figures: Figures) -> None:
    """Notes predicted and measured peaks; raises RunFailed where they differ."""
    names = ("predicted_peak_bytes", "peak_bytes", "predicted_reserved_bytes", "reserved_bytes")
    figures |= {name: end[name] for name in names}
    for name in ("peak_bytes", "reserved_bytes"):
        predicted, measured = end[f"predicted_{name}"], end[name]
        demand(predicted == measured, f"{name}: predicted {predicted}, measured {measured}")


def short_runs(check: Check) -> Iterator[Outcome]:
    """Each precision with both kinds of segments; the first losses are compared with the CPU's."""
    setup, scale = check.setup, check.scale
    tokens = learnable_tokens(setup.scratch / "learnable.bin")
    reference: list[float] = []
    cases = [
        (f"{precision.name} {segments}", setup.device, precision, segments)
        for precision in scale.precisions
        for segments in SEGMENTS
    ]
    if setup.device != "cpu":
        cases.insert(0, ("float32 on the CPU", "cpu", FLOAT32, "fixed"))

    for index, (name, device, precision, segments) in enumerate(cases):
        out = setup.scratch / f"short-{name.replace(' ', '-')}"
        command = [str(setup.gpt2train), *scale.short_run, *precision.flags, *QUIET]
        command += [f"--device={device}", f"--memory.segments={segments}", f"--out_dir={out}"]
        command += [f"--train={tokens}", f"--val={tokens}", "--format=nanogpt", "--eval_iters=1"]
        command += [f"--max_iters={scale.short_steps}", "--learning_rate=0.003", "--warmup_iters=2"]

        def judge(_: Finished, figures: Figures) -> str:
            events = events_of(out)
            steps = [event for event in events if event["event"] == "step"]
            demand(len(steps) == scale.short_steps, f"{len(steps)} steps were taken")
            losses = [number(step, "loss") for step in steps]
            first, last = losses[0], losses[-1]
            figures |= {"precision": precision.name, "segments": segments, "device": device}
            figures |= {"first_loss": first, "last_loss": last}
            figures["skipped_steps"] = sum("skipped" in step for step in steps)
            if reference:
                figures["first_loss_off_the_cpu"] = abs(first - reference[0])
            elif device == "cpu":
                reference.append(first)
            compare_peaks(events[-1], figures)
            demand(last < 0.8 * first, f"the loss does not fall: {first:.4f} to {last:.4f}")
            apart = abs(first - reference[0]) if reference else math.inf
            demand(apart <= precision.loss_limit, f"the first loss is {apart:.1e} off the CPU's")
            peak = number(events[-1], "peak_bytes") / 2**20
            return f"loss {first:.4f} to {last:.4f}, peak {peak:.2f} MiB as predicted"

        yield check.attempt(name, command, judge, len(cases) - index)


def out_of_memory(check: Check) -> Iterator[Outcome]:
    """A run that does not fit and is started all the same: it must run out, and then go on."""
    setup, scale = check.setup, check.scale
    tokens = learnable_tokens(setup.scratch / "learnable.bin")
    out = setup.scratch / "too-large"
    command = [str(setup.gpt2train), *scale.too_large, *QUIET, f"--device={setup.device}"]
    command += [f"--train={tokens}", f"--val={tokens}", "--format=nanogpt", "--eval_iters=2"]
    command += ["--max_iters=2", f"--out_dir={out}"]

    def judge(finished: Finished, figures: Figures) -> str:
        events = events_of(out)
        failures = [event for event in events if event["event"] == "out_of_memory"]
        words = [line.strip() for line in finished.output.splitlines()]
        told = [line for line in words if line.startswith(("out of memory", "going on with"))]
        figures |= {"events": failures, "told": told}
        demand(bool(failures), "memory did not run out")
        end, steps = events[-1], [event for event in events if event["event"] == "step"]
        demand(end["event"] == "end" and len(steps) == 2, "the run did not go on to its end")
        effective = number(end, "micro_batch") * number(end, "accumulation")
        demand(effective == scale.effective_batch, f"the effective batch became {effective}")
        compare_peaks(end, figures)
        return "; ".join(told)

    yield check.attempt("recovery", command, judge)


# ---- speed ------------------------------------------------------------------------------------


def profiles(check: Check) -> Iterator[Outcome]:
    """Each kernel's share of the measured peaks, and what the two peaks alone would allow."""
    works = check.scale.workloads
    for index, work in enumerate(works):
        precision = check.scale.race_precision
        command = [str(check.setup.gpt2train), "profile", "--json", "--steps=3"]
        command += gpt2train_flags(work, precision, check.setup)

        def judge(finished: Finished, figures: Figures) -> str:
            report = json.loads(finished.output)
            rate, copied = report["peak_flops_per_second"], report["peak_bytes_per_second"]
            flops = work.flops_per_token * work.tokens_per_step
            moved = sum(kernel["bytes_per_step"] for kernel in report["kernels"])
            figures |= {"workload": work.name, "precision": precision, **report}
            figures |= {"flops_per_token": work.flops_per_token, "bytes_per_step": moved}
            figures |= {
                "flops_floor_ms": 1e3 * flops / rate,
                "bytes_floor_ms": 1e3 * moved / copied,
            }
            note = f"{rate * 1e-12:.1f} TFLOP/s, {copied * 1e-9:.0f} GB/s, "
            return note + f"{report['step_seconds'] * 1e3:.1f} ms a step"

        yield check.attempt(work.name, command, judge, len(works) - index)


def has_torch(device: str) -> bool:
    asked = "torch.cuda.is_available()" if device == "cuda" else "True"
    return output_of(sys.executable, "-c", f"import torch; print({asked})") == "True"


def race(check: Check) -> Iterator[Outcome]:
    """gpt2train and its peers, in rounds for as long as there is time; one round must be whole."""
    contestants, scale = check.contestants, check.scale
    done: set[str] = set()
    if any(name.startswith("torch") for name in contestants) and not has_torch(check.setup.device):
        contestants = [name for name in contestants if not name.startswith("torch")]
        yield Outcome("torch", SKIPPED, "python3 has no PyTorch for this device")
    if "llm.c" in contestants and check.setup.llmc is None:
        yield Outcome("llm.c", SKIPPED, "--llmc names no folder of its programs")
    rounds = Race(contestants, list(scale.workloads), [scale.race_precision], ROUNDS)
    begin = time.monotonic()
    for result in run_race(rounds, check.setup, check.deadline):
        seconds = round(time.monotonic() - begin, 2)
        begin = time.monotonic()
        if isinstance(result, Measurement):
            check.runs.append(result)
            label, rate = result.line().split(": ")
            done.add(label)
            name = f"{label}, round {result.round}"
            yield Outcome(name, PASSED, rate, seconds, result.command)
        elif (label := result.split(": ")[0]) not in done:
            yield Outcome(label, FAILED, result.partition(": ")[2], seconds)
