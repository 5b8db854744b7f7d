# Directories: names, modes, times, links, empty directories, and what is left out.
mkdir -p model/sub/empty model/sub/deep
model model/a.safetensors
model model/sub/b.safetensors 4096 2
echo '{}' >model/config.json
: >model/sub/deep/nothing
ln -s ../config.json model/sub/link
ln -s /nonexistent model/dangling
chmod 640 model/config.json
chmod 755 model/a.safetensors
chmod 700 model/sub/empty
touch -d '2021-02-03 04:05:06.123456789' model/config.json
touch -hd '2022-02-03 04:05:06.5' model/sub/link
touch -d '2020-01-01 00:00:00.25' model/sub/empty
touch -d '2019-01-01 00:00:00.75' model/sub model
snapshot() { (cd "$1" && find . -printf '%P|%y|%m|%T@|%s|%l\n' | sed 's/|d\(|.*|\)[0-9]*|$/|d\1|/' | sort); }
snapshot model >"$capture/before"

expect 0 zipllm compress model
err_empty
mv model original
expect 0 zipllm decompress model.zllm
err_empty
snapshot model | diff "$capture/before" - || fail "names, modes, times or links"
diff -r --no-dereference model original || fail "contents"
only model original model.zllm
for threads in 1 3; do
  zipllm compress -T$threads -c model | cmp - model.zllm || fail "-T$threads"
done

# A directory given with -o, and several archives into one.
expect 0 zipllm decompress model.zllm -o other
diff -r --no-dereference other original || fail "-o"
mkdir into
expect 0 zipllm decompress model.zllm -o into/
diff -r --no-dereference into/model original || fail "-o DIRECTORY/"

mkdir nothing
expect 0 zipllm compress nothing
rmdir nothing
expect 0 zipllm decompress nothing.zllm
[[ -d nothing ]] || fail "an empty directory"

# Left out, with a word and exit code 4; the archive is made all the same.
mkfifo model/fifo
expect 4 zipllm compress -f model
err_has "zipllm: warning: model/fifo"
err_is_ours
expect 4 zipllm compress -qf model
err_has "model/fifo"
expect 4 zipllm compress -f model --json
python3 -c 'import json, sys
[result] = json.load(sys.stdin)["results"]
assert len(result["warnings"]) == 1 and "fifo" in result["warnings"][0]' \
  <"$capture/out" || fail "warnings in JSON"
rm model/fifo

# A file that cannot be read is an error, and leaves no archive.
rm model.zllm
chmod 000 model/sub/b.safetensors
chmod 755 model/sub/empty
chmod 644 model/config.json
if [[ $(id -u) == 0 ]]; then
  command -v setpriv >/dev/null || skip "root reads everything, and there is no setpriv"
  chmod 777 .
  chmod 755 .. "$work"
  unprivileged=(setpriv --reuid=65534 --regid=65534 --clear-groups)
else
  unprivileged=()
fi
expect 1 "${unprivileged[@]}" "$zipllm_binary" compress model -o refused.zllm
err_has "model/sub/b.safetensors"
err_has "Permission denied"
gone refused.zllm
expect 1 "${unprivileged[@]}" "$zipllm_binary" compress model/sub/b.safetensors -o refused.zllm
err_has "Permission denied"
gone refused.zllm
