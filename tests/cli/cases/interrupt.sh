# Signals: a clean stop, nothing half-written, the input untouched.
# In the background bash ignores SIGINT, and what is ignored stays so.
defaults=(env --default-signal=INT,TERM,HUP "$zipllm_binary")
noise n 40000000
cp n original
mkfifo slow

# stop SIGNAL CODE COMMAND...: starts it, feeds `slow` half of n, sends the signal.
stop() {
  local signal=$1 want=$2 code pid
  shift 2
  "$@" >/dev/null 2>"$capture/err" <slow &
  pid=$!
  exec 9>slow
  head -c 20000000 "$fed" >&9
  sleep 0.3
  kill -"$signal" $pid
  wait $pid
  code=$?
  exec 9>&-
  [[ $code == "$want" ]] || fail "exit code $code, not $want: $*"
}
fed=n
for signal in INT:130 TERM:143 HUP:129; do
  stop ${signal%:*} ${signal#*:} "${defaults[@]}" compress - -o x.zllm
  err_has "interrupted"
  only n original slow
done
expect 0 zipllm compress -1 n
fed=n.zllm
stop INT 130 "${defaults[@]}" decompress - -o x
only n original slow n.zllm
stop INT 130 "${defaults[@]}" test -

# Into a directory.
mkdir tree
cp n tree/a
cp n tree/b
expect 0 zipllm compress -1 --no-dedup tree
rm -r tree
fed=tree.zllm
stop INT 130 "${defaults[@]}" decompress - -o tree
only n original slow n.zllm tree.zllm
rm tree.zllm n.zllm

# Reading a file, as fast as it goes: wherever the signal hits, there is either the
# complete archive or none.
for delay in 0.01 0.03 0.06 0.1; do
  "${defaults[@]}" compress -T1 --rm n -o x.zllm 2>"$capture/err" &
  pid=$!
  sleep $delay
  kill -INT $pid 2>/dev/null
  wait $pid
  code=$?
  if [[ $code == 130 ]]; then
    only n original slow
    same n original
  elif [[ $code == 0 ]]; then
    only original slow x.zllm
    expect 0 zipllm decompress --rm x.zllm -o n
    same n original
  else
    fail "exit code $code"
  fi
done

# Also where a system call is broken off.
"${defaults[@]}" compress slow -o x.zllm 2>"$capture/err" &
pid=$!
sleep 0.3
kill -INT $pid
wait $pid
((code = $?, code == 130)) || fail "exit code $code"
gone x.zllm

# A second signal kills: both are there before the first is handled.
"${defaults[@]}" compress - -o x.zllm <slow 2>"$capture/err" &
pid=$!
exec 9>slow
sleep 0.3
kill -STOP $pid
kill -INT $pid
kill -TERM $pid
kill -CONT $pid
wait $pid
((code = $?, code == 130 || code == 143)) || fail "exit code $code"
err_empty
exec 9>&-

# Ignored signals stay ignored, as under nohup.
(trap '' HUP
  "$zipllm_binary" compress - -o x.zllm <slow &
  pid=$!
  exec 9>slow
  sleep 0.2
  kill -HUP $pid
  echo data >&9
  exec 9>&-
  wait $pid) || fail "nohup"
expect 0 zipllm test x.zllm
