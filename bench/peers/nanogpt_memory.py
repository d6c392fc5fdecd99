#!/usr/bin/env python3
"""Compares the memory that PyTorch takes for nanoGPT with what `gpt2train plan --as nanogpt` says.

Without a GPU the model runs on fake tensors, which have sizes and lifetimes but no data. A dispatch
mode counts the bytes of live storages, so eager peaks are PyTorch's own, apart from scratch inside
CUDA kernels. Of the compiled form only what AOTAutograd saves for the backward pass is seen there.
On a GPU both forms run and torch.cuda.memory_stats counts. Prints one JSON object.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import time
import weakref
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._inductor.decomposition import select_decomp_table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Counted by our model, but not by fake tensors: cuBLAS allocates it on a GPU.
CUBLAS_WORKSPACE_BYTES = 2 * 4096 * 1024 + 8 * 16 * 1024


class Dropout(nn.Module):
    """nn.Dropout as it is on CUDA: the mask that it saves has a byte a value."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.p, True)[0] if self.training and self.p > 0 else x


class Attention(nn.Module):
    """Causal self-attention with one product for queries, keys and values."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.heads, self.p = args.n_head, args.dropout
        self.qkv = nn.Linear(args.n_embd, 3 * args.n_embd, bias=args.bias)
        self.projection = nn.Linear(args.n_embd, args.n_embd, bias=args.bias)
        self.dropout = Dropout(args.dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, -1).transpose(1, 2)
            for part in self.qkv(x).split(width, dim=2)
        )
        # With dropout PyTorch's CPU attention writes out the scores, which CUDA's does not.
        p = self.p if self.training and x.is_cuda else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(batch, time, width)
        return self.dropout(self.projection(y))


class MLP(nn.Module):
    """Four times as wide inside."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.fc = nn.Linear(args.n_embd, 4 * args.n_embd, bias=args.bias)
        self.gelu = nn.GELU()
        self.projection = nn.Linear(4 * args.n_embd, args.n_embd, bias=args.bias)
        self.dropout = Dropout(args.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        x = self.gelu(x)
        x = self.projection(x)
        return self.dropout(x)


class Block(nn.Module):
    """Pre-norm, as in GPT-2."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(args.n_embd, bias=args.bias)
        self.attention = Attention(args)
        self.ln2 = nn.LayerNorm(args.n_embd, bias=args.bias)
        self.mlp = MLP(args)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT2(nn.Module):
    """Returns logits and loss, and so keeps the logits alive, as nanoGPT does."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__()
        self.wte = nn.Embedding(args.vocab_size, args.n_embd)
        self.wpe = nn.Embedding(args.block_size, args.n_embd)
        self.dropout = Dropout(args.dropout)
        self.blocks = nn.ModuleList(Block(args) for _ in range(args.n_layer))
        self.ln = nn.LayerNorm(args.n_embd, bias=args.bias)
        self.head = nn.Linear(args.n_embd, args.vocab_size, bias=False)
        self.wte.weight = self.head.weight

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        position = torch.arange(inputs.size(1), device=inputs.device)
        token_part = self.wte(inputs)
        position_part = self.wpe(position)
        x = self.dropout(token_part + position_part)
        for block in self.blocks:
            x = block(x)
        x = self.ln(x)
        logits = self.head(x)
        # What autocast does on CUDA; on a CPU it would leave the loss in 16 bits.
        flat = logits.view(-1, logits.size(-1)).float()
        loss = F.cross_entropy(flat, targets.view(-1), ignore_index=-1)
        return logits, loss


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: dict[int, weakref.ref] = {}

    def watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def forget(_: object) -> None:
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.watch(leaf)
        return result

    def restart_peak(self) -> None:
        self.peak = self.live


class CudaBytes(contextlib.nullcontext):
    """The same from PyTorch's allocator."""

    @property
    def live(self) -> int:
        return torch.cuda.memory_stats()["requested_bytes.all.current"]

    @property
    def peak(self) -> int:
        return torch.cuda.memory_stats()["requested_bytes.all.peak"]

    def restart_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()


def run_training(args: argparse.Namespace, device: str, counter, form: str) -> dict[str, int]:
    """train.py's first iterations; peaks of live bytes by phase."""
    peaks: dict[str, int] = {}
    keeps = 0

    @contextlib.contextmanager
    def phase(name: str):
        counter.restart_peak()
        yield
        peaks[name] = max(peaks.get(name, 0), counter.peak)

    def batch() -> tuple[Tensor, Tensor]:
        size = (args.batch_size, args.block_size)
        return tuple(torch.randint(args.vocab_size, size, device=device) for _ in range(2))

    with torch.device(device):
        model = GPT2(args)
    forward = torch.compile(model, dynamic=False) if form == "nanogpt-compiled" else model
    context = torch.autocast(device, torch.bfloat16, enabled=args.dtype == "bfloat16")
    groups = [
        {"params": [p for p in model.parameters() if (p.dim() >= 2) == decayed]}
        for decayed in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = torch.optim.AdamW(groups, fused=True)

    @torch.no_grad()
    def estimate_loss() -> None:
        model.eval()
        for _ in range(2):
            x, y = batch()
            with context:
                logits, loss = forward(x, y)
        model.train()

    x, y = batch()
    with phase("evaluation"):
        estimate_loss()
    for _ in range(2):
        for _ in range(min(args.gradient_accumulation_steps, 2)):
            with phase("forward"):
                before = counter.live
                with context:
                    logits, loss = forward(x, y)
                keeps = keeps or counter.live - before
                x, y = batch()
            with phase("backward"):
                (loss / args.gradient_accumulation_steps).backward()
        with phase("optimizer"):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    with phase("evaluation"):
        estimate_loss()
    return {**peaks, "forward_keeps": keeps, "peak": max(peaks.values())}


class Traced(Exception):
    """Ends a compilation when what was asked of it is known."""


def saved_by_compiled(args: argparse.Namespace) -> int:
    """Bytes that the compiled forward pass returns or saves, beyond parameters and batch."""
    saved: dict[int, int] = {}

    def forward_graph(graph: torch.fx.GraphModule, _: list) -> None:
        (output,) = (node for node in graph.graph.nodes if node.op == "output")
        for node in output.args[0]:
            if isinstance(node, torch.fx.Node) and node.op != "placeholder":
                value = node.meta["val"]
                if isinstance(value, Tensor):
                    storage = value.untyped_storage()
                    saved[storage._cdata] = storage.nbytes()
        raise Traced

    backend = aot_autograd(
        fw_compiler=forward_graph,
        decompositions=select_decomp_table(),
        partition_fn=min_cut_rematerialization_partition,
    )
    with torch.device("meta"):
        model = GPT2(args)
    model.to_empty(device="cpu")  # never touched, so never resident
    size = (args.batch_size, args.block_size)
    tokens = [torch.zeros(size, dtype=torch.int64) for _ in range(2)]
    context = torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bfloat16")
    with contextlib.suppress(Exception), context:
        torch.compile(model, backend=backend, dynamic=False)(*tokens)
    if not saved:
        sys.exit("the forward graph was not seen")
    return sum(saved.values())


def measure(args: argparse.Namespace, form: str) -> dict[str, int]:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        return run_training(args, "cuda", CudaBytes(), form)
    if form == "nanogpt-compiled":
        return {"forward_keeps": saved_by_compiled(args)}
    with FakeTensorMode(), LiveBytes() as counter:
        return run_training(args, "cpu", counter, form)


def predict(args: argparse.Namespace, form: str) -> dict[str, int]:
    """The same figures from gpt2train."""
    names = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size", "dropout", "batch_size")
    names += ("gradient_accumulation_steps", "dtype")
    command = [args.gpt2train, "plan", "--as", form, "--json", "--device=cpu"]
    command += [f"--{name}={getattr(args, name)}" for name in names]
    command += [f"--bias={str(args.bias).lower()}", "--memory.limit=100000GiB"]
    command += ["--memory.segments=expandable"]  # whose blocks are rounded to 512 bytes, no more
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    plan = json.loads(text)
    workspace = 0 if torch.cuda.is_available() else CUBLAS_WORKSPACE_BYTES
    figures = {name: size - workspace for name, size in plan["needed_by_phase"].items()}
    figures["peak"] = plan["needed_requested_bytes"] - workspace
    figures["forward_keeps"] = plan["forward_keeps_bytes"]
    return figures


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpt2train", default=str(Path("build/gpt2train")))
    parser.add_argument("--forms", nargs="+", default=["nanogpt", "nanogpt-compiled"])
    parser.add_argument("--n_layer", type=int, default=12)
    parser.add_argument("--n_head", type=int, default=12)
    parser.add_argument("--n_embd", type=int, default=768)
    parser.add_argument("--block_size", type=int, default=1024)
    parser.add_argument("--vocab_size", type=int, default=50304)
    parser.add_argument("--bias", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--gradient_accumulation_steps", type=int, default=40)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "fake tensors"
    rows = []
    for form in args.forms:
        for batch_size in args.batch_size:
            case = argparse.Namespace(**{**vars(args), "batch_size": batch_size})
            measured, predicted = measure(case, form), predict(case, form)
            figures = {
                name: {
                    "torch_bytes": size,
                    "gpt2train_bytes": predicted[name],
                    "error_percent": round(100 * (predicted[name] / size - 1), 3),
                }
                for name, size in measured.items()
            }
            rows.append({"as": form, "batch_size": batch_size, "figures": figures})
    model = {name: getattr(args, name) for name in ("n_layer", "n_head", "n_embd", "block_size")}
    model |= {name: getattr(args, name) for name in ("vocab_size", "bias", "dropout", "dtype")}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], check=False, capture_output=True, text=True
    )
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit.stdout.strip(),
        "command": " ".join(["bench/peers/nanogpt_memory.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "device": device,
    }
    print(json.dumps({**record, **model, "runs": rows}, indent=1))


if __name__ == "__main__":
    main()
