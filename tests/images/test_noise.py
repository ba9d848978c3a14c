"""A call of a pipeline is a function of its arguments: nothing of one call is left for the next."""

import contextlib
import os
import subprocess
import sys
from typing import ClassVar

import pytest
import torch

from synth.images.noise import as_found
from synth.images.pipeline import open_family
from synth.numerics import EXACT, environment
from synth.seeds import torch_generator
from tests.configs import ImagesConfig, ModelConfig
from tests.fixtures_images import judged

CONFIG = ImagesConfig(0, ModelConfig("tiny"), steps=2, height=16, width=16)


@pytest.mark.parametrize("start", [None, torch.full((1, 3, 16, 16), 0.5)], ids=["from noise", "from a picture"])
def test_a_call_leaves_the_scheduler_as_it_found_it(start, tiny_sd):
    """Noise is put on a picture with tables that diffusers moves to the GPU for good: later pictures would be rounded otherwise."""
    family = open_family(judged({"model": tiny_sd}, CONFIG), CONFIG, EXACT, 1)
    before = dict(vars(family.pipe.scheduler))
    (item,) = family.embed(["a fox"])
    with torch.inference_mode():
        family.draw([item], [torch_generator(0)], start, 0.5)
    after = vars(family.pipe.scheduler)
    assert after.keys() == before.keys() and all(after[name] is value for name, value in before.items())


def test_whatever_becomes_of_a_call_all_schedulers_of_a_chain_are_as_before():
    class Scheduler:
        def __init__(self):
            self.table = torch.ones(2)

    class Pipe:
        components: ClassVar = {"scheduler": Scheduler(), "prior_scheduler": Scheduler(), "feature_scheduler": None, "unet": object()}

    tables = [Pipe.components[name].table for name in ("scheduler", "prior_scheduler")]
    with contextlib.suppress(RuntimeError), as_found(Pipe()):
        for name in ("scheduler", "prior_scheduler"):
            Pipe.components[name].table = torch.ones(2).double()
            Pipe.components[name].more = 1
        raise RuntimeError
    for name, table in zip(("scheduler", "prior_scheduler"), tables, strict=True):
        assert vars(Pipe.components[name]) == {"table": table}


def test_nothing_is_fused_after_it_ran_plainly_once():
    """TorchScript's second run of a function is another one than its first; ChatGLM, of Kolors, is written in it."""
    code = "from diffusers.pipelines.kolors import text_encoder as t; import torch; "
    code += "print(isinstance(t.apply_rotary_pos_emb, torch.jit.ScriptFunction))"

    def scripted(**more: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | more, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert scripted(**environment(EXACT)) == "False" and scripted(PYTORCH_JIT="1") == "True"
