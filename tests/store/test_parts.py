"""Parts: what may be adopted, and what a commit needs of them."""

import hashlib
import json
import os

import pytest

from synth.errors import StoreError
from synth.store.framing import frame
from synth.store.parts import PartWriter, adopt, finished_batches, part_files
from synth.store.samples import Sample, Tombstone
from synth.store.spec import canonical

SLOTS = [range(2), range(2, 4), range(4, 6), range(6, 7)]


def batch(slots, framing="tar"):
    beside = {} if framing == "jsonl" else {"png": b"picture"}
    made = [Sample(s, f"{s:09d}", {"json": b"%d" % s, **beside}) for s in slots]
    if 3 in slots:
        made[-1] = Tombstone(3, "why")
    return frame(framing, made)


def write(path, slots=SLOTS, framing="tar", n=4) -> PartWriter:
    w = PartWriter(path, framing, n)
    for s in slots:
        w.append(batch(s, framing))
    return w


@pytest.mark.parametrize("framing", ["tar", "jsonl"])
def test_a_sealed_part_that_adopted_equals_one_that_computed_all(tmp_path, framing):
    whole = write(tmp_path / "a", framing=framing)
    first = whole.seal(0, 0, 7, "")
    write(tmp_path / "b", SLOTS[:3], framing).close()
    w = PartWriter(tmp_path / "c", framing, 4)
    adopt(w, [tmp_path / "b"], SLOTS)
    assert w.batches == 3
    w.append(batch(SLOTS[3], framing))
    assert w.seal(0, 0, 7, "") == first
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()
    assert (w.n_samples, w.n_tombstones, w.size) == (6, 1, (tmp_path / "a").stat().st_size)


def test_lines_that_would_fill_other_slots_than_the_plan_are_not_adopted(tmp_path):
    write(tmp_path / "b", [range(2), range(2, 3), range(3, 6)]).close()
    w = PartWriter(tmp_path / "c", "tar", 4)
    adopt(w, [tmp_path / "b"], SLOTS)
    assert w.batches == 1


def test_a_batch_whose_line_tells_another_digest_of_a_sample_is_not_adopted(tmp_path):
    write(tmp_path / "b", SLOTS[:2]).close()
    lines = (tmp_path / "b.idx").read_bytes().splitlines()
    told = json.loads(lines[1].rpartition(b" ")[0])
    told["samples"][0][3] = "0" * 64
    text = canonical(told)
    (tmp_path / "b.idx").write_bytes(lines[0] + b"\n" + text + b" " + hashlib.sha256(text).hexdigest()[:16].encode() + b"\n")
    w = PartWriter(tmp_path / "c", "tar", 4)
    adopt(w, [tmp_path / "b"], SLOTS)
    assert len(finished_batches(tmp_path / "b")) == 2 and w.batches == 1


def test_more_batches_than_the_plan_has_are_not_adopted(tmp_path):
    write(tmp_path / "b", SLOTS, n=9).close()
    w = PartWriter(tmp_path / "c", "tar", 2)
    adopt(w, [tmp_path / "b"], SLOTS[:2])
    assert w.batches == 2


def test_a_second_part_goes_on_where_the_first_is_damaged(tmp_path):
    write(tmp_path / "b", SLOTS[:3]).close()
    write(tmp_path / "d", SLOTS[:2]).close()
    line = finished_batches(tmp_path / "b")[1][0]
    with open(tmp_path / "b", "r+b") as f:
        f.seek(line["offset"] + 600)
        f.write(b"\xff\xff")
    w = PartWriter(tmp_path / "c", "tar", 4)
    looked_at = adopt(w, [tmp_path / "b", tmp_path / "d", tmp_path / "c"], SLOTS)
    assert w.batches == 2
    assert set(looked_at) == {tmp_path / "b", tmp_path / "d"}


def test_adoption_survives_parts_that_are_gone_or_without_index(tmp_path):
    write(tmp_path / "b", SLOTS[:2]).close()
    os.unlink(tmp_path / "b")
    (tmp_path / "d").write_bytes(b"x" * 5000)
    w = PartWriter(tmp_path / "c", "tar", 4)
    adopt(w, [tmp_path / "b", tmp_path / "d", tmp_path / "nowhere"], SLOTS)
    assert w.batches == 0


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"[]\n", b"null\n", b'{"batch":0}\n', b"\xff\xfe\n", b'{"batch":0} 0123456789abcdef\n'])
def test_a_line_that_is_none_ends_the_list(tmp_path, line):
    w = write(tmp_path / "b", SLOTS[:2])
    w.close()
    index = w.index_path.read_bytes()
    w.index_path.write_bytes(index + line + index)
    assert len(finished_batches(tmp_path / "b")) == 2
    w.index_path.write_bytes(line + index)
    assert finished_batches(tmp_path / "b") == []


def test_a_line_cut_at_any_byte_is_left_out(tmp_path):
    w = write(tmp_path / "b", SLOTS[:2])
    w.close()
    index = w.index_path.read_bytes()
    one = index.index(b"\n") + 1
    for cut in range(len(index)):
        w.index_path.write_bytes(index[:cut])
        assert len(finished_batches(tmp_path / "b")) == (cut >= one), cut


def test_a_unit_of_one_batch_makes_no_index_file(tmp_path):
    w = write(tmp_path / "a", SLOTS[:1], n=1)
    w.seal(0, 0, 2, "")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]


def test_the_last_batch_needs_no_line(tmp_path):
    write(tmp_path / "a").close()
    assert len(finished_batches(tmp_path / "a")) == 3


@pytest.mark.parametrize(("slots", "count"), [(SLOTS[:3], 7), (SLOTS, 8), ([*SLOTS, range(6, 7)], 7), ([SLOTS[0], *SLOTS[2:]], 7)])
def test_a_unit_whose_batches_do_not_fill_its_slots_once_is_never_sealed(tmp_path, slots, count):
    w = write(tmp_path / "a", slots)
    with pytest.raises(ValueError, match=r"once each|share a key"):
        w.seal(0, 0, count, "")


def test_two_samples_of_one_key_are_never_sealed(tmp_path):
    w = PartWriter(tmp_path / "a", "tar")
    w.append(frame("tar", [Sample(0, "same", {"a": b""}), Sample(1, "same", {"a": b""})]))
    with pytest.raises(ValueError, match="share a key"):
        w.seal(0, 0, 2, "")


def test_a_part_is_never_overwritten(tmp_path):
    write(tmp_path / "a", SLOTS[:1]).close()
    with pytest.raises(FileExistsError):
        PartWriter(tmp_path / "a", "tar")


def test_parts_of_a_unit_are_found_by_its_number_and_not_its_neighbours(tmp_path):
    names = [
        "000001.w.0.tar",
        "000001.w.0.tar.idx",
        "000001.v.2.tar",
        "000011.w.0.tar",
        "0000010.w.0.tar",
        "000001.tar.claim",
        "x",
    ]
    for n in names:
        (tmp_path / n).touch()
    assert [p.name for p in part_files(tmp_path, 1, ".tar")] == ["000001.v.2.tar", "000001.w.0.tar"]
    assert part_files(tmp_path / "nowhere", 1, ".tar") == []


def test_a_full_disk_is_a_store_error(tmp_path):
    w = PartWriter(tmp_path / "a", "tar")
    w._f.close()
    w._f = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with pytest.raises(StoreError, match=r"No space left.*run the same command again"):
        w.append(batch(SLOTS[0]))
    w.close()
