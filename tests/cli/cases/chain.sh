# --chain: checkpoints one after another, each against an earlier one.
size() { stat -c %s "$1"; }
before=
for step in 90 100 110 120 130 140; do
  mkdir step-$step
  if [[ -z $before ]]; then
    model step-$step/model.safetensors 30000
  else
    tuned step-$step/model.safetensors $before/model.safetensors $step
  fi
  echo "{\"step\": $step}" >step-$step/state.json
  before=step-$step
done
expect 0 zipllm compress -q step-110 -o alone.zllm

mkdir run
expect 0 zipllm compress -q --chain -o run/ step-90 step-100 step-110
for step in 100 110; do
  ((2 * $(size run/step-$step.zllm) < $(size alone.zllm))) || fail "step $step is coded alone"
done
(cd run && sha256sum *) >"$capture/sums"
expect 0 zipllm compress -q --chain -o run/ step-120
expect 0 zipllm compress -q --chain -o run/ step-130 step-140
(cd run && sha256sum --quiet -c "$capture/sums") || fail "earlier archives were touched"
for step in 90 100 110 120 130 140; do
  expect 0 zipllm decompress -q run/step-$step.zllm -o back
  diff -r back step-$step || fail "step $step"
  rm -r back
done
mkdir again
zipllm compress -q --chain -T4 -o again/ step-90 step-100 step-110 || fail "-T4"
(cd again && sha256sum --quiet -c "$capture/sums") || fail "threads differ"

# Number 4 stands on number 0 alone, number 5 on 4 and 0.
mkdir some
cp run/step-90.zllm run/step-130.zllm run/step-140.zllm some
expect 0 zipllm test -q some/step-130.zllm some/step-140.zllm
rm some/step-90.zllm
expect 1 zipllm test -q some/step-130.zllm
err_has "step-90"
rm -r some again

# Keyframes are alone.
mkdir keys
expect 0 zipllm compress -q --chain --keyframe 2 -o keys/ step-90 step-100 step-110 step-120
mkdir some
cp keys/step-110.zllm keys/step-120.zllm some
expect 0 zipllm test -q some/step-110.zllm some/step-120.zllm
(($(size keys/step-110.zllm) == $(size alone.zllm))) || fail "a keyframe is not as alone"

# What is there stays.
expect 1 zipllm compress -q --chain -o run/ step-140
err_has "step-140.zllm"
expect 1 zipllm compress -q -f --chain -o run/ step-110
err_has "step-140.zllm comes after it"
(cd run && sha256sum --quiet -c "$capture/sums") || fail "earlier archives were touched"
expect 0 zipllm compress -q -f --chain -o run/ step-140

expect 2 zipllm compress --keyframe 2 step-90 -o x
for n in 0 17 two; do
  expect 2 zipllm compress --chain --keyframe $n -o x/ step-90
done
expect 1 zipllm compress -q --chain -c step-90
err_has "--chain needs"
gone x
