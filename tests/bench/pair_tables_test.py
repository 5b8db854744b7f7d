#!/usr/bin/env python3
"""The pure functions of bench/pairs: its tables, casts, and files made for peers."""
import array
import os
import struct
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import pair_tables  # noqa: E402
import safetensors_io  # noqa: E402
import tools  # noqa: E402


def result(tool, method, size):
    return {"tool": tool, "method": method, "size": size,
            "compress": {"wall": 0.5}, "decompress": {"wall": 0.25}}


def pair(ours, goals):
    return {"elements": 8000, "size": 16000, "goals": goals, "machine": "M.",
            "results": [result("lmz", "append", 2000), result("BitX", "-19", 1600),
                        result("BitX", "-3", 1900)] + ours}


class PairsTable(unittest.TestCase):
    def row(self, data):
        head, _, row = pair_tables.pairs_table({"x": data})
        return dict(zip(head.split("|")[1:-1], (cell.strip() for cell in row.split("|")[1:-1])))

    def test_bits_a_weight_and_the_best_peer(self):
        row = self.row(pair([], {}))
        self.assertEqual(row[" BitX "], "**1.600**")
        self.assertEqual(row[" lmz "], "2.000")
        self.assertEqual(row[" zipllm -3 "], "-")

    def test_goals_beside_the_best_a_peer_and_alone(self):
        ours = [result("zipllm", "-3", 1200)]
        for goal, word in (([0.75, "best"], "met"), ([0.74, "best"], "MISSED"),
                           ([0.6, "lmz"], "met"), ([0.59, "lmz"], "MISSED"),
                           ([1.2, ""], "met"), ([1.19, ""], "MISSED")):
            with self.subTest(goal=goal):
                table = pair_tables.pairs_table({"x": pair(ours, {"-3": [goal]})})
                self.assertEqual(table[2].count("met"), word == "met")
                self.assertEqual(table[2].count("MISSED"), word == "MISSED")

    def test_a_goal_beside_a_peer_that_did_not_run_is_open(self):
        data = pair([result("zipllm", "-3", 1200)], {"-3": [[0.9, "glyd"]]})
        row = pair_tables.pairs_table({"x": data})[2]
        self.assertIn("≤ 0.9 glyd |", row)

    def test_all_methods_the_smallest_first(self):
        rows = pair_tables.methods_table({"x": pair([], {})})[2:]
        self.assertEqual([row.split("|")[2].strip() for row in rows],
                         ["BitX -19", "BitX -3", "lmz append"])


class SpeedTable(unittest.TestCase):
    def test_rates_beside_lmz(self):
        fast = result("zipllm", "-3", 1000) | {"compress": {"wall": 0.125}}
        rows = pair_tables.speed_table(pair([fast], {}))[2:]
        self.assertEqual([cell.strip() for cell in rows[-1].split("|")[1:-1]],
                         ["zipllm -3", "1.000", "0.13", "4.0 x", "0.064", "1.0 x"])

    def test_a_pair_for_speed_is_not_among_the_others(self):
        lines = pair_tables.markdown({"x": pair([], {}), "y": pair([], {}) | {"speed": True}})
        self.assertEqual(sum(line.startswith("| y ") for line in lines), 0)
        self.assertEqual(sum("Speed: y" in line for line in lines), 1)


class Safetensors(unittest.TestCase):
    def test_fp32_is_rounded_to_the_nearest_bf16_ties_to_even(self):
        words = [0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF80C000,
                 0x7F800000]
        single = safetensors_io.Tensor("F32", [7], struct.pack("<7I", *words))
        rounded = safetensors_io.cast(single, "BF16")
        self.assertEqual(array.array("H", rounded.data).tolist(),
                         [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xBF81, 0x7F80])
        self.assertEqual(safetensors_io.cast(rounded, "F32").data,
                         struct.pack("<7I", *(x << 16 for x in array.array("H", rounded.data))))

    def test_what_is_written_is_read(self):
        tensors = {"b": safetensors_io.Tensor("BF16", [2, 3], bytes(range(12))),
                   "a": safetensors_io.Tensor("F32", [], b"abcd")}
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.safetensors")
            safetensors_io.write(path, tensors)
            read = safetensors_io.read(path)
        self.assertEqual(read, tensors)
        self.assertEqual(list(read), ["b", "a"])
        self.assertEqual([t.elements for t in read.values()], [6, 1])


class BitX(unittest.TestCase):
    def test_gives_the_file_back(self):
        try:
            import numpy  # noqa: F401
            import zstandard  # noqa: F401
        except ImportError:
            self.skipTest("needs numpy and zstandard")
        old = {"a": safetensors_io.Tensor("BF16", [4], b"12345678"),
               "b": safetensors_io.Tensor("F32", [1], b"wxyz")}
        new = {"b": safetensors_io.Tensor("F32", [1], b"wxyA"),
               "c": safetensors_io.Tensor("BF16", [1], b"xx"),
               "a": safetensors_io.Tensor("BF16", [4], b"12345679")}
        with tempfile.TemporaryDirectory() as folder:
            base, target = os.path.join(folder, "base"), os.path.join(folder, "target")
            safetensors_io.write(base, old)
            safetensors_io.write(target, new)
            compress, decompress = tools.peer("bitx").load_against("-3", "bf16", 1, base)
            with open(target, "rb") as f:
                data = f.read()
        self.assertEqual(decompress(compress(data)), data)


if __name__ == "__main__":
    unittest.main()
