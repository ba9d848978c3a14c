"""The stage `lora`: a unit a LoRA; taken up anywhere it gives the same bytes, and diffusers reads what it makes."""

import errno
import json
import os
import shutil
import signal

import pytest

from launch.plan.loras import SUFFIX
from launch.verify import verify
from synth import numerics
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError, OutOfDeviceMemory, StoreError
from synth.lora import training
from synth.lora.stage import LISTING, PLACE, Lora
from synth.lora.training import Trainer
from synth.store.folder import StageFolder
from tests.faults.farm import Child
from tests.fixtures_images import digests, small_device, work
from tests.images.pictures import image_folder, picture
from tests.lora.planned import CLASSES, stages
from tests.stages import events

MIDDLE = "after_batch:kill@2"  # behind the second leg of the first LoRA


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return image_folder(tmp_path_factory.mktemp("real") / "train", CLASSES, each=5)


@pytest.fixture(scope="module")
def once(tiny_sd, real, tmp_path_factory):
    folder = stages(tmp_path_factory.mktemp("once"), tiny_sd, real)["lora"]
    assert work(folder) == EXIT_OK
    return folder


def test_each_class_gets_a_file_that_diffusers_reads_and_that_changes_the_attention_of_the_unet(once, tiny_sd):
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    names = sorted(p.name for p in once.out_dir.iterdir() if p.suffix == SUFFIX)
    assert names == ["cat.safetensors", "owl.safetensors", "red_fox.safetensors"]
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd)
    pipe.load_lora_weights(str(once.out_dir), weight_name="owl.safetensors")
    tensors = {name: load_file(once.out_dir / name) for name in names}
    layers = [m for m in pipe.unet.modules() if hasattr(m, "lora_A")]
    assert len(layers) * 2 == len(tensors["owl.safetensors"]) > 0
    assert all((t != 0).any() for of in tensors.values() for n, t in of.items() if "lora_B" in n), "every layer was trained"
    assert any((tensors[names[0]][n] != tensors[names[1]][n]).any() for n in tensors[names[0]])


def test_records_say_what_each_lora_was_made_of(once):
    told = [s.json() for s in once.samples()]
    assert [(t["lora"], t["step"]) for t in told[:4]] == [("cat", 2), ("cat", 4), ("cat", 5), ("red_fox", 2)]
    assert ["files" in t for t in told] == [False, False, True] * 3
    last = told[2]
    assert len(last["pictures"]) == 3 == len(set(last["pictures"])) and all(name.startswith("cat/") for name in last["pictures"])
    assert last["left_out"] == [] and all(t["loss"] > 0 for t in told)
    assert json.loads((once.out_dir / LISTING).read_text())["cat.safetensors"] == last
    assert not (once.path / PLACE).exists(), "what lay between two legs goes when all is trained"


def test_any_number_of_jobs_and_a_kill_in_the_middle_of_a_training_give_the_same_bytes(once, tiny_sd, real, tmp_path):
    shared = stages(tmp_path / "a", tiny_sd, real)["lora"]
    assert [work(shared, i, 3) for i in (2, 0, 1)] == [EXIT_OK] * 3
    killed = stages(tmp_path / "b", tiny_sd, real)["lora"]
    assert Child(killed, env={}, fault=MIDDLE).wait(240) == -signal.SIGKILL
    assert list((killed.path / PLACE).iterdir()), "what the two legs trained was kept"
    assert work(killed) == EXIT_OK
    lost = stages(tmp_path / "c", tiny_sd, real)["lora"]
    assert Child(lost, env={}, fault=MIDDLE).wait(240) == -signal.SIGKILL
    shutil.rmtree(lost.path / PLACE)
    assert work(lost) == EXIT_OK
    assert digests(shared) == digests(killed) == digests(lost) == digests(once)


def test_what_was_kept_is_taken_up_and_not_trained_again(once, tiny_sd, real, tmp_path):
    running = Lora(stages(tmp_path, tiny_sd, real)["lora"])
    running.open()
    unit = running.folder.unit(0)
    course = running.begin(unit)
    course.leg(0)
    taken_up = running.begin(unit)
    taken_up.training._step = lambda: pytest.fail("it was trained again")
    taken_up.go_to(1)
    assert taken_up.training.done == 2
    torn = course.path.read_bytes()[:-9]
    course.path.write_bytes(torn)
    again = running.begin(unit)
    again.go_to(1)
    files = [files for _, files in running.compute(again, range(1, 2)) + running.compute(again, range(2, 3))]
    assert files == [{ext: s.read(ext) for ext in s.exts} for s in once.samples(1, 3)]


def test_pictures_that_cannot_be_read_are_left_out_by_name_and_others_take_their_place(once, real, tiny_sd, tmp_path):
    shutil.copytree(real, tmp_path / "real")
    chosen = next(s.json()["pictures"] for s in once.samples(2, 3))
    (tmp_path / "real" / chosen[0]).write_bytes(b"<html>not found</html>")
    (tmp_path / "real" / chosen[1]).write_bytes(picture(3)[:60])
    folder = stages(tmp_path, tiny_sd, tmp_path / "real")["lora"]
    assert work(folder) == EXIT_OK
    told = next(s.json() for s in folder.samples(2, 3))
    assert len(told["pictures"]) == 3 and not set(told["pictures"]) & set(chosen[:2])
    assert [bad["picture"] for bad in told["left_out"]] == chosen[:2] and all(bad["reason"] for bad in told["left_out"])


def test_a_class_without_any_picture_that_can_be_read_is_bad_input(real, tiny_sd, tmp_path):
    shutil.copytree(real, tmp_path / "real")
    for file in (tmp_path / "real" / "owl").iterdir():
        file.write_bytes(b"<html>not found</html>")
    folder = stages(tmp_path, tiny_sd, tmp_path / "real", "lora.scope=all")["lora"]
    child = Child(folder, env={})
    assert child.wait(240) == EXIT_BAD_INPUT
    assert "none of the 5 pictures of class 'owl' can be read (owl/" in child.log.read_text()


def test_a_source_that_is_not_mounted_is_no_fact_about_its_pictures(real, tiny_sd, tmp_path):
    shutil.copytree(real, tmp_path / "real")
    folder = stages(tmp_path, tiny_sd, tmp_path / "real")["lora"]
    shutil.rmtree(tmp_path / "real")
    with pytest.raises(StoreError, match=r"lora\.real: .*real is not there; mount it"):
        Lora(folder).check()


def test_a_step_that_does_not_fit_says_what_to_lower(real, tiny_sd, tmp_path, monkeypatch):
    running = Lora(stages(tmp_path, tiny_sd, real)["lora"])
    running.open()
    course = running.begin(running.folder.unit(0))
    small_device(monkeypatch, 1)
    with pytest.raises(OutOfDeviceMemory, match=r"lower lora\.batch_size, or set lora\.checkpointing=true"):
        course.leg(0)


def test_checkpointing_changes_nothing_but_memory(once, tiny_sd, real, tmp_path):
    folder = stages(tmp_path, tiny_sd, real, "lora.checkpointing=true")["lora"]
    assert work(folder) == EXIT_OK
    losses = [[s.json()["loss"] for s in stage.samples()] for stage in (folder, once)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_verify_looks_at_the_files(once, tmp_path):
    shutil.copytree(once.path.parent, tmp_path / "runs", symlinks=True)
    folder = StageFolder.open(tmp_path / "runs" / once.path.name)

    def problems() -> list[str]:
        return [str(p) for found, _ in verify(folder.path, True, False, lambda *_: None) for p in found]

    assert problems() == []
    file = folder.out_dir / "owl.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    (problem,) = problems()
    assert f"{file}: is not the LoRA of its unit" in problem
    file.unlink()
    (problem,) = problems()
    assert f"{file}: missing" in problem


def test_weights_in_half_precision_are_trained_beside_in_float32(tiny_sd, real, tmp_path):
    """As on a GPU: a CPU computes bfloat16 too, where it is told to."""
    import torch

    running = Lora(stages(tmp_path, tiny_sd, real)["lora"])
    trainer = Trainer(running.model, running.config, numerics.changed(numerics.EXACT, dtype="bfloat16"))
    assert trainer.unet.dtype is torch.bfloat16 and {p.dtype for p in trainer.trained.values()} == {torch.float32}
    running.trainer = trainer
    facts = [json.loads(running.begin(running.folder.unit(0)).leg(0)["json"]) for _ in range(2)]
    assert facts[0] == facts[1] and 0 < facts[0]["loss"] < 10 and facts[0]["dtype"] == "bfloat16"


def test_more_classes_train_what_is_missing_alone(once, tiny_sd, real, tmp_path, monkeypatch):
    few = stages(tmp_path, tiny_sd, real, "dataset.classes=[cat,owl]")["lora"]
    assert work(few) == EXIT_OK
    all_of = stages(tmp_path, tiny_sd, real)["lora"]
    begun, begin = [], Trainer.begin
    monkeypatch.setattr(Trainer, "begin", lambda self, name, *more: begun.append(name) or begin(self, name, *more))
    assert work(all_of) == EXIT_OK
    assert begun == ["red_fox"] and digests(all_of) == digests(once)
    assert sum(e.get("taken_over", 0) for e in events(all_of, "stop")) == 6
    other = stages(tmp_path, tiny_sd, real, "dataset.classes=[cat]", "lora.seed=5")["lora"]
    assert work(other) == EXIT_OK and begun == ["red_fox", "cat"], "another training is another LoRA"


def full_disk() -> None:
    """From here on nothing between two legs can be stored."""

    def refuse(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    training.write_atomic = refuse


def test_a_full_disk_is_nothing_that_a_lora_is_to_blame_for(once, tiny_sd, real, tmp_path):
    folder = stages(tmp_path, tiny_sd, real)["lora"]
    assert Child(folder, env={}, patch=full_disk).wait(240) == EXIT_AGAIN
    assert not folder.set_aside() and work(folder) == EXIT_OK and digests(folder) == digests(once)


def test_without_peft_it_says_what_to_install(tiny_sd, real, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"lora\.real: needs the package peft: pip install -e '\.\[lora\]'"):
        Lora(stages(tmp_path, tiny_sd, real)["lora"]).check()
