#!/usr/bin/env python3
"""Writes the inputs that the fuzzers begin with: tests/fuzz/corpus/<format>/. Needs Python alone.

Small files of every form that the readers accept, and of some that they refuse. What a fuzzer
finds is added beside them by hand, with a name that begins with "found".
"""

import io
import json
import pathlib
import pickle
import struct
import zipfile

CORPUS = pathlib.Path(__file__).parent / "corpus"


def safetensors(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def llmc(version: int, element: int, padded: int = 3) -> bytes:
    block, vocab, layers, heads, width = 2, 3, 1, 1, 2
    count = padded * width + block * width + layers * (12 * width * width + 13 * width) + 2 * width
    header = struct.pack("<8i", 20240326, version, block, vocab, layers, heads, width, padded)
    return header.ljust(1024, b"\0") + bytes(count * element)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(kind: str, key: str, count: int, shape: list[int], strides: list[int]) -> bytes:
    sizes = lambda values: b"(" + b"".join(b"K" + bytes([v]) for v in values) + b"t"
    return (b"ctorch._utils\n_rebuild_tensor_v2\nq\x00((" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key)
            + text("cpu") + b"K" + bytes([count]) + b"tQK\x00" + sizes(shape) + sizes(strides)
            + b"\x89ccollections\nOrderedDict\n)RtR")


def torch(pickle: bytes, *storages: bytes, method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/byteorder", "little")
        for i, storage in enumerate(storages):
            archive.writestr(f"a/data/{i}", storage)
    return out.getvalue()


PYTHON = r'''# gpt2
"""a
config"""
import time
wandb_log = True  # has no meaning here
dataset = 'open\\webtext'
batch_size = 12
block_size = 2 ** 3 * (-1 // -1) % 1_000
learning_rate = 6e-4 / 2 - .0
dtype = "bfloat" + '16'
max_iters = -(-10)
bias = False
'''

YAML = """# settings
out_dir: "a b"
model: {n_layer: 2, n_head: 2, n_embd: 4, dropout: 0.1}
memory:
  limit: 80%
  logits: &a full
optimizer:
"""


def byte_tokens() -> list[str]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(256 - len(printable))]


def tokenizer_json(pairs: bool) -> str:
    tokens = byte_tokens() + ["th", "<|endoftext|>"]
    return json.dumps({
        "added_tokens": [{"content": tokens[-1], "id": 257}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
        "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)},
                  "merges": [["t", "h"] if pairs else "t h"]}}, ensure_ascii=False, separators=(",", ":"))


def main() -> None:
    f32 = lambda begin, shape, end: {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    state = b"\x80\x02ccollections\nOrderedDict\n)R(" + text("w") + tensor("FloatStorage", "0", 2, [2, 1], [1, 1]) + b"u"
    attributes = b"}" + text("_metadata") + b"}sb"
    arguments = b"}(" + text("n_head") + b"K\x02" + text("dropout") + b"G" + bytes(8) + text("bias") + b"\x88u"
    checkpoint = (b"\x80\x02}(" + text("model") + state[2:] + attributes + text("model_args") + arguments + text("iter_num")
                  + b"\x8a\x02\x10\x27" + text("x") + b"](K\x01M\x01\x01J\x01\x01\x01\x01NeK\x07]q\x01h\x01au.")
    whole = torch(checkpoint, bytes(8))
    characters = {"vocab_size": 2, "itos": {0: "\n", 1: "\u00e9"}, "stoi": {"\n": 0, "\u00e9": 1}}
    corpus = {
        "safetensors/two": safetensors({"__metadata__": {"a": "b"}, "w": f32(0, [1], 4), "e": f32(4, [0, 3], 4)}, bytes(4)),
        "safetensors/scalar": safetensors({"w": f32(0, [], 4)}, bytes(4)),
        "safetensors/gap": safetensors({"w": f32(4, [1], 8)}, bytes(8)),
        "llmc/float32": llmc(3, 4),
        "llmc/bfloat16": llmc(5, 2, padded=4),
        "llmc/short": llmc(3, 4)[:-1],
        "torch/state": torch(state + b".", bytes(8)),
        "torch/checkpoint": whole,
        "torch/comment": torch(state + b".", bytes(8), comment=b"abc"),
        "torch/compressed": torch(state + b".", bytes(8), method=zipfile.ZIP_DEFLATED),
        "torch/short": whole[:-9],
        "pickle/checkpoint": checkpoint,
        "pickle/state": state + b".",
        "pickle/call": b"\x80\x02cos\nsystem\n" + text("true") + b"\x85R.",
        "pickle/parameter": state.replace(text("w"), text("w") + b"ctorch._utils\n_rebuild_parameter\n(") + b".",
        "python/train": PYTHON,
        "python/power": "max_iters = 2 ** -1 + (3.5 % -2)\n",
        "yaml/settings": YAML,
        "yaml/path": "model.n_layer: 2\nmodel:\n  n_layr: 3\n",
        "yaml/two": "dtype: fp32\n--- {}\n",
        "vocabulary/merges": "#version: 0.2\nt h\n\u0120 th\n\u0120th e\n",
        "vocabulary/numbers": "#version: 0.2\nt h\n\0" + json.dumps(
            {token: i for i, token in enumerate(["<|endoftext|>", "th"] + byte_tokens())}, ensure_ascii=False),
        "vocabulary/pairs": tokenizer_json(True),
        "vocabulary/lines": tokenizer_json(False),
        "meta/bytes": '{"kind": "bytes", "vocab_size": 256}',
        "meta/char": '{"kind": "char", "vocab_size": 2, "itos": ["a", "\\u00e9"]}',
        "meta/pickle2": pickle.dumps(characters, 2),
        "meta/pickle4": pickle.dumps(characters, 4),
        "json_line/text": '{"meta": [1, {}], "text": "a\\u00e9\\ud83d\\ude00\\n\u00e9"}',
        "json_line/half": '{"text": "\\ud83d\\\\\\ude00"}',
        "json_line/number": '{"text": 1e9}',
    }
    for name, data in corpus.items():
        path = CORPUS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


if __name__ == "__main__":
    main()
