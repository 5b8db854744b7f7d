"""XXH3-64 with seed 0, after the specification in xxHash's doc/xxhash_spec.md.

For checking other implementations: a few MB/s.
"""
import struct

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF

_P32_1, _P32_2, _P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
_P64_1, _P64_2, _P64_3, _P64_4, _P64_5 = (
    0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9,
    0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)

_SECRET = bytes.fromhex("""
    b8fe6c3923a44bbe7c01812cf721ad1c ded46de9839097db7240a4a4b7b3671f
    cb79e64eccc0e578825ad07dccff7221 b8084674f743248ee03590e6813a264c
    3c2852bb91c300cb88d0658b1b532ea3 71644897a20df94e3819ef46a9deacd8
    a8fa763fe39c343ff9dcbbc7c70b4f1d 8a51e04bcdb45931c89f7ec9d9787364
    eac5ac8334d3ebc3c581a0fffa1363eb 170ddd51b7f0da49d316552629d4689e
    2b16be587d47a1fc8ff8b8d17ad031ce 45cb3a8f95160428afd7fbcabb4b407e""")

_STRIPE = 64
_STRIPES = (len(_SECRET) - _STRIPE) // 8  # in a block
_BLOCK = _STRIPE * _STRIPES


def _u32(data, at):
    return int.from_bytes(data[at:at + 4], "little")


def _u64(data, at):
    return int.from_bytes(data[at:at + 8], "little")


_KEYS = [_u64(_SECRET, i) for i in range(0, len(_SECRET), 8)]
_SCRAMBLE_KEYS = [_u64(_SECRET, 128 + i) for i in range(0, 64, 8)]
_LAST_KEYS = [_u64(_SECRET, 121 + i) for i in range(0, 64, 8)]


def _fold(a, b):
    product = a * b
    return (product & _MASK64) ^ (product >> 64)


def _avalanche(h):
    h ^= h >> 37
    h = h * 0x165667919E3779F9 & _MASK64
    return h ^ h >> 32


def _avalanche_xxh64(h):
    h ^= h >> 33
    h = h * _P64_2 & _MASK64
    h ^= h >> 29
    h = h * _P64_3 & _MASK64
    return h ^ h >> 32


def _mix16(data, at, secret_at):
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret_at),
                 _u64(data, at + 8) ^ _u64(_SECRET, secret_at + 8))


def _rotate(x, bits):
    return (x << bits | x >> 64 - bits) & _MASK64


def _short(data):
    n = len(data)
    if n == 0:
        return _avalanche_xxh64(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))
    if n <= 3:
        combined = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
        return _avalanche_xxh64(combined ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    if n <= 8:
        h = _u32(data, n - 4) + (_u32(data, 0) << 32)
        h ^= _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        h ^= _rotate(h, 49) ^ _rotate(h, 24)
        h = h * 0x9FB21C651E98DF25 & _MASK64
        h ^= (h >> 35) + n
        h = h * 0x9FB21C651E98DF25 & _MASK64
        return h ^ h >> 28
    low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
    high = _u64(data, n - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return _avalanche(n + swapped + high + _fold(low, high) & _MASK64)


def _middle(data):
    n = len(data)
    h = n * _P64_1
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            h += _mix16(data, 16 * i, 32 * i)
            h += _mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(h & _MASK64)
    for i in range(8):
        h += _mix16(data, 16 * i, 16 * i)
    h = _avalanche(h & _MASK64)
    for i in range(8, n // 16):
        h += _mix16(data, 16 * i, 16 * (i - 8) + 3)
    h += _mix16(data, n - 16, 136 - 17)
    return _avalanche(h & _MASK64)


def _accumulate(lanes, words, keys):
    """Adds stripes of eight words; stripe s takes its keys from keys[s]."""
    stripes = len(words) // 8
    for i in range(8):
        column = words[i::8]
        lanes[i ^ 1] += sum(column)
        total = 0
        for word, key in zip(column, keys[i:i + stripes]):
            x = word ^ key
            total += (x & _MASK32) * (x >> 32)
        lanes[i] += total


def _long(data):
    n = len(data)
    lanes = [_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1]
    blocks = (n - 1) // _BLOCK
    for block in range(blocks):
        _accumulate(lanes, struct.unpack_from("<128Q", data, block * _BLOCK), _KEYS)
        for i in range(8):
            lane = lanes[i] & _MASK64
            lanes[i] = (lane ^ lane >> 47 ^ _SCRAMBLE_KEYS[i]) * _P32_1
    stripes = (n - 1 - blocks * _BLOCK) // _STRIPE
    _accumulate(lanes, struct.unpack_from(f"<{8 * stripes}Q", data, blocks * _BLOCK), _KEYS)
    _accumulate(lanes, struct.unpack_from("<8Q", data, n - _STRIPE), _LAST_KEYS)
    h = n * _P64_1
    for i in range(4):
        h += _fold(lanes[2 * i] & _MASK64 ^ _u64(_SECRET, 11 + 16 * i),
                   lanes[2 * i + 1] & _MASK64 ^ _u64(_SECRET, 19 + 16 * i))
    return _avalanche(h & _MASK64)


def xxh3_64(data):
    """The hash of bytes, a number below 2^64."""
    if len(data) <= 16:
        return _short(data)
    return _middle(data) if len(data) <= 240 else _long(data)
