"""Mutants of stage.json and of the small files of a run folder: read as what they were, or refused by name; never anything else."""

import dataclasses
import json
from pathlib import Path

import pytest

from launch.slurm import submissions
from synth import foreign
from synth.errors import InputError, StoreError
from synth.numerics import EXACT
from synth.store import leases
from synth.store.blame import report_in
from synth.store.events import events_in
from synth.store.folder import StageFolder, done_in
from synth.store.out_folder import marker_in
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from tests.mutants import mutants, of_bytes, of_json, of_lines
from tests.stages import probe

SPEC = StageSpec(
    kind="images",
    name="images",
    config={"out": "", "prompts": ["a cat", "ein Hund"], "seed": 3, "dataset": {"classes": [{"index": 0, "name": "cat"}]}},
    slots=25,
    unit_size=10,
    batch=5,
    numerics=EXACT,
    upstream={"captions": (Upstream("../captions-0123456789ab", "0123456789ab"),)},
    inputs={"list": InputFile("/data/list.txt", "ab" * 32)},
    versions={"torch": "2.6"},
    framing="tar",
    ends=(10, 15, 25),
)
# what a fingerprint does not cover, because it changes no byte of a unit: where things lie, and what is for people
NOT_MEANT = ("name", "versions", "framing", "upstream")


def meaning(spec: StageSpec) -> bytes:
    """What a stage's bytes hang on; of its upstreams the fingerprints."""
    facts = {k: v for k, v in json.loads(spec.to_json()).items() if k not in NOT_MEANT}
    return canonical(facts | {"upstream": {role: [u.fingerprint for u in ups] for role, ups in spec.upstream.items()}})


def test_a_mutant_of_stage_json_is_refused_by_name_or_means_the_same():
    data, paths = SPEC.to_json(), {"list": "/data/list.txt"}
    wanted, read, value = meaning(SPEC), 0, json.loads(SPEC.to_json())
    for seed in mutants(600):
        mutant = of_json(value, seed) if seed % 2 else of_bytes(data, seed)
        try:
            spec = StageSpec.from_json(mutant, paths, "here")
        except InputError as e:
            assert str(e).startswith("here: ") and str(e).isprintable(), seed
            continue
        read += 1
        assert meaning(spec) == wanted, f"seed {seed}: {mutant[:2000]!r}"
        assert "/" not in spec.folder_name and spec.folder_name.isprintable(), seed
    assert read, "no mutant is read: they say nothing of what is"


def test_what_is_refused_of_one_field_names_it():
    raw = json.loads(SPEC.to_json())
    for name, value in (
        ("slots", 1e13),
        ("slots", 10**14),
        ("slots", True),
        ("slots", "25"),
        ("unit_size", 0),
        ("unit_size", 10**8),
        ("batch", 0.5),
        ("name", "../x"),
        ("name", "a\x1b[2J"),
        ("name", ".hidden"),
        ("kind", 3),
        ("ends", [1, "2"]),
        ("ends", "10"),
        ("versions", {"torch": 2}),
        ("inputs", {"list": None}),
        ("config", []),
        ("config", {"out": 5}),
        ("numerics", "exact"),
        ("numerics", {"threads": 10**6}),
        ("numerics", {"cpu": [1]}),
        ("upstream", {"a": {}}),
    ):
        with pytest.raises(InputError, match=rf"^here: not a stage\.json: .*{name}") as refused:
            StageSpec.from_json(json.dumps(raw | {name: value}).encode(), {}, "here")
        assert str(refused.value).isprintable()


@pytest.mark.parametrize(("slots", "unit_size"), [(10**13, 1), (10**9, 100), (10**8, 10**8)])
def test_more_units_than_can_be_named_and_units_too_large_to_hold_are_refused(slots, unit_size):
    with pytest.raises(InputError, match="another unit_size"):
        dataclasses.replace(SPEC, slots=slots, unit_size=unit_size, ends=())


# file -> (what it holds, its reader)
RECORDS = {
    "done.json": ({"units": 3, "slots": 25, "samples": 20, "tombstones": 5}, done_in),
    "failed.json": ({"unit": 0, "error": "bug", "traceback": "a\nb", "host": "h", "device": "gpu 0", "sticky": False}, report_in),
    "submissions/0001.json": (
        {
            "number": 1,
            "state": "submitted",
            "token": "0123abcd",
            "job_name": "images-0123abcd",
            "user": "u",
            "owner": {"worker": "w", "pid": 3},
            "created": 1.5,
            "arrays": [{"job": "11", "tasks": 4, "offset": 0}],
            "gate": "12",
            "depends": ["9"],
            "n_jobs": 4,
            "tries": 0,
            "goes_on": 0,
            "units": 2,
            "order": {"script": "0001.sbatch", "gate_script": "0001.gate.sbatch", "n_jobs": 4},
            "excluded": ["node1"],
            "why": "",
        },
        submissions.read_one,
    ),
    ".synthset.json": ({"fingerprint": "0123456789ab", "stage": "image_folder-0123456789ab", "path": "/runs/x"}, marker_in),
    "events.jsonl": (
        {"event": "unit", "time": 1.5, "unit": 3, "samples": 9, "tombstones": 1, "seconds": 2.5, "why": "x", "versions": {"torch": "2"}},
        lambda path: list(events_in(path)),
    ),
    "000001.g0": (
        {"beat": 1, "state": "held", "worker": "w", "host": "h", "boot": "b", "pid": 3, "start": "5", "slurm_job": ""},
        lambda path: leases.parse(path.read_bytes()),
    ),
    "inputs.json": ({"paths": {"list": "/data/list.txt"}, "hard_links": True, "settings": {"endpoint": {"timeout": 3}}}, None),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_mutant_of_a_record_is_read_or_refused_and_is_no_bug(name, tmp_path):
    value, reader = RECORDS[name]
    path, read = tmp_path / name, 0
    if reader is None:
        stage = probe(tmp_path, slots=4)
        path, reader = stage.path / name, lambda path: StageFolder.open(path.parent)
    path.parent.mkdir(exist_ok=True)
    data = json.dumps(value).encode()
    for seed in mutants(150):
        mutant = (of_json(value, seed), of_bytes(data, seed), of_lines(data, seed))[seed % 3]
        path.write_bytes(mutant)
        try:
            reader(path)
        except (InputError, StoreError) as e:
            assert path.name in str(e) and str(e).isprintable(), f"seed {seed}: {e}"
        else:
            read += 1
    assert read


# -- the reader itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"[" * 1_000_000, "levels"),
        (b"[" * 65 + b"]" * 65, "levels"),
        (b"NaN", "NaN"),
        (b"-Infinity", "Infinity"),
        (b"1" * 5000, "4300 digits"),
        (b'"\\ud800"', "half of a character"),
        (b"\xff", "UTF-8"),
        (b"\xed\xa0\x80", "UTF-8"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
    ],
)
def test_what_is_no_json_here_is_refused_with_the_reason(data, why):
    with pytest.raises(InputError, match=rf"^f: .*{why}.*; mend it$"):
        foreign.parse(data, "f", "mend it", once=True)


def test_what_is_json_is_read():
    assert foreign.parse(b"\xef\xbb\xbf" + '["\\ud83d\\ude00 é"]'.encode(), "f") == ["😀 é"]
    assert foreign.parse(b"[" * 64 + b"]" * 64, "f") and foreign.parse(b'"\\udcff"', "f", halves=True) == "\udcff"
    assert foreign.parse(b'{"a": 1, "a": 2}', "f") == {"a": 2}


def test_a_file_above_the_limit_is_refused_with_limit_and_size(tmp_path):
    file = Path(tmp_path, "x")
    file.write_bytes(b"a" * 11)
    with pytest.raises(InputError, match="x: has 11 bytes, at most 10"):
        foreign.read(file, 10)
    with pytest.raises(InputError, match="line 1 has more than 5 bytes"):
        list(foreign.lines(file, longest=5))
    assert foreign.read(file, 11) == b"a" * 11
