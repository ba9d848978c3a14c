"""Pictures of every kind of model in every numerics, through the real worker: where they are computed, and their bytes.

Each stage is drawn once here and looked at by several tests, once more in another process as another job, and once on a CPU.
"""

import gc
import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from synth.errors import EXIT_OK
from synth.numerics import EXACT, FAST, REFERENCE
from synth.store.folder import StageFolder
from tests.fixtures_images import digests, work
from tests.gpu.conftest import CUDA
from tests.gpu.memory import held
from tests.gpu.rows import DRY, MODELS, Planner, Seen, watched

NUMERICS = {"exact": EXACT, "fast": FAST, "reference": REFERENCE}
HALF = {torch.bfloat16, torch.float16}
rows = pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in DRY else pytest.mark.cuda_only) for n in MODELS])
every_numerics = pytest.mark.parametrize("numerics", NUMERICS)
with_bytes = pytest.mark.parametrize("numerics", ["exact", "reference"])  # fast promises none


@dataclass(frozen=True)
class Drawn:
    folder: StageFolder
    seen: Seen
    left: int  # bytes on the GPU after the worker that were not there before it


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    return Planner(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def drawn(planned):
    """(row, numerics) -> its stage, drawn in this process. The garbage collector waits: what is let go must not need it."""
    made = {}

    def draw(name: str, numerics: str) -> Drawn:
        if (name, numerics) not in made:
            folder = planned(name, NUMERICS[numerics], "here")
            with pytest.MonkeyPatch.context() as patch:
                seen = watched(patch)
                gc.collect()
                gc.disable()
                try:
                    before = held() if CUDA else 0
                    assert work(folder) == EXIT_OK
                    left = held() - before if CUDA else 0
                finally:
                    gc.enable()
                made[name, numerics] = Drawn(folder, seen(), left)
        return made[name, numerics]

    return draw


def pixels(folder: StageFolder) -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read("png")))).astype(int) for s in folder.samples()}


def furthest(a: StageFolder, b: StageFolder) -> int:
    """Grey levels between two stages' pictures, at most."""
    one, other = pixels(a), pixels(b)
    assert one.keys() == other.keys()
    return max(abs(one[slot] - other[slot]).max() for slot in one)


@rows
@every_numerics
def test_all_of_a_model_is_on_the_device_in_the_dtype_that_the_metadata_names(name, numerics, drawn, on):
    stage = drawn(name, numerics)
    records = [s.json() for s in stage.folder.samples()]
    assert stage.seen.devices == {on.type} == {r["device"] for r in records}
    (dtype,) = {getattr(torch, r["dtype"]) for r in records}
    assert dtype in stage.seen.dtypes <= {dtype, torch.float32}  # T5 keeps some of its layers in float32
    if numerics == "reference":
        assert stage.seen.dtypes == {torch.float32}
    elif CUDA:
        assert dtype in HALF


@rows
@every_numerics
def test_pictures_are_finite_and_show_something(name, numerics, drawn):
    folder = drawn(name, numerics).folder
    made = pixels(folder)
    assert sorted(made) == list(range(folder.spec.slots))  # values that are not finite would be tombstones
    assert all(p.std() > 3 for p in made.values()) and (made[0] != made[1]).any()


@rows
@with_bytes
def test_bytes_are_those_of_another_process_that_is_another_job(name, numerics, drawn, planned, second):
    twin = planned(name, NUMERICS[numerics], "second")
    assert second.work(twin) == EXIT_OK
    assert digests(twin) == digests(drawn(name, numerics).folder)


@rows
def test_exact_gives_a_picture_the_same_bits_whoever_its_neighbours_are(name, drawn, planned):
    """Slots 0 and 3 begin a batch of two; here each is alone in a batch that is filled up."""
    alone = planned(name, EXACT, "alone", unit_size=1)
    assert work(alone) == EXIT_OK
    among, single = pixels(drawn(name, "exact").folder), pixels(alone)
    assert all((among[slot] == single[slot]).all() for slot in (0, 3))


@rows
def test_reference_pictures_of_batches_of_one_are_within_a_grey_level(name, drawn, planned):
    alone = planned(name, REFERENCE, "alone", unit_size=1, batch=1)
    assert work(alone) == EXIT_OK
    assert furthest(alone, drawn(name, "reference").folder) <= 1


@rows
def test_reference_pictures_are_within_two_grey_levels_of_a_cpu(name, drawn, planned, cpu):
    there = planned(name, REFERENCE, "cpu")
    assert cpu.work(there) == EXIT_OK
    assert {s.json()["device"] for s in there.samples()} == {"cpu"}
    assert furthest(there, drawn(name, "reference").folder) <= 2


@pytest.mark.cuda_only
@rows
@every_numerics
def test_a_closed_stage_gives_its_memory_back(name, numerics, drawn):
    assert drawn(name, numerics).left < 100_000  # bytes; the smallest of these models has eight times that


@pytest.mark.parametrize("change", [{"run": {"text_offload": True}}, {"vae_batch": 1}], ids=["text_offload", "vae_batch"])
def test_what_saves_memory_changes_no_picture_by_more_than_a_grey_level(change, drawn, planned):
    folder = planned("sd15", REFERENCE, next(iter(change)), **change)
    assert work(folder) == EXIT_OK
    assert furthest(folder, drawn("sd15", "reference").folder) <= 1
