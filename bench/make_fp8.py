#!/usr/bin/env python3
"""Casts the floats of a safetensors file to FP8 E4M3 and writes another one.

usage: make_fp8.py [--scale] FROM.safetensors TO.safetensors

Each F32, F16 or BF16 tensor is cast as it is: rounded to the nearest number, ties to
even, saturating at 448. With --scale it is divided by its greatest magnitude / 448
first, which becomes a tensor NAME_scale, as in checkpoints made for inference. Others
are copied. Needs numpy.
"""
import json
import struct
import sys

import numpy as np


def to_e4m3(values):
    """values: float32. Returns uint8 codes of F8_E4M3 (OCP; no infinities)."""
    magnitude = np.abs(values)
    # The step of the format at each magnitude: 2^(exponent - 3), at least 2^-9.
    exponent = np.maximum(np.frexp(magnitude)[1] - 1, -6)
    steps = np.rint(np.ldexp(magnitude, 3 - exponent)).astype(np.int64)
    # 8 to 16 steps of a normal number: 16 is 8 of the next exponent.
    code = np.where(exponent == -6, 0, (exponent + 6) * 8) + steps
    code = np.where(np.isnan(values), 0x7F, np.minimum(code, 0x7E))
    return (code | np.signbit(values) * 0x80).astype(np.uint8)


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    metadata = header.pop("__metadata__", None)
    return header, metadata, data


def floats(dtype, raw):
    if dtype == "F32":
        return np.frombuffer(raw, "<f4")
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return None


def main(source, target, scale):
    header, metadata, data = read_safetensors(source)
    out_header, parts = {}, []

    def put(name, dtype, shape, raw):
        offset = sum(map(len, parts))
        out_header[name] = {"dtype": dtype, "shape": shape,
                            "data_offsets": [offset, offset + len(raw)]}
        parts.append(raw)

    if metadata is not None:
        out_header["__metadata__"] = metadata
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        raw = data[begin:end]
        values = floats(entry["dtype"], raw)
        dtype = entry["dtype"]
        if values is not None:
            if scale and values.size:
                factor = np.float32(max(np.abs(values).max() / 448, 1e-30))
                values = values / factor
                put(name + "_scale", "F32", [1], factor.tobytes())
            dtype, raw = "F8_E4M3", to_e4m3(values).tobytes()
        put(name, dtype, entry["shape"], raw)
    text = json.dumps(out_header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(parts)


if __name__ == "__main__":
    paths = [argument for argument in sys.argv[1:] if argument != "--scale"]
    if len(paths) != 2:
        sys.exit(__doc__)
    main(*paths, scale=len(sys.argv) == 4)
