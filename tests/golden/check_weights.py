#!/usr/bin/env python3
"""Exchanges weights with transformers, nanoGPT and llm.c, and compares what each computes from them.

Needs PyTorch, transformers, safetensors and, for llm.c, a C compiler. By hand:
    python3 tests/golden/check_weights.py build/gpt2train --nanogpt DIR --llmc DIR
DIR is a clone of the other program; without it that part is left out.
"""

import argparse
import importlib.util
import itertools
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

LIMIT = 1e-4  # of logits in float32, absolute
VOCAB, BLOCK, WIDTH, LAYERS, HEADS = 257, 48, 64, 2, 4
SIZES = [f"--n_layer={LAYERS}", f"--n_head={HEADS}", f"--n_embd={WIDTH}", f"--vocab_size={VOCAB}"]

LLMC_MAIN = """
#define TESTING
#include "train_gpt2.c"
int main(int argc, char** argv) {
  GPT2 model;
  gpt2_build_from_checkpoint(&model, argv[1]);
  int size[2];
  FILE* file = fopen(argv[2], "rb");
  freadCheck(size, sizeof(int), 2, file);
  int* tokens = malloc(2 * size[0] * size[1] * sizeof(int));
  freadCheck(tokens, sizeof(int), 2 * size[0] * size[1], file);
  gpt2_forward(&model, tokens, tokens + size[0] * size[1], size[0], size[1]);
  printf("loss %.8f\\n", model.mean_loss);
}
"""


class Check:
    def __init__(self, program: str, work: pathlib.Path):
        self.program, self.work, self.failures, self.count = program, work, 0, itertools.count()
        torch.manual_seed(1)
        self.idx = torch.randint(VOCAB, (2, BLOCK))
        self.targets = torch.randint(VOCAB, (2, BLOCK))

    def say(self, what: str, passed: bool) -> None:
        print(f"{'ok  ' if passed else 'FAIL'} {what}", flush=True)
        self.failures += not passed

    def run(self, *arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run([self.program, *map(str, arguments)], capture_output=True, text=True)

    def train(self, start: pathlib.Path, bias: bool, gelu: str, block: int = BLOCK) -> pathlib.Path:
        """Two steps from `start`: a checkpoint whose weights and moments are no one else's."""
        out = self.work / f"run{next(self.count)}"
        data = self.work / "tokens.bin"
        data.write_bytes(struct.pack("<4000H", *(i * i % VOCAB for i in range(4000))))
        options = {"device": "cpu", "dtype": "float32", "init_from": start, "out_dir": out, "bias": str(bias).lower(),
                   "gelu": gelu, "block_size": block, "data.train": data, "data.val": data, "data.format": "nanogpt",
                   "batch_size": 2, "gradient_accumulation_steps": 1, "max_iters": 2, "eval_iters": 1,
                   "warmup_iters": 0, "learning_rate": 0.001}
        done = self.run(*SIZES, *(f"--{key}={value}" for key, value in options.items()))
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return out / "step-00000002"

    def export(self, checkpoint: pathlib.Path, *options: str) -> pathlib.Path:
        out = self.work / f"export{next(self.count)}"
        done = self.run("export", "--checkpoint", checkpoint, "--out", out, *options)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        return out

    def same(self, what: str, weights: pathlib.Path, logits: torch.Tensor, *options: str) -> None:
        """gpt2train's logits and loss from `weights` beside a peer's."""
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), self.targets.reshape(-1))
        io = self.work / "io.safetensors"
        save_file({"idx": self.idx.int(), "targets": self.targets.int(), "logits": logits.contiguous().clone(),
                   "loss": loss.reshape(1)}, io)
        done = self.run("verify", "--weights", weights, "--io", io, "--device=cpu", "--json", *options)
        try:
            off = json.loads(done.stdout)["logits_max_abs_deviation"]
        except json.JSONDecodeError:
            return self.say(f"{what}: {done.stderr.strip()}", False)
        self.say(f"{what}: logits up to {logits.abs().max():.1f} off by {off:.1e}", off <= LIMIT)


def random_model(bias: bool, gelu: str) -> GPT2LMHeadModel:
    """With weights so large that tanh and erf differ by more than the limit."""
    activation = {"tanh": "gelu_new", "erf": "gelu"}[gelu]
    config = GPT2Config(vocab_size=VOCAB, n_positions=BLOCK, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
                        activation_function=activation, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
                        bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(".bias"):
                p.normal_(0, 0.3) if bias else p.zero_()
            else:
                p.normal_(1.0 if ".ln_" in name else 0.0, 0.15)
    return model


@torch.no_grad()
def logits_of(model: torch.nn.Module, idx: torch.Tensor) -> torch.Tensor:
    return model(idx).logits.float()


def check_transformers(check: Check, bias: bool, gelu: str) -> pathlib.Path:
    label = f"transformers, bias {bias}, {gelu}"
    model = random_model(bias, gelu)
    logits = logits_of(model, check.idx)
    start = check.work / f"hf_{bias}_{gelu}"
    model.save_pretrained(start)
    check.same(f"{label}: theirs, loaded", start, logits)
    shards = check.work / f"shards_{bias}_{gelu}"
    model.save_pretrained(shards, max_shard_size="60KB")
    check.say(f"{label}: {len(list(shards.glob('*.safetensors')))} shards",
              len(list(shards.glob("*.safetensors"))) > 1)
    check.same(f"{label}: theirs, sharded", shards, logits)
    pickled = check.work / f"pickled_{bias}_{gelu}"
    pickled.mkdir()
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "config.json").write_text((start / "config.json").read_text())
    check.same(f"{label}: theirs, by torch.save", pickled, logits)

    checkpoint = check.train(start, bias, gelu)
    out = check.export(checkpoint, "--format=hf")
    ours = AutoModelForCausalLM.from_pretrained(out)
    check.say(f"{label}: config.json is theirs but for names",
              ours.config.activation_function == model.config.activation_function)
    trained = logits_of(ours.eval(), check.idx)
    check.say(f"{label}: training moved the logits by {(trained - logits).abs().max():.1e}",
              (trained - logits).abs().max() > 100 * LIMIT)
    check.same(f"{label}: ours, exported", checkpoint, trained, f"--n_head={HEADS}", f"--gelu={gelu}")
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        half = AutoModelForCausalLM.from_pretrained(check.export(checkpoint, "--format=hf", f"--dtype={name}"), dtype=dtype)
        equal = all(torch.equal(a.to(dtype), b) for a, b in zip(ours.parameters(), half.parameters()))
        check.say(f"{label}: exported in {name}", equal)
    return checkpoint


def check_nanogpt(check: Check, checkpoint: pathlib.Path, bias: bool, source: pathlib.Path) -> None:
    label = f"nanoGPT, bias {bias}"
    spec = importlib.util.spec_from_file_location("nanogpt_model", source / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module
    spec.loader.exec_module(module)
    path = check.export(checkpoint, "--format=nanogpt") / "ckpt.pt"
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = module.GPT(module.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.95), "cpu")
    optimizer.load_state_dict(saved["optimizer"])
    moments = load_file(checkpoint / "optimizer.safetensors")
    names = {id(p): n.removeprefix("transformer.") for n, p in model.named_parameters()}
    right = all(
        torch.equal(optimizer.state[p]["exp_avg"], moments["m." + names[id(p)]])
        and torch.equal(optimizer.state[p]["exp_avg_sq"], moments["v." + names[id(p)]])
        and optimizer.state[p]["step"] == 2
        for group in optimizer.param_groups for p in group["params"])
    check.say(f"{label}: each parameter gets its own moments", right and saved["iter_num"] == 2)
    logits = model.eval()(check.idx, check.targets)[0].detach()
    check.same(f"{label}: ours, exported", checkpoint, logits, f"--n_head={HEADS}")
    model.train()(check.idx, check.targets)[1].backward()
    optimizer.step()
    logits = model.eval()(check.idx, check.targets)[0].detach()
    theirs = check.work / f"nanogpt_{bias}"
    theirs.mkdir()
    torch.save({"model": {"_orig_mod." + k: v for k, v in model.state_dict().items()}, "optimizer": optimizer.state_dict(),
                "model_args": saved["model_args"], "iter_num": 3, "best_val_loss": torch.tensor(2.5), "config": {"dtype": "float32"}},
               theirs / "ckpt.pt")
    check.same(f"{label}: theirs after a step with our moments, loaded", theirs, logits)
    check.train(theirs, bias, "erf", block=BLOCK // 2)
    check.say(f"{label}: theirs, cut to half of its positions", True)


def check_llmc(check: Check, checkpoint: pathlib.Path, source: pathlib.Path) -> None:
    path = check.export(checkpoint, "--format=llmc") / "model.bin"
    main, program, tokens = (check.work / name for name in ("llmc.c", "llmc", "llmc_tokens.bin"))
    main.write_text(LLMC_MAIN)
    subprocess.run(["cc", "-O1", "-w", f"-I{source}", str(main), "-lm", "-o", str(program)], check=True)
    tokens.write_bytes(struct.pack("<2i", *check.idx.shape) + check.idx.int().numpy().tobytes() + check.targets.int().numpy().tobytes())
    done = subprocess.run([str(program), str(path), str(tokens)], capture_output=True, text=True, check=True)
    loss = float(done.stdout.split()[-1])
    model = AutoModelForCausalLM.from_pretrained(check.export(checkpoint, "--format=hf")).eval()
    logits = logits_of(model, check.idx)
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), check.targets.reshape(-1)).item()
    check.say(f"llm.c: loss {loss:.6f}, expected {expected:.6f}", abs(loss - expected) < LIMIT)
    check.same("llm.c: our file, loaded", path, logits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--nanogpt", type=pathlib.Path)
    parser.add_argument("--llmc", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        check = Check(str(pathlib.Path(options.program).resolve()), pathlib.Path(work))
        for bias, gelu in itertools.product((True, False), ("erf", "tanh")):
            checkpoint = check_transformers(check, bias, gelu)
            if options.nanogpt and gelu == "erf":
                check_nanogpt(check, checkpoint, bias, options.nanogpt)
            if options.llmc and gelu == "tanh":
                check_llmc(check, checkpoint, options.llmc)
    print("all agree" if check.failures == 0 else f"{check.failures} checks failed")
    sys.exit(check.failures > 0)


if __name__ == "__main__":
    main()
