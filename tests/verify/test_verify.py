"""Verification: each kind of damage is found and named, and a repair lets the next run make what was bad again."""

import json
import shutil
import subprocess
import sys

import pytest

from launch.verify import main, verify
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.run.findings import ranges
from synth.store.events import EventLog
from synth.store.framing import UnitIndex, frame, seal
from synth.store.out_folder import MARKER
from synth.store.samples import Sample
from synth.store.units import UnitReader
from tests.fixtures_images import captions_json_stage, captions_stage, work
from tests.launch.conftest import REPO, environment
from tests.stages import probe
from tests.verify.conftest import N, picture


def problems(path, deep=False, mend=False) -> list[str]:
    return [str(p) for found, _ in verify(path, deep, mend, lambda *_: None) for p in found]


def edit(path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1 and len(old) == len(new)
    path.write_bytes(data.replace(old, new, 1))


def rewrite(folder, number: int, samples: list[Sample]) -> None:
    """Replace a unit by a well-formed one of other samples."""
    unit, whole = folder.unit(number), folder.path / "first"
    if not whole.exists():  # what stands there may be no unit by now
        shutil.copy(folder.unit_path(number), whole)
    with UnitReader(whole, folder.framing) as reader:
        inputs = reader.index.inputs
    batch = frame(folder.framing, samples)
    end, _ = seal(folder.framing, UnitIndex(number, unit.start, len(unit), batch.entries, dict(batch.tombstones), inputs), len(batch.data))
    folder.unit_path(number).unlink()
    folder.unit_path(number).write_bytes(batch.data + end)


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_run_has_no_problems_and_says_what_it_counted(run, deep):
    results = verify(run.root, deep, False, lambda *_: None)
    assert not [p for found, _ in results for p in found]
    images = next(f for f, _ in results if f.kind == "images")
    assert (images.units, images.samples, dict(images.tombstones)) == (3, N - 1, {"not finite": 1})


def test_a_torn_tar_is_found_without_reading_it(run):
    path = run.images.unit_path(1)
    path.write_bytes(path.read_bytes()[:-700])
    (found,) = problems(run.images.path)
    assert str(path) in found and "not a whole unit" in found


def test_a_flipped_byte_of_a_picture_is_found_by_reading_deep(run):
    path = run.images.unit_path(2)
    with run.images.reader(2) as reader:
        entry = reader.index.samples[3]
    data = bytearray(path.read_bytes())
    data[entry.files["png"][0] + 20] ^= 1
    path.write_bytes(data)
    assert not problems(run.images.path)
    (found,) = problems(run.images.path, deep=True)
    assert entry.key in found and "not those that were committed" in found


def test_a_flipped_byte_of_a_tar_header_is_found_by_reading_deep(run):
    edit(run.images.unit_path(0), b"000000002.png", b"000000092.png")
    (found,) = problems(run.images.path, deep=True)
    assert "000000002" in found and "frame" in found


def test_a_missing_unit_is_named_even_where_the_stage_was_done(run):
    run.images.mark_done({"units": 3, "slots": N, "samples": N - 1, "tombstones": 1})
    run.images.unit_path(1).unlink()
    (found,) = problems(run.images.path)
    assert "units 1 of 3 are missing" in found


def test_a_unit_in_the_place_of_another_is_found(run):
    shutil.copy(run.images.unit_path(0), run.images.unit_path(1))
    assert any("is not the unit of slots 8..15, but unit 0 of slots 0..7" in p for p in problems(run.images.path))


def test_a_key_that_stands_in_two_units_is_named_with_both(run):
    samples = [picture(s) for s in range(8, 16)]
    samples[4] = Sample(12, "000000003", samples[4].files)
    rewrite(run.images, 1, samples)
    (found,) = problems(run.images.path)
    assert "'000000003' stands in unit 0 already" in found and str(run.images.unit_path(1)) in found


def test_too_few_samples_and_a_slot_twice_are_found(run):
    rewrite(run.images, 1, [picture(s) for s in range(8, 15)])
    assert "7 samples and 0 tombstones for 8 slots" in problems(run.images.path)[0]
    rewrite(run.images, 1, [picture(s) for s in (8, 9, 9, 11, 12, 13, 14, 15)])
    assert "stands twice" in problems(run.images.path)[0]


def test_an_edited_stage_json_is_told_and_hides_no_other_stage(run):
    edit(run.images.path / "stage.json", b'"steps": 2', b'"steps": 9')
    found = problems(run.root)
    assert any("edited after it was planned" in p for p in found) and len(verify(run.root, False, False, lambda *_: None)) == 4


def test_pictures_of_other_captions_are_out_of_step(run):
    other = captions_json_stage(run.root, [captions_stage(run.root, [f"another {k}" for k in range(N)], seed=1)], N)
    assert work(other) == EXIT_OK
    shutil.copy(other.unit_path(0), run.table.unit_path(0))
    found = problems(run.images.path)
    assert len(found) == 3 and all("out of step" in p for p in found)


def test_labels_outside_the_classes_and_captions_that_differ_are_found_deep(run):
    rewrite(
        run.images,
        1,
        [picture(s) for s in range(8, 13)] + [picture(13, label=9), picture(14, caption="x"), picture(15, width=9)],
    )
    found = "\n".join(problems(run.images.path, deep=True))
    assert "15: its picture is 16x16, its record says 9x16" in found
    rewrite(run.images, 1, [picture(s) for s in range(8, 14)] + [picture(14, caption="x"), picture(15, label=9)])
    found = "\n".join(problems(run.images.path, deep=True))
    assert "label 9 is not one of the 5 classes" in found and "caption row 14 is 'caption 14', its record says 'x'" in found


def test_a_picture_that_does_not_decode_is_found_deep(run):
    files = dict(picture(9).files)
    rewrite(
        run.images,
        1,
        [Sample(s, f"{s:09d}", files | {"png": files["png"][:40]}) if s == 9 else picture(s) for s in range(8, 16)],
    )
    (found,) = problems(run.images.path, deep=True)
    assert "000000009: its picture does not decode" in found


def test_exports_are_compared_with_their_units(run):
    moved = sorted(run.out.glob("red_panda/*.png"))[0]
    moved.rename(run.out / "crane~2" / moved.name)
    found = "\n".join(problems(run.out))
    assert f"{moved}: missing" in found and "no unit has this picture" in found


def test_two_pictures_swapped_between_classes_are_found_deep(run):
    a, b = sorted(run.out.glob("red_panda/*.png"))[0], sorted(run.out.glob("crane~2/*.png"))[0]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    found = problems(run.out, deep=True)
    assert (
        len(found) == 2
        and {str(a), str(b)} == {f.partition(": ")[0] for f in found}
        and all("not the picture of its unit" in f for f in found)
    )


@pytest.mark.parametrize("name", ["metadata.jsonl", "classes.json"])
def test_an_edited_list_of_an_export_is_found(run, name):
    edit(run.out / name, b"crane", b"heron")
    (found,) = problems(run.out)
    assert str(run.out / name) in found


def test_edited_captions_json_is_found(run):
    edit(run.table.out_dir / "captions.json", b"caption 3", b"caption X")
    (found,) = problems(run.table.path)
    assert "captions.json" in found and "edited" in found


def test_repair_sets_aside_what_is_bad_and_the_next_run_makes_it_again(run):
    before = {u: run.folder.unit_path(u).read_bytes() for u in range(3)}
    bad = sorted(run.out.glob("crane*/*.png"))[0]
    good = bad.read_bytes()
    bad.write_bytes(bytes(len(good)))
    run.folder.unit_path(1).write_bytes(b"torn")
    assert problems(run.folder.path, deep=True, mend=True)  # the unit; the place is looked at once units are whole
    assert work(run.folder) == EXIT_OK
    found = problems(run.folder.path, deep=True, mend=True)
    assert len(found) == 1 and not bad.exists() and (run.out.with_name(run.out.name + ".aside") / bad.relative_to(run.out)).exists()
    assert work(run.folder) == EXIT_OK and not problems(run.root, deep=True)
    assert bad.read_bytes() == good and before == {u: run.folder.unit_path(u).read_bytes() for u in range(3)}
    assert (run.folder.path / "aside" / "000001.jsonl").read_bytes() == b"torn"


def test_repair_touches_nothing_that_is_whole(run):
    before = {p: p.stat().st_mtime_ns for p in run.root.rglob("*") if p.is_file()}
    assert not problems(run.root, deep=True, mend=True)
    assert before == {p: p.stat().st_mtime_ns for p in run.root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "value"), [("label", 1), ("caption", "another"), ("class", "heron"), ("file", "x/y.png"), ("seed", 1), ("unit", 2)]
)
def test_an_edited_value_of_the_manifest_is_found_deep(run, name, value):
    import pyarrow.parquet as pq

    path = run.out / "manifest.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[3][name] = value
    pq.write_table(table.from_pylist(rows, table.schema), path)
    (found,) = problems(run.out, deep=True)
    assert str(path) in found and f"at picture {rows[3]['key']}" in found


@pytest.mark.parametrize("marker", ["torn", "gone"])
def test_a_torn_or_lost_marker_is_mended_by_repair_and_the_next_run(run, marker):
    before = {p: p.read_bytes() for p in run.out.rglob("*") if p.is_file()}
    if marker == "gone":
        (run.out / MARKER).unlink()
    else:
        (run.out / MARKER).write_bytes(b"{")
    assert "--repair" in problems(run.folder.path, mend=True)[0] or marker == "torn"
    assert work(run.folder) == EXIT_OK and not problems(run.root, deep=True)
    assert before == {p: p.read_bytes() for p in run.out.rglob("*") if p.is_file()}


def test_repair_leaves_the_place_alone_that_another_export_took(run):
    other = '{"fingerprint": "another", "stage": "another"}'
    (run.out / MARKER).write_text(other)
    assert "holds the export of another stage" in problems(run.folder.path, mend=True)[0]
    assert (run.out / MARKER).read_text() == other


def test_an_export_that_was_moved_finds_its_stage_and_one_without_a_stage_says_so(run, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(run.out, moved)
    assert any("gone" in p for p in problems(moved))  # the stage is found; its own place is empty
    shutil.rmtree(run.folder.path)
    with pytest.raises(InputError, match="give the path of the stage"):
        problems(moved)
    (moved / MARKER).write_text("{}")
    with pytest.raises(InputError, match="marker"):
        problems(moved)


def test_kinds_of_device_and_versions_that_differ_are_noted(tmp_path):
    folder = probe(tmp_path)
    assert work(folder) == EXIT_OK
    ((found, _),) = verify(folder.path, False, False, lambda *_: None)
    assert found.devices == {"cpu": 10} and not found.notes
    other = EventLog(folder.path, "other-1-abc")
    other.write("open", device="NVIDIA H200", versions={"torch": "2.4.0"})
    other.write("unit", unit=3, outcome="ours")
    other.close()
    ((found, _),) = verify(folder.path, False, False, lambda *_: None)
    assert "several kinds of device: NVIDIA H200 1, cpu 10" in found.notes[0] and "several versions of torch" in found.notes[1]


def test_the_command_ends_with_0_or_65_and_lists(run):
    command = [sys.executable, str(REPO / "launch" / "verify.py")]
    ask = lambda *words: subprocess.run([*command, *words], env=environment(), capture_output=True, text=True, timeout=240)  # noqa: E731
    done = ask(str(run.root))
    assert done.returncode == EXIT_OK and "4 stages are whole" in done.stdout
    run.images.unit_path(0).unlink()
    done = ask(str(run.root), "--json")
    assert done.returncode == EXIT_BAD_INPUT and any(s["problems"] for s in json.loads(done.stdout))
    assert ask(str(run.root / "nothing")).returncode == EXIT_BAD_INPUT and "--repair" in ask("--help").stdout
    assert main([str(run.root)]) == EXIT_BAD_INPUT


def test_numbers_are_told_in_ranges():
    assert ranges([1, 2, 3, 7]) == "1-3, 7" and ranges(list(range(0, 40, 2))).endswith("and 12 more")
