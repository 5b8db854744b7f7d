"""Compresses and decompresses files by ZipNN for bench/run: a line of three paths (input, packed,
unpacked; tabs between) is answered by a line of JSON with the seconds each took, file to file."""
import json
import sys
import time

from zipnn import ZipNN

DTYPE = sys.argv[1]

for line in sys.stdin:
    source, packed, unpacked = line.rstrip("\n").split("\t")
    start = time.perf_counter()
    with open(source, "rb") as f:
        data = f.read()
    coded = ZipNN(input_format="byte", bytearray_dtype=DTYPE, threads=1).compress(data)
    with open(packed, "wb") as f:
        f.write(coded)
    middle = time.perf_counter()
    with open(packed, "rb") as f:
        coded = f.read()
    plain = ZipNN(input_format="byte", bytearray_dtype=DTYPE, threads=1).decompress(coded)
    with open(unpacked, "wb") as f:
        f.write(plain)
    end = time.perf_counter()
    print(json.dumps({"compress": middle - start, "decompress": end - middle}), flush=True)
