"""Image to image behind another stage of a recipe, and what is said of slots without a sample."""

import pytest

from synth.errors import InputError
from synth.store.samples import Sample, Tombstone
from tests.fixtures_images import commit_units
from tests.launch.plan.test_graph import RECIPE, stage
from tests.launch.show.test_shown import finished, shown


@pytest.fixture
def chain(world):
    (world.path / "conf" / "recipe").mkdir(parents=True)
    text = RECIPE.replace("exports_of: images", "  again: {kind: img2img, upstream: {images: images}}\n  exports_of: again")
    (world.path / "conf" / "recipe" / "mine.yaml").write_text(text)
    return lambda *overrides: world.point("recipe=mine", *overrides, config_dir=str(world.path / "conf"))


def test_an_upstream_stage_of_the_recipe_is_the_source(chain):
    point = chain("img2img.per_image=2", "captions.total=10")
    again = stage(point, "again")
    assert again.upstream == (stage(point, "images").folder,) and again.spec.slots == 20
    assert stage(point, "contact_sheet").upstream == (again.folder,)
    assert again.spec.config["steps"] == stage(point, "images").spec.config["steps"] == 7, "its keys follow those of images"
    assert stage(chain("img2img.steps=9", "img2img.subset=0..3"), "again").spec.slots == 4
    with pytest.raises(InputError, match="gives this stage its pictures"):
        chain("img2img.source=/data")


def test_slots_without_a_sample_are_told_at_the_end_with_their_commonest_reasons(world):
    from launch.plan.planned import Outcome

    planned = stage(world.point("recipe=probe", "probe.slots=9", "probe.unit_size=9"), "probe")
    folder = finished(planned)
    gone = {2: "a.png: not a picture", 3: "b.png: empty file", 5: "b.png: empty file", 8: "c.png: torn", 7: "d.png: torn"}
    commit_units(folder, [Tombstone(s, gone[s]) if s in gone else Sample(s, f"{s:09d}", {"json": b"{}"}) for s in range(9)])
    folder.mark_done({"units": 1, "slots": 9, "samples": 4, "tombstones": 5})
    said = [line for line in shown([Outcome(planned, 0, done=True, facts=folder.done())]) if "no sample" in line]
    assert said == ["probe: 5 of 9 slots have no sample: b.png: empty file (2); a.png: not a picture; d.png: torn; .."]
    assert not [line for line in shown([Outcome(planned, 0, done=True, facts={"tombstones": 0})]) if "no sample" in line]
