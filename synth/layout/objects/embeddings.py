"""Stage kind `box_embeddings`: of each object the embeddings of its label, and of its label with its caption, as CLIP's text tower pools
them before they are projected: what InstanceDiffusion is trained on. A sample holds `npy`, [2, objects, D] float32, and no picture is read.

GLIGEN (Li et al. 2023, arXiv 2301.07093) has the same of its labels. The two take CLIP ViT-L/14, of which D is 768.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from synth.errors import InputError
from synth.features.encoders import TextEncoder
from synth.host.gpu import free
from synth.layout.objects.base import OfRecords
from synth.layout.objects.clip import checked, features_of, opened
from synth.layout.objects.config import BoxEmbeddingsConfig
from synth.layout.records import Anno, Record
from synth.reading.stage import StageReader
from synth.run.findings import Check
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

NOT_FINITE = "the numbers of CLIP for the text of a box of it are not finite"
WITHOUT = "leave embeddings out (export.layout_labels.embeddings=false) or give another features.model"
TEXTS = 2  # of an object: its label; its label with its caption


@dataclass(frozen=True)
class Embedded:
    """A slot with the embeddings of its objects, [2, objects, D], or the reason why it has none."""

    slot: int
    numbers: np.ndarray | None = None
    reason: str = ""


class BoxEmbeddings(OfRecords):
    config: BoxEmbeddingsConfig
    model: TextEncoder | None = None

    def check(self) -> None:
        super().check()
        checked(self.folder)

    def open(self) -> None:
        super().open()
        self.model = opened(self.folder, self.config.rows)

    def close(self) -> None:
        super().close()
        self.model = None
        free()

    def compute(self, state: Mapping[int, Record | str], slots: range) -> list[Embedded]:
        annos = {slot: _annos(state[slot]) for slot in slots}
        texts = [text for of_picture in annos.values() for anno in of_picture for text in (anno.label, described(anno))]
        found = features_of(texts, self.model.pooled).astype(np.float32) if texts else np.zeros((0, 0), np.float32)
        items, at = [], 0
        for slot in slots:
            n = TEXTS * len(annos[slot])
            own, at = found[at : at + n], at + n
            known = state[slot]
            reason = known if isinstance(known, str) else "" if np.isfinite(own).all() else f"{NOT_FINITE} ({known.image})"
            numbers = None if reason else own.reshape(len(annos[slot]), TEXTS, -1 if n else 0).swapaxes(0, 1)
            items.append(Embedded(slot, numbers, reason))
        return items

    def encode(self, state: Any, item: Embedded) -> Sample | Tombstone:
        if item.numbers is None:
            return Tombstone(item.slot, item.reason)
        out = io.BytesIO()
        np.save(out, np.ascontiguousarray(item.numbers), allow_pickle=False)
        return Sample(item.slot, f"{item.slot:09d}", {"json": canonical({"objects": item.numbers.shape[1]}), "npy": out.getvalue()})

    def verify(self, check: Check) -> None:
        """Deep: there are finite numbers of every object that the stage before tells of."""
        if not check.deep:
            return
        embeddings = EmbeddingReader(self.folder)
        for number in range(self.folder.spec.n_units):
            unit = self.folder.unit(number)
            for slot, record in self.begin(unit).items():
                if isinstance(record, str):
                    continue
                try:
                    embeddings.of(slot, record)
                except InputError as e:
                    check.found.add(self.folder.unit_path(number), str(e), number)


class EmbeddingReader:
    """The embeddings of a stage, by slot."""

    def __init__(self, stage: StageFolder):
        self._samples = StageReader(stage)

    def of(self, slot: int, record: Record) -> np.ndarray:
        """[2, objects, D] float32 of the objects of a record: of their labels; of their labels with their captions. InputError, naming the
        sample, for anything else."""
        n, where = len(record.annos or ()), f"{self._samples.stage.path}: sample {slot:09d}"
        sample = self._samples.get(slot)
        if sample is None:
            raise InputError(f"{where}: is not there, or has none: {self._samples.reasons(slot, slot + 1).get(slot, '')}; {WITHOUT}")
        try:
            numbers = np.load(io.BytesIO(sample["npy"]), allow_pickle=False)
        except (ValueError, EOFError) as e:
            raise InputError(f"{where}: npy is no array ({e})") from e
        if numbers.dtype != np.float32 or numbers.ndim != 3 or numbers.shape[:2] != (TEXTS, n) or not np.isfinite(numbers).all():
            raise InputError(f"{where}: npy is {numbers.dtype} {list(numbers.shape)}, not finite float32 [{TEXTS}, {n}, ..] of its objects")
        return numbers


def described(anno: Anno) -> str:
    """What InstanceDiffusion embeds beside the label: the caption, behind the label unless that is in it.

    >>> described(Anno((0, 0, 9, 9), 0.9, "dog", caption="a brown Dog")), described(Anno((0, 0, 9, 9), 0.9, "dog", caption="it sleeps"))
    ('a brown Dog', 'dog. it sleeps')
    """
    if not anno.caption or anno.label.lower() in anno.caption.lower():
        return anno.caption or anno.label
    return f"{anno.label}. {anno.caption}"


def _annos(known: Record | str) -> Sequence[Anno]:
    return () if isinstance(known, str) else known.annos or ()
