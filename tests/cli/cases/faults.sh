# Each system call that can fail does, once at each place: no half-written target, the
# input as it was, and with short reads and writes the right bytes all the same.
command -v cc >/dev/null || skip "no cc"
shim=$capture/fault.so
cc -shared -fPIC -o "$shim" "$here/fault.c" -ldl || fail "fault.c does not compile"
LD_PRELOAD=$shim "$zipllm_binary" --version >"$capture/out" 2>"$capture/err" || skip "no LD_PRELOAD"
[[ -s $capture/err ]] && skip "no LD_PRELOAD here (sanitizers?)"

mkdir d d/sub
model d/m 20000
cp d/m d/sub/copy
head -c 3000 /dev/urandom >d/sub/bytes
zipllm compress -q d -o d.zllm || fail "compress"
sha256sum d.zllm >"$capture/sums"
(cd d && find . -type f -exec sha256sum {} +) >"$capture/tree"

# attempt TARGET COMMAND...: fails at call 1, 2, 3, … until it no longer does.
attempt() {
  local target=$1 nth code failures=0
  shift
  for ((nth = 1; nth < 500; ++nth)); do
    FAULT_CALL=$call FAULT_NTH=$nth FAULT_ERRNO=$errno LD_PRELOAD=$shim \
      "$zipllm_binary" "$@" >"$capture/out" 2>"$capture/err"
    code=$?
    (cd d && sha256sum -c --quiet "$capture/tree") || fail "input changed: $call $nth"
    sha256sum -c --quiet "$capture/sums" || fail "archive changed: $call $nth"
    if ((code == 0)); then
      there "$target"
      rm -rf "$target"
      only d d.zllm
      return
    fi
    # Once it has its name the target is whole: only the sync of its folder may fail then.
    if [[ -e $target ]]; then
      [[ $call == fsync ]] || fail "$target is there after $call $nth failed"
      if [[ -d $target ]]; then
        (cd "$target" && sha256sum -c --quiet "$capture/tree") || fail "half of $target"
      else
        zipllm test -q "$target" || fail "half of $target"
      fi
      rm -rf "$target"
    fi
    only d d.zllm
  done
  fail "$call never stops failing"
}

for errno in 5 28; do # EIO, ENOSPC
  for call in read pread write fsync fchmod futimens linkat; do
    attempt new.zllm compress -q -T1 d -o new.zllm
  done
  for call in read pread write fsync syncfs fchmod futimens linkat mkdirat renameat2; do
    attempt new decompress -q -T1 d.zllm -o new
  done
done

FAULT_SHORT=777 LD_PRELOAD=$shim "$zipllm_binary" compress -q d -o new.zllm || fail "short reads"
same new.zllm d.zllm
FAULT_SHORT=777 LD_PRELOAD=$shim "$zipllm_binary" decompress -q new.zllm -o new || fail "short reads"
diff -r d new || fail "short reads"
