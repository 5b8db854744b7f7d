#!/usr/bin/env python3
"""Archives that the command makes, decoded by the command and by the decoder written from the
specification: both must give what went in, and tell the same of it.

usage: archives_test.py ZIPLLM
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
DECODER = ROOT / "tools" / "spec_decoder.py"
sys.path[:0] = [str(ROOT / "format-spec"), str(ROOT / "tools")]

from make_vectors import bell, floats, gguf, model_files, related_files, safetensors  # noqa: E402
from spec_decoder import compile_text  # noqa: E402

ZIPLLM = os.path.abspath(sys.argv.pop(1))
LIBRARY = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
if shutil.which("cc"):  # once for all decoders
    os.environ["SPEC_TEXT_LIBRARY"] = compile_text(LIBRARY.name)


def run(*command):
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{command}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def described(root):
    """path -> (kind, mode, time, contents or target) of all below a folder."""
    result = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        if path.is_symlink():
            facts = "symlink", os.readlink(path)
        elif path.is_dir():
            facts = "directory", status.st_mode, status.st_mtime_ns
        else:
            facts = "file", status.st_mode, status.st_mtime_ns, path.read_bytes()
        result[str(path.relative_to(root))] = facts
    return result


def listed_by_command(archive):
    entries = []
    for entry in json.loads(run(ZIPLLM, "list", "--json", archive))["archives"][0]["entries"]:
        entries.append({
            "kind": entry["kind"], "path": entry["path"], "mode": entry.get("mode"),
            "mtime": list(entry["mtime"].values()) if "mtime" in entry else None,
            "target": entry.get("link_target"), "size": entry.get("size"),
            "sha256": entry.get("sha256"), "format": entry.get("format"),
            "tensors": [(t["name"], t["dtype"], t["shape"], t["length"])
                        for t in entry.get("tensors", [])]})
    return entries


def decode(archive, out, bases):
    """Restores the files with the other decoder; what it lists."""
    entries = []
    for line in run(sys.executable, DECODER, "--list", *bases, "-o", out, archive).splitlines():
        entry = json.loads(line)
        entries.append({key: entry.get(key) for key in (
            "kind", "path", "mode", "mtime", "target", "size", "sha256", "format")})
        entries[-1]["tensors"] = [(s["name"], s["dtype"], s["shape"], s["length"])
                                  for s in entry.get("segments", []) if s["name"]]
    return entries


def part_of_model(path, largest=300_000):
    """A safetensors file of tensors of another: not above so many bytes each, nor twice together."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors, total = {}, 0
    for name, tensor in sorted(json.loads(data[8:8 + size]).items()):
        begin, end = tensor.get("data_offsets", (0, 0))
        if begin < end <= begin + largest and total + end - begin < 2 * largest:
            tensors[name] = tensor["dtype"], tensor["shape"], data[8 + size + begin:8 + size + end]
            total += end - begin
    return safetensors(tensors)


class Archives(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()  # pylint: disable=consider-using-with
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.source = random.Random(5)

    def compare(self, path, *options, bases=()):
        scratch = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        archive, theirs, ours = (scratch / name for name in ("a.zllm", "theirs", "ours"))
        bases = [option for base in bases for option in ("--base", base)]
        run(ZIPLLM, "compress", "-q", *options, *bases, "-o", archive, path)
        if path.is_file():
            theirs.mkdir()
        run(ZIPLLM, "decompress", "-q", *bases, "-o", theirs, archive)
        self.assertEqual(decode(archive, ours, bases), listed_by_command(archive))
        if path.is_file():
            for out in (theirs, ours):
                self.assertEqual(described(out)[path.name], described(path.parent)[path.name])
        else:
            self.assertEqual(described(theirs), described(path))
            self.assertEqual(described(ours), described(path))
        return archive

    def compare_file(self, name, data, *options, bases=()):
        folder = self.folder / "in"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        return self.compare(folder / name, *options, bases=bases)

    def test_sizes(self):
        for size in (0, 1, 16, 17, 128, 240, 241, 1024, 1025, 70_000):
            with self.subTest(size):
                self.compare_file("noise", self.source.randbytes(size))

    def test_text_at_each_level(self):
        text = b"".join(b"%d times %d is %d\n" % (i, i, i * i) for i in range(500))
        for level in (1, 3, 6, 9):
            with self.subTest(level):
                self.compare_file("text", text, f"-{level}")

    def float_tensors(self, count):
        many = bell(self.source, count)
        embedding = floats("BF16", many)
        few = many[:count // 4]
        upcast = b"".join(b"\0\0" + floats("BF16", [value]) for value in few)
        return safetensors({
            "embed": ("BF16", [count], embedding), "head": ("BF16", [count // 10, 10], embedding),
            "half": ("F16", [len(few)], floats("F16", few)),
            "single": ("F32", [len(few)], floats("F32", few)),
            "upcast": ("F32", [len(few)], upcast),
            "of half": ("F32", [len(few)], b"".join(
                struct.pack("<f", struct.unpack("<e", struct.pack("<e", value))[0])
                for value in few)),
            "double": ("F64", [len(few)], floats("F64", few)),
            "noise": ("BF16", [len(few)], self.source.randbytes(2 * len(few))),
            "few": ("BF16", [3], embedding[:6])})

    def test_float_tensors(self):
        # Above 65,536: four streams. At 9 models are mixed, which takes the decoder long.
        for level, count in ((1, 20_020), (3, 70_000), (9, 6010)):
            with self.subTest(level):
                self.compare_file("m.safetensors", self.float_tensors(count), f"-{level}")

    def test_integers_and_gguf(self):
        self.compare_file("i.safetensors", safetensors({
            "ids": ("I64", [5000], struct.pack("<5000q", *range(0, 35_000, 7))),
            "i32": ("I32", [5000], struct.pack("<5000i", *range(5000))),
            "i16": ("I16", [999], struct.pack("<999h", *range(999))),
            "mask": ("BOOL", [3000], b"\1\0\1" * 1000)}))
        self.compare_file("m.gguf", gguf({
            "q4_0": (2, [32, 100], self.source.randbytes(1800)),
            "bf16": (30, [32, 300], floats("BF16", bell(self.source, 9600))),
            "f16": (1, [32, 100], floats("F16", bell(self.source, 3200)))}))

    def test_tree(self):
        root = self.folder / "model"
        (root / "sub" / "empty").mkdir(parents=True)
        for name, data in model_files().items():
            (root / name).write_bytes(data)
            shutil.copy(root / name, root / "sub" / name)
        (root / "nothing").write_bytes(b"")
        (root / "link").symlink_to("../elsewhere")
        (root / "sub" / "old").write_bytes(b"old")
        os.utime(root / "sub" / "old", ns=(0, -123_456_789))
        (root / "config.json").chmod(0o600)
        os.utime(root / "sub", ns=(0, 10**18 + 7))
        self.compare(root)
        self.compare(root, "-9", "--no-dedup")

    def test_concatenation(self):
        pieces = []
        for name in ("one", "two"):
            (self.folder / name).write_bytes(name.encode() * 100)
            run(ZIPLLM, "compress", "-q", self.folder / name)
            pieces.append((self.folder / f"{name}.zllm").read_bytes())
        (self.folder / "both.zllm").write_bytes(b"".join(pieces))
        run(sys.executable, DECODER, "-o", self.folder / "out", self.folder / "both.zllm")
        for name in ("one", "two"):
            self.assertEqual((self.folder / "out" / name).read_bytes(), name.encode() * 100)

    def test_related_models(self):
        bases, targets = related_files()
        for name, data in bases.items():
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_bytes(data)
        for name, levels, data, needed, _ in targets:
            for level in levels[:2]:  # golden vectors are of all
                if level == 9 and name not in ("tuned", "checkpoint"):
                    continue  # mixing takes long here; the vectors have the others
                with self.subTest(name, level=level):
                    there = [base for base in needed if base in bases]
                    self.compare_file(f"{name}.safetensors", data, f"-{level}",
                                      bases=[self.folder / base for base in there])

    def test_bases_that_are_archives(self):
        bases, _ = related_files()
        model = bases["bases/model.safetensors"]
        first = self.compare_file("model.safetensors", model)
        second = self.compare_file("tuned.safetensors", bases["bases/tuned.safetensors"],
                                   bases=[first])
        again = self.compare_file("again.safetensors", bases["bases/tuned.safetensors"],
                                  bases=[second, first])
        self.assertLess(again.stat().st_size, 2000)  # all copied
        folder = self.folder / "archives"
        folder.mkdir()
        shutil.copy(first, folder / "1.zllm")
        shutil.copy(second, folder / "2.zllm")
        self.compare_file("model.safetensors", model, bases=[folder])

    def test_real_family(self):
        family = DATA / "family"
        if not family.exists():
            self.skipTest(f"{family} is not here")
        base = self.folder / "base.safetensors"
        base.write_bytes(part_of_model(family / "base.bf16.safetensors"))
        for name in ("ft-d-purebf16", "ft-a", "ft-lora8"):
            with self.subTest(name):
                self.compare_file("tuned.safetensors",
                                  part_of_model(family / f"{name}.bf16.safetensors"), bases=[base])

    def test_real_files(self):
        names = ("family/ft-lora8.adapter.safetensors", "ladder/mpnet-part.Q4_K_M.gguf",
                 "README.md")
        there = [DATA / name for name in names if (DATA / name).exists()]
        if not there:
            self.skipTest(f"{DATA} is not here")
        for path in there:
            with self.subTest(path.name):
                self.compare(path)


if __name__ == "__main__":
    unittest.main()
