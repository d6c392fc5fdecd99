"""Runs other programs under a limit of time, and watches what they take."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class RunFailed(Exception):
    """A program failed, or did not do the work it was asked for; `output` is what it printed."""

    def __init__(self, message: str, output: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.output = output
        self.status = status


@dataclass(frozen=True)
class Finished:
    """A child process that ended well."""

    output: str
    seconds: float
    peak_rss_bytes: int
    other_cores: float  # cores that the rest of the machine kept busy meanwhile
    card_bytes: int | None  # most memory in use on the GPU, by anybody; None where nobody tells


def busy_seconds() -> float:
    """CPU time of the whole machine since boot, with what a hypervisor took away."""
    user, nice, system, _idle, _iowait, *rest = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, *rest))) / os.sysconf("SC_CLK_TCK")


class CardWatch:
    """Polls the GPU's memory in use five times a second, by nvidia-smi, while it is entered."""

    COMMAND = ("nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits")

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.peak_bytes: int | None = None
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "CardWatch":
        if self.wanted:
            try:
                self.process = subprocess.Popen(
                    [*self.COMMAND, "--loop-ms=200"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            except OSError:
                return self
            self.reader = threading.Thread(target=self.read, daemon=True)
            self.reader.start()
        return self

    def read(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.peak_bytes = max(self.peak_bytes or 0, int(line) * 2**20)

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.reader.join()


def run_child(
    command: list[str],
    seconds: float,
    environment: dict[str, str] | None = None,
    cwd: Path = ROOT,
    watch_card: bool = False,
) -> Finished:
    """Runs a command to its end; raises RunFailed where it fails or takes more than `seconds`."""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        CardWatch(watch_card) as card,
    ):
        start, busy = time.monotonic(), busy_seconds()
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | (environment or {}),
            stdout=output,
            stderr=errors,
            start_new_session=True,  # so that what it starts can be ended with it
        )
        expired = threading.Event()

        def end() -> None:
            expired.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

        killer = threading.Timer(max(0.0, seconds), end)
        killer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            end()
            raise
        finally:
            killer.cancel()
        took = time.monotonic() - start
        others = busy_seconds() - busy - usage.ru_utime - usage.ru_stime
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        text, error_text = output.read(), errors.read()
        if expired.is_set():
            raise RunFailed(f"stopped after its limit of {seconds:.0f} s", text + error_text)
        if child.returncode == -signal.SIGKILL:
            raise RunFailed("killed, perhaps for want of memory", text + error_text)
        if child.returncode != 0:
            tail = (error_text or text)[-500:].strip()
            message = f"exit status {child.returncode}: {tail}"
            raise RunFailed(message, text + error_text, child.returncode)
        peak = usage.ru_maxrss * 1024  # KiB on Linux
        return Finished(text, took, peak, max(0.0, others / took), card.peak_bytes)
