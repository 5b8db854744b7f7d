# Logs that ask for much: a line of 64 MB, a million templates. Memory stays bounded.
# peak MIB COMMAND...: what it takes at most.
peak() {
  python3 - "$@" <<'PYTHON' || fail "failed or took too much memory: ${*:2}"
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
if code or used > int(sys.argv[1]):
    sys.exit(f"exit status {code}, {used} MiB: {sys.argv[2:]}")
PYTHON
}
both_ways() {  # both_ways NAME LEVEL
  peak 700 "$zipllm_binary" compress -q -f --no-verify -T2 "-$2" "$1" -o packed.zllm
  peak 400 "$zipllm_binary" decompress -q -f --no-sync -T2 packed.zllm -o back
  same back "$1"
}

python3 - <<'PYTHON'
import random
source = random.Random(1)
with open("line", "w") as f:
    f.write("2026-11-22 12:00:00 INFO start\n")
    for i in range(2_300_000):
        f.write(f"request {i:07} took {source.randrange(900)} ms; ")
    f.write("\n2026-11-22 12:00:01 INFO end\n")
words = ["".join(source.choices("abcdefghijklmnop", k=source.randint(2, 9))) for _ in range(5000)]
with open("templates", "w") as f:
    for i in range(1_000_000):
        f.write(f"12:{i // 60 % 60:02}:{i % 60:02} " + " ".join(source.choices(words, k=5)) + "\n")
PYTHON
(($(stat -c %s line) > 64000000)) || fail "the line is too short"
for level in 1 3; do
  both_ways line $level
  both_ways templates $level
done
