"""Stage kind `image_folder`: `<out>/<class>/<key>.<ext>`, which torchvision's and Hugging Face's ImageFolder loaders read.

A slot is a slot of the images stage. Pictures are copied byte by byte out of the committed units; the units stay as they
are. The stage's own units hold the record of each picture, from which finish() writes metadata.jsonl and mends the folder.
"""

import hashlib
import json
from dataclasses import dataclass

from synth.config import ImageFolderConfig
from synth.errors import InputError
from synth.export.names import classes_of, folder_names
from synth.export.out_folder import PART, OutFolder
from synth.stages import Sample, Stage, Tombstone, Unit
from synth.store.files import storing, write_atomic
from synth.store.spec import canonical

METADATA = "metadata.jsonl"
CLASSES = "classes.json"


@dataclass(frozen=True)
class Picture:
    """One stored picture, read from its unit."""

    slot: int
    key: str
    ext: str
    data: bytes
    record: dict


class ImageFolder(Stage):
    config: ImageFolderConfig

    def __init__(self, folder):
        super().__init__(folder)
        self.config = folder.config
        self.out = OutFolder(folder)
        self._source = None
        self._classes: dict[int, str] = {}
        self._folders: dict[int, str] = {}
        self._made: set[str] = set()  # class folders that this process made sure of
        self._mending = None  # (unit, its reader, slot -> entry) of the images stage

    def check(self) -> None:
        self.out.check()
        self._source = self.folder.upstream("images")[0]
        self._classes = classes_of(self._source)
        self._folders = folder_names(self._classes)

    def open(self) -> None:
        self.out.claim()

    def unit_inputs(self, unit: Unit) -> str:
        return self.folder.spec.fingerprint  # a unit that was linked from another export would leave this folder without its files

    def begin(self, unit: Unit) -> dict[int, str]:
        """slot -> reason, for the slots of the images stage that have no picture."""
        size = self._source.spec.unit_size
        reasons: dict[int, str] = {}
        for number in range(unit.start // size, -(-unit.stop // size)):
            with self._source.reader(number) as reader:
                reasons |= reader.index.tombstones
        return reasons

    def compute(self, state: dict[int, str], slots: range) -> list[Picture | Tombstone]:
        found = {}
        for stored in self._source.samples(slots.start, slots.stop):
            ext = next(e for e in stored.exts if e != "json")
            found[stored.slot] = Picture(stored.slot, stored.key, ext, stored.read(ext), dict(stored.json()))
        return [found.get(s) or Tombstone(s, state.get(s, "no picture in the images stage")) for s in slots]

    def encode(self, state, item: Picture | Tombstone) -> Sample | Tombstone:
        if isinstance(item, Tombstone):
            return item
        name = self._file_name(item)
        if not self.out.has(name, len(item.data)):
            self._put(name, item.data)
        facts = {"file_name": name, "bytes": len(item.data), "sha256": hashlib.sha256(item.data).hexdigest()}
        return Sample(item.slot, item.key, {"json": canonical(item.record | facts)})

    def _file_name(self, item: Picture) -> str:
        label = item.record["label"]
        if label not in self._folders:
            msg = f"{self._source.path}: picture {item.key} has label {label}, which is not a class of the dataset"
            raise InputError(msg)
        return f"{self._folders[label]}/{item.key}.{item.ext}"

    def _put(self, name: str, data: bytes) -> None:
        folder = name.partition("/")[0]
        if folder not in self._made:
            with storing(self.out.path):
                (self.out.path / folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        self.out.put(name, data)

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Mend what is missing, write classes.json and metadata.jsonl, then the marker."""
        if self._source is None:
            self.check()
        self.out.claim()
        with storing(self.out.path):
            for name in self._folders.values():  # a class without pictures has a folder too: loaders count folders
                (self.out.path / name).mkdir(parents=True, exist_ok=True)
        write_atomic(self.out.path / CLASSES, self.classes_json())
        temp = self.out.path / PART / METADATA
        with storing(temp):
            with open(temp, "wb") as f:
                for record in self._records():
                    f.write(canonical(public(record)) + b"\n")
            self._stop_mending()
            temp.replace(self.out.path / METADATA)
        self.out.complete()

    def _records(self):
        """The records of all pictures in slot order; each one's file is there when it is yielded."""
        for stored in self.folder.samples():
            record = stored.json()
            if not self.out.has(record["file_name"], record["bytes"]):
                self._mend(stored.slot, record)
            yield record

    def _mend(self, slot: int, record: dict) -> None:
        number = slot // self._source.spec.unit_size
        if self._mending is None or self._mending[0] != number:  # a folder that vanished is mended slot after slot
            self._stop_mending()
            reader = self._source.reader(number)
            self._mending = number, reader, {e.slot: e for e in reader.index.samples}
        _, reader, entries = self._mending
        self._put(record["file_name"], reader.read(entries[slot], record["file_name"].rpartition(".")[2]))

    def _stop_mending(self) -> None:
        if self._mending is not None:
            self._mending[1].close()
            self._mending = None

    def classes_json(self) -> bytes:
        classes = [{"index": i, "name": n, "folder": self._folders[i]} for i, n in sorted(self._classes.items())]
        return json.dumps({"classes": classes}, indent=1, ensure_ascii=False).encode() + b"\n"


def public(record: dict) -> dict:
    """The line of metadata.jsonl. Seeds are text: they have 64 bits, and JSON readers of data sets take 63."""
    return {k: str(v) if k in ("seed", "caption_seed") else v for k, v in record.items() if k != "bytes"}
