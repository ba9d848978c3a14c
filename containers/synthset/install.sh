#!/bin/sh
# Installs synthset into /opt/synthset, an environment over the base image's Python, whose torch stays the one in use.
# Run by both recipes, as root, with the source in /opt/src. COMMIT and BASE: of what is built and on what, for the labels and for people.
set -eu
src=/opt/src
env=/opt/synthset

fail() {
  echo "install.sh: $*" >&2
  exit 65
}

python=$(command -v python3) || fail "the base image has no python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$("$python" -V) in the base image; synthset needs 3.11 or newer"
torch=$("$python" -c 'import torch; print(torch.__version__)') || fail "the base image has no torch: choose one with torch (BASE)"

# ensurepip is no part of every base: the base's own pip installs into the environment
"$python" -m venv --system-site-packages --without-pip "$env"
pip() {
  "$python" -m pip --disable-pip-version-check --no-cache-dir --python "$env/bin/python3" "$@"
}
# setuptools first: what comes as source is built with this one, not with whatever is the newest today
sed -n '/^setuptools==/,/[0-9a-f]$/p' "$src/containers/synthset/requirements.lock" >/tmp/setuptools.lock
pip install --no-deps --require-hashes -r /tmp/setuptools.lock
pip install --no-deps --require-hashes --no-build-isolation -r "$src/containers/synthset/requirements.lock"
pip install --no-deps --no-build-isolation "$src"
rm -f /tmp/setuptools.lock

"$env/bin/python3" -I - "$torch" <<'PYTHON'
"""Whether what is installed fits together: the base's torch is used, and every requirement of synthset is met."""
import re
import sys
from importlib.metadata import requires, version

import torch
from packaging.requirements import Requirement

wrong = [] if torch.__version__ == sys.argv[1] else [f"torch {torch.__version__} in the place of the base's {sys.argv[1]}"]
for line in requires("synthset"):
    wanted = Requirement(line)
    if "extra ==" in line and "dev" in line:
        continue
    if wanted.marker is None and not wanted.specifier.contains(re.sub(r"\+.*", "", version(wanted.name)), prereleases=True):
        wrong.append(f"{wanted} is asked for, and the image has {version(wanted.name)}")
sys.exit("install.sh: " + "; ".join(wrong) + ": choose another BASE" if wrong else 0)
PYTHON

install -m 755 "$src/containers/synthset/check.sh" "$env/bin/synthset-check"
cat >"$env/image.json" <<JSON
{"base": "${BASE:-}", "commit": "${COMMIT:-}"}
JSON
chmod -R a+rX "$env"
rm -rf "$src"
