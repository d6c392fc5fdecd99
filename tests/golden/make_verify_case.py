#!/usr/bin/env python3
"""Prints src/cli/verify_case.cpp's figures: a tiny GPT-2 in double precision, weights by formula.

Needs PyTorch. Run it again only when the case changes:
    python3 tests/golden/make_verify_case.py
"""

import math

import torch
import torch.nn.functional as F

LAYERS, HEADS, WIDTH, BLOCK, VOCAB, BATCH = 2, 3, 48, 20, 101, 2


def weight(tensor: int, shape: tuple[int, ...], is_norm_scale: bool) -> torch.Tensor:
    """Uniform in [-0.2, 0.2) by a hash of tensor and element, plus 1 for a norm's scale."""
    mask = (1 << 32) - 1
    h = (torch.arange(1, math.prod(shape) + 1) + tensor * 1000003) * 2654435761 & mask
    h = (h ^ (h >> 15)) * 2246822519 & mask
    h = h ^ (h >> 13)
    values = 0.4 * (h.double() / 2**32 - 0.5)
    if is_norm_scale:
        values = values + 1.0
    # Stored as fp32, as the program has it.
    return values.float().double().reshape(shape).requires_grad_()


def parameters() -> list[tuple[str, torch.Tensor]]:
    shapes: list[tuple[str, tuple[int, ...]]] = [("wte.weight", (VOCAB, WIDTH)), ("wpe.weight", (BLOCK, WIDTH))]
    for layer in range(LAYERS):
        for name, shape in [
            ("ln_1", (WIDTH,)),
            ("attn.c_attn", (3 * WIDTH, WIDTH)),
            ("attn.c_proj", (WIDTH, WIDTH)),
            ("ln_2", (WIDTH,)),
            ("mlp.c_fc", (4 * WIDTH, WIDTH)),
            ("mlp.c_proj", (WIDTH, 4 * WIDTH)),
        ]:
            shapes.append((f"h.{layer}.{name}.weight", shape))
            shapes.append((f"h.{layer}.{name}.bias", shape[:1]))
    shapes += [("ln_f.weight", (WIDTH,)), ("ln_f.bias", (WIDTH,))]
    return [
        (name, weight(t, shape, ".ln_" in f".{name}" and name.endswith(".weight")))
        for t, (name, shape) in enumerate(shapes)
    ]


def loss_of(w: dict[str, torch.Tensor], gelu: str) -> torch.Tensor:
    i = torch.arange(BATCH * BLOCK)
    inputs = ((i * 37 + 11) % VOCAB).reshape(BATCH, BLOCK)
    targets = ((i * 53 + 29) % VOCAB).reshape(BATCH, BLOCK)
    x = w["wte.weight"][inputs] + w["wpe.weight"]
    for layer in range(LAYERS):
        p = lambda name: (w[f"h.{layer}.{name}.weight"], w[f"h.{layer}.{name}.bias"])
        q, k, v = F.linear(F.layer_norm(x, (WIDTH,), *p("ln_1")), *p("attn.c_attn")).split(WIDTH, dim=2)
        heads = lambda t: t.reshape(BATCH, BLOCK, HEADS, -1).transpose(1, 2)
        scores = heads(q) @ heads(k).transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        mask = torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu(1)
        y = scores.masked_fill(mask, -math.inf).softmax(-1) @ heads(v)
        x = x + F.linear(y.transpose(1, 2).reshape(BATCH, BLOCK, WIDTH), *p("attn.c_proj"))
        h = F.linear(F.layer_norm(x, (WIDTH,), *p("ln_2")), *p("mlp.c_fc"))
        x = x + F.linear(F.gelu(h, approximate=gelu), *p("mlp.c_proj"))
    x = F.layer_norm(x, (WIDTH,), w["ln_f.weight"], w["ln_f.bias"])
    return F.cross_entropy((x @ w["wte.weight"].T).reshape(-1, VOCAB), targets.reshape(-1))


def main() -> None:
    for gelu in ("none", "tanh"):
        named = parameters()
        loss = loss_of(dict(named), gelu)
        loss.backward()
        norms = ", ".join(f"{tensor.grad.norm().item():.12e}" for _, tensor in named)
        print(f"{gelu}: loss {loss.item():.12f}\n{{{norms}}}")


if __name__ == "__main__":
    main()
