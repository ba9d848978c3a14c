#!/usr/bin/env bash
# One GPU, in pieces of at most ten minutes: bash tests/gpu/session.sh short|prove|captions|images|memory|suite
# short: the most in six minutes. Logs go to $OUT. On a machine without the packages bring .whl along (tests/gpu/wheels.sh).
# SYNTHSET_GPU_TESTS=cpu: a dry run of each piece with small sizes, on a CPU.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
PYTHON=${PYTHON:-python3}
if [ -d .whl ] && ! "$PYTHON" -c 'import diffusers, hydra, submitit, fairscale' 2>/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site .whl/*.whl || exit
fi
export PYTHONPATH=$PWD:/tmp/site PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 SYNTHSET_GPU_TESTS=${SYNTHSET_GPU_TESTS:-cuda}
OUT=${OUT:-/tmp/out}
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
mkdir -p "$OUT"
DRY=; [ "$SYNTHSET_GPU_TESTS" = cpu ] && DRY=1 && export CUDA_VISIBLE_DEVICES=
BAD=0

# piece NAME SECONDS COMMAND..: runs it, keeps its output in $OUT/NAME.txt, goes on whatever becomes of it. At the end of its
# time it is interrupted, so that pytest still says what it found
piece() {
  local name=$1 seconds=$2 code
  shift 2
  echo "== $name ($(date +%T))"
  timeout -s INT -k 15 "$seconds" "$@" 2>&1 | tee "$OUT/$name.txt"
  code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { BAD=1; echo "== $name ended with $code (124: its $seconds s were over)"; }
}

machine() { [ -n "$DRY" ] || nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader; }
probe() { piece probe 90 "$PYTHON" -m tests.gpu.probe; }
tests() { piece tests "$1" "$PYTHON" -m pytest -m gpu tests/gpu -n "${DRY:-14}" --dist loadgroup -v -ra --durations 10 -p no:cacheprovider --junitxml "$OUT/tests.xml"; }

# captions_of NAME SECONDS NUMERICS CAPTIONS OPTIONS..
captions_of() {
  local name=$1 seconds=$2 numerics=$3 captions=$4
  shift 4
  local shapes=7b
  [ -z "$DRY" ] || { shapes=smoke captions=32; set -- "$@" --rows 16; }
  piece "$name" "$seconds" "$PYTHON" -m tests.bench.captions --shapes "$shapes" --captions "$captions" --rounds 1 --numerics "$numerics" "$@"
}

# images_of NAME SECONDS SHAPES OPTIONS..
images_of() {
  local name=$1 seconds=$2 shapes=$3
  shift 3
  [ -z "$DRY" ] || { shapes=tiny; set -- "$@" --images 2 --batch 2 --steps 1; }
  piece "$name" "$seconds" "$PYTHON" -m tests.bench.images --shapes "$shapes" --rounds 1 "$@"
}

case ${1:-} in
short) # what is worth most first: a call that is cut off has shown it
  machine
  tests 240
  probe
  captions_of captions-exact 100 exact 512 --groups 8 --native-only
  images_of sd15-exact 90 sd15 --images 16 --numerics exact --stages-only
  ;;
prove)
  machine
  probe
  tests 480
  ;;
captions)
  for numerics in exact fast; do captions_of "captions-$numerics" 190 "$numerics" 1024; done
  captions_of captions-4096 180 exact 4096 --groups 8 --native-only
  ;;
images)
  images_of sd15 330 sd15 --numerics exact,fast,reference --compile default
  images_of sdxl 240 sdxl --images 4 --steps 20 --numerics exact,fast --compile none
  ;;
memory)
  piece peaks 280 "$PYTHON" -m tests.gpu.peaks ${DRY:+tiny}
  small=(captions.total=20 captions.unit_size=10 captions.allow_short=true images.steps=4 images.unit_size=10 images.batch_size=10)
  piece run 140 "$PYTHON" launch/run.py runs_dir="$SCRATCH/run" "${small[@]}"
  if [ -z "$DRY" ]; then
    piece idle 140 "$PYTHON" launch/node.py gpus=idle runs_dir="$SCRATCH/idle" "${small[@]}"
  fi
  echo "== the devices that workers name when they open a stage"
  grep -h '"open"' "$SCRATCH"/*/*/*/events/*.jsonl | grep -o '"device": *"[^"]*"' | sort | uniq -c
  ;;
suite)
  folders=(tests/images tests/captions/llama tests/captions/hf tests/story tests/filters tests/embedded)
  [ -z "$DRY" ] || folders=(tests/images/test_painter.py)
  piece suite 570 "$PYTHON" -m pytest "${folders[@]}" -n "${DRY:-8}" --dist loadfile -q -ra -p no:cacheprovider --junitxml "$OUT/suite.xml"
  ;;
*)
  grep '^# ' "$0" | sed 's/^# //' | head -3
  exit 2
  ;;
esac
exit "$BAD"
