"""LoRA files for tiny models, as diffusers' training scripts save them."""

from pathlib import Path


def make_lora(folder: Path, file: Path, seed: int, text: bool = False) -> dict:
    """A LoRA of rank 2 on the queries and keys of the U-Net in `folder`, written to `file`; B @ A by module of it.

    text: on those of the text encoder, too.
    """
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from transformers import CLIPTextModel

    g = torch.Generator().manual_seed(seed)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    delta = _adapt(unet, LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k"]), g)
    layers = {"unet_lora_layers": get_peft_model_state_dict(unet)}
    if text:
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
        _adapt(encoder, LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "k_proj"]), g)
        layers["text_encoder_lora_layers"] = get_peft_model_state_dict(encoder)
    StableDiffusionPipeline.save_lora_weights(str(file.parent), weight_name=file.name, **layers)
    return delta


def _adapt(model, config, g) -> dict:
    """Add a LoRA of random numbers to a model; B @ A by module."""
    import torch

    model.add_adapter(config)
    delta = {}
    for key, module in model.named_modules():
        if hasattr(module, "lora_A") and "default" in module.lora_A:
            for side in (module.lora_A, module.lora_B):
                side["default"].weight.data = torch.randn(side["default"].weight.shape, generator=g) * 0.3
            delta[key] = module.lora_B["default"].weight @ module.lora_A["default"].weight
    return delta
