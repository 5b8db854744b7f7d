#!/usr/bin/env python3
"""Merges models of safetensors files into new ones, as merging tools do.

usage: make_merges.py METHOD OUT.safetensors A.safetensors B.safetensors [C.safetensors]

METHOD: soup            mean of A, B (and C), in FP32
        linear:W,W[,W]  weighted sum, in FP32
        linear16:W,W    weighted sum of which each step is rounded to the tensor's type
        slerp:T         spherical interpolation of A and B, per tensor, T of the way
        task:W[,W]      A + W (B - A) + W (C - A): task arithmetic with base A, in FP32
        task16:W[,W]    the same, each step rounded to the tensor's type

Floating tensors (F32, F16, BF16) that all files have in one shape are merged and
stored in A's type; others are copied from A. Needs numpy.
"""
import json
import struct
import sys

import numpy as np


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"],
                   data[entry["data_offsets"][0]:entry["data_offsets"][1]])
            for name, entry in header.items()}


def write_safetensors(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + len(raw)]}
        offset += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, raw in tensors.values():
            file.write(raw)


def floats(dtype, raw):
    """float32 values of a tensor; None if it is no float."""
    if dtype == "F32":
        return np.frombuffer(raw, "<f4")
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    return None


def rounded(values, dtype):
    """Bytes of float32 values in a type, rounded to nearest, ties to even."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def merge(method, weights, dtype, parts):
    def step(values):
        return floats(dtype, rounded(values, dtype)) if method.endswith("16") else values

    weights = [np.float32(w) for w in weights]
    if method == "soup":
        return sum(parts[1:], parts[0]) / np.float32(len(parts))
    if method.startswith("linear"):
        total = step(weights[0] * parts[0])
        for weight, part in zip(weights[1:], parts[1:]):
            total = step(total + step(weight * part))
        return total
    if method.startswith("task"):
        total = None
        for weight, part in zip(weights, parts[1:]):
            task = step(weight * step(part - parts[0]))
            total = task if total is None else step(total + task)
        return step(parts[0] + total)
    if method == "slerp":
        a, b = (part / (np.linalg.norm(part) + np.float32(1e-8)) for part in parts)
        dot = float(np.sum(a * b))
        if abs(dot) > 0.9995 or not np.isfinite(dot):
            return ((np.float32(1) - weights[0]) * parts[0] + weights[0] * parts[1])
        angle = np.arccos(dot)
        s = np.float32(np.sin((1 - weights[0]) * angle) / np.sin(angle))
        t = np.float32(np.sin(weights[0] * angle) / np.sin(angle))
        return s * parts[0] + t * parts[1]
    sys.exit(__doc__)


def main(method, out, paths):
    method, _, numbers = method.partition(":")
    weights = [float(number) for number in numbers.split(",") if number]
    models = [read_safetensors(path) for path in paths]
    result = {}
    for name, (dtype, shape, raw) in models[0].items():
        alike = all(name in model and model[name][1] == shape for model in models)
        parts = [floats(*model[name][::2]) for model in models] if alike else [None]
        if any(part is None for part in parts):
            result[name] = (dtype, shape, raw)
        else:
            result[name] = (dtype, shape,
                            rounded(merge(method, weights, dtype, parts), dtype))
    write_safetensors(out, result)


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
