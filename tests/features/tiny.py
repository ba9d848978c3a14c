"""A tiny random DINOv2 of transformers' own class, saved to a folder. Others: tests.fixtures_clip and tests.layout.towers."""

import json
from pathlib import Path


def build_tiny_dinov2(path: Path, side: int = 28, registers: bool = False) -> Path:
    """Dinov2Model for pictures of `side` pixels; features of 32 numbers."""
    import torch
    from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    torch.manual_seed(3)
    config, model = (Dinov2WithRegistersConfig, Dinov2WithRegistersModel) if registers else (Dinov2Config, Dinov2Model)
    # the weights of the real ones are of larger pictures than they are shown, too
    layers = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_ratio": 2}
    model(config(**layers, image_size=2 * side, patch_size=7)).save_pretrained(path)
    settings = {"size": {"shortest_edge": side + 5}, "crop_size": {"height": side, "width": side}, "resample": 3}
    settings |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    settings |= dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize"), True)
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return path
