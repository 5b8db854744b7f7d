# The JSON documents parse, and say what is so.
model m
mkdir d
cp m d/m
echo text >d/t
ln -s t d/l
: >d/empty
cp m $'d/latin1-\xe9'
py() { python3 -c "import json, sys, os, hashlib
document = json.load(sys.stdin)
$1" <"$capture/out" || fail "JSON: $1"; }

expect 0 zipllm compress m d --json
err_empty
py '
m, d = document["results"]
assert m["input"] == "m" and m["output"] == "m.zllm" and m["files"] == 1
assert m["plain_bytes"] == os.path.getsize("m")
assert m["archive_bytes"] == os.path.getsize("m.zllm")
assert abs(m["ratio"] - m["archive_bytes"] / m["plain_bytes"]) < 1e-9
assert m["warnings"] == [] and "error" not in m and m["seconds"] > 0
assert d["files"] == 4 and d["duplicate_bytes"] >= m["plain_bytes"] - 1000'
expect 1 zipllm compress m missing --json
py '
m, missing = document["results"]
assert m["error"]["code"] == "ALREADY_EXISTS" and "m.zllm" in m["error"]["message"]
assert missing["error"]["code"] == "NOT_FOUND"'

expect 0 zipllm list m.zllm d.zllm --json
py '
m, d = document["archives"]
assert m["archive"] == "m.zllm" and m["archive_bytes"] == os.path.getsize("m.zllm")
[file] = m["entries"]
data = open("m", "rb").read()
assert file["path"] == "m" and file["kind"] == "file" and file["mode"] == "0644"
assert file["mtime"]["seconds"] == int(os.stat("m").st_mtime)
assert file["size"] == len(data) and file["format"] == "safetensors"
assert file["sha256"] == hashlib.sha256(data).hexdigest()
names = [t["name"] for t in file["tensors"]]
assert names == ["embed.weight", "head.weight", "norm.weight", "steps"], names
header = 8 + int.from_bytes(data[:8], "little")
offset = header
for tensor in file["tensors"]:
    assert tensor["offset"] == offset
    offset += tensor["length"]
assert offset == len(data)
assert file["tensors"][0]["shape"] == [64, 64] and file["tensors"][3]["shape"] == []
kinds = {e["path"]: e["kind"] for e in d["entries"]}
assert kinds[""] == "directory" and kinds["l"] == "symlink", kinds
assert [e for e in d["entries"] if e["path"] == "l"][0]["link_target"] == "t"
[odd] = [e for e in d["entries"] if "path_hex" in e]
assert bytes.fromhex(odd["path_hex"]) == b"latin1-\xe9" and odd["path"] == "latin1-\ufffd"
assert [e for e in d["entries"] if e["path"] == "empty"][0]["ratio"] is None'
expect 3 zipllm list m m.zllm --json
py 'assert [a["archive"] for a in document["archives"]] == ["m.zllm"]'

expect 0 zipllm info m.zllm d.zllm --json
py '
for a in document["archives"]:
    assert a["archive_bytes"] == os.path.getsize(a["archive"])
    types = a["by_dtype"]
    coded = sum(t["coded_bytes"] for t in types)
    assert coded + a["index_bytes"] == a["archive_bytes"]
    assert sum(c["coded_bytes"] for c in a["by_codec"]) + a["frame_head_bytes"] == coded
    assert sum(t["plain_bytes"] for t in types) == a["plain_bytes"]
    assert sum(c["plain_bytes"] for c in a["by_codec"]) == a["plain_bytes"]
    assert sum(t["tensors"] for t in types) == a["tensors"] == len(a["by_tensor"])
    assert sum(t["weights"] for t in types) == a["weights"]
    for t in a["by_tensor"]:
        assert sum(c["plain_bytes"] for c in t["by_codec"]) == t["plain_bytes"]
m = document["archives"][0]
assert m["plain_bytes"] == os.path.getsize("m") and m["tensors"] == 4
weights = {t["dtype"]: t["weights"] for t in m["by_dtype"]}
assert weights == {"BF16": 8192, "F32": 64, "I64": 1, None: 0}, weights'

expect 0 zipllm test m.zllm --json
py 'assert document["results"][0]["plain_bytes"] == os.path.getsize("m")'
expect 0 zipllm decompress m.zllm -o back --json --sha256
py 'assert document["results"][0]["output"] == "back"'
expect 0 zipllm bench -1 -3 -n 1 m d/empty --json
py '
m, empty = document["files"]
assert [l["level"] for l in m["levels"]] == [1, 3] and m["plain_bytes"] == os.path.getsize("m")
assert all(l["compress_bytes_per_second"] > 0 for l in m["levels"])
assert 0 < m["levels"][1]["ratio"] < 1 and m["memcpy_bytes_per_second"] > 0
assert empty["plain_bytes"] == 0 and empty["levels"][0]["ratio"] is None'
