"""Safetensors files as far as the benches need them: tensors in and out, FP32 rounded to BF16."""
import array
import json
import math
import struct
from typing import NamedTuple

WIDTH = {"BF16": 2, "F16": 2, "F32": 4}


class Tensor(NamedTuple):
    dtype: str
    shape: list
    data: bytes

    @property
    def elements(self):
        return math.prod(self.shape)


def read(path):
    """{name: Tensor} in the header's order."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: Tensor(entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def write(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape,
                        "data_offsets": [at, at + len(tensor.data)]}
        at += len(tensor.data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(tensor.data for tensor in tensors.values())


def cast(tensor, dtype):
    """BF16 to F32, or F32 to BF16 (to the nearest, ties to even; not for NaN)."""
    if dtype == tensor.dtype:
        return tensor
    if {dtype, tensor.dtype} != {"BF16", "F32"}:
        raise ValueError(f"no cast from {tensor.dtype} to {dtype}")
    if dtype == "F32":
        values = array.array("I", (x << 16 for x in array.array("H", tensor.data)))
    else:
        values = array.array("H", (x + 0x7FFF + (x >> 16 & 1) >> 16
                                   for x in array.array("I", tensor.data)))
    return Tensor(dtype, tensor.shape, values.tobytes())
