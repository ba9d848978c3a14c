"""LoRAs that are trained on a GPU: the same bytes in two processes."""

import pytest
import torch

from tests.bench.shapes import build
from tests.gpu.test_others import twice
from tests.images import tiny
from tests.images.pictures import image_folder
from tests.lora.planned import CLASSES, stages

SIZE = ("images.height=64", "images.width=64", "lora.steps=12", "lora.save_every=6", "lora.batch_size=4", "lora.rank=4")


@pytest.mark.cuda_only
@pytest.mark.parametrize("more", [(), ("lora.checkpointing=true",), ("lora.dtype=float32",)], ids=["auto", "checkpointing", "float32"])
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_training_has_the_same_bytes_in_another_process(name, more, on, second, tmp_path):
    model = tiny.build(name, tmp_path / name)
    real = image_folder(tmp_path / "real", CLASSES, each=4)
    keys = (*SIZE, *more, "model=sdxl" if name == "sdxl" else "model=sd15")
    folder = twice(lambda root: stages(root, model, real, *keys)["lora"], second, tmp_path, on)
    losses = [s.json()["loss"] for s in folder.samples()]
    assert len(losses) == 6 and all(0 < loss < 10 for loss in losses)


@pytest.mark.cuda_only
@pytest.mark.parametrize("more", [(), ("lora.dtype=float32",)], ids=["auto", "float32"])
def test_a_training_at_the_shapes_of_stable_diffusion_has_the_same_bytes_twice(more, on, second, tmp_path):
    """4,096 pixels of a latent: there fused attention adds up its gradients in many pieces."""
    model = build("sd15", tmp_path / "sd15", "cuda", "bfloat16")
    real = image_folder(tmp_path / "real", CLASSES[:1], each=4)
    keys = ("images.height=512", "images.width=512", "lora.steps=4", "lora.save_every=2", "lora.batch_size=4", "dataset.classes=[0]")
    twice(lambda root: stages(root, model, real, *keys, *more, "model=sd15")["lora"], second, tmp_path, on)
    print(f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB of live tensors")
