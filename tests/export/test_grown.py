"""An export at the place of one of fewer classes or captions of the same run takes that place; another one is refused."""

import os

import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.findings import Findings
from synth.run.growth import covers
from synth.store.folder import StageFolder
from synth.store.out_folder import CLAIM, GROWN
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from synth.verify.files import verify_place
from tests.configs import ImageFolderConfig, ParquetConfig
from tests.export.conftest import png
from tests.export.test_image_folder import tree
from tests.fixtures_images import IMAGES, captions_json_stage, captions_stage, child, commit_units, work

NAMES = ("ant", "bee", "crane", "dog", "emu")
ROUNDS = 4


def drawn(root, n: int, rounds: int = ROUNDS, seed: int = 0) -> StageFolder:
    """A whole images stage of the first n classes; a picture is of its class and round."""
    said = [{"caption": f"{NAMES[i]} {b}", "class": NAMES[i], "label": i} for b in range(rounds) for i in range(n)]
    table = captions_json_stage(root, [captions_stage(root, said, seed, classes=NAMES[:n], official=5)], len(said))
    assert work(table) == EXIT_OK
    upstream = {"captions": (Upstream(f"../{table.path.name}", table.spec.fingerprint),)}
    spec = StageSpec("images", "images", dump(IMAGES), len(said), 8, 4, EXACT, upstream, {"model": InputFile("/no", "0")})
    folder = StageFolder.create(root, spec)
    facts = [s | {"seed": k, "caption_seed": k} for k, s in enumerate(said)]
    pictures = [png(s["label"] * rounds + k // n) for k, s in enumerate(facts)]
    files = [{"png": p, "json": canonical(s)} for s, p in zip(facts, pictures, strict=True)]
    commit_units(folder, [Sample(k, f"{k:09d}", f) for k, f in enumerate(files)])
    return folder


def export(images: StageFolder, out, kind="image_folder") -> StageFolder:
    config = {"image_folder": ImageFolderConfig, "parquet": ParquetConfig}[kind](out=str(out))
    return child(images.path.parent, kind, config, {"images": [images]}, images.spec.slots, 4, 4)


def files(out) -> dict[str, str]:
    return {n: d for n, d in tree(out).items() if n not in (".synthset.json", "README.md")}


def verified(stage: StageFolder) -> Findings:
    findings = Findings(str(stage.path), stage.spec.kind, True)
    verify_place(stage, True, findings)
    return findings


@pytest.mark.parametrize("kind", ["image_folder", "parquet"])
def test_an_export_of_more_classes_takes_the_place_of_one_of_fewer(tmp_path, kind):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    narrow, images = drawn(root, 3), drawn(root, 5)
    first, wide = export(narrow, out, kind), export(images, out, kind)
    assert work(first) == EXIT_OK
    (out / "notes.txt").write_text("mine")
    assert work(wide) == work(export(images, tmp_path / "fresh", kind)) == EXIT_OK
    assert (out / "notes.txt").read_text() == "mine"
    (out / "notes.txt").unlink()
    assert files(out) == files(tmp_path / "fresh")
    assert not verified(wide).problems
    found = verified(first)
    assert not found.problems and "has grown into" in found.notes[-1]
    assert work(export(drawn(root, 5, ROUNDS + 1), out, kind)) == EXIT_OK  # and once more, by captions


def test_one_that_is_killed_while_it_takes_the_place_goes_on(tmp_path, monkeypatch):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide = export(drawn(root, 3), out), export(images := drawn(root, 5), out)
    assert work(first) == EXIT_OK
    before, replace, moved = tree(out), os.replace, []

    def dies(source, target):
        if f"{GROWN}/" in str(source) and GROWN not in str(target):
            moved.append(target)
            if len(moved) == 7:
                raise OSError(5, "Input/output error")
        replace(source, target)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", dies)
        assert work(wide) == EXIT_AGAIN
    assert (out / CLAIM).exists() and tree(out) != before
    assert work(wide) == work(export(images, tmp_path / "fresh")) == EXIT_OK
    assert files(out) == files(tmp_path / "fresh") and not (out / CLAIM).exists() and not (out / GROWN).exists()


def test_until_all_is_whole_the_earlier_export_stays_as_it_is(tmp_path, monkeypatch):
    from synth.export.image_folder import ImageFolder

    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide = export(drawn(root, 3), out), export(drawn(root, 5), out)
    assert work(first) == EXIT_OK
    before = tree(out)

    def dies(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ImageFolder, "finish", dies)
    assert work(wide) == EXIT_AGAIN
    assert {n: d for n, d in tree(out).items() if not n.startswith((GROWN, CLAIM))} == before


@pytest.mark.parametrize("other", ["fewer classes", "another seed", "gone"])
def test_what_is_not_the_same_run_with_more_is_refused(tmp_path, capsys, other):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    wide = drawn(root, 5)
    first = export(wide if other == "fewer classes" else drawn(root, 3, seed=int(other == "another seed")), out)
    assert work(first) == EXIT_OK
    before = tree(out)
    second = export(drawn(root, 3) if other == "fewer classes" else wide, out)
    if other == "gone":
        first.path.rename(tmp_path / "elsewhere")
    assert work(second) == EXIT_BAD_INPUT
    assert "holds another dataset" in capsys.readouterr().err and tree(out) == before


def test_what_may_be_more_in_a_config():
    classes = [{"index": i, "name": n} for i, n in enumerate(NAMES)]
    assert covers({"dataset": {"classes": classes, "n": 9}, "total": 5}, {"dataset": {"classes": classes[1:3], "n": 9}, "total": 4})
    assert not covers({"classes": classes[1:]}, {"classes": classes})
    assert not covers({"classes": [classes[0] | {"name": "x"}]}, {"classes": classes[:1]})
    assert not covers({"steps": 5}, {"steps": 4}) and not covers({"total": 4}, {"total": 5}) and not covers({}, {"total": 5})
    assert covers({"counts": [{"index": 0, "count": 9}]}, {"counts": [{"index": 0, "count": 8}]})
