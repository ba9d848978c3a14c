#!/bin/sh
# Installs synthset into /opt/synthset, an environment over the base image's Python, whose torch stays the one in use.
# Run by both recipes, as root, twice: `packages` with requirements.lock beside it, then `code` with the source in /opt/src.
# COMMIT and BASE: of what is built and on what, for people.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
env=/opt/synthset

fail() {
  echo "install.sh: $*" >&2
  exit 65
}

pip() { # ensurepip is no part of every base: the base's own pip installs into the environment
  "$python" -m pip --disable-pip-version-check --no-cache-dir --python "$env/bin/python3" "$@"
}

packages() {
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$("$python" -V) in the base image; synthset needs 3.11 or newer"
  "$python" -c 'import torch; print("torch of the base:", torch.__version__)' || fail "the base image has no torch: choose one with torch (BASE)"
  "$python" -m venv --system-site-packages --without-pip "$env"
  # setuptools first: what comes as source is built with this one, not with whatever is the newest today
  sed -n '/^setuptools==/,/[0-9a-f]$/p' "$here/requirements.lock" >/tmp/setuptools.lock
  pip install --no-deps --require-hashes -r /tmp/setuptools.lock
  pip install --no-deps --require-hashes --no-build-isolation -r "$here/requirements.lock"
  rm -f /tmp/setuptools.lock
}

code() {
  pip install --no-deps --no-build-isolation /opt/src
  "$env/bin/python3" -I "$here/fits.py" "$("$python" -c 'import torch; print(torch.__version__)')"
  install -m 755 "$here/check.sh" "$env/bin/synthset-check"
  printf '{"base": "%s", "commit": "%s"}\n' "${BASE:-}" "${COMMIT:-}" >"$env/image.json"
  chmod -R a+rX "$env"
  rm -rf /opt/src
}

python=$(command -v python3) || fail "the base image has no python3"
case ${1:-} in
  packages) packages ;;
  code) code ;;
  *) fail "packages or code" ;;
esac
