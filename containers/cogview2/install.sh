#!/bin/sh
# Installs CogView2 beside the torch of a base image, into PREFIX. Run by both recipes, as root, twice: `packages` with requirements.lock
# beside it, then `code`. BASE: the image that this one is built on, by its digest. Sources are cloned at the commits below, or from
# COGVIEW2_REPO and ATTENTION_REPO, which may be mirrors; git holds what comes against the commit's hash.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PREFIX=${PREFIX:-/opt/cogview2}
env=$PREFIX/env
COGVIEW2_REPO=${COGVIEW2_REPO:-https://github.com/THUDM/CogView2}
COGVIEW2_COMMIT=${COGVIEW2_COMMIT:-d92dbad03020b3d1a3ddc195a7c915f333597f95}
ATTENTION_REPO=${ATTENTION_REPO:-https://github.com/Sleepychord/Image-Local-Attention}
ATTENTION_COMMIT=${ATTENTION_COMMIT:-43fee310cb1c6f64fb0ed77404ba3b01fa586026}

fail() {
  echo "install.sh: $*" >&2
  exit 65
}

pip() { # the base's own, which installs where it runs; ensurepip is no part of every base, and old ones know no --python
  "$env/bin/python3" -m pip --disable-pip-version-check --no-cache-dir "$@"
}

packages() {
  case ${BASE:-} in
    *@sha256:*) ;;
    *) fail "BASE=${BASE:-} is not named by its digest; README.md has the command that asks for it" ;;
  esac
  "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' || fail "$("$python" -V) in the base image; requirements.lock is for 3.10"
  "$python" -c 'import torch, torchvision; print("torch of the base:", torch.__version__)' || fail "the base image has no torch and torchvision"
  command -v git >/dev/null || { apt-get update -q && apt-get install -y -q --no-install-recommends git ca-certificates && rm -rf /var/lib/apt/lists/*; }
  "$python" -m venv --system-site-packages --without-pip "$env"
  # setuptools and wheel first: what comes as source is built with these, and finds the base's torch
  sed -n '/^\(setuptools\|wheel\)==/,/[0-9a-f]$/p' "$here/requirements.lock" >/tmp/build.lock
  pip install --no-deps --require-hashes -r /tmp/build.lock
  rm -f /tmp/build.lock
  DS_BUILD_OPS=0 pip install --no-deps --require-hashes --no-build-isolation -r "$here/requirements.lock"
}

cloned() { # REPO COMMIT FOLDER
  git -c advice.detachedHead=false clone --quiet --no-checkout "$1" "$3"
  git -C "$3" -c advice.detachedHead=false checkout --quiet --detach "$2" || fail "$1 has no commit $2"
  rm -rf "$3/.git"
}

# The kernels of local attention, compiled without a GPU: setup.py asks for one, and nvcc takes its kinds of cards from it.
attention() {
  source=$(mktemp -d)
  cloned "$ATTENTION_REPO" "$ATTENTION_COMMIT" "$source/code"
  grep -q 'assert.*cuda.*is_available' "$source/code/setup.py" || fail "setup.py of Image-Local-Attention is another one than this script knows"
  sed -i '/assert.*cuda.*is_available/s/assert .*/pass/' "$source/code/setup.py"
  FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=${ARCH:-$(cards)} MAX_JOBS=${MAX_JOBS:-2} pip install --no-deps --no-build-isolation "$source/code"
  rm -rf "$source"
}

cards() { # an A100's sm_80, sm_86 (A6000; RTX 4090 runs it too), and sm_90 of Hopper where the base's CUDA knows it
  "$env/bin/python3" -c 'import torch; print("8.0;8.6" + (";9.0" if tuple(map(int, torch.version.cuda.split("."))) >= (11, 8) else ""))'
}

code() {
  attention
  cloned "$COGVIEW2_REPO" "$COGVIEW2_COMMIT" "$PREFIX/CogView2"
  [ -f "$PREFIX/CogView2/cluster_label.npy" ] || fail "$COGVIEW2_REPO at $COGVIEW2_COMMIT holds no cluster_label.npy"
  install -m 755 "$here/check.sh" "$env/bin/cogview2-check"
  install -m 644 "$here/adapter.py" "$here/fetch.py" "$PREFIX/"
  printf '#!/bin/sh\nexec "%s/bin/python3" "%s/adapter.py" --code "%s/CogView2" "$@"\n' "$env" "$PREFIX" "$PREFIX" >"$env/bin/cogview2-draw"
  printf '{"base": "%s", "commit": "%s", "cogview2": "%s", "attention": "%s"}\n' "${BASE:-}" "${COMMIT:-}" "$COGVIEW2_COMMIT" "$ATTENTION_COMMIT" \
    >"$PREFIX/image.json"
  chmod 755 "$env/bin/cogview2-draw"
  chmod -R a+rX "$PREFIX"
}

python=$(command -v python3) || fail "the base image has no python3"
case ${1:-} in
  packages) packages ;;
  code) code ;;
  *) fail "packages or code" ;;
esac
