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


# ---- Quantizers ----

MOST = np.finfo(F).max
# Levels, tries, step, least, f, spread, all again, clears
RULES = {'IQ3_XXS': (8, 15, .2, 1e-8, 1.0125, 2, False, True),
         'IQ3_S': (8, 9, .2, None, 1.033, 2, True, False),
         'IQ2_S': (3, 9, .1, 1e-8, .9875, 2, False, False),
         'IQ2_XS': (3, 9, .1, 1e-15, 1, 1, False, True),
         'IQ2_XXS': (3, 6, .1, 1e-15, 1, 1, True, True)}


def near(values):
    bits = (np.asarray(values, F) + F(12582912)).view(np.uint32)
    return (bits & np.uint32(0x7fffff)).astype(np.int64) - 0x400000


def running(terms):
    result = F(0)
    for term in terms:
        result = result + term
    return result


def one_nan(values):
    values = np.array(values, F)
    values[np.isnan(values)] = np.array(0x7fc00000, np.uint32).view(F)
    return values


def half_bits(value):
    return 0x7e00 if np.isnan(value) else int(np.float16(value).view(np.uint16))


@functools.lru_cache(maxsize=None)
def neighbours(name, code):
    """Indices of points; None where the code is on the grid."""
    t = TYPES[name]
    if code in t.codes:
        return None
    far = ((t.points_by_level - t.levels_of(code)) ** 2).sum(1)
    order = np.argsort(far, kind='stable')
    shells = np.unique(far)[:t.shells]
    return order[far[order] <= shells[-1]]


def nearest(t, code, far_of):
    """far_of(levels of points) gives distances."""
    indices = neighbours(t.name, code)
    distances = far_of(t.points_by_level[indices])
    least, best = MOST, 0
    for j, distance in enumerate(distances):
        if distance < least:
            least, best = distance, j
    return int(indices[best])


def fit_integers(y, w, most):
    top = running([])
    for v in y:
        top = top if top > v else v
    if top == 0:
        return F(0)
    t = F(most) / top
    s = F(1) / t
    q = near(t * y) & 255
    best = running(w * (y - s * F(q)) * (y - s * F(q)))
    for k in [-4, -3, -2, -1, 1, 2, 3, 4]:
        other = (F(.1) * F(k) + F(most)) / top
        s = F(1) / other
        q = F(np.minimum(near(other * y), most))
        error = running(w * (y - s * q) * (y - s * q))
        if error < best:
            best, t = error, other
    q = np.minimum(near(t * y), most)
    x_sum, y_sum = running(w * y * F(q)), running(w * F(q) * F(q))
    q = [int(v) & 255 for v in q]
    for _ in range(5):
        changed = False
        for i in range(len(y)):
            a, b = x_sum - w[i] * y[i] * F(q[i]), y_sum - w[i] * F(q[i]) * F(q[i])
            if not (a > 0 and b > 0):
                continue
            n = min(int(near(y[i] * b / a)), most)
            if n == q[i]:
                continue
            a, b = a + w[i] * y[i] * F(n), b + w[i] * F(n) * F(n)
            if a * a * y_sum > x_sum * x_sum * b:
                q[i], x_sum, y_sum, changed = n & 255, a, b, True
        if not changed:
            break
    return x_sum / y_sum if y_sum > 0 else F(0)


def quantize_block(name, x, importance):
    t = TYPES[name]
    levels, tries, step, least, f, spread, all_again, clears = RULES[name]
    fields = {'d': [0], 'index': [0] * t.points, 'scale': [0] * (256 // t.group), 'signs': [0] * 32}
    v = F(spread) * running(x * x) / F(256)
    last, taken, scales = F(2 * levels - 1), 0, []
    for g in range(256 // t.group):
        part = x[g * t.group:(g + 1) * t.group]
        scales.append(F(0))
        if importance is not None:
            w = importance[g * t.group:(g + 1) * t.group] * np.sqrt(v + part * part)
        elif name == 'IQ2_S':
            w = F(.25) * v + part * part
        else:
            w = part * part
        r = np.sqrt(w)
        y, signs = part.copy(), []
        for e in range(0, t.group, 8):
            z = sum(1 << k for k in range(8) if not part[e + k] >= 0)
            y[e:e + 8] = np.where(part[e:e + 8] >= 0, part[e:e + 8], -part[e:e + 8])
            if t.even and bin(z).count('1') % 2:
                loss = (w * part * part)[e:e + 8]
                at = 0
                for k in range(1, 8):
                    at = k if loss[k] < loss[at] else at
                y[e + at], z = -y[e + at], z ^ 1 << at
            signs.append(z)
        m = y[0]
        for value in y[1:]:
            m = m if m > value else value
        if m == 0 if least is None else m < F(least):
            continue
        s = m / last
        if name == 'IQ2_XXS':
            s = fit_integers(y, w, 4)
            m = s * F(3)
            if m <= 0:
                continue

        def find(factor, unit, p):
            """Index of point p, and whether it is the code itself."""
            at = slice(p * t.width, (p + 1) * t.width)
            level = np.clip(near(F(.5) * (factor * y[at] - F(1))), 0, levels - 1)
            code = int((level << np.arange(t.width) * t.bits).sum())
            if neighbours(name, code) is None:
                return t.codes.index(code), True

            def far_of(points):
                total = np.zeros(len(points), F)
                for i in range(t.width):
                    far = unit * F(2 * points[:, i] + 1) - y[at][i]
                    total = total + r[at][i] * far * far
                return total
            return nearest(t, code, far_of), False

        def sums(points):
            q = F(2 * t.points_by_level[points].reshape(-1) + 1)
            return running(w * y * q), running(w * q * q)

        b, chosen = F(0), None
        points, on_grid = [0] * (t.group // t.width), None
        for k in range(-tries, tries + 1):
            factor = (last + F(k) * F(step)) / m
            found = [find(factor, F(1) / factor, p) for p in range(len(points))]
            a, c = sums([index for index, _ in found])
            if c > 0 and a * a > b * c:
                s = a / c
                b, chosen = s * a, found
        if chosen:
            points, on_grid = [i for i, _ in chosen], [on for _, on in chosen]
        elif not all_again:
            on_grid = [True] * len(points)
        if s > 0 and (name == 'IQ2_XXS' or on_grid is None or not all(on_grid)):
            points = [index if on_grid and on_grid[p] and not all_again else find(F(1) / s, s, p)[0]
                      for p, index in enumerate(points)]
            a, c = sums(points)
            s = a / c if c > 0 else s
        if s < 0:
            s, signs = -s, [z ^ 255 for z in signs]
        place = g
        if name == 'IQ3_S':
            place, taken = taken, taken + 1
        for e, z in enumerate(signs):
            fields['signs'][place * t.group // 8 + e] = z
        low = 255 if name == 'IQ3_S' else 0xffff
        for p, index in enumerate(points):
            fields['index'][place * len(points) + p] |= index & low
            fields['index'][g * len(points) + p] |= index & ~low
        scales[g] = s
    return finish(t, fields, scales, 31, f, 15, clears)


def finish(t, fields, scales, parts, f, most, clears):
    largest = F(0)
    for s in scales:
        largest = largest if largest > s else s
    if largest == 0:
        return bytes(t.size) if clears else pack(t, fields)
    d = largest / F(parts)
    fields['d'] = [half_bits(d * F(f))]
    factor = F(1) / d
    fields['scale'] = [int(np.clip(near(F(.5) * (factor * s - F(1))), 0, most)) for s in scales]
    return pack(t, fields)


def quantize_iq1_s(x, importance):
    t = TYPES['IQ1_S']
    fields = {'d': [0], 'index': [0] * 32, 'scale': [0] * 8, 'signs': [0] * 8}
    v = F(2) * running(x * x) / F(256)
    values = np.array([[-.875, .125, 1.125], [-1.125, -.125, .875]], F)
    scales = []
    for g in range(8):
        part = x[32 * g:32 * g + 32]
        w = importance[32 * g:32 * g + 32] * np.sqrt(v + part * part)
        scales.append(F(0))
        m = abs(part[0])
        for value in np.abs(part[1:]):
            m = m if m > value else value
        if m < F(1e-12):
            continue
        order = np.argsort(part, kind='stable')
        a, b = [F(0)], [F(0)]
        for i in order:
            a.append(a[-1] + w[i] * part[i])
            b.append(b[-1] + w[i])
        best, taken = -MOST, None
        for i in range(33):
            for j in range(i, 33):
                for n, e in enumerate(values):
                    p = (a[i] - a[0]) * e[0] + (a[j] - a[i]) * e[1] + (a[32] - a[j]) * e[2]
                    q = (b[i] - b[0]) * e[0] * e[0] + (b[j] - b[i]) * e[1] * e[1] + (b[32] - b[j]) * e[2] * e[2]
                    if q > 0 and p * p > best * q:
                        s = p / q
                        best, taken = s * p, (i, j, n)
        if taken is None:
            continue
        i, j, n = taken
        level = np.zeros(32, np.int64)
        level[order[i:j]], level[order[j:]] = 1, 2
        if s < 0:
            s, level, n = -s, 2 - level, 1 - n
        on_grid = True
        for p in range(4):
            at = slice(8 * p, 8 * p + 8)
            code = int((level[at] << np.arange(8) * 2).sum())
            if neighbours('IQ1_S', code) is None:
                index = t.codes.index(code)
            else:
                on_grid = False

                def far_of(points):
                    total = np.zeros(len(points), F)
                    for k in range(8):
                        far = s * values[n][points[:, k]] - part[at][k]
                        total = total + w[at][k] * far * far
                    return total
                index = nearest(t, code, far_of)
            fields['index'][4 * g + p] = index
        if not on_grid:
            q = values[n][t.points_by_level[fields['index'][4 * g:4 * g + 4]].reshape(-1)]
            p, q = running(w * q * part), running(w * q * q)
            s = p / q if p > 0 and q > 0 else s
        fields['signs'][g] = n
        scales[g] = s
    if all(s == 0 for s in scales):
        fields['signs'] = [0] * 8
    return finish(t, fields, scales, 15, 1.125, 7, False)


QUANTIZERS = {48: ('IQ3_XXS', 0), 49: ('IQ3_XXS', 1), 50: ('IQ3_S', 0), 51: ('IQ3_S', 1), 52: ('IQ2_S', 0),
              53: ('IQ2_S', 1), 55: ('IQ2_XXS', 1), 57: ('IQ2_XS', 1), 59: ('IQ1_S', 1)}


def quantize(number, weights, importance=None):
    """Blocks of rows of weights by quantizer `number`."""
    name, important = QUANTIZERS[number]
    blocks = []
    with np.errstate(all='ignore'):
        weights = one_nan(weights)
        importance = one_nan(importance) if important else None
        for row in weights:
            for at in range(0, len(row), 256):
                part = None if importance is None else importance[at:at + 256]
                x = row[at:at + 256]
                blocks.append(quantize_iq1_s(x, part) if name == 'IQ1_S'
                              else quantize_block(name, x, part))
    return b''.join(blocks)
