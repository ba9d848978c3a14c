"""Parts damaged by a crash of the machine or a kill in the middle of a write: nothing of that reaches a unit."""

import os
import random
import signal

import pytest

from synth.store.events import read_events
from synth.store.parts import finished_batches
from tests.faults.farm import Child, check, finish, plan, reference


def killed_in_the_middle(tmp_path, **probe):
    """A stage of one unit of 10 batches whose worker was killed after the seventh; (folder, its part)."""
    folder = plan(tmp_path / "a", slots=30, unit=30, batch=3, size=3000, **probe)
    assert Child(folder, fault="after_batch:kill@7").wait() == -signal.SIGKILL
    part = next(p for p in (folder.path / "parts" / "000").iterdir() if p.suffix != ".idx")
    assert [line["batch"] for line, _ in finished_batches(part)] == list(range(7))
    return folder, part


def adopted(folder) -> list[int]:
    return [e["batches"] for e in read_events(folder.path) if e["event"] == "adopted"]


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_finished_batches_of_a_killed_worker_are_adopted(tmp_path, framing):
    folder, _ = killed_in_the_middle(tmp_path, framing=framing)
    finish(folder)
    assert adopted(folder) == [7]
    check(folder, reference(tmp_path, folder))


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_a_zeroed_page_inside_a_part_ends_the_adoption_before_it(tmp_path, framing):
    folder, part = killed_in_the_middle(tmp_path, framing=framing)
    line = finished_batches(part)[4][0]
    with open(part, "r+b") as f:
        f.seek((line["offset"] // 4096 + 1) * 4096)
        f.write(bytes(4096))
    finish(folder)
    assert adopted(folder) == [4]
    check(folder, reference(tmp_path, folder))


def test_a_zeroed_page_in_the_index_of_a_part_ends_the_adoption_before_it(tmp_path):
    folder, part = killed_in_the_middle(tmp_path)
    index = part.with_name(part.name + ".idx")
    data = index.read_bytes()
    third = len(b"\n".join(data.split(b"\n")[:3]))
    index.write_bytes(data[: third + 10] + bytes(100) + data[third + 110 :])
    finish(folder)
    assert adopted(folder) == [3]
    check(folder, reference(tmp_path, folder))


def test_a_changed_digit_in_the_index_of_a_part_is_noticed(tmp_path):
    folder, part = killed_in_the_middle(tmp_path)
    index = part.with_name(part.name + ".idx")
    lines = index.read_bytes().split(b"\n")
    assert b'"000000009"' in lines[3]
    lines[3] = lines[3].replace(b'"000000009"', b'"000000008"')  # still JSON, still the right bytes, but another key
    index.write_bytes(b"\n".join(lines))
    finish(folder)
    assert adopted(folder) == [3]
    check(folder, reference(tmp_path, folder))


@pytest.mark.parametrize("cut", ["data", "line", "both", "nothing left"])
def test_a_torn_tail_ends_the_adoption_before_it(tmp_path, cut):
    folder, part = killed_in_the_middle(tmp_path)
    index = part.with_name(part.name + ".idx")
    if cut in ("data", "both"):
        os.truncate(part, finished_batches(part)[6][0]["offset"] + 700)
    if cut in ("line", "both"):
        os.truncate(index, index.stat().st_size - 5)
    if cut == "nothing left":
        os.truncate(part, 0)
    finish(folder)
    assert adopted(folder) == ([] if cut == "nothing left" else [6])
    check(folder, reference(tmp_path, folder))


def test_random_damage_to_parts_never_reaches_a_unit(tmp_path):
    rng = random.Random(5)
    for n in range(12):
        folder = plan(tmp_path / f"n{n}", slots=40, unit=20, batch=2, size=500, seed=n)
        Child(folder, fault=f"{rng.choice(['after_batch', 'before_batch_line'])}:kill@{rng.randrange(3, 19)}").wait()
        for path in (folder.path / "parts" / "000").iterdir():
            with open(path, "r+b") as f:
                at, size = rng.randrange(path.stat().st_size + 1), path.stat().st_size
                kind = rng.choice(["zero", "flip", "cut", "grow"])
                if kind == "cut":
                    f.truncate(at)
                elif kind == "grow":
                    f.seek(size)
                    f.write(rng.randbytes(50))
                else:
                    f.seek(at)
                    f.write(bytes(min(512, size - at)) if kind == "zero" else rng.randbytes(min(1, size - at)))
        finish(folder)
        check(folder, reference(tmp_path / f"n{n}", folder))


def test_the_best_of_several_parts_is_adopted_and_all_go_when_the_unit_exists(tmp_path):
    folder = plan(tmp_path / "a", slots=30, unit=30, batch=3)
    for nth in (2, 5, 1):  # the third adopts 5 + 2 batches and is killed after the first one of its own
        assert Child(folder, fault=f"after_batch:kill@{nth}").wait() == -signal.SIGKILL
    finish(folder)
    check(folder, reference(tmp_path, folder))
    assert max(adopted(folder)) >= 5
    assert [p for p in (folder.path / "parts").rglob("*") if p.is_file()] == []
