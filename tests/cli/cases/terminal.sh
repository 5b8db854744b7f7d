# What changes on a terminal: no binary output, questions, progress.
command -v script >/dev/null || skip "no script(1)"
model m
expect 0 zipllm compress m
# on_terminal COMMAND: all three streams are a terminal; $input is typed.
on_terminal() {
  printf '%s' "${input-}" |
    script -qec "$1; echo \"exit \$?\"" /dev/null >"$capture/out" 2>"$capture/err"
}
zipllm="'$zipllm_binary'"

on_terminal "$zipllm compress -c m"
out_has "refusing to write an archive to a terminal"
out_has "exit 1"
on_terminal "$zipllm decompress -c m.zllm"
out_has "refusing to write binary data to a terminal"
out_has "exit 1"
on_terminal "$zipllm cat m.zllm embed.weight"
out_has "refusing to write binary data to a terminal"
on_terminal "$zipllm decompress -cf m.zllm >/dev/null"
out_has "exit 0"
on_terminal "$zipllm compress"
out_has "standard input is a terminal"
out_has "exit 2"

# Text may be shown, escape sequences may not.
echo '{"hidden_size": 64}' >config.json
expect 0 zipllm compress config.json
on_terminal "$zipllm decompress -c config.json.zllm"
out_has '"hidden_size"'
out_has "exit 0"
printf 'red \033[31m' >escape
expect 0 zipllm compress escape
on_terminal "$zipllm decompress -c escape.zllm"
out_has "refusing to write binary data"

# Questions.
echo mine >m.zllm
input=$'n\n' on_terminal "$zipllm compress m"
out_has "m.zllm exists; replace it? [y/N]"
out_has "exit 1"
[[ $(cat m.zllm) == mine ]] || fail "m.zllm was replaced after 'n'"
input=$'y\n' on_terminal "$zipllm compress m"
out_has "exit 0"
expect 0 zipllm test m.zllm
echo mine >m.zllm
on_terminal "$zipllm compress -q m </dev/null"
out_has "exit 1"
[[ $(cat m.zllm) == mine ]] || fail "m.zllm was replaced without a question"
rm m.zllm

# A summary, and progress while it lasts.
on_terminal "$zipllm compress m"
out_has "m: "
out_has "m.zllm"
rm m.zllm
on_terminal "$zipllm compress -q m"
[[ $(tr -d '\r' <"$capture/out") == "exit 0" ]] || fail "-q is not quiet"
noise n 20000000
on_terminal "(cat n; sleep 0.5; cat n) | $zipllm compress - -o n.zllm"
out_has "/s"
grep -q $'\r.*ratio.*\e\\[K' "$capture/out" || fail "no progress line"
out_has "exit 0"
