# zipllm store gc, fsck, repack, stats: what keeps a store small and sound.
json() { python3 -c "import json, sys, os
document = json.load(sys.stdin)
$1" <"$capture/out" || fail "JSON: $1"; }
packs() { find s/packs -type f | wc -l; }
model base.safetensors 40000
tuned tune.safetensors base.safetensors
model other.safetensors 40000 5
expect 0 zipllm store init s
for name in base tune other; do expect 0 zipllm store add s $name $name.safetensors; done

# stats: every byte is accounted for, but for what heads of frames and manifests take.
expect 0 zipllm store stats s
out_has "Saved by deltas"
out_has "Family of base"
expect 0 zipllm store stats s --json
json '
total = document["total"]
size = sum(os.path.getsize(f) for f in ("base.safetensors", "tune.safetensors", "other.safetensors"))
assert abs(total["plain_bytes"] - size) < 5000, total
parts = ("stored", "deduplicated", "delta", "derived", "entropy")
for savings in [total] + [m["savings"] for m in document["models"]]:
    assert abs(sum(savings[p + "_bytes"] for p in parts) - savings["plain_bytes"]) < 1000, savings
models = {m["name"]: m for m in document["models"]}
assert models["tune"]["family"] == models["base"]["family"] != models["other"]["family"]
assert [b["name"] for b in models["tune"]["bases"]] == ["base"]
tree = document["families"][models["tune"]["family"]]["models"]
assert [(m["name"], m["depth"]) for m in tree] == [("base", 0), ("tune", 1)], tree
assert models["tune"]["savings"]["delta_bytes"] > 0'
expect 0 zipllm store stats s --html page.html
out_empty
grep -q '</html>' page.html || fail "no page"
expect 1 zipllm store stats s --html page.html
err_has "use -f"
expect 0 zipllm store stats s -f --html page.html --json
json 'assert document["models"]'
expect 0 zipllm store stats s --html -
cmp "$capture/out" page.html || fail "the page on standard output"

# gc: what no model needs goes, after its time.
before=$(packs)
expect 0 zipllm store rm s other
expect 0 zipllm store gc s --dry-run --grace 0
out_has "would delete"
[[ $(packs) == "$before" ]] || fail "--dry-run deleted packs"
expect 0 zipllm store gc s --json
json 'assert document["deleted_packs"] == 0 and document["condemned_packs"] == 1 and not document["dry_run"]'
[[ $(packs) == "$before" ]] || fail "gc deleted before the time"
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store gc s --grace 0
(($(packs) < before)) || fail "gc deleted nothing"
expect 0 zipllm store rm s base
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store get s tune -o back
same back/tune.safetensors tune.safetensors
rm -r back

expect 0 zipllm store repack s --json
json 'assert document["packs_after"] >= 1'
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store get s tune -o back
same back/tune.safetensors tune.safetensors
rm -r back

# fsck: nothing wrong, then a bad byte, told by exit code and by what it hurts.
expect 0 zipllm store fsck s
out_has "Every object is right."
expect 0 zipllm store fsck s --fast
out_has "structure only"
expect 0 zipllm store fsck s --sample 50% --json
json 'assert document["ok"] and document["bad_objects"] == [] and document["problems"] == []'
cp -a s good
pack=$(find s/packs -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
chmod u+w "$pack"
flip "$pack" $(($(stat -c %s "$pack") / 2))
expect 3 zipllm store fsck s
out_has "hurts tune@main"
out_has "damaged"
expect 3 zipllm store fsck s --json
json '
assert not document["ok"] and len(document["bad_objects"]) >= 1
assert document["bad_objects"][0]["users"][0]["name"] == "tune"'
expect 3 zipllm store get s tune -o hurt
err_has tune
gone hurt
expect 4 zipllm store fsck s --from good
out_has mended
expect 0 zipllm store get s tune -o mended
same mended/tune.safetensors tune.safetensors
expect 0 zipllm store fsck s

# The catalogue is made anew where it is damaged or gone, also unasked.
head -c 100 /dev/urandom >s/catalogue.sqlite
expect 0 zipllm store get s tune -f -o mended
same mended/tune.safetensors tune.safetensors
rm s/catalogue.sqlite*
expect 0 zipllm store ls s
out_has tune@main
zipllm store fsck s --rebuild >"$capture/out" 2>"$capture/err"
(($? == 0 || $? == 4)) || fail "--rebuild"
expect 0 zipllm store fsck s
