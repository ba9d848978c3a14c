"""Pictures that other runs have are taken over: a wider range of classes, a larger total, another number of replicas."""

import numpy as np
import pytest

from synth.captions.table import CaptionRow
from synth.errors import EXIT_OK
from synth.images.earlier import Index
from synth.kinds import stage_class
from synth.seeds import derive
from synth.store.folder import StageFolder
from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, digests, images_stage, work
from tests.stages import events

ROUNDS = 3


def drawn(root, n_classes: int, model, **config) -> StageFolder:
    """An images stage of the captions of the first classes, in rounds, as a captions stage of so many classes has them."""
    keys = [(block, index) for block in range(ROUNDS) for index in range(n_classes)]
    facts = [{"class": CLASSES[i], "label": i, "seed": derive(0, "captions", b * 5 + i, 0)} for b, i in keys]
    said = [{"caption": f"{CLASSES[i]} {i} number {b}"} | f for (b, i), f in zip(keys, facts, strict=True)]
    table = captions_json_stage(root, [captions_stage(root, said, classes=CLASSES[:n_classes], official=5)], len(said))
    assert work(table) == EXIT_OK
    slots = len(said) * config.get("per_caption", 1)
    return images_stage(root, table, model, slots, unit_size=8, batch=4, **config)


@pytest.fixture(scope="module")
def fresh(tiny_sd, tmp_path_factory) -> StageFolder:
    folder = drawn(tmp_path_factory.mktemp("fresh"), 5, tiny_sd)
    assert work(folder) == EXIT_OK
    return folder


def rows_drawn(monkeypatch) -> list[int]:
    """Grows by the rows of each call of a painter from here on."""
    from synth.images.painter import Painter

    rows, draw = [], Painter.draw
    monkeypatch.setattr(Painter, "draw", lambda self, items, *a, **k: (rows.append(len(items)), draw(self, items, *a, **k))[1])
    return rows


def test_a_wider_range_of_classes_draws_only_the_new_ones_to_the_bytes_of_a_fresh_run(fresh, tiny_sd, tmp_path, monkeypatch):
    assert work(drawn(tmp_path, 3, tiny_sd)) == EXIT_OK
    wide = drawn(tmp_path, 5, tiny_sd)
    rows = rows_drawn(monkeypatch)
    assert work(wide) == EXIT_OK
    assert rows == [2, 4]  # of units of 8 and 7 slots: a call each in the place of two, gaps filled from the batch behind
    assert digests(wide) == digests(fresh)
    assert [e["taken_over"] for e in events(wide, "stop")] == [9]


def test_a_damaged_picture_and_one_of_other_settings_are_drawn(fresh, tiny_sd, tmp_path, monkeypatch):
    narrow, other = drawn(tmp_path, 3, tiny_sd), drawn(tmp_path, 3, tiny_sd, guidance_scale=1.0)
    assert work(narrow) == work(other) == EXIT_OK
    path, first = narrow.unit_path(0), next(s.entry for s in narrow.samples(0, 1))
    data = bytearray(path.read_bytes())
    data[first.files["png"][0] + 60] ^= 1
    path.write_bytes(data)
    wide = drawn(tmp_path, 5, tiny_sd)
    rows = rows_drawn(monkeypatch)
    assert work(wide) == EXIT_OK and digests(wide) == digests(fresh)
    assert rows == [3, 4]


def rows_wanted(folder: StageFolder) -> dict[str, int | None]:
    """on_oom -> the rows of a call that a picture must come from."""
    stage = stage_class("images")(folder)
    stage.computed_on = {"device": "cpu", "dtype": "float32"}
    return {on_oom: stage._computed({"on_oom": on_oom}).get("computed_batch") for on_oom in ("fail", "split")}


def test_pictures_of_split_calls_are_taken_only_where_calls_may_be_split(fresh, tiny_sd, tmp_path, monkeypatch):
    from synth.images.painter import Painter

    def halves(self):
        self._fits, self.on_oom = 2, "split"

    with monkeypatch.context() as m:
        m.setattr(Painter, "begin_unit", halves)
        assert work(drawn(tmp_path, 3, tiny_sd)) == EXIT_OK
    wide = drawn(tmp_path, 5, tiny_sd)
    assert rows_wanted(wide) == {"fail": 4, "split": None}
    assert work(wide) == EXIT_OK and digests(wide) == digests(fresh)
    assert "taken_over" not in events(wide, "stop")[-1]


def test_pictures_are_found_by_the_seed_of_their_caption_and_their_replica(tiny_sd, tmp_path):
    index = Index(drawn(tmp_path, 2, tiny_sd, per_caption=2))
    seeds = [derive(0, "captions", b * 5 + i, 0) for b in range(ROUNDS) for i in range(2)]
    assert [index.slots_of(seed, replica) for seed in seeds for replica in range(2)] == [[n] for n in range(12)]
    assert index.slots_of(seeds[0], 2) == index.slots_of(7, 0) == []


def test_a_record_of_another_caption_or_class_is_not_taken(fresh):
    from synth.images.earlier import EarlierPictures

    look = EarlierPictures(fresh, {"device": "cpu", "dtype": "float32", "computed_batch": 4})
    record = next(s.json() for s in fresh.samples(0, 1))
    row = CaptionRow(
        9, record["caption"], record["class"], record["label"], tuple(record["labels"]), tuple(record["label_names"]),
        record["caption_seed"], 0, "",
    )  # fmt: skip
    assert look._same(record, row, record["replica"], record["seed"])
    others = {"caption": "x", "class": "x", "label": 4, "labels": [4], "seed": 1, "replica": 1, "caption_seed": 1}
    for name, other in (others | {"device": "cuda", "dtype": "float16", "computed_batch": 2}).items():
        assert not look._same(record | {name: other}, row, record["replica"], record["seed"])
    assert np.uint64(record["caption_seed"]) == row.seed
