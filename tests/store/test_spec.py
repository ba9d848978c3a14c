"""stage.json, its fingerprint, and how slots are sliced."""

import dataclasses
import json

import pytest

from synth.errors import InputError
from synth.keys import dump
from synth.numerics import EXACT, FAST
from synth.store.folder import StageFolder
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.configs import ProbeConfig

SPEC = StageSpec("probe", "probe", dump(ProbeConfig()), 25, 10, 3, EXACT)


def changed(**kw) -> StageSpec:
    return dataclasses.replace(SPEC, **kw)


@pytest.mark.parametrize(
    "other",
    [
        changed(kind="images"),
        changed(config=dump(ProbeConfig(seed=1))),
        changed(slots=26),
        changed(unit_size=11),
        changed(batch=4),
        changed(numerics=FAST),
        changed(upstream={"captions": (Upstream("../a", "f1"),)}),
        changed(inputs={"weights": InputFile("/x", "id1")}),
    ],
)
def test_whatever_changes_bytes_changes_the_fingerprint(other):
    assert other.fingerprint != SPEC.fingerprint


def test_paths_names_and_versions_do_not_change_the_fingerprint():
    a = changed(name="a", versions={"torch": "1"}, upstream={"c": (Upstream("../a", "f"),)}, inputs={"w": InputFile("/x", "id")})
    b = changed(name="b", versions={"torch": "2"}, upstream={"c": (Upstream("/b/a", "f"),)}, inputs={"w": InputFile("/y", "id")})
    assert a.fingerprint == b.fingerprint and a.base == b.base


def test_the_order_of_keys_does_not_change_the_fingerprint_and_the_order_of_upstreams_does():
    shuffled = dict(reversed(list(SPEC.config.items())))
    assert changed(config=shuffled).fingerprint == SPEC.fingerprint
    a, b = Upstream("../a", "f1"), Upstream("../b", "f2")
    assert changed(upstream={"c": (a, b)}).fingerprint != changed(upstream={"c": (b, a)}).fingerprint


def test_only_slots_and_upstream_are_outside_the_base():
    assert changed(slots=99).base == SPEC.base
    assert changed(upstream={"c": (Upstream("../a", "f"),)}).base == SPEC.base
    assert changed(batch=4).base != SPEC.base


@pytest.mark.parametrize(("slots", "unit_size", "batch"), [(25, 10, 3), (1, 10, 3), (30, 10, 10), (7, 1, 5), (0, 4, 2), (1001, 7, 3)])
def test_units_and_batches_cover_every_slot_once_in_order(slots, unit_size, batch):
    spec = changed(slots=slots, unit_size=unit_size, batch=batch)
    covered = [s for n in range(spec.n_units) for b in spec.batches(spec.unit(n)) for s in b]
    assert covered == list(range(slots))
    assert all(len(b) <= batch for n in range(spec.n_units) for b in spec.batches(spec.unit(n)))


@pytest.mark.parametrize("wrong", [{"slots": -1}, {"unit_size": 0}, {"batch": 0}])
def test_sizes_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match="positive"):
        changed(**wrong)


def test_a_spec_comes_back_as_it_was_written():
    spec = changed(upstream={"c": (Upstream("../a", "f"),)}, inputs={"w": InputFile("/x y", "id")}, versions={"numpy": "2"})
    assert StageSpec.from_json(spec.to_json(), {"w": "/x y"}, "here") == spec


@pytest.mark.parametrize("edit", [{"slots": 26}, {"batch": 1}, {"base": "0" * 16}, {"fingerprint": "0" * 12}, {"kind": "images"}])
def test_an_edited_stage_json_is_named(edit):
    data = json.dumps(json.loads(SPEC.to_json()) | edit).encode()
    with pytest.raises(InputError, match="here: edited after it was planned"):
        StageSpec.from_json(data, {}, "here")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"{}", b'{"schema": 1}', SPEC.to_json()[:-40], SPEC.to_json().replace(b'"slots": 25', b'"slots": "25"'),
     SPEC.to_json().replace(b'"upstream": {}', b'"upstream": []'), SPEC.to_json().replace(b'"size": 64', b'"size": NaN'), bytes(300)],
)  # fmt: skip
def test_a_torn_or_foreign_stage_json_is_named(data):
    with pytest.raises(InputError, match=r"here: not a stage\.json"):
        StageSpec.from_json(data, {}, "here")


def test_another_schema_is_told_apart_from_a_torn_file():
    with pytest.raises(InputError, match="schema 99"):
        StageSpec.from_json(SPEC.to_json().replace(b'"schema": 1', b'"schema": 99'), {}, "here")


def test_canonical_json_has_one_form_and_refuses_nan():
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()
    with pytest.raises(ValueError):
        canonical({"a": float("nan")})


def test_creating_twice_is_one_stage_and_keeps_the_first_stage_json(tmp_path):
    first = StageFolder.create(tmp_path, changed(versions={"v": "1"}))
    again = StageFolder.create(tmp_path, changed(versions={"v": "2"}))
    assert first.path == again.path and again.spec.versions == {"v": "1"}


def test_an_input_that_moved_is_found_at_its_new_place(tmp_path):
    spec = changed(inputs={"w": InputFile(str(tmp_path / "old"), "id")})
    StageFolder.create(tmp_path, spec)
    moved = StageFolder.create(tmp_path, changed(inputs={"w": InputFile(str(tmp_path / "new"), "id")}))
    assert moved.input_path("w") == tmp_path / "new"
    assert StageFolder.open(moved.path).input_path("w") == tmp_path / "new"


def test_a_stage_whose_planning_was_interrupted_is_planned_again(tmp_path):
    folder = StageFolder.create(tmp_path, SPEC)
    (folder.path / "stage.json").unlink()
    assert StageFolder.create(tmp_path, SPEC).spec == SPEC


def test_opening_what_is_no_stage_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(InputError, match=r"no stage\.json"):
            StageFolder.open(path)


def test_an_upstream_that_is_another_stage_than_planned_is_refused(tmp_path):
    up = StageFolder.create(tmp_path, SPEC)
    path = f"../{up.path.name}"
    good = StageFolder.create(tmp_path, changed(slots=7, upstream={"c": (Upstream(path, up.spec.fingerprint),)}))
    assert [f.path for f in good.upstream("c")] == [up.path]
    bad = StageFolder.create(tmp_path, changed(slots=8, upstream={"c": (Upstream(path, "other"),)}))
    with pytest.raises(InputError, match="was planned on other"):
        bad.upstream("c")
    with pytest.raises(InputError, match="no input 'weights'"):
        good.input_path("weights")
