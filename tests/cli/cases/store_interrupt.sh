# Signals while a store works: what is there stays, and what is not complete is not there.
defaults=(env --default-signal=INT,TERM,HUP "$zipllm_binary")
model base 100000
mkdir big
for i in 1 2 3 4 5 6; do noise big/$i $((4000000 + i)); done
expect 0 zipllm store init s
expect 0 zipllm store add s base base
killed=0
for delay in 0.02 0.05 0.1 0.2 0.4; do
  "${defaults[@]}" store add s big@$delay big -9 -T1 2>"$capture/err" &
  pid=$!
  sleep $delay
  kill -INT $pid 2>/dev/null
  wait $pid
  code=$?
  if [[ $code == 130 ]]; then
    err_has interrupted
    killed=$((killed + 1))
    expect 1 zipllm store show s big@$delay
  elif [[ $code == 0 ]]; then
    expect 0 zipllm store get s big@$delay -o back
    diff -r big back || fail "big@$delay"
    rm -r back
  else
    fail "exit code $code"
  fi
done
((killed > 0)) || fail "no add was interrupted"
expect 0 zipllm store fsck s
expect 0 zipllm store get s base -o back
same back/base base
expect 0 zipllm store gc s --grace 0
expect 0 zipllm store add s big big
rm -r back
for delay in 0.01 0.03 0.06; do
  "${defaults[@]}" store get s big -o back -T1 2>"$capture/err" &
  pid=$!
  sleep $delay
  kill -TERM $pid 2>/dev/null
  wait $pid
  code=$?
  if [[ $code == 143 ]]; then
    gone back
  elif [[ $code == 0 ]]; then
    rm -r back
  else
    fail "exit code $code"
  fi
done
expect 0 zipllm store get s big -o back
diff -r big back || fail big
