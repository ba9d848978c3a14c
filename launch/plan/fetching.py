"""Fetching a model from a hub of models: which of its files, at which commit, into which folder. Used on login nodes only."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from launch.config.program import as_typed
from launch.plan.absent import NotHere
from synth import foreign
from synth.errors import InputError, ServiceGone, StoreError
from synth.store.files import replace as renamed
from synth.store.files import write_atomic
from synth.store.inside import misplaced

ROOT = "SYNTHSET_MODELS"  # environment variable: the folder of fetched models, on a file system that compute nodes see
_WEIGHTS = re.compile(r"(?P<stem>.*?)(\.(?P<variant>[a-z]\w*))?(-\d{5}-of-\d{5})?\.(?P<kind>safetensors|bin)$")
_OTHER_FORMATS = (".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".pb", ".xml", ".gguf", ".pth", ".pt", ".ot", ".tflite")
_TEXTS = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", "MODEL_LICENSE", "NOTICE")


@dataclass(frozen=True)
class Fetch:
    """One repository that a preset names. key: of the path that it fills."""

    key: str
    name: str  # of its folder under ROOT
    repo: str
    revision: str
    variant: str = ""


@dataclass(frozen=True)
class Record:
    """What is known of a fetched folder: `<folder>.json` beside it. complete: False while it is being fetched."""

    repo: str
    revision: str  # as asked for: a commit, a branch or a tag
    commit: str
    complete: bool = False

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """None if there is none, or a torn one."""
        shapes = {"repo": str, "revision": str, "commit": str, "complete": foreign.Maybe(bool, False)}
        with contextlib.suppress(OSError, InputError):  # trouble of the file system is a StoreError, and no word about the record
            return cls(**foreign.obj(foreign.read_json(record_of(folder), foreign.RECORD), record_of(folder), **shapes))
        return None

    def write(self, folder: Path) -> None:
        write_atomic(record_of(folder), json.dumps(asdict(self), indent=1).encode() + b"\n", sync=False)


def record_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def place(name: str, root: str | None = None) -> Path | None:
    """Where a model of that name is fetched to: under `root` or $SYNTHSET_MODELS; None if neither is set."""
    root = root or os.environ.get(ROOT)
    return Path(root).expanduser().absolute() / name if root else None


def fetched(group: str, name: str | None, repo: str | None, key: str = "") -> str | None:
    """The folder that prefetch.py made for a preset whose path is not set; None for one without a repository. key: of the path."""
    if not repo:
        return None
    folder = place(name or repo.rpartition("/")[2])
    if folder is not None and folder.is_dir():
        return str(folder)
    where = f"{folder} is not there" if folder else f"and {ROOT} names no folder of fetched models"
    key = key or f"{group}.path"
    raise NotHere(f"{key}: not set, {where}; give {key}=/folder, or fetch {repo} with {as_typed('prefetch')} (see its --help)")


def wanted(files: Iterable[str], variant: str = "") -> list[str]:
    """The files of a repository that a pipeline or a causal model is loaded from: no other formats, no second copies.

    safetensors before .bin; of each folder the plain weights, or those of `variant` where it has such; single-file
    checkpoints beside a model_index.json are left out.
    """
    files = [f for f in files if not f.startswith(".") and "/." not in f and not f.endswith(_OTHER_FORMATS)]
    pipeline = "model_index.json" in files
    weights = {f: m for f in files if (m := _WEIGHTS.match(f.rsplit("/", 1)[-1]))}
    folders: dict[str, list[str]] = {}
    for file in weights:
        folders.setdefault(file.rpartition("/")[0], []).append(file)
    chosen = set()
    for folder, names in folders.items():
        if pipeline and not folder:
            continue
        kind = "safetensors" if any(weights[f]["kind"] == "safetensors" for f in names) else "bin"
        names = [f for f in names if weights[f]["kind"] == kind]
        there = {weights[f]["variant"] or "" for f in names}
        takes = variant if variant in there else "" if "" in there else None  # None: it has nothing but variants
        chosen |= {f for f in names if takes is None or (weights[f]["variant"] or "") == takes}
    depth = 1 if pipeline else 0
    others = [f for f in files if f not in weights and f.count("/") <= depth]
    small = [f for f in others if f.endswith((".json", ".txt", ".model", ".jinja")) or f in _TEXTS]
    return sorted(chosen | set(small))


class Hub:
    """The hub that HF_ENDPOINT names, or the public one; the token is the environment's own and is never shown."""

    def __init__(self) -> None:
        try:
            import huggingface_hub
            from huggingface_hub import constants, errors
        except ImportError as e:
            raise InputError("fetching needs the package huggingface_hub: pip install huggingface_hub") from e
        if constants.HF_HUB_OFFLINE:
            raise InputError("HF_HUB_OFFLINE is set in this shell, so nothing can be fetched: unset HF_HUB_OFFLINE")
        self._hub, self._errors = huggingface_hub, errors
        self.endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT

    def fetch(self, what: Fetch, folder: Path, update: bool = False) -> Record:
        """The repository's files in `folder`, whole or not at all. A broken fetch goes on: files that came whole are kept.

        A branch is resolved once: it stays at the recorded commit until `update`.
        """
        before = Record.read(folder)
        same = before if before and (before.repo, before.revision) == (what.repo, what.revision) and not update else None
        if same and same.complete and folder.is_dir():
            return same
        if folder.exists() and before is None:
            raise InputError(f"{folder}: was not fetched by this command; move it away, use --to, or use it with {what.key}={folder}")
        try:
            info = self._ask(what, same.commit if same else what.revision)
            record = Record(what.repo, what.revision, info.sha)
            if not (before and before.complete and before.commit == info.sha and folder.is_dir()):
                self._download(what, info, folder, record)
            whole = replace(record, complete=True)
            whole.write(folder)
        except OSError as e:
            if isinstance(e, self._errors.HfHubHTTPError):
                raise _told(e, what, self._errors) from e
            raise StoreError(f"{folder}: {e.strerror or type(e).__name__}; run the same command again") from e
        except Exception as e:
            if not type(e).__module__.startswith("httpx"):  # the client that the package uses, under whatever name
                raise
            why = f"no answer from {self.endpoint} ({type(e).__name__})"
            raise ServiceGone(f"{what.repo}: {why}; run the same command again on a machine with a network") from e
        return whole

    def _ask(self, what: Fetch, revision: str) -> Any:
        return self._hub.HfApi(self.endpoint).model_info(what.repo, revision=revision, files_metadata=True)

    def _download(self, what: Fetch, info: Any, folder: Path, record: Record) -> None:
        sizes = {s.rfilename: s.size or 0 for s in info.siblings}
        names = wanted(sizes, what.variant)
        if not names:
            raise InputError(f"{what.repo}: holds nothing that a model is loaded from, at {info.sha}; is it the right repository?")
        if bad := next((n for n in names if misplaced(n)), None):
            raise InputError(f"{what.repo}: its file {ascii(bad)[:200]} {misplaced(bad)}; nothing of it is fetched")
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f"{folder.name}.partial")
        for torn in part.rglob("*.incomplete") if part.is_dir() else ():
            torn.unlink()  # huggingface_hub begins a file anew, under another name
        have = sum(f.stat().st_size for f in part.rglob("*") if f.is_file()) if part.is_dir() else 0
        need, free = sum(sizes[n] for n in names) - have, shutil.disk_usage(folder.parent).free
        if need > free:
            raise InputError(f"{folder.parent}: {free / 1e9:.1f} GB free, {what.repo} needs {need / 1e9:.1f} GB; make room or use --to")
        record.write(folder)
        patterns = [escape(n) for n in names]
        self._hub.snapshot_download(
            what.repo, revision=info.sha, local_dir=part, allow_patterns=patterns, max_workers=4, endpoint=self.endpoint
        )  # fmt: skip
        missing = [n for n in names if not (part / n).is_file() or (part / n).stat().st_size != sizes[n]]
        if missing:
            raise ServiceGone(f"{what.repo}: {missing[0]} did not come whole; run the same command again")
        shutil.rmtree(part / ".cache", ignore_errors=True)
        for file in [f for f in part.rglob("*") if f.is_file() and f.relative_to(part).as_posix() not in names]:
            file.unlink()  # of another commit
        if folder.exists():
            shutil.rmtree(folder)
        renamed(part, folder)


def _told(error: Any, what: Fetch, errors: Any) -> Exception:
    """What to do about an answer of the hub. Nothing of the request is repeated: it held the token."""
    code = error.response.status_code if error.response is not None else 0
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(f"{what.repo}: has no revision {what.revision}; check {what.key.replace('path', 'revision')}")
    if isinstance(error, errors.GatedRepoError) or code == 403:
        asks = f"{what.repo}: its makers ask you to accept its licence on its page"
        return InputError(f"{asks}; then set HF_TOKEN to a token of yours (export HF_TOKEN=...) and run this again")
    if isinstance(error, errors.RepositoryNotFoundError) or code == 401:
        return InputError(
            f"{what.repo}: no such repository, or it is private (HTTP {code}); check {what.key.replace('path', 'repo')},"
            " and set HF_TOKEN to a token of yours if it is private"
        )
    return ServiceGone(f"{what.repo}: the hub answers HTTP {code}; run the same command again later")


def fetches(model: Any, captioner: Any, named: Mapping[str, bool], parts: bool = True) -> list[Fetch]:
    """The repositories that a composed `model` and `captioner` name, of the groups that the user named."""
    wanted = []
    if named.get("model") and model.repo:
        name = model.id or model.repo.rpartition("/")[2]
        wanted.append(Fetch("model.path", name, model.repo, model.revision or "main", model.variant or ""))
        for name, part in model.parts.items() if parts else ():
            if part.repo:
                key = f"model.parts.{name}.path"
                wanted.append(Fetch(key, f"{model.id}-{name}", part.repo, part.revision or "main", model.variant or ""))
    if named.get("captioner") and getattr(captioner, "repo", None):
        repo = captioner.repo
        wanted.append(Fetch("captioner.path", captioner.id or repo.rpartition("/")[2], repo, captioner.revision or "main"))
    return wanted


def fetch_of(group: str, config: Any, key: str = "") -> Fetch | None:
    """What the config of a group of transformers' models names: `repo` and `revision` fill `path`, or another key. None if it names
    nothing."""
    if not getattr(config, "repo", None):
        return None
    return Fetch(key or f"{group}.path", config.repo.rpartition("/")[2], config.repo, config.revision or "main")
