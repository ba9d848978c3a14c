"""Stage kind `image_folder`: `<out>/<class>/<key>.<ext>`, which torchvision's and Hugging Face's ImageFolder loaders read.

A slot is a slot of the images stage. Pictures are copied byte by byte out of the committed units; the units stay as they
are. The stage's own units hold the record of each picture, from which finish() writes metadata.jsonl and mends the folder.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.export.base import Export
from synth.export.config import ImageFolderConfig
from synth.export.sources import Sources
from synth.reading.sample import StageSample
from synth.reading.stage import GONE
from synth.run.findings import Check
from synth.seeds import uniform
from synth.store.files import storing
from synth.store.samples import Sample, Tombstone, Unit
from synth.store.spec import canonical

METADATA = "metadata.jsonl"
TOLD = ("file_name", "bytes", "sha256")  # of each picture's file, by the stage's own units


class ImageFolder(Export):
    config: ImageFolderConfig
    has_folders = True

    def __init__(self, folder):
        super().__init__(folder)
        source = folder.spec.settings.get("link_from")
        self._linkable = tuple(Path(source, split) for split in ("", "train", "val")) if source else ()

    def begin(self, unit: Unit) -> dict[int, str]:
        """slot -> reason, for the slots that have no picture."""
        return self.pictures.reasons(unit.start, unit.stop)

    def compute(self, state: dict[int, str], slots: range) -> list[StageSample | Tombstone]:
        pictures = {p.slot: p for p in self.pictures.samples(slots.start, slots.stop)}
        return [pictures.get(s) or Tombstone(s, state.get(s, GONE)) for s in slots]

    def encode(self, state, item: StageSample | Tombstone) -> Sample | Tombstone:
        if isinstance(item, Tombstone):
            return item
        name, data = self.file_name(item), item.read()
        if not self.out.has(name, len(data)):
            self._put(name, data, item)
        facts = {"file_name": name, "bytes": len(data), "sha256": item.digest()}
        return Sample(item.slot, item.key, {"json": canonical(item.metadata | facts)})

    def file_name(self, item: StageSample) -> str:
        """Where a picture goes: <class>/<key>.<ext>; by number <class>/<slot, 8 digits>.<ext>; nested, as SynCLR's txt2img writes it,
        <millions>/<thousands>/<rest>.<ext>. Below train/ or val/ if it is split: all pictures of a caption on one side."""
        folder, slot = self.folders[self.pictures.label_of(item.key, item.metadata)], item.slot
        plain = {
            "key": f"{folder}/{item.key}",
            "number": f"{folder}/{slot:08d}",
            "nested": f"{slot // 10**6:06d}/{slot % 10**6 // 1000:06d}/{slot % 1000:05d}",
        }
        return f"{self.split_of(item.metadata, slot)}{plain[self.config.names]}.{item.ext}"

    def split_of(self, record: Mapping, slot: int) -> str:
        """ "train/", "val/" or ""."""
        if not self.config.val_share:
            return ""
        luck = uniform(self.config.split_seed, "split", record.get("caption_seed", slot))
        return "val/" if luck < self.config.val_share else "train/"

    def _split_in(self, name: str) -> str:
        """The same of a file's name."""
        return f"{name.partition('/')[0]}/" if self.config.val_share else ""

    def _put(self, name: str, data: bytes, picture: StageSample) -> None:
        plain = f"{self.folders[picture.metadata['label']]}/{picture.key}.{picture.ext}"
        self.out.make_folder(name.rpartition("/")[0])
        for below in self._linkable:  # another ImageFolder of these pictures: a second name costs no space
            if self.out.link(name, data, below / plain):
                return
        self.out.put(name, data)

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """Mend what is missing, and write metadata.jsonl, where there are train/ and val/ one in each."""
        splits = ("train/", "val/") if self.config.val_share else ("",)
        for split in splits:
            for name in self.folders.values() if self.config.names != "nested" else ():
                self.out.make_folder(f"{split}{name}")  # a class without pictures too: loaders count folders
        temps = {split: self.out.part(METADATA) for split in splits}
        with contextlib.ExitStack() as stack:
            stack.enter_context(storing(self.out.path))
            files = {split: stack.enter_context(open(temp, "xb")) for split, temp in temps.items()}
            for record in records:
                name = record["file_name"]
                if not self.out.has(name, record["bytes"]):
                    picture = self.pictures[record["slot"]]
                    self._put(name, picture.read(), picture)
                split = self._split_in(name)
                if split not in files:
                    raise InputError(f"{self.folder.path}: its units name {ascii(name)[:200]}, which is in neither half: verify it")
                files[split].write(canonical(public({**record, "file_name": name.removeprefix(split)})) + b"\n")
                yield record
        for split, temp in temps.items():
            self.out.place(temp, f"{split}{METADATA}")

    def verify(self, check: Check) -> None:
        """Every picture of the units is there, in its class, whole (deep: byte by byte), and no other; the lists agree with them."""
        out, expected = check.out, Counter[str]()
        splits = ("train/", "val/") if self.config.val_share else ("",)
        lines = {split: _lines(out / split / METADATA) for split in splits}
        in_step = set(splits)
        self.look_alone(check)
        sources = Sources(check, lambda: self.pictures)
        for stored, record in check.records(self.folder, *TOLD):
            name = record["file_name"]
            split = self._split_in(name)
            expected[name.rpartition("/")[0]] += 1
            check.file(name, record["bytes"], record["sha256"])
            sources.compare(stored.slot, record, name, self.folder.unit_path(stored.unit), stored.unit, name)
            if split in in_step and next(lines[split], b"") != canonical(public({**record, "file_name": name.removeprefix(split)})):
                in_step.discard(split)
                check.wrong(split + METADATA, f"edited or torn at the line of {name}")
            check.progress(1)
        for split in sorted(in_step):
            if next(lines[split], None) is not None:
                check.wrong(split + METADATA, "has more lines than there are pictures")
        self._verify_strangers(check, expected)
        self.verify_beside(check, self.n_samples())

    def _verify_strangers(self, check: Check, expected: Counter[str]) -> None:
        """Files in class folders that no unit has. Names are compared only where their number differs."""
        for name, number in sorted(expected.items()):
            if not check.is_folder(name):
                continue  # told picture by picture
            there = [e.name for e in os.scandir(check.out / name) if not e.name.startswith(".")]
            if len(there) <= number:
                continue
            names = (stored.json(*TOLD)["file_name"] for stored in self.folder.samples())
            mine = {Path(n).name for n in names if n.startswith(f"{name}/")}
            for stranger in sorted(set(there) - mine):
                check.wrong(f"{name}/{stranger}", "no unit has this picture")

    def how_to_read(self) -> str:
        return """- `<class>/<key>.<ext>`: the pictures, as torchvision's ImageFolder \
and Hugging Face's `load_dataset("imagefolder", data_dir=...)` read them.
- `metadata.jsonl`: a line a picture: its caption, its class, its seeds and all settings it was made with."""


def public(record: Mapping) -> dict:
    """The line of metadata.jsonl. Seeds are text: they have 64 bits, and JSON readers of data sets take 63."""
    return {k: str(v) if k in ("seed", "caption_seed") else v for k, v in record.items() if k not in ("bytes", "slot", "key")}


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends; none if the file is missing."""
    try:
        yield from foreign.lines(path, foreign.TABLE)
    except FileNotFoundError:
        return
