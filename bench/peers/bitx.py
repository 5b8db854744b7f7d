"""BitX (arXiv:2505.06252): XOR of each tensor with the base's of the same name, cut into planes of
bytes, each by zstd. Written here: there is no package."""
import json
import struct

NAME = "BitX"
PACKAGES = ("zstandard", "numpy")
THREADS = (1,)


def methods(dtype):
    return []  # nothing without a base


def methods_against(dtype):
    return ["-3", "-19"]


def spans(file):
    """{name: (width, begin, end)} of the tensors of a safetensors file, and where they begin."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8:8 + length])
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        elements = 1
        for dimension in entry["shape"]:
            elements *= dimension
        found[name] = ((end - begin) // max(elements, 1), begin, end)
    return found, 8 + length


def xored(file, tensors, base):
    """A copy of the file, each tensor XOR the base's if it has one of this name and size."""
    import numpy
    others, _ = spans(base)
    out = numpy.frombuffer(file, numpy.uint8).copy()
    old = numpy.frombuffer(base, numpy.uint8)
    for name, (_, begin, end) in tensors.items():
        _, from_, to = others.get(name, (0, 0, 0))
        if to - from_ == end - begin:
            out[begin:end] ^= old[from_:to]
    return out


def load_against(method, dtype, threads, base_path):
    import numpy
    import zstandard
    with open(base_path, "rb") as f:
        base = f.read()
    level = -int(method)

    def compress(data):
        """The file's header, then a frame for each plane of all tensors of a width."""
        tensors, begin = spans(data)
        delta = xored(data, tensors, base)
        frames = [zstandard.compress(data[:begin], level)]
        for width in sorted({width for width, _, _ in tensors.values()}):
            whole = numpy.concatenate([delta[b:e] for w, b, e in tensors.values() if w == width])
            frames += [zstandard.compress(whole[plane::width].tobytes(), level)
                       for plane in range(width)]
        return b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)

    def decompress(packed):
        frames, at = [], 0
        while at < len(packed):
            (size,) = struct.unpack_from("<I", packed, at)
            frames.append(zstandard.decompress(packed[at + 4:at + 4 + size]))
            at += 4 + size
        tensors, begin = spans(frames[0])
        out = numpy.zeros(max([end for _, _, end in tensors.values()], default=begin),
                          numpy.uint8)
        out[:begin] = numpy.frombuffer(frames[0], numpy.uint8)
        planes = iter(frames[1:])
        for width in sorted({width for width, _, _ in tensors.values()}):
            mine = [(b, e) for w, b, e in tensors.values() if w == width]
            whole = numpy.empty(sum(e - b for b, e in mine), numpy.uint8)
            for plane in range(width):
                whole[plane::width] = numpy.frombuffer(next(planes), numpy.uint8)
            at = 0
            for b, e in mine:
                out[b:e] = whole[at:at + e - b]
                at += e - b
        return xored(out.tobytes(), tensors, base).tobytes()

    return compress, decompress
