"""A store as the ZipLLM paper (arXiv:2505.06252) describes it: each tensor once, by its hash; one
that has a base of the same name and size as the XOR with it; zstd. Written here: there is no
package.

usage: bitx_store.py LEVEL < list, under the peers' Python (zstandard, numpy, gguf)

The list is JSON, [[path, path of its base or null], ...]: bases are told, not found. Prints JSON:
the bytes of all frames (names, hashes and places are not counted) and the seconds. Everything is
decoded and compared.
"""
import hashlib
import json
import sys
import time

import numpy
import zstandard

from peers import bitx


def spans(path, data):
    """{name: (width, begin, end)} of a file's tensors. A width of 1 is bytes: quantized ones."""
    if not path.endswith(".gguf"):
        return bitx.spans(data)[0]
    import gguf
    widths = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    return {t.name: (widths.get(t.tensor_type.name, 1), int(t.data_offset),
                     int(t.data_offset) + int(t.n_bytes))
            for t in gguf.GGUFReader(path).tensors}


def planes(data, width):
    whole = numpy.frombuffer(data, numpy.uint8)
    return [whole[i::width].tobytes() for i in range(width)]


def joined(parts, size):
    out = numpy.empty(size, numpy.uint8)
    for i, part in enumerate(parts):
        out[i::len(parts)] = numpy.frombuffer(part, numpy.uint8)
    return out.tobytes()


def xor(a, b):
    return (numpy.frombuffer(a, numpy.uint8) ^ numpy.frombuffer(b, numpy.uint8)).tobytes()


class Store:
    def __init__(self, level):
        self.pack = zstandard.ZstdCompressor(level=level).compress
        self.unpack = zstandard.ZstdDecompressor().decompress
        self.size = 0
        self.stored = set()

    def put(self, data, width, base):
        """The smallest of: as it is, by planes of bytes, and likewise against the base."""
        digest = hashlib.sha256(data).digest()
        if digest in self.stored:
            return
        self.stored.add(digest)
        ways = [(data, 1), (data, width)]
        if base is not None:
            ways.append((xor(data, base), width))
        frames = [[self.pack(plane) for plane in planes(plain, by)] for plain, by in ways]
        best = min(range(len(ways)), key=lambda i: sum(map(len, frames[i])))
        self.size += sum(map(len, frames[best]))
        plain = joined([self.unpack(frame) for frame in frames[best]], len(data))
        if (plain if best < 2 else xor(plain, base)) != data:
            raise ValueError("it came back as something else")

    def add(self, path, base_path):
        with open(path, "rb") as f:
            data = f.read()
        others, base = {}, b""
        if base_path is not None:
            with open(base_path, "rb") as f:
                base = f.read()
            others = spans(base_path, base)
        at = 0
        for name, (width, begin, end) in sorted(spans(path, data).items(),
                                                key=lambda item: item[1][1]):
            if at < begin:
                self.put(data[at:begin], 1, None)
            _, from_, to = others.get(name, (0, 0, 0))
            self.put(data[begin:end], width,
                     base[from_:to] if to - from_ == end - begin else None)
            at = end
        if at < len(data):
            self.put(data[at:], 1, None)


def main():
    start = time.perf_counter()
    store = Store(int(sys.argv[1]))
    for path, base in json.load(sys.stdin):
        store.add(path, base)
    print(json.dumps({"size": store.size, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
