"""Every export of one stage of layout labels, made once."""

import pytest

from synth.errors import EXIT_OK
from synth.layout.records import Record
from synth.store.folder import StageFolder
from tests.configs import CocoConfig, LayoutLabelsConfig, LayoutSamConfig, SacapConfig, WebDatasetConfig
from tests.fixtures_images import child, work
from tests.layout.exports.labels import labels_stage, pictures

N, TOMBSTONE, TURNED = 6, 2, 3  # slots, and two of them
SHARDED = ("layoutsam", "layout_webdataset")
CONFIGS = {
    "layout_labels": LayoutLabelsConfig(image=True),
    "coco": CocoConfig(),
    "sacap": SacapConfig(),
    "layoutsam": LayoutSamConfig(),
    "layout_webdataset": WebDatasetConfig(shuffle_seed=-1),
}


def export(labels: StageFolder, kind: str, config=None) -> StageFolder:
    return child(labels.path.parent, kind, config or CONFIGS[kind], {"images": [labels]}, labels.spec.slots, 4, 4 if kind in SHARDED else 2)


@pytest.fixture(scope="session")
def labels(tmp_path_factory) -> StageFolder:
    return labels_stage(tmp_path_factory.mktemp("labels"), pictures(boxes=25))


@pytest.fixture(scope="session")
def done(labels) -> dict[str, StageFolder]:
    made = {kind: export(labels, kind) for kind in CONFIGS}
    assert [work(stage) for stage in made.values()] == [EXIT_OK] * len(made)
    return made


def known(boxes: int = 25) -> dict[int, Record]:
    """slot -> record"""
    return {slot: record for slot, (_, record) in enumerate(pictures(boxes=boxes).values()) if record}
