"""The pairs stage through the planner and the real worker, with the embedded model."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from synth.errors import EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.keys import check
from synth.run.ahead import BATCHES
from synth.seeds import derive, generator
from synth.tracking import canvas
from synth.tracking.masks import mask_of, union
from synth.tracking.objects import objects_of
from synth.tracking.stage import Pairs
from synth.tracking.warp import draw, warped
from tests.configs import ModelConfig, PairsConfig, WarpConfig
from tests.fixtures_images import digests, small_device, work
from tests.stages import events, wait_for
from tests.tracking import scenes
from tests.tracking.pairs_stages import done, made, pairs_stage, pixels, tombstones
from tests.tracking.scenes import AnnotatedSet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """Six scenes of three sizes and two buckets; the first has a crowd too, the last no object."""
    return scenes.make(tmp_path_factory.mktemp("sets") / "six", 6)


@pytest.fixture(scope="module")
def once(annotated, tmp_path_factory):
    return done(tmp_path_factory.mktemp("once"), annotated, variants=2)


def originals(annotated) -> dict[int, dict]:
    data = json.loads(annotated.annotations.read_text())
    return {i["id"]: i | {"annotations": [a for a in data["annotations"] if a["image_id"] == i["id"]]} for i in data["images"]}


def edited(source: AnnotatedSet, folder, change) -> AnnotatedSet:
    """A copy of a set. change(data of the annotation file, folder of the images)"""
    shutil.copytree(source.images, folder / "images")
    data = json.loads(source.annotations.read_text())
    change(data, folder / "images")
    (folder / "annotations.json").write_text(json.dumps(data))
    return AnnotatedSet(folder / "annotations.json", folder / "images", source.captions)


# -- what is stored ------------------------------------------------------------------------------------------------------


def test_each_image_has_its_variants_at_its_own_size_in_order_of_buckets(once, annotated):
    records, images = [s.json() for s in once.samples()], originals(annotated)
    assert [s.key for s in once.samples()] == [f"{k:09d}" for k in range(12)]
    assert sorted(r["file_name"] for r in records) == sorted(f"{i:012d}_v{v}.jpg" for i in images for v in (0, 1))
    for name, (record, picture) in made(once).items():
        image = images[record["image_id"]]
        assert name == f"{image['id']:012d}_v{record['variant']}.jpg" and record["source"] == image["file_name"]
        assert picture.shape == (image["height"], image["width"], 3) and (record["width"], record["height"]) == picture.shape[1::-1]
        kept = objects_of(image["annotations"], 144, 32**5)
        assert [o["id"] for o in record["objects"]] == [a["id"] for a in kept]
        assert [o["category_id"] for o in record["objects"]] == [a["category_id"] for a in kept]
        assert record["unchanged"] == (not kept) and record["format"] == "jpg" and record["noise_strength"] == 0.75
        assert record["steps_run"] == (3 if kept else 0) and record["harmonize"] == 1 and record["scheduler"]
    drawn = [r["bucket"] for r in records]
    assert [b for b in drawn if b] == sorted((b for b in drawn if b), key=lambda b: (-b[0] * b[1], b)) and drawn[-2:] == [
        None,
        None,
    ]
    units = [{str(r["bucket"]) for r in records[once.unit(u).start : once.unit(u).stop]} for u in range(once.spec.n_units)]
    assert all(len(u) == 1 for u in units)


def test_boxes_areas_and_masks_of_a_variant_agree(once, annotated):
    found = 0
    for record, _ in made(once).values():
        image = originals(annotated)[record["image_id"]]
        matrix = np.array(record["warp"]["homography"]).reshape(3, 3) if record["warp"] else None
        for o in record["objects"]:
            mask = rle.decode(o["segmentation"])
            ys, xs = np.nonzero(mask)
            assert mask.shape == (record["height"], record["width"]) and o["area"] == mask.sum() == len(xs)
            assert o["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            # corners of the original's mask, sent through the matrix, span the same box to a pixel
            before = mask_of(next(a for a in image["annotations"] if a["id"] == o["id"])["segmentation"], *mask.shape)
            points = np.stack([*np.nonzero(before)[::-1], np.ones(before.sum())])
            u, v, w = matrix @ points
            u, v = u / w, v / w
            there = (u > -0.5) & (u < mask.shape[1] - 0.5) & (v > -0.5) & (v < mask.shape[0] - 0.5)
            x, y, wide, high = o["bbox"]
            grown = 1 + 0.5 * np.abs(np.linalg.det(matrix)) ** 0.5  # a pixel, and half a pixel of an enlarged original
            for value, (lo, hi) in ((u[there], (x, x + wide - 1)), (v[there], (y, y + high - 1))):
                assert abs(value.min() - lo) <= grown and abs(value.max() - hi) <= grown
            found += 1
    assert found >= 12


def test_variants_of_one_image_differ_in_warp_noise_and_caption(tmp_path, annotated):
    one = edited(annotated, tmp_path / "one", lambda data, _: data.update(images=data["images"][:1], annotations=data["annotations"][:1]))
    folder = done(tmp_path / "runs", one, variants=6, steps=2, harmonize=0)
    records = [s.json() for s in folder.samples()]
    assert len({json.dumps(r["warp"]) for r in records}) > 3 and len({r["seed"] for r in records}) == 6
    assert len({r["caption"] for r in records}) == 2


def test_images_without_objects_are_stored_as_they_are(once, annotated):
    record, picture = made(once)["000000001036_v1.jpg"]
    image = Image.open(annotated.images / "000000001036.jpg")
    assert record["unchanged"] and "no object" in record["why"] and record["objects"] == [] and record["caption"] == ""
    assert record["bucket"] is record["drawn"] is record["warp"] is None and record["computed_batch"] == 0
    assert abs(picture.astype(int) - np.asarray(image)).mean() < 1.5
    jpeg = Image.open(io.BytesIO([s.read("jpg") for s in once.samples()][-1]))
    assert jpeg.format == "JPEG" and {layer[1:3] for layer in jpeg.layer} == {(1, 1)}  # colours at full resolution
    assert jpeg.quantization == image.quantization  # both of quality 95


def test_kept_objects_stay_as_the_vae_gives_them_and_the_background_changes(annotated, tmp_path):
    """harmonize=0 against what the VAE alone makes of the warped original."""
    import torch

    folder = pairs_stage(tmp_path, annotated, harmonize=0, steps=10, size="[96,64]", dilate=2, quality=100)
    stage = Pairs(folder)
    stage.check()
    stage.open()
    inside, outside, floor = [], [], []
    for number in range(folder.spec.n_units - 1):  # the last one holds what does not change
        unit = folder.unit(number)
        state = stage.begin(unit)
        pictures = {d.slot: d.picture.pixels() for d in stage.compute(state, range(unit.start, unit.stop))}
        for slot, picture in pictures.items():
            task, facts, config = state.tasks[slot], state.facts[slot], stage.config
            image = pixels((annotated.images / task.image.path).read_bytes())
            height, width = image.shape[:2]
            masks = np.stack([mask_of(a["segmentation"], height, width) for a in objects_of(task.image.annotations, 144, 32**5)])
            warp = draw(config.warp, generator(derive(3, "pairs", task.image.image["file_name"], 0, "warp")))
            original, masks = warped(image, masks, warp)
            laid = canvas.onto(original, facts.drawn, task.image.bucket)
            vae = stage.painter.family.family.pipe.vae
            with torch.inference_mode():
                start = torch.from_numpy(laid).permute(2, 0, 1)[None].float() / 127.5 - 1
                again = vae.decode(vae.encode(start).latent_dist.mode()).sample[0].permute(1, 2, 0)
            again = ((again + 1) * 127.5).clamp(0, 255).round().to(torch.uint8).numpy()
            back = [canvas.back(p, facts.drawn, width, height).astype(int) for p in (picture, again)]
            kept, free = masks.any(0), union(masks, 8) == 0
            inside.append(abs(back[0] - original)[kept].mean())
            floor.append(abs(back[1] - original)[kept].mean())
            if free.mean() > 0.1:
                outside.append(abs(back[0] - original)[free].mean())
    stage.close()
    assert len(inside) == 5 and all(a < 1.5 * b + 1 for a, b in zip(inside, floor, strict=True))
    assert len(outside) >= 3 and np.mean(outside) > 3 * np.mean(floor)


# -- determinism ---------------------------------------------------------------------------------------------------------


def worker(folder, job_idx: int, n_jobs: int, fault: str = "") -> subprocess.Popen:
    """A process of its own: a fork of this one would have the locks of its threads, and nobody to let them go."""
    command = [sys.executable, "-m", "synth.worker", folder.path, "--job-idx", str(job_idx), "--n-jobs", str(n_jobs)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"SYNTHSET_FAULT": fault}, stderr=subprocess.DEVNULL)


def stood_still(child: subprocess.Popen) -> bool:
    """Whether a process stopped by SIGSTOP (False: it ended first)."""
    flags = os.WSTOPPED | os.WEXITED | os.WNOWAIT | os.WNOHANG
    return wait_for(lambda: os.waitid(os.P_PID, child.pid, flags)).si_code == os.CLD_STOPPED


def test_units_have_the_same_bytes_for_two_jobs_at_a_time_after_a_third_was_killed(once, annotated, tmp_path):
    other = pairs_stage(tmp_path, annotated, variants=2)
    assert other.spec.fingerprint == once.spec.fingerprint and other.spec.n_units == 4
    assert worker(other, 1, 3, "after_batch:kill@1").wait(600) == -signal.SIGKILL
    child = worker(other, 0, 3, "after_batch:stop@1")

    def let_go():  # in the middle of its unit, once another one has been made beside it
        wait_for(other.committed)
        child.send_signal(signal.SIGCONT)

    try:
        assert stood_still(child) and not other.committed()
        letting_go = threading.Thread(target=let_go, daemon=True)
        letting_go.start()
        assert work(other, 2, 3) == EXIT_OK
        assert child.wait(600) == EXIT_OK
        letting_go.join()
    finally:
        child.kill()
        child.wait()
    assert len({e["worker"] for e in events(other, "unit")}) == 2  # each made units, and the one that was killed none
    assert other.is_done() and digests(other) == digests(once)


def test_a_unit_that_is_taken_up_in_its_middle_has_the_same_bytes(annotated, tmp_path):
    keys = {"variants": 3, "unit_size": 9, "batch_size": 2, "steps": 2, "harmonize": 0}
    whole, torn = (pairs_stage(tmp_path / n, annotated, **keys) for n in "ab")
    assert work(whole) == EXIT_OK
    assert worker(torn, 0, 1, "after_batch:kill@2").wait(600) == -signal.SIGKILL
    assert not torn.is_whole() and work(torn) == EXIT_OK
    assert digests(torn) == digests(whole)


def test_a_variant_is_the_same_alone_and_in_company(once, annotated, tmp_path):
    """Other images, other variants, another batch: within a grey level, before and after JPEG."""

    def only(data, _):
        data["images"] = [data["images"][k] for k in (4, 1)]
        ids = {i["id"] for i in data["images"]}
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] in ids]

    alone = edited(annotated, tmp_path / "alone", only)
    found, all_of = made(done(tmp_path / "runs", alone, variants=1, batch_size=1)), made(once)
    assert sorted(found) == ["000000001008_v0.jpg", "000000001029_v0.jpg"]
    for name, (record, picture) in found.items():
        other, company = all_of[name]
        assert record | {"computed_batch": 4} == other
        assert abs(picture.astype(int) - company).max() <= 4 and abs(picture.astype(int) - company).mean() < 0.05


def test_a_batch_that_does_not_fit_is_split_with_the_masks_that_belong_to_it(tmp_path, monkeypatch):
    source = scenes.make(tmp_path / "set", 5, size=((64, 48),), seed=4)
    whole = made(done(tmp_path / "a", source, steps=2, harmonize=0))
    small_device(monkeypatch, 4)  # two pictures with guidance
    split = made(done(tmp_path / "b", source, "images.on_oom=split", steps=2, harmonize=0))
    assert {r["computed_batch"] for r, _ in split.values() if not r["unchanged"]} == {2} and sorted(split) == sorted(whole)
    assert all(r["objects"] == whole[name][0]["objects"] for name, (r, _) in split.items())
    assert all(
        abs(p.astype(int) - whole[name][1]).max() <= 4 and abs(p.astype(int) - whole[name][1]).mean() < 0.05
        for name, (_, p) in split.items()
    )


def test_a_unit_depends_on_its_own_images_annotations_and_captions(annotated, tmp_path):
    def inputs(folder):
        stage = Pairs(folder)
        return [stage.unit_inputs(folder.unit(n)) for n in range(folder.spec.n_units)]

    def moved(data, _):
        data["annotations"][0]["category_id"] += 1

    first, same = (inputs(pairs_stage(tmp_path / n, annotated)) for n in "ab")
    other = inputs(pairs_stage(tmp_path / "c", edited(annotated, tmp_path / "d", moved)))
    assert first == same and sum(a != b for a, b in zip(first, other, strict=True)) == 1
    silent = inputs(pairs_stage(tmp_path / "e", replace(annotated, captions=None)))
    assert all(a != b for a, b in zip(first[:-1], silent, strict=False))


def test_a_variant_has_the_same_bytes_whatever_became_of_its_neighbours(annotated, tmp_path):
    """A short batch is drawn as a whole one is: a neighbour that cannot be read takes its own place and no other's."""
    source = scenes.make(tmp_path / "set", 5, size=((64, 48),), seed=4)
    whole, torn = (pairs_stage(tmp_path / n, source, steps=2, harmonize=0) for n in "ab")
    assert work(whole) == EXIT_OK
    gone = sorted(source.images.iterdir())[1]
    gone.unlink()
    assert work(torn) == EXIT_OK
    assert list(tombstones(torn)) == [1]
    expected = {s.key: s.read("jpg") for s in whole.samples() if s.json()["source"] != gone.name}
    assert len(expected) == 4 and {s.key: s.read("jpg") for s in torn.samples()} == expected


def test_only_a_few_batches_of_inputs_are_held(tmp_path):
    source = scenes.make(tmp_path / "set", 6, size=((64, 48),), seed=4)
    folder = pairs_stage(tmp_path, source, variants=2, unit_size=10, batch_size=1, steps=1, noise_strength=1, harmonize=0)
    stage = Pairs(folder)
    stage.check()
    stage.open()
    unit = max((folder.unit(n) for n in range(folder.spec.n_units)), key=len)
    assert len(unit) == 10
    for first in (0, 5):  # the whole unit, and one of which half was there
        state = stage.begin(unit)
        for slot in range(unit.start + first, unit.stop):
            stage.compute(state, range(slot, slot + 1))
            assert len(state.ready) <= BATCHES and len(state.decoded) <= 2
            assert all(s > slot for s in state.ready)
    stage.close()


def test_compiling_must_pay_for_each_size_that_is_drawn(annotated, tmp_path, monkeypatch):
    import synth.images.speed as speed

    asked = []
    monkeypatch.setattr(speed, "prepare", lambda *a, real=speed.prepare, **k: (asked.append(k["slots"]), real(*a, **k))[1])
    folder = pairs_stage(tmp_path, annotated, variants=2)
    assert folder.spec.settings["shapes"] == 2
    stage = Pairs(folder)
    stage.open()
    stage.close()
    assert asked == [6]  # of 12 pictures


# -- odd inputs ----------------------------------------------------------------------------------------------------------


def save(path, image: Image.Image, **how) -> None:
    image.save(path, format=how.pop("format", "JPEG"), **how)


def test_every_picture_that_can_be_read_is_drawn_and_every_other_one_says_why(annotated, tmp_path):
    source = scenes.make(tmp_path / "set", 9, size=((64, 48),), seed=4)
    files = sorted(source.images.iterdir())
    colour = [Image.open(f).convert("RGB") for f in files]
    save(files[1], colour[1].convert("L"))
    save(files[2], colour[2].convert("RGBA"), format="PNG")
    turned = colour[3].transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise
    save(files[3], turned, exif=exif, quality=95)
    save(files[4], colour[4], exif=exif, quality=95)  # stored as declared, whatever EXIF says
    save(files[5], colour[5].resize((63, 48)))
    files[6].write_bytes(files[6].read_bytes()[:-300])
    folder = pairs_stage(tmp_path / "runs", source, "tracking.warp.affine=0", "tracking.warp.perspective=0", "tracking.warp.flip=0",
                         "tracking.warp.colour=0", "tracking.on_bad=drop", harmonize=0, steps=2)  # fmt: skip
    assert b"is 63 x 48 pixels, but 64 x 48 by the annotation file" in (folder.path / "left_out.jsonl").read_bytes()
    files[0].unlink()
    files[7].write_bytes(b"no picture at all"[: files[7].stat().st_size].ljust(files[7].stat().st_size))
    assert work(folder) == EXIT_OK
    found, missing = made(folder), sorted(tombstones(folder).values())
    assert len(found) == 5 and len(missing) == 3
    for file, why in (
        (0, "is not there any more"),
        (6, "cannot be decoded"),
        (7, "changed since the stage was planned (its content did)"),
    ):
        assert any(m.startswith(f"{files[file].name}: ") and why in m for m in missing), (why, missing)
    for k in (1, 2, 3, 4):
        record, picture = found[f"{files[k].stem}_v0.jpg"]
        expected = np.asarray(colour[k].convert("L").convert("RGB") if k == 1 else colour[k]).astype(int)
        kept = np.any([rle.decode(o["segmentation"]) for o in record["objects"]], axis=0)
        assert kept.any() and abs(picture - expected)[kept].mean() < 20, k


def test_a_picture_of_one_column_goes_through(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(200, 1, 3)).save(images / "thin.png")
    box = [[-0.5, 0, 2, 0, 2, 200, -0.5, 200]]
    note = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 1, 200], "area": 200.0, "segmentation": box}
    data = {
        "images": [{"id": 1, "file_name": "thin.png", "width": 1, "height": 200}],
        "annotations": [note],
        "categories": [{"id": 1, "name": "line"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    folder = done(tmp_path / "runs", AnnotatedSet(tmp_path / "a.json", images, None), variants=4, steps=2, harmonize=0)
    found = made(folder)
    assert len(found) == 4 and all(p.shape == (200, 1, 3) for _, p in found.values())
    assert {tuple(r["bucket"]) for r, _ in found.values()} == {(16, 64)} and {tuple(r["drawn"]) for r, _ in found.values()} == {(1, 64)}
    assert {r["caption"] for r, _ in found.values()} == {""} and {r["guidance_scale"] for r, _ in found.values()} == {0.0}


def test_objects_that_leave_the_frame_are_listed_with_zeros(annotated, tmp_path):
    folder = done(tmp_path, annotated, "tracking.warp.affine=1", "tracking.warp.translate=[-1,-1]", "tracking.warp.scale=[1,1]",
                  "tracking.warp.rotate=[0,0]", "tracking.warp.shear=[0,0]", "tracking.warp.perspective=0", steps=2,
                  harmonize=0)  # fmt: skip
    records = [r for r, _ in made(folder).values() if not r["unchanged"]]
    assert len(records) == 5 and all(r["objects"] for r in records)
    for o in (o for r in records for o in r["objects"]):
        assert o["bbox"] == [0, 0, 0, 0] and o["area"] == 0 and not rle.decode(o["segmentation"]).any()


NAMES = [
    "a b.jpg",
    'it\'s "so".jpg',
    "<b>&amp;.jpg",
    "new\nline.jpg",
    "Ünïcode 猫.jpg",
    "sub/deep/er.jpg",
    ".hidden.jpg",
    "two.dots.jpg",
    "-rf.jpg",
]


def test_hostile_file_names_come_through_unchanged(tmp_path):
    source = scenes.make(tmp_path / "set", len(NAMES) + 1, size=((64, 48),))
    data = json.loads(source.annotations.read_text())
    for image, name in zip(data["images"], NAMES, strict=False):
        target = source.images / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (source.images / image["file_name"]).rename(target)
        image["file_name"] = name
    source.annotations.write_text(json.dumps(data))
    found = made(done(tmp_path / "runs", source, steps=2, harmonize=0))
    assert {r["source"] for r, _ in found.values()} >= set(NAMES)
    assert {"er_v0.jpg", "two.dots_v0.jpg", "new\nline_v0.jpg", "Ünïcode 猫_v0.jpg", ".hidden_v0.jpg"} <= set(found)


# -- settings ------------------------------------------------------------------------------------------------------------

CONFIG = PairsConfig(seed=0, model=ModelConfig("tiny"))
BAD = [
    ({"variants": 0}, "tracking.variants=0: must be from 1"), ({"noise_strength": 1.5}, "must be from 0 to 1"),
    ({"harmonize": -1}, "tracking.harmonize=-1"), ({"dilate": -1}, "tracking.dilate=-1"), ({"bucket": 0}, "tracking.bucket=0"),
    ({"quality": 101}, "tracking.quality=101"), ({"warp": WarpConfig(flip=2)}, "tracking.warp.flip=2: must be from 0 to 1"),
    ({"warp": WarpConfig(scale=(0.0, 1.0))}, r"tracking.warp.scale=\[0, 1\]: must be \[low, high\], both from 0.05 to 20"),
    ({"warp": WarpConfig(rotate=(30, -30))}, "tracking.warp.rotate"), ({"warp": WarpConfig(shear=(-90, 0))}, "tracking.warp.shear"),
    ({"warp": WarpConfig(distortion=(0.1,))}, "tracking.warp.distortion"),
    ({"warp": WarpConfig(contrast=(float("nan"), 0))}, "tracking.warp.contrast"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "why"), BAD, ids=[str(c) for c, _ in BAD])
def test_bad_settings_are_named(changes, why):
    check(CONFIG, "tracking")
    with pytest.raises(InputError, match=why):
        check(replace(CONFIG, **changes), "tracking")


def test_the_model_says_in_how_many_last_steps_objects_are_drawn_along(annotated, tmp_path):
    def planned(*overrides, **keys):
        return pairs_stage(tmp_path, annotated, *overrides, steps=10, **keys).spec.config["harmonize"]

    assert planned(harmonize="null") == 0  # the tiny one's
    assert planned("model.native_pair_harmonize=2", harmonize="null") == 2
    assert planned(harmonize=3) == 3
    with pytest.raises(InputError, match=r"tracking\.harmonize=7"):
        planned(harmonize=7)


def test_a_worker_whose_images_are_gone_as_a_whole_says_so(annotated, tmp_path):
    moved = edited(annotated, tmp_path / "set", lambda data, images: None)
    folder = pairs_stage(tmp_path / "runs", moved)
    shutil.rmtree(moved.images)
    assert work(folder) not in (EXIT_OK, EXIT_BAD_INPUT) and not folder.is_done()
