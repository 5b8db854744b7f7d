# Damaged, cut and foreign archives: exit code 3, and no output.
model m 8000
expect 0 zipllm compress m
size=$(stat -c %s m.zllm)
refused() {  # refused: x.zllm is, by each way of reading
  expect 3 zipllm decompress x.zllm -o x
  err_is_ours
  err_has "x.zllm"
  # Where the damage lies behind the file, the file is right and may be there.
  if [[ -e x ]]; then
    [[ $1 == behind ]] || fail "x is there"
    same x m
    rm x
  fi
  expect 3 zipllm test x.zllm
  expect 3 zipllm test - < <(cat x.zllm)
  err_has "standard input"
  only m m.zllm x.zllm
}
for offset in 0 9 $((size / 3)) $((size / 2)); do
  cp m.zllm x.zllm
  flip x.zllm $offset
  refused within
done
cp m.zllm x.zllm
flip x.zllm $((size - 9))
refused behind
for length in 0 1 20 $((size / 2)) $((size - 1)); do
  head -c $length m.zllm >x.zllm
  refused $( ((length == size - 1)) && echo behind || echo within)
  expect 3 zipllm list x.zllm
  err_has "x.zllm"
done
cp m x.zllm
refused within
cat m.zllm m >x.zllm
refused behind

# One bad file among good ones: the worst exit code counts, the others are done.
cp m.zllm good.zllm
expect 3 zipllm decompress x.zllm missing.zllm good.zllm
there good
err_has "missing.zllm: No such file"

# An index that is damaged does not hinder reading from the front, as far as it goes.
expect 1 zipllm list missing.zllm
expect 1 zipllm decompress .
err_has "is a directory"
expect 1 zipllm decompress good.zllm -o good2 --memory 1k
err_has "--memory"
gone good2
