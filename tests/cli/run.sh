#!/bin/bash
# Runs one case: run.sh CASE ZIPLLM SHARE. The case is sourced in an empty folder,
# with the functions below. Exit code 0 passed, 1 failed, 77 skipped.
set -u
case_file=$(realpath "$1")
zipllm_binary=$(realpath "$2")
share=$3
here=$(dirname "$(realpath "$0")")
export LC_ALL=C.UTF-8 TZ=UTC
umask 022

work=$(mktemp -d "${TMPDIR:-/tmp}/zipllm-cli.XXXXXX")
clean() {
  chmod -R u+rwx "$work"
  rm -rf "$work"
}
trap clean EXIT
cd "$work" || exit 1
# Outside the folder that cases look at.
capture=$work/.capture
mkdir "$capture" work && cd work || exit 1

zipllm() { "$zipllm_binary" "$@"; }

fail() {
  echo "FAILED: $*"
  echo "  in $(caller | cut -d' ' -f2):${BASH_LINENO[1]}"
  [[ -f $capture/err ]] && sed 's/^/  stderr: /' "$capture/err" | cat -v
  exit 1
}
skip() {
  echo "skipped: $*"
  exit 77
}

# expect CODE COMMAND...: runs it; its output is in $capture/out and $capture/err.
expect() {
  local want=$1 got
  shift
  "$@" >"$capture/out" 2>"$capture/err"
  got=$?
  [[ $got == "$want" ]] || fail "exit code $got, not $want: $*"
}
# What the last `expect` wrote.
err_has() { grep -qF -- "$1" "$capture/err" || fail "standard error lacks: $1"; }
out_has() { grep -qF -- "$1" "$capture/out" || fail "standard output lacks: $1"; }
err_empty() { [[ ! -s $capture/err ]] || fail "standard error is not empty"; }
out_empty() { [[ ! -s $capture/out ]] || fail "standard output is not empty"; }
# Each line of standard error starts like this.
err_is_ours() {
  ! grep -v '^zipllm: ' "$capture/err" >/dev/null || fail "a line not by zipllm"
}

same() { cmp -- "$1" "$2" || fail "$1 and $2 differ"; }
there() { [[ -e $1 || -L $1 ]] || fail "$1 is missing"; }
gone() { [[ ! -e $1 && ! -L $1 ]] || fail "$1 is there"; }
# only NAME...: the folder holds these names and no others, hidden ones included.
only() {
  local have want
  have=$(find . -mindepth 1 -maxdepth 1 -printf '%f\n' | sort)
  want=$(printf '%s\n' "$@" | sort)
  [[ $have == "$want" ]] || fail "the folder holds: ${have//$'\n'/ }"
}

# model NAME [WEIGHTS [SEED]]: a safetensors file of BF16 and F32 tensors.
model() { python3 "$here/make_model.py" "$@" || fail "cannot make $1"; }
# tuned NAME FROM [SEED [PREFIX]]: the model FROM after some training, its tensors' names
# with PREFIX before them.
tuned() { python3 "$here/make_model.py" --tuned "$@" || fail "cannot make $1"; }
# noise NAME BYTES: bytes that do not compress, the same each time.
noise() { python3 "$here/make_model.py" --noise "$@" || fail "cannot make $1"; }
# flip NAME OFFSET: inverts a byte.
flip() {
  python3 -c 'import sys
f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)
f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 255]))' "$@"
}
# wait_for COMMAND...: until it succeeds, 20 s at most.
wait_for() {
  local i
  for ((i = 0; i < 400; ++i)); do
    "$@" && return
    sleep 0.05
  done
  fail "waited in vain for: $*"
}

. "$case_file"
echo passed
