"""Mutants of units, by seed: of a tar of pictures, with digests of files and as before there were any, and of an export's lines, as bytes,
and as an index, records or digests of other content that is sealed anew as if it were right, as somebody who means harm would.

No reader dies of one, none writes outside its folder, and none calls one whole that is not.

    SYNTHSET_MUTANTS=10000 python -m pytest tests/store/test_fuzz_units.py        # of each of the ten, minutes
"""

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import synth
from synth.errors import InputError
from synth.export.image_folder import ImageFolder
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.findings import Findings
from synth.store.folder import StageFolder
from synth.store.framing import FRAMINGS, UnitIndex, frame, seal
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from synth.store.units import UnitReader
from synth.verify.files import verify_files
from synth.verify.repair import repair
from synth.verify.stage import verify_stage
from tests import mutants
from tests.configs import ImageFolderConfig
from tests.earlier_units import earlier
from tests.fixtures_images import CLASSES, IMAGES, captions_json_stage, captions_stage, child, commit_units, work
from tests.store.test_framing import read_all

N, DEAD = 4, 2
NAMES = ("../../../escape", "/tmp/escape", "..", ".", "", "a/b", "a.b", "a\nb", "a\0b", "\ud800", "x" * 300, ".bashrc", "000000000")


def picture(slot: int) -> Sample:
    png = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), slot * 9, np.uint8)).save(png, "PNG")
    record = {"caption": f"caption {slot}", "class": CLASSES[slot], "label": slot, "labels": [slot], "caption_row": slot, "seed": slot}
    record |= {"caption_seed": slot, "width": 4, "height": 4}
    return Sample(slot, f"{slot:09d}", {"png": png.getvalue(), "json": canonical(record)})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> SimpleNamespace:
    """A whole stage of four slots, and an ImageFolder of it in a folder that others lie around."""
    top = tmp_path_factory.mktemp("units")
    root = top / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, [f"caption {k}" for k in range(N)])], N)
    assert work(table) == 0
    ups = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    spec = StageSpec("images", "images", dump(IMAGES), N, N, N, EXACT, ups, {"model": InputFile("/nowhere", "0")})
    images = StageFolder.create(root, spec)
    samples = [picture(k) if k != DEAD else Tombstone(k, "not finite") for k in range(N)]
    commit_units(images, samples)
    out = top / "home" / "near" / "out"
    export = child(root, "image_folder", ImageFolderConfig(out=str(out)), {"images": [images]}, N, N, N)
    for name in ("escape", "home/.bashrc", "home/near/000000000.png", "home/escape"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("mine")
    assert work(export) == 0
    shutil.copytree(out, top / "whole")
    mine = tuple(map(str, (images.path, export.path, out, top / "whole")))
    return SimpleNamespace(top=top, mine=mine, images=images, export=export, out=out)


def around(run: SimpleNamespace) -> dict[str, bytes]:
    """What lies near the export and the stages, and is no part of them."""
    found = {}
    for folder, names, files in os.walk(run.top):
        names[:] = [n for n in names if not f"{folder}/{n}".startswith(run.mine)]
        found |= dict.fromkeys((f"{folder}/{n}" for n in names), b"")
        for name in (f"{folder}/{n}" for n in files):
            found[name] = Path(name).read_bytes() if not name.startswith(f"{run.top}/runs/") else b""
    return found


def resealed(framing: str, data: bytes, change: Callable[[dict], bytes] = canonical, digests: Callable[[bytes], bytes] = bytes) -> bytes:
    """A unit whose index, or digests of files, are changed, and whose end record says that all is right."""
    with_end = data[: len(data) - len(FRAMINGS[framing].tail)]
    end = json.loads(with_end[-512:])
    payload = FRAMINGS[framing].payload(data[end["offset"] : end["offset"] + end["size"]])
    before, size, _ = end.get("digests", (end["offset"], 0, ""))
    at = before - (512 if framing == "tar" else 0)
    return data[:at] + FRAMINGS[framing].index(change(json.loads(payload)), at, digests(data[before : before + size]))[0]


def hostile(index: dict, seed: int) -> bytes:
    """An index with another name or number in it, or any change at all."""
    rng = random.Random(f"index {seed}")
    if rng.random() < 0.5:
        return mutants.of_json(index, seed)
    row = rng.choice(index["samples"])
    what = rng.randrange(4)
    if what == 0:
        row[1] = rng.choice(NAMES)
    elif what == 1:
        row[2] = {rng.choice(NAMES) if rng.random() < 0.5 else e: at for e, at in row[2].items()}
    elif what == 2:
        row[2][rng.choice(list(row[2]))][rng.randrange(2)] = rng.choice((-1, 2**70, 1e308, 0.0, True, None, float("nan"), 10**6, 0, 512))
    else:
        row[0] = rng.choice((-1, 2**70, 1e308, True, DEAD, N, "0", None))
    return json.dumps(index).encode()


def other_records(folder: StageFolder, data: bytes, seed: int) -> bytes:
    """The unit with another record in one of its samples, framed and sealed as if it had been made so."""
    rng = random.Random(f"record {seed}")
    path = folder.unit_path(0)
    path.write_bytes(data)
    with folder.reader(0) as reader:
        files = [(e, dict(reader.files(e))) for e in reader.index.samples]
        tombstones, inputs = reader.index.tombstones, reader.index.inputs
    _, mine = rng.choice(files)
    record = json.loads(mine["json"])
    if rng.random() < 0.3:
        record[rng.choice(("file_name", "class", "sha256", "format"))] = rng.choice(NAMES)
        mine["json"] = json.dumps(record).encode()
    else:
        mine["json"] = mutants.of_json(record, seed).replace(b"\n", b" ")
    batch = frame(folder.framing, [Sample(e.slot, e.key, f) for e, f in files])
    end, _ = seal(folder.framing, UnitIndex(0, 0, N, batch.entries, tombstones, inputs), len(batch.data))
    return batch.data + end


MUTATE: dict[str, Callable[[StageFolder, bytes, int], bytes]] = {
    "bytes": lambda folder, data, seed: mutants.of_bytes(data, seed),
    "index": lambda folder, data, seed: resealed(folder.framing, data, lambda index: hostile(index, seed)),
    "records": other_records,
    "digests": lambda folder, data, seed: resealed(folder.framing, data, digests=lambda each: mutants.of_bytes(each, seed)),
}
FORMS: dict[str, Callable[[bytes], bytes]] = {"digests of files": bytes, "earlier": earlier}


@contextlib.contextmanager
def mutated(
    run: SimpleNamespace, folder: StageFolder, kind: str, seed: int, before: dict, form: str = "digests of files"
) -> Iterator[tuple[bytes, bytes]]:
    """Inside, the stage's only unit is a mutant of its form: (its bytes, those that were committed). Behind, everything is as it was."""
    path = folder.unit_path(0)
    whole = path.read_bytes()
    try:
        mutant = MUTATE[kind](folder, FORMS[form](whole), seed)
        mutant = FORMS[form](mutant) if kind == "records" else mutant
        path.write_bytes(mutant)
        yield mutant, FORMS[form](whole)
        assert around(run) == before, f"{kind} {seed}: written outside"
    finally:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(whole)


def refused(work: Callable[[], object]) -> bool:
    """Whether it ended as bad input; anything else that it raises is a crash."""
    try:
        work()
    except InputError:
        return True
    return False


def open_all(path: Path) -> None:
    for sample in synth.open_stage(path):
        _ = sample.key, sample.metadata, sample.label, sample.image()


def export_all(folder: StageFolder) -> None:
    """The export made anew of what is there now."""
    stage, unit = ImageFolder(folder), folder.unit(0)
    stage.check()
    stage.open()
    items = stage.compute(stage.begin(unit), range(unit.start, unit.stop))
    results = [stage.encode(None, item) for item in items]
    batch = frame(folder.framing, results)
    end, _ = seal(folder.framing, UnitIndex(0, 0, N, batch.entries, dict(batch.tombstones), stage.unit_inputs(unit)), len(batch.data))
    folder.unit_path(0).write_bytes(batch.data + end)
    stage.finish()


def verified(folder: StageFolder) -> Findings:
    findings = verify_stage(folder, deep=True)
    if not findings.problems:
        verify_files(folder, True, findings)
    return findings


def same_index(mutant: bytes, whole: bytes, framing: str, tmp: Path) -> bool:
    """Whether two units say the same of their samples; reasons of tombstones are free text."""
    indices = []
    for data in (mutant, whole):
        tmp.write_bytes(data)
        with UnitReader(tmp, framing) as reader:
            indices.append((reader.index.samples, set(reader.index.tombstones), reader.index.inputs))
    return indices[0] == indices[1]


@pytest.mark.parametrize(("kind", "form"), [(k, f) for k in MUTATE for f in FORMS if (k, f) != ("digests", "earlier")])
def test_mutants_of_units_of_pictures_harm_nobody(run, tmp_path, kind, form):
    before, counts = around(run), {"mutants": 0, "refused by readers": 0, "named by verify": 0}
    made = run.export.unit_path(0).read_bytes()
    for seed in mutants.mutants(20):
        with mutated(run, run.images, kind, seed, before, form) as (mutant, whole):
            path = run.images.unit_path(0)
            bad = refused(lambda path=path: read_all(path, "tar"))
            bad |= refused(lambda: open_all(run.images.path))
            bad |= refused(lambda: export_all(run.export))
            findings = verified(run.images)
            if mutant == whole or (not findings.problems and kind in ("index", "digests")):
                assert same_index(mutant, whole, "tar", tmp_path / "u"), f"{kind} {seed}: another unit passes for whole"
            elif kind == "bytes":
                assert findings.problems, f"{kind} {seed}: damage passes for whole"
            if bad and kind != "records":
                assert findings.problems, f"{kind} {seed}: what cannot be read passes for whole"
            assert all(str(p).startswith(str(run.images.path)) for p in findings.problems), f"{kind} {seed}"
            counts["mutants"] += 1
            counts["refused by readers"] += bad
            counts["named by verify"] += bool(findings.problems)
    run.export.unit_path(0).write_bytes(made)
    restore(run)
    print(kind, form, counts)


@pytest.mark.parametrize("kind", [k for k in MUTATE if k != "digests"])
def test_mutants_of_units_of_an_export_harm_nobody(run, tmp_path, kind):
    before, counts = around(run), {"mutants": 0, "named by verify": 0}
    for seed in mutants.mutants(40):
        with mutated(run, run.export, kind, seed, before) as (mutant, whole):
            findings = verified(run.export)
            if not findings.problems and kind != "records":
                assert mutant == whole or same_index(mutant, whole, "jsonl", tmp_path / "u"), f"{kind} {seed}: passes for whole"
            refused(ImageFolder(run.export).finish)
            repair(run.export, findings)
            counts["mutants"] += 1
            counts["named by verify"] += bool(findings.problems)
        restore(run)
    print(kind, counts)


def restore(run: SimpleNamespace) -> None:
    for left in (run.out, run.out.with_name("out.aside"), run.export.path / "aside"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(run.top / "whole", run.out)
