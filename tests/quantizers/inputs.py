"""The weights of Plain() and what AnyBytes() gives, inputs.cc."""
import numpy as np


class Draws:
    """Knuth's generator of 64 bits."""

    def __init__(self, seed):
        self.state = seed

    def next(self, bits):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return self.state >> (64 - bits)

    def bell(self):
        return (sum(self.next(16) for _ in range(4)) - 2 * 65535) * 2.0**-20


def plain():
    draws = Draws(1)
    weights = []
    for _ in range(16 * 1024 // 32):
        kind = draws.next(4)
        constant = draws.bell()
        scale = 2.0**-draws.next(2)
        for _ in range(32):
            bell = draws.bell()
            weights.append(0.0 if kind == 0 else constant if kind == 1 else
                           bell * 2.0**-16 if kind == 2 else bell * scale)
    importance = [draws.next(12)**2 * 2.0**-24 for _ in range(1024)]
    return (np.array(weights, np.float32).reshape(16, 1024), np.array(importance, np.float32))


def any_bytes(count):
    draws = Draws(3)
    return bytes(draws.next(8) for _ in range(count))
