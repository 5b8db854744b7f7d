"""z4ai: the chunked pipeline in C, the default that searches, and the high effort with Brotli."""
NAME = "z4ai"
PACKAGES = ("z4ai", "brotli", "numpy", "zstandard")
THREADS = (1, 2)
SLOW = ("default", "effort max")
DTYPES = {"bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}


def methods(dtype):
    return ["chunked", "default", "effort max"]


def load(method, dtype, threads):
    import z4ai
    from z4ai import chunked
    name = DTYPES.get(dtype)
    if method == "chunked":
        return ((lambda data: chunked.compress(data, dtype=name, threads=threads)),
                lambda data: chunked.decompress(data, threads=threads))
    effort = "max" if method == "effort max" else None
    return (lambda data: z4ai.compress(data, dtype=name, threads=threads, effort=effort),
            z4ai.decompress)


def methods_against(dtype):
    return ["model delta"]


def load_against(method, dtype, threads, base_path):
    from z4ai import model_delta
    with open(base_path, "rb") as f:
        base = f.read()
    return ((lambda data: model_delta.compress(data, base, threads=threads)),
            lambda data: model_delta.decompress(data, base))
