#!/bin/sh
# Starts the adapter in a container, for model.command: draw.sh IMAGE WEIGHTS [words of the adapter]. A .sif is Apptainer's, other images
# are Docker's, else Podman's (CONTAINER_RUNTIME names one). Without a network, weights read-only; pictures go through TMPDIR.
set -eu
fail() {
  echo "draw.sh: $*" >&2
  exit 65
}
found() { # the first of these programs that is installed
  for name in "$@"; do
    command -v "$name" && return
  done
  fail "none of $* is here; load its module (cluster.setup), or install it"
}

[ $# -ge 2 ] || fail "draw.sh IMAGE WEIGHTS [--style photo] [--only-first-stage]"
image=$1 weights=$2 temporary=${TMPDIR:-/tmp}
shift 2
[ -d "$weights" ] || fail "$weights is not there; containers/cogview2/fetch.py makes it"
for path in "$weights" "$temporary"; do
  case $path in
    *[:,]*) fail "$path: runtimes of containers split paths at : and , - give it another name" ;;
    /*) ;;
    *) fail "$path is no absolute path" ;;
  esac
done
set -- "$image" cogview2-draw "$weights" "$@"

case $image in
  *.sif)
    [ -f "$image" ] || fail "$image is not there; containers/README.md says how it is made"
    runtime=$(found apptainer singularity)
    [ "$temporary" = /tmp ] || set -- --bind "$temporary" "$@"
    if [ "${CUDA_VISIBLE_DEVICES+set}" ]; then # the host's numbers hold inside
      export APPTAINERENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES" SINGULARITYENV_CUDA_VISIBLE_DEVICES="$CUDA_VISIBLE_DEVICES"
    fi
    exec "$runtime" exec --nv --cleanenv --no-home --pwd / --bind /tmp --bind "$weights:$weights:ro" "$@"
    ;;
esac

runtime=${CONTAINER_RUNTIME:-$(found docker podman)}
gpus=${CUDA_VISIBLE_DEVICES-all}
[ "$temporary" = /tmp ] || set -- --volume "$temporary:$temporary" "$@"
case ${runtime##*/}:$gpus in
  *:) ;; # none: the adapter says so
  docker:all) set -- --gpus all "$@" ;;
  docker:*) set -- --gpus "\"device=$gpus\"" "$@" ;;
  *)
    for gpu in $(echo "$gpus" | tr , ' '); do
      set -- --device "nvidia.com/gpu=$gpu" "$@"
    done
    ;;
esac
# of a plain user in the container, who would be another one outside
[ "${runtime##*/}" != podman ] || [ "$(id -u)" = 0 ] || set -- --userns keep-id "$@"
exec "$runtime" run --rm --interactive --init --network none --ipc host --user "$(id -u):$(id -g)" --env HOME=/tmp \
  --volume /tmp:/tmp --volume "$weights:$weights:ro" "$@"
