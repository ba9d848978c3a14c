"""A whole images stage, filters of it, and two stages behind one ensemble, made without a worker."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from synth.store.folder import StageFolder
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile
from tests.configs import BalanceConfig, EnsembleConfig, NearDuplicatesConfig
from tests.fixtures_images import CLASSES, child, commit_units
from tests.verify.conftest import N, picture, run  # noqa: F401 (a fixture)

COUNTS = {str(i): 2 for i in range(len(CLASSES))}


@pytest.fixture
def images(run) -> StageFolder:  # noqa: F811
    """N slots in units of 8; DEAD is a tombstone. Read only."""
    return run.images


def chosen(kind: str, config, behind: list[StageFolder], kept: set[int]) -> StageFolder:
    """A filter that left the slots `kept`, in units of 5."""
    n = sum(b.spec.slots for b in behind)
    folder = child(behind[0].path.parent, kind, config, {"images": behind}, n, 5, 5)
    results = [Sample(s, f"{s:09d}", {"json": b"{}"}) if s in kept else Tombstone(s, f"{kind}: slot {s} is out") for s in range(n)]
    commit_units(folder, results)
    return folder


@pytest.fixture
def filtered(images) -> StageFolder:
    """A filter of a filter: of the slots 0, 1, 9, 17, 23 the last is out again."""
    first = chosen("balance", BalanceConfig(1, COUNTS), [images], {0, 1, 9, 17, 23})
    return chosen("near_duplicates", NearDuplicatesConfig(), [first], {0, 1, 9, 17})


@pytest.fixture
def ensemble(run) -> SimpleNamespace:  # noqa: F811
    """`one` of N slots and `two` of 6, and the `folder` of a filter that left slots 3, 10, N and N + 5 of both."""
    two = child(run.root, "images", replace(run.images.config, seed=9), {"captions": [run.table]}, 6, 4, 2, {"model": InputFile("/x", "0")})
    commit_units(two, [picture(k, caption=f"second {k}") for k in range(6)])
    return SimpleNamespace(
        one=run.images, two=two, folder=chosen("ensemble", EnsembleConfig(3, COUNTS), [run.images, two], {3, 10, N, N + 5})
    )
