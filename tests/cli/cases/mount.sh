# zipllm mount: archives and stores as files. What the file system does is tested in tests/mount.
[[ -w /dev/fuse ]] || skip "no /dev/fuse"
command -v fusermount3 >/dev/null || skip "no fusermount3"
mounted() { mountpoint -q "$work/work/$1"; }
unmounted() { ! mounted "$1"; }
clean_mounts() {
  mounted dir && fusermount3 -uz dir
  clean
}
trap clean_mounts EXIT
mkdir model dir
model model/a.safetensors 40000
echo '{}' >model/config.json
expect 0 zipllm compress model
zipllm mount model.zllm dir 2>"$capture/err"
code=$?
grep -q "built without libfuse3" "$capture/err" && skip "built without libfuse3"
[[ $code == 0 ]] || skip "no mounting here: $(cat "$capture/err")"
mounted dir || fail "not mounted"
diff -r model dir || fail "files of an archive"
! touch dir/new 2>/dev/null || fail "written to"
expect 0 umount dir
wait_for unmounted dir

expect 0 zipllm store init s
expect 0 zipllm store add s org/m@v1 model
expect 0 zipllm mount s dir -o ro,nofail,cache=64M -o nosuid
diff -r model dir/org/m/v1 || fail "files of a store"
expect 0 zipllm store add s org/n model
wait_for diff -r model dir/org/n/main
expect 0 fusermount3 -u dir
wait_for unmounted dir

# In the foreground, until a signal.
"$zipllm_binary" mount -f s dir -v 2>"$capture/log" &
pid=$!
wait_for mounted dir
diff -r model dir/org/m/v1 || fail "files of a store"
kill -TERM $pid
wait $pid || fail "exit code $? after SIGTERM"
unmounted dir || fail "still mounted"

# As mount(8) calls it.
mkdir bin sbin
ln -s "$zipllm_binary" bin/zipllm
cp "$here/../../src/mount/mount.fuse.zipllm" sbin
expect 0 sbin/mount.fuse.zipllm model.zllm dir -f -o ro
unmounted dir || fail "mounted by -f"
expect 0 sbin/mount.fuse.zipllm model.zllm dir -v -t fuse.zipllm -o rw,relatime,nofail,_netdev
diff -r model dir || fail "files of an archive"
expect 0 umount dir
wait_for unmounted dir

for source in missing model; do
  expect 1 zipllm mount $source dir
  err_has $source
done
expect 1 zipllm mount model.zllm missing
err_has missing
expect 1 zipllm mount model.zllm dir -o frobnicate
err_has frobnicate
expect 3 zipllm mount model/config.json dir
unmounted dir || fail "mounted"
