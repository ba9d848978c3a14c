"""Text to image by numbers of pictures a class, and of a part of the captions, through the real worker."""

import json
from collections import Counter

from synth.errors import EXIT_OK
from synth.images.config import ClassCount
from synth.seeds import derive
from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, digests, images_stage, work


def records(folder) -> dict[int, dict]:
    return {s.slot: s.json() for s in folder.samples()}


def counted(**counts: int) -> tuple[ClassCount, ...]:
    return tuple(ClassCount(int(k[1:]), n) for k, n in counts.items())


def test_classes_get_their_counts_by_repeats_with_noise_of_their_own(table, tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    folder = images_stage(root, table, tiny_sd, 9, unit_size=4, counts=counted(c0=5, c1=1, c2=3))  # two captions a class
    assert work(folder) == EXIT_OK
    found = records(folder)
    assert Counter(r["label"] for r in found.values()) == {0: 5, 1: 1, 2: 3}
    assert [r["label"] for r in found.values()] == [0, 1, 2, 0, 2, 0, 2, 0, 0]
    cats = [r for r in found.values() if r["label"] == 0]
    assert [r["caption_row"] for r in cats][:4] == [0, 5, 0, 5] and [r["replica"] for r in cats] == [0, 0, 1, 1, 2]
    assert len({r["seed"] for r in found.values()}) == 9
    assert all(r["seed"] == derive(3, "images", r["caption_seed"], r["replica"]) for r in found.values())


def test_the_same_caption_and_replica_is_the_same_picture_under_either_rule(table, tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    by_class = images_stage(root, table, tiny_sd, 4, counts=counted(c0=4))
    by_caption = images_stage(root, table, tiny_sd, 2, subset="0", per_caption=2)
    assert [work(f) for f in (by_class, by_caption)] == [EXIT_OK] * 2
    bytes_of = [{(r["caption_row"], r["replica"]): r["seed"] for r in records(f).values()} for f in (by_class, by_caption)]
    assert bytes_of[1] == {(0, 0): bytes_of[0][0, 0], (0, 1): bytes_of[0][0, 1]}


def test_a_class_without_captions_has_tombstones_that_say_so(table, tiny_sd, tmp_path):
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 4, subset="0..1,5", counts=counted(c0=2, c3=2))
    assert work(folder) == EXIT_OK
    assert [r["caption_row"] for r in records(folder).values()] == [0, 5]
    with folder.reader(0) as reader:
        assert reader.index.tombstones == {1: "no caption of class 3", 3: "no caption of class 3"}


def test_jobs_change_no_byte_of_a_counted_stage(table, tiny_sd, tmp_path):
    root, counts = tmp_path / "runs" / "toys", counted(c0=3, c4=5)
    first = images_stage(root, table, tiny_sd, 8, unit_size=3, counts=counts)
    assert work(first) == EXIT_OK
    captions = [s.json() for up in table.upstream("captions") for s in up.samples()]
    other_table = captions_json_stage(tmp_path / "b", [captions_stage(tmp_path / "b", captions)], 10)
    assert work(other_table) == EXIT_OK
    other = images_stage(tmp_path / "b", other_table, tiny_sd, 8, unit_size=3, counts=counts)
    assert work(other, 2, 3) == EXIT_OK  # begins with its own unit, the last one
    assert digests(other) == digests(first)


def test_a_caption_of_several_labels_keeps_them_all_up_to_the_export(tiny_sd, tmp_path):
    from tests.configs import ImageFolderConfig
    from tests.fixtures_images import child

    root = tmp_path / "runs" / "toys"
    two = {
        "caption": "a crane and a red panda",
        "labels": [2, 0],
        "label_names": [CLASSES[2], CLASSES[0]],
        "label": 2,
        "class": CLASSES[2],
    }
    table = captions_json_stage(root, [captions_stage(root, [two, "a bullet train"])], 2)
    assert work(table) == EXIT_OK
    folder = images_stage(root, table, tiny_sd, 2)
    out = child(root, "image_folder", ImageFolderConfig(), {"images": [folder]}, 2, 2, 2)
    assert [work(folder), work(out)] == [EXIT_OK] * 2
    assert [(r["labels"], r["label_names"]) for r in records(folder).values()] == [
        ([2, 0], [CLASSES[2], CLASSES[0]]),
        ([1], [CLASSES[1]]),
    ]
    lines = [json.loads(line) for line in (out.out_dir / "metadata.jsonl").read_text().splitlines()]
    assert lines[0]["labels"] == [2, 0] and lines[0]["file_name"].startswith("crane~2/")
