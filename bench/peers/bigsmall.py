"""BigSmall: safetensors alone, tensor by tensor, arithmetic coding. It gives the tensors back
under a header of its own, so the tensors are compared."""
import json
import os
import struct

NAME = "bigsmall"
PACKAGES = ("bigsmall", "torch")
THREADS = (1, 2)
FILES = True
SUFFIX = ".safetensors"


def methods(dtype):
    return ["storage"]


def tensors(path):
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(length))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def same(source, unpacked):
    return tensors(source) == tensors(unpacked)


def load(method, dtype, threads):
    import bigsmall

    def compress(source, packed):
        bigsmall.compress(source, packed + ".bs", mode=method, workers=threads, progress=False)
        os.replace(packed + ".bs", packed)

    def decompress(packed, unpacked):
        bigsmall.decompress(packed, unpacked, progress=False)

    return compress, decompress


def methods_against(dtype):
    return ["delta"]


def load_against(method, dtype, threads, base_path):
    import bigsmall

    def compress(source, packed):
        bigsmall.compress_delta(source, base_path, packed + ".bs", mode="storage",
                                workers=threads, progress=False)
        os.replace(packed + ".bs", packed)

    def decompress(packed, unpacked):
        bigsmall.decompress_delta(packed, base_path, unpacked, progress=False)

    return compress, decompress
