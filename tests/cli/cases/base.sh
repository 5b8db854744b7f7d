# --base: archives that are coded against tensors outside of them.
size() { stat -c %s "$1"; }
mkdir bases
model bases/base.safetensors 60000
model bases/other.safetensors 60000 2
tuned tuned.safetensors bases/base.safetensors
tuned renamed.safetensors bases/base.safetensors 3 wrapped.

expect 0 zipllm compress tuned.safetensors -o alone.zllm
for level in 1 3 9; do
  expect 0 zipllm compress -$level -T1 --base bases/base.safetensors tuned.safetensors -o $level.zllm
  err_empty
  ((2 * $(size $level.zllm) < $(size alone.zllm))) || fail "-$level takes $(size $level.zllm)"
  expect 0 zipllm decompress --base bases/base.safetensors $level.zllm -o back
  same back tuned.safetensors
  rm back
done
zipllm compress -T4 --base bases/base.safetensors -c tuned.safetensors | cmp - 3.zllm || fail "-T4"
mv 3.zllm tuned.zllm
rm 1.zllm 9.zllm alone.zllm

# What it needs is told, and without it nothing is written.
expect 0 zipllm info tuned.zllm
out_has base.safetensors
expect 0 zipllm info --json tuned.zllm
python3 -c 'import json, sys
needs = json.load(sys.stdin)["archives"][0]["needs"]
assert {need["model"] for need in needs} == {"base.safetensors"}, needs
assert {need["tensor"] for need in needs} >= {"norm.weight"}, needs' <"$capture/out" || fail needs
refused() {
  expect 1 "$@"
  out_empty
  err_has "of base.safetensors (SHA-256 "
  err_has "--base"
  only bases tuned.safetensors renamed.safetensors tuned.zllm
}
refused zipllm decompress tuned.zllm -o back
refused zipllm decompress -c tuned.zllm
refused zipllm decompress --base bases/other.safetensors tuned.zllm -o back
refused zipllm test -q tuned.zllm
mv bases/base.safetensors bases/original
cp bases/original bases/base.safetensors
chmod u+w bases/base.safetensors
for offset in 1000 100000 200000; do flip bases/base.safetensors $offset; done
refused zipllm decompress --base bases/base.safetensors tuned.zllm -o back
mv bases/original bases/base.safetensors
expect 1 zipllm cat tuned.zllm  # what needs no base may have been written
err_has "--base"
expect 1 zipllm decompress --base missing tuned.zllm -o back
err_has missing
expect 1 zipllm compress --base missing tuned.safetensors -o back
err_has missing
only bases tuned.safetensors renamed.safetensors tuned.zllm

# It is found in folders, archives, the archive's own folder, and those of ZIPLLM_BASES.
restores() {
  expect 0 "$@"
  same back tuned.safetensors
  rm back
}
restores zipllm decompress --base bases tuned.zllm -o back
restores zipllm decompress --base bases/other.safetensors --base bases/base.safetensors tuned.zllm -o back
restores env ZIPLLM_BASES=/nonexistent:bases "$zipllm_binary" decompress tuned.zllm -o back
expect 0 zipllm compress bases -o all.zllm
restores zipllm decompress --base all.zllm tuned.zllm -o back
cp tuned.zllm bases
restores zipllm decompress bases/tuned.zllm -o back
rm bases/tuned.zllm all.zllm
zipllm decompress --base bases - <tuned.zllm | cmp - tuned.safetensors || fail "from a pipe"
cat tuned.safetensors | zipllm compress --base bases - >piped.zllm || fail "to a pipe"
zipllm decompress --base bases -c piped.zllm | cmp - tuned.safetensors || fail "of a pipe"
expect 0 zipllm test -q --base bases tuned.zllm
zipllm cat --base bases tuned.zllm --range 1000:1100 | cmp - <(head -c 1100 tuned.safetensors | tail -c 100) ||
  fail "a range"

# Whatever tensors are called, and whichever of the bases they come from.
expect 0 zipllm compress --base bases renamed.safetensors -o renamed.zllm
(($(size renamed.zllm) < $(size tuned.zllm) * 11 / 10)) || fail "renamed tensors are not found"
expect 0 zipllm decompress --base bases/base.safetensors renamed.zllm -o back
same back renamed.safetensors
rm back

# A base that does not help is not needed.
expect 0 zipllm compress bases/base.safetensors -o alone.zllm
expect 0 zipllm compress --base bases/other.safetensors bases/base.safetensors -o vain.zllm
(($(size vain.zllm) <= $(size alone.zllm) * 1001 / 1000 + 64)) || fail "worse than alone"
expect 0 zipllm decompress vain.zllm -o back
same back bases/base.safetensors

# A base may need a base itself; none is more than a few steps from its own.
mkdir row
cp bases/base.safetensors row/0
before=row/0
for i in 1 2 3 4 5 6 7; do
  tuned row/$i row/$((i - 1)) $i
  expect 0 zipllm compress --base $before row/$i -o row/$i.zllm
  before=row/$i.zllm
done
cp row/7 want
rm row/[1-7]
expect 0 zipllm decompress row/7.zllm -o seven
same seven want
