"""lmz (lmzip): the archiver's own chunks of 8 MiB, smaller ones, and shared tables."""
NAME = "lmz"
PACKAGES = ("lmzip", "zstandard")
THREADS = (1, 2)
SLOW = ("default", "shared tables")
FILES = True
OPTIONS = {"default": {}, "chunks of 2 MiB": {"chunk_size": 2 << 20},
           "shared tables": {"shared_tables": True}}


def methods(dtype):
    return list(OPTIONS)


def load(method, dtype, threads):
    import lmz

    def compress(source, packed):
        lmz.compress(source, packed, workers=threads, **OPTIONS[method])

    def decompress(packed, unpacked):
        lmz.decompress(packed, unpacked, workers=threads)

    return compress, decompress
