#!/usr/bin/env python3
"""Cuts the first rows of the tensors of GGUF files into small GGUF files, as fixtures.

    tests/data/cut_ladder.py ROWS OUT_DIR FILE...

A row of a quantized type is whole blocks, so that the rows that are left are what a quantizer makes
of the rows of the source that are left.
"""
import pathlib
import struct
import sys

# By ggml type: elements and bytes of a block.
UNITS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24),
         8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
         18: (256, 98), 20: (32, 18), 22: (256, 82), 23: (256, 136)}
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, letter):
        value, = struct.unpack_from("<" + letter, self.data, self.at)
        self.at += struct.calcsize(letter)
        return value

    def text(self):
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size:self.at]

    def skip_value(self, kind):
        if kind == 8:
            self.text()
        elif kind == 9:
            inner, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(inner)
        else:
            self.at += SCALARS[kind]


def cut(data, rows):
    reader = Reader(data)
    assert reader.number("I") == 0x46554747
    reader.number("I")
    count, pairs = reader.number("Q"), reader.number("Q")
    for _ in range(pairs):
        reader.text()
        reader.skip_value(reader.number("I"))
    tensors = []
    for _ in range(count):
        name = reader.text()
        shape = [reader.number("Q") for _ in range(reader.number("I"))]
        tensors.append((name, shape, reader.number("I"), reader.number("Q")))
    begin = (reader.at + 31) // 32 * 32
    infos, body = b"", b""
    for name, shape, kind, offset in tensors:
        if len(shape) != 2:
            continue
        unit, size = UNITS[kind]
        wanted = min(rows, shape[1])
        infos += struct.pack("<Q", len(name)) + name
        infos += struct.pack("<IQQIQ", 2, shape[0], wanted, kind, len(body))
        body += data[begin + offset:][:shape[0] // unit * size * wanted]
        body += bytes(-len(body) % 32)
    kept = sum(len(shape) == 2 for _, shape, _, _ in tensors)
    header = b"GGUF" + struct.pack("<IQQ", 3, kept, 0) + infos
    return header + bytes(-len(header) % 32) + body


def main():
    rows, folder, *files = sys.argv[1:]
    for file in map(pathlib.Path, files):
        (pathlib.Path(folder) / file.name).write_bytes(cut(file.read_bytes(), int(rows)))


if __name__ == "__main__":
    main()
