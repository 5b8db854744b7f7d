# Logs as they lie about: a folder with rotated ones, a pipe, what is still growing.
make_log() {  # make_log NAME MB [SEED]
  python3 "$here/../../bench/make_log.py" --mb "$2" --seed "${3:-1}" -o "$1" sample 2>/dev/null ||
    fail "cannot make $1"
}
for i in 1 2 3 4 5 6 7 8 9; do
  echo "2026-11-22 12:00:0$i.${i}17 INFO worker[10$i]: request a${i}b3c4d5e${i} from 10.0.0.$i took $i ms"
  echo "2026-11-22 12:00:0$i.${i}18 WARN worker[10$i]: retry $i of \"upload\", left: $((i * 7919))"
  echo "{\"time\":\"2026-11-22T12:00:0${i}Z\",\"level\":\"info\",\"n\":$i,\"user\":{\"id\":\"u$i\"}}"
done >sample

mkdir -p logs/nginx logs/empty
make_log logs/app.log 0.25
make_log logs/app.log.1 0.2 2
make_log logs/plain 0.06 3
gzip -9 <logs/plain >logs/app.log.2.gz
sed 's/$/\r/' logs/plain >logs/nginx/access.log
head -c 30000 logs/plain >logs/nginx/cut-short.log
: >logs/nothing.log
ln -s app.log logs/current

for level in 1 3 6 9; do
  expect 0 zipllm compress -q -f -$level logs -o logs.zllm
  rm -rf back
  expect 0 zipllm decompress -q logs.zllm -o back
  diff -r --no-dereference logs back || fail "level $level"
done
(($(stat -c %s logs.zllm) * 8 < $(du -sb logs | cut -f1))) || fail "logs do not get small"
rm logs.zllm

# One by one, under their names; put together, they are an archive of both.
expect 0 zipllm compress -q logs/app.log -o app.log.zllm
expect 0 zipllm compress -q logs/app.log.1 -o app.log.1.zllm
cat app.log.zllm app.log.1.zllm >both.zllm
rm -rf back
mkdir back
expect 0 zipllm decompress -q both.zllm -o back
same back/app.log logs/app.log
same back/app.log.1 logs/app.log.1

# From what writes them, to what reads them.
cat logs/app.log logs/app.log.1 | zipllm compress -6 - | zipllm decompress - |
  cmp - <(cat logs/app.log logs/app.log.1) || fail "pipes"
want=$(grep -c 'WARN.*upload' logs/app.log)
[[ $(zipllm decompress -c app.log.zllm | grep -c 'WARN.*upload') == "$want" ]] || fail "grep"

# A log that grows while it is read: what was there of it comes back.
make_log growing.log 0.2
(for ((i = 0; i < 400; ++i)); do echo "more $i"; done >>growing.log) &
zipllm compress -q growing.log -o growing.zllm
code=$?
wait
((code == 0 || code == 4)) || fail "exit code $code"  # 4: it warns that the file has changed
expect 0 zipllm test -q growing.zllm
zipllm decompress -c growing.zllm >was.log || fail "grew"
cmp -n "$(stat -c %s was.log)" was.log growing.log || fail "what grew is not a beginning"
