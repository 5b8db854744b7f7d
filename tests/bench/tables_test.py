#!/usr/bin/env python3
"""The pure functions of bench/: tables from measurements, and what codec_bench prints."""
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import pair_tables  # noqa: E402
import tables  # noqa: E402
import tools  # noqa: E402


def result(tool, method, size, threads=1, seconds=1.0):
    step = {"wall": seconds, "cpu": seconds, "peak": 3 << 20}
    return {"tool": tool, "method": method, "threads": threads, "size": size,
            "compress": step, "decompress": step}


class RatioTable(unittest.TestCase):
    def test_each_peer_has_its_best_method_and_the_best_peer_is_bold(self):
        files = {"a": {"size": 1000, "results": [
            result("zipllm", "-1", 700), result("zipllm", "-9", 600),
            result("glyd", "max", 660), result("glyd", "cold", 650),
            result("lmz", "default", 655)]}}
        head, _, row = tables.ratio_table(files)
        self.assertEqual(head, "| file | MB | -1 | -3 | -6 | -9 | glyd | lmz |")
        self.assertEqual(row, "| a | 0.0 | 70.00 |  |  | 60.00 | **65.00** | 65.50 |")

    def test_a_peer_that_took_one_file_alone_leaves_the_others_empty(self):
        files = {"a": {"size": 10, "results": [result("xz", "-6", 5)]},
                 "b": {"size": 10, "results": []}}
        self.assertEqual(tables.ratio_table(files)[-1], "| b | 0.0 |  |  |  |  |  |")


class SpeedTable(unittest.TestCase):
    def test_rates_are_of_the_plain_bytes_and_beside_zstd_3(self):
        file = {"size": 8_000_000, "results": [
            result("zstd", "-3", 4_000_000, seconds=2.0),
            result("zipllm", "-3", 2_000_000, threads=2, seconds=0.5)]}
        row = tables.speed_table(file)[-1]
        self.assertTrue(row.startswith("| zipllm -3 | 2 | 25.00 | 16 | 4.00 x | 0.50 | 3 |"), row)


class CodecBench(unittest.TestCase):
    TEXT = """f.safetensors: 1000 bytes of bf16 in 3 frames, level 3, avx2
  ratio 0.6581 (classes 90.0 %, store 10.0 %)
  memcpy               9000 MB/s  100.0 % of memcpy
  plan + encode        1000 MB/s   11.1 % of memcpy
  decode + XXH3        4500 MB/s   50.0 % of memcpy
"""

    def test_reads_what_it_prints(self):
        got = tables.codec_bench(self.TEXT)
        self.assertEqual((got["size"], got["dtype"], got["level"], got["cpu"], got["ratio"]),
                         (1000, "bf16", 3, "avx2", 0.6581))
        self.assertEqual(got["rates"], {"memcpy": 9000, "plan + encode": 1000,
                                        "decode + XXH3": 4500})

    def test_refuses_something_else(self):
        with self.assertRaises(ValueError):
            tables.codec_bench("usage: codec_bench")

    def test_shares_are_of_the_memcpy_beside(self):
        table = tables.memory_table({"size": 1000, "levels": [tables.codec_bench(self.TEXT)],
                                     "results": []})
        self.assertEqual(table[-1],
                         "| zipllm -3 | avx2 | 65.81 | 1,000 | 11.1 % | 4,500 | 50.0 % |")


class Markdown(unittest.TestCase):
    def test_the_machine_is_told_once_where_all_parts_ran_on_it(self):
        def part(machine):
            return {"machine": machine, "files": {"a": {"size": 1, "results": [], "levels": [],
                                                        "memcpy": 1}}}
        one = "\n".join(tables.markdown({"ratio": part("X."), "memory": part("X.")}))
        two = "\n".join(tables.markdown({"ratio": part("X."), "memory": part("Y.")}))
        self.assertEqual(one.count("X."), 1)
        self.assertEqual((two.count("X."), two.count("Y.")), (1, 1))


class Readme(unittest.TestCase):
    def test_replaces_what_is_between_the_markers(self):
        def text(of):
            return (f"a\n<!-- pairs:begin -->\nold\n<!-- pairs:end -->\n"
                    f"<!-- bench:begin -->\n{of}\n<!-- bench:end -->\nb\n")
        self.assertEqual(tables.between_markers(text("old"), ["x", "y", ""]), text("x\ny"))

    def test_markers_have_names(self):
        self.assertEqual(tables.between_markers("<!-- p:begin --><!-- p:end -->", ["x"], "p"),
                         "<!-- p:begin -->\nx\n<!-- p:end -->")

    def test_markers_must_be_there(self):
        with self.assertRaises(ValueError):
            tables.between_markers("no markers", [])


class Peers(unittest.TestCase):
    def test_each_has_the_interface_without_its_library(self):
        for name in tools.peer_names():
            module = tools.peer(name)
            with self.subTest(peer=name):
                self.assertTrue(module.PACKAGES)
                self.assertIn(1, module.THREADS)
                if module.methods("bf16"):
                    self.assertIn(module.NAME, tables.PEERS)
                    self.assertTrue(callable(module.load))
                if hasattr(module, "methods_against"):
                    self.assertIn(module.NAME, pair_tables.PEERS)
                    self.assertTrue(callable(module.load_against))
                for dtype in ("bf16", "fp16", "fp32", "fp8", "quant"):
                    self.assertEqual(len(set(module.methods(dtype))), len(module.methods(dtype)))


class Programs(unittest.TestCase):
    def test_one_that_fails_is_told(self):
        tool = tools.Program("false", "", 1, ["false"], ["false"])
        with self.assertRaisesRegex(tools.Failed, "exit status 1"):
            tool.step("compress", "/dev/null", "/dev/null", 10)

    def test_one_that_takes_too_long_is_ended(self):
        tool = tools.Program("sleep", "", 1, ["sleep", "60"], [])
        with self.assertRaisesRegex(tools.Failed, "more than"):
            tool.step("compress", "/dev/null", "/dev/null", 0.1)


if __name__ == "__main__":
    unittest.main()
