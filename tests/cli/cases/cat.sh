# One tensor or byte range.
model m 200000
header=$((8 + $(od -An -tu8 -N8 m)))
length=$((200000 / 64 * 64 * 2))
expect 0 zipllm compress m
expect 0 zipllm cat m.zllm embed.weight
cmp "$capture/out" <(tail -c +$((header + 1)) m | head -c $length) || fail "tensor"
expect 0 zipllm cat m.zllm steps
cmp "$capture/out" <(tail -c 8 m) || fail "last tensor"
expect 0 zipllm cat m.zllm
same "$capture/out" m
expect 0 zipllm cat m.zllm --file m --range 100:200
cmp "$capture/out" <(tail -c +101 m | head -c 100) || fail "range"
expect 0 zipllm cat m.zllm --range :8
cmp "$capture/out" <(head -c 8 m) || fail "range from the start"
expect 0 zipllm cat m.zllm --range $((header + 1)):
cmp "$capture/out" <(tail -c +$((header + 2)) m) || fail "range to the end"
expect 0 zipllm cat m.zllm embed.weight --range 2:4
cmp "$capture/out" <(tail -c +$((header + 3)) m | head -c 2) || fail "range of a tensor"
expect 0 zipllm cat m.zllm --range 5:5
out_empty

# It reads what it needs, and says so.
expect 0 zipllm cat -v m.zllm norm.weight
grep -qE 'read [0-9]+ of [0-9]+ bytes' "$capture/err" || fail "bytes read"
read -r few all < <(sed -E 's/.*read ([0-9]+) of ([0-9]+) bytes.*/\1 \2/' "$capture/err")
((all == $(stat -c %s m.zllm) && few < all / 4)) || fail "read $few of $all bytes"

expect 1 zipllm cat m.zllm embed
err_has "no tensor embed"
expect 1 zipllm cat m.zllm --file other
err_has "no file other"
expect 1 zipllm cat m.zllm --range 0:99999999
err_has "outside"
out_empty

mkdir d
cp m d/a
model d/b 4096 2
expect 0 zipllm compress d
expect 1 zipllm cat d.zllm
err_has "holds 2 files"
expect 1 zipllm cat d.zllm embed.weight
err_has "name the file"
expect 0 zipllm cat d.zllm embed.weight --file b
cmp "$capture/out" <(tail -c +$((9 + $(od -An -tu8 -N8 d/b))) d/b | head -c 8192) || fail "tensor of one file"
expect 0 zipllm cat d.zllm --file a
same "$capture/out" m
