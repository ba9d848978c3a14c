"""WebDataset tars, ours and img2dataset's among them: members key.png, key.json, key.txt, key.cls, listed by their headers.

Classes come from key.json ("label" and "class"; several as "labels" and "label_names"; "target" and "classname") or key.cls.
A tar that is torn gives what stands before the tear; the tear itself is an input with its reason.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from synth import foreign
from synth.errors import REFUSALS, InputError, not_trouble
from synth.images.sources.base import Input, Reader, SourceClass, too_large
from synth.images.sources.class_folders import CLASSES, known_classes, not_ours
from synth.images.sources.image_folder import OURS, caption_in
from synth.store.tars import Member, NoTar, TornTar, members
from synth.store.trees import MODERN, can_decode, entries, is_hidden, is_picture, of_one_size, plain, walk

THREADS = 8  # tars that are listed at once: each waits for one small read after the other
SMALL = 1 << 20  # bytes of a json, txt or cls member
NO_PICTURE = "no picture among its files"
SHARDS = ("shards.json", "_stats.json")  # lists beside shards, ours and img2dataset's
# what is passed over, before its number
FURTHER = "further pictures of samples in tars, whose first one is taken"
NO_SUFFIX = "members of tars without a suffix, not read (name them key.jpg)"
HIDDEN = "hidden names and leavings of systems in tars, left out"
LINKS = "links and devices in tars, not read (pack files: tar --hard-dereference -h)"


@dataclass
class Found:
    """One sample of a tar, before its classes have numbers."""

    key: str
    size: int = 0
    offset: int = -1
    classes: tuple[SourceClass, ...] = ()
    caption: str = ""
    reason: str = ""
    to_read: bool = False  # as of an Input
    undecoded: str = ""  # suffix of a picture that nothing here decodes
    texts: dict[str, bytes] = field(default_factory=dict)  # json, txt and cls members


class WebDatasetReader(Reader):
    def __iter__(self) -> Iterator[Input]:
        tars = iter(self._tars())
        with ThreadPoolExecutor(THREADS) as pool:
            while part := list(islice(tars, 4 * THREADS)):
                for name, (samples, passed) in zip(part, pool.map(self._scan, part), strict=True):
                    self.unread.said.update(passed)
                    for s in samples:
                        key = plain(f"{name}/{s.key}" if s.key else name)
                        if s.undecoded and s.offset < 0:
                            self.unread.undecoded[s.undecoded] += 1
                        labels = tuple(self.number(c) for c in s.classes)
                        yield Input(key, name, s.size, s.offset, labels, s.caption, s.reason, to_read=s.to_read)
        if self.root.is_file():
            return
        classes = known_classes(self.root / CLASSES)
        for known in classes.values():
            self.number(known)  # a class of an export is a class without pictures too
        if not classes and any(e.name == CLASSES for e in entries(self.root, self.key)):
            self.notes.append(not_ours(self.root / CLASSES))

    def _tars(self) -> list[str]:
        if self.root.is_file():
            return [self.root.name]
        beside = self.plainly("reads them, and no tar", "pack them into tars, or move the tars away")
        beside, tars = f"pictures beside the tars, not read ({beside})", []
        for path, entry in walk(self.root, key=self.key, unread=self.unread):
            if path.endswith(".tar"):
                tars.append(path)
            elif is_picture(entry.name):
                self.unread.said[beside] += 1
            elif path not in OURS and not path.endswith(SHARDS):
                self.unread.other(path)
        return sorted(tars)

    def _scan(self, name: str) -> tuple[list[Found], Counter[str]]:
        """The samples of one tar, and what is passed over, counted in words.

        Members of a sample stand together; their names agree up to the first dot.
        """
        path = self.root.parent / name if self.root.is_file() else self.root / name
        samples: list[Found] = []
        passed: Counter[str] = Counter()
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe of this name would hold up the plan
                return [Found("", reason="not a regular file")], passed
            with foreign.open_file(path) as raw:
                torn = self._members(raw, samples, passed)
        except OSError as e:
            not_trouble(path, e, REFUSALS)
            return [Found("", reason=f"cannot be read: {e.strerror}")], passed
        for sample in samples:
            self._facts(sample, passed)
        return samples + ([Found("", reason=torn)] if torn else []), passed

    def _members(self, raw, samples: list[Found], passed: Counter[str]) -> str:
        """Fill `samples` and `passed`; the reason if the tar ends before its end."""
        current, seen, total = None, 0, os.fstat(raw.fileno()).st_size
        if total == 0:
            return "empty file"
        try:
            for member in members(raw):
                seen = member.stop
                folder, _, base = member.name.removeprefix("./").rpartition("/")
                stem, _, ext = base.partition(".")
                if member.folder or (folder.startswith("__") and not is_hidden(folder.partition("/")[0])):  # __unit__/index
                    continue
                if any(is_hidden(part) for part in (*folder.split("/"), base) if part not in (".", "..")):
                    passed[HIDDEN] += 1
                    continue
                if not member.regular or not stem or not ext:
                    passed[LINKS if not member.regular else NO_SUFFIX] += 1
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if current is None or current.key != key:
                    current = Found(key, reason=NO_PICTURE)
                    samples.append(current)
                self._member(raw, member, ext.lower(), current, total, passed)
        except NoTar:
            return "not a tar, or a compressed one: samples are read out of the middle, so it must be plain"
        except TornTar as e:
            if current is not None and not samples[-1].reason and seen > total:
                samples[-1].reason = "torn: the tar ends inside it"
            return f"torn after {len(samples)} samples ({e})"
        return ""

    def _member(self, raw, member: Member, ext: str, sample: Found, total: int, passed: Counter[str]) -> None:
        if sample.offset >= 0 and is_picture(f".{ext}"):
            passed[FURTHER] += 1
        elif can_decode(ext):
            sample.size, sample.offset, sample.reason = member.size, member.offset, too_large(member.size)
            sample.to_read = of_one_size(ext)
            if member.offset + member.size > total:
                sample.reason = "torn: the tar ends inside it"
        elif ext in MODERN:
            sample.undecoded = ext
        elif ext in ("json", "txt", "cls") and member.size <= SMALL:
            sample.texts[ext] = os.pread(raw.fileno(), member.size, member.offset)

    def _facts(self, sample: Found, passed: Counter[str]) -> None:
        """Caption and classes of a sample, from its small members. passed: counts in words what is passed over."""
        record: object = None
        try:
            record = foreign.parse(sample.texts["json"], "json", halves=True) if "json" in sample.texts else None
        except InputError:
            sample.reason = sample.reason or "its json is torn"
        if self.captions:
            text = sample.texts.get("txt", b"").decode("utf-8", "replace").strip()
            sample.caption = text or caption_in(record)
        try:
            sample.classes = _classes(record if isinstance(record, dict) else {}, sample.texts.get("cls"))
        except (ValueError, TypeError) as e:
            sample.reason = sample.reason or f"its class cannot be read ({type(e).__name__})"
        sample.texts = {}


def _classes(record: dict, cls: bytes | None) -> tuple[SourceClass, ...]:
    labels, names = record.get("labels"), record.get("label_names")
    if isinstance(labels, list) and isinstance(names, list) and labels:
        return tuple(SourceClass(_index(i), str(n)) for i, n in zip(labels, names, strict=True))
    index = next((record[k] for k in ("label", "target") if record.get(k) is not None), None)
    name = next((str(record[k]) for k in ("class", "classname") if record.get(k) is not None), None)
    if index is None and cls is not None:
        text = cls.decode("utf-8").strip()
        index = foreign.number_in(text)
        name = name if index is not None else name or text
    if index is None and name is None:
        return ()
    return (SourceClass(None if index is None else _index(index), name if name is not None else str(index)),)


def _index(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"label {value!r}")
    return value
