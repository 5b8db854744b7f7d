#!/usr/bin/env python3
"""SHA-256 of what libgguf (PyPI, 0.2.2) makes of the weights of Plain() and of blocks of AnyBytes(),
inputs.cc.

The tests of quantizers have these; they are of another program, not of ours.
Usage: oracle.py TYPE..., e.g. Q4_K: blocks without and with importance, numbers of 64 blocks, all NaNs
being 0x7fc00000.
"""
import hashlib
import sys

import libgguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from inputs import any_bytes, plain


def main():
    weights, importance = plain()
    for name in sys.argv[1:]:
        dtype = getattr(GGMLQuantizationType, name)
        for use in (None, importance):
            blocks = libgguf.quantize_rows(weights, dtype, imatrix=use)
            print(name, 'plain' if use is None else 'importance',
                  hashlib.sha256(blocks.tobytes()).hexdigest())
        size = GGML_QUANT_SIZES[dtype][1]
        blocks = np.frombuffer(any_bytes(64 * size), np.uint8).reshape(-1, size)
        numbers = np.array(libgguf.dequantize_rows(blocks, dtype), np.float32)
        numbers[np.isnan(numbers)] = np.array(0x7fc00000, np.uint32).view(np.float32)
        print(name, 'numbers', hashlib.sha256(numbers.tobytes()).hexdigest())


if __name__ == '__main__':
    main()
