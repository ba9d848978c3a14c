#!/usr/bin/env bash
# Downloads into .whl/ what a machine with Python 3.12, torch, transformers and pytest, and no network, lacks for tests/gpu:
# bash tests/gpu/wheels.sh. session.sh installs it there. Versions are those of constraints.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
mkdir -p .whl
pinned() { for name; do grep -m1 -i "^$name==" constraints.txt || echo "$name"; done; }
# shellcheck disable=SC2046
"$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp -d .whl \
  --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
  $(pinned diffusers hydra-core omegaconf submitit msgspec pycocotools imagehash PyWavelets importlib_metadata lazy-importer)
# these have no wheels and no code to compile
# shellcheck disable=SC2046
"$PYTHON" -m pip wheel -q --no-deps -w .whl $(pinned fairscale) antlr4-python3-runtime==4.9.3
du -ch .whl/*.whl
