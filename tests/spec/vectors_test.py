#!/usr/bin/env python3
"""The decoder written from the specification against the golden vectors."""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
import unittest.mock

ROOT = pathlib.Path(__file__).resolve().parents[2]
VECTORS = ROOT / "format-spec" / "vectors"
sys.path.insert(0, str(ROOT / "tools"))

import spec_decoder  # noqa: E402

MANIFEST = json.loads((VECTORS / "MANIFEST.json").read_text())


def decode(archive, memory_mib=512, bases=()):
    """Entries as --list has them; `bases` are names of vectors."""
    entries = []
    bases = spec_decoder.Bases(io.BytesIO((VECTORS / base).read_bytes()) for base in bases)
    decoder = spec_decoder.Decoder(io.BytesIO(archive), memory_mib << 20, bases=bases)
    with contextlib.closing(bases):
        for event, value in decoder.events():
            if event == "archive":
                entries += [spec_decoder.describe(entry) for entry in value]
    return entries


class Vectors(unittest.TestCase):
    def test_good(self):
        """Listed and restored at once: decoding takes the time."""
        with tempfile.TemporaryDirectory() as folder:
            for name, vector in MANIFEST["good"].items():
                out = pathlib.Path(folder, name)
                words = ["spec_decoder.py", "--list", "-o", str(out), str(VECTORS / name)]
                for base in vector.get("bases", ()):
                    words += ["--base", str(VECTORS / base)]
                listed = io.StringIO()
                with (self.subTest(name), contextlib.redirect_stdout(listed),
                      unittest.mock.patch("sys.argv", words)):
                    spec_decoder.main()
                    self.assertEqual([json.loads(line) for line in listed.getvalue().splitlines()],
                                     vector["entries"])
                    self.check_files(out, vector["entries"])

    def check_files(self, out, entries):
        for entry in entries:
            path = out / entry["path"].encode("latin-1").decode(
                errors="surrogateescape") if entry["path"] else out
            if entry["kind"] == "file":
                path = path / "unnamed" if path == out else path
                self.assertEqual(path.stat().st_size, entry["size"])
            elif entry["kind"] == "directory":
                self.assertTrue(path.is_dir())
            else:
                self.assertEqual(str(path.readlink()), entry["target"])

    def test_bad(self):
        for name, vector in MANIFEST["bad"].items():
            with self.subTest(name):
                with self.assertRaises(spec_decoder.Refused) as caught:
                    decode((VECTORS / name).read_bytes(), vector["memory_mib"],
                           vector.get("bases", ()))
                self.assertEqual(caught.exception.word, vector["refused"])

    def test_every_vector_is_in_the_manifest(self):
        there = {str(path.relative_to(VECTORS)) for path in VECTORS.rglob("*.zllm")}
        self.assertEqual(there, MANIFEST["good"].keys() | MANIFEST["bad"].keys())

    def test_good_ones_need_their_bases(self):
        for name, vector in MANIFEST["good"].items():
            for left in vector.get("bases", ()):
                bases = [base for base in vector["bases"] if base != left]
                with self.subTest(name, left=left), self.assertRaises(spec_decoder.NeedsBase):
                    decode((VECTORS / name).read_bytes(), bases=bases)

    def test_cut_anywhere(self):
        archive = (VECTORS / "example.zllm").read_bytes()
        for size in range(len(archive)):
            with self.subTest(size), self.assertRaises(spec_decoder.Damaged):
                decode(archive[:size])

    def test_any_bit_flipped(self):
        archive = (VECTORS / "example.zllm").read_bytes()
        for bit in range(8 * len(archive)):
            changed = bytearray(archive)
            changed[bit // 8] ^= 1 << bit % 8
            with self.subTest(bit), self.assertRaises(spec_decoder.Refused):
                decode(bytes(changed))


if __name__ == "__main__":
    unittest.main()
