"""An export at the place of one of fewer classes or captions of the same run takes that place; another one is refused."""

import os

import pytest

from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK
from synth.keys import dump
from synth.numerics import EXACT
from synth.run.findings import Findings
from synth.run.growth import covers, grows
from synth.store.folder import StageFolder
from synth.store.out_folder import CLAIM, GROWN, MARKER, OutFolder
from synth.store.samples import Sample
from synth.store.spec import InputFile, StageSpec, Upstream, canonical
from synth.verify.files import verify_place
from synth.verify.repair import repair
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


def killed_at_the_replace(n: int, wide: StageFolder, monkeypatch) -> None:
    replace, moved = os.replace, []

    def dies(source, target):
        if f"{GROWN}/" in str(source) and GROWN not in str(target):
            moved.append(target)
            if len(moved) == n:
                raise OSError(5, "Input/output error")
        replace(source, target)

    with monkeypatch.context() as m:
        m.setattr(os, "replace", dies)
        assert work(wide) == EXIT_AGAIN


def test_one_that_is_killed_while_it_takes_the_place_goes_on(tmp_path, monkeypatch):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide = export(drawn(root, 3), out), export(images := drawn(root, 5), out)
    assert work(first) == EXIT_OK
    before = tree(out)
    killed_at_the_replace(7, wide, monkeypatch)
    assert (out / CLAIM).exists() and tree(out) != before
    assert work(wide) == work(export(images, tmp_path / "fresh")) == EXIT_OK
    assert files(out) == files(tmp_path / "fresh") and not (out / CLAIM).exists() and not (out / GROWN).exists()


def test_what_is_half_of_one_export_and_half_of_another_is_whole_to_nobody(tmp_path, monkeypatch, capsys):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    narrow, images = drawn(root, 3), drawn(root, 5)
    first, wide = export(narrow, out), export(images, out)
    assert work(first) == EXIT_OK
    killed_at_the_replace(5, wide, monkeypatch)
    assert not (out / MARKER).exists()
    assert verified(first).problems and verified(wide).problems
    (first.path / "done.json").unlink()
    capsys.readouterr()
    assert work(first) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert f"{wide.path.name} {wide.spec.fingerprint} is not finished there; run its command again first" in said and "remove" not in said
    assert work(wide) == work(export(images, tmp_path / "fresh")) == EXIT_OK
    assert files(out) == files(tmp_path / "fresh")
    assert not verified(wide).problems and "has grown into" in verified(first).notes[-1]


@pytest.mark.parametrize("left", ["a file", "all", "nothing"])
def test_a_repair_of_a_grown_export_writes_what_is_missing_and_knows_what_it_grew_from(tmp_path, left):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide = export(drawn(root, 3), out), export(drawn(root, 5), out)
    assert work(first) == work(wide) == EXIT_OK
    whole, pictures = files(out), sorted(out.rglob("*.png"))
    for path in {"a file": pictures[:1], "all": [], "nothing": pictures}[left]:
        path.unlink()
    kept = {p: p.stat().st_ino for p in out.rglob("*.png")}
    repair(wide, verified(wide))
    (wide.path / "done.json").unlink(missing_ok=True)
    assert work(wide) == EXIT_OK and files(out) == whole
    assert all(p.stat().st_ino == number for p, number in kept.items())
    assert not verified(wide).problems and "has grown into" in verified(first).notes[-1]


def test_what_a_late_worker_left_of_one_growth_does_not_go_into_the_next(tmp_path):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide, images = export(drawn(root, 3), out), export(drawn(root, 4), out), drawn(root, 5)
    assert work(first) == EXIT_OK
    late = OutFolder(wide, grows(wide))
    late.claim()
    assert work(wide) == EXIT_OK
    late.make_folder("ant")
    late.put("ant/000000013.png", b"a picture")
    assert (out / GROWN / "ant").is_dir()
    assert work(export(images, out)) == work(export(images, tmp_path / "fresh")) == EXIT_OK
    assert files(out) == files(tmp_path / "fresh")


def test_a_worker_that_finishes_behind_another_one_takes_nothing_away(tmp_path):
    root, out = tmp_path / "runs" / "toys", tmp_path / "out"
    first, wide = export(drawn(root, 3), out), export(drawn(root, 4), out)
    assert work(first) == EXIT_OK
    late = OutFolder(wide, grows(wide))
    late.claim()
    assert work(wide) == EXIT_OK
    before = tree(out)
    late.complete(sorted(before))
    assert tree(out) == before


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


@pytest.mark.parametrize("classes", [["ant"], [{"name": "ant"}]], ids=str)
def test_a_stage_whose_classes_are_not_as_we_write_them_grows_into_nothing(tmp_path, classes):
    narrow, wide = (StageFolder.create(tmp_path, StageSpec("a", "image_folder", {"classes": classes}, n, 4, 4, EXACT)) for n in (4, 8))
    assert not grows(wide)(narrow.path)


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
