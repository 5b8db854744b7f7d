"""pcodec: numbers of one type; BF16 as 16-bit integers, which it has no other name for."""
NAME = "pcodec"
PACKAGES = ("pcodec", "numpy")
THREADS = (1,)
SLOW = ("level 12",)
DTYPES = {"bf16": "uint16", "fp16": "float16", "fp32": "float32", "fp8": "uint8"}


def methods(dtype):
    return ["level 8", "level 12"] if dtype in DTYPES else []


def load(method, dtype, threads):
    import numpy
    from pcodec import ChunkConfig, standalone
    kind = numpy.dtype(DTYPES[dtype])
    config = ChunkConfig(compression_level=int(method.split()[1]), enable_8_bit=True)

    def compress(data):
        """The numbers; then what is left of the file and its length."""
        whole = len(data) // kind.itemsize * kind.itemsize
        numbers = numpy.frombuffer(data[:whole], kind)
        rest = data[whole:]
        return standalone.simple_compress(numbers, config) + rest + bytes([len(rest)])

    def decompress(data):
        rest = data[-1]
        numbers = standalone.simple_decompress(data[:len(data) - 1 - rest])
        return numbers.tobytes() + data[len(data) - 1 - rest:-1]

    return compress, decompress
