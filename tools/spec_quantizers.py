#!/usr/bin/env python3
"""Quantizers, from the text of format-spec/quantizers.md alone; slow.

QUANTIZERS has by number a function of weights (rows x columns, float32) and importance (columns,
float32, or None) that gives the blocks. Arithmetic is numpy's on float32 arrays, in which a block or a
part of one is one element: IEEE operations, one at a time.
"""
import numpy as np

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
