#!/usr/bin/env python3
"""Reads a run's event files with TensorBoard's own reader and holds them against metrics.jsonl.

Usage: check_tensorboard.py OUT_DIR...    Exit status: 0 all right, 1 not, 77 no tensorboard here.
"""

import json
import struct
import sys
from pathlib import Path

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("check_tensorboard.py: skipped, for want of tensorboard")
    sys.exit(77)

MIB = 1 << 20
STEP = {  # tag: (field of a step's line, its unit there)
    "train/loss": ("loss", 1),
    "train/learning_rate": ("lr", 1),
    "train/grad_norm": ("grad_norm", 1),
    "speed/tokens_per_second": ("tokens_per_second", 1),
    "speed/step_ms": ("step_ms", 1),
    "speed/mfu": ("mfu", 1),
    "plan/micro_batch": ("micro_batch", 1),
    "memory_MiB/peak": ("peak_bytes", MIB),
}
EVAL = {
    "eval/train_loss": ("train_loss", 1),
    "eval/val_loss": ("val_loss", 1),
    "eval/seconds": ("seconds", 1),
}


def float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def newest(lines: list[dict], event: str) -> dict[int, dict]:
    """By step. What a resumed run does again takes the place of what it did before."""
    return {line["step"]: line for line in lines if line["event"] == event}


def texts(events: EventAccumulator, tag: str) -> list:
    known = events.Tags()["tensors"]
    return next((events.Tensors(t) for t in (tag, f"{tag}/text_summary") if t in known), [])


def check(run: Path) -> int:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    compared = 0
    for tags, event in ((STEP, "step"), (EVAL, "eval")):
        told = newest(lines, event)
        for tag, (field, unit) in tags.items():
            wanted = [(s, float32(line[field] / unit)) for s, line in told.items() if line[field] is not None]
            if not wanted:
                continue
            found = {e.step: e.value for e in events.Scalars(tag)}
            assert found == dict(wanted), f"{tag} is not {field} of metrics.jsonl"
            compared += len(found)
    # TensorBoard's page of texts fails as a whole where one of them is no UTF-8.
    written = {s: line["sample"] for s, line in newest(lines, "eval").items() if "sample" in line}
    found = {e.step: e.tensor_proto.string_val[0].decode() for e in texts(events, "eval/sample")}
    assert found == {s: f"```\n{text}\n```" for s, text in written.items()}, "eval/sample"
    compared += len(found)
    *_, end = (line for line in lines if line["event"] == "end")
    for category, size in end["peak_by_category"].items():
        last = events.Scalars(f"memory_MiB/{category}")[-1]
        assert (last.step, last.value) == (end["step"], size / MIB), f"{category} at the end"
        compared += 1
    for tag in ("run/settings", "run/machine", "memory/plan", "memory/ledger"):
        text = texts(events, tag)
        assert text and text[-1].tensor_proto.string_val[0], f"{tag} is empty"
    return compared


failed = False
for name in sys.argv[1:]:
    try:
        print(f"{name}: {check(Path(name))} values agree")
    except (AssertionError, KeyError, ValueError) as error:
        print(f"{name}: {type(error).__name__}: {error}")
        failed = True
sys.exit(failed)
