"""ZipNN: exponents apart from the rest, Huffman."""
NAME = "ZipNN"
PACKAGES = ("zipnn", "numpy", "torch")
THREADS = (1, 2)
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp8": "float8_e4m3fn"}
# Its threshold gives up on FP8, whose bytes shrink by less than it expects.
OPTIONS = {"default": {},
           "no threshold": {"compression_threshold": 1.0, "check_th_after_percent": 100}}


def methods(dtype):
    if dtype not in DTYPES:
        return []
    return ["no threshold"] if dtype == "fp8" else ["default"]


def load(method, dtype, threads):
    from zipnn import ZipNN

    def codec():
        return ZipNN(input_format="byte", bytearray_dtype=DTYPES[dtype], threads=threads,
                     **OPTIONS[method])

    return lambda data: codec().compress(data), lambda data: codec().decompress(data)


def methods_against(dtype):
    return ["delta"] if dtype in DTYPES else []


def load_against(method, dtype, threads, base_path):
    """XOR of files of one length."""
    from zipnn import ZipNN
    with open(base_path, "rb") as f:
        base = f.read()

    def codec():
        return ZipNN(input_format="byte", bytearray_dtype=DTYPES[dtype], threads=threads,
                     delta_compressed_type="byte")

    return ((lambda data: codec().compress(data, delta_second_data=base)),
            lambda data: codec().decompress(data, delta_second_data=base))
