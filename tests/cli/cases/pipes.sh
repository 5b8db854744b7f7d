# Standard input and output.
model m 20000
zipllm compress - <m >a.zllm || fail "file on standard input"
zipllm decompress - <a.zllm >back || fail "archive on standard input"
same back m
cat m | zipllm compress - | zipllm decompress - | cmp - m || fail "pipes both ways"
cat m | zipllm compress | zipllm decompress | cmp - m || fail "no FILE is standard input"
cat m | zipllm c | cat | zipllm d -c | cmp - m || fail "aliases"
set -o pipefail
zipllm compress -c m | zipllm test - || fail "test of a pipe"

# Through pipes or not, with many threads or one: the same archive.
zipllm compress -c -T1 m >one.zllm
zipllm compress -c -T4 m >four.zllm
same one.zllm four.zllm
expect 0 zipllm compress m -o file.zllm
same one.zllm file.zllm
zipllm compress -T1 - <m >one.zllm
zipllm compress -T4 - <m >four.zllm
same one.zllm four.zllm

# A pipe to a file or directory, and the other way round.
cat m | zipllm compress - -o named.zllm || fail "pipe to file"
expect 0 zipllm test named.zllm
cat a.zllm | zipllm decompress - -o named || fail "pipe to file"
same named m
mkdir d
cp m d/m
zipllm compress -c d | zipllm decompress - -o e || fail "pipe to directory"
diff -r d e || fail "directory through a pipe"

# Several: one after another.
printf 'one\n' >1
printf 'two\n' >2
zipllm compress -c 1 2 >both.zllm || fail "two archives"
zipllm decompress -c both.zllm >both || fail "two archives"
printf 'one\ntwo\n' | cmp - both || fail "concatenated archives"
expect 0 zipllm list both.zllm
out_has 2

: >empty
zipllm compress - <empty | zipllm decompress | cmp - empty || fail "nothing"

# Random access needs more than a pipe.
for command in list info cat; do
  expect 1 zipllm $command - < <(cat a.zllm)
  err_has "is a pipe"
  err_has "save it to a file first"
  expect 0 zipllm $command - <a.zllm
done

# A reader that goes away: no message, and the exit code of SIGPIPE.
model large 400000
expect 0 zipllm compress large
{ zipllm decompress -c large.zllm; echo $? >"$capture/code"; } 2>"$capture/err" | true
[[ $(cat "$capture/code") == 141 ]] || fail "exit code $(cat "$capture/code")"
err_empty
{ zipllm list large.zllm >/dev/full; } 2>"$capture/err"
[[ $? == 1 ]] || fail "full standard output"
err_has "standard output"
{ zipllm compress -c m >/dev/full; } 2>"$capture/err"
[[ $? == 1 ]] || fail "full standard output"
err_has "No space left"
zipllm decompress large.zllm -o fifo-out <&- || fail "closed standard input"
