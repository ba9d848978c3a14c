"""The images stage through the real worker, on diffusers' own classes with random weights."""

import io
import signal

import numpy as np
import pytest
from PIL import Image

from synth.errors import EXIT_BAD_INPUT, EXIT_OK
from synth.kinds import config_of
from synth.numerics import FAST
from synth.seeds import derive
from synth.store.folder import StageFolder
from tests.faults.farm import Child
from tests.fixtures_images import CLASSES, captions_json_stage, captions_stage, digests, images_stage, work
from tests.stages import events


def pixels(folder, ext="png") -> dict[int, np.ndarray]:
    return {s.slot: np.asarray(Image.open(io.BytesIO(s.read(ext)))).astype(int) for s in folder.samples()}


def records(folder) -> list[dict]:
    return [s.json() for s in folder.samples()]


def copy_of(table, root):
    """The same captions in another runs folder, so that stages do not link each other's units."""
    captions = [r for up in table.upstream("captions") for r in [s.json() for s in up.samples()]]
    folder = captions_json_stage(root, [captions_stage(root, captions)], config_of(table).total)
    assert work(folder) == EXIT_OK
    return folder


@pytest.fixture(scope="module")
def once_table(tmp_path_factory):
    """As the fixture `table`, for the whole module."""
    root = tmp_path_factory.mktemp("once") / "runs" / "toys"
    folder = captions_json_stage(root, [captions_stage(root, [f"a picture of {CLASSES[k % 5]} number {k}" for k in range(10)])], 10)
    assert work(folder) == EXIT_OK
    return folder


def twenty(table, tiny_sd, batch=4) -> StageFolder:
    return images_stage(table.path.parent, table, tiny_sd, 20, unit_size=6, batch=batch, per_caption=2)


@pytest.fixture(scope="module")
def once(once_table, tiny_sd):
    folder = twenty(once_table, tiny_sd)
    assert work(folder) == EXIT_OK
    return folder


def test_units_have_the_same_bytes_for_any_number_of_jobs_at_once(once, once_table, tiny_sd, tmp_path):
    other = twenty(copy_of(once_table, tmp_path / "b"), tiny_sd)
    workers = [Child(other, i, 3, env={}) for i in (2, 0, 1)]
    assert [w.wait(240) for w in workers] == [EXIT_OK] * 3
    assert other.is_done() and digests(other) == digests(once)


def test_a_killed_worker_is_continued_to_the_same_bytes(once, once_table, tiny_sd, tmp_path):
    other = twenty(copy_of(once_table, tmp_path / "b"), tiny_sd)
    assert Child(other, env={}, fault="after_batch:kill@3").wait(240) == -signal.SIGKILL
    assert not other.is_whole()
    assert work(other) == EXIT_OK and other.is_done()
    assert digests(other) == digests(once)


def test_batch_size_changes_no_pixel_by_more_than_one_grey_level(once, once_table, tiny_sd):
    single = twenty(once_table, tiny_sd, batch=1)
    assert work(single) == EXIT_OK
    a, b = pixels(once), pixels(single)
    assert a.keys() == b.keys() == set(range(20))
    assert max(abs(a[k] - b[k]).max() for k in a) <= 1
    assert all((a[2 * k] != a[2 * k + 1]).any() for k in range(10)), "replicas of one caption must differ"


@pytest.mark.parametrize("scheduler", ["default", "ddim", "pndm", "dpm++2m", "euler", "unipc", "lcm"])
def test_every_scheduler_draws_the_same_picture_in_any_batch(scheduler, table, tiny_sd, tmp_path):
    root, found = tmp_path / "runs" / "toys", []
    for batch in (1, 4):
        folder = images_stage(root, table, tiny_sd, 4, batch=batch, scheduler=scheduler, steps=3)
        assert work(folder) == EXIT_OK
        found.append(pixels(folder))
    assert max(abs(found[0][k] - found[1][k]).max() for k in range(4)) <= 1
    assert records(folder)[0]["scheduler"].endswith("Scheduler")


def test_metadata_says_everything(once):
    keys, found = zip(*((s.key, s.json()) for s in once.samples()), strict=True)
    assert keys == tuple(f"{slot:09d}" for slot in range(20))
    record = found[7]
    row = 3
    caption_seed = derive(0, "captions", row, 0)
    assert record == {
        "caption": 'a picture of say "cheese" number 3', "class": 'say "cheese"', "label": 3, "labels": [3],
        "label_names": ['say "cheese"'],
        "caption_row": row, "caption_seed": caption_seed, "replica": 1, "seed": derive(3, "images", caption_seed, 1), "truncated": False,
        "model": "tiny", "model_digest": once.spec.inputs["model"].identity, "model_parts": {}, "scheduler": "DDIMScheduler", "steps": 2,
        "guidance_scale": 2.0, "guidance_interval": [0.0, 1.0], "computed_batch": 4, "negative_prompt": "", "eta": 0.0,
        "safety_checker": "off", "blanked": False, "width": 16, "height": 16, "computed_width": 16, "computed_height": 16,
        "format": "png", "numerics": "exact", "device": "cpu", "dtype": "float32",
    }  # fmt: skip


@pytest.mark.parametrize(("ext", "kind"), [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")])
def test_formats_and_sizes(ext, kind, table, tiny_sd, tmp_path):
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 2, format=ext, width=24, save_size=8)
    assert work(folder) == EXIT_OK
    for stored in folder.samples():
        assert set(stored.exts) == {ext, "json"}
        image = Image.open(io.BytesIO(stored.read(ext)))
        assert (image.format, image.size, image.mode, dict(image.getexif())) == (kind, (12, 8), "RGB", {})
        assert (stored.json()["width"], stored.json()["height"]) == (12, 8)


HOSTILE = [
    "",
    " ",
    "x " * 5000,
    "a\x00b\x1b[31m\r\n\t",
    "\u202egnp.exe",
    "caf\u00e9 \U0001f43c \u96ea",
    "<script>'\"%s{}</script>",
    "word " * 100,
]


def test_no_caption_breaks_a_unit(tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    table = captions_json_stage(root, [captions_stage(root, HOSTILE)], 20, allow_short=True)
    assert work(table) == EXIT_OK
    folder = images_stage(root, table, tiny_sd, 20, unit_size=20)
    assert work(folder) == EXIT_OK
    found = {s.json()["caption"]: s.json()["truncated"] for s in folder.samples()}
    assert found == {c: len(c) > 400 for c in HOSTILE if c != " "}  # "" and " " are duplicates
    with folder.reader(0) as reader:
        assert set(reader.index.tombstones) == set(range(7, 20))
        assert set(reader.index.tombstones.values()) == {"no caption: the captions stage came out short"}


@pytest.mark.parametrize(("scale", "rows"), [(1.0, 4), (0.0, 4), (2.0, 8)])
def test_guidance_of_one_or_less_skips_the_unconditional_half(scale, rows, table, tiny_sd, tmp_path, monkeypatch):
    from diffusers import UNet2DConditionModel

    seen, forward = [], UNet2DConditionModel.forward
    monkeypatch.setattr(UNet2DConditionModel, "forward", lambda self, x, *a, **k: (seen.append(x.shape[0]), forward(self, x, *a, **k))[1])
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 6, unit_size=6, guidance_scale=scale)
    assert work(folder) == EXIT_OK
    assert seen == [rows] * 4  # two batches of two steps; the short one is padded to the same shape


def test_text_is_encoded_once_a_unit_and_the_negative_prompt_once_a_worker(table, tiny_sd, tmp_path, monkeypatch):
    from transformers import CLIPTextModel

    seen, forward = [], CLIPTextModel.forward
    monkeypatch.setattr(CLIPTextModel, "forward", lambda self, *a, **k: (seen.append(a[0].shape[0]), forward(self, *a, **k))[1])
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 20, unit_size=10, batch=4, per_caption=5, negative_prompt="blurry")
    assert work(folder) == EXIT_OK
    assert seen == [4, 4, 4]  # units of two distinct captions each, and the negative prompt


def test_a_smaller_run_s_units_are_reused_by_a_larger_one(tiny_sd, tmp_path):
    root = tmp_path / "runs" / "toys"
    source = captions_stage(root, [f"caption {k}" for k in range(12)])
    for total in (4, 12):
        table = captions_json_stage(root, [source], total)
        assert work(table) == EXIT_OK
        folder = images_stage(root, table, tiny_sd, total)
        assert work(folder) == EXIT_OK
    events = "".join(p.read_text() for p in (folder.path / "events").glob("*.jsonl"))
    assert events.count('"event": "linked"') == 1 and events.count('"event": "unit"') == 2


def test_values_that_are_not_finite_become_tombstones_not_black_pictures(table, tiny_sd, tmp_path, monkeypatch):
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def spoiled(self, z, *args, **kwargs):
        out = decode(self, z, *args, **kwargs)
        out[0][1] = float("nan")
        return out

    monkeypatch.setattr(AutoencoderKL, "decode", spoiled)
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 4)
    assert work(folder) == EXIT_OK
    with folder.reader(0) as reader:
        assert list(reader.index.tombstones) == [1] and "not finite" in reader.index.tombstones[1]


def test_a_model_that_draws_nothing_finite_ends_the_worker_instead_of_an_empty_set(table, tiny_sd, tmp_path, monkeypatch, capsys):
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def spoiled(self, z, *args, **kwargs):
        out = decode(self, z, *args, **kwargs)
        out[0][:] = float("nan")
        return out

    monkeypatch.setattr(AutoencoderKL, "decode", spoiled)
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 4, run={"stop_when_empty": 16})
    assert work(folder) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "none of its first" in said and "not finite" in said and "model.dtype=float32" in said
    assert not folder.is_done() and not folder.set_aside()


def test_out_of_memory_comes_with_advice(table, tiny_sd, tmp_path, monkeypatch):
    import torch
    from diffusers import UNet2DConditionModel

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(UNet2DConditionModel, "forward", full)
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 4)
    assert work(folder) == 75  # nothing says how much memory there is: another device shall say whether the plan is at fault
    (stop,) = events(folder, "stop")
    assert "Device to avoid" in stop["why"] and "lower images.batch_size" in stop["why"] and folder.failures() == {}


def test_a_pipeline_without_an_adapter_gets_the_captions_themselves(table, tiny_sd, tmp_path, monkeypatch):
    from synth.images import families

    folders = []
    for known in (True, False):
        if not known:
            monkeypatch.setattr(families, "FAMILIES", {})
        folders.append(
            images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 4, seed=3, negative_prompt="blurry", unit_size=4 + (not known))
        )
        assert work(folders[-1]) == EXIT_OK
    a, b = map(pixels, folders)
    assert max(abs(a[k] - b[k]).max() for k in range(4)) <= 1


def test_fast_numerics_draw_too_and_say_so(table, tiny_sd, tmp_path):
    folder = images_stage(tmp_path / "runs" / "toys", table, tiny_sd, 2, numerics=FAST)
    assert work(folder) == EXIT_OK
    assert (records(folder)[0]["numerics"], records(folder)[0]["compiled"]) == ("fast", "none")
