#!/bin/sh
# Builds the image of CogView2: build.sh docker|podman|apptainer [--hopper]. The base is named by the digest that its registry tells now,
# or by BASE=pytorch/pytorch@sha256:..., as a team that wants the same image again notes it. --hopper: for H100 and H200.
set -eu
cd "$(dirname "$0")/../.."
fail() {
  echo "build.sh: $*" >&2
  exit 65
}
tag=1.13.1-cuda11.6-cudnn8-devel name=cogview2
case ${2:-} in
  --hopper) tag=2.1.2-cuda12.1-cudnn8-devel name=cogview2-hopper ;;
  "") ;;
  *) fail "build.sh docker|podman|apptainer [--hopper]" ;;
esac
if [ -z "${BASE:-}" ]; then
  command -v skopeo >/dev/null || fail "skopeo, which asks for a digest, is not here: install it, or give BASE=pytorch/pytorch@sha256:... of $tag"
  digest=$(skopeo inspect --format '{{.Digest}}' "docker://pytorch/pytorch:$tag") || fail "the registry did not tell the digest of $tag"
  BASE=pytorch/pytorch@$digest
fi
commit=$(git rev-parse HEAD 2>/dev/null || true)
echo "building $name on $BASE"
case ${1:-} in
  docker | podman)
    exec "$1" build -f containers/cogview2/Dockerfile --build-arg "BASE=$BASE" --build-arg "COMMIT=$commit" -t "$name" .
    ;;
  apptainer) exec apptainer build --build-arg "BASE=$BASE" --build-arg "COMMIT=$commit" "$name.sif" containers/cogview2/cogview2.def ;;
  *) fail "build.sh docker|podman|apptainer [--hopper]" ;;
esac
