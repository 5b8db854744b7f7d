#!/usr/bin/env python3
"""Quantizes the matrices of a safetensors file in the layouts of several tools.

usage: make_quantized.py FROM.safetensors FOLDER [LAYOUT...] [--seed N]

Writes FOLDER/LAYOUT.safetensors for each layout (all of them if none is named). F32,
F16 and BF16 matrices are quantized with the arithmetic that the tool uses on the dtype
they have; other tensors are copied. What calibration data would decide (GPTQ) comes
from N. Needs numpy.
"""
import json
import struct
import sys

import numpy as np

from make_fp8 import floats, read_safetensors, to_e4m3


def to_bf16(values):
    """The nearest BF16 number of each float32, as float32."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(
        np.float32)


def to_f16(values):
    return values.astype(np.float16).astype(np.float32)


def raw(values, dtype):
    """Bytes of float32 values in a dtype that holds them."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    return (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


ROUND = {"F32": lambda v: v.astype(np.float32), "F16": to_f16, "BF16": to_bf16}

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)


def to_e2m1(values):
    """Codes of 4 bits: the sign, and the nearest of E2M1, ties to even."""
    magnitude = np.minimum(np.abs(values), 6)
    code = np.searchsorted((E2M1[1:] + E2M1[:-1]) / 2, magnitude, side="left")
    on_tie = np.isin(magnitude, (E2M1[1:] + E2M1[:-1]) / 2) & (code % 2 == 1)
    return (code + on_tie + 8 * np.signbit(values)).astype(np.uint8)


def from_e4m3(codes):
    magnitude = (codes & 127).astype(np.uint32) << 20
    value = magnitude.view(np.float32) * np.float32(2.0**120)
    return np.where(codes > 127, -value, value)


def pack(codes, bits, dtype, axis=-1):
    """Codes side by side along an axis, the first in the lowest bits."""
    codes = np.moveaxis(codes, axis, -1).astype(np.uint32)
    each = 8 * np.dtype(dtype).itemsize // bits
    codes = codes.reshape(codes.shape[:-1] + (-1, each))
    packed = np.zeros(codes.shape[:-1], np.uint32)
    for k in range(each):
        packed |= codes[..., k] << np.uint32(bits * k)
    return np.ascontiguousarray(np.moveaxis(packed.astype(dtype), -1, axis))


def groups(weights, size):
    return weights.reshape(weights.shape[0], -1, size)


class Tensor:
    """A matrix being quantized: what its tool reads, and the tensors that it writes."""

    def __init__(self, name, weights, dtype, rng):
        self.stem = name[: -len("weight")] if name.endswith("weight") else name + "."
        self.weights, self.dtype, self.rng = weights, dtype, rng
        self.round = ROUND[dtype]
        self.out = []

    def put(self, name, dtype, array):
        self.out.append((self.stem + name, dtype, list(array.shape), array.tobytes()))

    def put_floats(self, name, dtype, values):
        self.out.append((self.stem + name, dtype, list(values.shape), raw(values, dtype)))


def fp8_tensor(t):
    """compressed-tensors float-quantized, a scale for the tensor."""
    scale = t.round(t.round(np.abs(t.weights).max(keepdims=True)) / np.float32(448))
    t.put("weight", "F8_E4M3", to_e4m3(t.round(t.weights / scale)))
    t.put_floats("weight_scale", t.dtype, scale.reshape(1))


def fp8_channel(t):
    """compressed-tensors float-quantized, a scale for each row."""
    scale = t.round(np.abs(t.weights).max(1, keepdims=True) / np.float32(448))
    t.put("weight", "F8_E4M3", to_e4m3(t.round(t.weights / scale)))
    t.put_floats("weight_scale", t.dtype, scale)


def fp8_block(t):
    """DeepSeek: F32 scales of blocks of 128 x 128."""
    rows, columns = t.weights.shape
    scale = np.zeros((-(-rows // 128), -(-columns // 128)), np.float32)
    codes = np.zeros(t.weights.shape, np.uint8)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            at = np.s_[128 * i:128 * i + 128, 128 * j:128 * j + 128]
            scale[i, j] = np.float32(np.abs(t.weights[at]).max()) / np.float32(448)
            codes[at] = to_e4m3(t.weights[at] / scale[i, j])
    t.put("weight", "F8_E4M3", codes)
    t.put_floats("weight_scale_inv", "F32", scale)


def fp8_reciprocal(t):
    """F32 scales of rows; weights are multiplied with 448 / amax."""
    by = np.float32(448) / np.abs(t.weights).max(1, keepdims=True)
    t.put("weight", "F8_E4M3", to_e4m3(t.weights * by))
    t.put_floats("weight_scale", "F32", np.float32(1) / by)


def int8_tensor(t):
    scale = t.round(np.abs(t.weights).max(keepdims=True) / np.float32(127.5))
    t.put("weight", "I8", np.clip(np.rint(t.round(t.weights / scale)), -128, 127)
          .astype(np.int8))
    t.put_floats("weight_scale", t.dtype, scale.reshape(1))


def int8_channel(t):
    """compressed-tensors int-quantized."""
    scale = t.round(np.abs(t.weights).max(1, keepdims=True) / np.float32(127.5))
    t.put("weight", "I8", np.clip(np.rint(t.round(t.weights / scale)), -128, 127)
          .astype(np.int8))
    t.put_floats("weight_scale", t.dtype, scale)


def int8_group(t):
    """torchao: groups of 32, F32 arithmetic."""
    weights = groups(t.weights, 32)
    scale = t.round(np.abs(weights).max(2, keepdims=True) / np.float32(127.5))
    by = np.float32(1) / scale
    t.put("weight", "I8", np.clip(np.rint(weights * by), -128, 127).astype(np.int8)
          .reshape(t.weights.shape))
    t.put_floats("weight_scale", t.dtype, scale[..., 0])


def int4_pack(t):
    """compressed-tensors pack-quantized, symmetric, groups of 128."""
    weights = groups(t.weights, 128)
    scale = t.round(np.abs(weights).max(2, keepdims=True) / np.float32(7.5))
    codes = np.clip(np.rint(t.round(weights / scale)), -8, 7) + 8
    t.put("weight_packed", "I32", pack(codes.reshape(t.weights.shape), 4, np.uint32))
    t.put_floats("weight_scale", t.dtype, scale[..., 0])
    t.put("weight_shape", "I64", np.array(t.weights.shape, np.int64))


def int4_asymmetric(t):
    """compressed-tensors pack-quantized with zero points, groups of 32."""
    weights = groups(t.weights, 32)
    low = np.minimum(weights.min(2, keepdims=True), 0)
    high = np.maximum(weights.max(2, keepdims=True), 0)
    scale = t.round(t.round(high - low) / np.float32(15))
    zero = np.clip(np.rint(t.round(-8 - t.round(low / scale))), -8, 7)
    codes = np.clip(np.rint(t.round(t.round(weights / scale) + zero)), -8, 7) + 8
    t.put("weight_packed", "I32", pack(codes.reshape(t.weights.shape), 4, np.uint32))
    t.put_floats("weight_scale", t.dtype, scale[..., 0])
    t.put("weight_zero_point", "I32", pack(zero[..., 0] + 8, 4, np.uint32, axis=0))
    t.put("weight_shape", "I64", np.array(t.weights.shape, np.int64))


def nvfp4_modelopt(t):
    weights = groups(t.weights, 16)
    whole = np.float32(np.abs(t.weights).max()) / np.float32(6 * 448)
    scale = to_e4m3(np.abs(weights).max(2, keepdims=True) / np.float32(6) / whole)
    by = np.maximum(from_e4m3(scale), np.float32(2.0**-9)) * whole
    codes = to_e2m1(weights / by).reshape(t.weights.shape)
    t.put("weight", "U8", pack(codes, 4, np.uint8))
    t.put("weight_scale", "F8_E4M3", scale[..., 0])
    t.put_floats("weight_scale_2", "F32", np.array(whole))


def nvfp4_packed(t):
    """compressed-tensors nvfp4-pack-quantized."""
    weights = groups(t.weights, 16)
    whole = np.float32(448 * 6) / np.float32(np.abs(t.weights).max())
    scale = to_e4m3(whole * (np.abs(weights).max(2, keepdims=True) / np.float32(6)))
    by = np.maximum(from_e4m3(scale), np.float32(2.0**-9)) / whole
    codes = to_e2m1(weights / by).reshape(t.weights.shape)
    t.put("weight_packed", "U8", pack(codes, 4, np.uint8))
    t.put("weight_scale", "F8_E4M3", scale[..., 0])
    t.put_floats("weight_global_scale", "F32", whole.reshape(1))


def mxfp4(t):
    """gpt-oss: blocks of 32 and E8M0 scales."""
    weights = groups(t.weights, 32)
    amax = np.abs(weights).max(2, keepdims=True)
    exponent = np.clip(np.floor(np.log2(np.maximum(amax, 1e-38))) - 2, -127, 127)
    codes = to_e2m1(weights / np.exp2(exponent).astype(np.float32))
    packed = pack(codes, 4, np.uint8)
    t.stem = t.stem[:-1] + "_"
    t.put("blocks", "U8", packed)
    t.put("scales", "U8", (exponent[..., 0] + 127).astype(np.uint8))


def gptq(t):
    """GPTQ, symmetric, groups of 128, from activations that are made up."""
    weights = t.weights.astype(np.float64)
    columns = weights.shape[1]
    mixing = t.rng.standard_normal((columns, columns)) / columns**0.5
    spread = np.exp(t.rng.standard_normal(columns) / 2)
    inputs = (t.rng.standard_normal((4 * columns, columns)) @ mixing
              + t.rng.standard_normal((4 * columns, columns))) * spread
    hessian = inputs.T @ inputs
    hessian += np.eye(columns) * 0.01 * np.mean(np.diag(hessian))
    factor = np.linalg.cholesky(np.linalg.inv(hessian)).T
    codes = np.zeros(weights.shape, np.uint8)
    scales = []
    for j in range(columns):
        if j % 128 == 0:
            amax = np.abs(weights[:, j:j + 128]).max(1)
            scales.append(to_f16((amax * 2 / 15).astype(np.float32)))
        q = np.clip(np.rint(weights[:, j] / scales[-1]) + 8, 0, 15)
        codes[:, j] = q
        error = (weights[:, j] - (q - 8) * scales[-1]) / factor[j, j]
        weights[:, j:] -= np.outer(error, factor[j, j:])
    scale = np.stack(scales)
    t.put("qweight", "I32", pack(codes.T, 4, np.uint32, axis=0))
    t.put_floats("scales", "F16", scale)
    t.put("qzeros", "I32", pack(np.full(scale.shape, 7), 4, np.uint32))
    t.put("g_idx", "I32", (np.arange(columns) // 128).astype(np.int32))


def awq(t):
    """AWQ with no scales of columns: groups of 128, zero points."""
    weights = groups(t.weights, 128)
    low, high = weights.min(2, keepdims=True), weights.max(2, keepdims=True)
    scale = to_f16(np.maximum(high - low, 1e-5) / np.float32(15))
    zero = np.clip(-np.rint(low / scale), 0, 15)
    codes = np.clip(np.rint(weights / scale) + zero, 0, 15).reshape(t.weights.shape)
    order = np.array([0, 2, 4, 6, 1, 3, 5, 7])

    def pack_rows(values):
        values = values.reshape(values.shape[0], -1, 8)[:, :, order]
        return pack(values.reshape(values.shape[0], -1), 4, np.uint32)

    t.put("qweight", "I32", pack_rows(codes.T))
    t.put("qzeros", "I32", pack_rows(np.ascontiguousarray(zero[..., 0].T)))
    t.put_floats("scales", "F16", np.ascontiguousarray(scale[..., 0].T))


LAYOUTS = {
    "fp8-tensor": fp8_tensor, "fp8-channel": fp8_channel, "fp8-block": fp8_block,
    "fp8-reciprocal": fp8_reciprocal, "int8-tensor": int8_tensor,
    "int8-channel": int8_channel, "int8-group": int8_group, "int4-pack": int4_pack,
    "int4-asymmetric": int4_asymmetric, "nvfp4-modelopt": nvfp4_modelopt,
    "nvfp4-packed": nvfp4_packed, "mxfp4": mxfp4, "gptq": gptq, "awq": awq,
}


def main(source, folder, layouts, seed):
    header, metadata, data = read_safetensors(source)
    for layout in layouts:
        rng = np.random.default_rng(seed)
        tensors = []
        for name, entry in sorted(header.items(),
                                  key=lambda item: item[1]["data_offsets"]):
            begin, end = entry["data_offsets"]
            values = floats(entry["dtype"], data[begin:end])
            shape = entry["shape"]
            if values is None or len(shape) != 2 or shape[0] % 8 or shape[1] % 128:
                tensors.append((name, entry["dtype"], shape, data[begin:end]))
                continue
            tensor = Tensor(name, values.reshape(shape), entry["dtype"], rng)
            LAYOUTS[layout](tensor)
            tensors += tensor.out
        out, at = {}, 0
        if metadata is not None:
            out["__metadata__"] = metadata
        for name, dtype, shape, content in tensors:
            out[name] = {"dtype": dtype, "shape": shape,
                         "data_offsets": [at, at + len(content)]}
            at += len(content)
        text = json.dumps(out, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{folder}/{layout}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.writelines(content for *_, content in tensors)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    chosen = 1
    if "--seed" in arguments:
        at = arguments.index("--seed")
        chosen = int(arguments[at + 1])
        del arguments[at:at + 2]
    if len(arguments) < 2 or any(name not in LAYOUTS for name in arguments[2:]):
        sys.exit(__doc__ + "\nlayouts: " + " ".join(LAYOUTS))
    main(arguments[0], arguments[1], arguments[2:] or list(LAYOUTS), chosen)
