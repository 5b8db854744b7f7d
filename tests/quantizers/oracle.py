#!/usr/bin/env python3
"""SHA-256 of what libgguf (PyPI, 0.2.2) makes of the weights of Plain(), inputs.cc.

The tests of quantizers have these; they are of another program, not of ours.
Usage: oracle.py TYPE..., e.g. Q4_K; each without and with importance.
"""
import hashlib
import sys

import libgguf
from gguf import GGMLQuantizationType

from inputs import plain


def main():
    weights, importance = plain()
    for name in sys.argv[1:]:
        for use in (None, importance):
            blocks = libgguf.quantize_rows(weights, getattr(GGMLQuantizationType, name),
                                           imatrix=use)
            print(name, 'plain' if use is None else 'importance',
                  hashlib.sha256(blocks.tobytes()).hexdigest())


if __name__ == '__main__':
    main()
