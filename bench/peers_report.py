"""Tables of what the contestants reached."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from contestants import Measurement

MEMORY = {"cpu": ("peak RSS, MiB",), "cuda": ("allocated, MiB", "reserved, MiB", "card, MiB")}


@dataclass(frozen=True)
class Row:
    """All rounds of one contestant on one workload in one precision."""

    workload: str
    precision: str
    contestant: str
    median: float  # tokens/s, of the rounds
    low: float
    high: float
    memory: tuple[int | None, ...]  # most of any round, in bytes: what MEMORY names


def memory_of(run: Measurement, device: str) -> tuple[int | None, ...]:
    if device == "cpu":
        return (run.peak_rss_bytes,)
    counted = (run.details.get(name) for name in ("peak_bytes", "reserved_bytes"))
    return (*(None if size is None else int(str(size)) for size in counted), run.card_bytes)


def summarise(runs: list[Measurement], device: str) -> list[Row]:
    rows = []
    for key in dict.fromkeys((run.workload, run.precision, run.contestant) for run in runs):
        same = [run for run in runs if (run.workload, run.precision, run.contestant) == key]
        rates = [run.tokens_per_second for run in same]
        columns = zip(*(memory_of(run, device) for run in same))
        most = (max((size for size in column if size), default=None) for column in columns)
        rows.append(Row(*key, statistics.median(rates), min(rates), max(rates), tuple(most)))
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


def mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.0f}"


def race_table(runs: list[Measurement], device: str) -> list[str]:
    rows = summarise(runs, device)

    def ratio(row: Row, precision: str | None) -> str:
        best = best_torch(rows, row.workload, precision)
        return f"{row.median / best:.2f}" if best else ""

    text = [
        "| workload | precision | program | tokens/s | rounds from - to "
        f"| / best torch, same precision | / best torch, any precision "
        f"| {' | '.join(MEMORY[device])} |",
        "|---|---|---|---:|---:|---:|---:|" + "---:|" * len(MEMORY[device]),
    ]
    for row in rows:
        text.append(
            f"| {row.workload} | {row.precision} | {row.contestant} | {row.median:.1f} "
            f"| {row.low:.1f} - {row.high:.1f} | {ratio(row, row.precision)} | {ratio(row, None)} "
            f"| {' | '.join(mib(size) for size in row.memory)} |"
        )
    return [*text, "", "A round's figure is its median step's; the table has the median round."]


def machine_lines(machine: dict[str, object]) -> list[str]:
    """Bullets that say what the figures were measured on."""
    instructions = machine["instructions"]
    assert isinstance(instructions, list)
    text = [
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
        f"{', '.join(instructions) or 'no vector extensions of note'}, "
        f"{int(str(machine['memory_bytes'])) / 2**30:.0f} GiB"
    ]
    gpu = machine.get("gpu")
    if isinstance(gpu, dict):
        text.append(
            f"- GPU: {gpu['name']}, {gpu['memory.total']}, driver {gpu['driver_version']}, "
            f"at most {gpu['clocks.max.sm']} and {gpu['power.limit']}; PyTorch {gpu['torch']}"
        )
    return text


def markdown(report: dict[str, object], runs: list[Measurement], failures: list[str]) -> str:
    machine = report["machine"]
    assert isinstance(machine, dict)
    device = "cuda" if "gpu" in machine else "cpu"
    text = [
        f"# Training speed beside peers, {report['date']}",
        "",
        *machine_lines(machine),
        f"- Commit: {report['commit']}",
        f"- Command: `{report['command']}`",
        f"- Cores that other programs kept busy during a run: at most "
        f"{max((run.other_cores for run in runs), default=0.0):.2f}",
        "",
        *race_table(runs, device),
        "",
        *own_table(runs),
    ]
    if failures:
        text += ["", "Without a figure:", "", *(f"- {failure}" for failure in failures)]
    text += ["", "```sh", *dict.fromkeys(run.command for run in runs), "```", ""]
    return "\n".join(text)
