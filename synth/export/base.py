"""What every export of pictures has in common: whose pictures, the place, and the files beside them.

    classes.json      official index, name, and where the export keeps the class
    manifest.parquet  a row a picture (synth.export.manifest)
    README.md         the dataset card (synth.export.card)
They are written once, by `finish`, when all units are there; whatever computed the units may have been many jobs.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from synth import foreign
from synth.errors import InputError, not_trouble
from synth.export.card import CARD, card
from synth.export.manifest import MANIFEST, ManifestWriter, row_of, stored_row
from synth.reading.stage import ROLE, StageReader
from synth.run.findings import AGAIN, Check
from synth.run.place import PlaceStage
from synth.store.names import folder_names, judged_classes

CLASSES = "classes.json"


class Export(PlaceStage):
    """Base of the kinds that write pictures into a place. They say how: `compute`, `encode`, `written`; and `how_to_read`."""

    has_folders = False  # whether classes.json names a folder for each class
    _own_classes: dict[int, str] | None = None  # as the export has them: where the stage that it was made of is gone

    @cached_property
    def pictures(self) -> StageReader:
        return StageReader(self.folder.upstream(ROLE)[0])

    @property
    def classes(self) -> dict[int, str]:
        """official index -> name"""
        return self.pictures.classes if self._own_classes is None else self._own_classes

    def label_of(self, key: str, record: Mapping) -> int:
        """The label of a picture, by its record; one that is no class of the dataset is an InputError."""
        return self.pictures.label_of(key, record) if self._own_classes is None else record["label"]

    @cached_property
    def folders(self) -> dict[int, str]:
        """official index -> folder name that every file system takes"""
        return folder_names(self.classes)

    def check(self) -> None:
        super().check()
        if self.config.form != self.config.newest and not self.folder.is_whole():
            raise InputError(f"{self.folder.path}: an earlier version planned it, which writes other files; run the same command again")
        self.folders  # noqa: B018 (what is wrong with the classes is said now)

    def open(self) -> None:
        self.out.claim()

    # -- when the stage is whole -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything is in place, or made again where it is not; then what lies beside the pictures, and the marker."""
        self.out.claim()
        for name, data in self.lists().items():
            self.out.write(name, data)
        manifest = ManifestWriter(self.out.part(MANIFEST))
        for record in self.written(self.records()):
            manifest.add(row_of(record, self.pictures.unit_of(record["slot"])))
        manifest.close()
        self.out.place(manifest.path, MANIFEST)
        self.out.write(CARD, self.card(manifest))
        self.out.complete(self._earlier_files())

    def _earlier_files(self) -> Iterator[str]:
        """The files of pictures of the export whose place this one takes, by its manifest; none where it takes no other's."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.out.growing:
            return
        file = self.out.root / MANIFEST
        try:
            with foreign.open_file(file) as raw, pq.ParquetFile(raw) as manifest:
                for batch in manifest.iter_batches(8192, columns=["file"]):
                    yield from {self.file_of(name) for name in batch.column("file").to_pylist()}
        except (OSError, KeyError, UnicodeDecodeError, pa.ArrowException) as e:
            not_trouble(file, e)
            raise InputError(f"{file}: cannot be read ({e}), so that nobody knows what may go: remove the folder {self.out.root}") from e

    def file_of(self, name: str) -> str:
        """The file that a row of the manifest names, or names a member of."""
        return name

    def card(self, manifest: ManifestWriter) -> bytes:
        """README.md. manifest: closed, with what it counted."""
        counts = {index: manifest.per_label[index] for index in sorted(self.classes)}
        return card(self.folder, self.classes, counts, manifest.size, self.how_to_read(), self.front_matter())

    def lists(self) -> dict[str, bytes]:
        """Small files beside the pictures, by name, that need none of them."""
        return {CLASSES: self.classes_json()}

    def records(self, mend: bool = True) -> Iterator[dict]:
        """The stage's records in the order of the export, each with its `slot` and `key`, and its file's `file_name`, `bytes`, `sha256`.

        mend: make a file that is not there again, before its records are told.
        """
        for stored in self.folder.samples():
            yield {**stored.json("file_name", "bytes", "sha256"), "slot": stored.slot, "key": stored.key}

    def written(self, records: Iterable[dict]) -> Iterator[dict]:
        """The records one by one, each when its picture is in its place: mend here what is missing, and write what needs them all."""
        yield from records

    def how_to_read(self) -> str:
        """A few lines of Markdown for the card: what the files are, and code that opens them."""
        raise NotImplementedError

    def front_matter(self) -> Mapping:
        """More keys of the card's YAML, for Hugging Face's loaders."""
        return {}

    def classes_json(self) -> bytes:
        classes = [
            {"index": i, "name": n} | ({"folder": self.folders[i]} if self.has_folders else {}) for i, n in sorted(self.classes.items())
        ]
        return json.dumps({"classes": classes}, indent=1, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"

    # -- whether it is still as it was -------------------------------------------------------------------------------

    def look_alone(self, check: Check) -> None:
        """Before anything else is looked at: without its pictures' stage, an export's classes are those that it holds itself."""
        if check.alone:
            try:
                self._own_classes = _classes_in(check.out / CLASSES)
            except (OSError, ValueError, InputError) as e:
                not_trouble(check.out / CLASSES, e)
                self._own_classes = {}

    def verify_beside(self, check: Check, pictures: int) -> None:
        """What lies beside so many pictures: the lists, the card, and the manifest with a row a picture (deep: every value)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name, data in self.lists().items():
            check.same(name, data)
        if not (check.out / CARD).exists():
            check.missing(CARD)
        file = check.out / MANIFEST
        try:
            if file.exists() and not file.is_file():  # a FIFO would be waited for
                raise OSError("it is no file")
            with pq.ParquetFile(file) as manifest:
                if not check.deep or check.alone:  # a row names the unit of its picture, which nobody knows any more
                    rows = manifest.metadata.num_rows
                    wrong = f"has {rows} rows for {pictures} pictures" if rows != pictures else ""
                else:
                    there = (row for batch in manifest.iter_batches(8192) for row in batch.to_pylist())
                    expected = (stored_row(row_of(r, self.pictures.unit_of(r["slot"]))) for r in self.records(mend=False))
                    pairs = itertools.zip_longest(there, expected)
                    wrong = next((f"does not agree with the units at picture {(b or a)['key']}" for a, b in pairs if a != b), "")
        except FileNotFoundError:
            wrong = "is missing"
        except (OSError, KeyError, UnicodeDecodeError, pa.ArrowException) as e:
            not_trouble(file, e)
            wrong = f"cannot be read ({type(e).__name__})"
        if wrong:
            check.wrong(MANIFEST, wrong)

    def n_samples(self) -> int:
        """Samples in its units."""
        return sum(1 for _ in self.folder.samples())


def _classes_in(path: Path) -> dict[int, str]:
    """official index -> name, as a classes.json has them; InputError if it is none."""
    text = foreign.read(path, foreign.STAGE).decode("utf-8", "surrogatepass")
    return judged_classes(foreign.obj(foreign.parse(text, path, halves=True), path, classes=list)["classes"], f"{path}: classes", AGAIN)
