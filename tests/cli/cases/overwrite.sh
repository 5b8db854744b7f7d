# Nothing that exists is replaced without -f; inputs are kept without --rm.
model m
echo mine >m.zllm
expect 1 zipllm compress m
err_has "m.zllm exists already; use -f"
out_empty
[[ $(cat m.zllm) == mine ]] || fail "m.zllm was touched"
expect 1 zipllm compress -q m
err_has "exists already"
expect 1 zipllm compress - -o m.zllm <m
[[ $(cat m.zllm) == mine ]] || fail "m.zllm was touched"
expect 0 zipllm compress -f m
expect 0 zipllm test m.zllm
expect 0 zipllm compress -f - -o m.zllm <m
expect 0 zipllm test m.zllm
expect 0 zipllm compress -f m

cp m original
echo changed >m
expect 1 zipllm decompress m.zllm
err_has "m exists already; use -f"
[[ $(cat m) == changed ]] || fail "m was touched"
expect 0 zipllm decompress -f m.zllm
same m original
only m m.zllm original

# One input that fails does not stop the others.
cp m n
expect 1 zipllm compress m n
err_has "m.zllm exists"
there n.zllm
rm n.zllm

# -o that is a directory where an archive would go, and links in the way.
mkdir n.zllm
expect 1 zipllm compress n
err_has "n.zllm is a directory"
rmdir n.zllm
ln -s m l
expect 1 zipllm decompress m.zllm -o l
expect 1 zipllm compress n -o l
same m original
expect 0 zipllm compress n -o l -f
[[ ! -L l ]] || fail "the link is still there"
same m original

# The input is never its own output.
expect 1 zipllm compress -f n -o n
err_has "is the input itself"
expect 1 zipllm decompress -f m.zllm -o ./m.zllm
ln n hard
expect 1 zipllm compress -f n -o hard
same n original
rm hard

# --rm
expect 0 zipllm compress --rm n
gone n
there n.zllm
expect 0 zipllm decompress --rm n.zllm
gone n.zllm
same n original
expect 0 zipllm compress -k n
same n original
expect 1 zipllm compress --rm n
same n original
mkdir d
expect 1 zipllm compress --rm d
err_has "no regular file"
there d
gone d.zllm
ln -s n link
expect 1 zipllm compress --rm link
there link
gone link.zllm
expect 1 zipllm decompress --rm m
there m

# A directory that is not empty.
mkdir tree
echo 1 >tree/a
expect 0 zipllm compress tree
echo 2 >tree/a
echo 3 >tree/b
expect 1 zipllm decompress tree.zllm
err_has "use -f"
[[ $(cat tree/a) == 2 ]] || fail "tree/a was touched"
expect 0 zipllm decompress -f tree.zllm
[[ $(cat tree/a) == 1 && $(cat tree/b) == 3 ]] || fail "tree"
mkdir empty
expect 0 zipllm decompress tree.zllm -o empty
[[ $(cat empty/a) == 1 ]] || fail "empty/a"

# Devices are written to and never replaced.
expect 0 zipllm compress n -o /dev/null
[[ -c /dev/null ]] || fail "/dev/null was replaced"
expect 0 zipllm decompress -f m.zllm -o /dev/null
[[ -c /dev/null ]] || fail "/dev/null was replaced"
