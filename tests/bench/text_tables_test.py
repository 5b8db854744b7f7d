#!/usr/bin/env python3
"""The pure functions of bench/text: its tables."""
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import text_tables  # noqa: E402


def result(tool, method, size, seconds):
    step = {"wall": seconds, "peak": 3 << 20}
    return {"tool": tool, "method": method, "size": size, "compress": step,
            "decompress": {"wall": seconds / 2, "peak": 2 << 20}}


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


DATA = {
    "book": {"size": 8_000_000, "machine": "M.", "results": [
        result("zipllm", "-3", 1_000_000, 4), result("zipllm", "-3 --no-verify", 1_000_000, 2),
        result("bzip3", "-b 16", 1_100_000, 1), result("zstd", "-19", 1_500_000, 8)]},
    "enwik8's first 200 KB": {"size": 200_000, "machine": "M.", "results": [
        result("zipllm with tiny", "-9 --text-model tiny.gguf", 30_000, 100)]},
}


class TextTables(unittest.TestCase):
    def test_sizes_and_the_best_peer(self):
        lines = text_tables.size_table({"book": DATA["book"]})
        rows = dict(cells(line) for line in lines[2:])
        self.assertEqual(rows, {"(as it is)": "8,000,000", "zipllm -3": "1,000,000",
                                "bzip3 -b 16": "**1,100,000**", "zstd -19": "1,500,000"})

    def test_speed_with_verification_and_without(self):
        lines = text_tables.speed_table(DATA["book"])
        rows = {cells(line)[0]: cells(line)[1:] for line in lines[2:]}
        self.assertEqual(rows["zipllm -3"], ["1,000,000", "1.000", "2", "4", "4", "3", "2"])
        self.assertEqual(rows["bzip3 -b 16"], ["1,100,000", "1.100", "8", "", "16", "3", "2"])
        self.assertNotIn("zipllm -3 --no-verify", rows)

    def test_the_short_file_has_a_table_of_its_own(self):
        text = "\n".join(text_tables.markdown(DATA))
        self.assertIn("M.", text)
        self.assertIn("enwik8's first 200 KB: speed", text)
        head = next(line for line in text.splitlines() if line.startswith("| tool | book"))
        self.assertNotIn("200 KB", head)


if __name__ == "__main__":
    unittest.main()
