"""Stage kind `image_folder`: `<out>/<class>/<key>.<ext>`, which torchvision's and Hugging Face's ImageFolder loaders read.

A slot is a slot of the images stage. Pictures are copied byte by byte out of the committed units; the units stay as they
are. The stage's own units hold the record of each picture, from which finish() writes metadata.jsonl and mends the folder.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from synth import foreign
from synth.errors import InputError
from synth.export.base import Export
from synth.export.card import plain_text
from synth.export.config import ImageFolderConfig
from synth.export.manifest import ManifestWriter
from synth.export.sources import Sources
from synth.reading.sample import StageSample
from synth.reading.stage import GONE, ROLE, StageReader
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
        self._empty: list[int] = []  # official indices of classes without a picture, when the card is written
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
        return "val/" if (record["label"], record.get("caption_seed", slot)) in self._val else "train/"

    @cached_property
    def _val(self) -> set[tuple[int, int]]:
        """(label, caption seed) of the captions whose pictures go to val/: of each class the share that is wanted, one at least.

        Drawn over all pictures of the stage, whose records are taken on trust here. InputError for a class that cannot be split.
        """
        of_class: dict[int, set[int]] = {}
        for picture in StageReader(self.folder.upstream(ROLE)[0], check=False).samples():
            record = picture.metadata
            of_class.setdefault(record["label"], set()).add(record.get("caption_seed", picture.slot))
        share, seed = self.config.val_share, self.config.split_seed
        if single := sorted(label for label, captions in of_class.items() if len(captions) == 1):
            names = ", ".join(repr(self.classes.get(label, str(label))) for label in single[:5]) + (", .." if single[5:] else "")
            raise InputError(
                f"export.{self.folder.spec.name}.val_share={share}: {len(single)} classes have pictures of one caption alone ({names}), "
                "and both halves need one; make more (captions.per_class), or set val_share=0"
            )
        return {(label, s) for label, captions in of_class.items() for s in drawn(captions, share, seed)}

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

    def open(self) -> None:
        if self.config.val_share:
            self._val  # noqa: B018 (what cannot be split is said before anything is written)
        super().open()

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

    def card(self, manifest: ManifestWriter) -> bytes:
        self._empty = sorted(index for index in self.classes if not manifest.per_label[index])
        return super().card(manifest)

    def how_to_read(self) -> str:
        nested = self.config.names == "nested"
        return (
            NESTED if nested else READ + (EMPTY.format(plain_text(", ".join(self.classes[i] for i in self._empty))) if self._empty else "")
        )


READ = """- `<class>/<key>.<ext>`: the pictures, as torchvision's ImageFolder \
and Hugging Face's `load_dataset("imagefolder", data_dir=...)` read them.
- `metadata.jsonl`: a line a picture: its caption, its class, its seeds and all settings it was made with. `label` is the official index.
- torchvision and timm number the classes anew, from 0 in the order of their folders. `classes.json` has the official index of a folder:
  `official = {c["folder"]: c["index"] for c in json.load(open("classes.json"))["classes"]}; \
ImageFolder(root, target_transform=lambda i: official[classes[i]])`, `classes` being `ImageFolder(root).classes`."""
EMPTY = """
- Classes without a picture have an empty folder: {}. torchvision refuses them without `ImageFolder(root, allow_empty=True)`, and \
timm does not count them."""
NESTED = """- `000000/000000/00123.<ext>`: the pictures by number, as SynCLR's txt2img writes them; no folder is a class.
- `metadata.jsonl`: a line a picture: its caption, its class, its seeds and all settings it was made with. \
`load_dataset("imagefolder", data_dir=...)` takes `label` from it."""


def drawn(captions: Iterable[int], share: float, seed: int) -> list[int]:
    """The captions of one class, of two and more, that go to val/, by their seeds: the share of them, but one at least on either side."""
    by_luck = sorted(captions, key=lambda s: (uniform(seed, "split", s), s))
    return by_luck[: min(len(by_luck) - 1, max(1, int(share * len(by_luck) + 0.5)))]


def public(record: Mapping) -> dict:
    """The line of metadata.jsonl. Seeds are text: they have 64 bits, and JSON readers of data sets take 63. Without empty objects: a column
    of them is a structure without fields, which Parquet cannot hold and readers of tables refuse."""
    return {k: str(v) if k in ("seed", "caption_seed") else v for k, v in record.items() if k not in ("bytes", "slot", "key") and v != {}}


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends; none if the file is missing."""
    try:
        yield from foreign.lines(path, foreign.TABLE)
    except FileNotFoundError:
        return
