#!/usr/bin/env python3
"""Checks files of memory.trace=.json: by the schema beside this, and for what a schema cannot say.

Usage: check_trace_events.py FILE...    Exit status: 0 all right, 1 not, 77 no jsonschema here.
"""

import json
import sys
from pathlib import Path

try:
    import jsonschema
except ImportError:
    print("check_trace_events.py: skipped, for want of python3-jsonschema")
    sys.exit(77)

SCHEMA = json.loads(Path(__file__).with_name("trace_event.schema.json").read_text())
CATEGORIES = SCHEMA["definitions"]["category"]["enum"]


def check(events: list[dict]) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(events):
        raise AssertionError(f"event {list(error.absolute_path)}: {error.message}")

    timed = [event for event in events if event["ph"] != "M"]
    times = [event["ts"] for event in timed]
    assert times == sorted(times), "time runs backwards"

    open_slices: dict[int, list[str]] = {1: [], 2: []}
    names: dict[int, set[str]] = {1: set(), 2: set()}
    for event in timed:
        if event["ph"] == "B":
            open_slices[event["tid"]].append(event["name"])
            names[event["tid"]].add(event["name"])
        elif event["ph"] == "E":
            assert open_slices[event["tid"]], f"nothing is open that could end at {event['ts']}"
            open_slices[event["tid"]].pop()
        assert len(open_slices[1]) <= 1, "phases do not nest"
    assert open_slices == {1: [], 2: []}, f"never ended: {open_slices}"
    assert {"setup", "training", "evaluation"} <= names[1], f"phases: {names[1]}"
    assert {"model", "step 0", "micro 0", "block 1"} <= names[2], f"scopes: {names[2]}"

    bytes_of: dict[str, int] = dict.fromkeys(CATEGORIES, 0)
    for event in timed:
        if event["ph"] != "C":
            continue
        bytes_of[event["name"]] = event["args"]["bytes"]
        if event["name"] == "allocated":
            total = sum(bytes_of[category] for category in CATEGORIES)
            assert bytes_of["allocated"] == total, f"categories do not sum up at {event['ts']}"
            assert bytes_of["allocated"] <= bytes_of["reserved"] <= bytes_of["budget"], event["ts"]
    counted = {event["name"] for event in timed if event["ph"] == "C"}
    expected = {"weights", "gradients", "optimizer", "activations", "logits", "staging"}
    assert expected <= counted, f"never counted: {expected - counted}"


failed = False
for path in sys.argv[1:]:
    try:
        check(json.loads(Path(path).read_text()))
    except (AssertionError, ValueError) as error:
        print(f"{path}: {error}")
        failed = True
sys.exit(failed)
