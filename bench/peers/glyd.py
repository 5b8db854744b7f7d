"""Glyd: its levels for the smallest result. Cold is a context mixer: minutes for a large file."""
NAME = "glyd"
PACKAGES = ("glyd",)
THREADS = (1, 2)
SLOW = ("cold",)  # for the smallest size alone


def methods(dtype):
    return ["max", "cold"]


def load(method, dtype, threads):
    import glyd
    return (lambda data: glyd.compress(data, level=method, threads=threads)), glyd.decompress
