#!/usr/bin/env python3
"""Brings what README.md and docs/ show of commands up to date; with --check, says what is not.

Three forms, of which the first two are written anew:

    ```
    $ build/gpt2train plan ...     An excerpt: its lines, in their order, with "..." where some are
    first line                     left out. A line that has changed becomes the one most like it.
      ...
    ```

    <!-- output of: COMMAND -->    All of it, as a table of the page, down to <!-- output end -->.

    <!-- an example -->            Before an excerpt: times and losses, which no two runs share. With
                                   "bytes as in: COMMAND", its figures of bytes are that command's.

Pages of bench/results are checked against the files of figures beside them.
"""

import argparse
import difflib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXCERPT = re.compile(r"(<!-- an example[^\n]*-->\n)?(```\n\$ )([^\n]*)\n(.*?)(```\n)", re.S)
OUTPUT = re.compile(r"(<!-- output of: ([^\n]*) -->\n)(.*?)(<!-- output end -->\n)", re.S)
LEFT_OUT = "..."

program = ROOT / "build/gpt2train"
problems: list[str] = []


@cache
def output_of(command: str) -> str:
    """The same everywhere: without a GPU, a cache of measurements, or more threads than four."""
    words = shlex.split(command)
    with tempfile.TemporaryDirectory() as empty:
        fixed = {"CUDA_VISIBLE_DEVICES": "-1", "OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "passive"}
        places = {"HOME": empty, "XDG_CACHE_HOME": empty, "XDG_CONFIG_HOME": empty}
        run = subprocess.run(
            [str(program) if words[0] == "build/gpt2train" else words[0], *words[1:]],
            cwd=ROOT,
            env={**os.environ, **fixed, **places, "GPT2TRAIN_CACHE_DIR": empty},
            capture_output=True,
            text=True,
        )
    if run.returncode not in (0, 4):  # 4: the plan that was asked about does not fit
        problems.append(f"{command}: exit {run.returncode}: {run.stderr.strip()}")
    return run.stdout


def excerpt(command: str, shown: list[str]) -> list[str]:
    """The lines of the output that the shown ones stand for."""
    output = output_of(command.split("  #")[0]).splitlines()
    output = [line.rstrip() for line in output]
    lines, at, adjoining = [], 0, True
    for line in shown:
        if line.strip() == LEFT_OUT:
            lines.append(line)
            adjoining = False
            continue
        rest = output[at : at + 1] if adjoining else output[at:]
        if line not in rest:
            closest = difflib.get_close_matches(line, rest, n=1, cutoff=0.5)
            if not closest:
                problems.append(f"{command}: has no such line: {line}")
                return shown
            line = closest[0]
        at += rest.index(line) + 1
        lines.append(line)
        adjoining = True
    return lines


def check_bytes(example: str, text: str) -> None:
    command = re.search(r"bytes as in: (.*) -->", example)
    if command is None:
        return
    output = output_of(command[1])
    for figure in re.findall(r"([\d,]+) bytes", text):
        if not re.search(rf"\b{figure.replace(',', '')}\b", output):
            problems.append(f"{command[1]}: says nothing of {figure} bytes")


def new_excerpt(found: re.Match[str]) -> str:
    example, fence, command, text, end = found.groups()
    if example:
        check_bytes(example, text)
        return found[0]
    lines = excerpt(command, text.splitlines())
    return fence + "\n".join([command, *lines]) + "\n" + end


def new_output(found: re.Match[str]) -> str:
    begin, command, _, end = found.groups()
    return begin + output_of(command) + end


def check_results() -> None:
    for page in sorted((ROOT / "bench/results").glob("*-cpu-*.md")):
        command = f"python3 bench/results_table.py --page bench/results/{page.stem}.json"
        if output_of(command) != page.read_text():
            problems.append(f"{page.name} is not what {command} prints")


def main() -> int:
    global program
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 for a change")
    parser.add_argument("--program", type=Path, default=program, help="instead of build/gpt2train")
    args = parser.parse_args()
    program = args.program.resolve()

    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        old = page.read_text()
        new = OUTPUT.sub(new_output, EXCERPT.sub(new_excerpt, old))
        if new == old:
            continue
        if args.check:
            change = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
            problems.append(f"{page.name} is out of date:\n" + "\n".join(list(change)[2:]))
        elif not problems:
            page.write_text(new)
            print(f"wrote {page.relative_to(ROOT)}")
    check_results()
    for problem in problems:
        print(f"readme_tables.py: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
