"""What of this machine a container must show the workers of a stage, so that every path of the stage means the same inside.

Every place keeps its name inside. What a stage writes (the folder of its dataset, an export's place) can be written there; what it
reads can only be read.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from synth.errors import InputError
from synth.store.spec import StageSpec

# an image has its own of these, and the host's would hide it
SYSTEM = tuple(map(Path, ("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr")))
SEPARATORS = ":,\"'\n"  # of the runtimes' own notations, which know no escape for them
LINKS = 20_000  # entries of a folder that are looked at for links that lead out of it


@dataclass(frozen=True, order=True)
class Mount:
    """A file or folder of this machine, and where it lies inside."""

    target: str
    source: str
    write: bool = False

    @property
    def text(self) -> str:
        """As Apptainer and pyxis write it."""
        return f"{self.source}:{self.target}" + ("" if self.write else ":ro")


def mounts_of(folder: Path, spec: StageSpec) -> list[Mount]:
    """All that the workers of the stage in `folder` read and write, the outer first. A path that no runtime takes is an InputError."""
    written = [folder.parent, *([existing_folder(Path(spec.config["out"]))] if spec.config.get("out") else [])]
    read = [Path(os.path.normpath(folder / up.path)) for ups in spec.upstream.values() for up in ups]
    read += [Path(i.path) for i in spec.inputs.values() if i.path]
    read += [Path(text) for text in paths_in([spec.config, spec.settings])]
    read += [place for path in list(read) for place in leads_to(path)]
    return joined([Mount(str(p), str(p), True) for p in written] + [Mount(str(p), str(p)) for p in read])


def joined(mounts: Iterable[Mount]) -> list[Mount]:
    """Without what lies in another and is shown by it already."""
    kept: list[Mount] = []
    for mount in sorted(set(mounts), key=lambda m: (len(Path(m.target).parts), m.target, not m.write)):
        if bad := next((c for c in SEPARATORS if c in mount.source + mount.target), ""):
            raise InputError(f"cluster.container: {mount.source} cannot be mounted: no runtime takes {bad!r} in a path; use another folder")
        around = [m for m in kept if Path(mount.target).is_relative_to(m.target)]
        same = any(Path(m.source) / Path(mount.target).relative_to(m.target) == Path(mount.source) for m in around)
        if not (same and (around[-1].write or not mount.write)):
            kept.append(mount)
    return kept


def user_mounts(words: Sequence[str], key: str) -> list[Mount]:
    """cluster.container_mounts: SOURCE, SOURCE:ro or SOURCE:TARGET[:ro|:rw].

    >>> user_mounts(["/proc/self:ro"], "cluster.container_mounts")
    [Mount(target='/proc/self', source='/proc/self', write=False)]
    """
    mounts = []
    for word in words:
        source, *rest = word.split(":")
        write = not (rest and rest[-1] == "ro")
        target = rest[0] if rest and rest[0] not in ("ro", "rw") else source
        where = Path(source).expanduser().absolute()
        if len(rest) > 2 or not source or not where.exists():
            raise InputError(f"{key}: {word}: {where} is not there; write SOURCE, SOURCE:ro or SOURCE:TARGET:ro")
        mounts.append(Mount(target if target != source else str(where), str(where), write))
    return mounts


def paths_in(value: Any) -> Iterator[str]:
    """Every absolute path of this machine that stands in a config, whatever the key: what belongs to an image itself is left out."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from paths_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from paths_in(item)
    elif isinstance(value, str) and len(value) < 4096 and value.startswith("/") and "\0" not in value:
        path = Path(os.path.normpath(value))
        if len(path.parts) > 1 and not any(path.is_relative_to(s) for s in SYSTEM) and path.exists():
            yield str(path)


@cache
def leads_to(path: Path) -> tuple[Path, ...]:
    """Folders outside of `path` that links below it lead to, as those of a cache of Hugging Face do. Looked for once a process."""
    found: dict[Path, None] = {}
    for link in _links(path):
        for _ in range(40):  # as many as the kernel follows
            place = Path(os.path.normpath(link.parent / os.readlink(link)))
            if not place.is_relative_to(path):
                found[place.parent if not place.is_dir() else place] = None
            if not place.is_symlink():
                break
            link = place
    return tuple(p for p in found if len(p.parts) > 1 and p.exists() and not any(p.is_relative_to(s) for s in SYSTEM))


def _links(path: Path) -> Iterator[Path]:
    """The links at and below a path, in its first LINKS entries."""
    todo, seen = [path], 0
    while todo:
        here = todo.pop()
        if here.is_symlink():
            yield here
        elif here.is_dir():
            with os.scandir(here) as entries:
                for entry in entries:
                    seen += 1
                    if entry.is_symlink() or entry.is_dir(follow_symlinks=False):
                        todo.append(Path(entry.path))
                    if seen > LINKS:
                        return


def existing_folder(path: Path) -> Path:
    """The folder itself or the nearest one above it: what is to be made inside a container must be made in something that is mounted."""
    while not path.is_dir():
        path = path.parent
    if len(path.parts) == 1:
        raise InputError(f"cluster.container: nothing above it is there but /, which cannot be mounted: make the folder first: {path}")
    return path
