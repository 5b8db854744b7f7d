#!/usr/bin/env python3
"""Makes format-spec/vectors/ and format-spec/example.md, always the same.

usage: make_vectors.py                  makes again what is made here in Python
       make_vectors.py --check          says what of that differs, and changes nothing
       make_vectors.py --zipllm PATH    makes also again the archives that the command makes
       make_vectors.py --zipllm PATH --missing    makes of these only those that are not there

Archives in vectors/ decode to what MANIFEST.json says, with the bases that it names; those in vectors/bad/ must be refused for
the reason it gives: `damaged`, `too new` or `over the limit`. An archive of the command stays as
it is once the format is final, whatever later encoders write: what was written must be read.
"""
import argparse
import collections
import contextlib
import hashlib
import io
import itertools
import json
import lzma
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LADDER = HERE.parent / "tests" / "data" / "ladder"
VECTORS = HERE / "vectors"
sys.path.insert(0, str(HERE.parent / "tools"))
sys.path.insert(0, str(LADDER.parent))

import spec_decoder  # noqa: E402
import cut_ladder  # noqa: E402
from spec_decoder import Fields  # noqa: E402
from xxh3 import xxh3_64  # noqa: E402

ENTRY, BLOCKS, ENTRY_END, INDEX, TRAILER, SHARED, REFERENCES, AHEAD = range(1, 9)
FILE, DIRECTORY, LINK = 0, 1, 2
STORED, FILL, DUPLICATE, ZSTD, LZMA, FLOAT, PLANES, CASCADE, CLASSES, QUANT, MIX, TWIN, SWAPPED, \
    PALETTE, COPY = range(15)
BASE, FIRST_MOMENT, SECOND_MOMENT, FACTOR, BASE_FIRST_MOMENT, BASE_SECOND_MOMENT = range(6)
SAME, TRANSPOSED, ROWS, WHOLE = range(4)
F64, F32, F16, BF16, U8, C128, Q8_0 = 1, 2, 3, 4, 20, 26, 72
MAX_BLOCK = MAX_FRAME = 1 << 16
TIME = 1_600_000_000

# ---------------------------------------------------------------------------------------------
# A writer, as container.md has it; with ways to write what it forbids.


def u64(value):
    return struct.pack("<Q", value)


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def svarint(value):
    return varint(value << 1 ^ value >> 63)


def string(value):
    return varint(len(value)) + value


def header(major=1, minor=0, max_block=MAX_BLOCK, max_frame=MAX_FRAME, zero16=0, zero32=0,
           magic=spec_decoder.MAGIC):
    body = magic + struct.pack("<BBHIII", major, minor, zero16, max_block, max_frame, zero32)
    return body + u64(xxh3_64(body))


def frame(kind, head=b"", data=b"", flags=0, zero=0, size=None):
    size = len(data) if size is None else size
    start = struct.pack("<BBHII", kind, flags, zero, len(head), size) + head
    return start + u64(xxh3_64(start)) + data


def optional_frame(kind=77):
    return frame(kind, b"some head", b"some data", flags=1)


def entry_fields(kind, path, mode=None, seconds=TIME, nanoseconds=0, target=None):
    out = varint(kind) + string(path)
    if mode is None:
        out += varint(0)
    else:
        out += varint(1) + varint(mode) + svarint(seconds) + varint(nanoseconds)
    if target is not None:
        out += string(target)
    return out


class Block:
    """A coded block and what it decodes to."""

    def __init__(self, codec, coded, plain, checksum=None):
        self.codec, self.coded, self.plain = codec, coded, plain
        self.checksum = xxh3_64(plain) if checksum is None else checksum


def stored(plain):
    return Block(STORED, plain, plain)


def duplicate(distance, plain, rest=b""):
    return Block(DUPLICATE, varint(distance) + rest, plain)


def twin(distance, order, width, total, plain, *, block_size, row, first=0, flip=0, add=0, field=0,
         rows=(), rest=b""):
    """`row` and `total` in elements, `block_size` in bytes; the last three are numbers."""
    coded = varint(distance) + bytes([order, width]) + varint(block_size) + varint(total)
    coded += varint(first) + varint(row)
    coded += b"".join(number.to_bytes(width, "little") for number in (flip, add, field))
    return Block(TWIN, coded + b"".join(varint(r) for r in rows) + rest, plain)


def copy(which, plain, rest=b""):
    return Block(COPY, bytes([which]) + rest, plain)


def source(where, total, row, *rest, role=BASE, dtype=BF16, outside=0, block_size=None,
           order=SAME):
    """A source of `total` elements; `where`: how many blocks before, or the number of the
    reference; `rest`: the numbers that the order takes."""
    out = bytes([role, dtype, outside]) + varint(where)
    if not outside:
        out += varint(block_size)
    out += varint(total) + varint(row) + bytes([order])
    return out + b"".join(map(varint, rest))


class Blocks:
    """A Blocks, Ahead or Shared frame. `against`: (w, R, P, sources...); `shared`: the Shared frame
    (or a distance) that it names."""

    def __init__(self, *blocks, parameters=(), kept=0, block_size=None, size=None, sets=None,
                 rest=b"", against=(), count=None, shared=None, kind=BLOCKS):
        self.blocks, self.kind, self.data = blocks, kind, b"".join(block.coded for block in blocks)
        self.size = sum(len(block.plain) for block in blocks) if size is None else size
        block_size = len(blocks[0].plain) if block_size is None else block_size
        flags = kept | bool(against) << 1 | (shared is not None) << 2
        self._begin = varint(flags) + varint(block_size) + varint(self.size)
        if against:
            width, row, position, *sources = against
            if isinstance(width, tuple):  # elements and bytes of a unit
                self._begin += bytes(1) + varint(width[0]) + varint(width[1])
            else:
                self._begin += bytes([width])
            self._begin += varint(row) + varint(position)
            self._begin += varint(len(sources) if count is None else count) + b"".join(sources)
        self._shared, self._place = shared, 0
        self._rest = varint(len(parameters) if sets is None else sets)
        for codec, value in parameters:
            self._rest += bytes([codec]) + string(value)
        for block in blocks:
            self._rest += bytes([block.codec]) + varint(len(block.coded)) + u64(block.checksum)
        self._rest += rest
        self.head = self._begin + self._rest

    def place(self, offset):
        """Is called with the frame's place in the archive before that is written."""
        self._place = offset
        if self._shared is not None:
            named = self._shared
            distance = offset - named._place if isinstance(named, Blocks) else named
            self.head = self._begin + varint(distance) + self._rest


def segment(length, dtype=0, name=b"", shape=()):
    return (bytes([dtype]) + varint(length) + string(name) + varint(len(shape)) +
            b"".join(varint(dimension) for dimension in shape))


class Archive:
    """Writes one archive. Frames that stand out of place are added to `out` by the caller."""

    def __init__(self, references=b"", **fields):
        self.out = bytearray(header(**fields))
        self.out += frame(REFERENCES, references) if references else b""
        self._entries = []
        self._previous = 0

    def frame(self, *args, **fields):
        self.out += frame(*args, **fields)
        return self

    def entry(self, kind, path, head=None, rest=b"", entry_frame=None, **fields):
        head = entry_fields(kind, path, **fields) if head is None else head
        self.frame(ENTRY, head + rest, **entry_frame or {})
        self._entries.append(head)
        return self

    def file(self, path, *frames, layout=None, between=b"", size=None, sha256=None, end_rest=b"",
             end_frame=None, **fields):
        plain = b"".join(
            block.plain for part in frames for block in part.blocks if part.kind == BLOCKS)
        self.entry(FILE, path, **fields)
        places = []
        for part in frames:
            self.out += between
            part.place(len(self.out))
            if part.kind != SHARED:
                places.append(varint(len(self.out) - self._previous) + varint(len(part.head)) +
                              varint(len(part.data)) +
                              varint(part.size if part.kind == BLOCKS else 0) +
                              varint(len(part.blocks)))
                self._previous = len(self.out)
            self.frame(part.kind, part.head, part.data)
        self.out += between
        end = varint(len(plain) if size is None else size)
        end += sha256 or hashlib.sha256(plain).digest()
        self.frame(ENTRY_END, end + end_rest, **end_frame or {})
        if layout is None:
            layout = string(b"bytes") + (varint(1) + segment(len(plain)) if plain else varint(0))
        self._entries[-1] += end + layout + varint(len(places)) + b"".join(places)
        return self

    def root(self, mode=0o755):
        return self.entry(DIRECTORY, b"", mode=mode)

    def index(self):
        return varint(len(self._entries)) + b"".join(self._entries)

    def end(self, index=None, piece=1 << 20, between=b"", frames=None, offset=0, size=0,
            mark=spec_decoder.END_MAGIC, data=b"", rest=b""):
        """Writes index and trailer; `offset` and `size` are errors to make."""
        begin = len(self.out)
        index = self.index() if index is None else index
        for at in range(0, len(index), piece):
            if frames is None:
                self.frame(*index_frame(index[at:at + piece]))
            self.out += between
        self.out += frames or b""
        head = u64(begin + offset) + u64(len(self.out) + 44 + len(data) + size) + mark + rest
        self.frame(TRAILER, head, data)
        return bytes(self.out)


def index_frame(piece, codec=STORED, size=None, checksum=None, data=None):
    head = varint(len(piece) if size is None else size) + bytes([codec])
    head += u64(xxh3_64(piece) if checksum is None else checksum)
    return INDEX, head, piece if data is None else data


def one_file(*frames, path=b"f", references=b"", **fields):
    """An archive of one file."""
    return Archive(references).file(path, *frames, **fields).end()


def references(*tensors, count=None):
    """Head of a References frame. Tensors: (bytes or (SHA-256, length), depth, name, file)."""
    out = varint(len(tensors) if count is None else count)
    for plain, depth, name, file in tensors:
        digest, length = plain if isinstance(plain, tuple) else (
            hashlib.sha256(plain).digest(), len(plain))
        out += digest + varint(length) + varint(depth) + string(name) + string(file)
    return out


# ---------------------------------------------------------------------------------------------
# Coded bytes


def zstd_frame(*blocks, window=0x00, descriptor=0, magic=b"\x28\xb5\x2f\xfd"):
    """Blocks: bytes (raw), or (byte, count) (repeated)."""
    out = magic + bytes([descriptor, window])
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        if isinstance(block, bytes):
            out += (len(block) << 3 | last).to_bytes(3, "little") + block
        else:
            out += (block[1] << 3 | 1 << 1 | last).to_bytes(3, "little") + block[0]
    return out


def lzma2(plain, **options):
    """An LZMA2 stream; a dictionary of 4 KiB is size code 0."""
    return lzma.compress(plain, lzma.FORMAT_RAW, filters=[
        {"id": lzma.FILTER_LZMA2, "dict_size": 4096, **options}])


def lzma2_plain(*pieces, first=b"\x01", end=b"\x00"):
    """An LZMA2 stream of plain chunks."""
    out = b""
    for i, piece in enumerate(pieces):
        out += (b"\x02" if i else first) + struct.pack(">H", len(piece) - 1) + piece
    return out + end


def differences(numbers, width):
    mask = (1 << 8 * width) - 1
    return [b - a & mask for a, b in zip([0] + numbers, numbers)]


def byte_planes(numbers, width):
    return [bytes(number >> 8 * i & 255 for number in numbers) for i in range(width)]


def pack(numbers, width):
    return b"".join(number.to_bytes(width, "little") for number in numbers)


TEXT = b"".join(b"line %d of a text that a codec makes smaller\n" % i for i in range(60))


def words(seed, count, below):
    source = random.Random(seed)
    return [source.randrange(below) for _ in range(count)]


def noise(seed, count):
    return bytes(words(seed, count, 256))


class FloatEncoder:
    """Codes elements of codec 5 as it is told to.

    kind: 1, 2 or 3. listed: exponent -> whether it is joined. tables: K. modes: of the planes, in
    order. A table is made of the elements that use it; chunk c uses table c mod K. Attributes may
    be changed before `coded` is called.
    """

    def __init__(self, kind, elements, listed, modes, tables=1):
        self.kind, self.elements, self.modes = kind, elements, modes
        facts = spec_decoder.FLOAT_KINDS[kind]
        self.planes = [(16 * half, *plane) for half, planes in enumerate(
            (facts.low, facts.high)) for plane in planes] if kind == 3 else [
                (0, *plane) for plane in facts.high]
        shift = facts.key_shift + 16 * (kind == 3)
        self.keys = [element >> shift & 4 * facts.greatest_exponent + 3 for element in elements]
        self.size = facts.bytes
        self.streams = 4 if len(elements) >= 65536 else 1
        self.step = 32 * self.streams
        self.selectors = [c % tables for c in range(-(-len(elements) // 1024))]
        symbols = [(exponent, top) for exponent in sorted(listed)
                   for top in (range(4) if listed[exponent] else (None,))]
        self.parameters = bytes([kind, len(listed), *sorted(listed)]) + sum(
            listed[exponent] << i for i, exponent in enumerate(sorted(listed))).to_bytes(
                (len(listed) + 7) // 8, "little") + bytes([tables])
        for table in range(tables):
            used = [self._symbol(key, listed) for i, key in enumerate(self.keys)
                    if self.selectors[i // 1024] == table]
            left = 4096 - 96 * (not set(used) <= set(symbols))  # for the escape
            counts = [used.count(symbol) for symbol in symbols]
            frequencies = [count and max(1, count * (left - 32) // len(used)) for count in counts]
            if used and counts:  # the most frequent symbol takes what is left
                frequencies[counts.index(max(counts))] += left - sum(frequencies)
            self.parameters += b"".join(varint(frequency) for frequency in frequencies)
        self.listed = listed
        self.first_state = 65536
        self.padding = 0  # bits of planes beyond the last element

    @staticmethod
    def _symbol(key, listed):
        exponent, top = key >> 2, key & 3
        if exponent not in listed:
            return spec_decoder.ESCAPE
        return exponent, (top if listed[exponent] else None)

    def _stream(self, stream):
        tables = spec_decoder.parse_float(self.parameters).tables
        encode = []
        for slots in tables:
            of_symbol = {}
            for slot, (symbol, _, _) in enumerate(slots):
                of_symbol.setdefault(symbol, []).append(slot)  # by rank
            encode.append(of_symbol)
        states, words, pairs, escapes = [self.first_state] * 32, [], [], []
        for first in reversed(range(0, len(self.keys), self.step)):
            of_symbol = encode[self.selectors[first // 1024]]
            for lane in reversed(range(32)):
                i = first + 32 * stream + lane
                key = self.keys[min(i, len(self.keys) - 1)]
                symbol = self._symbol(key, self.listed)
                slots = of_symbol[symbol]
                state, frequency = states[lane], len(slots)
                if state >= frequency << 20:
                    words.append(state & 65535)
                    state >>= 16
                states[lane] = state // frequency << 12 | slots[state % frequency]
                if symbol[1] is None:
                    pairs.append(key & 3)
                if symbol[0] is None:
                    escapes.append(key >> 2)
        words, pairs, escapes = words[::-1], pairs[::-1], escapes[::-1]
        sizes = varint(len(words)) + varint(len(pairs)) + varint(len(escapes))
        packed = sum(pair << 2 * i for i, pair in enumerate(pairs)).to_bytes(
            (len(pairs) + 3) // 4, "little")
        return sizes, struct.pack(f"<32I{len(words)}H", *states, *words) + packed + bytes(escapes)

    def _plane(self, base, width, shift, mode):
        groups = []
        for begin in range(0, len(self.elements), 128):
            bits = [element >> base + shift & (1 << width) - 1
                    for element in self.elements[begin:begin + 128]]
            bits += [self.padding & (1 << width) - 1] * (128 - len(bits))
            if width == 4:
                groups.append(bytes(a | b << 4 for a, b in zip(bits[:64], bits[64:])))
            else:  # 1 or 8: bit after bit is byte after byte
                groups.append(sum(x << width * i for i, x in enumerate(bits)).to_bytes(
                    16 * width, "little"))
        data = b"".join(groups)
        if mode == 0:
            assert not any(data)
            return b"\0"
        if mode == 1:
            return b"\1" + data
        if mode == 2:
            there = sum(any(group) << g for g, group in enumerate(groups))
            return b"\2" + there.to_bytes((len(groups) + 7) // 8, "little") + b"".join(
                group for group in groups if any(group))
        assert data == data[:1] * len(data)  # coded as a repeated byte
        packed = zstd_frame((data[:1], len(data)), window=6 << 3)
        return b"\3" + varint(len(packed)) + packed

    def coded(self):
        streams = [self._stream(stream) for stream in range(self.streams)]
        out = b"".join(sizes for sizes, _ in streams)
        if self.parameters[2 + self.parameters[1] + (self.parameters[1] + 7) // 8] > 1:
            out += sum(table << 2 * c for c, table in enumerate(self.selectors)).to_bytes(
                (len(self.selectors) + 3) // 4, "little")
        out += b"".join(data for _, data in streams)
        return out + b"".join(self._plane(*plane, mode)
                              for plane, mode in zip(self.planes, self.modes))

    def frame(self):
        return Blocks(Block(FLOAT, self.coded(), pack(self.elements, self.size)),
                      parameters=[(FLOAT, self.parameters)])


class CascadeEncoder:
    """Codes elements of codec 7 as it is told to.

    kind: 1, 2 or 3. layers: (width, exponents) of each. modes: of the groups, in order. Elements
    beyond the last are `filler`.
    """

    def __init__(self, kind, elements, layers, modes, filler=0):
        self.elements, self.layers, self.modes = elements, layers, modes
        self.facts = spec_decoder.CASCADE_KINDS[kind]
        padded = elements + [filler] * (-len(elements) % 128)
        self.groups = [padded[at:at + 128] for at in range(0, len(padded), 128)]
        self.parameters = bytes([kind, len(layers)]) + b"".join(
            bytes([width, *exponents]) for width, exponents in layers)

    def parts(self):
        """Runs, sizes of the layers below the first, codes, raw exponents, rests, low bits."""
        low = self.facts.low
        there = [element for group, mode in zip(self.groups, self.modes) if mode
                 for element in group]
        exponents = [element >> 7 + low & self.facts.greatest_exponent for element in there]
        sizes, codes = [], b""
        for width, named in self.layers:
            exponents += [named[0]] * (-len(exponents) % 128)
            sizes.append(len(exponents) // 128)
            codes += self._packed(width, [named.index(exponent) if exponent in named
                                          else len(named) for exponent in exponents])
            exponents = [exponent for exponent in exponents if exponent not in named]
        rests = bytes((element >> low & 127) << 1 | element >> 8 * self.facts.bytes - 1
                      for element in there)
        runs = b"".join(varint(len(list(run)) << 3 | mode)
                        for mode, run in itertools.groupby(self.modes))
        return [runs, sizes[1:] + [len(exponents)], codes, bytes(exponents), rests,
                b"".join(self._low(*group) for group in zip(self.modes, self.groups))]

    @staticmethod
    def _packed(width, codes):
        out = b""
        for at in range(0, len(codes), 128):
            group = codes[at:at + 128]
            if width == 1:
                out += sum(code << i for i, code in enumerate(group)).to_bytes(16, "little")
            else:
                size = 16 * width
                out += bytes(sum(code << width * i for i, code in enumerate(group[byte::size]))
                             for byte in range(size))
        return out

    def _low(self, mode, group):
        low = [element & (1 << self.facts.low) - 1 for element in group]
        if mode < 2:
            assert not any(low)
            return b""
        if mode == 2:
            return b"".join(sum((x >> self.facts.three + p & 1) << i for i, x in enumerate(
                low)).to_bytes(16, "little") for p in range(3))
        if mode == 3:
            return pack(low, 2)
        few = [bytes([i]) + x.to_bytes(self.facts.bytes // 2, "little")
               for i, x in enumerate(low) if x]
        return bytes([len(few)]) + b"".join(few)

    def coded(self, **changed_parts):
        names = ("runs", "sizes", "codes", "raw", "rests", "low")
        parts = dict(zip(names, self.parts()), **changed_parts)
        parts["sizes"] = b"".join(varint(size) for size in parts["sizes"])
        return b"".join(parts.values())

    def frame(self):
        return Blocks(Block(CASCADE, self.coded(), pack(self.elements, self.facts.bytes)),
                      parameters=[(CASCADE, self.parameters)])


class BitField:
    """A field of bits, being written."""

    def __init__(self):
        self._value = self._size = 0

    def put(self, value, count):
        self._value |= value << self._size
        self._size += count

    def coded(self, rest=b""):
        data = self._value.to_bytes((self._size + 7) // 8, "little") + rest
        return varint(len(data)) + data


class AdaptiveCode:
    """The adaptive code of codec 8."""

    def __init__(self):
        self._sum = self._count = 1

    def put(self, bits, number):
        k = next((k for k in range(24) if self._count << k >= self._sum), 24)
        if number >> k < 16:
            bits.put((1 << (number >> k)) - 1, (number >> k) + 1)
            bits.put(number & (1 << k) - 1, k)
        else:
            bits.put(0xFFFF, 16)
            bits.put(number, 32)
        self._sum, self._count = self._sum + number, self._count + 1
        if self._count == 32:
            self._sum, self._count = self._sum // 2, 16

    def put_signed(self, bits, number):
        self.put(bits, 2 * number if number >= 0 else -2 * number - 1)


class ClassesEncoder:
    """Codes elements of codec 8 as it is told to.

    keys: those with symbols. groups: (g, keys div 2^g). rows, columns: offsets, or None. skews: of
    columns, or None. runs: for each skew the lengths of runs of scales. modes: of the planes.
    Tables are made of the elements that use them. Attributes may be changed before `coded`.
    """

    _plane = FloatEncoder._plane
    padding = 0
    first_state = 65536

    def __init__(self, kind, elements, keys, groups=(0, ()), row=1, phase=0, rows=None,
                 columns=None, skews=None, runs=((64,),), modes=()):
        self.kind, self.elements, self.row, self.phase = kind, elements, row, phase
        self.rows, self.modes = rows, modes
        self.facts = facts = spec_decoder.CLASS_KINDS[kind]
        self.group_bits = groups[0]
        self.escape = 255 if facts.sign is None else 127
        high = 16 * (facts.bytes == 4)
        self.planes = [(base, *plane) for base, planes in ((0, facts.low), (high, facts.high))
                       for plane in planes]
        self.flags = (rows is not None) + 2 * (columns is not None) + 4 * (skews is not None)
        columns = columns or [64] * (row if skews else 1)
        skews = skews or [0] * len(columns)

        bits = BitField()
        for value, count in ((groups[0], 3), (len(keys), 8), (len(groups[1]), 8)):
            bits.put(value, count)
        code = AdaptiveCode()
        for numbers in (keys, groups[1]):
            for before, number in zip([-1, *numbers], numbers):
                code.put(bits, number - before - 1)
        if self.flags & 2:
            self._put_offsets(bits, columns)
        if self.flags & 4:
            code = AdaptiveCode()
            for skew in skews:
                code.put_signed(bits, skew)
        code = AdaptiveCode()
        for run in itertools.chain(*runs):
            code.put(bits, run - 1)
        class_of = [number for number, run in enumerate(itertools.chain(*runs))
                    for _ in range(run)]

        self.symbols, self.classes, self.extra = [], [], []
        for i, element in enumerate(elements):
            unit = element >> high
            key = unit >> facts.key_shift & (1 << facts.key_bits) - 1
            if key in keys:
                symbol, extra = keys.index(key), (0, 0)
            elif key >> groups[0] in groups[1]:
                symbol = len(keys) + groups[1].index(key >> groups[0])
                extra = key & (1 << groups[0]) - 1, groups[0]
            else:
                symbol, extra = self.escape, (key, facts.key_bits)
            column = (phase + i) % row % len(columns)
            if facts.sign is not None:
                symbol |= (unit >> facts.sign & 1) << 7
                symbol ^= 128 * (skews[column] < 0)
            scale = (rows[(phase + i) // row] if rows else 64) + columns[column] - 96
            self.symbols.append(symbol)
            self.extra.append(extra)
            self.classes.append(class_of[64 * abs(skews[column]) + min(max(scale, 0), 63)])
        self.tables = [self._frequencies([symbol for symbol, c in zip(self.symbols, self.classes)
                                          if c == number]) for number in range(max(class_of) + 1)]
        self.head = bytes([kind, self.flags]) + (varint(row) if self.flags else b"")
        self.bits = bits

    @property
    def parameters(self):
        return self.head + self.bits.coded() + self._tables()

    @staticmethod
    def _put_offsets(bits, offsets):
        code = AdaptiveCode()
        for before, offset in zip([64, *offsets], offsets):
            code.put_signed(bits, offset - before)

    @staticmethod
    def _frequencies(symbols):
        """By symbol; empty if there are none."""
        counts = {symbol: symbols.count(symbol) for symbol in sorted(set(symbols))}
        out = {symbol: max(1, count * 3800 // len(symbols)) for symbol, count in counts.items()}
        if out:
            out[max(counts, key=counts.get)] += 4096 - sum(out.values())
        return out

    def _tables(self):
        bits, code = BitField(), AdaptiveCode()
        bits.put(len(self.tables) - 1, 6)
        used = [any(symbol in table for table in self.tables) for symbol in range(256)]
        runs = [len(list(run)) for _, run in itertools.groupby(used)]
        for run in [0] * used[0] + runs:
            code.put(bits, run)
        codes, before = [AdaptiveCode() for _ in range(14)], None
        for table in self.tables:
            bits.put(bool(table), 1)
            if not table:
                continue
            expected = 0
            for symbol in range(256):
                if used[symbol]:
                    if before is not None:
                        expected = before.get(symbol, 0)
                    frequency = table.get(symbol, 0)
                    codes[expected.bit_length()].put_signed(bits, frequency - expected)
                    expected = frequency
            before = table
        return bits.coded()

    def _stream(self, stream, streams):
        firsts = [dict(zip(table, itertools.accumulate(table.values(), initial=0)))
                  for table in self.tables]
        states, words, step = [self.first_state] * 32, [], 32 * streams
        for first in reversed(range(32 * stream, len(self.symbols) + 32 * stream, step)):
            for lane in reversed(range(32)):
                i = min(first + lane, len(self.symbols) - 1)
                c, symbol = self.classes[i], self.symbols[i]
                frequency, state = self.tables[c][symbol], states[lane]
                if state >= frequency << 20:
                    words.append(state & 65535)
                    state >>= 16
                states[lane] = (state // frequency << 12) + firsts[c][symbol] + state % frequency
        return words[::-1], states

    def _streams(self):
        number = 4 if len(self.symbols) >= 262144 else 1
        streams = [self._stream(stream, number) for stream in range(number)]
        return b"".join(varint(len(words)) for words, _ in streams) + b"".join(
            struct.pack(f"<32I{len(words)}H", *states, *words) for words, states in streams)

    def coded(self, rest=b""):
        out = varint(self.phase) if self.flags else b""
        if self.rows is not None:
            bits = BitField()
            self._put_offsets(bits, self.rows)
            out += bits.coded()
        bits = BitField()
        for extra in self.extra:
            bits.put(*extra)
        return out + self._streams() + bits.coded(rest) + b"".join(
            self._plane(*plane, mode) for plane, mode in zip(self.planes, self.modes))

    def frame(self):
        return Blocks(Block(CLASSES, self.coded(), pack(self.elements, self.facts.bytes)),
                      parameters=[(CLASSES, self.parameters)])


class PaletteEncoder(ClassesEncoder):
    """Codes elements of codec 13. palettes: of groups, each in its order, made where none are
    given. kinds: of planes, that of the sizes first. Attributes may be changed before `coded`."""

    def __init__(self, width, elements, group=0, phase=0, flags=0, bounds=(), palettes=None,
                 kinds=b"\0"):
        self.width, self.elements, self.group, self.phase = width, elements, group, phase
        self.flags, self.bounds, self.kinds = flags, bounds, kinds
        first = (group or len(elements)) - phase
        ends = [*range(first, len(elements), group or len(elements)), len(elements)]
        groups = [elements[begin:end] for begin, end in zip([0, *ends], ends)]
        self.top = 1 << 8 * width - 1
        self.palettes = palettes or [sorted(set(each), key=self._order) for each in groups]
        self.sizes = [len(palette) for palette in self.palettes]
        self.symbols, self.classes = [], []
        for palette, each in zip(self.palettes, groups):
            zero = self._negative(palette) if flags & 1 else 0
            self.symbols += [(palette.index(element) - zero) % 256 for element in each]
            which = sum(bound <= len(palette) - 1 for bound in bounds)
            self.classes += [which] * len(each)
        self.tables = [self._frequencies([symbol for symbol, c in zip(self.symbols, self.classes)
                                          if c == number]) for number in range(len(bounds) + 1)]

    def _order(self, value):
        return value if value < self.top else -value

    def _negative(self, palette):
        return sum(value >= self.top for value in palette)

    def _mirrored(self, palette):
        k = self._negative(palette)
        rest = palette[k + (k < len(palette) and palette[k] == 0):]
        for i, value in enumerate(rest[:k]):
            palette = [*palette[:k - 1 - i], palette[k - 1 - i] ^ value & self.top - 1,
                       *palette[k - i:]]
        return palette

    @property
    def parameters(self):
        return (bytes([self.width, self.flags]) + varint(self.group) + varint(len(self.bounds)) +
                bytes(self.bounds) + self._tables())

    @staticmethod
    def _byte_plane(kind, plane):
        if kind == 1:
            return bytes([1, plane[0]])
        frame = zstd_frame(plane)
        return bytes([0]) + plane if kind == 0 else bytes([2]) + varint(len(frame)) + frame

    def coded(self, rest=b""):
        palettes = [self._mirrored(palette) if self.flags & 2 else palette
                    for palette in self.palettes]
        values = pack(itertools.chain(*palettes), self.width)
        planes = [bytes(size - 1 for size in self.sizes)]
        planes += [values[i::self.width] for i in range(self.width)]
        out = varint(self.phase) if self.group else b""
        for plane, kind in zip(planes, itertools.chain(self.kinds, itertools.repeat(0))):
            out += self._byte_plane(kind, plane)
        return out + self._streams() + rest

    def frame(self):
        return Blocks(Block(PALETTE, self.coded(), pack(self.elements, self.width)),
                      parameters=[(PALETTE, self.parameters)])


class MixCoder:
    """The bit coder of codec 10, encoding: `code` is told by `wanted` which bit to code."""

    def __init__(self):
        self._low, self._high, self._out = 0, (1 << 32) - 1, bytearray()
        self.wanted = []

    def code(self, p):
        split = self._low + ((self._high - self._low) * p >> 16)
        bit = self.wanted.pop(0)
        if bit:
            self._high = split
        else:
            self._low = split + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._out.append(self._low >> 24)
            self._low = self._low << 8 & 0xFFFFFFFF
            self._high = (self._high << 8 & 0xFFFFFFFF) | 255
        return bit

    adaptive = spec_decoder.BitCoder.adaptive

    def end(self):
        return bytes(self._out) + bytes([(self._low >> 24) + 1])


class MixEncoderModels(spec_decoder.MixNumbers):
    """Decodes what it is told to, and so drives the coder to encode it."""

    def __init__(self, parameters, columns, coder):
        super().__init__(parameters, columns, coder)
        self._decode_bit = self._experts.bit
        self._experts.bit = self._bit

    def encode(self, column, negative, exponent, mantissa_bits):
        self._element = negative, exponent, list(mantissa_bits)
        return self.element(column)

    def encode_zeros(self, column, zeros, all_zero):
        self._coder.wanted = [int(min(z, self._tail) <= zeros) for z in self._z]
        return self.zeros(column, all_zero)

    def _bit(self, bound, node, context):
        negative, exponent, mantissa_bits = self._element
        if context[0] == "sign":
            bit = 1 - negative
        elif context[0] == "mantissa":
            bit = mantissa_bits.pop(0)
        else:
            bit = int(exponent >= context[1])
        self._coder.wanted = [bit]
        result = self._decode_bit(bound, node, context)
        self._coder.wanted = [exponent >> i & 1 for i in reversed(range(8))]  # if it is far
        return result


class MixEncoder:
    """Codes elements of codec 10. Attributes may be changed before `coded` is called."""

    def __init__(self, kind, elements, modelled, unit, row=0, phase=0, zeros=0, ridges=(16, 64)):
        self.elements, self.phase = elements, phase
        self.size, self._mantissa, _, self._z = spec_decoder.MIX_KINDS[kind]
        self.parameters = bytes([kind, modelled, unit, *ridges, zeros]) + varint(row)

    def parts(self):
        """Phase, code, tails."""
        parameters = spec_decoder.parse_mix(self.parameters)
        count, row = len(self.elements), parameters.row
        row, skip = (row, self.phase) if 0 < row <= count else (1, 0)
        grid = [None] * skip + self.elements
        grid += [None] * (-len(grid) % row)
        lines = [grid[at:at + row] for at in range(0, len(grid), row)]
        if len(lines) < row:
            lines = [list(column) for column in zip(*lines)]
        coder = MixCoder()
        models = MixEncoderModels(parameters, len(lines[0]), coder)
        tails, tail_bits = 0, 0
        for line in lines:
            models.begin_line()
            for column, element in enumerate(line):
                if element is None:
                    models.skip(column)
                    continue
                rest = self._modelled(models, column, element, parameters)
                z = 0
                width = self._mantissa - parameters.modelled
                if width and parameters.zeros:
                    low = element & (1 << width) - 1
                    there = (low & -low).bit_length() - 1 if low else width
                    z = models.encode_zeros(column, there, rest)
                tails |= (element & (1 << width) - 1) >> z << tail_bits
                tail_bits += width - z
            models.end_line()
        return [varint(self.phase), coder.end(), tails.to_bytes((tail_bits + 7) // 8, "little")]

    def _modelled(self, models, column, element, parameters):
        """Codes sign, exponent, mantissa; whether the last two are 0."""
        negative = element >> 8 * self.size - 1
        magnitude = element & (1 << 8 * self.size - 1) - 1
        if parameters.kind == spec_decoder.MIX_INTEGERS:
            magnitude ^= 127 * negative
            exponent = magnitude.bit_length()
            bits = [magnitude >> i & 1 for i in reversed(range(max(exponent - 1, 0)))]
        else:
            exponent = magnitude >> self._mantissa
            bits = [magnitude >> i & 1 for i in reversed(range(
                self._mantissa - parameters.modelled, self._mantissa))]
        models.encode(column, negative, exponent, bits)
        return exponent == 0 and not any(bits)

    def coded(self):
        phase, code, tails = self.parts()
        return phase + string(code) + tails

    def frame(self):
        return Blocks(Block(MIX, self.coded(), pack(self.elements, self.size)),
                      parameters=[(MIX, self.parameters)])


# ---------------------------------------------------------------------------------------------
# Good archives: (name, what it shows, archive)


def good_container():
    yield "example", "the example of example.md", Archive().file(
        b"hi.txt", Blocks(stored(b"Hi!\n")), mode=0o644).end()
    yield "empty-file", "a file of no bytes: no Blocks frame", one_file()
    yield "one-byte", "a file of one byte", one_file(Blocks(stored(b"\0")))
    yield "no-name", "a stream: no name, no metadata", one_file(Blocks(stored(b"stream")), path=b"")
    yield "frames", "three frames; blocks of several sizes, the last of a frame shorter", one_file(
        Blocks(stored(b"abcd"), stored(b"efgh"), stored(b"i")), Blocks(stored(b"j")),
        Blocks(stored(b"klm"), stored(b"n")), mode=0o600)
    yield "long-name", "a name of 255 bytes, not UTF-8", one_file(
        Blocks(stored(b"x")), path=b"\xff" + b"n" * 254)
    yield "tree", "directories, an empty one, links, times before 1970, modes", (
        Archive().root(mode=0o750)
        .file(b"a", Blocks(stored(b"A")), mode=0o640, seconds=-1, nanoseconds=999_999_999)
        .entry(DIRECTORY, b"empty", mode=0o755, seconds=-(1 << 40))
        .entry(LINK, b"link", mode=0o777, target=b"sub/file")
        .entry(LINK, b"out", mode=0o777, seconds=0, target=b"../../etc/passwd")
        .entry(DIRECTORY, b"sub", mode=0o700)
        .file(b"sub/...", Blocks(stored(b"B")), mode=0o400)
        .entry(DIRECTORY, b"sub/deeper", mode=0o755)
        .file(b"sub/deeper/f", mode=0o644).file(b"sub/file", Blocks(stored(b"C"))).end())
    yield "bare-root", "a tree of nothing but its root", Archive().root().end()
    skipped = optional_frame()
    archive = Archive(minor=7)
    archive.out += skipped
    archive.root().file(b"f", Blocks(stored(b"1")), Blocks(stored(b"2")), between=skipped)
    archive.out += skipped + optional_frame(255)
    yield "optional-frames", "unknown optional frames wherever they may stand, a newer minor " \
        "version", archive.end(piece=40, between=optional_frame(0))
    yield "index-pieces", "an index in pieces of 16 bytes", Archive().root().file(
        b"f", Blocks(stored(b"1"))).end(piece=16)
    archive = Archive().file(b"f", Blocks(stored(b"1")))
    yield "index-zstd", "an index coded by zstd", archive.end(frames=frame(*index_frame(
        archive.index(), codec=ZSTD, data=zstd_frame(archive.index()))))
    layout = string(b"new") + varint(3) + segment(3, 200, b"unknown type", [3]) + segment(
        0, 2, b"nothing", [0, 1 << 60]) + segment(1, 20, b"\xff", [1] * 64)
    yield "layout", "an unknown element type, an empty tensor, a name that is no UTF-8, 64 " \
        "dimensions", one_file(Blocks(stored(b"abcd")), layout=layout)
    yield "two-archives", "a concatenation: a file, then a tree", one_file(
        Blocks(stored(b"first"), kept=1), path=b"first") + Archive().root().entry(
            DIRECTORY, b"d", mode=0o755).file(
                b"d/second", Blocks(stored(b"second"), kept=1),
                Blocks(duplicate(1, b"second"))).end()


def beside(plain, width, begin, count, row, position, total_row, order, *numbers):
    """What lies beside `count` elements of a frame from its element `begin` on, as the table of
    container.md has it."""
    out = b""
    for k in range(begin, begin + count):
        i, j = divmod(position % row + k, row) if row else (0, k)
        if order == ROWS:
            c, *rows = numbers
            at = rows[i] * total_row + c + j
        else:
            r, c = numbers
            at = (r + i) * total_row + c + j if order == SAME else (r + j) * total_row + c + i
        out += plain[at * width:(at + 1) * width]
    return out


def copied(plain, count, row, position, *from_source, block=None, **fields):
    """A frame of `count` elements copied from outside or, if `block_size` is among `fields`, from
    the blocks before. `from_source`: (where, elements, elements of a row, order, numbers...)."""
    where, total, total_row, order, *numbers = from_source
    width = len(plain) // total
    block = block or count
    blocks = [copy(0, beside(plain, width, begin, min(block, count - begin), row, position,
                             total_row, order, *numbers)) for begin in range(0, count, block)]
    kept = fields.pop("kept", 0)
    return Blocks(*blocks, kept=kept, against=(width, row, position, source(
        where, total, total_row, *numbers, order=order, **fields)))


CRAFTED_BASE = "bases/crafted.safetensors"


def crafted_base():
    """Tensors a and b of 12 rows of 10 BF16; c of 30 F32."""
    return {"a": ("BF16", [12, 10], pack(words(50, 120, 1 << 16), 2)),
            "b": ("BF16", [12, 10], pack(words(51, 120, 1 << 16), 2)),
            "c": ("F32", [30], noise(52, 120)), "empty": ("F32", [0], b"")}


def chain_of_sources(length):
    plain = pack(words(40, 40, 1 << 16), 2)
    return [Blocks(stored(plain), kept=1)] + [
        copied(plain, 40, 10, 0, 1, 40, 10, SAME, 0, 0, block_size=80, kept=1)
        for _ in range(length)]


def good_sources():
    """What follows an archive: the bases that it needs."""
    plain = pack(words(40, 120, 1 << 16), 2)  # 12 rows of 10
    first = Blocks(*map(stored, cut(plain, 50)), kept=1)  # 50, 50, 50, 50, 40 bytes
    frames, blocks = [first], 5
    for fields in (
            (120, 10, 0, 120, 10, SAME, 0, 0), (120, 0, 0, 120, 120, SAME, 0, 0),
            (30, 0, 0, 120, 60, SAME, 1, 25), (40, 10, 0, 120, 10, SAME, 5, 0),
            (33, 10, 17, 120, 10, SAME, 3, 0), (20, 4, 10, 120, 10, SAME, 2, 6),
            (120, 12, 0, 120, 10, TRANSPOSED, 0, 0), (25, 5, 3, 120, 10, TRANSPOSED, 6, 2),
            (6, 0, 0, 120, 10, TRANSPOSED, 5, 9), (7, 9, 20, 120, 10, TRANSPOSED, 1, 3),
            (30, 10, 0, 120, 10, ROWS, 0, 11, 0, 5), (23, 6, 4, 120, 10, ROWS, 3, 7, 7, 1, 0, 2),
            (5, 0, 0, 120, 10, ROWS, 4, 8)):
        count, row, position, *from_source = fields
        frames.append(copied(plain, count, row, position, blocks, *from_source, block=8,
                             block_size=50))
        blocks += len(frames[-1].blocks)
    yield "orders", "codec 14: rows, columns and parts of an earlier tensor", one_file(*frames), ()

    parts = noise(41, 96)
    all_widths = [Blocks(*map(stored, cut(parts, 32)), kept=1)]
    blocks = 3
    for dtype, width in ((U8, 1), (F16, 2), (F32, 4), (F64, 8)):
        all_widths.append(copied(parts, 96 // width, 4, 0, blocks, 96 // width, 4, SAME, 0, 0,
                                 block=16 // width * 2, block_size=32, dtype=dtype))
        blocks += len(all_widths[-1].blocks)
    yield "widths", "codec 14: elements of each size", one_file(*all_widths), ()

    roles = [source(1, 6, 3, 0, 0, role=role, dtype=C128, block_size=96)
             for role in (BASE, FIRST_MOMENT)]
    roles += [source(1, 12, 6, role=FACTOR, dtype=F64, order=WHOLE, block_size=96),
              source(1, 48, 3, 14, 0, role=BASE_SECOND_MOMENT, block_size=96)]
    yield "four", "codec 14: four sources, of other element types; a factor as a whole", one_file(
        Blocks(stored(parts), kept=1),
        Blocks(copy(3, parts[84:96]), against=(2, 3, 0, *roles)),
        Blocks(copy(2, parts), against=(
            2, 8, 0, *(source(2, 96, 8, 0, 0, dtype=U8, block_size=96, role=role)
                       for role in (SECOND_MOMENT, BASE_FIRST_MOMENT)),
            source(2, 12, 6, role=FACTOR, dtype=F64, order=WHOLE, block_size=96)))), ()

    yield "chain", "codec 14: six sources in a chain, and a duplicate of the last", one_file(
        *chain_of_sources(6), Blocks(duplicate(1, plain[:80]))), ()

    yield "copies", "codec 14: a source of a duplicate and a twin", one_file(
        Blocks(stored(plain[:80]), kept=1), Blocks(duplicate(1, plain[:80]), kept=1),
        Blocks(twin(2, 0, 2, 40, plain[:60], block_size=80, row=10), kept=1),
        copied(plain[:80] + plain[:60], 70, 10, 0, 2, 70, 10, SAME, 0, 0, block_size=80)), ()

    a, b, c = (crafted_base()[name][2] for name in "abc")
    outside = {"outside": 1}
    turned = beside(a, 2, 0, 120, 10, 0, 10, ROWS, 0, *range(11, -1, -1))
    yield "outside", "codec 14: tensors of a base", one_file(
        copied(c, 30, 0, 0, 0, 30, 30, SAME, 0, 0, **outside, dtype=F32),
        copied(b, 120, 12, 0, 1, 120, 10, TRANSPOSED, 0, 0, **outside, block=50),
        copied(a, 55, 5, 5, 2, 120, 10, ROWS, 5, *range(11, 0, -1), **outside, block=8),
        Blocks(stored(b"no source")), references=references(
            (c, 0, b"c", b"crafted.safetensors"), (b, 0, b"old name", b""),
            (a, 3, b"\xff", b"folder/other.safetensors"))), (CRAFTED_BASE,)
    yield "needs-base", "codec 14: a tensor whose rows are those of a base, last first", one_file(
        copied(a, 120, 10, 0, 0, 120, 10, ROWS, 0, *range(11, -1, -1), **outside),
        references=references((a, 0, b"a", b"crafted.safetensors")),
        layout=string(b"safetensors") + varint(1) + segment(240, BF16, b"t", [12, 10])), (
            CRAFTED_BASE,)
    yield "archive", "codec 14: a tensor of an archive that itself has a base", one_file(
        copied(turned, 120, 10, 0, 0, 120, 10, SAME, 0, 0, **outside),
        references=references((turned, 1, b"t", b"sources-needs-base.zllm:f"))), (
            CRAFTED_BASE, "sources-needs-base.zllm")

    ahead = Blocks(*map(stored, cut(plain, 50)), kept=1, kind=AHEAD)
    yield "ahead", "an Ahead frame, what is coded against it, and duplicates where its place is", \
        one_file(Blocks(stored(b"before")), ahead,
                 copied(plain, 120, 10, 0, 5, 120, 10, SAME, 0, 0, block_size=50, block=30),
                 Blocks(stored(b"between")),
                 Blocks(*(duplicate(10, part) for part in cut(plain, 50)))), ()

    shared = Blocks(*map(stored, cut(b"what blocks share", 7)), kind=SHARED)
    unused = Blocks(Block(FILL, b"-", b"-" * 1000), kind=SHARED)
    other = Blocks(stored(b"again"), kind=SHARED)
    yield "shared", "Shared frames: one that no frame names, one that two name, another file's", (
        Archive().root().file(
            b"a", unused, first, shared,
            Blocks(copy(0, plain[:20]), shared=shared, kept=1, against=(
                2, 0, 0, source(5, 25, 25, 0, 0, block_size=50))),
            Blocks(stored(b"no source"), shared=shared, kept=1))
        .file(b"b", Blocks(stored(b"x")), other, Blocks(stored(b"y"), shared=other)).end()), ()


def good_codecs():
    yield "stored", "codec 0, noise", one_file(
        Blocks(stored(noise(1, 1000)), stored(noise(2, 1000))))
    patterns = [b"\0", b"\x00\x3c", b"abcd", b"12345678", b"sixteen bytes ab"]
    yield "fill", "codec 1: each size, repeated and cut, and as long as the block", one_file(
        *(Blocks(Block(FILL, p, (p * 40)[:size])) for p in patterns for size in (len(p), 301)))
    text, other = TEXT[:300], noise(3, 300)
    yield "duplicate", "codec 2: of the frame before, of an earlier one, of another file", (
        Archive().root().file(
            b"a", Blocks(stored(b"frame not kept"), kept=0),
            Blocks(stored(text), stored(other), stored(b"short"), kept=1),
            Blocks(duplicate(2, other), stored(text), duplicate(3, b"short"), kept=1))
        .file(b"b", Blocks(duplicate(6, text), kept=1), Blocks(duplicate(3, text))).end())
    for name, what, archive, bases in good_sources():
        yield f"sources-{name}", what, archive, bases
    for name, what, archive in good_twins():
        yield f"twin-{name}", f"codec 11: {what}", archive
    yield "zstd", "codec 3: frames of raw and repeated blocks", one_file(
        Blocks(Block(ZSTD, zstd_frame((b"z", 1024), (b"z", 1000)), b"z" * 2024)),
        Blocks(Block(ZSTD, zstd_frame(b"raw", (b"-", 200), b"end"), b"raw" + b"-" * 200 + b"end")),
        Blocks(Block(ZSTD, zstd_frame(b"", (b"w", 500), b"", window=16 << 3), b"w" * 500)))
    yield "lzma", "codec 4: all properties; plain chunks; the largest dictionary", one_file(
        *(Blocks(Block(LZMA, lzma2(TEXT, lc=lc, lp=lp, pb=pb), TEXT), parameters=[(LZMA, b"\0")])
          for lc, lp, pb in ((3, 0, 2), (0, 4, 0), (4, 0, 4), (1, 3, 1))),
        Blocks(Block(LZMA, lzma2_plain(b"plain chunk", end=lzma2(TEXT)), b"plain chunk" + TEXT),
               parameters=[(LZMA, b"\x1c")]),
        Blocks(Block(LZMA, lzma2(TEXT)[:-1] + lzma2_plain(b"plain", first=b"\x02"),
                     TEXT + b"plain"), parameters=[(LZMA, b"\x01")]))
    for name, what, encoder in good_floats():
        yield f"float-{name}", f"codec 5: {what}", Archive(
            max_block=1 << 18, max_frame=1 << 18).file(b"f", encoder.frame()).end()
    for name, what, encoder in good_cascades():
        yield f"cascade-{name}", f"codec 7: {what}", Archive(
            max_block=1 << 18, max_frame=1 << 18).file(b"f", encoder.frame()).end()
    for name, what, encoder in good_mixes():
        yield f"mix-{name}", f"codec 10: {what}", one_file(encoder.frame())
    for name, what, frames in good_swapped():
        yield f"swapped-{name}", f"codec 12: {what}", one_file(*frames)
    for name, what, encoder in good_palettes():
        yield f"palette-{name}", f"codec 13: {what}", Archive(
            max_block=1 << 20, max_frame=1 << 20).file(b"f", encoder.frame()).end()
    for name, what, encoder in good_classes():
        yield f"classes-{name}", f"codec 8: {what}", Archive(
            max_block=1 << 19, max_frame=1 << 19).file(b"f", encoder.frame()).end()
    yield "planes", "codec 6: each element size, transform and kind of plane", one_file(
        *planes_frames())


def float_elements(seed, count, kind, zeros=()):
    """Elements around 1, of two exponents mostly, 0 in the bits of mask `zeros`."""
    source = random.Random(seed)
    mantissa, one = {1: (7, 127), 2: (10, 15), 3: (23, 127)}[kind]
    out = []
    for _ in range(count):
        exponent = one - (source.randrange(256) & source.randrange(256)).bit_length() // 3
        element = source.randrange(2) << (31 if kind == 3 else 15)
        element |= exponent << mantissa | source.randrange(1 << mantissa)
        out.append(element & ~sum(1 << bit for bit in zeros))
    return out


def good_floats():
    yield "bf16", "BF16, joined and bare exponents, raw planes", FloatEncoder(
        1, float_elements(1, 1000, 1), {125: False, 126: True, 127: True}, (1, 1, 1))
    special = float_elements(2, 1500, 1, zeros=range(5))
    special[::100] = [0x0000, 0x8000, 0x7F80, 0xFF80, 0x7FC0, 0xFFE0, 0x0040, 0x8060, 0x0080,
                      0x7F60, 0x2000, 0xA020, 0x5FE0, 0x0020, 0x7FE0]
    yield "escapes", "BF16, escapes: zeros, infinities, NaN, subnormal numbers; planes all zero", \
        FloatEncoder(1, special, {126: False, 127: True}, (0, 0, 1))
    yield "no-exponents", "BF16, no listed exponent", FloatEncoder(
        1, float_elements(3, 700, 1, zeros=[*range(5), 15]), {}, (0, 0, 0))
    yield "all-symbols", "BF16, 31 bare exponents, 32 symbols", FloatEncoder(
        1, [(100 + i * i % 31) << 7 | i * 5 % 128 for i in range(999)],
        {exponent: False for exponent in range(100, 131)}, (1, 1, 0))
    yield "tables", "BF16, four tables and their selectors", FloatEncoder(
        1, [element + ((i >> 10 & 3) << 7) for i, element in enumerate(
            float_elements(4, 5000, 1, zeros=range(5)))],
        {125: True, 126: True, 127: True, 128: True, 129: False, 130: False}, (0, 0, 1), 4)
    constant = [0x3F80] * 65613
    for i in range(0, len(constant), 997):
        constant[i] = 0xBF00 | i & 31
    yield "four-streams", "BF16, four streams; planes by runs", FloatEncoder(
        1, constant, {126: False, 127: True}, (2, 2, 2), 2)
    yield "fp16", "FP16, each mode of planes", FloatEncoder(
        2, [element if i < 300 or i > 700 else element & 0xFFFE for i, element in enumerate(
            float_elements(5, 1001, 2, zeros=[2]))],
        {13: True, 14: True, 15: True}, (2, 1, 0, 1, 1, 1))
    yield "fp16-repeated", "FP16, planes by zstd", FloatEncoder(
        2, [0x3C00 | 0xFF] * 1024, {15: True}, (3, 3, 3, 3, 3, 0))
    yield "fp16-escapes", "FP16, the greatest exponent by escape", FloatEncoder(
        2, float_elements(6, 800, 2, zeros=[0, 1, 2]) + [0x7C00, 0xFE00, 0x0000, 0x83F8],
        {13: False, 14: False, 15: True}, (0, 0, 0, 1, 1, 1))
    yield "fp32", "FP32, raw planes", FloatEncoder(
        3, float_elements(7, 700, 3), {125: True, 126: True, 127: True}, (1,) * 9)
    yield "fp32-of-bf16", "FP32 that was BF16: planes of the low half all zero", FloatEncoder(
        3, float_elements(8, 600, 3, zeros=range(16)), {125: True, 126: True, 127: True},
        (0,) * 6 + (1,) * 3)
    yield "fp32-of-fp16", "FP32 that was FP16 in part: planes by runs", FloatEncoder(
        3, [element if 256 <= i < 400 else element & ~0x1FFF for i, element in enumerate(
            float_elements(9, 900, 3))], {125: True, 126: True, 127: True}, (2,) * 9)
    padded = FloatEncoder(1, float_elements(10, 1001, 1), {125: True, 126: True, 127: True},
                          (1, 1, 1))
    padded.padding = 255
    yield "padding", "BF16, ones in the planes beyond the last element, to be ignored", padded
    yield "one-table-sure", "BF16, one symbol of frequency 4096: no words", FloatEncoder(
        1, [0x3F80] * 300, {127: True}, (0, 0, 0))


def good_cascades():
    two, one = (2, (125, 126, 124)), (1, (125,))
    yield "bf16", "BF16, layers of 2, 1 and 4 bits, raw exponents, a part of a group", \
        CascadeEncoder(1, float_elements(11, 1001, 1) + [0x0000, 0x8000, 0x7F80, 0xFFC1],
                       [one, (2, (126, 3, 4)), (4, (*range(114), 127)[-15:])], [1] * 8, 0x3F80)
    yield "one-layer", "BF16, one layer of 1 bit, no raw exponents", CascadeEncoder(
        1, [0x3F80, 0xBF80, 0x3FFF] * 100, [(1, (127,))], [1] * 3, 0x3F80)
    yield "all-raw", "BF16, eight layers that name no exponent there is", CascadeEncoder(
        1, float_elements(12, 256, 1) + [0] * 500, [(1, (3,))] * 8, [1] * 2 + [0] * 4)
    yield "padding", "BF16, exponents that escape beyond the last element", CascadeEncoder(
        1, float_elements(13, 641, 1), [two], [1] * 6, 0xFFFF)
    yield "zeros", "BF16, groups of zeros have no codes; one that has", CascadeEncoder(
        1, [0] * 300 + float_elements(14, 200, 1) + [0] * 800, [two], [0] * 2 + [1] * 2 + [0] * 6 +
        [1])
    half = (2, (13, 12, 15))
    fp16 = float_elements(15, 1000, 2)
    for i in range(256, 1000):
        if i % 128 > 3:
            fp16[i] &= ~7
    fp16[512:640] = [element & ~7 for element in fp16[512:640]]
    yield "fp16", "FP16, each mode", CascadeEncoder(
        2, fp16 + [0] * 200, [half, (2, (14, 11, 31))], [2, 2, 4, 4, 1, 2, 4, 4, 0, 0])
    fp32 = float_elements(16, 900, 3)
    fp32 = [element if i < 256 else element & ~0x1FFF if i < 512 or i % 128 == 127
            else element & ~0xFFFF for i, element in enumerate(fp32)]
    fp32[700] |= 1
    yield "fp32", "FP32, each mode", CascadeEncoder(
        3, fp32 + [0] * 252, [two], [3, 3, 2, 2, 4, 4, 2, 4, 0])
    yield "fp32-of-bf16", "FP32 that was BF16", CascadeEncoder(
        3, float_elements(17, 600, 3, zeros=range(16)), [one, (1, (126,))], [1] * 5)


def matrix(seed, kind, rows, columns, row_scales, column_scales, lean=0):
    """Elements of a matrix around 0 whose scales are powers of two; columns lean to one sign."""
    source = random.Random(seed)
    mantissa, one, sign = {2: (3, 7, 7), 3: (7, 127, 15), 4: (10, 15, 15), 5: (23, 127, 31)}[kind]
    out = []
    for i in range(rows):
        for j in range(columns):
            exponent = one - row_scales[i % len(row_scales)] - column_scales[
                j % len(column_scales)] - (source.randrange(16) & source.randrange(16)) // 4
            positive = source.randrange(16) < 8 + lean * (1 if j % 2 else -1)
            out.append((not positive) << sign | exponent << mantissa | source.randrange(
                1 << mantissa))
    return out


def good_classes():
    fp8 = matrix(31, 2, 40, 30, (0, 1, 2), (0, 2), lean=6)
    yield "fp8", "FP8, rows, columns and signs, a row cut on both sides", ClassesEncoder(
        2, fp8, range(24, 64), (3, (0, 1, 2)), 33, 7,
        [72 - 8 * (i % 3) for i in range(37)], [64 - 16 * (j % 2) for j in range(33)],
        [(0, 1, -1, 3, -3, 2, -2)[j % 7] for j in range(33)],
        ((16, 8, 40), (64,), (20, 44), (32, 32)))
    int8 = [source % 256 for source in words(32, 900, 40)]
    yield "bytes", "bytes, one table, groups and escapes", ClassesEncoder(
        1, int8 + [255, 254, 200, 77] * 3, range(20), (2, (5, 6, 7, 8, 9, 50)))
    yield "rows", "bytes, rows without columns, a class that does not occur", ClassesEncoder(
        1, [symbol // (1 + i // 100 % 3) for i, symbol in enumerate(int8)], range(40), row=100,
        phase=99, rows=[127 if i % 3 else 0 for i in range(10)], runs=((1, 20, 43),))
    yield "columns", "BF16, columns alone, keys that escape", ClassesEncoder(
        3, matrix(33, 3, 60, 12, (0,), (0, 4)) + [0x0000, 0x8000, 0x7F80, 0xFFC1],
        range(124 * 8, 128 * 8), (3, (122, 123)), 12, 0, None,
        [64 - 4 * (j % 2) for j in range(12)], runs=((31, 33),), modes=(1,))
    yield "signs", "FP16, signs alone; planes of each mode", ClassesEncoder(
        4, [element & ~6 for element in matrix(34, 4, 30, 20, (0, 1), (0,), lean=7)],
        range(10 * 8, 16 * 8), (0, ()), 20, 5, None, None,
        [3 if j % 2 else -3 for j in range(20)], ((64,), (64,), (64,), (64,)), (1, 0, 2, 1))
    yield "fp32-of-bf16", "FP32 that was BF16, all by rows", ClassesEncoder(
        5, [element & ~0xFFFF for element in matrix(35, 5, 9, 70, (0, 3), (0,))],
        range(119 * 8, 128 * 8), (0, ()), 70, 0, [64 - 24 * (i % 2) for i in range(9)],
        runs=((20, 44),), modes=(0,) * 6 + (1,))
    yield "one-symbol", "all elements alike: no words", ClassesEncoder(1, [7] * 5000, [7])
    few = [source & 1 for source in words(36, 262144 + 1, 2)]
    yield "four-streams", "four streams and a part of a step", ClassesEncoder(
        2, [3 * (x and i % 5 == 0) for i, x in enumerate(few)], [0, 3])


def grid(seed, count, group, scales, negative, positive, top):
    """Elements of which each group has those from -negative to positive times a scale."""
    out = []
    for i, source in enumerate(words(seed, count, negative + positive + 1)):
        number = source - negative
        out.append(abs(number) * scales[i // group % len(scales)] | top * (number < 0))
    return out


def good_palettes():
    yield "one", "one palette, numbered from the first value", PaletteEncoder(
        2, grid(51, 900, 900, [0x321], 7, 7, 0x8000))
    yield "groups", "groups cut on both sides, mirrored, from zero, classes", PaletteEncoder(
        4, grid(52, 1500, 64, [0x1234567, 0x1000001, 0x7654321], 5, 6, 1 << 31), 64, 0, 3, (10,))
    yield "phase", "a place in the group, palettes without zero and of one value", PaletteEncoder(
        2, [element or 0x8000 | i // 100 for i, element in
            enumerate(grid(53, 950, 100, [9, 0, 77, 1000], 3, 9, 0x8000))], 100, 50, 3,
        (1, 2, 5), kinds=b"\2\0\2")
    yield "bytes", "bytes; palettes in another order; mirrored alone", PaletteEncoder(
        1, [(3, 200, 131, 0)[source] for source in words(54, 800, 4)], 400, 0, 2, (),
        [[200, 131, 3, 0], [0, 131, 3, 200]], b"\1")
    yield "eight-bytes", "8 bytes, 256 values, from zero", PaletteEncoder(
        8, [source * 0x0123456789ABCDEF % (1 << 64) for source in words(55, 3000, 256)], flags=1)
    few = [source & 1 for source in words(56, 262144 + 33, 2)]
    yield "four-streams", "four streams; groups larger than the block", PaletteEncoder(
        1, few, 1 << 40, 5, 0, (1,))


def cut(plain, size):
    return [plain[at:at + size] for at in range(0, len(plain), size)]


def good_twins():
    matrix = words(20, 12 * 20, 1 << 16)  # 12 rows of 20
    turned = [matrix[r * 20 + c] for c in range(20) for r in range(12)]
    plain, other = pack(matrix, 2), pack(turned, 2)
    yield "transposed", "order 1: a block of all, and blocks of a part, that begin within a row", \
        one_file(Blocks(stored(plain), kept=1), Blocks(twin(
            1, 1, 2, 240, other, block_size=480, row=20)), Blocks(*(twin(
                2 + i, 1, 2, 240, part, block_size=480, row=20, first=50 * i)
                for i, part in enumerate(cut(other, 100)))))
    wide = words(21, 7 * 30, 1 << 32)  # 7 rows of 30
    order = [3, 0, 6, 6, 1, 5, 2]
    other = pack([wide[r * 30 + c] for r in order for c in range(30)], 4)
    yield "rows", "order 2: rows in another order, one of them twice; blocks that begin and end " \
        "within a row, within one row, and with a row", one_file(
            Blocks(*map(stored, cut(pack(wide, 4), 400)), kept=1),
            Blocks(*(twin(3 + i, 2, 4, 210, part, block_size=400, row=30, first=37 * i,
                          rows=order[37 * i // 30:min(37 * i + 36, 209) // 30 + 1])
                     for i, part in enumerate(cut(other, 148)))),
            Blocks(twin(9, 2, 4, 210, other[4 * 40:4 * 55], block_size=400, row=30, first=40,
                        rows=order[1:2])),
            Blocks(twin(10, 2, 4, 210, other[4 * 60:4 * 120], block_size=400, row=30, first=60,
                        rows=order[2:4])))
    half = float_elements(22, 100, 2)
    half[::9] = [0x0000, 0x8000] * 6
    changed_half = [(x + 0x0800 if x & 0x7C00 else x) ^ 0x8000 for x in half]
    yield "scaled", "order 0: FP16 negated and times 4, zeros and subnormal numbers only negated; " \
        "divided by 2, by a sum that overflows", one_file(
            Blocks(stored(pack(half, 2)), kept=1),
            Blocks(twin(1, 0, 2, 100, pack(changed_half, 2), block_size=200, row=1, flip=0x8000,
                        add=0x0800, field=0x7C00)),
            Blocks(twin(2, 0, 2, 100, pack([
                x + 0xFC00 & 0xFFFF if x & 0x7C00 else x for x in half[30:70]], 2), block_size=200,
                row=50, first=30, add=0xFC00, field=0x7C00)))
    source = noise(23, 192) + (b"fill" * 15)[:58]
    both = [source[r * 10 + c] ^ 0x80 for c in range(10) for r in range(25)]
    yield "blocks", "1-byte elements; a source of several blocks, the last shorter, in two frames " \
        "and of several codecs", one_file(
            Blocks(stored(source[:64]), stored(source[64:128]), kept=1),
            Blocks(stored(source[128:192]), Block(FILL, b"fill", source[192:]), kept=1),
            Blocks(twin(4, 1, 1, 250, bytes(both), block_size=64, row=10, flip=0x80)))
    long = words(24, 33, 1 << 64)
    long[::5] = [x & ~(0x7FF << 52) for x in long[::5]]
    scaled = [(x + (3 << 52) & (1 << 64) - 1 if x & 0x7FF << 52 else x) ^ 1 << 63 for x in long]
    order = [10, 0, 1, 9, 8, 7, 2, 3, 4, 5, 6]
    mixed = [scaled[r * 3 + c] for r in order for c in range(3)]
    yield "8-bytes", "8-byte elements: rows in another order, negated, times 8; a twin of a part", \
        one_file(Blocks(*map(stored, cut(pack(long, 8), 88)), kept=1),
                 Blocks(twin(3, 2, 8, 33, pack(mixed, 8), block_size=88, row=3, flip=1 << 63,
                             add=3 << 52, field=0x7FF << 52, rows=order)),
                 Blocks(twin(4, 1, 8, 33, pack([long[i] for i in (23, 26, 29, 32)], 8),
                             block_size=88, row=3, first=29)))
    source = noise(25, 16 * 256)
    yield "large-source", "a source of 256 blocks of 16 bytes for one of 16; R = 1, R = N", \
        one_file(Blocks(*map(stored, cut(source, 16)), kept=1),
                 Blocks(twin(256, 0, 1, 4096, source[7:23], block_size=16, row=1, first=7)),
                 Blocks(twin(257, 1, 1, 4096, source[:16], block_size=16, row=4096)),
                 Blocks(twin(258, 2, 1, 4096, source[-16:], block_size=16, row=4096, first=4080,
                             rows=[0])))
    source = noise(26, 40)
    flipped = bytes(x ^ 255 for x in source)
    yield "kept", "in a kept frame; a twin of a block that is of an earlier file", (
        Archive().root().file(b"a", Blocks(stored(source), kept=1), Blocks(twin(
            1, 0, 1, 40, flipped, block_size=40, row=1, flip=255), kept=1))
        .file(b"b", Blocks(twin(2, 0, 1, 40, flipped, block_size=40, row=8, flip=255)))
        .end())


def good_mixes():
    scales = words(40, 24, 4)

    def scaled(seed, count, kind, columns=24, zeros=()):
        """Elements whose size depends on their column, and their sign a little too."""
        mantissa = spec_decoder.MIX_KINDS[kind][1]
        out = []
        for i, element in enumerate(float_elements(seed, count, kind, zeros)):
            if i % columns % 5 == 0 and i % 3:
                element |= 1 << (31 if kind == 3 else 15)
            out.append(element - (scales[i % columns] << mantissa))
        return out

    yield "bf16", "BF16, more rows than columns, a row begun before the block", MixEncoder(
        1, scaled(41, 800, 1), 3, 124, row=24, phase=7)
    yield "columns", "BF16, more columns than rows: line by line of a transposed block", MixEncoder(
        1, scaled(42, 500, 1, 60 // 3), 2, 124, row=60, phase=11)
    yield "no-rows", "BF16, no rows, nothing of the mantissa modelled", MixEncoder(
        1, scaled(43, 300, 1), 0, 126)
    yield "long-row", "BF16, a row longer than the block, all of the mantissa that may be", \
        MixEncoder(1, scaled(44, 200, 1), 6, 125, row=1 << 32, phase=1 << 31)
    wild = float_elements(46, 800, 1)
    wild[::4] = words(45, 200, 1 << 16)
    yield "far", "BF16, exponents far from the expected: steps up and down to the last; zeros, " \
        "infinities, NaN", MixEncoder(1, wild + [0, 0x8000, 0x7F80, 0xFF80, 0x7FFF], 4, 127, row=16,
                                      ridges=(0, 255))
    fp16 = [element & ~(0, 7, 127, 1023, 15)[i % 5] for i, element in enumerate(
        scaled(47, 500, 2, 20))]
    yield "fp16", "FP16, zeros at the end of mantissas", MixEncoder(
        2, fp16, 2, 12, row=20, zeros=1)
    yield "fp16-short-tail", "FP16, tails shorter than the kind's second number of zeros", \
        MixEncoder(2, fp16[:300] + [0] * 30, 6, 12, row=20, zeros=1)
    fp32 = [element & ~((1 << (0, 13, 16, 23)[i % 4]) - 1) for i, element in enumerate(
        scaled(48, 300, 3, 12))]
    yield "fp32", "FP32, zeros at the end of mantissas, subnormal numbers", MixEncoder(
        3, fp32 + [1, 0x80000000, 0x007FFFFF, 0x80400000], 5, 126, row=12, zeros=1)
    yield "e4m3", "FP8 E4M3, all mantissa bits modelled", MixEncoder(
        4, [x & 0x87 | (8 - (x >> 3 & 3)) << 3 for x in words(49, 400, 256)] + [0, 0x80, 0x7F, 1],
        3, 7, row=20)
    yield "e4m3-tail", "FP8 E4M3, a tail, and zeros of which the kind has none", MixEncoder(
        4, [x & 0x81 | 0x30 for x in words(50, 200, 256)], 1, 15, zeros=1)
    yield "e5m2", "FP8 E5M2", MixEncoder(
        5, [x & 0x8B | 0x20 + i % 3 for i, x in enumerate(words(51, 400, 256))] + [0x7C, 0, 0xFF],
        2, 31, row=33, phase=32)
    yield "int8", "INT8", MixEncoder(6, [
        sum(words(52 + i, 6, 40)) - 117 & 255 for i in range(400)] + [0x7F, 0x80, 0, 0xFF], 0, 5,
        row=40, phase=1)
    yield "int8-units", "INT8, the greatest unit", MixEncoder(
        6, words(53, 100, 256) + [0, 1, 255, 254] * 50, 0, 7)
    yield "row-of-one", "FP32, few elements, rows of one", MixEncoder(
        3, float_elements(59, 30, 3), 1, 126, row=1)


def reversed_elements(plain, width):
    return b"".join(element[::-1] for element in cut(plain, width))


def good_swapped():
    def swapped(block, width, parameters=b""):
        return Blocks(Block(SWAPPED, block.coded, reversed_elements(block.plain, width)),
                      parameters=[(SWAPPED, bytes([width, block.codec]) + parameters)])

    eight = pack(words(54, 30, 1 << 64), 8)
    repeated = b"abcdefgh" * 40
    yield "plain", "each width; stored, a pattern, zstd, LZMA2 inside", [
        swapped(stored(eight), 2), swapped(stored(eight), 8),
        swapped(Block(FILL, b"abcdefgh", repeated), 4),
        swapped(Block(ZSTD, zstd_frame((b"z", 64), eight), b"z" * 64 + eight), 8),
        swapped(Block(LZMA, lzma2(TEXT[:1000]), TEXT[:1000]), 8, b"\0")]
    numbers = [768 + i for i in range(200)]
    low, high = byte_planes(numbers, 2)
    frames = [swapped(Block(PLANES, b"\0\0" + low + b"\1" + high[:1], pack(numbers, 2)), 2, b"\2")]
    for encoder in (
            FloatEncoder(1, float_elements(55, 700, 1), {125: False, 126: True, 127: True},
                         (1, 1, 1)),
            FloatEncoder(3, float_elements(56, 700, 3, zeros=range(16)), {126: True, 127: True},
                         (0,) * 6 + (1,) * 3),
            CascadeEncoder(2, float_elements(57, 768, 2), [(2, (13, 14, 15))], [2] * 6),
            MixEncoder(1, float_elements(58, 300, 1), 2, 126, row=20)):
        frame_of = encoder.frame()
        frames.append(swapped(frame_of.blocks[0], 4 if encoder.elements[0] >> 16 else 2,
                              encoder.parameters))
    yield "elements", "planes, float, cascade and mix inside", frames


def planes_frames():
    for width in (2, 4, 8):
        numbers = [768 + i for i in range(200)]
        for transform in (0, 1):
            coded = bytes([transform])
            planes = byte_planes(differences(numbers, width) if transform else numbers, width)
            for i, plane in enumerate(planes):
                if plane.count(plane[0]) == len(plane):
                    coded += b"\x01" + plane[:1]
                elif transform:  # all alike but for the first
                    packed = zstd_frame(plane[:1], (plane[1:2], len(plane) - 1))
                    coded += b"\x02" + varint(len(packed)) + packed
                else:
                    coded += b"\x00" + plane
            tail = b"tail..."[:width - 1]
            yield Blocks(Block(PLANES, coded + tail, pack(numbers, width) + tail),
                         parameters=[(PLANES, bytes([width]))])
    falling = [0xFF80 - 3 * i for i in range(100)]
    low, high = byte_planes(differences(falling, 2), 2)
    yield Blocks(Block(PLANES, b"\x01\x00" + low + b"\x01" + high[:1], pack(falling, 2)),
                 parameters=[(PLANES, b"\x02")])


# ---------------------------------------------------------------------------------------------
# Archives to refuse: (name, why, archive)

X = Blocks(stored(b"x"))
TREE_FILE = {"mode": 0o644}


def one_block(codec, coded, plain, parameters=None, **fields):
    """An archive of one block; what it decodes to pads the rule that coded is not longer."""
    sets = [] if parameters is None else [(codec, parameters)]
    return one_file(Blocks(Block(codec, coded, plain), parameters=sets, **fields))


def blocks_head(*numbers, rest=b"", data=b"x", plain=b"x", **fields):
    """An archive of one file whose Blocks frame has a head of these varints, then `rest`."""
    part = Blocks(stored(plain))
    part.head, part.data = b"".join(varint(number) for number in numbers) + rest, data
    return Archive(**fields).file(b"f", part).end()


def after_header(extra):
    """An archive of one file with bytes between its header and its first frame."""
    archive = Archive()
    archive.out += extra
    return archive.file(b"f", X).end()


def changed(archive, at, *replacement):
    """With other bytes from `at` on, all checksums left as they are."""
    out = bytearray(archive)
    out[at:at + len(replacement)] = bytes(replacement)
    return bytes(out)


def bad_container():
    good = one_file(Blocks(stored(b"contents")), mode=0o644)
    yield "nothing", "no archive at all", b""
    yield "magic", "wrong magic", Archive(magic=b"\x89ZLLM\r\n\n").file(b"f", X).end()
    yield "text-mode", "line ends translated on the way", good.replace(b"\r\n", b"\n")
    yield "header-checksum", "header changed", changed(good, 12, 1)
    yield "max-block", "max_block above the format's limit", Archive(
        max_block=(1 << 26) + 1).file(b"f", X).end()
    yield "max-frame", "max_frame above the format's limit", Archive(
        max_frame=(1 << 27) + 1).file(b"f", X).end()
    yield "cut-header", "cut inside the header", good[:20]
    yield "cut-head", "cut inside the head of a frame", good[:50]
    yield "cut-data", "cut inside the data of a frame", good[:good.index(b"contents") + 3]
    yield "cut-trailer", "cut by one byte", good[:-1]
    yield "no-trailer", "cut before the trailer", good[:-44]
    yield "trailing-byte", "a byte after the archive", good + b"\0"
    yield "trailing-zeros", "zeros after the archive", good + bytes(512)
    yield "second-cut", "a concatenation whose second archive is cut", good + good[:-1]
    yield "data-changed", "a stored block changed", good.replace(b"contents", b"c0ntents")
    yield "no-entry", "an archive of no entry", Archive().end()
    yield "frame-checksum", "head of an Entry frame changed", good.replace(
        b"\x01f\x01", b"\x01g\x01")
    yield "frame-flags", "reserved flag of a frame", one_file(X, entry_frame={"flags": 2})
    yield "frame-reserved", "reserved bytes of a frame", one_file(X, entry_frame={"zero": 1})
    yield "optional-flags", "reserved flag of an unknown optional frame", after_header(
        frame(77, flags=3))
    yield "optional-entry", "an Entry frame marked as optional", one_file(
        X, entry_frame={"flags": 1})
    yield "optional-end", "an EntryEnd frame marked as optional", one_file(
        X, end_frame={"flags": 1})
    yield "optional-changed", "head of an unknown optional frame changed", after_header(
        optional_frame().replace(b"some head", b"s0me head"))
    archive = Archive(max_block=100, max_frame=100)
    archive.out += frame(77, data=bytes(101), flags=1)
    yield "optional-large", "an unknown optional frame above max_frame", archive.file(
        b"f", X).end()
    yield "head-huge", "a head of 2^32 - 1 bytes", after_header(
        struct.pack("<BBHII", ENTRY, 0, 0, (1 << 32) - 1, 0))
    yield "head-above-limit", "a head above 2^24 bytes", after_header(
        struct.pack("<BBHII", ENTRY, 0, 0, (1 << 24) + 1, 0))
    yield "data-huge", "data of 2^32 - 1 bytes", after_header(
        frame(ENTRY, entry_fields(FILE, b"f")) + frame(BLOCKS, X.head, X.data, size=(1 << 32) - 1))
    yield "index-large", "an Index frame above max_frame", Archive(
        max_block=30, max_frame=30).file(b"f", X).end()
    yield "entry-data", "an Entry frame with data", one_file(X, entry_frame={"data": b"data"})
    yield "entry-end-data", "an EntryEnd frame with data", one_file(
        X, end_frame={"data": b"data"})
    yield "trailer-data", "a Trailer frame with data", Archive().file(b"f", X).end(data=b"data")
    yield "blocks-first", "a Blocks frame before any entry", after_header(
        frame(BLOCKS, X.head, X.data))
    yield "blocks-of-directory", "a Blocks frame of a directory", Archive().root().frame(
        BLOCKS, X.head, X.data).end()
    end = frame(ENTRY_END, varint(0) + hashlib.sha256().digest())
    yield "end-first", "an EntryEnd frame before any entry", after_header(end)
    yield "end-twice", "two EntryEnd frames", one_file().replace(end, end + end)
    yield "end-missing", "a file without EntryEnd frame", one_file().replace(end, b"")
    yield "entry-in-file", "an Entry frame inside a file", one_file().replace(
        end, frame(ENTRY, entry_fields(FILE, b"g")) + end)
    archive = Archive().root()
    archive.frame(*index_frame(archive.index()))
    yield "entry-after-index", "an Entry frame after an Index frame", archive.entry(
        DIRECTORY, b"d").end()
    yield "size", "EntryEnd says another size", one_file(X, size=2)
    yield "size-none", "EntryEnd says a size of 0", one_file(X, size=0)
    yield "sha256", "EntryEnd says another SHA-256", one_file(X, sha256=bytes(32))
    yield "end-rest", "EntryEnd with bytes left over", one_file(X, end_rest=b"\0")


def bad_entries():
    for name, path in (("dot-dot", b"../x"), ("dot-dot-inside", b"a/../../x"), ("dot", b"a/./b"),
                       ("absolute", b"/x"), ("empty-part", b"a//b"), ("slash-end", b"a/"),
                       ("nul", b"a\0b"), ("long-part", b"n" * 256), ("only-dots", b".."),
                       ("long", b"/".join([b"n" * 255] * 17))):
        yield f"path-{name}", f"unsafe or invalid path: {name}", Archive().root().entry(
            DIRECTORY, b"a").file(path, X).end()
    yield "path-twice", "two entries with one path", Archive().root().file(b"f", X).file(
        b"f", X).end()
    yield "path-twice-kinds", "a link, then a directory with its path", Archive().root().entry(
        LINK, b"d", target=b"/tmp").entry(DIRECTORY, b"d").file(b"d/f", X).end()
    yield "parent-later", "a file before its directory", Archive().root().file(b"d/f", X).entry(
        DIRECTORY, b"d").end()
    yield "parent-missing", "a file of a directory that is not there", Archive().root().file(
        b"d/f", X).end()
    yield "parent-file", "a file inside a file", Archive().root().file(b"d", X).file(
        b"d/f", X).end()
    yield "parent-link", "a file inside a link", Archive().root().entry(
        LINK, b"d", target=b"/tmp").file(b"d/f", X).end()
    yield "two-files", "two files and no root", Archive().file(b"f", X).file(b"g", X).end()
    yield "no-root", "a directory that is not the root comes first", Archive().entry(
        DIRECTORY, b"d").file(b"d/f", X).end()
    yield "link-alone", "a link and nothing else", Archive().entry(LINK, b"l", target=b"t").end()
    yield "root-later", "the root is not the first entry", Archive().file(b"f", X).root().end()
    yield "no-name-in-tree", "a file without name in a tree", Archive().root().file(b"", X).end()
    yield "link-no-path", "a link without a path", Archive().root().entry(
        LINK, b"", target=b"t").end()
    yield "link-no-target", "a link without a target", Archive().root().entry(
        LINK, b"l", target=b"").end()
    yield "link-nul", "a link's target with NUL", Archive().root().entry(
        LINK, b"l", target=b"a\0b").end()
    yield "link-long", "a link's target of 4097 bytes", Archive().root().entry(
        LINK, b"l", target=b"t" * 4097).end()
    yield "kind", "an entry of unknown kind", Archive().root().entry(3, b"x").end()
    yield "mode", "a mode above 07777", Archive().root(mode=0o10000).end()
    yield "nanoseconds", "10^9 nanoseconds", Archive().entry(
        DIRECTORY, b"", mode=0o755, nanoseconds=10**9).end()
    for name, head in (
            ("metadata", varint(FILE) + string(b"f") + varint(2)),
            ("entry-cut", varint(FILE) + varint(9) + b"f"),
            ("varint-long", b"\x80\0" + string(b"f") + varint(0)),
            ("varint-65-bits", varint(FILE) + string(b"f") + b"\x01" + varint(0) +
             b"\xff" * 9 + b"\x02" + varint(0)),
            ("varint-11-bytes", varint(FILE) + string(b"f") + b"\x01" + varint(0) +
             b"\x80" * 10 + b"\x01" + varint(0))):
        yield name, "Entry head: " + name, one_file(X, head=head)
    yield "entry-rest", "Entry head: bytes left over", one_file(X, rest=b"\0")


def bad_blocks():
    record = bytes([STORED]) + varint(1) + u64(xxh3_64(b"x"))
    two = bytes([STORED]) + varint(2) + u64(xxh3_64(b"xx"))
    yield "blocks-flags", "reserved flag of a Blocks frame", blocks_head(8, 1, 1, 0, rest=record)
    yield "blocks-rest", "a Blocks head with bytes left over", blocks_head(
        0, 1, 1, 0, rest=record + b"\0")
    yield "block-size-0", "blocks of no bytes", blocks_head(0, 0, 1, 0, rest=record)
    yield "block-size-large", "blocks above max_block", blocks_head(
        0, 2, 2, 0, rest=two, data=b"xx", plain=b"xx", max_block=1)
    yield "frame-size-0", "a Blocks frame of no bytes", blocks_head(
        0, 1, 0, 0, data=b"", plain=b"")
    yield "frame-size-large", "a Blocks frame that decodes to more than max_frame", Archive(
        max_block=200, max_frame=200).file(b"f", Blocks(Block(FILL, b"x", b"x" * 200),
                                                        Block(FILL, b"x", b"x"))).end()
    yield "many-blocks", "more blocks than the head has room for", blocks_head(
        0, 1, MAX_FRAME, 0, rest=record)
    yield "many-sets", "2^60 parameter sets", blocks_head(0, 1, 1, 1 << 60)
    yield "sets-order", "parameter sets out of order", one_file(
        Blocks(stored(b"x"), parameters=[(PLANES, b"\2"), (LZMA, b"\0")]))
    yield "sets-twice", "two parameter sets of a codec", one_file(
        Blocks(stored(b"x"), parameters=[(LZMA, b"\0"), (LZMA, b"\0")]))
    yield "sets-large", "a parameter set of 65537 bytes", blocks_head(
        0, 1, 1, 1, LZMA, 65537, rest=b"\0" + record)
    yield "sets-stored", "parameters for a codec that has none", one_file(
        Blocks(stored(b"x"), parameters=[(STORED, b"")]))
    yield "sets-unused", "wrong parameters for a codec that no block uses", one_file(
        Blocks(stored(b"x"), parameters=[(PLANES, b"\3")]))
    yield "coded-short", "coded sizes above the data", blocks_head(
        0, 1, 1, 0, rest=record, data=b"")
    yield "coded-long", "coded sizes below the data", blocks_head(
        0, 1, 1, 0, rest=record, data=b"xy")
    yield "coded-larger", "a coded block longer than the decoded one", one_block(
        DUPLICATE, b"\x80\x01", b"x")
    yield "checksum", "wrong XXH3 of a block", one_file(Blocks(Block(STORED, b"x", b"x", 1)))
    yield "stored-short", "codec 0: coded and decoded size differ", one_block(STORED, b"x", b"xx")
    yield "fill-3", "codec 1: a pattern of 3 bytes", one_block(FILL, b"abc", b"abcabc")
    yield "fill-0", "codec 1: a pattern of no bytes", one_block(FILL, b"", b"abc")


def bad_duplicates():
    text = b"some text"
    first = Blocks(stored(text), kept=1)

    def second(*blocks, before=first, **fields):
        return one_file(before, Blocks(*blocks, **fields))

    yield "duplicate-self", "a duplicate of itself", second(duplicate(0, text))
    yield "duplicate-before-all", "a duplicate of a block before the first", second(
        duplicate(2, text))
    yield "duplicate-forward", "a duplicate of a later block, by overflow", second(
        duplicate((1 << 64) - 1, b"0123456789"), stored(b"0123456789"), kept=1)
    yield "duplicate-of-duplicate", "a duplicate of a duplicate", one_file(
        first, Blocks(duplicate(1, text), kept=1), Blocks(duplicate(1, text)))
    yield "duplicate-same-frame", "a duplicate of a block of its own frame", second(
        stored(text), duplicate(1, text), kept=1)
    yield "duplicate-not-kept", "a duplicate of a block that is not kept", second(
        duplicate(1, text), before=Blocks(stored(text)))
    yield "duplicate-size", "a duplicate of a block of another size", second(
        duplicate(1, text[:-1]))
    yield "duplicate-rest", "a duplicate with bytes left over", second(
        duplicate(1, text, rest=b"\0"))
    yield "duplicate-checksum", "a duplicate of a block that is not equal", second(
        duplicate(1, b"some t3xt"))
    yield "duplicate-other-archive", "a duplicate of a block of the archive before", one_file(
        first) + one_file(Blocks(duplicate(1, text)))


def bad_twins():
    elements = words(30, 60, 1 << 16)
    plain = pack(elements, 2)
    first = Blocks(*map(stored, cut(plain, 50)), kept=1)  # 50, 50, 20

    def second(*blocks, before=first, **fields):
        return one_file(before, Blocks(*blocks, **fields))

    def one(distance=3, order=0, width=2, total=60, plain=plain, block_size=50, row=10, **fields):
        return twin(distance, order, width, total, plain, block_size=block_size, row=row, **fields)

    good, rows = one(), list(range(6))
    yield "twin-checksum", "codec 11: a source that is not equal", second(one(flip=1))
    for name, what, block in (
            ("self", "the source is the block itself", one(distance=0)),
            ("before-all", "the source begins before the first block", one(distance=4)),
            ("huge", "the source begins before the first block, by overflow", one(
                distance=(1 << 64) - 1)),
            ("order", "an order of 3", one(order=3)),
            ("width-0", "elements of no bytes", one(width=0, total=1)),
            ("width-3", "elements of 3 bytes", one(width=3, total=40, block_size=51, row=1)),
            ("width-16", "elements of 16 bytes", one(
                width=16, total=5, block_size=48, row=1, plain=plain[:80])),
            ("part", "a block with a part of an element", one(plain=plain[:51])),
            ("block-size-0", "the source has blocks of no bytes", one(block_size=0)),
            ("block-size-part", "the source's blocks have a part of an element", one(
                block_size=51)),
            ("block-size-large", "the source's blocks are larger than max_block", one(
                block_size=MAX_BLOCK + 2)),
            ("block-size", "the source's blocks have another size", one(block_size=40)),
            ("last-longer", "the source's last block is longer than what is left", one(
                total=55, plain=plain[:110], row=11)),
            ("last-shorter", "the source's last block is shorter than what is left", one(
                total=65, row=13)),
            ("total-small", "a source of fewer elements than the block's", one(
                distance=2, total=35, row=7)),
            ("total-0", "a source of no elements", one(total=0)),
            ("total-huge", "a source of 2^63 elements: bytes overflow", one(
                total=1 << 63, row=1)),
            ("first", "elements after the source's last", one(first=1)),
            ("first-huge", "elements after the source's last, by overflow", one(
                first=(1 << 64) - 1)),
            ("row-0", "rows of no elements", one(row=0)),
            ("row-part", "rows that do not divide the source", one(row=7)),
            ("row-large", "rows longer than the source", one(row=120)),
            ("rest", "bytes left over", one(rest=b"\0")),
            ("rest-order-0", "rows where none are to be", one(rows=rows)),
            ("rest-order-1", "rows where none are to be, transposed", one(
                order=1, row=1, rows=[0])),
            ("rows-more", "a row too many", one(order=2, rows=rows + [0])),
            ("rows-less", "a row too few", one(order=2, rows=rows[:-1])),
            ("rows-none", "no rows", one(order=2)),
            ("rows-begin", "a block that ends within a row, without it", one(
                order=2, plain=plain[30:50], first=15, rows=[1])),
            ("row-over", "a row beyond the source's last", one(order=2, rows=rows[:-1] + [6])),
            ("row-huge", "a row beyond the source's last, by overflow", one(
                order=2, rows=rows[:-1] + [(1 << 64) - 1]))):
        yield f"twin-{name}", f"codec 11: {what}", second(block)
    for name, coded in (("empty", b""), ("cut", good.coded[:-1]), ("cut-fields", good.coded[:6])):
        yield f"twin-{name}", f"codec 11: {name}", second(Block(TWIN, coded, plain))
    many = Blocks(*(stored(b"0123456789abcdef") for _ in range(257)), kept=1)
    yield "twin-total-large", "codec 11: a source of more than 256 times as many elements", second(
        twin(257, 0, 1, 4097, b"0123456789abcdef", block_size=16, row=1), before=many)
    many = Blocks(*(stored(b"01234567") for _ in range(257)), kept=1)
    yield "twin-many-blocks", "codec 11: a source of 257 blocks", second(
        twin(257, 0, 1, 257 * 8, b"01234567" * 2, block_size=8, row=1), before=many)
    yield "twin-same-frame", "codec 11: a source in its own frame", one_file(Blocks(
        stored(plain[:50]), stored(plain[50:100]), one(
            distance=2, total=50, plain=plain[:20], row=25), kept=1))
    yield "twin-reaches-itself", "codec 11: a source whose last blocks are in the twin's frame", \
        one_file(Blocks(stored(plain[:50]), stored(plain[50:100]), kept=1), Blocks(
            one(distance=2, plain=plain[:20], first=50 - 1), kept=1))
    yield "twin-not-kept", "codec 11: a source that is not kept", second(
        good, before=Blocks(*map(stored, cut(plain, 50))))
    yield "twin-part-kept", "codec 11: a source of which a part is not kept", one_file(
        Blocks(stored(plain[:50]), kept=1), Blocks(stored(plain[50:100]), stored(plain[100:])),
        Blocks(good))
    yield "twin-of-duplicate", "codec 11: a source of which a block is a duplicate", one_file(
        first, Blocks(duplicate(3, plain[:50]), stored(plain[50:100]), stored(plain[100:]),
                      kept=1), Blocks(good))
    flipped = twin(1, 0, 2, 25, pack([x ^ 1 for x in elements[:25]], 2), block_size=50, row=1,
                   flip=1)
    for what, block in (("twin", twin(1, 0, 2, 25, plain[:50], block_size=50, row=1, flip=1)),
                        ("duplicate", duplicate(1, flipped.plain))):
        yield f"{what}-of-twin", f"codec 11: a {what} of a twin", one_file(
            Blocks(stored(plain[:50]), kept=1), Blocks(flipped, kept=1), Blocks(block))
    yield "twin-other-archive", "codec 11: a source in the archive before", one_file(
        first) + one_file(Blocks(good))
    yield "twin-parameters", "codec 11: parameters, which it has none of", second(
        good, parameters=[(TWIN, b"")])


def bad_sources():
    plain = pack(words(40, 120, 1 << 16), 2)  # 12 rows of 10
    first = Blocks(*map(stored, cut(plain, 50)), kept=1)  # 5 blocks

    def against(*sources, width=2, row=10, position=0, before=first, plain=plain[:80], **fields):
        return one_file(before, Blocks(copy(0, plain), against=(
            width, row, position, *sources), **fields))

    def one(where=5, total=120, row=10, *rest, block_size=50, **fields):
        return source(where, total, row, *rest or (0, 0), block_size=block_size, **fields)

    good = one()
    yield "checksum", "a source of other elements", against(one(5, 120, 10, 1, 0))
    yield "none", "no sources", against(count=0)
    yield "five", "five sources", against(*[good] * 5)
    yield "cut", "the head ends within a source", against(good[:6], sets=None)
    yield "without", "a block of codec 14 in a frame without sources", one_file(
        first, Blocks(copy(0, plain[:80])))
    for name, what, width in (("0", "no", 0), ("3", "3", 3), ("16", "16", 16)):
        yield f"width-{name}", f"elements of {what} bytes", against(good, width=width, row=0)
    yield "unit-one", "a unit of one element", against(good, width=(1, 2), row=0)
    yield "unit-none", "a unit of no bytes", against(good, width=(2, 0), row=0)
    yield "unit-dense", "a unit of nine elements a byte", against(good, width=(9, 1), row=0)
    yield "unit-part", "a block with a part of a unit", against(good, width=(4, 3), row=0)
    yield "width-block", "a block with a part of an element", against(
        source(5, 30, 10, 0, 0, dtype=F64, block_size=48), width=8, plain=plain[:60], row=5)
    yield "row-huge", "rows of 2^63 elements", against(good, row=1 << 63)
    yield "position-huge", "a position of 2^64 - 1", against(good, position=(1 << 64) - 1)
    for name, what, bad in (
            ("dtype-packed", "a packed element type", one(dtype=Q8_0)),
            ("dtype-unknown", "an element type of no known number", one(dtype=255)),
            ("place", "neither blocks nor outside", one(outside=2)),
            ("distance-0", "a distance of 0", one(0)),
            ("distance", "a source before the first block", one(6)),
            ("distance-huge", "a source before the first block, by overflow", one((1 << 64) - 1)),
            ("behind", "a source that reaches the frame itself", one(4)),
            ("block-size-0", "blocks of no bytes", one(block_size=0)),
            ("block-size-part", "blocks with a part of an element", one(block_size=51)),
            ("block-size-large", "blocks above max_block", one(block_size=MAX_BLOCK + 2)),
            ("block-size", "blocks of another size", one(3, 40, 10, block_size=40)),
            ("last-size", "a last block of another size", one(3, 60, 10, 2, 0)),
            ("total-0", "no elements", one(total=0)),
            ("total-huge", "2^49 elements", one(total=1 << 49, row=1 << 40)),
            ("total-overflow", "2^63 elements: bytes overflow", one(total=1 << 63, row=1 << 62)),
            ("rows-0", "rows of no elements", one(row=0)),
            ("rows-part", "rows that do not divide the source", one(row=7)),
            ("rows-long", "rows longer than the source", one(row=240)),
            ("order", "an order of 4", one(order=4)),
            ("order-whole", "order whole of a base", one(order=WHOLE)),
            ("factor-same", "a factor in another order", one(role=FACTOR)),
            ("r", "rows beyond the last", one(5, 120, 10, 9, 0)),
            ("r-huge", "rows beyond the last, by overflow", one(5, 120, 10, (1 << 64) - 3, 0)),
            ("c", "columns beyond the last", one(5, 120, 10, 0, 1)),
            ("c-huge", "columns beyond the last, by overflow", one(5, 120, 10, 0, (1 << 64) - 5)),
            ("transposed-r", "rows beyond the last, transposed", one(
                5, 120, 10, 3, 0, order=TRANSPOSED)),
            ("transposed-c", "columns beyond the last, transposed", one(
                5, 120, 10, 0, 7, order=TRANSPOSED)),
            ("row-over", "a row beyond the last", one(5, 120, 10, 0, 0, 1, 2, 12, order=ROWS)),
            ("row-overflow", "a row beyond the last, by overflow", one(
                5, 120, 10, 0, 0, 1, 2, (1 << 64) - 1, order=ROWS)),
            ("rows-c", "columns beyond the last, by rows", one(
                5, 120, 10, 1, 0, 1, 2, 3, order=ROWS)),
            ("rows-less", "a row too few", one(5, 120, 10, 0, 0, 1, 2, order=ROWS)),
            ("rows-more", "a row too many", one(5, 120, 10, 0, 0, 1, 2, 3, 4, order=ROWS))):
        yield name, what, against(bad)
    yield "factor-large", "a factor above max_frame", Archive(max_block=256, max_frame=256).file(
        b"f", first, first, Blocks(copy(0, plain[:240]), against=(2, 0, 0, source(
            10, 240, 10, role=FACTOR, order=WHOLE, block_size=50)))).end()
    yield "rows-many", "a frame of one row for each element, in a head that has them not", against(
        one(5, 120, 10, 0, order=ROWS), row=1)
    yield "not-kept", "a source that is not kept", against(good, before=Blocks(
        *map(stored, cut(plain, 50))))
    yield "part-kept", "a source whose last blocks are not kept", one_file(
        Blocks(stored(plain[:50]), kept=1), Blocks(stored(plain[50:100])),
        Blocks(copy(0, plain[:100]), against=(2, 10, 0, source(
            2, 50, 10, 0, 0, block_size=50))))
    yield "same-frame", "a source in its own frame", one_file(Blocks(
        stored(plain[:80]), copy(0, plain[:80]), kept=1, against=(2, 10, 0, source(
            1, 80, 10, 0, 0, block_size=80))))
    yield "other-archive", "a source in the archive before", one_file(first) + one_file(
        Blocks(copy(0, plain[:80]), against=(2, 10, 0, good)))
    yield "chain", "a chain of seven sources", one_file(*chain_of_sources(7))
    yield "chain-duplicate", "a chain of seven sources with a duplicate in it", one_file(
        *chain_of_sources(6), Blocks(duplicate(1, plain[:80]), kept=1),
        copied(plain[:80], 40, 10, 0, 1, 40, 10, SAME, 0, 0, block_size=80))
    for name, what, coded in (
            ("which", "codec 14: a source that the frame has not", copy(1, plain[:80])),
            ("empty", "codec 14: no number", Block(COPY, b"", plain[:80])),
            ("rest", "codec 14: bytes left over", copy(0, plain[:80], rest=b"\0"))):
        yield f"copy-{name}", what, one_file(first, Blocks(coded, against=(2, 10, 0, good)))
    yield "copy-size", "codec 14: a source of wider elements", against(
        source(1, 10, 10, 0, 0, dtype=F32, block_size=40), row=0, plain=plain[:20])
    yield "copy-parameters", "codec 14: parameters", one_file(first, Blocks(
        copy(0, plain[:80]), against=(2, 10, 0, good), parameters=[(COPY, b"")]))


def bad_shared():
    plain = pack(words(40, 40, 1 << 16), 2)
    first = Blocks(stored(plain), kept=1)

    def named(shared):
        return Blocks(stored(b"x"), shared=shared)

    good = Blocks(stored(b"shared"), kind=SHARED)
    yield "shared-distance-0", "a distance of 0 to the Shared frame", one_file(good, named(0))
    yield "shared-distance", "no Shared frame where one is named", one_file(good, named(1))
    yield "shared-huge", "no Shared frame where one is named, by overflow", one_file(
        good, named((1 << 64) - 1))
    yield "shared-none", "no Shared frame at all", one_file(first, named(20))
    yield "shared-blocks", "a Blocks frame where a Shared frame is named", one_file(
        good, first, named(first))
    yield "shared-earlier", "a Shared frame that is not the last", one_file(
        good, Blocks(stored(b"other"), kind=SHARED), named(good))
    yield "shared-other-file", "the Shared frame of another file", Archive().root().file(
        b"a", good, Blocks(stored(b"x"))).file(b"b", named(good)).end()
    yield "shared-ahead", "an Ahead frame and no Shared frame where one is named", one_file(
        good, Blocks(stored(b"x"), kind=AHEAD, kept=1, shared=100), Blocks(duplicate(1, b"x")))
    for name, what, shared in (
            ("kept", "that is kept", Blocks(stored(b"s"), kept=1, kind=SHARED)),
            ("sources", "with sources", Blocks(stored(b"ss"), kind=SHARED, against=(
                2, 0, 0, source(1, 40, 40, 0, 0, block_size=80)))),
            ("shared", "that needs another", Blocks(stored(b"s"), kind=SHARED, shared=30)),
            ("duplicate", "with a duplicate", Blocks(duplicate(1, plain), kind=SHARED)),
            ("twin", "with a twin", Blocks(twin(
                1, 0, 2, 40, plain, block_size=80, row=10), kind=SHARED)),
            ("copy", "with a copy", Blocks(copy(0, plain), kind=SHARED)),
            ("checksum", "of other bytes", Blocks(Block(STORED, b"s", b"s", 1), kind=SHARED)),
            ("codec", "of another size", Blocks(Block(STORED, b"s", b"ss"), kind=SHARED))):
        yield f"shared-{name}", f"a Shared frame {what}", one_file(first, shared, named(shared))
    yield "shared-outside", "a Shared frame outside of a file", after_header(
        frame(SHARED, varint(0) + varint(1) + varint(1) + varint(0) + b"\0\1" + u64(
            xxh3_64(b"x")), b"x"))
    yield "ahead-outside", "an Ahead frame outside of a file", after_header(
        frame(AHEAD, varint(1) + varint(1) + varint(1) + varint(0) + b"\0\1" + u64(
            xxh3_64(b"x")), b"x"))
    yield "ahead-not-kept", "an Ahead frame that is not kept", one_file(
        Blocks(stored(b"x"), kind=AHEAD), Blocks(stored(b"y")))
    yield "ahead-in-size", "a file that has the bytes of an Ahead frame twice", one_file(
        Blocks(stored(b"x"), kind=AHEAD, kept=1), Blocks(duplicate(1, b"x")), size=2)


def bad_references():
    a, b, _ = (crafted_base()[name][2] for name in "abc")
    record = a, 0, b"a", b"crafted.safetensors"

    def block(where=0, total=120, **fields):
        return Blocks(copy(0, a), against=(2, 10, 0, source(
            where, total, 10, 0, 0, outside=1)), **fields)

    def archive(head, *frames):
        return one_file(*frames or (block(),), references=head)

    yield "none", "no references", archive(references())
    yield "many", "more references than there are bytes", archive(references(record, count=1 << 40))
    yield "less", "a reference too few", archive(references(record, count=2))
    yield "rest", "bytes left over", archive(references(record) + b"\0")
    yield "depth", "a depth of 4", archive(references((a, 4, b"a", b"")))
    yield "name-long", "the name of a tensor of 65536 bytes", archive(
        references((a, 0, b"n" * 65536, b"")))
    yield "file-long", "the name of a file of 4097 bytes", archive(
        references((a, 0, b"a", b"n" * 4097)))
    yield "length-huge", "a length of 2^64 - 1", archive(references(
        ((hashlib.sha256(a).digest(), (1 << 64) - 1), 0, b"a", b"")))
    yield "number", "a source outside of a number too large", archive(
        references(record), block(1))
    yield "number-huge", "a source outside of number 2^64 - 1", archive(
        references(record), block((1 << 64) - 1))
    yield "no-frame", "a source outside, and no References frame", one_file(block())
    yield "size", "elements behind the end of a reference", archive(
        references(record), Blocks(copy(0, a), against=(2, 10, 0, source(
            0, 130, 10, 1, 0, outside=1))))
    yield "size-huge", "elements behind the end of a reference, by overflow", archive(
        references(record), Blocks(copy(0, a), against=(2, 10, 0, source(
            0, 1 << 48, 1 << 44, 1, 0, outside=1))))
    twice = frame(REFERENCES, references(record))
    archive_twice = Archive(references(record))
    archive_twice.out += twice
    yield "twice", "two References frames", archive_twice.file(b"f", block()).end()
    late = Archive()
    late.out += optional_frame() + twice
    yield "after-optional", "a References frame after an optional one", late.file(
        b"f", block()).end()
    yield "in-file", "a References frame within a file", one_file(
        block(), between=twice, references=references(record))
    yield "after-file", "a References frame after an entry", changed_end(twice)
    data = Archive()
    data.out += frame(REFERENCES, references(record), b"data")
    yield "data", "a References frame with data", data.file(b"f", block()).end()


def changed_end(extra):
    """An archive with bytes between its last entry and its index."""
    archive = Archive().file(b"f", X)
    archive.out += extra
    return archive.end()


def missing_bases():
    """Archives, and bases that are not those that they need."""
    a = crafted_base()["a"][2]
    changed_bit = bytes([a[0] ^ 1]) + a[1:]
    turned = beside(a, 2, 0, 120, 10, 0, 10, ROWS, 0, *range(11, -1, -1))

    def archive(plain, depth=0):
        return one_file(copied(plain, 120, 10, 0, 0, 120, 10, SAME, 0, 0, outside=1),
                        references=references((plain, depth, b"a", b"crafted.safetensors")))

    yield "none", "coded against a base, and none is given", archive(a), ()
    yield "changed", "coded against a base of which one bit is another", archive(changed_bit), (
        CRAFTED_BASE,)
    yield "part", "coded against a part of a tensor", one_file(
        copied(a[:220], 110, 10, 0, 0, 110, 10, SAME, 0, 0, outside=1), references=references(
            (a[:220], 0, b"a", b"crafted.safetensors"))), (CRAFTED_BASE,)
    yield "depth", "a reference of depth 0 that only an archive with references has", archive(
        turned), (CRAFTED_BASE, "sources-needs-base.zllm")
    yield "second", "one reference there, and one not", one_file(
        copied(a, 120, 10, 0, 0, 120, 10, SAME, 0, 0, outside=1), references=references(
            (a, 0, b"a", b""), (changed_bit, 0, b"b", b""))), (CRAFTED_BASE,)


def bad_codecs():
    plain = b"z" * 200
    good = zstd_frame((b"z", 200))
    for name, coded, size in (
            ("magic", zstd_frame((b"z", 200), magic=b"\x27\xb5\x2f\xfd"), 200),
            ("checksum-flag", zstd_frame((b"z", 200), descriptor=4) + bytes(4), 200),
            ("content-size", good[:4] + b"\x20\xc8" + good[6:], 200),
            ("window", zstd_frame((b"z", 200), window=16 << 3 | 1), 200),
            ("two-frames", zstd_frame((b"z", 100)) * 2, 200),
            ("skippable", good + b"\x50\x2a\x4d\x18\0\0\0\0", 200),
            ("rest", good + b"\0", 200), ("cut", good[:-1], 200),
            ("long", good, 199), ("short", good, 201),
            ("bomb", zstd_frame(*[(b"z", 1 << 17)] * 30, window=10 << 3), 200),
            ("reserved", good[:6] + b"\x07" + good[7:], 200)):
        yield f"zstd-{name}", f"codec 3: {name}", one_block(ZSTD, coded, (plain + b"z")[:size])
    packed = lzma2(TEXT)
    for name, coded, size, parameters in (
            ("no-parameters", packed, len(TEXT), None),
            ("parameters-2", packed, len(TEXT), b"\0\0"),
            ("dictionary", packed, len(TEXT), b"\x1d"), ("no-end", packed[:-1], len(TEXT), b"\0"),
            ("rest", packed + b"\0", len(TEXT), b"\0"), ("long", packed, len(TEXT) - 1, b"\0"),
            ("short", packed, len(TEXT) + 1, b"\0"),
            ("control", b"\x03" + packed[1:], len(TEXT), b"\0"),
            ("no-reset", b"\x80" + packed[1:5] + packed[6:], len(TEXT), b"\0"),
            ("no-dictionary-reset", b"\xc0" + packed[1:], len(TEXT), b"\0")):
        yield f"lzma-{name}", f"codec 4: {name}", one_block(
            LZMA, coded, (TEXT + b"+")[:size], parameters)
    fill2 = b"\0\x01a\x01b"
    for name, coded, size, parameters in (
            ("no-parameters", fill2, 20, None), ("width", fill2, 20, b"\3"),
            ("parameters-2", fill2, 20, b"\2\0"), ("transform", b"\2" + fill2[1:], 20, b"\2"),
            ("kind", b"\0\1a\3b", 20, b"\2"), ("rest", fill2 + b"b", 20, b"\2"),
            ("cut", fill2[:-1], 20, b"\2"), ("no-element", b"\0a", 7, b"\x08"),
            ("no-tail", fill2, 21, b"\2"), ("raw-cut", b"\0\1a\0bbb", 20, b"\2"),
            ("zstd-size", b"\0\1a\2\x7f" + zstd_frame((b"b", 10)), 20, b"\2"),
            ("zstd-short", b"\0\1a\2" + string(zstd_frame((b"b", 9))), 20, b"\2")):
        yield f"planes-{name}", f"codec 6: {name}", one_block(
            PLANES, coded, (b"ab" * 11)[:size], parameters)


def bad_floats():
    good = FloatEncoder(1, float_elements(1, 1000, 1), {125: False, 126: True, 127: True},
                        (1, 1, 1)).parameters
    table = b"".join(varint(512) for _ in range(8))
    for name, parameters in (
            ("empty", b""), ("kind-0", b"\0" + good[1:]), ("kind-4", b"\4" + good[1:]),
            ("many-exponents", bytes([1, 32, *range(32), 0, 0, 0, 0, 1]) + b"\1" * 32),
            ("order", b"\1\2\x7f\x7e\3\1" + table), ("twice", b"\1\2\x7f\x7f\3\1" + table),
            ("exponent", b"\2\2\x0f\x20\3\1" + table),
            ("joined-rest", b"\1\2\x7e\x7f\7\1" + table),
            ("33-symbols", b"\1\x08" + bytes(range(8)) + b"\xff\1" + b"\1" * 32),
            ("tables-0", b"\1\2\x7e\x7f\3\0"),
            ("tables-5", b"\1\2\x7e\x7f\3\5" + table * 5),
            ("sum", b"\1\2\x7e\x7f\3\1" + varint(513) + table[2:]),
            ("sum-overflow", b"\1\2\x7e\x7f\3\1" + varint((1 << 64) - 1) + table[2:]),
            ("rest", good + b"\0"), ("cut", good[:-1])):
        yield f"float-parameters-{name}", f"codec 5, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(FLOAT, parameters)]))

    def encoder(kind=1, modes=(0, 0, 1), tables=1):
        return FloatEncoder(kind, float_elements(2, 1100, kind, zeros=range(5)),
                            {13: False, 14: True} if kind == 2 else {126: True, 127: False},
                            modes, tables)

    def one(coded, parameters, plain=b"", size=2200):
        return one_block(FLOAT, coded, (plain + bytes(size))[:size], parameters)

    good = encoder()
    coded, plain = good.coded(), pack(good.elements, 2)
    sizes = Fields(coded)
    words, pairs, escapes = (sizes.varint("") for _ in range(3))
    start = len(coded) - sizes.left()
    extra = start + 128 + 2 * words
    planes = extra + (pairs + 3) // 4 + escapes
    assert pairs % 4 and escapes

    def told(words, pairs, escapes):
        return varint(words) + varint(pairs) + varint(escapes)

    for name, archive in (
            ("no-parameters", one(coded, None, plain)),
            ("part", one(coded, good.parameters, plain + b"\0", 2201)),
            ("empty", one(b"", good.parameters, plain)),
            ("many-words", one(told(1121, pairs, escapes) + coded[start:], good.parameters)),
            ("words-huge", one(told((1 << 64) - 1, pairs, escapes) + coded[start:],
                               good.parameters)),
            ("word-missing", one(told(words - 1, pairs, escapes) + coded[start:extra - 2] +
                                 coded[extra:], good.parameters)),
            ("word-over", one(told(words + 1, pairs, escapes) + coded[start:extra] + b"\0\0" +
                              coded[extra:], good.parameters, plain)),
            ("pair-missing", one(told(words, pairs - 1, escapes) + coded[start:],
                                 good.parameters, plain)),
            ("pair-over", one(told(words, pairs + 1, escapes) + coded[start:],
                              good.parameters, plain)),
            ("pairs-rest", one(coded[:planes - escapes - 1] + bytes(
                [coded[planes - escapes - 1] | 0xC0]) + coded[planes - escapes:],
                good.parameters, plain)),
            ("escape-missing", one(told(words, pairs, escapes - 1) + coded[start:planes - 1] +
                                   coded[planes:], good.parameters, plain)),
            ("escape-over", one(told(words, pairs, escapes + 1) + coded[start:planes] + b"\0" +
                                coded[planes:], good.parameters, plain)),
            ("mode", one(coded[:planes] + b"\4" + coded[planes + 1:], good.parameters, plain)),
            ("cut", one(coded[:-1], good.parameters, plain)),
            ("cut-states", one(coded[:start + 100], good.parameters, plain)),
            ("rest", one(coded + b"\0", good.parameters, plain))):
        yield f"float-{name}", f"codec 5: {name}", archive
    packed = zstd_frame((b"\0", 143))
    yield "float-zstd-short", "codec 5: a zstd plane of another size", one(
        coded[:planes] + b"\0\0\3" + string(packed), good.parameters, plain)
    good.first_state = 65537
    yield "float-last-state", "codec 5: a state that does not end at 65536", one(
        good.coded(), good.parameters, plain)
    half = encoder(2, (0, 0, 0, 1, 1, 1))
    coded = half.coded()
    sizes = Fields(coded)
    words, pairs, escapes = (sizes.varint("") for _ in range(3))
    first_escape = len(coded) - sizes.left() + 128 + 2 * words + (pairs + 3) // 4
    yield "float-escape-large", "codec 5: an escape above the greatest exponent", one(
        changed(coded, first_escape, 32), half.parameters, pack(half.elements, 2))
    two = encoder(tables=2)
    plain = pack(two.elements, 2)
    two.selectors = [0, 1, 1]
    yield "float-selector-rest", "codec 5: a selector beyond the last", one(
        two.coded(), two.parameters, plain)
    coded = encoder(tables=2).coded()
    at = coded.index(b"\4", 3)
    yield "float-selector", "codec 5: a selector of no table", one(
        changed(coded, at, 8), two.parameters, plain)
    runs = encoder(modes=(0, 0, 2)).coded()
    at = runs.index(b"\0\0\2\xff\1") + 4
    yield "float-runs-rest", "codec 5: a run bit beyond the last group", one(
        changed(runs, at, 3), good.parameters, plain)


def bad_cascades():
    for name, parameters in (
            ("empty", b""), ("kind-0", b"\0\1\1\x7f"), ("kind-4", b"\4\1\1\x7f"),
            ("layers-0", b"\1\0"), ("layers-9", b"\1\x09" + b"\1\x7f" * 9),
            ("width-0", b"\1\1\0"), ("width-3", b"\1\1\3" + bytes(7)),
            ("exponent", b"\2\1\2\x0f\x20\x0e"), ("cut", b"\1\1\2\x7f\x7e"),
            ("rest", b"\1\1\1\x7f\0")):
        yield f"cascade-parameters-{name}", f"codec 7, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(CASCADE, parameters)]))

    def one(encoder, coded, rest=b"", parameters=True):
        plain = pack(encoder.elements, encoder.facts.bytes) + rest
        return one_block(CASCADE, coded, plain, encoder.parameters if parameters else None)

    bf16 = CascadeEncoder(1, float_elements(18, 1000, 1),
                          [(1, (125,)), (1, (126,))], [1] * 8, 0x3F80)
    sizes, raw = bf16.parts()[1], bf16.parts()[3]
    assert sizes[0] == 4 and 128 < sizes[1]
    for name, coded in (
            ("no-parameters", bf16.coded()), ("part", bf16.coded()),
            ("empty", b""), ("cut", bf16.coded()[:-1]), ("rest", bf16.coded() + b"\0"),
            ("run-0", bf16.coded(runs=b"\1\x41")), ("run-over", bf16.coded(runs=b"\x49")),
            ("run-missing", bf16.coded(runs=b"\x39")),
            ("run-huge", bf16.coded(runs=varint((1 << 64) - 7))),
            ("mode-2", bf16.coded(runs=b"\x42")), ("mode-7", bf16.coded(runs=b"\x47")),
            ("groups-over", bf16.coded(sizes=[9, sizes[1]])),
            ("groups-more", bf16.coded(sizes=[5, sizes[1]], codes=bf16.parts()[2] + bytes(16))),
            ("groups-less", bf16.coded(sizes=[3, sizes[1]], codes=bf16.parts()[2][:-16])),
            ("raw-over", bf16.coded(sizes=[4, 513], raw=raw + bytes(513 - len(raw)))),
            ("raw-more", bf16.coded(sizes=[4, sizes[1] + 1], raw=raw + b"\0")),
            ("raw-less", bf16.coded(sizes=[4, sizes[1] - 1], raw=raw[1:]))):
        yield f"cascade-{name}", f"codec 7: {name}", one(
            bf16, coded, b"\0" * (name == "part"), name != "no-parameters")
    fp16 = CascadeEncoder(2, float_elements(19, 128, 2, zeros=range(3)), [(2, (13, 14, 12))], [4])
    count, raw = fp16.parts()[1], fp16.parts()[3]
    for name, coded in (
            ("mode-3", fp16.coded(runs=b"\x0b", low=b"")),
            ("raw-large", fp16.coded(sizes=[count[0]], raw=b"\x20" + raw[1:])),
            ("few-large", fp16.coded(low=b"\1\0\x08")),
            ("few-position", fp16.coded(low=b"\1\x80\1")),
            ("few-order", fp16.coded(low=b"\2\5\1\4\1")),
            ("few-twice", fp16.coded(low=b"\2\5\1\5\1")),
            ("few-cut", fp16.coded(low=b"\2\5\1\6"))):
        yield f"cascade-{name}", f"codec 7: {name}", one(fp16, coded)


def bad_mixes():
    for name, parameters in (
            ("empty", b""), ("kind-0", b"\0\2\x7e\1\1\0\0"), ("kind-7", b"\7\0\5\1\1\0\0"),
            ("modelled-7", b"\1\7\x7e\1\1\0\0"), ("modelled-e5m2", b"\5\3\x0f\1\1\0\0"),
            ("modelled-int8", b"\6\1\5\1\1\0\0"), ("unit-fp16", b"\2\2\x20\1\1\0\0"),
            ("unit-int8", b"\6\0\x08\1\1\0\0"), ("zeros", b"\1\2\x7e\1\1\2\0"),
            ("row", b"\1\2\x7e\1\1\0" + varint((1 << 32) + 1)),
            ("cut", b"\1\2\x7e\1\1\0"), ("rest", b"\1\2\x7e\1\1\0\0\0")):
        yield f"mix-parameters-{name}", f"codec 10, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(MIX, parameters)]))
    good = MixEncoder(1, float_elements(60, 150, 1), 2, 126, row=10, phase=3)
    phase, code, tails = good.parts()  # 750 bits of tails
    plain = pack(good.elements, 2)
    for name, coded in (
            ("empty", b""), ("phase", varint(10) + string(code) + tails),
            ("code-cut", phase + string(code[:-1]) + tails),
            ("code-rest", phase + string(code + b"\0") + tails),
            ("code-huge", phase + varint(len(code) + len(tails) + 1) + code + tails),
            ("tails-cut", phase + string(code) + tails[:-1]),
            ("tails-rest", phase + string(code) + tails + b"\0"),
            ("tails-bits", phase + string(code) + tails[:-1] + bytes([tails[-1] | 128])),
            ("wrong", phase + string(code) + changed(tails, 0, tails[0] ^ 1))):
        yield f"mix-{name}", f"codec 10: {name}", one_block(MIX, coded, plain, good.parameters)
    yield "mix-no-parameters", "codec 10: no parameters", one_block(MIX, good.coded(), plain)
    yield "mix-part", "codec 10: a part of an element", one_block(
        MIX, good.coded(), plain + b"\0", good.parameters)
    no_rows = MixEncoder(1, good.elements, 2, 126, phase=1)
    yield "mix-phase-no-rows", "codec 10: a phase without rows", one_block(
        MIX, no_rows.coded(), plain, no_rows.parameters)
    large = Archive(max_block=1 << 23, max_frame=1 << 23)
    yield "mix-large", "codec 10: a block of more than 4 MiB", large.file(b"f", Blocks(
        Block(MIX, good.coded(), bytes((1 << 22) + 2), 0), parameters=[(MIX, good.parameters)]
    )).end()


def bad_swapped():
    plain = b"ab" * 12
    for name, parameters in (
            ("empty", b""), ("no-codec", b"\2"), ("width-0", b"\0\0"), ("width-1", b"\1\0"),
            ("width-3", b"\3\0"), ("width-16", b"\x10\0"), ("duplicate", b"\2\2"),
            ("twin", b"\2\x0b"), ("swapped", b"\2\x0c\2\0"), ("unknown", b"\2\xc8"),
            ("rest", b"\2\0\0"), ("missing", b"\2\6"), ("wrong", b"\2\6\3"),
            ("inner-rest", b"\2\6\2\0")):
        yield f"swapped-parameters-{name}", f"codec 12, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(SWAPPED, parameters)]))
    for name, coded, parameters, size in (
            ("no-parameters", plain, None, 24), ("part", plain[:21], b"\4\0", 21),
            ("inner", plain[:23], b"\2\0", 24), ("not-swapped", b"ab", b"\2\1", 24)):
        yield f"swapped-{name}", f"codec 12: {name}", one_block(
            SWAPPED, coded, plain[:size], parameters)


def bad_palettes():
    for name, parameters in (
            ("empty", b""), ("width-0", b"\0\0\0\0"), ("width-3", b"\3\0\0\0"),
            ("flags", b"\2\4\0\0"), ("group-huge", b"\2\0" + varint((1 << 40) + 1) + b"\0"),
            ("bounds-64", b"\2\0\0\x40" + bytes(range(1, 65))), ("bound-0", b"\2\0\0\1\0"),
            ("bounds-twice", b"\2\0\0\2\5\5"), ("no-tables", b"\2\0\0\0")):
        yield f"palette-parameters-{name}", f"codec 13, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(PALETTE, parameters)]))

    def made(**changed):
        fields = {"width": 2, "elements": grid(61, 1000, 200, [5, 77, 1000], 7, 7, 0x8000),
                  "group": 200, "flags": 3, "bounds": (10,)}
        return PaletteEncoder(**{**fields, **changed})

    def one(encoder, coded=None, plain=None, parameters=None):
        plain = pack(encoder.elements, encoder.width) if plain is None else plain
        return one_block(PALETTE, encoder.coded() if coded is None else coded, plain,
                         encoder.parameters if parameters is None else parameters)

    good = made()
    for name, coded in (("empty", b""), ("cut", good.coded()[:-1]), ("rest", good.coded(b"\0")),
                        ("phase-over", varint(200) + good.coded()[1:]),
                        ("plane-kind", good.coded()[:1] + b"\3" + good.coded()[2:])):
        yield f"palette-{name}", f"codec 13: {name}", one(good, coded)
    yield "palette-no-parameters", "codec 13: no parameters", one_block(
        PALETTE, good.coded(), pack(good.elements, 2), None)
    for name, parameters in (("cut", good.parameters[:-1]), ("rest", good.parameters + b"\0")):
        yield f"palette-parameters-{name}", f"codec 13, parameters: {name}", one(
            good, parameters=parameters)
    yield "palette-classes", "codec 13: fewer tables than classes", one(
        good, parameters=good.parameters[:4] + b"\2\x0a\x0b" + good.parameters[6:])
    yield "palette-part", "codec 13: a part of an element", one(
        good, plain=pack(good.elements, 2) + b"\0")
    yield "palette-many", "codec 13: more values than elements", one(
        made(elements=good.elements[:210], palettes=good.palettes[:2]))
    changed_encoder = made()
    changed_encoder.symbols[500] = 100
    changed_encoder.tables[changed_encoder.classes[500]][100] = 1
    table = changed_encoder.tables[changed_encoder.classes[500]]
    table[max(table, key=table.get)] -= 1
    changed_encoder.tables[changed_encoder.classes[500]] = dict(sorted(table.items()))
    yield "palette-no-value", "codec 13: an element without a value", one(changed_encoder)
    changed_encoder = made()
    changed_encoder.first_state = 65537
    yield "palette-last-state", "codec 13: a last state above 65536", one(changed_encoder)


def bad_classes():
    for name, parameters in (
            ("empty", b""), ("kind-0", b"\0\0"), ("kind-6", b"\6\0"), ("flags", b"\2\x08"),
            ("signs-of-bytes", b"\1\4\1"), ("row-0", b"\2\1\0"),
            ("row-huge", b"\2\2" + varint((1 << 19) + 1)), ("no-bits", b"\2\0\0")):
        yield f"classes-parameters-{name}", f"codec 8, parameters: {name}", one_file(
            Blocks(stored(b"x"), parameters=[(CLASSES, parameters)]))

    def made(**changed):
        fields = {"kind": 2, "elements": matrix(41, 2, 60, 20, (0, 1), (0, 1), lean=5),
                  "keys": range(24, 64), "groups": (3, (0, 1, 2)), "row": 20, "phase": 3,
                  "rows": [64, 72] * 30 + [64], "columns": [64, 56] * 10,
                  "skews": [1, -1] * 10, "runs": ((30, 34), (64,), (64,), (64,))}
        return ClassesEncoder(**{**fields, **changed})

    def one(encoder, coded=None, plain=None, parameters=None):
        plain = pack(encoder.elements, encoder.facts.bytes) if plain is None else plain
        parameters = encoder.parameters if parameters is None else parameters
        return one_block(CLASSES, encoder.coded() if coded is None else coded, plain,
                         parameters or None)

    good = made()
    for name, coded in (("empty", b""), ("cut", good.coded()[:-1]), ("rest", good.coded() + b"\0"),
                        ("extra-rest", good.coded(rest=b"\0")),
                        ("phase-over", varint(20) + good.coded()[1:])):
        yield f"classes-{name}", f"codec 8: {name}", one(good, coded)
    yield "classes-no-parameters", "codec 8: no parameters", one_block(
        CLASSES, good.coded(), pack(good.elements, 1), None)
    changed_encoder = made()
    changed_encoder.first_state = 65537
    yield "classes-last-state", "codec 8: a last state above 65536", one(changed_encoder)
    for name, encoder in (
            ("row-offset", made(rows=[64, 72] * 30 + [128])),
            ("column-offset", made(columns=[64, 128] + [56] * 18)),
            ("runs-over", made(runs=((30, 35), (63,), (64,), (64,)))),
            ("classes-65", made(runs=((1,) * 64, (64,), (64,), (64,)))),
            ("key-over", made(keys=[*range(24, 64), 128])),
            ("group-over", made(groups=(3, (0, 1, 2, 16)))),
            ("symbols-128", made(keys=range(126), groups=(3, (1, 2))))):
        yield f"classes-{name}", f"codec 8: {name}", one(encoder)
    encoder = made()
    used = encoder.classes[0]
    encoder.tables[used] = {**encoder.tables[used], 50: encoder.tables[used].get(50, 0) + 1}
    yield "classes-sum", "codec 8: frequencies that add up to 4097", one(encoder)
    encoder = made(skews=[1, -1] * 9 + [4, -1], runs=((30, 34), (64,), (64,), (64,), (64,)))
    yield "classes-skew", "codec 8: a skew of 4", one(encoder)
    bf16 = made(kind=3, elements=matrix(42, 3, 60, 20, (0, 1), (0, 1), lean=5),
                keys=range(122 * 8, 128 * 8), groups=(3, (120, 121)), modes=(1,))
    yield "classes-part", "codec 8: a part of an element", one(
        bf16, plain=pack(bf16.elements, 2) + b"\0")
    yield "classes-plane-missing", "codec 8: no plane", one(bf16, bf16.coded()[:-1 - 64 * 10])


def bad_index():
    def archive():
        return Archive().root().entry(LINK, b"l", target=b"t").file(b"f", X, layout=layout)

    layout = string(b"bytes") + varint(1) + segment(1)
    index = archive().index()
    yield "index-missing", "no Index frame", archive().end(frames=b" "[:0])[:-44] + \
        archive().end(index=b"", size=0)[-44:]
    yield "index-count", "one entry more than there are", archive().end(
        index=b"\x04" + index[1:] + entry_fields(DIRECTORY, b"d"))
    yield "index-entry-less", "one entry less than there are", Archive().file(b"f", X).end(
        index=varint(0))
    yield "index-huge", "2^60 entries", archive().end(index=varint(1 << 60) + index[1:])
    yield "index-rest", "bytes left over in the index", archive().end(index=index + b"\0")
    yield "index-cut", "the index ends early", archive().end(index=index[:-1])
    yield "index-path", "another path", archive().end(index=index.replace(b"\x01f", b"\x01g"))
    yield "index-target", "another link target", archive().end(
        index=index.replace(b"\x01t", b"\x01u"))
    yield "index-sha256", "another SHA-256", archive().end(
        index=index.replace(hashlib.sha256(b"x").digest(), bytes(32)))
    yield "index-offset", "another offset of a frame", archive().end(
        index=index[:-5] + bytes([index[-5] ^ 1]) + index[-4:])
    yield "index-head", "another head length", archive().end(
        index=index[:-4] + bytes([index[-4] ^ 1]) + index[-3:])
    yield "index-blocks", "another number of blocks", archive().end(index=index[:-1] + b"\0")
    yield "index-codec", "a codec that an index may not have", archive().end(
        frames=frame(*index_frame(index, codec=FILL, data=b"\0")))
    yield "index-checksum", "wrong XXH3 of the piece", archive().end(
        frames=frame(*index_frame(index, checksum=1)))
    yield "index-size", "a piece that decodes to another size", archive().end(
        frames=frame(*index_frame(index, size=len(index) + 1)))
    yield "index-empty-piece", "a piece of no bytes", archive().end(
        frames=frame(*index_frame(index)) + frame(*index_frame(b"")))
    yield "index-large-piece", "a piece above 2^20 bytes", archive().end(
        frames=frame(*index_frame(index, size=(1 << 20) + 1)))
    for name, wrong in (
            ("sum", string(b"bytes") + varint(1) + segment(2)),
            ("sum-overflow", string(b"bytes") + varint(2) + segment((1 << 64) - 1) + segment(2)),
            ("dimensions", string(b"bytes") + varint(1) + segment(1, 20, b"t", [1] * 65)),
            ("format", string(b"f" * 65) + varint(1) + segment(1)),
            ("segments-huge", string(b"bytes") + varint(1 << 60) + segment(1))):
        yield f"layout-{name}", f"layout: {name}", Archive().file(b"f", X, layout=wrong).end()
    long_name = Archive().file(b"f", X, layout=string(b"bytes") + varint(1) + segment(
        1, 20, b"n" * 65536))
    head, tail = long_name.index().split(b"n" * 65536)
    packed = zstd_frame(head, (b"n", 65536), tail, window=6 << 3)
    yield "layout-name", "layout: a name of 65536 bytes", long_name.end(
        frames=frame(*index_frame(long_name.index(), codec=ZSTD, data=packed)))
    yield "trailer-offset", "trailer: another offset of the index", archive().end(offset=1)
    yield "trailer-size", "trailer: another size of the archive", archive().end(size=-1)
    yield "trailer-mark", "trailer: another end mark", archive().end(mark=b"ZLLMEND\0")
    yield "trailer-rest", "trailer: bytes left over", archive().end(rest=b"\0", size=1)


def too_new():
    yield "version-2", "major version 2", Archive(major=2).file(b"f", X).end()
    yield "version-0", "major version 0", Archive(major=0).file(b"f", X).end()
    yield "header-reserved", "a reserved field of the header is not 0", Archive(
        zero16=1).file(b"f", X).end()
    yield "header-reserved-2", "the other reserved field of the header is not 0", Archive(
        zero32=1).file(b"f", X).end()
    yield "frame-unknown", "an unknown frame that may not be skipped", after_header(
        frame(77, b"h", b"d"))
    yield "frame-unknown-in-file", "an unknown mandatory frame inside a file", one_file(
        X, between=frame(66))
    yield "source-role", "a source of an unknown role", one_file(
        Blocks(stored(b"xy"), kept=1), Blocks(copy(0, b"xy"), against=(2, 0, 0, source(
            1, 1, 1, 0, 0, role=200, block_size=2))))
    yield "codec-unknown", "a block of an unknown codec", one_block(200, b"?", b"x")
    yield "codec-unknown-parameters", "parameters of an unknown codec", one_file(
        Blocks(stored(b"x"), parameters=[(200, b"")]))


def over_the_limit():
    yield "memory", "declares the most memory that the format allows, to a reader that has 64 " \
        "MiB", Archive(max_block=1 << 26, max_frame=1 << 27).file(b"f", X).end()


# `reason` to refuse it, or None; `bases`: names below vectors/ of what it was coded against.
Vector = collections.namedtuple("Vector", "archive what reason memory bases",
                                defaults=(None, 512, ()))


def crafted():
    """name below vectors/ -> Vector"""
    out = {}

    def add(vectors, folder="", reason=None, memory=512):
        for name, what, archive, *bases in vectors:
            path = f"{folder}{name}.zllm"
            assert path not in out, path
            out[path] = Vector(archive, what, reason, memory, *bases)

    add(good_container())
    add(good_codecs())
    for vectors in (bad_container, bad_entries, bad_blocks, bad_duplicates, bad_twins, bad_codecs,
                    bad_floats, bad_cascades, bad_classes, bad_mixes, bad_swapped, bad_palettes,
                    bad_index, bad_shared):
        add(vectors(), "bad/", "damaged")
    add(bad_sources(), "bad/sources-", "damaged")
    add(((*vector, (CRAFTED_BASE,)) for vector in bad_references()), "bad/references-", "damaged")
    add(missing_bases(), "bad/base-", "needs a base")
    add(too_new(), "bad/", "too new")
    add(over_the_limit(), "bad/", "over the limit", 64)
    return out


# ---------------------------------------------------------------------------------------------
# Archives that the command makes


def bell(source, count):
    """Numbers around 0 as weights have them, equal on every machine: sums of integers."""
    return [sum(source.randrange(-1000, 1001) for _ in range(6)) / 100_000 for _ in range(count)]


def floats(kind, values):
    if kind == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    letter = {"F16": "e", "F32": "f", "F64": "d"}[kind]
    return struct.pack(f"<{len(values)}{letter}", *values)


def safetensors(tensors):
    head, data = {}, b""
    for name, (dtype, shape, values) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape,
                      "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return u64(len(text)) + text + data


def gguf(tensors):
    """Version 3 without metadata; tensors: name -> (ggml type, shape, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 0)
    data = b""
    for name, (kind, shape, values) in tensors.items():
        data += bytes(-len(data) % 32)
        head += u64(len(name)) + name.encode() + struct.pack("<I", len(shape))
        head += b"".join(u64(dimension) for dimension in shape)
        head += struct.pack("<IQ", kind, len(data))
        data += values
    return head + bytes(-len(head) % 32) + data


def model_files():
    source = random.Random(7)
    embedding = floats("BF16", bell(source, 64 * 32))
    shard1 = {"embed": ("BF16", [64, 32], embedding),
              "zeros": ("BF16", [40, 32], bytes(2560)),
              "half": ("F16", [30, 32], floats("F16", bell(source, 960))),
              "single": ("F32", [20, 32], floats("F32", bell(source, 640))),
              "double": ("F64", [100], floats("F64", bell(source, 100))),
              "bias": ("F32", [], b"\0\0\x80\x3f"), "none": ("F32", [0, 4], b"")}
    shard2 = {"head": ("BF16", [64, 32], embedding),
              "ids": ("I64", [300], struct.pack("<300q", *range(300))),
              "upcast": ("F32", [2, 500], b"".join(
                  b"\0\0" + floats("BF16", [value]) for value in bell(source, 1000)))}
    q8_0 = b"".join(floats("F16", [0.01]) + bytes(source.randrange(256) for _ in range(32))
                    for _ in range(20))
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (150, 2), }\n"
    prices = b"".join(struct.pack("<2d", (5000 + i * i % 97) / 100, i % 7 * 0.5)
                      for i in range(150))
    return {
        "prices.npy": b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + prices,
        "config.json": b'{"architectures": ["Example"], "hidden_size": 32}\n',
        "tokenizer.txt": b"".join(b"token%d\n" % (i * i) for i in range(300)),
        "model-1.safetensors": safetensors(shard1),
        "model-2.safetensors": safetensors(shard2),
        "model.gguf": gguf({"embed": (30, [32, 64], embedding), "q": (8, [32, 20], q8_0),
                            "norm": (0, [32], floats("F32", bell(source, 32)))})}


def quantized_blocks(source, number, blocks):
    """Of the element type with this number: quants in a bell, other fields of few values."""
    symbols = []
    texts = spec_decoder.QUANT_TYPES[number][1].split(";")
    for text in texts:
        field = spec_decoder.quant_field(text)
        if text is texts[-1]:
            middle, wide = (0, 40) if field.bits == 8 else (1 << field.bits - 1, 1 << field.bits - 2)
            symbols.append([round(middle + wide * value * 20) & (1 << field.bits) - 1
                            for value in bell(source, blocks * field.count)])
        else:
            symbols.append([source.choice((3, 7, 10, 40)) & (1 << field.bits) - 1
                            for _ in range(blocks * field.count)])
    return spec_decoder.join_quant_fields(number, symbols, blocks)


def quantized_model():
    """Types of ggml's blocks in GGUF, some 8,000 weights of each; columns of their own in q8_0."""
    source = random.Random(9)
    scale = [source.randrange(2, 20) for _ in range(64)]
    lean = [source.randrange(-30, 31) for _ in range(64)]
    q8_0 = b"".join(
        floats("F16", [0.01 * (1 + block % 3)])
        + bytes(max(-127, min(127, round(60 * value * scale[j] + lean[j]))) & 255
                for j, value in enumerate(bell(source, 32), block % 2 * 32))
        for block in range(2 * 200))
    tensors = {"q8_0": (8, [64, 200], q8_0)}
    for name, kind, weights in (("q4_0", 2, 32), ("q4_1", 3, 32), ("q5_0", 6, 32),
                                ("q2_k", 10, 256), ("q3_k", 11, 256), ("q4_k", 12, 256),
                                ("q6_k", 14, 256), ("iq2_xs", 17, 256), ("iq4_xs", 23, 256),
                                ("nvfp4", 40, 64)):
        tensors[name] = (kind, [weights, 8192 // weights],
                         quantized_blocks(source, 64 + kind, 8192 // weights))
    return gguf(tensors)


def e4m3(value):
    """FP8 E4M3, rounded towards zero, without subnormal numbers."""
    bits, = struct.unpack("<I", struct.pack("<f", value))
    exponent = (bits >> 23 & 255) - 127 + 7
    return bits >> 24 & 128 | (min(exponent, 14) << 3 | bits >> 20 & 7 if exponent > 0 else 0)


def scaled_files():
    """Matrices whose rows and columns have scales, what level 9 takes long for, big-endian numbers."""
    source = random.Random(8)
    rows, columns = 120, 64
    matrix = [value * (1 << r * 5 % 4) * (1 << c * 3 % 5) for r, c, value in zip(
        (i // columns for i in range(rows * columns)), itertools.cycle(range(columns)),
        bell(source, rows * columns))]
    bf16 = floats("BF16", matrix)
    turned = [matrix[r * columns + c] for c in range(columns) for r in range(rows)]
    big = b"".join(struct.pack(">f", value)[:2] for value in bell(source, 16_000))

    def half(value):
        return floats("F16", [value / 1000])

    q4_0 = b"".join(half(source.randrange(20, 60)) + bytes(
        8 + min(7, max(-8, source.randrange(-7, 8) + source.randrange(-7, 8) >> 1)) + 16 * (
            8 + source.randrange(-7, 8) // 2) for _ in range(16)) for _ in range(60))
    return {
        "scaled.safetensors": safetensors({
            "bf16": ("BF16", [rows, columns], bf16),
            "turned": ("BF16", [columns, rows], floats("BF16", turned)),
            "negated": ("BF16", [rows, columns], floats("BF16", [-value for value in matrix])),
            "e4m3": ("F8_E4M3", [rows, columns], bytes(map(e4m3, matrix))),
            "int8": ("I8", [rows, columns], bytes(
                min(127, max(-127, int(value * 400))) & 255 for value in matrix))}),
        "small.safetensors": safetensors({
            "bf16": ("BF16", [40, columns], bf16[:80 * columns]),
            "e4m3": ("F8_E4M3", [20, columns], bytes(map(e4m3, matrix[:20 * columns])))}),
        "small.gguf": gguf({"q4_0": (2, [192, 10], q4_0)}),
        "big-endian.bin": b"header of a format that no parser knows".ljust(64) + big}


ROWS_OF, COLUMNS_OF = 48, 64  # of the matrices below


def product(source, rank, size):
    """Two factors of a matrix, and their product."""
    up = [[value * size for value in bell(source, rank)] for _ in range(ROWS_OF)]
    down = [bell(source, COLUMNS_OF) for _ in range(rank)]
    return up, down, [sum(up[i][k] * down[k][j] for k in range(rank))
                      for i in range(ROWS_OF) for j in range(COLUMNS_OF)]


def added(values, steps, size=1.0):
    return [value + step * size for value, step in zip(values, steps)]


def bf16_values(plain):
    return [struct.unpack("<f", b"\0\0" + plain[i:i + 2])[0] for i in range(0, len(plain), 2)]


def adam_steps(source, state, steps):
    """Weights, first and second moments after so many steps of AdamW."""
    weights, first, second = state
    for _ in range(steps):
        gradients = bell(source, len(weights))
        first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients)]
        second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients)]
        weights = [w - 0.0005 * m / (v ** 0.5 + 1e-8)
                   for w, m, v in zip(weights, first, second)]
    return weights, first, second


def related_files():
    """Bases by name below vectors/, and (name, levels, contents, bases, what) of what has them."""
    source = random.Random(11)
    shape, count = [ROWS_OF, COLUMNS_OF], ROWS_OF * COLUMNS_OF
    values = {name: bell(source, count) for name in ("q", "k", "v", "up", "half", "eight", "single")}
    embedding = bell(source, count)
    kinds = {"half": "F16", "eight": "F8_E4M3", "single": "F32"}

    def tensor(values, kind="BF16", shape=shape):
        plain = bytes(map(e4m3, values)) if kind == "F8_E4M3" else floats(kind, values)
        return kind, shape, plain

    def model(all_values, **others):
        tensors = {name: tensor(v, kinds.get(name, "BF16")) for name, v in all_values.items()}
        return safetensors({"embed": tensor(embedding), **tensors, **others})

    def moved(size):
        return {name: added(v, bell(source, count), size) for name, v in values.items()}

    tuned, other = moved(0.02), moved(0.03)
    bases = {"bases/model.safetensors": model(values), "bases/tuned.safetensors": model(tuned)}
    to_model = ("bases/model.safetensors",)
    rounded = {name: bf16_values(floats("BF16", v)) for name, v in values.items()}

    up, down, low_rank = product(source, 3, 0.5)
    bases["bases/adapter.safetensors"] = safetensors({
        "base_model.model.q.lora_A.weight": tensor(sum(down, []), "F32", [3, COLUMNS_OF]),
        "base_model.model.q.lora_B.weight": tensor(sum(up, []), "F32", [ROWS_OF, 3])})
    merged = added(rounded["q"], low_rank, 2.0)
    average = {name: [(x + y) / 2 for x, y in zip(rounded[name], bf16_values(
        floats("BF16", tuned[name])))] for name in ("q", "k", "up")}

    rows = list(range(ROWS_OF))
    source.shuffle(rows)
    changed_structure = safetensors({
        "wider.embed": tensor(embedding + bell(source, 5 * COLUMNS_OF), shape=[
            ROWS_OF + 5, COLUMNS_OF]),
        "turned": tensor([tuned["up"][i * COLUMNS_OF + j] for j in range(COLUMNS_OF)
                          for i in range(ROWS_OF)], shape=[COLUMNS_OF, ROWS_OF]),
        "qkv": tensor(tuned["q"] + tuned["k"] + tuned["v"], shape=[3 * ROWS_OF, COLUMNS_OF]),
        "permuted": tensor([tuned["k"][row * COLUMNS_OF + j] for row in rows
                            for j in range(COLUMNS_OF)]),
        "renamed": tensor(tuned["v"])})

    def checkpoint(state):
        weights, first, second = state
        return safetensors({
            "model.w": tensor(weights, "F32"), "optimizer.exp_avg.w": tensor(first, "F32"),
            "optimizer.exp_avg_sq.w": tensor(second, "F32")})

    # INT8 with a scale a row, and four-bit codes, eight an element, with one for each 32 weights.
    quantized = {}
    for name in ("q", "up"):
        bits, group = (8, COLUMNS_OF) if name == "q" else (4, 32)
        most = 2 ** (bits - 1) - 1
        codes, scales = [], []
        for i in range(0, count, group):
            weights = rounded[name][i:i + group]
            scales += bf16_values(floats("BF16", [max(map(abs, weights)) / (most + 0.5)]))
            codes += [max(-most - 1, min(most, round(w / scales[-1]))) for w in weights]
        matrix = [ROWS_OF, COLUMNS_OF // group]
        scale = tensor(scales, "BF16", matrix)
        if bits == 8:
            quantized |= {f"{name}.weight": ("I8", shape, struct.pack(f"<{count}b", *codes)),
                          f"{name}.weight_scale": scale}
        else:
            words = [sum((code + 8) << 4 * k for k, code in enumerate(codes[i:i + 8]))
                     for i in range(0, count, 8)]
            quantized |= {
                f"{name}.weight_packed": ("I32", [ROWS_OF, COLUMNS_OF // 8],
                                          struct.pack(f"<{len(words)}I", *words)),
                f"{name}.weight_scale": scale,
                f"{name}.weight_shape": ("I64", [2], struct.pack("<2q", *shape))}

    before = adam_steps(source, (values["single"], [0.0] * count, [0.0] * count), 20)
    bases["bases/checkpoint.safetensors"] = checkpoint(before)
    return bases, [
        ("tuned", (1, 3, 6, 9), model(tuned), to_model, "a fine-tune, equal embeddings"),
        ("to-fp32", (1, 3, 9), safetensors({
            name: tensor(v, "F32") for name, v in other.items()}), to_model,
         "an FP32 fine-tune of BF16, FP16, FP8 and FP32"),
        ("to-bf16", (3, 9), safetensors({name: tensor(v, "BF16") for name, v in other.items()}),
         to_model, "a BF16 fine-tune of the same"),
        ("merged", (1, 3, 6, 9), safetensors({"q": tensor(merged)}), to_model, "a merged LoRA"),
        ("adapter", (3,), safetensors({"q": tensor(merged)}),
         to_model + ("bases/adapter.safetensors",), "a merged LoRA whose adapter is there"),
        ("codes", (1, 3, 9), safetensors(quantized), to_model,
         "INT8 and four-bit codes with scales"),
        ("soup", (3, 9), safetensors({name: tensor(v) for name, v in average.items()}),
         to_model + ("bases/tuned.safetensors",), "the mean of two models"),
        ("structure", (3, 9), changed_structure, to_model,
         "rows added, transposed, fused, permuted, renamed"),
        ("checkpoint", (1, 3, 6, 9), checkpoint(adam_steps(source, before, 5)),
         ("bases/checkpoint.safetensors",),
         "a checkpoint with optimizer state, five steps after its base"),
        ("states", (1, 3, 9), checkpoint(adam_steps(source, before, 9)), (),
         "a checkpoint without a base: state tells of the weights"),
        ("through-archive", (3,), model({
            name: added(v, bell(source, count), 0.01) for name, v in tuned.items()}),
         to_model + ("made-tuned-3.zllm",), "a fine-tune of a fine-tune that is an archive")]


def log_lines():
    """Text above 64 KiB that is quickly decoded: much is repeated."""
    source = random.Random(9)
    return b"".join(b"2026-11-22 10:%02d:%02d INFO worker %d: step %d, loss %.2f\n" % (
        i // 60, i % 60, source.randrange(4), 100 * i, 3 - i / 1000) for i in range(1160))


def told_lines():
    """Lines of which most is told in words, above 64 KiB."""
    source = random.Random(11)
    words = "disk node lost found again retry after slow read write of block to from peer".split()
    return b"".join(b"10:%02d:%02d [%d] %s\n" % (
        i // 60, i % 60, source.randrange(3),
        " ".join(source.choice(words) for _ in range(source.randrange(6, 24))).encode())
        for i in range(900))


def prose():
    """Text above 64 KiB without records in it."""
    source = random.Random(10)
    words = "the wind turned and children went down to their grandfather slowly".split()
    lines = (" ".join(source.choice(words) for _ in range(source.randrange(3, 14)))
             for _ in range(1700))
    return "\n".join(lines).encode()


def records():
    """Records of several types, of which no parser knows: a kind, a number (highest byte first),
    a time in whole thousands, a price in cents, a count that is seldom more than 9."""
    state, price, time = 1, 10000, 1_700_000_000_000_000
    out = b"RECORDS\n"
    for i in range(400):
        state = state * 1103515245 + 12345 & 0x7fffffff
        bits = state >> 8
        time += 1000 * (bits & 63)
        price += (bits >> 6 & 7) - 3
        out += (struct.pack(">BI", bits >> 9 & 1, 70000 + i) +
                struct.pack("<qfH", time, price / 100, (bits >> 10 & 7) * (40 if i % 50 == 7 else 1)))
    return out + b"END"


def made_by_command(zipllm, known):
    """name -> Vector, of those that are not in `known`; and the bases that are no archives."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "model")
        (root / "empty").mkdir(parents=True)
        quants = pathlib.Path(folder, "quants.gguf")
        quants.write_bytes(quantized_model())
        for name, data in model_files().items():
            (root / name).write_bytes(data)
        scaled = pathlib.Path(folder, "scaled")
        scaled.mkdir()
        for name, data in scaled_files().items():
            (scaled / name).write_bytes(data)
        texts = pathlib.Path(folder, "texts")
        texts.mkdir()
        (texts / "log.txt").write_bytes(log_lines())
        (texts / "told.txt").write_bytes(told_lines())
        (texts / "note.txt").write_bytes(
            b"The children walked slowly down to the harbour, where their grandfather was "
            b"mending a net.\nNobody knew whether the wind would let them go out before the "
            b"evening.\n" * 2)
        (texts / "prose.txt").write_bytes(prose())
        (texts / "rows.txt").write_bytes(b"".join(
            b"%d,\"n%d\",%d.%02d,%s\r\n" % (i, i * 7 % 13, i * 7 % 13, i % 100,
                                         b"up" if i * 7 % 13 > 5 else b"down")
            for i in range(1000, 1400)))
        (texts / "table.txt").write_bytes(b"".join(
            b"%d;qx%d,%d|vz%d\n" % (i, i % 7, 3 * i, i // 4) for i in range(1000, 1060)))
        # The second decoder takes long for K-quants.
        ladders = {"ladder": (16, "Q8_0 Q4_0 Q5_1 IQ4_XS imatrix.Q4_0 imatrix.IQ3_XXS"),
                   "ladder-k": (2, "Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K Q4_1 Q5_0 IQ4_NL")}
        for name, (rows, types) in ladders.items():
            ladder = pathlib.Path(folder, name)
            ladder.mkdir()
            for kind in ["BF16", *types.split()]:
                data = (LADDER / f"mpnet-part.{kind}.gguf").read_bytes()
                (ladder / f"{kind}.gguf").write_bytes(cut_ladder.cut(data, rows))
            ladders[name] = ladder
        (texts / "records.bin").write_bytes(records())
        related = pathlib.Path(folder, "related")
        related.mkdir()
        bases, targets = related_files()
        for name, data in bases.items():
            (related / name).parent.mkdir(exist_ok=True)
            (related / name).write_bytes(data)
        made = [(name, path, level, what, ()) for name, path, level, what in (
            ("safetensors", root / "model-1.safetensors", 3, "BF16, FP16, FP32, FP64"),
            ("safetensors-9", root / "model-1.safetensors", 9, "the same at level 9"),
            ("gguf", root / "model.gguf", 3, "BF16, Q8_0, FP32"),
            ("quants", quants, 3, "ggml's quantized types"),
            ("scaled-1", scaled / "scaled.safetensors", 1, "scales by row and column, twins"),
            ("scaled", scaled / "scaled.safetensors", 3, "the same"),
            ("scaled-6", scaled / "scaled.safetensors", 6, "the same"),
            ("small-9", scaled / "small.safetensors", 9, "BF16, FP8"),
            ("blocks-9", scaled / "small.gguf", 9, "Q4_0"),
            ("big-endian", scaled / "big-endian.bin", 3, "BF16, highest byte first, in a format "
             "that no parser knows"),
            ("text", root / "tokenizer.txt", 6, "text"),
            ("text-3", root / "tokenizer.txt", 3, "text, by the Burrows-Wheeler transform"),
            ("prose-3", texts / "prose.txt", 3,
             "a longer one, of which eight walks find the parts"),
            ("log-3", texts / "log.txt", 3, "lines by templates and columns"),
            ("log-6", texts / "log.txt", 6, "the same, columns by context mixing"),
            ("rows-3", texts / "rows.txt", 3, "fields, one of which tells another"),
            ("table-6", texts / "table.txt", 6, "lines of fields, by context mixing"),
            ("records-3", texts / "records.bin", 3, "records of several types in plain bytes"),
            ("records-6", texts / "records.bin", 6, "the same, by context mixing where it pays"),
            ("log-9", texts / "told.txt", 9, "lines, by context mixing of columns and tokens"),
            ("note-9", texts / "note.txt", 9, "English, by the language model"),
            ("text-9", root / "tokenizer.txt", 9, "text, by context mixing with it"),
            ("model", root, 3, "a model of two shards, one tensor in both, and in GGUF"),
            ("ladder", ladders["ladder"], 3, "quants of one model beside their source"),
            ("ladder-k", ladders["ladder-k"], 3, "the same, K-quants"),
            ("ladder-k-1", ladders["ladder-k"], 1, "the same, by formulas"))]
        for name, levels, data, needed, what in targets:
            (related / f"{name}.safetensors").write_bytes(data)
            made += [(f"{name}-{level}", related / f"{name}.safetensors", level, what, needed)
                     for level in levels]
        (root / "latest").symlink_to("model-1.safetensors")
        for path in [*root.iterdir(), *scaled.iterdir(), *texts.iterdir(), *related.iterdir(), root,
                     quants] + [
                file for ladder in ladders.values() for file in [*ladder.iterdir(), ladder]]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, ns=(0, TIME * 10**9 + 123_456_789), follow_symlinks=False)
        vectors = {}
        for name, path, level, what, needed in made:
            out = related / f"made-{name}.zllm"
            if out.name in known:
                out.write_bytes(known[out.name].archive)
                continue
            options = [option for base in needed for option in ("--base", related / base)]
            subprocess.run([zipllm, "compress", f"-{level}", "-q", "-f", *options, "-o", out, path],
                           check=True)
            archive = out.read_bytes()
            for entry in decode(archive, [(related / base).read_bytes() for base in needed]):
                if entry["kind"] == "file":
                    plain = (path if path.is_file() else path / entry["path"]).read_bytes()
                    assert entry["sha256"] == hashlib.sha256(plain).hexdigest(), entry
            against = " --base" * bool(needed)
            vectors[out.name] = Vector(
                archive, f"zipllm compress -{level}{against}: {what}", bases=needed)
        return vectors


# ---------------------------------------------------------------------------------------------
# Manifest, example, command line


def decode(archive, bases=()):
    """Entries of an archive that was coded against files with these contents."""
    entries = []
    bases = spec_decoder.Bases(map(io.BytesIO, bases))
    for event, value in spec_decoder.Decoder(io.BytesIO(archive), bases=bases).events():
        if event == "archive":
            entries += [spec_decoder.describe(entry) for entry in value]
    return entries


def manifest(vectors, bases):
    """Text of MANIFEST.json; `bases`: name -> contents of those that are no vectors. What bad archives do is what they were made for, not what was seen."""
    good, bad = {}, {}
    for name, vector in sorted(vectors.items()):
        line = {"what": vector.what}
        if vector.bases:
            line["bases"] = vector.bases
        if vector.reason:
            bad[name] = line | {"refused": vector.reason, "memory_mib": vector.memory}
        else:
            contents = [bases.get(base) or vectors[base].archive for base in vector.bases]
            good[name] = line | {"entries": decode(vector.archive, contents)}

    def lines(group):  # one archive a line
        return ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}"
                          for name, value in group.items())

    return f'{{"good": {{\n{lines(good)}\n}},\n"bad": {{\n{lines(bad)}\n}}}}\n'


EXAMPLE_TEXT = """# Example

`vectors/example.zllm`, an archive of one file: `hi.txt`, mode 0644, holding `Hi!` and a line feed.
Each line has an offset, bytes, and what they are. All numbers are in decimal, offsets in
hexadecimal. This page is made by `make_vectors.py` with `tools/spec_decoder.py --dump`, and a test
keeps it true.

```
"""


def example(archive):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for _ in spec_decoder.Decoder(io.BytesIO(archive), trace=spec_decoder.show_field).events():
            pass
    return EXAMPLE_TEXT + out.getvalue().lstrip("\n") + "```\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--zipllm", metavar="PATH")
    parser.add_argument("--missing", action="store_true")
    options = parser.parse_args()

    known = {}
    if options.missing or not options.zipllm:
        told = json.loads((VECTORS / "MANIFEST.json").read_text())["good"]
        known = {path.name: Vector(path.read_bytes(), told[path.name]["what"],
                                   bases=told[path.name].get("bases", ()))
                 for path in VECTORS.glob("made-*.zllm") if path.name in told}
    vectors = crafted() | known
    if options.zipllm:
        vectors |= made_by_command(os.path.abspath(options.zipllm), known)
    bases = {CRAFTED_BASE: safetensors(crafted_base())} | related_files()[0]
    used = {base for vector in vectors.values() for base in vector.bases}
    bases = {name: data for name, data in bases.items() if name in used}
    files = {VECTORS / name: data for name, data in bases.items()}
    files |= {VECTORS / name: vector.archive for name, vector in vectors.items()}
    files[VECTORS / "MANIFEST.json"] = manifest(vectors, bases).encode()
    files[HERE / "example.md"] = example(vectors["example.zllm"].archive).encode()

    there = {path for path in [*VECTORS.rglob("*"), HERE / "example.md"] if path.is_file()}
    superfluous = sorted(there - files.keys())
    stale = sorted(path for path, data in files.items()
                   if path not in there or path.read_bytes() != data)
    if options.check:
        wrong = [str(path) for path in superfluous + stale]
        sys.exit("not what make_vectors.py makes:\n" + "\n".join(wrong) if wrong else 0)
    for path in superfluous:
        path.unlink()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files[path])
    print(f"{len(stale)} files written, {len(superfluous)} removed")


if __name__ == "__main__":
    main()
