"""What a measurement ran on: processor, GPU, versions."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from children import ROOT


def output_of(*command: str | Path) -> str:
    """What a command prints, or nothing where it fails or is not there."""
    try:
        result = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def commit() -> str:
    """Of this checkout; GPT2TRAIN_COMMIT where it was carried without its history."""
    described = output_of("git", "describe", "--always", "--dirty")
    return os.environ.get("GPT2TRAIN_COMMIT") or described or "none"


def describe_cpu(threads: int) -> dict[str, object]:
    """The processor, and which instructions it has of those that decide a race."""
    fields = dict(line.split(":", 1) for line in output_of("lscpu").splitlines() if ":" in line)
    flags = set(fields.get("Flags", "").split())
    return {
        "cpu": fields.get("Model name", "unknown").strip(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def why_no_gpu() -> str:
    """The reason why the driver offers no GPU, or nothing where it offers one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no CUDA driver: {error}"
    status = driver.cuInit(0)
    if status != 0:
        return f"the CUDA driver answers cuInit with error {status}"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return f"the CUDA driver shows {count.value} devices (status {status})"
    return ""


def describe_gpu() -> dict[str, object]:
    """The GPU as nvidia-smi tells, and the versions around it; "unknown" where nobody tells."""
    fields = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")
    query = "--query-gpu=" + ",".join(fields)
    line = output_of("nvidia-smi", "--id=0", query, "--format=csv,noheader")
    values = [value.strip() for value in line.split(",")]
    known = len(values) == len(fields)
    torch = "import torch; print(torch.__version__, torch.version.cuda, sep=', CUDA ')"
    return {
        **{field: values[i] if known else "unknown" for i, field in enumerate(fields)},
        "nvcc": (output_of("nvcc", "--version").splitlines() or ["none"])[-1],
        "torch": output_of(sys.executable, "-c", torch) or "none",
    }
