"""hf-xet, what the Hugging Face Hub stores: chunks cut by content, LZ4 over grouped bytes.

It goes to a folder. Counted are the chunks and their index (xorbs, shards), not the local
database that stands for the server's.
"""
import json
import os

NAME = "hf-xet"
PACKAGES = ("hf-xet",)
THREADS = (1,)
FILES = True


def methods(dtype):
    return ["local"]


def size(packed):
    return sum(os.path.getsize(os.path.join(folder, name))
               for folder, _, names in os.walk(packed)
               if os.path.basename(folder) in ("xorbs", "shards")
               for name in names if not name.endswith(".redb"))


def load(method, dtype, threads):
    import hf_xet

    def compress(source, packed):
        os.mkdir(packed)
        with hf_xet.XetSession().new_upload_commit(endpoint="local://" + packed) as commit:
            upload = commit.start_upload_file(source)
        file = upload.result().xet_info
        with open(os.path.join(packed, "file.json"), "w", encoding="ascii") as f:
            json.dump([file.hash, file.file_size], f)

    def decompress(packed, unpacked):
        with open(os.path.join(packed, "file.json"), encoding="ascii") as f:
            file = hf_xet.XetFileInfo(*json.load(f))
        group = hf_xet.XetSession().new_file_download_group(endpoint="local://" + packed)
        with group:
            group.start_download_file(file, unpacked)

    return compress, decompress
