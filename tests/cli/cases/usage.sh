# Help, version, and what is wrong usage.
expect 0 zipllm --help
out_has 'compress, c'
out_has 'Exit codes: 0 done'
err_empty
expect 0 zipllm --version
grep -qE '^zipllm [0-9]+\.[0-9]+\.[0-9]+$' "$capture/out" || fail "version"
for command in compress decompress list info test cat derive bench mount store; do
  expect 0 zipllm $command --help
  out_has "Usage: zipllm $command"
  err_empty
  [[ $(wc -L <"$capture/out") -le 80 ]] || fail "$command --help is wider than 80"
done
for alias in c d l i t b; do
  expect 0 zipllm $alias --help
done

expect 2 zipllm
out_empty
err_has "Try 'zipllm --help'"
expect 2 zipllm frobnicate
expect 2 zipllm compress --frobnicate x
err_has "--frobnicate"
err_has "Try 'zipllm compress --help'"
expect 2 zipllm list
err_has "ARCHIVE"
expect 2 zipllm compress -T many x
expect 2 zipllm compress -T -1 x
expect 2 zipllm compress -k --rm x
expect 2 zipllm compress -c -o y x
expect 2 zipllm compress -q -v x
for size in lots '' M 5X 5KK 5bb -5 99999999999999T; do
  expect 2 zipllm decompress "--memory=$size" x
  err_has "memory"
done
for size in 1000 512M 512m 2GiB 2kb 5B 16777215T; do
  expect 1 zipllm decompress "--memory=$size" missing.zllm
done
expect 2 zipllm cat x --range 5
err_has "A:B"
expect 2 zipllm cat x --range 5:3
expect 2 zipllm cat x --range=-5:3
expect 2 zipllm bench -n 0 x
expect 2 zipllm compress - - </dev/null
err_has "only once"
expect 2 zipllm compress --rm - </dev/null
expect 2 zipllm compress --rm -c x
expect 2 zipllm compress --json -c x
err_has "-o FILE"
expect 2 zipllm decompress --json - </dev/null
only

# A file may be named like a subcommand or an option.
noise test 100
noise -v 100
expect 0 zipllm compress test
expect 0 zipllm compress -- -v
only test test.zllm -v -v.zllm
