#!/usr/bin/env python3
"""Quantizers, from the text of format-spec/quantizers.md alone; slow.

QUANTIZERS has by number a function of weights (rows x columns, float32) and importance (columns,
float32, or None) that gives the blocks. Arithmetic is numpy's on float32 arrays, in which a block or a
part of one is one element: IEEE operations, one at a time.
"""
import functools

import numpy as np

import spec_grids

F = np.float32
ROUNDER = F(12582912)
QUANTIZERS = {}


def quantizer(number):
    """Registers a function of its number, without numpy's warnings about infinities and NaNs."""

    def register(function):
        def quiet(weights, importance=None):
            with np.errstate(all='ignore'):
                return function(one_nan(weights),
                                None if importance is None else one_nan(importance))

        QUANTIZERS[number] = quiet
        return function

    return register


# ---- Arithmetic ----

def one_nan(values):
    values = np.array(values, F)
    values[np.isnan(values)] = np.array(0x7fc00000, np.uint32).view(F)
    return values


def near(values):
    bits = (values + ROUNDER).view(np.uint32)
    return (bits & np.uint32(0x7fffff)).astype(np.int32) - 0x400000


def cut(integers, low, high):
    return np.clip(integers, low, high)


def number(integers):
    return integers.astype(F)


def half(values):
    """Bits of FP16."""
    bits = values.astype(np.float16).view(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7e00), bits)


def from_half(bits):
    return bits.view(np.float16).astype(F)


def total(terms):
    """Of arrays, one after the other."""
    result = np.zeros_like(terms[0])
    for term in terms:
        result = result + term
    return result


# ---- Fits. x and w are lists of arrays: number i of every block. ----

def extreme_of(x):
    value = np.zeros_like(x[0])
    magnitude = np.zeros_like(x[0])
    for number_i in x:
        greater = np.abs(number_i) > magnitude
        magnitude = np.where(greater, np.abs(number_i), magnitude)
        value = np.where(greater, number_i, value)
    return value, magnitude


def symmetric_fit(x, w, top):
    extreme, magnitude = extreme_of(x)

    def try_scale(t):
        q = [cut(near(t * v), -top, top - 1) for v in x]
        return (q, total([c * v * number(l) for c, v, l in zip(w, x, q)]),
                total([c * number(l) * number(l) for c, l in zip(w, q)]))

    codes, xl, l2 = try_scale(F(-top) / extreme)
    scale = np.where(l2 != 0, xl / l2, F(0))
    best = scale * xl
    for k in range(-9, 10):
        if k == 0:
            continue
        q, xl, l2 = try_scale(-(F(top) + F(0.1) * F(k)) / extreme)
        better = (l2 > 0) & (xl * xl > best * l2)
        scale = np.where(better, xl / l2, scale)
        best = np.where(better, xl / l2 * xl, best)
        codes = [np.where(better, a, b) for a, b in zip(q, codes)]
    zero = magnitude < F(1e-15)
    return np.where(zero, F(0), scale), [np.where(zero, 0, q + top) for q in codes]


def affine_fit(x, w, top, first, step, tries, by_magnitude, cut_first):
    least, most, weight, weighted = x[0], x[0], w[0], w[0] * x[0]
    for v, c in zip(x[1:], w[1:]):
        least = np.where(v < least, v, least)
        most = np.where(v > most, v, most)
        weight = weight + c
        weighted = weighted + c * v
    least = np.where(least > 0, F(0), least)
    flat, flat_offset = least == most, -least

    def error(codes, scale, low):
        terms = []
        for c, v, l in zip(w, x, codes):
            d = scale * number(l) + low - v
            terms.append(c * (np.abs(d) if by_magnitude else d * d))
        return total(terms)

    t = F(top) / (most - least)
    scale = F(1) / t
    codes = [cut(near(t * (v - least)), 0, top) for v in x]
    best = error(codes, scale, least)
    for k in range(tries):
        t = (F(first) + F(step) * F(k) + F(top)) / (most - least)
        l = []
        for v in x:
            n = t * (v - least)
            if cut_first:
                l.append(np.where(n > 0, near(np.where(n < F(top), n, F(top))), 0))
            else:
                l.append(cut(near(n), 0, top))
        a = total([c * number(q) for c, q in zip(w, l)])
        b = total([c * number(q) * number(q) for c, q in zip(w, l)])
        xl = total([c * number(q) * v for c, q, v in zip(w, l, x)])
        e = weight * b - a * a
        new_scale = (weight * xl - weighted * a) / e
        new_least = (b * weighted - a * xl) / e
        above = new_least > 0
        new_scale = np.where(above, xl / b, new_scale)
        new_least = np.where(above, F(0), new_least)
        new_error = error(l, new_scale, new_least)
        better = (e > 0) & (new_error < best)
        best = np.where(better, new_error, best)
        scale = np.where(better, new_scale, scale)
        least = np.where(better, new_least, least)
        codes = [np.where(better, p, q) for p, q in zip(l, codes)]
    return (np.where(flat, F(0), scale), np.where(flat, flat_offset, -least),
            [np.where(flat, 0, q) for q in codes])


def important_affine_fit(x, w, top):
    return affine_fit(x, w, top, -0.9, 0.05, 37, False, True)


def positive_fit(x, w, top):
    most = np.zeros_like(x[0])
    for v in x:
        most = np.where(most > v, most, v)
    zero = most < F(1e-15)

    def error(codes, scale):
        terms = []
        for c, v, l in zip(w, x, codes):
            d = v - scale * number(l)
            terms.append(c * d * d)
        return total(terms)

    def near_up_to(values):
        return np.minimum(near(values), top)

    t = F(top) / most
    best = error([near(t * v) & 255 for v in x], F(1) / t)
    for k in range(-4, 5):
        if k == 0:
            continue
        tried = (F(0.1) * F(k) + F(top)) / most
        new_error = error([near_up_to(tried * v) for v in x], F(1) / tried)
        better = new_error < best
        best = np.where(better, new_error, best)
        t = np.where(better, tried, t)
    l = [near_up_to(t * v) for v in x]
    xl = total([c * v * number(q) for c, v, q in zip(w, x, l)])
    l2 = total([c * number(q) * number(q) for c, q in zip(w, l)])
    codes = [q & 255 for q in l]
    # A round that changes nothing in a block is followed by such rounds only.
    for _ in range(5):
        for i, (c, v) in enumerate(zip(w, x)):
            old = number(codes[i])
            less_xl = xl - c * v * old
            less_l2 = l2 - c * old * old
            code = near_up_to(v * less_l2 / less_xl)
            better = (less_xl > 0) & (less_l2 > 0) & (code != codes[i])
            more_xl = less_xl + c * v * number(code)
            more_l2 = less_l2 + c * number(code) * number(code)
            better &= more_xl * more_xl * l2 > xl * xl * more_l2
            codes[i] = np.where(better, code & 255, codes[i])
            xl = np.where(better, more_xl, xl)
            l2 = np.where(better, more_l2, l2)
    scale = np.where(l2 > 0, xl / l2, F(0))
    return np.where(zero, F(0), scale), [np.where(zero, 0, q) for q in codes]


# ---- K-quants. A superblock is one element of the arrays. ----

def superblocks(weights, importance):
    """Lists of 256 arrays: weights, importance."""
    rows, columns = weights.shape
    blocks = weights.reshape(-1, 256)
    x = [np.ascontiguousarray(blocks[:, i]) for i in range(256)]
    if importance is None:
        return x, None
    counts = np.tile(importance.reshape(-1, 256), (rows, 1))
    assert counts.shape == blocks.shape and columns % 256 == 0
    return x, [np.ascontiguousarray(counts[:, i]) for i in range(256)]


def by_importance(counts, x, spread):
    return [c * np.sqrt(spread + v * v) for c, v in zip(counts, x)]


def linear_codes(values, top):
    greatest = np.zeros_like(values[0])
    for v in values:
        greatest = np.where(v > greatest, v, greatest)
    some = greatest > 0
    codes = [np.where(some, near(F(top) / greatest * v) & 255, 0) for v in values]
    return np.where(some, greatest / F(top), F(0)), codes


def two_bits(codes, shift):
    out = []
    for h in range(2):
        for i in range(32):
            out.append(sum((codes[128 * h + i + 32 * k] >> shift & 3) << (2 * k) for k in range(4)))
    return out


def four_bits(codes):
    return [(codes[64 * g + i] & 15) | (codes[64 * g + i + 32] & 15) << 4
            for g in range(4) for i in range(32)]


def bit_plane(codes, bit):
    return [sum((codes[32 * k + i] >> bit & 1) << k for k in range(8)) for i in range(32)]


def half_bytes(bits):
    return [bits & 255, bits >> 8]


def to_blocks(fields):
    return np.stack([np.asarray(f) & 255 for f in fields], axis=1).astype(np.uint8).tobytes()


def affine_parts(x, counts, size, top, plain, spread):
    """Scales, offsets, codes and weights of parts. `plain` fits one without importance."""
    scales, offsets, codes, sums = [], [], [], []
    for j in range(0, 256, size):
        part = x[j:j + size]
        if counts is None:
            scale, offset, l = plain(part)
            sums.append(None)
        else:
            w = by_importance(counts[j:j + size], part, spread)
            scale, offset, l = important_affine_fit(part, w, top)
            sums.append(total(w))
        scales.append(scale)
        offsets.append(offset)
        codes += l
    return scales, offsets, codes, sums


def affine_recode(x, codes, j, size, top, scale, offset):
    for i in range(j * size, j * size + size):
        new = cut(near((x[i] + offset) / scale), 0, top)
        codes[i] = np.where(scale != 0, new, codes[i])


def q2_k(weights, importance):
    x, counts = superblocks(weights, importance)

    def plain(part):
        return affine_fit(part, [np.abs(v) for v in part], 3, -0.5, 0.1, 16, True, False)

    spread = total([v * v for v in x]) / F(256)
    scales, offsets, codes, sums = affine_parts(x, counts, 16, 3, plain, spread)
    if counts is None:
        scale, a = linear_codes(scales, 15)
        offset, b = linear_codes(offsets, 15)
    else:
        scale, a = positive_fit(scales, sums, 15)
        offset, b = positive_fit(offsets, sums, 15)
    d, m = half(scale), half(offset)
    packed = [(p | q << 4) & 255 for p, q in zip(a, b)]
    for j in range(16):
        affine_recode(x, codes, j, 16, 3, from_half(d) * number(packed[j] & 15),
                      from_half(m) * number(packed[j] >> 4))
    return to_blocks(packed + two_bits(codes, 0) + half_bytes(d) + half_bytes(m))


def q4_or_q5_k(weights, importance, top, first, tries):
    x, counts = superblocks(weights, importance)

    def plain(part):
        mean = np.sqrt(total([v * v for v in part]) / F(32))
        return affine_fit(part, [mean + np.abs(v) for v in part], top, first, 0.1, tries, False,
                          False)

    spread = F(2) * total([v * v for v in x]) / F(256)
    scales, offsets, codes, sums = affine_parts(x, counts, 32, top, plain, spread)
    if counts is None:
        scale, a = linear_codes(scales, 63)
        offset, b = linear_codes(offsets, 63)
    else:
        scale, a = positive_fit(scales, sums, 63)
        offset, b = positive_fit(offsets, sums, 63)
    if counts is None or top == 31:
        a = [np.minimum(v, 63) for v in a]
        b = [np.minimum(v, 63) for v in b]
    d, m = half(scale), half(offset)
    packed = ([(a[j] | a[j + 4] >> 4 << 6) & 255 for j in range(4)] +
              [(b[j] | b[j + 4] >> 4 << 6) & 255 for j in range(4)] +
              [(a[j + 4] & 15) | (b[j + 4] & 15) << 4 for j in range(4)])
    a = [packed[j] & 63 for j in range(4)] + [
        (packed[j + 8] & 15) | packed[j] >> 6 << 4 for j in range(4)]
    b = [packed[j + 4] & 63 for j in range(4)] + [
        packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4 for j in range(4)]
    for j in range(8):
        affine_recode(x, codes, j, 32, top, from_half(d) * number(a[j]),
                      from_half(m) * number(b[j]))
    high = bit_plane(codes, 4) if top == 31 else []
    return to_blocks(half_bytes(d) + half_bytes(m) + packed + high + four_bits(codes))


def q3_k_part(x):
    extreme, magnitude = extreme_of(x)
    q = [cut(near(F(-4) / extreme * v), -4, 3) for v in x]
    w = [v * v for v in x]
    xl = total([c * v * number(l) for c, v, l in zip(w, x, q)])
    l2 = total([c * number(l) * number(l) for c, l in zip(w, q)])
    for _ in range(5):
        for i, (c, v) in enumerate(zip(w, x)):
            old = number(q[i])
            less_xl = xl - c * v * old
            less_l2 = l2 - c * old * old
            code = cut(near(v * less_l2 / less_xl), -4, 3)
            better = (less_xl > 0) & (code != q[i])
            more_xl = less_xl + c * v * number(code)
            more_l2 = less_l2 + c * number(code) * number(code)
            better &= (more_l2 > 0) & (more_xl * more_xl * l2 > xl * xl * more_l2)
            q[i] = np.where(better, code, q[i])
            xl = np.where(better, more_xl, xl)
            l2 = np.where(better, more_l2, l2)
    zero = magnitude < F(1e-15)
    scale = np.where(l2 > 0, xl / l2, F(0))
    return np.where(zero, F(0), scale), [np.where(zero, 0, l + 4) for l in q]


def signed_byte(integers):
    integers = integers & 255
    return np.where(integers > 127, integers - 256, integers)


def q3_k(weights, importance):
    x, counts = superblocks(weights, importance)
    scales, codes, sums = [], [], []
    spread = F(2) * total([v * v for v in x]) / F(256)
    for j in range(0, 256, 16):
        part = x[j:j + 16]
        if counts is None:
            scale, l = q3_k_part(part)
        else:
            w = by_importance(counts[j:j + 16], part, spread)
            sums.append(total(w))
            scale, l = symmetric_fit(part, w, 4)
        scales.append(scale)
        codes += l
    if counts is None:
        extreme, _ = extreme_of(scales)
        t = F(-32) / extreme
        some = extreme != 0
        a = [np.where(some, cut(signed_byte(near(t * s)), -32, 31) + 32, 0) for s in scales]
        d = half(np.where(some, F(1) / t, F(0)))
    else:
        scale, a = symmetric_fit(scales, sums, 32)
        d = half(scale)
    for j in range(16):
        r = from_half(d) * number(a[j] - 32)
        for i in range(16 * j, 16 * j + 16):
            codes[i] = np.where(r != 0, cut(near(x[i] / r), -4, 3) + 4, codes[i])
    packed = [(a[j] & 15) | (a[j + 8] & 15) << 4 for j in range(8)]
    packed += [sum((a[j + 4 * k] >> 4) << (2 * k) for k in range(4)) for j in range(4)]
    return to_blocks(bit_plane(codes, 2) + two_bits(codes, 0) + packed + half_bytes(d))


def q6_k(weights, importance):
    x, counts = superblocks(weights, importance)
    scales, codes = [], []
    for j in range(0, 256, 16):
        part = x[j:j + 16]
        w = [v * v for v in part] if counts is None else counts[j:j + 16]
        scale, l = symmetric_fit(part, w, 32)
        scales.append(scale)
        codes += l
    extreme, magnitude = extreme_of(scales)
    t = F(-128) / extreme
    d = half(F(1) / t)
    a = [signed_byte(np.minimum(near(t * s), 127)) for s in scales]
    for j in range(16):
        r = from_half(d) * number(a[j])
        for i in range(16 * j, 16 * j + 16):
            codes[i] = np.where(r != 0, cut(near(x[i] / r), -32, 31) + 32, codes[i])
    low = [(codes[128 * h + i] & 15) | (codes[128 * h + i + 64] & 15) << 4
           for h in range(2) for i in range(64)]
    fields = low + two_bits(codes, 4) + a + half_bytes(d)
    zero = magnitude < F(1e-15)
    return to_blocks([np.where(zero, 0, f) for f in fields])


for first, function in ((16, q2_k), (18, q3_k),
                        (20, lambda x, c: q4_or_q5_k(x, c, 15, -1.0, 21)),
                        (22, lambda x, c: q4_or_q5_k(x, c, 31, -0.5, 16)), (24, q6_k)):
    quantizer(first)(lambda x, c, function=function: function(x, None))
    quantizer(first + 1)(function)


# ---- Types of blocks that are a group or a few. A block is one element of the arrays. ----

LEVELS = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
MAGNITUDES = (0, 1, 2, 3, 4, 6, 8, 12)


def whole(values):
    fits = (values >= F(-2.0**31)) & (values < F(2.0**31))
    return np.where(fits, np.trunc(np.where(fits, values, F(0))), -2.0**31).astype(np.int64)


def away(values):
    fits = (values >= F(-2.0**31)) & (values < F(2.0**31))
    wide = np.where(fits, values, F(0)).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(wide) + 0.5), wide)
    return np.where(fits, rounded, -2.0**31).astype(np.int64)


def inverse(values):
    return np.where(values != 0, F(1) / values, F(0))


def columns_of(weights, size):
    blocks = weights.reshape(-1, size)
    return [np.ascontiguousarray(blocks[:, i]) for i in range(size)]


def counts_of(weights, importance, size):
    tiled = np.tile(importance.reshape(-1, size), (weights.shape[0], 1))
    return [np.ascontiguousarray(tiled[:, i]) for i in range(size)]


def nibbles(codes):
    size = len(codes) // 2
    return [(codes[i] & 15) | (codes[i + size] & 15) << 4 for i in range(size)]


def fifth_bits(codes):
    return [sum((codes[8 * k + i] >> 4 & 1) << i for i in range(8)) for k in range(4)]


def greatest_since_nan(x):
    most = np.zeros_like(x[0])
    for v in x:
        most = np.where(most > np.abs(v), most, np.abs(v))
    return most


def greatest(x):
    most = np.zeros_like(x[0])
    for v in x:
        most = np.where(np.abs(v) > most, np.abs(v), most)
    return most


@quantizer(1)
def q8_0(weights, _):
    x = columns_of(weights, 32)
    scale = greatest_since_nan(x) / F(127)
    return to_blocks(half_bytes(half(scale)) + [away(v * inverse(scale)) for v in x])


def extreme_type(top, bits):
    def quantize(weights, importance):
        x = columns_of(weights, 32)
        if importance is None:
            scale = extreme_of(x)[0] / F(-top)
            codes = [cut(whole(v * inverse(scale) + F(top + 0.5)), 0, 2 * top - 1) for v in x]
        else:
            w = row_counts(weights, importance, x)
            scale, codes = symmetric_fit(x, w, top)
        high = fifth_bits(codes) if bits == 5 else []
        return to_blocks(half_bytes(half(scale)) + high + nibbles(codes))

    return quantize


def range_type(top, bits):
    def quantize(weights, importance):
        x = columns_of(weights, 32)
        if importance is None:
            least = np.full_like(x[0], np.finfo(F).max)
            most = -least
            for v in x:
                least = np.where(v < least, v, least)
                most = np.where(v > most, v, most)
            scale = (most - least) / F(top)
            codes = [cut(whole((v - least) * inverse(scale) + F(0.5)), 0, top) for v in x]
        else:
            scale, offset, codes = important_affine_fit(x, row_counts(weights, importance, x), top)
            least = -offset
        high = fifth_bits(codes) if bits == 5 else []
        return to_blocks(half_bytes(half(scale)) + half_bytes(half(least)) + high + nibbles(codes))

    return quantize


def row_counts(weights, importance, x):
    columns = [np.ascontiguousarray(weights[:, i]) for i in range(weights.shape[1])]
    spread = total([v * v for v in columns]) / F(weights.shape[1])
    spread = np.repeat(spread, weights.shape[1] // 32)
    return by_importance(counts_of(weights, importance, 32), x, spread)


for first, function in ((2, extreme_type(8, 4)), (3, range_type(15, 4)), (4, extreme_type(16, 5)),
                        (5, range_type(31, 5))):
    quantizer(first)(lambda x, c, function=function: function(x, None))
    quantizer(first + 4)(function)


# ---- IQ4_NL and IQ4_XS ----

def level_of(values):
    """The code."""
    return sum(((values + values >= F(LEVELS[k - 1] + LEVELS[k])).astype(np.int64)
                for k in range(1, 16)), np.zeros(values.shape, np.int64))


def level_fit(x, w):
    extreme, magnitude = extreme_of(x)

    def try_scale(t):
        v = [np.array(LEVELS, F)[level_of(t * n)] for n in x]
        return (total([c * l * n for c, l, n in zip(w, v, x)]),
                total([c * l * l for c, l in zip(w, v)]))

    xl, l2 = try_scale(F(1) / (-extreme / F(-127)))
    scale = np.where(l2 > 0, xl / l2, F(0))
    best = scale * xl
    for k in range(-7, 8):
        xl, l2 = try_scale(F(k - 127) / extreme)
        better = (l2 > 0) & (xl * xl > best * l2)
        scale = np.where(better, xl / l2, scale)
        best = np.where(better, xl / l2 * xl, best)
    return np.where(magnitude < F(1e-15), F(0), scale)


def level_counts(weights, importance, x):
    if importance is None:
        return [v * v for v in x]
    spread = total([v * v for v in x]) * F(2 / len(x))
    return by_importance(counts_of(weights, importance, len(x)), x, spread)


def iq4_nl(weights, importance):
    x = columns_of(weights, 32)
    scale = level_fit(x, level_counts(weights, importance, x))
    return to_blocks(half_bytes(half(scale)) +
                     nibbles([level_of(v * inverse(scale)) for v in x]))


def iq4_xs(weights, importance):
    x = columns_of(weights, 256)
    w = level_counts(weights, importance, x)
    scales = [level_fit(x[j:j + 32], w[j:j + 32]) for j in range(0, 256, 32)]
    scale = -extreme_of(scales)[0] / F(32)
    c, codes = [], []
    for j in range(8):
        c.append(cut(near(inverse(scale) * scales[j]), -32, 31))
        r = scale * number(c[j])
        codes += nibbles([level_of(v * inverse(r)) for v in x[32 * j:32 * j + 32]])
    c = [v + 32 for v in c]
    high = sum((c[j] >> 4) << (2 * j) for j in range(8))
    low = [(c[j] & 15) | (c[j + 1] & 15) << 4 for j in range(0, 8, 2)]
    return to_blocks(half_bytes(half(scale)) + half_bytes(high) + low + codes)


for first, function in ((32, iq4_nl), (34, iq4_xs)):
    quantizer(first)(lambda x, c, function=function: function(x, None))
    quantizer(first + 1)(function)


# ---- E2M1 ----

def e2m1_codes(x, r):
    codes = []
    for v in x:
        least = np.abs(v)
        code = np.zeros(v.shape, np.int64)
        for k in range(1, 8):
            error = np.abs(F(MAGNITUDES[k]) * r - np.abs(v))
            nearer = error < least
            least = np.where(nearer, error, least)
            code = np.where(nearer, k, code)
        codes.append(np.where((v < 0) & (code != 0), code + 8, code))
    return codes


@quantizer(80)
def mxfp4(weights, _):
    x = columns_of(weights, 32)
    m = greatest(x)
    good = (m > 0) & np.isfinite(m)
    g, above = np.frexp(np.where(good, m, F(1)).astype(np.float64))  # above: n + 1
    size = np.where(above > 0, above - 1, -above)
    most = np.zeros_like(size)
    for k, allowed in enumerate((1, 2, 5, 11, 22, 44, 88)):
        most = np.where(size >= 2 << k, allowed, most)
    n = np.where((1 - g) * 2.0**24 <= most, above, above - 1)
    e = np.where(good, (n + 125) & 255, 0)
    r = np.ldexp(np.float64(1), e - 128).astype(F)
    return to_blocks([e] + nibbles(e2m1_codes(x, r)))


def ue4m3(s):
    return np.where(s < 8, s * 2.0**-9, (1 + s % 8 / 8) * 2.0**(s // 8 - 7.0))


@quantizer(81)
def nvfp4(weights, _):
    x = columns_of(weights, 64)
    scales, codes = [], []
    for j in range(0, 64, 16):
        part = x[j:j + 16]
        q = greatest(part) / F(6)
        good = q > 0
        q = np.where(good, np.where(q > 448, F(448), q), F(1)).astype(np.float64)
        n = np.frexp(q)[1] - 1
        rest = q / 2.0**n - 1
        normal = (n + 7) * 8 + np.floor(rest * 8) + np.floor(rest * 16) % 2
        normal = np.where(normal > 119, 126, normal)
        small = np.minimum(7, np.floor((q.astype(F) * F(512) + F(0.5)).astype(np.float64)))
        s = np.where(good, np.where(n < -6, small, normal), 0).astype(np.int64)
        scales.append(s)
        codes += nibbles(e2m1_codes(part, (ue4m3(s) / 2).astype(F)))
    return to_blocks(scales + codes)


# ---- Few levels ----

def trits(codes, size):
    """Bytes of the digits codes[i], codes[i + size], ..."""
    out = []
    for i in range(size):
        y = 0
        for k in range(5):
            d = codes[i + k * size] if i + k * size < len(codes) else 0
            y = 3 * y + d & 255
        out.append((256 * y + 242) // 243)
    return out


@quantizer(82)
def tq1_0(weights, _):
    x = columns_of(weights, 256)
    m = greatest_since_nan(x)
    t = [away(v * inverse(m)) + 1 for v in x]
    return to_blocks(trits(t[:160], 32) + trits(t[160:240], 16) + trits(t[240:], 4) +
                     half_bytes(half(m)))


@quantizer(83)
def tq2_0(weights, _):
    x = columns_of(weights, 256)
    m = greatest_since_nan(x)
    t = [away(v * inverse(m)) + 1 for v in x]
    return to_blocks(two_bits(t, 0) + half_bytes(half(m)))


@quantizer(84)
def q1_0(weights, _):
    x = columns_of(weights, 128)
    bits = [sum((x[8 * i + k] >= 0).astype(np.int64) << k for k in range(8)) for i in range(16)]
    return to_blocks(half_bytes(half(total([np.abs(v) for v in x]) / F(128))) + bits)


@quantizer(85)
def q2_0(weights, _):
    x = columns_of(weights, 64)
    m = greatest(x)
    v = np.where(m > 0, F(1) / m, F(0))
    codes = [cut(away(n * v) + 1, 0, 3) for n in x]
    return to_blocks(half_bytes(half(m)) +
                     [sum(codes[4 * i + k] << (2 * k) for k in range(4)) for i in range(16)])


# ---- Dequantizing: by type a function of the bytes that gives float32. ----

DEQUANTIZERS = {}
# By type a function of the bytes that gives the scale of each element, and its code.
SCALES = {}


def dequantizer(dtype, size):
    """Registers a function of blocks, an array a block, that gives scales and offsets (blocks x groups)
    and codes (blocks x elements)."""

    def register(function):
        def numbers(data):
            blocks = np.frombuffer(data, np.uint8).reshape(-1, size)
            with np.errstate(all='ignore'):
                scale, offset, codes = function(blocks)
                group = codes.shape[1] // scale.shape[1]
                values = np.repeat(scale, group, axis=1) * codes.astype(F)
                if offset is not None:
                    values = values + np.repeat(offset, group, axis=1)
            return one_nan(values.reshape(-1))

        def scales(data):
            scale, _, codes = function(np.frombuffer(data, np.uint8).reshape(-1, size))
            return np.repeat(scale, codes.shape[1] // scale.shape[1], axis=1), codes

        DEQUANTIZERS[dtype] = numbers
        SCALES[dtype] = scales
        return function

    return register


def half_at(blocks, at):
    return np.ascontiguousarray(blocks[:, at:at + 2]).view(np.float16).astype(F)


def spread_nibbles(data, size):
    """Codes of nibbles, of `size` weights together."""
    groups = data.reshape(len(data), -1, size // 2).astype(np.int64)
    return np.concatenate([groups & 15, groups >> 4], axis=2).reshape(len(data), -1)


def spread_bits(data):
    return np.unpackbits(data, axis=1, bitorder='little').astype(np.int64)


def spread_two_bits(data):
    """The inverse of two_bits."""
    halves = data.reshape(len(data), -1, 1, 32).astype(np.int64)
    return (halves >> (2 * np.arange(4)).reshape(1, 1, 4, 1) & 3).reshape(len(data), -1)


def signed(data):
    return np.ascontiguousarray(data).view(np.int8).astype(np.int64)


@dequantizer(66, 18)
def numbers_q4_0(b):
    return half_at(b, 0), None, spread_nibbles(b[:, 2:], 32) - 8


@dequantizer(67, 20)
def numbers_q4_1(b):
    return half_at(b, 0), half_at(b, 2), spread_nibbles(b[:, 4:], 32)


@dequantizer(70, 22)
def numbers_q5_0(b):
    return half_at(b, 0), None, spread_nibbles(b[:, 6:], 32) + 16 * spread_bits(b[:, 2:6]) - 16


@dequantizer(71, 24)
def numbers_q5_1(b):
    return half_at(b, 0), half_at(b, 2), spread_nibbles(b[:, 8:], 32) + 16 * spread_bits(b[:, 4:8])


@dequantizer(72, 34)
def numbers_q8_0(b):
    return half_at(b, 0), None, signed(b[:, 2:])


@dequantizer(73, 36)
def numbers_q8_1(b):
    return half_at(b, 0), None, signed(b[:, 4:])


@dequantizer(79, 292)
def numbers_q8_k(b):
    return np.ascontiguousarray(b[:, :4]).view(F), None, signed(b[:, 4:260])


@dequantizer(74, 84)
def numbers_q2_k(b):
    scales = b[:, :16]
    return (half_at(b, 80) * number(scales & 15), -(half_at(b, 82) * number(scales >> 4)),
            spread_two_bits(b[:, 16:80]))


@dequantizer(75, 110)
def numbers_q3_k(b):
    low, high = b[:, 96:104].astype(np.int64), b[:, 104:108].astype(np.int64)
    scales = np.concatenate([low & 15, low >> 4], axis=1)
    scales |= np.concatenate([high >> 2 * k & 3 for k in range(4)], axis=1) << 4
    bits = np.concatenate([b[:, :32].astype(np.int64) >> k & 1 for k in range(8)], axis=1)
    return (half_at(b, 108) * number(scales - 32), None,
            spread_two_bits(b[:, 32:96]) + 4 * bits - 4)


def six_bit_scales(b):
    low, middle, high = (b[:, i:i + 4].astype(np.int64) for i in (4, 8, 12))
    scales = np.concatenate([low & 63, (high & 15) | low >> 6 << 4], axis=1)
    offsets = np.concatenate([middle & 63, high >> 4 | middle >> 6 << 4], axis=1)
    return half_at(b, 0) * number(scales), -(half_at(b, 2) * number(offsets))


@dequantizer(76, 144)
def numbers_q4_k(b):
    return *six_bit_scales(b), spread_nibbles(b[:, 16:], 64)


@dequantizer(77, 176)
def numbers_q5_k(b):
    bits = np.concatenate([b[:, 16:48].astype(np.int64) >> k & 1 for k in range(8)], axis=1)
    return *six_bit_scales(b), spread_nibbles(b[:, 48:], 64) + 16 * bits


@dequantizer(78, 210)
def numbers_q6_k(b):
    codes = spread_nibbles(b[:, :128], 128) + 16 * spread_two_bits(b[:, 128:192])
    return half_at(b, 208) * number(signed(b[:, 192:208])), None, codes - 32


@dequantizer(84, 18)
def numbers_iq4_nl(b):
    return half_at(b, 0), None, np.array(LEVELS)[spread_nibbles(b[:, 2:], 32)]


@dequantizer(87, 136)
def numbers_iq4_xs(b):
    high = b[:, 2].astype(np.int64) | b[:, 3].astype(np.int64) << 8
    c = np.stack([(b[:, 4 + j // 2] >> 4 * (j % 2) & 15) | (high >> 2 * j & 3) << 4
                  for j in range(8)], axis=1)
    return half_at(b, 0) * number(c - 32), None, np.array(LEVELS)[spread_nibbles(b[:, 8:], 32)]


SIGNED_MAGNITUDES = np.array(MAGNITUDES + tuple(-m for m in MAGNITUDES))


@dequantizer(103, 17)
def numbers_mxfp4(b):
    scale = np.ldexp(np.float64(1), b[:, :1].astype(np.int64) - 128).astype(F)
    return scale, None, SIGNED_MAGNITUDES[spread_nibbles(b[:, 1:], 32)]


@dequantizer(104, 36)
def numbers_nvfp4(b):
    s = b[:, :4].astype(np.int64)
    scale = np.where(s == 127, 0, ue4m3(s & 127) / 2).astype(F)
    return scale, None, SIGNED_MAGNITUDES[spread_nibbles(b[:, 4:], 16)]


@dequantizer(98, 54)
def numbers_tq1_0(b):
    def digits(data, count):
        return [(data * 3**k & 255) * 3 // 256 for k in range(count)]

    b64 = b.astype(np.int64)
    codes = np.concatenate(digits(b64[:, :32], 5) + digits(b64[:, 32:48], 5) +
                           digits(b64[:, 48:52], 4), axis=1)
    return half_at(b, 52), None, codes - 1


@dequantizer(99, 66)
def numbers_tq2_0(b):
    return half_at(b, 64), None, spread_two_bits(b[:, :64]) - 1


@dequantizer(105, 18)
def numbers_q1_0(b):
    return half_at(b, 0), None, 2 * spread_bits(b[:, 2:]) - 1


@dequantizer(106, 18)
def numbers_q2_0(b):
    pairs = spread_bits(b[:, 2:])
    return half_at(b, 0), None, pairs[:, ::2] + 2 * pairs[:, 1::2] - 1


# ---- Grid types: grids.md ----

for grid_number in spec_grids.QUANTIZERS:
    QUANTIZERS[grid_number] = functools.partial(spec_grids.quantize, grid_number)
