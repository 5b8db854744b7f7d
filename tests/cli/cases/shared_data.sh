# Real files: each alone and all as one directory, through files and pipes, on one
# thread and on four.
data=$here/../../../shared/data
[[ -d $data ]] || skip "no ../shared/data"
set -o pipefail
while IFS= read -r -d '' file; do
  expect 0 zipllm compress -q -f -T1 "$file" -o one.zllm
  expect 0 zipllm compress -q -f -T4 "$file" -o four.zllm
  same one.zllm four.zllm
  zipllm decompress -T4 -c one.zllm | cmp - "$file" || fail "$file from a file"
  zipllm compress -T4 - <"$file" | cat | zipllm decompress -T1 - | cmp - "$file" ||
    fail "$file through pipes"
  cat "$file" | zipllm compress -T1 - >one.zllm || fail "$file from a pipe"
  cat "$file" | zipllm compress -T4 - | cmp - one.zllm || fail "$file: threads differ in a pipe"
done < <(find "$data" -type f -print0)

rm -f one.zllm four.zllm
expect 0 zipllm compress -q -T1 "$data" -o one.zllm
expect 0 zipllm compress -q -T4 "$data" -o four.zllm
same one.zllm four.zllm
expect 0 zipllm test -q one.zllm
expect 0 zipllm decompress -q -T4 one.zllm -o back
diff -r "$data" back || fail "directory from a file"
cat one.zllm | zipllm decompress -q -T1 - -o piped || fail "directory from a pipe"
diff -r "$data" piped || fail "directory from a pipe"
