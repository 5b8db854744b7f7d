#!/usr/bin/env python3
"""The pure functions of bench/logs: its tables; and make_log.py."""
import io
import os
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))
import log_tables  # noqa: E402
import make_log  # noqa: E402


def result(tool, method, size, seconds):
    return {"tool": tool, "method": method, "size": size, "compress": {"wall": seconds},
            "decompress": {"wall": seconds / 2}}


def cells(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


LOGS = {
    "a": {"size": 6_000_000, "results": [
        result("zipllm", "-3", 1000, 2), result("zipllm", "-3 --no-verify", 1000, 1),
        result("xz", "-9e", 1250, 3), result("glyd", "cold", 900, 30)]},
    "b": {"size": 4_000_000, "results": [
        result("zipllm", "-3", 2000, 3), result("zipllm", "-3 --no-verify", 2000, 1),
        result("xz", "-9e", 2750, 7)]},
}


class LogTables(unittest.TestCase):
    def test_sizes_totals_and_speed(self):
        rows = {cells(line)[0]: cells(line)[1:] for line in log_tables.size_table(LOGS, True)}
        self.assertEqual(rows["file"], ["as it is", "-3", "glyd cold", "xz -9e"])
        self.assertEqual(rows["a"], ["6,000,000", "1,000", "**900**", "1,250"])
        self.assertEqual(rows["total"], ["10,000,000", "3,000", "", "**4,000**"])
        self.assertEqual(rows["of xz"], ["", "75.0 %", "", "100.0 %"])
        self.assertEqual(rows["compress MB/s"], ["", "2", "", "1"])
        self.assertEqual(rows["not verified"], ["", "5", "", ""])
        self.assertEqual(rows["decompress MB/s"], ["", "4", "", "2"])

    def test_search(self):
        grep = {"machine": "M.", "word": "w", "level": 3, "size": 500e6, "packed": 16e6, "found": 7,
                "seconds": {"zipllm grep": 0.5, "zipllm cat and grep": 5.0}}
        text = "\n".join(log_tables.markdown({"grep": grep}))
        self.assertIn("on M.", text)
        self.assertIn("| zipllm cat and grep | 5.00 | 10.0 x |", text)


LINES = {
    "iso": b"2026-11-22 23:59:05,123 INFO job 000123 of 0xdeadbeef12 at 10.0.0.7 took 12 ms\n",
    "web": b'10.1.1.1 - - [31/Dec/2025:23:58:01 -0400] "GET / HTTP/1.1" 200 7 "-"\n',
    "syslog": b"Feb  8 01:02:03 host sshd[24200]: Invalid user\n",
    "epoch": b"1521911720.865716\tabc\t7\n",
    "packed": b"081109 203615 148 INFO dfs.DataNode\n",
}


class MakeLog(unittest.TestCase):
    def make(self, text, size, **options):
        with tempfile.NamedTemporaryFile() as sample:
            sample.write(text)
            sample.flush()
            out = io.BytesIO()
            word, lines = make_log.make(out, [sample.name], size, **options)
            return out.getvalue(), word, lines

    def test_times_move_on_and_all_else_keeps_its_form(self):
        later = {"iso": b"2026-11-23 00:06:05,123 INFO job 0", "web": b"[01/Jan/2026:00:05:01 -0400]",
                 "syslog": b"Feb  8 01:09:03 host", "epoch": b"1521912140.865716\tabc\t7",
                 "packed": b"081109 204315 148 INFO"}
        for name, line in LINES.items():
            with self.subTest(name):
                log = self.make(line, 3 * len(line), rare=0)[0].splitlines(keepends=True)
                self.assertEqual(log[0], line)
                self.assertIn(later[name], log[1])
                self.assertEqual(len(log[1]), len(line))

    def test_the_same_arguments_make_the_same_log(self):
        text = b"".join(LINES.values()) * 50
        log, word, lines = self.make(text, 100_000)
        self.assertEqual(self.make(text, 100_000), (log, word, lines))
        self.assertNotEqual(self.make(text, 100_000, seed=2)[0], log)
        self.assertGreaterEqual(len(log), 100_000)
        self.assertTrue(log.endswith(b"\n"))

    def test_rare_lines_are_where_it_says(self):
        log, word, lines = self.make(b"".join(LINES.values()) * 50, 200_000, rare=5)
        self.assertEqual([i + 1 for i, line in enumerate(log.splitlines()) if word in line], lines)
        self.assertEqual(len(lines), 5)
        self.assertEqual(log.count(word), 5)

    def test_what_only_looks_like_a_date_stays(self):
        line = b"2026-99-99 77:88:99 and 99/Foo/2026:12:00:00 and Feb 31 25:61:00 x\n"
        log = self.make(line, 2 * len(line), rare=0)[0].splitlines(keepends=True)
        self.assertEqual(len(log[1]), len(line))


if __name__ == "__main__":
    unittest.main()
