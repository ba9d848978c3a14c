"""Features of pictures that nobody drew: clusters of unit length, a cluster a class, as stages that a judge reads."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from synth.captions.config import ClassEntry
from synth.features.config import ClassList, FeaturesConfig
from synth.features.reading import n_pictures
from synth.judge.config import JudgeConfig, NeighboursConfig
from synth.judge.parts import blocks, parts
from synth.keys import dump
from synth.numerics import EXACT
from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, canonical
from tests.fixtures_images import child, commit_units, work

CLASSES = ("cat", "dog", "owl", "red fox")
WIDTH = 12


def clusters(per_class: int, seed: int, spread: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """(features [N, D], labels [N]): around the same centres for any seed, classes in turn."""
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), WIDTH))
    labels = np.tile(np.arange(len(CLASSES)), per_class)
    rows = centres[labels] + spread * np.random.default_rng(seed).normal(size=(len(labels), WIDTH)) * 2
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def features(
    root: Path, name: str, rows: np.ndarray, labels: np.ndarray, classes: Sequence[str] = CLASSES, dead: Sequence[int] = ()
) -> StageFolder:
    """A whole stage of features of pictures with these labels; slots of `dead` have none."""
    entries = ClassList(classes=tuple(ClassEntry(i, c) for i, c in enumerate(classes)))
    config = FeaturesConfig(id="clusters", dataset=entries, source_classes=tuple(range(len(classes))))
    inputs = {"model": InputFile("/nowhere", "m"), "source": InputFile(f"/data/{name}", f"listing:{name}")}
    folder = StageFolder.create(root, StageSpec("features", name, dump(config), len(rows), 16, 4, EXACT, {}, inputs))
    samples = []
    for slot, (row, label) in enumerate(zip(rows, labels, strict=True)):
        out = io.BytesIO()
        np.save(out, row.astype(np.float16))
        facts = {"label": int(label), "class": classes[label]} if label >= 0 else {}
        samples.append(
            Tombstone(slot, "empty file")
            if slot in dead
            else Sample(slot, f"{slot:09d}", {"json": canonical(facts), "npy": out.getvalue()})
        )
    commit_units(folder, samples)
    return folder


def judge(made: StageFolder | list[StageFolder], real: StageFolder | None = None, test: StageFolder | None = None, **config) -> StageFolder:
    """A planned judge of whole stages of features, that decodes no picture. made: one set, of several stages or one."""
    made = made if isinstance(made, list) else [made]
    keys = {"seeds": (0, 1), "neighbours": 3, "votes": 5, "duplicate": 0.999, "leak": 0.999, "pictures": 0} | config
    settings = JudgeConfig(**keys)
    upstream = {"features": made} | {role: [stage] for role, stage in (("real", real), ("test", test)) if stage is not None}
    near = neighbours({role: stages for role, stages in upstream.items() if role != "real"}, settings, settings.duplicate)
    if real is not None:
        near |= {f"real_{role}": stages for role, stages in neighbours({"features": [real]}, settings, None).items()}
    slots = len(parts(settings, real is not None, test is not None, sum(map(n_pictures, made))))
    return child(made[0].path.parent, "judge", settings, upstream | near, slots)


def neighbours(upstream: Mapping[str, list[StageFolder]], settings: JudgeConfig, duplicate: float | None) -> dict[str, list[StageFolder]]:
    """A whole stage of neighbours, by its role."""
    config = NeighboursConfig(neighbours=settings.neighbours, duplicate=duplicate)
    made = upstream["features"]
    near = child(made[0].path.parent, "neighbours", config, upstream, len(blocks(sum(map(n_pictures, made)))))
    work(near)
    return {"neighbours": [near]}
