"""make_model.py NAME [WEIGHTS [SEED]]: a safetensors file like a small model's.
make_model.py --tuned NAME FROM [SEED [PREFIX]]: the model FROM after some training: a
third of the BF16 weights a unit of the last place away, F32 weights a few thousand; its
tensors' names begin with PREFIX.
make_model.py --noise NAME BYTES: bytes that do not compress. All are the same each
time."""
import array
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
    write(name, tensors)


def write(name, tensors):
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


def read(name):
    with open(name, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = f.read()
    return {key: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for key, entry in header.items()}


def tuned(name, source, seed=1, prefix=""):
    rng = random.Random(int(seed))

    def moved(dtype, data):
        if dtype == "BF16":
            return array.array("H", (x + rng.choice((0, 0, 0, 0, -1, 1)) & 0xFFFF
                                     for x in array.array("H", data))).tobytes()
        if dtype == "F32":
            return array.array("I", (x + rng.randrange(-4096, 4096) & 0xFFFFFFFF
                                     for x in array.array("I", data))).tobytes()
        return data

    write(name, {prefix + key: (dtype, shape, moved(dtype, data))
                 for key, (dtype, shape, data) in read(source).items()})


if sys.argv[1] == "--tuned":
    tuned(*sys.argv[2:])
elif sys.argv[1] == "--noise":
    with open(sys.argv[2], "wb") as f:
        f.write(random.Random(7).randbytes(int(sys.argv[3])))
else:
    model(sys.argv[1], *map(int, sys.argv[2:]))
