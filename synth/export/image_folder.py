"""Stage kind `image_folder`: `<out>/<class>/<key>.<ext>`, which torchvision's and Hugging Face's ImageFolder loaders read.

A slot is a slot of the images stage. Pictures are copied byte by byte out of the committed units; the units stay as they
are. The stage's own units hold the record of each picture, from which finish() writes metadata.jsonl and mends the folder.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from synth.config import ImageFolderConfig
from synth.export.base import Export
from synth.export.out_folder import PART
from synth.export.pictures import GONE
from synth.stages import Sample, Tombstone, Unit
from synth.store.files import storing
from synth.store.spec import canonical

METADATA = "metadata.jsonl"
NEAR = 1000  # slots that are skipped rather than sought


@dataclass(frozen=True)
class Copied:
    """One stored picture, read from its unit."""

    slot: int
    key: str
    ext: str
    data: bytes
    record: dict


class ImageFolder(Export):
    config: ImageFolderConfig
    has_folders = True

    def __init__(self, folder):
        super().__init__(folder)
        self._made: set[str] = set()  # class folders that this process made sure of
        self._mending: tuple[Iterator | None, int] = None, 0  # pictures from a slot on

    def begin(self, unit: Unit) -> dict[int, str]:
        """slot -> reason, for the slots that have no picture."""
        return self.pictures.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[Copied | Tombstone]:
        found = {p.slot: Copied(p.slot, p.key, p.ext, p.read(), dict(p.record())) for p in self.pictures.samples(slots.start, slots.stop)}
        return [found.get(s) or Tombstone(s, state.get(s, GONE)) for s in slots]

    def encode(self, state, item: Copied | Tombstone) -> Sample | Tombstone:
        if isinstance(item, Tombstone):
            return item
        name = f"{self.folders[self.label_of(item.key, item.record)]}/{item.key}.{item.ext}"
        if not self.out.has(name, len(item.data)):
            self._put(name, item.data)
        facts = {"file_name": name, "bytes": len(item.data), "sha256": hashlib.sha256(item.data).hexdigest()}
        return Sample(item.slot, item.key, {"json": canonical(item.record | facts)})

    def _put(self, name: str, data: bytes) -> None:
        folder = name.partition("/")[0]
        if folder not in self._made:
            with storing(self.out.path):
                (self.out.path / folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        self.out.put(name, data)

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """Mend what is missing, and write metadata.jsonl."""
        with storing(self.out.path):
            for name in self.folders.values():  # a class without pictures has a folder too: loaders count folders
                (self.out.path / name).mkdir(parents=True, exist_ok=True)
        temp = self.out.path / PART / METADATA
        with storing(temp), open(temp, "wb") as f:
            for record in records:
                if not self.out.has(record["file_name"], record["bytes"]):
                    self._mend(record)
                f.write(canonical(public(record)) + b"\n")
                yield record
        with storing(temp):
            temp.replace(self.out.path / METADATA)

    def _mend(self, record: dict) -> None:
        slot, (ahead, at) = record["slot"], self._mending
        if ahead is None or not at <= slot < at + NEAR:  # a folder that vanished is mended slot after slot: its units stay open
            ahead = self.pictures.samples(slot)
        picture = next(p for p in ahead if p.slot >= slot)
        self._mending = ahead, slot + 1
        self._put(record["file_name"], picture.read())

    def how_to_read(self) -> str:
        return """- `<class>/<key>.<ext>`: the pictures, as torchvision's ImageFolder and Hugging Face's `load_dataset("imagefolder", data_dir=...)` read them.
- `metadata.jsonl`: a line a picture: its caption, its class, its seeds and all settings it was made with."""


def public(record: Mapping) -> dict:
    """The line of metadata.jsonl. Seeds are text: they have 64 bits, and JSON readers of data sets take 63."""
    return {k: str(v) if k in ("seed", "caption_seed") else v for k, v in record.items() if k not in ("bytes", "slot", "key")}
