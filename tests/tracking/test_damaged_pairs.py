"""One flipped byte in a unit of tracking pairs: the readers of pairs end with 65 and name it, and go on once it is mended."""

import pytest

from tests.configs import AnnotationsConfig, Hdf5PartsConfig
from tests.fixtures_images import child, work
from tests.tracking.mirrored_pairs import MIN_AREA, pairs_stage
from tests.tracking.scenes import make
from tests.verify.flips import flip, refused_and_resumed
from tests.verify.test_verify import problems


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    return pairs_stage(root / "runs" / "s", make(root / "set", 6), 2, ())


def stages(pairs) -> dict:
    root, behind = pairs.path.parent, {"images": [pairs]}
    rules = {"min_area": MIN_AREA, "min_variant_area": 64.0, "min_side": 8.0}
    return {
        "annotations": child(root, "annotations", AnnotationsConfig("", **rules), behind),
        "hdf5_parts": child(root, "hdf5_parts", Hdf5PartsConfig("keyed"), behind, pairs.spec.slots, 6, 6),
    }


@pytest.mark.parametrize(("kind", "ext"), [("annotations", "json"), ("hdf5_parts", "jpg"), ("hdf5_parts", "json")])  # what each reads
def test_a_damaged_pair_ends_its_reader_until_it_is_mended(pairs, kind, ext):
    stage = stages(pairs)[kind]
    refused_and_resumed(stage, pairs, 0, ext)
    whole, unit = pairs.unit_path(0).read_bytes(), flip(pairs, 0, ext)
    assert str(unit) in "\n".join(problems(stage.path, deep=True))
    unit.write_bytes(whole)
    assert not problems(stage.path, deep=True)
    (stage.path / "done.json").unlink()
    assert work(stage) == 0
