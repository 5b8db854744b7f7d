#!/usr/bin/env python3
"""A second decoder of zipllm archives, written from format-spec/ alone.

It exists to prove that the specification is complete: it shares no code with the library, reads
an archive front to back as from a pipe, and refuses all that the specification says a decoder
MUST refuse. It is slow. Needs Python 3.9 and, for Zstandard, the package `zstandard` or the
command `zstd`. Text is decoded by spec_text.c where the command `cc` is there, else by Python that
does the same in minutes.

usage: spec_decoder.py [--list | --dump] [-o DIR] [--max-memory MIB] [--base PATH]... ARCHIVE

Without an option it decodes and checks everything and writes nothing. ARCHIVE may be `-`. What the
archive was coded against is looked for in the files and folders given by --base: in tensors of
safetensors files and of archives. Exit status: 0 done, 1 refused or failed, 2 wrong usage. What is
refused is told as `damaged`, `too new`, `over the limit` or `needs a base`.
"""
import argparse
import bisect
import collections
import copy
import ctypes
import dataclasses
import functools
import hashlib
import itertools
import json
import lzma
import math
import operator
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile

from xxh3 import xxh3_64


class Refused(Exception):
    """An archive that cannot be decoded; the message tells why."""
    word = "refused"


class Damaged(Refused):
    """A MUST of the specification is broken, or bytes are missing."""
    word = "damaged"


class TooNew(Refused):
    """Made by a newer writer, for a newer reader."""
    word = "too new"


class OverLimit(Refused):
    """Needs more memory than the caller allows."""
    word = "over the limit"


class NeedsBase(Refused):
    """Coded against a tensor that none of the bases has."""
    word = "needs a base"


class Lacking(Exception):
    """A base that may not be used for this: what is coded against it is passed over."""


def check(condition, message):
    if not condition:
        raise Damaged(message)


# ---------------------------------------------------------------------------------------------
# Numbers


class Fields:
    """Reads the fields of a run of bytes one after the other; `trace` sees each of them."""

    def __init__(self, data, offset=0, trace=None):
        self._data = data
        self._pos = 0
        self._offset = offset  # of data[0] in the archive
        self._trace = trace

    def _note(self, begin, name, value):
        if self._trace:
            self._trace(self._offset + begin, self._data[begin:self._pos], name, value)

    def _take(self, count, name):
        check(count <= len(self._data) - self._pos, f"{name}: cut off")
        self._pos += count
        return self._data[self._pos - count:self._pos]

    def left(self):
        return len(self._data) - self._pos

    def bytes(self, count, name):
        value = self._take(count, name)
        self._note(self._pos - count, name, None)
        return value

    def number(self, size, name):
        value = int.from_bytes(self._take(size, name), "little")
        self._note(self._pos - size, name, value)
        return value

    def u8(self, name):
        return self.number(1, name)

    def u16(self, name):
        return self.number(2, name)

    def u32(self, name):
        return self.number(4, name)

    def u64(self, name):
        return self.number(8, name)

    def _varint(self, name):
        value = 0
        for i in range(10):
            byte = self._take(1, name)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                check(byte or i == 0, f"{name}: varint is not the shortest")
                check(value < 1 << 64, f"{name}: varint above 64 bits")
                return value
        raise Damaged(f"{name}: varint of more than ten bytes")

    def varint(self, name, lowest=0, highest=(1 << 64) - 1):
        begin = self._pos
        value = self._varint(name)
        check(lowest <= value <= highest, f"{name}: {value} is not in {lowest} to {highest}")
        self._note(begin, name, value)
        return value

    def svarint(self, name):
        begin = self._pos
        coded = self._varint(name)
        value = coded >> 1 ^ -(coded & 1)
        self._note(begin, name, value)
        return value

    def string(self, name, longest, shortest=0):
        begin = self._pos
        size = self._varint(name)
        check(shortest <= size <= longest, f"{name}: length {size}")
        value = self._take(size, name)
        self._note(begin, name, value)
        return value

    def end(self, name):
        check(self.left() == 0, f"{name}: {self.left()} bytes left over")


# ---------------------------------------------------------------------------------------------
# Codecs. `parse` makes parameters of their bytes; `decode` makes decoded bytes of (coded bytes,
# parameters or None, decoded size), and its caller checks how many they are.


def decode_stored(coded, parameters, size):
    return coded


def decode_fill(coded, parameters, size):
    check(len(coded) in (1, 2, 4, 8, 16), f"fill: pattern of {len(coded)} bytes")
    check(len(coded) <= size, "fill: pattern longer than the block")
    return (coded * (size // len(coded) + 1))[:size]


ZSTD_WINDOW_LIMIT = 64 << 20


def check_zstd_frame(coded):
    """One frame with the six header bytes of codec 3, and nothing after it."""
    fields = Fields(coded)
    check(fields.bytes(4, "zstd: magic number") == b"\x28\xb5\x2f\xfd", "zstd: wrong magic number")
    check(fields.u8("zstd: descriptor") == 0, "zstd: header of another form")
    window = fields.u8("zstd: window descriptor")
    base = 1 << 10 + (window >> 3)
    check(base + base // 8 * (window & 7) <= ZSTD_WINDOW_LIMIT, "zstd: window too large")
    last = False
    while not last:
        header = fields.number(3, "zstd: block header")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        check(kind != 3, "zstd: reserved block type")
        fields.bytes(1 if kind == 1 else size, "zstd: block")
    fields.end("zstd: frame")


def decode_zstd(coded, parameters, size):
    check_zstd_frame(coded)
    try:
        import zstandard
    except ImportError:
        return run_zstd(coded, size)
    try:
        decoder = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_LIMIT)
        return decoder.stream_reader(coded).read(size + 1)
    except zstandard.ZstdError as error:
        raise Damaged(f"zstd: {error}") from error


def run_zstd(coded, size):
    with tempfile.TemporaryFile() as file:
        file.write(coded)
        file.seek(0)
        with subprocess.Popen(["zstd", "-d", "-c", "-q"], stdin=file, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            decoded = process.stdout.read(size + 1)
            if len(decoded) <= size:
                message = process.stderr.read().decode(errors="replace").strip()
                check(process.wait() == 0, f"zstd: {message}")
            else:
                process.kill()
    return decoded


def parse_lzma(parameters):
    """The dictionary size."""
    check(len(parameters) == 1, "lzma: parameters are not one byte")
    code = parameters[0]
    check(code <= 28, f"lzma: dictionary size code {code}")
    return (2 + code % 2) << code // 2 + 11


def decode_lzma(coded, dictionary, size):
    check(dictionary, "lzma: no parameters")
    dictionary = min(dictionary, max(4096, size))
    try:
        decoder = lzma.LZMADecompressor(
            lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": dictionary}])
        decoded = decoder.decompress(coded, max_length=size + 1)
        # The end chunk makes no bytes: it may still be unread when all bytes are there.
        if len(decoded) == size and not decoder.eof:
            decoded += decoder.decompress(b"", max_length=1)
    except lzma.LZMAError as error:
        raise Damaged(f"lzma: {error}") from error
    check(decoder.eof, "lzma: no end where the block ends")
    check(not decoder.unused_data, "lzma: bytes after the end")
    return decoded


def parse_planes(parameters):
    """The size of an element."""
    check(parameters in (b"\x02", b"\x04", b"\x08"), "planes: wrong parameters")
    return parameters[0]


def decode_planes(coded, width, size):
    check(width, "planes: no parameters")
    count, rest = divmod(size, width)
    check(count, "planes: block without an element")
    fields = Fields(coded)
    transform = fields.u8("planes: transform")
    check(transform <= 1, f"planes: unknown transform {transform}")
    elements = bytearray(count * width)
    for i in range(width):
        elements[i::width] = decode_plane(fields, count)
    if transform == 1:
        letter = {2: "H", 4: "I", 8: "Q"}[width]
        numbers = list(struct.unpack(f"<{count}{letter}", elements))
        mask = (1 << 8 * width) - 1
        for i in range(1, count):
            numbers[i] = numbers[i - 1] + numbers[i] & mask
        elements = struct.pack(f"<{count}{letter}", *numbers)
    tail = fields.bytes(rest, "planes: left over")
    fields.end("planes")
    return bytes(elements) + tail


def decode_plane(fields, count):
    kind = fields.u8("planes: kind")
    if kind == 0:
        return fields.bytes(count, "planes: raw plane")
    if kind == 1:
        return fields.bytes(1, "planes: fill") * count
    check(kind == 2, f"planes: unknown kind {kind}")
    size = fields.varint("planes: size")
    plane = decode_zstd(fields.bytes(size, "planes: zstd plane"), None, count)
    check(len(plane) == count, f"planes: {len(plane)} bytes instead of {count}")
    return plane


# Codec 5. A plane is (width, shift).
FloatKind = collections.namedtuple("FloatKind", "bytes key_shift greatest_exponent low high")
BF16_PLANES = ((4, 0), (1, 4), (1, 15))
FLOAT_KINDS = {
    1: FloatKind(2, 5, 255, (), BF16_PLANES),
    2: FloatKind(2, 8, 31, (), ((1, 0), (1, 1), (1, 2), (4, 3), (1, 7), (1, 15))),
    3: FloatKind(4, 5, 255, ((8, 0), (4, 8), (1, 12), (1, 13), (1, 14), (1, 15)), BF16_PLANES),
}
LANES = 32
ESCAPE = (None, None)

FloatParameters = collections.namedtuple("FloatParameters", "kind tables")


def parse_float(parameters):
    """The kind, and for each table the (exponent, top of mantissa), frequency, rank of each slot.

    A bare exponent has None for the mantissa, the escape for both.
    """
    fields = Fields(parameters)
    kind = FLOAT_KINDS.get(fields.u8("float: kind"))
    check(kind, "float: unknown kind")
    count = fields.u8("float: number of exponents")
    check(count <= 31, "float: too many exponents")
    exponents = fields.bytes(count, "float: exponents")
    check(all(a < b for a, b in zip(exponents, exponents[1:])), "float: exponents out of order")
    check(not exponents or exponents[-1] <= kind.greatest_exponent, "float: exponent too large")
    joined = fields.number((count + 7) // 8, "float: joined")
    check(joined >> count == 0, "float: joined bits beyond the exponents")
    symbols = []
    for i, exponent in enumerate(exponents):
        symbols += [(exponent, top) for top in (range(4) if joined >> i & 1 else (None,))]
    symbols.append(ESCAPE)
    check(len(symbols) <= 32, "float: too many symbols")
    tables = []
    number = fields.u8("float: number of tables")
    check(1 <= number <= 4, "float: wrong number of tables")
    for _ in range(number):
        frequencies = [fields.varint("float: frequency", 0, 4096) for _ in symbols[1:]]
        check(sum(frequencies) <= 4096, "float: frequencies above 4096")
        frequencies.append(4096 - sum(frequencies))
        tables.append(float_slots(symbols, frequencies))
    fields.end("float: parameters")
    return FloatParameters(kind, tables)


def float_slots(symbols, frequencies):
    """(symbol, frequency, rank) of each of the 4096 slots."""
    left = frequencies + [0] * (32 - len(frequencies))
    small = collections.deque(s for s in range(32) if left[s] < 128)
    large = collections.deque(s for s in range(32) if left[s] >= 128)
    buckets = {}
    while small:
        s, donor = small.popleft(), large[0]
        buckets[s] = [s] * left[s] + [donor] * (128 - left[s])
        left[donor] -= 128 - left[s]
        if left[donor] < 128:
            small.append(large.popleft())
    for s in large:
        buckets[s] = [s] * 128
    slots, seen = [], [0] * 32
    for bucket in range(32):
        for s in buckets[bucket]:
            slots.append((symbols[s], frequencies[s], seen[s]))
            seen[s] += 1
    return slots


def decode_float(coded, parameters, size):
    check(parameters, "float: no parameters")
    kind = parameters.kind
    count, rest = divmod(size, kind.bytes)
    check(rest == 0, "float: block with a part of an element")
    fields = Fields(coded)
    keys = decode_keys(fields, parameters, count)
    high = [key << kind.key_shift for key in keys]
    low = [0] * count
    for units, planes in ((low, kind.low), (high, kind.high)):
        for width, shift in planes:
            for i, bits in enumerate(decode_float_plane(fields, width, count)):
                units[i] |= bits << shift
    fields.end("float")
    if kind.bytes == 2:
        return struct.pack(f"<{count}H", *high)
    return struct.pack(f"<{count}I", *(a << 16 | b for a, b in zip(high, low)))


def decode_keys(fields, parameters, count):
    streams = 4 if count >= 65536 else 1
    steps = -(-count // (LANES * streams))
    sizes = [[fields.varint("float: " + name, 0, LANES * steps)
              for name in ("number of words", "number of pairs", "number of escapes")]
             for _ in range(streams)]
    selectors = [0] * -(-count // 1024)
    if len(parameters.tables) > 1:
        packed = fields.number((len(selectors) + 3) // 4, "float: selectors")
        selectors = [packed >> 2 * i & 3 for i in range(len(selectors))]
        check(packed >> 2 * len(selectors) == 0, "float: selectors beyond the last")
        check(max(selectors) < len(parameters.tables), "float: selector of no table")
    keys = [0] * (steps * LANES * streams)
    for stream, (words, pairs, escapes) in enumerate(sizes):
        decode_stream(fields, parameters, selectors, keys, range(
            stream * LANES, len(keys), streams * LANES), words, pairs, escapes)
    return keys[:count]


def decode_stream(fields, parameters, selectors, keys, steps, words, pairs, escapes):
    """Fills keys[first] to keys[first + 31] for each `first` of `steps`."""
    states = list(struct.unpack("<32I", fields.bytes(4 * LANES, "float: states")))
    words = iter(struct.unpack(f"<{words}H", fields.bytes(2 * words, "float: words")))
    packed = fields.bytes((pairs + 3) // 4, "float: extra bits")
    values = [byte >> bit & 3 for byte in packed for bit in (0, 2, 4, 6)]
    check(not any(values[pairs:]), "float: extra bits beyond the last")
    pairs = iter(values[:pairs])
    escapes = iter(fields.bytes(escapes, "float: escapes"))
    try:
        for first in steps:
            slots = parameters.tables[selectors[first // 1024]]
            for lane in range(LANES):
                state = states[lane]
                (exponent, top), frequency, rank = slots[state & 4095]
                state = frequency * (state >> 12) + rank
                if state < 65536:
                    state = state << 16 | next(words)
                states[lane] = state
                if top is None:
                    top = next(pairs)
                if exponent is None:
                    exponent = next(escapes)
                    check(exponent <= parameters.kind.greatest_exponent, "float: escape too large")
                keys[first + lane] = exponent << 2 | top
    except StopIteration:
        raise Damaged("float: a stream ends early") from None
    check(all(state == 65536 for state in states), "float: wrong last state")
    check(not any(list(left) for left in (words, pairs, escapes)), "float: left over in a stream")


def decode_float_plane(fields, width, count):
    groups = -(-count // 128)
    group_size = 16 * width
    mode = fields.u8("float: mode of a plane")
    check(mode <= 3, f"float: unknown mode {mode} of a plane")
    if mode == 0:
        return [0] * count
    if mode == 1:
        data = fields.bytes(group_size * groups, "float: raw plane")
    elif mode == 2:
        there = fields.number((groups + 7) // 8, "float: runs")
        check(there >> groups == 0, "float: runs beyond the last group")
        data = b"".join(fields.bytes(group_size, "float: group") if there >> g & 1
                        else bytes(group_size) for g in range(groups))
    else:
        packed = fields.bytes(fields.varint("float: size of a plane"), "float: zstd plane")
        data = decode_zstd(packed, None, group_size * groups)
        check(len(data) == group_size * groups, "float: plane of another size")
    if width == 8:
        values = data
    elif width == 4:
        values = []
        for begin in range(0, len(data), 64):
            group = data[begin:begin + 64]
            values += [byte & 15 for byte in group] + [byte >> 4 for byte in group]
    else:
        values = [byte >> bit & 1 for byte in data for bit in range(8)]
    return values[:count]


# Codec 7. `low` is the number of low bits, `three` where the planes of mode 2 begin.
CascadeKind = collections.namedtuple("CascadeKind", "bytes greatest_exponent low three modes")
CASCADE_KINDS = {
    1: CascadeKind(2, 255, 0, 0, (0, 1)),
    2: CascadeKind(2, 31, 3, 0, (0, 1, 2, 4)),
    3: CascadeKind(4, 255, 16, 13, (0, 1, 2, 3, 4)),
}
GROUP = 128

CascadeParameters = collections.namedtuple("CascadeParameters", "kind layers")


def parse_cascade(parameters):
    """The kind, and for each layer the width of its codes and their exponents."""
    fields = Fields(parameters)
    kind = CASCADE_KINDS.get(fields.u8("cascade: kind"))
    check(kind, "cascade: unknown kind")
    count = fields.u8("cascade: number of layers")
    check(1 <= count <= 8, "cascade: wrong number of layers")
    layers = []
    for _ in range(count):
        width = fields.u8("cascade: width")
        check(width in (1, 2, 4), f"cascade: codes of {width} bits")
        exponents = fields.bytes((1 << width) - 1, "cascade: exponents")
        check(max(exponents) <= kind.greatest_exponent, "cascade: exponent too large")
        layers.append((width, exponents))
    fields.end("cascade: parameters")
    return CascadeParameters(kind, layers)


def decode_cascade(coded, parameters, size):
    check(parameters, "cascade: no parameters")
    kind, layers = parameters
    count, rest = divmod(size, kind.bytes)
    check(rest == 0, "cascade: block with a part of an element")
    fields = Fields(coded)
    modes = []  # of the groups
    groups = -(-count // GROUP)
    while len(modes) < groups:
        run = fields.varint("cascade: run")
        mode, length = run & 7, run >> 3
        check(mode in kind.modes, f"cascade: mode {mode} of a run")
        check(1 <= length <= groups - len(modes), f"cascade: run of {length} groups")
        modes += [mode] * length
    there = sum(mode != 0 for mode in modes)
    sizes = [there]
    for _ in layers[1:]:
        sizes.append(fields.varint("cascade: groups of a layer", 0, sizes[-1]))
    raw = fields.varint("cascade: number of raw exponents", 0, GROUP * sizes[-1])
    codes = [fields.bytes(16 * width * length, "cascade: codes")
             for (width, _), length in zip(layers, sizes)]
    exponents = fields.bytes(raw, "cascade: raw exponents")
    check(not exponents or max(exponents) <= kind.greatest_exponent,
          "cascade: raw exponent too large")
    rests = iter(fields.bytes(GROUP * there, "cascade: rests"))
    wanted = raw
    for (width, named), length, packed in reversed(list(zip(layers, sizes, codes))):
        values = cascade_codes(width, packed)
        escapes = values.count((1 << width) - 1)
        check(wanted == (escapes if packed is codes[-1] else -(-escapes // GROUP)),
              "cascade: wrong number of escapes")
        below = iter(exponents)
        exponents = [named[value] if value < len(named) else next(below) for value in values]
        wanted = length
    exponents = iter(exponents)
    elements = []
    for mode in modes:
        if mode == 0:
            elements += [0] * GROUP
            continue
        for low in cascade_low(fields, kind, mode):
            byte = next(rests)
            magnitude = (next(exponents) << 7 | byte >> 1) << kind.low | low
            elements.append(magnitude | (byte & 1) << 8 * kind.bytes - 1)
    fields.end("cascade")
    return struct.pack(f"<{count}{'I' if kind.bytes == 4 else 'H'}", *elements[:count])


def cascade_codes(width, packed):
    values = []
    for begin in range(0, len(packed), 16 * width):
        group = packed[begin:begin + 16 * width]
        if width == 1:
            values += [byte >> bit & 1 for byte in group for bit in range(8)]
        else:
            values += [byte >> bit & (1 << width) - 1 for bit in range(0, 8, width)
                       for byte in group]
    return values


def cascade_low(fields, kind, mode):
    """The low bits of a group's elements."""
    if mode == 1:
        return [0] * GROUP
    if mode == 2:
        planes = [fields.number(GROUP // 8, "cascade: plane") for _ in range(3)]
        return [sum((plane >> i & 1) << kind.three + p for p, plane in enumerate(planes))
                for i in range(GROUP)]
    if mode == 3:
        return struct.unpack(f"<{GROUP}H", fields.bytes(2 * GROUP, "cascade: low bits"))
    low = [0] * GROUP
    previous = -1
    for _ in range(fields.u8("cascade: number of elements")):
        position = fields.u8("cascade: element")
        check(previous < position < GROUP, f"cascade: element {position} of a group")
        low[position] = fields.number(kind.bytes // 2, "cascade: low bits")
        check(low[position] >> kind.low == 0, "cascade: too many low bits")
        previous = position
    return low


# Codec 8. A plane is (width, shift); keys are `key_bits` bits from `key_shift` on.
ClassKind = collections.namedtuple("ClassKind", "bytes key_shift key_bits sign low high")
CLASS_KINDS = {
    1: ClassKind(1, 0, 8, None, (), ()),
    2: ClassKind(1, 0, 7, 7, (), ()),
    3: ClassKind(2, 4, 11, 15, (), ((4, 0),)),
    4: ClassKind(2, 7, 8, 15, (), ((1, 0), (1, 1), (1, 2), (4, 3))),
    5: ClassKind(4, 4, 11, 15, ((8, 0), (4, 8), (1, 12), (1, 13), (1, 14), (1, 15)), ((4, 0),)),
}
BY_ROWS, BY_COLUMNS, BY_SIGNS = 1, 2, 4
SCALES = 64

ClassParameters = collections.namedtuple(
    "ClassParameters", "kind flags row group_bits exact keys escape offsets skews classes tables")


class Bits:
    """A field of bits."""

    def __init__(self, fields, what):
        self.what = what
        data = fields.bytes(fields.varint(what + ": size"), what)
        self.left = 8 * len(data)
        self.value = int.from_bytes(data, "little")

    def take(self, count):
        check(count <= self.left, f"{self.what}: too few bits")
        value = self.value & (1 << count) - 1
        self.value >>= count
        self.left -= count
        return value

    def end(self):
        check(self.left < 8 and self.value == 0, f"{self.what}: bits left over")


class AdaptiveCode:
    def __init__(self):
        self.sum = self.count = 1

    def take(self, bits):
        k = next((k for k in range(24) if self.count << k >= self.sum), 24)
        ones = 0
        while ones < 16 and bits.take(1):
            ones += 1
        value = bits.take(32) if ones == 16 else ones << k | bits.take(k)
        self.sum += value
        self.count += 1
        if self.count == 32:
            self.sum //= 2
            self.count = 16
        return value

    def take_signed(self, bits):
        value = self.take(bits)
        return -(value + 1) // 2 if value % 2 else value // 2


def class_offsets(bits, count):
    code, last, offsets = AdaptiveCode(), 64, []
    for _ in range(count):
        last += code.take_signed(bits)
        check(0 <= last <= 127, f"{bits.what}: offset {last}")
        offsets.append(last)
    return offsets


def parse_classes(parameters):
    fields = Fields(parameters)
    kind = CLASS_KINDS.get(fields.u8("classes: kind"))
    check(kind, "classes: unknown kind")
    flags = fields.u8("classes: flags")
    check(flags < (4 if kind.sign is None else 8), f"classes: unknown flags {flags}")
    has_columns = flags & (BY_COLUMNS | BY_SIGNS)
    row = fields.varint("classes: row", 1, 1 << 19 if has_columns else 1 << 40) if flags else 1
    bits = Bits(fields, "classes: parameters")

    group_bits, exact, groups = bits.take(3), bits.take(8), bits.take(8)
    escape = 255 if kind.sign is None else 127
    check(exact + groups <= escape, "classes: too many symbols")
    code, keys = AdaptiveCode(), []
    for count, shift in ((exact, 0), (groups, group_bits)):
        key = -1
        for _ in range(count):
            key += 1 + code.take(bits)
            check(key << shift >> kind.key_bits == 0, "classes: key too large")
            keys.append(key << shift)

    offsets, skews = [64], [0]
    if has_columns:
        offsets = class_offsets(bits, row) if flags & BY_COLUMNS else [64] * row
        code = AdaptiveCode()
        skews = [code.take_signed(bits) if flags & BY_SIGNS else 0 for _ in range(row)]
        check(all(-3 <= skew <= 3 for skew in skews), "classes: skew out of range")
    code, classes, number = AdaptiveCode(), [], 0
    while len(classes) < SCALES * (4 if flags & BY_SIGNS else 1):
        run = code.take(bits) + 1
        check(run <= SCALES - len(classes) % SCALES, "classes: run of scales too long")
        classes += [number] * run
        number += 1
    check(number <= 64, "classes: too many classes")
    bits.end()

    tables = class_tables(fields)
    check(len(tables) == number, "classes: wrong number of tables")
    for table in tables:
        for symbol, _, _ in set(table):
            check(symbol & escape < len(keys) or symbol & escape == escape,
                  f"classes: frequency of symbol {symbol}")
    fields.end("classes: parameters")
    return ClassParameters(kind, flags, row, group_bits, exact, keys, escape, offsets, skews,
                           classes, tables)


def class_tables(fields):
    """By slot: symbol, frequency, rank."""
    bits = Bits(fields, "classes: tables")
    number = bits.take(6) + 1
    code, used, is_used = AdaptiveCode(), [], False
    while len(used) < 256:
        run = code.take(bits)
        check(run or not used, "classes: empty run of symbols")
        check(run <= 256 - len(used), "classes: run of symbols too long")
        used += [is_used] * run
        is_used = not is_used
    codes, before, tables = [AdaptiveCode() for _ in range(14)], None, []
    for _ in range(number):
        if not bits.take(1):
            tables.append([(0, 1, 0)] * 4096)
            continue
        expected, table, slots = 0, {}, []
        for symbol in range(256):
            if not used[symbol]:
                continue
            if before is not None:
                expected = before[symbol]
            expected += codes[expected.bit_length()].take_signed(bits)
            check(0 <= expected <= 4096 - len(slots), "classes: frequency out of range")
            table[symbol] = expected
            slots += [(symbol, expected, rank) for rank in range(expected)]
        check(len(slots) == 4096, "classes: frequencies do not add up to 4096")
        before = table
        tables.append(slots)
    bits.end()
    return tables


def decode_classes(coded, parameters, size):
    check(parameters, "classes: no parameters")
    kind = parameters.kind
    count, rest = divmod(size, kind.bytes)
    check(rest == 0, "classes: block with a part of an element")
    fields = Fields(coded)
    phase = 0
    if parameters.flags:
        phase = fields.varint("classes: column", 0, parameters.row - 1)
    rows = None
    if parameters.flags & BY_ROWS:
        bits = Bits(fields, "classes: rows")
        number = (phase + count - 1) // parameters.row + 1
        check(number <= bits.left, "classes: too few bits for the rows")
        rows = class_offsets(bits, number)
        bits.end()

    tables, turned = [], []
    for i in range(count):
        row, column = divmod(phase + i, parameters.row)
        column %= len(parameters.offsets)  # 0 where there are no columns
        scale = (rows[row] if rows else 64) + parameters.offsets[column] - 96
        skew = parameters.skews[column]
        context = SCALES * abs(skew) + min(max(scale, 0), SCALES - 1)
        tables.append(parameters.tables[parameters.classes[context]])
        turned.append(skew < 0)
    symbols = decode_class_rans(fields, tables)

    bits = Bits(fields, "classes: extra bits")
    high, low = [], [0] * count
    for symbol, turn in zip(symbols, turned):
        symbol ^= 0x80 if turn else 0
        number = symbol & parameters.escape
        if number == parameters.escape:
            key = bits.take(kind.key_bits)
        else:
            key = parameters.keys[number] if number < len(parameters.keys) else 0
            if number >= parameters.exact:
                key += bits.take(parameters.group_bits)
        high.append(key << kind.key_shift | (0 if kind.sign is None else symbol >> 7 << kind.sign))
    bits.end()
    for units, planes in ((low, kind.low), (high, kind.high)):
        for width, shift in planes:
            for i, plane in enumerate(decode_float_plane(fields, width, count)):
                units[i] |= plane << shift
    fields.end("classes")
    if kind.bytes == 4:
        return struct.pack(f"<{count}I", *(a << 16 | b for a, b in zip(high, low)))
    return struct.pack(f"<{count}{'BH'[kind.bytes - 1]}", *high)


def decode_class_rans(fields, tables):
    """One symbol by each of `tables`."""
    streams = 4 if len(tables) >= 262144 else 1
    step = LANES * streams
    steps = -(-len(tables) // step)
    tables = tables + [tables[-1]] * (steps * step - len(tables))
    sizes = [fields.varint("classes: number of words", 0, LANES * steps) for _ in range(streams)]
    symbols = [0] * len(tables)
    for stream, size in enumerate(sizes):
        states = list(struct.unpack("<32I", fields.bytes(4 * LANES, "classes: states")))
        words = iter(struct.unpack(f"<{size}H", fields.bytes(2 * size, "classes: words")))
        try:
            for first in range(stream * LANES, len(tables), step):
                for lane in range(LANES):
                    state = states[lane]
                    symbol, frequency, rank = tables[first + lane][state & 4095]
                    state = frequency * (state >> 12) + rank
                    states[lane] = state << 16 | next(words) if state < 65536 else state
                    symbols[first + lane] = symbol
        except StopIteration:
            raise Damaged("classes: a stream ends early") from None
        check(all(state == 65536 for state in states), "classes: wrong last state")
        check(next(words, None) is None, "classes: words left over")
    return symbols


def parse_swapped(parameters):
    """Bytes of an element, the inner codec, and what it made of its parameters."""
    fields = Fields(parameters)
    width = fields.u8("swapped: w")
    check(width in (2, 4, 8), f"swapped: elements of {width} bytes")
    number = fields.u8("swapped: inner codec")
    inner = CODECS.get(number)
    check(inner and inner.decode and inner.decode is not decode_swapped,
          f"swapped: codec {number} inside")
    rest = parameters[2:]
    check(inner.parse or not rest, "swapped: parameters of a codec that has none")
    return width, inner, inner.parse(rest) if inner.parse else None


def decode_swapped(coded, parameters, size):
    check(parameters, "swapped: no parameters")
    width, inner, inner_parameters = parameters
    check(size % width == 0, "swapped: block with a part of an element")
    plain = inner.decode(coded, inner_parameters, size)
    return b"".join(plain[i:i + width][::-1] for i in range(0, size, width))


# Codec 10

MIX_KINDS = {  # bytes, mantissa bits, greatest exponent, zeros
    1: (2, 7, 255, (4,)), 2: (2, 10, 31, (3, 7)), 3: (4, 23, 255, (13, 16)),
    4: (1, 3, 15, ()), 5: (1, 2, 31, ()), 6: (1, 0, 7, ())}
MIX_INTEGERS = 6
# Types of ggml, and the symbols of their anchors.
MIX_ANCHORS = {66: ((0,),), 67: ((0,), (15,)), 70: ((0,),), 71: ((0,), (31,)),
               72: ((127, 129),), 73: ((127, 129),), 74: ((0,), (3,)), 75: ((0,), (7,)),
               76: ((0,), (15,)), 77: ((0,), (31,)), 78: ((0,), (63,)), 84: ((0,),), 87: ((0,),)}
MIX_NOT_LINEAR = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MIX_MAX_BLOCK = 1 << 22

MixParameters = collections.namedtuple("MixParameters", "kind modelled unit ridges zeros row")


def parse_mix(parameters):
    fields = Fields(parameters)
    kind = fields.u8("mix: kind")
    check(kind in MIX_KINDS or kind in MIX_ANCHORS, f"mix: kind {kind}")
    _, mantissa, greatest, _ = MIX_KINDS.get(kind, (0, 0, 63, ()))
    modelled = fields.u8("mix: modelled bits")
    check(modelled <= min(6, mantissa), f"mix: {modelled} modelled bits")
    unit = fields.u8("mix: unit")
    check(unit <= greatest, f"mix: unit {unit}")
    ridges = (fields.u8("mix: ridge"), fields.u8("mix: ridge"))
    zeros = fields.u8("mix: zeros")
    check(zeros <= (kind in MIX_KINDS), f"mix: zeros {zeros}")
    row = fields.varint("mix: row", 0, 1 << 32)
    fields.end("mix parameters")
    return MixParameters(kind, modelled, unit, ridges, zeros, row)


def clamp(value, least, greatest):
    return least if value < least else greatest if value > greatest else value


def divide(a, b):
    """Rounds towards zero; b is positive."""
    return a // b if a >= 0 else -(-a // b)


def make_squash():
    squash, exponential = {}, 1 << 32
    for x in range(2048):
        total = (1 << 32) + exponential
        squash[x] = ((1 << 48) + total // 2) // total
        squash[-x] = 65536 - squash[x]
        exponential = (exponential * 4278222805 + (1 << 31)) >> 32
    return squash


def make_stretch(squash):
    stretch, x = [], -2047
    for p in range(4096):
        while x < 2047 and squash[x] < p * 16 + 8:
            x += 1
        stretch.append(x)
    return stretch


def make_distribution():
    parts = [[31, 1 << 32, 4294443040, 4293918848], [1, 1 << 32, 4294909042, 4294850789]]
    sums = [0]
    for _ in range(512):
        before = sum(share * g for share, g, _, _ in parts)
        for part in parts:
            part[1] = part[1] * part[2] >> 32
            part[2] = part[2] * part[3] >> 32
        sums.append(sums[-1] + before + sum(share * g for share, g, _, _ in parts))
    half = [((s >> 20) << 29) // (sums[512] >> 20) for s in sums]
    return [(1 << 29) - h for h in half[:0:-1]] + [(1 << 29) + h for h in half]


SQUASH = make_squash()
STRETCH = make_stretch(SQUASH)
DISTRIBUTION = make_distribution()
LOG2 = [math.floor(4096 * math.log2(1 + j / 1024) + 0.5) for j in range(1024)]


def distribution(z):
    place = clamp(z, -(1 << 19), (1 << 19) - 1) + (1 << 19)
    i = place >> 10
    return DISTRIBUTION[i] + ((DISTRIBUTION[i + 1] - DISTRIBUTION[i]) * (place & 1023) >> 10)


def log2(x):
    top = x.bit_length() - 1
    return 4096 * top + LOG2[((x << 40 - top) >> 30) & 1023]


def wrap32(x):
    return (x + (1 << 31)) % (1 << 32) - (1 << 31)


class AdaptiveBit:
    """[probability of 2^22, count]"""

    def __init__(self, probability=1 << 21, count=0):
        self.probability, self.count = probability, count

    def predict(self):
        return self.probability >> 6

    def learn(self, bit, limit=1020):
        target = (1 << 22) - 1 if bit else 0
        step = 131072 // (2 * self.count + 3)
        self.probability += (target - self.probability) * step >> 16
        self.count += self.count < limit


class Average:
    def __init__(self, value):
        self.value, self._count = value, 0

    def add(self, x, limit):
        self.value += divide(x - self.value, self._count + 2)
        self._count += self._count < limit


class BitCoder:
    def __init__(self, code):
        self._code, self._next = code, 0
        self._low, self._high, self._x = 0, (1 << 32) - 1, 0
        for _ in range(4):
            self._shift()

    def _shift(self):
        byte = self._code[self._next] if self._next < len(self._code) else 0
        self._next += 1
        self._x = (self._x << 8 | byte) & 0xFFFFFFFF

    def code(self, p):
        split = self._low + ((self._high - self._low) * p >> 16)
        bit = self._x <= split
        if bit:
            self._high = split
        else:
            self._low = split + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._low = self._low << 8 & 0xFFFFFFFF
            self._high = (self._high << 8 & 0xFFFFFFFF) | 255
            self._shift()
        return int(bit)

    def adaptive(self, model, limit=1020):
        bit = self.code(clamp(model.predict(), 1, 65535))
        model.learn(bit, limit)
        return bit

    def ended(self):
        return self._next == len(self._code) + 3


class RowPredictor:
    def __init__(self, columns, ridge):
        groups = (columns + 1023) // 1024
        self.prediction = [0] * columns
        self._told = [0] * columns
        self._groups = []
        self._group_of = []
        for g in range(groups):
            first, end = columns * g // groups, columns * (g + 1) // groups
            m = end - first
            self._groups.append({
                "first": first, "m": m, "Dc": [16384], "Lc": [0] * m,
                "D": [m * ridge * 256 + 4096] * m, "L": [[0] * (m - i - 1) for i in range(m)]})
            self._group_of += [g] * m

    def begin(self):
        for group in self._groups:
            for j, factor in enumerate(group["Lc"]):
                self.prediction[group["first"] + j] = (1024 * (factor >> 16)) >> 6

    def tell(self, column, x):
        self._told[column] = x
        v = clamp(x - clamp(self.prediction[column] >> 7, -65535, 65535), -32767, 32767)
        group = self._groups[self._group_of[column]]
        for j, factor in enumerate(group["L"][column - group["first"]], column + 1):
            self.prediction[j] = wrap32(self.prediction[j] + ((v * (factor >> 16)) >> 6))

    def end(self):
        for group in self._groups:
            w = self._told[group["first"]:group["first"] + group["m"]]
            a = self._step(1024, group["Dc"], 0, group["Lc"], w, 0, 1 << 20)
            for i in range(group["m"] - 1):
                y = clamp(w[i], -32767, 32767)
                a = self._step(y, group["D"], i, group["L"][i], w, i + 1, a)

    @staticmethod
    def _step(y, weights, i, factors, w, first, a):
        before = weights[i]
        weights[i] = min(before + (a * y * y >> 28), 1 << 43)
        u = max(0, weights[i].bit_length() - 20)
        q = clamp(divide(y * a * (2 << u), weights[i]), -8192, 8192)
        for j, factor in enumerate(factors):
            rest = w[first + j] = wrap32(w[first + j] - ((y * (factor >> 16)) >> 13))
            factors[j] = wrap32(factor + (wrap32(q * rest + ((1 << u) >> 1)) >> u))
        return a * ((before << 20) // weights[i]) >> 20


class MixExperts:
    """What is thought of elements by column and by line; bits that halve their range."""

    def __init__(self, parameters, columns, coder, first_weights):
        self._coder, self._first_weights = coder, first_weights
        self._predictors = [RowPredictor(columns, ridge) for ridge in parameters.ridges]
        self._scales = [[Average(1 << 18) for _ in range(columns)] for _ in range(3)]
        self._line_scales = [Average(4096) for _ in range(3)]
        self._models = {}
        self._weights = {}

    def begin_line(self):
        for predictor in self._predictors:
            predictor.begin()
        self._sum = [12 * scale.value for scale in self._line_scales]
        self._n = 12

    def end_line(self):
        for predictor in self._predictors:
            predictor.end()
        if self._n > 12:
            for k in range(3):
                self._line_scales[k].add(self._sum[k] // self._n, 62)

    def skip(self, column):
        for predictor in self._predictors:
            predictor.tell(column, predictor.prediction[column] >> 7)

    def begin(self, column):
        self._means = [2 * predictor.prediction[column] for predictor in self._predictors] + [0]
        self._scale = [max(self._scales[k][column].value, 16) for k in range(3)]
        self.mean = list(self._means)
        self.dev = [
            clamp((self._scale[k] * (self._sum[k] // self._n) >> 12) * 19 >> 4, 64, 1 << 34)
            for k in range(3)]
        self._low, self._high = [0] * 3, [1 << 30] * 3

    def mirror(self):
        self.mean = [-mean for mean in self.mean]
        self._low, self._high = ([(1 << 30) - x for x in self._high],
                                 [(1 << 30) - x for x in self._low])

    def model(self, *context, start=None):
        if context not in self._models:
            self._models[context] = AdaptiveBit(*(start or ()))
        return self._models[context]

    def bit(self, bound, node, *contexts):
        inputs, middles, models = [], [], []
        for k in range(3):
            limit = 8 * self.dev[k]
            d = clamp(bound - self.mean[k], -limit, limit)
            middle = distribution(d * ((1 << 40) // self.dev[k]) >> 24)
            ratio = log2(max(self._high[k] - middle, 1)) - log2(max(middle - self._low[k], 1))
            inputs.append(clamp(ratio * 2839 >> 16, -2047, 2047))
            level = (inputs[-1] + 2048) >> 7
            models.append(self.model(k, node, level,
                                     start=(64 * SQUASH[128 * level + 64 - 2048], 6)))
            inputs.append(STRETCH[models[-1].predict() >> 4])
            middles.append(middle)
        for context in contexts:
            models.append(self.model(*context))
            inputs.append(STRETCH[models[-1].predict() >> 4])
        state = self._weights.setdefault(node, MixWeights(self._first_weights))
        bit = state.code(self._coder, inputs, 16)
        for model in models:
            model.learn(bit)
        for k in range(3):
            (self._low if bit else self._high)[k] = middles[k]
        return bit

    def end(self, column, value):
        for predictor in self._predictors:
            predictor.tell(column, clamp(value >> 8, -32767, 32767))
        for k in range(3):
            v = min(abs(value - self._means[k]), 1 << 24)
            self._sum[k] += min((v << 12) // self._scale[k], 64 * 4096)
            self._scales[k][column].add(v * 4096 // max(self._sum[k] // (self._n + 1), 64), 250)
        self._n += 1


class MixWeights:
    def __init__(self, weights):
        self._weights, self._count = list(weights), 0

    def code(self, coder, inputs, slowest):
        mix = (sum(w * x for w, x in zip(self._weights, inputs)) + 32768) >> 16
        p = SQUASH[clamp(mix, -2047, 2047)]
        bit = coder.code(clamp(p, 1, 65535))
        error = 65536 * bit - p
        u = min(slowest, 13 + (self._count >> 5))
        self._count = min(self._count + 1, 1024)
        self._weights = [clamp(w + ((x * error + (1 << u - 1)) >> u), -(1 << 19), 1 << 19)
                         for w, x in zip(self._weights, inputs)]
        return bit


class MixNumbers:
    """The models of one block of numbers, and the elements that they decode."""

    def __init__(self, parameters, columns, coder):
        self._p, self._coder = parameters, coder
        self._size, self._m, self._greatest, self._z = MIX_KINDS[parameters.kind]
        self._integer = parameters.kind == MIX_INTEGERS
        self._tail = 0 if self._integer else self._m - parameters.modelled
        self._experts = MixExperts(parameters, columns, coder,
                                   (16000, 16000, 10000, 10000, 6000, 6000, 2000))
        self._above = [0] * columns
        self.end_line, self.skip = self._experts.end_line, self._experts.skip

    def begin_line(self):
        self._experts.begin_line()
        self._left = 0

    def _significand(self, exponent, mantissa):
        if self._integer:
            return (1 << exponent - 1) + mantissa if exponent else 0
        return mantissa + (1 << self._m if exponent else 0)

    def _scaled(self, halves, exponent):
        """halves / 2 times what the exponent says."""
        w = max(exponent, 1) - self._m - self._p.unit + 18
        if w <= 0:
            return halves >> min(1 - w, 63)
        return 1 << 34 if w + self._m >= 34 else halves << (w - 1)

    def _bound(self, exponent, mantissa, negative):
        g = self._significand(exponent, mantissa)
        if self._integer:
            half = 1 << 17 - self._p.unit
            return 2 * half * g + (half if negative else -half)
        return self._scaled(2 * g - (self._size == 1 and g > 0), exponent)

    def element(self, column):
        """Sign, exponent and mantissa; the tail is 0."""
        self._experts.begin(column)
        zero = -(1 << 17 - self._p.unit) if self._integer else 0
        negative = 1 - self._experts.bit(zero, 0, ("sign",))
        if negative:
            self._experts.mirror()
        exponent, expected = self._exponent(negative)
        mantissa = 0
        bits = max(exponent - 1, 0) if self._integer else self._p.modelled
        for level in range(bits):
            place = (1 << level) - 1 + mantissa if level < 3 else 4 + level
            below = bits - level - 1 + self._tail
            mantissa = 2 * mantissa + self._experts.bit(
                self._bound(exponent, (2 * mantissa + 1) << below, negative),
                21 + 11 * clamp(exponent - expected + 5, 0, 7) + place,
                ("mantissa", exponent, place))
        mantissa <<= self._tail
        self._experts.end(column, self._value(negative, exponent, mantissa))
        return negative, exponent, mantissa

    def _exponent(self, negative):
        y = max(self._experts.mean[0], 0) + (self._experts.dev[0] >> 1)
        top = y.bit_length() - 1
        e = expected = clamp(top - (17 if self._integer else 18) + self._p.unit, 0, self._greatest)

        def at_least(bound, node, direction):
            return self._experts.bit(self._bound(bound, 0, negative), node, (direction, bound))

        steps = 0
        if e < self._greatest and at_least(e + 1, 1, "up"):
            e, steps = e + 1, 1
            while e < self._greatest and steps < 4 and at_least(e + 1, 1 + steps, "up"):
                e, steps = e + 1, steps + 1
            far = steps == 4
        else:
            while e > 0 and steps < 16 and not at_least(e, 5 + steps, "down"):
                e, steps = e - 1, steps + 1
            far = steps == 16
        if far:
            e = 1
            for _ in range(8):
                e = 2 * e + self._coder.adaptive(self._experts.model("far", e), 255)
            e = min(e - 256, self._greatest)
        return e, expected

    def _value(self, negative, exponent, mantissa):
        g = self._significand(exponent, mantissa | (1 << self._tail >> 1))
        value = (g + negative) << (18 - self._p.unit) if self._integer else \
            self._scaled(2 * g, exponent)
        return -value if negative else value

    def zeros(self, column, all_zero):
        index = z = 0
        context = ("zeros", self._left, self._above[column], all_zero)
        while index < len(self._z) and z < self._tail:
            if not self._coder.adaptive(self._experts.model(*context, index)):
                break
            z = min(self._z[index], self._tail)
            index += 1
        self._left = self._above[column] = index
        return z


class MixBlocks:
    """The models of one block of ggml blocks: `decode` makes bytes of the code."""

    def __init__(self, parameters, blocks, coder):
        self._p, self._blocks, self._coder = parameters, blocks, coder
        self.bytes, description = QUANT_TYPES[parameters.kind]
        self._fields = [quant_field(text) for text in description.split(";")]
        self._group, _, self._s_kind, self._s, self._dmin, self._m = \
            QUANT_GROUPS[parameters.kind]
        self._symbols = [[0] * (blocks * field.count) for field in self._fields]
        self.quants = self._fields[-1].count
        self._bits = self._fields[-1].bits
        self._numbers = range(1 << self._bits)
        if parameters.kind in (84, 87):
            self._numbers = MIX_NOT_LINEAR
        elif self._dmin is None:
            self._numbers = [x - (1 << self._bits - 1) for x in self._numbers]

    def side(self):
        models = collections.defaultdict(AdaptiveBit)
        weights = collections.defaultdict(lambda: MixWeights([16000] * 5))
        row = self._p.row // self.quants
        for block in range(self._blocks):
            for f, field in enumerate(self._fields[:-1]):
                for i in range(field.count):
                    self._side_symbol(models, weights, f, i, block, row)

    def _side_symbol(self, models, weights, f, i, block, row):
        field, here = self._fields[f], self._symbols[f]
        at = block * field.count + i
        contexts = [i, 0, 0, 0, here[at - 1] if at > 0 else 0]
        if f > 0 and self._fields[f - 1].count == field.count:
            contexts[0] = self._symbols[f - 1][at]
        if field.hint:
            source = field.hint[0]
            count = self._fields[source].count
            contexts[1] = self._symbols[source][block * count + i * count // field.count]
        if block > 0:
            contexts[2] = here[at - field.count]
        if row and block >= row:
            contexts[3] = here[at - row * field.count]
        node = 1
        for place in reversed(range(field.bits)):
            used = [models[f, k, context, node] for k, context in enumerate(contexts)]
            inputs = [STRETCH[model.predict() >> 4] for model in used]
            bit = weights[f, place].code(self._coder, inputs, 15)
            for model in used:
                model.learn(bit, 255)
            node = 2 * node + bit
        here[at] = node - (1 << field.bits)

    def _half(self, field, block):
        bits = self._symbols[field][block] << 8 | self._symbols[field + 1][block]
        units = float_units(bits, 10, 5)
        return -units if bits >> 15 else units

    def _fixed(self, units):
        shift = 18 - self._p.unit
        if shift <= 0:
            return clamp(units >> -shift, -(1 << 34), 1 << 34)
        return clamp(units, -(1 << 34 >> shift), 1 << 34 >> shift) << shift

    def _meaning(self, block, group):
        groups = self.quants // self._group
        step, offset = self._half(0, block), 0
        if self._s_kind:
            scale = self._symbols[self._s][block * groups + group]
            scale -= {"less 32": 32, "signed": (scale >> 7) << 8}.get(self._s_kind, 0)
            step *= scale
        if self._dmin is not None:
            offset = self._half(self._dmin, block)
            if self._m is not None:
                offset *= -self._symbols[self._m][block * groups + group]
        return self._fixed(step), self._fixed(offset)

    def begin(self, columns):
        self._experts = MixExperts(self._p, columns, self._coder,
                                   (12000, 12000, 8000, 8000, 4000, 4000, 4000, 14000))
        self._seen = [0] * (self._blocks * self.quants // self._group)
        self.begin_line, self.end_line, self.skip = (
            self._experts.begin_line, self._experts.end_line, self._experts.skip)

    def quant(self, i, column):
        bits, last = self._bits, (1 << self._bits) - 1
        group = i // self._group
        step, offset = self._meaning(i // self.quants, i % self.quants // self._group)
        self._experts.begin(column)
        level, node = 0, 1
        for place in reversed(range(bits)):
            middle = level | 1 << place
            above = last + 1 - middle if step < 0 else middle
            twice = self._numbers[above] + self._numbers[above - 1]
            bit = self._experts.bit(
                (step * twice >> 1) + offset, node if node < 64 else 64 + place,
                ("level", step == 0, node),
                ("place", self._seen[group], i % self._group, node))
            level |= bit << place
            node = 2 * node + bit
        if step < 0:
            level = last - level
        symbol = level ^ 128 if bits == 8 else level
        for a, anchor in enumerate(MIX_ANCHORS[self._p.kind]):
            if symbol in anchor:
                self._seen[group] |= 1 << a
        self._experts.end(column, clamp(self._numbers[level] * step + offset,
                                        -(1 << 34), 1 << 34))
        self._symbols[-1][i] = symbol

    def merged(self):
        out = bytearray(self._blocks * self.bytes)
        for field, symbols in zip(self._fields, self._symbols):
            for part in field.parts:
                group = part.span * part.levels
                for i in range(part.count):
                    byte = part.offset + i // group * part.stride + i % part.span
                    bit = part.shift + part.width * (i % group // part.span)
                    for block in range(self._blocks):
                        symbol = symbols[block * field.count + part.first + i]
                        piece = symbol >> part.to & (1 << part.width) - 1
                        out[block * self.bytes + byte] |= piece << bit
        return bytes(out)


def mix_grid(parameters, phase, count):
    """(line, column, element or None) in the order of coding; the number of columns first."""
    has_rows = 0 < parameters.row <= count
    row, skip = (parameters.row, phase) if has_rows else (1, 0)
    rows = (skip + count + row - 1) // row
    lines, columns, line_step, column_step = (
        (row, rows, 1, row) if rows < row else (rows, row, row, 1))

    def places():
        for line in range(lines):
            for column in range(columns):
                i = line * line_step + column * column_step - skip
                yield line, column, i if 0 <= i < count else None
    return columns, places()


def mix_places(models, columns, places):
    """(column, element) of those that are there, while `models` learn of lines and gaps."""
    for _, column, i in places:
        if column == 0:
            models.begin_line()
        if i is None:
            models.skip(column)
        else:
            yield column, i
        if column == columns - 1:
            models.end_line()


def decode_mix_blocks(code, tails, parameters, phase, size):
    width, _ = QUANT_TYPES[parameters.kind]
    check(size % width == 0, f"mix: block of {size} bytes")
    coder = BitCoder(code)
    models = MixBlocks(parameters, size // width, coder)
    models.side()
    columns, places = mix_grid(parameters, phase, size // width * models.quants)
    models.begin(columns)
    for column, i in mix_places(models, columns, places):
        models.quant(i, column)
    check(coder.ended(), "mix: the code does not end with the block")
    check(not tails, "mix: bytes after the code")
    return models.merged()


def decode_mix(coded, parameters, size):
    check(parameters is not None, "mix: no parameters")
    check(size <= MIX_MAX_BLOCK, f"mix: block of {size} bytes")
    fields = Fields(coded)
    phase = fields.varint("mix: phase", 0, max(parameters.row - 1, 0))
    code = fields.bytes(fields.varint("mix: length of the code"), "mix: code")
    tails = fields.bytes(fields.left(), "mix: tails")
    if parameters.kind in MIX_KINDS:
        return decode_mix_numbers(code, tails, parameters, phase, size)
    return decode_mix_blocks(code, tails, parameters, phase, size)


def decode_mix_numbers(code, tails, parameters, phase, size):
    width, mantissa_bits, _, _ = MIX_KINDS[parameters.kind]
    check(size % width == 0, f"mix: block of {size} bytes")
    tail_bits, tails_used = int.from_bytes(tails, "little"), 0
    columns, places = mix_grid(parameters, phase, size // width)
    coder = BitCoder(code)
    models = MixNumbers(parameters, columns, coder)
    tail = mantissa_bits - parameters.modelled
    out = bytearray(size)
    for column, i in mix_places(models, columns, places):
        negative, exponent, mantissa = models.element(column)
        if parameters.kind == MIX_INTEGERS:
            magnitude = (1 << exponent - 1) + mantissa if exponent else 0
            element = ~magnitude & 255 if negative else magnitude
        else:
            z = models.zeros(column, exponent == mantissa == 0) if tail and parameters.zeros \
                else 0
            mantissa |= ((tail_bits >> tails_used) & ((1 << tail - z) - 1)) << z
            tails_used += tail - z
            element = negative << 8 * width - 1 | exponent << mantissa_bits | mantissa
        out[i * width:(i + 1) * width] = element.to_bytes(width, "little")
    check(coder.ended(), "mix: the code does not end with the block")
    check(len(tails) == (tails_used + 7) // 8 and tail_bits >> tails_used == 0,
          "mix: the tails do not end with the block")
    return bytes(out)


# ---------------------------------------------------------------------------------------------
# Codec 9: quant


class ClassStreams:
    """`count` symbols, to be taken in order as their classes become known."""

    def __init__(self, fields, tables, count):
        self._tables = tables
        self._streams = 4 if count >= 1 << 18 else 1
        steps = -(-count // (32 * self._streams))
        sizes = [fields.varint("rANS: words", 0, 32 * steps) for _ in range(self._streams)]
        self._states, self._words = [], []
        for size in sizes:
            states = fields.bytes(4 * 32, "rANS: states")
            self._states.append(list(struct.unpack("<32I", states)))
            words = fields.bytes(2 * size, "rANS: words")
            self._words.append(iter(struct.unpack(f"<{size}H", words)))
        self._next = 0
        self._last = 0

    def take(self, classes):
        return bytes(self._symbol(which) for which in classes)

    def _symbol(self, which):
        self._last = which
        stream, lane = self._next // 32 % self._streams, self._next % 32
        self._next += 1
        states = self._states[stream]
        symbol, frequency, rank = self._tables[which][states[lane] % 4096]
        state = frequency * (states[lane] >> 12) + rank
        if state < 65536:
            word = next(self._words[stream], None)
            check(word is not None, "rANS: words end early")
            state = state << 16 | word
        states[lane] = state
        return symbol

    def end(self):
        while self._next % (32 * self._streams):
            self._symbol(self._last)
        check(all(state == 65536 for states in self._states for state in states),
              "rANS: wrong last state")
        check(all(next(words, None) is None for words in self._words), "rANS: words left over")


QuantPart = collections.namedtuple("QuantPart", "first count offset stride span levels width shift to")
QuantField = collections.namedtuple("QuantField", "count bits hint parts")


def quant_field(text):
    """A field as the table of types writes it."""
    numbers = r"\(([-0-9, @]*)\)"
    hint = re.search(r"by (\d): (\d)@(\d)", text)
    text = text.replace(hint[0], "") if hint else text
    size = re.match(r" *(\d+) of (\d+)", text)
    parts = []
    for name, inside, to in re.findall(r"([a-z]+)" + numbers + r"(?: at (\d))?", text):
        n = [int(x) for x in re.findall(r"\d+", inside)]
        to = int(to or 0)
        if name == "bytes":
            parts.append(QuantPart(0, n[1], n[0], 1, 1, 1, 8, 0, to))
        elif name == "every":
            parts.append(QuantPart(0, n[2], n[1], n[0], 1, 1, n[3], n[4], to))
        elif name == "runs":
            parts.append(QuantPart(0, n[2], n[1], n[0], n[3], 1, 8, 0, to))
        elif name == "packed":
            parts.append(QuantPart(0, n[3], n[2], n[1], n[1], 8 // n[0], n[0], 0, to))
        elif name in ("high", "low"):
            parts.append(QuantPart(0, 1, n[0] + (name == "high"), 1, 1, 1, 8, 0, to))
        else:
            mins = 4 * (name == "mins")
            parts += [QuantPart(0, 4, n[0] + mins, 4, 4, 1, 6, 0, 0),
                      QuantPart(4, 4, n[0] + 8, 4, 4, 1, 4, mins, 0),
                      QuantPart(4, 4, n[0] + mins, 4, 4, 1, 2, 6, 4)]
            size = size or ("", 8, 6)
    count, bits = (int(size[1]), int(size[2])) if size else (parts[0].count, 8)
    return QuantField(count, bits, tuple(int(x) for x in hint.groups()) if hint else None, parts)


FP16 = "high(0); low(0) by 0: 2@0; "
FP16_TWICE = FP16 + "high(2) by 0: 3@0; low(2) by 2: 2@0; "
K_SCALES = FP16_TWICE + "scales(4); mins(4) by 4: 3@3; "
# By number of the element type: bytes, fields.
QUANT_TYPES = {
    66: (18, FP16 + "32 of 4: packed(4, 16, 2, 32)"),
    67: (20, FP16_TWICE + "32 of 4: packed(4, 16, 4, 32)"),
    70: (22, FP16 + "32 of 5: packed(4, 16, 6, 32), packed(1, 1, 2, 32) at 4"),
    71: (24, FP16_TWICE + "32 of 5: packed(4, 16, 8, 32), packed(1, 1, 4, 32) at 4"),
    72: (34, FP16 + "bytes(2, 32)"),
    73: (36, FP16 + "high(2); low(2) by 2: 2@0; bytes(4, 32)"),
    74: (84, "high(80); low(80) by 0: 2@0; high(82) by 0: 3@0; low(82) by 2: 2@0; "
             "16 of 4: every(1, 0, 16, 4@0); 16 of 4 by 4: 3@1: every(1, 0, 16, 4@4); "
             "256 of 2: packed(2, 32, 16, 256)"),
    75: (110, "high(108); low(108) by 0: 2@0; 16 of 6: packed(4, 8, 96, 16), "
              "packed(2, 4, 104, 16) at 4; 256 of 3: packed(2, 32, 32, 256), "
              "packed(1, 32, 0, 256) at 2"),
    76: (144, K_SCALES + "256 of 4: packed(4, 32, 16, 256)"),
    77: (176, K_SCALES + "256 of 5: packed(4, 32, 48, 256), packed(1, 32, 16, 256) at 4"),
    78: (210, "high(208); low(208) by 0: 2@0; bytes(192, 16); "
              "256 of 6: packed(4, 64, 0, 256), packed(2, 32, 128, 256) at 4"),
    79: (292, "bytes(3, 1); bytes(2, 1); bytes(1, 1); bytes(0, 1); every(2, 261, 16, 8@0); "
              "every(2, 260, 16, 8@0); bytes(4, 256)"),
    80: (66, FP16 + "8 of 4: every(8, 9, 8, 4@4); runs(8, 2, 32, 4) by 2: 4@0; "
             "runs(8, 6, 24, 3); 8 of 4: every(8, 9, 8, 4@0)"),
    81: (74, FP16 + "16 of 4: packed(4, 1, 66, 16); 32 of 1: every(2, 3, 32, 1@0); "
             "every(2, 2, 32, 8@0) by 3: 1@0; 32 of 7: every(2, 3, 32, 7@1)"),
    82: (98, FP16 + "8 of 4: every(4, 69, 8, 4@4); bytes(2, 64) by 2: 4@0; "
             "runs(4, 66, 24, 3); 8 of 4: every(4, 69, 8, 4@0)"),
    83: (50, FP16 + "every(2, 35, 8, 8@0); every(2, 34, 8, 8@0); bytes(2, 32)"),
    85: (110, FP16 + "8 of 4: packed(4, 1, 106, 8); 64 of 1: packed(1, 1, 66, 64); "
              "bytes(2, 64) by 3: 1@0; bytes(74, 32)"),
    86: (82, FP16 + "16 of 4: packed(4, 1, 74, 16); 32 of 2: packed(2, 1, 66, 32); "
             "bytes(2, 32) by 3: 2@0; bytes(34, 32)"),
    87: (136, FP16 + "8 of 6: packed(4, 1, 4, 8), packed(2, 1, 2, 8) at 4; "
              "256 of 4: packed(4, 16, 8, 256)"),
    93: (56, "4 of 4: every(2, 49, 4, 4@4); every(2, 48, 4, 8@0); 4 of 4: every(2, 49, 4, 4@0); "
             "32 of 4: packed(4, 1, 32, 32); bytes(0, 32)"),
    98: (54, "high(52); low(52) by 0: 2@0; bytes(0, 52)"),
    99: (66, "high(64); low(64) by 0: 2@0; bytes(0, 64)"),
    103: (17, "bytes(0, 1); 32 of 4: packed(4, 16, 1, 32)"),
    104: (36, "bytes(0, 4); 64 of 4: packed(4, 8, 4, 64)"),
    105: (18, FP16 + "bytes(2, 16)"),
    106: (18, FP16 + "bytes(2, 16)"),
}
QUANT_TYPES[84] = QUANT_TYPES[66]
# Quants a group, the format of d, how s is read and from which field, dmin, m.
QUANT_GROUPS = {
    66: (32, "half", None, None, None, None), 84: (32, "half", None, None, None, None),
    67: (32, "half", None, None, 2, None), 70: (32, "half", None, None, None, None),
    71: (32, "half", None, None, 2, None), 72: (32, "half", None, None, None, None),
    73: (32, "half", None, None, None, None), 74: (16, "half", "unsigned", 4, 2, 5),
    75: (16, "half", "less 32", 2, None, None), 76: (32, "half", "unsigned", 4, 2, 5),
    77: (32, "half", "unsigned", 4, 2, 5), 78: (16, "half", "signed", 2, None, None),
    79: (32, None, None, None, None, None), 87: (32, "half", "less 32", 2, None, None),
    103: (32, "E8M0", None, None, None, None), 104: (16, "E4M3", None, None, None, None),
}
LOG_FRACTIONS = (0, 1, 3, 4, 5, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18,
                 19, 20, 21, 22, 22, 23, 24, 25, 26, 27, 27, 28, 29, 30, 31, 31)


def quant_log(x):
    if x == 0:
        return 0
    top = x.bit_length() - 1
    return 32 * top + LOG_FRACTIONS[(x << 5 >> top) & 31]


def float_units(bits, mantissa_bits, exponent_bits):
    exponent = bits >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa = bits & (1 << mantissa_bits) - 1
    return mantissa if exponent == 0 else (mantissa | 1 << mantissa_bits) << exponent - 1


class QuantParameters:
    def __init__(self, parameters):
        fields = Fields(parameters)
        self.number = fields.u8("quant: element type")
        check(self.number in QUANT_TYPES, "quant: not a type of blocks")
        self.bytes, description = QUANT_TYPES[self.number]
        self.fields = [quant_field(text) for text in description.split(";")]
        self.groups = QUANT_GROUPS.get(self.number)
        self.side = self.fields[:-1] if self.groups else self.fields
        self.hints = fields.u8("quant: hints")
        check(all(f < len(self.side) and self.side[f].hint
                  for f in range(8) if self.hints >> f & 1), "quant: hint of no field")
        self.anchors = self.row = 0
        self.split = self.by_group = False
        if self.groups:
            self._parse_contexts(fields)
        self._parse_tables(fields)
        fields.end("quant: parameters")

    def _parse_contexts(self, fields):
        flags = fields.u8("quant: flags")
        self.anchors = flags & 3
        self.split = flags & 4 != 0
        self.by_group = flags & 16 != 0
        check(flags < 32 and self.anchors < 3, "quant: unknown flags")
        check(flags & 8 or not self.by_group, "quant: groups without columns")
        self.axes = []
        for _ in range(2):
            count, shift = fields.u8("quant: count"), fields.u8("quant: shift")
            base = fields.u16("quant: base")
            base -= (base >> 15) << 16
            check(1 <= count <= 64 and shift <= 12 and abs(base) <= 16384, "quant: wrong axis")
            self.axes.append((count, shift, base))
        if flags & 8:
            check(self.axes[0][1] >= 2, "quant: steps too short for columns")
            quants = self.fields[-1].count
            self.row = fields.varint("quant: blocks a row", 1, 65536 // quants)
            bits = Bits(fields, "quant: columns")
            code, scale = AdaptiveCode(), 0
            self.column_scale = []
            for _ in range(self.row * quants):
                scale += code.take_signed(bits)
                check(0 <= scale <= 255, "quant: wrong scale of a column")
                self.column_scale.append(scale)
            if self.by_group:
                self.column_group = []
                for _ in range(self.row * quants):
                    group, flip = bits.take(3), bits.take(1)
                    check(group < self.axes[1][0], "quant: wrong group of a column")
                    self.column_group.append((group, flip))
            bits.end()

    def _parse_tables(self, fields):
        sets = [(1, 256)]
        for f, field in enumerate(self.side):
            sets.append((1 << field.hint[1] if self.hints >> f & 1 else 1, 1 << field.bits))
        if self.groups:
            range_ = 1 << self.fields[-1].bits
            sets += [(1, 256), (1, range_)] * self.anchors
            self.contexts = self.axes[0][0] * self.axes[1][0]
            sets.append((self.contexts << (self.anchors if self.split else 0), range_))
        check(sum(count for count, _ in sets) <= 64, "quant: too many classes")
        self.tables, self.first = [], []
        for count, symbols in sets:
            self.first.append(len(self.tables))
            tables = class_tables(fields)
            check(len(tables) == count, "quant: wrong number of tables")
            check(all(symbol < symbols for table in tables for symbol, _, _ in table),
                  "quant: a symbol that its field cannot hold")
            self.tables += tables

    def keys(self, side, b):
        """Scale, zero and negative of each group of block b."""
        group, scale_format, s_kind, s_field, dmin_field, m_field = self.groups
        count = self.fields[-1].count // group

        def half(field):
            bits = side[field][b] << 8 | side[field + 1][b]
            return quant_log(float_units(bits, 10, 5)), bits >> 15

        for g in range(count):
            at = b * count + g
            scale = negative = 0
            if scale_format == "half":
                scale, negative = half(0)
            elif scale_format == "E8M0":
                scale = 32 * side[0][b]
            elif scale_format == "E4M3":
                scale = quant_log(float_units(side[0][at], 3, 4))
            if s_kind:
                s = side[s_field][at]
                s -= 32 if s_kind == "less 32" else (s >> 7) << 8 if s_kind == "signed" else 0
                scale += quant_log(abs(s))
                negative ^= s < 0
            zero = 0
            if dmin_field is not None:
                zero = half(dmin_field)[0] - scale
                zero += quant_log(side[m_field][at]) if m_field is not None else 0
            yield scale, zero, negative

    def index(self, axis, key):
        count, shift, base = self.axes[axis]
        return min(max((key - base) >> shift, 0), count - 1)

    def context(self, column, scale, zero):
        if not self.row:
            first = self.index(0, scale)
        else:
            count, shift, base = self.axes[0]
            t = min(max((scale - base) >> 2, 0), 255)
            first = min(max(0, t - self.column_scale[column]) >> shift - 2, count - 1)
        second = self.column_group[column][0] if self.by_group else self.index(1, zero)
        return first * self.axes[1][0] + second


def decode_quant(coded, parameters, size):
    check(size % parameters.bytes == 0, "quant: not whole ggml blocks")
    blocks = size // parameters.bytes
    fields = Fields(coded)
    column = fields.varint("quant: column", 0, parameters.row - 1) if parameters.row else 0

    def padded(count):
        return -(-count // 128) * 128

    quants = parameters.fields[-1] if parameters.groups else None
    groups = quants.count // parameters.groups[0] if quants else 0
    total = sum(padded(blocks * field.count) for field in parameters.fields)
    total += parameters.anchors * padded(blocks * groups)
    streams = ClassStreams(fields, parameters.tables, total)
    fields.end("quant: block")

    def take(classes):
        symbols = streams.take(classes)
        streams.take([0] * (padded(len(classes)) - len(classes)))
        return symbols

    symbols = []
    for f, field in enumerate(parameters.side):
        first = parameters.first[1 + f]
        classes = [first] * (blocks * field.count)
        if parameters.hints >> f & 1:
            source, bits, shift = field.hint
            n = parameters.side[source].count
            for i in range(len(classes)):
                at = i // field.count * n + i % field.count * n // field.count
                classes[i] += symbols[source][at] >> shift & (1 << bits) - 1
        symbols.append(take(classes))
    first = 1 + len(parameters.side)
    positions = [take([parameters.first[first + 2 * a]] * (blocks * groups))
                 for a in range(parameters.anchors)]
    if quants:
        symbols.append(decode_quants(parameters, symbols, positions, column, blocks, take))
    streams.end()
    return join_quant_fields(parameters.number, symbols, blocks)


def join_quant_fields(number, symbols, blocks):
    """Blocks of the type with this number, from the elements of each of its fields."""
    size, description = QUANT_TYPES[number]
    out = bytearray(blocks * size)
    for text, elements in zip(description.split(";"), symbols):
        field = quant_field(text)
        for part in field.parts:
            group = part.span * part.levels
            mask = (1 << part.width) - 1
            for i in range(part.count):
                byte = part.offset + i // group * part.stride + i % part.span
                shift = part.shift + part.width * (i % group // part.span)
                for b in range(blocks):
                    element = elements[b * field.count + part.first + i]
                    out[b * size + byte] |= (element >> part.to & mask) << shift
    return bytes(out)


def decode_quants(parameters, side, positions, column, blocks, take):
    quants = parameters.fields[-1]
    group = parameters.groups[0]
    first = 1 + len(parameters.side)
    anchors = [parameters.first[first + 2 * a + 1] for a in range(parameters.anchors)]
    classes, flips = [], []
    g = 0
    for b in range(blocks):
        for j, (scale, zero, negative) in enumerate(parameters.keys(side, b)):
            for i in range(group):
                c = column * quants.count + j * group + i
                which = parameters.first[-1] + parameters.context(c, scale, zero)
                for a in range(parameters.anchors):
                    if parameters.split and i < positions[a][g]:
                        which += parameters.contexts << a
                for a in range(parameters.anchors):
                    if i == positions[a][g]:
                        which = anchors[a]
                classes.append(which)
                flips.append(parameters.by_group
                             and parameters.column_group[c][1] != negative)
            g += 1
        if parameters.row:
            column = (column + 1) % parameters.row
    mask = (1 << quants.bits) - 1
    return bytes(-q & mask if flip else q for q, flip in zip(take(classes), flips))


PaletteParameters = collections.namedtuple(
    "PaletteParameters", "width from_zero mirrored group bounds tables")


def parse_palette(parameters):
    fields = Fields(parameters)
    width = fields.u8("palette: width")
    check(width in (1, 2, 4, 8), f"palette: elements of {width} bytes")
    flags = fields.u8("palette: flags")
    check(flags < 4, f"palette: unknown flags {flags}")
    group = fields.varint("palette: elements of a group", 0, 1 << 40)
    bounds = [0]
    for _ in range(fields.varint("palette: bounds", 0, 63)):
        bounds.append(fields.u8("palette: bound"))
        check(bounds[-1] > bounds[-2], "palette: bounds do not ascend")
    tables = class_tables(fields)
    check(len(tables) == len(bounds), "palette: wrong number of tables")
    fields.end("palette: parameters")
    return PaletteParameters(width, flags & 1, flags & 2, group, bounds, tables)


def decode_palette(coded, parameters, size):
    check(parameters, "palette: no parameters")
    width = parameters.width
    count, rest = divmod(size, width)
    check(rest == 0, "palette: block with a part of an element")
    fields = Fields(coded)
    phase, group = 0, parameters.group or count
    if parameters.group:
        phase = fields.varint("palette: place in the group", 0, group - 1)
    ends = [*range(group - phase, count, group), count]
    sizes = [1 + size for size in decode_plane(fields, len(ends))]
    for n, begin, end in zip(sizes, [0, *ends], ends):
        check(n <= end - begin, "palette: more values than elements")
    planes = [decode_plane(fields, sum(sizes)) for _ in range(width)]
    values = iter([int.from_bytes(value, "little") for value in zip(*planes)])
    top = 1 << 8 * width - 1

    groups, tables = [], []
    for n, begin, end in zip(sizes, [0, *ends], ends):
        palette = list(itertools.islice(values, n))
        k = sum(value >= top for value in palette)
        if parameters.mirrored:
            z = k < n and palette[k] == 0
            for i in range(min(k, n - k - z)):
                palette[k - 1 - i] ^= palette[k + z + i] & top - 1
        groups.append((palette, k if parameters.from_zero else 0, end - begin))
        which = sum(bound <= n - 1 for bound in parameters.bounds) - 1
        tables += [parameters.tables[which]] * (end - begin)
    symbols = iter(decode_class_rans(fields, tables))
    fields.end("palette")

    out = bytearray()
    for palette, first, elements in groups:
        for symbol in itertools.islice(symbols, elements):
            number = (symbol + first) % 256
            check(number < len(palette), "palette: an element without a value")
            out += palette[number].to_bytes(width, "little")
    return bytes(out)


# Codec 26.
M32, M64 = (1 << 32) - 1, (1 << 64) - 1
TABLE_POWERS = [math.floor(2 ** (20 - i / 16) + 0.5) for i in range(16)]


def wrap64(x):
    return (x + (1 << 63) & M64) - (1 << 63)


def toward_zero(a, b):
    return abs(a) // b * (1 if a >= 0 else -1)


def table_hash(a, b, c=0):
    h = (a + 1) * 0x9E3779B97F4A7C15 + b & M64
    h = (h ^ h >> 29) * 0xBF58476D1CE4E5B9 + c & M64
    return ((h ^ h >> 32) * 0x94D049BB133111EB & M64) >> 32


def table_coarse(x):
    m, sign = abs(x), int(x < 0)
    if m < 8:
        return 2 * m + sign
    octave = m.bit_length() - 1
    return min(16 + 4 * (octave - 3) + 2 * (m >> octave - 1 & 1) + sign, 255)


class TableMixer:
    def __init__(self, inputs):
        self._inputs, self._sets = inputs, {}

    def mix(self, inputs, which):
        self._set = self._sets.setdefault(which, [[19660] * self._inputs, 0])
        total = sum(wrap32(x * w) >> 8 for x, w in zip(inputs, self._set[0]))
        return clamp(wrap32(total + 128) >> 8, -2047, 2047)

    def learn(self, inputs, mixed, bit):
        weights, count = self._set
        error = ((65536 if bit else 0) - SQUASH[mixed]) * 8 >> min(count >> 5, 2)
        for i, x in enumerate(inputs):
            weights[i] = wrap32(weights[i] + (wrap32(x * error + 32768) >> 16))
        self._set[1] = min(count + 1, 1024)


class TableSquares:
    """Least squares in doubles: each operation rounded once, in this order."""
    ORDER = 12

    def __init__(self):
        n = range(self.ORDER)
        self._moments = [[0.0] * self.ORDER for _ in n]
        self._target, self._weights = [0.0] * self.ORDER, [0.0] * self.ORDER
        self._since = 0

    def predict(self, x):
        self._x, y = x, 0.0
        for weight, each in zip(self._weights, x):
            y += weight * each
        return y

    def learn(self, y):
        x = self._x
        for i in range(self.ORDER):
            row = self._moments[i]
            for j in range(i + 1):
                row[j] = row[j] * 0.9985 + x[i] * x[j]
            self._target[i] = self._target[i] * 0.9985 + x[i] * y
        self._since = (self._since + 1) % 8
        if self._since == 0:
            self._solve()

    def _solve(self):
        n = self.ORDER
        l, d, z = [[0.0] * n for _ in range(n)], [0.0] * n, [0.0] * n
        for i in range(n):
            for j in range(i + 1):
                value = self._moments[i][j] + (1.0 if i == j else 0.0)
                for k in range(j):
                    value -= l[i][k] * d[k] * l[j][k]
                if i == j:
                    if not value > 0.5:
                        return
                    d[i] = value
                else:
                    l[i][j] = value / d[j]
        for i in range(n):
            value = self._target[i]
            for k in range(i):
                value -= l[i][k] * z[k]
            z[i] = value
        for i in reversed(range(n)):
            value = z[i] / d[i]
            for k in range(i + 1, n):
                value -= l[k][i] * self._weights[k]
            self._weights[i] = value


class TableModel:
    def __init__(self, code, table, strong):
        self._code, self._strong, self._fields = code, strong, table.fields
        self._f, self._row = len(table.fields), table.row
        values = table.records * self._f
        slots_log2 = clamp(values.bit_length() + 3, 14, 22)
        self._bucket_bits = slots_log2 - 4
        self._memory_bits = min(slots_log2 - 2, 18)
        self._slots, self._memory, self._raw, self._candidate = {}, {}, {}, {}
        size = 24 if strong else 8
        self._mixers = [TableMixer(size) for _ in range(3 if strong else 2)]
        self._padding = size
        self._values, self._residuals = [], []
        self._errors = [[0] * (11 if strong else 10) for _ in table.fields]
        self._squares = [TableSquares() for _ in table.fields]

    def skip(self):
        i = len(self._values)
        self._values.append(self._values[i - self._f] if i >= self._f else 0)
        self._residuals.append(0)

    def _look(self, field):
        i, f = len(self._values), self._f

        def at(array, back):
            return array[i - back] if back <= i else 0
        v = lambda back: at(self._values, back)
        r = lambda back: at(self._residuals, back)
        up = self._row * f
        w, ww, www = v(f), v(2 * f), v(3 * f)
        if self._row:
            n, nw, ne, nn = v(up), v(up + f), v(up - f), v(2 * up)
            rn, rnw, rne = r(up), r(up + f), r(up - f)
        else:
            n, nw, ne, nn = ww, www, v(4 * f), v(5 * f)
            rn, rnw, rne = r(2 * f), r(3 * f), r(4 * f)
        rw, rww = r(f), r(2 * f)
        a = [v(k) if field >= k else 0 for k in (1, 2, 3)]
        d = [wrap64(v(k) - v(k + f)) if field >= k else 0 for k in (1, 2, 3)]
        self._w = w
        minus = lambda x, y: wrap64(x - y)
        if not self._fields[field].numeric:
            p = self._fields[field].center
            self._predictions = [0] * 11
        else:
            predictions = [
                w, w + w - ww, n, w + n - nw, w + toward_zero(minus(n, w), 2), w + ne - n,
                n + n - nn, 3 * w - 3 * ww + www, 4 * w - 6 * ww + 4 * www - v(4 * f),
                w + toward_zero(wrap64(minus(n, w) + minus(ne, w)), 3)]
            if self._strong:
                near = lambda x: float(clamp(x, -(1 << 30), 1 << 30))
                if self._row:
                    around = [ww, www, n, nw, ne, nn, v(up - 2 * f), v(up + 2 * f),
                              v(2 * up + f), v(2 * up - f)]
                    x = [near(minus(q, w)) for q in around] + [near(d[0]), near(d[1])]
                else:
                    around = [ww, www, ne, nn, v(6 * f), v(7 * f), v(8 * f)]
                    x = [near(minus(q, w)) for q in around] + [
                        16.0, near(d[0]), near(d[1]), near(d[2]), 0.0]
                y = self._squares[field].predict(x)
                predictions.append(
                    w + (int(y + (-0.5 if y < 0 else 0.5)) if -1e15 < y < 1e15 else 0))
            self._predictions = [wrap64(each) for each in predictions]
            errors = self._errors[field]
            total = weights = 0
            for error, each in zip(errors, self._predictions):
                steps = (error - min(errors)) * 3 >> 8
                weight = TABLE_POWERS[steps & 15] >> min(steps >> 4, 31)
                total += clamp(minus(each, w), -(1 << 38), 1 << 38) * weight
                weights += weight
            half = weights // 2
            p = wrap64(w + toward_zero(total + (-half if total < 0 else half), weights))
        self._base = p
        scale = 2 * abs(rw) + 2 * abs(rn) + abs(rnw) + abs(rne)
        self._scale = min(scale.bit_length(), 11)
        start = (scale * 43 >> 8).bit_length() if self._fields[field].numeric else 0
        self._start = start if start >= 4 else 0
        c, s = table_coarse, table_coarse(scale)
        wp, np, nep, nwp, nnp = (c(minus(x, p)) for x in (w, n, ne, nw, nn))
        puts = [(s, 0, 0), (wp, np, 0), (rw, rn, 0), (p, 0, 0),
                (a[0], a[1], p) if f > 1 else (w, n, p)]
        if self._strong:
            puts += [(0, 0, 0), (wp, np, nep), (c(minus(w, ww)), c(minus(n, ne)), c(rw)),
                     (c(rw), c(rww), c(r(3 * f))), (w, p, 0), (w, ww, p), (n, p, c(rn))]
            if f > 1:
                puts += [(a[0], p, 0), (c(d[0]), c(d[1]), wp)]
            else:
                puts += [(c(minus(self._predictions[3], p)), s, nwp), (c(rn), c(rne), c(rnw))]
            column = i // f % self._row // 4 if self._row else 0
            puts += [(column, s // 4, 1), (nnp, np, c(rn)), (nwp, wp, s // 4)]
        self._hashes = [
            table_hash(field * 64 + k, x * 0x9E3779B97F4A7C15 + y & M64, z & M64)
            for k, (x, y, z) in enumerate(puts)]
        keys = [(a[0], a[1] * 31 + a[2]), (w, ww), (w, n)]
        if self._strong:
            keys += [(w * 31 + ww, www), (a[0], w), (a[0] * 31 + a[1], w)]
        self._remembered, self._guesses = [], []
        for k, (x, y) in enumerate(keys):
            h = table_hash(field * 64 + 32 + k, x & M64, y & M64)
            place = h >> 32 - self._memory_bits
            memory = self._memory.setdefault(place, [0, 0, 0])  # value, check, hits
            if memory[1] != h & 0xFFFF:
                memory[:] = w, h & 0xFFFF, 0
            self._remembered.append(memory)
            self._guesses.append([minus(memory[0], p), min(memory[2], 15), True])

    def _bit(self, group, node, which, expect):
        inputs, found = [], []
        for h in self._hashes:
            h = (h + group * 0x9E3779B1 & M32) * 0x2C1B3C6D & M32
            h = (h ^ h >> 15) * 0x297A2D39 & M32
            place = (h >> 32 - self._bucket_bits, node)
            # Probability of 2^18, count, check.
            slot = self._slots.setdefault(place, [1 << 17, 0, 0])
            if slot[2] != h & 63:
                slot[:] = 1 << 17, 0, h & 63
            found.append(slot)
            inputs.append(STRETCH[slot[0] >> 6])
        agree, bits = 0, []
        for c, (residual, hits, holds) in enumerate(self._guesses):
            if not holds:
                inputs.append(0)
                continue
            bit = self._candidate.setdefault((c, hits, which), AdaptiveBit(3 << 20, 4))
            yes = expect(residual)
            bits.append((c, bit, yes))
            s = STRETCH[bit.predict() >> 4]
            inputs.append(s if yes else -s)
            if c < 3:
                agree |= (1 if hits == 0 else 2 if hits < 4 else 3) << 2 * c
        if self._strong:
            inputs.append(256)
        inputs += [0] * (self._padding - len(inputs))
        sets = [(which, self._scale), (which, agree)]
        if self._strong:
            sets.insert(1, (self._field, which))
        mixed = [mixer.mix(inputs, chosen) for mixer, chosen in zip(self._mixers, sets)]
        p = SQUASH[toward_zero(sum(mixed), len(mixed))]
        coded = self._code.code(clamp(p, 1, 65535))
        for mixer, each in zip(self._mixers, mixed):
            mixer.learn(inputs, each, coded)
        for slot in found:
            target = (1 << 18) - 1 if coded else 0
            slot[0] += (target - slot[0]) * (131072 // (2 * slot[1] + 3)) >> 16
            slot[1] += slot[1] < 250
        for c, bit, yes in bits:
            bit.learn(yes == bool(coded), 255)
            if yes != bool(coded):
                self._guesses[c][2] = False
        return coded

    def _raw_bit(self, e, b):
        p = self._raw.get((e, b), 1 << 31)
        bit = self._code.code(clamp(p >> 16, 32, 65503))
        self._raw[e, b] = p + (M32 - p >> 8) if bit else p - (p >> 8)
        return bit

    def _low_bits(self, n, modelled, place):
        """The bits below the highest of a magnitude of n bits."""
        m = 1
        for b in range(n - 2, -1, -1):
            depth = n - 2 - b
            if depth < modelled or any(holds for _, _, holds in self._guesses):
                where = place(depth, m) if depth < 3 else (
                    80 + 4 * (n - 1) + b // 16, b % 16, 29)
                bit = self._bit(*where, lambda r: bool(abs(r) >> b & 1))
            else:
                bit = self._raw_bit(n - 1, b)
            m = m << 1 | bit
        return m

    def _narrow(self):
        if self._bit(0, 0, 0, lambda r: r == 0):
            return 0
        sign = self._bit(0, 1, 1, lambda r: r < 0)
        e = 0
        while e < 63:
            node = 2 + 2 * e + sign
            if not self._bit(node // 16, node % 16, 2 + 2 * min(e, 11) + sign,
                             lambda r: abs(r) >> e > 1):
                break
            e += 1
        m = self._low_bits(e + 1, 3, lambda depth, m: (8 + e, 8 * sign + m, 26 + depth))
        return -m if sign else m

    def _wide(self):
        n = start = self._start
        longer = lambda than, node, which: self._bit(
            400 + start, node, which, lambda r: abs(r).bit_length() > than)
        if longer(n, 0, 30):
            n += 1
            while n < 64 and longer(n, min(n - start, 4), 31):
                n += 1
        else:
            while n > 0 and not longer(n - 1, min(5 + start - n, 8), 32):
                n -= 1
        if n == 0:
            return 0
        off = clamp(n - start + 4, 0, 7)
        sign = self._bit(560 + start, off, 33, lambda r: r < 0)

        def place(depth, m):
            if depth == 0:
                return 560 + start, (12 if sign else 8) + clamp(off, 2, 5) - 2, 34
            return 480 + n, m, 34 + depth
        m = self._low_bits(n, 3 if self._strong else 1, place)
        return -m if sign else m

    def value(self, field):
        self._field = field
        self._look(field)
        residual = wrap64(self._wide() if self._start else self._narrow())
        value = wrap64(self._base + residual)
        self._values.append(value)
        self._residuals.append(clamp(residual, -(1 << 28), 1 << 28))
        if self._fields[field].numeric:
            errors = self._errors[field]
            for k, each in enumerate(self._predictions[:len(errors)]):
                m = abs(wrap64(value - each))
                length = m.bit_length()
                logarithm = length * 16 + ((m << 64 - length >> 59) & 15) if m else 0
                errors[k] += logarithm * 16 - errors[k] // 16
            if self._strong:
                self._squares[field].learn(
                    float(clamp(wrap64(value - self._w), -(1 << 30), 1 << 30)))
        for memory in self._remembered:
            if memory[0] == value:
                memory[2] = min(memory[2] + 1, 255)
            else:
                memory[2] //= 4
                if memory[2] == 0:
                    memory[0] = value
        return value


class TableField:
    def __init__(self, fields, method, size):
        flags = fields.u8("table: field")
        self.width = 1 << (flags & 3)
        self.kind = flags >> 2 & 3
        self.order = "big" if flags & 16 else "little"
        self.decimals, self.scale, self.base = 0, 1, 0
        check(self.kind != 2 or self.width > 1, "table: floats of one byte")
        if self.kind == 3:
            check(self.width >= 4, "table: decimals of few bytes")
            self.decimals = fields.u8("table: decimals")
            check(self.decimals <= 22, "table: too many decimals")
        if flags & 32:
            self.scale = fields.varint("table: scale")
            self.base = fields.svarint("table: base")
        model = fields.u8("table: model")
        check(model <= (1 if method else 7), "table: unknown model")
        self.predictor, self.numeric = model, model == 0
        self.center = fields.svarint("table: center") if method and model else 0
        self.dictionary = None
        if flags & 64:
            count = fields.varint("table: values", 1, min(65536, size))
            length = fields.varint("table: plane", 1, 10 * count)
            steps = Fields(decode_plane(fields, length))
            value = steps.svarint("table: first value")
            self.dictionary = [value]
            for _ in range(count - 1):
                value = wrap64(value + steps.varint("table: step") + 1)
                self.dictionary.append(value)
            steps.end("table: dictionary")
        self.specials = None
        if flags & 128:
            self.specials = [fields.bytes(self.width, "table: special")
                             for _ in range(fields.varint("table: specials", 0, 64))]

    def element(self, value):
        if self.dictionary is not None:
            check(0 <= value < len(self.dictionary), "table: not in the dictionary")
            value = self.dictionary[value]
        number = wrap64(value * self.scale + self.base)
        bits = 8 * self.width
        if self.kind == 3:
            quotient = float(number) / 10.0 ** self.decimals
            if self.width == 8:
                raw = struct.unpack("<Q", struct.pack("<d", quotient))[0]
            else:
                raw = struct.unpack("<I", struct.pack("<f", quotient))[0]
        elif self.kind == 2:
            top = 1 << bits - 1
            raw = ~number & top - 1 | top if number < 0 else number & top - 1
        else:
            raw = number & (1 << bits) - 1
        return raw.to_bytes(self.width, self.order)


TableLayout = collections.namedtuple("TableLayout", "fields row records")


def table_specials(fields, table):
    """By place: the special element there."""
    specials = {}
    if all(field.specials is None for field in table.fields):
        return specials
    f = len(table.fields)
    code = BitCoder(fields.bytes(fields.varint("table: size", 0, 1 << 23), "table: specials"))
    flags, which = {}, {}
    history = [0] * f
    for t in range(table.records):
        in_record = 0
        for k, field in enumerate(table.fields):
            i = t * f + k
            if field.specials is None:
                continue
            above = int(table.row > 0 and i - table.row * f in specials)
            context = (k, history[k] & 15, above, in_record)
            if not code.adaptive(flags.setdefault(context, AdaptiveBit()), 250):
                history[k] <<= 1
                continue
            history[k] = history[k] << 1 | 1
            in_record = node = 1
            for _ in range(7):
                node = node << 1 | code.adaptive(which.setdefault((k, node), AdaptiveBit()), 250)
            number = node - 128
            check(number <= len(field.specials), "table: no such special")
            if number < len(field.specials):
                raw = int.from_bytes(field.specials[number], "little")
            else:
                raw = 0
                for _ in range(8 * field.width):
                    raw = raw << 1 | code.code(32768)
            specials[i] = raw.to_bytes(field.width, field.order)
    check(code.ended(), "table: specials are not as long as they say")
    return specials


def table_bins(fields, table, specials):
    f = len(table.fields)
    bins = []
    for _ in table.fields:
        bins.append([])
        for b in range(fields.varint("table: bins", 0, 256)):
            lower = fields.svarint("table: first bin") if b == 0 else wrap64(
                lower + fields.varint("table: bin"))
            bits = fields.u8("table: bits of a bin")
            check(bits <= 64, "table: a bin of many bits")
            bins[-1].append((lower, bits))
        bins[-1] += [(0, 0)] * (256 - len(bins[-1]))
    tables = class_tables(fields)
    check(len(tables) == f, "table: wrong number of tables")
    columns = [[t for t in range(table.records) if t * f + k not in specials] for k in range(f)]
    values = {}
    if any(columns):
        symbols = iter(decode_class_rans(
            fields, [tables[k] for k in range(f) for _ in columns[k]]))
        raw = fields.bytes(fields.left(), "table: bits")
        bits, at = int.from_bytes(raw, "little"), 0
        row = max(table.row, 1)
        for k, field in enumerate(table.fields):
            v = [0] * (row + 4)
            chosen = set(columns[k])
            for t in range(table.records):
                if t not in chosen:
                    v.append(v[-1])
                    continue
                predicted = (
                    0, v[-1], 2 * v[-1] - v[-2], v[-row], v[-1] + v[-row] - v[-row - 1],
                    v[-1] + toward_zero(wrap64(v[-1] - v[-2]), 2),
                    3 * v[-1] - 3 * v[-2] + v[-3],
                    4 * v[-1] - 6 * v[-2] + 4 * v[-3] - v[-4])[field.predictor]
                lower, width = bins[k][next(symbols)]
                low = bits >> at & (1 << width) - 1
                at += width
                v.append(wrap64(predicted + lower + low))
                values[t * f + k] = v[-1]
        check((at + 7) // 8 == len(raw) and bits >> at == 0,
              "table: bits of another number of values")
    fields.end("table")
    return values


def decode_table(coded, _, size):
    fields = Fields(coded)
    check(size <= 1 << 22, "table: a large block")
    method = fields.u8("table: method")
    check(method <= 2, f"table: unknown method {method}")
    count = fields.varint("table: fields", 1, 64)
    row = fields.varint("table: row", 0, 1 << 24)
    columns = [TableField(fields, method, size) for _ in range(count)]
    width = sum(column.width for column in columns)
    table = TableLayout(columns, row, size // width)
    check(row <= table.records // 4, "table: long rows")
    tail = fields.bytes(size % width, "table: tail")
    specials = table_specials(fields, table)
    if method == 0:
        values = table_bins(fields, table, specials)
    else:
        code = BitCoder(fields.bytes(fields.left(), "table: values"))
        model, values = TableModel(code, table, method == 2), {}
        for i in range(table.records * count):
            if i in specials:
                model.skip()
            else:
                values[i] = model.value(i % count)
        check(code.ended(), "table: values are not as long as they say")
    return b"".join(specials[i] if i in specials else columns[i % count].element(values[i])
                    for i in range(table.records * count)) + tail


DUPLICATE, TWIN = 2, 11  # of earlier blocks: by the container

# What a codec with `against` set has beside: its `decode` takes a Context as a fourth argument.

(BASE, FIRST_MOMENT, SECOND_MOMENT, FACTOR, BASE_FIRST_MOMENT, BASE_SECOND_MOMENT, IMPORTANCE, SCALE,
 ZERO) = range(9)

# Elements beside those of the block (role FACTOR: all of the factor, in rows of `row` elements).
# `dtype` is the name that dtypes.md has, `data` bytes.
Beside = collections.namedtuple("Beside", "role dtype data row")

# `sources`: a Beside each. `row`: R, elements of a row, 0 if there are none. `position`: elements
# of the tensor before the block. `shared`: what the Shared frame holds, b"" if there is none.
Context = collections.namedtuple("Context", "sources row position shared")


def decode_copy(coded, parameters, size, context):
    fields = Fields(coded)
    which = fields.u8("copy: source")
    fields.end("copy")
    check(which < len(context.sources), "copy: no such source")
    data = context.sources[which].data
    check(len(data) == size, "copy: a source of another size")
    return data


# ---------------------------------------------------------------------------------------------
# Codec 15: delta, and residuals

# By number: type, bytes, bits of the mantissa; of integers None
DELTA_TYPES = {
    1: ("F64", 8, 52), 2: ("F32", 4, 23), 3: ("F16", 2, 10), 4: ("BF16", 2, 7),
    5: ("F8_E4M3", 1, 3), 6: ("F8_E5M2", 1, 2), 11: ("F8_E4M3FNUZ", 1, 3),
    12: ("F8_E5M2FNUZ", 1, 2), 7: ("F8_E8M0", 1, None), 16: ("I8", 1, None),
    17: ("I16", 2, None), 18: ("I32", 4, None), 19: ("I64", 8, None), 20: ("U8", 1, None),
    21: ("U16", 2, None), 22: ("U32", 4, None), 23: ("U64", 8, None), 24: ("BOOL", 1, None),
}
DELTA_NUMBERS = {name: number for number, (name, _, _) in DELTA_TYPES.items()}

# What a symbol says: `base` of |d|, raw bits, whether a raw bit is the sign, whether d < 0,
# whether the element crosses, and the symbol before it.
ResidualSymbol = collections.namedtuple("ResidualSymbol", "base bits signed negative crosses before")


def residual_symbols(width, floats):
    symbols, last = [ResidualSymbol(0, 0, False, False, False, None)], 0

    def add(base, bits, signed, negative=False, crosses=False, first=False):
        nonlocal last
        number = len(symbols)
        before = None if first else number - 1 if negative else last
        symbols.append(ResidualSymbol(base, bits, signed, negative, crosses, before))
        if not negative:
            last = number

    for m in range(1, 16):
        add(m, 0, False)
        add(m, 0, False, negative=True)
    octaves = width - 1 if floats else width
    for octave in range(4, octaves):
        s = 1 if width != 32 else 3 if octave < 24 else 0
        for sub in range(1 << s):
            base = (1 << s) + sub << octave - s
            add(base, octave - s, width >= 32)
            if width < 32:
                add(base, octave - s, False, negative=True)
    if floats:
        add(0, 0, False, crosses=True, first=True)
        for octave in range(octaves):
            add(1 << octave, octave, True, crosses=True)
    return symbols


class Counter:
    def __init__(self):
        self.zeros = self.ones = 0

    def expect(self, q):
        return (65536 * self.ones + 2 * q) // (self.zeros + self.ones + 2)

    def count(self, bit):
        if self.zeros + self.ones == 255:
            self.zeros //= 2
            self.ones //= 2
        if bit:
            self.ones += 1
        else:
            self.zeros += 1


def counted_bit(coder, counter):
    bit = coder.code(clamp(counter.expect(32768), 32, 65504))
    counter.count(bit)
    return bit


def plain_number(coder, bits):
    value = 0
    for _ in range(bits):
        value = value << 1 | coder.code(32768)
    return value


class ResidualTables:
    """Tables of residuals, and the elements coded with them."""

    EIGHTHS = (32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097)

    def __init__(self, fields, size, floats, contexts):
        self.width, self.floats, self.contexts = 8 * size, floats, contexts
        self.symbols = residual_symbols(self.width, floats)
        code = fields.bytes(fields.varint("residuals: size of tables"), "residuals: tables")
        self.tables = None
        if not code:
            return
        coder = BitCoder(code)
        self.classes, last, count = [], 0, 1
        changes, known = Counter(), Counter()
        for _ in range(contexts):
            if counted_bit(coder, changes):
                if counted_bit(coder, known):
                    last = plain_number(coder, 6)
                    check(last < count, "residuals: no such class")
                else:
                    check(count < 64, "residuals: more than 64 classes")
                    last = count
                    count += 1
            self.classes.append(last)
        counters = [[Counter() for _ in range(14)] for _ in range(6)]
        self.tables, levels = [], [0] * len(self.symbols)
        for _ in range(count):
            levels = self._levels(coder, counters, levels)
            self.tables.append(self._slots(levels))
        check(coder.ended(), "residuals: tables do not end with their bytes")

    def _levels(self, coder, counters, above):
        levels = []
        for north, symbol in zip(above, self.symbols):
            west = northwest = north
            if symbol.before is not None:
                west, northwest = levels[symbol.before], above[symbol.before]
            expected = clamp(west + north - northwest, min(west, north), max(west, north))
            used = 0
            if west or north:
                used = min(1 + abs(west - north).bit_length(), 5)
            level = expected + self._signed(coder, counters[used])
            check(0 <= level <= 97, "residuals: a level is out of range")
            levels.append(level)
        return levels

    @staticmethod
    def _signed(coder, counters):
        if not counted_bit(coder, counters[0]):
            return 0
        negative = counted_bit(coder, counters[1])
        ones = 0
        while ones < 24 and counted_bit(coder, counters[min(2 + ones, 13)]):
            ones += 1
        magnitude = plain_number(coder, 7) if ones == 24 else 1 + ones
        return -magnitude if negative else magnitude

    def _slots(self, levels):
        """(symbol, frequency, rank) of each slot."""
        weights = [self.EIGHTHS[(n - 1) % 8] << (n - 1) // 8 if n else 0 for n in levels]
        total, used = sum(weights), sum(map(bool, levels))
        if not total:
            return [(0, 1, 0)] * 4096
        best = levels.index(max(levels))
        shares = [max(weight * 4096 // total, 1) if weight else 0 for weight in weights]
        if sum(shares) - shares[best] >= 4096:
            shares = [1 + weight * (4096 - used) // total if weight else 0 for weight in weights]
        shares[best] += 4096 - sum(shares)
        return [(s, share, rank) for s, share in enumerate(shares) for rank in range(share)]

    def _apply(self, prediction, difference, crosses):
        if not self.floats:
            return prediction + difference & (1 << self.width) - 1
        top = 1 << self.width - 1
        sign = (prediction & top) ^ (top if crosses else 0)
        return sign | (prediction + difference & top - 1)

    def decode(self, fields, predictions, contexts):
        """The elements as numbers."""
        check(all(context < self.contexts for context in contexts), "residuals: context")
        if self.tables is None:
            return self._decode_few(fields, predictions, contexts)
        which = [self.classes[context] for context in contexts]
        symbols = decode_class_rans(fields, [self.tables[number] for number in which])
        bits = Bits(fields, "residuals: raw bits")
        elements = []
        for number, prediction in zip(symbols, predictions):
            check(number < len(self.symbols), "residuals: no such symbol")
            symbol = self.symbols[number]
            difference = symbol.base + bits.take(symbol.bits)
            if symbol.negative or symbol.signed and bits.take(1):
                difference = -difference
            elements.append(self._apply(prediction, difference, symbol.crosses))
        bits.end()
        return elements

    def _decode_few(self, fields, predictions, contexts):
        code = fields.bytes(fields.varint("residuals: size"), "residuals: code")
        coder = BitCoder(code)
        counters = collections.defaultdict(Counter)

        def noted(*name):
            p, sets = 32768, [(), ("group", context // 8), ("context", context)]
            for where in sets:
                p = counters[where + name].expect(p)
            bit = coder.code(clamp(p, 32, 65504))
            for where in sets:
                counters[where + name].count(bit)
            return bit

        elements = []
        for prediction, context in zip(predictions, contexts):
            crosses = noted("crosses")
            width = 0
            while width < 64 and noted("width", width):
                width += 1
            difference = 0
            if width:
                negative = noted("sign", min(width, 3))
                difference = 1
                if width > 1:
                    second = noted("second", width)
                    difference = 2 + second
                    if width > 2:
                        difference = 2 * difference + noted("third", width, second)
                        for _ in range(width - 3):
                            difference = 2 * difference + coder.code(32768)
                if negative:
                    difference = -difference
            elements.append(self._apply(prediction, difference, crosses))
        check(coder.ended(), "residuals: the code does not end with the elements")
        return elements


def delta_cast(bits, source, target):
    """An element of one type as one of another: its bits, and the rest."""
    (_, from_bytes, from_m), (name, to_bytes, to_m) = source, target
    from_e, to_e = 8 * from_bytes - 1 - from_m, 8 * to_bytes - 1 - to_m
    sign = bits >> 8 * from_bytes - 1 << 8 * to_bytes - 1
    exponent, mantissa = bits >> from_m & (1 << from_e) - 1, bits & (1 << from_m) - 1
    last, to_last = (1 << from_e) - 1, (1 << to_e) - 1
    finite_only, to_finite_only = source[0] == "F8_E4M3", name == "F8_E4M3"
    ones = (1 << to_e + to_m) - 1
    if exponent == last and (mantissa == (1 << from_m) - 1 if finite_only else mantissa):
        if to_finite_only:
            return sign | ones, 0
        moved = mantissa << to_m >> from_m
        if to_m < from_m:
            moved |= 1 << to_m - 1
        return sign | to_last << to_m | moved, 0
    too_large = ones - 1 if to_finite_only else to_last << to_m
    if exponent == last and not finite_only:
        return sign | too_large, 0
    # The value is mantissa * 2^power.
    power = max(exponent, 1) - ((1 << from_e - 1) - 1) - from_m
    mantissa |= 1 << from_m if exponent else 0
    if not mantissa:
        return sign, 0
    least = 2 - (1 << to_e - 1) - to_m  # of a unit of the last place
    unit = max(mantissa.bit_length() - 1 + power - to_m, least)
    # In 2^-200 units of the last place at least, so that nothing is lost.
    shift = power - unit
    if shift >= 0:
        kept, part = mantissa << shift, 0
    else:
        kept, part = mantissa >> -shift, mantissa & (1 << -shift) - 1
    size = max(-shift, 0)
    half = 1 << size >> 1
    up = size > 0 and (part > half or part == half and kept & 1)
    if kept == 0 and size and part < half:
        return sign, 0
    kept += up
    field = unit - least  # 0 for denormals, too: their top bit is no exponent
    result = (field << to_m) + kept
    if result >= too_large:
        return sign | too_large, 0
    rest = (part << 16) >> size
    return sign | result, rest - 65536 if up else rest


class DeltaParameters:
    def __init__(self, data):
        fields = Fields(data)
        self.type = DELTA_TYPES.get(fields.u8("delta: type"))
        check(self.type, "delta: type of elements")
        self.source = fields.u8("delta: source")
        self.flags = fields.u8("delta: flags")
        check(self.source <= 3 and self.flags <= 7, "delta: source or flags")
        scale = fields.varint("delta: scale", 0, 2 * 16383)
        self.scale = -(scale + 1) // 2 if scale % 2 else scale // 2
        self.row, self.columns = 1 << 40, None
        if self.flags & 3:
            self.row = fields.varint("delta: row", 1, 1 << (15 if self.flags & 2 else 40))
        if self.flags & 2:
            self.columns = delta_offsets(fields, self.row)
        self.tables = ResidualTables(fields, self.type[1], self.type[2] is not None,
                                     256 if self.flags & 4 else 64)
        fields.end("delta: parameters")


def delta_offsets(fields, count):
    bits, code, last, offsets = Bits(fields, "delta: offsets"), AdaptiveCode(), 0, []
    for _ in range(count):
        last += code.take_signed(bits)
        check(-63 <= last <= 63, "delta: an offset is out of range")
        offsets.append(last)
    bits.end()
    return offsets


def decode_delta(coded, parameters, size, context):
    check(parameters, "delta: no parameters")
    p = parameters
    name, width, mantissa = p.type
    count, part = divmod(size, width)
    check(part == 0, "delta: block with a part of an element")
    check(p.source < len(context.sources), "delta: no such source")
    base = context.sources[p.source]
    check(base.role == BASE and base.dtype in DELTA_NUMBERS, "delta: the source is no base")
    base_type = DELTA_TYPES[DELTA_NUMBERS[base.dtype]]
    castable = all(kind[2] is not None and not kind[0].endswith("FNUZ")
                   for kind in (p.type, base_type))
    check(base.dtype == name or castable, "delta: a base of another type")
    check(len(base.data) == count * base_type[1], "delta: a base of another size")

    if not coded:
        elements = (int.from_bytes(base.data[i:i + base_type[1]], "little")
                    for i in range(0, len(base.data), base_type[1]))
        if base.dtype != name:
            elements = (delta_cast(bits, base_type, p.type)[0] for bits in elements)
        return b"".join(bits.to_bytes(width, "little") for bits in elements)
    fields = Fields(coded)
    phase = context.position % p.row
    rows = None
    if p.flags & 1:
        rows = delta_offsets(fields, (phase + count - 1) // p.row + 1)
    predictions, contexts = [], []
    for i in range(count):
        bits = int.from_bytes(base.data[i * base_type[1]:(i + 1) * base_type[1]], "little")
        rest = 0
        if base.dtype != name:
            bits, rest = delta_cast(bits, base_type, p.type)
        exponent = 0
        if mantissa is not None:
            exponent = (bits & (1 << 8 * width - 1) - 1) >> mantissa
        row, column = divmod(phase + i, p.row)
        step = p.scale - 4 * max(exponent, 1)
        step += (rows[row] if rows else 0) + (p.columns[column] if p.columns else 0)
        step = clamp(step, 0, 63)
        if p.flags & 4:
            left = 32768 - abs(rest)
            step = step // 2 + 32 * (4 * (rest < 0) + (left < 512) + (left < 2048) + (left < 8192))
        predictions.append(bits)
        contexts.append(step)
    elements = p.tables.decode(fields, predictions, contexts)
    fields.end("delta: block")
    return b"".join(element.to_bytes(width, "little") for element in elements)


# ---------------------------------------------------------------------------------------------
# Codec 17: moments

# By number: type, bytes, mantissa bits M, bias B
MOMENTS_KINDS = {1: ("BF16", 2, 7, 127), 2: ("F16", 2, 10, 15), 3: ("F32", 4, 23, 127)}
MOMENTS_LOG_LIMIT = 400 << 18
MOMENTS_CONTEXTS = 248


class MomentsParameters:
    def __init__(self, data):
        fields = Fields(data)
        kind = fields.u8("moments: kind")
        check(kind in MOMENTS_KINDS, f"moments: kind {kind}")
        self.type, self.width, self.m, self.bias = MOMENTS_KINDS[kind]
        self.least, self.greatest = 1 - self.bias, self.bias
        self.infinity = 2 * self.bias + 1 << self.m
        self.logarithmic = fields.u8("moments: map")
        self.engine = fields.u8("moments: engine")
        check(self.logarithmic <= 1 and self.engine <= 2, "moments: map or engine")
        self.signs, self.ridges = 0, ()
        if self.engine == 0:
            self.signs = fields.u8("moments: signs")
            check(self.signs <= 1, "moments: signs")
        else:
            self.ridges = fields.bytes(2, "moments: ridges")
        center, scale = fields.u8("moments: center terms"), fields.u8("moments: scale terms")
        check(center < 8 and scale < 64, "moments: terms")
        self.center = {i: self._factor(fields) for i in range(3) if center >> i & 1}
        self.decay = self._factor(fields) if scale >> 4 else 0.0
        self.level, = struct.unpack("<i", fields.bytes(4, "moments: level"))
        self.scale = {i: struct.unpack("<h", fields.bytes(2, "moments: factor"))[0]
                      for i in range(6) if scale >> i & 1}
        if self.engine == 0:
            self.tables = ResidualTables(fields, self.width, True, MOMENTS_CONTEXTS)
        fields.end("moments: parameters")

    @staticmethod
    def _factor(fields):
        value, = struct.unpack("<f", fields.bytes(4, "moments: factor"))
        check(math.isfinite(value), "moments: a factor is not finite")
        return value

    def number(self, element):
        """What an element stands for; None if that is not finite."""
        sign, magnitude = divmod(element, 1 << 8 * self.width - 1)
        if magnitude >= self.infinity:
            return None
        exponent, mantissa = magnitude >> self.m, magnitude & (1 << self.m) - 1
        value = math.ldexp(mantissa + (1 << self.m if exponent else 0),
                           max(exponent, 1) - self.bias - self.m)
        return -value if sign else value

    def place(self, value):
        """The exponent of a value that is clamped already."""
        return max(moments_log(abs(value)) >> 18, self.least)


def moments_log(x):
    if not x > 0:
        return -MOMENTS_LOG_LIMIT
    bits, = struct.unpack("<Q", struct.pack("<d", x))
    return clamp((bits >> 34) - (1023 << 18), -MOMENTS_LOG_LIMIT, MOMENTS_LOG_LIMIT)


def moments_exp(y):
    y = clamp(y, -MOMENTS_LOG_LIMIT, MOMENTS_LOG_LIMIT) + (1023 << 18)
    return struct.unpack("<d", struct.pack("<Q", y << 34))[0]


class MomentsExpected:
    """Centers and log scales of a block's elements."""

    def __init__(self, parameters, context, count):
        self._context, self._count = context, count
        base = self._array(BASE)
        self.center = list(base)
        for i, factor in parameters.center.items():
            for k, value in enumerate(base if i == 0 else self._steps(i)):
                self.center[k] += factor * value
        self.scale = [parameters.level] * count
        for i in (0, 2, 4):
            if i not in parameters.scale and i + 1 not in parameters.scale:
                continue
            logs = self._logs(i, parameters.decay)
            for term, values in ((i, logs), (i + 1, None)):
                if term in parameters.scale:
                    values = values or self._means(logs)
                    self.scale = [s + (parameters.scale[term] * u >> 8)
                                  for s, u in zip(self.scale, values)]
        self.scale = [clamp(s, -MOMENTS_LOG_LIMIT, MOMENTS_LOG_LIMIT) for s in self.scale]

    def _find(self, role):
        for source in self._context.sources:
            for kind, (name, width, _, _) in MOMENTS_KINDS.items():
                if (source.role, source.dtype) == (role, name) and \
                        len(source.data) == width * self._count:
                    return source.data, struct.Struct("<" + {1: "H", 2: "e", 3: "f"}[kind]), kind
        return None

    def _array(self, role):
        found = self._find(role)
        if found is None:
            return [0.0] * self._count
        data, form, kind = found
        values = [value for value, in form.iter_unpack(data)]
        if kind == 1:
            values = [struct.unpack("<f", struct.pack("<I", value << 16))[0] for value in values]
        return [value if math.isfinite(value) else 0.0 for value in values]

    def _steps(self, i):
        first = self._array(FIRST_MOMENT if i == 1 else BASE_FIRST_MOMENT)
        if self._find(SECOND_MOMENT) is None:
            return first
        return [x / math.sqrt(v) if v > 0 else 0.0
                for x, v in zip(first, self._array(SECOND_MOMENT))]

    def _logs(self, i, decay):
        values = self._array(BASE if i == 2 else SECOND_MOMENT)
        if i == 4:
            factor = 1.0 + decay
            values = [max(v - factor * before, v * 2.0 ** -20)
                      for v, before in zip(values, self._array(BASE_SECOND_MOMENT))]
        return [moments_log(abs(value)) for value in values]

    def _means(self, logs):
        has_rows = 0 < self._context.row <= self._count
        width = self._context.row if has_rows else 1
        skip = self._context.position % width
        rows, columns, everything = {}, {}, []
        for i, u in enumerate(logs):
            if u != -MOMENTS_LOG_LIMIT:
                rows.setdefault((skip + i) // width, []).append(u)
                columns.setdefault((skip + i) % width, []).append(u)
                everything.append(u)

        def means(lists):
            return {key: divide(sum(us), len(us)) for key, us in lists.items()}

        rows, columns = means(rows), means(columns)
        mean = means({0: everything} if everything else {}).get(0, -MOMENTS_LOG_LIMIT)
        return [rows.get((skip + i) // width, -MOMENTS_LOG_LIMIT) +
                columns.get((skip + i) % width, -MOMENTS_LOG_LIMIT) - mean
                for i in range(self._count)]


class MomentsMixed(MixExperts):
    def __init__(self, parameters, columns, coder):
        super().__init__(parameters, columns, coder,
                         (16000, 16000, 10000, 10000, 6000, 6000, 6000))

    def expect(self, column):
        self.begin(column)
        return self.mean[0], self.dev[0]

    def flag(self, bound, node, context):
        return self.bit(bound(), node, ("cell", context, node))


class MomentsSingle:
    def __init__(self, parameters, columns, coder):
        self._coder = coder
        self._predictor = RowPredictor(columns, parameters.ridges[0])
        self._scale, self._count = [1 << 18] * columns, [0] * columns
        self._line_ratio, self._lines = 4096, 0
        self._models = collections.defaultdict(AdaptiveBit)

    def _set_ratio(self):
        self._ratio = max(self._sum // self._n, 64)
        self._inverse = (1 << 24) // self._ratio

    def begin_line(self):
        self._predictor.begin()
        self._sum, self._n = 12 * self._line_ratio, 12
        self._set_ratio()

    def end_line(self):
        self._predictor.end()
        if self._n > 12:
            step = 65536 // (self._lines + 2)
            self._lines = min(self._lines + 1, 127)
            self._line_ratio += (self._sum // self._n - self._line_ratio) * step >> 16

    def skip(self, column):
        self._predictor.tell(column, self._predictor.prediction[column] >> 7)

    def expect(self, column):
        self._mean = 2 * self._predictor.prediction[column]
        self._s = max(self._scale[column], 16)
        return self._mean, clamp((self._s * self._ratio >> 12) * 19 >> 4, 64, 1 << 34)

    def flag(self, bound, node, context):
        return self._coder.adaptive(self._models[context, node])

    def mirror(self):
        pass

    def end(self, column, value):
        self._predictor.tell(column, clamp(value >> 8, -32767, 32767))
        d = min(abs(value - self._mean), 1 << 24)
        self._sum += min((d << 12) // self._s, 64 * 4096)
        self._n += 1
        if self._n % 8 == 0:
            self._set_ratio()
        step = 65536 // (self._count[column] + 2)
        self._count[column] = min(self._count[column] + 1, 127)
        self._scale[column] += ((d * self._inverse >> 12) - self._scale[column]) * step >> 16


class MomentsElements:
    """The elements of a block, by an engine."""

    def __init__(self, parameters, columns, coder, raw):
        self._p, self._coder, self._raw = parameters, coder, raw
        self.engine = (MomentsMixed if parameters.engine == 2 else MomentsSingle)(
            parameters, columns, coder)
        self._zero = collections.defaultdict(AdaptiveBit)

    def _u(self, y):
        if self._p.logarithmic:
            return clamp(moments_log(y - self._center) - self._log, -(1 << 34), 1 << 34)
        z = clamp((y - self._center) * (1 / moments_exp(self._log)), -65536.0, 65536.0)
        return int(z * 2.0 ** 18)

    def element(self, column, center, log_scale):
        self._center, self._log = center, log_scale
        p = self._p
        mean, deviation = self.engine.expect(column)
        r = moments_log(float(deviation)) - (18 << 18)
        if p.logarithmic:
            x = center + moments_exp(log_scale + mean)
            spread = log_scale + mean + min(r, -(1 << 18))
        else:
            x = center + mean * 2.0 ** -18 * moments_exp(log_scale)
            spread = log_scale + r
        x = clamp(x, -2.0 ** p.greatest, 2.0 ** p.greatest)
        self._w = w = clamp((spread >> 18) - 2, p.place(x) - p.m, p.greatest)
        at = x * 2.0 ** -w + 0.5
        first = math.floor(at)
        k = clamp((spread - (w << 18)) >> 16, -8, 11)
        self._context = 4 * (k + 8) + int(4 * (at - first)) if k < 8 else 56 + k
        negative = not self._flag(first, 0, False)
        if negative:
            self.engine.mirror()
        side = 90 if negative else 0

        def at_least(distance, node):
            return self._flag(first - distance if negative else first + distance, side + node,
                              negative)

        octave = 0
        while octave < 25 and at_least(4 << octave, 1 + octave):
            octave += 1
        if octave == 25:
            element = self._raw.take(8 * p.width)
        else:
            bits = 1 + octave if octave else 2
            distance, tree = 1 << bits if octave else 0, 1
            for _ in range(min(bits, 3)):
                bits -= 1
                bit = at_least(distance + (1 << bits), 26 + 8 * min(octave, 7) + tree)
                distance += bit << bits
                tree = 2 * tree + bit
            distance += self._raw.take(bits)
            element = self._inside(first - 1 - distance if negative else first + distance)
        number = p.number(element)
        self.engine.end(column, mean if number is None else self._u(number))
        return element

    def _flag(self, cell, node, mirrored):
        def bound():
            u = self._u(cell * 2.0 ** self._w)
            return -u if mirrored else u
        return self.engine.flag(bound, node, self._context)

    def _inside(self, cell):
        p, w = self._p, self._w
        sign = (cell < 0) << 8 * p.width - 1
        q = -1 - cell if cell < 0 else cell
        least = p.least - p.m
        if q == 0 and w > least:
            return sign | self._near_zero()
        ulp = max(w + q.bit_length() - 1 - p.m, least)
        if ulp < w:
            g = (q << w - ulp) + self._raw.take(w - ulp)
        else:
            g = q >> min(ulp - w, 63)
        return sign | min(g + (ulp - least << p.m), p.infinity)

    def _near_zero(self):
        p = self._p
        if self._coder.adaptive(self._zero[0], 255):
            return 0
        exponent, n = clamp(self._w - 1 + p.bias, 0, 2 * p.greatest), 1
        while exponent > 0:
            if self._coder.adaptive(self._zero[n], 255):
                break
            if n == 39:
                return self._raw.take(8 * p.width - 1)
            exponent, n = exponent - 1, n + 1
        return exponent << p.m | self._raw.take(p.m)


class MomentsRaw:
    def __init__(self, data):
        self._size, self._bits, self._used = len(data), int.from_bytes(data, "little"), 0

    def take(self, count):
        value = self._bits >> self._used & (1 << count) - 1
        self._used += count
        return value

    def ended(self):
        return self._size == (self._used + 7) // 8 and self._bits >> self._used == 0


def decode_moments(coded, parameters, size, context):
    check(parameters is not None, "moments: no parameters")
    width = parameters.width
    check(size % width == 0 and size <= MIX_MAX_BLOCK, f"moments: block of {size} bytes")
    expected = MomentsExpected(parameters, context, size // width)
    fields = Fields(coded)
    if parameters.engine == 0:
        return decode_moments_tables(fields, parameters, expected, size // width)
    code = fields.bytes(fields.varint("moments: length of the code"), "moments: code")
    raw = MomentsRaw(fields.bytes(fields.left(), "moments: raw bits"))
    phase = context.position % context.row if context.row else 0
    columns, places = mix_grid(context, phase, size // width)
    coder = BitCoder(code)
    elements = MomentsElements(parameters, columns, coder, raw)
    out = bytearray(size)
    for column, i in mix_places(elements.engine, columns, places):
        element = elements.element(column, expected.center[i], expected.scale[i])
        out[i * width:(i + 1) * width] = element.to_bytes(width, "little")
    check(coder.ended(), "moments: the code does not end with the block")
    check(raw.ended(), "moments: the raw bits do not end with the block")
    return bytes(out)


def decode_moments_tables(fields, parameters, expected, count):
    p = parameters
    signs = int.from_bytes(fields.bytes((count + 7) // 8, "moments: signs"), "little") \
        if p.signs else 0
    check(signs >> count == 0, "moments: signs of no elements")
    predictions, contexts = [], []
    for i, (x, s) in enumerate(zip(expected.center, expected.scale)):
        if p.signs:
            x = -moments_exp(s) if signs >> i & 1 else moments_exp(s)
        elif p.logarithmic:
            x += moments_exp(s)
        y = min(abs(x), 2.0 ** p.greatest)
        e = p.place(y)
        place = math.ldexp(y, p.m - e)
        magnitude = math.floor(place + 0.5) + (e - p.least << p.m)
        negative = math.copysign(1.0, x) < 0
        predictions.append(magnitude | negative << 8 * p.width - 1)
        k = clamp((s - (e - p.m << 18)) >> 16, -32, 95) + 32
        contexts.append(4 * k + int(4 * (place - math.floor(place))) if k < 40 else 120 + k)
    elements = p.tables.decode(fields, predictions, contexts)
    fields.end("moments: block")
    return b"".join(element.to_bytes(p.width, "little") for element in elements)


# ---------------------------------------------------------------------------------------------
# Codec 16: sum

SUM_TYPES = [("BF16", 2, 7, 897), ("F16", 2, 10, 1009), ("F32", 4, 23, 897)]
SUM_FORMATS = {"BF16": None, "F16": "e", "F32": "f"}


def double_field(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0] >> 52 & 0x7FF


def double_sign(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0] >> 63


def settle(x, kind):
    """(x settled for a type, e); (x, None) where it cannot be."""
    _, _, mantissa, least = kind
    e = min(max(double_field(x), least), 1223)
    if e == 1223:
        return x, None
    m = math.ldexp(1.5, e - 1023 + 52 - mantissa)
    return math.copysign((x + m) - m, x), e


def step(x, rounding):
    if rounding:
        x = settle(x, SUM_TYPES[2])[0]
        if rounding != 3:
            x = settle(x, SUM_TYPES[rounding - 1])[0]
    return x


def to_f32(x):
    x = settle(x, SUM_TYPES[2])[0]
    return math.copysign(math.inf, x) if abs(x) >= 2.0 ** 128 else x


def sum_values(source):
    """The elements of a source as doubles."""
    if source.dtype == "BF16":
        bits = struct.unpack(f"<{len(source.data) // 2}H", source.data)
        return struct.unpack(f"<{len(bits)}f", struct.pack(
            f"<{len(bits)}I", *[number << 16 for number in bits]))
    letter, width = SUM_FORMATS[source.dtype], 4 if source.dtype == "F32" else 2
    return struct.unpack(f"<{len(source.data) // width}{letter}", source.data)


class SumParameters:
    def __init__(self, data):
        fields = Fields(data)

        def small(name, most):
            value = fields.u8("sum: " + name)
            check(value <= most, "sum: " + name)
            return value

        def number(name):
            (value,) = struct.unpack("<d", fields.bytes(8, "sum: " + name))
            check(math.isfinite(value), "sum: " + name + " is not finite")
            return value

        self.type = SUM_TYPES[small("type", 2)]
        self.method = small("method", 2)
        self.rounding = small("rounding", 3)
        terms = small("terms", 4)
        check(terms, "sum: no terms")
        self.terms = [(small("source", 3), number("coefficient")) for _ in range(terms)]
        self.noisy = small("noisy", 1)
        self.noise = fields.varint("sum: noise field", 0, 1223)
        self.product = small("product", 2)
        self.scale, self.steps = 1.0, 0
        if self.product:
            self.product_rounding = small("rounding of the product", 3)
        if self.product == 1:
            self.rank = fields.varint("sum: rank", 1, 256)
        elif self.product == 2:
            self.a, self.b = small("A", 3), small("B", 3)
            self.steps = small("steps", 2)
            self.scale = number("scale")
        if self.product == 1:
            self.rows = ResidualTables(fields, 4, False, self.rank)
        self.tables = ResidualTables(fields, self.type[1], True, 256)
        fields.end("sum: parameters")


def sum_integers(tables, fields, contexts):
    return [number - (number >> 31 << 32)
            for number in tables.decode(fields, [0] * len(contexts), contexts)]


def sum_shared(p, context):
    """Scales, and the factors of the columns: a list a component."""
    fields = Fields(context.shared)
    check(fields.varint("sum: shared rank") == p.rank, "sum: shared factors of another rank")
    columns = fields.varint("sum: shared columns")
    check(columns == context.row and p.rank * columns <= 1 << 22, "sum: shared columns")
    scales = struct.unpack(f"<{p.rank}d", fields.bytes(8 * p.rank, "sum: scales"))
    check(all(map(math.isfinite, scales)), "sum: a scale is not finite")
    tables = ResidualTables(fields, 4, False, p.rank)
    values = sum_integers(tables, fields, [k for k in range(p.rank) for _ in range(columns)])
    fields.end("sum: shared factors")
    return scales, [values[k * columns:(k + 1) * columns] for k in range(p.rank)]


def sum_factors(p, context, count, fields):
    """Of the rows (times scales), by row number; of the columns; doubles."""
    check(context.row, "sum: a product without rows")
    first = context.position // context.row
    last = (context.position + count - 1) // context.row
    if p.product == 1:
        number = (last - first + 1) * p.rank
        check(number <= 4 * count + 4096, "sum: too many factors")
        values = sum_integers(p.rows, fields, [i % p.rank for i in range(number)])
        scales, columns = sum_shared(p, context)
        return {first + i: [b * f for b, f in zip(values[i * p.rank:(i + 1) * p.rank], scales)]
                for i in range(last - first + 1)}, columns
    for which in (p.a, p.b):
        check(which < len(context.sources) and context.sources[which].role == FACTOR
              and context.sources[which].dtype in SUM_FORMATS, "sum: no such factor")
    a, b = context.sources[p.a], context.sources[p.b]
    columns, rows, rank = sum_values(a), sum_values(b), b.row
    check(1 <= rank <= 1024 and a.row == context.row and len(columns) == rank * context.row
          and len(columns) <= 1 << 22 and (last + 1) * rank <= len(rows),
          "sum: factors of sizes that do not fit")
    return ({i: rows[i * rank:(i + 1) * rank] for i in range(first, last + 1)},
            [columns[k * context.row:(k + 1) * context.row] for k in range(rank)])


def sum_base(p, values):
    """The sum before the product."""
    def done(x):
        return step(x, p.rounding)

    if p.method == 0:
        total = None
        for (_, c), x in zip(p.terms, values):
            if c != 1:
                x = done(c * x)
            total = x if total is None else done(total + x)
        return total
    if p.method == 1:
        total = values[0]
        for x in values[1:]:
            total = done(total + x)
        return done(total / float(len(values)))
    total = None
    for (_, c), x in zip(p.terms[1:], values[1:]):
        task = done(c * done(x - values[0]))
        total = task if total is None else done(total + task)
    return values[0] if total is None else done(values[0] + total)


def sum_product(p, row, columns, j):
    q = 0.0
    for b, column in zip(row, columns):
        term = b * column[j]
        if p.steps == 2:
            term = to_f32(term)
        q += term
        if p.steps:
            q = to_f32(q)
    q = step(q, p.product_rounding)
    return step(q * p.scale, p.product_rounding) if p.scale != 1 else q


def sum_prediction(p, s, before):
    """Bits of the prediction, and the context."""
    _, width, mantissa, least = p.type
    settled, e = settle(s, p.type)
    if e is None:
        return 0, 0
    magnitude, sign = abs(settled), double_sign(s)
    infinity = (31 if least == 1009 else 255) << mantissa
    if double_field(magnitude) < least:
        bits = int(math.ldexp(magnitude, mantissa + 1023 - least))
    else:
        raw = struct.unpack("<Q", struct.pack("<d", magnitude))[0]
        bits = min((raw >> 52 - mantissa) - (least - 1 << mantissa), infinity)
    z = math.ldexp(s - settled, mantissa + 1023 - e)
    if s == settled:
        z = 0.0
    if sign:
        z = -z
    u = round(32 - 64 * abs(z))
    v = u
    if u >= 4:
        o = u.bit_length() - 1
        v = min(4 * (o - 1) + (u >> o - 2) - 4, 15)
    column = v if double_sign(z) else 31 - v
    noise = p.noise
    if p.noisy:
        noise = max(noise, min(double_field(before), 1223))
    return bits | sign << 8 * width - 1, 32 * clamp(e + 3 - noise, 0, 7) + column


def decode_sum(coded, parameters, size, context):
    check(parameters, "sum: no parameters")
    p = parameters
    width = p.type[1]
    count, part = divmod(size, width)
    check(part == 0, "sum: block with a part of an element")
    bases = []
    for which, _ in p.terms:
        check(which < len(context.sources), "sum: no such source")
        source = context.sources[which]
        check(source.role == BASE and source.dtype in SUM_FORMATS, "sum: a source is no base")
        bases.append(sum_values(source))
        check(len(bases[-1]) == count, "sum: a base of another size")
    fields = Fields(coded)
    if p.product:
        rows, columns = sum_factors(p, context, count, fields)
    predictions, contexts = [], []
    for k, values in enumerate(zip(*bases)):
        before = s = sum_base(p, values)
        if p.product:
            i, j = divmod(context.position + k, context.row)
            s = step(sum_product(p, rows[i], columns, j) + s, p.rounding)
        bits, which = sum_prediction(p, s, before)
        predictions.append(bits)
        contexts.append(which)
    elements = p.tables.decode(fields, predictions, contexts)
    fields.end("sum: block")
    return b"".join(element.to_bytes(width, "little") for element in elements)


# ---------------------------------------------------------------------------------------------
# Codec 18: mixdelta

# Bytes, mantissa bits, bias
MIXDELTA_TYPES = {"BF16": (2, 7, 127), "F16": (2, 10, 15), "F32": (4, 23, 127),
                  "F8_E4M3": (1, 3, 7), "F8_E5M2": (1, 2, 15)}


def mixdelta_integral():
    sums = [0]
    for i in range(1024):
        sums.append(sums[-1] + DISTRIBUTION[i] + DISTRIBUTION[i + 1])
    return sums


MIXDELTA_INTEGRAL = mixdelta_integral()


def mixdelta_g(z):
    if z < -(1 << 19):
        return 0
    if z >= 1 << 19:
        return MIXDELTA_INTEGRAL[1024] + ((z - (1 << 19)) << 21)
    i, r = divmod(z + (1 << 19), 1024)
    slope = (DISTRIBUTION[i + 1] - DISTRIBUTION[i]) * r >> 10
    return MIXDELTA_INTEGRAL[i] + ((2 * DISTRIBUTION[i] + slope) * r >> 10)


def lnratio(a, b):
    return clamp((log2(max(a, 1)) - log2(max(b, 1))) * 2839 >> 16, -2047, 2047)


class MixdeltaParameters:
    def __init__(self, data):
        fields = Fields(data)
        self.type = DTYPES.get(fields.u8("mixdelta: type"))
        check(self.type in MIXDELTA_TYPES, "mixdelta: type of elements")
        self.equal = fields.u8("mixdelta: equal")
        check(self.equal <= 1, "mixdelta: equal")
        self.ridge = fields.u8("mixdelta: ridge")
        self.unit = (fields.u16("mixdelta: unit") + 32768) % 65536 - 32768
        check(abs(self.unit) <= 1023, "mixdelta: unit")
        fields.end("mixdelta: parameters")


class MixdeltaNumbers:
    """Elements of a type as numbers and places."""

    def __init__(self, name, unit):
        self.width, self.mantissa_bits, self.bias = MIXDELTA_TYPES[name]
        self.sign = 1 << 8 * self.width - 1
        self.unit = unit

    def split(self, magnitude):
        return magnitude >> self.mantissa_bits, magnitude & (1 << self.mantissa_bits) - 1

    def shift(self, exponent):
        return max(exponent, 1) - self.bias - self.mantissa_bits - self.unit + 22

    def size(self, magnitude):
        exponent, g = self.split(magnitude)
        if exponent:
            g += 1 << self.mantissa_bits
        s = self.shift(exponent)
        if s <= 0:
            return g >> min(-s, 63)
        return 1 << 58 if s + self.mantissa_bits >= 57 else g << s

    def place(self, element):
        return -1 - (element - self.sign) if element & self.sign else element

    def element(self, place):
        return self.sign | -1 - place if place < 0 else place

    def at(self, place):
        return -self.size(-1 - place) if place < 0 else self.size(place)

    def bound(self, place):
        below, here = (clamp(x, -self.sign, self.sign - 1) for x in (place - 1, place))
        return (self.at(below) + self.at(here)) >> 1

    def step(self, place):
        magnitude = -1 - place if place < 0 else place
        return self.size(magnitude + 1) - self.size(magnitude)

    def nearest(self, v):
        a, x = min(abs(v), 1 << 58), 0
        if a:
            exponent = a.bit_length() - 1 + self.bias + self.unit - 22
            s = self.shift(exponent)
            g = a >> min(s, 63) if s >= 0 else a << min(-s, 40)
            if exponent < 1:
                x = min(g, self.sign - 1)
            elif exponent > (self.sign - 1) >> self.mantissa_bits:
                x = self.sign - 1
            else:
                x = (exponent - 1 << self.mantissa_bits) + g
        x = min(x + (2 * a >= self.size(x) + self.size(x + 1)), self.sign - 1)
        return -1 - x if v < 0 else x


class MixdeltaDecay:
    def __init__(self):
        self.steps, self.bases, self.count = 0, 1 << 22, 0

    def halve(self):
        self.steps, self.bases, self.count = (
            divide(self.steps, 2), self.bases // 2 + 1, self.count // 2)

    def add(self, step, base):
        self.steps += clamp(step, -(1 << 37), 1 << 37)
        self.bases += min(base, 1 << 56)
        self.count += 1
        if abs(self.steps) > 1 << 37 or self.bases > 1 << 57:
            self.halve()


class MixdeltaModels:
    PRIOR = (8192, 8192, 2048)

    def __init__(self, parameters, base_type, columns, count, code, raw):
        self._equal = parameters.equal
        self._numbers = MixdeltaNumbers(parameters.type, parameters.unit)
        self._bases = MixdeltaNumbers(base_type, parameters.unit)
        self._few = count < 4096
        self._coder = BitCoder(code)
        self._raw, self._raw_left = int.from_bytes(raw, "little"), 8 * len(raw)
        self._predictor = RowPredictor(columns, parameters.ridge)
        self._scale = [[[1 << 22, 3072] for _ in range(columns)] for _ in range(3)]
        self._line_scale, self._lines = [65536] * 3, 2
        self._trust = [[1 << 19, 1 << 19] for _ in range(64)]
        self._quiet, self._quiet_decay = 64 * 65536, MixdeltaDecay()
        self._above = [0] * columns
        self._models, self._weights = {}, {}
        self._far = [AdaptiveBit() for _ in range(32)]

    def ended(self):
        return self._coder.ended() and 0 <= self._raw_left < 8 and self._raw == 0

    def begin_line(self):
        self._predictor.begin()
        self._sum = [p * scale for p, scale in zip(self.PRIOR, self._line_scale)]
        self._weight = list(self.PRIOR)
        self._decay = copy.copy(self._quiet_decay)
        self._left = 0

    def end_line(self):
        self._predictor.end()
        for k in range(3):
            self._line_scale[k] += divide(
                self._sum[k] // self._weight[k] - self._line_scale[k], self._lines)
        self._lines = min(self._lines + 1, 64)
        v = self._sum[2] // self._weight[2]
        if v <= 2 * self._quiet:
            self._quiet_decay = copy.copy(self._decay)
            while self._quiet_decay.count > 256:
                self._quiet_decay.halve()
            self._quiet = min(self._quiet, v)
        self._quiet += (self._quiet >> 3) + 1

    def skip(self, column):
        self._predictor.tell(column, self._predictor.prediction[column] >> 7)

    def _raw_bits(self, count):
        value = self._raw & (1 << count) - 1
        self._raw >>= count
        self._raw_left -= count
        return value

    def _model(self, key, start=None):
        if key not in self._models:
            self._models[key] = AdaptiveBit(*(start or ()))
        return self._models[key]

    def _level(self, x):
        return (x + 2048) >> 7, 64 * SQUASH[128 * ((x + 2048) >> 7) + 64 - 2048]

    def _bit(self, odds, node):
        inputs, models = [], []
        for k in range(3):
            level, start = self._level(odds[k])
            models.append(self._model(("odds", k, node, level), (start, 6)))
            inputs += [odds[k], STRETCH[models[-1].predict() >> 4]]
        for i, context in enumerate(self._contexts):
            models.append(self._model((i, context, node)))
            inputs.append(STRETCH[models[-1].predict() >> 4])
        first = [12000] * 4 + [4000] * 2 + [2000] * 4
        sets = [self._weights.setdefault(key, [list(first), 0])
                for key in (("A", node), ("B", self._coarse, node))]
        mixes = [clamp((sum(w * x for w, x in zip(weights, inputs)) + 32768) >> 16, -2047, 2047)
                 for weights, _ in sets]
        y = sum(mixes) >> 1
        level, start = self._level(y)
        models.append(self._model(("last", node, level), (start, 20)))
        bit = self._coder.code(clamp((3 * SQUASH[y] + models[-1].predict()) >> 2, 1, 65535))
        for one, mix in zip(sets, mixes):
            weights, count = one
            u = min(16, 13 + (count >> 5))
            error = 65536 * bit - SQUASH[mix]
            half, edge = 1 << u - 1, 1 << 19
            told = [w + ((x * error + half) >> u) for w, x in zip(weights, inputs)]
            if max(told) > edge or min(told) < -edge:
                told = [clamp(w, -edge, edge) for w in told]
            one[:] = told, min(count + 1, 1024)
        for model in models:
            model.learn(bit)
        return bit

    def _below(self, k, v):
        limit, inverse = self._dev[k] << 14, (1 << 48) // self._dev[k]
        z = clamp(v - self._mean[k], -limit, limit) * inverse >> 32
        spread = self._spread[k]
        if spread < 8192:
            return distribution(z)
        return ((mixdelta_g(z + spread) - mixdelta_g(z - spread)) << 9) // (2 * spread)

    def _is_at(self, place, node):
        bounds = self._numbers.bound(place), self._numbers.bound(place + 1)
        shares = [self._below(k, bounds[1]) - self._below(k, bounds[0]) for k in range(3)]
        return self._bit([lnratio(v, (1 << 30) - v) for v in shares], node)

    def _is_from(self, place, node):
        bound = self._numbers.bound(place)
        middle = [clamp(self._below(k, bound), self._low[k], self._high[k]) for k in range(3)]
        bit = self._bit([lnratio(self._high[k] - middle[k], middle[k] - self._low[k])
                         for k in range(3)], node)
        if bit:
            self._low = middle
        else:
            self._high = middle
        return bit

    def _place(self):
        nearest, x = self._numbers.nearest, 2 if self._s[2] < self._s[0] >> 2 else 0
        mean, s = self._mean[x], self._s[x]
        centre, width = nearest(mean), nearest(mean + s) - nearest(mean - s)
        wide = 0
        while wide < 31 and 8 << wide < 3 * width:
            wide += 1
        shift, group = max(wide - 1, 0), 32 * min(wide, 2)
        first = centre + (wide == 0)
        up = self._is_from(first, group)
        if not up and wide == 0 and self._is_from(centre, 31):
            return centre
        origin, node = (first, group + 1) if up else (centre - 1, group + 16)

        def is_beyond(d, node):
            if up:
                return self._is_from(origin + d, node)
            return not self._is_from(origin - d + 1, node)

        count = 0
        while count < 12 and is_beyond(count + 1 << shift, node + count):
            count += 1
        d, rest = count << shift, shift
        if count == 12:
            n = 0
            while n < 32 and self._coder.adaptive(self._far[n], 255):
                n += 1
            d += ((1 << n) + self._raw_bits(n) - 1) << shift
        else:
            for i in range(3):
                if rest > 0:
                    rest -= 1
                    if is_beyond(d + (1 << rest), node + 12 + i):
                        d += 1 << rest
        d += self._raw_bits(rest)
        sign = self._numbers.sign
        return ((origin + d if up else origin - d) + sign) % (2 * sign) - sign

    def element(self, column, base, cast):
        mirrored = base & self._bases.sign
        base &= self._bases.sign - 1
        turn = self._numbers.sign if mirrored else 0
        cast ^= turn
        cast_place = self._numbers.place(cast)
        p = self._bases.size(base)
        t = max(self._numbers.step(cast_place), 1)
        spread = self._bases.step(base) >> 1
        predicted = clamp(32 * self._predictor.prediction[column], -(1 << 36), 1 << 36)
        if mirrored:
            predicted = -predicted
        trust = self._trust[t.bit_length()]
        share = clamp(divide(trust[0], max(trust[1] >> 12, 1)), 0, 6144)
        decay = clamp(divide(self._decay.steps << 24, self._decay.bases), -(1 << 18), 1 << 18)
        self._mean = [p + (predicted * share >> 12), p, p + (min(p, 1 << 44) * decay >> 24)]
        self._s = [clamp(self._scale[k][column][0] * (self._sum[k] // self._weight[k]) >> 16,
                         64, 1 << 38) for k in range(3)]
        self._dev = [9 * s >> 3 for s in self._s]
        self._spread = [min(spread, dev << 13) * ((1 << 48) // dev) >> 32 for dev in self._dev]
        self._low, self._high = [0] * 3, [1 << 30] * 3
        self._set_contexts(column, cast_place, t)

        if self._equal and self._is_at(cast_place, 63):
            self.skip(column)
            self._left = self._above[column] = 0
            return cast ^ turn
        place = self._place()
        self._learn(column, p, self._numbers.at(place), t, trust, predicted, mirrored)
        self._left = self._above[column] = min(abs(place - cast_place), 3)
        return self._numbers.element(place) ^ turn

    def _set_contexts(self, column, cast_place, t):
        self._coarse, self._contexts = 0, (0, 0, 0, 0)
        if self._few:
            return
        q = log2_wide(self._s[1]) - log2_wide(t)

        def f(i, z, n):
            return clamp((q + (1 << i - 1) >> i) + z, 0, n - 1)

        self._coarse = f(12, 10, 21)
        near = 4 * self._left + self._above[column]
        exponent, mantissa = self._numbers.split(
            -1 - cast_place if cast_place < 0 else cast_place)
        o = clamp(exponent - self._numbers.bias - self._numbers.unit + 8, 0, 39)
        top = mantissa << 3 >> self._numbers.mantissa_bits
        self._contexts = (f(10, 60, 96), 21 * near + self._coarse, 8 * o + top, 16 * o + near)

    def _learn(self, column, p, v, t, trust, predicted, mirrored):
        for k in range(3):
            scale, s = self._scale[k][column], self._s[k]
            a = min(abs(v - self._mean[k]), 1 << 40)
            u = 256 * s // (s + t)
            self._sum[k] += u * min((a << 16) // scale[0], 1 << 22)
            self._weight[k] += u
            if k == 2:
                self._sum[2] -= self._sum[2] >> 4
                self._weight[2] -= self._weight[2] >> 4
            x = clamp((a << 16) // max(self._sum[k] // self._weight[k], 16), 64,
                      min(64 * scale[0], 1 << 38))
            scale[1] = min(scale[1] + u, 64000)
            scale[0] += divide((x - scale[0]) * u, scale[1])
        self._decay.add(v - p, p)
        c = min(256 * t // self._s[0], 1 << 14)
        seen = self._mean[0] - p + (clamp(v - self._mean[0], -(1 << 40), 1 << 40)
                                    * ((9 << 32) // (9 * 65536 + c * c)) >> 16)
        told = clamp(seen >> 12, -32767, 32767)
        self._predictor.tell(column, -told if mirrored else told)
        r = clamp(predicted >> 12, -32768, 32767)
        trust[0] += clamp((v - p) >> 12, -(1 << 22), 1 << 22) * r
        trust[1] += r * r


def log2_wide(x):
    """As log2, of numbers of any size."""
    top = x.bit_length() - 1
    return 4096 * top + LOG2[((x << 63 - top) >> 53) & 1023]


def decode_mixdelta(coded, parameters, size, context):
    check(parameters, "mixdelta: no parameters")
    width = MIXDELTA_TYPES[parameters.type][0]
    count, part = divmod(size, width)
    check(part == 0 and size <= MIX_MAX_BLOCK, f"mixdelta: block of {size} bytes")
    base = next((source for source in context.sources
                 if source.role == BASE and source.dtype in MIXDELTA_TYPES
                 and len(source.data) == count * MIXDELTA_TYPES[source.dtype][0]), None)
    check(base, "mixdelta: no base")
    fields = Fields(coded)
    code = fields.bytes(fields.varint("mixdelta: length of the code"), "mixdelta: code")
    raw = fields.bytes(fields.left(), "mixdelta: raw bits")
    grid = collections.namedtuple("Grid", "row")(context.row)
    phase = context.position % context.row if context.row else 0
    columns, places = mix_grid(grid, phase, count)
    models = MixdeltaModels(parameters, base.dtype, columns, count, code, raw)
    types = [DELTA_TYPES[DELTA_NUMBERS[name]] for name in (base.dtype, parameters.type)]
    base_width, out = types[0][1], bytearray(size)
    for column, i in mix_places(models, columns, places):
        bits = int.from_bytes(base.data[i * base_width:(i + 1) * base_width], "little")
        cast = bits if base.dtype == parameters.type else delta_cast(bits, *types)[0]
        out[i * width:(i + 1) * width] = models.element(column, bits, cast).to_bytes(
            width, "little")
    check(models.ended(), "mixdelta: the code does not end with the block")
    return bytes(out)


# ---------------------------------------------------------------------------------------------
# Codec 20: scaled

# By number: mantissa bits M, least exponent E, greatest, whether there is -0
SCALED_FLOATS = [(3, -6, 448.0, True), (2, -14, 57344.0, True), (3, -7, 240.0, False),
                 (2, -15, 57344.0, False), (1, 0, 6.0, True)]
SCALED_INTEGER = 5
SCALED_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def scaled_f32(x):
    """The nearest binary32 number; of a double that is a sum, product or ratio of two, their own."""
    try:
        return struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def scaled_divide(a, b):
    if b == 0:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    return scaled_f32(a / b)


def scaled_step(x, steps, small=True):
    if steps == 2 or x == 0 or not math.isfinite(x):
        return x
    bits = (8, 11)[steps]
    exponent = math.frexp(x)[1] - bits
    least = (-133, -24)[steps] if small or steps == 0 else -136
    unit = 2.0 ** max(exponent, least)
    return math.copysign(scaled_f32(round(x / unit) * unit), x)


class ScaledParameters:
    def __init__(self, data):
        fields = Fields(data)
        self.base, self.scale, self.whole, self.zero = (fields.u8("scaled: source") for _ in range(4))
        check(self.base <= 3, "scaled: source of weights")
        check(all(n <= 3 or n == 255 for n in (self.scale, self.whole, self.zero)), "scaled: source")
        self.type = fields.u8("scaled: type")
        check(self.type <= SCALED_INTEGER, "scaled: type of codes")
        stored = fields.u8("scaled: bits")
        self.bits, self.alternating = stored % 128, stored >= 128
        allowed = (2, 4, 8) if self.type == SCALED_INTEGER else (4,) if self.type == 4 else (8,)
        check(self.bits in allowed and (self.bits == 4 or not self.alternating), "scaled: bits of codes")
        arithmetic = fields.u8("scaled: arithmetic")
        self.use, self.divides = arithmetic % 4, arithmetic >> 2 & 1
        self.steps, self.first = arithmetic >> 3 & 3, arithmetic >> 5 & 1
        check(arithmetic < 64 and self.use < 3 and self.steps < 3, "scaled: arithmetic")
        (self.factor,) = struct.unpack("<f", fields.bytes(4, "scaled: factor"))
        self.rows, self.columns, self.across, self.whole_rows = (
            fields.varint("scaled: count", 1, 1 << 48) for _ in range(4))
        self.offset = self.shift = self.zero_bits = 0
        if self.type == SCALED_INTEGER:
            def signed(name, most):
                coded = fields.varint("scaled: " + name, 0, 2 * most)
                return -(coded + 1) // 2 if coded % 2 else coded // 2

            self.low, self.high = signed("low", 256), signed("high", 256)
            self.offset, self.shift = signed("offset", 65535), signed("shift", 256)
            zeros = fields.u8("scaled: zero points")
            self.zero_bits, self.down = zeros % 128, zeros >= 128
            check(self.low <= self.high and self.zero_bits in (0, 2, 4, 8), "scaled: integers")
            check(self.zero_bits or not self.down, "scaled: zero points packed down")
            check(not self.alternating or self.zero_bits in (0, 4), "scaled: zero points alternate")
        else:
            check(self.zero == 255, "scaled: zero points of floats")
        self.tables = None
        if fields.left():
            self.tables = ResidualTables(fields, 1, self.type != SCALED_INTEGER, 56)
        fields.end("scaled: parameters")


def scaled_value(source, number):
    """A scale."""
    check(source.role == SCALE, "scaled: the source has no scales")
    width = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1, "U8": 1}.get(source.dtype)
    check(width, "scaled: type of scales")
    data = source.data[number * width:(number + 1) * width]
    check(len(data) == width, "scaled: a scale is missing")
    if source.dtype == "F32":
        return struct.unpack("<f", data)[0]
    if source.dtype == "F16":
        return struct.unpack("<e", data)[0]
    if source.dtype == "BF16":
        return struct.unpack("<f", b"\0\0" + data)[0]
    (byte,) = data
    if source.dtype != "F8_E4M3":
        return math.nan if byte == 255 else 2.0 ** (byte - 127)
    if byte % 128 == 127:
        return math.nan
    exponent, mantissa = byte >> 3 & 15, byte & 7
    value = math.ldexp(mantissa + (8 if exponent else 0), max(exponent, 1) - 10)
    return -value if byte >= 128 else value


def scaled_zero(p, source, a, b):
    check(source.role == ZERO, "scaled: the source has no zero points")
    number = a * p.across + b
    if p.zero_bits == 0:
        check(source.dtype in ("I8", "U8") and number < len(source.data), "scaled: no zero point")
        byte = source.data[number]
        return byte - 256 if source.dtype == "I8" and byte >= 128 else byte
    each = 32 // p.zero_bits
    element, part = divmod(number, each)
    if p.down:
        element, part = a // each * p.across + b, a % each
    elif p.alternating:
        part = SCALED_ORDER.index(part)
    data = source.data[4 * element:4 * element + 4]
    check(source.dtype == "I32" and len(data) == 4, "scaled: no zero point")
    return int.from_bytes(data, "little") >> part * p.zero_bits & (1 << p.zero_bits) - 1


def scaled_predict(p, t, z):
    """The code of t, and its context."""
    negative = not math.isnan(t) and math.copysign(1.0, t) < 0
    if p.type != SCALED_INTEGER:
        mantissa, least, most, has_negative_zero = SCALED_FLOATS[p.type]
        m = 0.0 if math.isnan(t) else min(abs(t), most)
        e = max(least, math.frexp(m)[1] - 1) if m else least
        step = 2.0 ** (e - mantissa)
        multiple = round(m / step)
        code = (e - least << mantissa) + multiple
        rest = (m - multiple * step) / step
        if negative and (code or has_negative_zero):
            code |= 128
    else:
        if p.first:
            t = scaled_step(scaled_f32(t + z), p.steps)
        if math.isnan(t):
            t = 0.0
        least, most = (p.low, p.high) if p.first else (-1048576, 1048576)
        t = clamp(t, least, most)
        code = round(t)
        rest = t - code
        if not p.first:
            code += z
            if not p.low <= code <= p.high:
                rest = 0.0
            code = clamp(code, p.low, p.high)
        code = code + p.shift & 255
    left = 32768 - int(abs(rest) * 65536)
    context = left.bit_length() if left < 2048 else 11 + left // 2048
    return code, context + (28 if int(rest * 65536) < 0 else 0)


def decode_scaled(coded, parameters, size, context):
    check(parameters, "scaled: no parameters")
    p = parameters
    count = 8 * size // p.bits
    check(not p.alternating or count % 8 == 0, "scaled: a part of eight codes")
    row_size = context.row or 1 << 48
    used = [n for n in (p.base, p.scale, p.whole, p.zero) if n != 255]
    check(max(used) < len(context.sources), "scaled: no such source")
    base = context.sources[p.base]
    check(base.role == BASE and base.dtype in ("BF16", "F16", "F32"), "scaled: no weights")
    check(len(base.data) == count * (4 if base.dtype == "F32" else 2), "scaled: weights of another size")
    end = context.position + count
    check(end <= 1 << 48, "scaled: weights beyond any tensor")
    places = [divmod(context.position + i, row_size) for i in range(count)]
    # All that the last row needs.
    last = places[-1][0] // p.rows, (min(row_size, end) - 1) // p.columns
    if p.scale != 255:
        scaled_value(context.sources[p.scale], last[0] * p.across + last[1])
    if p.zero != 255:
        scaled_zero(p, context.sources[p.zero], *last)

    fields = Fields(coded)
    form = fields.u8("scaled: form")
    check(form <= 2, "scaled: form")
    predictions, contexts, known = [], [], {}
    for (i, j), w in zip(places, sum_values(base)):
        a, b = i // p.rows, j // p.columns
        if (i, b) not in known:
            s = scaled_value(context.sources[p.scale], a * p.across + b) if p.scale != 255 else 1.0
            s = scaled_f32(s * p.factor)
            if p.whole != 255:
                whole = scaled_value(context.sources[p.whole], i // p.whole_rows)
                s = scaled_divide(s, whole) if p.divides else scaled_f32(s * whole)
            if p.use == 1:
                s = scaled_step(scaled_divide(1.0, s), p.steps, small=False)
            z = p.offset
            if p.zero != 255:
                z += scaled_zero(p, context.sources[p.zero], a, b)
            known[i, b] = s, z
        s, z = known[i, b]
        t = scaled_divide(w, s) if p.use == 0 else scaled_f32(w * s)
        code, where = scaled_predict(p, scaled_step(t, p.steps), z)
        predictions.append(code)
        contexts.append(where)
    codes = predictions
    if form == 1:
        check(p.tables, "scaled: residuals without tables")
        codes = p.tables.decode(fields, predictions, contexts)
    elif form == 2:
        at = 0
        for _ in range(fields.varint("scaled: codes", 0, count)):
            at += fields.varint("scaled: gap", 0, count)
            check(at < count, "scaled: a code beyond the block")
            codes[at] = fields.u8("scaled: code")
            at += 1
    fields.end("scaled: block")
    if p.type == 4:
        codes = [code & 7 | code >> 4 & 8 for code in codes]
    if p.alternating:
        codes = [codes[i // 8 * 8 + SCALED_ORDER[i % 8]] for i in range(count)]
    each, mask = 8 // p.bits, (1 << p.bits) - 1
    return bytes(sum((codes[i + k] & mask) << k * p.bits for k in range(each))
                 for i in range(0, count, each))


# ---------------------------------------------------------------------------------------------
# Codec 19: derived

# By number of the type: weights of a group, low, high, ranged, free, rounding, anchor, unit, divisor,
# range of s, whether d is made early.
DerivedForm = collections.namedtuple(
    "DerivedForm", "group low high ranged free rounding anchor unit divisor least most early")
DERIVED_FORMS = {
    66: DerivedForm(32, -8, 7, False, False, "floor", -8, 0.1, 0, 0, 0, True),
    67: DerivedForm(32, 0, 15, True, True, "floor", 0, 0.1, 0, 0, 0, True),
    70: DerivedForm(32, -16, 15, False, False, "floor", -16, 0.1, 0, 0, 0, True),
    71: DerivedForm(32, 0, 31, True, True, "floor", 0, 0.1, 0, 0, 0, True),
    72: DerivedForm(32, -128, 127, False, False, "away", 127, 0.1, 0, 0, 0, True),
    74: DerivedForm(16, 0, 3, True, False, "divide", 0, 0.1, 15, 0, 15, False),
    75: DerivedForm(16, -4, 3, False, False, "divide", -4, 0.1, -32, -32, 31, False),
    76: DerivedForm(32, 0, 15, True, False, "divide", 0, 0.1, 63, 0, 63, False),
    77: DerivedForm(32, 0, 31, True, False, "divide", 0, 0.1, 63, 0, 63, False),
    78: DerivedForm(16, -32, 31, False, False, "divide", -32, 0.1, -128, -128, 127, False),
    84: DerivedForm(32, 0, 15, False, False, "table", -127, 1, 0, 0, 0, True),
    87: DerivedForm(32, 0, 15, False, False, "table", -127, 1, -32, -32, 31, True),
}
DERIVED_GRIDS = (80, 81, 82, 83, 85, 86, 93)
DERIVED_TABLE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
DERIVED_SURE = 16
# Quantizers that look at whole rows.
DERIVED_BY_ROWS = (6, 7, 8, 9)


def numpy_here():
    try:
        import numpy
        import spec_quantizers
    except ImportError:
        raise Refused("derived blocks need the package numpy") from None
    return numpy, spec_quantizers


class DerivedParameters:
    def __init__(self, data):
        fields = Fields(data)
        self.type = fields.u8("derived: type")
        self.quantizer = fields.u8("derived: quantizer")
        self.importance = fields.u8("derived: importance")
        self.weighting = fields.u8("derived: weighting")
        self.first = (fields.u8("derived: first") ^ 128) - 128
        self.step = fields.u8("derived: step")
        self.candidates = fields.u8("derived: candidates")
        doubts = fields.bytes(3, "derived: doubts")
        fields.end("derived: parameters")
        check(self.type in QUANT_TYPES, "derived: type")
        check(self.importance <= 1 and self.weighting <= 6 and self.candidates <= 64 and
              max(doubts) <= 48, "derived: a recipe out of range")
        self.doubts = [2.0 ** (v - 32) if v else 0.0 for v in doubts]
        check(self.quantizer or self.type in DERIVED_FORMS or self.type in DERIVED_GRIDS,
              "derived: neither a formula nor a quantizer")
        self.form = DERIVED_FORMS.get(self.type)


class DerivedNumber:
    def __init__(self):
        self._unary = [AdaptiveBit() for _ in range(4)]
        self._octave = [AdaptiveBit() for _ in range(16)]
        self._below = [[AdaptiveBit() for _ in range(4)] for _ in range(16)]

    def take(self, coder):
        for i in range(4):
            if not coder.adaptive(self._unary[i]):
                return i
        octave = 0
        while octave < 15 and coder.adaptive(self._octave[octave]):
            octave += 1
        x = 1
        for i in range(octave):
            if i < 2:
                bit = coder.adaptive(self._below[octave][2 * i + (x & 1 if i else 0)])
            else:
                bit = coder.code(32768)
            x = 2 * x + bit
        return 3 + x


class DerivedSigned:
    def __init__(self):
        self._sign, self._number = AdaptiveBit(), DerivedNumber()

    def take(self, coder):
        negative = coder.adaptive(self._sign)
        magnitude = 1 + self._number.take(coder)
        return -magnitude if negative else magnitude


class DerivedModels:
    """What spec_grids asks for."""

    def __init__(self, coder):
        self._coder = coder
        self.new_bit, self.new_number, self.new_signed = AdaptiveBit, DerivedNumber, DerivedSigned

    def bit(self, model):
        return self._coder.adaptive(model)

    def raw(self, count):
        value = 0
        for _ in range(count):
            value = 2 * value + self._coder.code(32768)
        return value

    def number(self, model):
        return model.take(self._coder)

    signed = number


class DerivedBlock:
    """All that one block of the container learns."""

    def __init__(self, coder):
        self.coder = coder
        self.before = 3
        self.equal = [AdaptiveBit() for _ in range(4)]
        self.hit, self.hits = 1, [AdaptiveBit() for _ in range(2)]
        self.halves = [(AdaptiveBit(), DerivedSigned()) for _ in range(3)]
        self.scales = [([AdaptiveBit() for _ in range(64)], [AdaptiveBit() for _ in range(4)],
                        [DerivedNumber() for _ in range(3)]) for _ in range(2)]
        self.exceptions = AdaptiveBit()
        self.differs = [AdaptiveBit() for _ in range(17)]
        self.away = [AdaptiveBit() for _ in range(17)]
        self.more = DerivedNumber()
        self.byte = AdaptiveBit()

    def raw_byte(self):
        value = 0
        for _ in range(8):
            value = 2 * value + self.coder.code(32768)
        return value

    def half(self, which, predicted):
        """An FP16 and its miss."""
        differs, signed = self.halves[which]
        if not self.coder.adaptive(differs):
            return predicted, 0
        difference = signed.take(self.coder)
        ordered = (predicted ^ (0xFFFF if predicted & 0x8000 else 0x8000)) + difference & 0xFFFF
        return ordered ^ (0x8000 if ordered & 0x8000 else 0xFFFF), 1 if abs(difference) <= 2 else 2

    def scale(self, which, context, guess, least, most):
        """A value by its guess, and its error."""
        differs, away, more = self.scales[which]
        value, part, up = guess
        if not self.coder.adaptive(differs[4 * context + part]):
            return value, 0
        far = self.coder.adaptive(away[part])
        error = 1 + more[min(context // 4, 2)].take(self.coder)
        if far == up:
            error = -error
        return clamp(value + error, least, most), error

    def codes(self, expected, bins, ups, most):
        """Codes of a ggml block in place of the expected ones."""
        exceptions = self.coder.adaptive(self.exceptions)
        for i, part in enumerate(bins):
            if part == DERIVED_SURE and not exceptions:
                continue
            if not self.coder.adaptive(self.differs[part]):
                continue
            far = self.coder.adaptive(self.away[part])
            error = 1 + self.more.take(self.coder)
            expected[i] = clamp(expected[i] + (-error if far == ups[i] else error), 0, most)


def derived_weights(base, count):
    """What a base stands for, and how far its numbers are apart if it is packed."""
    np, spec = numpy_here()
    if base.dtype in ("F32", "F16", "BF16"):
        check(len(base.data) == count * (4 if base.dtype == "F32" else 2),
              "derived: a base of another size")
        if base.dtype == "F32":
            return np.frombuffer(base.data, np.float32), None
        bits = np.frombuffer(base.data, np.uint16)
        if base.dtype == "F16":
            return bits.view(np.float16).astype(np.float32), None
        return (bits.astype(np.uint32) << 16).view(np.float32), None
    number = next((n for n, name in DTYPES.items() if name == base.dtype), None)
    check(number in QUANT_TYPES and len(base.data) % QUANT_TYPES[number][0] == 0,
          "derived: a base of this type")
    if number in DERIVED_GRIDS:
        import spec_grids
        weights = spec_grids.numbers_of(base.dtype, base.data)
    else:
        check(number in spec.DEQUANTIZERS, "derived: a base of this type")
        weights = spec.DEQUANTIZERS[number](base.data)
    check(len(weights) == count, "derived: a base of another size")
    return weights, number


# How far apart numbers are, by code, in units of the scale.
DERIVED_LEVEL_STEPS = (23, 22, 19.5, 17, 15, 13.5, 12.5, 11.5, 11.5, 12, 12.5, 14, 15.5, 18, 22, 24)


def derived_steps(number, data):
    np, spec = numpy_here()
    check(number in spec.SCALES, "derived: steps of a base of this type")
    with np.errstate(all="ignore"):
        scales, codes = spec.SCALES[number](data)
        h = np.full(codes.shape, 2 if number == 105 else 1, np.float32)
        if number in (84, 87):
            h = np.array(DERIVED_LEVEL_STEPS, np.float32)[
                np.searchsorted(np.array(DERIVED_TABLE), codes)]
        elif number in (103, 104):
            magnitudes = np.searchsorted(np.array([0, 1, 2, 3, 4, 6, 8, 12]), np.abs(codes))
            h = np.array([1, 1, 1, 1, 1.5, 2, 3, 4], np.float32)[magnitudes]
        return spec.one_nan((np.abs(scales) * h).reshape(-1))


def derived_least(a, b):
    np, _ = numpy_here()
    return np.where(a < b, a, b)


def derived_most(a, b):
    np, _ = numpy_here()
    return np.where(a > b, a, b)


def derived_sum(terms, np):
    result = np.zeros_like(terms[0])
    for term in terms:
        result = result + term
    return result


def derived_counts(parameters, x, importance, spread):
    """How much each weight of groups counts: a list of arrays, one number a group."""
    np, _ = numpy_here()
    weighting = parameters.weighting
    if weighting == 0:
        w = [np.ones_like(v) for v in x]
    elif weighting in (1, 6):
        w = [np.abs(v) for v in x]
    elif weighting == 2:
        w = [v * v for v in x]
    elif weighting == 3:
        rms = np.sqrt(derived_sum([v * v for v in x], np) / np.float32(len(x)))
        w = [rms + np.abs(v) for v in x]
    else:
        w = [v * v + np.float32(2) * spread for v in x]
        if weighting == 5:
            w = [np.sqrt(v) for v in w]
    return w if importance is None else [a * b for a, b in zip(w, importance)]


def derived_fit(parameters, x, w):
    """A and B of groups."""
    np, spec = numpy_here()
    f32, form = np.float32, parameters.form
    zero, rounder = np.zeros_like(x[0]), f32(12582912)
    middles = [f32((a + b) / 2) for a, b in zip(DERIVED_TABLE, DERIVED_TABLE[1:])]
    ks = [f32(parameters.first + c * parameters.step) * f32(form.unit)
          for c in range(parameters.candidates)]
    if not form.ranged:
        extreme, magnitude = spec.extreme_of(x)
        if not ks:
            return (magnitude if form.rounding == "away" else extreme) / f32(form.anchor), zero
        scale, best = zero, zero
        for k in ks:
            t = (f32(form.anchor) - k) / extreme
            levels = []
            for v in x:
                y = v * t
                if form.rounding == "table":
                    place = sum((y >= m).astype(int) for m in middles)
                    levels.append(np.array(DERIVED_TABLE, f32)[place])
                else:
                    y = derived_most(derived_least(y, f32(form.high)), f32(form.low))
                    levels.append((y + rounder) - rounder)
            wxl = derived_sum([a * v * l for a, v, l in zip(w, x, levels)], np)
            wll = derived_sum([a * l * l for a, l in zip(w, levels)], np)
            fitted = np.where(wll > 0, wxl / wll, f32(0))
            gain = fitted * wxl
            better = gain > best
            scale, best = np.where(better, fitted, scale), np.where(better, gain, best)
        return scale, zero
    least = x[0] if form.free else derived_least(x[0], f32(0))
    most = x[0]
    for v in x[1:]:
        least, most = np.where(v < least, v, least), np.where(v > most, v, most)
    top = f32(form.high)
    span = most - least
    scale, offset = span / top, -least
    if not ks:
        return scale, offset
    absolute = parameters.weighting == 6
    wx = [a * v for a, v in zip(w, x)]
    sum_w, sum_wx = derived_sum(w, np), derived_sum(wx, np)
    best = np.full_like(zero, f32(-1e38) if absolute else f32(0))
    for k in ks:
        t = (top + k) / span
        levels = [(derived_least((v - least) * t, top) + rounder) - rounder for v in x]
        wl = derived_sum([a * l for a, l in zip(w, levels)], np)
        wll = derived_sum([a * l * l for a, l in zip(w, levels)], np)
        wxl = derived_sum([a * l for a, l in zip(wx, levels)], np)
        determinant = sum_w * wll - wl * wl
        fitted = (sum_w * wxl - sum_wx * wl) / determinant
        minimum = (wll * sum_wx - wl * wxl) / determinant
        if not form.free:
            above = minimum > 0
            fitted = np.where(above, wxl / wll, fitted)
            minimum = np.where(above, f32(0), minimum)
        gain = fitted * wxl + minimum * sum_wx
        if absolute:
            gain = zero
            for a, v, l in zip(w, x, levels):
                gain = gain - a * np.abs(fitted * l + minimum - v)
        better = (determinant > 0) & (gain > best)
        scale, best = np.where(better, fitted, scale), np.where(better, gain, best)
        offset = np.where(better, -minimum, offset)
    return scale, offset


def derived_codes(parameters, x, steps, scales, offsets):
    """Codes (less `low`), bins and sides of weights, given those of their groups."""
    np, _ = numpy_here()
    f32, form = np.float32, parameters.form
    zero = scales == 0
    inverse = np.where(zero, f32(0), f32(1) / np.where(zero, f32(1), scales))
    low, high = f32(form.low), f32(form.high)
    if form.rounding == "divide":
        y = np.where(zero, f32(0), (x + offsets) / np.where(zero, f32(1), scales))
    else:
        y = (x + offsets) * inverse
    if form.rounding == "table":
        middles = [f32((a + b) / 2) for a, b in zip(DERIVED_TABLE, DERIVED_TABLE[1:])]
        codes = sum((y >= m).astype(int) for m in middles)
        below = np.array([f32(-1e30)] + middles, f32)[codes]
        above = np.array(middles + [f32(1e30)], f32)[codes]
        down, rise = y - below, above - y
        up = rise < down
        left = np.where(up, rise, down)
    else:
        if form.rounding == "floor":
            level = derived_most(derived_least(y + (f32(0.5) - low), high - low + f32(0.5)), f32(0))
            level = np.trunc(level) + low
        elif form.rounding == "away":
            level = np.trunc(np.abs(derived_most(derived_least(y, high), low)) + f32(0.5))
            level = derived_least(np.where(y < 0, -level, level), high)
        else:
            level = derived_most(derived_least(y, high), low)
            level = (level + f32(12582912)) - f32(12582912)
        past = y - level
        up = past >= 0
        left = f32(0.5) - np.abs(past)
        outside = (up & (level >= high)) | (~up & (level <= low))
        left = np.where(outside, f32(1e30), derived_most(left, f32(0)))
        codes = (level - low).astype(int)
    d0, d1, d2 = (f32(v) for v in parameters.doubts)
    doubts = d0 + d1 * np.abs(y)
    if d2:
        by_step = d2 * np.abs(inverse)
        doubts = np.where(by_step != 0, doubts + by_step * steps, doubts)
    ratio = left * f32(16) / doubts
    if not (d0 or d1 or d2):
        ratio = np.full_like(ratio, f32(DERIVED_SURE))
    bins = np.where((ratio >= 0) & (ratio < 16), ratio, f32(DERIVED_SURE)).astype(int)
    return codes, bins, up & (bins < DERIVED_SURE)


def derived_split(number, data):
    """The elements of each field of blocks."""
    size, description = QUANT_TYPES[number]
    blocks = len(data) // size
    fields = []
    for text in description.split(";"):
        field = quant_field(text)
        elements = [0] * (blocks * field.count)
        for part in field.parts:
            group = part.span * part.levels
            mask = (1 << part.width) - 1
            for i in range(part.count):
                byte = part.offset + i // group * part.stride + i % part.span
                shift = part.shift + part.width * (i % group // part.span)
                for b in range(blocks):
                    bits = data[b * size + byte] >> shift & mask
                    elements[b * field.count + part.first + i] |= bits << part.to
        fields.append(elements)
    return fields


def derived_guess(value, least, most):
    np, _ = numpy_here()
    f32 = np.float32
    value = value if value > f32(least) else f32(least)
    value = value if value < f32(most) else f32(most)
    whole = (value + f32(12582912)) - f32(12582912)
    past = value - whole
    return int(whole), min(3, int(np.abs(past) * f32(8))), int(past >= 0)


def derived_form_blocks(p, state, x, steps, importance, predicted, equal):
    """The ggml blocks of a piece; those that are equal are anything."""
    np, spec = numpy_here()
    f32, form = np.float32, p.form
    per_block = DERIVED_WEIGHTS.get(p.type, 256)
    groups = per_block // form.group
    blocks = len(x) // per_block
    with_s, with_m = form.divisor != 0, form.divisor != 0 and form.ranged
    s_field = 4 if form.ranged else 2

    def signed(field):
        return (field ^ 128) - 128 if form.most == 127 else field + form.least

    def number(bits):
        return np.array([bits], np.uint16).view(np.float16).astype(f32)[0]

    if p.quantizer:
        fields = derived_split(p.type, predicted)
        d1 = [number(h << 8 | l) for h, l in zip(fields[0], fields[1])]
        dmin1 = [f32(0)] * blocks
        if form.ranged:
            dmin1 = [number(h << 8 | l) for h, l in zip(fields[2], fields[3])]
        fitted, offsets = [], []
        for g in range(blocks * groups):
            d, dmin = d1[g // groups], dmin1[g // groups]
            fitted.append(d * f32(signed(fields[s_field][g])) if with_s else d)
            offsets.append(dmin * f32(fields[5][g]) if with_m else -dmin if form.ranged else dmin)
    else:
        matrix = spec.one_nan(x).reshape(-1, form.group)
        spread = spec.one_nan(x).reshape(blocks, -1, 16)
        sums = derived_sum([spread[:, i] * spread[:, i] for i in range(spread.shape[1])], np)
        for h in (8, 4, 2, 1):
            sums = sums[:, :h] + sums[:, h:2 * h]
        spread = (sums[:, 0] / f32(per_block)).repeat(groups)
        columns = None
        if importance is not None:
            columns = list(spec.one_nan(importance).reshape(-1, form.group).T)
        w = derived_counts(p, list(matrix.T), columns, spread)
        fitted, offsets = derived_fit(p, list(matrix.T), w)
        d1, dmin1 = [], []
        for b in range(blocks):
            part = range(b * groups, (b + 1) * groups)
            if not with_s:
                d1.append(fitted[b])
                dmin1.append(-offsets[b] if form.ranged else f32(0))
                continue
            magnitude, extreme, offset = f32(0), f32(0), f32(0)
            for g in part:
                if np.abs(fitted[g]) > magnitude:
                    magnitude, extreme = np.abs(fitted[g]), fitted[g]
                if offsets[g] > offset:
                    offset = offsets[g]
            d1.append(extreme / f32(form.divisor) if magnitude > 0 else f32(0))
            dmin1.append(offset / f32(form.divisor))

    halves, half_mins = [0] * blocks, [0] * blocks
    s, m = [0] * (blocks * groups), [0] * (blocks * groups)
    scales = np.zeros(blocks * groups, f32)
    shifts = np.zeros(blocks * groups, f32)
    for b in range(blocks):
        if equal[b]:
            continue
        p_d = int(spec.half(np.array([d1[b]], f32))[0])
        p_min = int(spec.half(np.array([dmin1[b]], f32))[0]) if form.ranged else 0

        def exact(made, expected, bits):
            return made if form.early and bits == expected else number(bits)

        def guesses(d, dmin):
            part = range(b * groups, (b + 1) * groups)
            zero = f32(0)
            return ([derived_guess(fitted[g] / d if d != 0 else zero, form.least, form.most)
                     for g in part],
                    [derived_guess(offsets[g] / dmin if dmin != 0 else zero, 0, form.most)
                     for g in part] if with_m else None)

        hit = 0
        if with_s:
            hit = state.hit = state.coder.adaptive(state.hits[state.hit])
        d, d_min, miss, miss_of_min = p_d, p_min, 0, 0
        if not hit:
            d, miss = state.half(0, p_d)
            if form.ranged:
                d_min, miss_of_min = state.half(1 + (miss != 0), p_min)
        halves[b], half_mins[b] = d, d_min
        d_exact = exact(d1[b], p_d, d)
        if not with_s:
            scales[b] = d_exact
            shifts[b] = -exact(dmin1[b], p_min, d_min) if form.ranged else 0
            continue
        of_s, of_m = guesses(d_exact, number(d_min))
        before = 0
        for i in range(groups):
            g = b * groups + i
            scale, least = of_s[i][0], of_m[i][0] if with_m else 0
            if not hit:
                context = 4 * miss + (2 if abs(scale) >= form.most else 0) + before
                scale, error = state.scale(0, context, of_s[i], form.least, form.most)
                before = int(error != 0)
                if with_m:
                    relation = 0
                    if error:
                        relation = 1 if (error > 0) == of_m[i][2] else 2 if abs(error) > 1 else 3
                    least, _ = state.scale(1, 4 * miss_of_min + relation, of_m[i], 0, form.most)
            s[g] = scale & 255 if form.most == 127 else scale - form.least
            m[g] = least
            scales[g] = d_exact * f32(scale)
            shifts[g] = number(d_min) * f32(least) if with_m else 0
            if scales[g] == 0:
                scales[g], shifts[g] = fitted[g], offsets[g]
    codes, bins, ups = derived_codes(p, x, steps, scales.repeat(form.group),
                                     shifts.repeat(form.group))
    codes = [int(c) for c in codes]
    for b in range(blocks):
        if not equal[b]:
            part = slice(b * per_block, (b + 1) * per_block)
            mine = codes[part]
            state.codes(mine, bins[part].tolist(), ups[part].tolist(), form.high - form.low)
            codes[part] = mine
    if form.low == -128:
        codes = [c ^ 128 for c in codes]
    symbols = [[h >> 8 for h in halves], [h & 255 for h in halves]]
    if form.ranged:
        symbols += [[h >> 8 for h in half_mins], [h & 255 for h in half_mins]]
    if with_s:
        symbols.append(s)
    if with_m:
        symbols.append(m)
    return join_quant_fields(p.type, symbols + [codes], blocks)


def decode_derived(coded, parameters, size, context):
    check(parameters, "derived: no parameters")
    np, spec = numpy_here()
    p = parameters
    width = QUANT_TYPES[p.type][0]
    each = DERIVED_WEIGHTS.get(p.type, 256)
    count, part = size // width * each, size % width
    check(part == 0, "derived: block with a part of a ggml block")
    base = next((s for s in context.sources if s.role == BASE), None)
    check(base, "derived: no base")
    weights, packed = derived_weights(base, count)
    check(packed or not p.doubts[2], "derived: steps of a base that has none")
    steps = derived_steps(packed, base.data) if p.doubts[2] else None
    row, importance = context.row, None
    if p.importance:
        source = next((s for s in context.sources if s.role == IMPORTANCE), None)
        check(source and source.dtype == "F32" and 1 <= row <= 1 << 20 and row % each == 0 and
              context.position % each == 0 and len(source.data) == 4 * row,
              "derived: no importance of the columns")
        columns = np.frombuffer(source.data, np.float32)
        importance = columns[(context.position + np.arange(count)) % row]
    by_rows = False
    if p.quantizer:
        check(p.quantizer in spec.QUANTIZERS, "derived: an unknown quantizer")
        by_rows = p.quantizer in DERIVED_BY_ROWS
    piece = 8192
    if by_rows:
        check(1 <= row <= 1 << 20 and row % each == 0 and context.position % row == 0 and
              count % row == 0, "derived: no whole rows")
        piece = max(1, 8192 // row) * row
    coder = BitCoder(coded)
    state, out = DerivedBlock(coder), bytearray()
    grids = None
    if p.type in DERIVED_GRIDS:
        import spec_grids
        grids = spec_grids.GridCoder(DTYPES[p.type], DerivedModels(coder))
    with np.errstate(all="ignore"):
        for begin in range(0, count, piece):
            end = min(begin + piece, count)
            x = weights[begin:end]
            near = None if importance is None else importance[begin:end]
            apart = None if steps is None else steps[begin:end]
            blocks = (end - begin) // each
            predicted, equal = bytes(blocks * width), [0] * blocks
            if p.quantizer:
                made = spec.QUANTIZERS[p.quantizer]
                if by_rows:
                    lines = [(x.reshape(-1, row), None if near is None else near[:row])]
                elif near is None:
                    lines = [(x.reshape(1, -1), None)]
                else:
                    lines = [(x[i:i + each].reshape(1, -1), near[i:i + each])
                             for i in range(0, end - begin, each)]
                predicted = b"".join(bytes(made(a, b)) for a, b in lines)
                for b in range(blocks):
                    equal[b] = coder.adaptive(state.equal[state.before])
                    state.before = (state.before << 1 | equal[b]) & 3
            if all(equal):
                out += predicted
                continue
            if p.form:
                made = derived_form_blocks(p, state, x, apart, near, predicted, equal)
            else:
                made = bytearray(predicted)
                for b in range(blocks):
                    if equal[b]:
                        continue
                    mine = predicted[b * width:(b + 1) * width]
                    if grids:
                        made[b * width:(b + 1) * width] = grids.decode(
                            x[b * each:(b + 1) * each], mine if p.quantizer else None)
                        continue
                    for i in range(width):
                        if coder.adaptive(state.byte):
                            made[b * width + i] = state.raw_byte()
            for b in range(blocks):
                place = slice(b * width, (b + 1) * width)
                out += predicted[place] if equal[b] else made[place]
    check(coder.ended(), "derived: the code does not end with the block")
    return bytes(out)


# Weights of a ggml block, where not 256.
DERIVED_WEIGHTS = {66: 32, 67: 32, 70: 32, 71: 32, 72: 32, 73: 32, 84: 32, 103: 32, 104: 64, 105: 128,
                   106: 64}


# ---------------------------------------------------------------------------------------------
# Text: codecs 21 to 23 in C


def compile_text(folder):
    """spec_text.c as a library in this folder; its path."""
    library = os.path.join(folder, "spec_text.so")
    source = pathlib.Path(__file__).with_name("spec_text.c")
    subprocess.run(["cc", "-std=c11", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@functools.lru_cache(maxsize=1)
def text_library():
    """That library, or the one that SPEC_TEXT_LIBRARY names; None without a compiler."""
    if "SPEC_TEXT_LIBRARY" in os.environ:
        return ctypes.CDLL(os.environ["SPEC_TEXT_LIBRARY"])
    if not shutil.which("cc"):
        return None
    with tempfile.TemporaryDirectory(prefix="spec_text_") as folder:
        return ctypes.CDLL(compile_text(folder))


def decode_in_c(function, coded, size, *between):
    """Calls spec_FUNCTION(coded, its size, between..., out, size); bytes go as they are, numbers
    as int, or as size_t where they say so."""
    call = getattr(text_library(), "spec_" + function)
    call.restype = ctypes.c_char_p
    out = ctypes.create_string_buffer(size)
    why = call(coded, ctypes.c_size_t(len(coded)), *between, out, ctypes.c_size_t(size))
    if why:
        raise Damaged(why.decode())
    return out.raw


# ---------------------------------------------------------------------------------------------
# Codec 21: bwt


class BwtCode:
    """The prefix code of some lengths, as a tree: child[node][bit] is a node, or ~symbol."""

    def __init__(self, lengths):
        order = sorted((length, byte) for byte, length in enumerate(lengths) if length)
        total = sum(1 << 15 - length for length, _ in order)
        check(total == 1 << 15 or [length for length, _ in order] == [1],
              "bwt block's code is not complete")
        self.bytes = [byte for _, byte in order]
        self.paths, self.child = [], [[~0, ~0]]
        code, before = 0, order[0][0]
        for symbol, (length, _) in enumerate(order):
            code <<= length - before
            path, node = [], 0
            for i in range(length - 1, -1, -1):
                bit = code >> i & 1
                path.append((node, bit))
                if i == 0:
                    self.child[node][bit] = ~symbol
                elif self.child[node][bit] < 0:
                    self.child[node][bit] = len(self.child)
                    self.child.append([~0, ~0])
                node = self.child[node][bit]
            self.paths.append(path)
            code, before = code + 1, length


class BwtCounts:
    def __init__(self, symbols, rate):
        self._counts, self._rate, self._unit = [0] * symbols, rate, 1024

    def add(self, symbol):
        self._counts[symbol] += self._unit
        self._unit += self._unit >> self._rate
        if self._unit >= 1 << 21:
            self._unit >>= 11
            self._counts = [count >> 11 for count in self._counts]

    def share(self, symbol):
        def lg(x):
            y = 8 * x + 8
            top = y.bit_length() - 1
            return 8 * (top - 3) + (y >> top - 3) % 8
        count = self._counts[symbol]
        return clamp((lg(count) - lg(sum(self._counts) - count) >> 2) + 16, 0, 31)


class BwtBits:
    """Bits that several adaptive bits predict."""

    def __init__(self, coder, limits):
        self._coder, self._limits = coder, limits
        self._models = [{} for _ in limits]
        self._weights = {}, {}

    def model(self, i, context):
        return self._models[i].setdefault(context, AdaptiveBit())

    def code(self, contexts, sets):
        def sat(x):
            return clamp(x, -32768, 32767)
        count = len(self._limits)
        models = [self.model(i, context) for i, context in enumerate(contexts)]
        inputs = [STRETCH[model.predict() >> 4] for model in models] + [256]
        u, v = (weights.setdefault(choice, [8400 // count] * count + [0])
                for weights, choice in zip(self._weights, sets))
        total = sum(x * sat(a + b) for x, a, b in zip(inputs, u, v))
        p = SQUASH[clamp(total >> 14, -2047, 2047)]
        bit = self._coder.code(p)
        error = 65536 * bit - p >> 3
        for i, x in enumerate(inputs):
            step = (2 * x * error >> 16) + 1 >> 1
            u[i], v[i] = sat(u[i] + step), sat(v[i] + step)
        for model, limit in zip(models, self._limits):
            model.learn(bit, limit)
        return bit


def bwt_column(coder, size):
    models, lengths = {}, []
    for _ in range(256):
        before, node = lengths[-1] if lengths else 0, 1
        for _ in range(4):
            model = models.setdefault((before, node), AdaptiveBit())
            node = 2 * node + coder.adaptive(model, 30)
        lengths.append(node - 16)
    tree = BwtCode(lengths)
    hash_bits = clamp(size.bit_length() - 9, 4, 11)
    flags = BwtBits(coder, [14, 14, 250, 250])
    bits = BwtBits(coder, [14, 14, 250, 30, 30, 250, 250])
    recent, usual = BwtCounts(len(tree.bytes), 4), BwtCounts(len(tree.bytes), 6)
    last = before = third = run = run_before = ranks = 0
    history, history_after = collections.Counter(), collections.Counter()
    column = bytearray()
    for _ in range(size):
        kind = run
        if run >= 8:
            octave = run.bit_length()
            kind = min(15, 2 * octave + (run >> octave - 2) % 2)
        few = min(run, 7)
        r, s = recent.share(last), usual.share(last)
        if flags.code([0, (last, few), (r, s, kind), (run_before, kind)],
                      [(r, kind), (last, kind)]):
            symbol = last
            run += 1
        else:
            for _ in range(min(run, 6)):
                for x, bit in tree.paths[last]:
                    bits.model(0, x).learn(bit, 14)
                    history[x] = (2 * history[x] + bit) % 128
            mixed = ((last << 8 | before) * 0x9E3779B1 & 0xFFFFFFFF) >> 32 - hash_bits
            x = 0
            while x >= 0:
                bit = bits.code([x, (last, x), (last, x), (before, x), (mixed, x),
                                 (x, history[x]), (x, few, history_after[last, x])],
                                [(x, few), (x, ranks)])
                history[x] = (2 * history[x] + bit) % 128
                history_after[last, x] = (2 * history_after[last, x] + bit) % 16
                x = tree.child[x][bit]
            symbol = ~x
            rank = 0 if symbol == before else 1 if symbol == third else 2
            ranks = (4 * ranks + rank) % 16
            run_before, run = kind, 0
            last, before, third = symbol, last, before
        recent.add(symbol)
        usual.add(symbol)
        column.append(tree.bytes[symbol])
    return column


def decode_bwt(coded, parameters, size):
    check(size < 1 << 24, "bwt block is too large")
    if text_library():
        return decode_in_c("bwt", coded, size)
    walks = 1 if size < 65536 else 8
    fields = Fields(coded)
    rows = [fields.number(3, "bwt: row") for _ in range(walks)]
    check(all(1 <= row <= size for row in rows), "bwt block has a row that is none")
    coder = BitCoder(coded[3 * walks:])
    column = bwt_column(coder, size)
    check(coder.ended(), "bwt block's code has a wrong length")
    column.insert(rows[0], 0)
    # By byte, then by row: a stable sort. Row 0 of the sorted ones is the empty suffix.
    order = sorted((row for row in range(size + 1) if row != rows[0]), key=column.__getitem__)
    following = [0] * (size + 1)
    for place, row in enumerate(order):
        following[row] = place + 1
    out = bytearray()
    row = 0
    for _ in range(size):
        out.append(column[row])
        row = following[row]
    return bytes(out[::-1])


Codec = collections.namedtuple("Codec", "name parse decode against shares", defaults=(False, False))
TEXT_PRIORS = ["", "prose", "wiki", "html", "markup", "cards", "code", "json", "logs", "csv"]
PRIOR_FOLDER = pathlib.Path(__file__).parent.parent / "src/codecs/text/prior"
TextCm = collections.namedtuple("TextCm", "profile lines prior family records")


def expand_log_text(text, shared):
    """The text of a template, its copies replaced by what they are of."""
    fields, out = Fields(text), bytearray()
    while fields.left():
        byte = fields.u8("log: text")
        if byte == 2:
            begin = fields.varint("log: place of a copy", 0, len(shared))
            size = fields.varint("log: size of a copy", 0, len(shared) - begin)
            out += shared[begin:begin + size]
        else:
            out.append(byte)
            if byte == 1:
                out.append(fields.u8("log: escaped byte"))
    return out


def log_templates(column, fields, size, shared):
    """Each a list of literals and, between them, numbers of columns; how many columns."""
    count = fields.varint("log: templates", 0, 65536)
    texts = [expand_log_text(text, shared) for text in column(fields, count, 2 * size)]
    check(sum(map(len, texts)) <= 2 * size, "log: templates longer than the block")
    strings = column(fields, count, 3 * size)
    templates, columns = [], 1
    for text, string in zip(texts, strings):
        slots = Fields(string)
        template, literal = [], bytearray()
        bytes_left = iter(text)
        for byte in bytes_left:
            if byte == 0:
                number = slots.varint("log: column of a value", 0, columns - 1)
                if number == 0:
                    number, columns = columns, columns + 1
                    check(number < 65536, "log: too many columns")
                template += [bytes(literal), number]
                literal = bytearray()
                continue
            if byte == 1:
                byte = next(bytes_left, None)
                check(byte is not None, "log: escape at the end")
            literal.append(byte)
        slots.end("log: columns of a template")
        templates.append(template + [bytes(literal)])
    return templates, columns


def decode_log(coded, parameters, size, shared):
    import spec_columns
    spec = sys.modules[__name__]
    check(size <= 1 << 24, "log block is too large")

    def column(fields, count, most, beside=()):
        return spec_columns.decode_column(spec, fields, count, most, list(beside))

    fields = Fields(coded)
    templates, count = log_templates(column, fields, size, shared)
    records = fields.varint("log: records", 0, size)
    width = 2 if len(templates) > 256 else 1
    values = [column(fields, records, width * records)]
    numbers = [int.from_bytes(number, "little") for number in values[0]]
    for text, number in zip(values[0], numbers):
        check(len(text) == width and number < len(templates), "log: template number")
    # Where the values of each column stand, all counted through.
    places, place = [[] for _ in range(count)], 0
    for number in numbers:
        for c in [0] + templates[number][1::2]:
            places[c].append(place)
            place += 1
    check(place - records <= size, "log: too many values")
    left = size
    for c in range(1, count):
        beside = []
        for _ in range(fields.varint("log: columns beside", 0, 4)):
            other = fields.varint("log: column beside", 0, c - 1)
            check(0 < len(places[other]) <= 16 * len(places[c]) + 256, "log: column beside")
            beside.append((values[other],
                           [max(0, bisect.bisect_left(places[other], place) - 1)
                            for place in places[c]]))
        values.append(column(fields, len(places[c]), left, beside))
        left -= sum(map(len, values[c]))
    fields.end("log block")
    following = [iter(column_values) for column_values in values]
    out = bytearray()
    for number in numbers:
        for i, item in enumerate(templates[number]):
            out += next(following[item]) if i % 2 else item
    return bytes(out)


def parse_text_cm(parameters):
    check(len(parameters) == 4, "text_cm: parameters are not four bytes")
    profile, lines, prior, flags = parameters
    check(profile <= 2, "text_cm: profile")
    check(1 <= lines <= 96 if profile == 1 else 10 <= lines <= 21, "text_cm: lines")
    check(prior < len(TEXT_PRIORS), "text_cm: prior")
    check(flags < (1 if profile == 2 else 4), "text_cm: flags")
    return TextCm(profile, lines, prior, flags & 1, flags >> 1)


def text_prior(number):
    return (PRIOR_FOLDER / f"{TEXT_PRIORS[number]}.txt").read_bytes() if number else b""


def cm_squash():
    squash, exponential = {}, 1 << 32
    for x in range(3072):
        total = (1 << 32) + exponential
        squash[x] = min(((1 << 48) + total // 2) // total, 65535)
        squash[-x] = 65536 - squash[x]
        exponential = (exponential * 4278222805 + (1 << 31)) >> 32
    return squash


def cm_stretch(squash):
    stretch, x = [], -3071
    for p in range(4096):
        while squash[x] < p * 16 + 8:
            x += 1
        stretch.append(x)
    return stretch


def cm_histories():
    """By state: the next after a zero and after a one; the first guess."""
    most = [41, 40, 12, 8, 6, 5]

    def exists(n):
        return min(n) < 6 and max(n) <= most[min(n)]

    def knows_last(n):
        return min(n) > 0 and sum(n) <= 12

    states = [(n, last) for total in range(82) for ones in range(total + 1)
              for n in [(total - ones, ones)] if exists(n)
              for last in range(1 + knows_last(n))]
    numbers = {state: i for i, state in enumerate(states)}
    after, guesses = [], []
    for n, last in states:
        follow = []
        for bit in range(2):
            m = list(n)
            m[bit] += 1
            other = m[1 - bit]
            if other > 2:
                m[1 - bit] = [2, 3, 3, 4, 4, 4, 5, 5, 5][other - 3] if other < 12 else 6
            while not exists(m):
                big = 0 if m[0] > m[1] else 1
                small = m[1 - big]
                if small <= 5 and m[big] > most[small]:
                    m[big] -= 1
                else:
                    m[1 - big] -= 1
            follow.append(numbers[tuple(m), bit if knows_last(m) else 0])
        after.append(follow)
        guess = (5 * n[1] + 2) * 65536 // (5 * sum(n) + 4)
        guesses.append((7 * guess + 65536 * last) // 8 if knows_last(n) else guess)
    return after, guesses


CM_SQUASH = cm_squash()
CM_STRETCH = cm_stretch(CM_SQUASH)
CM_NEXT, CM_GUESSES = cm_histories()


def cm_hash(a, b):
    h = (a * 0x2F0B4C47 + b * 0x9E3779B1) & 0xFFFFFFFF
    h ^= h >> 15
    return h * 0x85EBCA6B & 0xFFFFFFFF


class CmLines:
    """Cache lines of four slots; a slot is a list of a check and 15 states."""

    def __init__(self):
        self._lines = {}

    def find(self, line, check_byte):
        slots = self._lines.setdefault(line, None)
        if slots is None:
            slots = self._lines[line] = [[0] * 16 for _ in range(4)]
        for slot in slots:
            if slot[0] == check_byte:
                return slot
        slot = min(slots, key=lambda s: s[1])
        slot[:] = [check_byte] + [0] * 15
        return slot


class CmMatch:
    """The model of long matches of the fast profile."""

    def __init__(self, index_bits):
        self._bits = index_bits
        self._index = collections.defaultdict(int)
        self._map = [[(65535 - 32768 // (2 + k)) * 64, 0] for k in range(32)]
        self._place = self._length = 0
        self.expected = None

    def advance(self, text, c):
        """`text` ends with the byte c."""
        position = len(text)
        c2, c3, c4, c5, c6 = text[-2:-7:-1]
        h = cm_hash(c5 << 24 | c4 << 16 | c3 << 8 | c2, c6 * 256 + (c >> 1))
        entry = 2 * (h >> 33 - self._bits) + (c & 1)
        if self._length > 0 and text[self._place] == c:
            self._place += 1
            self._length = min(self._length + 1, 65535)
        else:
            self._place = self._index[entry]
            self._length = 0
            if self._place:
                while (self._length < 32 and
                       text[self._place - 1 - self._length] == text[position - 1 - self._length]):
                    self._length += 1
                if self._length < 6:
                    self._length = 0
        self._index[entry] = position
        self.expected = None
        if self._length > 0:
            self.expected = text[self._place] if self._place < position else 0

    def predict(self, bits):
        """Input and how sure it is."""
        if self.expected is None:
            return 0, 0
        n = self._length
        k = (n if n < 16 else 16 + (n - 16) // 4 if n < 48 else
             24 + (n - 48) // 64 if n < 496 else 31)
        self._entry = self._map[k]
        s = CM_STRETCH[self._entry[0] >> 10]
        return (s if self.expected >> 7 - bits & 1 else -s), 1 if n < 12 else 2 if n < 24 else 3

    def learn(self, bits, bit):
        if self.expected is None:
            return
        hit = bit == self.expected >> 7 - bits & 1
        p, count = self._entry
        p += (((1 << 22) - 1 if hit else 0) - p) * (131072 // (2 * count + 3)) >> 16
        self._entry[:] = p, min(count + 1, 1023)

    def note(self, bits, bit):
        if self.expected is not None and bit != self.expected >> 7 - bits & 1:
            self.expected = None


class CmFast:
    def __init__(self, parameters, size):
        self._lines, self._records = parameters.lines, parameters.records
        self._count = 9 if self._records else 7
        self._maps = [[guess << 16 for guess in CM_GUESSES] for _ in range(self._count)]
        self._table = CmLines()
        self._order1 = collections.defaultdict(lambda: [0] * 16)
        self._match = CmMatch(clamp(size.bit_length(), 10, 20))
        self._inputs = 16 if self._records else 8
        first = [14000 if i <= self._count else 0 for i in range(self._inputs)]
        self._weights = [collections.defaultdict(lambda: list(first)) for _ in range(2)]
        self._final = collections.defaultdict(lambda: [32768, 32768])
        points = [CM_SQUASH[128 * j - 1984] for j in range(32)]
        self._refined = collections.defaultdict(lambda: list(points))
        self.text = bytearray(64)
        self._word = self._word_before = 0
        self._line, self._above, self._column, self._field = 64, 0, 0, 0
        self._age = 0
        self._hashes = self._hash(1)
        self._begin(0)

    def _hash(self, six):
        c2, c3, c4, c5, c6 = self.text[:-6:-1]
        letter = six | 8 if six >= 16 else six
        hashes = [None,
                  cm_hash(c2 << 8 | six, 0x10000),
                  cm_hash(c3 << 16 | c2 << 8 | six, 0x20000),
                  cm_hash(c4 << 24 | c3 << 16 | c2 << 8 | six, 0x30000),
                  cm_hash(c5 << 24 | c4 << 16 | c3 << 8 | c2, (c6 << 8 | six) + 0x40000),
                  cm_hash(self._word, letter + 0x50000),
                  cm_hash(self._word + letter * 0x2F0B4C47, self._word_before)]
        if self._records:
            place = self._above + 1
            above = self.text[place] if place < len(self.text) else 0
            hashes += [cm_hash(self._field, six + 0x60000),
                       cm_hash(above << 16 | c2 << 8 | six, 0x70000)]
        return hashes

    def _begin(self, last):
        """Finds the slots of a byte's first nibble."""
        self._path = self._node = 1
        self._slots = [self._order1[self.text[-1], 0]]
        for h in self._hashes[1:]:
            self._slots.append(self._table.find(h >> 32 - self._lines, (4 * h + last) & 255))
        self._seconds = [None] + [(h + last * 0x3C6EF372) & 0xFFFFFFFF for h in self._hashes[1:]]
        self._known = sum(slot[1] != 0 for slot in self._slots[1:5])

    def _begin_second(self, nibble):
        self._node = 1
        self._slots = [self._order1[self.text[-1], 1 + nibble]]
        for h in self._seconds[1:]:
            self._slots.append(self._table.find(
                cm_hash(h, 4 + (nibble >> 2)) >> 32 - self._lines,
                (4 * (h >> 12) + (nibble & 3)) & 255))
        self._known = sum(slot[1] != 0 for slot in self._slots[1:5])

    def predict(self):
        bits = self._path.bit_length() - 1
        n = self._count
        self._states = [slot[self._node] for slot in self._slots]
        inputs = [0] * self._inputs
        for i, state in enumerate(self._states):
            inputs[i] = CM_STRETCH[self._maps[i][state] >> 20]
            if self._records and 1 <= i <= 6:
                inputs[n + i] = ((self._maps[i][state] >> 16) - 32768) >> 4
        inputs[n], sure = self._match.predict(bits)
        self._x = inputs
        self._w = [self._weights[0][self._path],
                   self._weights[1][(4 * self._known + sure) * 8 + bits]]
        self._f = self._final[self._path]
        self._m = [clamp(wrap32(sum(wrap32(x * w) >> 8 for x, w in zip(inputs, weights)) + 128)
                         >> 8, -3071, 3071) for weights in self._w]
        x = clamp((self._m[0] * self._f[0] + self._m[1] * self._f[1] + 32768) >> 16, -3071, 3071)
        self._p = CM_SQUASH[x]
        place = clamp(x, -1984, 1983) + 1984
        j, w = place >> 7, place & 127
        points = self._refined[self.text[-1] << 8 | self._path]
        self._near = points, j + (w >> 6)
        refined = (points[j] * (128 - w) + points[j + 1] * w) >> 7
        return (self._p + 3 * refined + 2) >> 2

    def learn(self, bit):
        for i, state in enumerate(self._states):
            m = self._maps[i][state]
            self._maps[i][state] = m + ((1 << 32) - 1 - m >> 7) if bit else m - (m >> 7)
        bits = self._path.bit_length() - 1
        self._match.learn(bits, bit)
        u = 80 + (65536 - self._age >> 10)
        self._age = min(self._age + 1, 65536)
        for m, weights in zip(self._m, self._w):
            error = (65536 * bit - CM_SQUASH[m]) * u >> 8
            for i, x in enumerate(self._x):
                weights[i] = wrap32(weights[i] + (wrap32(x * error + 32768) >> 16))
        error = (65536 * bit - self._p) * 12 >> 8
        for s, m in enumerate(self._m):
            self._f[s] = wrap32(self._f[s] + (m * error + 32768 >> 16))
        points, near = self._near
        points[near] += (65535 if bit else 1) - points[near] >> 5
        self.note(bit)

    def note(self, bit):
        for slot in self._slots:
            slot[self._node] = CM_NEXT[slot[self._node]][bit]
        self._match.note(self._path.bit_length() - 1, bit)
        self._path = self._path << 1 | bit
        self._node = self._node << 1 | bit
        if self._path >> 4 == 1:
            self._begin_second(self._path & 15)
        elif self._path >> 8:
            self._take(self._path & 255)

    def _take(self, c):
        self._hashes = self._hash(c >> 2)
        self.text.append(c)
        self._match.advance(self.text, c)
        small = c + 32 if 65 <= c <= 90 else c
        if 97 <= small <= 122 or small >= 128:
            self._word = cm_hash(self._word, small) + 1 & 0xFFFFFFFF
        elif self._word:
            self._word, self._word_before = 0, self._word
        if c == 10:
            self._above, self._line = self._line, len(self.text)
            self._column = self._field = 0
        else:
            self._above += self._above + 1 < self._line
            if c in b",;|\t":
                self._column += 1
                self._field = self._column * 0x9E3779B1 & 0xFFFFFFFF
            else:
                self._field = cm_hash(self._field, c)
        self._begin(c & 3)


class CmMaxLines:
    """Cache lines of seven slots; a slot is a list of 7 numbers."""

    def __init__(self, count):
        self._count = count
        self._lines = {}

    def find(self, h, path):
        product = (h + path * 0x9E3779B97F4A7C15) * 0xD6E8FEB86659FD93 % (1 << 64)
        line = (product >> 32) * self._count >> 32
        mark = product >> 16 & 65535
        if line not in self._lines:
            self._lines[line] = [[0] * 7, [[0] * 7 for _ in range(7)], 0, 0]
        marks, slots, last, before = entry = self._lines[line]
        if marks[last] == mark:
            return slots[last]
        if mark in marks:
            found = marks.index(mark)
        else:
            found = min((i for i in range(7) if i not in (last, before)),
                        key=lambda i: slots[i][0])
            marks[found] = mark
            slots[found][:] = [0] * 7
        entry[2:] = found, last
        return slots[found]


def cm_certain():
    """States that saw only zeros, or only ones."""
    certain = set()
    for bit in range(2):
        s = CM_NEXT[0][bit]
        while s not in certain:
            certain.add(s)
            s = CM_NEXT[s][bit]
    return certain


CM_CERTAIN = cm_certain()


class CmMaxMatch:
    def __init__(self):
        self.place = self.length = self.misses = 0
        self.expected = None


def cm_move(entry, bit, limit):
    """Entries are probabilities of 2^22 and counts."""
    p, n = entry
    p += (((1 << 22) - 1 if bit else 0) - p >> 7) * (131072 // (2 * n + 3)) >> 9
    entry[:] = p, min(n + 1, limit)


def cm_update(entry, bit, limit):
    p, n = entry
    p += (((1 << 22) - 1 if bit else 0) - p) * (131072 // (2 * n + 3)) >> 16
    entry[:] = p, min(n + 1, limit)


def cm_class(c):
    if 97 <= c <= 122:
        return 0
    if 65 <= c <= 90:
        return 1
    if 48 <= c <= 57:
        return 2
    return 3 if c == 32 else 4 if c == 10 else 5 if c >= 128 else 6 if c < 65 else 7


class CmMax:
    CONTEXTS = 32

    def __init__(self, lines, size):
        self.text = bytearray()
        self._table = CmMaxLines(65536 * lines)
        self._bits = clamp(size.bit_length(), 10, 22)
        self._index = [collections.defaultdict(int) for _ in range(2)]
        self._histories = [[[guess << 6, 0] for guess in CM_GUESSES] for _ in range(32)]
        self._runs = collections.defaultdict(dict)
        self._match_maps = {}
        self._byte_maps = {}
        self._order = collections.defaultdict(lambda: [1 << 21, 0])
        first = [655] * 140 + [0, 20000] + [0] * 18
        self._weights = [collections.defaultdict(lambda: list(first)) for _ in range(8)]
        self._final = [collections.defaultdict(lambda: [8192] * 8) for _ in range(2)]
        points = [CM_SQUASH[128 * j - 1984] for j in range(32)]
        self._refined = [collections.defaultdict(lambda: list(points)) for _ in range(3)]
        self._followers = [collections.defaultdict(int) for _ in range(2)]
        self._last4 = self._before4 = 0
        self._words, self._word_length = [0] * 4, 0
        self._classes = self._shape = 0
        self._line = self._above = self._first = self._quoted = self._field = 0
        self._fields, self._fields_above = [0] * 64, [0] * 64
        self._nesting = [0] * 32
        self._matches = [CmMaxMatch() for _ in range(3)]
        self._kind = 0
        self._rate = 1200
        self._begin()

    def _begin(self):
        text, w = self.text, self._words
        a, b, c = self._last4, self._before4, self._last4 & 255
        column = len(text) - self._line
        up = self._above + column
        above = text[up] if up < self._line else 10
        above1 = text[up + 1] if up + 1 < self._line else 10
        top, below = self._nesting[-1], self._nesting[-2]
        m0, m1, _ = self._matches
        field, field_above = self._fields[self._field], self._fields_above[self._field]
        f1, f2 = self._followers
        byte0 = 0 if m0.expected is None else 256 + m0.expected
        byte1 = 0 if m1.expected is None else 256 + m1.expected
        sure = 3 if m0.length > 31 else 2 if m0.length > 15 else 1 if m0.length else 0
        contexts = [
            (c, 0, 0), (a & 0xFFFF, 0, 0), (a & 0xFFFFFF, 0, 0), (a, 0, 0),
            (a, b & 0xFF, 0), (a, b & 0xFFFF, 0), (a, b, 0),
            (w[0], c, 0), (w[0], w[1], 0), (w[0], w[1], w[2]), (w[0], w[2], 0),
            (w[0], w[3], 0 if self._word_length else c), (w[1], a & 0xFFFF, 0),
            (w[1], w[2], c), (w[0], c, self._first),
            (a & 0xFFFF00, 0, 0), (a & 0xFF00FF, 0, 0), (a & 0xFFFF0000, 0, 0),
            (a & 0xF0F0F0FF, b & 0xF0, 0), (self._shape, c, 0), (self._shape & 0xFFFF, w[0], 0),
            (above | min(column, 255) << 8, c, 0), (above | above1 << 8, a & 0xFFFF, 0),
            (self._field, field, self._first), (field_above, field, 0),
            (top, a & 0xFFFF, 0), (top, w[0], below),
            (f1[c] & 0xFFFF, c, 0), (f2[a & 0xFFFF] & 0xFFFF, a & 0xFFFF, 0),
            (f1[c] & 0xFFFFFF, 0, 0), (byte0 | sure << 9, byte1, c), (a, 0, w[1])]
        self._hashes = [cm_hash(cm_hash(x, y), z + i * 0x10001 & 0xFFFFFFFF)
                        for i, (x, y, z) in enumerate(contexts)]
        self._path, self._bit = 1, 0
        self._find()
        self._firsts = self._slots
        self._run = [(slot[3], slot[4]) for slot in self._slots]
        self._refine = [c << 8, cm_hash(a & 0xFFFF, 1) >> 8, cm_hash(w[0], 2) >> 8]

    def _find(self):
        self._slots = [self._table.find(h, self._path) for h in self._hashes]
        self._node = 0

    def _match_inputs(self):
        inputs = []
        self._expects, self._match_entries = [0] * 3, []
        for k, m in enumerate(self._matches):
            if m.expected is None or (256 + m.expected) >> 8 - self._bit != self._path:
                inputs += [0, 0, 0]
                continue
            one = m.expected >> 7 - self._bit & 1
            self._expects[k] = 1 + one
            n = m.length
            bucket = (n if n < 16 else 16 + (n - 16) // 4 if n < 32 else
                      20 + (n - 32) // 8 if n < 64 else 24 + (n - 64) // 64 if n < 512 else 31)
            misses = m.misses if k < 2 else bin(m.misses & 255).count("1")
            level = min(bucket, 15)
            e = self._match_maps.setdefault(
                (k, bucket, min(misses, 3)), [(65535 - 32768 // (bucket + 2)) << 6, 0])
            f = self._byte_maps.setdefault(
                (k, level, m.expected, self._bit), [(65535 - 32768 // (level + 2)) << 6, 0])
            self._match_entries += [(e, one, 1023), (f, one, 255)]
            x = [CM_STRETCH[e[0] >> 10], (e[0] >> 6) - 32768 >> 5, CM_STRETCH[f[0] >> 10]]
            inputs += x if one else [-v for v in x]
        return inputs

    def predict(self, extra=()):
        path, bit = self._path, self._bit
        self._states = [slot[self._node] for slot in self._slots]
        x = [0] * 128
        self._run_entries = []
        for i, s in enumerate(self._states):
            if s:
                p = self._histories[i][s][0]
                x[i] = CM_STRETCH[p >> 10]
                x[32 + i] = (p >> 6) - 32768 >> 5
                if s in CM_CERTAIN:
                    x[64 + i] = x[i]
            byte, count = self._run[i]
            if count and (256 + byte) >> 8 - bit == path:
                one = byte >> 7 - bit & 1
                e = self._runs[i].setdefault((count, bit), [(65535 - 32768 // (count + 2)) << 6, 0])
                self._run_entries.append((e, one))
                x[96 + i] = CM_STRETCH[e[0] >> 10] * (1 if one else -1)
        x += self._match_inputs()
        c = self._last4 & 255
        self._orders = [self._order[path], self._order[c, path]]
        p0, p1 = (e[0] for e in self._orders)
        x += [CM_STRETCH[p0 >> 10], CM_STRETCH[p1 >> 10], (p1 >> 6) - 32768 >> 5, 256]
        x += extra
        self._x = [(i, v) for i, v in enumerate(x) if v]  # 0 changes nothing
        known = sum(s != 0 for s in self._states[:7])
        part = [0, 1, 1, 2, 2, 3, 3, 3][bit]
        e0, e1, e2 = self._expects
        chosen = [(path, e0), (c, bit), (self._last4 >> 8 & 255, bit),
                  (self._kind, e0, e1, bit, self._matches[0].misses & 3),
                  (self._classes, part), (known, bit, self._classes & 7),
                  (min(self._word_length, 7), self._nesting[-1] >> 3 & 7, bit),
                  (min(len(self.text) - self._line, 15), e2, bit, self._quoted)]
        self._w = [sets[key] for sets, key in zip(self._weights, chosen)]
        # As wrap32(v * w[i]) >> 8, but for an offset.
        offset = len(self._x) << 23
        self._m = [clamp(wrap32(sum([(v * w[i] + 0x80000000 & 0xFFFFFFFF) >> 8
                                     for i, v in self._x]) - offset + 128) >> 8,
                         -2047, 2047) for w in self._w]
        self._f = [self._final[0][self._kind, e0, bit], self._final[1][path]]
        self._y = [clamp(wrap32(sum(wrap32(m * w) >> 8 for m, w in zip(self._m, f)) + 128) >> 8,
                         -2815, 2815) for f in self._f]
        y = sum(self._y) >> 1
        total = 2 * CM_SQUASH[y] + 4
        place = clamp(y, -1984, 1983) + 1984
        j, v = place >> 7, place & 127
        self._near = []
        for refined, base in zip(self._refined, self._refine):
            points = refined[(base + path * 0x9E35) & 65535]
            total += 2 * (points[j] * (128 - v) + points[j + 1] * v >> 7)
            self._near.append((points, j + (v >> 6)))
        return clamp(total >> 3, 1, 65535)

    def learn(self, bit):
        for m, w in zip(self._m, self._w):
            error = (65536 * bit - CM_SQUASH[m]) * self._rate >> 10
            for i, v in self._x:
                # As w[i] + (wrap32(v * error + 32768) >> 16), wrapped.
                w[i] = (w[i] + ((v * error + 0x80008000 & 0xFFFFFFFF) >> 16) + 0x7FFF8000
                        & 0xFFFFFFFF) - 0x80000000
        for y, f in zip(self._y, self._f):
            error = (65536 * bit - CM_SQUASH[y]) * 4 >> 5
            for i, m in enumerate(self._m):
                f[i] = wrap32(f[i] + (wrap32(m * error + 32768) >> 16))
        for points, near in self._near:
            points[near] += (65535 if bit else 1) - points[near] >> 6
        for i, s in enumerate(self._states):
            self._slots[i][self._node] = CM_NEXT[s][bit]
            cm_move(self._histories[i][s], bit, 255)
        for entry, one in self._run_entries:
            cm_move(entry, one == bit, 255)
        for entry, one, limit in self._match_entries:
            cm_update(entry, one == bit, limit)
        cm_update(self._orders[0], bit, 255)
        cm_update(self._orders[1], bit, 127)
        self._path = self._path << 1 | bit
        self._bit += 1
        if self._bit in (2, 5):
            self._find()
        elif self._bit == 8:
            self._take(self._path & 255)
        else:
            self._node = 1 + bit if self._bit in (1, 3, 6) else 3 + (self._path & 3)

    def _take(self, c):
        for run in self._firsts:
            run[4] = min(run[4] + 1, 63) if run[3] == c and run[4] else 1
            run[3] = c
        self.text.append(c)
        for followers, key in zip(self._followers, (self._last4 & 255, self._last4 & 65535)):
            followers[key] = (followers[key] << 8 | c) & 0xFFFFFFFF
        self._before4 = (self._before4 << 8 | self._last4 >> 24) & 0xFFFFFFFF
        self._last4 = (self._last4 << 8 | c) & 0xFFFFFFFF
        self._note(c)
        self._follow(c)
        self._rate = 200 + 16000 // (16 + (len(self.text) >> 10))
        self._begin()

    def _note(self, c):
        kind, position = cm_class(c), len(self.text)
        self._classes = (self._classes << 3 | kind) & 511
        if kind in (0, 1, 5):
            self._words[0] = cm_hash(self._words[0], c + 32 if kind == 1 else c) + 1 & 0xFFFFFFFF
            self._word_length += 1
        elif self._words[0]:
            self._words = [0] + self._words[:3]
            self._word_length = 0
        if kind not in (0, 2) or kind + 1 != self._shape & 15:
            self._shape = (self._shape << 4 | kind + 1) & 0xFFFFFFFF
        if c == 10:
            self._above, self._line = self._line, position
            self._fields_above, self._fields = self._fields, [0] * 64
            self._field = self._first = self._quoted = 0
        else:
            if position - self._line == 1:
                self._first = c
            if c in b",\t ;|:":
                self._field = min(self._field + 1, 63)
                self._fields[self._field] = 0
            else:
                self._fields[self._field] = cm_hash(self._fields[self._field], c + 1)
            self._quoted ^= c == 34
        if c in b"([{<":
            self._nesting = self._nesting[1:] + [(c | self._words[1] << 8) & 0xFFFFFFFF]
        elif c in b")]}>":
            self._nesting = [0] + self._nesting[:-1]

    def _follow(self, c):
        text, position = self.text, len(self.text)
        for k, least in enumerate((20, 6)):
            m = self._matches[k]
            if m.length:
                if text[m.place] == c:
                    m.place += 1
                    m.length = min(m.length + 1, 65535)
                else:
                    m.length = 0
                    m.misses = min(m.misses + 1, 7)
            if position < least:
                continue
            h = 0
            for i in range(1, least + 1):
                h = (h + text[position - i] + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
            h ^= h >> 32
            h = h * 0xBF58476D1CE4E5B9 % (1 << 64) >> 64 - self._bits
            noted = self._index[k][h]
            if noted and m.length < (1, 16)[k]:
                n = 0
                while n < min(400, noted) and text[noted - 1 - n] == text[position - 1 - n]:
                    n += 1
                if n >= least and n > m.length:
                    m.place, m.length = noted, n
            self._index[k][h] = position
        self._align(c)
        m0, m1, m2 = self._matches
        for m in (m0, m1):
            m.expected = text[m.place] if m.length else None
        m2.expected = text[m2.place] if m2.place else None
        self._kind = (3 + (m0.length >= 32) + (m0.length >= 100) if m0.length else
                      0 if not m1.length else 1 if m1.length < 12 else 2)

    def _align(self, c):
        text, position = self.text, len(self.text)
        m0, m1, m = self._matches
        if m.place:
            at = m.place
            if text[at] == c:
                m.place, m.length = at + 1, min(m.length + 1, 65535)
                m.misses = m.misses << 1 & 65535
            else:
                m.misses, m.length = (m.misses << 1 | 1) & 65535, 0
                if c == 10:
                    end = min(position - 1, at + 1024)
                    while at < end and text[at] != 10:
                        at += 1
                    m.place = at + 1 if text[at] == 10 else 0
                elif text[at] != 10:
                    if at + 1 < position and text[at + 1] == c:
                        m.place = at + 2
                    elif c != 32:
                        m.place = at + 1
            if m.place >= position or bin(m.misses).count("1") > 8:
                m.place = 0
        if not m.place or (m0.length >= 32 and m.length < 16):
            if m0.length:
                m.place, m.length, m.misses = m0.place, m0.length, 0
            elif not m.place and m1.length >= 8:
                m.place, m.length, m.misses = m1.place, m1.length, 0x55
        if not m.place:
            m.length = 0


def decode_text_cm_max(coded, parameters, size):
    prior = text_prior(parameters.prior)[-4096:]
    if text_library():
        return decode_in_c("text_cm_max", coded, size, parameters.lines, prior,
                           ctypes.c_size_t(len(prior)))
    model = CmMax(parameters.lines, len(prior) + size)
    for byte in prior:
        for k in range(7, -1, -1):
            model.predict()
            model.learn(byte >> k & 1)
    code = BitCoder(coded)
    for _ in range(8 * size):
        model.learn(code.code(model.predict()))
    check(code.ended(), "text_cm: code is not as long as it says")
    return bytes(model.text[len(prior):])


def decode_text_cm_log(coded, parameters, size):
    prior = text_prior(parameters.prior)
    check(parameters.lines <= max(10, (len(prior) + size).bit_length()), "text_cm: lines")
    check(text_library(), "text_cm, profile log, is decoded in C alone: there is no compiler")
    return decode_in_c("text_cm_log", coded, size, parameters.lines, prior,
                       ctypes.c_size_t(len(prior)), ctypes.c_size_t(min(8192, len(prior))))


def decode_text_cm(coded, parameters, size):
    check(parameters, "text_cm: no parameters")
    if parameters.profile == 1:
        return decode_text_cm_max(coded, parameters, size)
    if parameters.profile == 2:
        return decode_text_cm_log(coded, parameters, size)
    priors = []
    if parameters.prior:
        half = range(1, 6) if parameters.prior < 6 else range(6, 10)
        if parameters.family:
            priors = [text_prior(i) for i in half if i != parameters.prior]
        priors.append(text_prior(parameters.prior))
    text = b"".join(priors)
    learnt = min(8192, len(priors[-1])) if priors else 0
    if text_library():
        return decode_in_c("text_cm_fast", coded, size, parameters.lines, parameters.records, text,
                           ctypes.c_size_t(len(text)), ctypes.c_size_t(learnt))
    model = CmFast(parameters, len(text) + size)
    for i, byte in enumerate(text):
        for k in range(7, -1, -1):
            if i >= len(text) - learnt:
                model.predict()
                model.learn(byte >> k & 1)
            else:
                model.note(byte >> k & 1)
    code = BitCoder(coded)
    for _ in range(8 * size):
        model.learn(code.code(model.predict()))
    check(code.ended(), "text_cm: code is not as long as it says")
    return bytes(model.text[64 + len(text):])


TEXT_WEIGHTS = pathlib.Path(__file__).parent.parent / "src/codecs/text/lm_weights.bin"
LM_LINES, LM_CONTEXTS, LM_HIDDEN, LM_UNITS = 61440, 12, 32, 224
TextLm = collections.namedtuple("TextLm", "profile lines prior")


def parse_text_lm(parameters):
    check(len(parameters) == 4, "text_lm: parameters are not four bytes")
    number, profile, lines, prior = parameters
    check(number == 1, "text_lm: weights")
    check(profile <= 1, "text_lm: profile")
    if profile == 0:
        check(1 <= lines <= 96 and prior < len(TEXT_PRIORS), "text_lm: lines or prior")
    else:
        check(lines == 0 and prior == 0, "text_lm: lines or prior")
    return TextLm(profile, lines, prior)


@functools.lru_cache(maxsize=1)
def text_lm_weights():
    """Rows by line, hidden weights by unit and bias, output weights by node and bias."""
    data = TEXT_WEIGHTS.read_bytes()
    numbers = struct.Struct(f"<{LM_HIDDEN * 192}b{LM_HIDDEN}h{256 * LM_UNITS}h256h")
    values = numbers.unpack(data[LM_LINES * 64:])
    hidden, rest = values[:LM_HIDDEN * 192], values[LM_HIDDEN * 192:]
    bias, rest = rest[:LM_HIDDEN], rest[LM_HIDDEN:]
    output, output_bias = rest[:256 * LM_UNITS], rest[256 * LM_UNITS:]
    return (data, [hidden[192 * h:192 * h + 192] for h in range(LM_HIDDEN)], bias,
            [output[LM_UNITS * n:LM_UNITS * n + LM_UNITS] for n in range(256)], output_bias)


def text_lm_mix(number, low, high):
    x = ((high << 32 | low) + number * 0x9E3779B97F4A7C15) % (1 << 64)
    x = x * 0xD6E8FEB86659FD93 % (1 << 64)
    x ^= x >> 32
    return x * 0xD6E8FEB86659FD93 % (1 << 64) >> 32


def text_lm_kind(c):
    if c >= 128:
        return 6
    for kind, some in ((1, b"\n"), (2, b" "), (7, b".,"), (8, b"<>&"), (9, b"()[]{}"), (10, b"\"'")):
        if c in some:
            return kind
    return 4 if 97 <= c <= 122 else 5 if 65 <= c <= 90 else 3 if 48 <= c <= 57 else 11


class LanguageModel:
    def __init__(self):
        self._data, self._hidden, self._bias, self._output, self._output_bias = text_lm_weights()
        self._last = 0
        self._word = self._word1 = self._word2 = self._shape = 0
        self._begin()

    def _begin(self):
        last, w, w1, w2 = self._last, self._word, self._word1, self._word2
        c1, last4, before4 = last & 255, last & 0xFFFFFFFF, last >> 32
        pairs = [(c1, 0), (last4 & 0xFFFF, 0), (last4 & 0xFFFFFF, 0), (last4, 0),
                 (last4, before4 & 255), (last4, before4 & 65535), (w, c1), (w, w1), (w, w2),
                 (w, (w1 * 0x2F0B4C47 + w2) & 0xFFFFFFFF), (self._shape, 0),
                 (last4 & 0xFFFF00, 0)]
        self.units = []
        for i, pair in enumerate(pairs):
            h = text_lm_mix(i + 1, *pair)
            at = (h * LM_LINES >> 32) * 64
            unit = [0] * 16
            for row in range(at, at + 64, 16):
                if self._data[row] == h & 255 | 1:
                    unit = [32] + [b - 256 if b > 127 else b for b in self._data[row + 1:row + 16]]
                    break
            self.units += unit
        hidden = [clamp(bias + sum(map(operator.mul, weights, self.units)) >> 6, 0, 511)
                  for weights, bias in zip(self._hidden, self._bias)]
        self.units += hidden
        self._path = 1

    def scores(self):
        weights = self._output[self._path]
        products = list(map(operator.mul, weights, self.units))
        parts = [sum(products[a:b]) >> 5 for a, b in ((0, 64), (64, 128), (128, 192), (192, 224))]
        whole = sum(parts) + self._output_bias[self._path]
        return [clamp(x, -2047, 2047) for x in [whole] + parts]

    def learn(self, bit):
        self._path = self._path << 1 | bit
        if self._path < 256:
            return
        c = self._path & 255
        kind = text_lm_kind(c)
        self._last = (self._last << 8 | c) % (1 << 64)
        self._shape = (self._shape << 4 | kind) & 0xFFFFFFFF
        if 4 <= kind <= 6:
            small = c + 32 if kind == 5 else c
            self._word = (self._word + small + 1) * 0x2F0B4C47 & 0xFFFFFFFF
            self._word ^= self._word >> 15
        elif self._word:
            self._word, self._word1, self._word2 = 0, self._word, self._word1
        self._begin()


class TextLmMixed:
    def __init__(self, parameters, size):
        self._model = CmMax(parameters.lines, size)
        self._language = LanguageModel()

    def predict(self):
        return self._model.predict(self._language.scores())

    def learn(self, bit):
        self._model.learn(bit)
        self._language.learn(bit)


class TextLmAlone:
    def __init__(self, parameters, size):
        self._language = LanguageModel()
        _, _, _, output, bias = text_lm_weights()
        self._sets = [[w * 256 for w in (*ws, b)] for ws, b in zip(output, bias)]
        self._path = 1

    def predict(self):
        self._inputs = [8 * x for x in self._language.units] + [256]
        products = zip(self._inputs, self._sets[self._path])
        mix = wrap32(sum(wrap32(x * w) >> 8 for x, w in products) + 128) >> 8
        self._p = CM_SQUASH[clamp(mix, -3071, 3071)]
        return self._p

    def learn(self, bit):
        error = ((bit << 16) - self._p) * 2560 >> 10
        weights = self._sets[self._path]
        self._sets[self._path] = [wrap32(w + (wrap32(x * error + 32768) >> 16))
                                  for x, w in zip(self._inputs, weights)]
        self._path = self._path << 1 | bit
        if self._path >= 256:
            self._path = 1
        self._language.learn(bit)


def decode_text_lm(coded, parameters, size):
    check(parameters, "text_lm: no parameters")
    check(parameters.profile == 1 or parameters.lines <= 1 + size // 32768, "text_lm: lines")
    prior = text_prior(parameters.prior)[-4096:]
    if text_library():
        return decode_in_c("text_lm", coded, size, TEXT_WEIGHTS.read_bytes(), parameters.profile,
                           parameters.lines, prior, ctypes.c_size_t(len(prior)))
    model = (TextLmAlone if parameters.profile else TextLmMixed)(parameters, len(prior) + size)
    for byte in prior:
        for k in range(7, -1, -1):
            model.predict()
            model.learn(byte >> k & 1)
    code, out = BitCoder(coded), bytearray()
    for _ in range(size):
        byte = 0
        for _ in range(8):
            bit = code.code(model.predict())
            model.learn(bit)
            byte = byte << 1 | bit
        out.append(byte)
    check(code.ended(), "text_lm: code is not as long as it says")
    return bytes(out)


CODECS = {
    0: Codec("stored", None, decode_stored),
    1: Codec("fill", None, decode_fill),
    DUPLICATE: Codec("duplicate", None, None),
    3: Codec("zstd", None, decode_zstd),
    4: Codec("lzma", parse_lzma, decode_lzma),
    5: Codec("float", parse_float, decode_float),
    6: Codec("planes", parse_planes, decode_planes),
    7: Codec("cascade", parse_cascade, decode_cascade),
    8: Codec("classes", parse_classes, decode_classes),
    9: Codec("quant", QuantParameters, decode_quant),
    10: Codec("mix", parse_mix, decode_mix),
    TWIN: Codec("twin", None, None),
    12: Codec("swapped", parse_swapped, decode_swapped),
    13: Codec("palette", parse_palette, decode_palette),
    14: Codec("copy", None, decode_copy, against=True),
    15: Codec("delta", DeltaParameters, decode_delta, against=True),
    16: Codec("sum", SumParameters, decode_sum, against=True),
    17: Codec("moments", MomentsParameters, decode_moments, against=True),
    18: Codec("mixdelta", MixdeltaParameters, decode_mixdelta, against=True),
    19: Codec("derived", DerivedParameters, decode_derived, against=True),
    20: Codec("scaled", ScaledParameters, decode_scaled, against=True),
    21: Codec("bwt", None, decode_bwt),
    22: Codec("text_cm", parse_text_cm, decode_text_cm),
    23: Codec("text_lm", parse_text_lm, decode_text_lm),
    25: Codec("log", None, decode_log, shares=True),
    26: Codec("table", None, decode_table),
}

# ---------------------------------------------------------------------------------------------
# Container

MAGIC = b"\x89ZLLM\r\n\x1a"
END_MAGIC = b"ZLLMEND\n"
HEADER_SIZE, PREFIX_SIZE, TRAILER_SIZE = 32, 12, 44
MAJOR_VERSION = 1

ENTRY, BLOCKS, ENTRY_END, INDEX, TRAILER, SHARED, REFERENCES, AHEAD = range(1, 9)
FRAME_NAMES = {ENTRY: "Entry", BLOCKS: "Blocks", ENTRY_END: "EntryEnd", INDEX: "Index",
               TRAILER: "Trailer", SHARED: "Shared", REFERENCES: "References", AHEAD: "Ahead"}
WITH_DATA = (BLOCKS, INDEX, SHARED, AHEAD)
FILE, DIRECTORY, LINK = 0, 1, 2
KIND_NAMES = ("file", "directory", "symlink")

MAX_HEAD = 1 << 24
MAX_BLOCK = 1 << 26
MAX_FRAME = 1 << 27
MAX_PARAMETERS = 65536
MAX_PATH = 4096
MAX_PART = 255
MAX_PIECE = 1 << 20
MAX_FILE = (1 << 63) - 1
MAX_SOURCES = 4
MAX_CHAIN = 6
MAX_DEPTH = 4
MAX_ELEMENTS = 1 << 48

# Element types of dtypes.md.
DTYPES = dict(enumerate((
    "bytes F64 F32 F16 BF16 F8_E4M3 F8_E5M2 F8_E8M0 F4 F6_E2M3 F6_E3M2 F8_E4M3FNUZ "
    "F8_E5M2FNUZ").split()))
DTYPES.update(enumerate("I8 I16 I32 I64 U8 U16 U32 U64 BOOL C64 C128 F64_BE F32_BE F16_BE "
                        "BF16_BE".split(), 16))
DTYPES.update((64 + number, name) for number, name in {
    2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0",
    35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0"}.items())
# Bytes of an element, of types that are not packed.
WIDTHS = {name: 1 for name in "bytes I8 U8 BOOL".split()}
WIDTHS.update((name, 1) for name in DTYPES.values() if name.startswith("F8_"))
WIDTHS.update((name, 2) for name in "F16 BF16 I16 U16 F16_BE BF16_BE".split())
WIDTHS.update((name, 4) for name in "F32 I32 U32 F32_BE".split())
WIDTHS.update((name, 8) for name in "F64 I64 U64 C64 F64_BE".split())
WIDTHS["C128"] = 16


def bytes_of(dtype, elements):
    return elements // UNITS[dtype][0] * UNITS[dtype][1]


# Elements and bytes of a unit.
UNITS = {name: (1, width) for name, width in WIDTHS.items()}
UNITS.update(F4=(2, 1), F6_E2M3=(4, 3), F6_E3M2=(4, 3), Q1_0=(128, 18), Q2_0=(64, 18), MXFP4=(32, 17),
             NVFP4=(64, 36))
UNITS.update(zip("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q8_1 IQ4_NL".split(),
                 ((32, size) for size in (18, 20, 22, 24, 34, 36, 18))))
UNITS.update(zip("Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ3_S IQ2_S IQ4_XS IQ1_M "
                 "TQ1_0 TQ2_0".split(),
                 ((256, size) for size in (84, 110, 144, 176, 210, 292, 66, 74, 98, 50, 110, 82, 136,
                                           56, 54, 66))))


@dataclasses.dataclass
class Entry:
    """What an Entry frame says, and with `segments` what the index adds."""
    kind: int
    path: bytes
    mode: int = None  # None: this and the time are not recorded
    seconds: int = None
    nanoseconds: int = None
    target: bytes = b""
    size: int = 0
    sha256: bytes = b""
    # One (offset, head length, data length, decoded size, number of blocks) a Blocks frame.
    frames: list = dataclasses.field(default_factory=list)
    format: str = None
    segments: list = None


Segment = collections.namedtuple("Segment", "dtype length name shape")
Frame = collections.namedtuple("Frame", "offset type head data fields")

# A block that later ones may refer to: its place in the spool (None: it was passed over), whether
# it is a duplicate or a twin, and how many sources follow each other in it.
Kept = collections.namedtuple("Kept", "offset size is_copy chain")

# Head of a Blocks, Ahead or Shared frame. `rows`: for each block (decoded size, codec, coded size,
# XXH3). `sources`: a Sources or None; `distance`: to the Shared frame, 0 without.
Head = collections.namedtuple("Head", "kept sources distance parameters total rows")
# R, P, and elements that lie beside those of a frame of elements of `width` bytes.
class Sources(collections.namedtuple("Sources", "unit row position list")):
    """`unit`: elements and bytes of one of the frame's."""

    def elements(self, size):
        return size // self.unit[1] * self.unit[0]


# `first`: number of the source's first block, None outside of the archive; `number`: of the
# reference then. `block_size`: S; `total`: N; `row`: Q. `rows` are those of order 2.
SourceOf = collections.namedtuple(
    "SourceOf", "role dtype first number block_size total row order r c rows")
SAME, TRANSPOSED, ROWS, WHOLE = range(4)


class BlockTensor:
    """A source that consists of kept blocks of the archive. `fetch` gives (bytes, chain) of one;
    `chain` is the greatest of those that were read."""

    def __init__(self, fetch, block_size, total):
        self._fetch, self._block_size, self._total = fetch, block_size, total
        self._number, self._block = None, b""
        self.chain = 0

    def read(self, offset, size):
        out = []
        while size:
            number, start = divmod(offset, self._block_size)
            if number != self._number:
                self._number = number
                self._block, chain = self._fetch(
                    number, min(self._block_size, self._total - number * self._block_size))
                self.chain = max(self.chain, chain)
            piece = self._block[start:start + size]
            out.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(out)


class FileTensor:
    """A tensor outside of the archive."""
    chain = 0

    def __init__(self, file, offset, length):
        self._file, self._offset, self.length = file, offset, length
        self._digest = None

    def read(self, offset, size):
        check(size <= self.length - offset, "elements that a reference has not")
        self._file.seek(self._offset + offset)
        return self._file.read(size)

    def digest(self):
        if self._digest is None:
            sha256 = hashlib.sha256()
            for begin in range(0, self.length, 1 << 20):
                sha256.update(self.read(begin, min(1 << 20, self.length - begin)))
            self._digest = sha256.digest()
        return self._digest


def safetensors_places(file):
    """(offset, length) of each tensor of a safetensors file; nothing of another file."""
    file.seek(0, os.SEEK_END)
    end = file.tell()
    file.seek(0)
    head_size = int.from_bytes(file.read(8), "little")
    if not 2 <= head_size <= min(end - 8, 100 << 20):
        return []
    places = []
    try:
        for name, tensor in json.loads(file.read(head_size)).items():
            if name != "__metadata__":
                begin, stop = tensor["data_offsets"]
                if 0 <= begin < stop <= end - 8 - head_size:
                    places.append((8 + head_size + begin, stop - begin))
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    return places


class Bases:
    """Tensors of the files that archives may be coded against."""

    def __init__(self, files=(), max_memory=512 << 20):
        """`files` are open for reading at any place."""
        self._max_memory = max_memory
        self._tensors = []  # (depth, FileTensor)
        self._archives = []  # (depth, file), not looked into yet
        self._files = list(files)
        for file in self._files:
            self._add(file)

    def close(self):
        for file in self._files:
            file.close()

    def _add(self, file):
        if file.read(8) != MAGIC:
            self._tensors += [(0, FileTensor(file, *place)) for place in safetensors_places(file)]
            return
        file.seek(0)
        self._archives.append((Decoder(file, self._max_memory).depth(), file))

    def _open(self, depth, file):
        """Decodes an archive to a file, for its tensors."""
        plain = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self._files.append(plain)
        file.seek(0)
        begin = 0
        for event, value in Decoder(file, self._max_memory, bases=self).events():
            if event == "bytes":
                plain.write(value)
            elif event == "archive":
                for entry in value:
                    for segment in entry.segments or ():
                        if segment.dtype != "bytes" and segment.length:
                            self._tensors.append((depth, FileTensor(plain, begin, segment.length)))
                        begin += segment.length

    def find(self, sha256, length, depth, what):
        """The tensor, from a plain file or an archive of at most this depth: nothing goes in
        circles."""
        while True:
            for tensor_depth, tensor in self._tensors:
                if tensor_depth <= depth and tensor.length == length and tensor.digest() == sha256:
                    return tensor
            usable = [archive for archive in self._archives if archive[0] <= depth]
            if not usable:
                raise NeedsBase(f"{what} (SHA-256 {sha256.hex()}, {length} bytes)")
            self._archives.remove(usable[0])
            self._open(*usable[0])


def check_path(path, kind):
    check(len(path) <= MAX_PATH, "path too long")
    if not path:
        check(kind != LINK, "symbolic link without a path")
        return
    check(b"\0" not in path, "path with NUL")
    for part in path.split(b"/"):
        check(part not in (b"", b".", b".."), f"unsafe path {path!r}")
        check(len(part) <= MAX_PART, f"part of path too long: {path!r}")


def read_entry(fields):
    """The fields of an Entry head, which the index repeats."""
    kind = fields.varint("kind", 0, 2)
    entry = Entry(kind, fields.string("path", MAX_PATH))
    check_path(entry.path, kind)
    if fields.varint("has metadata", 0, 1):
        entry.mode = fields.varint("mode", 0, 0o7777)
        entry.seconds = fields.svarint("seconds")
        entry.nanoseconds = fields.varint("nanoseconds", 0, 10**9 - 1)
    if kind == LINK:
        entry.target = fields.string("target", MAX_PATH, 1)
        check(b"\0" not in entry.target, "target with NUL")
    return entry


class Decoder:
    """Decodes a stream of archives.

    `events` yields ("entry", Entry) for each entry, then for a file ("bytes", decoded block) as
    often as needed and ("end", Entry); after each archive ("archive", [Entry]) with what the index
    adds. What has been yielded is checked but for what comes later: the bytes of a file are its
    bytes for sure only after its "end". Where a base raises Lacking, a file has no "end".
    """

    def __init__(self, stream, max_memory=512 << 20, trace=None, bases=None):
        self._stream = stream
        self._max_memory = max_memory
        self._trace = trace
        self._bases = bases or Bases()
        self._begin = 0  # of the archive, in the stream
        self._position = 0  # in the archive

    def events(self):
        start = self._stream.read(1)
        check(start, "empty: no archive")
        while start:
            yield from self._archive(start)
            start = self._stream.read(1)

    def depth(self):
        """How many more archives it takes to decode what is coded against the first one."""
        self._position = 1
        self._read_header(self._stream.read(1))
        frame = self._frame()
        if frame.type != REFERENCES:
            return 0
        return 1 + max(depth for _, _, depth, _ in self._read_references(frame))

    # Bytes of the stream ----------------------------------------------------------------------

    def _read(self, count, what):
        pieces, missing = [], count
        while missing:  # in pieces: a declared length is a claim
            piece = self._stream.read(min(missing, 1 << 20))
            check(piece, f"{what}: the archive is cut off")
            pieces.append(piece)
            missing -= len(piece)
        self._position += count
        return b"".join(pieces)

    def _fields(self, data, offset):
        return Fields(data, self._begin + offset, self._trace)

    def _title(self, text):
        if self._trace:
            self._trace(None, None, text, None)

    # Archive ----------------------------------------------------------------------------------

    def _archive(self, start):
        self._begin, self._position = self._begin + self._position, 1
        self._read_header(start)
        self._entries = []
        self._directories = set()
        self._paths = set()
        self._blocks = 0  # in the archive so far
        self._kept = {}  # number of a block that may be referred to: Kept
        self._outside = []
        with tempfile.TemporaryFile() as self._spool:
            frame = self._frame()
            if frame.type == REFERENCES:
                self._outside = [self._bases.find(*reference)
                                 for reference in self._read_references(frame)]
                frame = self._frame()
            while frame.type == ENTRY:
                yield from self._entry(frame)
                frame = self._frame()
        check(self._entries, "an archive of no entry")
        yield "archive", self._index(frame)

    def _read_header(self, start):
        self._title("Header")
        header = start + self._read(HEADER_SIZE - 1, "header")
        fields = self._fields(header, 0)
        check(fields.bytes(8, "magic") == MAGIC, "not a zipllm archive")
        major, minor = fields.u8("major version"), fields.u8("minor version")
        if major != MAJOR_VERSION:
            raise TooNew(f"format version {major}.{minor}; this decoder knows {MAJOR_VERSION}.x")
        zero = fields.u16("0")
        self._max_block, self._max_frame = fields.u32("max_block"), fields.u32("max_frame")
        zero |= fields.u32("0")
        check(fields.u64("XXH3 of the above") == xxh3_64(header[:24]), "header: wrong checksum")
        if zero:
            raise TooNew("header: a reserved field is not 0")
        check(self._max_block <= MAX_BLOCK, "header: max_block above the limit")
        check(self._max_frame <= MAX_FRAME, "header: max_frame above the limit")
        if self._max_frame + 2 * self._max_block > self._max_memory:
            raise OverLimit(f"needs {self._max_frame + 2 * self._max_block} bytes of memory")

    def _frame(self):
        """The next frame of a known type; what is unknown and optional is skipped."""
        while True:
            offset = self._position
            prefix = self._read(PREFIX_SIZE, "frame")
            kind, flags, zero, head_size, data_size = struct.unpack("<BBHII", prefix)
            check(head_size <= MAX_HEAD, f"frame at {offset}: head above the limit")
            head = self._read(head_size, "head of a frame")
            checksum = self._read(8, "checksum of a frame")
            check(xxh3_64(prefix + head) == int.from_bytes(checksum, "little"),
                  f"frame at {offset}: wrong checksum")
            check(flags <= 1 and zero == 0, f"frame at {offset}: reserved bits are not 0")
            check(data_size <= self._max_frame, f"frame at {offset}: data above max_frame")
            name = FRAME_NAMES.get(kind)
            if not name and not flags:
                raise TooNew(f"frame of unknown type {kind} that may not be skipped")
            check(not name or not flags, f"{name} frame marked as optional")
            check(kind in WITH_DATA or not name or not data_size, f"{name} frame with data")
            data = self._read(data_size, "data of a frame")
            self._title(f"{name or 'Unknown optional'} frame")
            self._trace_prefix(prefix, offset)
            fields = self._fields(head, offset + PREFIX_SIZE)
            if name:
                return Frame(offset, kind, head, data, fields)
            fields.bytes(head_size, "head")
            self._trace_data(Frame(offset, kind, head, data, fields))

    def _trace_prefix(self, prefix, offset):
        fields = self._fields(prefix, offset)
        for size, name in ((1, "type"), (1, "flags"), (2, "0"), (4, "head length h"),
                           (4, "data length d")):
            fields.number(size, name)

    def _trace_data(self, frame):
        """Tells the trace of what follows the head, once that is read."""
        offset = frame.offset + PREFIX_SIZE + len(frame.head)
        prefix = struct.pack("<BBHII", frame.type, frame.type not in FRAME_NAMES, 0,
                             len(frame.head), len(frame.data))
        checksum = xxh3_64(prefix + frame.head).to_bytes(8, "little")
        self._fields(checksum, offset).u64("XXH3 of prefix and head")
        if frame.data:
            self._fields(frame.data, offset + 8).bytes(len(frame.data), "data")

    def _read_references(self, frame):
        """For each: SHA-256, length, depth, and how a message calls it."""
        check(frame.offset == HEADER_SIZE, "References frame that is not after the header")
        fields = frame.fields
        references = []
        for _ in range(fields.varint("number of references", 1)):
            sha256 = fields.bytes(32, "SHA-256")
            length = fields.varint("length", 0, MAX_FILE)
            depth = fields.varint("depth", 0, MAX_DEPTH - 1)
            tensor, file = fields.string("tensor", 65535), fields.string("file", MAX_PATH)
            references.append((sha256, length, depth, f"tensor {tensor!r} of {file!r}"))
        fields.end("References frame")
        self._trace_data(frame)
        return references

    # Entries ----------------------------------------------------------------------------------

    def _entry(self, frame):
        entry = read_entry(frame.fields)
        frame.fields.end("Entry frame")
        self._trace_data(frame)
        check(entry.path not in self._paths, f"path twice: {entry.path!r}")
        self._check_place(entry)
        self._paths.add(entry.path)
        self._entries.append(entry)
        yield "entry", entry
        if entry.kind != FILE:
            return
        sha256 = hashlib.sha256()
        whole = True
        self._shared = None  # (offset, bytes) of the last Shared frame
        while (frame := self._frame()).type in (BLOCKS, SHARED, AHEAD):
            if frame.type == SHARED:
                self._shared = frame.offset, self._decode_shared(frame)
                continue
            for block in self._decode_blocks(frame, entry):
                if block is None:
                    whole = False
                elif frame.type == BLOCKS:
                    sha256.update(block)
                    yield "bytes", block
        check(frame.type == ENTRY_END, f"{FRAME_NAMES[frame.type]} frame inside a file")
        size = frame.fields.varint("size")
        entry.sha256 = frame.fields.bytes(32, "SHA-256")
        frame.fields.end("EntryEnd frame")
        self._trace_data(frame)
        check(size == entry.size, f"size {size} of {entry.path!r} is not that of its blocks")
        if whole:
            check(sha256.digest() == entry.sha256, f"wrong SHA-256 of {entry.path!r}")
            yield "end", entry

    def _check_place(self, entry):
        """One file alone, or a tree: its root, then each directory before what is in it."""
        if not self._entries:
            check(entry.kind == FILE or entry.kind == DIRECTORY and not entry.path,
                  "the first entry is neither a file nor the root of a tree")
        else:
            check(self._directories, f"{entry.path!r} comes after a file without a tree")
            parent = entry.path.rpartition(b"/")[0]
            check(parent in self._directories, f"{entry.path!r} comes before its directory")
        if entry.kind == DIRECTORY:
            self._directories.add(entry.path)

    def _read_head(self, frame):
        fields = frame.fields
        flags = fields.varint("flags", 0, 7)
        block_size = fields.varint("block_size", 1, self._max_block)
        total = fields.varint("decoded size", 1, self._max_frame)
        sources = self._read_sources(fields, block_size, total) if flags & 2 else None
        distance = fields.varint("distance of the Shared frame", 1) if flags & 4 else 0
        parameters = {}
        last = -1
        for _ in range(fields.varint("number of parameter sets")):
            codec = fields.u8("codec of the parameters")
            check(codec > last, "parameter sets are not in ascending order")
            last = codec
            if codec not in CODECS:
                raise TooNew(f"parameters of unknown codec {codec}")
            check(CODECS[codec].parse, f"parameters of codec {codec}, which has none")
            parameters[codec] = CODECS[codec].parse(fields.string("parameters", MAX_PARAMETERS))
        rows = []
        for begin in range(0, total, block_size):
            size = min(block_size, total - begin)
            rows.append((size, fields.u8("codec"), fields.varint("coded size", 0, size),
                         fields.u64("XXH3 of the decoded block")))
        fields.end(f"{FRAME_NAMES[frame.type]} frame")
        check(sum(row[2] for row in rows) == len(frame.data),
              "coded sizes do not add up to the frame's data")
        self._trace_data(frame)
        return Head(flags & 1, sources, distance, parameters, total, rows)

    def _read_sources(self, fields, block_size, total):
        width = fields.u8("bytes of an element")
        check(width in (0, 1, 2, 4, 8), f"elements of {width} bytes")
        unit = (1, width)
        if width == 0:
            unit = (fields.varint("elements of a unit", 2, 8 * 4096), fields.varint("bytes of a unit", 1, 4096))
            check(unit[0] <= 8 * unit[1], "more than 8 elements a byte")
        check(block_size % unit[1] == 0 and total % unit[1] == 0, "a part of a unit in a block")
        row = fields.varint("elements of a row", 0, MAX_ELEMENTS)
        position = fields.varint("number of the first element", 0, MAX_ELEMENTS)
        count = total // unit[1] * unit[0]
        rows, columns = 1, count
        if row:
            rows, columns = (position % row + count - 1) // row + 1, row
        sources = [self._read_source(fields, rows, columns)
                   for _ in range(fields.varint("number of sources", 1, MAX_SOURCES))]
        beside = min(count, block_size // unit[1] * unit[0])
        for source in sources:
            check(source.order == WHOLE or bytes_of(source.dtype, beside) <= MAX_BLOCK,
                  "too much beside a block")
            if UNITS[source.dtype][0] > 1 and source.order != WHOLE:
                check(source.order != TRANSPOSED, "a packed source with rows as columns")
                for number in (source.row, source.c, row, position, count,
                               block_size // unit[1] * unit[0]):
                    check(number % UNITS[source.dtype][0] == 0, "a part of a unit of a source")
        return Sources(unit, row, position, sources)

    def _read_source(self, fields, rows, columns):
        """A source of a frame whose elements are in so many rows of so many columns."""
        role = fields.u8("role")
        if role > ZERO:
            raise TooNew(f"source of unknown role {role}")
        number = fields.u8("element type")
        dtype = DTYPES.get(number)
        check(dtype in UNITS, f"source of element type {number}")
        place = fields.u8("blocks or outside")
        check(place <= 1, "source of an unknown place")
        first = block_size = None
        if place:
            where = fields.varint("number of the reference", 0, len(self._outside) - 1)
        else:
            first = self._blocks - fields.varint("distance of the source", 1, self._blocks)
            where = None
            block_size = fields.varint("size of the source's blocks", 1, self._max_block)
            check(block_size % UNITS[dtype][1] == 0, "a part of a unit in a source's block")
        total = fields.varint("elements of the source", 1, MAX_ELEMENTS)
        row = fields.varint("elements of a row of the source", 1, total)
        check(total % row == 0, "a part of a row in a source")
        check(total % UNITS[dtype][0] == 0, "a part of a unit in a source")
        size = bytes_of(dtype, total)
        if not place:
            check(first + (size - 1) // block_size < self._blocks, "a source behind the frame")
        order = fields.u8("order")
        check(order <= WHOLE, f"unknown order {order}")
        check((order == WHOLE) == (role in (FACTOR, IMPORTANCE, SCALE, ZERO)),
              f"source of role {role} in order {order}")
        r = c = 0
        source_rows = ()
        if order == WHOLE:
            check(size <= self._max_frame, "whole source too large")
        elif order == ROWS:
            c = fields.varint("column offset")
            source_rows = [fields.varint("row", 0, min(total // row, 1 << 32) - 1)
                           for _ in range(rows)]
            check(c + columns <= row, "source without all columns")
        else:
            r, c = fields.varint("row offset"), fields.varint("column offset")
            down, across = (columns, rows) if order == TRANSPOSED else (rows, columns)
            check(r + down <= total // row, "source without all rows")
            check(c + across <= row, "source without all columns")
        return SourceOf(role, dtype, first, where, block_size, total, row, order, r, c, source_rows)

    def _decode_shared(self, frame):
        head = self._read_head(frame)
        check(not (head.kept or head.sources or head.distance), "Shared frame with flags")
        begin = 0
        out = []
        for size, codec, coded_size, checksum in head.rows:
            where = f"Shared frame (codec {codec})"
            check(codec not in (DUPLICATE, TWIN), f"{where}: refers to a block")
            block, _ = self._decode_block(head, codec, frame.data[begin:begin + coded_size], size,
                                          0, where)
            begin += coded_size
            check(xxh3_64(block) == checksum, f"{where}: wrong checksum")
            out.append(block)
        return b"".join(out)

    def _decode_blocks(self, frame, entry):
        head = self._read_head(frame)
        if head.distance:
            check(self._shared and self._shared[0] == frame.offset - head.distance,
                  "no Shared frame where one is named")
        size_in_file = head.total if frame.type == BLOCKS else 0
        check(frame.type == BLOCKS or head.kept, "Ahead frame that is not kept")
        entry.frames.append((frame.offset, len(frame.head), len(frame.data), size_in_file,
                             len(head.rows)))
        entry.size += size_in_file
        check(entry.size <= MAX_FILE, "file too large")
        begin = done = 0
        kept_blocks = {}
        for size, codec, coded_size, checksum in head.rows:
            where = f"block {self._blocks} (codec {codec})"
            coded = frame.data[begin:begin + coded_size]
            begin += coded_size
            try:
                if codec == DUPLICATE:
                    block, chain = self._duplicate(coded, size, where)
                elif codec == TWIN:
                    block, chain = self._twin(coded, size, where)
                else:
                    block, chain = self._decode_block(head, codec, coded, size, done, where)
                check(xxh3_64(block) == checksum, f"{where}: wrong checksum")
                place = self._spool.seek(0, os.SEEK_END)
            except Lacking:
                block, chain, place = None, 0, None
            if head.kept:
                kept_blocks[self._blocks] = Kept(place, size, codec in (DUPLICATE, TWIN), chain)
                self._spool.write(block or b"")
            self._blocks += 1
            done += size
            yield block
        self._kept.update(kept_blocks)  # not earlier: a frame does not refer to itself

    def _decode_block(self, head, codec, coded, size, done, where):
        """A block that stands `done` bytes behind its frame's start, and how many sources follow
        each other in it."""
        if codec not in CODECS:
            raise TooNew(f"{where}: unknown codec")
        chain, context = 0, ()
        if CODECS[codec].against:
            check(head.sources, f"{where}: a frame without sources")
            context, chain = self._context(head, done, size, where)
            context = (context,)
        elif CODECS[codec].shares:
            context = (self._shared[1] if head.distance else b"",)
        block = CODECS[codec].decode(coded, head.parameters.get(codec), size, *context)
        check(len(block) == size, f"{where}: wrong decoded size")
        return block, chain

    # Sources ----------------------------------------------------------------------------------

    def _context(self, head, done, size, where):
        sources = head.sources
        beside, chain = [], 0
        for source in sources.list:
            total = bytes_of(source.dtype, source.total)
            if source.first is None:
                tensor = self._outside[source.number]
            else:
                tensor = BlockTensor(
                    lambda i, block_size, first=source.first: self._kept_block(
                        first + i, block_size, where, True), source.block_size, total)
            data = self._gather(sources, source, tensor, sources.elements(done),
                                sources.elements(size))
            chain = max(chain, tensor.chain)
            beside.append(Beside(source.role, source.dtype, data, source.row))
        check(chain < MAX_CHAIN, f"{where}: a chain of too many sources")
        shared = self._shared[1] if head.distance else b""
        position = sources.position + sources.elements(done)
        return Context(beside, sources.row, position, shared), chain + 1

    @staticmethod
    def _gather(sources, source, tensor, begin, count):
        """What lies in `tensor` beside `count` elements of the frame from its element `begin` on."""
        if source.order == WHOLE:
            return tensor.read(0, bytes_of(source.dtype, source.total))
        columns = sources.row or begin + count
        first = (sources.position % sources.row if sources.row else 0) + begin
        end = first + count
        out = bytearray(bytes_of(source.dtype, count))
        if source.order == TRANSPOSED:
            width = WIDTHS[source.dtype]
            for j in range(columns):
                # The rows whose element j the block has.
                i = -(-(first - j) // columns)
                wanted = range(i * columns + j, end, columns)
                if wanted:
                    piece = tensor.read(((source.r + j) * source.row + source.c + i) * width,
                                        len(wanted) * width)
                    for n, at in enumerate(wanted):
                        out[(at - first) * width:(at - first + 1) * width] = \
                            piece[n * width:(n + 1) * width]
            return bytes(out)
        for i in range(first // columns, (end - 1) // columns + 1):
            start, stop = max(first, i * columns), min(end, (i + 1) * columns)
            row = source.rows[i] if source.order == ROWS else source.r + i
            at, until, wanted = (bytes_of(source.dtype, number) for number in (
                start - first, stop - first, row * source.row + source.c + start - i * columns))
            out[at:until] = tensor.read(wanted, until - at)
        return bytes(out)

    def _duplicate(self, coded, size, where):
        fields = Fields(coded)
        source = self._blocks - fields.varint(f"{where}: distance", 1, self._blocks)
        fields.end(where)
        return self._kept_block(source, size, where)

    def _kept_block(self, source, size, where, may_be_copy=False):
        """An earlier block, and how many sources follow each other in it."""
        check(source in self._kept, f"{where}: block {source} may not be referred to")
        kept = self._kept[source]
        check(kept.size == size, f"{where}: block {source} has another size")
        check(may_be_copy or not kept.is_copy, f"{where}: block {source} is itself a copy")
        if kept.offset is None:
            raise Lacking
        self._spool.seek(kept.offset)
        return self._spool.read(size), kept.chain

    def _twin(self, coded, size, where):
        fields = Fields(coded)
        first_block = self._blocks - fields.varint(f"{where}: distance", 1, self._blocks)
        order = fields.u8(f"{where}: order")
        check(order <= 2, f"{where}: unknown order {order}")
        width = fields.u8(f"{where}: bytes of an element")
        check(width in (1, 2, 4, 8), f"{where}: elements of {width} bytes")
        count, rest = divmod(size, width)
        check(rest == 0, f"{where}: a part of an element")
        block_size = fields.varint(f"{where}: size of the source's blocks", 1, self._max_block)
        check(block_size % width == 0, f"{where}: a part of an element in the source's blocks")
        total = fields.varint(f"{where}: elements of the source", count, 256 * count)
        check(-(-total * width // block_size) <= 256, f"{where}: a source of too many blocks")
        first = fields.varint(f"{where}: first element", 0, total - count)
        row = fields.varint(f"{where}: elements of a row", 1, total)
        rows, rest = divmod(total, row)
        check(rest == 0, f"{where}: a part of a row")
        flip, add, field = (fields.number(width, f"{where}: {name}")
                            for name in ("flip", "add", "field"))
        source_rows = {}
        if order == 2:
            for i in range(first // row, (first + count - 1) // row + 1):
                source_rows[i] = fields.varint(f"{where}: row", 0, rows - 1)
        fields.end(where)
        wanted = range(first, first + count)
        if order == 1:
            wanted = (t % rows * row + t // rows for t in wanted)
        elif order == 2:
            wanted = (source_rows[t // row] * row + t % row for t in wanted)
        pieces = [
            self._kept_block(first_block + i, min(block_size, total * width - begin), where)
            for i, begin in enumerate(range(0, total * width, block_size))]
        source = b"".join(piece for piece, _ in pieces)
        mask = (1 << 8 * width) - 1
        out = bytearray()
        for at in wanted:
            x = int.from_bytes(source[at * width:(at + 1) * width], "little")
            x = x + add & mask if x & field else x
            out += (x ^ flip).to_bytes(width, "little")
        return bytes(out), max(chain for _, chain in pieces)

    # Index and trailer ------------------------------------------------------------------------

    def _index(self, frame):
        begin = frame.offset
        index = bytearray()
        check(frame.type == INDEX, f"{FRAME_NAMES[frame.type]} frame instead of an Index frame")
        while frame.type == INDEX:
            index += self._index_piece(frame)
            if len(index) > self._max_memory // 4:
                raise OverLimit("index larger than allowed")
            frame = self._frame()
        check(frame.type == TRAILER, f"{FRAME_NAMES[frame.type]} frame instead of the Trailer")
        fields = frame.fields
        check(fields.u64("offset of the first Index frame") == begin,
              "trailer: wrong offset of the index")
        check(fields.u64("size of the archive") == self._position, "trailer: wrong archive size")
        check(fields.bytes(8, "end mark") == END_MAGIC, "trailer: wrong end mark")
        fields.end("Trailer frame")
        self._trace_data(frame)
        self._check_index(bytes(index))
        return self._entries

    def _index_piece(self, frame):
        size = frame.fields.varint("decoded size", 1, MAX_PIECE)
        codec = frame.fields.u8("codec")
        checksum = frame.fields.u64("XXH3 of the decoded piece")
        frame.fields.end("Index frame")
        self._trace_data(frame)
        check(codec in (0, 3), f"index: codec {codec}")
        piece = CODECS[codec].decode(frame.data, None, size)
        check(len(piece) == size, "index: piece of the wrong size")
        check(xxh3_64(piece) == checksum, "index: wrong checksum")
        return piece

    def _check_index(self, index):
        """Compares the index with what stood in the frames, and adds the layouts to the entries."""
        self._title("Index, decoded (offsets count from its start)")
        fields = Fields(index, 0, self._trace)
        count = fields.varint("number of entries")
        check(count == len(self._entries), "index: wrong number of entries")
        previous = 0
        for entry in self._entries:
            told = read_entry(fields)
            if told.kind == FILE:
                told.size = fields.varint("size", 0, MAX_FILE)
                told.sha256 = fields.bytes(32, "SHA-256")
                told.format, told.segments = self._read_layout(fields, told.size)
                for _ in range(fields.varint("number of Blocks and Ahead frames")):
                    previous += fields.varint("offset, from the one before")
                    told.frames.append((previous, *(fields.varint(name) for name in (
                        "head length h", "data length d", "decoded size", "number of blocks"))))
            entry.format, entry.segments = told.format, told.segments
            check(told == entry, f"index: not what the frames say of {entry.path!r}")
        fields.end("index")

    @staticmethod
    def _read_layout(fields, size):
        name = fields.string("format", 64).decode("latin-1")
        segments, total = [], 0
        for _ in range(fields.varint("number of segments")):
            dtype = fields.u8("element type")
            length = fields.varint("length")
            segment_name = fields.string("name", 65535)
            shape = [fields.varint("dimension")
                     for _ in range(fields.varint("number of dimensions", 0, 64))]
            segments.append(Segment(DTYPES.get(dtype, "bytes"), length, segment_name, shape))
            total += length
        check(total == size, f"index: segments add up to {total}, not {size}")
        return name, segments


# ---------------------------------------------------------------------------------------------
# Command line


def describe(entry):
    """An entry as JSON. Names are bytes: each stands as the character of its number."""
    result = {"kind": KIND_NAMES[entry.kind], "path": entry.path.decode("latin-1")}
    if entry.mode is not None:
        result.update(mode=f"{entry.mode:04o}", mtime=[entry.seconds, entry.nanoseconds])
    if entry.kind == LINK:
        result["target"] = entry.target.decode("latin-1")
    if entry.kind == FILE:
        result.update(size=entry.size, sha256=entry.sha256.hex(), format=entry.format,
                      segments=[{"dtype": s.dtype, "length": s.length,
                                 "name": s.name.decode("latin-1"), "shape": s.shape}
                                for s in entry.segments])
    return result


class Extractor:
    """Writes entries below a directory that it makes; a file without name becomes `unnamed`."""

    def __init__(self, root):
        os.mkdir(root)
        self._root = os.fsencode(root)
        self._file = None
        self._directories = []
        self._links = []

    def _place(self, entry):
        if entry.path == b"":
            return self._root if entry.kind == DIRECTORY else os.path.join(self._root, b"unnamed")
        return os.path.join(self._root, entry.path)

    def entry(self, entry):
        place = self._place(entry)
        if entry.kind == FILE:
            self._file = open(place, "xb")  # pylint: disable=consider-using-with
        elif entry.kind == LINK:
            self._links.append(entry)
        else:
            if entry.path:
                os.mkdir(place)
            self._directories.append(entry)

    def bytes(self, block):
        self._file.write(block)

    def end(self, entry):
        self._file.close()
        self._set_mode(entry, self._place(entry))

    def archive(self, _):
        pass

    def finish(self):
        """Links come last, so that nothing is created through one; then what files changed."""
        for entry in self._links:
            os.symlink(entry.target, self._place(entry))
            self._set_time(entry, self._place(entry))
        for entry in reversed(self._directories):
            self._set_mode(entry, self._place(entry))

    def _set_mode(self, entry, place):
        if entry.mode is not None:
            os.chmod(place, entry.mode & 0o777)
            self._set_time(entry, place)

    @staticmethod
    def _set_time(entry, place):
        if entry.seconds is not None:
            time = entry.seconds * 10**9 + entry.nanoseconds
            os.utime(place, ns=(time, time), follow_symlinks=False)


def show_field(offset, data, name, value):
    """One field as lines of `offset  bytes  name  value`."""
    if offset is None:
        print(f"\n{name}\n")
        return
    if isinstance(value, bytes):
        value = repr(value)[1:]
    elif name == "mode":
        value = f"{value:o} octal"
    elif name.startswith("XXH3"):
        value = None
    text = name if value is None else f"{name}: {value}"
    for begin in range(0, max(1, len(data)), 8):
        print(f"{offset + begin:04x}  {data[begin:begin + 8].hex(' '):23}  {text}".rstrip())
        text = ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("archive", metavar="ARCHIVE", help="`-` is standard input")
    parser.add_argument("-o", metavar="DIR", help="restore to this new directory")
    parser.add_argument("--list", action="store_true", help="print the entries, one JSON a line")
    parser.add_argument("--dump", action="store_true", help="print each field with its bytes")
    parser.add_argument("--base", metavar="PATH", action="append", default=[],
                        help="a file or folder that the archive was coded against")
    parser.add_argument("--max-memory", metavar="MIB", type=int, default=512,
                        help="refuse archives that need more (512)")
    options = parser.parse_args()
    try:
        with (sys.stdin.buffer if options.archive == "-" else open(options.archive, "rb")) as file:
            run(file, options)
    except Refused as refused:
        sys.exit(f"spec_decoder: {options.archive}: {refused.word}: {refused}")
    except OSError as error:
        sys.exit(f"spec_decoder: {error}")


def open_bases(paths):
    for path in paths:
        names = [path]
        if os.path.isdir(path):
            names = sorted(os.path.join(folder, name) for folder, _, names in os.walk(path)
                           for name in names)
        for name in names:
            yield open(name, "rb")  # pylint: disable=consider-using-with


def run(file, options):
    extractor = Extractor(options.o) if options.o else None
    memory = options.max_memory << 20
    bases = Bases(open_bases(options.base), memory)
    decoder = Decoder(file, memory, show_field if options.dump else None, bases)
    done = False
    try:
        for event, value in decoder.events():
            if extractor:
                getattr(extractor, event)(value)
            if event == "archive" and options.list:
                for entry in value:
                    print(json.dumps(describe(entry), ensure_ascii=True))
        if extractor:
            extractor.finish()
        done = True
    finally:
        if extractor and not done:  # what is not whole does not stay
            shutil.rmtree(options.o, ignore_errors=True)
        bases.close()


if __name__ == "__main__":
    main()
