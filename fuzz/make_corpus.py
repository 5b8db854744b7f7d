#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, corpus/TARGET/NAME, always the same.

usage: make_corpus.py [--check]     (--check: only says whether they are up to date)
"""
import json
import pathlib
import struct
import sys

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"


def safetensors(header, data_bytes, padding=""):
    text = header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))
    raw = text.encode() + padding.encode()
    return struct.pack("<Q", len(raw)) + raw + b"\xa5" * data_bytes


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors_seeds():
    yield "empty", b""
    yield "no_tensors", safetensors({}, 0)
    yield "one", safetensors({"w": tensor("F32", [2, 3], 0, 24)}, 24)
    yield "padded", safetensors({"w": tensor("BF16", [4], 0, 8)}, 8, "     ")
    yield "metadata", safetensors(
        {"__metadata__": {"format": "pt"}, "w": tensor("F16", [1], 0, 2)}, 2)
    yield "scalar_and_none", safetensors(
        {"s": tensor("I64", [], 0, 8), "n": tensor("F64", [0, 4], 8, 8)}, 8)
    yield "any_order_with_hole_and_tail", safetensors(
        {"b": tensor("U8", [4], 8, 12), "a": tensor("I8", [5], 0, 5)}, 16)
    yield "small_types", safetensors(
        {"a": tensor("F4", [2], 0, 1), "b": tensor("F6_E2M3", [4], 1, 4),
         "c": tensor("F8_E4M3", [3], 4, 7), "d": tensor("BOOL", [1], 7, 8)}, 8)
    yield "unknown_type", safetensors({"a": tensor("F3", [9], 0, 5)}, 5)
    yield "unknown_field", safetensors(
        {"a": {**tensor("U8", [1], 0, 1), "x": {"y": [1, None, -2.5e3, True]}}}, 1)
    yield "names", safetensors({"\u00e9\U0001f600\0": tensor("U8", [1], 0, 1)}, 1)
    yield "overlap", safetensors(
        {"a": tensor("U8", [4], 0, 4), "b": tensor("U8", [4], 3, 7)}, 7)
    yield "same_name", safetensors(
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
        '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0)
    yield "too_long", safetensors({"a": tensor("U8", [1 << 63], 0, 1 << 63)}, 1)
    yield "overflow", safetensors({"a": tensor("U8", [1 << 32, 1 << 32], 0, 0)}, 0)
    yield "cut", safetensors({"w": tensor("F32", [2, 3], 0, 24)}, 24)[:40]
    yield "deep", safetensors('{"a":{"x":' + "[" * 64, 0)


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def u32(*values):
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values):
    return struct.pack(f"<{len(values)}Q", *values)


def info(name, dims, ggml_type, offset):
    return text(name) + u32(len(dims)) + u64(*dims) + u32(ggml_type) + u64(offset)


def gguf(pairs, tensors, data_bytes, version=3, alignment=32):
    head = b"GGUF" + u32(version) + u64(len(tensors), len(pairs)) + b"".join(pairs + tensors)
    return head + bytes(-len(head) % alignment) + b"\x5a" * data_bytes


def gguf_seeds():
    string, array, f32, q4_k = 8, 9, 0, 12
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    scalars = [text(f"s{t}") + u32(t) + bytes(n) for t, n in sizes.items()]
    arrays = [text(f"a{t}") + u32(array, t) + u64(2) + bytes(2 * n) for t, n in sizes.items()]
    one = [info("t", [4], f32, 0)]
    yield "empty", b""
    yield "no_tensors", gguf([], [], 0)
    yield "one", gguf([], one, 16)
    yield "version_2", gguf([], one, 16, version=2)
    yield "version_1", gguf([], one, 16, version=1)
    yield "big_endian", b"GGUF" + struct.pack(">IQQ", 3, 0, 0)
    yield "scalars", gguf(scalars, one, 16)
    yield "arrays", gguf(arrays, one, 16)
    yield "texts", gguf([text("k") + u32(string) + text("v"),
                         text("l") + u32(array, string) + u64(2) + text("x") + text("")], one, 16)
    yield "nested", gguf([text("k") + u32(array, array) + u64(2) + u32(0) + u64(1) + b"\1" +
                          u32(string) + u64(1) + text("x")], one, 16)
    yield "too_deep", gguf([text("k") + u32(array, array) + u64(1) + u32(array) + u64(0)], one, 16)
    yield "alignment", gguf([text("general.alignment") + u32(4, 64)], one, 16, alignment=64)
    yield "bad_alignment", gguf([text("general.alignment") + u32(4, 3)], one, 16)
    yield "quantized", gguf([], [info("q", [256, 2], q4_k, 64), info("n", [3], f32, 0),
                                 info("z", [0], f32, 352)], 352 + 7)
    yield "unknown_type", gguf([], [info("u", [8], 4, 0), info("t", [4], f32, 32),
                                    info("v", [8], 300, 64)], 80)
    yield "overlap", gguf([], [info("a", [8], f32, 0), info("b", [8], f32, 16)], 64)
    yield "overflow", gguf([], [info("a", [1 << 32, 1 << 32], f32, 0)], 64)
    yield "huge_count", b"GGUF" + u32(3) + u64(1 << 62, 1 << 62)
    yield "huge_text", gguf([text("k") + u32(string) + u64(1 << 63)], [], 0)
    yield "cut", gguf(scalars, one, 16)[:100]


def imatrix(entries, tail=b""):
    out = u32(len(entries))
    for name, calls, sums in entries:
        out += u32(len(name)) + name.encode() + u32(calls, sums) + b"\0\0\x80\x3f" * sums
    return out + tail


def imatrix_seeds():
    two = [("blk.0.attn_q.weight", 7, 64), ("blk.0.ffn_up.weight", 0, 32)]
    yield "empty", b""
    yield "two", imatrix(two)
    yield "tail", imatrix(two, u32(7, 4) + b"text")
    yield "none", imatrix([])
    yield "same_name", imatrix(two[:1] * 2)
    yield "short_row", imatrix([("a.b", 1, 31)])
    yield "cut", imatrix(two)[:200]
    yield "cut_in_name", imatrix(two)[:12]
    yield "too_many", u32(3) + imatrix(two)[4:]


def varint(n):
    out = bytearray()
    while n >= 128:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def string(data):
    return varint(len(data)) + data


def entry_head(kind, path, target=None):
    # With mode and time: 0644, 1700000000 s (as an svarint), 5 ns.
    fields = varint(kind) + string(path) + varint(1) + varint(0o644) + varint(2 * 1700000000)
    return string(fields + varint(5) + (b"" if target is None else string(target)))


def manifest(*entries):
    return b"ZLLMMAN\n" + varint(1) + varint(len(entries)) + b"".join(entries)


def store_seeds():
    """A byte for the format, then the bytes without their checksum."""
    digest = bytes(range(32))
    segments = [(0, 8, b"", [], bytes(8)), (5, 300, b"w", [3, 25], digest),
                (5, 0, b"none", [0, 2], b"")]
    file = varint(308) + digest + string(b"safetensors") + varint(len(segments))
    for dtype, length, name, shape, content in segments:
        file += bytes([dtype]) + varint(length) + string(name) + varint(len(shape))
        file += b"".join(map(varint, shape)) + content
    root = entry_head(1, b"")
    yield "header", b"\0zipllm-store 1\nid 00112233445566778899aabbccddeeff\nread\nadd a b\ndelete\n"
    yield "header_newer", b"\0zipllm-store 2\n"
    yield "reference", (b"\1zipllm-reference 1\nmanifest " + digest.hex().encode() +
                        b"\nlength 4711\ncreated -5\nfiles 3\nbytes 99999999999\n")
    yield "condemned", b"\2zipllm-condemned 1\nphase readers\nsince 5\nblocker a\nblocker b\n"
    yield "damaged", b"\3zipllm-damaged 1\nobject " + digest.hex().encode() + b"\n"
    yield "damaged_all", b"\3zipllm-damaged 1\nall\n"
    yield "manifest_file", b"\4" + manifest(entry_head(0, b"model.safetensors") + file)
    yield "manifest_tree", b"\4" + manifest(
        root, entry_head(1, b"sub"), entry_head(2, b"link", b"sub/f"), entry_head(0, b"sub/f") + file)
    yield "manifest_no_root", b"\4" + manifest(entry_head(0, b"sub/f") + file)
    yield "manifest_cut", b"\4" + manifest(root, entry_head(0, b"f") + file[:60])
    yield "manifest_many_segments", b"\4" + manifest(
        root, entry_head(0, b"f") + varint(1 << 40) + digest + string(b"") + varint(1 << 60))
    yield "sketches", b"\5ZLLMSKE\n" + varint(1) + varint(1) + digest + b"\x4c" + bytes(64)
    yield "sketches_none", b"\5ZLLMSKE\n" + varint(1) + varint(0)
    yield "key_reference", b"\6refs/org%2Fmodel/main"
    yield "key_pack", b"\6packs/00/00112233445566778899aabbccddeeff.zllm"
    yield "entry", b"\6zllmobj-" + digest.hex().encode()
    yield "name", b"\6org/model@v1"
    yield "raw", b"\x85ZLLMSKE\n" + varint(1) + varint(0) + bytes(8)


SEEDS = {
    "store_format_fuzzer": store_seeds,
    "parser_safetensors_fuzzer": safetensors_seeds,
    "parser_gguf_fuzzer": gguf_seeds,
    "parser_imatrix_fuzzer": imatrix_seeds,
}


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for target, seeds in SEEDS.items():
        for name, data in seeds():
            path = CORPUS / target / name
            if path.is_file() and path.read_bytes() == data:
                continue
            stale.append(str(path))
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    if check and stale:
        sys.exit("not up to date, run fuzz/make_corpus.py:\n" + "\n".join(stale))


if __name__ == "__main__":
    main()
