#!/bin/sh
# Writes requirements.lock: what the image installs beside the base's torch, every package with the hashes of its files, for x86_64 and
# aarch64 and each Python that setup.cfg allows. Needs uv (pip install uv). Run it after a change of setup.cfg or constraints.txt.
set -eu
cd "$(dirname "$0")/../.."
without=$(mktemp)
trap 'rm -f "$without"' EXIT
echo "torch ; sys_platform == 'never'" >"$without" # the base brings torch, and with it what torch alone needs
{
  echo "# Written by containers/synthset/lock.sh from setup.cfg and constraints.txt"
  echo "setuptools" | uv pip compile --quiet setup.cfg - --extra openai --extra filters --extra idle --extra lora --extra tracking \
    --extra wordnet -c constraints.txt --override "$without" --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
    --no-emit-package torch --no-emit-package jinja2 --no-emit-package markupsafe --no-emit-package mpmath --no-emit-package networkx \
    --no-emit-package sympy
} >containers/synthset/requirements.lock.new
mv containers/synthset/requirements.lock.new containers/synthset/requirements.lock
