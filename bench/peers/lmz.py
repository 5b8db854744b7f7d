"""lmz (lmzip): the archiver's own chunks of 8 MiB, smaller ones, and shared tables."""
import os
import shutil

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


def methods_against(dtype):
    return ["append"]


def load_against(method, dtype, threads, base_path):
    """Counted is what an archive of the base grows by."""
    import lmz
    alone = base_path + ".lmz"
    lmz.compress(base_path, alone, workers=threads)
    members = []

    def prepare(source, packed):
        shutil.copyfile(alone, packed)
        members.append(os.path.basename(source))

    def compress(source, packed):
        lmz.append(packed, source, workers=threads)
        return os.path.getsize(packed) - os.path.getsize(alone)

    def decompress(packed, unpacked):
        lmz.extract(packed, members[-1], unpacked, overwrite=True, workers=threads)

    compress.prepare = prepare
    return compress, decompress
