# A file of more than 4 GiB, most of it a hole, with a tensor before, across and
# behind that mark.
truncate -s 5G probe 2>/dev/null || skip "no room for a file of 5 GiB"
(($(du -k probe | cut -f1) < 1024)) || skip "the file system has no sparse files"
rm probe

model m 100000
across=$((1 << 32)) tail=65536
header=$(printf '{"head":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]},"across":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]},"tail":{"dtype":"BF16","shape":[%d],"data_offsets":[%d,%d]}}' \
  $tail $((2 * tail)) $across $((2 * tail)) $((2 * tail + across)) \
  $tail $((2 * tail + across)) $((4 * tail + across)))
start=$((8 + ${#header})) end=$((8 + ${#header} + 4 * tail + across))
{
  printf "\\x$(printf %02x $((${#header} % 256)))\\x$(printf %02x $((${#header} / 256)))"
  head -c 6 /dev/zero
  printf %s "$header"
  tail -c $((2 * tail)) m
} >huge
truncate -s $((end - 2 * tail)) huge
head -c $((2 * tail)) m >>huge

expect 0 zipllm compress --no-sync huge
(($(stat -c %s huge.zllm) < 1 << 20)) || fail "zeros take $(stat -c %s huge.zllm) bytes"
expect 0 zipllm cat huge.zllm tail
cmp "$capture/out" <(head -c $((2 * tail)) m) || fail "tensor behind 4 GiB"
expect 0 zipllm cat huge.zllm head
cmp "$capture/out" <(tail -c $((2 * tail)) m) || fail "tensor before"
expect 0 zipllm cat huge.zllm across --range $((across - 10)):$across
cmp "$capture/out" <(head -c 10 /dev/zero) || fail "range of a tensor"
expect 0 zipllm cat huge.zllm --file huge --range $((end - 5)):$end
cmp "$capture/out" <(tail -c 5 huge) || fail "range behind 4 GiB"
zipllm decompress huge.zllm -o - | cmp - huge || fail "what is decompressed"
