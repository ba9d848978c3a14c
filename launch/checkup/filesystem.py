"""The file system of runs_dir: what commits need of it, how fast it is, and whether the plan fits into what is free."""

import contextlib
import os
import re
import secrets
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal

from launch.checkup.rows import Row, broken, ok, unknown, warn
from synth.errors import owned
from synth.host.environment import without_secrets
from synth.store.files import hard_links_work, replace

SLOW = 0.1  # seconds of one fsync: a unit needs three
SPARE = 1.1  # of what the plan needs, for leases, parts and events
PATIENCE = 5.0  # seconds for quota and lfs: servers may be away
TRIES = 5  # writes of which the median is told


@dataclass(frozen=True)
class Readings:
    """What a folder's file system does. None: not told."""

    folder: Path
    refusal: str = ""  # why nothing can be written; then nothing else is known
    kind: str = ""  # of the file system: nfs4, lustre, ext4 ..
    links: bool | None = None
    renames: bool | None = None
    fsync_s: float | None = None
    free_bytes: int | None = None
    free_files: int | None = None


@dataclass(frozen=True)
class Needs:
    """What is left of a plan. None: not known."""

    bytes: float | None
    files: int | None
    unknown: str = ""  # the stages of which nothing is known


@dataclass(frozen=True)
class Quota:
    """A limit of this user, in KB and files; 0: none."""

    where: str
    used: int
    limit: int
    files: int
    files_limit: int


def nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    folder = folder.expanduser().absolute()
    return next((p for p in (folder, *folder.parents) if p.is_dir()), Path("/"))


def probe(runs: Path) -> Readings:
    """Write, link, rename and sync some files beside where stages will lie, and remove them."""
    top = nearest(runs)
    place = top / f".doctor-probe-{os.getpid()}-{secrets.token_hex(4)}"
    free = free_of(top)
    try:
        (place / "a").mkdir(parents=True)
        (place / "b").mkdir()
        links = hard_links_work(place / "a", place / "b")
        return Readings(top, "", kind_of(top), links, _renames(place), _fsync(place), *free)
    except OSError as e:
        return Readings(top, f"{e.strerror}{owned(top, e.errno)}", kind_of(top), None, None, None, *free)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(place)


def _renames(place: Path) -> bool:
    """Whether a rename replaces a file that is there."""
    old, new = place / "old", place / "new"
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    replace(new, old)
    return old.read_bytes() == b"new" and not new.exists()


def _fsync(place: Path) -> float:
    """Seconds that a small file takes to be on the disk."""
    taken = []
    for n in range(TRIES):
        begun = time.monotonic()
        with open(place / f"sync-{n}", "wb") as f:
            f.write(b"\0" * 65536)
            f.flush()
            os.fsync(f.fileno())
        taken.append(time.monotonic() - begun)
    return statistics.median(taken)


def free_of(folder: Path) -> tuple[int | None, int | None]:
    """(bytes, inodes) that are free for us. A file system without a fixed number of inodes says 0 of 0: None."""
    try:
        told = os.statvfs(folder)
    except OSError:
        return None, None
    return told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None


def kind_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The kind of file system that a folder lies on; "" where the kernel does not tell."""
    try:
        lines = [line.split() for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return ""
    real = os.path.realpath(folder)
    over = [(w[1].replace("\\040", " "), w[2]) for w in lines if len(w) > 2]
    above = [(place, kind) for place, kind in over if real == place or real.startswith(place.rstrip("/") + "/")]
    return max(above, key=lambda found: len(found[0]), default=("", ""))[1]


def rows(r: Readings, needs: Needs, runs: Path, elsewhere: bool = False) -> list[Row]:
    """The judgement. elsewhere: workers run on other machines, which have to see the same folder."""
    where = f"{runs}" if r.folder == runs.expanduser().absolute() else f"{runs} (not there yet; looked at {r.folder})"
    found = [_writes(r, where, elsewhere)]
    if not r.refusal:
        found += [_links(r), _speed(r)]
    return [*found, _space(r, needs), _inodes(r, needs)]


def _writes(r: Readings, where: str, elsewhere: bool) -> Row:
    fix = "choose another folder: runs_dir=/path"
    if r.refusal:
        return broken("runs_dir", f"{where}: cannot be written: {r.refusal}", fix)
    if not r.renames:
        return broken("runs_dir", f"{where}: a rename does not replace the file that is there, on which records rest", fix)
    if elsewhere and r.kind in ("tmpfs", "ramfs"):
        return broken("runs_dir", f"{where}: lies in this machine's memory ({r.kind}), which no node sees", fix)
    return ok("runs_dir", f"{where}: {r.kind or 'kind not told'}; files are written, renamed over and removed")


def _links(r: Readings) -> Row:
    if r.links:
        return ok("hard links", "work from one folder to another: the first worker that commits a unit wins")
    return warn("hard links", "do not work here: units are committed by a claim and a rename, which is slower", "a runs_dir that has them")


def _speed(r: Readings) -> Row:
    took = r.fsync_s or 0.0
    told = f"{took * 1000:.1f} ms for 64 KB"
    if took <= SLOW:
        return ok("fsync", told)
    return warn("fsync", f"{told}: slow, and every unit waits for some", "larger units (images.unit_size), or another file system")


def _space(r: Readings, needs: Needs) -> Row:
    if r.free_bytes is None:
        return unknown("free space", "the file system does not tell what is free")
    free = f"{decimal(r.free_bytes)} free"
    if not r.free_bytes or (needs.bytes is not None and needs.bytes * SPARE > r.free_bytes):
        need = f"; the plan takes about {decimal(round(needs.bytes))}" if needs.bytes else ""
        return broken("free space", f"{free}{need}", "make room, or another runs_dir; dry_run=true shows each stage")
    if needs.bytes is None or needs.unknown:
        known = f", {decimal(round(needs.bytes))} of it for the other stages" if needs.bytes else ""
        return unknown("free space", f"{free}{known}; how much {needs.unknown or 'the plan'} takes is not known yet")
    return ok("free space", f"{free}; the plan takes about {decimal(round(needs.bytes))}")


def _inodes(r: Readings, needs: Needs) -> Row:
    if r.free_bytes is None:
        return unknown("free inodes", "the file system does not tell what is free")
    if r.free_files is None:
        return ok("free inodes", "this file system has no fixed number of them")
    free = f"{r.free_files:,} free"
    if needs.files is None:
        return unknown("free inodes", f"{free}; how many the plan takes is not known: it could not be planned")
    need = f"the plan takes at most {needs.files:,}"
    if needs.files * SPARE > r.free_files or not r.free_files:
        fix = "remove files, larger units (images.unit_size), export=[webdataset] in the place of image_folder, or another runs_dir"
        return broken("free inodes", f"{free}; {need}", fix)
    return ok("free inodes", f"{free}; {need}")


# -- quota -----------------------------------------------------------------------------------------------------------


def ask(words: Iterable[str]) -> str | None:
    """What a program prints; None where there is none, or it does not answer."""
    try:
        done = subprocess.run([*words], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, env=without_secrets())
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def quotas(folder: Path, kind: str, user: str, ask: Callable[[Iterable[str]], str | None] = ask) -> list[Quota] | None:
    """Limits of this user on the file system of a folder, or on all that quota tells; None where nobody tells."""
    said = ask(["lfs", "quota", "-q", "-u", user, str(folder)]) if kind == "lustre" else ask(["quota", "-w"])
    found = parse_quotas(said or "")
    # a server that does not answer is told on stderr, and a line of another form is none: only the word is
    return found if found or re.search(r":[ \t]*none\b", said or "") else None


def parse_quotas(text: str) -> list[Quota]:
    """Lines of quota -w or lfs quota -q: a place, KB used, soft and hard limit, files used, soft and hard limit, with times of grace.

    >>> parse_quotas("/home 1200* 1000 2000 6days 10 0 50")
    [Quota(where='/home', used=1200, limit=2000, files=10, files_limit=50)]
    """
    found = []
    for line in text.splitlines():
        place, *words = line.split() or [""]
        numbers = [int(w.rstrip("*")) for w in words if re.fullmatch(r"\d+\*?", w)]
        if len(numbers) == 6:
            found.append(Quota(place, numbers[0], numbers[2] or numbers[1], numbers[3], numbers[5] or numbers[4]))
    return found


def quota_rows(found: list[Quota] | None, needs: Needs) -> list[Row]:
    """One row for each limit that the plan meets; one that says so where there is none."""
    if found is None:
        return [unknown("quota", "neither quota nor lfs tells any on this machine", "ask your site, or `df` of runs_dir")]
    limits = [q for q in found if q.limit or q.files_limit]
    if not limits:
        return [ok("quota", "none is told for you")]
    told = []
    for q in limits:
        left, files = (q.limit - q.used) * 1024, q.files_limit - q.files
        text = "; ".join(
            [
                *([f"{decimal(max(0, left))} left of {decimal(q.limit * 1024)}"] if q.limit else []),
                *([f"{max(0, files):,} files left of {q.files_limit:,}"] if q.files_limit else []),
            ]
        )
        short = (q.limit and left < (needs.bytes or 1) * SPARE) or (q.files_limit and files < (needs.files or 1) * SPARE)
        # the programs tell every file system: whether this one is that of runs_dir is not always to be seen
        told.append(
            broken("quota", f"{q.where}: {text}; the plan takes more", "ask for more, or another runs_dir")
            if short
            else ok("quota", f"{q.where}: {text}")
        )
    return told
