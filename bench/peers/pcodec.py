"""pcodec: numbers of one type; BF16 as 16-bit integers, which it has no other name for."""
NAME = "pcodec"
PACKAGES = ("pcodec", "numpy")
THREADS = (1,)
SLOW = ("level 12", "level 12, small pages")
DTYPES = {"bf16": "uint16", "fp16": "float16", "fp32": "float32", "fp8": "uint8",
          "int32": "int32", "float32": "float32", "float64": "float64"}


def methods(dtype):
    return ["level 8", "level 12", "level 12, small pages"] if dtype in DTYPES else []


def load(method, dtype, threads):
    import numpy
    from pcodec import ChunkConfig, PagingSpec, standalone
    kind = numpy.dtype(DTYPES[dtype])
    level, _, pages = method.removeprefix("level ").partition(", ")
    page = 1 << 16 if pages else 1 << 18  # numbers; 2^18 is its default
    config = ChunkConfig(compression_level=int(level), enable_8_bit=True,
                         paging_spec=PagingSpec.equal_pages_up_to(page))

    def compress(data):
        """The numbers; what is left of the file and its length; the head of .npy and its."""
        head = data[:10 + int.from_bytes(data[8:10], "little")] if data[:6] == b"\x93NUMPY" else b""
        data = data[len(head):]
        whole = len(data) // kind.itemsize * kind.itemsize
        numbers = numpy.frombuffer(data[:whole], kind)
        rest = data[whole:]
        return (standalone.simple_compress(numbers, config) + rest + bytes([len(rest)]) + head +
                len(head).to_bytes(2, "little"))

    def decompress(data):
        size = int.from_bytes(data[-2:], "little")
        head, data = data[len(data) - 2 - size:-2], data[:len(data) - 2 - size]
        rest = data[-1]
        numbers = standalone.simple_decompress(data[:len(data) - 1 - rest])
        return head + numbers.tobytes() + data[len(data) - 1 - rest:-1]

    return compress, decompress
