"""Filters of objects, and what CLIP says of objects: their rules, their bytes, and the exports behind them."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from launch.config.compose import Composer, typed
from launch.plan.graph import plan_point
from launch.show.took_out import took_out
from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.features.encoders import Clip
from synth.layout.objects.clip import features_of
from synth.layout.objects.config import BoxEmbeddingsConfig, CropClipConfig, CropScoresConfig, ObjectsConfig
from synth.layout.objects.embeddings import EmbeddingReader, described
from synth.layout.objects.filters import COUNTS, by_rules
from synth.layout.records import Anno
from synth.layout.source import ROLE
from synth.layout.stage import records_of
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.samples import Sample, Tombstone
from synth.store.spec import InputFile
from tests.configs import CocoConfig, LayoutLabelsConfig
from tests.fixtures_clip import build_tiny_clip
from tests.fixtures_images import child, digests, work
from tests.layout.exports.consumers import instance_diffusion
from tests.layout.exports.labels import labels_stage, pictures
from tests.verify.test_verify import problems, rewrite

N, TORN = 6, 2  # slots, and the one of a picture that cannot be read


def anno(score: float, side: int, label: str = "cup", caption: str | None = None) -> Anno:
    return Anno((0, 0, side, side), score, label, caption=caption)


def rules(min_score: float = 0, min_box: int = 1, max_boxes: int = 0) -> ObjectsConfig:
    return ObjectsConfig(kind="objects", min_score=min_score, min_box=min_box, max_boxes=max_boxes)


def filtered(labels: StageFolder, kind: str, config) -> StageFolder:
    return child(labels.path.parent, kind, config, {ROLE: [labels]}, N, 4, 4, dict(labels.spec.inputs))


def made(stage: StageFolder) -> dict:
    """slot -> record, or the reason why there is none."""
    return dict(records_of(stage, 0, N))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> InputFile:
    folder = build_tiny_clip(tmp_path_factory.mktemp("models") / "clip")
    return InputFile(str(folder), identity(folder))


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> StageFolder:
    return labels_stage(tmp_path_factory.mktemp("labels"), pictures(boxes=25))


@pytest.fixture(scope="module")
def scored(labels, clip) -> StageFolder:
    """With a crop_score for each object."""
    config = CropScoresConfig(against="caption", margin=0.0, rows=4)
    stage = child(labels.path.parent, "crop_scores", config, {ROLE: [labels]}, N, 4, 2, {**labels.spec.inputs, "model": clip})
    assert work(stage) == EXIT_OK
    return stage


# -- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kept", "gone"),
    [
        (rules(), [0, 1, 2, 3], [0, 0, 0]),
        (rules(min_score=0.5), [0, 2, 3], [1, 0, 0]),
        (rules(min_box=5), [1, 3], [0, 2, 0]),
        (rules(max_boxes=2), [2, 3], [0, 0, 2]),
        (rules(max_boxes=3), [0, 2, 3], [0, 0, 1]),  # of two with one score the earlier one
        (rules(0.5, 5, 1), [3], [1, 2, 0]),
        (rules(min_score=1.0), [], [4, 0, 0]),
    ],
)
def test_rules_keep_the_order_and_count_each_object_once(config, kept, gone):
    annos = [anno(0.5, 4), anno(0.4, 9), anno(0.9, 4), anno(0.5, 5)]
    if config.max_boxes == 2:
        annos[3] = anno(0.6, 5)
    found, counts = by_rules(annos, config)
    assert found == [annos[n] for n in kept] and list(counts.values()) == gone


def test_equal_texts_are_encoded_once_and_each_object_gets_its_own():
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.array([[len(t)] for t in texts])

    assert features_of(["dog", "a cat", "dog"], encode).tolist() == [[3], [5], [3]] and asked == ["dog", "a cat"]


def test_what_is_embedded_beside_a_label():
    said = [described(anno(1, 1, "dog", caption)) for caption in (None, "", "a Dog", "it sleeps")]
    assert said == ["dog", "dog", "a Dog", "dog. it sleeps"]


# -- filters ---------------------------------------------------------------------------------------------------------


def test_a_filter_of_objects_keeps_pictures_and_counts_what_went_and_its_bytes_hang_on_no_worker(labels, tmp_path):
    config = rules(min_box=9, max_boxes=10)
    one = filtered(labels, "objects", config)
    assert work(one) == EXIT_OK
    before, after = made(labels), made(one)
    assert isinstance(after[TORN], str) and after[TORN] == before[TORN]
    assert [len(after[s].annos) for s in (0, 1, 3, 4, 5)] == [2, 0, 1, 1, 0]
    assert after[1].dropped == {"objects.min_box": 25} and after[5] == before[5]
    assert replace(after[0], annos=()) == replace(before[0], annos=()) and set(after[0].annos) <= set(before[0].annos)
    assert json.loads((one.path / COUNTS).read_bytes()) == {"kept": 4, "taken_out": {"objects.min_box": 25}}
    assert took_out(one.path, "objects") == ["kept 4 objects, took out 25: objects.min_box (25)"] and took_out(labels.path, "masks") == []
    assert not problems(one.path, deep=True)
    other = labels_stage(tmp_path, pictures(boxes=25))
    three = filtered(other, "objects", config)
    assert {work(StageFolder.open(three.path), job, 3) for job in (2, 0, 1)} == {EXIT_OK} and digests(three) == digests(one)


def test_edited_counts_and_records_are_named_by_verification(labels, tmp_path):
    stage = filtered(labels_stage(tmp_path, pictures()), "objects", rules(min_box=9))
    assert work(stage) == EXIT_OK
    (stage.path / COUNTS).write_text('{"kept": 1000, "taken_out": {}}')
    assert any(COUNTS in p for p in problems(stage.path, deep=True))
    assert took_out(stage.path, "objects") == ["kept 1,000 objects, took out none"]
    for odd in ("[]", '{"kept": -1}', "{", '{"kept": 1, "taken_out": {"x": "y"}}'):
        (stage.path / COUNTS).write_text(odd)
        assert took_out(stage.path, "objects") == []


def test_objects_whose_pixels_do_not_fit_go_and_a_threshold_scores_nothing_again(labels, scored):
    records = made(scored)
    scores = [a.crop_score for r in records.values() if not isinstance(r, str) for a in r.annos]
    assert len(scores) == 29 and all(-1 <= s <= 1 for s in scores) and len(set(scores)) > 5
    assert [replace(a, crop_score=None) for a in records[0].annos] == list(made(labels)[0].annos)
    least = sorted(scores)[10]
    stage = filtered(scored, "crop_clip", CropClipConfig(kind="crop_clip", min_score=least))
    assert work(stage) == EXIT_OK
    kept = [a.crop_score for r in made(stage).values() if not isinstance(r, str) for a in r.annos]
    assert kept == [s for s in scores if s >= least] and len(kept) < len(scores)
    assert json.loads((stage.path / COUNTS).read_bytes())["taken_out"] == {"crop_clip.min_score": len(scores) - len(kept)}
    assert not problems(scored.path, deep=True) and not problems(stage.path, deep=True)
    coco = child(stage.path.parent, "coco", CocoConfig(), {"images": [stage]}, N, 4, 4)
    assert work(coco) == EXIT_OK and not problems(coco.path, deep=True)
    told = json.loads((coco.out_dir / "annotations.json").read_text())["annotations"]
    assert [a["crop_score"] for a in told] == kept
    assert f"| crop_clip.min_score | {len(scores) - len(kept)} |" in (coco.out_dir / "README.md").read_text().replace("\\", "")


def test_a_filter_of_scores_that_nobody_made_is_refused(labels, capsys):
    stage = filtered(labels, "crop_clip", CropClipConfig(kind="crop_clip", min_score=0.1))
    assert work(stage) == EXIT_BAD_INPUT and "have no crop_score" in capsys.readouterr().err


# -- embeddings ------------------------------------------------------------------------------------------------------


def test_instance_diffusion_s_loader_reads_an_embedding_of_each_label_and_caption(labels, clip, tmp_path):
    from transformers import AutoTokenizer, CLIPModel

    embeddings = child(labels.path.parent, "box_embeddings", BoxEmbeddingsConfig(rows=3), {ROLE: [labels]}, N, 4, 2, {"model": clip})
    assert work(embeddings) == EXIT_OK and not problems(embeddings.path, deep=True)
    config, ups = LayoutLabelsConfig(image=True), {"images": [labels], "box_embeddings": [embeddings]}
    stage = child(labels.path.parent, "layout_labels", config, ups, N, 4, 4)
    assert work(stage) == EXIT_OK and not problems(stage.path, deep=True)
    items, record = instance_diffusion(stage.out_dir), made(labels)[0]
    model, words = CLIPModel.from_pretrained(clip.path).eval(), AutoTokenizer.from_pretrained(clip.path)
    for told, known in zip(items[0]["annos"], record.annos, strict=True):
        for field, text in (("text_embedding_before", known.label), ("blip_clip_embeddings", described(known))):
            own = model.text_model(**words(text, return_tensors="pt", truncation=True, max_length=32)).pooler_output[0]
            assert np.allclose(told[field], own.detach().numpy(), atol=1e-5), field
    assert all(a["text_embedding_before"].shape == (32,) for item in items for a in item["annos"])
    assert "as CLIP's text tower pools them" in (stage.out_dir / "README.md").read_text()


def test_embeddings_of_other_objects_are_refused(labels, clip, tmp_path):
    own = labels_stage(tmp_path, pictures())
    stage = child(own.path.parent, "box_embeddings", BoxEmbeddingsConfig(rows=3), {ROLE: [own]}, N, 4, 2, {"model": clip})
    assert work(stage) == EXIT_OK
    samples = {s.slot: Sample(s.slot, s.key, {"json": s.read("json"), "npy": s.read("npy")}) for s in stage.samples()}
    swapped = [replace(samples[slot], files=samples[other].files) for slot, other in ((0, 1), (1, 0))]
    rewrite(stage, 0, [*swapped, Tombstone(2, "torn"), samples[3]])
    assert sum("of its objects" in p for p in problems(stage.path, deep=True)) == 2
    with pytest.raises(InputError, match=r"npy is float32 \[2, 3, 32\], not finite float32 \[2, 2, \.\.\] of its objects"):
        EmbeddingReader(stage).of(0, made(own)[0])


def test_a_model_without_finite_numbers_is_told_before_and_a_picture_without_embeddings_with_what_to_do(labels, clip, capfd):
    stage = child(labels.path.parent, "box_embeddings", BoxEmbeddingsConfig(rows=2), {ROLE: [labels]}, N, 4, 4, {"model": clip})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Clip, "pooled", lambda self, texts: np.full((len(texts), 4), np.nan, np.float32))
        assert work(stage) == EXIT_BAD_INPUT and not stage.committed()
    assert f"{clip.path}: its numbers for a text are not finite; fetch the model again" in capfd.readouterr().err
    assert work(stage) == EXIT_OK
    samples = [Sample(s.slot, s.key, {"json": s.read("json"), "npy": s.read("npy")}) for s in stage.samples() if s.slot in (1, 3)]
    rewrite(stage, 0, [Tombstone(0, "not finite"), samples[0], Tombstone(2, "torn"), samples[1]])
    with pytest.raises(InputError, match=r"has none: not finite; leave embeddings out \(export\.layout_labels\.embeddings=false\)"):
        EmbeddingReader(stage).of(0, made(labels)[0])


# -- as they are asked for -------------------------------------------------------------------------------------------


def test_scores_stand_before_the_first_filter_and_embeddings_behind_the_last(labels, clip, tmp_path):
    def stages(*more: str):
        source = labels.input_path("source")
        settings = [f"layout.source={source}", f"runs_dir={tmp_path}", f"features.model={clip.path}", "segmenter=none", *more]
        point = plan_point(typed(Composer("tests/layout/conf").compose(["recipe=layout_tags", "recipe.exports_of=tags", *settings])))
        return {s.name: {role: [u.path for u in ups] for role, ups in s.spec.upstream.items()} for s in point.stages}, point.stages

    ups, _ = stages("filter=[objects,crop_clip]", "export=[layout_labels,coco]", "export.layout_labels.embeddings=true")
    chain = ["tags", "crop_scores", "objects", "crop_clip", "layout_labels_box_embeddings"]
    assert [name for name in ups if name in chain] == chain
    for before, name in itertools.pairwise(chain):
        assert ups[name]["layout"][0].startswith(f"../{before}-"), name
    assert ups["coco"]["images"][0].startswith("../crop_clip-") and "box_embeddings" not in ups["coco"]
    _, one = stages("filter=[objects]", "export=[]")
    _, two = stages("filter=[objects,crop_clip]", "filter.crop_clip.min_score=0.1", "export=[]")
    _, three = stages("filter=[objects,crop_clip]", "filter.objects.min_score=0.3", "export=[]")
    assert "crop_scores" not in [s.name for s in one]
    assert next(s.folder for s in two if s.name == "crop_scores") == next(s.folder for s in three if s.name == "crop_scores")
    with pytest.raises(InputError, match="filter=clip_score: is made of pictures of classes, and tags makes layout labels; its filters"):
        stages("filter=[clip_score]", "export=[]")
    with pytest.raises(InputError, match="filter=objects: is made of layout labels, and images makes pictures of classes"):
        plan_point(typed(Composer().compose(["filter=[objects]", f"runs_dir={tmp_path}"])))
