"""A worker's memory does not grow with the units that it made: what it keeps of each is counted over 100 of them.

Ten at a time, and the most that came at once is left out: a table that doubled is no growth.
"""

import gc
import statistics
import tracemalloc
from itertools import pairwise

import pytest

from synth.errors import EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.run import loop
from synth.store.folder import StageFolder
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import ImageFolderConfig, PerceptualHashConfig, ProbeConfig, WebDatasetConfig
from tests.export.conftest import png
from tests.fixtures_images import IMAGES, captions_json_stage, captions_stage, child, commit_units, work

UNITS, SETTLED, LOOKS = 160, 60, 10
A_UNIT = 500  # bytes that may stay of one: a few numbers in listings, and nothing of its samples


@pytest.fixture
def kept_of_a_unit(monkeypatch):
    """stage -> bytes that its worker keeps of each unit behind the first ones."""

    def measure(folder: StageFolder) -> float:
        seen: list[tuple[int, int]] = []
        absorb = loop.Worker._absorb

        def look(self, claims):
            absorb(self, claims)
            made = self._usage.units
            if made >= (seen[-1][0] + LOOKS if seen else SETTLED):
                gc.collect()
                seen.append((made, tracemalloc.get_traced_memory()[0]))

        monkeypatch.setattr(loop.Worker, "_absorb", look)
        tracemalloc.start()
        try:
            assert work(folder) == EXIT_OK
        finally:
            tracemalloc.stop()
        assert len(seen) >= 8
        return statistics.mean(sorted((behind - before) / (last - first) for (first, before), (last, behind) in pairwise(seen))[:-1])

    return measure


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("memory") / "runs" / "toys"
    captions = captions_stage(root, [f"caption {k}" for k in range(UNITS)], classes=("cat", "dog"))
    table = captions_json_stage(root, [captions], UNITS)
    assert work(table) == EXIT_OK
    spec = StageSpec(
        "images", "images", dump(IMAGES), UNITS, 1, 1, EXACT, {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)},
        {"model": InputFile("/nowhere", "0")},
    )  # fmt: skip
    folder = StageFolder.create(root, spec)
    record = {"labels": [0], "seed": 1, "caption_seed": 1, "class": "cat", "label": 0}
    commit_units(
        folder,
        [Sample(k, f"{k:09d}", {"png": png(k), "json": canonical(record | {"caption": f"caption {k}"})}) for k in range(UNITS)],
    )
    return folder


@pytest.mark.parametrize("form", ["tar", "jsonl"])
def test_of_a_probe(kept_of_a_unit, tmp_path, form):
    spec = StageSpec("probe", "probe", dump(ProbeConfig(framing=form, size=5000)), UNITS, 1, 1, EXACT, framing=form)
    assert kept_of_a_unit(StageFolder.create(tmp_path, spec)) < A_UNIT


@pytest.mark.parametrize(
    ("kind", "config"), [("perceptual_hash", PerceptualHashConfig), ("image_folder", ImageFolderConfig), ("webdataset", WebDatasetConfig)]
)
def test_of_a_stage_that_reads_pictures(kept_of_a_unit, images, kind, config):
    stage = child(images.path.parent, kind, config(), {"images": [images]}, UNITS, 1, 1)
    assert kept_of_a_unit(stage) < A_UNIT


def test_what_leaks_is_seen(kept_of_a_unit, tmp_path, monkeypatch):
    from synth.run.probe import Probe

    leak, compute = [], Probe.compute
    monkeypatch.setattr(Probe, "compute", lambda self, state, slots: leak.append(bytes(2000)) or compute(self, state, slots))
    spec = StageSpec("probe", "probe", dump(ProbeConfig()), UNITS, 1, 1, EXACT)
    assert kept_of_a_unit(StageFolder.create(tmp_path, spec)) > 1500
