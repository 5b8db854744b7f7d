# zipllm store: what goes in comes out, and what is there already costs nothing.
tree() { (cd "$1" && find . -printf '%P|%y|%m|%T@|%s|%l\n' | sed 's/|d\(|.*|\)[0-9]*|$/|d\1|/' | sort); }
same_tree() {
  diff <(tree "$1") <(tree "$2") || fail "names, modes, times or links of $1 and $2 differ"
  diff -r --no-dereference "$1" "$2" || fail "$1 and $2 differ"
}
json() { python3 -c "import json, sys
document = json.load(sys.stdin)
$1" <"$capture/out" || fail "JSON: $1"; }
pack_bytes() { find s/packs -type f -printf '%s\n' | awk '{sum += $1} END {print sum + 0}'; }
# restores NAME TREE
restores() {
  expect 0 zipllm store get s "$1" -o back
  same_tree "$2" back
  rm -r back
}

expect 0 zipllm store init s
err_empty
expect 0 zipllm store ls s
out_has "0 models"

# A sharded folder, with what else lies in such folders.
mkdir -p base/sub/empty
model base/model-00001-of-00002.safetensors 40000
model base/model-00002-of-00002.safetensors 40000 2
echo '{"model_type": "x"}' >base/config.json
: >base/sub/nothing
ln -s ../config.json base/sub/link
printf x >base/sub/$'odd \xe9\n'
chmod 640 base/config.json
chmod 700 base/sub/empty
touch -d '2021-02-03 04:05:06.123456789' base/config.json
touch -d '2019-01-01 00:00:00.75' base/sub base
expect 0 zipllm store add s org/base base
out_empty
err_empty
restores org/base base
bytes=$(pack_bytes)
expect 0 zipllm store add s org/base base --json
json 'assert document["existed"] and document["new_objects"] == document["stored_bytes"] == 0'
expect 0 zipllm store add -v s org/base@copy base
err_has "known"
(($(pack_bytes) <= bytes + 2000)) || fail "a copy takes $(($(pack_bytes) - bytes)) bytes"

# A fine-tune takes the difference, whatever it is called; what it is coded against is told.
mkdir tune
for i in 1 2; do
  tuned tune/weights-$i.safetensors base/model-0000$i-of-00002.safetensors $i wrapped.
done
bytes=$(pack_bytes)
expect 0 zipllm store add s a/b/c@v1.0 tune --json
json '
assert document["bases"] == [{"name": "org/base", "revision": document["bases"][0]["revision"]}]
assert 0 < 2 * document["stored_bytes"] < document["new_bytes"] <= document["model"]["plain_bytes"]
assert document["model"]["files"] == 2 and not document["existed"]'
(($(pack_bytes) - bytes < 70000)) || fail "a fine-tune takes $(($(pack_bytes) - bytes)) bytes"
restores a/b/c@v1.0 tune

# A snapshot of the Hugging Face cache: links that lead out of it are files.
root=cache/models--a--b
mkdir -p $root/blobs $root/snapshots/1234/onnx
cp base/model-00001-of-00002.safetensors $root/blobs/aaaa
echo '{"model_type": "y"}' >$root/blobs/bbbb
ln -s ../../blobs/aaaa $root/snapshots/1234/model.safetensors
ln -s ../../../blobs/bbbb $root/snapshots/1234/onnx/config.json
expect 0 zipllm store add s hf/b@1234 $root/snapshots/1234
expect 0 zipllm store get s hf/b@1234 -o back
diff -r back $root/snapshots/1234 || fail "followed contents"
[[ -z $(find back -type l) ]] || fail "there are links"
rm -r back

# A file alone is a folder with that file.
expect 0 zipllm store add s one base/model-00002-of-00002.safetensors
expect 0 zipllm store get s one -o back
[[ $(stat -c %a back) == 755 ]] || fail "a folder without a mode of its own is $(stat -c %a back)"
same back/model-00002-of-00002.safetensors base/model-00002-of-00002.safetensors
[[ $(ls back | wc -l) == 1 ]] || fail "more than a file"
rm -r back

# Names, and what is listed.
expect 0 zipllm store add s $'odd name/\xe9@r e v' base/config.json
expect 0 zipllm store ls s
out_has 'odd name/\xe9@r e v'
out_has "6 models"
expect 0 zipllm store ls s org/base hf
out_has org/base@copy
out_has hf/b@1234
out_has "3 models"
expect 0 zipllm store ls s --json
json '
assert [m["name"] + "@" + m["revision"] for m in document["models"]][:3] == [
    "a/b/c@v1.0", "hf/b@1234", "odd name/\ufffd@r e v"], document
assert bytes.fromhex(document["models"][2]["name_hex"]) == b"odd name/\xe9"
copies = [m["manifest"] for m in document["models"] if m["name"] == "org/base"]
assert len(copies) == 2 and copies[0] == copies[1]'
for name in '' . .. a//b a/../b /a a/ @v a@ a@b/c a@.. $'a\nb' "$(printf 'x%.0s' {1..200})"; do
  expect 1 zipllm store add s "$name" base
  err_is_ours
done

# Files of a model.
expect 0 zipllm store show s a/b/c@v1.0
out_has weights-1.safetensors
out_has safetensors
out_has "against org/base@"
expect 0 zipllm store show s org/base --json
json '
files = {e["path"]: e for e in document["entries"]}
shard = files["model-00001-of-00002.safetensors"]
assert shard["format"] == "safetensors" and shard["objects"] >= 3
assert 0 < shard["coded_size"] < shard["size"] and len(shard["tensors"]) == 4
assert files["config.json"]["mode"] == "0640"'
expect 0 zipllm store get s org/base sub config.json -o back
[[ -e back/sub/nothing && -e back/config.json && ! -e back/model-00001-of-00002.safetensors ]] ||
  fail "some of the files"
rm -r back
expect 1 zipllm store get s org/base missing -o back
err_has missing
gone back

# get names its output as decompress does, and replaces nothing without -f.
mkdir into
expect 0 zipllm store get s org/base -o into/
same_tree base into/base
(cd into && rm -r base && expect 0 zipllm store get ../s org/base && same_tree ../base base) || exit 1
echo mine >into/base/config.json
expect 1 zipllm store get s org/base -o into/base
err_has "use -f"
[[ $(cat into/base/config.json) == mine ]] || fail "a file was replaced"
expect 0 zipllm store get -f s org/base -o into/base
same into/base/config.json base/config.json
expect 1 zipllm store get s one -o /dev/null
[[ -c /dev/null ]] || fail "/dev/null was replaced"

# export: an archive that needs nothing else.
expect 0 zipllm store export s a/b/c@v1.0
expect 0 zipllm decompress c.zllm -o back
same_tree tune back
rm -r back
expect 1 zipllm store export s a/b/c@v1.0
err_has "use -f"
expect 0 zipllm store export s a/b/c@v1.0 org/base hf/b@1234 -6 -o all.zllm --json
json 'assert len(document["models"]) == 3 and 0 < document["ratio"] < 0.7'
expect 0 zipllm decompress all.zllm
for model in a/b/c/v1.0:tune org/base/main:base; do
  [[ -d all/${model%:*} ]] || model=${model/\/main/}
  same_tree all/${model%:*} ${model#*:}
done
expect 1 zipllm store export s one missing -o none.zllm
err_has missing
gone none.zllm

# Replacing and removing.
echo '{"model_type": "z"}' >tune/config.json
expect 1 zipllm store add s a/b/c@v1.0 tune
err_has "--replace"
expect 0 zipllm store add s a/b/c@v1.0 tune --replace
restores a/b/c@v1.0 tune
expect 1 zipllm store rm s org/base@copy missing@x
err_has missing@x
expect 1 zipllm store get s org/base@copy -o back
err_has "there is org/base@"
err_has org/base@copy
expect 0 zipllm store rm s org/base
restores a/b/c@v1.0 tune  # what it is coded against stays

# Levels and no bases.
expect 0 zipllm store add s fast/tune tune -1 --max-depth 0 --no-sync --no-verify -T1 --json
json 'assert document["bases"] == []'

# What is no store, and wrong usage.
expect 1 zipllm store init s
err_has "s is a store already"
mkdir other
echo x >other/file
expect 1 zipllm store init other
for command in ls gc fsck stats repack; do
  expect 1 zipllm store $command other
  err_has other
  expect 1 zipllm store $command missing
  err_has missing
done
expect 1 zipllm store add s new missing
err_has missing
expect 2 zipllm store
err_has "Try 'zipllm store --help'"
expect 2 zipllm store frobnicate s
expect 2 zipllm store add s name
err_has "Try 'zipllm store add --help'"
expect 2 zipllm store add s name base --max-depth 5
for bad in 1y -1h h 99999999999d 5hh; do expect 2 zipllm store gc s "--grace=$bad"; done
for bad in 0 1.5 200% x 5%% nan; do expect 2 zipllm store fsck s "--sample=$bad"; done
expect 2 zipllm store fsck s --fast --sample 0.5
for command in init add ls show get rm gc fsck stats repack export; do
  expect 0 zipllm store $command --help
  out_has "Usage: zipllm store $command"
  [[ $(wc -L <"$capture/out") -le 80 ]] || fail "$command --help is wider than 80"
done

# A model may be called like a command, or like an option.
expect 0 zipllm store add s add base/config.json
expect 0 zipllm store add s -- -v base/config.json
expect 0 zipllm store ls s add
