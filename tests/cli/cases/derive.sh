# What quantized files were made of: derive --check, and info's tree.
ladder=$here/../../../shared/data/ladder
[[ -d $ladder ]] || skip "no ../shared/data"
source=$ladder/mpnet-part.BF16.gguf
py() { python3 -c "import json, sys
document = json.load(sys.stdin)
$1" <"$capture/out" || fail "JSON: $1"; }

expect 0 zipllm derive --check "$ladder/mpnet-part.Q4_K_M.gguf" --source "$source"
out_has "every quantized tensor is what its recipe makes"
out_has "ggml Q4_K"
err_empty
expect 0 zipllm derive --check "$ladder/mpnet-part.Q8_0.gguf" "$ladder/mpnet-part.Q4_0.gguf" \
  --source "$source" --json
py '
for r, dtype in zip(document["results"], ["Q8_0", "Q4_0"]):
    assert r["exact"] and r["weights"] == r["exact_weights"] == 2 * 768 * 768
    quants = [t for t in r["tensors"] if t["dtype"] == dtype]
    assert [t["name"] for t in quants] == ["blk.0.attn_q.weight", "blk.0.attn_v.weight"]
    for t in quants:
        assert t["exact"] and t["recipe"] == "ggml " + dtype and t["source"] == t["name"]
        assert t["different_bytes"] == 0 and t["first_different_byte"] is None'

# One code is another.
cp "$ladder/mpnet-part.Q4_K_M.gguf" q.gguf
chmod u+w q.gguf
flip q.gguf 500000
expect 1 zipllm derive --check q.gguf --source "$source" --json
py '
[r] = document["results"]
assert not r["exact"] and r["exact_weights"] == 768 * 768
[t] = [t for t in r["tensors"] if not t["exact"]]
assert t["recipe"] == "ggml Q4_K" and t["different_blocks"] == t["different_bytes"] == 1
assert 0 < t["bits_per_weight"] < 0.3'
expect 1 zipllm derive --check q.gguf --source "$source"
out_has "not every quantized tensor"
# What has no source is not what a recipe makes.
model m
expect 1 zipllm derive --check q.gguf --source m
out_has "no source"
expect 1 zipllm derive --check m --source m
out_has "nothing is quantized"
expect 2 zipllm derive --check missing --source "$source"
expect 2 zipllm derive --check q.gguf --source missing
expect 2 zipllm derive --check q.gguf
err_has "--source"
expect 2 zipllm derive q.gguf --source "$source"
err_has "--check"

# Names put the source last: it is coded ahead.
mkdir d
cp "$ladder/mpnet-part.Q4_0.gguf" "$ladder/mpnet-part.Q6_K.gguf" d
cp "$source" d/z.gguf
expect 0 zipllm compress d
expect 0 zipllm info d.zllm
out_has "Derived files"
out_has "ggml Q4_0 2"
expect 0 zipllm info d.zllm --json
py '
[a] = document["archives"]
assert [d["path"] for d in a["derived"]] == ["mpnet-part.Q4_0.gguf", "mpnet-part.Q6_K.gguf"]
for d in a["derived"]:
    assert d["from"] == "z.gguf" and d["derived_tensors"] == 2 and d["tensors"] == 6
    assert d["bits_per_weight"] < 0.01
for t in a["by_tensor"]:
    if t["dtype"] in ("Q4_0", "Q6_K"):
        [base] = [s for s in t["sources"] if s["role"] == "base"]
        assert base["path"] == "z.gguf" and base["tensor"] == t["name"]'
expect 0 zipllm compress --base "$source" d/mpnet-part.Q6_K.gguf -o q6.zllm
expect 0 zipllm info q6.zllm --json
py '
[d] = document["archives"][0]["derived"]
assert d["from_model"] == "mpnet-part.BF16.gguf" and "from" not in d'
