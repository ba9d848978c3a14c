#!/bin/sh
# Writes requirements.lock from requirements.in: what the images install beside the base's torch and torchvision, every package with the
# hashes of its files, for Python 3.10 and wheels that run on glibc 2.17 and newer. Needs uv (pip install uv).
set -eu
cd "$(dirname "$0")"
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT
{
  echo "protobuf==3.20.0"
  echo "torch ; sys_platform == 'never'"
  echo "torchvision ; sys_platform == 'never'"
} >"$overrides"
{
  echo "# Written by containers/cogview2/lock.sh from requirements.in"
  uv pip compile --quiet requirements.in --override "$overrides" --python-version 3.10 --python-platform x86_64-manylinux_2_17 \
    --only-binary :all: --no-binary deepspeed --no-binary icetk --no-binary swissarmytransformer \
    --generate-hashes --no-header --no-annotate
} >requirements.lock.new
mv requirements.lock.new requirements.lock
