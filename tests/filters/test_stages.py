"""Scoring and filter stages through the real worker: same bytes for any number of jobs, tombstones with reasons, exports of the rest."""

import io
import shutil
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.features.encoders import Clip, encoder_of
from synth.features.preparing import Preparation
from synth.features.reading import feature_of
from synth.features.stage import Features
from synth.filters.scoring import scores_of
from synth.kinds import config_of
from synth.reading.stage import StageReader
from synth.store.folder import StageFolder
from synth.store.identity import identity
from synth.store.samples import Sample
from synth.store.spec import InputFile
from tests.configs import (
    BalanceConfig,
    ClipScoreConfig,
    ContactSheetConfig,
    EnsembleConfig,
    FeaturesConfig,
    ImageFolderConfig,
    LabelAgreementConfig,
    NearDuplicatesConfig,
    PerceptualHashConfig,
)
from tests.features.listed import listed_stage
from tests.fixtures_images import CLASSES, child, commit_units, digests, work
from tests.images.pictures import picture as file_of_a_picture
from tests.verify.conftest import DEAD, N, images_of, picture
from tests.verify.test_verify import problems


def given(path) -> InputFile:
    return InputFile(str(path), identity(path))


def features_of(images, clip, **more) -> StageFolder:
    config = FeaturesConfig("tiny", len(CLASSES), **more)
    slots, inputs = images.spec.slots + len(CLASSES), {"model": given(clip)}
    return child(images.path.parent, "features", config, {"images": [images]}, slots, 8, 4, inputs)


def hashes_of(images) -> StageFolder:
    return child(images.path.parent, "perceptual_hash", PerceptualHashConfig(), {"images": [images]}, images.spec.slots, 8, 4)


def facts_of(scores) -> dict[int, dict]:
    return {slot: facts for slot, facts, _ in scores_of(scores)}


def select(kind, config, images, **roles) -> StageFolder:
    ups = {"images": [images]} | {role: [stage] for role, stage in roles.items()}
    folder = child(images.path.parent, kind, config, ups, images.spec.slots, 8, 8)
    assert work(folder) == EXIT_OK
    return folder


def kept(folder) -> list[int]:
    return [s.slot for s in folder.samples()]


def reasons(folder) -> dict[int, str]:
    return StageReader(folder).reasons(0, folder.spec.slots)


def test_features_have_unit_length_and_depend_on_no_neighbour(run, images, tiny_clip):
    stage = features_of(images, tiny_clip)
    assert work(stage) == EXIT_OK
    found = {slot: (feature_of(sample), facts) for slot, facts, sample in scores_of(stage)}
    assert sorted(found) == [s for s in range(N) if s != DEAD] and found[0][0].shape == (24,)
    assert all(abs(np.linalg.norm(f) - 1) < 1e-2 for f, _ in found.values())
    assert {"caption_score", "class_score", "best_label", "best_score", "label"} <= set(found[1][1])
    with stage.reader(0) as reader:
        assert reader.index.tombstones == {DEAD: "not finite"}
    shutil.rmtree(run.root / stage.path)
    shutil.rmtree(run.root / images.path)
    again = features_of(images_of(run.table, [Sample(k, f"{k:09d}", picture(7 if k == 0 else k).files) for k in range(N)]), tiny_clip)
    assert work(again) == EXIT_OK and np.allclose(feature_of(next(iter(StageReader(again)))), found[7][0], atol=1e-3)


def test_scoring_units_are_the_same_bytes_for_one_and_three_jobs(images, tiny_clip):
    for make in (lambda: features_of(images, tiny_clip), lambda: hashes_of(images)):
        stage = make()
        assert work(stage) == EXIT_OK
        one = digests(stage)
        shutil.rmtree(stage.path)
        stage = make()
        for job in (2, 0, 1):
            work(stage, job, 3)
        assert digests(stage) == one


def test_clip_score_keeps_the_top_of_each_class_and_says_why_others_go(images, tiny_clip):
    scores = features_of(images, tiny_clip)
    assert work(scores) == EXIT_OK
    facts = facts_of(scores)
    folder = select("clip_score", ClipScoreConfig(top_share=0.5), images, scores=scores)
    for label in range(len(CLASSES)):
        mine = sorted((s for s in facts if facts[s]["label"] == label), key=lambda s: (-facts[s]["class_score"], s))
        assert [s for s in kept(folder) if s in mine] == sorted(mine[: len(mine) // 2])
    said = reasons(folder)
    assert said[DEAD] == "not finite" and any("is not among the best of its class" in r for r in said.values())
    middle = sorted(f["caption_score"] for f in facts.values())[10]
    folder = select("clip_score", ClipScoreConfig(score="caption", min_score=middle), images, scores=scores)
    assert kept(folder) == [s for s in sorted(facts) if facts[s]["caption_score"] >= middle]
    folder = select("clip_score", ClipScoreConfig(counts={str(i): 1 for i in range(5)}), images, scores=scores)
    assert len(kept(folder)) == 5


def test_label_agreement_drops_what_looks_like_another_class(images, tiny_clip):
    scores = features_of(images, tiny_clip, templates=("a photo of a {}", "a drawing of {}"))
    assert work(scores) == EXIT_OK
    facts = facts_of(scores)
    folder = select("label_agreement", LabelAgreementConfig(), images, scores=scores)
    # two classes of one name have one text, so one score: the label decides by score and not by index
    assert kept(folder) == [
        s for s, f in sorted(facts.items()) if f["best_label"] == f["label"] or f["best_score"] - f["class_score"] < 0.0
    ]
    assert len(kept(select("label_agreement", LabelAgreementConfig(margin=2.0), images, scores=scores))) == len(facts)


def noise(slot: int, seed: int) -> Sample:
    sample, out = picture(slot), io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)).save(out, "PNG")
    return Sample(slot, sample.key, {"png": out.getvalue(), "json": sample.files["json"]})


@pytest.mark.parametrize("method", ["phash", "embedding"])
def test_near_duplicates_keep_the_first_and_nothing_of_a_given_set(run, tiny_clip, tmp_path, method):
    like = {3: 1, 9: 1, 17: 4}  # slot -> the slot whose picture it repeats
    samples = [noise(k, like.get(k, k)) for k in range(N)]
    shutil.rmtree(run.images.path)
    images = images_of(run.table, samples)
    (tmp_path / "test" / "a").mkdir(parents=True)
    (tmp_path / "test" / "a" / "x y.PNG").write_bytes(samples[20].files["png"])
    (tmp_path / "test" / "torn.jpg").write_bytes(b"no picture")
    if method == "phash":
        scores, against = (
            hashes_of(images),
            listed_stage(run.root, "perceptual_hash", PerceptualHashConfig(), tmp_path / "test"),
        )
        config = NearDuplicatesConfig(distance=2)
    else:
        scores = features_of(images, tiny_clip)
        against = listed_stage(run.root, "features", FeaturesConfig("tiny"), tmp_path / "test", {"model": given(tiny_clip)})
        config = NearDuplicatesConfig("embedding", similarity=0.99999, within="all")
    assert work(scores) == work(against) == EXIT_OK
    with against.reader(0) as reader:
        assert "not a picture" in reader.index.tombstones[1]
    folder = select("near_duplicates", config, images, scores=scores, against=against)
    assert kept(folder) == [s for s in range(N) if s not in (*like, 20)]
    assert reasons(folder)[9].endswith("earlier picture (slot 1)") and reasons(folder)[20].endswith("given set")


def test_balance_draws_the_same_pictures_whoever_works(images):
    counts = {str(i): 2 for i in range(5)}
    folder = select("balance", BalanceConfig(7, counts), images)
    assert len(kept(folder)) == 10
    before, again = digests(folder), select("balance", BalanceConfig(8, counts), images)
    assert kept(again) != kept(folder)
    shutil.rmtree(folder.path)
    for job in (1, 0):
        folder = child(images.path.parent, "balance", BalanceConfig(7, counts), {"images": [images]}, N, 8, 8)
        work(folder, job, 2)
    assert digests(folder) == before


def test_too_few_pictures_of_a_class_are_an_error_that_names_it_unless_allowed(images):
    counts = {str(i): 5 for i in range(5)}
    folder = child(images.path.parent, "balance", BalanceConfig(7, counts), {"images": [images]}, N, 8, 8)
    assert work(folder) == EXIT_BAD_INPUT
    assert len(kept(select("balance", BalanceConfig(7, counts, allow_short=True), images))) == N - 1


def test_a_chain_of_filters_is_exported_and_verified(run):
    scores = hashes_of(run.images)
    assert work(scores) == EXIT_OK
    first = select("near_duplicates", NearDuplicatesConfig(distance=0), run.images, scores=scores)
    second = select("balance", BalanceConfig(0, {str(i): 1 for i in range(5)}, allow_short=True), first)
    folder = child(run.root, "image_folder", ImageFolderConfig(), {"images": [second]}, N, 8, 4)
    sheet = child(run.root, "contact_sheet", ContactSheetConfig(), {"images": [second]})
    assert work(folder) == work(sheet) == EXIT_OK
    assert kept(folder) == kept(second) and len(list(folder.out_dir.glob("*/*.png"))) == len(kept(second))
    assert not problems(run.root, deep=True)
    with folder.reader(0) as reader:
        assert reader.index.tombstones[DEAD] == "not finite"


def test_an_ensemble_of_two_runs_is_one_set_with_keys_of_its_own(run, tiny_clip):
    shutil.rmtree(run.images.path)
    one = images_of(run.table, [noise(k, k) for k in range(N)])
    inputs = {"model": InputFile("/nowhere", "0")}
    two = child(run.root, "images", replace(config_of(one), seed=9), {"captions": [run.table]}, N, 8, 4, inputs)
    commit_units(two, [noise(k, 100 + k) for k in range(N)])
    scores = [features_of(one, tiny_clip), features_of(two, tiny_clip)]
    assert [work(s) for s in scores] == [EXIT_OK] * 2
    config = EnsembleConfig(3, {str(i): 4 for i in range(5)})
    folder = child(run.root, "ensemble", config, {"images": [one, two], "scores": scores}, 2 * N, 8, 8)
    assert work(folder) == EXIT_OK and len(kept(folder)) == 20
    assert {StageReader(folder).at(s)[0] for s in kept(folder)} == {0, 1}
    out = child(run.root, "image_folder", ImageFolderConfig(), {"images": [folder]}, 2 * N, 8, 4)
    assert work(out) == EXIT_OK
    names = sorted(p.stem for p in out.out_dir.glob("*/*.png"))
    assert len(names) == 20 and {n[:2] for n in names} == {"0-", "1-"}
    assert not problems(out.path, deep=True)


def test_pictures_are_prepared_as_clip_wants_them():
    image = Image.fromarray(np.full((40, 80, 3), 128, np.uint8))
    x = Preparation(side=16)(image)
    assert x.shape == (3, 16, 16) and x.dtype == np.float32
    assert np.allclose(x[0], (128 / 255 - 0.48145466) / 0.26862954, atol=1e-3)


@pytest.mark.parametrize(
    ("spoil", "said"), [("config.json", "missing"), ("model.safetensors", "no weights"), ("tokenizer.json", "no tokenizer")]
)
def test_an_incomplete_clip_folder_is_named(tiny_clip, tmp_path, spoil, said):
    folder = tmp_path / "clip"
    shutil.copytree(tiny_clip, folder)
    for name in (spoil, "vocab.json") if "tokenizer" in spoil else (spoil,):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=said):
        encoder_of(folder)


def test_what_is_no_file_in_a_given_set_is_a_tombstone_that_is_the_same_everywhere(run, tmp_path):
    root = tmp_path / "test"
    root.mkdir()
    (root / "a.tif").write_bytes(file_of_a_picture(3, ext="tiff"))
    (root / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EOF\n")  # Pillow would start a program for it
    (root / "c.png").write_bytes(b"")
    (root / "d.png").write_bytes(b"no picture")
    against = listed_stage(run.root, "perceptual_hash", PerceptualHashConfig(), root)
    assert work(against) == EXIT_OK
    with against.reader(0) as reader:
        assert reader.index.tombstones == {1: "not a picture (b.png)", 2: "empty file (c.png)", 3: "not a picture (d.png)"}
        assert [e.slot for e in reader.index.samples] == [0]


def test_what_changed_in_a_given_set_since_it_was_planned_ends_the_worker(run, tmp_path, capfd):
    """Left out, it would let pass what is like it."""
    root = tmp_path / "test"
    root.mkdir()
    (root / "a.png").write_bytes(file_of_a_picture(3))
    against = listed_stage(run.root, "perceptual_hash", PerceptualHashConfig(), root)
    (root / "a.png").write_bytes(file_of_a_picture(3) + b"more")
    assert work(against) == EXIT_BAD_INPUT and not against.committed()
    assert "a.png: changed since the stage was planned (its size did); put it back" in capfd.readouterr().err


def test_pictures_of_the_next_batches_are_made_ready_while_the_model_computes(images, tiny_clip, monkeypatch):
    """And of no more than two: decoding one behind the other would leave a GPU idle most of the time."""
    lock, begun, seen = threading.Condition(), [], []
    prepared, pictures = Features._prepared, Clip.pictures

    def noted(self, slot):
        with lock:
            begun.append((slot, threading.current_thread().name))
            lock.notify_all()
        return prepared(self, slot)

    def waits(self, rows):
        """Computes only when what comes after this batch is being made ready."""
        upto = min(images.spec.slots, 8, 4 * (len(seen) % 2 + 1) + 8)  # in units of eight slots, in batches of four
        with lock:
            assert lock.wait_for(lambda: len({s for s, _ in begun} & set(range(8))) >= upto, timeout=240)
            seen.append(len(begun))
        return pictures(self, rows)

    monkeypatch.setattr(Features, "_prepared", noted)
    monkeypatch.setattr(Clip, "pictures", waits)
    stage = features_of(images, tiny_clip)
    assert work(stage) == EXIT_OK and stage.is_whole()
    assert seen[0] == 8 and all(name.startswith("decode") for _, name in begun)
    assert sorted(s for s, _ in begun) == list(range(images.spec.slots))  # each once


def test_features_are_computed_with_the_numerics_of_their_stage(images, tiny_clip):
    """TF32 rounds convolutions and products to ten bits: the bytes of exact must not depend on what ran before in a process."""
    import torch

    stage = Features(features_of(images, tiny_clip))
    stage.check()
    flags = (torch.backends.cuda.matmul, torch.backends.cudnn)
    for flag in flags:
        flag.allow_tf32 = True
    torch.backends.cuda.enable_cudnn_sdp(True)
    stage.open()
    assert [flag.allow_tf32 for flag in flags] == [False, False]
    assert not torch.backends.cuda.cudnn_sdp_enabled() and torch.backends.cudnn.deterministic
    model = weakref.ref(stage.encoder._model)
    stage.close()
    assert model() is None
