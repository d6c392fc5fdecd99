"""The report of a GPU check, in Markdown: what passed, and the figures beside their floors."""

import statistics
from collections.abc import Callable

from contestants import Measurement
from peers_report import machine_lines, mib, race_table

Record = dict[str, object]
STATUSES = ("passed", "failed", "skipped")


def outcomes_of(report: Record, part: str | None = None) -> list[Record]:
    outcomes = report["outcomes"]
    assert isinstance(outcomes, list)
    return [outcome for outcome in outcomes if part in (None, outcome["part"])]


def figures_of(report: Record, part: str) -> list[Record]:
    found = [outcome["figures"] for outcome in outcomes_of(report, part)]
    return [figures for figures in found if isinstance(figures, dict) and figures]


def real(record: Record, name: str) -> float:
    return float(str(record[name]))


def table(header: str, rows: list[str]) -> list[str]:
    """A heading's columns are numbers, but for those whose names end in a colon."""
    names = [name.strip() for name in header.split("|")]
    marks = ["---" if name.endswith(":") else "---:" for name in names]
    shown = [name.rstrip(":") for name in names]
    return [f"| {' | '.join(shown)} |", f"|{'|'.join(marks)}|", *(f"| {row} |" for row in rows)]


def summary(report: Record) -> list[str]:
    rows = []
    for part in dict.fromkeys(str(outcome["part"]) for outcome in outcomes_of(report)):
        same = outcomes_of(report, part)
        counts = [sum(outcome["status"] == status for outcome in same) for status in STATUSES]
        seconds = sum(real(outcome, "seconds") for outcome in same)
        rows.append(f"{part} | {' | '.join(map(str, counts))} | {seconds:.1f}")
    text = table(f"part: | {' | '.join(STATUSES)} | seconds", rows)
    text.append("")
    for outcome in outcomes_of(report):
        if outcome["status"] != "passed":
            note = " ".join(str(outcome["note"]).split())[-300:]
            text.append(f"- {outcome['part']}, {outcome['name']}: {outcome['status']}: {note}")
    return text if text[-1] else text[:-1]


def memory(report: Record) -> list[str]:
    sizes = ("predicted_peak_bytes", "peak_bytes", "predicted_reserved_bytes", "reserved_bytes")
    whole = [run for run in figures_of(report, "train") if all(size in run for size in sizes)]
    rows = []
    for run in whole:
        apart = run.get("first_loss_off_the_cpu")
        off = "" if apart is None else f"{float(str(apart)):.1e}"
        rows.append(
            f"{run['precision']} | {run['segments']} | {run['device']} "
            f"| {' | '.join(f'{int(real(run, size)):,}' for size in sizes)} "
            f"| {real(run, 'first_loss'):.4f} | {real(run, 'last_loss'):.4f} | {off}"
        )
    header = "precision: | segments: | device: | peak predicted, bytes | measured"
    header += " | reserved predicted, bytes | measured | first loss | last loss | first off row 1"
    return table(header, rows)


def recovery(report: Record) -> list[str]:
    text = []
    for run in figures_of(report, "out_of_memory"):
        told = run["told"]
        assert isinstance(told, list)
        if told:
            text += ["```", *map(str, told), "```", ""]
        if "peak_bytes" in run:
            predicted, measured = real(run, "predicted_peak_bytes"), real(run, "peak_bytes")
            text.append(f"Peak of the plan that it ended with, predicted: {predicted:,.0f} bytes;")
            text.append(f"measured: {measured:,.0f} bytes.")
    return text


def floors(report: Record, runs: list[Measurement]) -> list[str]:
    rows = []
    for profile in figures_of(report, "profile"):
        flops_ms, bytes_ms = real(profile, "flops_floor_ms"), real(profile, "bytes_floor_ms")
        of_work = f"{real(profile, 'flops_per_token') * 1e-6:.0f} | {flops_ms:.2f} | {bytes_ms:.2f}"
        same = [run for run in runs if run.workload == profile["workload"]]
        for contestant in dict.fromkeys(run.contestant for run in same):
            rounds = [run for run in same if run.contestant == contestant]
            step_ms = statistics.median(statistics.median(run.step_ms) for run in rounds)
            rate = statistics.median(run.tokens_per_second for run in rounds)
            rows.append(
                f"{profile['workload']} | {contestant} | {of_work} | {step_ms:.2f} | {rate:.0f} "
                f"| {flops_ms / step_ms:.1%} | {step_ms / max(flops_ms, bytes_ms):.2f}"
            )
        if not same:
            step_ms = 1e3 * real(profile, "step_seconds")
            rows.append(
                f"{profile['workload']} | profile | {of_work} | {step_ms:.2f} | "
                f"| {flops_ms / step_ms:.1%} | {step_ms / max(flops_ms, bytes_ms):.2f}"
            )
    header = "workload: | program: | MFLOP a token | floor by FLOPs, ms | floor by bytes, ms"
    return [
        *table(f"{header} | step, ms | tokens/s | MFU | step / floor", rows),
        "",
        "The floors: a step's FLOPs at the rate measured for large matrix products, and the bytes",
        "that gpt2train's kernels read and write at the rate measured for copies. MFU is the FLOPs",
        "over time and that measured rate, not a data sheet's.",
    ]


def kernels(report: Record) -> list[str]:
    profiles = figures_of(report, "profile")
    if not profiles:
        return []
    profile = max(profiles, key=lambda each: real(each, "flops_floor_ms"))
    listed = profile["kernels"]
    assert isinstance(listed, list)
    total = sum(real(kernel, "seconds_per_step") for kernel in listed)
    rows = []
    for kernel in listed:
        seconds = real(kernel, "seconds_per_step")
        rows.append(
            f"{kernel['name']} | {real(kernel, 'calls_per_step'):.0f} | {1e3 * seconds:.3f} "
            f"| {seconds / total:.1%} | {real(kernel, 'bytes_per_step') / seconds * 1e-9:.0f} "
            f"| {real(kernel, 'flops_per_step') / seconds * 1e-12:.1f} "
            f"| {real(kernel, 'share_of_peak'):.0%}"
        )
    header = "kernel: | calls a step | ms a step | share | GB/s | TFLOP/s | of peak"
    peaks = (
        f"{profile['workload']}, {profile['precision']}. Peaks measured: "
        f"{real(profile, 'peak_bytes_per_second') * 1e-9:.0f} GB/s copied, "
        f"{real(profile, 'peak_flops_per_second') * 1e-12:.1f} TFLOP/s in matrix products."
    )
    return [peaks, "", *table(header, rows)]


def markdown(report: Record, runs: list[Measurement]) -> str:
    machine = report["machine"]
    assert isinstance(machine, dict)
    gpu = machine.get("gpu")
    device = "cuda" if isinstance(gpu, dict) else "cpu"
    counts = (
        f"{sum(outcome['status'] == status for outcome in outcomes_of(report))} {status}"
        for status in STATUSES
    )
    text = [
        f"# Check of {gpu['name'] if isinstance(gpu, dict) else 'a CPU'}, {report['date']}",
        "",
        *machine_lines(machine),
        f"- Commit: {report['commit']}",
        f"- Command: `{report['command']}`",
        f"- {', '.join(counts)}, in {report.get('seconds', 0)} s",
    ]
    sections: list[tuple[str, str, Callable[[], list[str]]]] = [
        ("Parts", "", lambda: summary(report)),
        ("Memory, predicted and measured", "train", lambda: memory(report)),
        ("Out of memory, and on", "out_of_memory", lambda: recovery(report)),
        ("Kernels", "profile", lambda: kernels(report)),
        ("Beside peers", "race", lambda: race_table(runs, device) if runs else []),
        ("Beside the floors", "profile", lambda: floors(report, runs)),
    ]
    for title, part, lines in sections:
        if not part or figures_of(report, part) or (part == "race" and runs):
            text += ["", f"## {title}", "", *lines()]
    return "\n".join([*text, ""])
