"""The torch Dataset of a stage: pictures and class numbers, the same ones from forked and spawned workers."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import synth
from synth.errors import InputError
from synth.reading import TorchDataset
from synth.store.samples import Sample
from tests.fixtures_images import CLASSES
from tests.reading.test_stage import open_files
from tests.stages import probe
from tests.verify.conftest import DEAD, N, images_of, picture, png


def tensor(image) -> torch.Tensor:
    return torch.from_numpy(np.array(image))


def doubled(target: int) -> int:
    return 2 * target


def grey(slot: int) -> int:
    return slot * 9 % 256


def seen(loader: DataLoader) -> dict[int, int]:
    """grey value -> class, of all pictures."""
    found = {}
    for images, targets in loader:
        assert images.shape[1:] == (16, 16, 3) and images.dtype == torch.uint8
        found |= dict(zip(images[:, 0, 0, 0].tolist(), targets.tolist(), strict=True))
    return found


def test_items_are_pictures_and_classes_without_the_tombstones(images):
    dataset = synth.open_stage(images.path).torch()
    assert isinstance(dataset, Dataset) and isinstance(dataset, TorchDataset) and len(dataset) == N - 1
    assert dataset.classes == list(CLASSES) and dataset.labels == list(range(len(CLASSES)))
    image, target = dataset[DEAD]  # the slot behind the tombstone
    assert (image.mode, image.size, image.getpixel((0, 0))[0], target) == ("RGB", (16, 16), grey(DEAD + 1), (DEAD + 1) % len(CLASSES))
    assert dataset.stage[dataset.slots[DEAD]].slot == DEAD + 1 and dataset[-1][1] == dataset[len(dataset) - 1][1]
    with pytest.raises(IndexError):
        dataset[N - 1]
    assert sum(1 for _ in dataset) == N - 1  # the old protocol of iteration
    dataset = synth.open_stage(images.path).torch(tensor, doubled)
    assert dataset[3][0].shape == (16, 16, 3) and dataset[3][1] == 6 and f"{N - 1} pictures of {len(CLASSES)} classes" in repr(dataset)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_one_process_reads(images, start):
    dataset = synth.open_stage(images.path, max_open=2).torch(tensor)
    expected = {grey(s): s % len(CLASSES) for s in range(N) if s != DEAD}
    assert seen(DataLoader(dataset, 5)) == expected and len(open_files(images.path)) == 2  # files are open when the workers start
    loader = DataLoader(dataset, 5, shuffle=True, num_workers=2, multiprocessing_context=start, persistent_workers=True)
    assert seen(loader) == expected and seen(loader) == expected
    assert seen(DataLoader(dataset, 5)) == expected


def test_an_error_in_a_worker_names_the_file(images):
    dataset = synth.open_stage(images.path).torch(tensor)
    images.unit_path(2).unlink()
    dataset.stage.close()
    loader = DataLoader(dataset, 4, num_workers=2, multiprocessing_context="fork")
    with pytest.raises(InputError, match=r"000002\.tar: is not there \(yet\)"):
        seen(loader)


def test_what_a_filter_left_and_several_stages_are_data_sets_too(filtered, ensemble):
    dataset = synth.open_stage(filtered.path).torch(tensor)
    assert [(int(x[0, 0, 0]), y) for x, y in dataset] == [(grey(s), s % len(CLASSES)) for s in (0, 1, 9, 17)]
    dataset = synth.open_stage(ensemble.folder.path).torch(tensor)
    loader = DataLoader(dataset, 2, num_workers=2, multiprocessing_context="fork")
    assert seen(loader) == {grey(3): 3, grey(10): 0, grey(0): 0, grey(5): 0}


def test_a_data_set_pickled_in_mid_use_takes_no_file_along(images):
    dataset = synth.open_stage(images.path).torch(tensor)
    walk = iter(DataLoader(dataset, 4))
    next(walk)
    again = pickle.loads(pickle.dumps(dataset))  # noqa: S301 (our own)
    dataset.stage.close()
    assert not open_files(images.path)
    assert torch.equal(again[7][0], dataset[7][0]) and len(again) == N - 1 and len(list(walk)) == 5


def test_class_numbers_have_no_gaps_where_official_indices_do(run):
    labels = [40, 3, 7, 40]
    stage = synth.open_stage(images_of(run.table, [picture(k, label=i) for k, i in enumerate(labels)]).path)
    stage.classes = {3: "goldfish", 40: "red panda", 7: "crane"}  # some of a larger dataset
    dataset = stage.torch()
    assert dataset.classes == ["goldfish", "crane", "red panda"] and dataset.labels == [3, 7, 40]
    assert [y for _, y in dataset] == [2, 0, 1, 2]


def test_captions_may_take_the_place_of_classes(images):
    dataset = synth.open_stage(images.path).torch(tensor, str.upper, target="caption")
    _, captions = next(iter(DataLoader(dataset, 2, num_workers=1)))
    assert list(captions) == ["CAPTION 0", "CAPTION 1"]
    with pytest.raises(InputError, match="its metadata has no 'colour'; it has caption, "):
        synth.open_stage(images.path).torch(target="colour")[0]


def test_what_is_no_data_set_is_said_at_once(run):
    (captions,) = run.table.upstream("captions")
    with pytest.raises(InputError, match="is of kind captions and holds no pictures"):
        synth.open_stage(captions.path).torch()
    with pytest.raises(InputError, match="has no classes; give target="):
        synth.open_stage(probe(run.root).path).torch()
    nobodys = images_of(run.table, [Sample(k, f"{k:09d}", {"png": png(k), "json": b'{"label": 99}'}) for k in range(8)])
    with pytest.raises(InputError, match="has label 99, which is not a class of the dataset"):
        synth.open_stage(nobodys.path).torch()[0]
    unlabelled = images_of(run.table, [Sample(k, f"{k:09d}", {"png": png(k), "json": b"{}"}) for k in range(9)])
    with pytest.raises(InputError, match="000000000 has label None"):
        synth.open_stage(unlabelled.path).torch()[0]
