"""The story stage through the planner and the real worker: chains, rotation, kills in mid-chain, what it refuses."""

import io
import json
import signal

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_OK, InputError
from synth.seeds import derive
from synth.store.folder import StageFolder
from synth.story.stage import StoryStage
from tests.faults.farm import Child  # forked: the libraries are loaded already
from tests.fixtures_images import digests, work
from tests.story.stories import STYLES, done, planned, point, source

LANES = len(STYLES)
PROMPTS = ["a red fox", "a blue door", "a third thing", "an old tree", "the end", "a lake", "a hill", "a boat", "a star"]


def pixels(folder) -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read("png")))) for s in folder.samples()}


def records(folder) -> dict[int, dict]:
    return {s.slot: s.json() for s in folder.samples()}


@pytest.fixture(scope="module")
def once(tiny_sd, tmp_path_factory) -> StageFolder:
    """Three chapters of 3, 2 and 4 prompts in four styles, by one worker in one go."""
    return done(tmp_path_factory.mktemp("once"), tiny_sd)[0]


@pytest.fixture(scope="module")
def book(tiny_sd, tmp_path_factory) -> StageFolder:
    return done(tmp_path_factory.mktemp("book"), tiny_sd, "story.carry=book", "story.generation_config.cycle_styles=true")[0]


# -- determinism -----------------------------------------------------------------------------------------------------


def test_three_jobs_of_which_one_is_killed_in_mid_chain_give_the_bytes_of_one(once, tiny_sd, tmp_path):
    folder = planned(tmp_path, tiny_sd)[0]
    assert folder.path.name == once.path.name and folder.spec.n_units == 3
    killed, others = Child(folder, 2, 3, fault="after_batch:kill@2"), [Child(folder, i, 3) for i in (0, 1)]
    assert killed.wait() == -signal.SIGKILL
    assert [w.wait() for w in others] == [EXIT_OK] * 2
    assert work(folder) == EXIT_OK and folder.is_done() and digests(folder) == digests(once)


def test_a_book_that_is_killed_goes_on_from_its_last_finished_prompt(book, tiny_sd, tmp_path):
    folder = planned(tmp_path, tiny_sd, "story.carry=book", "story.generation_config.cycle_styles=true")[0]
    assert folder.spec.n_units == 1 and len(folder.spec.batches(folder.unit(0))) == 9
    assert Child(folder, fault="after_batch:kill@4").wait() == -signal.SIGKILL
    drawn = []
    real, StoryStage.compute = (
        StoryStage.compute,
        lambda self, state, slots: drawn.append(slots.start) or real(self, state, slots),
    )
    try:
        assert work(folder) == EXIT_OK
    finally:
        StoryStage.compute = real
    assert drawn == [LANES * n for n in range(4, 9)]  # nothing that was finished is drawn again
    assert digests(folder) == digests(book)


def test_a_picture_does_not_depend_on_how_much_of_the_text_is_drawn(once, tiny_sd, tmp_path):
    less = done(tmp_path, tiny_sd, "story.prompt_config.max_chapters=2", "story.prompt_config.max_entries_per_chapter=2")[0]
    some, all_of = pixels(less), pixels(once)
    assert less.spec.slots == 2 * 2 * LANES
    assert all((some[slot] == all_of[slot + (LANES if slot >= 2 * LANES else 0)]).all() for slot in range(less.spec.slots))


# -- the chain -------------------------------------------------------------------------------------------------------


def test_slots_are_prompts_in_all_styles_and_texts_seeds_and_parents_follow_the_rules(once):
    found = records(once)
    assert len(found) == 9 * LANES and [once.unit(n).start for n in range(3)] == [0, 12, 20]
    for slot, r in found.items():
        n, lane = divmod(slot, LANES)
        chapter, first = next((c, f) for c, f in ((3, 5), (2, 3), (1, 0)) if n >= f)
        assert (r["prompt_text"], r["chapter"], r["prompt"]) == (PROMPTS[n], chapter, n - first + 1)
        assert r["caption"] == f"{PROMPTS[n]} {STYLES[lane]['style']}" and r["class"] == STYLES[lane]["file_tag"] and r["label"] == lane
        assert r["seed"] == derive(0, "story", chapter, n - first + 1, lane)
        parent = None if n == first else f"{(n - 1) * LANES + (lane + 1) % LANES:09d}"  # moved one style to the left
        assert (r["parent"], r["steps_run"]) == (parent, 4 if n == first else (3, 3, 2, 0)[lane])


def test_a_weight_of_less_than_a_step_keeps_the_picture_it_starts_from(once):
    found, said = pixels(once), records(once)
    for slot, r in said.items():
        same = r["parent"] is not None and (found[int(r["parent"])] == found[slot]).all()
        assert same == (r["steps_run"] == 0)
        assert r["computed_batch"] == (0 if r["steps_run"] == 0 else LANES if r["parent"] is None else (2, 2, 1)[slot % LANES])


def test_a_book_carries_pictures_and_turned_styles_from_chapter_to_chapter(book):
    found = records(book)
    assert [s for s, r in found.items() if r["parent"] is None] == [0, 1, 2, 3]
    assert all(r["style"] == STYLES[(slot % LANES + slot // LANES) % LANES]["style"] for slot, r in found.items())
    assert all(r["weight"] == STYLES[slot % LANES]["weight"] for slot, r in found.items())  # weights and tags stay


def test_without_progressive_every_picture_comes_from_noise_and_prompts_share_a_batch(once, tiny_sd, tmp_path):
    folder = done(tmp_path, tiny_sd, "story.generation_config.progressive=false", "images.format=jpg")[0]
    assert folder.spec.batch == 16 and {(r["parent"], r["steps_run"]) for r in records(folder).values()} == {(None, 4)}


def test_strength_keeps_more_of_a_picture_the_smaller_it_is(tiny_sd, tmp_path):
    styles = [{"style": "s", "file_tag": f"w{w}", "weight": w} for w in (0.25, 1.0)]
    given = source(tmp_path, "Part 1\nx\nx\nx\nx\n", styles)
    folder = done(tmp_path, tiny_sd, *given, "story.generation_config.interleave=false")[0]
    found = pixels(folder)
    kept, new = (np.mean([abs(found[s].astype(int) - found[s - 2]).mean() for s in range(lane + 2, 8, 2)]) for lane in (0, 1))
    assert kept < new


def test_a_picture_that_is_not_finite_leaves_its_style_where_it_was(tiny_sd, tmp_path, monkeypatch):
    from synth.images import painter

    folder = planned(tmp_path, tiny_sd, "story.prompt_config.max_chapters=1")[0]
    calls = []

    def row(self, i, real=painter.Copy.row):
        calls.append(self)
        return None if i == 1 and self is calls[0] else real(self, i)  # the second picture of the first prompt

    monkeypatch.setattr(painter.Copy, "row", row)
    assert work(folder) == EXIT_OK
    found = records(folder)
    assert 1 not in found and found[4]["parent"] is None and found[5]["parent"] == "000000002"


# -- what is refused -------------------------------------------------------------------------------------------------


def bad(path, styles):
    return [*source(path, styles=styles)]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["story.carry=page"], "story.carry=page: use one of chapter, book"),
        (["images.format=jpg"], "images.format=jpg: .*use png or webp"),
        (["images.save_size=8"], "images.save_size=8: "),
        (["story.generation_config.eta=2"], "story.generation_config.eta=2: must be from 0 to 1"),
        (["story.generation_config.num_inference_steps=0"], "num_inference_steps=0: must be 1 or more"),
        (["story.generation_config.progressive=true", "story.generation_config.progresive=false"], "disagree"),
        (["story.style_configs_file=null", "story.style_configs=[]"], "story.style_configs: is empty"),
        (
            ["story.style_configs_file=null", "story.style_configs=[{style:a,file_tag:a,weight:1.5}]"],
            r"story.style_configs\[0\].weight=1.5: must be from 0 to 1",
        ),
        (["story.style_configs_file=null", "story.style_configs=[{style:a,file_tag:a,weight:nan}]"], "weight=nan"),
        (
            ["story.style_configs_file=null", "story.style_configs=[{style:a,file_tag:' ',weight:1}]"],
            r"\[0\].file_tag=' ': is empty",
        ),
        (["story.style_configs_file=null", "story.style_configs=[{style:a,file_tag:a}]"], "weight"),
        (["story.style_configs_file=/nowhere.json"], "style_configs_file: /nowhere.json cannot be read as JSON"),
        (["export=[story_pages]", "export.story_pages.grid=x"], "export.story_pages.grid=x: use one of"),
        (["story.prompt_config.key=a/b"], "'a/b'"),
    ],
)
def test_what_is_wrong_is_found_when_it_is_planned(overrides, said, tiny_sd, tmp_path):
    with pytest.raises(InputError, match=said):
        point(tmp_path, tiny_sd, *overrides)


@pytest.mark.parametrize(
    "content",
    [
        "[",
        "{}",
        "[1]",
        '[{"style": "a"}]',
        '[{"style": 1, "file_tag": "a", "weight": 1}]',
        '[{"style": "a", "file_tag": "a", "weight": true}]',
    ],
)
def test_a_file_of_styles_that_is_none_is_named(content, tiny_sd, tmp_path):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(InputError, match=r"s\.json"):
        point(tmp_path, tiny_sd, f"story.style_configs_file={tmp_path}/s.json")


def test_keys_of_the_original_are_taken_and_the_useless_ones_named_once(tiny_sd, tmp_path):
    styles = [{**s, "last_image": "x.png", "images": []} for s in STYLES]
    given = source(tmp_path, styles=styles)
    spec = (
        point(
            tmp_path,
            tiny_sd,
            *given,
            "story.generation_config.progresive=false",
            "story.generation_config.preview_stop='pkill display'",
        )
        .stages[0]
        .spec
    )
    assert spec.config["progressive"] is False
    assert spec.settings["notes"] == [
        (
            "ignored, because nothing here needs them: story.style_configs[].last_image, story.style_configs[].images, "
            "story.generation_config.preview_stop"
        ),
        f"story: 4 empty prompts of {tmp_path}/tale.txt are skipped",
    ]
    assert (
        spec.fingerprint
        == point(tmp_path, tiny_sd, *source(tmp_path), "story.generation_config.progressive=false").stages[0].spec.fingerprint
    )


def test_the_price_is_what_will_be_drawn(once):
    run = list(records(once).values())
    steps, noise, kept = (
        sum(r["steps_run"] for r in run),
        sum(r["parent"] is None for r in run),
        sum(r["steps_run"] == 0 for r in run),
    )
    said = once.spec.settings["price"]
    assert said == (
        f"36 images (3 chapters, 9 prompts, 4 styles; {noise} from noise, {36 - noise - kept} from another image, "
        f"{kept} kept as they are), {steps} denoising steps"
    )


def test_a_damaged_text_in_the_stage_folder_is_no_story(tiny_sd, tmp_path):
    folder = planned(tmp_path, tiny_sd)[0]
    (folder.path / "prompts.jsonl.gz").write_bytes(b"\x1f\x8b torn")
    assert work(folder) == 65 and "prompts.jsonl.gz" in json.dumps(
        [json.loads(x) for f in (folder.path / "events").iterdir() for x in f.read_text().splitlines()]
    )
