"""The adapter for GLIDE in docs/external.md: its protocol, with a stand-in for the library, of which only the calls are real."""

import json
import os
import re
import subprocess
import sys

import pytest
from PIL import Image

from tests.containers.standin import ROOT

LIBRARY = """
import torch

class Tokenizer:
    def encode(self, text):
        return [ord(c) for c in text]

    def padded_tokens_and_mask(self, tokens, length):
        return (tokens + [0] * length)[:length], [n < len(tokens) for n in range(length)]

class Model(torch.nn.Linear):
    tokenizer = Tokenizer()

    def convert_to_fp16(self): ...

    def del_cache(self): ...

    def forward(self, x, t, tokens, mask, low_res=None):
        if low_res is None:
            return torch.cat([x + tokens.float().mean(1).view(-1, 1, 1, 1) / 100, x], dim=1)
        return torch.nn.functional.interpolate(low_res, x.shape[2:]) + x / 100

class Diffusion:
    def p_sample_loop(self, model, shape, device, clip_denoised, model_kwargs):
        return torch.tanh(model(torch.randn(shape), None, **model_kwargs)[:, :3])

    def ddim_sample_loop(self, model, shape, noise, device, clip_denoised, model_kwargs):
        return torch.tanh(model(noise, None, **model_kwargs))

def model_and_diffusion_defaults():
    return {"text_ctx": 128}

model_and_diffusion_defaults_upsampler = model_and_diffusion_defaults

def create_model_and_diffusion(text_ctx, use_fp16, timestep_respacing):
    return Model(1, 1), Diffusion()
"""


@pytest.fixture
def said(tmp_path):
    """Its answers to requests."""
    import torch

    (tmp_path / "glide_text2im").mkdir()
    (tmp_path / "glide_text2im" / "model_creation.py").write_text(LIBRARY)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "external.md").read_text(), re.DOTALL)
    (tmp_path / "draw_glide.py").write_text(next(block for block in blocks if "glide_text2im" in block))
    for name in ("base.pt", "upsample.pt"):
        torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / name)

    def ask(*requests: dict) -> list[dict]:
        nothing = {"negative_prompt": "", "seed": 2**64 - 1, "width": 256, "height": 256, "steps": 100, "guidance_scale": 4.0}
        lines = [json.dumps({"id": n, "out": str(tmp_path / f"{n}.png")} | nothing | r) for n, r in enumerate(requests)]
        env = os.environ | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
        words = [sys.executable, tmp_path / "draw_glide.py", tmp_path]
        done = subprocess.run(words, input="\n".join(lines) + "\n", env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def test_a_picture_is_of_its_prompt_and_seed_and_what_glide_cannot_is_refused(said, tmp_path):
    panda, car = {"prompt": "a red panda"}, {"prompt": "a green car"}
    hello, *answers = said(panda, car, panda, panda | {"steps": 50}, panda | {"negative_prompt": "blur"}, panda | {"width": 512})
    assert hello == {"hello": "synthset-external", "version": 1} and answers[:3] == [{"id": 0}, {"id": 1}, {"id": 2}]
    assert [a["id"] for a in answers[3:]] == [3, 4, 5] and all("GLIDE takes no negative prompt" in a["error"] for a in answers[3:])
    drawn = [Image.open(tmp_path / f"{n}.png") for n in range(3)]
    assert all(image.size == (256, 256) for image in drawn)
    assert drawn[0].tobytes() == drawn[2].tobytes() != drawn[1].tobytes()
