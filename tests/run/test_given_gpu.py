"""A worker that was given a GPU which torch cannot use ends and says why: it never computes on the CPU in silence."""

import pytest
import torch

from synth.captions.hf.engine import HfEngine
from synth.captions.llama import ranks
from synth.errors import EXIT_AGAIN, EXIT_BAD_INPUT, EXIT_OK, InputError
from synth.host import gpu
from synth.numerics import EXACT
from synth.run.loop import Worker
from tests.captions import tiny_hf
from tests.configs import CaptionerConfig
from tests.fixtures_images import images_stage
from tests.stages import events


@pytest.fixture
def blind(monkeypatch):
    """A torch that finds no GPU, as the one for CPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", None)


def test_a_torch_for_cpus_ends_a_worker_of_images_as_bad_input(table, tiny_sd, blind, monkeypatch):
    folder = images_stage(table.path.parent, table, tiny_sd, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert Worker(folder, 0, 1).run() == EXIT_BAD_INPUT
    (stop,) = events(folder, "stop")
    assert "CUDA_VISIBLE_DEVICES=0" in stop["why"] and "built for CPUs alone" in stop["why"] and not folder.committed()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Worker(folder, 0, 1).run() == EXIT_OK and folder.is_done()


def test_a_gpu_that_does_not_answer_ends_a_worker_that_may_be_started_elsewhere(table, tiny_sd, blind, monkeypatch):
    def init():
        raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment.")

    folder = images_stage(table.path.parent, table, tiny_sd, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    assert Worker(folder, 0, 1).run() == EXIT_AGAIN
    (stop,) = events(folder, "stop")
    assert "CUDA unknown error" in stop["why"] and not folder.failures()


def test_captioners_refuse_a_gpu_that_torch_cannot_use(tmp_path, blind, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    engine = HfEngine(CaptionerConfig(engine="hf", max_seq_len=128), tiny_hf.save(tmp_path / "hf"), EXACT)
    for start in (engine.start, lambda: ranks.pick_device("auto", 0, 1)):
        with pytest.raises(InputError, match="built for CPUs alone"):
            start()


def test_ranks_need_a_gpu_each_and_take_their_own(blind, monkeypatch):
    assert ranks.pick_device("cpu", 0, 2).type == "cpu"
    with pytest.raises(InputError, match="2 GPUs, 0 visible"):
        ranks.pick_device("cuda", 0, 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match=r"2 GPUs, 1 visible: .*llama\.reshard"):
        ranks.pick_device("auto", 0, 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    assert [ranks.pick_device("auto", rank, 2) for rank in (0, 1)] == taken == [torch.device("cuda", rank) for rank in (0, 1)]


def test_captions_in_bfloat16_are_computed_in_float16_where_it_is_emulated(tmp_path, monkeypatch):
    engine = HfEngine(CaptionerConfig(engine="hf", max_seq_len=128, dtype="bfloat16"), tiny_hf.save(tmp_path / "hf"), EXACT)
    monkeypatch.setattr(gpu, "half_dtype", lambda on: torch.float16)
    engine.start()
    assert engine.model.dtype == torch.float16
