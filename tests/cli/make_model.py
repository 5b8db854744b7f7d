"""make_model.py NAME [WEIGHTS [SEED]]: a safetensors file like a small model's.
make_model.py --noise NAME BYTES: bytes that do not compress. Both are the same
each time."""
import json
import random
import struct
import sys


def f32(numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)


def bf16(numbers):
    data = f32(numbers)
    return b"".join(data[i + 2 : i + 4] for i in range(0, len(data), 4))


def model(name, weights=4096, seed=1):
    rng = random.Random(seed)
    sample = [rng.gauss(0, 0.02) for _ in range(weights)]
    tensors = {
        "embed.weight": ("BF16", [weights // 64, 64], bf16(sample[: weights // 64 * 64])),
        "head.weight": ("BF16", [weights // 64, 64], bf16(sample[: weights // 64 * 64])),
        "norm.weight": ("F32", [64], f32([1.0 + x for x in sample[:64]])),
        "steps": ("I64", [], struct.pack("<q", 1000)),
    }
    header, offset = {}, 0
    for key, (dtype, shape, data) in tensors.items():
        header[key] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(name, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            f.write(data)


if sys.argv[1] == "--noise":
    with open(sys.argv[2], "wb") as f:
        f.write(random.Random(7).randbytes(int(sys.argv[3])))
else:
    model(sys.argv[1], *map(int, sys.argv[2:]))
