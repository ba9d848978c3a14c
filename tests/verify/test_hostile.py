"""Whatever stands in the place of a file of an export or of what it was made of: verify names it, tells of the other stages, and ends."""

import shutil

import pytest

from launch import verify
from launch.plan.planned import PlannedStage
from launch.plan.state import state_of
from synth.errors import EXIT_BAD_INPUT
from synth.store.folder import StageFolder
from tests import hostile

# file -> forms that verify tells from the file; with the others the file may pass for what it was (a link, text that nobody checks)
FILES = {
    "out/.synthset.json": True,
    "out/classes.json": True,
    "out/metadata.jsonl": True,
    "out/manifest.parquet": True,
    "out/.synthset.claim.json": False,
    "folder/units/000/000000.jsonl": True,
    "folder/done.json": True,
    "table/units/000/000000.tar": True,
    "images/units/000/000001.tar": True,
    "images/stage.json": True,
    "captions/inputs.json": False,
    "out/../image_folder-latest": False,
}
FORMS = ("fifo", "zero device", "deep", "other types")


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_of_an_export_is_named_and_the_other_stages_are_looked_at(name, run, tmp_path, capfd):
    place, _, rest = name.partition("/")
    for number, form in enumerate(FORMS):
        root = tmp_path / str(number)
        shutil.copytree(run.root, root, symlinks=True)
        where = root / (run.out if place == "out" else getattr(run, place).path).relative_to(run.root)
        target = where.parent / rest[3:] if rest.startswith("../") else where / rest
        hostile.put(target, form)
        what = f"{name} as {form}"
        with hostile.within(30, what):
            code = verify.main([str(root), "--deep"])
        out, err = capfd.readouterr()
        assert code in (0, 65, 75) and "Traceback (most" not in out + err, f"{what}: {out}{err}"
        assert not set(out + err) & set("\x1b\x07\x9b\u202e"), what
        assert sum(line.startswith(("whole ", "PROBLEMS ")) for line in out.splitlines()) == 4, f"{what}: {out}"
        if FILES[name]:
            assert code == EXIT_BAD_INPUT and target.name in out, f"{what}: {out}"
        with hostile.within(30, what):
            state = state_of(PlannedStage(StageFolder.open(root / run.folder.path.name).spec, root)) if place != "captions" else None
        if name == "out/.synthset.json":
            assert state is not None and state.gone, what
        shutil.rmtree(root)


def test_hostile_classes_of_an_export_whose_pictures_stage_is_gone_are_named(run, capfd):
    shutil.rmtree(run.images.path)
    classes = (run.out / "classes.json").read_bytes()
    odd = dict.fromkeys(hostile.FORMS, b"") | {
        "text for an index": classes.replace(b'"index": 0', b'"index": "../x"'),
        "an index twice": classes.replace(b'"index": 1', b'"index": 0'),
        "no name": classes.replace(b'"name"', b'"nome"', 1),
        "negative index": classes.replace(b'"index": 0', b'"index": -1'),
    }
    for what, data in odd.items():
        hostile.clear(run.out / "classes.json").write_bytes(data or classes)
        if not data:
            hostile.put(run.out / "classes.json", what)
        with hostile.within(30, what):
            code = verify.main([str(run.folder.path), "--deep"])
        out, err = capfd.readouterr()
        assert code == EXIT_BAD_INPUT and "classes.json" in out and "Traceback (most" not in out + err, f"{what}: {out}{err}"
