#!/usr/bin/env python3
"""The second implementation of quantizers makes what libgguf makes, as tests/quantizers has it."""
import hashlib
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools'))
sys.path.insert(0, str(ROOT / 'tests/quantizers'))

try:
    import numpy
except ImportError:
    numpy = None

# A few of them: each takes up to a second.
NUMBERS = (2, 4, 7, 17, 18, 19, 20, 25, 33, 34, 80, 81, 82)


@unittest.skipIf(numpy is None, 'numpy is not here')
class Quantizers(unittest.TestCase):
    def test_hashes(self):
        import inputs
        import spec_quantizers
        text = (ROOT / 'tests/quantizers/golden_test.cc').read_text()
        golden = dict(re.findall(r'\{(\d+),\s*"([0-9a-f]{64})"\}', text))
        weights, importance = inputs.plain()
        for number in NUMBERS:
            with self.subTest(number=number):
                blocks = spec_quantizers.QUANTIZERS[number](weights, importance)
                self.assertEqual(hashlib.sha256(blocks).hexdigest(), golden[str(number)])


if __name__ == '__main__':
    unittest.main()
