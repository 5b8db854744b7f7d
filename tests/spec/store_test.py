#!/usr/bin/env python3
"""A store that the command makes, read by the command and by the reader written from
format-spec/store.md: both must give what went in.

usage: store_test.py ZIPLLM
"""
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
READER = ROOT / "tools" / "spec_store.py"
sys.path[:0] = [str(ROOT / "format-spec"), str(ROOT / "tools")]

from archives_test import ZIPLLM, described, run  # noqa: E402
from make_vectors import bell, floats, safetensors  # noqa: E402
from spec_decoder import Damaged  # noqa: E402
from spec_store import Store  # noqa: E402

ROWS, COLUMNS = 48, 96


def read(store, name, target):
    return subprocess.run([sys.executable, READER, store, name, target], capture_output=True,
                          check=False)


def moved(source, values, size):
    return [value + size * step for value, step in zip(values, bell(source, len(values)))]


class Stores(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.store = cls.folder / "store"
        run(ZIPLLM, "store", "init", cls.store)
        source = random.Random(3)
        weights = {name: bell(source, ROWS * COLUMNS) for name in ("q", "k")}
        cls.models = {}
        # Each is made of the one before it: chains that are as deep as they may be.
        for step in range(5):
            cls.add(f"org/model@v{step}", weights)
            weights = {name: moved(source, values, 0.02) for name, values in weights.items()}
        cls.add("cast@%F32 \u00e9", weights, "F32")
        cls.add("again@main", weights, "F32")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    @classmethod
    def add(cls, name, weights, kind="BF16"):
        root = cls.folder / f"in{len(cls.models)}"
        (root / "sub").mkdir(parents=True)
        (root / "model.safetensors").write_bytes(safetensors(
            {key: (kind, [ROWS, COLUMNS], floats(kind, values)) for key, values in weights.items()}))
        (root / "config.json").write_text('{"hidden_size": 96}')
        (root / "README.md").write_text("# A model\n" * 30)
        (root / "empty").touch(0o600)
        (root / "sub" / "link").symlink_to("../model.safetensors")
        run(ZIPLLM, "store", "add", "--no-sync", cls.store, name, root)
        cls.models[name] = root

    def check(self):
        """Reads all models; returns the names of those that are damaged."""
        damaged = []
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            store = Store(self.store, scratch)
            for name, root in self.models.items():
                target = pathlib.Path(scratch, "out")
                try:
                    store.restore(*name.partition("@")[::2], target)
                    self.assertEqual(described(target), described(root), name)
                except Damaged:
                    damaged.append(name)
                shutil.rmtree(target, ignore_errors=True)
        return damaged

    def test_1_models_come_back(self):
        self.assertEqual(self.check(), [])

    def test_2_also_when_packs_were_written_anew(self):
        name = "org/model@v1"
        run(ZIPLLM, "store", "rm", self.store, name)
        del self.models[name]
        self.assertNotEqual(read(self.store, name, self.folder / "no").returncode, 0)
        run(ZIPLLM, "store", "repack", "--no-sync", self.store)
        run(ZIPLLM, "store", "gc", "--no-sync", "--grace", "0", self.store)
        self.assertEqual(self.check(), [])

    def test_3_damage_hurts_what_needs_it_and_is_told(self):
        pack = max(self.store.glob("packs/*/*.zllm"), key=lambda path: path.stat().st_size)
        good = pack.read_bytes()
        pack.chmod(0o600)
        half = len(good) // 2
        pack.write_bytes(good[:half] + bytes([good[half] ^ 1]) + good[half + 1:])
        self.assertNotEqual(self.check(), [])
        pack.write_bytes(good)

    def test_4_what_is_newer_is_told_apart(self):
        header = self.store / "zipllm-store"
        good = header.read_bytes()
        header.write_bytes(good.replace(b"zipllm-store 1", b"zipllm-store 2"))
        done = read(self.store, "again", self.folder / "no")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"too new", done.stderr)
        header.write_bytes(good)


if __name__ == "__main__":
    unittest.main()
