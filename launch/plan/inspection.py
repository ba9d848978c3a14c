"""What is known of an image before a worker waits for it: its digest, its architecture, and what one short container of it tells.

Whatever would fail on every node is an InputError here: no runtime, no image, another architecture, a folder that is not shown, no
driver. What this machine cannot try (pyxis starts containers in jobs alone) is said, and left to the workers.
"""

import dataclasses
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from launch.plan.container import APPTAINER, DOCKER, PYXIS, SUFFIXES, Container, program_of, wrapped
from launch.plan.mounts import Mount
from synth import foreign
from synth.errors import InputError, not_trouble
from synth.foreign import Maybe
from synth.host.code import digest
from synth.host.container import RECIPE, has_driver
from synth.host.environment import without_secrets
from synth.host.gpu import driver_version

PATIENCE = 600.0  # seconds until a container must have told: the first start of an image from a slow disk takes minutes
SIF_MAGIC, SIF_ARCH = slice(32, 41), slice(45, 47)  # of the header of a .sif
SIF_ARCHS = {b"01": "i386", b"02": "x86_64", b"03": "arm", b"04": "aarch64", b"05": "ppc64", b"06": "ppc64le"}
SQUASHFS = b"hsqs"
OCI_ARCHS = {"amd64": "x86_64", "arm64": "aarch64"}  # of Docker -> of the kernel
Tell = Callable[[str], None]
_RECIPE = dict.fromkeys(("base", "commit"), Maybe(str, ""))
_INSIDE: Mapping[str, object] = {  # see synth.host.container
    **dict.fromkeys(("arch", "code", "digest"), str),
    "versions": {str: str},
    "recipe": {str: str},
    "driver": bool,
    "missing": [str],
}
_OF_NAME: Mapping[str, object] = {"Id": str, "Architecture": Maybe(str, "")}


class CannotTry(Exception):
    """This machine cannot start the image; others may."""


def inspected(
    c: Container, mounts: Sequence[Mount], gpus: bool, tell: Tell, machines: Collection[str] = (platform.machine(),), strict: bool = True
) -> Container:
    """The container with its facts. InputError: its workers could not begin.

    mounts: of all stages that use it. machines: architectures of the nodes that workers run on; (): not known.
    strict: this machine is one of those nodes, or like them; else what cannot be tried here is told alone.
    """
    try:
        if c.runtime != PYXIS and not shutil.which(program_of(c.runtime)):
            raise CannotTry(f"no {program_of(c.runtime)} on this machine: install it, or load its module first")
        facts = _facts(c)
        arch = facts.get("arch", "")
        if arch and machines and arch not in machines:
            raise InputError(
                f"{c.key}={c.image}: an image for {arch}, and its workers would run on {', '.join(sorted(machines))}: build it for that"
            )
        if c.runtime == PYXIS or (arch and arch != platform.machine()):
            inside = _recipe(c)
            tell(f"{c.key}={c.image}: cannot be started on this machine; what is inside is told by the first worker")
            return dataclasses.replace(c, facts={**facts, **({"inside": inside} if inside else {})})
        return _tried(dataclasses.replace(c, facts=facts), mounts, gpus and has_driver(), tell)
    except CannotTry as e:
        if strict:
            raise InputError(f"{c.key}={c.image}: {e}") from e
        tell(f"{c.key}={c.image}: not tried on this machine: {e}")
        return c


def _tried(c: Container, mounts: Sequence[Mount], gpus: bool, tell: Tell) -> Container:
    """What one short container tells."""
    there = [m for m in mounts if os.path.exists(m.source)]
    inside = _asked(c, there, gpus)
    if inside is None:
        c = dataclasses.replace(c, own_code=False)
        inside = _asked(c, there, gpus)
    if inside is None:
        raise InputError(
            f"{c.key}={c.image}: its {c.python} cannot import this synthset from {c.command()[1]}; build it by containers/README.md"
        )
    if missing := inside.pop("missing"):
        raise InputError(f"{c.key}={c.image}: {missing[0]} is not seen inside; show it by {c.key}_mounts=[{missing[0]}:ro]")
    if gpus and not inside.pop("driver"):
        raise InputError(
            f"{c.key}={c.image}: this machine has NVIDIA's driver {driver_version()}, and the container does not: {_toolkit(c)}"
        )
    inside.pop("driver", None)
    if c.own_code and inside["code"] != digest():
        commit = inside.get("recipe", {}).get("commit") or "unknown"
        tell(f"{c.key}={c.image}: brings other code of synthset (commit {commit}) than this command has; workers compute with the image's")
    return dataclasses.replace(c, facts={**c.facts, "arch": inside["arch"], "inside": inside})


def _toolkit(c: Container) -> str:
    return {
        APPTAINER: "apptainer exec --nv finds libcuda.so.1 by ldconfig of the host; see containers/README.md",
        DOCKER: "docker run --gpus needs the NVIDIA Container Toolkit on this machine",
    }.get(c.runtime, "podman needs a CDI specification on this machine: nvidia-ctk cdi generate")


def _asked(c: Container, mounts: Sequence[Mount], gpus: bool) -> dict[str, Any] | None:
    """What a container says of itself; None if it has no such synthset."""
    words = wrapped(c, mounts, (*c.command("synth.host.container"), *(m.target for m in mounts)), gpus)
    done = _run(words)
    if done.returncode == 0:
        said = (done.stdout.strip().splitlines() or [""])[-1]
        return _parsed(said, "what it says of itself", _INSIDE)
    if "No module named" in done.stderr and "synth" in done.stderr.rpartition("No module named")[2]:
        return None
    last = [line for line in done.stderr.strip().splitlines() if line.strip()][-3:]
    raise CannotTry(f"a container of it ended with exit code {done.returncode}: {'; '.join(last) or 'it said nothing'}")


def _run(words: Sequence[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, env=without_secrets())
    except subprocess.TimeoutExpired as e:
        raise CannotTry(f"no answer in {PATIENCE:g} s: {' '.join(words[4:8])}") from e
    except OSError as e:
        raise CannotTry(f"{words[0]}: {e.strerror}") from e


def _facts(c: Container) -> dict[str, Any]:
    """digest and arch of an image, as far as they are known without starting it."""
    if c.is_file:
        return _of_file(c)
    return {} if c.runtime == PYXIS else _of_name(c)


def _of_file(c: Container) -> dict[str, Any]:
    path = Path(c.image)
    if c.runtime == APPTAINER and path.is_dir():
        return {}  # a sandbox: a folder that may change under a worker has no digest
    try:
        with path.open("rb") as f:
            head = f.read(64)
    except OSError as e:
        not_trouble(path, e)
        raise InputError(f"{c.key}={c.image}: cannot be read ({e.strerror})") from e
    suffix = next((s for s, runtime in SUFFIXES.items() if runtime == c.runtime), "")
    good = head[SIF_MAGIC] == b"SIF_MAGIC" if suffix == ".sif" else head[:4] == SQUASHFS
    if not good:
        raise InputError(f"{c.key}={c.image}: is no whole {suffix} image; copy or build it again")
    arch = SIF_ARCHS.get(head[SIF_ARCH], "") if suffix == ".sif" else ""
    return {"digest": f"sha256:{_sha256(path)}"} | ({"arch": arch} if arch else {})


@cache
def _sha256(path: Path) -> str:
    """Of a file, read once a process: some seconds for an image of 8 GB."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _of_name(c: Container) -> dict[str, Any]:
    program = program_of(c.runtime)
    done = _run((program, "image", "inspect", c.image))
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [""])[-1]
        if "no such image" in said.lower() or "not known" in said.lower() or "failed to find image" in said.lower():
            raise InputError(f"{c.key}={c.image}: {program} has no such image here; fetch or build it first: {program} pull {c.image}")
        raise CannotTry(f"{program} image inspect: {said}")
    facts = _parsed(done.stdout, f"{program} image inspect", _OF_NAME)
    digest, arch = facts["Id"], facts["Architecture"]
    return {"digest": digest if ":" in digest else f"sha256:{digest}", "arch": OCI_ARCHS.get(arch, arch)}


def _parsed(text: str, what: str, shapes: Mapping[str, object]) -> dict[str, Any]:
    """The object, alone or in a list, that an image or its runtime tells: somebody else may have made either."""
    try:
        told = foreign.parse(text, what)
        return foreign.obj(told[0] if isinstance(told, list) and told else told, what, **shapes)
    except InputError as e:
        raise CannotTry(str(e)) from e


def _recipe(c: Container) -> Mapping[str, Any]:
    """What our own recipes left in a squashfs file, where it can be looked into without starting it."""
    if not (c.is_file and shutil.which("unsquashfs")):
        return {}
    done = subprocess.run(["unsquashfs", "-cat", c.image, str(RECIPE)], capture_output=True, text=True, env=without_secrets())
    try:
        return {"recipe": foreign.obj(foreign.parse(done.stdout, "recipe"), "recipe", **_RECIPE)}
    except InputError:  # it has none that is ours
        return {}


def merged(stages: Iterable[Sequence[Mount]]) -> list[Mount]:
    """The mounts of several stages."""
    return list(dict.fromkeys(m for mounts in stages for m in mounts))
