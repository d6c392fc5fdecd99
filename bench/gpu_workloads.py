"""What bench/gpu_check.sh runs: for real on a GPU, and on a CPU so small that it tests itself."""

from dataclasses import dataclass

from contestants import NEVER, WORKLOADS, Workload


@dataclass(frozen=True)
class Precision:
    """A way to compute, and how far its first loss may be from the CPU's in float32.

    The limits are those of the same comparison on the emulator.
    """

    name: str
    flags: tuple[str, ...]
    loss_limit: float


FLOAT32 = Precision("float32", ("--dtype=float32",), 1e-5)
TF32 = Precision("float32+tf32", ("--dtype=float32", "--tf32=true"), 5e-3)
BFLOAT16 = Precision("bfloat16", ("--dtype=bfloat16",), 5e-3)
FLOAT16 = Precision("float16", ("--dtype=float16",), 5e-3)
SEGMENTS = ("fixed", "expandable")

# A run that writes no checkpoint and evaluates once, at its start.
QUIET = (
    f"--eval_interval={NEVER}",
    f"--checkpoint_interval={NEVER}",
    "--always_save_checkpoint=false",
)


@dataclass(frozen=True)
class Scale:
    """Sizes for one kind of device."""

    precisions: tuple[Precision, ...]
    short_run: tuple[str, ...]  # flags of a run of seconds whose loss falls
    short_steps: int
    too_large: tuple[str, ...]  # flags of a run that must run out of memory, and recover
    effective_batch: int  # of that run, in sequences
    workloads: tuple[Workload, ...]  # to profile and to race, those that matter most first
    race_precision: str


SCALES = {
    "cuda": Scale(
        precisions=(FLOAT32, TF32, BFLOAT16, FLOAT16),
        short_run=(
            *("--n_layer=2", "--n_head=2", "--n_embd=128", "--block_size=128", "--vocab_size=512"),
            *("--batch_size=8", "--gradient_accumulation_steps=2", "--dropout=0.1", "--bias=true"),
        ),
        short_steps=30,
        # GPT-2 124M, 64 x 1024, with all logits at once: 6.14 GiB of them in the 11.22 GiB that a card
        # of 12 GB has for a run.
        too_large=(
            *("--batch_size=64", "--gradient_accumulation_steps=1", "--block_size=1024"),
            *("--memory.logits=full", "--memory.plan=off", "--memory.device=rtx3060"),
            *("--dtype=bfloat16", "--vocab_size=50304"),
        ),
        effective_batch=64,
        workloads=WORKLOADS["cuda"],
        race_precision="bfloat16",
    ),
    "cpu": Scale(
        precisions=(FLOAT32, BFLOAT16),
        short_run=(
            *("--n_layer=1", "--n_head=2", "--n_embd=32", "--block_size=32", "--vocab_size=512"),
            *("--batch_size=4", "--gradient_accumulation_steps=1", "--bias=true"),
        ),
        short_steps=30,
        too_large=(
            *("--n_layer=1", "--n_head=2", "--n_embd=32", "--block_size=64", "--vocab_size=512"),
            *("--batch_size=16", "--gradient_accumulation_steps=1", "--dtype=float32"),
            *("--memory.logits=full", "--memory.plan=off", "--memory.limit=4MiB"),
        ),
        effective_batch=16,
        workloads=(Workload("smoke-4x32", 1, 2, 32, 32, 512, batch_size=4, warmup=2, steps=5),),
        race_precision="float32",
    ),
}
