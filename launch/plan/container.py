"""Workers in a container: which runtime starts an image, and the words before a worker's command. Pure.

Only workers are wrapped: what submits, judges and waits stays on the host. A worker inside is a process of this machine with other
files: it has the host's process numbers and host name, so that leases and events mean the same as everywhere.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.plan.mounts import Mount
from synth.errors import InputError
from synth.host.container import IMAGE
from synth.host.source import SAFE, SOURCE

APPTAINER, PYXIS, DOCKER, PODMAN = "apptainer", "pyxis", "docker", "podman"
AUTO = "auto"
RUNTIMES = (APPTAINER, PYXIS, DOCKER, PODMAN)
SUFFIXES = {".sif": APPTAINER, ".sqsh": PYXIS}
PROGRAMS = {APPTAINER: ("apptainer", "singularity"), DOCKER: ("docker",), PODMAN: ("podman",)}

# Variables of the host that a worker needs. All others stay outside: paths of the host's Python and libraries mean nothing in there.
PASSED = (
    *(
        "SYNTHSET_*",
        "SLURM_*",
        "SLURMD_*",
        "JOB_IDX",
        "N_JOBS",
        "JOB_OFFSET",
        "CUDA_*",
        "NVIDIA_*",
        "HIP_*",
        "ROCR_*",
        "GPU_DEVICE_ORDINAL",
    ),
    *("HF_*", "TRANSFORMERS_*", "TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "NCCL_*", "GLOO_*", "OMP_*", "MKL_*", "OPENBLAS_*", "CUBLAS_*"),
    *("XDG_CACHE_HOME", "PYTHONNOUSERSITE", "USER", "LANG", "LC_*", "TZ"),
)
# Names of variables are known where the worker starts, and not before: those of a job, and of its share of the GPUs.
ENTER = """
kind=$1 program=$2 verb=$3 patterns=$4
shift 4
set -f  # patterns are names of variables, not of files
export PYTHONNOUSERSITE=1 XDG_CACHE_HOME="/tmp/synthset-cache-$UID" USER="${USER:-$UID}"
export HF_HOME="${HF_HOME:-$XDG_CACHE_HOME/huggingface}"
given=()
while read -r name; do
  for pattern in $patterns; do
    # shellcheck disable=SC2254 # it is a pattern
    case $name in $pattern) ;; *) continue ;; esac
    if [ "$kind" = apptainer ]; then
      export "APPTAINERENV_$name=${!name}" "SINGULARITYENV_$name=${!name}"
    else
      given+=(--env "$name")
    fi
    break
  done
done < <(compgen -e)
exec "$program" "$verb" "${given[@]}" "$@"
""".strip()


@dataclass(frozen=True)
class Container:
    """An image and what starts it. `facts`: what is known of the image, {} until it was looked at (launch.plan.inspection)."""

    image: str  # the absolute path of a file, or a name that the runtime knows
    runtime: str
    key: str = "cluster.container"  # what a person sets, for messages
    args: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()  # beside those of a stage
    python: str = "python3"
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)  # digest, arch, inside
    own_code: bool = True  # whether the image brings synthset; else this one's is mounted
    by_hand: bool = False  # whether the runtime was named, and not found by the image

    @property
    def is_file(self) -> bool:
        return self.image.startswith("/")

    @property
    def told(self) -> dict[str, Any]:
        """What a submission keeps of the image."""
        return {"image": self.image, "runtime": self.runtime, **self.facts}

    @property
    def environment(self) -> dict[str, str]:
        """By it workers know which image they were planned for: see synth.host.container.planned."""
        return {IMAGE: json.dumps(self.told, sort_keys=True, ensure_ascii=False)}

    def command(self, module: str = "synth.worker") -> tuple[str, ...]:
        """A module of synthset, as it is called inside."""
        code = () if self.own_code else ("env", f"PYTHONPATH={SOURCE}")
        return (*code, self.python, "-u", *SAFE, "-m", module)


def chosen(values: Mapping[str, Any], on_slurm: bool, key: str = "cluster.container") -> tuple[str, str] | None:
    """(image, runtime) of the keys container and container_runtime; None where workers run on the host. InputError: they do not fit."""
    image, asked = values["container"], values["container_runtime"]
    if not image:
        return None
    suffix = Path(image).suffix
    runtime = asked
    if asked == AUTO:
        there = next((r for r in (DOCKER, PODMAN) if shutil.which(PROGRAMS[r][0])), DOCKER)
        runtime = SUFFIXES.get(suffix) or (PYXIS if on_slurm else there)
    if runtime == PYXIS and not on_slurm:
        raise InputError(
            f"{key}={image}: pyxis starts containers in jobs of Slurm: cluster=slurm, or a .sif, or an image of Docker or Podman"
        )
    takes = {APPTAINER: (".sif",), PYXIS: (".sqsh", *([] if suffix == ".sif" else [suffix]))}.get(runtime, ())
    if suffix in SUFFIXES and suffix not in takes:
        raise InputError(f"{key}={image}: {runtime} starts no {suffix} file; {key}_runtime={AUTO} takes {SUFFIXES[suffix]}")
    is_file = runtime == APPTAINER or suffix in SUFFIXES or image.startswith(("/", "./", "~"))
    if is_file and runtime in (APPTAINER, PYXIS):
        path = Path(image).expanduser().absolute()  # pyxis takes a name without a / for one of a registry
        if not path.exists():
            raise InputError(f"{key}: {path} is not there; containers/README.md says how an image is made")
        return str(path), runtime
    return image, runtime


def program_of(runtime: str) -> str:
    """The program of a runtime that starts containers by itself; the first of its names where none is installed."""
    return next((name for name in PROGRAMS[runtime] if shutil.which(name)), PROGRAMS[runtime][0])


def wrapped(c: Container, mounts: Sequence[Mount], command: Sequence[str], gpus: bool, names: Iterable[str] = ()) -> tuple[str, ...]:
    """`command` inside of the container, for runtimes other than pyxis.

    names: variables that go in beside PASSED. gpus: whether the host's are shown.
    """
    words = _apptainer(c, mounts, gpus) if c.runtime == APPTAINER else _docker(c, mounts, gpus)
    verb = "exec" if c.runtime == APPTAINER else "run"
    patterns = " ".join(dict.fromkeys((*PASSED, *names)))
    return ("bash", "-c", ENTER, "container", c.runtime, program_of(c.runtime), verb, patterns, *words, *command)


def _apptainer(c: Container, mounts: Sequence[Mount], gpus: bool) -> list[str]:
    words = ["--cleanenv", "--no-home", "--pwd", "/", *(["--nv"] if gpus else [])]
    for mount in all_mounts(c, mounts):
        words += ["--bind", mount.text]
    return [*words, *c.args, c.image]


def _docker(c: Container, mounts: Sequence[Mount], gpus: bool) -> list[str]:
    words = ["--rm", "--interactive", "--pid", "host", "--ipc", "host", "--uts", "host", "--entrypoint", ""]
    words += ["--userns", "keep-id"] if c.runtime == PODMAN and os.getuid() else []
    words += ["--user", f"{os.getuid()}:{os.getgid()}"]
    words += [] if not gpus else ["--gpus", "all"] if c.runtime == DOCKER else ["--device", "nvidia.com/gpu=all"]
    for mount in all_mounts(c, mounts):
        read_only = "" if mount.write else ",readonly"
        words += ["--mount", f"type=bind,source={mount.source},target={mount.target}{read_only}"]
    return [*words, *c.args, c.facts.get("digest") or c.image]


def srun_words(c: Container, mounts: Sequence[Mount]) -> tuple[str, ...]:
    """What srun gets for a container of pyxis."""
    given = ",".join(mount.text for mount in all_mounts(c, mounts))
    words = [f"--container-image={c.image}", "--no-container-mount-home", "--no-container-entrypoint"]
    return (*words, *([f"--container-mounts={given}"] if given else []), *c.args)


# In a container of pyxis the job's environment goes along, and what the image sets wins.
PYXIS_SETUP = (
    "unset PYTHONPATH PYTHONHOME VIRTUAL_ENV  # of the host's Python",
    'export PYTHONNOUSERSITE=1 XDG_CACHE_HOME="/tmp/synthset-cache-$UID"',
    'export HF_HOME="${HF_HOME:-$XDG_CACHE_HOME/huggingface}"',
)


def all_mounts(c: Container, mounts: Sequence[Mount]) -> list[Mount]:
    code = [] if c.own_code else [Mount(str(SOURCE), str(SOURCE))]
    return [*mounts, *code, *c.mounts]


def variables_in(value: Any) -> list[str]:
    """Names of the variables whose values a stage reads from its environment: those of keys of services."""
    if isinstance(value, Mapping):
        own = [str(v) for k, v in value.items() if str(k).endswith("_env") and isinstance(v, str) and v]
        return own + [name for item in value.values() for name in variables_in(item)]
    return [name for item in value for name in variables_in(item)] if isinstance(value, (list, tuple)) else []
