"""The whole chain of recipe=layout, as a user starts it and as workers do that are killed: the same bytes, and labels at its end."""

import json
import signal
import subprocess
from collections import Counter

from synth.embedded.train import captioned
from synth.errors import EXIT_OK
from tests.faults.farm import Child
from tests.fixtures_images import digests, work
from tests.launch.conftest import command, environment
from tests.layout import tiny
from tests.layout.chains import done, records
from tests.layout.chains import planned as of_source
from tests.layout.shipped import UNITS, planned, point, shown
from tests.layout.sources import pictures

N, STAGES = captioned.PICTURES, ("tags", "boxes", "masks", "box_captions")


def test_a_run_without_arguments_ends_with_labels_and_a_page_and_workers_that_are_killed_at_each_stage_make_the_same_bytes(tmp_path):
    argv = command("recipe=layout", *UNITS, f"runs_dir={tmp_path}/runs", "cluster=debug")
    ran = subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=580)
    assert ran.returncode == EXIT_OK, ran.stderr + ran.stdout
    exports = tmp_path / "runs/captioned/exports"
    page = ran.stdout.split()[-1]
    assert page.endswith("index.html") and (exports / "labels_page-latest/index.html").samefile(page)
    labels = [json.loads(p.read_text()) for p in sorted((exports / "layout_labels-latest").rglob("label_*.json"))]
    assert len(labels) == N and "TOY" not in ran.stdout + ran.stderr
    found = Counter[str]()
    for slot, label in enumerate(labels):
        said = {a["category_name"] for a in label["annos"]}
        found.update(shown=len(shown(slot)), right=len(said & shown(slot)), said=len(said))
        found.update(objects=len(label["annos"]), named=sum(a["category_name"] in a["caption"].lower() for a in label["annos"]))
    # far more than chance, below what synth/embedded/README.md measures: a model that is asked wrongly finds nothing
    assert found["right"] >= 0.8 * max(found["shown"], found["said"]) and found["named"] >= 0.7 * found["objects"], found
    once = planned(tmp_path / "runs", *UNITS)
    assert all(folder.is_done() for folder in once.values())
    other = planned(tmp_path / "other", *UNITS, "export=[layout_labels]")
    for name in STAGES:
        folder = other[name]
        assert folder.spec.n_units == 3
        assert Child(folder, 1, 3, env={}, fault="after_batch:kill@1").wait(240) == -signal.SIGKILL
        assert work(folder, 2, 3) == EXIT_OK  # which takes up what the killed one left
        assert folder.is_done() and digests(folder) == digests(once[name]), name
    assert digests(done(other["layout_labels"])) == digests(once["layout_labels"])
    annos = [a for r in records(once["box_captions"]).values() for a in r.annos]
    assert any(a.mask for a in annos) and all(a.caption is not None for a in annos)


def test_toy_models_are_told_where_they_meet_other_pictures_and_only_there(tmp_path):
    def notes(*more):
        return [n for s in point(tmp_path / "runs", *more).stages for n in s.spec.settings.get("notes", ())]

    assert notes() == []
    source = f"layout.source={pictures(tmp_path / 'mine', 2)}"
    told = notes(source)
    assert [n.split(" is ")[0] for n in told] == [f"TOY MODEL: {g}" for g in ("tagger.tiny_clip", "detector", "segmenter", "box_captioner")]
    assert "choose another for pictures of your own" in told[1]
    own = ["tagger=[caption]", "detector=owlv2", f"detector.path={tiny.owlv2(tmp_path / 'owlv2')}", "segmenter=none", "box_captioner=none"]
    assert notes(source, *own) == []


def test_stages_that_nobody_asked_for_are_left_out(tmp_path):
    source, model = pictures(tmp_path / "src", 2), tiny.owlv2(tmp_path / "owlv2")
    settings = ["recipe=layout", "tagger=[caption]", "detector=owlv2", f"detector.path={model}"]
    stages = of_source(tmp_path / "runs", source, *settings, "segmenter=none", "box_captioner=none", "export=[coco]")
    assert list(stages) == ["tags", "boxes", "coco"]
    assert [f.path for f in stages["coco"].upstream("images")] == [stages["boxes"].path]
