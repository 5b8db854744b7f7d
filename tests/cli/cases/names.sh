# Which name an output gets.
model m.safetensors
cp m.safetensors plain

expect 0 zipllm compress m.safetensors
out_empty
err_empty
only m.safetensors plain m.safetensors.zllm
mv m.safetensors original
expect 0 zipllm decompress m.safetensors.zllm
same m.safetensors original
rm original

expect 1 zipllm compress m.safetensors.zllm
err_has "has the suffix .zllm already; use -f"
gone m.safetensors.zllm.zllm
expect 0 zipllm compress -f m.safetensors.zllm
there m.safetensors.zllm.zllm
rm m.safetensors.zllm.zllm

cp m.safetensors.zllm archive
expect 1 zipllm decompress archive
err_has "no name ending in .zllm"
err_has "-o PATH"
expect 0 zipllm decompress archive -o restored
same restored m.safetensors
rm archive restored
cp m.safetensors.zllm .zllm
expect 1 zipllm decompress .zllm
rm .zllm

# -o FILE, -o DIRECTORY, -o MISSING/
mkdir into
expect 0 zipllm compress plain -o into/a
there into/a
expect 0 zipllm compress plain -o into
there into/plain.zllm
expect 0 zipllm compress plain m.safetensors -o into -f
there into/m.safetensors.zllm
expect 1 zipllm compress plain m.safetensors -o elsewhere
err_has "elsewhere is no directory"
expect 1 zipllm compress plain -o missing/
err_has "missing/ is no directory"
expect 1 zipllm compress plain -o missing/a.zllm
err_has "missing"
err_has "No such file or directory"
expect 0 zipllm decompress into/plain.zllm into/m.safetensors.zllm -o into -f
same into/plain plain
same into/m.safetensors m.safetensors
expect 0 zipllm decompress into/plain.zllm -o new
same new plain
expect 1 zipllm compress - -o into <plain
err_has "into is a directory"
rm -r into new m.safetensors.zllm

# A name next to the input, also elsewhere; slashes at the end do not count.
mkdir -p a/b
cp plain a/b/f
expect 0 zipllm compress a/b/f
there a/b/f.zllm
expect 0 zipllm compress a/b/
there a/b.zllm
rm a/b/f.zllm a/b.zllm
expect 1 zipllm compress .
err_has "use -o FILE"
(cd a/b && expect 1 zipllm compress ..) || exit 1
expect 1 zipllm compress a -o a/b/x.zllm
err_has "would lie inside a"
gone a/b/x.zllm
expect 0 zipllm compress . -o ../dot.zllm
rm ../dot.zllm
rm -r a

# Spaces, newlines, a leading dash, bytes that are not UTF-8.
mkdir odd
names=('with space' $'new\nline' '-dash' $'latin1-\xe9' 'ünï' '*')
for name in "${names[@]}"; do cp plain "odd/$name"; done
cp -a odd expected
(cd odd && for name in "${names[@]}"; do
  expect 0 zipllm compress -- "$name"
  rm -- "$name"
  expect 0 zipllm decompress -- "$name.zllm"
  rm -- "$name.zllm"
  err_empty
done) || exit 1
diff -r odd expected || fail "odd names"
expect 0 zipllm compress odd
rm -r odd
expect 0 zipllm decompress odd.zllm
diff -r odd expected || fail "odd names in a directory"
expect 0 zipllm list odd.zllm
out_has 'new\nline'
out_has 'latin1-\xe9'
out_has 'ünï'
expect 1 zipllm compress $'no\nsuch\e[31mfile'
err_has 'no\nsuch\x1b[31mfile'
[[ $(wc -l <"$capture/err") == 1 ]] || fail "a name broke the line"
