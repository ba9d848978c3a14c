"""The stage of features through the real worker: of a folder by class with whatever lies in it, killed, and with pictures that are gone."""

import os
import shutil
import signal

import pytest

from synth.captions.config import ClassEntry
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.features.config import ClassList
from synth.features.reading import load, picture
from tests.configs import FeaturesConfig
from tests.faults.farm import Child
from tests.features.listed import listed_stage
from tests.filters.test_stages import given
from tests.fixtures_images import digests, work
from tests.images.pictures import image_folder
from tests.images.pictures import picture as file_of_a_picture
from tests.layout.tiny import spoiled


@pytest.fixture
def source(tmp_path):
    """Ten pictures of two classes, and four files that are none."""
    root = image_folder(tmp_path / "src", {"cat": 7, "dog": 6})
    (root / "cat" / "1.png").write_bytes(b"no picture")
    (root / "cat" / "2.png").write_bytes(b"")
    (root / "dog" / "1.png").write_bytes(file_of_a_picture(3)[:60])
    os.symlink("nowhere", root / "dog" / "link.png")
    return root


def features_of(root, source, clip):
    classes = ClassList(classes=(ClassEntry(0, "cat"), ClassEntry(1, "dog")))
    config = FeaturesConfig("tiny", 2, dataset=classes, source_classes=(0, 1))
    return listed_stage(root, "features", config, source, {"model": given(clip)}, "class_folders", 2)


def test_a_folder_by_class_gives_the_same_bytes_for_any_number_of_jobs_and_after_a_kill(source, tiny_clip, tmp_path):
    once = features_of(tmp_path / "once", source, tiny_clip)
    assert work(once) == EXIT_OK
    found = load(once)
    assert found.classes == ("cat", "dog") and found.class_texts.shape == (2, 24) and found.captions is None
    names = [found.key(i) for i in range(len(found))]
    assert names == [f"cat/{n}.png" for n in (0, 3, 4, 5, 6)] + [f"dog/{n}.png" for n in (0, 2, 3, 4, 5)]
    assert found.labels.tolist() == [0] * 5 + [1] * 5 and picture(once, found.slots[-1]) == (source / names[-1]).read_bytes()
    torn = next(why for why in found.left_out if why.startswith("cannot be decoded"))
    assert found.left_out == {"not a picture": 1, "empty file": 1, "a broken link": 1, torn: 1}
    other = features_of(tmp_path / "other", source, tiny_clip)
    assert Child(other, 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
    assert [work(other, job, 3) for job in (2, 0)] == [EXIT_OK] * 2
    assert other.is_done() and digests(other) == digests(once) and other.spec.n_units == 2


def test_a_picture_or_a_folder_that_is_gone_now_is_no_reason_to_give_it_up(source, tiny_clip, tmp_path, capfd):
    folder = features_of(tmp_path / "runs", source, tiny_clip)
    for gone in (source / "cat" / "3.png", source):
        away = gone.rename(tmp_path / "away")
        assert work(folder) == EXIT_AGAIN and str(gone) in capfd.readouterr().err
        away.rename(gone)
    assert work(folder) == EXIT_OK and len(load(folder)) == 10


@pytest.mark.parametrize(("part", "said"), [("vision", "for a grey picture are not"), ("text_model", "for the names of classes are not")])
def test_a_model_whose_numbers_are_not_finite_ends_the_worker(part, said, source, tiny_clip, tmp_path, capfd):
    model = spoiled(shutil.copytree(tiny_clip, tmp_path / "model"), part)
    assert work(features_of(tmp_path / "runs", source, model)) == EXIT_BAD_INPUT and said in capfd.readouterr().err
