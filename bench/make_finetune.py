#!/usr/bin/env python3
"""Makes a large fine-tune for measurements of speed: BASE (BF16, safetensors) moved as AdamW moves
weights, by steps of nearly the same size everywhere, which most BF16 weights are too coarse for.

usage: make_finetune.py [--equal SHARE] BASE OUTPUT

What FP32 held is drawn about each weight within its rounding, moved, and rounded again. Steps have
a scale for each row and column; their size is such that SHARE (0.6) of the weights stay equal. The
same file each time. Needs numpy.
"""
import argparse

import numpy

import safetensors_io


def normal(random, shape):
    """About normal, by sums: the same with every version of numpy."""
    return sum(random.random(shape, numpy.float32) for _ in range(4)) * 2 - 4


def scales(random, count):
    """Factors from 1/2 to 2."""
    return numpy.exp2(random.random(count, numpy.float32) * 2 - 1)


def moved(bits, shape, step, random):
    """The weights after training, as BF16."""
    base = (bits.astype(numpy.uint32) << 16).view(numpy.float32)
    ulp = numpy.exp2(numpy.floor(numpy.log2(numpy.maximum(abs(base), 1e-30))) - 7)
    steps = normal(random, base.size)
    if len(shape) == 2:
        rows, columns = scales(random, shape[0]), scales(random, shape[1])
        steps = (steps.reshape(shape) * rows[:, None] * columns).ravel()
    held = base + ulp * (random.random(base.size, numpy.float32) - 0.5) + step * steps
    words = held.astype(numpy.float32).view(numpy.uint32)
    return ((words + 0x7FFF + (words >> 16 & 1)) >> 16).astype(numpy.uint16)


def finetune(tensors, step, stride=1):
    """({name: bits}, share of equal weights); of every stride-th tensor alone."""
    out, equal, count = {}, 0, 0
    for number, (name, tensor) in enumerate(tensors.items()):
        if tensor.dtype != "BF16" or number % stride:
            continue
        bits = numpy.frombuffer(tensor.data, numpy.uint16)
        new = moved(bits, tensor.shape, step, numpy.random.Generator(numpy.random.PCG64(number)))
        out[name] = new
        equal += int((new == bits).sum())
        count += bits.size
    return out, equal / max(count, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--equal", type=float, default=0.6)
    parser.add_argument("base")
    parser.add_argument("output")
    args = parser.parse_args()
    tensors = safetensors_io.read(args.base)
    low, high = 2.0 ** -24, 1.0
    for _ in range(10):  # the step is found on a fifth of the tensors
        middle = (low * high) ** 0.5
        low, high = (middle, high) if finetune(tensors, middle, 5)[1] > args.equal else (low, middle)
    bits, equal = finetune(tensors, low)
    print(f"step {low:.3g}: {100 * equal:.1f} % of the weights stay equal")
    safetensors_io.write(args.output, {
        name: tensor._replace(data=bits[name].tobytes()) if name in bits else tensor
        for name, tensor in tensors.items()})


if __name__ == "__main__":
    main()
