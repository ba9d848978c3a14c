"""Fetches CogView2's weights and tokenizers into one folder, for model=cogview2: `python fetch.py FOLDER`. Standard library only.

    FOLDER/{coglm,cogview2-dsr,cogview2-itersr}/{model_config.json, latest, N/mp_rank_00_model_states.pt}
    FOLDER/icetk_models/{ice_text.model, ice_image.pt}

A broken fetch goes on where it was with the same command. What is fetched appears when it is whole, and nothing is written outside of
FOLDER. Sizes are the server's word; SHA-256 of what came first stand in FOLDER/.fetched.json, and `--expected` holds a fetch against
such a record of others. FOLDER is a SAT_HOME too; `--home` also fills ~/.icetk_models, for CogView2's own scripts.
"""

import argparse
import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import stat
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path, PurePosixPath

ARCHIVES = {name: f"https://lfs.aminer.cn/misc/cogview/cogview2/{name}.zip" for name in ("coglm", "cogview2-dsr", "cogview2-itersr")}
TOKENIZERS = {
    "ice_text.model": "https://cloud.tsinghua.edu.cn/f/2c73ea6d3e7f4aed82ec/?dl=1",
    "ice_image.pt": "https://cloud.tsinghua.edu.cn/f/ae2cd37af814429d875d/?dl=1",
}
ICETK = "icetk_models"
RECORD = ".fetched.json"  # hidden, so that it is no part of what a stage's fingerprint knows the folder by
BLOCK = 1 << 20
TRIES = 8  # times in a row that a server may break off without a byte in between
AGAIN, BAD_INPUT = 75, 65
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # of the disk, not of the network


class Wrong(Exception):
    """Trying again does not help."""


class Broken(Exception):
    """The network or the disk: the same command again goes on."""


# -- one file --------------------------------------------------------------------------------------------------------


def download(url: str, target: Path, timeout: float, pause: float = 1.0) -> None:
    """Makes `target`, whole; what is there of it lies beside it until then. pause: seconds, doubled after each failure in a row."""
    part, failures = Part(target, url), 0
    while not part.whole:
        before = part.have
        try:
            part.fetch(timeout)
            continue
        except urllib.error.HTTPError as e:
            if e.code < 500 and e.code not in (408, 429):
                raise Wrong(f"{url}: the server says {e.code} {e.reason}") from e
            why = f"{e.code} {e.reason}"
        except (OSError, http.client.HTTPException) as e:  # urllib.error.URLError and time-outs are OSErrors
            if isinstance(e, OSError) and (e.filename or e.errno in FULL):
                raise Broken(f"{e.filename or target}: {e.strerror}") from e
            why = str(e) or type(e).__name__
        failures = 0 if part.have > before else failures + 1
        if failures >= TRIES:
            raise Broken(f"{url}: {why}, {failures} times without a byte in between; {part.have} bytes are kept")
        print(f"{target.name}: {why}; going on at byte {part.have}", file=sys.stderr, flush=True)
        time.sleep(min(60.0, pause * 2**failures))
    part.finish()


class Part:
    """A file on its way: `.NAME.part`, and `.NAME.part.json` with the server's words about it."""

    def __init__(self, target: Path, url: str):
        self.target, self.url = target, url
        self.path, self.words = (target.with_name(f".{target.name}.part{suffix}") for suffix in ("", ".json"))
        self.size, self.tag = self._begun()
        if self.size is None:
            self.have = 0

    def _begun(self):
        """(size, tag) of what is there already; (None, None) where that is nothing, or of another address."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            words = json.loads(self.words.read_text())
            if words["url"] == self.url and isinstance(words["size"], int):
                self.have = self.path.stat().st_size
                if self.have <= words["size"]:
                    return words["size"], words["tag"]
        return None, None

    @property
    def whole(self) -> bool:
        return self.size is not None and self.have == self.size

    def fetch(self, timeout: float) -> None:
        """One answer of the server, as far as it comes. An error of the network raises; `have` counts what was kept."""
        ask = {"User-Agent": "synthset-fetch", "Accept-Encoding": "identity"}
        if self.have:
            ask["Range"] = f"bytes={self.have}-"
            if self.tag:
                ask["If-Range"] = self.tag
        try:
            answer = urllib.request.urlopen(urllib.request.Request(self.url, headers=ask), timeout=timeout)
        except urllib.error.HTTPError as e:
            if e.code == 416:  # the file is another one by now
                self._begin(None, None)
                return
            raise
        with answer:
            self._judge(answer)
            self._keep(answer)

    def _judge(self, answer) -> None:
        """Begins anew unless the answer goes on with what is there. Wrong where it is no file of a known size."""
        head = answer.headers
        if head.get_content_type() == "text/html":
            raise Wrong(f"{self.url}: the server answered with a page, not with a file; open it in a browser, it may say why")
        tag = head.get("ETag") or ""
        tag = (tag if not tag.startswith("W/") else "") or head.get("Last-Modified") or ""
        if answer.status == 206:
            start, size = span(head.get("Content-Range") or "")
            if start == self.have and size == self.size and tag == self.tag:
                return
            self._begin(None, None)
            raise http.client.HTTPException("the file changed on the server; beginning anew")
        length = head.get("Content-Length")
        if length is None or not length.isdecimal():
            raise Wrong(f"{self.url}: the server does not say how long the file is")
        if not int(length):
            raise Wrong(f"{self.url}: the server answered with an empty file")
        self._begin(int(length), tag)

    def _begin(self, size, tag) -> None:
        self.path.write_bytes(b"")
        self.size, self.tag, self.have = size, tag, 0
        self.words.write_text(json.dumps({"url": self.url, "size": size, "tag": tag}))

    def _keep(self, answer) -> None:
        with open(self.path, "ab") as file:
            while self.have < self.size:
                data = answer.read(min(BLOCK, self.size - self.have))
                if not data:
                    raise http.client.HTTPException(f"the connection ended at byte {self.have} of {self.size}")
                file.write(data)
                self.have += len(data)

    def finish(self) -> None:
        sync(self.path)
        os.replace(self.path, self.target)
        self.words.unlink()


def span(content_range: str):
    """(first byte, size) of a Content-Range; (None, None) of what is none.

    >>> span("bytes 10-99/100"), span("bytes */100")
    ((10, 100), (None, None))
    """
    unit, _, rest = content_range.partition(" ")
    bounds, _, size = rest.partition("/")
    first = bounds.partition("-")[0]
    return (int(first), int(size)) if unit == "bytes" and first.isdecimal() and size.isdecimal() else (None, None)


def sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def digest(path: Path) -> dict:
    """{"size", "sha256"} of a file."""
    seen = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(BLOCK):
            seen.update(data)
    return {"size": path.stat().st_size, "sha256": seen.hexdigest()}


# -- archives --------------------------------------------------------------------------------------------------------


def unpack(archive: Path, folder: Path, name: str) -> None:
    """`folder`/`name` from an archive that holds it and nothing else; it appears when it is whole."""
    place = folder / f".{name}.unpacking"
    shutil.rmtree(place, ignore_errors=True)  # of a fetch that was killed: ours, by the lock of the folder
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = judged(zipped.infolist(), name)
            need, free = sum(m.file_size for m in members), shutil.disk_usage(folder).free
            if need > free:
                raise Broken(f"{folder}: {name} needs {need / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free")
            for member in members:
                write(zipped, member, place)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as e:
        raise Wrong(f"{archive.name}: {e}; it is removed, the same command fetches it anew") from e
    if missing := lacking(place / name):
        raise Wrong(f"{archive.name}: holds no {', '.join(missing)}")
    os.replace(place / name, folder / name)
    place.rmdir()


def judged(members, name: str) -> list:
    """The members, all of them plain files and folders below `name`, each once; Wrong names what is not."""
    seen = set()
    for member in members:
        path, mode = PurePosixPath(member.filename), member.external_attr >> 16
        odd = "\\" in member.filename or "\0" in member.orig_filename or ".." in path.parts or path.is_absolute()
        if odd or path.parts[:1] != (name,):
            raise Wrong(f"the archive of {name} holds {member.filename!r}, which lies outside of {name}/")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or path in seen:
            raise Wrong(f"the archive of {name} holds {member.filename!r} twice, or as no plain file")
        seen.add(path)
    return members


def write(zipped, member, place: Path) -> None:
    target = place / member.filename
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipped.open(member) as source, open(target, "xb") as file:  # its checksum is compared at its end
        shutil.copyfileobj(source, file, BLOCK)
        file.flush()
        os.fsync(file.fileno())


def lacking(model: Path) -> list:
    """What a model's folder must hold and does not."""
    missing = [name for name in ("model_config.json", "latest") if not (model / name).is_file()]
    with contextlib.suppress(OSError):
        weights = f"{(model / 'latest').read_text().strip()}/mp_rank_00_model_states.pt"
        if not ((model / weights).is_file() and (model / weights).stat().st_size):
            missing.append(weights)
    return missing


# -- the folder ------------------------------------------------------------------------------------------------------


class Folder:
    """What is fetched, and the record of it."""

    def __init__(self, path: Path, expected: dict):
        self.path, self.expected = path, expected
        self.record = {}
        with contextlib.suppress(FileNotFoundError):
            self.record = read_record(path / RECORD)

    def fetch(self, name: str, url: str, timeout: float) -> None:
        """A tokenizer, or an archive that is unpacked and goes; nothing where it is there as it was recorded."""
        is_archive = name in ARCHIVES
        target = self.path / (name if is_archive else f"{ICETK}/{name}")
        came = target if not is_archive else target.with_name(f"{name}.zip")
        if target.exists():
            self.check(target, whole=False)
            if is_archive:
                came.unlink(missing_ok=True)  # of a fetch that was killed at its very end
            print(f"{name}: is there")
            return
        if not came.exists():  # else it came whole, and was not unpacked yet
            download(url, came, timeout)
        key, known = self.key(came), digest(came)
        try:
            self.compare({key: known})
            if is_archive:
                unpack(came, self.path, name)
        except Wrong:
            came.unlink()
            raise
        self.note({key: known, **{self.key(file): digest(file) for file in files(target)}})
        if is_archive:
            came.unlink()
        print(f"{name}: fetched, sha256 of {key}: {self.record[key]['sha256']}")

    def check(self, target: Path, whole: bool) -> None:
        """Wrong unless the files at `target` are as they were recorded: their sizes, and with `whole` every byte. What nobody recorded is
        recorded now."""
        if target.is_dir() and (missing := lacking(target)):
            raise Wrong(f"{target} lacks {', '.join(missing)}; remove it, the same command fetches it anew")
        there = {self.key(file): file for file in files(target)}
        known = [key for key in self.record if key in there or key.startswith(f"{self.key(target)}/")]
        for key in known:
            size = there[key].stat().st_size if key in there else None
            if size != self.record[key]["size"]:
                was = "is gone" if size is None else f"has {size} bytes where {self.record[key]['size']} came"
                raise Wrong(f"{self.path / key} {was}; remove {target}, the same command fetches it anew")
        if unknown := {key: digest(file) for key, file in there.items() if whole or key not in self.record}:
            self.note(unknown)

    def compare(self, found: dict) -> None:
        """Wrong where other digests stand in the record, or are expected."""
        for key, is_now in found.items():
            for source, was in (("recorded", self.record.get(key)), ("expected", self.expected.get(key))):
                if was and was != is_now:
                    raise Wrong(f"{self.path / key}: {is_now}; {source} ({RECORD}): {was}")

    def note(self, found: dict) -> None:
        """Records digests, if they may be."""
        self.compare(found)
        self.record.update(found)
        new = self.path / f"{RECORD}.new"
        new.write_text(json.dumps(self.record, indent=1, sort_keys=True) + "\n")
        sync(new)
        os.replace(new, self.path / RECORD)

    def key(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def locks(self, names) -> None:
        """The empty files that SwissArmyTransformer and icetk lock: made now, they change nothing of the folder later."""
        for name in names:
            (self.path / (f"{name}.zip.lock" if name in ARCHIVES else f"{ICETK}/{name}.lock")).touch()


def files(path: Path) -> list:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def read_record(path: Path) -> dict:
    """name -> {"size", "sha256"}."""
    try:
        found = json.loads(path.read_text())
        return {str(key): {"size": int(one["size"]), "sha256": str(one["sha256"])} for key, one in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Wrong(f"{path}: is no record of a fetch ({type(e).__name__}: {e})") from e


def fill_home(folder: Path) -> None:
    """~/.icetk_models, where CogView2's own scripts look for the tokenizers."""
    home = Path("~/.icetk_models").expanduser()
    home.mkdir(exist_ok=True)
    for name in TOKENIZERS:
        new = home / f".{name}.new"
        shutil.copyfile(folder / ICETK / name, new)
        os.replace(new, home / name)
        (home / f"{name}.lock").touch()


# -- the program -----------------------------------------------------------------------------------------------------


def words(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="fetches CogView2's weights and tokenizers; the same command again goes on")
    parser.add_argument("folder", type=Path, help="where they go; some 100 GB must be free while archives are unpacked")
    parser.add_argument("--first-stage", action="store_true", help="coglm alone, for the adapter's --only-first-stage")
    parser.add_argument("--mirror", help="address of a folder with the same files: coglm.zip, ..., ice_text.model, ice_image.pt")
    parser.add_argument("--expected", type=Path, help="a .fetched.json of others; what differs from it is refused")
    parser.add_argument("--check", action="store_true", help="fetch nothing: read every byte, and compare it with the record")
    parser.add_argument("--home", action="store_true", help="also copy the tokenizers to ~/.icetk_models")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds without a byte")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    path = options.folder.expanduser().absolute()
    if options.check and not path.is_dir():
        raise Wrong(f"{path}: no such folder; nothing was fetched into it yet")
    (path / ICETK).mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Broken(f"{path}: another fetch is at work on it") from e
        fill(Folder(path, read_record(options.expected) if options.expected else {}), options)
    if options.home:
        fill_home(path)


def fill(folder: Folder, options: argparse.Namespace) -> None:
    """All that is asked for, one after the other: the servers break off when they are asked for several at once."""
    addresses = {**TOKENIZERS, **{name: ARCHIVES[name] for name in list(ARCHIVES)[: 1 if options.first_stage else None]}}
    if options.mirror:
        ends = {name: f"{name}.zip" if name in ARCHIVES else name for name in addresses}
        addresses = {name: f"{options.mirror.rstrip('/')}/{end}" for name, end in ends.items()}
    for name, url in addresses.items():
        target = folder.path / (name if name in ARCHIVES else f"{ICETK}/{name}")
        if not options.check:
            folder.fetch(name, url, options.timeout)
        elif target.exists():
            folder.check(target, whole=True)
        else:
            raise Wrong(f"{target} is not there; the same command without --check fetches it")
    folder.locks(addresses)


def main(arguments=None) -> int:
    try:
        run(words(arguments))
    except Wrong as e:
        print(f"fetch.py: {e}", file=sys.stderr)
        return BAD_INPUT
    except (Broken, OSError) as e:
        print(f"fetch.py: {e}; the same command goes on", file=sys.stderr)
        return AGAIN
    return 0


if __name__ == "__main__":
    sys.exit(main())
