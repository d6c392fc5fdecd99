#!/usr/bin/env python3
"""Times GPT-2 training steps in plain PyTorch, on a CPU or a GPU; prints one line of JSON.

The model is GPT-2 as nanoGPT configures it: pre-norm blocks, erf GELU, a head tied to the token
table, causal scaled_dot_product_attention. Tokens are random: the time of a step does not depend
on what they say.
"""

import argparse
import json
import math
import resource
import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The model's sizes, with nanoGPT's names."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int
    bias: bool
    dropout: float


class Attention(nn.Module):
    """Causal self-attention over all heads at once."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.n_head
        self.dropout = shape.dropout
        self.qkv = nn.Linear(shape.n_embd, 3 * shape.n_embd, bias=shape.bias)
        self.projection = nn.Linear(shape.n_embd, shape.n_embd, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # B, T, 3, H, C / H
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.projection(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then the MLP, each on the normalised residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.n_embd
        self.ln1 = nn.LayerNorm(width, bias=shape.bias)
        self.attention = Attention(shape)
        self.ln2 = nn.LayerNorm(width, bias=shape.bias)
        self.fc = nn.Linear(width, 4 * width, bias=shape.bias)
        self.projection = nn.Linear(4 * width, width, bias=shape.bias)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.ln1(x)))
        return x + self.dropout(self.projection(F.gelu(self.fc(self.ln2(x)))))


class GPT2(nn.Module):
    """Token ids and targets to the mean cross-entropy."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.wpe = nn.Embedding(shape.block_size, shape.n_embd)
        self.dropout = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.n_layer))
        self.ln = nn.LayerNorm(shape.n_embd, bias=shape.bias)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                depth = 2 * shape.n_layer if "projection" in name else 1
                nn.init.normal_(weight, std=0.02 / math.sqrt(depth))

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        position = torch.arange(inputs.size(1), device=inputs.device)
        x = self.dropout(self.wte(inputs) + self.wpe(position))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln(x), self.wte.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizer(model: nn.Module) -> tuple[torch.optim.Optimizer, str]:
    """AdamW with decay on matrices alone, in the fastest form this PyTorch has for the device."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.dim() >= 2], "weight_decay": 0.1},
        {"params": [w for w in weights if w.dim() < 2], "weight_decay": 0.0},
    ]
    settings = {"lr": 6e-4, "betas": (0.9, 0.95)}
    try:
        return torch.optim.AdamW(groups, **settings, fused=True), "fused"
    except RuntimeError:
        return torch.optim.AdamW(groups, **settings, foreach=True), "foreach"


class HostClock:
    """Times between marks, where work is done when a call returns."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def intervals_ms(self) -> list[float]:
        return [1e3 * (end - start) for start, end in zip(self.marks, self.marks[1:])]


class DeviceClock:
    """The same by the GPU's own events: the host may run ahead, as it does in real training."""

    def __init__(self) -> None:
        self.marks: list[torch.cuda.Event] = []

    def mark(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self.marks.append(event)

    def intervals_ms(self) -> list[float]:
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in zip(self.marks, self.marks[1:])]


def memory_record(device: str) -> dict[str, int]:
    """The process's peak resident set and, on a GPU, the peaks of PyTorch's allocator, in bytes."""
    record = {"peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if device == "cuda":
        record["peak_bytes"] = torch.cuda.max_memory_allocated()
        record["reserved_bytes"] = torch.cuda.max_memory_reserved()
    return record


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n_layer", type=int, default=12)
    parser.add_argument("--n_head", type=int, default=12)
    parser.add_argument("--n_embd", type=int, default=768)
    parser.add_argument("--block_size", type=int, default=1024)
    parser.add_argument("--vocab_size", type=int, default=50304)
    parser.add_argument("--bias", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches a step")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="bfloat16: autocast"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10, help="timed steps")
    parser.add_argument("--warmup", type=int, default=3, help="steps before those")
    parser.add_argument(
        "--max_seconds", type=float, default=math.inf, help="then stop, after a timed step"
    )
    parser.add_argument("--compile", choices=("on", "off"), default="off", help="torch.compile")
    return parser.parse_args()


def time_steps(args: argparse.Namespace) -> dict[str, object]:
    """Builds the model, runs the steps, and returns the record to print."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(1337)
    shape = Shape(
        args.n_layer,
        args.n_head,
        args.n_embd,
        args.block_size,
        args.vocab_size,
        args.bias,
        args.dropout,
    )
    model = GPT2(shape).to(args.device)
    optimizer, optimizer_form = make_optimizer(model)
    loss_of = torch.compile(model) if args.compile == "on" else model
    autocast = torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bfloat16")
    tokens_per_step = args.batch_size * args.block_size * args.accumulation

    def step() -> Tensor:
        total = torch.zeros((), device=args.device)
        for _ in range(args.accumulation):
            size = (args.batch_size, args.block_size + 1)
            tokens = torch.randint(args.vocab_size, size, device=args.device)
            with autocast:
                loss = loss_of(tokens[:, :-1], tokens[:, 1:]) / args.accumulation
            loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    clock = DeviceClock() if args.device == "cuda" else HostClock()
    clock.mark()
    loss = torch.zeros(())
    begin = time.perf_counter()
    for number in range(args.warmup + args.steps):
        if number > args.warmup and time.perf_counter() - begin > args.max_seconds:
            break
        loss = step()
        clock.mark()
    step_ms = clock.intervals_ms()[args.warmup :]

    rates = [1e3 * tokens_per_step / ms for ms in step_ms]
    return {
        "tokens_per_second": round(statistics.median(rates), 1),
        "tokens_per_second_min": round(min(rates), 1),
        "tokens_per_second_max": round(max(rates), 1),
        "step_ms": [round(ms, 2) for ms in step_ms],
        **memory_record(args.device),
        "final_loss": round(loss.item(), 4),
        "compile": args.compile,
        "optimizer": optimizer_form,
        "dtype": args.dtype,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(time_steps(parse_arguments())), flush=True)
