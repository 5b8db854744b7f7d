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


def methods_against(dtype):
    return ["with base", "with base, ultra"]


def load_against(method, dtype, threads, base_path):
    import glyd
    with open(base_path, "rb") as f:
        base = f.read()
    ultra = method.endswith("ultra")
    return ((lambda data: glyd.compress_with_base(base, data, ultra=ultra)),
            lambda data: glyd.decompress_with_base(base, data))
