# No space left: an error, nothing half-written, the input untouched.
noise n 3000000
expect 0 zipllm compress n
cp n original
mkdir small
mount -t tmpfs -o size=1m tmpfs small 2>/dev/null || skip "mount is not permitted"
trap 'umount small 2>/dev/null || umount "$work/work/small"; clean' EXIT
empty() { [[ -z $(find small -mindepth 1) ]] || fail "left behind: $(find small)"; }
expect 1 zipllm compress n -o small/n.zllm
err_has "No space left"
err_has "small/n.zllm"
empty
expect 1 zipllm compress --rm n -o small/n.zllm
same n original
expect 1 zipllm compress - -o small/n.zllm <n
err_has "No space left"
empty
expect 1 zipllm decompress --rm n.zllm -o small/n
err_has "No space left"
there n.zllm
empty
mkdir tree
head -c 500000 n >tree/a
cp n tree/b
expect 0 zipllm compress tree
expect 1 zipllm decompress tree.zllm -o small/tree
err_has "No space left"
empty
