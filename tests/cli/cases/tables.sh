# list and info for people.
model m 20000
mkdir d
cp m d/m
echo text >d/t
ln -s t d/l
touch -d '2021-02-03 04:05:06' d/t
expect 0 zipllm compress d
expect 0 zipllm list d.zllm
err_empty
out_has "2021-02-03 04:05  t"
out_has "l -> t"
out_has "./"
out_has "2 files"
expect 0 zipllm list -v d.zllm
out_has "$(sha256sum <d/t | cut -d' ' -f1)"
out_has 0644
expect 0 zipllm list -t d.zllm
out_has "m: safetensors, 4 tensors"
out_has "312x64"
out_has "embed.weight"
expect 0 zipllm list d.zllm d.zllm
[[ $(grep -c '^d.zllm:$' "$capture/out") == 2 ]] || fail "headings of several archives"

expect 0 zipllm info d.zllm
out_has "bits a weight"
out_has "BF16"
out_has "frame heads"
out_has "index"
out_has "█"
LC_ALL=C expect 0 zipllm info d.zllm
out_has "####"
! grep -q '█' "$capture/out" || fail "block characters without UTF-8"
! grep -q 'norm.weight' "$capture/out" || fail "tensors without -t"
expect 0 zipllm info -v d.zllm
out_has "norm.weight"

expect 0 zipllm bench -1 -n 1 m
out_has "memcpy"
out_has "Decompress"
expect 0 zipllm bench -n 1 -1 -2 m
[[ $(grep -cE '^-[12] ' "$capture/out") == 2 ]] || fail "levels"
expect 0 zipllm test -v d.zllm
err_has "ok"
expect 0 zipllm compress -v -9 m
err_has "archive"
expect 0 zipllm compress -f --best m -o nine.zllm
same nine.zllm m.zllm
