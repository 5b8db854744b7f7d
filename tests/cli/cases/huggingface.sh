# A snapshot in the Hugging Face cache is a directory of links into blobs/.
root=cache/models--a--b
mkdir -p $root/blobs $root/snapshots/1234/onnx
model $root/blobs/aaaa
echo '{"model_type": "x"}' >$root/blobs/bbbb
cp $root/blobs/aaaa $root/blobs/cccc
ln -s ../../blobs/aaaa $root/snapshots/1234/model.safetensors
ln -s ../../blobs/bbbb $root/snapshots/1234/config.json
ln -s ../../../blobs/cccc $root/snapshots/1234/onnx/copy.safetensors

expect 0 zipllm compress -L $root/snapshots/1234 -o b.zllm
err_empty
expect 0 zipllm decompress b.zllm
diff -r b $root/snapshots/1234 || fail "followed contents"
[[ -z $(find b -type l) ]] || fail "there are links"
expect 0 zipllm list b.zllm
out_has onnx/copy.safetensors

# The copy is stored once.
expect 0 zipllm compress -L --no-dedup $root/snapshots/1234 -o twice.zllm
(($(stat -c %s b.zllm) < $(stat -c %s twice.zllm) * 3 / 4)) || fail "no deduplication"

# Without -L the links themselves.
expect 0 zipllm compress $root/snapshots/1234 -o links.zllm
expect 0 zipllm decompress links.zllm -o links
[[ $(readlink links/config.json) == ../../blobs/bbbb ]] || fail "links"

# A link named on the command line is followed.
expect 0 zipllm compress $root/snapshots/1234/model.safetensors -o m.zllm
expect 0 zipllm decompress m.zllm
same m $root/blobs/aaaa
