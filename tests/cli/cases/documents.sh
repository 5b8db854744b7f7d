# Man page and completions, made from the command's own definition.
for file in man/man1/zipllm.1 bash-completion/completions/zipllm \
  zsh/vendor-completions/_zipllm fish/vendor_completions.d/zipllm.fish; do
  [[ -s $share/$file ]] || fail "$file is missing"
done
page=$share/man/man1/zipllm.1
if command -v mandoc >/dev/null; then
  expect 0 mandoc -T lint "$page"
  out_empty
fi
if command -v man >/dev/null; then
  expect 0 man --warnings -l "$page"
  err_empty
  out_has "EXIT STATUS"
fi
store=(init add ls show get rm gc fsck stats repack export)
for command in compress decompress list info test cat grep derive bench mount "${store[@]/#/store }"; do
  grep -q "^\.SS $command" "$page" || fail "$command is not in the man page"
  # Each option of --help, too.
  # shellcheck disable=SC2086  # one word a command
  zipllm $command --help | grep -oE '^  -[^ ]+|, --[a-z0-9-]+' | grep -oE -- '-.*' | tr -d , |
    while read -r option; do
      grep -qF -- "${option//-/\\-}" "$page" || fail "$option is not in the man page"
    done || exit 1
done

# complete_ WORD...: what bash offers for the last word.
. "$share/bash-completion/completions/zipllm"
complete_() {
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  _zipllm
  printf '%s\n' "${COMPREPLY[@]}"
}
[[ $(complete_ zipllm comp) == compress ]] || fail "subcommand"
[[ $(complete_ zipllm compress --no-v) == --no-verify ]] || fail "option"
[[ $(complete_ zipllm d --sh) == --sha256 ]] || fail "alias"
[[ $(complete_ zipllm stor) == store ]] || fail "group"
[[ $(complete_ zipllm store fs) == fsck ]] || fail "nested subcommand"
[[ $(complete_ zipllm store add --repl) == --replace ]] || fail "nested option"
[[ $(complete_ zipllm store add --ba) == --base ]] || fail "nested option"
[[ -z $(complete_ zipllm store nothing --r) ]] || fail "unknown subcommand"
touch 'a model.zllm' other
[[ $(complete_ zipllm list 'a ') == 'a model.zllm' ]] || fail "file with a space"
[[ $(complete_ zipllm compress -o o) == other ]] || fail "file after -o"
[[ $(complete_ zipllm store export s m -o oth) == other ]] || fail "file after a nested -o"
[[ -z $(complete_ zipllm store gc --grace '') ]] || fail "duration"
[[ -z $(complete_ zipllm compress -T '') ]] || fail "number"
if command -v zsh >/dev/null; then
  expect 0 zsh -n "$share/zsh/vendor-completions/_zipllm"
  expect 0 zsh -fc "fpath=('$share/zsh/vendor-completions' \$fpath); autoload -U compinit; compinit -D; whence -w _zipllm"
  out_has function
  err_empty
fi
if command -v fish >/dev/null; then
  export HOME=$work XDG_CONFIG_HOME=$work XDG_DATA_HOME=$work
  expect 0 fish -c "source '$share/fish/vendor_completions.d/zipllm.fish'; complete -C 'zipllm decompress --sha'"
  out_has "--sha256"
  err_empty
  expect 0 fish -c "source '$share/fish/vendor_completions.d/zipllm.fish'; complete -C 'zipllm store '"
  out_has fsck
  expect 0 fish -c "source '$share/fish/vendor_completions.d/zipllm.fish'; complete -C 'zipllm store add --rep'"
  out_has "--replace"
  err_empty
fi
