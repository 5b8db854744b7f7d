#!/usr/bin/env python3
"""Grid types, from the text of format-spec/grids.md alone; slow.

numbers_of() dequantizes; GridCoder decodes blocks of codec 19 given weights.
"""
import functools
import pathlib

import numpy as np

F = np.float32
SPEC = pathlib.Path(__file__).resolve().parents[1] / 'format-spec'


class Type:
    def __init__(self, name, size, width, group, scale_bits, values, unit, even, grid, shells, habits):
        self.name, self.size, self.width, self.group = name, size, width, group
        self.scale_bits, self.values, self.unit, self.even = scale_bits, values, F(unit), even
        self.grid, self.shells = grid, shells
        self.habits = [F(a) / F(b) for a, b in habits]
        self.points = 256 // width
        self.bits = 2 if width == 8 else 3
        self.levels = 3 if width == 8 else 8
        self.ternary = name.startswith('IQ1')
        self.sign_group = 32 if name == 'IQ1_S' else 8

    @functools.cached_property
    def codes(self):
        return grids()[self.grid]

    @functools.cached_property
    def points_by_level(self):
        return self.levels_of(np.array(self.codes))

    def levels_of(self, codes):
        shifts = np.arange(self.width) * self.bits
        return np.asarray(codes)[..., None] >> shifts & ((1 << self.bits) - 1)

    @functools.lru_cache(maxsize=None)
    def candidates(self, levels):
        far = ((self.points_by_level - np.array(levels)) ** 2).sum(1)
        return np.argsort(far, kind='stable')[:16]


@functools.lru_cache(maxsize=None)
def grids():
    result, numbers = {}, []
    for line in (SPEC / 'grids.txt').read_text().splitlines():
        words = line.split()
        if words[0][0].isalpha():
            numbers = result[words[0]] = []
        else:
            numbers += map(int, words)
    return result


IQ2 = (8, 25, 43)
TYPES = {t.name: t for t in (
    Type('IQ1_S', 50, 8, 32, 3, (-8, 0, 8), 1 / 8, False, 'iq1', 3, ((1.125, 15), (1, 1), (1, 1))),
    Type('IQ1_M', 56, 8, 16, 3, (-8, 0, 8), 1 / 8, False, 'iq1', 3, ((1.1125, 15), (1, 1), (1, 1))),
    Type('IQ2_XXS', 66, 8, 32, 4, IQ2, 1 / 8, True, 'iq2_xxs', 2, ((1, 31), (1, 1), (1, 1))),
    Type('IQ2_XS', 74, 8, 16, 4, IQ2, 1 / 8, True, 'iq2_xs', 2, ((1, 31), (1, 1), (1, 1))),
    Type('IQ2_S', 82, 8, 16, 4, IQ2, 1 / 8, False, 'iq2_s', 1, ((.9875, 31), (1, 1), (1, 1))),
    Type('IQ3_XXS', 98, 4, 32, 4, (4, 12, 20, 28, 36, 44, 52, 62), 1 / 4, True, 'iq3_xxs', 2,
         ((1.0125, 31), (1.0125, 1), (1.0125, 1))),
    Type('IQ3_S', 110, 4, 32, 4, tuple(range(1, 16, 2)), 1, False, 'iq3_s', 3,
         ((1.033, 31), (1.033, 1), (1.033, 1))),
)}


# ---- Blocks ----

def places(t):
    """The fields of a block: name -> for each element a list of (first bit, bits)."""
    d, index, scale, signs = [[(0, 16)]], [], [], []
    if t.name == 'IQ1_S':
        index = [[(16 + 8 * i, 8), (272 + i // 4 * 16 + i % 4 * 3, 3)] for i in range(32)]
        scale = [[(8 * (35 + 2 * g) + 4, 3)] for g in range(8)]
        signs = [[(8 * (35 + 2 * g) + 7, 1)] for g in range(8)]
    elif t.name == 'IQ1_M':
        high = [8 * (32 + i // 2) + i % 2 * 4 for i in range(32)]
        index = [[(8 * i, 8), (high[i], 3)] for i in range(32)]
        signs = [[(high[i] + 3, 1)] for i in range(32)]
        scale = [[(8 * (48 + g // 4 * 2) + g % 4 * 3, 3)] for g in range(16)]
        d = [[(8 * b + 4, 4) for b in (49, 51, 53, 55)]]
    elif t.name == 'IQ2_XXS':
        index = [[(16 + 64 * (i // 4) + 8 * (i % 4), 8)] for i in range(32)]
        signs = [[(48 + 64 * (i // 4) + 7 * (i % 4), 7)] for i in range(32)]
        scale = [[(48 + 64 * g + 28, 4)] for g in range(8)]
    elif t.name == 'IQ2_XS':
        index = [[(16 + 16 * i, 9)] for i in range(32)]
        signs = [[(25 + 16 * i, 7)] for i in range(32)]
        scale = [[(8 * 66 + 4 * g, 4)] for g in range(16)]
    elif t.name == 'IQ2_S':
        index = [[(16 + 8 * i, 8), (8 * 66 + 2 * i, 2)] for i in range(32)]
        signs = [[(8 * 34 + 8 * i, 8)] for i in range(32)]
        scale = [[(8 * 74 + 4 * g, 4)] for g in range(16)]
    elif t.name == 'IQ3_XXS':
        index = [[(16 + 8 * i, 8)] for i in range(64)]
        signs = [[(8 * 66 + 32 * (i // 4) + 7 * (i % 4), 7)] for i in range(32)]
        scale = [[(8 * 66 + 32 * g + 28, 4)] for g in range(8)]
    else:
        index = [[(16 + 8 * i, 8), (8 * 66 + i, 1)] for i in range(64)]
        signs = [[(8 * 74 + 8 * i, 8)] for i in range(32)]
        scale = [[(8 * 106 + 4 * g, 4)] for g in range(8)]
    return {'d': d, 'index': index, 'scale': scale, 'signs': signs}


def even(signs):
    return signs & 127 | (bin(signs & 127).count('1') & 1) << 7


def unpack(t, block):
    bits = int.from_bytes(block, 'little')
    fields = {}
    for name, elements in places(t).items():
        fields[name] = []
        for parts in elements:
            value, at = 0, 0
            for first, count in parts:
                value |= (bits >> first & ((1 << count) - 1)) << at
                at += count
            fields[name].append(value)
    if t.even:
        fields['signs'] = [even(s) for s in fields['signs']]
    return fields


def pack(t, fields):
    bits = 0
    for name, elements in places(t).items():
        for parts, value in zip(elements, fields[name]):
            for first, count in parts:
                bits |= (value & ((1 << count) - 1)) << first
                value >>= count
    return bits.to_bytes(t.size, 'little')


def half(bits):
    return np.array(bits, np.uint16).view(np.float16).astype(F)[()]


def numbers_of(name, block):
    t = TYPES[name]
    fields = unpack(t, block)
    with np.errstate(all='ignore'):
        levels = t.points_by_level[np.array(fields['index'])].reshape(256)
        values = np.array(t.values, F)[levels]
        where = np.arange(256)
        signs = np.array(fields['signs'])
        if t.ternary:
            values = values + np.where(signs[where // t.sign_group] != 0, F(-1), F(1))
        else:
            values = np.where(signs[where // 8] >> where % 8 & 1, -values, values)
        scales = np.array([2 * s + 1 for s in fields['scale']], F)[where // t.group]
        numbers = half(fields['d'][0]) * t.unit * scales * values
    numbers[np.isnan(numbers)] = np.array(0x7fc00000, np.uint32).view(F)
    return numbers


# ---- Given weights ----

def cut_down(values, high):
    values = np.where(values > 0, values, F(0))
    return np.where(values < high, values, F(high)).astype(np.int64)


def bits_of(values):
    return (np.asarray(values, F).view(np.uint32) & 0x7fffffff).astype(np.int64)


def nearest_half(value):
    if not value < 65504:
        return 0x7bff
    return int(np.float16(value if value > 0 else 0).view(np.uint16))


class GridCoder:
    """`coder` has bit(model), raw(count), number(model), signed(model), and makes models of its kinds:
    new_bit(), new_number(), new_signed()."""

    def __init__(self, name, coder):
        self.t, self.coder = TYPES[name], coder
        bits = lambda count: [coder.new_bit() for _ in range(count)]
        self.d_differs, self.d = bits(2), coder.new_signed()
        self.scale_differs, self.scale = bits(32), [coder.new_signed() for _ in range(32)]
        self.unlike, self.flip_differs = coder.new_bit(), bits(9)
        self.down_differs = bits(5)
        self.point_differs, self.rank = bits(33), coder.new_number()

    def decode(self, weights, predicted=None):
        """A block; `predicted` is what a quantizer made, or None."""
        with np.errstate(all='ignore'):
            x = np.asarray(weights, F)
            p = None if predicted is None else unpack(self.t, predicted)
            fields = {}
            self.scales(x, p, fields)
            (self.downs if self.t.ternary else self.signs)(x, p, fields)
            self.points(x, p, fields)
            return pack(self.t, fields)

    def guess_scale(self, x):
        t = self.t
        most = bits_of(x).max().astype(np.uint32).view(F)
        m = cut_down(np.abs(x) * (F(4096) / most) + F(0.5), 4096)
        unit = most * (F(1) / F(4096))
        if t.ternary:
            far = m * 4 * t.group > 3 * m.sum()
            return unit * F(m[far].sum()) / F(far.sum())
        q = 2 * ((m * (2 * t.levels - 1)) >> 13) + 1
        return unit * F((m * q).sum()) / F((q * q).sum())

    def scales(self, x, p, fields):
        t, coder = self.t, self.coder
        context = 0 if p is None else 1
        if p is None:
            guesses = [self.guess_scale(group) for group in x.reshape(-1, t.group)]
            largest = guesses[0]
            for guess in guesses[1:]:
                largest = guess if guess > largest else largest
            d = nearest_half(largest * t.habits[0])
        else:
            d = p['d'][0]
        if coder.bit(self.d_differs[context]):
            d = d + coder.signed(self.d) & 0xffff
        fields['d'] = [d]
        factor = t.habits[1] / half(d)
        fields['scale'] = []
        for g in range(256 // t.group):
            if p is None:
                code = min(int(cut_down(F(0.5) * (guesses[g] * factor), 15)), (1 << t.scale_bits) - 1)
            else:
                code = p['scale'][g]
            at = code + 16 * context
            if coder.bit(self.scale_differs[at]):
                code += coder.signed(self.scale[at])
            fields['scale'].append(code & ((1 << t.scale_bits) - 1))

    def signs(self, x, p, fields):
        t, coder = self.t, self.coder
        unlike = coder.bit(self.unlike)
        fields['signs'] = []
        for e in range(32):
            eight = x[8 * e:8 * e + 8]
            z = sum(1 << k for k in range(8) if eight[k] < 0)
            if unlike:
                signs = z ^ coder.raw(7 if t.even else 8)
                signs = even(signs) if t.even else signs
            elif t.even and bin(z).count('1') % 2:
                order = sorted((int(b), k) for k, b in enumerate(bits_of(eight)))
                flip, context = order[0][1], min(order[1][0] - order[0][0] >> 21, 7)
                if p is not None and bin(p['signs'][e] ^ z).count('1') == 1:
                    flip, context = (p['signs'][e] ^ z).bit_length() - 1, 8
                if coder.bit(self.flip_differs[context]):
                    flip = coder.raw(3)
                signs = z ^ 1 << flip
            else:
                signs = z
            fields['signs'].append(signs)

    def downs(self, x, p, fields):
        fields['signs'] = []
        for i, group in enumerate(x.reshape(-1, self.t.sign_group)):
            total = magnitudes = F(0)
            for value in group:
                total = total + value
                magnitudes = magnitudes + (-value if value < 0 else value)
            down = bool(total < 0)
            skew = -total if down else total
            context = sum(bool(skew > F(bound) * magnitudes) for bound in (.125, .25, .5))
            if p is not None:
                down, context = p['signs'][i] != 0, 4
            fields['signs'].append(int(down ^ bool(self.coder.bit(self.down_differs[context]))))

    def points(self, x, p, fields):
        t, coder = self.t, self.coder
        d = half(fields['d'][0])
        bounds = (4, 8, 12, 18, 24, 32, 40, 50, 62, 76, 92, 112, 136, 176, 240)
        fields['index'] = []
        for i in range(t.points):
            at = i * t.width
            factor = t.habits[2] / (d * F(2 * fields['scale'][at // t.group] + 1))
            y = x[at:at + t.width]
            if t.ternary:
                down = fields['signs'][at // t.sign_group]
                place = y * (F(128) * factor) + F(144 if down else 112)
            else:
                flips = np.array([fields['signs'][at // 8] >> (at % 8 + k) & 1 for k in range(t.width)])
                place = np.where(flips, -y, y) * (F(64) * factor) + F(-64)
            place = cut_down(place + F(128.5), 128 * (t.levels + 1)) - 128
            near = tuple(int(v) for v in np.clip((place + 64) >> 7, 0, t.levels - 1))
            candidates = t.candidates(near)
            levels = t.points_by_level[candidates]
            costs = (levels * (128 * levels - 2 * place)).sum(1)
            ranked = np.argsort(costs, kind='stable')
            further = costs[ranked[1]] - costs[ranked[0]]
            context = sum(int(further >= bound) for bound in bounds)
            guess = int(candidates[ranked[0]])
            if p is not None:
                context = context + 16 if p['index'][i] == guess else 32
                guess = p['index'][i]
            if coder.bit(self.point_differs[context]):
                rank = coder.number(self.rank)
                guess = (int(candidates[ranked[rank]]) if rank < 16
                         else coder.raw(len(t.codes).bit_length() - 1))
            fields['index'].append(guess)
