"""Pictures that a run of fewer classes, or with other numbers of them, has already: taken over, so that none is drawn again."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from synth.captions.table import CaptionRow, labels_and_seeds
from synth.errors import InputError, StoreError
from synth.images.config import ImagesConfig
from synth.images.slots import PerCaption, PerClass, Together, per_class
from synth.kinds import config_of
from synth.run.kin import kin_of, stored_in
from synth.store.folder import StageFolder
from synth.store.spec import canonical

Files = dict[str, bytes]
CHOICE = ("counts", "subset", "per_caption")  # which pictures there are, and nothing of what they look like


def table_of(config: ImagesConfig, captions: StageFolder, slots: int) -> PerCaption | PerClass | Together:
    """Which caption and replica each of the slots of a stage is. captions: its captions_json stage, whole."""
    if not config.counts and not config.model.of_classes:
        return PerCaption(config)
    labels, seeds = labels_and_seeds(captions)
    table = per_class(config, labels, seeds) if config.counts else PerCaption(config)
    return Together(table, slots, labels) if config.model.of_classes else table


class Index:
    """Where the pictures of a whole captions table are in its stage of pictures: by the caption's seed and the replica."""

    def __init__(self, stage: StageFolder):
        captions = stage.upstream("captions")[0]
        _, seeds = labels_and_seeds(captions)
        table = table_of(config_of(stage), captions, stage.spec.slots)
        places = [table.place(slot) for slot in range(stage.spec.slots)]
        there = [(slot, seeds[p.row], p.replica) for slot, p in enumerate(places) if 0 <= p.row < len(seeds)]
        slots, of, replicas = zip(*there, strict=True) if there else ((), (), ())
        order = np.argsort(np.array(of, np.uint64), kind="stable")
        self._seeds = np.array(of, np.uint64)[order]
        self._slots, self._replicas = np.array(slots, np.int64)[order], np.array(replicas, np.int64)[order]

    def slots_of(self, seed: int, replica: int) -> list[int]:
        """The slots of a picture: of two captions with one seed there are several."""
        first, last = np.searchsorted(self._seeds, np.uint64(seed), "left"), np.searchsorted(self._seeds, np.uint64(seed), "right")
        return [int(slot) for slot, r in zip(self._slots[first:last], self._replicas[first:last], strict=True) if r == replica]


class EarlierPictures:
    """Looks in the kin of an images stage for its own pictures. One is taken only if its record tells the same caption, class and seeds,
    and that it was computed as this stage does."""

    def __init__(self, folder: StageFolder, computed: Mapping[str, Any]):
        """computed: what the records of this stage tell of how they were computed, which its config leaves open."""
        self._config: ImagesConfig = config_of(folder)
        self._computed = computed
        self._kin: list[tuple[StageFolder, Index]] = []
        for stage in kin_of(folder, _comparable):
            try:
                self._kin.append((stage, Index(stage)))
            except (InputError, StoreError):  # its captions are gone: nobody knows which picture is where
                continue

    def pictures(self, tasks: Mapping[int, Any]) -> dict[int, Files]:
        """slot -> the files of its sample, of those that a kin has. tasks: synth.images.stage.Task by slot."""
        found: dict[int, Files] = {}
        for stage, index in self._kin:
            wanted = {
                there: slot for slot, task in tasks.items() if slot not in found for there in index.slots_of(task.row.seed, task.replica)
            }
            for there, files, record in stored_in(stage, wanted):
                slot = wanted[there]
                if self._same(record, tasks[slot].row, tasks[slot].replica, tasks[slot].seed) and self._config.format in files:
                    renumbered = canonical(record | {"caption_row": tasks[slot].row.row})
                    found[slot] = {self._config.format: files[self._config.format], "json": renumbered}
        return found

    def _same(self, record: Mapping[str, Any], row: CaptionRow, replica: int, seed: int) -> bool:
        asked = {
            "caption": row.caption, "class": row.class_name, "label": row.label, "labels": list(row.labels),
            "label_names": list(row.label_names), "caption_seed": row.seed, "replica": replica, "seed": seed,
        } | self._computed  # fmt: skip
        return all(record.get(name) == value for name, value in asked.items())


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in CHOICE}
