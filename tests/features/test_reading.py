"""Features as arrays: whole and by units, with the pictures behind them."""

import numpy as np
import pytest

from synth.errors import EXIT_OK, InputError
from synth.features.reading import load, n_pictures, picture
from tests.configs import FeaturesConfig
from tests.features.listed import listed_stage
from tests.filters.test_stages import features_of, given
from tests.fixtures_images import CLASSES, work
from tests.images.pictures import picture as file_of_a_picture
from tests.verify.conftest import DEAD, N, png


@pytest.fixture
def stage(images, tiny_clip):
    folder = features_of(images, tiny_clip)
    assert work(folder) == EXIT_OK
    return folder


def test_a_stage_of_pictures_is_read_whole_and_by_units(stage):
    whole = load(stage)
    assert whole.slots.tolist() == [s for s in range(N) if s != DEAD] and n_pictures(stage) == N
    assert whole.features.shape == whole.captions.shape == (N - 1, 24) and whole.features.dtype == np.float32
    for rows in (whole.features, whole.captions, whole.class_texts):
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert whole.classes == CLASSES and whole.indices == tuple(range(len(CLASSES)))
    assert whole.labels.tolist() == [s % len(CLASSES) for s in whole.slots] and whole.class_texts.shape == (len(CLASSES), 24)
    assert whole.left_out == {"not finite": 1}
    assert whole.key(6) == f"{whole.slots[6]:09d}" and picture(stage, whole.slots[6]) == png(int(whole.slots[6]))
    with pytest.raises(InputError, match="not finite"):
        picture(stage, DEAD)
    middle = load(stage, range(1, 2))
    assert middle.slots.tolist() == list(range(8, 16)) and not middle.left_out
    assert np.array_equal(middle.features, whole.features[whole.slots // 8 == 1])
    parts = [load(stage, range(unit, unit + 1)) for unit in range(3)]
    assert [len(p) for p in parts] == [7, 8, 8] and [p.left_out for p in parts] == [{"not finite": 1}, {}, {}]
    assert np.array_equal(np.concatenate([p.features for p in parts]), whole.features)
    assert all(np.array_equal(p.class_texts, whole.class_texts) for p in parts)


def test_a_folder_without_classes_has_neither_labels_nor_texts(run, tiny_clip, tmp_path):
    (tmp_path / "src" / "a").mkdir(parents=True)
    (tmp_path / "src" / "a" / "x y.png").write_bytes(data := file_of_a_picture(1))
    (tmp_path / "src" / "torn.png").write_bytes(b"no picture")
    folder = listed_stage(run.root, "features", FeaturesConfig("tiny"), tmp_path / "src", {"model": given(tiny_clip)})
    assert work(folder) == EXIT_OK
    found = load(folder)
    assert (found.labels.tolist(), found.classes, found.captions, found.class_texts) == ([-1], (), None, None)
    assert found.left_out == {"not a picture": 1} and found.key(0) == "a/x y.png" and picture(folder, 0) == data


def test_another_stage_is_refused(images):
    with pytest.raises(InputError, match="kind images"):
        load(images)
