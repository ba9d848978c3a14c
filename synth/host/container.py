"""What a process computes with, seen from inside: for launchers that ask an image before a job waits, and for workers in one.

    python -m synth.host.container PATH...     facts as one line of JSON, and which of the paths are not there

An image is known by two digests. That of its file or its layers is the launcher's: no worker can read it from inside. What is inside
(the code, the packages, the system) every worker can compute in a moment, and compare with what the launcher found there.
"""

import ctypes
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from synth.host.code import digest, packages
from synth.versions import versions

IMAGE = "SYNTHSET_IMAGE"  # what launchers tell a worker of its image: JSON, see `planned`
DRIVER = "libcuda.so.1"  # of the host; runtimes lay it into a container that gets GPUs
RECIPE = Path("opt/synthset/image.json")  # what our own recipes leave in their images
ROOT = Path("/")


def inside(root: Path = ROOT) -> dict[str, Any]:
    """What this process computes with: "digest" stands for all of it, the rest is for people."""
    installed = packages()
    facts = {"arch": platform.machine(), "code": digest(), "versions": dict(versions()), "recipe": _recipe(root)}
    system = _digest((root / "var/lib/dpkg/status", root / "etc/os-release"))
    return facts | {"digest": hashlib.sha256(json.dumps([facts, installed, system], sort_keys=True).encode()).hexdigest()[:16]}


def _recipe(root: Path) -> dict[str, str]:
    """Base and commit of an image that our recipes built; {} of others."""
    try:
        stated = json.loads((root / RECIPE).read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in stated.items()} if isinstance(stated, dict) else {}


def _digest(files: Sequence[Path]) -> str:
    """Of the files that are there."""
    whole = hashlib.sha256()
    for path in files:
        if path.is_file():
            whole.update(path.read_bytes())
    return whole.hexdigest()


def planned(env: Mapping[str, str] = os.environ) -> dict[str, Any] | None:
    """What the launcher told of this worker's image: {"image", "runtime", "digest", "inside"}; None outside of one."""
    try:
        told = json.loads(env.get(IMAGE, ""))
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def compared(told: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """How the image of this worker differs from that of the plan, in words; "" where it does not, or the plan did not know.

    >>> compared({"inside": {"digest": "a", "versions": {"torch": "2.9"}}}, {"digest": "b", "versions": {"torch": "2.8"}})
    'torch is 2.8, and was 2.9 when this was planned'
    """
    before = told.get("inside") or {}
    if not before.get("digest") or before["digest"] == here["digest"]:
        return ""
    then, now = _flat(before), _flat(here)
    changed = sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))
    parts = [f"{k} is {now.get(k)}, and was {then.get(k)} when this was planned" for k in changed]
    return "; ".join(parts) or "packages beside those that are named, or the system, are others than when this was planned"


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {k: facts[k] for k in ("arch", "code") if k in facts} | dict(facts.get("versions", {}))


def tell(event: Callable[..., object], env: Mapping[str, str] = os.environ) -> None:
    """Of a worker in a container, two events: what is inside, and a warning where that is not what was planned."""
    told = planned(env)
    if told is None:
        return
    here = inside()
    event("image", **{k: told.get(k) for k in ("image", "runtime", "digest")}, inside=here)
    if differs := compared(told, here):
        event("warning", why=f"{told.get('image')}: the image of this worker is not that of the plan: {differs}")


def has_driver() -> bool:
    """Whether NVIDIA's driver library is found here."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


def main(paths: Sequence[str]) -> int:
    print(json.dumps(inside() | {"driver": has_driver(), "missing": [p for p in paths if not os.path.exists(p)]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
