"""The captions stage on the hf engine: bytes do not depend on who computed them; a long prompt is one sample's matter."""

import shutil

from synth.run import loop
from synth.store.folder import StageFolder
from tests.fixtures_images import full
from tests.stages import digests


def planned(path, model, *more):
    from launch.config.compose import Composer, typed
    from launch.plan.graph import plan_point

    few = ["dataset.classes=0..2", "captions.total=12", "captions.oversample=1", "captions.unit_size=3", "captions.window=3"]
    overrides = [
        "captioner=hf",
        f"captioner.path={model}",
        "captioner.dtype=float32",
        "captioner.max_gen_len=20",
        *few,
        *more,
        f"runs_dir={path}/runs",
    ]
    stage = next(s for s in plan_point(typed(Composer().compose(overrides))).stages if s.spec.kind == "captions")
    return StageFolder.create(stage.dataset_root, stage.spec)


def test_units_are_the_same_for_any_number_and_order_of_workers(tmp_path, embedded_model):
    one, three = planned(tmp_path / "one", embedded_model), planned(tmp_path / "three", embedded_model)
    assert loop.Worker(one, 0, 1).run() == 0
    for job in (2, 0, 1):
        assert loop.Worker(three, job, 3).run() == 0
    assert digests(one) == digests(three) and len(digests(one)) == 4
    assert one.done()["samples"] >= 10


def test_prompts_without_room_are_tombstones_with_their_reason(tmp_path, embedded_model):
    folder = planned(tmp_path, embedded_model, "captioner.max_seq_len=65", "captions.max_attempts=1")
    assert loop.Worker(folder, 0, 1).run() == 0
    why = {slot: text for u in range(4) for slot, text in folder.reader(u).index.tombstones.items()}
    assert "prompt_too_long" in why.values() and folder.is_done() and not folder.failures()


def test_weights_that_give_nan_end_the_worker_as_bad_input(tmp_path, embedded_model, capsys):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(embedded_model, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["lm_head.weight"][5, 5] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    folder = planned(tmp_path, broken)
    assert loop.Worker(folder, 0, 1).run() == 65
    assert "broken: the model's logits are not finite" in capsys.readouterr().err and not folder.committed()


def test_memory_that_runs_out_is_the_plan_s_or_the_device_s_fault_and_no_unit_s(tmp_path, embedded_model, monkeypatch, capsys):
    import torch

    from synth.captions.hf.generate import Decoder

    folder = planned(tmp_path, embedded_model)
    for ours, code, said in ((75, 65, "is free and has 80.0 GiB"), (20, 75, "others hold 59.9 of the device's 80.0 GiB")):

        def no_room(self, rows, ours=ours):
            raise torch.OutOfMemoryError(full(80, ours=ours))

        monkeypatch.setattr(Decoder, "batch", no_room)
        assert loop.Worker(folder, 0, 1).run() == code
        err = capsys.readouterr().err
        assert said in err and "lower captioner.max_batch_size" in err and folder.failures() == {}
