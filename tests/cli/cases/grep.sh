# Lines of a log: by number, by time, and those that match a pattern.
grep --version 2>/dev/null | grep -q "GNU grep" || skip "no GNU grep"
cat >make.py <<'END'
import random
r = random.Random(5)
second = 0
with open("app.log", "wb") as f:
    for i in range(150000):
        second += r.randrange(3)
        h, m, s = second // 3600 % 24, second // 60 % 60, second % 60
        day = 1 + second // 86400
        f.write(b"2024-01-%02d %02d:%02d:%02d INFO worker-%d finished task %d of %s\n" % (
            day, h, m, s, r.randrange(8), r.randrange(10**9),
            r.choice([b"import", b"export", b"clean-up"])))
        if r.randrange(50) == 0:
            f.write(b"\tat com.example.Task.run(Task.java:%d)\n" % r.randrange(400))
        if i == 140000:
            f.write(b"2024-01-%02d %02d:%02d:%02d ERROR quicksilver leak\n" % (day, h, m, s))
    f.write(b"caf\xc3\xa9 without an end")
END
python3 make.py || fail "no log"
expect 0 zipllm compress -3 app.log
lines=$(grep -c '' app.log)

for range in 1:1 1:10 77000:77100 120000:120001 150000: $((lines - 3)):; do
  expect 0 zipllm cat app.log.zllm --lines $range
  last=${range#*:}
  sed -n "${range%:*},${last:-\$}p" app.log | cmp - "$capture/out" || fail "lines $range"
done
expect 0 zipllm cat app.log.zllm --lines=-5:
tail -n 5 app.log | cmp - "$capture/out" || fail "last lines"
expect 0 zipllm cat app.log.zllm --lines :-2
head -n -1 app.log | cmp - "$capture/out" || fail "all but the last line"
expect 0 zipllm cat app.log.zllm --lines 999999:
out_empty
expect 0 zipllm cat app.log.zllm --since "2024-01-02 03:04:05" --until 2024-01-02T03:30:00
awk '/^2024/ { inside = $1 " " $2 >= "2024-01-02 03:04:05" && $1 " " $2 <= "2024-01-02 03:30:00" }
     inside' app.log | cmp - "$capture/out" || fail "times"
expect 0 zipllm cat -v app.log.zllm --since 2024-01-02 --until "2024-01-02 00:00:30"
read -r few all < <(sed -E 's/.*read ([0-9]+) of ([0-9]+) bytes.*/\1 \2/' "$capture/err")
((few < all)) || fail "everything is read for some seconds"
expect 2 zipllm cat app.log.zllm --lines 5
err_has "is not A:B"
expect 2 zipllm cat app.log.zllm --lines 0:5
expect 2 zipllm cat app.log.zllm --since yesterday
err_has "is no time"
expect 2 zipllm cat app.log.zllm --lines 1:2 --range 0:5

# alike ARGUMENT...: zipllm grep does what grep does.
alike() {
  grep "$@" app.log >want 2>/dev/null
  local code=$?
  expect $code zipllm grep "$@" app.log.zllm
  cmp want "$capture/out" || fail "grep $*"
}
alike quicksilver
alike -n quicksilver
alike -c 'task 12*3'
alike -ciE 'ERROR|WORKER-[37]'
alike -no 'Task\.[a-z]*'
alike -nw run
alike -x 'caf. without an end'
alike -v INFO
alike -vc 'worker-[0-9]'
alike -F -e 'ERROR' -e '(Task.java:7)'
alike -m 3 -A 2 export
alike -n -B 1 -C 2 'java:39'
alike -l leak
alike -L leak
alike -q leak
alike -H quicksilver
alike nothing-like-this
alike -i QUICKSILVER
alike '^$'
alike ''
LC_ALL=C alike -c 'caf..'
LC_ALL=C alike -o 'caf.'
alike -o 'caf.'
printf 'ERROR\nJanuary\n' >patterns
alike -f patterns
: >none
alike -f none
alike --color=never -nH ERROR

# Blocks in which it cannot be are not read.
expect 0 zipllm grep --verbose quicksilver app.log.zllm
read -r few all < <(sed -E 's/.*read ([0-9]+) of ([0-9]+) bytes.*/\1 \2/' "$capture/err")
((few < all)) || fail "everything is read for a rare word"

# Binary data.
{ cat app.log; printf 'x\0y ERROR\n'; } >mixed.bin
zipllm compress -1 mixed.bin
grep -c ERROR mixed.bin >want
expect 0 zipllm grep -c ERROR mixed.bin.zllm
same want "$capture/out"
grep -a ERROR mixed.bin >want
expect 0 zipllm grep -a ERROR mixed.bin.zllm
same want "$capture/out"
printf 'a ERROR\0b\n' >small.bin
zipllm compress small.bin
expect 0 zipllm grep ERROR small.bin.zllm
out_empty
err_has "small.bin: binary file matches"

# Several archives, and one of a folder.
mkdir -p tree/in
head -n 100 app.log >tree/in/a.log
tail -n 100 app.log >tree/b.log
expect 0 zipllm compress tree
grep -r task tree | sort >want
expect 0 zipllm grep task tree.zllm
sort "$capture/out" | cmp want - || fail "tree"
grep -c ERROR app.log small.bin >want
expect 0 zipllm grep -c ERROR app.log.zllm small.bin.zllm
same want "$capture/out"
expect 0 zipllm grep -h ERROR app.log.zllm tree.zllm
grep -h ERROR app.log | cmp - "$capture/out" || fail "no names"

expect 2 zipllm grep '\(' app.log.zllm
err_has "Unmatched"
expect 2 zipllm grep
expect 2 zipllm grep x nowhere.zllm
err_has "nowhere.zllm"
expect 0 zipllm grep -q ERROR app.log.zllm nowhere.zllm
err_empty

# Options that overrule each other, and patterns of which GNU grep and the C library think otherwise.
alike -qc nothing-like-this
alike -qL nothing-like-this
alike -m 0 '\('
alike -vc ''
alike -Fvoc ''
alike -vL ''
alike -xvc ''
alike -cf none
alike -Lf none
alike -vcf none
alike -E -wxo 'x|'
alike -E -wo '|ERROR'
alike -c '[:alpha:]'
alike -c '[^[:alpha:]:]'
printf '{"level": "ERROR"}\n"level": 1\n{1}\n\n' >>app.log
expect 0 zipllm compress -f app.log
alike -nE '{"level"'
alike -nE 'x{2|{"lev'
alike -cE '^{'
alike -xE '{"level": "ERROR"}'
alike -cE '{1}'
alike -cE '(^*"le|{2}{)'
alike -oE '{"level"'
alike -F $'\xc3'
alike -n $'caf\xc3'
printf 'a\xff b\nc b\n' >app.log
expect 0 zipllm compress -f app.log
alike -n -C 1 b
alike -c $'a\xff'
alike -ao 'a.'
